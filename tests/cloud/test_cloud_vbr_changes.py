"""What a user may change on a VBR, and what is refused: functions from an estate to an estate, the old one never touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.cloud.findings import Refused
from harness.cloud.vbr import Account, BgpGroup, BgpPeer, Ecr, Protocol, VbrEstate, local_asn
from harness.cloud.vbr_changes import (
    add_network,
    associate_ecr,
    create_group,
    create_peer,
    delete_group,
    delete_network,
    delete_peer,
    modify_group,
    modify_peer,
)
from harness.plan import diff
from topologies import vbr

GROUP, SECOND = vbr.group_name(vbr.ASNS[0]), vbr.group_name(vbr.ASNS[1])
Act = Callable[[VbrEstate], VbrEstate]


def bare(**changes: object) -> VbrEstate:
    """Two circuits and no BGP."""
    estate = vbr.estate(peers=2, **changes)  # type: ignore[arg-type]
    return replace(estate, vbrs=(replace(estate.vbrs[0], groups=(), peers=(), networks=()),))


@pytest.mark.spec("VBR-24", "VBR-25", "VBR-21")
def test_the_documents_three_steps_build_the_scenario() -> None:
    """Groups, then peers, then the network: the same estate as the scenario, which is not what the steps began with."""
    estate = begun = bare()
    for asn in vbr.ASNS[:2]:
        estate = create_group(estate, "vbr", BgpGroup(vbr.group_name(asn), asn))
    for number, asn in enumerate(vbr.ASNS[:2], 1):
        estate = create_peer(estate, "vbr", BgpPeer(vbr.group_name(asn), vbr.peer_ip(number)))
    estate = add_network(estate, "vbr", vbr.VPC_BLOCK)
    assert estate == vbr.estate(peers=2)
    assert begun == bare()


@pytest.mark.spec("VBR-24")
def test_deleting_goes_back_the_same_way() -> None:
    estate = delete_network(vbr.estate(peers=2), "vbr", vbr.VPC_BLOCK)
    for number in (1, 2):
        estate = delete_peer(estate, "vbr", vbr.peer_ip(number))
    for name in (GROUP, SECOND):
        estate = delete_group(estate, "vbr", name)
    assert estate == bare()


@pytest.mark.spec("VBR-27", "VBR-24")
def test_a_group_is_edited_and_its_peers_follow() -> None:
    changes = {"name": "renamed", "peer_asn": 65100, "key": "s3cret", "route_quota": 50, "description": "first line"}
    after = modify_group(vbr.estate(peers=2), "vbr", GROUP, **changes)
    (group, _) = after.vbrs[0].groups
    assert (group.name, group.peer_asn, group.key, group.route_quota, group.description) == tuple(changes.values())
    assert [peer.group for peer in after.vbrs[0].peers] == ["renamed", SECOND]


@pytest.mark.spec("VBR-24", "VBR-12")
def test_a_peer_is_edited() -> None:
    after = modify_peer(vbr.estate(peers=2), "vbr", "10.1.1.2", bfd=True, bfd_hop_count=1)
    assert after.vbrs[0].peers[0] == BgpPeer(GROUP, "10.1.1.2", True, 1)
    assert modify_peer(after, "vbr", "10.1.1.2", bfd=False).vbrs[0].peers[0] == BgpPeer(GROUP, "10.1.1.2")
    moved = modify_peer(vbr.estate(peers=2), "vbr", "10.1.1.2", group=SECOND)
    assert moved.vbrs[0].peers[0].group == SECOND


REFUSED: dict[str, tuple[Act, str, str, str]] = {
    "group with peers": (
        lambda e: delete_group(e, "vbr", GROUP),
        "VBR-24",
        "still has BGP peers (10.1.1.2)",
        "Delete them or move them",
    ),
    "local ASN edited": (
        lambda e: modify_group(e, "vbr", GROUP, local_asn=64600),
        "VBR-27",
        "local ASN of a group cannot be edited",
        "Delete the group and create it again",
    ),
    "something else edited": (
        lambda e: modify_group(e, "vbr", GROUP, colour="red"),
        "VBR-27",
        "'colour' cannot be edited",
        "Editable are protocol, name, peer_asn, key, route_quota, description",
    ),
    "peer's status edited": (
        lambda e: modify_peer(e, "vbr", "10.1.1.2", status="Established"),
        "VBR-24",
        "'status' cannot be edited",
        "group, ip, bfd",
    ),
    "IPv6 switched on under IPv4 peers": (
        lambda e: modify_group(replace(e, vbrs=(replace(e.vbrs[0], ipv6=True),)), "vbr", GROUP, protocol=Protocol.IPV6),
        "VBR-31",
        "its address is IPv4",
        "a group of its family",
    ),
    "IPv6 switched off under IPv6 peers": (
        lambda e: modify_group(dual(e), "vbr", "six", protocol=Protocol.IPV4),
        "VBR-31",
        "its address is IPv6",
        "a group of its family",
    ),
    "peer moved to another family": (
        lambda e: modify_peer(dual(e), "vbr", "10.1.1.2", group="six"),
        "VBR-31",
        "its address is IPv4",
        "a group of its family",
    ),
    "peer without a group": (
        lambda _: create_peer(bare(), "vbr", BgpPeer("idc", "10.1.1.2")),
        "VBR-25",
        "'idc' does not exist",
        "Create the group first",
    ),
    "peer in a second group": (
        lambda e: create_peer(e, "vbr", BgpPeer(SECOND, "10.1.1.2")),
        "VBR-25",
        "a peer is in exactly one group",
        "Delete all but one",
    ),
    "ninth peer": (
        lambda _: create_peer(vbr.estate(peers=8, circuits=9), "vbr", BgpPeer(GROUP, "10.1.9.2")),
        "VBR-3",
        "has 8 BGP peers already",
        "Delete one first",
    ),
    "network of another VPC": (
        lambda e: add_network(e, "vbr", "10.9.0.0/16"),
        "VBR-42",
        "not inside 172.16.0.0/16",
        "a part of it",
    ),
    "network that is not advertised": (
        lambda e: delete_network(e, "vbr", "172.16.1.0/24"),
        "VBR-24",
        "does not advertise it",
        "Give one that is advertised",
    ),
    "no such VBR": (lambda e: delete_peer(e, "none", "10.1.1.2"), "VBR-24", "there are vbr", "Name one"),
    "no such group": (lambda e: delete_group(e, "vbr", "none"), "VBR-25", f"there are {GROUP}", "Name one"),
    "no such peer": (lambda e: delete_peer(e, "vbr", "10.9.9.9"), "VBR-24", "there are 10.1.1.2", "Name one"),
}


def dual(estate: VbrEstate) -> VbrEstate:
    """The first circuit is dual stack, with a group and a peer of each family."""
    first, *others = estate.circuits
    circuit = replace(first, cloud_address_ipv6="fd00:1::1/64", customer_address_ipv6="fd00:1::2/64")
    estate = replace(estate, circuits=(circuit, *others), vbrs=(replace(estate.vbrs[0], ipv6=True),))
    estate = create_group(estate, "vbr", BgpGroup("six", vbr.ASNS[0], Protocol.IPV6))
    return create_peer(estate, "vbr", BgpPeer("six", "fd00:1::2"))


@pytest.mark.spec("VBR-3", "VBR-24", "VBR-25", "VBR-27", "VBR-31", "VBR-42")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_names_rule_id_and_remedy(case: str) -> None:
    act, spec, rule, remedy = REFUSED[case]
    before = vbr.estate(peers=2)
    with pytest.raises(Refused) as refused:
        act(before)
    (finding,) = [finding for finding in refused.value.findings if finding.spec == spec]
    assert rule in finding.rule
    assert remedy in finding.remedy
    assert before == vbr.estate(peers=2)


@pytest.mark.spec("VBR-6", "VBR-28")
def test_an_ecr_comes_before_bgp() -> None:
    """Before BGP the VBR takes the ECR's ASN, and the next group has it; after BGP it is refused, unless it changes nothing."""
    estate = replace(bare(), ecrs=(Ecr("ecr", 64600), Ecr("plain")))
    associated = create_group(associate_ecr(estate, "vbr", "ecr"), "vbr", BgpGroup("idc", 65011))
    assert local_asn(associated, associated.vbrs[0], associated.vbrs[0].groups[0]) == 64600

    configured = create_group(estate, "vbr", BgpGroup("idc", 65011))
    with pytest.raises(Refused, match=r"VBR vbr has BGP groups already \(idc\) \(VBR-6\)\. Delete them"):
        associate_ecr(configured, "vbr", "ecr")
    assert associate_ecr(configured, "vbr", "plain").ecr_associations


