"""From an estate of virtual border routers to a plan: one node for each VBR, data-centre router, VPC and transit router.

A circuit is one link between its VBR and its data centre; where it runs over a bridging device, two, with a bridge between them. What
a VBR learns over circuits it marks with :data:`FROM_CIRCUIT` and sends to no other data centre. Where VPC and VBR are joined directly it
has a static route to the VPC's block, as that connection sets it, and sends a data centre its own BGP networks and nothing else
(VBR-21); where CEN joins them it sends what CEN told it. Links inside the cloud use :data:`harness.cloud.build.WIRING`. A peer's route
quota becomes the speaker's limit on prefixes, its BFD a BFD session with the same hop count (1: RFC 5881, more: RFC 5883); the data
centre's end is as the data centre has it (VBR-34).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface

from harness.cloud.build import VPC_ASN, WIRING
from harness.cloud.resources import TransitRouter, Vpc
from harness.cloud.sites import attach_clients, attach_instances, bgp_identifier
from harness.cloud.vbr import (
    Circuit,
    DataCentreSide,
    Line,
    Vbr,
    VbrEstate,
    bfd_hop_count,
    circuit_of,
    default_local_asn,
    group_of,
    local_asn,
)
from harness.cloud.vbr_rules import require_valid
from harness.plan import Bfd, End, Link, MaximumPrefixes, Neighbor, Node, Plan, Role, Route, Rule, Speaker

#: IPv6 of the links inside the cloud: for benchmarks of devices, never routed (RFC 5180 8).
WIRING_IPV6 = IPv6Network("2001:2::/48")
LONGEST_INTERFACE = 15

#: Set by a VBR on what it learns over a circuit, so that it goes to no other data centre.
FROM_CIRCUIT = "45104:2"

_MULTIPATH = 8
_MARK = (Rule("permit", add_communities=(FROM_CIRCUIT,)),)
_OWN_NETWORKS = (Rule("permit", local=True), Rule("deny"))
_CENS_ROUTES = (Rule("deny", communities=(FROM_CIRCUIT,)),)
_NO_NETWORKS = (Rule("deny", local=True),)
_NOTHING = (Rule("deny"),)


@dataclass(frozen=True, slots=True)
class _Joint:
    """A link inside the cloud: two nodes with their interfaces, ASNs and addresses."""

    name: str
    nodes: tuple[str, str]
    interfaces: tuple[str, str]
    asns: tuple[int, int]
    blocks: tuple[IPv4Network | IPv6Network, ...]

    def address(self, node: str) -> str:
        """The node's IPv4 address."""
        return self._address(node, self.blocks[0])

    def _address(self, node: str, block: IPv4Network | IPv6Network) -> str:
        return str(block[1 + self.nodes.index(node)])

    def far(self, node: str) -> tuple[str, list[str]]:
        """The other end of the link, and its addresses, IPv4 first."""
        other = self.nodes[1 - self.nodes.index(node)]
        return other, [self._address(other, block) for block in self.blocks]

    def neighbors(self, node: str, export: tuple[Rule, ...]) -> Iterator[Neighbor]:
        """The sessions of ``node`` with the other end, one for each IP version."""
        name, addresses = self.far(node)
        for block, address in zip(self.blocks, addresses, strict=True):
            yield Neighbor(
                name if block.version == 4 else f"{name} IPv6",
                address,
                self.asns[self.nodes.index(name)],
                local_address=self._address(node, block),
                next_hop_self=self.asns[0] == self.asns[1],
                export=export,
            )

    def link(self) -> Link:
        near, far = (
            End(node, interface, tuple(f"{self._address(node, block)}/{block.prefixlen}" for block in self.blocks))
            for node, interface in zip(self.nodes, self.interfaces, strict=True)
        )
        return Link(near, far, name=self.name)


def compile_vbr_estate(estate: VbrEstate) -> Plan:
    """The plan of a valid estate. Raises :class:`harness.cloud.findings.Refused` when a rule is broken."""
    require_valid(estate)
    joints = tuple(_joints(estate))
    nodes: list[Node] = []
    links: list[Link] = []
    for centre in estate.data_centres:
        _data_centre(estate, centre, nodes, links)
    for circuit in estate.circuits:
        _circuit(estate, circuit, nodes, links)
    for vbr in estate.vbrs:
        nodes.append(_vbr(estate, vbr, joints))
    for router in estate.transit_routers:
        nodes.append(_transit_router(estate, router, joints))
    links += [joint.link() for joint in joints]
    for vpc in estate.vpcs:
        nodes.append(_vpc(estate, vpc, joints))
        attach_instances(vpc, nodes, links)
    return Plan(estate.name, estate.title, tuple(nodes), tuple(links))


