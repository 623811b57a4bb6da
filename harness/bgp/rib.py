"""The routes: Adj-RIB-In and Loc-RIB of RFC 4271 3.2, keyed by the wire form of a prefix.

A prefix costs one entry in its Adj-RIB-In and one in the Loc-RIB; all else is shared: paths by attributes and source, selections by
their set of candidates. A change of a route is a step from one shared selection to another and is looked up, not computed,
when many prefixes take it. What changed is gathered in the table until somebody takes it (:meth:`Table.take`), so that a burst of
UPDATEs leads to one batch of kernel routes and one of announcements.

Nothing here knows of sessions, sockets or the kernel; the outcome equals running ``decision.select`` over all candidates at any moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple
from weakref import WeakValueDictionary

from harness.bgp.decision import Cost, Preferences, Selection, select
from harness.bgp.paths import Kind, Path
from harness.bgp.prefixes import Family
from harness.bgp.watcher import Marks

STRIDE = 512
"""Prefixes between two pauses of a long walk."""

Step = tuple[Selection | None, Path | None, Path | None]


class Change(NamedTuple):
    """Prefixes that went together from one selection to another; None: no route."""

    before: Selection | None
    now: Selection | None
    prefixes: list[bytes]


class Table:
    """The Loc-RIB of one address family, with the candidates that each selection was made from."""

    def __init__(self, family: Family, preferences: Preferences, cost: Cost) -> None:
        self.family = family
        self.selections: dict[bytes, Selection] = {}
        self.watch: list[Marks] = []
        self._preferences = preferences
        self._cost = cost
        # What each changed prefix was, and the order in which to take them: from the front of a large dict that would be a search.
        self._before: dict[bytes, Selection | None] = {}
        self._queue: deque[Sequence[bytes]] = deque()
        self._known: WeakValueDictionary[tuple[Path, ...], Selection] = WeakValueDictionary()
        self._steps: dict[Step, Selection | None] = {}

    def replace(self, prefix: bytes, old: Path | None, new: Path | None) -> None:
        """Takes ``old`` out of the candidates of ``prefix`` and puts ``new`` in; None: nothing to take or put."""
        before = self.selections.get(prefix)
        after = self._step(before, old, new)
        if after is before:
            return
        if prefix not in self._before:
            self._before[prefix] = before
            self._queue.append((prefix,))
        if after is None:
            del self.selections[prefix]
        else:
            self.selections[prefix] = after

    def put(self, prefixes: Collection[bytes], new: Path) -> None:
        """``new`` becomes a candidate of all ``prefixes``, none of which had one of its session."""
        if not self.selections.keys().isdisjoint(prefixes) or not self._before.keys().isdisjoint(prefixes):
            for prefix in prefixes:
                self.replace(prefix, None, new)
            return
        after = self._step(None, None, new)
        assert after is not None
        fresh = list(dict.fromkeys(prefixes))
        self._before.update(dict.fromkeys(fresh))
        self._queue.extend(fresh[start : start + STRIDE] for start in range(0, len(fresh), STRIDE))
        self.selections.update(dict.fromkeys(fresh, after))

    def remove(self, paths: Iterable[tuple[bytes, Path]]) -> None:
        """Takes each path out of the candidates of its prefix."""
        selections, changed = self.selections, self._before
        news: list[bytes] = []
        last_before: Selection | None = None
        last_path: Path | None = None
        after: Selection | None = None
        for prefix, path in paths:
            before = selections.get(prefix)
            if path is not last_path or before is not last_before:
                after = self._step(before, path, None)
                last_before, last_path = before, path
            if after is before:
                continue
            if prefix not in changed:
                changed[prefix] = before
                news.append(prefix)
            if after is None:
                del selections[prefix]
            else:
                selections[prefix] = after
        if news:
            self._queue.append(news)

    def _step(self, before: Selection | None, old: Path | None, new: Path | None) -> Selection | None:
        step = (before, old, new)
        try:
            return self._steps[step]
        except KeyError:
            after = self._steps[step] = self._take_step(before, old, new)
            return after

    def _take_step(self, before: Selection | None, old: Path | None, new: Path | None) -> Selection | None:
        candidates = [p for p in before.candidates if p is not old] if before is not None else []
        if new is not None and new not in candidates:
            candidates.append(new)
        if not candidates:
            return None
        if len(candidates) > 1:
            candidates.sort(key=_order)
        return self._selection(tuple(candidates))

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
                    if prefix not in self._before:
                        self._before[prefix] = before
                        self._queue.append((prefix,))
                    self.selections[prefix] = after
            if not number % STRIDE:
                yield

    @property
    def changed(self) -> int:
        """How many prefixes wait to be taken."""
        return len(self._before)

    def take(self, limit: int) -> list[Change]:
        """The next changed prefixes, about ``limit`` of them, those side by side that changed alike.

        Prefixes that are back where they were are left out.
        """
        self._steps.clear()
        queue = self._queue
        waiting: list[bytes] = []
        while queue and len(waiting) < limit:
            waiting += queue.popleft()
        found: list[Change] = []
        last_before: Selection | None = None
        last_now: Selection | None = None
        alike: list[bytes] = []
        for prefix, before, now in zip(
            waiting, map(self._before.pop, waiting), map(self.selections.get, waiting), strict=True
        ):
            if before is now:
                continue
            if now is not last_now or before is not last_before or not alike:
                alike = []
                found.append(Change(before, now, alike))
                last_before, last_now = before, now
            alike.append(prefix)
        return found


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
        self.family = table.family
        self.rejected = 0
        self.watch: list[Marks] = []
        self._table = table
        self._stale: set[bytes] | None = None

    def __len__(self) -> int:
        return len(self.routes)

    def announce(self, slices: Collection[bytes], path: Path) -> None:
        """``slices`` were announced, all as ``path`` (of one path id)."""
        routes, replace, skip = self.routes, self._table.replace, 4 if self.add_path else 0
        new = None if path.rejected else path
        if self._stale is not None:
            self._stale.difference_update(slices)
        for mark in self.watch:
            mark(slices)
        if new is not None and not skip and routes.keys().isdisjoint(slices):
            routes.update(dict.fromkeys(slices, path))
            self._table.put(slices, path)
            return
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

    def withdraw(self, slices: Collection[bytes]) -> None:
        """``slices`` are no longer reachable over this session; those never announced are passed over."""
        pop, skip = self.routes.pop, 4 if self.add_path else 0
        for mark in self.watch:
            mark(slices)
        gone: list[tuple[bytes, Path]] = []
        for nlri in slices:
            was = pop(nlri, None)
            if was is None:
                continue
            if was.rejected:
                self.rejected -= 1
            else:
                gone.append((nlri[skip:] if skip else nlri, was))
        self._table.remove(gone)

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
        left = iter(list(self.routes))
        while piece := list(islice(left, STRIDE)):
            self.withdraw(piece)
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
