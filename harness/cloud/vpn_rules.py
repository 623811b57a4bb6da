"""The document's rules for VPN gateways, one small function a rule, all listed in :data:`RULES`.

A rule yields findings and never raises; :func:`validate` runs them all. Source: "VPN Gateway: configure BGP dynamic routing"; what
it says nothing of (†) is marked in docs/requirements.md.
Rules of words and names are in ``harness.cloud.vpn_site_rules``.
Tunnel blocks are those of VPN-17, which leaves 169.254.6.0/30 free; a transit router's (ECMP-8, ``harness.cloud.rules``) does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from harness.cloud import security_groups
from harness.cloud.findings import Finding, Severity, judge, refuse_errors
from harness.cloud.resources import CustomerGateway
from harness.cloud.rules import (
    KEY,
    asn_of_device_matches,
    blocks_do_not_overlap,
    customer_gateways_are_outside,
    inside_of,
    vswitches_lie_in_their_vpc,
)
from harness.cloud.vpn import (
    BGP_REGIONS,
    CLOSING_DOWN,
    SHARED_ADDRESSES,
    SharedAddressRoutes,
    VpnEstate,
    VpnGateway,
    VpnTunnel,
    cen_of,
    tunnel_words,
    tunnels_of,
)
from harness.cloud.vpn_site_rules import FIRST, addresses_have_one_owner, devices_of

Rule = Callable[[VpnEstate], Iterator[Finding]]

#: VPN-17: the /30 blocks inside 169.254.0.0/16 that a tunnel of a VPN gateway may not use.
RESERVED_TUNNEL_BLOCKS = (*(f"169.254.{n}.0/30" for n in range(6)), "169.254.169.252/30")
#: VPN-17†: legal in the form, but not an ASN of anybody's own (RFC 6793, RFC 7300).
RESERVED_ASNS = (23456, 65535, 4294967295)

_LINK_LOCAL = IPv4Network("169.254.0.0/16")


@dataclass(frozen=True, slots=True)
class Conflict:
    """Destinations that a gateway would learn over two dual-tunnel connections (VPN-14)."""

    connections: tuple[str, str]
    prefixes: tuple[str, ...]


def validate(estate: VpnEstate) -> list[Finding]:
    """Every finding of every rule, errors first. Rules that need sound addresses and names run once those are."""
    return judge(estate, FIRST) or judge(estate, RULES)


def require_valid(estate: VpnEstate) -> list[Finding]:
    """The warnings of an estate without errors. Raises :class:`harness.cloud.findings.Refused` with all errors otherwise."""
    return refuse_errors(validate(estate))


# ---------------------------------------------------------------------------------------------------------------- gateways


def gateway_addresses_are_outside(estate: VpnEstate) -> Iterator[Finding]:
    for connection, tunnel in tunnels_of(estate):
        yield from inside_of(estate, tunnel_words(connection, tunnel), "gateway_address", tunnel.gateway_address)


def regions_support_bgp(estate: VpnEstate) -> Iterator[Finding]:
    supported = [region for regions in BGP_REGIONS.values() for region in regions]
    regions_of = {vpc.name: vpc.region for vpc in estate.vpcs}
    for gateway in _with_bgp(estate):
        region = regions_of[gateway.vpc]
        if region not in supported:
            rule = f"BGP dynamic routing is not supported in {region}"
            listed = "; ".join(f"{area}: {', '.join(regions)}" for area, regions in BGP_REGIONS.items())
            yield Finding(_gateway(gateway), rule, "VPN-18", f"Choose a region of the list. {listed}")
        elif region in CLOSING_DOWN:
            rule = f"the region {region} is closing down"
            yield Finding(_gateway(gateway), rule, "VPN-18", "Choose another region", Severity.WARNING)


def gateways_support_bgp(estate: VpnEstate) -> Iterator[Finding]:
    for gateway in _with_bgp(estate):
        if not gateway.supports_bgp:
            rule = "this version of the VPN gateway does not support BGP dynamic routing"
            yield Finding(_gateway(gateway), rule, "VPN-21", "Upgrade the VPN gateway first", field="supports_bgp")


def gateways_have_no_bgp_peers(estate: VpnEstate) -> Iterator[Finding]:
    vpcs = {gateway.name: gateway.vpc for gateway in estate.vpn_gateways}
    for gateway in estate.vpn_gateways:
        for peer in gateway.bgp_peers:
            same = f", a VPN gateway of VPC {vpcs[peer]}" if peer in vpcs else ""
            rule = f"{peer}{same}, cannot be its BGP peer: VPN gateways do not advertise routes to each other"
            yield Finding(
                _gateway(gateway),
                rule,
                "VPN-8",
                "Connect each gateway to the data centre by a connection of its own",
                field="bgp_peers",
            )


def route_quotas_are_positive(estate: VpnEstate) -> Iterator[Finding]:
    for gateway in estate.vpn_gateways:
        if gateway.route_quota < 1:
            rule = f"route quota {gateway.route_quota} is not positive"
            yield Finding(
                _gateway(gateway),
                rule,
                "VPN-3",
                "Leave it out for 50, or give what the ticket granted",
                field="route_quota",
            )


def route_quotas_are_enough(estate: VpnEstate) -> Iterator[Finding]:
    for gateway in estate.vpn_gateways:
        offered = {block for c, t in tunnels_of(estate, gateway.name) if c.bgp for block in _offered(estate, t)}
        taken = {block for block in offered if refused_by(block) is None}
        if len(taken) > gateway.route_quota:
            rule = f"the data centres advertise {len(taken)} routes, its BGP route table takes {gateway.route_quota}"
            remedy = "Aggregate routes at the data centre, or submit a ticket for a higher quota"
            yield Finding(_gateway(gateway), rule, "VPN-3", remedy, Severity.WARNING)


def cens_overlap(estate: VpnEstate) -> Iterator[Finding]:
    for gateway in _with_bgp(estate):
        cen = cen_of(estate, gateway.vpc)
        if cen is None or cen.overlaps:
            continue
        if cen.overlapping_routing is None:
            rule = f"CEN instance {cen.name} was created on {cen.created}, before 2019-03-01, and has overlapping routing off"
            yield Finding(_gateway(gateway), rule, "VPN-19", f"Enable overlapping routing for {cen.name}")
        else:
            rule = f"overlapping routing is disabled on CEN instance {cen.name}"
            yield Finding(_gateway(gateway), rule, "VPN-11", f"Enable overlapping routing for {cen.name}")


def cens_reach_a_data_centre_once(estate: VpnEstate) -> Iterator[Finding]:
    for cen in estate.cens:
        attached = {each.vpc for each in estate.cen_attachments if each.cen == cen.name}
        for asn, vpcs in _vpcs_by_customer_asn(estate).items():
            if len(shared := sorted(attached & vpcs)) > 1:
                rule = (
                    f"VPCs {', '.join(shared)} reach the data centre of AS {asn} by BGP over VPN gateways of their own"
                )
                remedy = "Connect the data centre by one of them; otherwise routes flap in the cloud"
                yield Finding(f"CEN instance {cen.name}", rule, "VPN-12", remedy, Severity.WARNING)


def gateways_of_a_vpc_agree(estate: VpnEstate) -> Iterator[Finding]:
    for vpc in estate.vpcs:
        seen: dict[str, list[tuple[VpnGateway, int]]] = {}
        for gateway in (each for each in estate.vpn_gateways if each.vpc == vpc.name):
            for connection, tunnel in tunnels_of(estate, gateway.name):
                if connection.bgp and tunnel.customer_gateway is not None:
                    seen.setdefault(tunnel.customer_gateway, []).append((gateway, tunnel.local_asn))
        for customer, uses in seen.items():
            asns = dict.fromkeys((gateway.name, asn) for gateway, asn in uses)
            if len({asn for _, asn in asns}) > 1 and len({name for name, _ in asns}) > 1:
                shown = ", ".join(f"{name} as AS {asn}" for name, asn in asns)
                rule = f"several VPN gateways use customer gateway {customer} with different local ASNs ({shown}): a routing loop may occur"
                yield Finding(
                    f"VPC {vpc.name}", rule, "VPN-9", "Give their connections the same local ASN", Severity.WARNING
                )


# ------------------------------------------------------------------------------------------------------------- connections


def tunnels_are_complete(estate: VpnEstate) -> Iterator[Finding]:
    for connection, tunnel in tunnels_of(estate):
        words = tunnel_words(connection, tunnel)
        if tunnel.customer_gateway is None:
            remedy = "Choose a customer gateway for each tunnel" if connection.dual else "Choose a customer gateway"
            yield Finding(words, "it has no customer gateway", "VPN-24", remedy, field="customer_gateway")
        if connection.bgp and (tunnel.tunnel_cidr is None or tunnel.local_bgp_address is None):
            missing = "tunnel CIDR block" if tunnel.tunnel_cidr is None else "local BGP IP address"
            remedy = "Give the BGP settings of each tunnel" if connection.dual else "Give it, or disable BGP"
            yield Finding(words, f"BGP is enabled, but it has no {missing}", "VPN-24", remedy)


def keys_are_legal(estate: VpnEstate) -> Iterator[Finding]:
    for connection, tunnel in tunnels_of(estate):
        if not KEY.fullmatch(tunnel.key):
            rule = "the pre-shared key is not 1 to 100 of the letters, digits and special characters allowed"
            remedy = "Use no space, no double quote and at most 100 characters"
            yield Finding(tunnel_words(connection, tunnel), rule, "ECMP-5", remedy, field="key")


def customer_gateways_have_asns(estate: VpnEstate) -> Iterator[Finding]:
    for connection, tunnel in tunnels_of(estate):
        gateway = _customer(estate, tunnel)
        if connection.bgp and gateway is not None and gateway.asn is None:
            rule = f"BGP is enabled, but customer gateway {gateway.name} has no ASN"
            remedy = "Delete the customer gateway and create it again with the ASN of the data centre"
            yield Finding(tunnel_words(connection, tunnel), rule, "VPN-16", remedy, field="customer_gateway")


def asns_are_legal(estate: VpnEstate) -> Iterator[Finding]:
    named = [(tunnel_words(c, t), "local ASN", t.local_asn) for c, t in tunnels_of(estate) if c.bgp]
    named += [(g.name, "ASN", g.asn) for g in estate.customer_gateways if g.asn is not None]
    for owner, word, asn in named:
        if not 1 <= asn <= 4294967295:
            rule = f"{word} {asn} is not in 1 to 4294967295"
            yield Finding(owner, rule, "VPN-17", "Choose one in the range; the default of the local ASN is 45104")
        elif asn in RESERVED_ASNS:
            rule = f"{word} {asn} is reserved (RFC 6793, RFC 7300)"
            yield Finding(owner, rule, "VPN-17", "Choose another", Severity.WARNING)
    for connection, tunnel in tunnels_of(estate):
        gateway = _customer(estate, tunnel)
        if connection.bgp and gateway is not None and gateway.asn == tunnel.local_asn:
            rule = (
                f"local ASN {tunnel.local_asn} is the data centre's too ({gateway.name}); the session would be internal"
            )
            yield Finding(
                tunnel_words(connection, tunnel),
                rule,
                "VPN-17",
                "Choose a local ASN that the data centre does not have",
            )


def a_gateway_has_one_local_asn(estate: VpnEstate) -> Iterator[Finding]:
    for connection in estate.ipsec_connections:
        if connection.bgp and len({tunnel.local_asn for tunnel in connection.tunnels}) > 1:
            shown = " and ".join(str(tunnel.local_asn) for tunnel in connection.tunnels)
            rule = f"its tunnels have the local ASNs {shown}"
            yield Finding(connection.name, rule, "VPN-13", "Give both tunnels the same local ASN")
    for gateway in estate.vpn_gateways:
        first = [
            (c, c.tunnels[0].local_asn) for c in estate.ipsec_connections if c.vpn_gateway == gateway.name and c.bgp
        ]
        if len({asn for _, asn in first}) > 1:
            shown = ", ".join(f"{connection.name}: {asn}" for connection, asn in first)
            rule = f"its connections have different local ASNs ({shown})"
            yield Finding(
                _gateway(gateway), rule, "VPN-6", "Give all BGP connections of a VPN gateway the same local ASN"
            )


def tunnel_peers_have_one_asn(estate: VpnEstate) -> Iterator[Finding]:
    for connection in estate.ipsec_connections:
        peers = [_customer(estate, tunnel) for tunnel in connection.tunnels]
        asns = dict.fromkeys(peer.asn for peer in peers if peer is not None and peer.asn is not None)
        if connection.bgp and len(asns) > 1:
            rule = f"the peers of its tunnels have different ASNs ({', '.join(map(str, asns))})"
            remedy = "Use customer gateways with the same ASN for both tunnels"
            yield Finding(connection.name, rule, "VPN-13", remedy, Severity.WARNING)


def tunnel_blocks_are_allowed(estate: VpnEstate) -> Iterator[Finding]:
    for gateway in estate.vpn_gateways:
        owners: dict[IPv4Network, str] = {}
        for connection, tunnel in tunnels_of(estate, gateway.name):
            if tunnel.tunnel_cidr is None:
                continue
            words = tunnel_words(connection, tunnel)
            finding = _tunnel_block(words, tunnel.tunnel_cidr)
            if finding is not None:
                yield finding
                continue
            block = IPv4Network(tunnel.tunnel_cidr)
            if block in owners:
                rule = f"tunnel CIDR block {block} is used by {owners[block]} already"
                yield Finding(
                    words, rule, "VPN-17", "Give every tunnel of a VPN gateway a block of its own", field="tunnel_cidr"
                )
            owners[block] = words


def _tunnel_block(words: str, text: str) -> Finding | None:
    try:
        block = IPv4Network(text)
    except ValueError as error:
        return Finding(
            words, f"tunnel CIDR block: {error}", "VPN-17", "Give a /30 inside 169.254.0.0/16", field="tunnel_cidr"
        )
    if block.prefixlen != 30 or not block.subnet_of(_LINK_LOCAL):
        rule = f"tunnel CIDR block {block} is not a /30 inside 169.254.0.0/16"
        return Finding(words, rule, "VPN-17", "Choose a /30 such as 169.254.10.0/30", field="tunnel_cidr")
    if str(block) in RESERVED_TUNNEL_BLOCKS:
        rule = f"tunnel CIDR block {block} is reserved"
        remedy = f"Choose another than {', '.join(RESERVED_TUNNEL_BLOCKS)}"
        return Finding(words, rule, "VPN-17", remedy, field="tunnel_cidr")
    return None


def local_bgp_addresses_are_hosts(estate: VpnEstate) -> Iterator[Finding]:
    ends = {device.gateway_address: device for device in devices_of(estate)}
    for connection, tunnel in tunnels_of(estate):
        words = tunnel_words(connection, tunnel)
        if tunnel.local_bgp_address is None or tunnel.tunnel_cidr is None or _tunnel_block(words, tunnel.tunnel_cidr):
            continue
        hosts = [str(host) for host in IPv4Network(tunnel.tunnel_cidr).hosts()]
        device = ends.get(tunnel.gateway_address)
        peer = None if device is None else device.tunnel_address.partition("/")[0]
        free = [host for host in hosts if host != peer]
        if tunnel.local_bgp_address not in hosts:
            rule = f"local BGP IP address {tunnel.local_bgp_address} is not a host address of {tunnel.tunnel_cidr}"
            yield Finding(words, rule, "VPN-23", f"Choose {' or '.join(free)}", field="local_bgp_address")
        elif tunnel.local_bgp_address == peer and device is not None:
            rule = f"local BGP IP address {peer} is that of the peer, device {device.name}"
            yield Finding(words, rule, "VPN-23", f"Choose {' or '.join(free)}", field="local_bgp_address")


def bgp_goes_with_destination_routing(estate: VpnEstate) -> Iterator[Finding]:
    for connection in estate.ipsec_connections:
        if connection.bgp and connection.routing_mode != "destination":
            rule = "BGP is enabled with a routing mode that is not destination-based"
            remedy = "Set the routing mode to destination routing mode"
            yield Finding(connection.name, rule, "VPN-15", remedy, Severity.WARNING, "routing_mode")


def destinations_do_not_conflict(estate: VpnEstate) -> Iterator[Finding]:
    for gateway in estate.vpn_gateways:
        for conflict in conflicts_of(estate, gateway):
            first, second = conflict.connections
            rule = f"{first} and {second} learn conflicting destinations ({', '.join(conflict.prefixes)}): these routes do not take effect"
            remedy = "Let the data centres advertise different destinations over the two dual-tunnel connections"
            yield Finding(_gateway(gateway), rule, "VPN-14", remedy, Severity.WARNING)


# ------------------------------------------------------------------------------------------- data centres and route tables


def advertised_routes_are_accepted(estate: VpnEstate) -> Iterator[Finding]:
    behaviour = {
        SharedAddressRoutes.DROPPED: "it is not taken",
        SharedAddressRoutes.DOCUMENTED: "the status of the connection cannot be displayed, or negotiation fails",
    }
    for connection, tunnel in tunnels_of(estate):
        for block in _offered(estate, tunnel) if connection.bgp else ():
            spec = refused_by(block)
            if spec == "VPN-4":
                rule = f"the data centre advertises {block}, which a VPN gateway does not receive: it is not taken"
            elif spec == "VPN-5":
                rule = f"the data centre advertises {block}, which overlaps {SHARED_ADDRESSES}: {behaviour[estate.shared_address_routes]}"
            else:
                continue
            yield Finding(tunnel_words(connection, tunnel), rule, spec, "Do not advertise it", Severity.WARNING)


def tunnels_end_at_devices(estate: VpnEstate) -> Iterator[Finding]:
    told = {device.gateway_address for device in devices_of(estate)}
    for connection, tunnel in tunnels_of(estate):
        if tunnel.gateway_address not in told:
            rule = f"no device of a data centre has {tunnel.gateway_address} as its peer: the tunnel stays down"
            remedy = "Configure a device with this gateway IP address"
            yield Finding(tunnel_words(connection, tunnel), rule, "VPN-24", remedy, Severity.WARNING)


def route_tables_have_their_vswitches(estate: VpnEstate) -> Iterator[Finding]:
    known = {vpc.name: {vswitch.name for vswitch in vpc.vswitches} for vpc in estate.vpcs}
    owners: dict[tuple[str, str], str] = {}
    for table in estate.route_tables:
        for vswitch in table.vswitches:
            words = f"route table {table.name}"
            if vswitch not in known[table.vpc]:
                rule = f"vSwitch {vswitch!r} does not exist in VPC {table.vpc}"
                yield Finding(words, rule, "VPN-1", f"Choose {' or '.join(sorted(known[table.vpc]))}")
            elif (other := owners.setdefault((table.vpc, vswitch), table.name)) != table.name:
                rule = f"vSwitch {vswitch} is associated with route table {other} already"
                yield Finding(words, rule, "VPN-1", "Associate it with one of the two")


# --------------------------------------------------------------------------------------------------- what the rules speak of


def refused_by(prefix: str) -> str | None:
    """The requirement by which a gateway does not take a route from a data centre; None: it takes it."""
    network = ip_network(prefix)
    if network == IPv4Network("0.0.0.0/0"):
        return "VPN-4"
    return "VPN-5" if isinstance(network, IPv4Network) and network.overlaps(IPv4Network(SHARED_ADDRESSES)) else None


def conflicts_of(estate: VpnEstate, gateway: VpnGateway) -> list[Conflict]:
    """Destinations that overlap between two dual-tunnel BGP connections of a gateway, as the devices are configured to advertise."""
    learned = {
        connection.name: {
            block for tunnel in connection.tunnels for block in _offered(estate, tunnel) if refused_by(block) is None
        }
        for connection in estate.ipsec_connections
        if connection.vpn_gateway == gateway.name and connection.bgp and connection.dual
    }
    found = []
    for (one, ours), (other, theirs) in itertools.combinations(learned.items(), 2):
        pairs = [(a, b) for a in ours for b in theirs if IPv4Network(a).overlaps(IPv4Network(b))]
        if pairs:
            prefixes = sorted({prefix for pair in pairs for prefix in pair}, key=IPv4Network)
            found.append(Conflict((one, other), tuple(prefixes)))
    return found


def _offered(estate: VpnEstate, tunnel: VpnTunnel) -> tuple[str, ...]:
    """What the device at the other end of a tunnel advertises."""
    return next((d.networks for d in devices_of(estate) if d.gateway_address == tunnel.gateway_address), ())


def _customer(estate: VpnEstate, tunnel: VpnTunnel) -> CustomerGateway | None:
    return next((each for each in estate.customer_gateways if each.name == tunnel.customer_gateway), None)


def _with_bgp(estate: VpnEstate) -> list[VpnGateway]:
    """The gateways that have a BGP connection."""
    used = {connection.vpn_gateway for connection in estate.ipsec_connections if connection.bgp}
    return [gateway for gateway in estate.vpn_gateways if gateway.name in used]


def _vpcs_by_customer_asn(estate: VpnEstate) -> dict[int, set[str]]:
    vpcs = {gateway.name: gateway.vpc for gateway in estate.vpn_gateways}
    found: dict[int, set[str]] = {}
    for connection, tunnel in tunnels_of(estate):
        customer = _customer(estate, tunnel)
        if connection.bgp and customer is not None and customer.asn is not None:
            found.setdefault(customer.asn, set()).add(vpcs[connection.vpn_gateway])
    return found


def _gateway(gateway: VpnGateway) -> str:
    return f"VPN gateway {gateway.name}"


RULES: tuple[Rule, ...] = (
    addresses_have_one_owner,
    blocks_do_not_overlap,
    vswitches_lie_in_their_vpc,
    customer_gateways_are_outside,
    gateway_addresses_are_outside,
    regions_support_bgp,
    gateways_support_bgp,
    gateways_have_no_bgp_peers,
    route_quotas_are_positive,
    route_quotas_are_enough,
    cens_overlap,
    cens_reach_a_data_centre_once,
    gateways_of_a_vpc_agree,
    tunnels_are_complete,
    keys_are_legal,
    customer_gateways_have_asns,
    asns_are_legal,
    a_gateway_has_one_local_asn,
    tunnel_peers_have_one_asn,
    tunnel_blocks_are_allowed,
    local_bgp_addresses_are_hosts,
    bgp_goes_with_destination_routing,
    destinations_do_not_conflict,
    advertised_routes_are_accepted,
    tunnels_end_at_devices,
    route_tables_have_their_vswitches,
    asn_of_device_matches,
    *security_groups.RULES,
)
