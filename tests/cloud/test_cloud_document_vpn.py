"""The document ``vpn_gateway:``: what need not be written, findings with their places, and no text that breaks anything."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cloud.document import read
from harness.cloud.document_kinds import KINDS
from harness.cloud.findings import Finding
from harness.cloud.keys import LENGTH, random_key
from harness.cloud.rules import KEY
from harness.cloud.vpn import VpnEstate
from harness.plan import Plan

OFFICE = """\
vpn_gateway:
  name: office
  gateways:
    - {name: vpngw, automatic_advertisement: true}
  customer_gateways:
    - {name: office-router, address: 198.51.100.7, asn: 65010}
  connections:
    - name: office-vpn
      bgp: true
      tunnels:
        - {customer_gateway: office-router, tunnel_cidr: 169.254.20.0/30, local_bgp_address: 169.254.20.1}
        - {customer_gateway: office-router, tunnel_cidr: 169.254.21.0/30, local_bgp_address: 169.254.21.1}
  data_centre:
    blocks: [172.16.1.0/24]
"""


def findings(text: str) -> tuple[Finding, ...]:
    return read(text, KINDS).findings


def plan(text: str) -> Plan:
    document = read(text, KINDS)
    assert document.findings == ()
    return document.plan()


@pytest.mark.spec("VPN-1", "VPN-13", "VPN-17", "VPN-24")
def test_the_compact_form_is_a_whole_lab() -> None:
    """One device behind both tunnels, configured as the gateway expects it; keys are made where none is given."""
    built = plan(OFFICE)
    names = {node.name for node in built.nodes}
    assert {"vpngw", "vpngw-hub", "vpn1a", "vpn1b", "gw1", "gw2", "dc-router", "vpc", "ecs", "ecs2"} <= names
    ends = [built[name].tunnel for name in ("vpn1a", "gw1", "vpn1b", "gw2")]
    assert None not in ends
    assert ends[0] is not None and ends[1] is not None and ends[2] is not None and ends[3] is not None
    assert (ends[0].key, ends[2].key) == (ends[1].key, ends[3].key)
    assert ends[0].key != ends[2].key
    assert {end.local for end in (ends[1], ends[3])} == {"198.51.100.7"}
    speaker = built["gw1"].speaker
    assert speaker is not None
    assert (speaker.asn, speaker.networks) == (65010, ("172.16.1.0/24",))
    assert [(n.address, n.remote_asn) for n in speaker.neighbors if n.fall_over] == [("169.254.20.1", 45104)]


@pytest.mark.spec("ECMP-5")
def test_a_key_that_nobody_gave_is_sixteen_legal_characters() -> None:
    keys = {random_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == LENGTH and KEY.fullmatch(key) for key in keys)


@pytest.mark.spec("VPN-17", "VPN-15", "VPN-23", "VPN-18", "VPN-16", "VPN-3", "VPN-19", "VPN-1", "ECMP-5")
@pytest.mark.parametrize(
    ("old", "new", "place", "spec", "words"),
    [
        ("169.254.21.0/30", "169.254.5.0/30", "12:58", "VPN-17", "is reserved"),
        ("169.254.21.1}", "169.254.21.3}", "12:94", "VPN-23", "is not a host address"),
        (", asn: 65010", "", "11:30", "VPN-16", "has no ASN"),
        ("automatic_advertisement: true", "route_quota: 0", "4:34", "VPN-3", "is not positive"),
        (
            "      bgp: true",
            "      bgp: true\n      routing_mode: protected-flow",
            "10:21",
            "VPN-15",
            "not destination",
        ),
        ("169.254.20.1}", '169.254.20.1, pre_shared_key: "a b"}', "11:124", "ECMP-5", "the pre-shared key"),
        ("name: office\n", "name: office\n  vpcs: [{region: Mars}]\n", "3:19", "VPN-18", "region 'Mars' is not known"),
        ("name: office\n", "name: office\n  vpcs: [{region: China (Chengdu)}]\n", "5:7", "VPN-18", "not supported in"),
        ("[172.16.1.0/24]", "[172.16.1.1/24]", "14:5", "ECMP-1", "host bits"),
        ("[172.16.1.0/24]", "[10.0.7.0/24]", "1:1", "ECMP-1", "overlaps"),
        ("bgp: true", "bgp: yes please", "9:12", "YAML-6", "true or false"),
        ("customer_gateway: office-router", "customer_gatway: office-router", "11:12", "YAML-4", "did you mean"),
    ],
)
def test_findings_have_their_place(old: str, new: str, place: str, spec: str, words: str) -> None:
    found = [
        f for f in findings(OFFICE.replace(old, new, 1 if "customer" in old or "20.1" in old else -1)) if f.spec == spec
    ]
    assert any(words in f.rule for f in found), findings(OFFICE.replace(old, new))
    if place != "1:1":
        assert place in {str(f.place) for f in found if words in f.rule}
    assert "a b" not in "".join(map(str, found))


@pytest.mark.spec("VPN-24", "ECMP-10")
def test_a_device_may_differ() -> None:
    """Another key and another ASN at the secondary's device; a device of no connection is named."""
    differs = (
        OFFICE
        + "    devices: [{connection: office-vpn, tunnel: secondary, pre_shared_key: other, networks: [172.16.9.0/24]}]\n"
    )
    built = plan(differs)
    assert built["gw2"].tunnel is not None
    assert built["gw2"].tunnel.key == "other"
    assert built["gw2"].speaker is not None
    assert built["gw2"].speaker.networks == ("172.16.9.0/24",)
    (found,) = findings(differs.replace("connection: office-vpn", "connection: nobody"))
    assert (str(found.place), found.spec) == ("15:28", "VPN-24")
    single = re.sub(r"\n.*169.254.21.*", "", differs)
    assert [f.rule for f in findings(single)] == ["office-vpn has no secondary tunnel"]