def _joints(estate: VbrEstate) -> Iterator[_Joint]:
    """The links inside the cloud, numbered by the order of the resources; with IPv6 where a VBR and a VPC have it."""
    vpc_asn = free_asn(estate)
    routers = {router.name: router for router in estate.transit_routers}
    ends: list[tuple[str, tuple[str, str], tuple[str, str], tuple[int, int]]] = []
    for number, vbr in enumerate(estate.vbrs, 1):
        asn, interface = default_local_asn(estate, vbr), _interface(vbr.name, f"vbr{number}")
        if vbr.transit_router is None:
            ends.append((f"{vbr.name} to {vbr.vpc}", (vbr.name, vbr.vpc), ("vpc", interface), (asn, vpc_asn)))
        else:
            router = routers[vbr.transit_router]
            ends.append(("VBR-connection", (vbr.name, router.name), ("cen", interface), (asn, router.asn)))
    for router in estate.transit_routers:
        for number, vpc in enumerate(estate.vpcs, 1):
            interfaces = (_interface(vpc.name, f"vpc{number}"), _interface(router.name, "tr"))
            ends.append(("VPC-connection", (router.name, vpc.name), interfaces, (router.asn, vpc_asn)))
    dual = any(vbr.ipv6 for vbr in estate.vbrs) and any(vpc.ipv6_cidr is not None for vpc in estate.vpcs)
    pairs = zip(WIRING.subnets(new_prefix=30), WIRING_IPV6.subnets(new_prefix=64), strict=False)
    for (name, nodes, interfaces, asns), (block, block6) in zip(ends, pairs, strict=False):
        yield _Joint(name, nodes, interfaces, asns, (block, block6) if dual else (block,))


def _interface(name: str, short: str) -> str:
    """An interface is called like what it leads to, if the kernel takes that."""
    return name if len(name) <= LONGEST_INTERFACE else short


def free_asn(estate: VbrEstate) -> int:
    """The ASN of the VPCs: :data:`harness.cloud.build.VPC_ASN`, or the next that nobody else in the estate has."""
    used = {centre.asn for centre in estate.data_centres} | {router.asn for router in estate.transit_routers}
    used |= {group.peer_asn for vbr in estate.vbrs for group in vbr.groups}
    used |= {local_asn(estate, vbr, group) for vbr in estate.vbrs for group in vbr.groups}
    used |= {default_local_asn(estate, vbr) for vbr in estate.vbrs}
    return next(asn for asn in range(VPC_ASN, 65535) if asn not in used)


def _data_centre(estate: VbrEstate, centre: DataCentreSide, nodes: list[Node], links: list[Link]) -> None:
    gateways = attach_clients(centre.name, centre.name, centre.blocks, nodes, links)
    circuits = [circuit for circuit in estate.circuits if circuit.data_centre == centre.name]
    pairs = [(circuit, *pair) for circuit in circuits for pair in circuit.pairs()]
    told = [centre.session(str(ip_interface(cloud).ip)) for _, cloud, _ in pairs]
    neighbors = tuple(
        Neighbor(
            circuit.name if ip_interface(cloud).version == 4 else f"{circuit.name} IPv6",
            session.cloud,
            session.neighbor_asn,
            local_address=str(ip_interface(customer).ip),
            key=session.key,
            bfd=_bfd(estate, session.bfd_hop_count),
        )
        for (circuit, cloud, customer), session in zip(pairs, told, strict=True)
    )
    speaker = Speaker(
        centre.asn,
        bgp_identifier([*gateways, *(customer for *_, customer in pairs)]),
        neighbors,
        centre.blocks,
        multipath=_MULTIPATH,
        hold_time=estate.timers.hold_time,
        connect_retry_time=estate.timers.connect_retry_time,
        idle_hold_time=estate.timers.idle_hold_time,
        profile=estate.profile,
    )
    label = f"Data centre {centre.name}"
    there = speaker if centre.router else None
    nodes.append(Node(centre.name, Role.ROUTER, label, "Data centre", forwarding=True, speaker=there))


def _bfd(estate: VbrEstate, hop_count: int | None) -> Bfd | None:
    timers = estate.timers
    return None if hop_count is None else Bfd(hop_count, timers.bfd_interval_ms, timers.bfd_multiplier)


def _circuit(estate: VbrEstate, circuit: Circuit, nodes: list[Node], links: list[Link]) -> None:
    number = [each for each in estate.circuits if each.vbr == circuit.vbr].index(circuit) + 1
    own = [each for each in estate.circuits if each.data_centre == circuit.data_centre].index(circuit) + 1
    cloud, customer = (tuple(side) for side in zip(*circuit.pairs(), strict=True))
    near, far = End(circuit.vbr, f"circuit{number}", cloud), End(circuit.data_centre, f"circuit{own}", customer)
    if circuit.line is not Line.BRIDGED:
        links.append(Link(near, far, name=circuit.name))
        return
    bridge = bridge_of(circuit)
    nodes.append(Node(bridge, Role.SWITCH, f"Bridging device of {circuit.name}", "Provider"))
    links.append(Link(near, End(bridge, "cloud"), name=circuit.name))
    links.append(Link(End(bridge, "customer"), far, name=f"{circuit.name}, customer's side"))


