"""Rules of what stands around a virtual border router: names, addresses, circuits, data centres, timers.

The documents take these for granted: a console hands out addresses and a device has a name. Here a user writes them, and a wrong one
must be refused before anything starts. The document's own rules are in ``harness.cloud.vbr_rules``, which runs all of them.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

from harness.cloud.build import WIRING
from harness.cloud.findings import Finding
from harness.cloud.vbr import Line, VbrEstate

Rule = Callable[[VbrEstate], Iterator[Finding]]

#: A node's name is part of paths and of the command line.
NODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")
LONGEST_NAME = 128

#: RFC 4271 4.2 and 10; RFC 5880 6.8; RFC 4486 4: field, least, most, ID.
TIMERS = (
    ("hold_time", 0, 65535, "BGP-15"),
    ("connect_retry_time", 1, 65535, "VBR-16"),
    ("bfd_interval_ms", 10, 60_000, "VBR-13"),
    ("bfd_multiplier", 1, 255, "VBR-13"),
    ("route_quota_restart", 1, 65535, "VBR-10"),
)


def circuits_have_two_ends(estate: VbrEstate) -> Iterator[Finding]:
    for circuit in estate.circuits:
        owner = f"circuit {circuit.name}"
        if (circuit.cloud_address_ipv6 is None) is not (circuit.customer_address_ipv6 is None):
            rule = "only one of its ends has an IPv6 address"
            yield Finding(owner, rule, "VBR-1", "Give both ends one, or none")
        for cloud, customer in circuit.pairs():
            try:
                near, far = ip_interface(cloud), ip_interface(customer)
            except ValueError as error:
                yield Finding(owner, f"address: {error}", "VBR-1", 'Give an address such as "10.1.1.1/30"')
                continue
            if near.network != far.network or near.ip == far.ip:
                rule = f"{near} and {far} are not two addresses of one block"
                yield Finding(owner, rule, "VBR-1", "Give its two ends different addresses of one block")
            elif _no_host(near) or _no_host(far):
                rule = f"one of {near} and {far} is the block's own or broadcast address"
                yield Finding(owner, rule, "VBR-1", "Choose host addresses")
            elif bad := _no_unicast(near.ip) or _no_unicast(far.ip):
                yield Finding(owner, f"{near} and {far}: {bad}", "VBR-1", "Choose addresses that hosts have")
        families = [type(_interface(cloud)) for cloud, _ in circuit.pairs()]
        if families not in ([IPv4Interface], [IPv4Interface, IPv6Interface]) and type(None) not in families:
            rule = f"its addresses are {' and '.join(cloud for cloud, _ in circuit.pairs())}"
            remedy = "A circuit has IPv4 addresses; IPv6 ones may stand beside them"
            yield Finding(owner, rule, "VBR-1", remedy)


def peer_addresses_are_addresses(estate: VbrEstate) -> Iterator[Finding]:
    for vbr in estate.vbrs:
        for peer in vbr.peers:
            owner, remedy = f"BGP peer {peer.ip} of VBR {vbr.name}", 'Give the IP address alone, such as "10.1.1.2"'
            try:
                bad = _no_unicast(ip_address(peer.ip))
            except ValueError as error:
                yield Finding(owner, f"peer IP: {error}", "VBR-12", remedy, field="ip")
                continue
            if bad:
                yield Finding(
                    owner, f"peer IP: {bad}", "VBR-12", "Give the address that the data centre has", field="ip"
                )


def client_blocks_are_blocks(estate: VbrEstate) -> Iterator[Finding]:
    for centre in estate.data_centres:
        owner = f"data centre {centre.name}"
        for block in centre.blocks:
            try:
                network = ip_network(block)
            except ValueError as error:
                yield Finding(owner, f"{error}", "VBR-21", "Give a block without host bits", field="blocks")
                continue
            if network.num_addresses < 32:
                rule = f"{block} is too small for a gateway and clients"
                yield Finding(owner, rule, "VBR-21", "Give a block of 32 addresses or more", field="blocks")
            elif bad := _no_unicast(network[1]) or _no_unicast(network[10]):
                rule = f"{block}: {bad}"
                yield Finding(owner, rule, "VBR-21", "Give a block whose addresses hosts have", field="blocks")


def vpc_blocks_are_blocks(estate: VbrEstate) -> Iterator[Finding]:
    for vpc in estate.vpcs:
        owner, rule = f"VPC {vpc.name}", "is no block that a VPC can have"
        try:
            block = IPv4Network(vpc.cidr)
            if not 8 <= block.prefixlen <= 28 or _no_unicast(block[1]):
                remedy = "Give a block of /8 to /28 such as 172.16.0.0/16"
                yield Finding(owner, f"{block} {rule}", "VBR-42", remedy, field="cidr")
        except ValueError as error:
            yield Finding(owner, f"{error}", "VBR-42", "Give an IPv4 block without host bits", field="cidr")
        if vpc.ipv6_cidr is None:
            continue
        try:
            block6 = IPv6Network(vpc.ipv6_cidr)
            if block6.prefixlen > 64 or _no_unicast(block6[1]) or _no_unicast(block6[16]):
                remedy = "Give one of /64 or larger, such as fd00:172::/56"
                yield Finding(owner, f"{block6} {rule}", "VBR-42", remedy, field="ipv6_cidr")
        except ValueError as error:
            yield Finding(owner, f"{error}", "VBR-42", "Give an IPv6 block without host bits", field="ipv6_cidr")


def names_can_be_used(estate: VbrEstate) -> Iterator[Finding]:
    named = [(f"VBR {vbr.name}", vbr.name) for vbr in estate.vbrs]
    named += [(f"data centre {centre.name}", centre.name) for centre in estate.data_centres]
    named += [(f"VPC {vpc.name}", vpc.name) for vpc in estate.vpcs]
    named += [(f"transit router {router.name}", router.name) for router in estate.transit_routers]
    for owner, name in named:
        if not NODE_NAME.fullmatch(name):
            rule = f"{name!r} cannot be the name of a node"
            remedy = "Use a letter, then up to 31 letters, digits, dots, underscores or hyphens"
            yield Finding(owner, rule, "VBR-1", remedy, field="name")
    for vbr in estate.vbrs:
        for group in vbr.groups:
            if not (group.name.isprintable() and group.name.strip() and len(group.name) <= LONGEST_NAME):
                owner = f"BGP group {group.name} of VBR {vbr.name}"
                rule = f"its name is not 1 to {LONGEST_NAME} printable characters"
                yield Finding(owner, rule, "VBR-8", "Give another name", field="name")
    for circuit in estate.circuits:
        if not (circuit.name.isprintable() and circuit.name.strip() and len(circuit.name) <= LONGEST_NAME):
            rule = f"its name is not 1 to {LONGEST_NAME} printable characters"
            yield Finding(f"circuit {circuit.name}", rule, "VBR-1", "Give another name", field="name")
        elif circuit.line is Line.BRIDGED and not NODE_NAME.fullmatch(circuit.name):
            rule = f"its bridging device cannot be called {circuit.name}-bridge"
            remedy = "Use a letter, then up to 31 letters, digits, dots, underscores or hyphens"
            yield Finding(f"circuit {circuit.name}", rule, "VBR-1", remedy, field="name")


def names_are_unique(estate: VbrEstate) -> Iterator[Finding]:
    named = {
        "VBR": [vbr.name for vbr in estate.vbrs],
        "circuit": [circuit.name for circuit in estate.circuits],
        "data centre": [centre.name for centre in estate.data_centres],
    }
    for kind, names in named.items():
        for name, count in Counter(names).items():
            if count > 1:
                yield Finding(f"{kind} {name}", f"{count} have this name", "VBR-25", "Rename all but one", field="name")
    for vbr in estate.vbrs:
        for name, count in Counter(group.name for group in vbr.groups).items():
            if count > 1:
                owner = f"BGP group {name} of VBR {vbr.name}"
                yield Finding(owner, f"{count} have this name", "VBR-25", "Rename all but one", field="name")


def nodes_have_names_of_their_own(estate: VbrEstate) -> Iterator[Finding]:
    """Objects of different kinds become nodes of one lab."""
    named = [(f"VBR {vbr.name}", vbr.name) for vbr in estate.vbrs]
    for centre in estate.data_centres:
        named.append((f"data centre {centre.name}", centre.name))
        clients = (f"{centre.name}-client{number}" for number in range(len(centre.blocks)))
        named += [(f"the clients of data centre {centre.name}", client) for client in clients]
    for vpc in estate.vpcs:
        named.append((f"VPC {vpc.name}", vpc.name))
        named += [(f"ECS instance {instance.name}", instance.name) for instance in vpc.instances]
    named += [(f"transit router {router.name}", router.name) for router in estate.transit_routers]
    bridged = (circuit.name for circuit in estate.circuits if circuit.line is Line.BRIDGED)
    named += [(f"circuit {name}", f"{name}-bridge") for name in bridged]
    first: dict[str, str] = {}
    for owner, name in named:
        other = first.setdefault(name, owner)
        if other.split()[0] != owner.split()[0]:
            yield Finding(other, f"{owner} has the name {name} too", "VBR-1", "Rename one of the two", field="name")


def blocks_do_not_overlap(estate: VbrEstate) -> Iterator[Finding]:
    named = [(f"VPC {vpc.name}", vpc.cidr, "ECMP-1", "cidr") for vpc in estate.vpcs]
    named += [(f"VPC {vpc.name}", vpc.ipv6_cidr, "ECMP-1", "ipv6_cidr") for vpc in estate.vpcs if vpc.ipv6_cidr]
    named += [
        (f"data centre {dc.name}", block, "ECMP-1", "blocks") for dc in estate.data_centres for block in dc.blocks
    ]
    named += [
        (f"circuit {circuit.name}", str(ip_interface(cloud).network), "VBR-1", "")
        for circuit in estate.circuits
        for cloud, _ in circuit.pairs()
    ]
    blocks = [(owner, ip_network(text), spec, field) for owner, text, spec, field in named]
    for (left, a, spec, field), (right, b, _, _) in itertools.combinations(blocks, 2):
        if a.overlaps(b):
            yield Finding(left, f"{a} overlaps {b} of {right}", spec, "Give one of the two another block", field=field)
    for owner, block, spec, field in blocks:
        if block.overlaps(WIRING):
            rule = f"{block} overlaps {WIRING}, which the links inside the cloud use"
            yield Finding(owner, rule, spec, "Give another block", field=field)


def timers_are_in_their_ranges(estate: VbrEstate) -> Iterator[Finding]:
    for name, least, most, spec in TIMERS:
        value = getattr(estate.timers, name)
        if not least <= value <= most or (name == "hold_time" and value in (1, 2)):
            allowed = "0 or 3 to 65535" if name == "hold_time" else f"{least} to {most}"
            yield Finding("timers", f"{name} {value} is not {allowed}", spec, "Choose one in the range", field=name)


#: Rules of syntax: the others read addresses and would trip over a broken one.
ADDRESSES: tuple[Rule, ...] = (
    circuits_have_two_ends,
    peer_addresses_are_addresses,
    client_blocks_are_blocks,
    vpc_blocks_are_blocks,
)

#: What else the lab needs.
SITES: tuple[Rule, ...] = (
    names_can_be_used,
    names_are_unique,
    nodes_have_names_of_their_own,
    blocks_do_not_overlap,
    timers_are_in_their_ranges,
)


def _interface(text: str) -> IPv4Interface | IPv6Interface | None:
    try:
        return ip_interface(text)
    except ValueError:
        return None


def _no_host(interface: IPv4Interface | IPv6Interface) -> bool:
    network = interface.network
    if network.prefixlen >= network.max_prefixlen - 1:
        return False
    return interface.ip in (network.network_address, *([network.broadcast_address] if network.version == 4 else []))


def _no_unicast(address: IPv4Address | IPv6Address) -> str:
    """Why no host has this address, "" where one may."""
    kinds = (
        ("multicast", address.is_multicast),
        ("loopback", address.is_loopback),
        ("unspecified", address.is_unspecified or (address.version == 4 and address in IPv4Network("0.0.0.0/8"))),
        ("reserved (class E)", address.version == 4 and address in IPv4Network("240.0.0.0/4")),
        ("link-local", address.version == 6 and address.is_link_local),
        ("an IPv4 address in IPv6 form", getattr(address, "ipv4_mapped", None) is not None),
        ("bound to an interface", getattr(address, "scope_id", None) is not None),
    )
    return next((f"{address} is {kind}" for kind, holds in kinds if holds), "")
