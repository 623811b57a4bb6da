"""Whole speakers over links in memory, on a virtual clock: the routing half without sockets, kernel or waiting."""

from __future__ import annotations

import heapq
import ipaddress
import itertools
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from harness.bgp import signals
from harness.bgp.config import Neighbor, parse_config
from harness.bgp.nexthop import Resolved
from harness.bgp.prefixes import Family
from harness.bgp.speaker import Speaker
from harness.control import EventLog
from harness.net.fib import Fib, Way

LATENCY = 0.001


class Due:
    """A call in the world's queue."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class World:
    """Speakers by name (one letter), cables as pairs of letters, and the time."""

    def __init__(self, cables: Iterable[str]) -> None:
        self.time = 1000.0
        self.cables = {frozenset(cable) for cable in cables}
        self.shells: dict[str, MemoryShell] = {}
        self.owners: dict[str, str] = {}
        self.cut: set[frozenset[str]] = set()
        self._queue: list[tuple[float, int, Due]] = []
        self._numbers = itertools.count()

    def at(self, when: float, call: Callable[[], None]) -> Due:
        due = Due(call)
        heapq.heappush(self._queue, (max(when, self.time), next(self._numbers), due))
        return due

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.time + seconds
        while self._queue and self._queue[0][0] <= end:
            self.time, _, due = heapq.heappop(self._queue)
            if due.call is not None:
                due.call()
        self.time = end

    def speaker(self, name: str, addresses: list[str], **config: Any) -> Speaker:
        """A speaker that has ``addresses``; start it with ``start``."""
        shell = MemoryShell(self, name, addresses)
        self.shells[name] = shell
        self.owners.update(dict.fromkeys(addresses, name))
        parsed = parse_config(config)
        assert parsed.router_id is not None
        shell.speaker = Speaker(parsed, IPv4Address(parsed.router_id), shell, MemoryKernel(self, name), EventLog())
        return shell.speaker

    def reaches(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self.cables - self.cut

    def set_link(self, one: str, other: str, up: bool) -> None:
        """Cuts or mends the cable between two speakers; what is under way on a cut cable is lost, and TCP says so at once."""
        pair = frozenset((one, other))
        if up:
            self.cut.discard(pair)
            return
        self.cut.add(pair)
        for name, peer in ((one, other), (other, one)):
            for key, far in list(self.shells[name].far.items()):
                if far[0] == peer:
                    del self.shells[name].far[key]
                    self.feed(name, key[0], signals.Closed(key[1], "the cable was cut"))

    def feed(self, name: str, neighbor: str, signal: signals.Input) -> None:
        def deliver() -> None:
            speaker = self.shells[name].speaker
            assert speaker is not None
            if neighbor in speaker.adjacencies:
                speaker.adjacencies[neighbor].feed(signal)

        self.at(self.time + LATENCY, deliver)


class MemoryShell:
    """``ports.Shell`` of one speaker. ``far``: (neighbour, conn) -> (the other's name, its neighbour's name, its conn)."""

    def __init__(self, world: World, name: str, addresses: list[str]) -> None:
        self.world = world
        self.name = name
        self.addresses = addresses
        self.speaker: Speaker | None = None
        self.far: dict[tuple[str, int], tuple[str, str, int]] = {}

    def now(self) -> float:
        return self.world.time

    def call_at(self, when: float, call: Callable[[], None]) -> Due:
        return self.world.at(when, call)

    def call_soon(self, call: Callable[[], None]) -> Due:
        return self.world.at(self.world.time, call)

    def dial(self, neighbor: Neighbor, conn: int) -> None:
        world, owner = self.world, self.world.owners.get(neighbor.address)
        if owner is None or not world.reaches(self.name, owner):
            world.feed(self.name, neighbor.name, signals.ConnectFailed(conn, "no route to host"))
            return
        there = world.shells[owner].speaker
        assert there is not None
        mine = next((a for a in there.adjacencies.values() if a.config.address in self.addresses), None)
        if mine is None or mine.config.shutdown:
            world.feed(self.name, neighbor.name, signals.ConnectFailed(conn, "connection refused"))
            return
        other = mine.peer.connection_id()
        self.far[neighbor.name, conn] = (owner, mine.name, other)
        world.shells[owner].far[mine.name, other] = (self.name, neighbor.name, conn)
        world.feed(self.name, neighbor.name, signals.Connected(conn, True, mine.config.address, neighbor.address))
        world.feed(owner, mine.name, signals.Connected(other, False, neighbor.address, mine.config.address))

    def write(self, name: str, conn: int, data: bytes) -> None:
        if (far := self.far.get((name, conn))) is not None:
            self.world.feed(far[0], far[1], signals.Received(far[2], bytes(data)))

    def close(self, name: str, conn: int) -> None:
        far = self.far.pop((name, conn), None)
        if far is not None and self.world.shells[far[0]].far.pop(far[1:], None) is not None:
            self.world.feed(far[0], far[1], signals.Closed(far[2], "the other side closed"))

    def is_writable(self, name: str, conn: int) -> bool:
        return (name, conn) in self.far

    def taken(self, name: str, conn: int) -> tuple[int, int] | None:  # noqa: ARG002
        return None

    def neighbors_changed(self, neighbors: Mapping[str, Neighbor]) -> None:
        pass


class MemoryKernel:
    """``ports.Kernel`` without a kernel: every speaker's address is one hop away while its cable is whole."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self.exact_routes: set[bytes] = set()
        self.fibs: dict[Family, Fib] = {}

    def resolve(self, next_hop: bytes) -> Resolved | None:
        owner = self._world.owners.get(str(ipaddress.ip_address(next_hop)))
        if owner is None or not self._world.reaches(self._name, owner):
            return None
        return Resolved((Way(next_hop, 1),), 0, "cable")

    def cost(self, next_hop: bytes) -> int | None:
        answer = self.resolve(next_hop)
        return None if answer is None else answer.cost

    def is_own(self, address: bytes) -> bool:
        return str(ipaddress.ip_address(address)) in self._world.shells[self._name].addresses

    def shares_subnet(self, address: bytes) -> bool:
        return self.resolve(address) is not None

    def link_to(self, address: str) -> int | None:
        return None if self.resolve(ipaddress.ip_address(address).packed) is None else 1

    def own_next_hop(self, local: bytes, ifindex: int, version: int) -> bytes:  # noqa: ARG002
        return local

    def has_route(self, prefix: bytes, version: int) -> bool:  # noqa: ARG002
        return prefix in self.exact_routes

    def interface(self, ifindex: int) -> str:
        return f"if{ifindex}"
