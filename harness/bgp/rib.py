"""The routes: Adj-RIB-In and Loc-RIB of RFC 4271 3.2, keyed by the wire form of a prefix.

A prefix costs one entry in its Adj-RIB-In and one in the Loc-RIB; all else is shared: paths by attributes and source, selections by
their set of candidates. A change of a route is a step from one shared selection to another and is looked up, not computed,
when many prefixes take it. What changed is gathered in the table until somebody takes it (:meth:`Table.take`), so that a burst of
UPDATEs leads to one batch of kernel routes and one of announcements.

Nothing here knows of sessions, sockets or the kernel; the outcome equals running ``decision.select`` over all candidates at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from weakref import WeakValueDictionary

from harness.bgp.decision import Cost, Preferences, Selection, select
from harness.bgp.paths import Kind, Path
from harness.bgp.prefixes import Family
from harness.bgp.watcher import Marks

STRIDE = 512
"""Prefixes between two pauses of a long walk."""

Step = tuple[Selection | None, Path | None, Path | None]


class Table:
    """The Loc-RIB of one address family, with the candidates that each selection was made from."""

    def __init__(self, family: Family, preferences: Preferences, cost: Cost) -> None:
        self.family = family
        self.selections: dict[bytes, Selection] = {}
        self._preferences = preferences
        self._cost = cost
        self._before: dict[bytes, Selection | None] = {}
        self._known: WeakValueDictionary[tuple[Path, ...], Selection] = WeakValueDictionary()
        self._steps: dict[Step, Selection | None] = {}

    def replace(self, prefix: bytes, old: Path | None, new: Path | None) -> None:
        """Takes ``old`` out of the candidates of ``prefix`` and puts ``new`` in; None: nothing to take or put."""
        before = self.selections.get(prefix)
        step = (before, old, new)
        try:
            after = self._steps[step]
        except KeyError:
            after = self._steps[step] = self._take_step(before, old, new)
        if after is before:
            return
        if prefix not in self._before:
            self._before[prefix] = before
        if after is None:
            del self.selections[prefix]
        else:
            self.selections[prefix] = after

    def _take_step(self, before: Selection | None, old: Path | None, new: Path | None) -> Selection | None:
        candidates = [p for p in before.candidates if p is not old] if before is not None else []
        if new is not None and new not in candidates:
            candidates.append(new)
        if not candidates:
            return None
        return self._selection(tuple(sorted(candidates, key=_order)))

    def _selection(self, candidates: tuple[Path, ...]) -> Selection:
        selection = self._known.get(candidates)
        if selection is None:
            selection = self._known[candidates] = select(candidates, self._preferences, self._cost)
        return selection

    def prefer(self, preferences: Preferences) -> Iterator[None]:
        """Decides by other preferences from now on, and again for every prefix. A walk."""
        self._preferences = preferences
        yield from self.reconsider(None)

    def reconsider(self, next_hops: frozenset[bytes] | None) -> Iterator[None]:
        """Decides again for every prefix with a candidate over one of ``next_hops``, whose resolution changed; None: for all.

        A walk: it pauses every STRIDE prefixes. Each such prefix counts as changed, for its kernel route may be.
        """
        self._known.clear()
        self._steps.clear()
        again: dict[Selection, Selection] = {}
        for number, prefix in enumerate(list(self.selections), 1):
            before = self.selections.get(prefix)
            if before is not None:
                after = again.get(before)
                if after is None:
                    affected = next_hops is None or any(p.next_hop in next_hops for p in before.candidates)
                    after = self._selection(before.candidates) if affected else before
                    again[before] = after
                    again[after] = after
                if after is not before:
                    self._before.setdefault(prefix, before)
                    self.selections[prefix] = after
            if not number % STRIDE:
                yield

    @property
    def changed(self) -> int:
        """How many prefixes wait to be taken."""
        return len(self._before)

    def take(self, limit: int) -> list[tuple[bytes, Selection | None]]:
        """The next changed prefixes with what they were; those that are back where they were are left out."""
        self._steps.clear()
        if len(self._before) <= limit:
            waiting, self._before = self._before, {}
        else:
            waiting = {prefix: self._before.pop(prefix) for prefix in list(islice(self._before, limit))}
        selections = self.selections
        return [(prefix, before) for prefix, before in waiting.items() if selections.get(prefix) is not before]


def _order(path: Path) -> tuple[bool, bytes, str, int]:
    """One order for one set of candidates, whichever came first."""
    return (path.source.kind is not Kind.LOCAL, path.source.address, path.source.name, path.path_id)


class AdjRibIn:
    """What one session received for one family, rejected routes included and counted in ``rejected``.

    Keys carry the path id where ADD-PATH is received.
    """

    def __init__(self, table: Table, *, add_path: bool) -> None:
        self.routes: dict[bytes, Path] = {}
        self.add_path = add_path
        self.rejected = 0
        self.watch: list[Marks] = []
        self._table = table
        self._stale: set[bytes] | None = None

    def __len__(self) -> int:
        return len(self.routes)

    def announce(self, slices: Iterable[bytes], path: Path) -> None:
        """``slices`` were announced, all as ``path`` (of one path id)."""
        routes, replace, skip = self.routes, self._table.replace, 4 if self.add_path else 0
        new = None if path.rejected else path
        if self._stale is not None:
            self._stale.difference_update(slices)
        for mark in self.watch:
            mark(slices)
        for nlri in slices:
            was = routes.get(nlri)
            if was is path:
                continue
            routes[nlri] = path
            old = was
            if was is not None and was.rejected:
                old = None
                self.rejected -= 1
            if new is None:
                self.rejected += 1
            if old is not None or new is not None:
                replace(nlri[skip:] if skip else nlri, old, new)

    def withdraw(self, slices: Iterable[bytes]) -> None:
        """``slices`` are no longer reachable over this session; those never announced are passed over."""
        pop, replace, skip = self.routes.pop, self._table.replace, 4 if self.add_path else 0
        for mark in self.watch:
            mark(slices)
        for nlri in slices:
            was = pop(nlri, None)
            if was is None:
                continue
            if was.rejected:
                self.rejected -= 1
            else:
                replace(nlri[skip:] if skip else nlri, was, None)

    def prefix_of(self, nlri: bytes) -> bytes:
        return nlri[4:] if self.add_path else nlri

    def readmit(self, admit: Callable[[bytes, Path], Path]) -> Iterator[None]:
        """Soft clear in: puts every route through ``admit`` (key, path as it was) again. A walk."""
        for number, nlri in enumerate(list(self.routes), 1):
            path = self.routes.get(nlri)
            if path is not None:
                self.announce((nlri,), admit(nlri, path))
            if not number % STRIDE:
                yield

    def drain(self) -> Iterator[None]:
        """The session is gone: takes all its routes out of the Loc-RIB. A walk."""
        while self.routes:
            self.withdraw(list(islice(self.routes, STRIDE)))
            yield

    def begin_refresh(self) -> None:
        """RFC 7313 4: the neighbour begins to send all its routes again."""
        self._stale = set(self.routes)

    def end_refresh(self) -> set[bytes]:
        """RFC 7313 4: what it did not send again is gone; returns that."""
        stale, self._stale = self._stale or set(), None
        self.withdraw(stale)
        return stale

    def is_stale(self, nlri: bytes) -> bool:
        """Whether a route waits to be sent again."""
        return self._stale is not None and nlri in self._stale

    @property
    def stale_count(self) -> int:
        """How many routes wait to be sent again."""
        return len(self._stale or ())
