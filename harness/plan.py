"""The plan: what a lab is made of, as pure data.

Nodes, links, addresses and the configuration of every daemon, with no trace of how they come to life. A plan is compiled
from cloud resources (``harness.cloud``) and built by ``harness.lab``; it survives a trip through JSON unchanged, so that it
can be stored beside a report, compared (:func:`diff`) and built again elsewhere.

This module does no I/O. Addresses are strings in their usual text form ("10.0.0.1/24"),
checked for syntax when the plan is made; times are seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from harness.impairment import CLEAR, Given, Impairment, changed


class PlanError(ValueError):
    """A plan contradicts itself: the text names the object, the rule and the remedy."""


class Role(StrEnum):
    """What a node stands for in the document's drawing."""

    CLIENT = "client"
    SWITCH = "switch"
    ROUTER = "router"
    DEVICE = "device"
    INTERNET = "internet"
    VPN = "vpn-connection"
    TRANSIT_ROUTER = "transit-router"
    VPC = "vpc"
    ECS = "ecs"
    VBR = "vbr"
    VPN_GATEWAY = "vpn-gateway"
    TUNNEL_HUB = "tunnel-hub"


@dataclass(frozen=True, slots=True)
class Route:
    """A static kernel route. ``onlink`` means the gateway is reached on ``device`` though no prefix covers it.

    ``table`` is the number of a :class:`RoutingTable` of the node (None: the main one). ``unreachable`` answers with an ICMP error.
    """

    prefix: str
    gateway: str | None = None
    device: str | None = None
    onlink: bool = False
    metric: int | None = None
    source: str | None = None
    local: bool = False
    table: int | None = None
    unreachable: bool = False

    def __post_init__(self) -> None:
        ipaddress.ip_network(self.prefix)
        if self.gateway is not None:
            ipaddress.ip_address(self.gateway)
        if self.gateway is None and self.device is None and not self.unreachable:
            raise PlanError(f"route {self.prefix}: neither gateway nor device is given; name at least one")


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """A kernel table beside the main one: packets that come in by ``interfaces``, or are from ``sources``, look here first."""

    name: str
    number: int
    interfaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1000 <= self.number < 2000:
            raise PlanError(f"routing table {self.name}: number {self.number} is not in 1000 to 1999; choose one there")


@dataclass(frozen=True, slots=True)
class Rule:
    """One term of a BGP policy. All the given conditions must hold; an empty term matches every route.

    ``prefixes`` entries are "10.0.0.0/8", or with bounds "10.0.0.0/8 ge 16 le 24". ``forget_as_path`` empties the AS path, and loop
    detection with it.
    """

    action: Literal["permit", "deny"]
    prefixes: tuple[str, ...] = ()
    communities: tuple[str, ...] = ()
    local: bool | None = None
    add_communities: tuple[str, ...] = ()
    remove_communities: tuple[str, ...] = ()
    local_pref: int | None = None
    med: int | None = None
    forget_as_path: bool = False
    prepend: int = 0


@dataclass(frozen=True, slots=True)
class Bfd:
    """BFD beside a BGP session (VBR-12, RFC 5880). ``hop_count`` 1 is a direct line; ``interval_ms`` counts both ways."""

    hop_count: int = 255
    interval_ms: int = 300
    multiplier: int = 3


@dataclass(frozen=True, slots=True)
class MaximumPrefixes:
    """Most routes taken from a neighbour in each address family (RFC 4271 6.7); ``restart``: seconds after a teardown."""

    limit: int
    action: Literal["warn", "drop", "teardown"] = "teardown"
    restart: float | None = None


@dataclass(frozen=True, slots=True)
class GracefulRestart:
    """Routes kept over a restart of either side (RFC 4724, RFC 8538); times in seconds."""

    mode: Literal["full", "helper"] = "full"
    restart_time: int = 120
    stale_time: float = 360
    notification: bool = True


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A BGP neighbour of a node's speaker. ``import_`` and ``export`` end with an implicit permit.

    ``fall_over`` ends the session with the route to the neighbour, so that a tunnel's end is a session's end. ``local_asn`` is the
    ASN shown to this neighbour alone.
    """

    name: str
    address: str
    remote_asn: int
    local_address: str | None = None
    local_asn: int | None = None
    ebgp_multihop: int | None = None
    fall_over: bool = False
    bfd: Bfd | None = None
    next_hop_self: bool = False
    add_path: Literal["none", "send", "receive", "both"] = "none"
    passive: bool = False
    key: str | None = field(default=None, repr=False)
    hold_time: int | None = None
    maximum_prefixes: MaximumPrefixes | None = None
    graceful_restart: GracefulRestart | None = None
    import_: tuple[Rule, ...] = ()
    export: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class NexthopGroups:
    """How the speaker writes multipath routes: next-hop groups of the kernel (``Documentation/networking/nexthop-group-resilient``).

    A resilient group keeps surviving flows on their path; ``idle_timer`` and ``unbalanced_timer`` say when flows may move home.
    """

    kind: Literal["resilient", "plain"] = "resilient"
    buckets: int = 96
    idle_timer: float = 0.0
    unbalanced_timer: float = 0.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """The BGP speaker of a node (RFC 4271). Times in seconds; None leaves the RFC's default."""

    asn: int
    router_id: str
    neighbors: tuple[Neighbor, ...] = ()
    networks: tuple[str, ...] = ()
    hold_time: int = 90
    connect_retry_time: int = 120
    idle_hold_time: float = 1.0
    multipath: int = 1
    multipath_ibgp: int = 1
    profile: Literal["document", "rfc4271"] = "document"
    groups: NexthopGroups = NexthopGroups()

    @property
    def keeps_forwarding(self) -> bool:
        """Whether the kernel keeps the routes of a killed speaker for the next one (RFC 4724)."""
        return any(n.graceful_restart is not None and n.graceful_restart.mode == "full" for n in self.neighbors)