@pytest.mark.spec("VBR-6")
def test_an_ecr_that_differs_from_a_privileged_group_is_refused() -> None:
    estate = replace(bare(account=Account(may_set_local_asn=True)), ecrs=(Ecr("plain"),))
    configured = create_group(estate, "vbr", BgpGroup("idc", 65011, local_asn=64600))
    with pytest.raises(Refused, match="local ASN 64600 differs from 45104 of the associated ECR plain"):
        associate_ecr(configured, "vbr", "plain")


@pytest.mark.spec("VBR-6")
def test_an_ecr_is_associated_once() -> None:
    estate = replace(bare(), ecrs=(Ecr("ecr", 64600),))
    with pytest.raises(Refused, match=r"the two are associated already \(VBR-6\)"):
        associate_ecr(associate_ecr(estate, "vbr", "ecr"), "vbr", "ecr")


@pytest.mark.spec("VBR-7")
def test_an_ecr_needs_mp_bgp() -> None:
    estate = replace(bare(), ecrs=(Ecr("ecr", 64600),))
    old = replace(estate, vbrs=(replace(estate.vbrs[0], mp_bgp=False),))
    with pytest.raises(Refused, match=r"does not support MP-BGP \(VBR-7\)"):
        associate_ecr(old, "vbr", "ecr")


@pytest.mark.spec("VBR-24")
def test_a_change_of_bgp_changes_the_vbrs_node_only() -> None:
    """What ``lab.apply`` would do: no link and no other node is touched."""
    before = vbr.estate(peers=1, circuits=2)
    for after in (
        create_peer(before, "vbr", BgpPeer(SECOND, "10.1.2.2")),
        delete_peer(before, "vbr", "10.1.1.2"),
        delete_network(before, "vbr", vbr.VPC_BLOCK),
        modify_group(before, "vbr", GROUP, key="s3cret"),
    ):
        changes = diff(vbr.plan_of(before), vbr.plan_of(after))
        assert [(change.kind, change.name) for change in changes] == [("node", "vbr")]
