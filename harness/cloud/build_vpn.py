"""From an estate of VPN gateways to a plan: for each gateway its router, the hub of its tunnels, and one node for each tunnel.

The document does not say how a gateway is built inside; this is how it is here (docs/architecture.md). Each tunnel ends in a node of
its own with the ASN that the data centre sees, has an iBGP session to the hub, and so tells no other tunnel what it learned
(VPN-7). The hub hands everything to the router over one eBGP session, where the gateway's BGP route table and its quota are (VPN-3).
The router has an eBGP session to the VPC, which carries the data centre's routes while automatic advertisement is on (VPN-22);
the VPC tells a gateway its own vSwitches and nothing else, so that gateways learn nothing of each other (VPN-2, VPN-8, VPN-25).

Sessions inside the cloud use ASNs that nobody in the estate has, so that the ASN of a gateway stands once in each AS path.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from harness.cloud.build import VPC_ASN, WIRING
from harness.cloud.build_data_centre import (
    PROVIDER_CLOUD_SIDE,
    attach_data_centre,
    attach_internet,
    cloud_tunnel,
    router_asn,
)
from harness.cloud.resources import GatewayDevice, Vpc
from harness.cloud.sites import attach_instances, bgp_identifier
from harness.cloud.vpn import (
    SHARED_ADDRESSES,
    VpnConnection,
    VpnEstate,
    VpnGateway,
    VpnTunnel,
    local_asn_of,
    tunnel_words,
    tunnels_of,
)
from harness.cloud.vpn_rules import conflicts_of, require_valid
from harness.plan import (
    End,
    Link,
    MaximumPrefixes,
    Neighbor,
    Node,
    Plan,
    Role,
    Route,
    RoutingTable,
    Rule,
    Speaker,
)

#: The half of the cloud's wiring that belongs to VPN gateways.
GATEWAY_WIRING = IPv4Network("198.19.0.0/16")
assert GATEWAY_WIRING.subnet_of(WIRING)
#: LOCAL_PREF inside a gateway, and the MED that a data centre is told, of the primary and the secondary tunnel (VPN-13).
LOCAL_PREFERENCES = (200, 100)
#: The VPC's own blocks, over what comes round by way of a data centre: else whichever came first would stay.
OWN_PREFERENCE = 300
METRICS = (100, 200)
#: The first number of the kernel tables that stand for custom route tables.
FIRST_TABLE = 1000

_OWN_NETWORKS = (Rule("permit", local=True), Rule("deny"))
_NOTHING = (Rule("deny"),)


def shared_addresses() -> tuple[str, ...]:
    """Prefix conditions of VPN-5: the block with all its parts, and each block around it but 0.0.0.0/0."""
    block = IPv4Network(SHARED_ADDRESSES)
    around = [str(block.supernet(new_prefix=length)) for length in range(block.prefixlen - 1, 0, -1)]
    return (f"{block} le 32", *around)


#: What a tunnel refuses from its data centre, by the requirement that says so; the terms of its import policy stand in this order.
REFUSED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("VPN-4", ("0.0.0.0/0",)),
    ("VPN-5", shared_addresses()),
)


@dataclass(frozen=True, slots=True)
class _Wire:
    """A link inside the cloud: two nodes, their interfaces and their addresses, a /30."""

    name: str
    nodes: tuple[str, str]
    interfaces: tuple[str, str]
    block: IPv4Network

    def address(self, node: str) -> str:
        return str(self.block[1 + self.nodes.index(node)])

    def far(self, node: str) -> str:
        """The address of the other end."""
        return str(self.block[2 - self.nodes.index(node)])

    def link(self) -> Link:
        a, b = (End(n, i, (f"{self.address(n)}/30",)) for n, i in zip(self.nodes, self.interfaces, strict=True))
        return Link(a, b, name=self.name)


@dataclass(frozen=True, slots=True)
class _Cloud:
    """What all parts of one compilation share: the wires by their two nodes, and the ASNs inside the cloud."""

    estate: VpnEstate
    wires: dict[frozenset[str], _Wire]
    asns: dict[str, int]

    def wire(self, a: str, b: str) -> _Wire:
        return self.wires[frozenset((a, b))]

    def speaker(
        self, asn: int, identifier: str, neighbors: Iterable[Neighbor], networks: Iterable[str] = ()
    ) -> Speaker:
        timers = self.estate.timers
        return Speaker(
            asn,
            identifier,
            tuple(neighbors),
            tuple(networks),
            hold_time=timers.hold_time,
            connect_retry_time=timers.connect_retry_time,
            idle_hold_time=timers.idle_hold_time,
        )

    def neighbor(self, node: str, other: str, asn: int, **more: Any) -> Neighbor:
        """The session of ``node`` with ``other`` over the wire between them."""
        wire = self.wire(node, other)
        return replace(Neighbor(other, wire.far(node), asn, local_address=wire.address(node)), **more)


def hub(gateway: str) -> str:
    """The node where the tunnels of a gateway come together."""
    return f"{gateway}-hub"


def compile_vpn_estate(estate: VpnEstate, taken: Iterable[int] = ()) -> Plan:
    """The plan of a valid estate; ``taken`` are ASNs that others have. Raises :class:`harness.cloud.findings.Refused`."""
    require_valid(estate)
    cloud = _Cloud(estate, {frozenset(wire.nodes): wire for wire in _wires(estate)}, _inner_asns(estate, taken))
    nodes: list[Node] = []
    links: list[Link] = []
    for centre in estate.data_centres:
        attach_data_centre(centre, estate.timers, lambda device: _session(estate, device), nodes, links)
    ends = [(tunnel.node, tunnel.gateway_address) for _, tunnel in tunnels_of(estate)]
    attach_internet(estate.data_centres, ends, nodes, links)
    for connection, tunnel in tunnels_of(estate):
        nodes.append(_tunnel(cloud, connection, tunnel))
    for gateway in estate.vpn_gateways:
        nodes += [_hub(cloud, gateway), _gateway(cloud, gateway)]
    links += [wire.link() for wire in cloud.wires.values()]
    for vpc in estate.vpcs:
        nodes.append(_vpc(cloud, vpc))
        attach_instances(vpc, nodes, links)
    return Plan(estate.name, estate.title, tuple(nodes), tuple(links))


def _wires(estate: VpnEstate) -> Iterator[_Wire]:
    ends: list[tuple[str, tuple[str, str], tuple[str, str]]] = []
    for number, gateway in enumerate(estate.vpn_gateways, 1):
        middle = hub(gateway.name)
        ends.append((gateway.name, (gateway.vpc, gateway.name), (f"gateway{number}", "vpc")))
        ends.append((f"{gateway.name}, tunnels", (gateway.name, middle), ("tunnels", "gateway")))
        for place, (connection, tunnel) in enumerate(tunnels_of(estate, gateway.name), 1):
            ends.append((tunnel_words(connection, tunnel), (middle, tunnel.node), (f"tunnel{place}", "cloud")))
    for (name, nodes, interfaces), block in zip(ends, GATEWAY_WIRING.subnets(new_prefix=30), strict=False):
        yield _Wire(name, nodes, interfaces, block)


def _inner_asns(estate: VpnEstate, taken: Iterable[int]) -> dict[str, int]:
    """An ASN for each VPC, gateway and hub that nobody else in the estate has; a hub shows its own to its gateway only."""
    used = {*taken, *(tunnel.local_asn for _, tunnel in tunnels_of(estate))}
    used |= {gateway.asn for gateway in estate.customer_gateways if gateway.asn is not None}
    used |= {asn for centre in estate.data_centres for asn in (router_asn(centre), *(d.asn for d in centre.devices))}
    free = (asn for asn in range(VPC_ASN, 65535) if asn not in used)
    names = [vpc.name for vpc in estate.vpcs]
    names += [name for gateway in estate.vpn_gateways for name in (gateway.name, hub(gateway.name))]
    return dict(zip(names, free, strict=False))


def _session(estate: VpnEstate, device: GatewayDevice) -> str:
    """How a device calls the tunnel at whose other end it is."""
    for connection, tunnel in tunnels_of(estate):
        if tunnel.gateway_address == device.gateway_address:
            return tunnel_words(connection, tunnel)
    return device.gateway_address


def _tunnel(cloud: _Cloud, connection: VpnConnection, tunnel: VpnTunnel) -> Node:
    estate, middle = cloud.estate, hub(connection.vpn_gateway)
    gateway = next(each for each in estate.customer_gateways if each.name == tunnel.customer_gateway)
    asn = local_asn_of(estate, connection.vpn_gateway)
    neighbors = [cloud.neighbor(tunnel.node, middle, asn, next_hop_self=True)]
    place = connection.tunnels.index(tunnel)
    address = _inner_address(estate, tunnel)
    if connection.bgp and gateway.asn is not None:
        local, far = (str(host) for host in _ordered(address))
        refused = tuple(Rule("deny", prefixes=prefixes) for _, prefixes in REFUSED)
        neighbors.append(
            Neighbor(
                gateway.name,
                far,
                gateway.asn,
                local_address=local,
                ebgp_multihop=255,
                fall_over=True,
                import_=(*refused, Rule("permit", local_pref=LOCAL_PREFERENCES[place])),
                export=(Rule("permit", med=METRICS[place]),) if connection.dual else (),
            )
        )
    end = replace(
        cloud_tunnel(
            tunnel_words(connection, tunnel),
            tunnel.gateway_address,
            gateway.address,
            tunnel.key,
            address,
            connection.effective_immediately,
            estate.timers,
        ),
        ike=tunnel.ike,
        esp=tunnel.esp,
    )
    # No default route: what has no tunnel must find no way out in clear.
    uplink = Route(f"{gateway.address}/32", PROVIDER_CLOUD_SIDE, "internet", onlink=True)
    return Node(
        tunnel.node,
        Role.VPN,
        tunnel_words(connection, tunnel),
        f"VPN gateway {connection.vpn_gateway}",
        routes=(uplink,),
        forwarding=True,
        speaker=cloud.speaker(asn, tunnel.gateway_address, neighbors),
        tunnel=end,
    )


def _inner_address(estate: VpnEstate, tunnel: VpnTunnel) -> str:
    """The address of the tunnel interface. Without BGP none need be given: the device's neighbour is taken."""
    if tunnel.tunnel_cidr is not None and tunnel.local_bgp_address is not None:
        return f"{tunnel.local_bgp_address}/{IPv4Network(tunnel.tunnel_cidr).prefixlen}"
    devices = [device for centre in estate.data_centres for device in centre.devices]
    device = next((each for each in devices if each.gateway_address == tunnel.gateway_address), None)
    return "169.254.254.1/30" if device is None else f"{device.neighbor}/30"


