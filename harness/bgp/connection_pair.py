"""The two connections that one neighbour may have, and which of them is its session (RFC 4271 6.8).

Both may dial at once, or one may come back before the other has noticed that it was gone. ``_main`` is the connection whose state is the
session's, ``_second`` the other one, ``_leftover`` a dial under way beside an accepted connection. What stays is decided by
:mod:`harness.bgp.collision`; what comes in is read by :class:`harness.bgp.peer.Peer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from harness.bgp.capabilities import graceful_restart_of
from harness.bgp.collision import stays
from harness.bgp.connection import Connection
from harness.bgp.errors import Cease, ErrorCode
from harness.bgp.fsm import Event, State
from harness.bgp.messages import Frame, Notification, Open
from harness.bgp.peer_config import PeerConfig
from harness.bgp.session import Session
from harness.bgp.shared import Shared, Statistics, Timer
from harness.bgp.signals import Close, Connected, Transition

OPENED = (State.OPEN_CONFIRM, State.ESTABLISHED)
_CROSSING = 1.0  # seconds from Established to a connection that the neighbour may have dialled before it knew of that
_RANK = {state: rank for rank, state in enumerate(State)}


class ConnectionPair(ABC):
    """One neighbour's connections and the events fired on them."""

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

    @abstractmethod
    def _take(self, connection: Connection, frames: list[Frame]) -> None:
        """Answers messages of a connection, in order."""

    def _track(self) -> None:
        """The arriving connection becomes the second one; an older second one gives way, for the newer is likelier alive."""
        signal = self._arriving
        assert signal is not None
        if self._second is not None:
            self._second.cease = Notification(ErrorCode.CEASE, Cease.CONNECTION_REJECTED)
            self._fire(self._second, Event.AUTOMATIC_STOP, "a newer connection takes its place")
        second = Connection(self._shared, self._track, State.ACTIVE)
        main = self._main
        second.late = main.state is State.ESTABLISHED and not signal.outgoing
        second.crosses = second.late and main.outgoing and self._shared.now - main.established_at < _CROSSING
        second.spare = True
        second.adopt(signal.conn, signal.outgoing, signal.local, signal.remote)
        self._second = second
        event = Event.TCP_CR_ACKED if signal.outgoing else Event.TCP_CONNECTION_CONFIRMED
        self._fire(second, event, f"{'to' if signal.outgoing else 'from'} {signal.remote}")

    # ---------------------------------------------------------------------------------------------------------- collision

    def _other(self, connection: Connection) -> Connection | None:
        return self._second if connection is self._main else self._main

    def _collide(self, connection: Connection, message: Open) -> Connection | None:
        """The connection that loses, now that an OPEN came on ``connection``; None while there is nothing to decide."""
        other = self._other(connection)
        if other is None or other.received_open is None:
            return None
        return other if self._stays(connection, other, message) else connection

    def _has_restarted(self, connection: Connection, message: Open) -> bool:
        """Whether an OPEN on a connection that came while the session stood ends that one (RFC 4724 5): its neighbour began anew.

        Not where both dialled at once and the neighbour may not have known of the session yet: that is a collision, which both ends must
        settle alike, or each closes the connection that the other keeps. A Restart State bit that the session's OPEN had not settles it.
        """
        session = self.session
        before = session.graceful_restart if session is not None else None
        if not connection.late or before is None or not before.kept:
            return False
        told = graceful_restart_of(message.capabilities)
        return not connection.crosses or (told is not None and told.restarted and not before.restarted)

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
        elif second.state in OPENED and _RANK[second.state] > _RANK[main.state]:
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
