"""One family's routes from one neighbour: admission, Adj-RIB-In and the limit on prefixes, joined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from harness.bgp.admission import Admission
from harness.bgp.attributes import Attributes
from harness.bgp.neighbor_options import MaximumPrefixes
from harness.bgp.paths import Path
from harness.bgp.prefix_limit import PrefixLimit
from harness.bgp.prefixes import Family, split_path_id
from harness.bgp.rib import STRIDE, AdjRibIn

MULTICAST = {
    Family.IPV4_UNICAST: frozenset(bytes((octet,)) for octet in range(224, 240)),
    Family.IPV6_UNICAST: frozenset((b"\xff",)),
}
"""What the first octet of a multicast prefix may be."""


@dataclass(slots=True)
class Inbound:
    """``refusals`` counts the routes refused since somebody last told of them, by reason."""

    rib: AdjRibIn
    admission: Admission
    limit: PrefixLimit | None = None
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def accepted(self) -> int:
        return len(self.rib) - self.rib.rejected

    @property
    def offered(self) -> int:
        """How many routes count against the limit: those accepted, and those it holds back."""
        return self.accepted + (len(self.limit.waiting) if self.limit is not None else 0)

    def announce(self, slices: Sequence[bytes], attributes: Attributes, next_hop: bytes) -> None:
        path_of = self.admission.path
        at, multicast = 5 if self.rib.add_path else 1, MULTICAST[self.rib.family]
        if astray := [nlri for nlri in slices if nlri[at : at + 1] in multicast]:
            for nlri in astray:
                path_id = split_path_id(nlri)[0] if self.rib.add_path else 0
                self._put((nlri,), self._admitted(nlri, path_of(b"", path_id, attributes, next_hop)))
            slices = [nlri for nlri in slices if nlri not in astray]
        if not self.rib.add_path and not self.admission.policy.looks_at_prefix:
            self._put(slices, path_of(b"", 0, attributes, next_hop))
            return
        groups: dict[Path, list[bytes]] = {}
        for nlri in slices:
            path_id, prefix = split_path_id(nlri) if self.rib.add_path else (0, nlri)
            groups.setdefault(path_of(prefix, path_id, attributes, next_hop), []).append(nlri)
        for path, members in groups.items():
            self._put(members, path)

    def withdraw(self, slices: Collection[bytes]) -> None:
        """These are gone; where a limit held others back, they take their place."""
        self.rib.withdraw(slices)
        if self.limit is not None:
            self.limit.forget(slices)
            self._fill()

    def _put(self, slices: Sequence[bytes], path: Path) -> None:
        if path.rejected is not None:
            self.refusals[path.rejected] += len(slices)
        if self.limit is None:
            self.rib.announce(slices, path)
            return
        if path.rejected is None and self.limit.drops:
            slices = self._within(slices, path)
        else:
            self.limit.forget(slices)
        self.rib.announce(slices, path)
        self._fill()

    def _within(self, slices: Iterable[bytes], path: Path) -> list[bytes]:
        """Those of ``slices`` that the limit lets in; the others wait, in Adj-RIB-In but refused."""
        limit, routes = self.limit, self.rib.routes
        assert limit is not None
        room = limit.room(self.accepted)
        taken: dict[bytes, None] = {}
        waiting = []
        for nlri in slices:
            was = routes.get(nlri)
            if nlri in taken:
                continue
            if was is not None and was.rejected is None:
                taken[nlri] = None
            elif room > 0 and nlri not in limit.waiting:
                taken[nlri] = None
                room -= 1
            else:
                waiting.append(nlri)
        if waiting:
            limit.waiting.update(dict.fromkeys(waiting))
            self.refusals[limit.reason] += len(waiting)
            self.rib.announce(waiting, self.admission.refused(path, limit.reason))
        return list(taken)

    def _fill(self) -> None:
        """Takes as many of those that wait as there is room for, oldest first."""
        limit = self.limit
        while limit is not None and limit.waiting and (room := limit.room(self.accepted)) > 0:
            for nlri in list(islice(limit.waiting, room)):
                del limit.waiting[nlri]
                path = self.rib.routes[nlri]
                self.rib.announce((nlri,), self._admitted(nlri, path))

    def _admitted(self, nlri: bytes, path: Path) -> Path:
        if self.rib.prefix_of(nlri)[1:2] in MULTICAST[self.rib.family]:
            return self.admission.refused(path, "a multicast prefix among unicast ones (RFC 4271 6.3)")
        return self.admission.path(self.rib.prefix_of(nlri), path.path_id, path.received, path.next_hop)

    def again(self) -> Iterator[None]:
        """Every route as the present policy and limit see it. A walk."""
        if self.limit is not None:
            self.limit.waiting.clear()
        yield from self.rib.readmit(self._reconsidered)
        self._fill()

    def _reconsidered(self, nlri: bytes, path: Path) -> Path:
        admitted, limit = self._admitted(nlri, path), self.limit
        if limit is None or not limit.drops or admitted.rejected is not None:
            return admitted
        if limit.room(self.accepted - (path.rejected is None)) > 0:
            return admitted
        limit.waiting[nlri] = None
        return self.admission.refused(admitted, limit.reason)

    def set_limit(self, options: MaximumPrefixes | None) -> Iterator[None]:
        """Another limit: routes that it lets in are taken, and of those in use the newest wait where they are too many. A walk."""
        old, new = self.limit, PrefixLimit.of(options)
        waiting = old.waiting if old is not None else {}
        if new is not None:
            # A session that is to end for its prefixes must be told of them again.
            new.over = old is not None and old.over and new.options.action != "teardown"
        self.limit = new
        if new is not None and new.drops:
            new.waiting = waiting
            for number, nlri in enumerate(reversed(list(self.rib.routes)), 1):
                if new.room(self.accepted) >= 0:
                    break
                path = self.rib.routes.get(nlri)
                if path is not None and path.rejected is None:
                    new.waiting[nlri] = None
                    self.rib.announce((nlri,), self.admission.refused(path, new.reason))
                if not number % STRIDE:
                    yield
            self._fill()
            return
        for number, nlri in enumerate(list(waiting), 1):
            if (path := self.rib.routes.get(nlri)) is not None:
                self.rib.announce((nlri,), self._admitted(nlri, path))
            if not number % STRIDE:
                yield

    def end_refresh(self) -> int:
        """What was not sent again since :meth:`AdjRibIn.begin_refresh` is gone; returns how many routes that were."""
        before = len(self.rib)
        gone = self.rib.end_refresh()
        if self.limit is not None:
            self.limit.forget(gone)
            self._fill()
        return before - len(self.rib)

    def crossed(self) -> int | None:
        """The number of routes offered where it has just passed the limit, or come back to it; else None."""
        return None if self.limit is None else self.limit.crossed(self.accepted)
