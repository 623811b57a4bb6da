"""The document's rules for virtual border routers, one small function a rule, all listed in :data:`RULES`.

A rule yields findings and never raises; :func:`validate` runs them all. Source: "Express Connect: configure and manage BGP"; what
it says nothing of (†) is marked in docs/requirements.md. A rule about the order of two acts is in ``harness.cloud.vbr_changes``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from harness.cloud import alerts
from harness.cloud.findings import Finding, Severity, judge, refuse_errors
from harness.cloud.vbr import (
    BFD_HOP_COUNTS,
    DEFAULT_ASN,
    DEFAULT_BFD_HOP_COUNT,
    LOCAL_ASN_RANGES,
    PEERS_OF_A_VBR,
    BgpGroup,
    BgpPeer,
    Circuit,
    Line,
    Protocol,
    Vbr,
    VbrEstate,
    circuit_of,
    default_local_asn,
    ecr_of,
    group_of,
    local_asn,
)
from harness.cloud.vbr_site_rules import ADDRESSES, SITES

Rule = Callable[[VbrEstate], Iterator[Finding]]

#: RFC 6793: stands for an ASN of four octets where only two fit.
AS_TRANS = 23456
#: What the kernel takes as a key of TCP MD5, in octets.
KEY_OCTETS = (1, 80)

_LEGAL_LOCAL = f"{DEFAULT_ASN}, {', '.join(f'{low}-{high}' for low, high in LOCAL_ASN_RANGES)}"


def validate(estate: VbrEstate) -> list[Finding]:
    """Every finding of every rule, errors first. Rules that need sound addresses run once those are."""
    found = judge(estate, ADDRESSES)
    return found or judge(estate, RULES)


def require_valid(estate: VbrEstate) -> list[Finding]:
    """The warnings of an estate without errors. Raises :class:`harness.cloud.findings.Refused` with all errors otherwise."""
    return refuse_errors(validate(estate))


def circuits_lead_from_a_vbr_to_a_data_centre(estate: VbrEstate) -> Iterator[Finding]:
    routers, centres = {vbr.name for vbr in estate.vbrs}, {centre.name for centre in estate.data_centres}
    for circuit in estate.circuits:
        for kind, name, known in (
            ("VBR", circuit.vbr, routers),
            ("data centre", circuit.data_centre, centres),
        ):
            if name not in known:
                rule = f"{kind} {name!r} does not exist"
                yield Finding(_circuit(circuit), rule, "VBR-1", f"Choose one of {', '.join(sorted(known)) or 'those'}")


def peers_are_behind_circuits(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, peer in _peers(estate):
        if circuit_of(estate, vbr.name, peer.ip) is None:
            others = [c.name for other in estate.vbrs if (c := circuit_of(estate, other.name, peer.ip)) is not None]
            rule = f"no circuit attached to VBR {vbr.name} leads to {peer.ip}"
            rule += f"; circuit {others[0]} is attached to another VBR" if others else ""
            remedy = (
                "A VBR peers with data centres only: attach the circuit first, or give the customer's address of one"
            )
            yield Finding(_peer(vbr, peer), rule, "VBR-1", remedy)


def a_vbr_has_at_most_eight_peers(estate: VbrEstate) -> Iterator[Finding]:
    for vbr in estate.vbrs:
        existing = ", ".join(peer.ip for peer in vbr.peers[:PEERS_OF_A_VBR])
        for peer in vbr.peers[PEERS_OF_A_VBR:]:
            rule = f"VBR {vbr.name} has {PEERS_OF_A_VBR} BGP peers already ({existing}); a VBR takes at most {PEERS_OF_A_VBR}"
            yield Finding(_peer(vbr, peer), rule, "VBR-3", "Delete one first")


def peer_asns_are_legal(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, group in _groups(estate):
        if not 1 <= group.peer_asn <= 4294967295:
            rule = f"peer ASN {group.peer_asn} is not in 1 to 4294967295"
            yield Finding(
                _group(vbr, group), rule, "VBR-4", "Give the data centre's ASN, of two or four bytes", field="peer_asn"
            )
        elif group.peer_asn == AS_TRANS:
            rule = f"peer ASN {AS_TRANS} is AS_TRANS, which stands for four-byte ASNs (RFC 6793)"
            yield Finding(_group(vbr, group), rule, "VBR-4", "Give the data centre's own ASN", field="peer_asn")


def local_asns_are_legal(estate: VbrEstate) -> Iterator[Finding]:
    named = [
        (_group(vbr, group), group.local_asn, "local_asn")
        for vbr, group in _groups(estate)
        if group.local_asn is not None
    ] + [(f"ECR {ecr.name}", ecr.asn, "asn") for ecr in estate.ecrs]
    for owner, asn, field in named:
        if asn != DEFAULT_ASN and not any(low <= asn <= high for low, high in LOCAL_ASN_RANGES):
            yield Finding(owner, f"local ASN {asn} is not allowed", "VBR-5", f"Choose {_LEGAL_LOCAL}", field=field)


def local_asn_needs_privilege(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, group in _groups(estate):
        if group.local_asn is not None and not estate.account.may_set_local_asn:
            rule = f"local ASN {group.local_asn} is set, but the account may not set it"
            remedy = (
                "Associate the VBR with an ECR that has this ASN before BGP is configured; "
                "where no ECR can be used, ask the account manager for the privilege"
            )
            yield Finding(_group(vbr, group), rule, "VBR-26", remedy, field="local_asn")


def local_asn_is_the_ecrs(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, group in _groups(estate):
        ecr, asn = ecr_of(estate, vbr), local_asn(estate, vbr, group)
        if ecr is not None and asn != ecr.asn:
            rule = f"local ASN {asn} differs from {ecr.asn} of the associated ECR {ecr.name}"
            yield Finding(
                _group(vbr, group), rule, "VBR-6", "Leave the local ASN out: it is then the ECR's", field="local_asn"
            )


def ecr_associations_are_sound(estate: VbrEstate) -> Iterator[Finding]:
    routers, ecrs = {vbr.name: vbr for vbr in estate.vbrs}, {ecr.name for ecr in estate.ecrs}
    for association in estate.ecr_associations:
        owner, vbr = f"association of {association.vbr} with {association.ecr}", routers.get(association.vbr)
        if association.ecr not in ecrs or vbr is None:
            missing = association.vbr if vbr is None else association.ecr
            yield Finding(owner, f"{missing!r} does not exist", "VBR-6", "Create it first")
        elif not vbr.mp_bgp:
            rule = f"VBR {vbr.name} does not support MP-BGP"
            remedy = 'See "Advanced features of the port" on the details page of the VBR; use one that supports MP-BGP'
            yield Finding(owner, rule, "VBR-7", remedy)
    for name, count in Counter(association.vbr for association in estate.ecr_associations).items():
        if count > 1:
            yield Finding(f"VBR {name}", f"it is associated with {count} ECRs", "VBR-6", "Associate it with one")


def groups_fit_the_vbrs_family(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, group in _groups(estate):
        if group.protocol is Protocol.IPV6 and not vbr.ipv6:
            rule = f"protocol IPv6, but VBR {vbr.name} has IPv6 disabled"
            yield Finding(
                _group(vbr, group), rule, "VBR-8", "Enable IPv6 on the VBR first, or choose IPv4", field="protocol"
            )


def keys_fit_tcp_md5(estate: VbrEstate) -> Iterator[Finding]:
    least, most = KEY_OCTETS
    for vbr, group in _groups(estate):
        key = group.key
        if key is not None and not (key.isprintable() and least <= len(key.encode()) <= most):
            rule = f"the BGP key is not {least} to {most} octets of printable text"
            yield Finding(_group(vbr, group), rule, "VBR-9", "Give another key, or none", field="key")


def route_quotas_are_in_the_limit(estate: VbrEstate) -> Iterator[Finding]:
    limit = estate.account.route_quota_limit
    for vbr, group in _groups(estate):
        if not 1 <= group.route_quota <= limit:
            rule = f"BGP route quota {group.route_quota} is not in 1 to {limit}"
            remedy = "Choose one in the limit, or ask the account manager for more"
            yield Finding(_group(vbr, group), rule, "VBR-32", remedy, field="route_quota")


def route_quota_actions_exist(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, group in _groups(estate):
        if group.route_quota_action not in ("drop", "teardown"):
            rule = f"over its route quota it is to {group.route_quota_action!r}"
            yield Finding(_group(vbr, group), rule, "VBR-10", "Choose drop or teardown", field="route_quota_action")


def peers_have_one_group(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, peer in _peers(estate):
        if group_of(vbr, peer) is None:
            names = ", ".join(group.name for group in vbr.groups)
            rule = f"BGP group {peer.group!r} does not exist on VBR {vbr.name}"
            remedy = f"Choose {names}" if names else "Create the group first"
            yield Finding(_peer(vbr, peer), rule, "VBR-25", remedy, field="group")
    for vbr in estate.vbrs:
        for ip, count in Counter(ip_address(peer.ip) for peer in vbr.peers).items():
            if count > 1:
                rule = f"it is a peer of VBR {vbr.name} {count} times; a peer is in exactly one group"
                yield Finding(f"BGP peer {ip} of VBR {vbr.name}", rule, "VBR-25", "Delete all but one")


def peers_are_of_their_groups_family(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, peer in _peers(estate):
        group = group_of(vbr, peer)
        if group is not None and ip_address(peer.ip).version != group.protocol.version:
            rule = f"its address is IPv{ip_address(peer.ip).version}, its group {group.name} is {group.protocol}"
            remedy = f"Give an {group.protocol} address, or put the peer into a group of its family"
            yield Finding(_peer(vbr, peer), rule, "VBR-31", remedy, field="ip")


def bfd_hop_counts_are_legal(estate: VbrEstate) -> Iterator[Finding]:
    low, high = BFD_HOP_COUNTS
    for vbr, peer in _peers(estate):
        count = peer.bfd_hop_count
        if count is not None and not peer.bfd:
            rule, remedy = f"BFD hop count {count} without BFD", "Enable BFD, or give no hop count"
            yield Finding(_peer(vbr, peer), rule, "VBR-12", remedy, field="bfd_hop_count")
        elif count is not None and not low <= count <= high:
            rule = f"BFD hop count {count} is not in {low} to {high}"
            remedy = "Give the most devices between the two ends, 1 if there is none"
            yield Finding(_peer(vbr, peer), rule, "VBR-12", remedy, field="bfd_hop_count")


def direct_lines_have_hop_count_one(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, peer in _peers(estate):
        circuit = circuit_of(estate, vbr.name, peer.ip)
        count = DEFAULT_BFD_HOP_COUNT if peer.bfd_hop_count is None else peer.bfd_hop_count
        if circuit is not None and peer.bfd and circuit.line is not Line.BRIDGED and count != 1:
            rule = f"BFD hop count {count}, but circuit {circuit.name} is {circuit.line}"
            remedy = "Change the BFD hop count to 1"
            yield Finding(_peer(vbr, peer), rule, "VBR-13", remedy, Severity.WARNING, field="bfd_hop_count")


def advertised_networks_are_of_the_vpc(estate: VbrEstate) -> Iterator[Finding]:
    blocks = {vpc.name: [ip_network(each) for each in (vpc.cidr, vpc.ipv6_cidr) if each] for vpc in estate.vpcs}
    for vbr in estate.vbrs:
        if vbr.vpc not in blocks:
            yield Finding(f"VBR {vbr.name}", f"VPC {vbr.vpc!r} does not exist", "VBR-42", "Create the VPC first")
            continue
        for text in vbr.networks:
            owner = f"BGP network {text} of VBR {vbr.name}"
            if vbr.transit_router is not None:
                rule = f"CEN joins VPC {vbr.vpc} and VBR {vbr.name}: this step is skipped"
                yield Finding(owner, rule, "VBR-42", "Delete it: the routes of CEN are advertised")
                continue
            try:
                network = ip_network(text)
            except ValueError as error:
                yield Finding(owner, f"{error}", "VBR-21", "Give a CIDR block without host bits")
                continue
            if network.version == 6 and not vbr.ipv6:
                rule = f"{text} is IPv6, but VBR {vbr.name} has IPv6 disabled"
                yield Finding(owner, rule, "VBR-8", "Enable IPv6 on the VBR first, or choose an IPv4 block")
            elif not any(network.version == block.version and _inside(network, block) for block in blocks[vbr.vpc]):
                there = " and ".join(map(str, blocks[vbr.vpc]))
                rule = f"{text} is not inside {there} of VPC {vbr.vpc}"
                yield Finding(owner, rule, "VBR-42", f"Choose {there} or a part of it")


def _inside(network: IPv4Network | IPv6Network, block: IPv4Network | IPv6Network) -> bool:
    return network[0] in block and network.prefixlen >= block.prefixlen


def transit_routers_exist(estate: VbrEstate) -> Iterator[Finding]:
    known = {router.name for router in estate.transit_routers}
    for vbr in estate.vbrs:
        if vbr.transit_router is not None and vbr.transit_router not in known:
            rule = f"transit router {vbr.transit_router!r} does not exist"
            yield Finding(f"VBR {vbr.name}", rule, "VBR-21", "Create it first, or join VPC and VBR without CEN")


def data_centres_speak_as_configured(estate: VbrEstate) -> Iterator[Finding]:
    centres = {centre.name: centre for centre in estate.data_centres}
    for vbr, peer in _peers(estate):
        group, circuit = group_of(vbr, peer), circuit_of(estate, vbr.name, peer.ip)
        centre = centres.get(circuit.data_centre) if circuit is not None else None
        if group is not None and centre is not None and centre.asn != group.peer_asn:
            rule = f"data centre {centre.name} speaks as AS {centre.asn}, group {group.name} says AS {group.peer_asn}"
            remedy = "Change the peer ASN of the group, or move the peer to another group"
            yield Finding(_peer(vbr, peer), rule, "VBR-4", remedy, Severity.WARNING, field="group")


def peers_are_of_another_as(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, group in _groups(estate):
        if group.peer_asn == local_asn(estate, vbr, group):
            rule = f"peer ASN {group.peer_asn} is the local ASN: its sessions are internal ones (iBGP)"
            remedy = "Give the data centre's own ASN"
            yield Finding(_group(vbr, group), rule, "VBR-4", remedy, Severity.WARNING, field="peer_asn")


def alert_rules_are_sound(estate: VbrEstate) -> Iterator[Finding]:
    if estate.alerting is not None:
        yield from alerts.validate(estate.alerting)


def groups_may_loop(estate: VbrEstate) -> Iterator[Finding]:
    for vbr, group in _groups(estate):
        if hazards := loop_hazards(estate, vbr, group):
            rule = f"a BGP loop may occur: {'; '.join(hazards)}"
            remedy = "Use an ECR with an ASN of its own, associated before BGP is configured, and no CEN transit router"
            yield Finding(_group(vbr, group), rule, "VBR-11", remedy, Severity.WARNING)


def loop_hazards(estate: VbrEstate, vbr: Vbr, group: BgpGroup) -> list[str]:
    """Why BGP may loop with this group: one line for each cause that the document names, none where it is safe (VBR-11, VBR-30)."""
    lines = [circuit.name for circuit in estate.circuits if shows_default_asn(estate, circuit)]
    found = []
    if local_asn(estate, vbr, group) == DEFAULT_ASN and len(lines) > 1:
        found.append(f"the default ASN {DEFAULT_ASN} is used on {len(lines)} lines ({', '.join(lines)})")
    if vbr.transit_router is not None:
        found.append(f"the VBR reaches the cloud through the CEN transit router {vbr.transit_router}")
    return found


def shows_default_asn(estate: VbrEstate, circuit: Circuit) -> bool:
    """Is 45104 the ASN that the data centre sees on this line? A line without a peer counts by what its first group would show."""
    vbr = next((vbr for vbr in estate.vbrs if vbr.name == circuit.vbr), None)
    if vbr is None or not vbr.groups:
        return False
    shown = {
        local_asn(estate, vbr, group)
        for peer in vbr.peers
        if circuit_of(estate, vbr.name, peer.ip) == circuit and (group := group_of(vbr, peer)) is not None
    }
    return DEFAULT_ASN in (shown or {default_local_asn(estate, vbr)})


RULES: tuple[Rule, ...] = (
    *SITES,
    circuits_lead_from_a_vbr_to_a_data_centre,
    peers_are_behind_circuits,
    a_vbr_has_at_most_eight_peers,
    peer_asns_are_legal,
    local_asns_are_legal,
    local_asn_needs_privilege,
    local_asn_is_the_ecrs,
    ecr_associations_are_sound,
    groups_fit_the_vbrs_family,
    keys_fit_tcp_md5,
    route_quotas_are_in_the_limit,
    route_quota_actions_exist,
    peers_have_one_group,
    peers_are_of_their_groups_family,
    bfd_hop_counts_are_legal,
    direct_lines_have_hop_count_one,
    advertised_networks_are_of_the_vpc,
    transit_routers_exist,
    data_centres_speak_as_configured,
    peers_are_of_another_as,
    alert_rules_are_sound,
    groups_may_loop,
)


def _groups(estate: VbrEstate) -> Iterable[tuple[Vbr, BgpGroup]]:
    return ((vbr, group) for vbr in estate.vbrs for group in vbr.groups)


def _peers(estate: VbrEstate) -> Iterable[tuple[Vbr, BgpPeer]]:
    return ((vbr, peer) for vbr in estate.vbrs for peer in vbr.peers)


def _circuit(circuit: Circuit) -> str:
    return f"circuit {circuit.name}"


def _group(vbr: Vbr, group: BgpGroup) -> str:
    return f"BGP group {group.name} of VBR {vbr.name}"


def _peer(vbr: Vbr, peer: BgpPeer) -> str:
    return f"BGP peer {peer.ip} of VBR {vbr.name}"
