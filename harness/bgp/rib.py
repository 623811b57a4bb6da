"""The routes: Adj-RIB-In and Loc-RIB of RFC 4271 3.2, keyed by the wire form of a prefix.

A prefix costs one entry in its Adj-RIB-In and one in the Loc-RIB; all else is shared: paths by attributes and source, selections by
their set of candidates. A change of a route is a step from one shared selection to another and is looked up, not computed,
when many prefixes take it. What changed is gathered in the table until somebody takes it (:meth:`Table.take`), so that a burst of
UPDATEs leads to one batch of kernel routes and one of announcements.

Nothing here knows of sessions, sockets or the kernel; the outcome equals running ``decision.select`` over all candidates at any moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

from harness.bgp.decision import Cost, Preferences, Selection, select
from harness.bgp.paths import Kind, Path
from harness.bgp.prefixes import Family
from harness.bgp.watcher import Marks

STRIDE = 512
"""Prefixes between two pauses of a long walk."""

REMEMBERED = 4096
"""Selections and steps at hand while changes wait."""

Step = tuple[Selection | None, Path | None, Path | None]


class Change(NamedTuple):
    """Prefixes that went together from one selection to another; None: no route.

    Where they have none now, ``before`` is what some of them had: all that is gone at once is one change.
    """

    before: Selection | None
    now: Selection | None
    prefixes: list[bytes]


class Table:
    """The Loc-RIB of one address family, with the candidates that each selection was made from, ``candidates`` in all."""

    def __init__(self, family: Family, preferences: Preferences, cost: Cost) -> None:
        self.family = family
        self.selections: dict[bytes, Selection] = {}
        self.watch: list[Marks] = []
        self.candidates = 0
        self._preferences = preferences
        self._cost = cost
        # What each changed prefix was, and the changes in the order in which to take them: from the front of a large dict that would
        # be a search. ``_again``: one of those prefixes has changed once more, so that the queue no longer says what it is now.
        self._before: dict[bytes, Selection | None] = {}
        self._queue: deque[Change] = deque()
        self._again = False
        self._reconsidering = 0
        # What was looked up while there was something in the queue, as far as it is not too much to give back in one piece.
        self._known: dict[tuple[Path, ...], Selection] = {}
        self._steps: dict[Step, Selection | None] = {}

    def replace(self, prefix: bytes, old: Path | None, new: Path | None) -> None:
        """Takes ``old`` out of the candidates of ``prefix`` and puts ``new`` in; None: nothing to take or put."""
        before = self.selections.get(prefix)
        after = self._step(before, old, new)
        if after is before:
            return
        self.candidates += _count(after) - _count(before)
        self._changes(prefix, before, after)
        if after is None:
            del self.selections[prefix]
        else:
            self.selections[prefix] = after

    def move(self, prefixes: Sequence[bytes], old: Path | None, new: Path | None, *, fresh: bool = False) -> None:
        """:meth:`replace` for many. ``fresh``: none of them has a candidate, as the caller knows without looking."""
        selections = self.selections
        befores: list[Selection | None] = [None] if fresh else list(map(selections.get, prefixes))
        before = befores[0]
        alike = fresh or len(befores) == 1 or befores.count(before) == len(befores)
        if not alike or not self._before.keys().isdisjoint(prefixes):
            for prefix in prefixes:
                self.replace(prefix, old, new)
            return
        after = self._step(before, old, new) if before is not None or new is None else self._selection((new,))
        if after is before:
            return
        # An UPDATE may name a prefix twice.
        once = dict.fromkeys(prefixes, before)
        self._before.update(once)
        self.candidates += len(once) * (_count(after) - _count(before))
        self._wait(before, after, list(once))
        if after is None:
            for prefix in once:
                del selections[prefix]
        else:
            selections.update(dict.fromkeys(once, after))

    @property
    def is_undisputed(self) -> bool:
        """No prefix has two candidates."""
        return self.candidates == len(self.selections)

    def clear(self, prefixes: Sequence[bytes]) -> None:
        """Takes the candidates of these, each of which has one."""
        self.candidates -= len(prefixes)
        if not self._before.keys().isdisjoint(prefixes):
            for prefix in prefixes:
                self._changes(prefix, self.selections.pop(prefix), None)
            return
        befores = list(map(self.selections.pop, prefixes))
        for before in set(befores):
            self._left(before)
        self._before.update(zip(prefixes, befores, strict=True))
        self._wait(befores[0], None, list(prefixes))

    def _changes(self, prefix: bytes, before: Selection | None, after: Selection | None) -> None:
        if prefix in self._before:
            self._again = True
        else:
            self._before[prefix] = before
            self._wait(before, after, [prefix])

    def _wait(self, before: Selection | None, after: Selection | None, prefixes: list[bytes]) -> None:
        if self._queue:
            last = self._queue[-1]
            if last.now is after and (after is None or last.before is before) and len(last.prefixes) < STRIDE:
                last.prefixes.extend(prefixes)
                return
        if len(prefixes) <= STRIDE:
            self._queue.append(Change(before, after, prefixes))
            return
        for start in range(0, len(prefixes), STRIDE):
            self._queue.append(Change(before, after, prefixes[start : start + STRIDE]))

    def _step(self, before: Selection | None, old: Path | None, new: Path | None) -> Selection | None:
        step = (before, old, new)
        try:
            return self._steps[step]
        except KeyError:
            after = self._steps[step] = self._take_step(before, old, new)
            return after

    def _take_step(self, before: Selection | None, old: Path | None, new: Path | None) -> Selection | None:
        if before is None:
            return None if new is None else self._selection((new,))
        self._left(before)
        if new is None and len(before.candidates) == 1 and before.best is old:
            return None
        candidates = [p for p in before.candidates if p is not old]
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

    def _left(self, before: Selection) -> None:
        """Who goes back there finds it; but for what may not have been decided anew yet."""
        if not self._reconsidering:
            self._known.setdefault(before.candidates, before)

    def _forget(self) -> None:
        self._steps.clear()
        self._known.clear()

    def prefer(self, preferences: Preferences) -> Iterator[None]:
        """Decides by other preferences from now on, and again for every prefix. A walk."""
        self._preferences = preferences
        yield from self.reconsider(None)

    def reconsider(self, next_hops: frozenset[bytes] | None) -> Iterator[None]:
        """Decides again for every prefix with a candidate over one of ``next_hops``, whose resolution changed; None: for all.

        A walk: it pauses every STRIDE prefixes. Each such prefix counts as changed, for its kernel route may be.
        """
        self._forget()
        self._reconsidering += 1
        try:
            yield from self._reconsidered(next_hops)
        finally:
            self._reconsidering -= 1

    def _reconsidered(self, next_hops: frozenset[bytes] | None) -> Iterator[None]:
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
                    self._changes(prefix, before, after)
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
        queue, found, count = self._queue, list[Change](), 0
        while queue and count < limit:
            change = queue.popleft()
            count += len(change.prefixes)
            found.append(change)
        if self._again:
            found = self._taken_anew(found)
        elif queue:
            for change in found:
                for prefix in change.prefixes:
                    del self._before[prefix]
        if not queue:
            self._before = {}
            self._again = False
        if not queue or len(self._known) + len(self._steps) > REMEMBERED:
            self._forget()
        return found

    def _taken_anew(self, waiting: list[Change]) -> list[Change]:
        """Some have changed more than once."""
        found: list[Change] = []
        for prefix in chain.from_iterable(change.prefixes for change in waiting):
            before, now = self._before.pop(prefix), self.selections.get(prefix)
            if before is now:
                continue
            if not found or found[-1].now is not now or (now is not None and found[-1].before is not before):
                found.append(Change(before, now, []))
            found[-1].prefixes.append(prefix)
        return found


def _count(selection: Selection | None) -> int:
    return 0 if selection is None else len(selection.candidates)


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

    def announce(self, slices: Sequence[bytes], path: Path) -> None:
        """``slices`` were announced, all as ``path`` (of one path id)."""
        routes, skip = self.routes, 4 if self.add_path else 0
        new = None if path.rejected else path
        if self._stale is not None:
            self._stale.difference_update(slices)
        for mark in self.watch:
            mark(slices)
        if not skip and new is not None and slices:
            if routes.keys().isdisjoint(slices):
                # The routes that count all have selections. As many of both, and there is none for what is no route of this session.
                fresh = len(self._table.selections) == len(routes) - self.rejected
                routes.update(dict.fromkeys(slices, path))
                self._table.move(slices, None, path, fresh=fresh)
                return
            wases = list(map(routes.get, slices))
            was = wases[0]
            if was is not None and not was.rejected and wases.count(was) == len(wases):
                if was is not path and not was.says_as(path):
                    routes.update(dict.fromkeys(slices, path))
                    self._table.move(slices, was, path)
                return
        for nlri in slices:
            was = routes.get(nlri)
            if was is path or (was is not None and was.says_as(path)):
                continue
            routes[nlri] = path
            old = was
            if was is not None and was.rejected:
                old = None
                self.rejected -= 1
            if new is None:
                self.rejected += 1
            if old is not None or new is not None:
                self._table.replace(nlri[skip:] if skip else nlri, old, new)

    def withdraw(self, slices: Collection[bytes]) -> None:
        """``slices`` are no longer reachable over this session; those never announced are passed over."""
        for mark in self.watch:
            mark(slices)
        self._went(slices, list(map(self.routes.pop, slices, repeat(None))))

    def _went(self, slices: Collection[bytes], wases: list[Path | None]) -> None:
        """These were taken out of the routes."""
        if self._table.is_undisputed and wases and not self.rejected and not self.add_path and None not in wases:
            self._table.clear(list(slices))
            return
        skip = 4 if self.add_path else 0
        # Neighbours in a table came together and have one path.
        last: Path | None = None
        alike: list[bytes] = []
        for nlri, was in zip(slices, wases, strict=True):
            if was is not last:
                self._gone(alike, last)
                last, alike = was, []
            alike.append(nlri[skip:] if skip else nlri)
        self._gone(alike, last)

    def _gone(self, prefixes: list[bytes], path: Path | None) -> None:
        if path is None:
            return
        if path.rejected:
            self.rejected -= len(prefixes)
        else:
            self._table.move(prefixes, path, None)

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
        routes = self.routes
        while routes:
            # From the end: a list of all keys would be a long piece of work.
            slices, paths = zip(*[routes.popitem() for _ in range(min(STRIDE, len(routes)))], strict=True)
            for mark in self.watch:
                mark(slices)
            self._went(slices, list(paths))
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
