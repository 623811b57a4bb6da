"""The SendHoldTimer of RFC 9687: a neighbour that talks and does not listen is gone, however punctual its KEEPALIVEs are.

The hold timer asks whether the neighbour is heard, this one whether it hears: whether its TCP acknowledges anything of what was sent to
it. The kernel tells of no single acknowledgement, so the timer looks a few times in its span what has come of them.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.bgp.ports import Shell, Timer
from harness.bgp.session import Session

LEAST = 480.0
"""RFC 9687 4.4: the default in seconds, where twice the hold time is not more."""
LOOKS = 4
"""Looks in a span: the end is noticed late by at most one of them, and by the one before the silence."""


def span(configured: int | None, session: Session) -> float:
    """Seconds that a session may be deaf; 0: for ever, as where there is no hold time (RFC 9687 4.3)."""
    if not session.hold_time:
        return 0.0
    return max(LEAST, 2.0 * session.hold_time) if configured is None else float(configured)


class SendHold:
    """Of one neighbour. ``expired`` is called with the connection's number."""

    def __init__(self, shell: Shell, name: str, expired: Callable[[int], None]) -> None:
        self._shell = shell
        self._name = name
        self._expired = expired
        self._timer: Timer | None = None

    def begin(self, conn: int, seconds: float) -> None:
        """Watches a connection; nothing where ``seconds`` is 0."""
        self.stop()
        if seconds:
            self._look(conn, seconds, -1, self._shell.now())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, conn: int, seconds: float, before: int, moved_at: float) -> None:
        now, self._timer = self._shell.now(), None
        found = self._shell.taken(self._name, conn)
        if found is None:
            return
        taken, waiting = found
        if taken != before or not waiting:
            moved_at = now
        elif now >= moved_at + seconds:
            self._expired(conn)
            return
        self._timer = self._shell.call_at(now + seconds / LOOKS, lambda: self._look(conn, seconds, taken, moved_at))
