"""Cloud resources and the data centre, as the documents name them.

Source: "VPN Gateway: create multiple IPsec connections over the internet for load balancing" (ECMP-1 to ECMP-42 of
docs/requirements.md). Each class is what one form of the console asks for; defaults are the console's. What the system
assigns (a gateway IP address) is a field with "assigned" in its description.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from harness.plan import Esp, Ike


class Region(StrEnum):
    """Regions by the console's names: those of document 002, and some that it leaves out."""

    HANGZHOU = "China (Hangzhou)"
    SHANGHAI = "China (Shanghai)"
    QINGDAO = "China (Qingdao)"
    BEIJING = "China (Beijing)"
    ZHANGJIAKOU = "China (Zhangjiakou)"
    HOHHOT = "China (Hohhot)"
    SHENZHEN = "China (Shenzhen)"
    HONG_KONG = "China (Hong Kong)"
    TOKYO = "Japan (Tokyo)"
    SINGAPORE = "Singapore"
    SYDNEY = "Australia (Sydney)"
    KUALA_LUMPUR = "Malaysia (Kuala Lumpur)"
    JAKARTA = "Indonesia (Jakarta)"
    FRANKFURT = "Germany (Frankfurt)"
    LONDON = "UK (London)"
    VIRGINIA = "US (Virginia)"
    SILICON_VALLEY = "US (Silicon Valley)"
    DUBAI = "UAE (Dubai)"
    CHENGDU = "China (Chengdu)"
    GUANGZHOU = "China (Guangzhou)"
    SEOUL = "South Korea (Seoul)"
    MANILA = "Philippines (Manila)"
    BANGKOK = "Thailand (Bangkok)"


#: Zones that an Enterprise Edition transit router supports, by region, as far as the document names any (ECMP-27, ECMP-36).
SUPPORTED_ZONES: dict[str, tuple[str, ...]] = {
    Region.HANGZHOU: ("H",),
    Region.SHANGHAI: ("F", "G"),
}


@dataclass(frozen=True, slots=True)
class VSwitch:
    """A vSwitch of a VPC (ECMP-1); IPv6 beside IPv4 where the VPC has it.

    ``idle_addresses`` None: there are some; a VPC connection takes one (ECMP-36).
    """

    name: str
    cidr: str
    zone: str
    ipv6_cidr: str | None = None
    idle_addresses: int | None = None


@dataclass(frozen=True, slots=True)
class Ecs:
    """An ECS instance. Many addresses may stand in for many instances of the same vSwitch.

    ``security_groups`` are those of its VPC that it is in (ECMP-42).
    """

    name: str
    vswitch: str
    address: str
    ipv6_address: str | None = None
    security_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InboundRule:
    """A custom inbound rule of a security group. ``ports`` is "22/22" for tcp and udp, "-1/-1" (all) for the others, as the console has it.

    ``priority`` is 1 to 100, 1 first; of two with one priority a drop comes first.
    """

    source: str
    protocol: Literal["all", "tcp", "udp", "icmp", "gre"] = "all"
    ports: str = "-1/-1"
    policy: Literal["accept", "drop"] = "accept"
    priority: int = 1


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """A basic security group of a VPC (ECMP-42): from outside the group it lets in what its rules accept, and nothing else.

    ``interconnected``: its members reach one another, unless a rule drops it. Everything may go out, and what answers it may come in.
    """

    name: str
    inbound: tuple[InboundRule, ...] = ()
    interconnected: bool = True


@dataclass(frozen=True, slots=True)
class VpcRoute:
    """A custom entry of a VPC's system route table; its next hop is an instance of the VPC, or its VPC connection, by name."""

    prefix: str
    next_hop: str