@dataclass(frozen=True, slots=True)
class Ike:
    """IKEv2 values in the document's words (ECMP-6)."""

    encryption: str = "aes"
    integrity: str = "sha1"
    prf: str = "sha1"
    dh_group: str = "group14"
    lifetime: int = 86400


@dataclass(frozen=True, slots=True)
class Esp:
    """ESP values in the document's words (ECMP-6). ``pfs`` None: no perfect forward secrecy."""

    encryption: str = "aes"
    integrity: str = "sha1"
    pfs: str | None = "group14"
    lifetime: int = 86400


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One end of an IPsec connection: where it starts and ends, its identities, its key, its tunnel interface.

    ``initiate``: "start" negotiates at once and again without limit (ECMP-30), "traffic" when a packet enters, "none" only answers.
    ``dpd_delay`` and ``retransmit_timeout``/``tries`` are the lab's own: no document gives them. ``ike_offers`` and ``esp_offers`` are
    accepted besides ``ike`` and ``esp``. ``peer_key`` is the key that the peer has to prove where it is not ``key``, as on a device
    that has two. ``routes`` are static: these blocks go into the tunnel while it is up.
    """

    name: str
    local: str
    remote: str
    local_id: str
    remote_id: str
    key: str = field(repr=False)
    interface: str
    address: str
    initiate: Literal["start", "traffic", "none"]
    ike: Ike = Ike()
    esp: Esp = Esp()
    mtu: int = 1400
    dpd_delay: float = 30.0
    retransmit_timeout: float = 4.0
    retransmit_tries: int = 5
    ike_offers: tuple[Ike, ...] = ()
    esp_offers: tuple[Esp, ...] = ()
    peer_key: str | None = field(default=None, repr=False)
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FilterRule:
    """What a packet filter does with new connections from ``source``, first match first. ``label`` says whose rule it is."""

    action: Literal["accept", "drop"]
    source: str
    protocol: Literal["all", "tcp", "udp", "icmp", "gre"] = "all"
    ports: tuple[int, ...] = ()
    label: str = ""

    def __post_init__(self) -> None:
        ipaddress.ip_network(self.source)
        if self.ports and (len(self.ports) != 2 or self.protocol not in ("tcp", "udp")):
            raise PlanError(f"filter rule {self.label}: ports {self.ports} of {self.protocol}; give two, of tcp or udp")


@dataclass(frozen=True, slots=True)
class PacketFilter:
    """What a node lets in: answers to what it began itself, what a rule accepts, nothing else. ``name`` is whose filter it is."""

    name: str
    rules: tuple[FilterRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A network namespace and what runs in it. ``label`` is the document's name, ``group`` the box it is drawn in."""

    name: str
    role: Role
    label: str = ""
    group: str = ""
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    forwarding: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    speaker: Speaker | None = None
    tunnel: Tunnel | None = None
    tables: tuple[RoutingTable, ...] = ()
    filter: PacketFilter | None = None


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link: the interface as the node sees it.

    ``shared``: other nodes may have the same addresses, as those do that together stand for one device. ``impairment`` is of what
    leaves by this end.
    """

    node: str
    interface: str
    addresses: tuple[str, ...] = ()
    mtu: int | None = None
    shared: bool = False
    impairment: Impairment = CLEAR


@dataclass(frozen=True, slots=True)
class Link:
    """A cable between two nodes. ``name`` is the document's word for it ("Inter-region-connection")."""

    a: End
    b: End
    name: str = ""

    def ends(self) -> tuple[End, End]:
        return (self.a, self.b)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole lab. Iteration order of ``nodes`` is the order they are drawn and built in."""

    name: str
    title: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    spec: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise PlanError(f"plan {self.name}: no node {name!r}; there are {', '.join(n.name for n in self.nodes)}")

    def interfaces(self, node: str) -> Iterator[tuple[End, Link]]:
        """The interfaces of ``node`` in the order of the links, each with its link."""
        for link in self.links:
            for end in link.ends():
                if end.node == node:
                    yield end, link

    def peer_of(self, node: str, interface: str) -> End:
        """The other end of the cable in ``interface`` of ``node``."""
        for link in self.links:
            for end, other in (link.ends(), link.ends()[::-1]):
                if (end.node, end.interface) == (node, interface):
                    return other
        raise PlanError(f"plan {self.name}: {node} has no interface {interface!r}")

    def impaired(self, a: str, b: str, *, one_way: bool = False, **given: Given | None) -> Plan:
        """This plan with the links between two nodes changed: ``plan.impaired("gw1", "internet", delay="40ms", loss=1)``.

        Both directions, or what ``a`` sends; values as of :func:`harness.impairment.changed`. Raises PlanError where no link is,
        ImpairmentError for a value.
        """
        sends = {(self[a].name, self[b].name)} | (set() if one_way else {(b, a)})
        if not any({link.a.node, link.b.node} == {a, b} for link in self.links):
            there = dict.fromkeys(self.peer_of(a, end.interface).node for end, _ in self.interfaces(a))
            raise PlanError(
                f"plan {self.name}: no link between {a} and {b}; {a} has links to {', '.join(there) or 'none'}"
            )

        def made(end: End, other: End) -> End:
            changes = (end.node, other.node) in sends
            return dataclasses.replace(end, impairment=changed(end.impairment, given)) if changes else end

        links = tuple(dataclasses.replace(each, a=made(each.a, each.b), b=made(each.b, each.a)) for each in self.links)
        return dataclasses.replace(self, links=links)

    def impaired_as(self, other: Plan) -> Plan:
        """This plan with the impairments of ``other``, where it has the same interfaces."""
        known = {(end.node, end.interface): end.impairment for link in other.links for end in link.ends()}

        def made(end: End) -> End:
            return dataclasses.replace(end, impairment=known.get((end.node, end.interface), end.impairment))

        links = tuple(dataclasses.replace(each, a=made(each.a), b=made(each.b)) for each in self.links)
        return dataclasses.replace(self, links=links)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Plan:
        """The plan that :meth:`to_json` wrote. Raises PlanError on an unknown field or a wrong shape."""
        plan = _revive(Plan, json.loads(text), "plan")
        assert isinstance(plan, Plan)
        return plan


def check(plan: Plan) -> None:
    """Refuses a plan that could not be built: doubled names, ends at no node, addresses twice, long interface names."""
    names = [n.name for n in plan.nodes]
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"plan {plan.name}: two nodes are called {name!r}; rename one")
    interfaces: set[tuple[str, str]] = set()
    owners: dict[str, str] = {}
    for link in plan.links:
        for end in link.ends():
            if end.node not in names:
                raise PlanError(
                    f"plan {plan.name}: link {link.name or end.interface!r} ends at {end.node!r}, which is no node of the plan"
                )
            if len(end.interface) > 15:
                raise PlanError(
                    f"plan {plan.name}: {end.node} {end.interface!r} is longer than the kernel's 15 characters; shorten it"
                )
            if (end.node, end.interface) in interfaces:
                raise PlanError(f"plan {plan.name}: {end.node} has two interfaces {end.interface!r}; rename one")
            interfaces.add((end.node, end.interface))
            for address in () if end.shared else end.addresses:
                host = str(ipaddress.ip_interface(address).ip)
                if host in owners and owners[host] != end.node:
                    raise PlanError(
                        f"plan {plan.name}: {host} is on {owners[host]} and on {end.node}; an address has one owner"
                    )
                owners[host] = end.node


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two plans: ``kind`` of object, its ``name``, what it was and what it shall be (None: absent)."""

    kind: Literal["node", "link"]
    name: str
    old: Node | Link | None
    new: Node | Link | None


