"""From an estate to a plan: which namespaces, cables, routes, speakers and tunnels stand for the documented resources.

How the cloud is wired inside is this project's choice, since no document says it (docs/architecture.md): one node for each IPsec
connection, attached to its transit router by a link of its own, eBGP from AS 65531 to the transit router's 45104, iBGP with
ADD-PATH (RFC 7911) between the transit routers, eBGP from the VPC. Those links use 198.18.0.0/15 (RFC 2544), :data:`WIRING`,
which stands in no documented table.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import NamedTuple

from harness.cloud.build_data_centre import (
    PROVIDER_CLOUD_SIDE,
    Session,
    attach_data_centre,
    attach_internet,
    cloud_tunnel,
)
from harness.cloud.resources import DataCentre, Estate, IpsecConnection, TransitRouter, Vpc
from harness.cloud.rules import VPC_CUSTOM_ROUTES, require_valid
from harness.cloud.sites import attach_instances
from harness.impairment import Impairment
from harness.plan import End, Link, Neighbor, Node, Plan, Role, Route, RoutingTable, Rule, Speaker

#: Addresses of the links inside the cloud (RFC 2544). They are wiring, not routes of any documented table.
WIRING = IPv4Network("198.18.0.0/15")
#: ASN of a VPC inside the cloud; it appears in AS_PATHs only.
VPC_ASN = 64512
#: Set by a transit router on what it learns from an IPsec connection, so that it goes to no other one (ECMP-41).
FROM_VPN_CONNECTION = "45104:1"

#: The kernel table of attachments that are associated with no route table.
NO_ROUTE_TABLE = 1000

_MULTIPATH = 8
_NOTHING = (Rule("deny"),)


def compile_estate(estate: Estate) -> Plan:
    """The plan of a valid estate. Raises :class:`harness.cloud.findings.Refused` when a rule is broken."""
    require_valid(estate)
    wiring = _Wiring(estate)
    nodes: list[Node] = []
    links: list[Link] = []
    for centre in estate.data_centres:
        attach_data_centre(centre, estate.timers, _numbered(centre), nodes, links)
    attach_internet(
        estate.data_centres, [(each.node, each.gateway_address) for each in estate.ipsec_connections], nodes, links
    )
    for connection in estate.ipsec_connections:
        _ipsec_connection(estate, connection, wiring, nodes, links)
    for router in estate.transit_routers:
        _transit_router(estate, router, wiring, nodes)
    for inter in estate.inter_region_connections:
        a, b = inter.transit_routers
        paid = Impairment(rate_mbit=inter.bandwidth)
        near = End(a, _region_port(estate, b), (f"{wiring.of(inter.name, a)}/30",), impairment=paid)
        far = End(b, _region_port(estate, a), (f"{wiring.of(inter.name, b)}/30",), impairment=paid)
        links.append(Link(near, far, name=inter.name))
    for vpc in estate.vpcs:
        _vpc(estate, vpc, wiring, nodes, links)
    return Plan(estate.name, estate.title, tuple(nodes), tuple(links))


def _numbered(centre: DataCentre) -> Session:
    """Devices call their neighbours by number, as table 5 does."""
    return lambda device: f"IPsec connection {centre.devices.index(device) + 1}"


class InnerAsns(NamedTuple):
    """What a connection and its transit router call themselves between each other; None: their own ASNs."""

    of_connection: int | None = None
    of_router: int | None = None


def inner_asns(estate: Estate, connection: IpsecConnection) -> InnerAsns:
    """What is shown on the session between a connection and its transit router.

    A connection whose local ASN is the router's (45104 is the default of both, VPN-17) would have an internal session to it, over which
    nothing that it learned goes on to another region or connection. Both then show each other ASNs that nobody has; the device sees the
    connection's own.
    """
    router = next(each for each in estate.transit_routers if each.name == connection.transit_router)
    if connection.local_asn != router.asn:
        return InnerAsns()
    _, of_connection, of_router, *_ = free_asns(estate)
    return InnerAsns(of_connection, of_router)


def vpc_asn(estate: Estate) -> int:
    """:data:`VPC_ASN`, or the next that nobody else in the estate has."""
    return free_asns(estate)[0]


def free_asns(estate: Estate) -> list[int]:
    """ASNs for the inside of the cloud, from :data:`VPC_ASN` on, without those of connections, routers and devices."""
    used = {connection.local_asn for connection in estate.ipsec_connections}
    used |= {router.asn for router in estate.transit_routers}
    used |= {gateway.asn for gateway in estate.customer_gateways if gateway.asn is not None}
    devices = [device for centre in estate.data_centres for device in centre.devices]
    used |= {asn for device in devices for asn in (device.asn, device.neighbor_asn)}
    return [asn for asn in range(VPC_ASN, VPC_ASN + len(used) + 3) if asn not in used]


class _Wiring:
    """Hands every link inside the cloud its /30, by the order of the resources, so that a run-time addition moves none."""

    def __init__(self, estate: Estate) -> None:
        self._addresses: dict[tuple[str, str], str] = {}
        for number, connection in enumerate(estate.ipsec_connections):
            self._assign(f"198.18.1.{4 * number}/30", connection.name, connection.transit_router, connection.node)
        for number, inter in enumerate(estate.inter_region_connections):
            self._assign(f"198.18.0.{4 * number}/30", inter.name, *inter.transit_routers)
        for number, attachment in enumerate(estate.vpc_connections):
            self._assign(f"198.18.2.{4 * number}/30", attachment.name, attachment.transit_router, attachment.vpc)

    def _assign(self, block: str, link: str, first: str, second: str) -> None:
        low, high = IPv4Network(block).hosts()
        self._addresses[link, first], self._addresses[link, second] = str(low), str(high)

    def of(self, link: str, node: str) -> str:
        return self._addresses[link, node]


def _ipsec_connection(
    estate: Estate, connection: IpsecConnection, wiring: _Wiring, nodes: list[Node], links: list[Link]
) -> None:
    timers = estate.timers
    gateway = next(g for g in estate.customer_gateways if g.name == connection.customer_gateway)
    router = next(r for r in estate.transit_routers if r.name == connection.transit_router)
    block = IPv4Network(connection.tunnel_cidr)
    device_address = next(str(host) for host in block.hosts() if str(host) != connection.local_bgp_address)
    inside = wiring.of(connection.name, connection.node)
    shown = inner_asns(estate, connection)
    cloud_side = Neighbor(
        router.name,
        wiring.of(connection.name, router.name),
        shown.of_router or router.asn,
        local_asn=shown.of_connection,
        local_address=inside,
    )
    neighbors = [cloud_side]
    if connection.bgp and gateway.asn is not None:
        internal = gateway.asn == connection.local_asn
        device_side = Neighbor(
            gateway.name,
            device_address,
            gateway.asn,
            local_address=connection.local_bgp_address,
            ebgp_multihop=None if internal else 255,
            next_hop_self=internal,
            fall_over=True,
        )
        neighbors = [device_side, cloud_side]
    speaker = Speaker(
        connection.local_asn,
        connection.gateway_address,
        tuple(neighbors),
        connection.routes,
        hold_time=timers.hold_time,
        connect_retry_time=timers.connect_retry_time,
        idle_hold_time=timers.idle_hold_time,
    )
    tunnel = replace(
        cloud_tunnel(
            connection.name,
            connection.gateway_address,
            gateway.address,
            connection.key,
            f"{connection.local_bgp_address}/{block.prefixlen}",
            connection.effective_immediately,
            timers,
        ),
        ike=connection.ike,
        esp=connection.esp,
        routes=connection.routes,
    )
    # No default route: what has no tunnel must find no way out in clear.
    uplink = Route(f"{gateway.address}/32", PROVIDER_CLOUD_SIDE, "internet", onlink=True)
    nodes.append(
        Node(
            connection.node,
            Role.VPN,
            connection.name,
            str(router.region),
            routes=(uplink,),
            forwarding=True,
            speaker=speaker,
            tunnel=tunnel,
        )
    )
    far = End(router.name, connection.node, (f"{wiring.of(connection.name, router.name)}/30",))
    links.append(Link(End(connection.node, "cloud", (f"{inside}/30",)), far, name=connection.name))


def _transit_router(estate: Estate, router: TransitRouter, wiring: _Wiring, nodes: list[Node]) -> None:
    timers = estate.timers
    neighbors: list[Neighbor] = []
    unassociated: list[str] = []
    for connection in estate.ipsec_connections:
        if connection.transit_router == router.name:
            shown = inner_asns(estate, connection)
            mark = (Rule("permit", add_communities=(FROM_VPN_CONNECTION,)),)
            others = (Rule("deny", communities=(FROM_VPN_CONNECTION,)),)
            neighbors.append(
                Neighbor(
                    connection.name,
                    wiring.of(connection.name, connection.node),
                    shown.of_connection or connection.local_asn,
                    local_asn=shown.of_router,
                    local_address=wiring.of(connection.name, router.name),
                    import_=mark if connection.propagate else _NOTHING,
                    export=others if connection.advertise else _NOTHING,
                )
            )
            if not connection.associate:
                unassociated.append(connection.node)
    for inter in estate.inter_region_connections:
        if router.name in inter.transit_routers:
            other = next(r for r in estate.transit_routers if r.name in inter.transit_routers and r.name != router.name)
            neighbors.append(
                Neighbor(
                    inter.name,
                    wiring.of(inter.name, other.name),
                    other.asn,
                    local_address=wiring.of(inter.name, router.name),
                    next_hop_self=True,
                    add_path="both",
                    import_=() if inter.propagate else _NOTHING,
                    export=() if inter.advertise else _NOTHING,
                )
            )
            if not inter.associate:
                unassociated.append(_region_port(estate, other.name))
    for attachment in estate.vpc_connections:
        if attachment.transit_router == router.name:
            neighbors.append(
                Neighbor(
                    attachment.name,
                    wiring.of(attachment.name, attachment.vpc),
                    vpc_asn(estate),
                    local_address=wiring.of(attachment.name, router.name),
                    import_=() if attachment.propagate_system_routes else _NOTHING,
                    export=_NOTHING,
                )
            )
            if not attachment.associate:
                unassociated.append("vpc")
    # Not of its CIDR block, which may come later and then must restart nothing (ECMP-25).
    identifier = f"198.18.255.{estate.transit_routers.index(router) + 1}"
    speaker = Speaker(
        router.asn,
        identifier,
        tuple(neighbors),
        multipath=_MULTIPATH,
        multipath_ibgp=_MULTIPATH,
        hold_time=timers.hold_time,
        connect_retry_time=timers.connect_retry_time,
        idle_hold_time=timers.idle_hold_time,
    )
    label = f"Transit router {router.region}"
    # What comes in by an attachment that is associated with no route table has nowhere to go.
    tables = (RoutingTable("no route table", NO_ROUTE_TABLE, tuple(unassociated)),) if unassociated else ()
    nowhere = (Route("0.0.0.0/0", table=NO_ROUTE_TABLE, unreachable=True),) if unassociated else ()
    nodes.append(
        Node(
            router.name,
            Role.TRANSIT_ROUTER,
            label,
            str(router.region),
            routes=nowhere,
            forwarding=True,
            speaker=speaker,
            tables=tables,
        )
    )


def _vpc(estate: Estate, vpc: Vpc, wiring: _Wiring, nodes: list[Node], links: list[Link]) -> None:
    timers = estate.timers
    neighbors: list[Neighbor] = []
    routes: list[Route] = []
    for attachment in estate.vpc_connections:
        if attachment.vpc != vpc.name:
            continue
        router = next(r for r in estate.transit_routers if r.name == attachment.transit_router)
        near, far = wiring.of(attachment.name, vpc.name), wiring.of(attachment.name, router.name)
        neighbors.append(Neighbor(attachment.name, far, router.asn, local_address=near))
        if attachment.set_vpc_routes:
            there = {route.prefix for route in vpc.routes}
            routes += [Route(prefix, far) for prefix in VPC_CUSTOM_ROUTES if prefix not in there]
        routes += [Route(route.prefix, far) for route in vpc.routes if route.next_hop == attachment.name]
        links.append(
            Link(
                End(vpc.name, "attachment", (f"{near}/30",)),
                End(router.name, "vpc", (f"{far}/30",)),
                name=attachment.name,
            )
        )
    instances = {instance.name: instance.address for instance in vpc.instances}
    routes += [Route(each.prefix, instances[each.next_hop]) for each in vpc.routes if each.next_hop in instances]
    speaker = Speaker(
        vpc_asn(estate),
        str(IPv4Network(vpc.cidr)[-2]),
        tuple(neighbors),
        tuple(vswitch.cidr for vswitch in vpc.vswitches),
        hold_time=timers.hold_time,
        connect_retry_time=timers.connect_retry_time,
        idle_hold_time=timers.idle_hold_time,
    )
    group = str(vpc.region)
    nodes.append(
        Node(vpc.name, Role.VPC, f"VPC {vpc.cidr}", group, routes=tuple(routes), forwarding=True, speaker=speaker)
    )
    attach_instances(vpc, nodes, links)


def _region_port(estate: Estate, router: str) -> str:
    """The interface name towards the transit router of another region."""
    region = next(each.region for each in estate.transit_routers if each.name == router)
    return region.split("(")[-1].rstrip(")").lower().replace(" ", "-")
