"""Routes by next-hop objects and groups: RTM_NEWNEXTHOP, resilient groups where asked for.

Every route points at a group, also one with a single way. A group keeps its id: when one batch moves all of its routes to the same new
set of ways, its members are exchanged in place and the flows over the members that stay do not move. Any other move makes a
new group, and then a quarter of the flows move (Documentation/networking/nexthop-group-resilient says why).

A next-hop object stands for (gateway, interface, slot): the slot counts the repetitions of one way within a set, because the kernel
refuses one id twice in a group and three offers of one gateway are three members (RFC 7911).
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache

from harness.net.background import BackgroundWriter
from harness.net.fib_model import Fib, FibSettings, GroupKind, Installed, Loss, Way, Ways, Written, wire
from harness.net.netlink import NetlinkError, Request
from harness.net.records import NexthopInfo, RouteInfo
from harness.net.requests import nexthop, nexthop_del, nexthop_group
from harness.net.rtnl import Failure, Rtnl

_FIRST_ID: dict[int, int] = {socket.AF_INET: 0x04000000, socket.AF_INET6: 0x06000000}

Member = tuple[Way, int]
Members = tuple[Member, ...]


@dataclass(slots=True, eq=False)
class _Nexthop:
    """A next-hop object in the kernel and how many groups have it."""

    id: int
    groups: int = 0


@dataclass(slots=True, eq=False)
class _Group:
    """A group in the kernel and how many routes point at it."""

    id: int
    members: Members
    routes: int = 0


WORTH_IT = 64
"""Routes that are handed to the background; fewer are written at once."""


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A batch in the background: routes to ``group``, or (None) routes removed, with how many of them each group loses."""

    outcome: Future[list[Failure]]
    prefixes: Sequence[bytes]
    group: _Group | None
    leaving: Counter[_Group]


@lru_cache(maxsize=4096)
def _members(ways: Ways) -> Members:
    """The set of ways in one order, repetitions numbered."""
    seen: Counter[Way] = Counter()
    found = []
    for way in sorted(ways):
        found.append((way, seen[way]))
        seen[way] += 1
    return tuple(found)


