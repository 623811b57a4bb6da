"""A node of a running lab in the hand of a test: commands, pings, its daemons, its kernel routes, its documented table."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.cloud.build import WIRING
from harness.cloud.security_groups import refusal
from harness.daemon import Daemon
from harness.net import packet_filter
from harness.net.namespace import Namespace
from harness.net.records import RouteInfo
from harness.net.requests import Protocol, RouteKind
from harness.net.rtnl import Rtnl
from harness.patience import stretched
from harness.plan import Node, Plan, Role
from harness.speakers import kernel_protocol
from harness.stream import NotInTime
from harness.tables import Hop, RouteTable, Usable, from_bgp, from_vpc, outside

if TYPE_CHECKING:
    from harness.lab import Lab

_PROTO_KERNEL, _PROTO_STATIC = 2, 4


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ran to its end inside a node."""

    argv: tuple[str, ...]
    status: int
    output: str

    def __bool__(self) -> bool:
        return self.status == 0


@dataclass(frozen=True, slots=True)
class Ping:
    """The result of a ping: packets out and back, round-trip times in milliseconds."""

    sent: int
    received: int
    fastest_ms: float | None
    output: str

    def __bool__(self) -> bool:
        return 0 < self.sent == self.received


class NodeHandle:
    """``lab["gw1"]``. ``mn`` is the node as Mininet sees it; ``speaker`` and ``ipsec`` exist where the plan has them."""

    def __init__(self, lab: Lab, plan: Node, mn: Any) -> None:
        self.lab, self.plan, self.mn = lab, plan, mn
        self.name = plan.name
        self.namespace: Namespace = mn.namespace
        self.rtnl: Rtnl = mn.rtnl
        self.daemons: dict[str, Daemon] = {}

    def __repr__(self) -> str:
        return f"<{self.name}: {self.plan.label or self.plan.role}>"

    @property
    def speaker(self) -> Daemon:
        return self._daemon("bgp", "BGP speaker")

    @property
    def ipsec(self) -> Daemon:
        return self._daemon("ipsec", "IPsec tunnel")

    def _daemon(self, kind: str, words: str) -> Daemon:
        if kind not in self.daemons:
            raise LookupError(f"{self.name} has no {words}; the plan gives it {', '.join(self.daemons) or 'no daemon'}")
        return self.daemons[kind]

    async def run(self, *argv: str, within: float = 10.0) -> Finished:
        """Runs a command inside and waits for its end. Raises TimeoutError after ``within`` seconds, the command killed."""
        try:
            process = self.namespace.popen(list(argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.name}: {argv[0]} is not installed; vbrlab doctor says what labs need"
            ) from error
        try:
            output, _ = await asyncio.to_thread(process.communicate, timeout=stretched(within))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise TimeoutError(f"{self.name}: {' '.join(argv)}: not done within {within} s") from None
        return Finished(argv, process.returncode, output)

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Sends a signal to a process of this lab, as its daemons name it."""
        os.kill(pid, number)

    async def ping(
        self,
        to: str,
        *,
        count: int = 1,
        source: str | None = None,
        size: int | None = None,
        fragment: bool = True,
        within: float = 2.0,
    ) -> Ping:
        """Pings an address; ``within`` bounds each answer. ``size`` is the ICMP payload, ``fragment=False`` sets DF."""
        argv = ["ping", "-n", "-q", "-i", "0.02", "-c", str(count), "-W", f"{stretched(within):g}", to]
        argv[1:1] = ["-I", source] if source else []
        argv[1:1] = ["-s", str(size)] if size is not None else []
        argv[1:1] = [] if fragment else ["-M", "do"]
        done = await self.run(*argv, within=within + 0.05 * count + 5)
        counts = re.search(r"(\d+) packets transmitted, (\d+) received", done.output)
        times = re.search(r"= ([\d.]+)/", done.output)
        sent, received = (int(counts[1]), int(counts[2])) if counts else (count, 0)
        return Ping(sent, received, float(times[1]) if times else None, done.output)

    async def reaches(self, to: str, *, source: str | None = None, within: float = 5.0) -> bool:
        """Pings an address until it answers: at once, then whenever something changes. Raises NotInTime.

        For ways that must come: a session that is Established says nothing yet of the routes beyond it.
        """

        async def answered() -> Ping:
            return await self.ping(to, source=source, within=0.5)

        return bool(await self.lab.until(answered, within=within, what=f"{self.name} reaches {to}"))

    async def refusals(self, source: str | None = None) -> list[str]:
        """What this instance's security groups have refused, from ``source`` or from anybody, each with rule and remedy (ECMP-42).

        Counted by the kernel since the groups were last changed.
        """
        if self.plan.filter is None:
            return []
        rows = await asyncio.to_thread(packet_filter.refused, self.namespace)
        told = [
            refusal(self.plan, row.source, row.protocol, row.port, row.packets)
            for row in rows
            if source in (None, row.source)
        ]
        return [line for line in told if line is not None]

    def has_sysctl(self, key: str) -> bool:
        """Does the kernel know this sysctl in the node's namespace?"""
        try:
            self.namespace.read_sysctl(key)
        except FileNotFoundError:
            return False
        return True

    def kernel_routes(self, protocol: int | None = Protocol.BGP, family: int = socket.AF_INET) -> list[RouteInfo]:
        """The kernel's routes of one protocol (None: of all) and one family in the main table.

        BGP's are those of the daemon that runs here, whatever it marks them with. Raises NotSuited where it writes none.
        """
        if protocol == Protocol.BGP and (stand_in := self.lab.stand_ins.get(self.name)) is not None:
            protocol = kernel_protocol(self.name, stand_in)
        return self.rtnl.routes(protocol=protocol, family=family)

    async def learned(self, prefix: str, *, within: float, since: float | None = None) -> None:
        """Returns once the kernel has a BGP route to exactly ``prefix``. Raises NotInTime."""

        def there() -> bool:
            return any(str(route.prefix) == prefix for route in self.kernel_routes())

        await self.lab.until(there, within=within, since=since, what=f"{self.name} has a BGP route to {prefix}")

    def interface_names(self) -> Mapping[int, str]:
        return {link.ifindex: link.name for link in self.rtnl.links()}

    def kernel_hops(self, protocol: int | None = Protocol.BGP) -> list[Hop]:
        """The kernel's routes hop by hop, interfaces by name; a hop of no gateway has "" for it. IPv6 too, where the node's BGP has it."""
        names = self.interface_names()
        speaker = self.plan.speaker
        ipv6 = speaker is not None and any(":" in neighbor.address for neighbor in speaker.neighbors)
        families = (socket.AF_INET, socket.AF_INET6) if ipv6 else (socket.AF_INET,)
        return [
            Hop(str(route.prefix), str(hop.gateway or ""), names.get(hop.ifindex or 0, "?"))
            for family in families
            for route in self.kernel_routes(protocol, family)
            if not route.dead
            for hop in route.gateways
        ]

    async def route_table(
        self, like: RouteTable | None = None, within: float = 0.0, since: float | None = None
    ) -> RouteTable:
        """The node's route table as the document prints it for its kind of node.

        With ``like`` it is read again at every event until it equals that table or ``within`` seconds are over; the last reading is
        returned either way, for the test to compare, and both tables go into the report.
        """
        last = RouteTable("never read", ("Destination CIDR block",), ())

        async def matches() -> bool:
            nonlocal last
            last = await self._read_table()
            return like is None or last == like

        with contextlib.suppress(NotInTime):
            await self.lab.until(matches, within=within, since=since)
        last.title = like.title if like is not None else last.title
        if like is not None:
            self.lab.record_table(self.name, last, like)
        return last

    async def _read_table(self) -> RouteTable:
        readers: Mapping[Role, Callable[[], Any]] = {
            Role.TRANSIT_ROUTER: self._transit_router_table,
            Role.VPC: self._vpc_table,
            Role.VPN: self._connection_table,
            Role.VBR: self._vbr_table,
            Role.DEVICE: self._device_table,
            Role.VPN_GATEWAY: self._gateway_table,
        }
        if self.plan.role not in readers:
            raise LookupError(f"{self.name}: no document prints a table for a {self.plan.role}; see kernel_routes()")
        table: RouteTable = await readers[self.plan.role]()
        return table

    async def usable_paths(self) -> list[Usable]:
        """What the speaker uses: the best path of each prefix and its multipaths, with the kernel hop each must have become."""
        routes, next_hops = await asyncio.gather(
            self.speaker.call("show.routes", table="loc"), self.speaker.call("show.nexthops")
        )
        ways = {row["next_hop"]: row["resolved"]["ways"][0] for row in next_hops if row["resolved"]}
        return [
            Usable(route["prefix"], path["peer"], way["gateway"] or "", way["interface"])
            for route in routes
            for path in route["paths"]
            if (path["best"] or path["multipath"]) and (way := ways.get(path["next_hop"])) is not None
        ]

    async def _transit_router_table(self) -> RouteTable:
        columns = ("Destination CIDR block", "Next hop", "Route type")
        words = self.lab.console_names(self.name)
        return from_bgp(
            f"Route table of {self.plan.label}",
            columns,
            await self.usable_paths(),
            self.kernel_hops(),
            lambda path: (path.prefix, words.get(path.peer, path.peer), "Auto-learned"),
        )

    async def _vpc_table(self) -> RouteTable:
        columns = ("Destination CIDR block", "Next hop", "Route type")
        connected = [
            str(route.prefix)
            for route in self.kernel_routes(_PROTO_KERNEL)
            if outside(str(route.prefix), WIRING) and route.prefix.prefixlen < 32
        ]
        by_bgp = self.kernel_hops()
        custom = [hop for hop in self.kernel_hops(None) if hop.gateway and hop not in by_bgp]
        interfaces = {
            end.interface: console_name(link.name) for end, link in self.lab.plan.interfaces(self.name) if link.name
        }
        title = f"System route table of {self.plan.label}"
        learned = from_bgp(
            title,
            columns,
            await self.usable_paths(),
            by_bgp,
            lambda path: (path.prefix, path.peer.removesuffix(" IPv6"), "Auto-learned"),
        )
        return RouteTable(
            title, columns, (*from_vpc(title, columns, connected, custom, interfaces).rows, *learned.rows)
        )

    async def _connection_table(self) -> RouteTable:
        sides = self.lab.roles_of_neighbors(self.name)
        words = {True: "Learned from the data centre side", False: "Learned from the Alibaba Cloud side"}
        return from_bgp(
            f"BGP route table of {self.plan.label}",
            ("Destination CIDR block", "Source"),
            await self.usable_paths(),
            self.kernel_hops(),
            lambda path: (path.prefix, words[sides[path.peer] is Role.DEVICE]),
        )

    async def _vbr_table(self) -> RouteTable:
        sides = self.lab.roles_of_neighbors(self.name)
        words = {True: "Learned from the data centre side", False: "Learned from the Alibaba Cloud side"}
        title, columns = f"Route table of {self.plan.label}", ("Destination CIDR block", "Next hop", "Source")
        learned = from_bgp(
            title,
            columns,
            await self.usable_paths(),
            self.kernel_hops(),
            lambda path: (path.prefix, path.peer, words[sides[path.peer] is Role.ROUTER]),
        )
        to_vpc = [
            (hop.prefix, self.lab.plan.peer_of(self.name, hop.interface).node, "Connection to the VPC")
            for hop in self.kernel_hops(Protocol.STATIC)
        ]
        return RouteTable(title, columns, (*to_vpc, *learned.rows))

    async def _gateway_table(self) -> RouteTable:
        sides = self.lab.roles_of_neighbors(self.name)
        words = {True: "Learned from the VPC", False: "Learned from the data centre side"}
        return from_bgp(
            f"BGP route table of {self.plan.label}",
            ("Destination CIDR block", "Source"),
            await self.usable_paths(),
            self.kernel_hops(),
            lambda path: (path.prefix, words[sides[path.peer] is Role.VPC]),
        )

    def custom_table(self, name: str) -> RouteTable:
        """A custom route table of a VPC (:class:`harness.plan.RoutingTable`), as the console prints one."""
        number = next(table.number for table in self.plan.tables if table.name == name)
        names = self.interface_names()
        links = {e.interface: console_name(link.name) for e, link in self.lab.plan.interfaces(self.name) if link.name}
        rows = []
        for route in self.rtnl.routes(table=number, family=socket.AF_INET):
            for hop in route.gateways if route.kind == RouteKind.UNICAST else ():
                interface = names.get(hop.ifindex or 0, "?")
                local = hop.gateway is None
                rows.append(
                    (
                        str(route.prefix),
                        "Local" if local else links.get(interface, interface),
                        "System" if local else "Custom",
                    )
                )
        return RouteTable(
            f"Route table {name} of {self.plan.label}", ("Destination CIDR block", "Next hop", "Route type"), rows
        )

    async def _device_table(self) -> RouteTable:
        return from_bgp(
            f"Cloud routes learned by {self.plan.label}",
            ("Destination CIDR block", "Next hop"),
            await self.usable_paths(),
            self.kernel_hops(),
            lambda path: (path.prefix, path.peer),
        )


def console_name(link: str) -> str:
    """How a route table of the console names a next hop: from the name its resource was created with."""
    numbered = re.fullmatch(r"IPsec-VPN Connection (\d+)", link)
    if numbered:
        return f"VPN connection {numbered[1]} (IPsec connection {numbered[1]})"
    return {"VPC-connection": "VPC connection", "Inter-region-connection": "Inter-region connection"}.get(link, link)


def roles_of_neighbors(plan: Plan, node: str) -> dict[str, Role]:
    """What stands at the other end of each BGP session of a node, by the neighbour's name."""
    owners = dict(addresses_of(plan))
    speaker = plan[node].speaker
    neighbors = speaker.neighbors if speaker is not None else ()
    return {neighbor.name: plan[owners[neighbor.address]].role for neighbor in neighbors if neighbor.address in owners}


def addresses_of(plan: Plan) -> Iterable[tuple[str, str]]:
    """Every address of a plan with the node that has it."""
    for link in plan.links:
        for end in link.ends():
            for address in end.addresses:
                yield address.partition("/")[0], end.node
    for node in plan.nodes:
        for address in (*node.addresses, *([node.tunnel.address] if node.tunnel else [])):
            yield address.partition("/")[0], node.name
