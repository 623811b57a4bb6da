"""The words of the state machine: states, events, guards, actions, and the row that puts them together (RFC 4271 8).

What happens in which state is in :mod:`harness.bgp.fsm`; this module is its vocabulary, and :data:`EVENTS` says for every event
whether RFC 4271 asks for it and what raises it here.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple


class State(Enum):
    """RFC 4271 8.2.2; the values are the names that the document's console shows (VBR-14)."""

    IDLE = "Idle"
    CONNECT = "Connect"
    ACTIVE = "Active"
    OPEN_SENT = "OpenSent"
    OPEN_CONFIRM = "OpenConfirm"
    ESTABLISHED = "Established"

    # States are dictionary keys for every message; members are singletons.
    __hash__ = object.__hash__


class Event(IntEnum):
    """RFC 4271 8.1 and RFC 9687 4.2, by their numbers; from 100 on the speaker's own (see :data:`EVENTS`)."""

    MANUAL_START = 1
    MANUAL_STOP = 2
    AUTOMATIC_START = 3
    MANUAL_START_PASSIVE = 4
    AUTOMATIC_START_PASSIVE = 5
    AUTOMATIC_START_DAMP = 6
    AUTOMATIC_START_DAMP_PASSIVE = 7
    AUTOMATIC_STOP = 8
    CONNECT_RETRY_TIMER_EXPIRES = 9
    HOLD_TIMER_EXPIRES = 10
    KEEPALIVE_TIMER_EXPIRES = 11
    DELAY_OPEN_TIMER_EXPIRES = 12
    IDLE_HOLD_TIMER_EXPIRES = 13
    TCP_CONNECTION_VALID = 14
    TCP_CR_INVALID = 15
    TCP_CR_ACKED = 16
    TCP_CONNECTION_CONFIRMED = 17
    TCP_CONNECTION_FAILS = 18
    BGP_OPEN = 19
    BGP_OPEN_WITH_DELAY_OPEN_TIMER = 20
    BGP_HEADER_ERR = 21
    BGP_OPEN_MSG_ERR = 22
    OPEN_COLLISION_DUMP = 23
    NOTIF_MSG_VER_ERR = 24
    NOTIF_MSG = 25
    KEEPALIVE_MSG = 26
    UPDATE_MSG = 27
    UPDATE_MSG_ERR = 28
    SEND_HOLD_TIMER_EXPIRES = 29
    DIAL_RETRY_TIMER_EXPIRES = 100
    ROUTE_REFRESH_MSG = 101
    ROUTE_REFRESH_MSG_ERR = 102


class Profile(Enum):
    """Which rows are taken where the document and the RFC differ."""

    DOCUMENT = "document"
    RFC4271 = "rfc4271"


class Action(Enum):
    """What a transition does; the value is its meaning in RFC 4271's words."""

    RESET_COUNTER = "sets ConnectRetryCounter to zero"
    COUNT = "increments ConnectRetryCounter"
    DAMP = "performs peer oscillation damping: the next idle hold is longer"
    START_CONNECT_RETRY = "restarts the ConnectRetryTimer with its initial value"
    STOP_CONNECT_RETRY = "stops the ConnectRetryTimer"
    START_DELAY_OPEN = "sets the DelayOpenTimer to its initial value"
    STOP_DELAY_OPEN = "stops the DelayOpenTimer"
    START_IDLE_HOLD = "starts the IdleHoldTimer"
    STOP_IDLE_HOLD = "stops the IdleHoldTimer"
    START_DIAL_RETRY = "starts the DialRetryTimer: the next dial is soon, inside the ConnectRetryTimer"
    STOP_DIAL_RETRY = "stops the DialRetryTimer"
    DIAL = "initiates a TCP connection to the peer, in place of one under way, and starts the DialRetryTimer"
    DROP = "drops the TCP connection"
    TRACK = "tracks the second connection until its OPEN arrives"
    RELEASE = "releases all BGP resources of the connection, its timers with them"
    SEND_OPEN = "sends an OPEN"
    SEND_KEEPALIVE = "sends a KEEPALIVE"
    SEND_ERROR = "sends a NOTIFICATION with the error found"
    SEND_CEASE = "sends a NOTIFICATION with Cease"
    SEND_HOLD_EXPIRED = "sends a NOTIFICATION with Hold Timer Expired"
    SEND_SEND_HOLD_EXPIRED = "sends a NOTIFICATION with Send Hold Timer Expired (RFC 9687)"
    SEND_FSM_ERROR = "sends a NOTIFICATION with Finite State Machine Error (RFC 6608)"
    START_OPEN_HOLD = "sets the HoldTimer to a large value"
    START_HOLD = "sets HoldTimer and KeepaliveTimer by the negotiated value"
    RESTART_HOLD = "restarts the HoldTimer"
    RESTART_KEEPALIVE = "restarts the KeepaliveTimer"
    UP = "the session is up: routes are exchanged"
    DELETE_ROUTES = "deletes all routes of the connection"
    DELIVER = "processes the message"


