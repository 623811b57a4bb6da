"""Every rule of the VBR: an estate that breaks it, the finding it gets, and estates that break none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cloud import vbr_changes
from harness.cloud.alerts import Alerting, AlertRule
from harness.cloud.build_vbr import compile_vbr_estate
from harness.cloud.events import EventName, EventType
from harness.cloud.findings import Finding, Refused, Severity
from harness.cloud.vbr import (
    BFD_HOP_COUNTS,
    DEFAULT_ASN,
    DEFAULT_BFD_HOP_COUNT,
    LOCAL_ASN_RANGES,
    PEERS_OF_A_VBR,
    ROUTE_QUOTA,
    Account,
    BgpGroup,
    BgpPeer,
    EcrAssociation,
    Line,
    Protocol,
    VbrEstate,
    basic_information,
    local_asn,
)
from harness.cloud.vbr_rules import RULES, loop_hazards, validate
from harness.cloud.vbr_site_rules import ADDRESSES
from labs.document import vbr as document
from topologies import vbr

Change = Callable[[VbrEstate], VbrEstate]

GROUP = vbr.group_name(vbr.ASNS[0])
PRIVILEGED = Account(may_set_local_asn=True)


def router(**changes: Any) -> Change:
    return lambda estate: replace(estate, vbrs=(replace(estate.vbrs[0], **changes), *estate.vbrs[1:]))


def group(**changes: Any) -> Change:
    """The estate with its VBR's first group changed."""

    def change(estate: VbrEstate) -> VbrEstate:
        first, *others = estate.vbrs[0].groups
        return router(groups=(replace(first, **changes), *others))(estate)

    return change


def peer(**changes: Any) -> Change:
    def change(estate: VbrEstate) -> VbrEstate:
        first, *others = estate.vbrs[0].peers
        return router(peers=(replace(first, **changes), *others))(estate)

    return change


def circuit(**changes: Any) -> Change:
    def change(estate: VbrEstate) -> VbrEstate:
        first, *others = estate.circuits
        return replace(estate, circuits=(replace(first, **changes), *others))

    return change


def centre(**changes: Any) -> Change:
    def change(estate: VbrEstate) -> VbrEstate:
        first, *others = estate.data_centres
        return replace(estate, data_centres=(replace(first, **changes), *others))

    return change


def both(*changes: Change) -> Change:
    def change(estate: VbrEstate) -> VbrEstate:
        for each in changes:
            estate = each(estate)
        return estate

    return change


def account(**changes: Any) -> Change:
    return lambda estate: replace(estate, account=replace(estate.account, **changes))


def elsewhere(estate: VbrEstate) -> VbrEstate:
    """The first circuit is attached to another VBR."""
    other = replace(estate.vbrs[0], name="vbr-2", groups=(), peers=(), networks=())
    return circuit(vbr="vbr-2")(replace(estate, vbrs=(*estate.vbrs, other)))


def timers(**changes: int) -> Change:
    return lambda estate: replace(estate, timers=replace(estate.timers, **changes))


def block_of_the_vpc(cidr: str) -> Change:
    return lambda estate: replace(estate, vpcs=(replace(estate.vpcs[0], cidr=cidr),))


def associated(estate: VbrEstate) -> VbrEstate:
    return vbr.estate(peers=2, ecr_asn=64600, account=estate.account)


def twice_associated(estate: VbrEstate) -> VbrEstate:
    one = associated(estate)
    return replace(one, ecr_associations=one.ecr_associations * 2)


P1, G1, C1 = "BGP peer 10.1.1.2 of VBR vbr", f"BGP group {GROUP} of VBR vbr", "circuit circuit-1"

