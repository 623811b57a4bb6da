"""A BGP neighbour: one session made of one or, during a collision, two connections.

The peer routes inputs to the right connection, decodes messages, settles collisions (:mod:`harness.bgp.collision`), restarts a
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

from harness.bgp.collision import stays
from harness.bgp.connection import Connection
from harness.bgp.errors import Cease, ErrorCode, OpenError, ProtocolError
from harness.bgp.fsm import Event, State
from harness.bgp.messages import (
    Frame,
    MessageType,
    Notification,
    Open,
    RouteRefresh,
    decode_open,
    decode_route_refresh,
    encode,
)
from harness.bgp.peer_config import PeerConfig, check_open
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.shared import Shared, Statistics, Timer
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
    Start,
    Stop,
    Tick,
    Transition,
)
from harness.bgp.update import decode_update

__all__ = ["Peer", "PeerConfig", "Statistics"]

_KIND_OF = itemgetter(0)
_UPDATE = int(MessageType.UPDATE)
_RANK = {state: rank for rank, state in enumerate(State)}
_OPENED = (State.OPEN_CONFIRM, State.ESTABLISHED)


class Peer:
    """A neighbour. Feed it :data:`~harness.bgp.signals.Input`, carry out what it returns, in order."""

    def __init__(self, config: PeerConfig) -> None:
        self.config = config
        self._shared = Shared(config)
        self._main = Connection(self._shared, self._track)
        self._second: Connection | None = None
        self._leftover: int | None = None
        self._held_until: float | None = None
        self._wanted = False
        self._arriving: Connected | None = None

    @property
    def state(self) -> State:
        """The state of the session: that of its foremost connection."""
        return self._main.state

    @property
    def session(self) -> Session | None:
        """The negotiated session while Established, else None."""
        return self._main.session if self._main.state is State.ESTABLISHED else None

    @property
    def statistics(self) -> Statistics:
        return self._shared.statistics

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

    def _track(self) -> None:
        """The arriving connection becomes the second one; an older second one gives way, for the newer is likelier alive."""
        signal = self._arriving
        assert signal is not None
        if self._second is not None:
            self._second.cease = Notification(ErrorCode.CEASE, Cease.CONNECTION_REJECTED)
            self._fire(self._second, Event.AUTOMATIC_STOP, "a newer connection takes its place")
        second = Connection(self._shared, self._track, State.ACTIVE)
        second.late = self._main.state is State.ESTABLISHED and not signal.outgoing
        second.spare = True
        second.adopt(signal.conn, signal.outgoing, signal.local, signal.remote)
        self._second = second
        event = Event.TCP_CR_ACKED if signal.outgoing else Event.TCP_CONNECTION_CONFIRMED
        self._fire(second, event, f"{'to' if signal.outgoing else 'from'} {signal.remote}")

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
        event = Event.NOTIF_MSG_VER_ERR if wrong_version else Event.NOTIF_MSG
        self._fire(connection, event, str(notification))

    def _route_refresh(self, connection: Connection, frame: Frame) -> None:
        try:
            message = decode_route_refresh(frame.body)
        except ProtocolError as error:
            self._wrong(connection, Event.ROUTE_REFRESH_MSG_ERR, error)
            return
        family = message.family
        if connection.state is State.ESTABLISHED:
            if family is not None and family in connection.session.families:
                self._shared.outputs.append(RefreshAsked(family, message))
            else:
                # RFC 2918 4: a family that was not agreed on is ignored.
                text = f"{self.config.name}: ROUTE-REFRESH for AFI {message.afi} SAFI {message.safi} ignored"
                self._shared.outputs.append(Log(text))
        self._fire(connection, Event.ROUTE_REFRESH_MSG)

    def _open(self, connection: Connection, frame: Frame) -> None:
        if connection.state in _OPENED:
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
        if connection.late and self._restarts_gracefully():
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

    # ---------------------------------------------------------------------------------------------------------- collision

    def _other(self, connection: Connection) -> Connection | None:
        return self._second if connection is self._main else self._main

    def _collide(self, connection: Connection, message: Open) -> Connection | None:
        """The connection that loses, now that an OPEN came on ``connection``; None while there is nothing to decide."""
        other = self._other(connection)
        if other is None or other.received_open is None:
            return None
        return other if self._stays(connection, other, message) else connection

    def _restarts_gracefully(self) -> bool:
        """Whether the Established session is with a neighbour that keeps forwarding over a restart."""
        session = self.session
        return session is not None and session.graceful_restart is not None and bool(session.graceful_restart.kept)

    def _waits(self, connection: Connection, message: Open) -> bool:
        """Whether an OPEN is to wait for that of the other connection, which will win."""
        other = self._other(connection)
        return (
            other is not None
            and other.state is State.OPEN_SENT
            and not connection.waited
            and connection.state is State.OPEN_SENT
            and not self._stays(connection, other, message)
        )

    def _stays(self, connection: Connection, other: Connection, message: Open) -> bool:
        return stays(self.config, message, connection.outgoing, other.outgoing, other.state)

    def _let_go(self) -> None:
        """The OPEN that waited for the other connection's is answered now."""
        self._held_until = None
        for connection in self._connections():
            if connection.held is not None:
                frames, connection.held = connection.held, None
                connection.received_open = None
                self._take(connection, frames)

    def _lead(self, connection: Connection, detail: str) -> None:
        """Makes ``connection`` the one whose state is the session's."""
        main = self._main
        if connection is main:
            return
        self._main, self._second = connection, main
        connection.spare, main.spare = False, True
        if main.state is not connection.state:
            reason = f"collision: connection {connection.conn} stays: {detail}"
            step = Transition(main.state, connection.state, Event.OPEN_COLLISION_DUMP, reason, connection.conn)
            self._shared.outputs.append(step)

    def _give_up_leftover(self) -> None:
        if self._leftover is not None:
            self._shared.outputs.append(Close(self._leftover))
            self._leftover = None

    # --------------------------------------------------------------------------------------------------------- machinery

    def _connections(self) -> tuple[Connection, ...]:
        return (self._main,) if self._second is None else (self._main, self._second)

    def _of(self, conn: int) -> Connection | None:
        return next((item for item in self._connections() if item.stands and item.conn == conn), None)

    def _fire(self, connection: Connection, event: Event, detail: str = "") -> None:
        """Fires an event, then keeps the roles of the two connections and the wish for a session in order."""
        start, before = len(self._shared.outputs), self._main.state
        connection.fire(event, detail)
        second = self._second
        if second is not None:
            if connection is second:
                self._after_second(second, start)
            elif not connection.stands and second.stands and connection is self._main:
                self._promote(second, start, before, event)
        main = self._main
        if self._leftover is not None and not main.stands:
            if main.state is State.ACTIVE and main.conn is None:
                main.conn, main.outgoing, self._leftover = self._leftover, True, None
            else:
                self._give_up_leftover()
        if self._held_until is not None and self._second is None:
            self._let_go()
        if main.state is State.IDLE and self._wanted and Timer.IDLE_HOLD not in main.timers:
            passive = self.config.passive
            main.fire(Event.AUTOMATIC_START_DAMP_PASSIVE if passive else Event.AUTOMATIC_START_DAMP)

    def _after_second(self, second: Connection, start: int) -> None:
        """The second connection moved: it may be gone, or ahead of the first."""
        main = self._main
        if not second.stands:
            self._second = None
            self._mark(start, spare=True)
        elif second.state in _OPENED and _RANK[second.state] > _RANK[main.state]:
            # It was OpenSent as the first still is: its step is the session's.
            self._main, self._second = second, main
            second.spare, main.spare = False, True
        else:
            self._mark(start, spare=True)

    def _promote(self, second: Connection, start: int, before: State, event: Event) -> None:
        """The first connection is gone and the second goes on in its place."""
        main = self._main
        self._mark(start, spare=True)
        if main.conn is not None:
            self._shared.outputs.append(Close(main.conn))
        self._main, self._second = second, None
        second.spare = False
        if second.state is not before:
            reason = f"connection {second.conn} goes on in its place"
            self._shared.outputs.append(Transition(before, second.state, event, reason, second.conn))

    def _mark(self, start: int, *, spare: bool) -> None:
        outputs = self._shared.outputs
        for position in range(start, len(outputs)):
            output = outputs[position]
            if isinstance(output, Transition):
                outputs[position] = replace(output, spare=spare)


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
    Tick: Peer._on_tick,
    Send: Peer._on_send,
    Refresh: Peer._on_refresh,
}
