"""The documents' rules for an estate, one small function a rule, all listed in :data:`RULES`.

A rule yields findings and never raises; :func:`validate` runs them all, so that a user sees every mistake at once. Rules of the
virtual border router stand in ``harness.cloud.vbr_rules``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Protocol

from harness.cloud import security_groups
from harness.cloud.findings import Finding, Severity, judge, refuse_errors
from harness.cloud.resources import SUPPORTED_ZONES, CustomerGateway, DataCentre, Estate, IpsecConnection, Vpc
from harness.cloud.site_rules import FIRST

Rule = Callable[[Estate], Iterator[Finding]]


class Sited(Protocol):
    """What estates of every kind with gateway devices have, for the rules that they share."""

    @property
    def vpcs(self) -> tuple[Vpc, ...]: ...

    @property
    def customer_gateways(self) -> tuple[CustomerGateway, ...]: ...

    @property
    def data_centres(self) -> tuple[DataCentre, ...]: ...


#: ECMP-5: both backslash and vertical bar are legal, the double quote and the space are not.
KEY = re.compile(r"[A-Za-z0-9~`!@#$%^&*()_\-+={}\[\]\\|;:',.<>/?]{1,100}")

#: ECMP-8: the /30 blocks inside 169.254.0.0/16 that a connection attached to a transit router may not use.
RESERVED_TUNNEL_BLOCKS = (*(f"169.254.{n}.0/30" for n in range(7)), "169.254.169.252/30")

#: ECMP-16: what "set routes in all VPC route tables" adds.
VPC_CUSTOM_ROUTES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")

_LINK_LOCAL = IPv4Network("169.254.0.0/16")


def validate(estate: Estate) -> list[Finding]:
    """Every finding of every rule, errors first. Rules that need sound addresses and names run once those are."""
    return judge(estate, FIRST) or judge(estate, RULES)


def require_valid(estate: Estate) -> list[Finding]:
    """The warnings of an estate without errors. Raises :class:`harness.cloud.findings.Refused` with all errors otherwise."""
    return refuse_errors(validate(estate))


def blocks_do_not_overlap(estate: Sited) -> Iterator[Finding]:
    named = [(f"VPC {vpc.name}", vpc.cidr) for vpc in estate.vpcs]
    named += [(f"data centre {dc.name}", block) for dc in estate.data_centres for block in dc.blocks]
    named += [(f"device {d.name}", block) for dc in estate.data_centres for d in dc.devices for block in d.blocks]
    for (left, a), (right, b) in itertools.combinations(named, 2):
        if left != right and ip_network(a).overlaps(ip_network(b)):
            yield Finding(left, f"{a} overlaps {b} of {right}", "ECMP-1", "Give one of the two another block")


def vswitches_lie_in_their_vpc(estate: Sited) -> Iterator[Finding]:
    for vpc in estate.vpcs:
        for vswitch in vpc.vswitches:
            if not IPv4Network(vswitch.cidr).subnet_of(IPv4Network(vpc.cidr)):
                rule = f"{vswitch.cidr} is not inside {vpc.cidr} of VPC {vpc.name}"
                yield Finding(f"vSwitch {vswitch.name}", rule, "ECMP-1", f"Choose a block inside {vpc.cidr}")


def customer_gateways_are_outside(estate: Sited) -> Iterator[Finding]:
    for gateway in estate.customer_gateways:
        yield from inside_of(estate, gateway.name, "address", gateway.address)


def gateway_addresses_are_outside(estate: Estate) -> Iterator[Finding]:
    for connection in estate.ipsec_connections:
        yield from inside_of(estate, connection.name, "gateway_address", connection.gateway_address)


def inside_of(estate: Sited, owner: str, field: str, address: str) -> Iterator[Finding]:
    """A public address that lies in a block of the VPCs or of the data centre."""
    blocks = [(vpc.cidr, f"VPC {vpc.name}") for vpc in estate.vpcs]
    blocks += [(block, f"data centre {c.name}") for c in estate.data_centres for block in (c.lan, *c.blocks)]
    blocks += [(block, d.name) for c in estate.data_centres for d in c.devices for block in d.blocks]
    for block, whose in blocks:
        if IPv4Address(address) in IPv4Network(block):
            rule = f"its IP address {address} lies in {block} of {whose}"
            yield Finding(owner, rule, "ECMP-3", "Give an address that the internet reaches", field=field)


def keys_are_legal(estate: Estate) -> Iterator[Finding]:
    for connection in estate.ipsec_connections:
        if not KEY.fullmatch(connection.key):
            rule = "the pre-shared key is not 1 to 100 of the letters, digits and special characters allowed"
            yield Finding(connection.name, rule, "ECMP-5", "Use no space, no double quote and at most 100 characters")


def customer_gateways_fit(estate: Estate) -> Iterator[Finding]:
    gateways = {gateway.name: gateway for gateway in estate.customer_gateways}
    for connection in estate.ipsec_connections:
        gateway = gateways.get(connection.customer_gateway)
        if gateway is None:
            rule = f"customer gateway {connection.customer_gateway!r} does not exist"
            yield Finding(
                connection.name, rule, "ECMP-4", f"Choose one of {', '.join(gateways) or 'those you create first'}"
            )
        elif connection.bgp and gateway.asn is None:
            rule = f"BGP is on, but {gateway.name} has no ASN"
            yield Finding(
                connection.name, rule, "VPN-16", "Delete the customer gateway and create it again with an ASN"
            )


def transit_routers_take_connections(estate: Estate) -> Iterator[Finding]:
    routers = {router.name: router for router in estate.transit_routers}
    for connection in estate.ipsec_connections:
        router = routers.get(connection.transit_router)
        if router is None:
            rule = f"transit router {connection.transit_router!r} does not exist"
            yield Finding(
                connection.name, rule, "ECMP-26", "Create an Enterprise Edition transit router in its region first"
            )
            continue
        if connection.region is not None and connection.region != router.region:
            rule = f"it is in {connection.region}, transit router {router.name} in {router.region}"
            yield Finding(connection.name, rule, "ECMP-26", f"Create it in {router.region}", field="region")
        if router.cidr is None:
            rule = f"transit router {router.name} has no CIDR block"
            yield Finding(connection.name, rule, "ECMP-25", "Add a CIDR block to the transit router, then attach again")
        zones = SUPPORTED_ZONES.get(router.region, ())
        if connection.zone not in zones:
            rule = f"zone {connection.zone} is not supported by the transit router in {router.region}"
            yield Finding(connection.name, rule, "ECMP-27", f"Choose zone {' or '.join(zones)}")


def tunnel_blocks_are_allowed(estate: Estate) -> Iterator[Finding]:
    owners: dict[IPv4Network, str] = {}
    for connection in estate.ipsec_connections:
        finding = _tunnel_block(connection)
        if finding is not None:
            yield finding
            continue
        block = IPv4Network(connection.tunnel_cidr)
        if block in owners:
            rule = f"tunnel block {block} is used by {owners[block]} already"
            yield Finding(connection.name, rule, "ECMP-8", "Give every tunnel a block of its own")
        owners[block] = connection.name
        if IPv4Address(connection.local_bgp_address) not in block.hosts():
            rule = f"local BGP address {connection.local_bgp_address} is not a host address of {block}"
            yield Finding(connection.name, rule, "ECMP-8", f"Choose {' or '.join(map(str, block.hosts()))}")


def _tunnel_block(connection: IpsecConnection) -> Finding | None:
    try:
        block = IPv4Network(connection.tunnel_cidr)
    except ValueError as error:
        return Finding(connection.name, f"tunnel CIDR block: {error}", "ECMP-8", "Give a /30 inside 169.254.0.0/16")
    if block.prefixlen != 30 or not block.subnet_of(_LINK_LOCAL):
        rule = f"tunnel CIDR block {block} is not a /30 inside 169.254.0.0/16"
        return Finding(connection.name, rule, "ECMP-8", "Choose a /30 such as 169.254.10.0/30")
    if str(block) in RESERVED_TUNNEL_BLOCKS:
        rule = f"tunnel CIDR block {block} is reserved"
        return Finding(connection.name, rule, "ECMP-8", f"Choose another than {', '.join(RESERVED_TUNNEL_BLOCKS)}")
    return None


def asns_are_legal(estate: Estate) -> Iterator[Finding]:
    named = [(connection.name, connection.local_asn, "VPN-17") for connection in estate.ipsec_connections]
    named += [(gateway.name, gateway.asn, "ECMP-3") for gateway in estate.customer_gateways if gateway.asn is not None]
    for owner, asn, spec in named:
        if not 1 <= asn <= 4294967295:
            yield Finding(
                owner, f"ASN {asn} is not in 1 to 4294967295", spec, "Choose an ASN in the range, 45104 by default"
            )
        elif asn in (23456, 65535, 4294967295):
            yield Finding(
                owner, f"ASN {asn} is reserved (RFC 7300, RFC 6793)", spec, "Choose another", Severity.WARNING
            )


def vpc_connections_reach_zones(estate: Estate) -> Iterator[Finding]:
    routers = {router.name: router for router in estate.transit_routers}
    vpcs = {vpc.name: vpc for vpc in estate.vpcs}
    for connection in estate.vpc_connections:
        router, vpc = routers.get(connection.transit_router), vpcs.get(connection.vpc)
        if router is None or vpc is None:
            missing = connection.transit_router if router is None else connection.vpc
            yield Finding(connection.name, f"{missing!r} does not exist", "ECMP-26", "Create it first")
            continue
        if vpc.region != router.region:
            rule = f"VPC {vpc.name} is in {vpc.region}, transit router {router.name} in {router.region}"
            yield Finding(connection.name, rule, "ECMP-26", "Attach a VPC to the transit router of its own region")
        supported = SUPPORTED_ZONES.get(router.region, ())
        for vswitch in vpc.vswitches:
            if vswitch.name in connection.vswitches and vswitch.idle_addresses == 0:
                rule = f"vSwitch {vswitch.name} has no idle IP address"
                yield Finding(connection.name, rule, "ECMP-36", "Free an address in it, or choose another vSwitch")
        zones = {vswitch.zone for vswitch in vpc.vswitches if vswitch.name in connection.vswitches} & set(supported)
        if len(zones) < min(2, len(supported)):
            rule = (
                f"its vSwitches cover zone {', '.join(sorted(zones)) or 'none'} of the supported {', '.join(supported)}"
            )
            yield Finding(
                connection.name, rule, "ECMP-36", "Choose at least two vSwitches in different supported zones"
            )


def inter_region_connections_are_sound(estate: Estate) -> Iterator[Finding]:
    regions = {router.name: router.region for router in estate.transit_routers}
    for connection in estate.inter_region_connections:
        missing = [name for name in connection.transit_routers if name not in regions]
        if missing:
            yield Finding(
                connection.name, f"transit router {missing[0]!r} does not exist", "ECMP-26", "Create it first"
            )
        elif len({regions[name] for name in connection.transit_routers}) < 2:
            yield Finding(connection.name, "both transit routers are in one region", "ECMP-38", "Choose a peer region")
        if connection.allocation == "from-plan" and connection.plan is None:
            rule = "its bandwidth is allocated from a bandwidth plan, and none is named"
            yield Finding(connection.name, rule, "ECMP-38", "Name the bandwidth plan, or allocate by traffic")
        if connection.bandwidth <= 0:
            rule = f"bandwidth {connection.bandwidth} Mbit/s is not positive"
            yield Finding(connection.name, rule, "ECMP-38", "Give the bandwidth in Mbit/s")


def bgp_goes_with_destination_routing(estate: Estate) -> Iterator[Finding]:
    for connection in estate.ipsec_connections:
        if connection.bgp and connection.routing_mode != "destination":
            rule = "BGP is on with a routing mode that is not destination-based"
            remedy = "Choose destination-based routing with BGP"
            yield Finding(connection.name, rule, "VPN-15", remedy, Severity.WARNING)


def asn_of_device_matches(estate: Sited) -> Iterator[Finding]:
    asns = {gateway.address: (gateway.name, gateway.asn) for gateway in estate.customer_gateways}
    for device in (device for centre in estate.data_centres for device in centre.devices):
        name, asn = asns.get(device.public_address, ("", None))
        if asn is not None and asn != device.asn:
            rule = f"the device speaks as AS {device.asn}, {name} says AS {asn}"
            remedy = "Delete the customer gateway and create it again with the device's ASN"
            yield Finding(device.name, rule, "ECMP-3", remedy, Severity.WARNING)


def transit_routers_are_of_one_cen(estate: Estate) -> Iterator[Finding]:
    cens = {router.name: router.cen for router in estate.transit_routers}
    for router in estate.transit_routers:
        if router.cen is None:
            rule = "it belongs to no CEN instance"
            yield Finding(f"transit router {router.name}", rule, "ECMP-26", "Create it in a CEN instance")
        if router.edition != "Enterprise":
            rule = f"it is of the {router.edition} Edition"
            remedy = "Create an Enterprise Edition transit router; only these take IPsec connections"
            yield Finding(f"transit router {router.name}", rule, "ECMP-26", remedy)
    for connection in estate.inter_region_connections:
        found = {cens[name] for name in connection.transit_routers if name in cens} - {None}
        if len(found) > 1:
            rule = f"its transit routers belong to different CEN instances ({', '.join(sorted(map(str, found)))})"
            yield Finding(connection.name, rule, "ECMP-26", "Join transit routers of one CEN instance")


def route_check(estate: Estate) -> Iterator[Finding]:
    """What the console's route check names before the three blocks of ECMP-16 are set in a VPC."""
    vpcs = {vpc.name: vpc for vpc in estate.vpcs}
    for connection in estate.vpc_connections:
        vpc = vpcs.get(connection.vpc)
        for route in vpc.routes if vpc is not None and connection.set_vpc_routes else ():
            if route.prefix not in VPC_CUSTOM_ROUTES or route.next_hop == connection.name:
                continue
            blocks = [block for centre in estate.data_centres for block in centre.blocks]
            by_hand = (
                {each.prefix for each in vpc.routes if each.next_hop == connection.name} if vpc is not None else set()
            )
            hidden = [b for b in blocks if IPv4Network(b).subnet_of(IPv4Network(route.prefix)) and b not in by_hand]
            rule = (
                f"VPC {connection.vpc} has {route.prefix} to {route.next_hop} already: it is kept and not added again"
            )
            rule += f", so {', '.join(hidden)} cannot be reached" if hidden else ""
            remedy = f"Add {' and '.join(hidden) or 'narrower routes'} to {connection.name} by hand"
            yield Finding(connection.name, rule, "ECMP-16", remedy, Severity.WARNING)


def custom_routes_have_next_hops(estate: Estate) -> Iterator[Finding]:
    for vpc in estate.vpcs:
        known = {instance.name for instance in vpc.instances}
        known |= {connection.name for connection in estate.vpc_connections if connection.vpc == vpc.name}
        for route in vpc.routes:
            if route.next_hop not in known:
                rule = f"next hop {route.next_hop!r} of {route.prefix} is no instance and no connection of it"
                yield Finding(
                    f"VPC {vpc.name}", rule, "ECMP-39", f"Choose {' or '.join(sorted(known)) or 'an instance'}"
                )


RULES: tuple[Rule, ...] = (
    transit_routers_are_of_one_cen,
    custom_routes_have_next_hops,
    route_check,
    blocks_do_not_overlap,
    vswitches_lie_in_their_vpc,
    customer_gateways_are_outside,
    gateway_addresses_are_outside,
    keys_are_legal,
    customer_gateways_fit,
    transit_routers_take_connections,
    tunnel_blocks_are_allowed,
    asns_are_legal,
    vpc_connections_reach_zones,
    inter_region_connections_are_sound,
    bgp_goes_with_destination_routing,
    asn_of_device_matches,
    *security_groups.RULES,
)
