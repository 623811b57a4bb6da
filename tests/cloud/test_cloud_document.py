"""YAML documents: what is wrong with one is a finding with object, rule, ID, remedy, line and column, never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cloud.document import read, schema
from harness.cloud.document_kinds import KINDS
from harness.cloud.document_tree import FORM_RULES, LONGEST, parse
from harness.cloud.findings import Finding, Refused, Severity
from harness.cloud.vbr import BgpPeer, Line, VbrEstate
from harness.impairment import Impairment

COMPACT = """\
# the user's own
vbr:
  name: vbr-hangzhou
  ipv6: true
  mp_bgp: true
  ecr: {asn: 64600}
  groups:
    - {name: idc, protocol: IPv4, peer_asn: 65010, key: "s3cret", route_quota: 110}
  peers:
    - {group: idc, ip: 10.1.1.2, bfd: {hop_count: 1}}
  networks: [172.16.0.0/16]
"""


def findings(text: str) -> tuple[Finding, ...]:
    return read(text, KINDS).findings


def estate(text: str) -> VbrEstate:
    document = read(text, KINDS)
    assert document.errors == ()
    assert isinstance(document.estate, VbrEstate)
    return document.estate


@pytest.mark.spec("VBR-1", "VBR-8", "VBR-12", "VBR-21", "VBR-28")
def test_the_compact_form_is_a_whole_lab() -> None:
    """What is not written follows: the circuit's block from the peer's address, the data centre from the group."""
    document = read(COMPACT, KINDS)
    assert document.findings == ()
    plan = document.plan()
    assert [node.name for node in plan.nodes] == ["dc1-client0", "dc1", "vbr-hangzhou", "vpc", "ecs"]
    near, far = plan["vbr-hangzhou"].speaker, plan["dc1"].speaker
    assert near is not None
    assert far is not None
    assert (near.asn, far.asn) == (64600, 65010)
    (peer,) = [neighbor for neighbor in near.neighbors if neighbor.address == "10.1.1.2"]
    assert (peer.remote_asn, peer.local_address, peer.key) == (65010, "10.1.1.1", "s3cret")
    assert peer.bfd is not None
    assert peer.bfd.hop_count == 1
    assert peer.maximum_prefixes is not None
    assert (peer.maximum_prefixes.limit, peer.maximum_prefixes.action) == (110, "drop")
    (session,) = far.neighbors
    assert (session.address, session.remote_asn, session.key, session.bfd) == ("10.1.1.1", 64600, "s3cret", peer.bfd)


#: A text, and the rule, the place and words of the only error in it.
MALFORMED: dict[str, tuple[str, str, str, str]] = {
    "empty": ("", "YAML-4", "1:1", "the document is empty"),
    "only a comment": ("# nothing\n", "YAML-4", "1:1", "the document is empty"),
    "null": ("~\n", "YAML-4", "1:1", "the document is empty"),
    "a list": ("- vbr\n", "YAML-4", "1:1", "the document is no mapping"),
    "text": ("vbr\n", "YAML-4", "1:1", "the document is no mapping"),
    "an unknown kind": ("vrb: {}\n", "YAML-4", "1:1", "'vrb' is no kind of document; did you mean 'vbr'?"),
    "a tab": ("vbr:\n\tname: a\n", "YAML-1", "2:1", "cannot start any token"),
    "an open bracket": ("vbr: {networks: [10.0.0.0/8\n", "YAML-1", "2:1", "flow sequence"),
    "an open quote": ('vbr: {name: "a\n', "YAML-1", "2:1", "quoted scalar"),
    "two documents": ("vbr: {}\n---\nvbr: {}\n", "YAML-1", "2:1", "a second document"),
    "a control character": ("vbr:\n  name: a\x00b\n", "YAML-1", "2:10", "does not allow"),
    "a key twice": ("vbr:\n  name: a\n  name: b\n", "YAML-2", "3:3", "'name' stands here twice, first in line 2"),
    "a list as key": ("vbr:\n  [a]: b\n", "YAML-2", "2:3", "a key is a list"),
    "an anchor": ("vbr: &all\n  name: a\n", "YAML-3", "1:6", "&all is an anchor"),
    "an alias": ("vbr:\n  name: *all\n", "YAML-3", "2:9", "*all is an alias"),
    "a tag": ("vbr:\n  name: !!python/object:os.system a\n", "YAML-3", "2:9", "is a tag"),
    "an unknown key": ("vbr:\n  networsk: []\n", "YAML-4", "2:3", "did you mean 'networks'?"),
    "an unknown key far away": ("vbr:\n  zzz: []\n", "YAML-4", "2:3", "'zzz' is no key of it"),
    "an unknown key inside": (
        "vbr:\n  groups:\n    - name: idc\n      peer_asn: 1\n      quota: 5\n",
        "YAML-4",
        "5:7",
        "'quota' is no key of it",
    ),
    "an unknown key in bfd": (
        "vbr: {groups: [{name: g, peer_asn: 1}], peers: [{group: g, ip: 10.1.1.2, bfd: {hopcount: 1}}]}\n",
        "YAML-4",
        "1:80",
        "did you mean 'hop_count'?",
    ),
    "a required key missing": ("vbr:\n  groups:\n    - name: idc\n", "YAML-5", "3:7", "'peer_asn' is required"),
    "a number as text": (
        'vbr: {groups: [{name: g, peer_asn: "65010"}]}\n',
        "YAML-6",
        "1:36",
        "'peer_asn' is the text '65010', not a whole number",
    ),
    "an ASN with a dot": (
        "vbr: {groups: [{name: g, peer_asn: 1.10}]}\n",
        "YAML-6",
        "1:36",
        "'peer_asn' is a number with a fraction 1.1, not a whole number",
    ),
    "yes for true": ("vbr: {ipv6: yes}\n", "YAML-6", "1:13", "'ipv6' is the text 'yes', not true or false"),
    "a mapping for a list": ("vbr: {peers: {group: g}}\n", "YAML-6", "1:14", "'peers' is a mapping, not a list"),
    "text for a mapping": ("vbr: {groups: [idc]}\n", "YAML-6", "1:16", "item 1 of 'groups' is the text 'idc'"),
    "an empty value": ("vbr:\n  groups:\n", "YAML-6", "2:3", "'groups' is empty, not a list"),
    "a number as network": ("vbr: {networks: [7]}\n", "YAML-6", "1:18", "item 1 of 'networks' is a number 7, not text"),
    "an unknown word": (
        "vbr: {groups: [{name: g, peer_asn: 1, protocol: ipv4}]}\n",
        "YAML-6",
        "1:49",
        "'protocol' is 'ipv4', not one of 'IPv4' or 'IPv6'",
    ),
    "an endless number": (f"vbr: {{ecr: {{asn: {'9' * 5000}}}}}\n", "YAML-6", "1:18", "a number of 5000 characters"),
    "a link to nowhere": ("vbr: {links: [{between: [vbr, dc9]}]}\n", "YAML-7", "1:31", "'dc9' is no node of this lab"),
    "a link that is none": ("vbr: {links: [{between: [vbr, ecs]}]}\n", "YAML-7", "1:25", "no link joins the two"),
    "a link with one end": ("vbr: {links: [{between: [vbr]}]}\n", "YAML-6", "1:25", "at least 2 items"),
    "a delay that is none": (
        "vbr: {links: [{between: [vbr, vpc], delay: soon}]}\n",
        "YAML-7",
        "1:44",
        "delay 'soon' is no number with one of the units us, ms, s",
    ),
    "more jitter than delay": (
        "vbr: {links: [{between: [vbr, vpc], delay: 4ms, jitter: 5ms}]}\n",
        "YAML-7",
        "1:57",
        "a jitter of 5 ms is not in 0 to the delay, 4 ms",
    ),
    "bfd as text": (
        "vbr: {groups: [{name: g, peer_asn: 1}], peers: [{group: g, ip: 10.1.1.2, bfd: on}]}\n",
        "YAML-6",
        "1:79",
        "'bfd' is the text 'on', not a mapping",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_document_is_one_finding_at_its_place(case: str) -> None:
    text, spec, place, rule = MALFORMED[case]
    (finding,) = findings(text)
    assert rule in finding.rule
    assert (finding.spec, str(finding.place)) == (spec, place)
    assert finding.severity is Severity.ERROR
    assert finding.remedy


LINKS = """
vbr:
  links:
    - {between: [vbr, vpc], delay: 40ms, loss: 1%, rate: 10mbit}
    - {between: [vpc, ecs], one_way: true, delay: 1.5s}
    - {between: [vpc, vbr], one_way: true, loss: none}
