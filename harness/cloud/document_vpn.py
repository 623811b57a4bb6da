"""The document ``vpn_gateway:``: what its user may write, and the resources that it becomes.

Source: "VPN Gateway: configure BGP dynamic routing", steps 1 to 3. What is not written follows from what is (docs/vpn.md): a gateway, the
addresses that the cloud assigns, and at the other end of each tunnel a device that is configured as the cloud expects it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Literal

from pydantic import Field

from harness.cloud.build_vpn import compile_vpn_estate
from harness.cloud.document import Built, Kind
from harness.cloud.document_links import LinkedForm
from harness.cloud.document_shape import Form
from harness.cloud.document_tree import Path
from harness.cloud.document_tunnel_forms import (
    ASN,
    KEY_DESCRIPTION,
    REGIONS,
    SECURITY_GROUPS,
    CustomerGatewayForm,
    DataCentreForm,
    IkeForm,
    IpsecForm,
    SecurityGroupForm,
    TunnelTimersForm,
    VSwitchForm,
    data_centre,
    devices_belong,
    places_of_instances,
    regional,
    security_groups,
    vpc_of,
)
from harness.cloud.findings import Finding
from harness.cloud.keys import random_key
from harness.cloud.resources import CustomerGateway, Region, Vpc
from harness.cloud.vpn import (
    BGP_ROUTES_OF_A_GATEWAY,
    DEFAULT_LOCAL_ASN,
    OVERLAPPING_ROUTING_SINCE,
    Cen,
    CenAttachment,
    CustomRoute,
    CustomRouteTable,
    SharedAddressRoutes,
    VpnConnection,
    VpnEstate,
    VpnGateway,
    VpnTunnel,
    tunnel_words,
)
from harness.cloud.vpn_rules import validate


class RouteForm(Form):
    """A custom entry of a route table."""

    prefix: str = Field(description="destination block")
    vpn_gateway: str | None = Field(None, description="next hop; default: the first VPN gateway of the VPC")


class RouteTableForm(Form):
    """A custom route table."""

    name: str = Field(description="its name")
    vswitches: list[str] = Field(description="names of the vSwitches that use it", max_length=64)
    routes: list[RouteForm] = Field([], description="custom entries", max_length=200)


class VpcForm(Form):
    """A VPC with its vSwitches and route tables."""

    name: str = Field("vpc", description="its name")
    region: str = Field("China (Hangzhou)", description="its region", json_schema_extra=REGIONS)
    cidr: str = Field("10.0.0.0/16", description="its block")
    vswitches: list[VSwitchForm] = Field([], description="its vSwitches; default: two /24", max_length=16)
    security_groups: list[SecurityGroupForm] | None = Field(None, description=SECURITY_GROUPS, max_length=16)
    route_tables: list[RouteTableForm] = Field([], description="custom route tables", max_length=9)
    system_routes: list[RouteForm] = Field([], description="custom entries of the system route table", max_length=200)
    cen: str | None = Field(None, description="the CEN instance it is attached to")


class CenForm(Form):
    """A CEN instance."""

    name: str = Field(description="its name")
    created: str = Field(str(OVERLAPPING_ROUTING_SINCE), description="day of its creation (UTC+8), such as 2018-06-30")
    overlapping_routing: bool | None = Field(None, description="default: by the day of creation (VPN-19)")


class GatewayForm(Form):
    """A VPN gateway."""

    name: str = Field("vpngw", description="its name and its node's")
    vpc: str | None = Field(None, description="its VPC; default: the first")
    automatic_advertisement: bool = Field(False, description="Enable Automatic Route Advertisement")
    route_quota: int = Field(
        BGP_ROUTES_OF_A_GATEWAY, description="most routes of its BGP route table", json_schema_extra={"minimum": 1}
    )
    supports_bgp: bool = Field(True, description="false: a version that must be upgraded before it has BGP")
    bgp_peers: list[str] = Field(
        [], description="BGP peers of the gateway itself: none is possible (VPN-8)", max_length=8
    )


class TunnelForm(Form):
    """A tunnel of an IPsec connection."""

    node: str | None = Field(None, description="name of its node; default: vpn1a, vpn1b, vpn2a, ...")
    customer_gateway: str | None = Field(None, description="name of its customer gateway")
    tunnel_cidr: str | None = Field(None, description="tunnel CIDR block, a /30 inside 169.254.0.0/16")
    local_bgp_address: str | None = Field(None, description="local BGP IP address, in the tunnel CIDR block")
    local_asn: int = Field(DEFAULT_LOCAL_ASN, description="local ASN", json_schema_extra=ASN)
    pre_shared_key: str | None = Field(None, repr=False, description=KEY_DESCRIPTION)
    gateway_address: str | None = Field(None, description="gateway IP address; default: assigned, 203.0.113.11 onwards")
    ike: IkeForm = Field(IkeForm(), description="IKE configuration")
    ipsec: IpsecForm = Field(IpsecForm(), description="IPsec configuration")


class ConnectionForm(Form):
    """An IPsec connection: one tunnel, or the primary and the secondary."""

    name: str = Field(description="its name")
    vpn_gateway: str | None = Field(None, description="its VPN gateway; default: the first")
    bgp: bool = Field(False, description="Enable BGP")
    effective_immediately: bool = Field(True, description="negotiate at once; false: when traffic enters")
    routing_mode: Literal["destination", "protected-flow"] = Field("destination", description="routing mode")
    tunnels: list[TunnelForm] = Field(description="one, or primary and secondary", max_length=4)


class VpnForm(LinkedForm):
    """VPN gateways with their IPsec connections, the VPCs behind them, and the data centre."""

    name: str = Field("vpn", description="name of the lab")
    vpcs: list[VpcForm] = Field([VpcForm()], description="the VPCs", min_length=1, max_length=8)
    cens: list[CenForm] = Field([], description="CEN instances", max_length=8)
    gateways: list[GatewayForm] = Field([GatewayForm()], description="the VPN gateways", min_length=1, max_length=8)
    customer_gateways: list[CustomerGatewayForm] = Field([], description="the customer gateways", max_length=64)
    connections: list[ConnectionForm] = Field([], description="the IPsec connections", max_length=32)
    data_centre: DataCentreForm = Field(DataCentreForm(), description="the other end")
    shared_address_routes: Literal["dropped", "documented"] = Field(
        "dropped",
        description="what a route of 100.64.0.0/10 does: it is not taken, or the status becomes unavailable too",
    )
    timers: TunnelTimersForm = Field(TunnelTimersForm(), description="timers that no document gives")


WORDS = {
    "vpcs": "VPC",
    "vswitches": "vSwitch",
    "security_groups": "security group",
    "route_tables": "route table",
    "cens": "CEN instance",
    "gateways": "VPN gateway",
    "customer_gateways": "customer gateway",
    "connections": "IPsec connection",
    "tunnels": "tunnel",
    "data_centre": "data centre",
    "devices": "device",
}

#: Where a rule's field is written, if not under its own name.
FIELDS: dict[str, Path] = {
    "key": ("pre_shared_key",),
    "ike": ("ike", "lifetime"),
    "esp": ("ipsec", "lifetime"),
}


def build(form: VpnForm) -> Built[VpnEstate]:
    """The resources of a form. Never raises, whatever its texts say: they are for the rules to judge."""
    connections = tuple(_connections(form))
    first = 1
    vpcs: list[Vpc] = []
    for each in form.vpcs:
        groups = security_groups(each.security_groups, form.data_centre)
        vpcs.append(vpc_of(each.name, regional(each.region), each.cidr, each.vswitches, first, groups))
        first += len(vpcs[-1].instances)
    estate = VpnEstate(
        form.name,
        f"{form.name}: VPN gateway, IPsec connections and a data centre",
        tuple(vpcs),
        tuple(
            VpnGateway(
                each.name,
                form.vpcs[0].name if each.vpc is None else each.vpc,
                each.automatic_advertisement,
                each.route_quota,
                each.supports_bgp,
                tuple(each.bgp_peers),
            )
            for each in form.gateways
        ),
        tuple(CustomerGateway(each.name, each.address, each.asn) for each in form.customer_gateways),
        connections,
        (data_centre(form.data_centre, form.customer_gateways, _ends_of(connections)),),
        tuple(
            CustomRouteTable(table.name, vpc.name, tuple(table.vswitches), tuple(_routes(form, vpc, table.routes)))
            for vpc in form.vpcs
            for table in vpc.route_tables
        ),
        tuple(route for vpc in form.vpcs for route in _routes(form, vpc, vpc.system_routes)),
        tuple(
            Cen(each.name, _day(each.created) or OVERLAPPING_ROUTING_SINCE, each.overlapping_routing)
            for each in form.cens
        ),
        tuple(CenAttachment(vpc.cen, vpc.name) for vpc in form.vpcs if vpc.cen is not None),
        SharedAddressRoutes(form.shared_address_routes),
        form.timers.value(),
    )
    return Built(estate, dict(_objects(form, estate)), tuple(_findings(form, estate)))


def _routes(form: VpnForm, vpc: VpcForm, routes: list[RouteForm]) -> Iterator[CustomRoute]:
    own = [gateway.name for gateway in form.gateways if gateway.vpc in (None, vpc.name)]
    for route in routes:
        yield CustomRoute(route.prefix, route.vpn_gateway or (own[0] if own else form.gateways[0].name))


def _connections(form: VpnForm) -> Iterator[VpnConnection]:
    number = 0
    for place, connection in enumerate(form.connections, 1):
        tunnels = []
        for part, tunnel in enumerate(connection.tunnels):
            number += 1
            tunnels.append(
                VpnTunnel(
                    tunnel.node or f"vpn{place}{'abcd'[part]}",
                    tunnel.gateway_address or f"203.0.113.{10 + number}",
                    random_key() if tunnel.pre_shared_key is None else tunnel.pre_shared_key,
                    tunnel.customer_gateway,
                    tunnel.tunnel_cidr,
                    tunnel.local_bgp_address,
                    tunnel.local_asn,
                    tunnel.ike.value(),
                    tunnel.ipsec.value(),
                )
            )
        yield VpnConnection(
            connection.name,
            form.gateways[0].name if connection.vpn_gateway is None else connection.vpn_gateway,
            tuple(tunnels),
            connection.bgp,
            connection.effective_immediately,
            connection.routing_mode,
        )


def _ends_of(connections: Iterable[VpnConnection]) -> Iterator[tuple[str, int, VpnTunnel]]:
    for connection in connections:
        for part, tunnel in enumerate(connection.tunnels):
            yield connection.name, part, tunnel


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _findings(form: VpnForm, estate: VpnEstate) -> Iterator[Finding]:
    for vpc in form.vpcs:
        if vpc.region not in list(Region):
            rule = f"region {vpc.region!r} is not known"
            yield Finding(f"VPC {vpc.name}", rule, "VPN-18", f"Choose one of {', '.join(Region)}", field="region")
    for cen in form.cens:
        if _day(cen.created) is None:
            rule = f"{cen.created!r} is no day"
            yield Finding(f"CEN instance {cen.name}", rule, "VPN-19", "Write it like 2018-06-30", field="created")
    parts = {connection.name: len(connection.tunnels) for connection in estate.ipsec_connections}
    yield from devices_belong(form.data_centre, parts, "VPN-24")


def _objects(form: VpnForm, estate: VpnEstate) -> Iterator[tuple[str, Path]]:
    """Where each object is written, by the name that findings give it; what a default made is where its cause is written."""
    for number, gateway in enumerate(form.gateways):
        yield f"VPN gateway {gateway.name}", ("gateways", number)
    for number, customer in enumerate(form.customer_gateways):
        yield customer.name, ("customer_gateways", number)
        yield f"customer gateway {customer.name}", ("customer_gateways", number)
    names = iter(device.name for centre in estate.data_centres for device in centre.devices)
    known = {customer.name for customer in form.customer_gateways}
    told = {(d.connection, d.tunnel): n for n, d in enumerate(form.data_centre.devices)}
    for number, connection in enumerate(estate.ipsec_connections):
        here: Path = ("connections", number)
        yield f"IPsec connection {connection.name}", here
        for part, tunnel in enumerate(connection.tunnels):
            yield tunnel_words(connection, tunnel), (*here, "tunnels", part)
            if tunnel.customer_gateway in known:
                place = told.get((connection.name, ("primary", "secondary")[min(part, 1)]))
                device = next(names)
                where: Path = (*here, "tunnels", part) if place is None else ("data_centre", "devices", place)
                yield device, where
                yield f"device {device}", where
        if connection.dual or not connection.tunnels:
            yield connection.name, here
    for number, _ in enumerate(form.data_centre.devices):
        yield f"device {number + 1}", ("data_centre", "devices", number)
    yield f"data centre {form.data_centre.name}", ("data_centre",)
    yield "timers", ("timers",)
    for number, cen in enumerate(form.cens):
        yield f"CEN instance {cen.name}", ("cens", number)
    for number, vpc in enumerate(form.vpcs):
        yield f"VPC {vpc.name}", ("vpcs", number)
        yield from places_of_instances(estate.vpcs[number], vpc.vswitches, vpc.security_groups, ("vpcs", number))
        yield from ((f"vSwitch {v.name}", ("vpcs", number, "vswitches", n)) for n, v in enumerate(vpc.vswitches))
        yield from (
            (f"route table {t.name}", ("vpcs", number, "route_tables", n)) for n, t in enumerate(vpc.route_tables)
        )
        if vpc.system_routes:
            yield "system route table", ("vpcs", number, "system_routes")


KIND: Kind[VpnForm, VpnEstate] = Kind(
    "vpn_gateway",
    "VPN gateways with IPsec connections and a data centre",
    VpnForm,
    build,
    validate,
    compile_vpn_estate,
    WORDS,
    FIELDS,
)