BROKEN: list[tuple[Change, str, str, str, str]] = [
    # change, object, words of the rule, ID, words of the remedy
    (circuit(cloud_address="10.1.1/30"), C1, "address:", "VBR-1", "10.1.1.1/30"),
    (circuit(cloud_address="10.1.1.2/30"), C1, "are not two addresses of one block", "VBR-1", "different addresses"),
    (circuit(customer_address="10.1.1.6/30"), C1, "are not two addresses of one block", "VBR-1", "one block"),
    (circuit(cloud_address="10.1.1.0/30"), C1, "the block's own or broadcast", "VBR-1", "host addresses"),
    (
        circuit(cloud_address="fd00::1/64", customer_address="fd00::2/64"),
        C1,
        "its addresses are fd00::1/64",
        "VBR-1",
        "beside",
    ),
    (circuit(cloud_address_ipv6="fd00::1/64"), C1, "only one of its ends has an IPv6", "VBR-1", "Give both ends one"),
    (
        circuit(cloud_address="127.0.0.1/8", customer_address="127.0.0.2/8"),
        C1,
        "127.0.0.1 is loopback",
        "VBR-1",
        "hosts have",
    ),
    (circuit(data_centre="none"), C1, "data centre 'none' does not exist", "VBR-1", "dc1, dc2"),
    (circuit(vbr="none"), C1, "VBR 'none' does not exist", "VBR-1", "vbr"),
    (
        peer(ip="10.1.7.2"),
        "BGP peer 10.1.7.2 of VBR vbr",
        "no circuit attached to VBR vbr",
        "VBR-1",
        "attach the circuit",
    ),
    (elsewhere, P1, "circuit circuit-1 is attached to another VBR", "VBR-1", "attach the circuit"),
    (peer(ip="somewhere"), "BGP peer somewhere of VBR vbr", "peer IP:", "VBR-12", "10.1.1.2"),
    (centre(blocks=("192.168.1.1/24",)), "data centre dc1", "host bits", "VBR-21", "without host bits"),
    (centre(blocks=("192.168.1.0/28",)), "data centre dc1", "too small", "VBR-21", "32 addresses"),
    (centre(blocks=("172.16.9.0/24",)), "VPC vpc", "172.16.0.0/16 overlaps 172.16.9.0/24", "ECMP-1", "another block"),
    (group(peer_asn=0), G1, "peer ASN 0 is not in 1 to 4294967295", "VBR-4", "data centre's ASN"),
    (group(peer_asn=4294967296), G1, "peer ASN 4294967296", "VBR-4", "two or four bytes"),
    (group(peer_asn=23456), G1, "AS_TRANS", "VBR-4", "own ASN"),
    (
        group(local_asn=65025),
        G1,
        "local ASN 65025 is not allowed",
        "VBR-5",
        "45104, 64512-65024, 65026-65534, 4200000000-",
    ),
    (group(local_asn=65535), G1, "local ASN 65535", "VBR-5", "4200000000-4294967294"),
    (group(local_asn=100), G1, "local ASN 100", "VBR-5", "64512-65024"),
    (group(local_asn=64999), G1, "the account may not set it", "VBR-26", "ask the account manager"),
    (group(local_asn=64999), G1, "the account may not set it", "VBR-26", "Associate the VBR with an ECR"),
    (
        both(account(may_set_local_asn=True), associated, group(local_asn=64999)),
        G1,
        "local ASN 64999 differs from 64600 of the associated ECR ecr",
        "VBR-6",
        "then the ECR's",
    ),
    (
        both(associated, router(mp_bgp=False)),
        "association of vbr with ecr",
        "does not support MP-BGP",
        "VBR-7",
        "Advanced features of the port",
    ),
    (
        lambda estate: replace(estate, ecr_associations=(EcrAssociation("none", "vbr"),)),
        "association of vbr with none",
        "'none' does not exist",
        "VBR-6",
        "first",
    ),
    (twice_associated, "VBR vbr", "associated with 2 ECRs", "VBR-6", "with one"),
    (group(protocol=Protocol.IPV6), G1, "VBR vbr has IPv6 disabled", "VBR-8", "Enable IPv6 on the VBR"),
    (group(key=""), G1, "the BGP key is not 1 to 80 octets", "VBR-9", "another key"),
    (group(key="k" * 81), G1, "the BGP key is not 1 to 80 octets", "VBR-9", "another key"),
    (group(route_quota=0), G1, "route quota 0 is not in 1 to 110", "VBR-32", "account manager"),
    (group(route_quota=-1), G1, "route quota -1", "VBR-32", "account manager"),
    (group(route_quota=111), G1, "route quota 111 is not in 1 to 110", "VBR-32", "account manager"),
    (
        lambda estate: replace(estate, alerting=Alerting((AlertRule("", EventType.DOWN, EventName.PEER_DOWN),))),
        "alert rule without a name",
        "has a name",
        "VBR-38",
        "Give it one",
    ),
    (group(route_quota_action="warn"), G1, "is to 'warn'", "VBR-10", "drop or teardown"),
    (peer(group="none"), P1, "'none' does not exist", "VBR-25", GROUP),
    (peer(ip="10.1.2.2"), "BGP peer 10.1.2.2 of VBR vbr", "2 times", "VBR-25", "all but one"),
    (both(router(ipv6=True), group(protocol=Protocol.IPV6)), P1, "its address is IPv4", "VBR-31", "IPv6 address"),
    (peer(bfd_hop_count=1), P1, "BFD hop count 1 without BFD", "VBR-12", "Enable BFD"),
    (peer(bfd=True, bfd_hop_count=0), P1, "BFD hop count 0 is not in 1 to 255", "VBR-12", "devices between"),
    (peer(bfd=True, bfd_hop_count=256), P1, "BFD hop count 256", "VBR-12", "devices between"),
    (
        router(networks=("10.0.0.0/16",)),
        "BGP network 10.0.0.0/16 of VBR vbr",
        "is not inside",
        "VBR-42",
        "172.16.0.0/16",
    ),
    (
        router(networks=("172.0.0.0/8",)),
        "BGP network 172.0.0.0/8 of VBR vbr",
        "is not inside",
        "VBR-42",
        "a part of it",
    ),
    (
        router(networks=("172.16.0.1/24",)),
        "BGP network 172.16.0.1/24 of VBR vbr",
        "host bits",
        "VBR-21",
        "without host",
    ),
    (router(networks=("vpc",)), "BGP network vpc of VBR vbr", "does not appear to be", "VBR-21", "CIDR block"),
    (router(vpc="none"), "VBR vbr", "VPC 'none' does not exist", "VBR-42", "first"),
    (
        lambda _: router(networks=(vbr.VPC_BLOCK,))(vbr.estate(peers=2, cen=True)),
        "BGP network 172.16.0.0/16 of VBR vbr",
        "this step is skipped",
        "VBR-42",
        "routes of CEN",
    ),
    (router(transit_router="none"), "VBR vbr", "transit router 'none' does not exist", "VBR-21", "without CEN"),
    (peer(ip="224.0.0.9"), "BGP peer 224.0.0.9 of VBR vbr", "224.0.0.9 is multicast", "VBR-12", "data centre has"),
    (peer(ip="::"), "BGP peer :: of VBR vbr", ":: is unspecified", "VBR-12", "data centre has"),
    (peer(ip="fe80::1%eth0"), "BGP peer fe80::1%eth0 of VBR vbr", "link-local", "VBR-12", "data centre has"),
    (centre(blocks=("240.0.0.0/8",)), "data centre dc1", "reserved", "VBR-21", "hosts have"),
    (centre(blocks=("198.18.1.0/24",)), "data centre dc1", "the links inside the cloud use", "ECMP-1", "another"),
    (centre(name="vpc"), "data centre vpc", "VPC vpc has the name vpc too", "VBR-1", "Rename one"),
    (group(name=""), "BGP group  of VBR vbr", "not 1 to 128 printable", "VBR-8", "another name"),
    (router(name="../vbr"), "VBR ../vbr", "cannot be the name of a node", "VBR-1", "letters, digits"),
    (circuit(name="a\nb"), "circuit a\nb", "not 1 to 128 printable", "VBR-1", "another name"),
    (timers(hold_time=2), "timers", "hold_time 2 is not 0 or 3 to 65535", "BGP-15", "in the range"),
    (timers(bfd_interval_ms=0), "timers", "bfd_interval_ms 0 is not 10 to 60000", "VBR-13", "in the range"),
    (block_of_the_vpc("172.16.0.0/30"), "VPC vpc", "no block that a VPC can have", "VBR-42", "/8 to /28"),
    (block_of_the_vpc("fd00::/56"), "VPC vpc", "4 octets", "VBR-42", "IPv4 block"),
    (
        lambda estate: router(groups=estate.vbrs[0].groups * 2)(estate),
        G1,
        "2 have this name",
        "VBR-25",
        "Rename",
    ),
]