"""


def test_links_of_the_lab_by_the_nodes_at_their_ends() -> None:
    plan = read(LINKS, KINDS).plan()
    made = {
        (end.node, other.node): end.impairment
        for link in plan.links
        for end, other in (link.ends(), link.ends()[::-1])
        if end.impairment
    }
    both = Impairment(delay_ms=40, loss_percent=1, rate_mbit=10)
    assert made == {
        ("vbr", "vpc"): both,
        ("vpc", "vbr"): Impairment(delay_ms=40, rate_mbit=10),
        ("vpc", "ecs"): Impairment(delay_ms=1500),
    }


@pytest.mark.spec("ECMP-38")
def test_links_of_every_kind_and_of_documents_inside_a_document() -> None:
    """The bandwidth of an inter-region connection stays until it is written; ``resilience`` has its parts' links too."""
    ipsec = "ipsec: {vpc: {region: China (Shanghai)}, links: [{between: [tr, tr2], loss: 2%}]}"
    (link,) = [each for each in read(ipsec, KINDS).plan().links if each.name == "Inter-region-connection"]
    assert link.a.impairment == link.b.impairment == Impairment(loss_percent=2, rate_mbit=100)
    parts = "resilience:\n  vbr: {links: [{between: [vbr, nobody]}]}\n  vpn_gateway: {}\n  links: [{between: [vbr, vpc], rate: 0}]\n"
    assert [(each.spec, str(each.place)) for each in read(parts, KINDS).findings if each.spec == "YAML-7"] == [
        ("YAML-7", "2:33"),
        ("YAML-7", "4:39"),
    ]


