"""The same data centre by an Express Connect circuit and by a VPN gateway, for resilience (VPN-10): one estate of each, and their rules.

Source: "VPN Gateway: configure BGP dynamic routing", "Limits on BGP dynamic routing". The two estates name the same VPC and the same data
centre; everything else of each is as ``harness.cloud.vbr`` and ``harness.cloud.vpn`` have it, and is judged by their rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

from harness.cloud import vbr_rules, vpn_rules
from harness.cloud.build_data_centre import router_asn
from harness.cloud.findings import Finding, Severity, judge, refuse_errors
from harness.cloud.vbr import VbrEstate
from harness.cloud.vpn import VpnEstate, tunnel_words, tunnels_of

Rule = Callable[["ResilienceEstate"], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class ResilienceEstate:
    """``vbr`` is the circuit's side and ``vpn`` the tunnels'; a data centre of the first has its namesake in the second."""

    name: str
    title: str
    vpn: VpnEstate
    vbr: VbrEstate


def validate(estate: ResilienceEstate) -> list[Finding]:
    """What the rules of both sides say, and those of their meeting; the latter once each side is sound."""
    sides = vpn_rules.validate(estate.vpn) + vbr_rules.validate(estate.vbr)
    found = sides
    if not any(finding.severity is Severity.ERROR for finding in sides):
        found = sides + judge(estate, RULES)
    return sorted(found, key=lambda finding: finding.severity is not Severity.ERROR)


def require_valid(estate: ResilienceEstate) -> list[Finding]:
    """The warnings of an estate without errors. Raises :class:`harness.cloud.findings.Refused` with all errors otherwise."""
    return refuse_errors(validate(estate))


def both_sides_have_one_vpc(estate: ResilienceEstate) -> Iterator[Finding]:
    sides = {vpc.name: vpc for vpc in estate.vpn.vpcs}
    for vpc in estate.vbr.vpcs:
        if vpc.name not in sides:
            rule = f"the VPN gateway's VPC is another ({', '.join(sides)})"
            yield Finding(f"VPC {vpc.name}", rule, "VPN-10", "Attach VBR and VPN gateway to the same VPC")
        elif vpc != sides[vpc.name]:
            rule = "the VBR's side and the VPN gateway's describe it differently"
            yield Finding(f"VPC {vpc.name}", rule, "VPN-10", "Give both the same block, vSwitches and instances")


def both_sides_have_one_data_centre(estate: ResilienceEstate) -> Iterator[Finding]:
    sides = {centre.name: centre for centre in estate.vpn.data_centres}
    for side in estate.vbr.data_centres:
        centre = sides.get(side.name)
        owner = f"data centre {side.name}"
        if centre is None:
            rule = f"no tunnel leads to it; tunnels lead to {', '.join(sides)}"
            yield Finding(owner, rule, "VPN-10", "Give both sides the same data centre")
        elif side.asn != router_asn(centre):
            rule = f"its router speaks as AS {side.asn} on the circuit and as AS {router_asn(centre)} inside"
            yield Finding(owner, rule, "VPN-10", "Give the router one ASN")
        elif set(side.blocks) != set(centre.blocks):
            yield Finding(
                owner, "its client blocks differ on the two sides", "VPN-10", "Give both sides the same blocks"
            )


def both_sides_know_one_asn(estate: ResilienceEstate) -> Iterator[Finding]:
    customers = {gateway.name: gateway.asn for gateway in estate.vpn.customer_gateways}
    told = {tunnel.customer_gateway for connection, tunnel in tunnels_of(estate.vpn) if connection.bgp}
    for vbr in estate.vbr.vbrs:
        for group in vbr.groups:
            for name in sorted(name for name in told if name is not None):
                asn = customers[name]
                if asn is not None and asn != group.peer_asn:
                    rule = f"customer gateway {name} says AS {asn}, BGP group {group.name} of VBR {vbr.name} says AS {group.peer_asn}"
                    remedy = "Specify the same data-centre ASN for both; otherwise routes flap in the data centre"
                    yield Finding(f"VBR {vbr.name}", rule, "VPN-10", remedy, Severity.WARNING)


def the_circuit_is_no_less_specific(estate: ResilienceEstate) -> Iterator[Finding]:
    blocks = [IPv4Network(vswitch.cidr) for vpc in estate.vpn.vpcs for vswitch in vpc.vswitches]
    for vbr in estate.vbr.vbrs:
        for text in vbr.networks:
            network = IPv4Network(text)
            if inside := [str(block) for block in blocks if block != network and block.subnet_of(network)]:
                rule = f"the VPN gateway advertises {', '.join(inside)}, which win against {network} by their length"
                remedy = "Advertise the blocks of the vSwitches over the circuit too; otherwise it carries nothing to the VPC"
                owner = f"BGP network {network} of VBR {vbr.name}"
                yield Finding(owner, rule, "VPN-10", remedy, Severity.WARNING)


def circuits_have_addresses_of_their_own(estate: ResilienceEstate) -> Iterator[Finding]:
    owners = {tunnel.gateway_address: tunnel_words(c, tunnel) for c, tunnel in tunnels_of(estate.vpn)}
    owners |= {customer.address: f"customer gateway {customer.name}" for customer in estate.vpn.customer_gateways}
    blocks = [(block, f"data centre {c.name}") for c in estate.vpn.data_centres for block in (c.lan, *c.blocks)]
    blocks += [(vpc.cidr, f"VPC {vpc.name}") for vpc in estate.vpn.vpcs]
    blocks += [
        (tunnel.tunnel_cidr, tunnel_words(c, tunnel)) for c, tunnel in tunnels_of(estate.vpn) if tunnel.tunnel_cidr
    ]
    for circuit in estate.vbr.circuits:
        for address in (circuit.cloud_address, circuit.customer_address):
            host = IPv4Interface(address).ip
            taken = owners.get(str(host)) or next((who for block, who in blocks if host in IPv4Network(block)), None)
            if taken is not None:
                rule = f"its address {host} is that of {taken}, or in a block of it"
                remedy = "Give the circuit a /30 that nobody else uses"
                yield Finding(f"circuit {circuit.name}", rule, "VPN-10", remedy)


RULES: tuple[Rule, ...] = (
    both_sides_have_one_vpc,
    both_sides_have_one_data_centre,
    both_sides_know_one_asn,
    the_circuit_is_no_less_specific,
    circuits_have_addresses_of_their_own,
)
