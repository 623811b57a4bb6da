"""What a console's user may do to a VBR while it runs: create, modify and delete groups, peers and advertised networks (VBR-24).

Each function takes an estate and returns the changed one, which satisfies every rule of ``harness.cloud.vbr_rules``; the old one is
untouched. Raises :class:`harness.cloud.findings.Refused` with the reasons otherwise. Rules of order are here, because no single
state shows them: a group that still has peers, a local ASN that cannot be edited, an ECR that comes too late.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.cloud.findings import Finding, Refused
from harness.cloud.vbr import DEFAULT_ASN, BgpGroup, BgpPeer, EcrAssociation, Vbr, VbrEstate
from harness.cloud.vbr_rules import require_valid

#: VBR-27: the fields of the form "Modify BGP group". ``protocol`` is its switch "Support IPv6",
#: ``route_quota_action`` this project's addition (VBR-10).
EDITABLE_IN_A_GROUP = ("protocol", "name", "peer_asn", "key", "route_quota", "description", "route_quota_action")
#: VBR-24: the fields of the form "Modify BGP peer".
EDITABLE_IN_A_PEER = ("group", "ip", "bfd", "bfd_hop_count")


def create_group(estate: VbrEstate, vbr: str, group: BgpGroup) -> VbrEstate:
    """Step 1 of the document."""
    router = _vbr(estate, vbr)
    return _with(estate, replace(router, groups=(*router.groups, group)))


def modify_group(estate: VbrEstate, vbr: str, group: str, /, **changes: Any) -> VbrEstate:
    """Changes fields of :data:`EDITABLE_IN_A_GROUP`; its peers follow a new name."""
    router = _vbr(estate, vbr)
    old = _group(router, group)
    if "local_asn" in changes and changes["local_asn"] != old.local_asn:
        rule = "the local ASN of a group cannot be edited"
        raise Refused([Finding(_of(group, router), rule, "VBR-27", "Delete the group and create it again")])
    _refuse_unknown(_of(group, router), changes, (*EDITABLE_IN_A_GROUP, "local_asn"), "VBR-27")
    changed = replace(old, **changes)
    groups = tuple(changed if each is old else each for each in router.groups)
    peers = tuple(replace(peer, group=changed.name) if peer.group == group else peer for peer in router.peers)
    return _with(estate, replace(router, groups=groups, peers=peers))


def delete_group(estate: VbrEstate, vbr: str, name: str) -> VbrEstate:
    """Refused while the group has peers, which are named."""
    router = _vbr(estate, vbr)
    group = _group(router, name)
    if peers := [peer.ip for peer in router.peers if peer.group == name]:
        rule = f"it still has BGP peers ({', '.join(peers)})"
        raise Refused([Finding(_of(name, router), rule, "VBR-24", "Delete them or move them to another group first")])
    return _with(estate, replace(router, groups=tuple(each for each in router.groups if each is not group)))


def create_peer(estate: VbrEstate, vbr: str, peer: BgpPeer) -> VbrEstate:
    """Step 2 of the document."""
    router = _vbr(estate, vbr)
    return _with(estate, replace(router, peers=(*router.peers, peer)))


def modify_peer(estate: VbrEstate, vbr: str, peer: str, /, **changes: Any) -> VbrEstate:
    """Changes fields of :data:`EDITABLE_IN_A_PEER`. Where BFD is switched off its hop count goes with it."""
    router = _vbr(estate, vbr)
    old = find_peer(router, peer)
    _refuse_unknown(f"BGP peer {peer} of VBR {vbr}", changes, EDITABLE_IN_A_PEER, "VBR-24")
    if changes.get("bfd") is False:
        changes.setdefault("bfd_hop_count", None)
    changed = replace(old, **changes)
    return _with(estate, replace(router, peers=tuple(changed if each is old else each for each in router.peers)))


def delete_peer(estate: VbrEstate, vbr: str, ip: str) -> VbrEstate:
    router = _vbr(estate, vbr)
    peer = find_peer(router, ip)
    return _with(estate, replace(router, peers=tuple(each for each in router.peers if each is not peer)))


def add_network(estate: VbrEstate, vbr: str, network: str) -> VbrEstate:
    """Step 3 of the document. Adding a network twice changes nothing."""
    router = _vbr(estate, vbr)
    return _with(estate, replace(router, networks=tuple(dict.fromkeys((*router.networks, network)))))


def delete_network(estate: VbrEstate, vbr: str, network: str) -> VbrEstate:
    router = _vbr(estate, vbr)
    if network not in router.networks:
        there = ", ".join(router.networks) or "none"
        rule = f"VBR {vbr} does not advertise it; advertised: {there}"
        raise Refused([Finding(f"BGP network {network} of VBR {vbr}", rule, "VBR-24", "Give one that is advertised")])
    return _with(estate, replace(router, networks=tuple(each for each in router.networks if each != network)))


def associate_ecr(estate: VbrEstate, vbr: str, ecr: str) -> VbrEstate:
    """The VBR takes the ECR's ASN (VBR-28). Refused once BGP is configured, unless that ASN is 45104 (VBR-6)."""
    router = _vbr(estate, vbr)
    if EcrAssociation(ecr, vbr) in estate.ecr_associations:
        rule, remedy = "the two are associated already", "There is nothing to do"
        raise Refused([Finding(f"association of {vbr} with {ecr}", rule, "VBR-6", remedy)])
    asn = next((each.asn for each in estate.ecrs if each.name == ecr), DEFAULT_ASN)
    if router.groups and asn != DEFAULT_ASN:
        groups = ", ".join(group.name for group in router.groups)
        rule = f"its ASN {asn} is not {DEFAULT_ASN}, and VBR {vbr} has BGP groups already ({groups})"
        remedy = "Delete them, associate the ECR, then configure BGP"
        raise Refused([Finding(f"association of {vbr} with {ecr}", rule, "VBR-6", remedy)])
    changed = replace(estate, ecr_associations=(*estate.ecr_associations, EcrAssociation(ecr, vbr)))
    require_valid(changed)
    return changed