def test_every_form_rule_has_a_case() -> None:
    assert {spec for _, spec, _, _ in MALFORMED.values()} == set(FORM_RULES)


def test_all_mistakes_are_found_at_once_from_the_top_down() -> None:
    found = findings("vbr:\n  name: 1\n  ipv6: maybe\n  colour: red\n  name: b\n")
    assert [str(finding.place) for finding in found] == ["2:9", "3:9", "4:3", "5:3"]


def test_depth_and_length_have_a_bound() -> None:
    assert "32 levels" in findings("vbr: " + "[" * 5000)[0].rule
    assert "characters" in findings("#" * (LONGEST + 1))[0].rule


@pytest.mark.spec("VBR-9")
def test_a_key_is_repeated_in_no_finding() -> None:
    for key in ("4711471147", "[s3cret4711]", "{s3cret4711: 1}", '"s3cret4711\\u0001"', "1.4711471147"):
        text = f"vbr: {{groups: [{{name: g, peer_asn: 1, key: {key}}}]}}"
        found = findings(text)
        assert found
        assert not any("4711" in str(finding) for finding in found), found
    assert "s3cret" not in repr(read(COMPACT, KINDS))


#: A change of the compact form, the rule that finds it, and what stands in the file where it does.
RULES: dict[str, tuple[str, str, str, str]] = {
    "peer ASN": ("peer_asn: 65010", "peer_asn: 0", "VBR-4", "0, key"),
    "ECR's ASN": ("{asn: 64600}", "{asn: 65025}", "VBR-5", "65025}"),
    "quota": ("route_quota: 110", "route_quota: 111", "VBR-32", "111}"),
    "hop count": ("hop_count: 1}", "hop_count: 256}", "VBR-12", "256}"),
    "unknown group": ("group: idc", "group: idx", "VBR-25", "idx,"),
    "address": ("10.1.1.2", "10.1.1.256", "VBR-12", "10.1.1.256"),
    "multicast": ("10.1.1.2", "224.0.0.2", "VBR-12", "224.0.0.2"),
    "family": ("10.1.1.2", "fd00::2", "VBR-31", "fd00::2"),
    "host bits": ("[172.16.0.0/16]", "[172.16.0.1/16]", "VBR-21", "172.16.0.1/16]"),
    "no MP-BGP": ("mp_bgp: true", "mp_bgp: false", "VBR-7", "{asn: 64600}"),
    "local ASN": ("peer_asn: 65010", "peer_asn: 65010, local_asn: 64777", "VBR-26", "64777,"),
    "key": ('"s3cret"', '"' + "k" * 81 + '"', "VBR-9", '"kkk'),
    "IPv6": ("protocol: IPv4", "protocol: IPv6", "VBR-31", "10.1.1.2"),
    "node's name": ("name: vbr-hangzhou", "name: ../vbr", "VBR-1", "../vbr"),
    "hold time": ("  networks:", "  timers: {hold_time: 2}\n  networks:", "BGP-15", "2}"),
    "client block": (
        "  networks:",
        "  data_centres: [{name: dc1, blocks: [224.0.0.0/8]}]\n  networks:",
        "VBR-21",
        "[224.0.0.0/8]",
    ),
    "VPC's block": ("  networks:", "  vpc: {cidr: 172.16.0.0/31}\n  networks:", "VBR-42", "172.16.0.0/31"),
    "VPC's IPv6 block": ("  networks:", "  vpc: {ipv6_cidr: fd00::1/64}\n  networks:", "VBR-42", "fd00::1/64"),
    "VPC's small IPv6 block": ("  networks:", "  vpc: {ipv6_cidr: fd00::/96}\n  networks:", "VBR-42", "fd00::/96"),
    "IPv6 network": ("[172.16.0.0/16]", '["fd00:99::/64"]', "VBR-42", '"fd00:99::/64"'),
    "bridged circuit's name": (
        "  networks:",
        "  circuits: [{name: a b, line: bridged}]\n  networks:",
        "VBR-1",
        "a b",
    ),
    "callback": (
        "  networks:",
        "  alerts: {rules: [{name: a, event_type: Down, callback: 'https://x/'}]}\n  networks:",
        "VBR-41",
        "{name: a, event",
    ),
    "alert's names": (
        "  networks:",
        "  alerts: {rules: [{name: a, event_type: Down, event_name: BgpPeerReceiveRoutes:Exceed}]}\n  networks:",
        "VBR-38",
        "{name: a, event",
    ),
    "region": ("  ipv6: true", "  ipv6: true\n  region: Atlantis", "VBR-1", "Atlantis"),
}


