"""A BGP neighbour: one session made of one or, during a collision, two connections.

The peer routes inputs to the right connection, decodes messages, settles collisions (:mod:`harness.bgp.connection_pair`), restarts a
wanted session after it ended, and keeps the counters. It does no I/O and has no clock: :meth:`Peer.process` takes one input
and the time and returns what to do about it, in order.

How a refused first dial does not park the session: in Connect a failure leads to Active (VBR-16; with the RFC's profile to a
short idle hold), where the peer listens, accepts at once, and keeps dialling (VBR-17): ``dial_retry_first`` after the first
failure, twice as long after each further one, at most ``dial_retry_max``. A dial that nobody answers is given up for a new
one after ``dial_timeout``, because the kernel repeats a lost SYN ever more rarely. The ConnectRetryTimer runs beside all this
with its RFC value and leads back to Connect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from typing import Any

from harness.bgp.connection import Connection
from harness.bgp.connection_pair import OPENED, ConnectionPair
from harness.bgp.errors import Cease, ErrorCode, OpenError, ProtocolError
from harness.bgp.fsm import Event, State
from harness.bgp.messages import (
    Frame,
    MessageType,
    Notification,
    RefreshSubtype,
    RouteRefresh,
    decode_open,
    decode_route_refresh,
    encode,
)
from harness.bgp.peer_config import PeerConfig, check_open
from harness.bgp.prefixes import Family
from harness.bgp.shared import Statistics, Timer
from harness.bgp.signals import (
    BfdDown,
    Close,
    Closed,
    Connected,
    ConnectFailed,
    Deliver,
    Input,
    Log,
    NotificationReceived,
    Output,
    Received,
    Refresh,
    RefreshAsked,
    Reset,
    Retry,
    Send,
    SendHoldExpired,
    Start,
    Stop,
    Tick,
)
from harness.bgp.update import decode_update

__all__ = ["Peer", "PeerConfig", "Statistics"]

_KIND_OF = itemgetter(0)
_UPDATE = int(MessageType.UPDATE)


class Peer(ConnectionPair):
    """A neighbour. Feed it :data:`~harness.bgp.signals.Input`, carry out what it returns, in order."""

    def configure(self, config: PeerConfig) -> None:
        """Another configuration of the same neighbour. An OPEN that was sent stays what was offered until the session ends."""
        self.config = config
        self._shared.configure(config)

    def standing(self) -> tuple[int, ...]:
        """The numbers of the TCP connections that stand."""
        return tuple(c.conn for c in self._connections() if c.stands and c.conn is not None)

    def unread(self, conn: int) -> bytes:
        """What has come of a message on that connection that is not complete yet."""
        connection = self._of(conn)
        return b"" if connection is None else connection.framer.rest

    def connection_id(self) -> int:
        """A fresh number for a connection the shell accepted."""
        return self._shared.number()

    def jitter(self, base: float) -> float:
        """RFC 4271 10: an interval with the jitter that keeps speakers out of step."""
        return self._shared.jitter(base)

    def deadline(self) -> float | None:
        """When :class:`~harness.bgp.signals.Tick` is due at the latest; None when nothing waits."""
        times = [when for connection in self._connections() for when in connection.timers.values()]
        if self._held_until is not None:
            times.append(self._held_until)
        return min(times, default=None)

    def timers(self, now: float) -> dict[str, float]:
        """The running timers of the session by name (``hold``, ``keepalive``, ``connect_retry``, ...), in seconds left."""
        return {timer.name.lower(): max(0.0, when - now) for timer, when in self._main.timers.items()}

    def refresh_refusal(self, family: Family) -> str | None:
        """Why a route refresh cannot be asked for now; None where it can (BGP-19)."""
        session = self.session
        if session is None:
            return f"{self.config.name} is {self.state.value}, not Established: there is nobody to ask"
        if family not in session.families:
            return f"{family} is not negotiated with {self.config.name}"
        if not session.route_refresh:
            return f"{self.config.name} did not offer route refresh (RFC 2918): reset the session instead"
        return None

    def process(self, signal: Input, now: float) -> list[Output]:
        """Takes one input at time ``now`` (seconds on any steady clock) and returns what to do about it.

        Timers fire at :class:`~harness.bgp.signals.Tick` alone: octets that were waiting when a timer ran out still count.
        """
        shared = self._shared
        shared.now = now
        shared.outputs = []
        _HANDLERS[type(signal)](self, signal)
        return shared.outputs

    # ------------------------------------------------------------------------------------------------------------- inputs

    def _on_start(self, _signal: Start) -> None:
        self._wanted = True
        self._fire(self._main, Event.MANUAL_START_PASSIVE if self.config.passive else Event.MANUAL_START)

    def _on_stop(self, signal: Stop) -> None:
        self._wanted = False
        self._stop(Event.MANUAL_STOP, Notification.cease(signal.subcode, signal.text), signal.text)

    def _on_reset(self, signal: Reset) -> None:
        cease = Notification.cease(signal.subcode, signal.text)
        if signal.data:
            cease = replace(cease, data=signal.data)
        if self._main.state is not State.IDLE:
            self._shared.restart_after = signal.restart_after
        if signal.stay_down:
            self._wanted = False
        self._stop(Event.AUTOMATIC_STOP, cease, signal.text)

    def _on_bfd_down(self, signal: BfdDown) -> None:
        # RFC 5882 4.3.2: BFD takes down the session it watches; one that is still coming up is not BFD's business.
        if self._main.state is State.ESTABLISHED:
            cease = Notification(ErrorCode.CEASE, Cease.BFD_DOWN)
            self._stop(Event.AUTOMATIC_STOP, cease, f"BFD is down{f': {signal.reason}' if signal.reason else ''}")

    def _stop(self, event: Event, cease: Notification, text: str) -> None:
        self._give_up_leftover()
        detail = f"{cease.name}{f' ({text})' if text else ''}"
        for connection in (self._second, self._main):
            if connection is not None:
                connection.cease = cease
                self._fire(connection, event, detail)

    def _on_retry(self, _signal: Retry) -> None:
        self._shared.dial_failures = 0
        if self._main.state in (State.CONNECT, State.ACTIVE) and not self._main.stands:
            self._fire(self._main, Event.DIAL_RETRY_TIMER_EXPIRES, "asked for")

    def _on_connected(self, signal: Connected) -> None:
        main = self._main
        event = Event.TCP_CR_ACKED if signal.outgoing else Event.TCP_CONNECTION_CONFIRMED
        detail = f"{'to' if signal.outgoing else 'from'} {signal.remote}"
        if signal.outgoing and signal.conn not in (main.conn, self._leftover):
            # The dial was given up in the meantime.
            self._shared.outputs.append(Close(signal.conn))
            return
        if signal.conn == self._leftover:
            self._leftover = None
        self._arriving = signal
        if main.state in (State.CONNECT, State.ACTIVE) and main.stands:
            self._track()
        elif main.state in (State.IDLE, State.CONNECT, State.ACTIVE):
            if not signal.outgoing and main.conn is not None:
                # The dial goes on: when both sides give up theirs for the other's, none is left.
                self._leftover = main.conn
            main.adopt(signal.conn, signal.outgoing, signal.local, signal.remote)
            self._fire(main, event, detail)
        else:
            self._fire(main, event, detail)

    def _on_connect_failed(self, signal: ConnectFailed) -> None:
        if signal.conn == self._leftover:
            self._leftover = None
        elif signal.conn == self._main.conn:
            self._main.lose()
            self._fire(self._main, Event.TCP_CONNECTION_FAILS, signal.reason)

    def _on_closed(self, signal: Closed) -> None:
        connection = self._of(signal.conn)
        if connection is not None:
            connection.lose()
            self._fire(connection, Event.TCP_CONNECTION_FAILS, signal.reason)

    def _on_send_hold_expired(self, signal: SendHoldExpired) -> None:
        connection = self._of(signal.conn)
        if connection is not None:
            self._fire(connection, Event.SEND_HOLD_TIMER_EXPIRES)

    def _on_tick(self, _signal: Tick) -> None:
        now = self._shared.now
        if self._held_until is not None and self._held_until <= now:
            self._let_go()
        while True:
            due = [
                (when, timer.value, connection, timer)
                for connection in self._connections()
                for timer, when in connection.timers.items()
                if when <= now
            ]
            if not due:
                return
            _, event, connection, timer = min(due, key=lambda item: item[:2])
            del connection.timers[timer]
            self._fire(connection, event)

    def _on_send(self, signal: Send) -> None:
        main = self._main
        if main.state is not State.ESTABLISHED:
            text = f"{self.config.name}: {len(signal.messages)} UPDATEs dropped, the session is {main.state.value}"
            self._shared.outputs.append(Log(text))
        elif signal.messages:
            main.write(b"".join(signal.messages), MessageType.UPDATE, len(signal.messages))
            if Timer.KEEPALIVE in main.timers:
                main.timers[Timer.KEEPALIVE] = self._shared.now + self._shared.jitter(main.session.keepalive)

    def _on_refresh(self, signal: Refresh) -> None:
        refusal = self.refresh_refusal(signal.family)
        if refusal is not None:
            self._shared.outputs.append(Log(f"no route refresh: {refusal}"))
            return
        message = RouteRefresh(signal.family.afi, signal.family.safi, signal.subtype)
        self._main.write(encode(message), MessageType.ROUTE_REFRESH)

    def _on_received(self, signal: Received) -> None:
        connection = self._of(signal.conn)
        if connection is None:
            return
        frames = connection.framer.feed(signal.data)
        self.statistics.octets_received += len(signal.data)
        self.statistics.received.update(map(_KIND_OF, frames))
        if connection.held is not None:
            connection.held += frames
            return
        self._take(connection, frames)

    # ----------------------------------------------------------------------------------------------------------- messages

    def _take(self, connection: Connection, frames: list[Frame]) -> None:
        """Answers the frames of a connection in order, then the error that ended its stream, as long as it lives."""
        conn, established, put = connection.conn, State.ESTABLISHED, self._shared.outputs.append
        updates = 0
        for position, frame in enumerate(frames):
            kind, body = frame
            if kind == _UPDATE and connection.state is established:
                try:
                    put(Deliver(decode_update(body, connection.session)))
                except ProtocolError as error:
                    self._told(connection, updates)
                    self._wrong(connection, Event.UPDATE_MSG_ERR, error)
                    return
                updates += 1
                continue
            self._message(connection, frame)
            if connection.held is not None:
                connection.held += frames[position + 1 :]
                return
            if connection.conn != conn or conn is None:
                return
        self._told(connection, updates)
        if connection.framer.error is not None:
            self._wrong(connection, Event.BGP_HEADER_ERR, connection.framer.error)

    def _told(self, connection: Connection, updates: int) -> None:
        # One event for the UPDATEs that arrived together: the hold timer is restarted once.
        if updates:
            self._fire(connection, Event.UPDATE_MSG)

    def _wrong(self, connection: Connection, event: Event, error: ProtocolError) -> None:
        connection.error = error
        self._fire(connection, event, str(error))

    def _message(self, connection: Connection, frame: Frame) -> None:
        connection.unexpected = MessageType(frame.type)
        match frame.type:
            case MessageType.KEEPALIVE:
                self._fire(connection, Event.KEEPALIVE_MSG)
            case MessageType.OPEN:
                self._open(connection, frame)
            case MessageType.NOTIFICATION:
                self._notification(connection, Notification(frame.body[0], frame.body[1], frame.body[2:]))
            case MessageType.ROUTE_REFRESH:
                self._route_refresh(connection, frame)
            case _:
                self._fire(connection, Event.UPDATE_MSG, "an UPDATE")
        connection.unexpected = None

    def _notification(self, connection: Connection, notification: Notification) -> None:
        assert connection.conn is not None
        connection.notification_received = self.statistics.last_received = notification
        self._shared.outputs.append(NotificationReceived(connection.conn, notification))
        version = (ErrorCode.OPEN_MESSAGE_ERROR, OpenError.UNSUPPORTED_VERSION_NUMBER)
        wrong_version = (notification.code, notification.subcode) == version
        if (notification.code, notification.subcode) == (
            ErrorCode.OPEN_MESSAGE_ERROR,
            OpenError.UNSUPPORTED_OPTIONAL_PARAMETER,
        ):
            self._shared.refused_parameter()
        event = Event.NOTIF_MSG_VER_ERR if wrong_version else Event.NOTIF_MSG
        self._fire(connection, event, str(notification))

    def _route_refresh(self, connection: Connection, frame: Frame) -> None:
        try:
            message = decode_route_refresh(frame.body, enhanced=connection.session.enhanced_refresh)
        except ProtocolError as error:
            self._wrong(connection, Event.ROUTE_REFRESH_MSG_ERR, error)
            return
        family = message.family
        if connection.state is State.ESTABLISHED:
            if message.subtype > RefreshSubtype.END:
                # RFC 7313 5: a subtype that nobody knows is ignored.
                text = f"{self.config.name}: ROUTE-REFRESH of subtype {message.subtype} ignored"
                self._shared.outputs.append(Log(text))
            elif family is not None and family in connection.session.families:
                self._shared.outputs.append(RefreshAsked(family, message))
            else:
                # RFC 2918 4: a family that was not agreed on is ignored.
                text = f"{self.config.name}: ROUTE-REFRESH for AFI {message.afi} SAFI {message.safi} ignored"
                self._shared.outputs.append(Log(text))
        self._fire(connection, Event.ROUTE_REFRESH_MSG)

    def _open(self, connection: Connection, frame: Frame) -> None:
        if connection.state in OPENED:
            # Looked at no further: an OPEN is not due here.
            self._fire(connection, Event.BGP_OPEN, "an OPEN")
            return
        try:
            message = decode_open(frame.body)
            check_open(message, self.config)
        except ProtocolError as error:
            self._wrong(connection, Event.BGP_OPEN_MSG_ERR, error)
            return
        connection.received_open = message
        delayed = Timer.DELAY_OPEN in connection.timers
        self._give_up_leftover()
        if self._has_restarted(connection, message):
            # RFC 4724 5: it opened a new connection while the old one stands, so it has restarted and knows nothing of that.
            self._fire(
                self._main, Event.TCP_CONNECTION_FAILS, "the neighbour restarted: its OPEN came on a new connection"
            )
        loser = self._collide(connection, message)
        detail = f"ours {self.config.identifier}, the peer's {message.identifier}"
        if loser is connection:
            self._fire(connection, Event.OPEN_COLLISION_DUMP, detail)
            return
        if loser is None and self._waits(connection, message):
            connection.held = [frame]
            connection.waited = True
            self._held_until = self._shared.now + self.config.collision_wait
            return
        event = Event.BGP_OPEN_WITH_DELAY_OPEN_TIMER if delayed else Event.BGP_OPEN
        self._fire(connection, event, f"AS {message.true_asn}, BGP Identifier {message.identifier}")
        if loser is not None:
            self._lead(connection, detail)
            self._fire(loser, Event.OPEN_COLLISION_DUMP, detail)


_HANDLERS: dict[type, Callable[[Peer, Any], None]] = {
    Start: Peer._on_start,
    Stop: Peer._on_stop,
    Reset: Peer._on_reset,
    BfdDown: Peer._on_bfd_down,
    Retry: Peer._on_retry,
    Connected: Peer._on_connected,
    ConnectFailed: Peer._on_connect_failed,
    Received: Peer._on_received,
    Closed: Peer._on_closed,
    SendHoldExpired: Peer._on_send_hold_expired,
    Tick: Peer._on_tick,
    Send: Peer._on_send,
    Refresh: Peer._on_refresh,
}
