"""Every rule for VPN gateways: one estate that breaks it, the finding it gets, and the documented estate that breaks none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bgp.prefix_list import PrefixRange
from harness.cloud.build_vpn import REFUSED, compile_vpn_estate, hub
from harness.cloud.findings import Refused, Severity
from harness.cloud.resources import Ecs, InboundRule, Region, SecurityGroup
from harness.cloud.rules import RESERVED_TUNNEL_BLOCKS as OF_TRANSIT_ROUTERS
from harness.cloud.vpn import (
    BGP_REGIONS,
    Cen,
    CenAttachment,
    SharedAddressRoutes,
    VpnEstate,
    VpnTunnel,
)
from harness.cloud.vpn_rules import RESERVED_TUNNEL_BLOCKS, RULES, refused_by, validate
from harness.cloud.vpn_site_rules import FIRST
from harness.cloud.vpn_status import BGP_DISABLED, UNAVAILABLE, tunnel_status
from harness.plan import Esp, Ike
from topologies import vpn_gateway

Change = Callable[[VpnEstate], VpnEstate]

PRIMARY = "IPsec-VPN Connection 1, primary tunnel"
SECONDARY = "IPsec-VPN Connection 1, secondary tunnel"


def tunnel(number: int = 0, **changes: Any) -> Change:
    """The estate with a tunnel of its first connection changed."""

    def change(estate: VpnEstate) -> VpnEstate:
        first, *others = estate.ipsec_connections
        tunnels = [replace(t, **changes) if n == number else t for n, t in enumerate(first.tunnels)]
        return replace(estate, ipsec_connections=(replace(first, tunnels=tuple(tunnels)), *others))

    return change


def connection(number: int = 0, **changes: Any) -> Change:
    def change(estate: VpnEstate) -> VpnEstate:
        found = [replace(c, **changes) if n == number else c for n, c in enumerate(estate.ipsec_connections)]
        return replace(estate, ipsec_connections=tuple(found))

    return change


def gateway(**changes: Any) -> Change:
    return lambda estate: replace(
        estate, vpn_gateways=(replace(estate.vpn_gateways[0], **changes), *estate.vpn_gateways[1:])
    )


def customer(number: int = 0, **changes: Any) -> Change:
    def change(estate: VpnEstate) -> VpnEstate:
        found = [replace(c, **changes) if n == number else c for n, c in enumerate(estate.customer_gateways)]
        return replace(estate, customer_gateways=tuple(found))

    return change


def region(where: Region) -> Change:
    return lambda estate: replace(estate, vpcs=(replace(estate.vpcs[0], region=where),))


def vpc(**changes: Any) -> Change:
    return lambda estate: replace(estate, vpcs=(replace(estate.vpcs[0], **changes),))


def walled(*rules: InboundRule) -> Change:
    """Every instance in a group with these rules."""
    group = SecurityGroup("sg", rules)

    def change(estate: VpnEstate) -> VpnEstate:
        members = tuple(replace(each, security_groups=("sg",)) for each in estate.vpcs[0].instances)
        return vpc(security_groups=(group,), instances=members)(estate)

    return change


def cen(created: date, overlapping: bool | None = None) -> Change:
    return lambda estate: replace(
        estate, cens=(Cen("cen-1", created, overlapping),), cen_attachments=(CenAttachment("cen-1", "vpc"),)
    )


def table(**changes: Any) -> Change:
    return lambda estate: replace(estate, route_tables=(replace(estate.route_tables[0], **changes),))


def second_table(vswitch: str) -> Change:
    def change(estate: VpnEstate) -> VpnEstate:
        other = replace(estate.route_tables[0], name="second", vswitches=(vswitch,))
        return replace(estate, route_tables=(*estate.route_tables, other))

    return change


def timers(**changes: Any) -> Change:
    return lambda estate: replace(estate, timers=replace(estate.timers, **changes))


def centre(**changes: Any) -> Change:
    return lambda estate: replace(estate, data_centres=(replace(estate.data_centres[0], **changes),))


def lan(block: str) -> Change:
    return lambda estate: replace(estate, data_centres=(replace(estate.data_centres[0], lan=block),))


def two_vpcs(estate: VpnEstate) -> VpnEstate:
    """The second gateway moves to a VPC of its own, on the same CEN instance."""
    other = replace(estate.vpcs[0], name="vpc2", cidr="10.8.0.0/16", vswitches=(), instances=())
    return replace(
        estate,
        vpcs=(*estate.vpcs, other),
        vpn_gateways=(estate.vpn_gateways[0], replace(estate.vpn_gateways[1], vpc="vpc2")),
        cens=(Cen("cen-1"), Cen("cen-2")),
        cen_attachments=(CenAttachment("cen-1", "vpc"), CenAttachment("cen-1", "vpc2")),
    )


def no_change(estate: VpnEstate) -> VpnEstate:
    return estate


#: Change, keyword arguments of the topology, then object, words of the rule, ID, words of the remedy.
BROKEN: list[tuple[Change, dict[str, Any], str, str, str, str]] = [
    (vpc(cidr="192.168.0.0/16"), {}, "VPC vpc", "overlaps 192.168.0.0/24 of data centre dc", "ECMP-1", "another block"),
    (vpc(cidr="10.0.0.0/24"), {}, "vSwitch vSwitch 2", "is not inside 10.0.0.0/24", "ECMP-1", "inside"),
    (vpc(cidr="10.0.0.1/16"), {}, "VPC vpc", "host bits", "ECMP-1", "without host bits"),
    (tunnel(gateway_address="x"), {}, PRIMARY, "gateway IP address", "VPN-17", "Give an IPv4 address"),
    (tunnel(1, node="vpn1a"), {}, "tunnel node vpn1a", "2 have this name", "VPN-24", "Rename"),
    (connection(vpn_gateway="none"), {}, "IPsec-VPN Connection 1", "'none' does not exist", "VPN-6", "vpngw"),
    (tunnel(customer_gateway="none"), {}, PRIMARY, "'none' does not exist", "VPN-16", "Customer-Gateway1"),
    (tunnel(node="a tunnel"), {}, PRIMARY, "'a tunnel' cannot name a node", "VPN-24", "1 to 12 letters"),
    (gateway(name="é"), {}, "VPN gateway é", "cannot name a node", "VPN-24", "1 to 32 letters"),
    (tunnel(node="ecs"), {}, PRIMARY, "its node 'ecs' has the name of a node of VPC vpc", "VPN-24", "Rename one"),
    (timers(hold_time=2), {}, "timers", "hold_time 2 is not 0 or 3 to 65535", "BGP-15", "0 or 3 to"),
    (
        vpc(cidr="198.18.0.0/16", vswitches=(), instances=()),
        {"tunnels": 1},
        "VPC vpc",
        "overlaps 198.18.0.0/15",
        "ECMP-1",
        "another",
    ),
    (customer(address="203.0.113.11"), {}, "Customer-Gateway1", f"is that of {PRIMARY}", "ECMP-3", "of the device"),
    (lan("192.168.50.0/25"), {}, "data centre dc", "has no room for 2 devices", "ECMP-2", "/24 or larger"),
    (connection(tunnels=()), {}, "IPsec-VPN Connection 1", "it has 0 tunnels", "VPN-24", "a primary and a secondary"),
    (region(Region.CHENGDU), {}, "VPN gateway vpngw", "not supported in China (Chengdu)", "VPN-18", "Jakarta"),
    (gateway(supports_bgp=False), {}, "VPN gateway vpngw", "this version", "VPN-21", "Upgrade the VPN gateway"),
    (
        gateway(bgp_peers=("vpngw2",)),
        {"gateways": 2},
        "VPN gateway vpngw",
        "vpngw2, a VPN gateway of VPC vpc",
        "VPN-8",
        "of its own",
    ),
    (gateway(route_quota=0), {}, "VPN gateway vpngw", "route quota 0 is not positive", "VPN-3", "50"),
    (cen(date(2019, 2, 28)), {}, "VPN gateway vpngw", "created on 2019-02-28", "VPN-19", "Enable overlapping routing"),
    (cen(date(2024, 1, 1), False), {}, "VPN gateway vpngw", "overlapping routing is disabled", "VPN-11", "cen-1"),
    (tunnel(1, customer_gateway=None), {}, SECONDARY, "it has no customer gateway", "VPN-24", "for each tunnel"),
    (tunnel(1, tunnel_cidr=None), {}, SECONDARY, "no tunnel CIDR block", "VPN-24", "of each tunnel"),
    (tunnel(1, local_bgp_address=None), {}, SECONDARY, "no local BGP IP address", "VPN-24", "of each tunnel"),
    (tunnel(key='quo"te'), {}, PRIMARY, "the pre-shared key is not", "ECMP-5", "no double quote"),
    (
        customer(asn=None),
        {},
        PRIMARY,
        "Customer-Gateway1 has no ASN",
        "VPN-16",
        "Delete the customer gateway and create",
    ),
    (tunnel(local_asn=0), {"tunnels": 1}, "IPsec-VPN Connection 1", "local ASN 0 is not in 1 to", "VPN-17", "45104"),
    (
        tunnel(local_asn=1 << 32),
        {"tunnels": 1},
        "IPsec-VPN Connection 1",
        "is not in 1 to 4294967295",
        "VPN-17",
        "45104",
    ),
    (
        tunnel(local_asn=65530),
        {"tunnels": 1},
        "IPsec-VPN Connection 1",
        "the data centre's too",
        "VPN-17",
        "does not have",
    ),
    (tunnel(1, local_asn=65001), {}, "IPsec-VPN Connection 1", "45104 and 65001", "VPN-13", "the same local ASN"),
    (
        connection(
            1,
            tunnels=(
                VpnTunnel("vpn2a", "203.0.113.99", "k", "Customer-Gateway2", "169.254.99.0/30", "169.254.99.1", 65001),
            ),
        ),
        {"connections": 2, "tunnels": 1},
        "VPN gateway vpngw",
        "IPsec-VPN Connection 1: 45104, IPsec-VPN Connection 2: 65001",
        "VPN-6",
        "the same local ASN",
    ),
    (tunnel(tunnel_cidr="169.254.5.0/30"), {}, PRIMARY, "169.254.5.0/30 is reserved", "VPN-17", "169.254.169.252/30"),
    (tunnel(tunnel_cidr="169.254.10.0/29"), {}, PRIMARY, "is not a /30 inside", "VPN-17", "169.254.10.0/30"),
    (tunnel(tunnel_cidr="10.9.9.0/30"), {}, PRIMARY, "is not a /30 inside", "VPN-17", "169.254.10.0/30"),
    (tunnel(tunnel_cidr="169.254.10.1/30"), {}, PRIMARY, "host bits", "VPN-17", "Give a /30"),
    (
        tunnel(1, tunnel_cidr="169.254.10.0/30", local_bgp_address="169.254.10.1"),
        {},
        SECONDARY,
        f"used by {PRIMARY}",
        "VPN-17",
        "of its own",
    ),
    (tunnel(local_bgp_address="169.254.10.3"), {}, PRIMARY, "is not a host address", "VPN-23", "Choose 169.254.10.1"),
    (
        tunnel(local_bgp_address="169.254.10.2"),
        {},
        PRIMARY,
        "is that of the peer, device gw1",
        "VPN-23",
        "Choose 169.254.10.1",
    ),
    (
        table(vswitches=("vSwitch 9",)),
        {},
        "route table custom-table",
        "'vSwitch 9' does not exist",
        "VPN-1",
        "vSwitch 1",
    ),
    (
        second_table("vSwitch 2"),
        {},
        "route table second",
        "associated with route table custom-table already",
        "VPN-1",
        "one of",
    ),
]

BROKEN += [
    (
        customer(address="10.0.0.1"),
        {},
        "Customer-Gateway1",
        "10.0.0.1 lies in 10.0.0.0/16 of VPC vpc",
        "ECMP-3",
        "internet",
    ),
    (tunnel(gateway_address="192.168.50.9"), {}, PRIMARY, "192.168.50.9 lies in 192.168.50.0/24", "ECMP-3", "internet"),
    (tunnel(ike=Ike(lifetime=0)), {}, PRIMARY, "IKE lifetime 0 is not 1 to 86400", "ECMP-6", "1 to 86400"),
    (tunnel(1, esp=Esp(lifetime=86401)), {}, SECONDARY, "IPsec lifetime 86401", "ECMP-6", "1 to 86400"),
    (centre(blocks=("172.16.1.0/30",)), {}, "data centre dc", "172.16.1.0/30 is too small", "ECMP-2", "/28"),
    (centre(asn=0), {}, "data centre dc", "ASN 0 of its router", "ECMP-2", "range"),
    (
        walled(InboundRule("10.0.0.0/8", priority=0)),
        {},
        "security group sg, inbound rule 1",
        "priority 0",
        "ECMP-42",
        "1",
    ),
    (vpc(security_groups=(SecurityGroup("sg"),)), {}, "ECS ecs", "in no security group", "ECMP-42", "Put it into sg"),
    (vpc(instances=(Ecs("ecs", "vSwitch 1", "10.0.9.1"),)), {}, "ECS ecs", "is not free", "ECMP-1", "10.0.0.1"),
]

#: As above; the document advises against these, and nothing is refused.
WARNED: list[tuple[Change, dict[str, Any], str, str, str, str]] = [
    (region(Region.SYDNEY), {}, "VPN gateway vpngw", "is closing down", "VPN-18", "another region"),
    (
        connection(routing_mode="protected-flow"),
        {},
        "IPsec-VPN Connection 1",
        "not destination-based",
        "VPN-15",
        "destination",
    ),
    (no_change, {"data_centre_asns": (65530, 65529)}, "IPsec-VPN Connection 1", "65530, 65529", "VPN-13", "same ASN"),
    (no_change, {"local_asns": (23456,)}, PRIMARY, "local ASN 23456 is reserved", "VPN-17", "Choose another"),
    (no_change, {"networks": {"gw1": ("0.0.0.0/0",)}}, PRIMARY, "advertises 0.0.0.0/0", "VPN-4", "Do not advertise"),
    (no_change, {"networks": {"gw2": ("100.64.7.0/24",)}}, SECONDARY, "it is not taken", "VPN-5", "Do not advertise"),
    (
        lambda estate: replace(estate, shared_address_routes=SharedAddressRoutes.DOCUMENTED),
        {"networks": {"gw1": ("100.0.0.0/8",)}},
        PRIMARY,
        "the status of the connection cannot be displayed, or negotiation fails",
        "VPN-5",
        "Do not advertise",
    ),
    (
        no_change,
        {"networks": {"gw1": tuple(f"172.16.{n}.0/24" for n in range(51))}},
        "VPN gateway vpngw",
        "advertise 53 routes, its BGP route table takes 50",
        "VPN-3",
        "submit a ticket",
    ),
    (
        no_change,
        {"connections": 2},
        "VPN gateway vpngw",
        "IPsec-VPN Connection 1 and IPsec-VPN Connection 2",
        "VPN-14",
        "different",
    ),
    (
        tunnel(gateway_address="203.0.113.99"),
        {},
        PRIMARY,
        "no device of a data centre has 203.0.113.99",
        "VPN-24",
        "Configure",
    ),
    (
        no_change,
        {"gateways": 2, "tunnels": 1, "local_asns": (45104, 65001), "one_device": True},
        "VPC vpc",
        "customer gateway Customer-Gateway1 with different local ASNs (vpngw as AS 45104, vpngw2 as AS 65001)",
        "VPN-9",
        "the same local ASN",
    ),
    (
        customer(asn=65001),
        {"tunnels": 1},
        "gw1",
        "the device speaks as AS 65530, Customer-Gateway1 says AS 65001",
        "ECMP-3",
        "Delete",
    ),
    (
        two_vpcs,
        {"gateways": 2, "tunnels": 1},
        "CEN instance cen-1",
        "VPCs vpc, vpc2 reach the data centre of AS 65530",
        "VPN-12",
        "by one of them",
    ),
    (walled(), {}, "security group sg", "it lets in nothing from 192.168.0.0/24", "ECMP-42", "Add an inbound rule"),
]


@pytest.mark.spec(
    "VPN-3",
    "VPN-4",
    "VPN-5",
    "VPN-6",
    "VPN-8",
    "VPN-9",
    "VPN-11",
    "VPN-12",
    "VPN-13",
    "VPN-14",
    "VPN-15",
    "VPN-16",
    "VPN-17",
    "VPN-18",
    "VPN-19",
    "VPN-20",
    "VPN-21",
    "VPN-23",
    "VPN-24",
)
@pytest.mark.parametrize(
    ("change", "arguments", "owner", "words", "spec", "remedy", "severity"),
    [(*row, Severity.ERROR) for row in BROKEN] + [(*row, Severity.WARNING) for row in WARNED],
    ids=lambda value: value if isinstance(value, str) and "-" in value and value[-1].isdigit() else "",
)
def test_a_broken_rule_is_found(
    change: Change, arguments: dict[str, Any], owner: str, words: str, spec: str, remedy: str, severity: Severity
) -> None:
    estate = change(vpn_gateway.estate(**arguments))
    found = [f for f in validate(estate) if (f.object, f.spec, f.severity) == (owner, spec, severity)]
    assert any(words in f.rule and remedy in f.remedy for f in found), validate(estate)
    if severity is Severity.ERROR:
        with pytest.raises(Refused):
            compile_vpn_estate(estate)
    else:
        assert all(f.severity is Severity.WARNING for f in validate(estate)), validate(estate)


def test_every_rule_has_a_case_that_breaks_it() -> None:
    broken = {
        rule for change, arguments, *_ in BROKEN + WARNED for rule in _broken(change(vpn_gateway.estate(**arguments)))
    }
    assert {rule.__name__ for rule in (*FIRST, *RULES)} - broken == set()


def _broken(estate: VpnEstate) -> set[str]:
    first = {rule.__name__ for rule in FIRST if list(rule(estate))}
    return first or {rule.__name__ for rule in RULES if list(rule(estate))}


@pytest.mark.spec("VPN-1")
@pytest.mark.parametrize(
    "arguments", [{}, {"tunnels": 1}, {"gateways": 2, "tunnels": 1}, {"bgp": False}, {"connections": 3, "tunnels": 1}]
)
def test_the_documented_estate_breaks_none(arguments: dict[str, Any]) -> None:
    assert validate(vpn_gateway.estate(**arguments)) == []


@pytest.mark.spec("VPN-12")
def test_two_vpcs_on_cen_instances_of_their_own() -> None:
    """The warning is there if and only if both are on one instance."""
    estate = two_vpcs(vpn_gateway.estate(gateways=2, tunnels=1))
    assert [finding.spec for finding in validate(estate)] == ["VPN-12"]
    apart = replace(estate, cen_attachments=(CenAttachment("cen-1", "vpc"), CenAttachment("cen-2", "vpc2")))
    assert validate(apart) == []


@pytest.mark.spec("VPN-19")
@pytest.mark.parametrize(
    ("created", "switch", "overlaps"),
    [
        (date(2019, 2, 28), None, False),
        (date(2019, 3, 1), None, True),
        (date(2018, 1, 1), True, True),
        (date(2024, 1, 1), False, False),
    ],
)
def test_overlapping_routing_by_date_and_switch(created: date, switch: bool | None, overlaps: bool) -> None:
    assert Cen("cen", created, switch).overlaps is overlaps


@pytest.mark.spec("VPN-17", "ECMP-8")
def test_the_two_lists_of_reserved_blocks_differ() -> None:
    """169.254.6.0/30 is legal on a VPN gateway and reserved on a transit router."""
    assert set(OF_TRANSIT_ROUTERS) - set(RESERVED_TUNNEL_BLOCKS) == {"169.254.6.0/30"}
    assert validate(tunnel(tunnel_cidr="169.254.6.0/30", local_bgp_address="169.254.6.1")(vpn_gateway.estate())) == [
        finding for finding in validate(vpn_gateway.estate()) if finding
    ]


@pytest.mark.spec("VPN-18")
def test_the_documents_regions() -> None:
    """Thirteen in Asia Pacific, four in Europe and Americas, one in the Middle East."""
    assert [len(regions) for regions in BGP_REGIONS.values()] == [13, 4, 1]


@pytest.mark.spec("VPN-4", "VPN-5")
@settings(deadline=None)
@given(st.integers(0, (1 << 32) - 1), st.integers(0, 32))
def test_what_the_policy_refuses_is_what_the_rule_says(bits: int, length: int) -> None:
    """The terms that a tunnel's speaker has, against the arithmetic of blocks, for any prefix."""
    network = IPv4Network((bits, length), strict=False)
    wire = bytes([length]) + network.network_address.packed[: (length + 7) // 8]
    spec = next(
        (spec for spec, prefixes in REFUSED if any(PrefixRange.parse(text).matches(wire) for text in prefixes)), None
    )
    assert spec == refused_by(str(network))


@pytest.mark.spec("VPN-5")
@pytest.mark.parametrize(
    ("prefix", "spec"),
    [
        ("0.0.0.0/0", "VPN-4"),
        ("0.0.0.0/1", "VPN-5"),
        ("100.64.0.0/10", "VPN-5"),
        ("100.127.255.255/32", "VPN-5"),
        ("96.0.0.0/3", "VPN-5"),
        ("100.128.0.0/9", None),
        ("100.0.0.0/10", None),
        ("0.0.0.0/8", None),
    ],
)
def test_edges_of_the_shared_block(prefix: str, spec: str | None) -> None:
    assert refused_by(prefix) == spec


@pytest.mark.spec("VPN-20", "ECMP-28")
def test_status_of_a_tunnel() -> None:
    offered = [
        {"prefix": "192.168.0.0/24", "paths": [{"next_hop": "169.254.10.2"}]},
        {"prefix": "100.64.0.0/10", "paths": [{"rejected": "import policy, term 2"}]},
        {"prefix": "10.0.0.0/24", "paths": [{"rejected": "AS path loop: ..."}]},
    ]
    row = {"name": "Customer-Gateway1", "state": "Established"}
    shown = tunnel_status("tunnel", row, offered)
    assert (shown.bgp, shown.learned) == ("Established", 1)
    assert [(each.prefix, each.spec) for each in shown.refused] == [("100.64.0.0/10", "VPN-5"), ("10.0.0.0/24", "")]
    assert "100.64.0.0/10 not taken: it is, contains or lies in 100.64.0.0/10" in str(shown)
    assert tunnel_status("tunnel", row, offered, SharedAddressRoutes.DOCUMENTED).bgp == UNAVAILABLE
    assert tunnel_status("tunnel", row, offered[:1], SharedAddressRoutes.DOCUMENTED).bgp == "Established"
    assert tunnel_status("tunnel", None).bgp == BGP_DISABLED


@pytest.mark.spec("VPN-7", "VPN-13")
def test_the_plan_of_a_gateway() -> None:
    """Tunnels speak with their hub alone, as the gateway's ASN; ASNs inside the cloud are nobody else's."""
    plan = vpn_gateway.plan(local_asns=(64512,))
    tunnels = [plan["vpn1a"].speaker, plan["vpn1b"].speaker]
    for speaker in tunnels:
        assert speaker is not None
        assert speaker.asn == 64512
        assert {neighbor.name for neighbor in speaker.neighbors} <= {
            hub("vpngw"),
            "Customer-Gateway1",
            "Customer-Gateway2",
        }
    inside = [plan[name].speaker for name in ("vpc", "vpngw")]
    assert {speaker.asn for speaker in inside if speaker} & {64512, 65530} == set()
    assert 'key="' not in repr(vpn_gateway.estate()) and vpn_gateway.key(1) not in repr(vpn_gateway.estate())
