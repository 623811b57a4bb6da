"""The document ``ipsec:``: IPsec connections attached to a transit router, with ECMP, and what they lead to.

Source: "VPN Gateway: create multiple IPsec connections over the internet for load balancing", steps 1 to 5. Without an inter-region
connection the VPC is in the region of the one transit router; with one, the VPC's region has a transit router of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from harness.cloud.build import compile_estate
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
    network_of,
    places_of_instances,
    regional,
    security_groups,
    vpc_of,
)
from harness.cloud.findings import Finding
from harness.cloud.keys import random_key
from harness.cloud.resources import (
    SUPPORTED_ZONES,
    CustomerGateway,
    Estate,
    InterRegionConnection,
    IpsecConnection,
    Region,
    TransitRouter,
    VpcConnection,
)
from harness.cloud.rules import validate
from harness.cloud.vpn import DEFAULT_LOCAL_ASN
from harness.cloud.vpn_site_rules import CABLED_NAME


class VpcForm(Form):
    """The VPC and its connection to the transit router of its region."""

    name: str = Field("vpc", description="its name")
    region: str = Field("China (Shanghai)", description="its region", json_schema_extra=REGIONS)
    cidr: str = Field("10.0.0.0/16", description="its block")
    vswitches: list[VSwitchForm] = Field(
        [], description="its vSwitches; default: two /24 in supported zones", max_length=16
    )
    security_groups: list[SecurityGroupForm] | None = Field(None, description=SECURITY_GROUPS, max_length=16)
    associate: bool = Field(True, description="associate the VPC connection with the default route table")
    propagate_system_routes: bool = Field(True, description="propagate system routes to the transit router")
    set_vpc_routes: bool = Field(True, description="set 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 in all its tables")


class InterRegionForm(Form):
    """The inter-region connection, where VPC and IPsec connections are in different regions."""

    bandwidth: float | int = Field(100, description="Mbit/s, enforced")
    allocation: Literal["by-traffic", "from-plan"] = Field("by-traffic", description="how the bandwidth is allocated")
    plan: str | None = Field(None, description="the bandwidth plan")
    associate: bool = Field(True, description="associate with the default route tables")
    propagate: bool = Field(True, description="propagate to the default route tables")
    advertise: bool = Field(True, description="advertise routes to the peer region")


class ConnectionForm(Form):
    """An IPsec connection attached to the transit router."""

    name: str = Field(description="its name")
    node: str | None = Field(None, description="name of its node; default: vpn1, vpn2, ...")
    customer_gateway: str = Field(description="name of its customer gateway")
    attached: bool = Field(True, description="attached to the transit router? Only then it has a gateway IP address")
    zone: str | None = Field(None, description="its zone; default: the first that the transit router supports")
    bgp: bool = Field(False, description="Enable BGP")
    local_asn: int = Field(DEFAULT_LOCAL_ASN, description="local ASN", json_schema_extra=ASN)
    tunnel_cidr: str = Field(description="tunnel CIDR block, a /30 inside 169.254.0.0/16")
    local_bgp_address: str = Field(description="local BGP IP address, in the tunnel CIDR block")
    pre_shared_key: str | None = Field(None, repr=False, description=KEY_DESCRIPTION)
    gateway_address: str | None = Field(None, description="gateway IP address; default: assigned, 203.0.113.11 onwards")
    effective_immediately: bool = Field(True, description="negotiate at once; false: when traffic enters")
    routing_mode: Literal["destination", "protected-flow"] = Field("destination", description="routing mode")
    routes: list[str] = Field([], description="static destination-based routes", max_length=64)
    associate: bool = Field(True, description="associate with the default route table")
    propagate: bool = Field(True, description="propagate its routes to the default route table")
    advertise: bool = Field(True, description="advertise the table's other routes to it")
    ike: IkeForm = Field(IkeForm(), description="IKE configuration")
    ipsec: IpsecForm = Field(IpsecForm(), description="IPsec configuration")


class EcmpForm(LinkedForm):
    """IPsec connections of a transit router, the VPC behind it, and the data centre."""

    name: str = Field("ipsec", description="name of the lab")
    region: str = Field("China (Hangzhou)", description="region of the IPsec connections", json_schema_extra=REGIONS)
    transit_router_cidr: str | None = Field(
        "198.51.100.192/28", description="block of the transit router; null: none yet"
    )
    edition: Literal["Enterprise", "Basic"] = Field("Enterprise", description="edition of the transit routers")
    vpc: VpcForm = Field(VpcForm(), description="the VPC")
    inter_region: InterRegionForm = Field(InterRegionForm(), description="where the VPC is in another region")
    customer_gateways: list[CustomerGatewayForm] = Field([], description="the customer gateways", max_length=64)
    connections: list[ConnectionForm] = Field([], description="the IPsec connections", max_length=32)
    data_centre: DataCentreForm = Field(DataCentreForm(), description="the other end")
    timers: TunnelTimersForm = Field(TunnelTimersForm(), description="timers that no document gives")


WORDS = {
    "vpc": "VPC",
    "vswitches": "vSwitch",
    "security_groups": "security group",
    "customer_gateways": "customer gateway",
    "connections": "IPsec connection",
    "data_centre": "data centre",
    "devices": "device",
}
FIELDS: dict[str, Path] = {
    "key": ("pre_shared_key",),
    "ike": ("ike", "lifetime"),
    "esp": ("ipsec", "lifetime"),
}


def build(form: EcmpForm) -> Built[Estate]:
    """The resources of a form. Never raises, whatever its texts say: they are for the rules to judge."""
    here, there = regional(form.region), regional(form.vpc.region)
    apart = here is not there
    zones = SUPPORTED_ZONES.get(there, ())
    written = form.vpc.vswitches or [
        VSwitchForm(name=f"vSwitch {n}", cidr=block, zone=zones[(n - 1) % len(zones)] if zones else "H")
        for n, block in enumerate(_first_blocks(form.vpc.cidr), 1)
    ]
    groups = security_groups(form.vpc.security_groups, form.data_centre)
    vpc = vpc_of(form.vpc.name, there, form.vpc.cidr, written, 1, groups)
    routers = [TransitRouter("tr", here, form.transit_router_cidr, edition=form.edition)]
    if apart:
        routers.append(TransitRouter("tr2", there, "198.51.100.208/28", edition=form.edition))
    connections = tuple(_connections(form, here))
    inter = form.inter_region
    estate = Estate(
        form.name,
        f"{form.name}: IPsec connections of a transit router",
        (vpc,),
        tuple(routers),
        tuple(CustomerGateway(each.name, each.address, each.asn) for each in form.customer_gateways),
        connections,
        (data_centre(form.data_centre, form.customer_gateways, ((each.name, 0, each) for each in connections)),),
        (
            VpcConnection(
                "VPC-connection",
                vpc.name,
                routers[-1].name,
                tuple(vswitch.name for vswitch in vpc.vswitches),
                form.vpc.associate,
                form.vpc.propagate_system_routes,
                form.vpc.set_vpc_routes,
            ),
        ),
        (
            InterRegionConnection(
                "Inter-region-connection",
                ("tr", "tr2"),
                float(inter.bandwidth),
                inter.associate,
                inter.propagate,
                inter.advertise,
                inter.allocation,
                inter.plan,
            ),
        )
        if apart
        else (),
        form.timers.value(),
        tuple(each.name for each in form.connections if not each.attached),
    )
    return Built(estate, dict(_objects(form, estate)), tuple(_findings(form, estate)))


def _first_blocks(cidr: str) -> list[str]:
    block = network_of(cidr)
    if block is None:
        return []
    parts = block.subnets(new_prefix=max(24, block.prefixlen))
    return [str(part) for part, _ in zip(parts, range(2), strict=False)]


def _connections(form: EcmpForm, region: Region) -> Iterator[IpsecConnection]:
    zones = SUPPORTED_ZONES.get(region, ())
    for number, each in enumerate(form.connections, 1):
        if not each.attached:
            continue
        yield IpsecConnection(
            name=each.name,
            node=each.node or f"vpn{number}",
            transit_router="tr",
            customer_gateway=each.customer_gateway,
            zone=each.zone or (zones[0] if zones else ""),
            tunnel_cidr=each.tunnel_cidr,
            local_bgp_address=each.local_bgp_address,
            gateway_address=each.gateway_address or f"203.0.113.{10 + number}",
            key=random_key() if each.pre_shared_key is None else each.pre_shared_key,
            local_asn=each.local_asn,
            bgp=each.bgp,
            effective_immediately=each.effective_immediately,
            routing_mode=each.routing_mode,
            ike=each.ike.value(),
            esp=each.ipsec.value(),
            associate=each.associate,
            propagate=each.propagate,
            advertise=each.advertise,
            routes=tuple(each.routes),
        )


def _findings(form: EcmpForm, estate: Estate) -> Iterator[Finding]:
    for owner, region in (("document", form.region), (f"VPC {form.vpc.name}", form.vpc.region)):
        if region not in list(Region):
            rule = f"region {region!r} is not known"
            yield Finding(owner, rule, "ECMP-26", f"Choose one of {', '.join(Region)}", field="region")
    for waiting in form.connections:
        if not waiting.attached and waiting.gateway_address is not None:
            rule = f"gateway IP address {waiting.gateway_address}, but it is assigned when the connection is attached"
            yield Finding(
                waiting.name, rule, "ECMP-4", "Leave it out, or attach the connection", field="gateway_address"
            )
    yield from devices_belong(form.data_centre, {each.name: 1 for each in form.connections}, "ECMP-12")
    names = [connection.node for connection in estate.ipsec_connections]
    for each in estate.ipsec_connections:
        if not CABLED_NAME.fullmatch(each.node) or names.count(each.node) > 1:
            rule = f"{each.node!r} cannot name a node, or names two"
            yield Finding(each.name, rule, "ECMP-4", "Use 1 to 12 letters, digits and hyphens", field="node")


def _objects(form: EcmpForm, estate: Estate) -> Iterator[tuple[str, Path]]:
    """Where each object is written, by the name that findings give it."""
    for number, customer in enumerate(form.customer_gateways):
        yield customer.name, ("customer_gateways", number)
    for number, each in enumerate(form.connections):
        yield each.name, ("connections", number)
    for number, _ in enumerate(form.data_centre.devices):
        yield f"device {number + 1}", ("data_centre", "devices", number)
    yield "timers", ("timers",)
    yield f"data centre {form.data_centre.name}", ("data_centre",)
    yield f"VPC {form.vpc.name}", ("vpc",)
    yield "VPC-connection", ("vpc",)
    yield from places_of_instances(estate.vpcs[0], form.vpc.vswitches, form.vpc.security_groups, ("vpc",))
    yield "Inter-region-connection", ("inter_region",)
    for number, vswitch in enumerate(form.vpc.vswitches):
        yield f"vSwitch {vswitch.name}", ("vpc", "vswitches", number)
    told = {device.connection: number for number, device in enumerate(form.data_centre.devices)}
    devices = [device for centre in estate.data_centres for device in centre.devices]
    known = {customer.name for customer in form.customer_gateways}
    for device, each in zip(
        devices, (c for c in form.connections if c.attached and c.customer_gateway in known), strict=False
    ):
        yield device.name, ("data_centre", "devices", told[each.name]) if each.name in told else ("data_centre",)


KIND: Kind[EcmpForm, Estate] = Kind(
    "ipsec",
    "IPsec connections of a transit router, with ECMP",
    EcmpForm,
    build,
    validate,
    compile_estate,
    WORDS,
    FIELDS,
)
