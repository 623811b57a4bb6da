"""Graceful restart with one neighbour: what we offer, and the receiving speaker of RFC 4724 4.2 with RFC 8538.

When a session is lost in a way that does not say that forwarding ended, the routes stay, marked stale and otherwise used as before.
They go when the neighbour is not back in its restart time, does not say that it kept forwarding, was given stale_time to send
them again, or has sent End-of-RIB without them; and all at once when the session is lost again before that. The restarting
speaker's own waiting is :mod:`harness.bgp.deferral`.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.bgp.capabilities import GracefulRestart, RestartFamily
from harness.bgp.config import Neighbor
from harness.bgp.deferral import Deferral
from harness.bgp.inbound import Inbound
from harness.bgp.neighbor_options import GracefulRestartOptions
from harness.bgp.ports import Timer
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.signals import Down
from harness.bgp.surroundings import Surroundings

_NOTHING: frozenset[Family] = frozenset()


def restart_offer(
    config: Neighbor, families: frozenset[Family], deferral: Deferral, *, was_up: bool
) -> GracefulRestart | None:
    """The capability in our OPEN. The F bit says that the kernel kept our routes, be it over a restart or a lost session."""
    options = config.graceful_restart
    if options is None:
        return None
    if options.mode == "helper":
        return GracefulRestart(False, options.notification, 0)
    kept = deferral.restarted or was_up
    entries = tuple(RestartFamily(f.afi, f.safi, kept) for f in sorted(families, key=lambda f: f.value))
    return GracefulRestart(deferral.restarting, options.notification, options.restart_time, entries)


def kept_families(options: GracefulRestartOptions | None, session: Session, down: Down) -> frozenset[Family]:
    """The families whose routes outlive the end of a session (RFC 4724 4.2, RFC 8538 4)."""
    theirs = session.graceful_restart
    if options is None or theirs is None or not theirs.time:
        return _NOTHING
    said = [notification for notification in (down.sent, down.received) if notification is not None]
    if (said and not session.hard_reset) or any(notification.is_hard for notification in said):
        return _NOTHING
    return theirs.kept & session.families


class Helper:
    """The stale routes of a neighbour: ``stale`` are their families, ``inbound`` the neighbour's, shared with its Adjacency."""

    def __init__(self, around: Surroundings, emit: Callable[..., None], inbound: dict[Family, Inbound]) -> None:
        self.stale: set[Family] = set()
        self.until: float | None = None
        self._around = around
        self._emit = emit
        self._inbound = inbound
        self._timer: Timer | None = None

    def lost(self, options: GracefulRestartOptions | None, session: Session, down: Down) -> None:
        """The session ended: routes are kept as stale, or go."""
        self._stop_timer()
        kept = kept_families(options, session, down)
        for family in list(self._inbound):
            if family in self.stale:
                # RFC 4724 4.2: a route that was stale already does not survive a second restart.
                self._sweep(family, "the session was lost again")
            if family not in kept:
                self._drop(family)
                continue
            inbound = self._inbound[family]
            inbound.rib.begin_refresh()
            self.stale.add(family)
            assert session.graceful_restart is not None
            reason = f"kept for {session.graceful_restart.time} s: {down.reason}"
            self._tell("stale", family, len(inbound.rib), reason)
        if self.stale:
            assert session.graceful_restart is not None
            late = "the neighbour did not come back in its restart time"
            self._start_timer(session.graceful_restart.time, lambda: self.forget(late))

    def back(self, options: GracefulRestartOptions | None, session: Session) -> None:
        """A session is up again: stale routes wait for End-of-RIB where the neighbour kept forwarding by them."""
        self._stop_timer()
        for family in sorted(self.stale, key=lambda f: f.value):
            reason = self._why_not(options, session, family)
            if reason is not None:
                self._tell("removed", family, len(self._inbound[family].rib), reason)
                self._drop(family)
        if self.stale and options is not None:
            self._start_timer(options.stale_time, lambda: self.flush("End-of-RIB did not come in the stale time"))

    def _why_not(self, options: GracefulRestartOptions | None, session: Session, family: Family) -> str | None:
        theirs = session.graceful_restart
        if options is None or theirs is None:
            return "graceful restart was not negotiated again"
        if family not in session.families or family not in theirs.kept:
            return "the neighbour does not offer the family any more"
        if family not in theirs.preserved:
            return "the neighbour did not preserve its forwarding state (F bit)"
        if self._inbound[family].rib.add_path is not (family in session.add_path_receive):
            return "ADD-PATH was negotiated another way"
        return None

    def end_of_rib(self, family: Family) -> None:
        if family in self.stale:
            self._sweep(family, "End-of-RIB came")
            if not self.stale:
                self._stop_timer()

    def forget(self, reason: str) -> None:
        """All stale routes go, and their tables with them: there is no session."""
        self._stop_timer()
        for family in list(self.stale):
            self._tell("removed", family, len(self._inbound[family].rib), reason)
            self._drop(family)
        self._around.wake()

    def flush(self, reason: str) -> None:
        """All stale routes go; what the session has sent since it is back stays."""
        self._stop_timer()
        for family in list(self.stale):
            self._sweep(family, reason)

    def _sweep(self, family: Family, reason: str) -> None:
        self.stale.discard(family)
        self._tell("removed", family, self._inbound[family].end_refresh(), reason)
        self._around.wake()

    def _drop(self, family: Family) -> None:
        self.stale.discard(family)
        self._around.walk(self._inbound.pop(family).rib.drain())

    def _tell(self, phase: str, family: Family, count: int, reason: str) -> None:
        self._emit("graceful-restart", phase=phase, family=str(family), count=count, reason=reason)

    def _start_timer(self, seconds: float, over: Callable[[], None]) -> None:
        self.until = self._around.shell.now() + seconds
        self._timer = self._around.shell.call_at(self.until, over)

    def _stop_timer(self) -> None:
        self.until = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