WARNED: list[tuple[Change, str, str]] = [
    (peer(bfd=True), "VBR-13", "BFD hop count 255, but circuit circuit-1 is a directly connected fibre"),
    (both(peer(bfd=True), circuit(line=Line.MULTI_CLOUD)), "VBR-13", "without a bridging device"),
    (group(peer_asn=45104), "VBR-4", "its sessions are internal ones"),
    (group(peer_asn=65099), "VBR-4", "data centre dc1 speaks as AS 65011, group idc-65011 says AS 65099"),
]


def estate() -> VbrEstate:
    return vbr.estate(peers=2)


@pytest.mark.spec(
    "VBR-1", "VBR-4", "VBR-5", "VBR-6", "VBR-7", "VBR-8", "VBR-9", "VBR-12", "VBR-21", "VBR-25", "VBR-26", "VBR-31"
)
@pytest.mark.spec("VBR-32", "VBR-42")
@pytest.mark.parametrize(("change", "owner", "rule", "spec", "remedy"), BROKEN)
def test_a_broken_rule_names_object_rule_id_and_remedy(
    change: Change, owner: str, rule: str, spec: str, remedy: str
) -> None:
    broken = change(estate())
    found = [finding for finding in validate(broken) if finding.spec == spec and rule in finding.rule]
    assert found, [str(finding) for finding in validate(broken)]
    assert found[0].object == owner
    assert remedy in found[0].remedy
    assert found[0].severity is Severity.ERROR
    with pytest.raises(Refused) as refused:
        compile_vbr_estate(broken)
    assert found[0] in refused.value.findings


