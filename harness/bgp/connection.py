"""One connection's state machine at work: it walks the table of :mod:`harness.bgp.fsm` and carries out its actions.

A connection knows its TCP connection (or dial), its timers, its framer and the OPENs exchanged on it. It does not know of a
second connection: collisions, promotion and restarts are :mod:`harness.bgp.peer`'s. What both share is
:class:`harness.bgp.shared.Shared`.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.bgp.capabilities import negotiate
from harness.bgp.errors import Cease, ErrorCode, FsmError, ProtocolError
from harness.bgp.fsm import Action, Event, Guard, Row, State
from harness.bgp.messages import KEEPALIVE_WIRE, PRE_OPEN, Frame, Framer, MessageType, Notification, Open, encode
from harness.bgp.session import Session
from harness.bgp.shared import Shared, Timer
from harness.bgp.signals import Close, Dial, Down, NotificationSent, Transition, Up, Write

HARD_CEASES = frozenset(
    {
        Cease.MAXIMUM_NUMBER_OF_PREFIXES_REACHED,
        Cease.ADMINISTRATIVE_SHUTDOWN,
        Cease.PEER_DECONFIGURED,
        Cease.ADMINISTRATIVE_RESET,
        Cease.OTHER_CONFIGURATION_CHANGE,
        Cease.BFD_DOWN,
    }
)
"""What goes as a Hard Reset where the peer would otherwise keep the routes (RFC 8538 3.1, RFC 9384 4): an operator meant it, or
the path is gone."""


class Connection:
    """A state machine of RFC 4271 8 with its TCP connection."""

    def __init__(self, shared: Shared, track: Callable[[], None], state: State = State.IDLE) -> None:
        self.shared = shared
        self.state = state
        self.timers: dict[Timer, float] = {}
        self.conn: int | None = None
        self.stands = False
        self.outgoing = False
        self.local = self.remote = ""
        self.error: ProtocolError | None = None
        self.cease = Notification(ErrorCode.CEASE)
        self.unexpected: MessageType | None = None
        self.sent_open: Open | None = None
        self.received_open: Open | None = None
        self.session: Session = PRE_OPEN
        self.framer = Framer()
        self.held: list[Frame] | None = None
        self.waited = False
        self.spare = False
        self.late = self.crosses = False
        self.established_at = 0.0
        self.notification_sent: Notification | None = None
        self.notification_received: Notification | None = None
        self._track = track
        self._old = state
        self._event = Event.MANUAL_START
        self._reason = ""

    # ------------------------------------------------------------------------------------------------------- the machine

    def fire(self, event: Event, detail: str = "") -> Row:
        """Answers an event by its row of the table and returns the row."""
        shared = self.shared
        row = next(row for row in shared.table[self.state, event] if row.guard is None or self._holds(row.guard))
        old = self._old = self.state
        self.state, self._event = row.new, event
        if row.new is State.ESTABLISHED is not old:
            self.established_at = shared.now
        if old is not row.new or event is Event.TCP_CONNECTION_FAILS or Action.DIAL in row.actions:
            reason = f"{row.reason}: {detail}" if detail else row.reason
            shared.outputs.append(Transition(old, row.new, event, reason, self.conn))
            shared.statistics.transitions += old is not row.new
            self._reason = reason
        for action in row.actions:
            _ACTIONS[action](self)
        return row

    def _holds(self, guard: Guard) -> bool:
        config = self.shared.config
        delayed = Timer.DELAY_OPEN in self.timers
        match guard:
            case Guard.DELAY_OPEN:
                return config.delay_open_time > 0
            case Guard.DELAY_OPEN_RUNNING:
                return delayed
            case Guard.NOTIFY_WITHOUT_OPEN:
                return config.send_notification_without_open
            case Guard.CEASE_WITHOUT_OPEN:
                return delayed and config.send_notification_without_open
            case Guard.PASSIVE:
                return config.passive

    def adopt(self, conn: int, outgoing: bool, local: str, remote: str) -> None:
        """Takes a TCP connection that stands, in place of a dial under way."""
        self.conn, self.stands, self.outgoing = conn, True, outgoing
        self.local, self.remote = local, remote
        self.framer = Framer()
        self.notification_sent = self.notification_received = None

    def lose(self) -> None:
        """The TCP connection or the dial ended by itself."""
        self.conn, self.stands = None, False

    def write(self, data: bytes, kind: MessageType, count: int = 1) -> None:
        """Sends messages of one kind on the connection, if it stands."""
        if self.conn is None or not self.stands:
            return
        shared = self.shared
        shared.outputs.append(Write(self.conn, data))
        shared.statistics.sent[kind] += count
        shared.statistics.octets_sent += len(data)

    # ------------------------------------------------------------------------------------------------------- the actions

    def _start(self, timer: Timer, delay: float) -> None:
        self.timers[timer] = self.shared.now + delay

    def _stop(self, timer: Timer) -> None:
        self.timers.pop(timer, None)

    def _reset_counter(self) -> None:
        shared = self.shared
        shared.statistics.connect_retries = shared.penalty = shared.dial_failures = 0
        shared.restart_after = None

    def _count(self) -> None:
        # The connection that a collision or a newer one ends says nothing against the peer.
        self.shared.statistics.connect_retries += not self.spare

    def _damp(self) -> None:
        if not self.spare:
            self.shared.damp()

    def _start_connect_retry(self) -> None:
        self._start(Timer.CONNECT_RETRY, self.shared.jitter(self.shared.config.connect_retry_time))

    def _start_dial_retry(self) -> None:
        if not self.shared.config.passive:
            self._start(Timer.DIAL_RETRY, self.shared.dial_delay())

    def _start_delay_open(self) -> None:
        self._start(Timer.DELAY_OPEN, self.shared.config.delay_open_time)

    def _start_idle_hold(self) -> None:
        self._start(Timer.IDLE_HOLD, self.shared.idle_hold_time())

    def _dial(self) -> None:
        self._drop()
        self.conn, self.outgoing = self.shared.number(), True
        self.shared.outputs.append(Dial(self.conn))
        self._start(Timer.DIAL_RETRY, self.shared.config.dial_timeout)

    def _drop(self) -> None:
        if self.conn is not None:
            self.shared.outputs.append(Close(self.conn))
        self.lose()

    def _release(self) -> None:
        for timer in (Timer.DELAY_OPEN, Timer.HOLD, Timer.KEEPALIVE, Timer.DIAL_RETRY):
            self._stop(timer)
        self.session, self.received_open, self.held = PRE_OPEN, None, None

    def _send_open(self) -> None:
        self.sent_open = self.shared.open()
        self.write(encode(self.sent_open), MessageType.OPEN)

    def _send_keepalive(self) -> None:
        self.write(KEEPALIVE_WIRE, MessageType.KEEPALIVE)

    def notify(self, notification: Notification) -> None:
        """Sends a NOTIFICATION and records it."""
        if self.conn is None or not self.stands:
            return
        if self.session.hard_reset and notification.code == ErrorCode.CEASE and notification.subcode in HARD_CEASES:
            notification = notification.hard()
        notification = notification.fitting(self.session.max_length)
        self.write(encode(notification, self.session), MessageType.NOTIFICATION)
        self.notification_sent = self.shared.statistics.last_sent = notification
        self.shared.outputs.append(NotificationSent(self.conn, notification))

    def _send_error(self) -> None:
        if self.error is not None:
            self.notify(Notification(self.error.code, self.error.subcode, self.error.data))

    def _send_cease(self) -> None:
        if self._event is Event.OPEN_COLLISION_DUMP:
            self.notify(Notification(ErrorCode.CEASE, Cease.CONNECTION_COLLISION_RESOLUTION))
        else:
            self.notify(self.cease)

    def _send_hold_expired(self) -> None:
        self.notify(Notification(ErrorCode.HOLD_TIMER_EXPIRED))

    def _send_send_hold_expired(self) -> None:
        self.notify(Notification(ErrorCode.SEND_HOLD_TIMER_EXPIRED))

    def _send_fsm_error(self) -> None:
        kind, self.unexpected = self.unexpected, None
        if kind is None:
            self.notify(Notification(ErrorCode.FINITE_STATE_MACHINE_ERROR, FsmError.UNSPECIFIED))
        else:
            # RFC 6608 3: which message came, in one octet.
            self.notify(Notification(ErrorCode.FINITE_STATE_MACHINE_ERROR, _UNEXPECTED[self._old], bytes((kind,))))

    def _start_open_hold(self) -> None:
        self._start(Timer.HOLD, self.shared.config.open_hold_time)

    def _start_hold(self) -> None:
        assert self.received_open is not None
        config = self.shared.config
        self.session = negotiate(
            self.sent_open or self.shared.open(),
            self.received_open,
            revised_errors=config.revised_errors,
            enforce_first_as=config.enforce_first_as,
        )
        self.framer.max_length = self.session.max_received
        self._restart_hold()
        self._restart_keepalive()

    def _restart_hold(self) -> None:
        if self.session.hold_time:
            self._start(Timer.HOLD, self.session.hold_time)
        else:
            self._stop(Timer.HOLD)

    def _restart_keepalive(self) -> None:
        if self.session.keepalive:
            self._start(Timer.KEEPALIVE, self.shared.jitter(self.session.keepalive))
        else:
            self._stop(Timer.KEEPALIVE)

    def _up(self) -> None:
        assert self.conn is not None
        shared = self.shared
        shared.statistics.established += 1
        shared.established_at, shared.dial_failures = shared.now, 0
        shared.outputs.append(Up(self.session, self.conn, self.local, self.remote))

    def _delete_routes(self) -> None:
        shared = self.shared
        shared.statistics.last_down = self._reason
        down = Down(self._reason, self._event, self.notification_sent, self.notification_received)
        shared.outputs.append(down)


_UNEXPECTED = {
    State.OPEN_SENT: FsmError.UNEXPECTED_MESSAGE_IN_OPEN_SENT,
    State.OPEN_CONFIRM: FsmError.UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM,
    State.ESTABLISHED: FsmError.UNEXPECTED_MESSAGE_IN_ESTABLISHED,
}


def _nothing(_connection: Connection) -> None:
    """The message itself is handed on by the peer, which decodes it."""


_ACTIONS: dict[Action, Callable[[Connection], None]] = {
    Action.RESET_COUNTER: Connection._reset_counter,
    Action.COUNT: Connection._count,
    Action.DAMP: Connection._damp,
    Action.START_CONNECT_RETRY: Connection._start_connect_retry,
    Action.STOP_CONNECT_RETRY: lambda connection: connection._stop(Timer.CONNECT_RETRY),
    Action.START_DELAY_OPEN: Connection._start_delay_open,
    Action.STOP_DELAY_OPEN: lambda connection: connection._stop(Timer.DELAY_OPEN),
    Action.START_IDLE_HOLD: Connection._start_idle_hold,
    Action.STOP_IDLE_HOLD: lambda connection: connection._stop(Timer.IDLE_HOLD),
    Action.START_DIAL_RETRY: Connection._start_dial_retry,
    Action.STOP_DIAL_RETRY: lambda connection: connection._stop(Timer.DIAL_RETRY),
    Action.DIAL: Connection._dial,
    Action.DROP: Connection._drop,
    Action.TRACK: lambda connection: connection._track(),
    Action.RELEASE: Connection._release,
    Action.SEND_OPEN: Connection._send_open,
    Action.SEND_KEEPALIVE: Connection._send_keepalive,
    Action.SEND_ERROR: Connection._send_error,
    Action.SEND_CEASE: Connection._send_cease,
    Action.SEND_HOLD_EXPIRED: Connection._send_hold_expired,
    Action.SEND_SEND_HOLD_EXPIRED: Connection._send_send_hold_expired,
    Action.SEND_FSM_ERROR: Connection._send_fsm_error,
    Action.START_OPEN_HOLD: Connection._start_open_hold,
    Action.START_HOLD: Connection._start_hold,
    Action.RESTART_HOLD: Connection._restart_hold,
    Action.RESTART_KEEPALIVE: Connection._restart_keepalive,
    Action.UP: Connection._up,
    Action.DELETE_ROUTES: Connection._delete_routes,
    Action.DELIVER: _nothing,
}
