"""From a data centre with a circuit and tunnels to a plan: the plans of both sides, joined at the VPC and at the data centre's router.

No document says how either end chooses between the two; here both prefer the circuit, by LOCAL_PREF: the VPC what the VBR (or CEN) tells
it, the data centre's router what comes over the circuit. Devices announce their own networks to the cloud and nothing that they heard,
so that neither way is taken for a way through the data centre. Where CEN joins VPC and VBR, the VPC tells it also what it has from
its VPN gateways, as its route table would.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_interface

from harness.cloud.build_vbr import compile_vbr_estate
from harness.cloud.build_vpn import compile_vpn_estate
from harness.cloud.resilience import ResilienceEstate, require_valid
from harness.plan import End, Neighbor, Node, Plan, Rule, Speaker

#: LOCAL_PREF of what comes over the circuit, at both ends; everything else has 100.
CIRCUIT_PREFERENCE = 200
#: Set by a VPC on what it learns from a VPN gateway, so that CEN is told of it and nobody else.
FROM_VPN_GATEWAY = "45104:3"

_CIRCUIT_FIRST = (Rule("permit", local_pref=CIRCUIT_PREFERENCE),)
_MARK = (Rule("permit", add_communities=(FROM_VPN_GATEWAY,)),)
_TO_CEN = (Rule("permit", local=True), Rule("permit", communities=(FROM_VPN_GATEWAY,)), Rule("deny"))
_OWN_NETWORKS = (Rule("permit", local=True), Rule("deny"))


def compile_resilience(estate: ResilienceEstate) -> Plan:
    """The plan of a valid estate. Raises :class:`harness.cloud.findings.Refused` when a rule is broken."""
    require_valid(estate)
    circuit = compile_vbr_estate(estate.vbr)
    for centre in estate.vbr.data_centres:
        circuit = _renamed(circuit, centre.name, f"{centre.name}-router")
    vpcs = {vpc.name for vpc in estate.vpn.vpcs}
    tunnels = compile_vpn_estate(estate.vpn, taken=_asns(circuit))
    for vpc in vpcs:
        circuit = _renumbered(circuit, vpc, _speaker(tunnels[vpc]).asn)
    nodes = {node.name: node for node in tunnels.nodes}
    for node in circuit.nodes:
        nodes[node.name] = _joined(nodes[node.name], node) if node.name in nodes else node
    links = tuple(dict.fromkeys((*tunnels.links, *circuit.links)))
    joined = Plan(estate.name, estate.title, tuple(nodes.values()), links)
    return replace(joined, nodes=tuple(_chosen(estate, circuit, node) for node in joined.nodes))


def _speaker(node: Node) -> Speaker:
    assert node.speaker is not None
    return node.speaker


def _asns(plan: Plan) -> set[int]:
    speakers = [node.speaker for node in plan.nodes if node.speaker is not None]
    return {speaker.asn for speaker in speakers} | {n.remote_asn for speaker in speakers for n in speaker.neighbors}


def _renamed(plan: Plan, old: str, new: str) -> Plan:
    """The plan with a node by another name."""

    def end(each: End) -> End:
        return replace(each, node=new) if each.node == old else each

    nodes = tuple(replace(node, name=new) if node.name == old else node for node in plan.nodes)
    return replace(plan, nodes=nodes, links=tuple(replace(k, a=end(k.a), b=end(k.b)) for k in plan.links))


def _renumbered(plan: Plan, name: str, asn: int) -> Plan:
    """The plan with another ASN for a node's speaker, at its neighbours too."""
    addresses = {str(ip_interface(a).ip) for end, _ in plan.interfaces(name) for a in end.addresses}

    def speaker(node: Node) -> Speaker | None:
        if node.speaker is None:
            return None
        neighbors = tuple(replace(n, remote_asn=asn) if n.address in addresses else n for n in node.speaker.neighbors)
        return replace(node.speaker, neighbors=neighbors, asn=asn if node.name == name else node.speaker.asn)

    return replace(plan, nodes=tuple(replace(node, speaker=speaker(node)) for node in plan.nodes))


def _joined(one: Node, other: Node) -> Node:
    """A node that both plans have: routes, neighbours and networks of both."""
    speaker = one.speaker
    if speaker is not None and other.speaker is not None:
        speaker = replace(
            speaker,
            neighbors=(*speaker.neighbors, *other.speaker.neighbors),
            networks=tuple(dict.fromkeys((*speaker.networks, *other.speaker.networks))),
        )
    return replace(one, routes=tuple(dict.fromkeys((*one.routes, *other.routes))), speaker=speaker)


def _chosen(estate: ResilienceEstate, circuit: Plan, node: Node) -> Node:
    """The node with the policies by which the circuit comes first."""
    if node.speaker is None:
        return node
    of_circuit = {n.name for each in circuit.nodes if each.name == node.name for n in _speaker(each).neighbors}
    cens = {router.name for router in estate.vbr.transit_routers}
    gateways = {gateway.name for gateway in estate.vpn.vpn_gateways}
    routers = {f"{centre.name}-router": centre for centre in estate.vpn.data_centres}
    devices = {device.name for centre in estate.vpn.data_centres for device in centre.devices}

    def changed(neighbor: Neighbor) -> Neighbor:
        if node.name in {vpc.name for vpc in estate.vpn.vpcs}:
            if neighbor.name in gateways:
                return replace(neighbor, import_=_MARK)
            return replace(
                neighbor, import_=_CIRCUIT_FIRST, export=_TO_CEN if neighbor.name in cens else neighbor.export
            )
        if node.name in routers:
            if neighbor.name in of_circuit:
                behind = tuple(block for device in routers[node.name].devices for block in device.blocks)
                return replace(neighbor, import_=_CIRCUIT_FIRST, export=_own(behind))
            return replace(neighbor, next_hop_self=True, export=())
        if node.name in devices and neighbor.fall_over:
            return replace(neighbor, export=_OWN_NETWORKS)
        return neighbor

    return replace(node, speaker=replace(node.speaker, neighbors=tuple(map(changed, node.speaker.neighbors))))


def _own(blocks: Iterable[str]) -> tuple[Rule, ...]:
    """The data centre's own networks, and those behind its devices; nothing of the cloud's."""
    behind = tuple(blocks)
    return (Rule("permit", local=True), *((Rule("permit", prefixes=behind),) if behind else ()), Rule("deny"))
