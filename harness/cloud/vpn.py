"""VPN gateways and what stands around them, as the console names them: IPsec connections of one or two tunnels, CEN, route tables.

Source: "VPN Gateway: configure BGP dynamic routing" (VPN-1 to VPN-25 of docs/requirements.md). Each class is what one form of the
console asks for; defaults are the console's. The VPC, customer gateways and the data centre are those of ``harness.cloud.resources``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Literal

from harness.cloud.resources import CustomerGateway, DataCentre, Region, Timers, Vpc
from harness.plan import Esp, Ike

#: VPN-3: routes in the BGP route table of a gateway, unless a ticket has raised it.
BGP_ROUTES_OF_A_GATEWAY = 50
#: VPN-17.
DEFAULT_LOCAL_ASN = 45104
#: VPN-19: CEN instances created from this day on (UTC+8) have overlapping routing from the beginning.
OVERLAPPING_ROUTING_SINCE = date(2019, 3, 1)
#: VPN-5: neither this block, nor a part of it, nor a block around it.
SHARED_ADDRESSES = "100.64.0.0/10"

#: VPN-18, in the document's three areas and their order.
BGP_REGIONS: dict[str, tuple[Region, ...]] = {
    "Asia Pacific": (
        Region.HANGZHOU,
        Region.SHANGHAI,
        Region.QINGDAO,
        Region.BEIJING,
        Region.ZHANGJIAKOU,
        Region.HOHHOT,
        Region.SHENZHEN,
        Region.HONG_KONG,
        Region.TOKYO,
        Region.SINGAPORE,
        Region.SYDNEY,
        Region.KUALA_LUMPUR,
        Region.JAKARTA,
    ),
    "Europe and Americas": (Region.FRANKFURT, Region.LONDON, Region.VIRGINIA, Region.SILICON_VALLEY),
    "Middle East": (Region.DUBAI,),
}
#: VPN-18: "Closing Down" stands beside it.
CLOSING_DOWN = (Region.SYDNEY,)


class SharedAddressRoutes(StrEnum):
    """What a route of VPN-5 does when a data centre advertises it all the same."""

    DROPPED = "dropped"
    """It is refused like a default route; the connection's status names it, and stays."""
    DOCUMENTED = "documented"
    """As the document has it: the status of the connection cannot be displayed while the route is offered (VPN-20)."""


@dataclass(frozen=True, slots=True)
class Cen:
    """A CEN instance. ``overlapping_routing`` None: as it was created, by its date (VPN-19)."""

    name: str
    created: date = OVERLAPPING_ROUTING_SINCE
    overlapping_routing: bool | None = None

    @property
    def overlaps(self) -> bool:
        """Is overlapping routing enabled?"""
        if self.overlapping_routing is not None:
            return self.overlapping_routing
        return self.created >= OVERLAPPING_ROUTING_SINCE


@dataclass(frozen=True, slots=True)
class VpnGateway:
    """A VPN gateway of a VPC. ``automatic_advertisement`` is the switch of its row in the list of gateways (VPN-22).

    ``supports_bgp`` False is a version that must be upgraded first (VPN-21). ``bgp_peers`` names what somebody wanted as BGP peers of
    the gateway itself: there can be none (VPN-8).
    """

    name: str
    vpc: str
    automatic_advertisement: bool = False
    route_quota: int = BGP_ROUTES_OF_A_GATEWAY
    supports_bgp: bool = True
    bgp_peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VpnTunnel:
    """A tunnel of an IPsec connection. ``gateway_address`` is assigned by the gateway; ``node`` is the lab's name for its end.

    Customer gateway and BGP settings are each tunnel's own (VPN-24); None is a field left empty.
    """

    node: str
    gateway_address: str
    key: str = field(repr=False)
    customer_gateway: str | None = None
    tunnel_cidr: str | None = None
    local_bgp_address: str | None = None
    local_asn: int = DEFAULT_LOCAL_ASN
    ike: Ike = Ike(dh_group="group2")
    esp: Esp = Esp(pfs="group2")


@dataclass(frozen=True, slots=True)
class VpnConnection:
    """An IPsec connection of a VPN gateway: one tunnel, or in dual-tunnel mode the primary and the secondary, in this order."""

    name: str
    vpn_gateway: str
    tunnels: tuple[VpnTunnel, ...]
    bgp: bool = False
    effective_immediately: bool = True
    routing_mode: Literal["destination", "protected-flow"] = "destination"

    @property
    def dual(self) -> bool:
        return len(self.tunnels) > 1


@dataclass(frozen=True, slots=True)
class CustomRoute:
    """An entry that a user added to a route table of a VPC: its next hop is a VPN gateway."""

    prefix: str
    vpn_gateway: str


@dataclass(frozen=True, slots=True)
class CustomRouteTable:
    """A custom route table of a VPC: the vSwitches that use it instead of the system table, and its entries (VPN-1, VPN-2)."""

    name: str
    vpc: str
    vswitches: tuple[str, ...]
    routes: tuple[CustomRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class CenAttachment:
    """A VPC on a CEN instance."""

    cen: str
    vpc: str


@dataclass(frozen=True, slots=True)
class VpnEstate:
    """Everything a scenario of VPN gateways consists of, cloud and data centres. ``system_routes`` are custom entries of system tables."""

    name: str
    title: str
    vpcs: tuple[Vpc, ...]
    vpn_gateways: tuple[VpnGateway, ...]
    customer_gateways: tuple[CustomerGateway, ...]
    ipsec_connections: tuple[VpnConnection, ...]
    data_centres: tuple[DataCentre, ...]
    route_tables: tuple[CustomRouteTable, ...] = ()
    system_routes: tuple[CustomRoute, ...] = ()
    cens: tuple[Cen, ...] = ()
    cen_attachments: tuple[CenAttachment, ...] = ()
    shared_address_routes: SharedAddressRoutes = SharedAddressRoutes.DROPPED
    timers: Timers = Timers()


def tunnels_of(estate: VpnEstate, gateway: str | None = None) -> Iterator[tuple[VpnConnection, VpnTunnel]]:
    """Every tunnel with its connection, of one gateway or of all, in the estate's order."""
    for connection in estate.ipsec_connections:
        if gateway is None or connection.vpn_gateway == gateway:
            yield from ((connection, tunnel) for tunnel in connection.tunnels)


def tunnel_words(connection: VpnConnection, tunnel: VpnTunnel) -> str:
    """How findings and neighbours call a tunnel: by its connection, and in dual-tunnel mode by its part."""
    if not connection.dual:
        return connection.name
    part = ("primary", "secondary")[connection.tunnels.index(tunnel)] if tunnel in connection.tunnels[:2] else "third"
    return f"{connection.name}, {part} tunnel"


def local_asn_of(estate: VpnEstate, gateway: str) -> int:
    """The ASN that the data centres see of a gateway: that of its BGP connections, which is one (VPN-6)."""
    asns = (tunnel.local_asn for connection, tunnel in tunnels_of(estate, gateway) if connection.bgp)
    return next(asns, DEFAULT_LOCAL_ASN)


def cen_of(estate: VpnEstate, vpc: str) -> Cen | None:
    """The CEN instance that a VPC is attached to."""
    names = {attachment.cen for attachment in estate.cen_attachments if attachment.vpc == vpc}
    return next((cen for cen in estate.cens if cen.name in names), None)