@dataclass(frozen=True, slots=True)
class Vpc:
    """A virtual private cloud (ECMP-1). ``ipv6_cidr`` stands beside its IPv4 block where it has IPv6.

    ``routes`` are custom entries that are there before any attachment (ECMP-39). Without any ``security_groups`` nothing is filtered.
    """

    name: str
    region: Region
    cidr: str
    vswitches: tuple[VSwitch, ...]
    instances: tuple[Ecs, ...] = ()
    ipv6_cidr: str | None = None
    routes: tuple[VpcRoute, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class TransitRouter:
    """An Enterprise Edition transit router of a CEN instance; it needs a CIDR block before IPsec connections attach (ECMP-25)."""

    name: str
    region: Region
    cidr: str | None
    asn: int = 45104
    cen: str | None = "cen"
    edition: Literal["Enterprise", "Basic"] = "Enterprise"


@dataclass(frozen=True, slots=True)
class CustomerGateway:
    """A customer gateway: the device's public address and ASN as the cloud knows them. It cannot be edited (ECMP-3)."""

    name: str
    address: str
    asn: int | None


@dataclass(frozen=True, slots=True)
class IpsecConnection:
    """An IPsec connection attached to a transit router (ECMP-4). ``gateway_address`` is assigned on attachment.

    Its three switches (ECMP-15): ``associate`` with the router's default route table, ``propagate`` to it what the connection has from
    the data centre, ``advertise`` the table's other routes to it. ``routes`` are static destination-based ones (ECMP-40);
    ``region`` None is the router's.
    """

    name: str
    node: str
    transit_router: str
    customer_gateway: str
    zone: str
    tunnel_cidr: str
    local_bgp_address: str
    gateway_address: str
    key: str = field(repr=False)
    local_asn: int = 45104
    bgp: bool = False
    effective_immediately: bool = True
    routing_mode: Literal["destination", "protected-flow"] = "destination"
    ike: Ike = Ike(dh_group="group2")
    esp: Esp = Esp(pfs="group2")
    associate: bool = True
    propagate: bool = True
    advertise: bool = True
    routes: tuple[str, ...] = ()
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class VpcConnection:
    """A VPC attached to the transit router of its region, with the three switches of ECMP-37."""

    name: str
    vpc: str
    transit_router: str
    vswitches: tuple[str, ...]
    associate: bool = True
    propagate_system_routes: bool = True
    set_vpc_routes: bool = True


@dataclass(frozen=True, slots=True)
class InterRegionConnection:
    """Two transit routers joined across regions, with the three switches of ECMP-38. ``bandwidth`` in Mbit/s.

    Its bandwidth is paid by data transfer, or allocated from a bandwidth plan that is named.
    """

    name: str
    transit_routers: tuple[str, str]
    bandwidth: float = 100.0
    associate: bool = True
    propagate: bool = True
    advertise: bool = True
    allocation: Literal["by-traffic", "from-plan"] = "by-traffic"
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayDevice:
    """An on-premises gateway device as its own configuration has it (ECMP-12, ECMP-33).

    ``gateway_address`` is the cloud side's address that the device was told; keys and proposals are the device's own, so that a
    device can be wrong where a user's would be. ``blocks`` are client blocks behind the device itself,
    ``static_routes`` what it sends into the tunnel without BGP.
    """

    name: str
    public_address: str
    provider_next_hop: str
    private_address: str
    clients_next_hop: str
    gateway_address: str
    tunnel_address: str
    neighbor: str
    key: str = field(repr=False)
    asn: int
    neighbor_asn: int
    networks: tuple[str, ...]
    ike: Ike = Ike()
    esp: Esp = Esp()
    ebgp_multihop: int = 255
    blocks: tuple[str, ...] = ()
    static_routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataCentre:
    """The data centre: its client blocks, its inner LAN, its gateway devices (ECMP-2).

    ``asn`` is its router's (None: the devices'). With ``mesh`` the devices speak BGP with one another too.
    """

    name: str
    blocks: tuple[str, ...]
    lan: str
    devices: tuple[GatewayDevice, ...]
    asn: int | None = None
    mesh: bool = False


@dataclass(frozen=True, slots=True)
class Timers:
    """Timers that no document gives: the RFC's defaults unless a lab says otherwise. In seconds, but BFD's interval.

    ``idle_hold_time``: how long a session stays in Idle after its first error, twice as long after each further one (RFC 4271 8.1.1);
    ``route_quota_restart``: how long a session that a route quota tore down stays down (RFC 4486 4).
    """

    hold_time: int = 90
    connect_retry_time: int = 120
    idle_hold_time: float = 1.0
    dpd_delay: float = 30.0
    retransmit_timeout: float = 4.0
    retransmit_tries: int = 5
    bfd_interval_ms: int = 300
    bfd_multiplier: int = 3
    route_quota_restart: int = 60


@dataclass(frozen=True, slots=True)
class Estate:
    """Everything a scenario consists of, cloud and data centre.

    ``unattached`` are IPsec connections that were created and are attached to no transit router yet, by name: they have no gateway IP
    address (ECMP-4), and nothing in the lab stands for them.
    """

    name: str
    title: str
    vpcs: tuple[Vpc, ...]
    transit_routers: tuple[TransitRouter, ...]
    customer_gateways: tuple[CustomerGateway, ...]
    ipsec_connections: tuple[IpsecConnection, ...]
    data_centres: tuple[DataCentre, ...]
    vpc_connections: tuple[VpcConnection, ...] = ()
    inter_region_connections: tuple[InterRegionConnection, ...] = ()
    timers: Timers = Timers()
    unattached: tuple[str, ...] = ()
