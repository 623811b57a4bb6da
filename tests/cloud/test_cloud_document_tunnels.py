"""The documents ``ipsec:`` and ``resilience:``: whole labs from little text, findings with their places, and no text that breaks them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cloud.document import read, schema
from harness.cloud.document_kinds import KINDS
from harness.cloud.findings import Finding, Severity
from harness.plan import Plan
from harness.up_document import ping_pairs

BRANCH = """\
ipsec:
  name: branch
  vpc: {region: China (Hangzhou)}
  customer_gateways:
    - {name: left, address: 198.51.100.7, asn: 65010}
    - {name: right, address: 198.51.100.8, asn: 65010}
  connections:
    - {name: one, customer_gateway: left, bgp: true, tunnel_cidr: 169.254.20.0/30, local_bgp_address: 169.254.20.1}
    - {name: two, customer_gateway: right, bgp: true, tunnel_cidr: 169.254.21.0/30, local_bgp_address: 169.254.21.1}
  data_centre: {blocks: [172.16.1.0/24]}
"""

WRITTEN_OUT = BRANCH.replace(
    "  data_centre: {blocks: [172.16.1.0/24]}\n",
    """\
  timers: {hold_time: 90, connect_retry_time: 120, dpd_delay: 30, retransmit_timeout: 4, retransmit_tries: 5}
  data_centre:
    asn: 65010
    lan: 192.168.50.0/24
    blocks: [172.16.1.0/24]
    devices: [{connection: one, asn: 65010, networks: [172.16.1.0/24], blocks: [172.16.2.0/24], ike: {lifetime: 86400}}]
""",
).replace(
    "{region: China (Hangzhou)}",
    """
    region: China (Hangzhou)
    vswitches: [{name: a, cidr: 10.0.0.0/24, zone: H, instance: 10.0.0.9, security_groups: [web]}]
    security_groups: [{name: web, inbound: [{source: 172.16.0.0/12, protocol: tcp, ports: 80/443, priority: 5}]}]""",
)

BOTH = """\
resilience:
  vbr:
    groups: [{name: idc, peer_asn: 65010}]
    peers: [{group: idc, ip: 10.9.1.2}]
    networks: [10.0.0.0/24, 10.0.1.0/24]
  vpn_gateway:
    gateways: [{name: vpngw, automatic_advertisement: true}]
    customer_gateways: [{name: office, address: 198.51.100.7, asn: 65010}]
    connections:
      - name: office-vpn
        bgp: true
        tunnels: [{customer_gateway: office, tunnel_cidr: 169.254.20.0/30, local_bgp_address: 169.254.20.1}]
    data_centre: {blocks: [172.16.1.0/24]}