@pytest.mark.spec("VBR-13", "VBR-4")
@pytest.mark.parametrize(("change", "spec", "words"), WARNED)
def test_a_warning_stops_nothing(change: Change, spec: str, words: str) -> None:
    (finding,) = [found for found in validate(change(estate())) if found.spec == spec and words in found.rule]
    assert finding.severity is Severity.WARNING
    compile_vbr_estate(change(estate()))


def test_every_rule_of_the_tables_is_broken_by_some_case() -> None:
    changes = [case[0] for case in BROKEN] + [case[0] for case in WARNED]
    broken = [change(estate()) for change in changes] + [vbr.estate(peers=9)]
    for rule in ADDRESSES:
        assert any(list(rule(each)) for each in broken), rule.__name__
    sound = [each for each in broken if not any(list(rule(each)) for rule in ADDRESSES)]
    for rule in RULES:
        assert any(list(rule(each)) for each in sound), rule.__name__


@pytest.mark.spec("VBR-3")
def test_the_ninth_peer_is_refused_with_the_eight_named() -> None:
    (finding,) = [f for f in validate(vbr.estate(peers=9)) if f.severity is Severity.ERROR]
    assert (finding.object, finding.spec) == ("BGP peer 10.1.9.2 of VBR vbr", "VBR-3")
    assert "(10.1.1.2, 10.1.2.2, 10.1.3.2, 10.1.4.2, 10.1.5.2, 10.1.6.2, 10.1.7.2, 10.1.8.2)" in finding.rule
    assert "at most 8" in finding.rule
    assert [f for f in validate(vbr.estate(peers=8)) if f.severity is Severity.ERROR] == []