class GroupFib(Fib):
    """Routes of one family by next-hop group."""

    def __init__(
        self, rtnl: Rtnl, family: int, settings: FibSettings, background: BackgroundWriter | None = None
    ) -> None:
        super().__init__(rtnl, family, settings)
        self._background = background
        self._under_way: _UnderWay | None = None
        self._settled = Written()
        taken = {info.id for info in rtnl.nexthops()}
        self._ids: Iterator[int] = (n for n in itertools.count(_FIRST_ID[family]) if n not in taken)
        self._nexthops: dict[Member, _Nexthop] = {}
        self._groups: dict[int, _Group] = {}
        self._by_members: dict[Members, _Group] = {}
        self._routes: dict[bytes, _Group] = {}

    def __len__(self) -> int:
        return len(self._routes)

    def route(self, prefix: bytes) -> Installed | None:
        group = self._routes.get(prefix)
        return None if group is None else Installed(prefix, tuple(way for way, _ in group.members), group.id)

    def installed(self) -> Iterable[Installed]:
        self._finish()
        for prefix, group in self._routes.items():
            yield Installed(prefix, tuple(way for way, _ in group.members), group.id)

    # ------------------------------------------------------------------------------------------------------------ writing

    def write(self, by_ways: Mapping[Ways, Sequence[bytes]]) -> Written:
        written = self.settle()
        moves: dict[_Group, Counter[Members]] = {}
        wanted: list[tuple[Members, Sequence[bytes]]] = []
        routes = self._routes
        for ways, prefixes in by_ways.items():
            members = _members(ways)
            if not members:
                self._remove(prefixes, written)
                continue
            if routes.keys().isdisjoint(prefixes):
                self._add(members, prefixes, written)
                continue
            leaving: Counter[_Group | None] = Counter(map(routes.get, prefixes))
            staying = self._staying(leaving, members)
            for group, count in leaving.items():
                if group is not None and group not in staying:
                    moves.setdefault(group, Counter())[members] += count
            if staying:
                prefixes = [p for p in prefixes if routes.get(p) not in staying]
            wanted.append((members, prefixes))
        self._exchange_members(moves, written)
        for members, prefixes in wanted:
            self._point(members, prefixes, written)
        self._drop_unused()
        return written

    @staticmethod
    def _staying(groups: Iterable[_Group | None], members: Members) -> set[_Group | None]:
        """Those groups that have these members already: their routes stay as they are."""
        return {group for group in groups if group is not None and group.members == members}

    def _remove(self, prefixes: Sequence[bytes], written: Written) -> None:
        groups = list(map(self._routes.pop, prefixes, itertools.repeat(None)))
        if None in groups:
            prefixes = [prefix for prefix, group in zip(prefixes, groups, strict=True) if group is not None]
            if not prefixes:
                return
        leaving = Counter(group for group in groups if group is not None)
        if self._may_hand_over(prefixes):
            self._hand_over(prefixes, None, leaving)
            return
        self._delete_routes(prefixes)
        for group, count in leaving.items():
            group.routes -= count
        written.removed += prefixes

    def _add(self, members: Members, prefixes: Sequence[bytes], written: Written) -> None:
        """Routes to prefixes that have none yet."""
        if not self._may_hand_over(prefixes):
            self._point(members, prefixes, written)
            return
        group = self._group_of(members, prefixes, written)
        if group is not None:
            self._routes.update(dict.fromkeys(prefixes, group))
            group.routes += len(prefixes)
            self._hand_over(prefixes, group, Counter())

    # --------------------------------------------------------------------------------------------------------- in the background

    def _may_hand_over(self, prefixes: Sequence[bytes]) -> bool:
        return self._background is not None and self._under_way is None and len(prefixes) >= WORTH_IT

    def _hand_over(self, prefixes: Sequence[bytes], group: _Group | None, leaving: Counter[_Group]) -> None:
        assert self._background is not None
        outcome = self._background.submit(self._encode, prefixes, None if group is None else group.id)
        self._under_way = _UnderWay(outcome, prefixes, group, leaving)
        outcome.add_done_callback(lambda _: self.on_written())

    def settle(self) -> Written:
        self._finish()
        written, self._settled = self._settled, Written()
        return written

    def _finish(self) -> None:
        """Waits for the batch under way: from then on the groups' counts are those of the kernel."""
        batch, self._under_way = self._under_way, None
        if batch is None:
            return
        failures = batch.outcome.result()
        if batch.group is None:
            for group, count in batch.leaving.items():
                group.routes -= count
            self._settled.removed += batch.prefixes
            self._drop_unused()
            return
        refused = {f.index: NetlinkError("add route", f.errno, f.remark) for f in failures}
        self._settled.failed += [(batch.prefixes[i], str(error)) for i, error in refused.items()]
        for index in refused:
            del self._routes[batch.prefixes[index]]
        batch.group.routes -= len(refused)
        self._settled.installed += [p for i, p in enumerate(batch.prefixes) if i not in refused]
        if refused:
            self._drop_unused()

    def _exchange_members(self, moves: dict[_Group, Counter[Members]], written: Written) -> None:
        """In place where every route of a group leaves its present members: for the new set that most of them share."""
        for group, targets in moves.items():
            if group.routes != targets.total():
                continue
            members, _ = targets.most_common(1)[0]
            if self._write_group(group, members, written):
                written.in_place.append(group.id)

    def _write_group(self, group: _Group, members: Members, written: Written, failed: Iterable[bytes] = ()) -> bool:
        """Makes the group in the kernel, or exchanges its members, and the next hops it needs."""
        missing = [m for m in members if m not in self._nexthops]
        made = {m: _Nexthop(next(self._ids)) for m in missing}
        ids = [(self._nexthops.get(m) or made[m]).id for m in members]
        resilient = self.settings.resilient if self.settings.kind is GroupKind.RESILIENT else None
        new = group.id not in self._groups
        refused = self._rtnl.attempt(
            [
                *(self._nexthop_request(member, item.id) for member, item in made.items()),
                nexthop_group(
                    group.id,
                    [(i, 1) for i in ids],
                    resilient=resilient,
                    protocol=self.settings.protocol,
                    replace=not new,
                ),
            ]
        )
        if refused:
            self._rtnl.attempt([nexthop_del(item.id) for item in made.values()])
            written.failed += [(prefix, str(refused[0])) for prefix in failed]
            return False
        self._nexthops.update(made)
        for member in members:
            self._nexthops[member].groups += 1
        for member in group.members if not new else ():
            self._nexthops[member].groups -= 1
        if self._by_members.get(group.members) is group:
            del self._by_members[group.members]
        group.members = members
        self._groups[group.id] = group
        self._by_members.setdefault(members, group)
        return True

    def _nexthop_request(self, member: Member, number: int) -> Request:
        way = member[0]
        return nexthop(
            number,
            oif=way.ifindex,
            gateway=ipaddress.ip_address(way.gateway) if way.gateway else None,
            onlink=way.onlink,
            family=self.family,
            protocol=self.settings.protocol,
        )

    def _point(self, members: Members, prefixes: Sequence[bytes], written: Written) -> None:
        """Writes those of the routes whose group has not these members already."""
        routes = self._routes
        before = Counter(map(routes.get, prefixes))
        if staying := self._staying(before, members):
            written.installed += [p for p in prefixes if routes.get(p) in staying]
            prefixes = [p for p in prefixes if routes.get(p) not in staying]
        if not prefixes:
            return
        group = self._group_of(members, prefixes, written)
        if group is None:
            return
        if failures := self._rtnl.bulk_routes(self._encode, prefixes, group.id):
            refused = {f.index: NetlinkError("add route", f.errno, f.remark) for f in failures}
            written.failed += [(prefixes[i], str(error)) for i, error in refused.items()]
            prefixes = [p for i, p in enumerate(prefixes) if i not in refused]
            before = Counter(map(routes.get, prefixes))
        for left, count in before.items():
            if left is not None and left not in staying:
                left.routes -= count
        routes.update(dict.fromkeys(prefixes, group))
        group.routes += len(prefixes)
        written.installed += prefixes

    def _group_of(self, members: Members, prefixes: Sequence[bytes], written: Written) -> _Group | None:
        """The group of these members, made where there is none; None where the kernel refuses it, and then ``prefixes`` failed."""
        group = self._by_members.get(members)
        if group is None:
            group = _Group(next(self._ids), members)
            if not self._write_group(group, members, written, prefixes):
                return None
        return group

    def _drop_unused(self) -> None:
        """Deletes groups without routes, then next hops without groups."""
        requests = []
        for group in [g for g in self._groups.values() if not g.routes]:
            requests.append(nexthop_del(group.id))
            self._forget_group(group)
        for member, item in [(m, n) for m, n in self._nexthops.items() if not n.groups]:
            requests.append(nexthop_del(item.id))
            del self._nexthops[member]
        if requests:
            self._rtnl.attempt(requests)

    def _forget_group(self, group: _Group) -> None:
        del self._groups[group.id]
        if self._by_members.get(group.members) is group:
            del self._by_members[group.members]
        for member in group.members:
            if member in self._nexthops:
                self._nexthops[member].groups -= 1

    def clear(self) -> None:
        self._finish()
        self._delete_routes(list(self._routes))
        self._routes.clear()
        for group in self._groups.values():
            group.routes = 0
        self._drop_unused()

    # ------------------------------------------------------------------------------------------------------------ adoption

    def adopt(self) -> int:
        self._finish()
        found = [n for n in self._rtnl.nexthops() if n.protocol == self.settings.protocol and self._numbered(n.id)]
        members = self._found_members(found)
        wants_resilient = self.settings.kind is GroupKind.RESILIENT
        for info in found:
            ids = [number for number, _ in info.group]
            if not ids or not members.keys() >= set(ids) or (info.resilient is not None) is not wants_resilient:
                continue
            group = _Group(info.id, tuple(sorted(members[number] for number in ids)))
            if group.members == _members(tuple(way for way, _ in group.members)):
                self._groups[group.id] = group
        keys = self._rtnl.route_keys(self.settings.table, self.settings.protocol, self.family)
        for _, length, packed, metric, number in keys:
            if metric == self.settings.metric and number in self._groups:
                group = self._groups[number]
                self._routes[wire(packed, length)] = group
                group.routes += 1
        self._groups = {number: group for number, group in self._groups.items() if group.routes}
        numbers = {member: number for number, member in members.items()}
        for group in self._groups.values():
            self._by_members.setdefault(group.members, group)
            for member in group.members:
                self._nexthops.setdefault(member, _Nexthop(numbers[member])).groups += 1
        return len(self._routes)

    def _numbered(self, number: int) -> bool:
        return number >> 24 == _FIRST_ID[self.family] >> 24

    def _found_members(self, found: Iterable[NexthopInfo]) -> dict[int, Member]:
        """What each next-hop object stands for; of several for one way the older has the lower slot, as when they were made."""
        slots: Counter[Way] = Counter()
        members = {}
        for info in sorted(found, key=lambda n: n.id):
            if not info.group and info.ifindex is not None:
                way = Way(info.gateway.packed if info.gateway else b"", info.ifindex, info.onlink)
                members[info.id] = (way, slots[way])
                slots[way] += 1
        return members

    def owned(self) -> frozenset[int]:
        return frozenset(self._groups) | {item.id for item in self._nexthops.values()}

    # ------------------------------------------------------------------------------------------- what the kernel or others do

    def link_lost(self, ifindex: int) -> list[bytes]:
        self._finish()
        return self._members_gone({m for m in self._nexthops if m[0].ifindex == ifindex})

    def _members_gone(self, gone: set[Member]) -> list[bytes]:
        """Next hops left the kernel, their memberships with them, and the routes whose group has none left. Returns all routes hit."""
        hit: set[_Group] = set()
        emptied: set[_Group] = set()
        for group in [g for g in self._groups.values() if not gone.isdisjoint(g.members)]:
            hit.add(group)
            left = tuple(m for m in group.members if m not in gone)
            if not left:
                emptied.add(group)
                continue
            if self._by_members.get(group.members) is group:
                del self._by_members[group.members]
            group.members = left
            self._by_members.setdefault(left, group)
        for member in gone:
            del self._nexthops[member]
        prefixes = [prefix for prefix, group in self._routes.items() if group in hit] if hit else []
        self._groups_gone(emptied)
        return prefixes

    def _groups_gone(self, emptied: set[_Group]) -> list[bytes]:
        if not emptied:
            return []
        lost = [prefix for prefix, group in self._routes.items() if group in emptied]
        for prefix in lost:
            del self._routes[prefix]
        for group in emptied:
            self._forget_group(group)
        return lost

    def noticed(self, present: bool, info: RouteInfo | NexthopInfo) -> Loss | None:
        self._finish()
        if isinstance(info, RouteInfo):
            return self._route_noticed(present, info)
        group = self._groups.get(info.id)
        if group is not None:
            if not present:
                return Loss(f"next-hop group {info.id} was deleted", tuple(self._groups_gone({group})))
            # The kernel tells of a group that lost a member, after the member: then it is no news.
            if [number for number, _ in info.group] == [self._nexthops[m].id for m in group.members]:
                return None
            return Loss(f"next-hop group {info.id} was changed", self._routes_over(group))
        for member, item in self._nexthops.items():
            if item.id == info.id:
                text = f"next hop {info.id} via {_text(member[0])} was"
                if not present:
                    return Loss(f"{text} deleted", tuple(self._members_gone({member})))
                over = [g for g in self._groups.values() if member in g.members]
                return Loss(f"{text} changed", tuple(p for g in over for p in self._routes_over(g)))
        return None

    def _routes_over(self, group: _Group) -> tuple[bytes, ...]:
        return tuple(prefix for prefix, g in self._routes.items() if g is group)

    def _route_noticed(self, present: bool, info: RouteInfo) -> Loss | None:
        settings = self.settings
        if info.table != settings.table or info.metric != settings.metric or info.prefix.version != self.version:
            return None
        prefix = wire(info.prefix.network_address.packed, info.prefix.prefixlen)
        group = self._routes.get(prefix)
        if group is None or (present and info.nhid == group.id) or (not present and info.nhid not in (None, group.id)):
            return None
        del self._routes[prefix]
        group.routes -= 1
        did = "was deleted" if not present else f"was overwritten by protocol {info.protocol}"
        return Loss(f"route {info.prefix} {did}", (prefix,))

    def verify(self) -> Loss | None:
        self._finish()
        known = {info.id for info in self._rtnl.nexthops()}
        self._members_gone({m for m, item in self._nexthops.items() if item.id not in known})
        keys = self._rtnl.route_keys(self.settings.table, self.settings.protocol, self.family)
        there = {
            (wire(packed, length), nhid) for _, length, packed, metric, nhid in keys if metric == self.settings.metric
        }
        lost = [prefix for prefix, group in self._routes.items() if (prefix, group.id) not in there]
        for prefix in lost:
            self._routes.pop(prefix).routes -= 1
        return Loss("routes are missing from the kernel's dump", tuple(lost)) if lost else None


def _text(way: Way) -> str:
    gateway = str(ipaddress.ip_address(way.gateway)) if way.gateway else "link"
    return f"{gateway} on interface {way.ifindex}"
