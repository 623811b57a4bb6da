"""The simulated network: the clock, links, and nodes that are the speaker's ``ports``.

A node runs one speaker as its daemon would: what arrives is handed over one at a time, in the order of each connection; the order between
connections, timers and postponed work is nobody's promise and is drawn from the seed. A node can be frozen (a process that gets no CPU, a
virtual machine that is moved), its clock can jump ahead, its speaker can be stopped or killed, and its power can be cut.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, ip_address
from typing import Any

from harness.bgp import signals
from harness.bgp.config import Neighbor, parse_config
from harness.bgp.errors import ErrorCode
from harness.bgp.nexthop import Resolved
from harness.bgp.prefixes import Family
from harness.bgp.speaker import Speaker
from harness.control import EventLog
from harness.net.fib import Fib, Way
from tests.simulation import tcp, wire
from tests.simulation.agenda import Due

BUSY = 0.02
"""Seconds that a node's clock may be ahead of what the world has seen of it."""
_FAULTS = frozenset(ErrorCode) - {ErrorCode.HOLD_TIMER_EXPIRED, ErrorCode.CEASE}
_MAPPED = bytes(10) + b"\xff\xff"


class World:
    """The clock, the agenda, the nodes and links.

    ``trace``: a list takes one line for each thing that happens. ``complaints``: errors that a speaker found in another's messages.
    """

    def __init__(self, seed: int, *, trace: list[str] | None = None) -> None:
        self.time = 1000.0
        self.random = random.Random(f"network {seed}")
        self.trace = trace
        self.nodes: dict[str, Node] = {}
        self.links: list[Link] = []
        self.owners: dict[str, tuple[Node, Link]] = {}
        self.delay, self.spread = 0.0005, 0.005
        self.cuts_octets = False
        self.toll = 0.0
        self.under_way = 0
        self.complaints: list[str] = []
        self._agenda: list[tuple[float, int, Due]] = []
        self._numbers = itertools.count()

    def at(self, when: float, call: Callable[[], None]) -> Due:
        """Something of the network, which has to happen before all is quiet."""

        def counted() -> None:
            self.under_way -= 1
            call()

        self.under_way += 1
        due = Due(counted)
        self.put(when, due)
        return due

    def put(self, when: float, due: Due) -> None:
        heapq.heappush(self._agenda, (max(when, self.time), next(self._numbers), due))

    def latency(self) -> float:
        return self.delay + self.random.random() * self.spread

    def pieces(self, data: bytes) -> list[bytes]:
        """How octets are cut on the way."""
        if not self.cuts_octets or len(data) < 2:
            return [data]
        cuts = sorted({0, len(data), *(self.random.randrange(len(data)) for _ in range(self.random.randrange(3)))})
        return [data[a:b] for a, b in itertools.pairwise(cuts)]

    def run(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """Lets time pass to ``until``, or until nothing is under way and ``done()`` holds, which it returns."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= until:
            self._next()
            if done is not None and not self.under_way and done():
                return True
        self.time = max(self.time, until)
        return done is not None and done()

    def routes_changed(self) -> None:
        """Carriers came or went: each kernel notices in its own time, the routers of an AS from one another."""
        for node in self.nodes.values():
            self.at(self.time + self.latency(), node.look)

    def run_to(self, until: float, happened: Callable[[], bool]) -> bool:
        """Lets time pass until ``happened()``, which it returns, and to ``until`` at the latest."""
        while not happened():
            if not self._agenda or self._agenda[0][0] > until:
                self.time = max(self.time, until)
                return happened()
            self._next()
        return True

    def _next(self) -> None:
        when, _, due = heapq.heappop(self._agenda)
        if due.call is not None:
            self.time = when
            call, due.call = due.call, None
            call()

    def tell(self, node: str, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.time - 1000.0:12.6f} {node:3} {text}")


class Link:
    """A cable between two nodes. ``carrier``: both see it; ``passes``: what is sent arrives; ``refuses``: dials are."""

    def __init__(self, world: World, one: Node, other: Node, number: int) -> None:
        self.world = world
        self.nodes = (one, other)
        self.addresses = {one.name: f"10.{number}.0.1", other.name: f"10.{number}.0.2"}
        self.carrier = self.passes = True
        self.refuses = False
        self.ends: list[tcp.End] = []
        world.links.append(self)
        for node in self.nodes:
            world.owners[self.addresses[node.name]] = (node, self)
            node.links.append(self)

    def address(self, node: Node) -> str:
        return self.addresses[node.name]

    def far(self, node: Node) -> Node:
        return self.nodes[1] if node is self.nodes[0] else self.nodes[0]

    def set(self, *, carrier: bool, passes: bool) -> None:
        """The cable is cut or mended; without its carrier nothing passes."""
        changed = carrier is not self.carrier
        self.carrier, self.passes = carrier, passes and carrier
        if changed:
            self.world.routes_changed()
        if self.passes:
            self.retransmit()

    def retransmit(self) -> None:
        self.ends = [end for end in self.ends if end.waiting or end.held]
        for end in self.ends:
            end.retransmit()


class Node:
    """A router: its kernel, its clock, and while it runs its speaker."""

    def __init__(self, world: World, name: str, asn: int) -> None:
        self.world = world
        self.name = name
        self.asn = asn
        self.speaker: Speaker | None = None
        self.config: dict[str, Any] = {}
        self.links: list[Link] = []
        self.costs: dict[str, int] = {}
        self.ends: dict[tuple[str, int], tcp.End] = {}
        self.timers: dict[Due, None] = {}
        self.generation = 0
        self.is_off = False
        self.frozen = False
        self.kernel = NodeKernel(self)
        self.listeners: list[Callable[[dict[str, Any]], object]] = []
        self._deferred: list[tuple[object, int, Callable[[], None]]] = []
        self._keeps_routes = False
        self._ahead = 0.0
        self._now = 0.0
        world.nodes[name] = self

    # -------------------------------------------------------------------------------------------------------------- the daemon

    def start(self) -> None:
        """The daemon starts, with the configuration as it is now."""
        self.is_off = False
        config = parse_config(self.config)
        assert config.router_id is not None
        self.generation += 1
        self.kernel.look()
        log = EventLog(16)
        log.listen(self._told)
        self.speaker = Speaker(
            config, IPv4Address(config.router_id), self, self.kernel, log, restarted=self._keeps_routes
        )
        self._keeps_routes = False
        self.world.tell(self.name, "the speaker starts")
        self.speaker.start()
        for link in self.links:
            link.retransmit()

    def stop(self) -> None:
        """The daemon ends in good order: it says goodbye, and its kernel closes what is left."""
        if self.speaker is not None:
            self.world.tell(self.name, "the speaker stops")
            self.speaker.stop()
            for end in list(self.ends.values()):
                end.close()
            self._gone()

    def kill(self, *, power: bool) -> None:
        """The daemon is killed and its kernel closes the sockets; or with ``power`` the node dies and nobody closes anything."""
        if self.speaker is None:
            return
        self.world.tell(self.name, "loses power" if power else "the speaker is killed")
        for end in list(self.ends.values()):
            if power:
                end.vanish()
            else:
                end.close()
        self.is_off = power
        # The kernel of a node whose speaker was killed goes on forwarding (RFC 4724).
        self._keeps_routes = not power
        self._gone()

    def _gone(self) -> None:
        self.speaker = None
        self.generation += 1
        self.ends.clear()
        for timer in list(self.timers):
            timer.cancel()

    def _told(self, event: dict[str, Any]) -> None:
        for listener in self.listeners:
            listener(event)
        if event["type"] == "update.error" or (event["type"] == "notification" and event["code"] in _FAULTS):
            said = event.get("errors") or f"{event['direction']} {event['name']}"
            self.world.complaints.append(f"{self.name} -> {event['peer']}: {said}")
        if self.world.trace is not None:
            fields = {k: v for k, v in event.items() if k not in ("seq", "time", "type") and v is not None}
            self.world.tell(self.name, f"  {event['type']} {fields}")

    # ------------------------------------------------------------------------------------------------------- one thing at a time

    def do(self, stream: object, call: Callable[[], None]) -> None:
        """Hands something to the daemon now, or when it thaws: then in the order of its stream, between streams in any order."""
        if self.speaker is None:
            return
        if self.frozen:
            self._deferred.append((stream, self.generation, call))
        else:
            call()

    def freeze(self) -> None:
        if self.speaker is not None:
            self.world.tell(self.name, "freezes")
            self.frozen = True

    def thaw(self) -> None:
        """All that came meanwhile is there at once."""
        if not self.frozen:
            return
        self.world.tell(self.name, "thaws")
        self.frozen = False
        streams: dict[int, deque[tuple[object, int, Callable[[], None]]]] = {}
        for item in self._deferred:
            streams.setdefault(id(item[0]), deque()).append(item)
        self._deferred = []
        queues = list(streams.values())
        while queues:
            queue = self.world.random.choice(queues)
            _, generation, call = queue.popleft()
            if not queue:
                queues.remove(queue)
            if generation == self.generation:
                call()

    def feed(self, neighbor: str, signal: signals.Input) -> None:
        """As ``daemon.LoopShell``: by the neighbour's name."""
        assert self.speaker is not None
        if self.world.trace is not None:
            self.world.tell(self.name, f"{neighbor}: {_signal_text(signal)}")
        if (adjacency := self.speaker.adjacencies.get(neighbor)) is not None:
            adjacency.feed(signal)
        elif isinstance(signal, signals.Connected):
            self.close(neighbor, signal.conn)

    def accept(self, address: str) -> tuple[str, int] | None:
        """As ``daemon.LoopShell``: whose connection this is."""
        assert self.speaker is not None
        for adjacency in self.speaker.adjacencies.values():
            if adjacency.config.address == address and not adjacency.config.shutdown:
                return adjacency.name, adjacency.peer.connection_id()
        return None

    def drained(self, end: tcp.End) -> None:
        """A connection takes octets again."""

        def wake() -> None:
            if self.speaker is not None and end.held:
                self.speaker.wake()

        self.do(end, wake)

    def look(self) -> None:
        """The kernel's links may have changed."""

        def noticed() -> None:
            changed = self.kernel.look()
            if changed and self.speaker is not None:
                self.world.tell(self.name, "next hops changed")
                self.speaker.next_hops_changed(changed)

        self.do(self.kernel, noticed)

    def jump(self, seconds: float) -> None:
        """The clock is ahead by that much from now on, and so are its timers."""
        self.world.tell(self.name, f"the clock jumps by {seconds:.3f} s")
        self._ahead += seconds
        for timer in self.timers:
            self.world.put(timer.when - self._ahead, timer)

    # ------------------------------------------------------------------------------------------------------------ ports.Shell

    def now(self) -> float:
        """Each look costs a toll, so that slices end; however much there is to do, the node is never busy for longer than BUSY."""
        time = self.world.time + self._ahead
        self._now = min(max(self._now, time) + self.world.toll, time + BUSY)
        return self._now

    def call_at(self, when: float, call: Callable[[], None]) -> Due:
        generation = self.generation

        def fire() -> None:
            self.timers.pop(due, None)
            if generation == self.generation:
                self.do(due, lambda: None if due.cancelled else call())

        due = Due(fire, self, when)
        self.timers[due] = None
        self.world.put(when - self._ahead, due)
        return due

    def call_soon(self, call: Callable[[], None]) -> Due:
        generation = self.generation

        def soon() -> None:
            if generation == self.generation:
                self.do(self, call)

        return self.world.at(self.world.time + self.world.random.random() * self.world.spread * 0.2, soon)

    def dial(self, neighbor: Neighbor, conn: int) -> None:
        far, link = self.world.owners[neighbor.address]
        end = tcp.End(self, neighbor.name, conn, link)
        self.ends[neighbor.name, conn] = end
        tcp.dial(end, far)

    def write(self, name: str, conn: int, data: bytes) -> None:
        if (end := self.ends.get((name, conn))) is not None:
            if end.link.far(self).asn != self.asn and (internal := wire.internal_attributes(data)):
                self.world.complaints.append(f"{self.name} -> {name}: attributes {internal} leave the AS")
            if self.world.trace is not None:
                self.world.tell(self.name, f"{name}: writes on {conn}: {wire.text(data)}")
            end.send(bytes(data))

    def close(self, name: str, conn: int) -> None:
        if (end := self.ends.get((name, conn))) is not None:
            self.world.tell(self.name, f"{name}: closes {conn}")
            end.close()

    def is_writable(self, name: str, conn: int) -> bool:
        end = self.ends.get((name, conn))
        return end is not None and end.window < tcp.WINDOW

    def taken(self, name: str, conn: int) -> tuple[int, int] | None:  # noqa: ARG002
        return None

    def neighbors_changed(self, neighbors: Mapping[str, Neighbor]) -> None:
        pass


class NodeKernel:
    """``ports.Kernel``: connected next hops, and within an AS those of its other routers at the interior cost to them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._costs: dict[str, int] = {}
        self.fibs: dict[Family, Fib] = {}

    def look(self) -> frozenset[bytes]:
        """Takes a new picture of the links. Returns the next hops whose answer it changes."""
        before, self._costs = self._costs, reachable(self._node)
        changed = {address for address, _ in before.items() ^ self._costs.items()}
        return frozenset(octets for a in changed for octets in (ip_address(a).packed, _MAPPED + ip_address(a).packed))

    def cost(self, next_hop: bytes) -> int | None:
        return self._costs.get(str(IPv4Address(next_hop[-4:])))

    def resolve(self, next_hop: bytes) -> Resolved | None:
        cost = self.cost(next_hop)
        return None if cost is None else Resolved((Way(next_hop, 1),), cost, "link")

    def is_own(self, address: bytes) -> bool:
        node = self._node
        return str(IPv4Address(address[-4:])) in [link.address(node) for link in node.links]

    def shares_subnet(self, address: bytes) -> bool:  # noqa: ARG002
        return True  # every neighbour names itself as next hop

    def link_to(self, address: str) -> int | None:
        return None if self.resolve(ip_address(address).packed) is None else 1

    def own_next_hop(self, local: bytes, ifindex: int, version: int) -> bytes:  # noqa: ARG002
        return local

    def has_route(self, prefix: bytes, version: int) -> bool:  # noqa: ARG002
        return False

    def interface(self, ifindex: int) -> str:
        return f"if{ifindex}"


def reachable(node: Node) -> dict[str, int]:
    """Address -> interior cost, for every address that ``node`` has a way to now."""
    found: dict[str, int] = {}
    for link in node.links:
        if not link.carrier:
            continue
        far = link.far(node)
        found[link.address(far)] = 0
        if far.asn == node.asn and far.name in node.costs:
            for beyond in far.links:
                if beyond.carrier and beyond.far(far) is not node:
                    address = beyond.address(beyond.far(far))
                    cost = node.costs[far.name]
                    found[address] = min(cost, found.get(address, cost))
    return found


def _signal_text(signal: signals.Input) -> str:
    match signal:
        case signals.Received(conn, data):
            return f"reads on {conn}: {wire.text(data)}"
        case _:
            return str(signal)
