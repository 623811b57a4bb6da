"""What must hold of an estate with a transit router before its documents' rules can judge it: blocks, addresses, names of nodes.

Rules of ``harness.cloud.rules`` read blocks and follow names, and would trip over broken ones; these run first and alone. Those of a VPN
gateway are in ``harness.cloud.vpn_site_rules``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network

from harness.cloud import data_centre_rules, security_groups
from harness.cloud.findings import Finding
from harness.cloud.resources import Estate


def blocks_are_blocks(estate: Estate) -> Iterator[Finding]:
    named = [(f"VPC {vpc.name}", vpc.cidr) for vpc in estate.vpcs]
    named += [(f"VPC {vpc.name}", route.prefix) for vpc in estate.vpcs for route in vpc.routes]
    named += [(f"vSwitch {vswitch.name}", vswitch.cidr) for vpc in estate.vpcs for vswitch in vpc.vswitches]
    named += [(f"data centre {c.name}", block) for c in estate.data_centres for block in (c.lan, *c.blocks)]
    named += [
        (device.name, block)
        for centre in estate.data_centres
        for device in centre.devices
        for block in (*device.networks, *device.blocks, *device.static_routes)
    ]
    named += [(connection.name, block) for connection in estate.ipsec_connections for block in connection.routes]
    named += [(f"transit router {r.name}", r.cidr) for r in estate.transit_routers if r.cidr is not None]
    for owner, text in named:
        try:
            IPv4Network(text)
        except ValueError as error:
            yield Finding(owner, f"CIDR block: {error}", "ECMP-1", "Give an IPv4 block without host bits")


def addresses_are_addresses(estate: Estate) -> Iterator[Finding]:
    named = [(c.name, "gateway_address", c.gateway_address) for c in estate.ipsec_connections]
    named += [(c.name, "local_bgp_address", c.local_bgp_address) for c in estate.ipsec_connections]
    named += [(g.name, "address", g.address) for g in estate.customer_gateways]
    named += [
        (device.name, "gateway_address", device.gateway_address)
        for centre in estate.data_centres
        for device in centre.devices
    ]
    for owner, field, text in named:
        try:
            IPv4Address(text)
        except ValueError as error:
            rule = f"{field.replace('_', ' ')}: {error}"
            yield Finding(owner, rule, "ECMP-3", "Give an IPv4 address", field=field)


def nodes_have_names_of_their_own(estate: Estate) -> Iterator[Finding]:
    owners = {"internet": "the internet"}
    named = [(router.name, f"transit router {router.name}") for router in estate.transit_routers]
    named += [(connection.node, connection.name) for connection in estate.ipsec_connections]
    for vpc in estate.vpcs:
        named += [(name, f"VPC {vpc.name}") for name in (vpc.name, *(instance.name for instance in vpc.instances))]
    for centre in estate.data_centres:
        made = [f"{centre.name}-router", f"{centre.name}-lan"]
        made += [f"{centre.name}-client{n}" for n in range(len(centre.blocks))]
        named += [(name, f"data centre {centre.name}") for name in made]
        named += [(device.name, device.name) for device in centre.devices]
    for name, owner in named:
        if name in owners:
            yield Finding(owner, f"its node {name!r} has the name of a node of {owners[name]}", "ECMP-4", "Rename one")
        owners[name] = owner


def public_addresses_have_one_owner(estate: Estate) -> Iterator[Finding]:
    cloud = {connection.gateway_address: connection.name for connection in estate.ipsec_connections}
    if len(cloud) < len(estate.ipsec_connections):
        for connection in estate.ipsec_connections:
            if cloud[connection.gateway_address] != connection.name:
                rule = f"gateway IP address {connection.gateway_address} is that of {cloud[connection.gateway_address]}"
                yield Finding(connection.name, rule, "ECMP-4", "Leave it out: it is assigned", field="gateway_address")
    for gateway in estate.customer_gateways:
        if gateway.address in cloud:
            rule = f"IP address {gateway.address} is that of {cloud[gateway.address]}"
            yield Finding(gateway.name, rule, "ECMP-3", "Give the public address of the device", field="address")


def lifetimes_are_legal(estate: Estate) -> Iterator[Finding]:
    for connection in estate.ipsec_connections:
        yield from data_centre_rules.lifetimes_are_legal(connection.name, connection.ike, connection.esp)


def instances_lie_in_their_vswitches(estate: security_groups.Walled) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for vpc in estate.vpcs:
        cidrs = {vswitch.name: vswitch.cidr for vswitch in vpc.vswitches}
        for instance in vpc.instances:
            owner = f"ECS {instance.name}"
            if instance.vswitch not in cidrs:
                rule = f"vSwitch {instance.vswitch!r} does not exist in VPC {vpc.name}"
                yield Finding(owner, rule, "ECMP-1", f"Choose one of {', '.join(cidrs)}", field="instance")
                continue
            try:
                block = IPv4Network(cidrs[instance.vswitch])
            except ValueError:  # blocks_are_blocks says so
                continue
            try:
                address = IPv4Address(instance.address)
            except ValueError as error:
                yield Finding(owner, f"address: {error}", "ECMP-1", "Give an IPv4 address", field="instance")
                continue
            if block.num_addresses < 8 or not block[0] < address < block[-1] or address == block[-3]:
                rule = f"address {address} is not free in {block} of {instance.vswitch}"
                remedy = f"Choose {block[1]} or another host address but {block[-3]}, the gateway's"
                if block.num_addresses < 8:
                    remedy = "Give the vSwitch a /29 or a larger block"
                yield Finding(owner, rule, "ECMP-1", remedy, field="instance")
            elif str(address) in owners:
                rule = f"{owners[str(address)]} has the address {address} already"
                yield Finding(owner, rule, "ECMP-1", "Give it another", field="instance")
            owners.setdefault(str(address), owner)


FIRST: tuple[Callable[[Estate], Iterator[Finding]], ...] = (
    blocks_are_blocks,
    addresses_are_addresses,
    nodes_have_names_of_their_own,
    public_addresses_have_one_owner,
    *data_centre_rules.FIRST,
    lifetimes_are_legal,
    instances_lie_in_their_vswitches,
    *security_groups.FIRST,
)