@pytest.mark.spec("VBR-4", "VBR-5", "VBR-7", "VBR-9", "VBR-12", "VBR-21", "VBR-25", "VBR-26", "VBR-31", "VBR-32")
@pytest.mark.parametrize("case", RULES)
def test_a_broken_rule_is_found_where_it_is_written(case: str) -> None:
    old, new, spec, there = RULES[case]
    assert old in COMPACT
    text = COMPACT.replace(old, new)
    document = read(text, KINDS)
    first = next(finding for finding in document.errors if finding.spec == spec)
    assert first.place is not None
    assert text.splitlines()[first.place.line - 1][first.place.column - 1 :].startswith(there), first
    with pytest.raises(Refused):
        document.plan()


@given(st.text(max_size=200) | st.text(alphabet="vbr:{}[]-,&*!|>'\"%@` \n\t#?a1", max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_text_raises(text: str) -> None:
    """Random texts, and random ones made of YAML's own signs."""
    tree, found = parse(text)
    assert tree is not None or found
    assert all(finding.place is not None for finding in read(text, KINDS).findings)


def test_the_schema_describes_every_field() -> None:
    """Each property of each form has a description, so that an editor can show it."""
    made = schema(KINDS.values())
    forms = [made["properties"]["vbr"], *made["$defs"].values()]
    assert len(forms) > 5
    for form in forms:
        assert form["additionalProperties"] is False
        for name, value in form["properties"].items():
            assert value.get("description"), name


@pytest.mark.spec("VBR-1")
def test_circuits_and_data_centres_can_be_written() -> None:
    text = """
vbr:
  groups: [{name: idc, peer_asn: 4200000001, key: k}]
  circuits:
    - {name: north, cloud: 10.9.0.5/29, data_centre: idc-a, line: bridged}
    - {name: spare}
  peers:
    - {group: idc, ip: 10.9.0.6, circuit: north, bfd: true}
    - {group: idc, ip: 10.8.0.1, data_centre: idc-a}
    - {group: idc, ip: 10.7.0.3}
  data_centres:
    - {name: idc-a, blocks: [192.168.77.0/24], key: null}
    - {name: dc2, asn: 65099, bfd: {hop_count: 1}}
"""
    made = estate(text)
    ends = [(c.name, c.data_centre, c.cloud_address, c.customer_address) for c in made.circuits]
    assert ends == [
        ("north", "idc-a", "10.9.0.5/29", "10.9.0.6/29"),
        ("spare", "dc2", "10.1.2.1/30", "10.1.2.2/30"),
        ("circuit-3", "idc-a", "10.8.0.2/30", "10.8.0.1/30"),
        ("circuit-4", "dc4", "10.7.0.1/29", "10.7.0.3/29"),
    ]
    assert made.circuits[0].line is Line.BRIDGED
    assert made.vbrs[0].peers[0] == BgpPeer("idc", "10.9.0.6", True)
    centres = {centre.name: centre for centre in made.data_centres}
    assert (centres["idc-a"].asn, centres["idc-a"].blocks) == (4200000001, ("192.168.77.0/24",))
    assert centres["idc-a"].session("10.9.0.5").key is None
    assert centres["idc-a"].session("10.9.0.5").bfd_hop_count == 255
    assert centres["dc4"].session("10.7.0.1").key == "k"
    assert centres["dc2"].asn == 65099
    assert centres["dc2"].session("10.1.2.1").bfd_hop_count == 1
    assert centres["dc4"].blocks == ("192.168.3.0/24",)


@pytest.mark.spec("VBR-8")
def test_both_families_share_a_circuit() -> None:
    """The IPv6 peer goes to the circuit of the IPv4 peer with its ASN; one with another ASN has a circuit of its own."""
    made = estate(
        """
vbr:
  ipv6: true
  groups:
    - {name: four, peer_asn: 65010}
    - {name: six, peer_asn: 65010, protocol: IPv6, key: other}
    - {name: alone, peer_asn: 65011, protocol: IPv6}
  peers:
    - {group: four, ip: 10.1.1.2}
    - {group: six, ip: "fd00:1:0::2"}
    - {group: alone, ip: "fd00:2::2"}
"""
    )
    assert [(c.customer_address, c.customer_address_ipv6) for c in made.circuits] == [
        ("10.1.1.2/30", "fd00:1::2/126"),
        ("10.1.2.2/30", "fd00:2::2/126"),
    ]
    centre = made.data_centres[0]
    assert (centre.session("10.1.1.1").key, centre.session("fd00:1::1").key) == (None, "other")


def test_a_name_that_leads_nowhere_is_found() -> None:
    text = COMPACT.replace("group: idc,", "group: idc, circuit: north,") + "  data_centres: [{name: idc-b}]\n"
    found = {finding.object: finding for finding in findings(text)}
    peer = found["BGP peer 10.1.1.2 of VBR vbr-hangzhou"]
    assert (peer.rule, str(peer.place)) == ("circuit 'north' does not exist; there are none", "10:29")
    centre = found["data centre idc-b"]
    assert (centre.spec, str(centre.place)) == ("VBR-1", "12:25")


def test_the_vpc_holds_the_networks() -> None:
    """172.16.0.0/16 where that holds them, else the smallest block that does; a written one counts."""
    for networks, written, block in (
        ("[]", "", "172.16.0.0/16"),
        ("[172.16.5.0/24]", "", "172.16.0.0/16"),
        ("[10.20.0.0/24, 10.20.3.0/24]", "", "10.20.0.0/22"),
        ("[10.20.0.0/24]", "vpc: {cidr: 10.0.0.0/8, name: prod}, ", "10.0.0.0/8"),
    ):
        made = estate(f"vbr: {{{written}networks: {networks}}}\n")
        assert made.vpcs[0].cidr == block