"""


def findings(text: str) -> tuple[Finding, ...]:
    return read(text, KINDS).findings


def plan(text: str) -> Plan:
    document = read(text, KINDS)
    assert document.findings == ()
    return document.plan()


def names(built: Plan) -> set[str]:
    return {node.name for node in built.nodes}


@pytest.mark.spec("ECMP-4", "ECMP-14", "ECMP-28")
def test_connections_of_a_transit_router() -> None:
    """One region: no inter-region connection. The VPC elsewhere: a transit router of its own and the connection between."""
    assert {"tr", "vpn1", "vpn2", "gw1", "gw2", "vpc", "ecs"} <= names(plan(BRANCH))
    assert "tr2" not in names(plan(BRANCH))
    apart = plan(BRANCH.replace("region: China (Hangzhou)", "region: China (Shanghai)"))
    assert "tr2" in names(apart)
    assert "Inter-region-connection" in {link.name for link in apart.links}


@pytest.mark.spec("VPN-10")
def test_circuit_and_tunnel_meet() -> None:
    """The circuit's side takes VPC and data centre from the tunnels' side."""
    built = plan(BOTH)
    assert {"vbr", "vpngw", "vpc", "dc-router", "gw1", "dc-client0"} <= names(built)
    assert "dc1" not in names(built)


@pytest.mark.spec("ECMP-8", "ECMP-26", "ECMP-27", "ECMP-5", "VPN-10", "VPN-17", "VBR-3")
@pytest.mark.parametrize(
    ("text", "old", "new", "line", "spec"),
    [
        (BRANCH, "169.254.21.0/30", "169.254.6.0/30", 9, "ECMP-8"),
        (BRANCH, "name: branch", "name: branch\n  edition: Basic", 1, "ECMP-26"),
        (BRANCH, "bgp: true, tunnel_cidr: 169.254.20", "zone: X, bgp: true, tunnel_cidr: 169.254.20", 8, "ECMP-27"),
        (BRANCH, "name: two", 'name: two, pre_shared_key: "a b"', 9, "ECMP-5"),
        (BRANCH, "name: branch", "name: branch\n  region: Mars", 3, "ECMP-26"),
        (BRANCH, "172.16.1.0/24", "172.16.1.0/30", 10, "ECMP-2"),
        (BRANCH, "{blocks", "{lan: 192.168.50.0/28, blocks", 10, "ECMP-2"),
        (BRANCH, "{blocks", "{asn: 0, blocks", 10, "ECMP-2"),
        (BRANCH, "{blocks", "{devices: [{connection: three}], blocks", 10, "ECMP-12"),
        (BRANCH, "{blocks", "{devices: [{connection: one, tunnel: secondary}], blocks", 10, "ECMP-12"),
        (BRANCH, "name: two,", "name: two, ike: {lifetime: 0},", 9, "ECMP-6"),
        (BRANCH, "name: two,", "name: two, ipsec: {lifetime: 90000},", 9, "ECMP-6"),
        (BRANCH, "name: branch", "name: branch\n  timers: {hold_time: 2}", 3, "BGP-15"),
        (BRANCH, "name: branch", "name: branch\n  timers: {dpd_delay: 0}", 3, "ECMP-6"),
        (BOTH, "172.16.1.0/24", "172.16.1.0/31", 13, "ECMP-2"),
        (BOTH, "peer_asn: 65010", "peer_asn: 65011", 1, "VPN-10"),
        (BOTH, "169.254.20.0/30", "169.254.5.0/30", 12, "VPN-17"),
        (BOTH, "group: idc", "group: nobody", 4, "VBR-25"),
        (BOTH, "[10.0.0.0/24, 10.0.1.0/24]", "[10.0.0.0/16]", 5, "VPN-10"),
    ],
)
def test_findings_have_their_place(text: str, old: str, new: str, line: int, spec: str) -> None:
    found = [each for each in findings(text.replace(old, new)) if each.spec == spec]
    assert found, findings(text.replace(old, new))
    assert all(each.place is not None for each in found)
    assert line in {each.place.line for each in found if each.place is not None} or line == 1, found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_schema_with_descriptions(kind: str) -> None:
    made = schema([KINDS[kind]])
    fields = [field for form in made["$defs"].values() for field in form.get("properties", {}).values()]
    assert fields
    assert all("description" in field for field in fields)


_WORDS = st.sampled_from(
    [
        "169.254.20.0/30",
        "10.0.0.0/16",
        "x",
        "-1",
        "0",
        "172.16.1.0/31",
        "1/2",
        "4294967296",
        "null",
        "true",
        "[]",
        "{}",
        "198.51.100.7",
        "gw1",
        "~",
    ]
)


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_no_value_breaks_the_reading(data: st.DataObject) -> None:
    """Any values in the place of any others: findings, or a plan; never an exception."""
    text = data.draw(st.sampled_from((BRANCH, WRITTEN_OUT, BOTH)))
    values = list(re.finditer(r"(?<=: )[^\s,{}\[\]]+", text))
    for match in sorted(data.draw(st.sets(st.sampled_from(values), min_size=1, max_size=3)), key=lambda m: -m.start()):
        text = text[: match.start()] + data.draw(_WORDS) + text[match.end() :]
    document = read(text, KINDS)
    if not any(finding.severity is Severity.ERROR for finding in document.findings):
        document.plan()


@pytest.mark.spec("ECMP-1", "ECMP-3", "ECMP-4")
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[172.16.1.0/24]", "[172.16.1.0]", None),
        ("[172.16.1.0/24]", "[172.16.1.0/99]", "CIDR block"),
        ("198.51.100.7", "198.51.100.700", "address:"),
        ("name: one", "name: one, node: ecs", "its node 'ecs' has the name of a node of"),
        ("name: two", "name: two, gateway_address: 203.0.113.11", "gateway IP address 203.0.113.11 is that of"),
        ("198.51.100.8", "203.0.113.11", "IP address 203.0.113.11 is that of one"),
    ],
)
def test_words_that_would_break_a_lab_are_found(old: str, new: str, words: str | None) -> None:
    found = findings(BRANCH.replace(old, new))
    assert words is None or any(words in each.rule for each in found), found


def test_clients_of_every_kind_of_document_are_pinged() -> None:
    """``--check`` pings from the data centre of each: its router has sessions that both ends have."""
    for text in (BRANCH, BOTH):
        assert ("dc-client0", "10.0.0.1") in set(ping_pairs(plan(text)))
