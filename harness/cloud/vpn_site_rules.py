"""What must hold of a VPN estate before its document's rules can judge it: words, addresses, names of nodes, and what refers to what.

Rules of ``harness.cloud.vpn_rules`` read blocks and follow names, and would trip over broken ones; these run first and alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network

from harness.cloud import data_centre_rules, security_groups
from harness.cloud.findings import Finding
from harness.cloud.resources import GatewayDevice
from harness.cloud.site_rules import instances_lie_in_their_vswitches
from harness.cloud.vpn import CustomRoute, VpnEstate, tunnel_words, tunnels_of

Rule = Callable[[VpnEstate], Iterator[Finding]]

#: Names of nodes: what Mininet, paths and prompts can take. Those of tunnels and devices become names of interfaces too.
NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
CABLED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,11}")
#: Links inside the cloud (``harness.cloud.build``), which nobody else may use.
_WIRING = IPv4Network("198.18.0.0/15")

_FIELDS = {
    "gateway IP address": "gateway_address",
    "IP address": "address",
    "local BGP IP address": "local_bgp_address",
}


def blocks_are_blocks(estate: VpnEstate) -> Iterator[Finding]:
    named = [(f"VPC {vpc.name}", vpc.cidr) for vpc in estate.vpcs]
    named += [(f"vSwitch {vswitch.name}", vswitch.cidr) for vpc in estate.vpcs for vswitch in vpc.vswitches]
    named += [(f"data centre {c.name}", block) for c in estate.data_centres for block in (c.lan, *c.blocks)]
    named += [(f"device {d.name}", n) for d in devices_of(estate) for n in (*d.blocks, *d.networks)]
    named += [(f"route table {table.name}", each.prefix) for table in estate.route_tables for each in table.routes]
    named += [("system route table", route.prefix) for route in estate.system_routes]
    for owner, text in named:
        try:
            IPv4Network(text)
        except ValueError as error:
            yield Finding(owner, f"CIDR block: {error}", "ECMP-1", "Give an IPv4 block without host bits")


def addresses_are_addresses(estate: VpnEstate) -> Iterator[Finding]:
    named = [(tunnel_words(c, t), "gateway IP address", t.gateway_address) for c, t in tunnels_of(estate)]
    named += [(g.name, "IP address", g.address) for g in estate.customer_gateways]
    named += [
        (tunnel_words(c, t), "local BGP IP address", t.local_bgp_address)
        for c, t in tunnels_of(estate)
        if t.local_bgp_address is not None
    ]
    named += [(f"device {d.name}", "gateway IP address", d.gateway_address) for d in devices_of(estate)]
    for owner, field, text in named:
        try:
            IPv4Address(text)
        except ValueError as error:
            yield Finding(owner, f"{field}: {error}", "VPN-17", "Give an IPv4 address", field=_FIELDS[field])


def names_are_unique(estate: VpnEstate) -> Iterator[Finding]:
    named = {
        "VPC": [vpc.name for vpc in estate.vpcs],
        "VPN gateway": [gateway.name for gateway in estate.vpn_gateways],
        "customer gateway": [gateway.name for gateway in estate.customer_gateways],
        "IPsec connection": [connection.name for connection in estate.ipsec_connections],
        "tunnel node": [tunnel.node for _, tunnel in tunnels_of(estate)],
        "gateway IP address": [tunnel.gateway_address for _, tunnel in tunnels_of(estate)],
        "route table": [table.name for table in estate.route_tables],
        "device": [device.name for device in devices_of(estate)],
    }
    for kind, names in named.items():
        for name, count in Counter(names).items():
            if count > 1:
                yield Finding(f"{kind} {name}", f"{count} have this name", "VPN-24", "Rename all but one")


def references_exist(estate: VpnEstate) -> Iterator[Finding]:
    vpcs = {vpc.name for vpc in estate.vpcs}
    gateways = {gateway.name: gateway for gateway in estate.vpn_gateways}
    customers = {gateway.name for gateway in estate.customer_gateways}
    wanted = [(f"VPN gateway {g.name}", "VPC", g.vpc, vpcs, "VPN-1") for g in estate.vpn_gateways]
    wanted += [(c.name, "VPN gateway", c.vpn_gateway, set(gateways), "VPN-6") for c in estate.ipsec_connections]
    wanted += [
        (tunnel_words(c, t), "customer gateway", t.customer_gateway, customers, "VPN-16")
        for c, t in tunnels_of(estate)
        if t.customer_gateway is not None
    ]
    wanted += [(f"route table {t.name}", "VPC", t.vpc, vpcs, "VPN-1") for t in estate.route_tables]
    entries: list[tuple[str, CustomRoute, str | None]] = []
    entries += [(f"route table {t.name}", r, t.vpc) for t in estate.route_tables for r in t.routes]
    entries += [("system route table", r, None) for r in estate.system_routes]
    wanted += [(owner, "VPN gateway", r.vpn_gateway, set(gateways), "VPN-1") for owner, r, _ in entries]
    wanted += [
        (f"VPC {a.vpc}", "CEN instance", a.cen, {c.name for c in estate.cens}, "VPN-11") for a in estate.cen_attachments
    ]
    wanted += [(f"CEN instance {a.cen}", "VPC", a.vpc, vpcs, "VPN-11") for a in estate.cen_attachments]
    for owner, kind, name, known, spec in wanted:
        if name not in known:
            remedy = f"Choose {' or '.join(sorted(known))}" if known else "Create it first"
            yield Finding(owner, f"{kind} {name!r} does not exist", spec, remedy)
    for owner, route, vpc in entries:
        gateway = gateways.get(route.vpn_gateway)
        if gateway is not None and vpc is not None and gateway.vpc != vpc:
            rule = f"next hop {gateway.name} of {route.prefix} is a gateway of VPC {gateway.vpc}"
            yield Finding(owner, rule, "VPN-1", f"Choose a VPN gateway of VPC {vpc}")


def connections_have_one_or_two_tunnels(estate: VpnEstate) -> Iterator[Finding]:
    for connection in estate.ipsec_connections:
        if not 1 <= len(connection.tunnels) <= 2:
            rule = f"it has {len(connection.tunnels)} tunnels"
            yield Finding(connection.name, rule, "VPN-24", "Give it one tunnel, or a primary and a secondary")


def names_can_be_used(estate: VpnEstate) -> Iterator[Finding]:
    named = [(f"VPN gateway {g.name}", g.name, NODE_NAME, "name") for g in estate.vpn_gateways]
    named += [(f"VPC {vpc.name}", vpc.name, NODE_NAME, "name") for vpc in estate.vpcs]
    named += [(f"data centre {centre.name}", centre.name, NODE_NAME, "name") for centre in estate.data_centres]
    named += [(tunnel_words(c, t), t.node, CABLED_NAME, "node") for c, t in tunnels_of(estate)]
    named += [(f"device {device.name}", device.name, CABLED_NAME, "name") for device in devices_of(estate)]
    for owner, name, pattern, field in named:
        if not pattern.fullmatch(name):
            most = 12 if pattern is CABLED_NAME else 32
            rule = f"{name!r} cannot name a node"
            remedy = f"Use 1 to {most} letters, digits, hyphens, dots and underscores, a letter or digit first"
            yield Finding(owner, rule, "VPN-24", remedy, field=field)


def nodes_have_names_of_their_own(estate: VpnEstate) -> Iterator[Finding]:
    owners: dict[str, str] = {"internet": "the internet"}
    named = [(f"VPC {vpc.name}", vpc.name) for vpc in estate.vpcs]
    named += [(f"VPC {vpc.name}", instance.name) for vpc in estate.vpcs for instance in vpc.instances]
    for gateway in estate.vpn_gateways:
        named += [(f"VPN gateway {gateway.name}", name) for name in (gateway.name, f"{gateway.name}-hub")]
    named += [(tunnel_words(c, t), t.node) for c, t in tunnels_of(estate)]
    for centre in estate.data_centres:
        made = [f"{centre.name}-router", f"{centre.name}-lan", *_clients(centre.name, len(centre.blocks))]
        named += [(f"data centre {centre.name}", name) for name in made]
        for device in centre.devices:
            mine = [device.name, *_clients(device.name, len(device.blocks))]
            named += [(f"device {device.name}", name) for name in mine]
    for owner, name in named:
        if name in owners:
            yield Finding(owner, f"its node {name!r} has the name of a node of {owners[name]}", "VPN-24", "Rename one")
        owners[name] = owner


def addresses_have_one_owner(estate: VpnEstate) -> Iterator[Finding]:
    cloud = {tunnel.gateway_address: tunnel_words(c, tunnel) for c, tunnel in tunnels_of(estate)}
    for customer in estate.customer_gateways:
        if customer.address in cloud:
            rule = f"IP address {customer.address} is that of {cloud[customer.address]}"
            yield Finding(customer.name, rule, "ECMP-3", "Give the public address of the device", field="address")
    named = [(f"VPC {vpc.name}", vpc.cidr) for vpc in estate.vpcs]
    named += [(f"data centre {c.name}", block) for c in estate.data_centres for block in (c.lan, *c.blocks)]
    for owner, text in named:
        if IPv4Network(text).overlaps(_WIRING):
            rule = f"{text} overlaps {_WIRING}, which the links inside the cloud use"
            yield Finding(owner, rule, "ECMP-1", "Choose another block")


def lifetimes_are_legal(estate: VpnEstate) -> Iterator[Finding]:
    for connection, tunnel in tunnels_of(estate):
        yield from data_centre_rules.lifetimes_are_legal(tunnel_words(connection, tunnel), tunnel.ike, tunnel.esp)


def devices_of(estate: VpnEstate) -> list[GatewayDevice]:
    """The gateway devices of all data centres."""
    return [device for centre in estate.data_centres for device in centre.devices]


def _clients(name: str, count: int) -> list[str]:
    return [f"{name}-client{number}" for number in range(count)]


FIRST: tuple[Rule, ...] = (
    blocks_are_blocks,
    addresses_are_addresses,
    names_are_unique,
    references_exist,
    connections_have_one_or_two_tunnels,
    names_can_be_used,
    nodes_have_names_of_their_own,
    *data_centre_rules.FIRST,
    lifetimes_are_legal,
    instances_lie_in_their_vswitches,
    *security_groups.FIRST,
)
