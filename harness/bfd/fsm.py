"""The state machine as a table (RFC 5880 6.2, 6.8.6, 6.8.16): every state with every event."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from harness.bfd.terms import Diagnostic, State


class Event(Enum):
    """What moves a session: a packet by the state it carries, the detection timer, the operator."""

    RECEIVED_ADMIN_DOWN = "the peer is AdminDown"
    RECEIVED_DOWN = "the peer is Down"
    RECEIVED_INIT = "the peer is Init"
    RECEIVED_UP = "the peer is Up"
    DETECTION_TIME_EXPIRED = "the detection time passed without a packet"
    DISABLED = "the session is disabled"
    ENABLED = "the session is enabled"


RECEIVED = {
    State.ADMIN_DOWN: Event.RECEIVED_ADMIN_DOWN,
    State.DOWN: Event.RECEIVED_DOWN,
    State.INIT: Event.RECEIVED_INIT,
    State.UP: Event.RECEIVED_UP,
}


class Row(NamedTuple):
    """Where an event leads, the local diagnostic it leaves (None: as it was), and why."""

    new: State
    diagnostic: Diagnostic | None
    reason: str


_EXPIRED = Diagnostic.CONTROL_DETECTION_TIME_EXPIRED
_SIGNALED = Diagnostic.NEIGHBOR_SIGNALED_SESSION_DOWN
_ADMIN = Diagnostic.ADMINISTRATIVELY_DOWN
_A, _D, _I, _U = State.ADMIN_DOWN, State.DOWN, State.INIT, State.UP
_DISABLED = Row(_A, _ADMIN, "disabled here")
_HELD = Row(_A, None, "a disabled session hears nothing")


TABLE: dict[tuple[State, Event], Row] = {
    (_A, Event.RECEIVED_ADMIN_DOWN): _HELD,
    (_A, Event.RECEIVED_DOWN): _HELD,
    (_A, Event.RECEIVED_INIT): _HELD,
    (_A, Event.RECEIVED_UP): _HELD,
    (_A, Event.DETECTION_TIME_EXPIRED): _HELD,
    (_A, Event.DISABLED): _HELD,
    (_A, Event.ENABLED): Row(_D, Diagnostic.NONE, "enabled here"),
    (_D, Event.RECEIVED_ADMIN_DOWN): Row(_D, None, "the peer has disabled BFD"),
    (_D, Event.RECEIVED_DOWN): Row(_I, None, "the peer is there"),
    (_D, Event.RECEIVED_INIT): Row(_U, Diagnostic.NONE, "the peer hears us"),
    (_D, Event.RECEIVED_UP): Row(_D, None, "the peer does not know yet that we are down"),
    (_D, Event.DETECTION_TIME_EXPIRED): Row(_D, None, "no packet from the peer any more"),
    (_D, Event.DISABLED): _DISABLED,
    (_D, Event.ENABLED): Row(_D, None, "enabled already"),
    (_I, Event.RECEIVED_ADMIN_DOWN): Row(_D, _SIGNALED, "the peer has disabled BFD"),
    (_I, Event.RECEIVED_DOWN): Row(_I, None, "the peer does not hear us yet"),
    (_I, Event.RECEIVED_INIT): Row(_U, Diagnostic.NONE, "the peer hears us"),
    (_I, Event.RECEIVED_UP): Row(_U, Diagnostic.NONE, "the peer hears us"),
    (_I, Event.DETECTION_TIME_EXPIRED): Row(_D, _EXPIRED, "no packet within the detection time"),
    (_I, Event.DISABLED): _DISABLED,
    (_I, Event.ENABLED): Row(_I, None, "enabled already"),
    (_U, Event.RECEIVED_ADMIN_DOWN): Row(_D, _SIGNALED, "the peer has disabled BFD"),
    (_U, Event.RECEIVED_DOWN): Row(_D, _SIGNALED, "the peer says that it is down"),
    (_U, Event.RECEIVED_INIT): Row(_U, None, "the peer is not up yet"),
    (_U, Event.RECEIVED_UP): Row(_U, None, "the peer is up"),
    (_U, Event.DETECTION_TIME_EXPIRED): Row(_D, _EXPIRED, "no packet within the detection time"),
    (_U, Event.DISABLED): _DISABLED,
    (_U, Event.ENABLED): Row(_U, None, "enabled already"),
}

ABSENT = frozenset({Event.RECEIVED_ADMIN_DOWN, Event.DISABLED})
"""Events by which BFD is switched off, not the path lost: what relies on BFD goes on without it (RFC 5882 3.2)."""
