"""The restarting speaker of RFC 4724 4.1: route selection waits until the neighbours have sent all their routes again.

While a family is in :attr:`Deferral.waiting` its decisions are neither written to the kernel nor announced: the routes that the
former process left in the kernel go on forwarding. This module knows who is waited for; the speaker acts on what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.bgp.prefixes import Family
from harness.bgp.session import Session


class Deferral:
    """``waiting``: for each family whose selection waits the names of the neighbours whose End-of-RIB is due.

    ``restarted`` says that the kernel kept a former process's routes; ``restarting`` that selection still waits, so that the OPENs
    carry the R bit. ``release`` is called once for each family, with the reason.
    """

    def __init__(self, release: Callable[[Family, str], None], *, restarted: bool) -> None:
        self.restarted = restarted
        self.waiting: dict[Family, set[str]] = {}
        self._release = release

    @property
    def restarting(self) -> bool:
        return bool(self.waiting)

    def begin(self, neighbors: Iterable[tuple[str, frozenset[Family]]]) -> None:
        """These, with their families, are waited for."""
        for name, families in neighbors:
            for family in families:
                self.waiting.setdefault(family, set()).add(name)

    def came_up(self, name: str, session: Session) -> None:
        """Not waited for: who restarts as well, knows no graceful restart, or does not carry the family."""
        theirs = session.graceful_restart
        if theirs is None or theirs.restarted:
            self.without(name)
        else:
            self.without(name, frozenset(self.waiting) - session.families)

    def end_of_rib(self, name: str, family: Family) -> None:
        self.without(name, frozenset({family}))

    def without(self, name: str, families: frozenset[Family] | None = None) -> None:
        """The neighbour is not waited for (any more)."""
        for family in list(self.waiting) if families is None else families:
            if name in self.waiting.get(family, ()):
                self.waiting[family].discard(name)
                if not self.waiting[family]:
                    self._done(family, "every neighbour has sent End-of-RIB, or does not restart gracefully")

    def expire(self) -> None:
        """The Selection_Deferral_Timer ran out."""
        for family, names in list(self.waiting.items()):
            self._done(family, f"the selection deferral time is over; no End-of-RIB from {', '.join(sorted(names))}")

    def _done(self, family: Family, reason: str) -> None:
        del self.waiting[family]
        self._release(family, reason)