def bridge_of(circuit: Circuit) -> str:
    """The node of a circuit's bridging device."""
    return f"{circuit.name}-bridge"


def _vbr(estate: VbrEstate, vbr: Vbr, joints: tuple[_Joint, ...]) -> Node:
    asn = default_local_asn(estate, vbr)
    inner = [joint for joint in joints if vbr.name in joint.nodes]
    neighbors = [neighbor for joint in inner for neighbor in joint.neighbors(vbr.name, _NO_NETWORKS)]
    for peer in vbr.peers:
        group, circuit = group_of(vbr, peer), circuit_of(estate, vbr.name, peer.ip)
        assert group is not None and circuit is not None  # require_valid has seen to it
        shown = local_asn(estate, vbr, group)
        near = next(cloud for cloud, customer in circuit.pairs() if ip_interface(customer).ip == ip_address(peer.ip))
        neighbors.append(
            Neighbor(
                peer.ip,
                peer.ip,
                group.peer_asn,
                local_asn=None if shown == asn else shown,
                local_address=str(ip_interface(near).ip),
                key=group.key,
                bfd=_bfd(estate, bfd_hop_count(peer)),
                maximum_prefixes=MaximumPrefixes(
                    group.route_quota, group.route_quota_action, estate.timers.route_quota_restart
                ),
                import_=_MARK,
                export=_OWN_NETWORKS if vbr.transit_router is None else _CENS_ROUTES,
            )
        )
    addresses = [joint.address(vbr.name) for joint in inner]
    addresses += [circuit.cloud_address for circuit in estate.circuits if circuit.vbr == vbr.name]
    speaker = Speaker(
        asn,
        bgp_identifier(addresses),
        tuple(neighbors),
        vbr.networks,
        multipath=_MULTIPATH,
        hold_time=estate.timers.hold_time,
        connect_retry_time=estate.timers.connect_retry_time,
        idle_hold_time=estate.timers.idle_hold_time,
        profile=estate.profile,
    )
    # Not learned by BGP: a network of the same block would be the VBR's own and leave it without a way there.
    blocks = {vpc.name: (vpc.cidr, vpc.ipv6_cidr) for vpc in estate.vpcs}
    routes = tuple(
        Route(block, gateway)
        for joint in inner
        for end, gateways in [joint.far(vbr.name)]
        for block, gateway in zip(blocks.get(end, ()), gateways, strict=False)
        if block is not None
    )
    label = f"Virtual border router {vbr.name}"
    return Node(vbr.name, Role.VBR, label, str(vbr.region), routes=routes, forwarding=True, speaker=speaker)


def _transit_router(estate: VbrEstate, router: TransitRouter, joints: tuple[_Joint, ...]) -> Node:
    routers = {vbr.name for vbr in estate.vbrs}
    inner = [joint for joint in joints if router.name in joint.nodes]
    neighbors = tuple(
        neighbor
        for joint in inner
        for neighbor in joint.neighbors(router.name, _CENS_ROUTES if routers & set(joint.nodes) else ())
    )
    speaker = Speaker(
        router.asn,
        bgp_identifier(joint.address(router.name) for joint in inner),
        neighbors,
        multipath=_MULTIPATH,
        multipath_ibgp=_MULTIPATH,
        hold_time=estate.timers.hold_time,
        connect_retry_time=estate.timers.connect_retry_time,
        idle_hold_time=estate.timers.idle_hold_time,
        profile=estate.profile,
    )
    label = f"Transit router {router.region}"
    return Node(router.name, Role.TRANSIT_ROUTER, label, str(router.region), forwarding=True, speaker=speaker)


def _vpc(estate: VbrEstate, vpc: Vpc, joints: tuple[_Joint, ...]) -> Node:
    routers = {vbr.name for vbr in estate.vbrs}
    inner = [joint for joint in joints if vpc.name in joint.nodes]
    speaker = Speaker(
        free_asn(estate),
        str(IPv4Network(vpc.cidr)[-2]),
        tuple(
            neighbor
            for joint in inner
            for neighbor in joint.neighbors(vpc.name, _NOTHING if routers & set(joint.nodes) else _OWN_NETWORKS)
        ),
        tuple(cidr for vswitch in vpc.vswitches for cidr in (vswitch.cidr, vswitch.ipv6_cidr) if cidr is not None),
        multipath=_MULTIPATH,
        hold_time=estate.timers.hold_time,
        connect_retry_time=estate.timers.connect_retry_time,
        idle_hold_time=estate.timers.idle_hold_time,
        profile=estate.profile,
    )
    return Node(vpc.name, Role.VPC, f"VPC {vpc.cidr}", str(vpc.region), forwarding=True, speaker=speaker)