def diff(old: Plan, new: Plan) -> list[Change]:
    """What to do to turn a lab built from ``old`` into one of ``new``: removals last to first, then additions and changes in order."""

    def keyed(plan: Plan) -> dict[tuple[Literal["node", "link"], str], Node | Link]:
        found: dict[tuple[Literal["node", "link"], str], Node | Link] = {("node", n.name): n for n in plan.nodes}
        for link in plan.links:
            found[("link", f"{link.a.node}:{link.a.interface}--{link.b.node}:{link.b.interface}")] = link
        return found

    before, after = keyed(old), keyed(new)
    gone = [Change(kind, name, was, None) for (kind, name), was in before.items() if (kind, name) not in after]
    changed = [
        Change(kind, name, before.get((kind, name)), shall)
        for (kind, name), shall in after.items()
        if before.get((kind, name)) != shall
    ]
    return gone[::-1] + changed


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Once for each class and not for each object: the annotations are text that has to be evaluated."""
    return typing.get_type_hints(kind)


def _revive(kind: Any, value: Any, where: str) -> Any:
    """Rebuilds dataclasses, tuples and enums from plain JSON values by the annotations."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _revive(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        return tuple(_revive(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Literal:
        if value not in arguments:
            raise PlanError(f"{where}: {value!r} is none of {', '.join(map(str, arguments))}")
        return value
    if origin is not None and issubclass(origin, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise PlanError(f"{where}: expected an object, found {value!r}")
        hints = _hints(kind)
        if unknown := sorted(set(value) - set(hints)):
            raise PlanError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(hints)}")
        return kind(**{name: _revive(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    return value