@pytest.mark.spec("VBR-3", "VBR-4", "VBR-5", "VBR-8", "VBR-12", "VBR-14", "VBR-24", "VBR-27", "VBR-32")
def test_limits_defaults_and_forms_are_the_documents() -> None:
    assert (PEERS_OF_A_VBR, DEFAULT_ASN, ROUTE_QUOTA) == (document.MOST_PEERS, document.CLOUD_ASN, document.ROUTE_QUOTA)
    assert LOCAL_ASN_RANGES == document.LOCAL_ASNS
    assert (BFD_HOP_COUNTS, DEFAULT_BFD_HOP_COUNT) == (document.BFD_HOP_COUNT, document.BFD_HOP_COUNT_DEFAULT)
    assert {field.name for field in fields(BgpGroup)} == {*document.GROUP_FORM, "route_quota_action"}  # ours, VBR-10
    assert {field.name for field in fields(BgpPeer)} == set(document.PEER_FORM)
    assert (*document.GROUP_EDIT_FORM, "route_quota_action") == vbr_changes.EDITABLE_IN_A_GROUP
    assert vbr_changes.EDITABLE_IN_A_PEER == document.PEER_FORM
    assert BgpGroup("g", 65010).route_quota == document.ROUTE_QUOTA
    assert BgpPeer("g", "10.1.1.2").bfd is False


@pytest.mark.spec("VBR-5")
@given(st.one_of(st.integers(0, 70000), st.integers(4199999990, 4294967300)))
def test_local_asns(asn: int) -> None:
    legal = asn == 45104 or 64512 <= asn <= 65024 or 65026 <= asn <= 65534 or 4200000000 <= asn <= 4294967294
    found = validate(both(account(may_set_local_asn=True), group(local_asn=asn))(estate()))
    assert ("VBR-5" not in {finding.spec for finding in found}) == legal


@pytest.mark.spec("VBR-9")
@given(st.text(max_size=90))
def test_a_key_is_in_no_finding(key: str) -> None:
    found = validate(both(group(key=key, route_quota=0), peer(group="none"))(estate()))
    assert not [finding for finding in found if len(key) > 8 and key in str(finding)]


@pytest.mark.spec("VBR-32")
def test_a_raised_limit_is_the_limit() -> None:
    raised = both(account(route_quota_limit=200), group(route_quota=200))(estate())
    assert "VBR-32" not in {finding.spec for finding in validate(raised)}
    (finding,) = [f for f in validate(group(route_quota=201)(raised)) if f.spec == "VBR-32"]
    assert "1 to 200" in finding.rule


@pytest.mark.spec("VBR-29")
@pytest.mark.parametrize(("mp_bgp", "words"), [(True, "MP-BGP supported"), (False, "MP-BGP not supported")])
def test_details_say_whether_mp_bgp_is_supported(mp_bgp: bool, words: str) -> None:
    shown = router(mp_bgp=mp_bgp)(estate())
    assert basic_information(shown, shown.vbrs[0])["Advanced features of the port"] == words


# ------------------------------------------------------------------------------------------------------------ the loop warning


def warned(found: list[Finding]) -> set[str]:
    return {finding.object for finding in found if finding.spec == "VBR-11"}


SAFE: dict[str, VbrEstate] = {
    "one line with the default ASN": vbr.estate(peers=1),
    "eight lines with the ECR's ASN": vbr.estate(peers=8, ecr_asn=64600),
    "two lines, one of them with another ASN": both(
        account(may_set_local_asn=True), group(local_asn=64600), centre(neighbor_asn=64600)
    )(vbr.estate(peers=2)),
    "two lines, no group yet": router(groups=(), peers=())(vbr.estate(peers=2)),
}

HAZARDOUS: dict[str, tuple[VbrEstate, int]] = {
    "two lines with the default ASN": (vbr.estate(peers=2), 2),
    "two lines, the second without a peer yet": (vbr.estate(peers=1, circuits=2), 2),
    "two lines, an ECR that has the default ASN": (vbr.estate(peers=2, ecr_asn=45104), 2),
    "one line by a transit router": (vbr.estate(peers=1, cen=True), 1),
    "an ASN of its own, but by a transit router": (vbr.estate(peers=2, cen=True, ecr_asn=64600), 2),
}


@pytest.mark.spec("VBR-11", "VBR-30")
@pytest.mark.parametrize("case", SAFE)
def test_no_warning_where_no_loop_can_be(case: str) -> None:
    assert validate(SAFE[case]) == []


@pytest.mark.spec("VBR-11", "VBR-30")
@pytest.mark.parametrize("case", HAZARDOUS)
def test_every_group_with_the_hazard_is_warned_of(case: str) -> None:
    hazardous, groups = HAZARDOUS[case]
    found = validate(hazardous)
    assert warned(found) == {f"BGP group {each.name} of VBR vbr" for each in hazardous.vbrs[0].groups}
    assert len(warned(found)) == groups
    assert {finding.severity for finding in found} == {Severity.WARNING}


