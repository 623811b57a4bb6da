"""Neighbours that are told of a table, and the octets that each of them got: what the tests of Adj-RIB-Out and of update groups share."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.bgp.adj_out import AdjRibOut
from harness.bgp.decision import Preferences, Selection, select
from harness.bgp.export import Exporter, PathIds, Target
from harness.bgp.neighbor_config import Rule
from harness.bgp.out_groups import OutGroups
from harness.bgp.paths import Path
from harness.bgp.policy import Policy
from harness.bgp.prefixes import Family
from harness.bgp.rib import Change, Table
from harness.bgp.session import Session
from harness.bgp.update import Update, decode_update
from tests.bgp.routes import prefix, source

V4 = Family.IPV4_UNICAST
KEYS = [prefix(f"10.0.{n}.0/24") for n in range(4)]
A, B, C = (source(name, router_id=n, address=f"10.9.0.{n}") for n, name in enumerate("abc", 1))


def selection(*paths: Path) -> Selection:
    return select(paths, Preferences(), lambda _: 0)


class Neighbor:
    """A neighbour in AS 64501, and the UPDATEs it got."""

    def __init__(self, told: Told, name: str, own: str, rules: Sequence[Rule] = ()) -> None:
        families = frozenset({V4}) if told.add_path else frozenset[Family]()
        session = Session(local_asn=64500, peer_asn=64501, asn4=True, add_path_send=families)
        target = Target(name, True, 64500, ipaddress.ip_address(own).packed, False, told.add_path, 100)
        exporter = Exporter(target, Policy(rules, V4, 64500), told.ids)
        self._told = told
        self.reads = True
        self.wire: list[bytes] = []
        self.out = AdjRibOut(session, V4, exporter, lambda: self.reads, self.wire.extend)
        self._receiver = replace(session, add_path_send=frozenset(), add_path_receive=families)

    def configure(self, rules: Sequence[Rule]) -> None:
        """Another export policy."""
        self.out.exporter = Exporter(self.out.exporter.target, Policy(rules, V4, 64500), self._told.ids)
        self._told.groups.changed(self.out)

    def updates(self) -> list[Update]:
        """What has come since the last time."""
        found = [decode_update(message[19:], self._receiver) for message in self.wire]
        self.wire.clear()
        assert not [error for update in found for error in update.errors]
        return found


class Told:
    """A table and some neighbours; ``out`` is the Adj-RIB-Out of the first of them, 10.1.0.1 being our end of its session."""

    def __init__(self, *, add_path: bool = False, rules: Sequence[Rule] = ()) -> None:
        self.add_path = add_path
        self.ids = PathIds()
        self.loc_rib = Table(V4, Preferences(), lambda _: 0)
        self.table = self.loc_rib.selections
        self.walks: list[Iterator[None]] = []
        self.groups = OutGroups({V4: self.loc_rib}, self.walks.append)
        self.neighbors: dict[str, Neighbor] = {}
        self.out = self.neighbor("n", rules=rules).out

    def neighbor(self, name: str, own: str = "10.1.0.1", rules: Sequence[Rule] = ()) -> Neighbor:
        neighbor = self.neighbors[name] = Neighbor(self, name, own, rules)
        self.groups.enter(neighbor.out)
        return neighbor

    def run(self, limit: int = 100) -> None:
        """Until there is nothing to do: ``limit`` prefixes at a time."""
        while self.walks:
            for _ in self.walks.pop(0):
                pass
        self.groups.settle()
        while any(self.groups.advance(group, limit) for group in self.groups.all()):
            pass
        for neighbor in self.neighbors.values():
            while neighbor.reads and neighbor.out.waiting:
                neighbor.wire += neighbor.out.messages(limit)

    def step(self, chance: random.Random) -> None:
        """A little of what there is to do."""
        kind = chance.randrange(3)
        if kind == 0 and self.walks:
            walk = chance.choice(self.walks)
            if next(walk, self) is self:
                self.walks.remove(walk)
        elif kind == 1 and (groups := self.groups.all()):
            self.groups.advance(chance.choice(groups), 2)
        elif kind == 2 and self.neighbors:
            neighbor = chance.choice(list(self.neighbors.values()))
            neighbor.wire += neighbor.out.messages(2) if neighbor.reads else []

    def updates(self, limit: int = 100) -> list[Update]:
        self.run(limit)
        return self.neighbors["n"].updates()

    def change(self, changes: Mapping[bytes, Selection | None]) -> None:
        for key, item in changes.items():
            before = self.table.pop(key, None)
            if item is not None:
                self.table[key] = item
            self.groups.follow(V4, [Change(before, item, [key])])

    def after(self, changes: Mapping[bytes, Selection | None]) -> list[Update]:
        self.change(changes)
        return self.updates()