@pytest.mark.spec("VPN-1", "VPN-11", "VPN-19")
def test_route_tables_and_cen() -> None:
    more = OFFICE.replace(
        "  gateways:",
        """\
  vpcs:
    - cen: cen-1
      vswitches: [{name: front, cidr: 10.0.1.0/24}, {name: back, cidr: 10.0.2.0/24, zone: I}]
      route_tables: [{name: own, vswitches: [back], routes: [{prefix: 172.16.0.0/12}]}]
  cens: [{name: cen-1, created: 2018-06-30}]
  gateways:""",
    )
    (found,) = findings(more)
    assert found.spec == "VPN-19"
    built = plan(more.replace("created: 2018-06-30", "created: 2018-06-30, overlapping_routing: true"))
    (table,) = built["vpc"].tables
    assert (table.name, table.interfaces) == ("own", ("vswitch2",))
    assert [f.field for f in findings(more.replace("2018-06-30", "soon"))] == ["created"]


_WORDS = st.sampled_from(
    [
        "169.254.20.0/30",
        "169.254.6.0/30",
        "10.0.0.0/16",
        "x",
        "",
        "-1",
        "0",
        "4294967296",
        "null",
        "true",
        "[]",
        "{}",
        "é",
        "198.51.100.7",
        "0.0.0.0/0",
        "203.0.113.11",
        "vpngw",
        "ecs",
        "internet",
        "a very long name for a node indeed",
        "256.1.1.1",
        "[a, b]",
        "~",
        "1e9",
    ]
)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_value_breaks_the_reading(data: st.DataObject) -> None:
    """Any values in the place of any others: findings, or a plan; never an exception."""
    values = list(re.finditer(r"(?<=: )[^\s,{}\[\]]+", OFFICE))
    text = OFFICE
    for match in sorted(data.draw(st.sets(st.sampled_from(values), min_size=1, max_size=3)), key=lambda m: -m.start()):
        text = text[: match.start()] + data.draw(_WORDS) + text[match.end() :]
    document = read(text, KINDS)
    if not document.errors:
        assert isinstance(document.estate, VpnEstate)
        document.plan()