def _ordered(address: str) -> tuple[IPv4Address, IPv4Address]:
    """Both hosts of a /30: the one given, and the other."""
    own = IPv4Interface(address)
    return own.ip, next(host for host in own.network.hosts() if host != own.ip)


def _hub(cloud: _Cloud, gateway: VpnGateway) -> Node:
    estate, name = cloud.estate, hub(gateway.name)
    asn = local_asn_of(estate, gateway.name)
    neighbors = [
        cloud.neighbor(
            name,
            gateway.name,
            cloud.asns[gateway.name],
            local_asn=cloud.asns[name],
            import_=(Rule("permit", local_pref=OWN_PREFERENCE),),
        ),
        *(cloud.neighbor(name, tunnel.node, asn, next_hop_self=True) for _, tunnel in tunnels_of(estate, gateway.name)),
    ]
    identifier = bgp_identifier(neighbor.local_address or "" for neighbor in neighbors)
    group = f"VPN gateway {gateway.name}"
    label = f"Tunnels of {gateway.name}"
    return Node(name, Role.TUNNEL_HUB, label, group, forwarding=True, speaker=cloud.speaker(asn, identifier, neighbors))


def _gateway(cloud: _Cloud, gateway: VpnGateway) -> Node:
    estate, middle = cloud.estate, hub(gateway.name)
    conflicting = tuple(sorted({prefix for conflict in conflicts_of(estate, gateway) for prefix in conflict.prefixes}))
    neighbors = (
        cloud.neighbor(
            gateway.name,
            gateway.vpc,
            cloud.asns[gateway.vpc],
            export=() if gateway.automatic_advertisement else _NOTHING,
        ),
        cloud.neighbor(
            gateway.name,
            middle,
            cloud.asns[middle],
            maximum_prefixes=MaximumPrefixes(gateway.route_quota, "drop"),
            import_=(Rule("deny", prefixes=conflicting),) if conflicting else (),
        ),
    )
    identifier = bgp_identifier(neighbor.local_address or "" for neighbor in neighbors)
    return Node(
        gateway.name,
        Role.VPN_GATEWAY,
        f"VPN gateway {gateway.name}",
        f"VPN gateway {gateway.name}",
        forwarding=True,
        speaker=cloud.speaker(cloud.asns[gateway.name], identifier, neighbors),
    )