class Guard(Enum):
    """A condition of a row, in RFC 4271's words."""

    DELAY_OPEN = "the DelayOpen attribute is set"
    DELAY_OPEN_RUNNING = "the DelayOpenTimer is running"
    NOTIFY_WITHOUT_OPEN = "SendNOTIFICATIONwithoutOPEN is set"
    CEASE_WITHOUT_OPEN = "the DelayOpenTimer is running and SendNOTIFICATIONwithoutOPEN is set"
    PASSIVE = "PassiveTcpEstablishment is set"


class Row(NamedTuple):
    """One way a state answers an event."""

    guard: Guard | None
    new: State
    actions: tuple[Action, ...]
    reason: str
    source: str


Cell = tuple[Row, ...]
Table = dict[tuple[State, Event], Cell]


class EventInfo(NamedTuple):
    """What the documentation says of an event: does RFC 4271 ask for it, and what raises it here."""

    mandatory: bool
    raised: str


EVENTS: dict[Event, EventInfo] = {
    Event.MANUAL_START: EventInfo(True, "the operator, or the speaker's start"),
    Event.MANUAL_STOP: EventInfo(True, "the operator, or the speaker's end"),
    Event.AUTOMATIC_START: EventInfo(False, "not raised: the damped form (6) always is, its hold may be short"),
    Event.MANUAL_START_PASSIVE: EventInfo(False, "as 1, for a passive neighbour"),
    Event.AUTOMATIC_START_PASSIVE: EventInfo(False, "not raised: the damped form (7) always is"),
    Event.AUTOMATIC_START_DAMP: EventInfo(False, "the return to Idle of a wanted session"),
    Event.AUTOMATIC_START_DAMP_PASSIVE: EventInfo(False, "as 6, for a passive neighbour"),
    Event.AUTOMATIC_STOP: EventInfo(False, "a reset, maximum prefixes, a change of configuration, BFD"),
    Event.CONNECT_RETRY_TIMER_EXPIRES: EventInfo(True, "the timer"),
    Event.HOLD_TIMER_EXPIRES: EventInfo(True, "the timer"),
    Event.KEEPALIVE_TIMER_EXPIRES: EventInfo(True, "the timer"),
    Event.DELAY_OPEN_TIMER_EXPIRES: EventInfo(False, "the timer, where DelayOpen is configured"),
    Event.IDLE_HOLD_TIMER_EXPIRES: EventInfo(False, "the timer"),
    Event.TCP_CONNECTION_VALID: EventInfo(False, "not raised: a connection is reported once it stands (17)"),
    Event.TCP_CR_INVALID: EventInfo(False, "not raised: connections of unknown addresses never reach a peer"),
    Event.TCP_CR_ACKED: EventInfo(True, "a dial that succeeded"),
    Event.TCP_CONNECTION_CONFIRMED: EventInfo(True, "a connection accepted from the peer"),
    Event.TCP_CONNECTION_FAILS: EventInfo(True, "a dial that failed, or a connection that ended"),
    Event.BGP_OPEN: EventInfo(True, "an acceptable OPEN"),
    Event.BGP_OPEN_WITH_DELAY_OPEN_TIMER: EventInfo(False, "an acceptable OPEN while the DelayOpenTimer runs"),
    Event.BGP_HEADER_ERR: EventInfo(True, "a wrong message header"),
    Event.BGP_OPEN_MSG_ERR: EventInfo(True, "a wrong or unacceptable OPEN"),
    Event.OPEN_COLLISION_DUMP: EventInfo(False, "collision detection decides against this connection"),
    Event.NOTIF_MSG_VER_ERR: EventInfo(True, "a NOTIFICATION with Unsupported Version Number"),
    Event.NOTIF_MSG: EventInfo(True, "any other NOTIFICATION"),
    Event.KEEPALIVE_MSG: EventInfo(True, "a KEEPALIVE"),
    Event.UPDATE_MSG: EventInfo(True, "an UPDATE; one event for those that arrive together"),
    Event.UPDATE_MSG_ERR: EventInfo(True, "an UPDATE that RFC 7606 lets end the session"),
    Event.SEND_HOLD_TIMER_EXPIRES: EventInfo(True, "the timer of RFC 9687, in Established"),
    Event.DIAL_RETRY_TIMER_EXPIRES: EventInfo(
        False, "the speaker's own: the timer, or a hint that the network is back"
    ),
    Event.ROUTE_REFRESH_MSG: EventInfo(False, "the speaker's own: a ROUTE-REFRESH (RFC 2918)"),
    Event.ROUTE_REFRESH_MSG_ERR: EventInfo(False, "the speaker's own: a wrong ROUTE-REFRESH (RFC 7313 5)"),
}