def _with(estate: VbrEstate, router: Vbr) -> VbrEstate:
    changed = replace(estate, vbrs=tuple(router if each.name == router.name else each for each in estate.vbrs))
    require_valid(changed)
    return changed


def _vbr(estate: VbrEstate, name: str) -> Vbr:
    for vbr in estate.vbrs:
        if vbr.name == name:
            return vbr
    there = ", ".join(vbr.name for vbr in estate.vbrs) or "none"
    raise Refused([Finding(f"VBR {name}", f"it does not exist; there are {there}", "VBR-24", "Name one that exists")])


def _group(vbr: Vbr, name: str) -> BgpGroup:
    for group in vbr.groups:
        if group.name == name:
            return group
    there = ", ".join(group.name for group in vbr.groups) or "none"
    raise Refused([Finding(_of(name, vbr), f"it does not exist; there are {there}", "VBR-25", "Name one that exists")])


def find_peer(vbr: Vbr, ip: str) -> BgpPeer:
    """The peer of that address. Raises Refused, which names those that exist."""
    for peer in vbr.peers:
        if peer.ip == ip:
            return peer
    there = ", ".join(peer.ip for peer in vbr.peers) or "none"
    owner = f"BGP peer {ip} of VBR {vbr.name}"
    raise Refused([Finding(owner, f"it does not exist; there are {there}", "VBR-24", "Name one that exists")])


def _of(group: str, vbr: Vbr) -> str:
    return f"BGP group {group} of VBR {vbr.name}"


def _refuse_unknown(owner: str, changes: dict[str, Any], editable: tuple[str, ...], spec: str) -> None:
    if unknown := sorted(set(changes) - set(editable)):
        shown = ", ".join(name for name in editable if name != "local_asn")
        raise Refused([Finding(owner, f"{unknown[0]!r} cannot be edited", spec, f"Editable are {shown}")])
