"""The refreshes that a neighbour marks with begin and end (RFC 7313 4): what it does not send again between the two goes.

The receiving side alone; what we answer to a request is the Adjacency's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.bgp.capabilities import GracefulRestart
from harness.bgp.inbound import Inbound
from harness.bgp.ports import Timer
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.surroundings import Surroundings

LONGEST = 600.0
"""Seconds that stale routes wait for the end of a refresh: RFC 7313 4 leaves the upper bound to the implementation."""


class Refreshes:
    """One neighbour's. ``inbound`` is shared with its Adjacency; ``emit`` tells its events."""

    def __init__(self, around: Surroundings, emit: Callable[..., None], inbound: Mapping[Family, Inbound]) -> None:
        self._around = around
        self._emit = emit
        self._inbound = inbound
        self._running: dict[Family, Timer] = {}
        self._first: set[Family] = set()

    def came_up(self, session: Session) -> None:
        """A session begins. With a neighbour that may restart, a family's refreshes count from its End-of-RIB on (RFC 7313 4)."""
        restarts = any(isinstance(capability, GracefulRestart) for capability in session.peer_capabilities)
        self._first = set(session.families) if restarts else set()

    def end_of_rib(self, family: Family) -> None:
        self._first.discard(family)

    def begins(self, family: Family) -> None:
        """BoRR: every route of the family is stale, also where the end of the refresh before this one never came."""
        if family in self._first:
            self._emit("peer.log", text=f"begin of a refresh of {family} before End-of-RIB: ignored (RFC 7313 4)")
            return
        self._stop(family)
        self._inbound[family].rib.begin_refresh()
        when = self._around.shell.now() + LONGEST
        self._running[family] = self._around.shell.call_at(when, lambda: self._too_late(family))

    def ends(self, family: Family) -> None:
        """EoRR: what is still stale goes. Without a begin it means nothing."""
        if self._stop(family):
            self._inbound[family].end_refresh()

    def lost(self) -> None:
        """The session is gone, and its refreshes with it."""
        for family in list(self._running):
            self._stop(family)

    def _too_late(self, family: Family) -> None:
        del self._running[family]
        count = self._inbound[family].end_refresh()
        self._emit("refresh", family=str(family), kind="given up", count=count)
        self._around.wake()

    def _stop(self, family: Family) -> bool:
        timer = self._running.pop(family, None)
        if timer is None:
            return False
        timer.cancel()
        return True