def _vpc(cloud: _Cloud, vpc: Vpc) -> Node:
    estate = cloud.estate
    gateways = [gateway.name for gateway in estate.vpn_gateways if gateway.vpc == vpc.name]
    neighbors = [cloud.neighbor(vpc.name, name, cloud.asns[name], export=_OWN_NETWORKS) for name in gateways]
    blocks = tuple(vswitch.cidr for vswitch in vpc.vswitches)
    ports = {vswitch.name: f"vswitch{number}" for number, vswitch in enumerate(vpc.vswitches, 1)}
    routes = [
        Route(each.prefix, cloud.wire(vpc.name, each.vpn_gateway).far(vpc.name))
        for each in estate.system_routes
        if each.vpn_gateway in gateways
    ]
    tables = []
    numbers = itertools.count(FIRST_TABLE, 50)
    used = {i.vswitch for i in vpc.instances}
    for table, number in zip((each for each in estate.route_tables if each.vpc == vpc.name), numbers, strict=False):
        tables.append(RoutingTable(table.name, number, tuple(ports[name] for name in table.vswitches)))
        routes += [
            Route(vswitch.cidr, device=ports[vswitch.name], table=number)
            for vswitch in vpc.vswitches
            if vswitch.name in used
        ]
        routes += [
            Route(each.prefix, cloud.wire(vpc.name, each.vpn_gateway).far(vpc.name), table=number)
            for each in table.routes
        ]
        routes.append(Route("0.0.0.0/0", table=number, unreachable=True))
    return Node(
        vpc.name,
        Role.VPC,
        f"VPC {vpc.cidr}",
        str(vpc.region),
        routes=tuple(routes),
        forwarding=True,
        speaker=cloud.speaker(cloud.asns[vpc.name], str(IPv4Network(vpc.cidr)[-2]), neighbors, blocks),
        tables=tuple(tables),
    )