@pytest.mark.spec("VBR-11", "VBR-30")
@settings(deadline=None)
@given(
    peers=st.integers(1, 8),
    custom=st.lists(st.booleans(), min_size=8, max_size=8),
    cen=st.booleans(),
)
def test_the_warning_is_there_if_and_only_if_the_hazard_is(peers: int, custom: list[bool], cen: bool) -> None:
    """Any mixture of groups: the oracle counts sessions that show 45104."""
    mixed = vbr.estate(peers=peers, cen=cen, account=PRIVILEGED)
    groups = tuple(
        replace(g, local_asn=64600 if own else None) for g, own in zip(mixed.vbrs[0].groups, custom, strict=False)
    )
    mixed = router(groups=groups)(mixed)
    lines = sum(not own for own in custom[:peers])
    for each, own in zip(groups, custom, strict=False):
        hazard = cen or (not own and lines > 1)
        assert bool(loop_hazards(mixed, mixed.vbrs[0], each)) == hazard
        assert (f"BGP group {each.name} of VBR vbr" in warned(validate(mixed))) == hazard


# --------------------------------------------------------------------------------------------------------------------- the plan


@pytest.mark.spec("VBR-8", "VBR-4")
def test_peers_inherit_all_of_their_group() -> None:
    plan = compile_vbr_estate(both(account(may_set_local_asn=True), group(key="s3cret", local_asn=64600))(estate()))
    speaker = plan["vbr"].speaker
    assert speaker is not None
    first, second = speaker.neighbors[1:]
    assert (first.remote_asn, first.key, first.local_asn) == (65011, "s3cret", 64600)
    assert (second.remote_asn, second.key, second.local_asn) == (4200000012, None, None)
    assert speaker.asn == 45104


def test_ipv6_peers_use_the_circuits_ipv6_addresses() -> None:
    dual = circuit(cloud_address_ipv6="fd00:1::1/64", customer_address_ipv6="fd00:1::2/64")
    six = BgpGroup("six", 65011, Protocol.IPV6)
    change = both(
        dual, lambda e: router(ipv6=True, groups=(*e.vbrs[0].groups, six), peers=(BgpPeer("six", "fd00:1::2"),))(e)
    )
    plan = compile_vbr_estate(change(estate()))
    speaker = plan["vbr"].speaker
    assert speaker is not None
    assert (speaker.neighbors[1].address, speaker.neighbors[1].local_address) == ("fd00:1::2", "fd00:1::1")


@pytest.mark.spec("VBR-5")
@pytest.mark.parametrize("asn", [64512, 64513])
def test_no_inner_asn_is_one_of_the_users(asn: int) -> None:
    """The VPC's own ASN gives way: routes of a data centre or VBR that has it would else be dropped as a loop."""
    for changed in (vbr.estate(peers=1, ecr_asn=asn), vbr.estate(peers=1, asns=(asn,))):
        plan = compile_vbr_estate(changed)
        vpc = plan["vpc"].speaker
        assert vpc is not None
        assert vpc.asn not in {node.speaker.asn for node in plan.nodes if node.speaker and node.name != "vpc"}


@pytest.mark.parametrize("peers", range(1, 9))
def test_every_number_of_data_centres_compiles(peers: int) -> None:
    plan = vbr.plan(peers=peers)
    assert sum(node.name.startswith("dc") and "client" not in node.name for node in plan.nodes) == peers
    assert [link.name for link in plan.links if link.name.startswith("circuit")] == [
        f"circuit-{n}" for n in range(1, peers + 1)
    ]


def test_local_asn_follows_the_ecr() -> None:
    before, after = vbr.estate(peers=1), vbr.estate(peers=1, ecr_asn=64600)
    assert local_asn(before, before.vbrs[0], before.vbrs[0].groups[0]) == 45104
    assert local_asn(after, after.vbrs[0], after.vbrs[0].groups[0]) == 64600
