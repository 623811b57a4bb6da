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
from ipaddress import IPv4Network, ip_address, ip_interface

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
    addresses: tuple[str, str]

    def address(self, node: str) -> str:
        return self.addresses[self.nodes.index(node)]

    def far(self, node: str) -> tuple[str, str]:
        """The other end of the link, and its address."""
        end = 1 - self.nodes.index(node)
        return self.nodes[end], self.addresses[end]

    def neighbor(self, node: str, export: tuple[Rule, ...]) -> Neighbor:
        """The session of ``node`` with the other end."""
        name, address = self.far(node)
        return Neighbor(
            name,
            address,
            self.asns[self.nodes.index(name)],
            local_address=self.address(node),
            next_hop_self=self.asns[0] == self.asns[1],
            export=export,
        )

    def link(self) -> Link:
        a, b = (End(n, i, (f"{at}/30",)) for n, i, at in zip(self.nodes, self.interfaces, self.addresses, strict=True))
        return Link(a, b, name=self.name)


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
    """The links inside the cloud, numbered by the order of the resources."""
    vpc_asn = free_asn(estate)
    routers = {router.name: router for router in estate.transit_routers}
    ends: list[tuple[str, tuple[str, str], tuple[str, str], tuple[int, int]]] = []
    for vbr in estate.vbrs:
        asn = default_local_asn(estate, vbr)
        if vbr.transit_router is None:
            ends.append((f"{vbr.name} to {vbr.vpc}", (vbr.name, vbr.vpc), ("vpc", vbr.name), (asn, vpc_asn)))
        else:
            router = routers[vbr.transit_router]
            ends.append(("VBR-connection", (vbr.name, router.name), ("cen", vbr.name), (asn, router.asn)))
    for router in estate.transit_routers:
        for vpc in estate.vpcs:
            ends.append(("VPC-connection", (router.name, vpc.name), (vpc.name, router.name), (router.asn, vpc_asn)))
    for (name, nodes, interfaces, asns), block in zip(ends, WIRING.subnets(new_prefix=30), strict=False):
        low, high = map(str, block.hosts())
        yield _Joint(name, nodes, interfaces, asns, (low, high))


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
    neighbors = [joint.neighbor(vbr.name, _NO_NETWORKS) for joint in inner]
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
        profile=estate.profile,
    )
    # Not learned by BGP: a network of the same block would be the VBR's own and leave it without a way there.
    blocks = {vpc.name: vpc.cidr for vpc in estate.vpcs}
    routes = tuple(
        Route(blocks[end], gateway) for joint in inner for end, gateway in [joint.far(vbr.name)] if end in blocks
    )
    label = f"Virtual border router {vbr.name}"
    return Node(vbr.name, Role.VBR, label, str(vbr.region), routes=routes, forwarding=True, speaker=speaker)


def _transit_router(estate: VbrEstate, router: TransitRouter, joints: tuple[_Joint, ...]) -> Node:
    routers = {vbr.name for vbr in estate.vbrs}
    inner = [joint for joint in joints if router.name in joint.nodes]
    neighbors = tuple(
        joint.neighbor(router.name, _CENS_ROUTES if routers & set(joint.nodes) else ()) for joint in inner
    )
    speaker = Speaker(
        router.asn,
        bgp_identifier(joint.address(router.name) for joint in inner),
        neighbors,
        multipath=_MULTIPATH,
        multipath_ibgp=_MULTIPATH,
        hold_time=estate.timers.hold_time,
        connect_retry_time=estate.timers.connect_retry_time,
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
        tuple(joint.neighbor(vpc.name, _NOTHING if routers & set(joint.nodes) else _OWN_NETWORKS) for joint in inner),
        tuple(vswitch.cidr for vswitch in vpc.vswitches),
        multipath=_MULTIPATH,
        hold_time=estate.timers.hold_time,
        connect_retry_time=estate.timers.connect_retry_time,
        profile=estate.profile,
    )
    return Node(vpc.name, Role.VPC, f"VPC {vpc.cidr}", str(vpc.region), forwarding=True, speaker=speaker)
