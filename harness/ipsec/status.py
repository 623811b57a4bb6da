"""Where a tunnel stands, since when and why, in the console's words; every change is an event."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from harness.ipsec.reasons import Reason


class State(StrEnum):
    """Where the tunnel stands. FAILED stays until it is up, also while it is tried again; DOWN is the user's own doing."""

    STARTING = "starting"
    WAITING = "waiting"
    NEGOTIATING = "negotiating"
    UP = "up"
    FAILED = "failed"
    DOWN = "down"
    STOPPED = "stopped"


class Status:
    """``emit(kind, **fields)`` takes the events ``status`` (each change) and ``failure`` (one for each attempt and code)."""

    def __init__(self, emit: Callable[..., None]) -> None:
        self.state = State.STARTING
        self.since = time.monotonic()
        self.reason: Reason | None = None
        self._emit = emit
        self._told: tuple[int, str] | None = None

    def become(self, state: State, reason: Reason | None = None) -> None:
        """A change of state, or of the code of the reason, is told; ``since`` is of the state."""
        before = (self.state, self.reason and self.reason.code)
        if state is not self.state:
            self.since = time.monotonic()
        self.state, self.reason = state, reason
        if state is State.UP:
            self._told = None
        if before != (state, reason and reason.code):
            self._emit("status", state=state.value, reason=None if reason is None else reason.as_fields())

    def failed(self, reason: Reason, *, attempt: int, up: bool) -> None:
        """Tells of a failure; a tunnel that is ``up`` all the same stays so."""
        if self._told != (attempt, reason.code):
            self._told = (attempt, reason.code)
            self._emit("failure", attempt=attempt, **reason.as_fields())
        if not up:
            self.become(State.FAILED, reason)

    def console(self, *, ike_established: bool) -> str:
        """The word of the vendor's DescribeVpnConnection for the same."""
        if self.state is State.UP:
            return "ipsec_sa_established"
        if not ike_established:
            return "ike_sa_not_established"
        failed_later = self.reason is not None and self.reason.phase == 2
        return "ipsec_sa_not_established" if failed_later else "ike_sa_established"
