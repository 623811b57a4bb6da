"""Every rule of the cloud model: one estate that breaks it, the finding it gets, and the documented estate that breaks none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cloud.build import WIRING, compile_estate
from harness.cloud.findings import Refused, Severity
from harness.cloud.resources import Estate, InterRegionConnection, Region, SecurityGroup, VpcRoute
from harness.cloud.rules import KEY, RESERVED_TUNNEL_BLOCKS, RULES, VPC_CUSTOM_ROUTES, validate
from harness.cloud.sites import bgp_identifier
from harness.plan import Role
from topologies import ipsec_ecmp

Change = Callable[[Estate], Estate]


def connection(**changes: Any) -> Change:
    """The estate with its first IPsec connection changed."""

    def change(estate: Estate) -> Estate:
        first, *others = estate.ipsec_connections
        return replace(estate, ipsec_connections=(replace(first, **changes), *others))

    return change


def gateway(**changes: Any) -> Change:
    def change(estate: Estate) -> Estate:
        first, *others = estate.customer_gateways
        return replace(estate, customer_gateways=(replace(first, **changes), *others))

    return change


def router(number: int, **changes: Any) -> Change:
    def change(estate: Estate) -> Estate:
        routers = list(estate.transit_routers)
        routers[number] = replace(routers[number], **changes)
        return replace(estate, transit_routers=tuple(routers))

    return change


def vpc(**changes: Any) -> Change:
    return lambda estate: replace(estate, vpcs=(replace(estate.vpcs[0], **changes),))


def attachment(**changes: Any) -> Change:
    return lambda estate: replace(estate, vpc_connections=(replace(estate.vpc_connections[0], **changes),))


def inter_region(**changes: Any) -> Change:
    def change(estate: Estate) -> Estate:
        inter: InterRegionConnection = replace(estate.inter_region_connections[0], **changes)
        return replace(estate, inter_region_connections=(inter,))

    return change


def full_vswitch(estate: Estate) -> Estate:
    first, *others = estate.vpcs[0].vswitches
    return vpc(vswitches=(replace(first, idle_addresses=0), *others))(estate)


BROKEN: list[tuple[Change, str, str, str, str]] = [
    (
        vpc(cidr="192.168.0.0/16"),
        "VPC vpc",
        "192.168.0.0/16 overlaps 192.168.0.0/24 of data centre dc",
        "ECMP-1",
        "another block",
    ),
    (router(0, edition="Basic"), "transit router tr-hangzhou", "of the Basic Edition", "ECMP-26", "Enterprise Edition"),
    (router(0, cen=None), "transit router tr-hangzhou", "belongs to no CEN instance", "ECMP-26", "Create it in a CEN"),
    (
        router(0, cen="other"),
        "Inter-region-connection",
        "different CEN instances (cen, other)",
        "ECMP-26",
        "of one CEN",
    ),
    (
        connection(region=Region.SHANGHAI),
        "IPsec-VPN Connection 1",
        "it is in China (Shanghai)",
        "ECMP-26",
        "Create it in",
    ),
    (inter_region(allocation="from-plan"), "Inter-region-connection", "from a bandwidth plan", "ECMP-38", "Name the"),
    (vpc(routes=(VpcRoute("10.0.0.0/8", "none"),)), "VPC vpc", "next hop 'none' of 10.0.0.0/8", "ECMP-39", "ecs2"),
    (full_vswitch, "VPC-connection", "vSwitch vSwitch 1 has no idle IP address", "ECMP-36", "another vSwitch"),
    (vpc(cidr="10.0.0.0/24"), "vSwitch vSwitch 2", "10.0.1.0/24 is not inside 10.0.0.0/24", "ECMP-1", "inside"),
    (connection(key='quo"te'), "IPsec-VPN Connection 1", "the pre-shared key is not", "ECMP-5", "double quote"),
    (connection(key="k" * 101), "IPsec-VPN Connection 1", "the pre-shared key is not", "ECMP-5", "100"),
    (
        connection(customer_gateway="none"),
        "IPsec-VPN Connection 1",
        "'none' does not exist",
        "ECMP-4",
        "Customer-Gateway1",
    ),
    (gateway(asn=None), "IPsec-VPN Connection 1", "Customer-Gateway1 has no ASN", "VPN-16", "create it again"),
    (
        connection(transit_router="none"),
        "IPsec-VPN Connection 1",
        "'none' does not exist",
        "ECMP-26",
        "Enterprise Edition",
    ),
    (router(0, cidr=None), "IPsec-VPN Connection 1", "tr-hangzhou has no CIDR block", "ECMP-25", "Add a CIDR block"),
    (connection(zone="A"), "IPsec-VPN Connection 1", "zone A is not supported", "ECMP-27", "zone H"),
    (connection(tunnel_cidr="169.254.10.0/29"), "IPsec-VPN Connection 1", "is not a /30 inside", "ECMP-8", "/30"),
    (connection(tunnel_cidr="10.9.9.0/30"), "IPsec-VPN Connection 1", "is not a /30 inside", "ECMP-8", "/30"),
    (connection(tunnel_cidr="169.254.10.1/30"), "IPsec-VPN Connection 1", "host bits", "ECMP-8", "/30"),
    (
        connection(tunnel_cidr="169.254.11.0/30", local_bgp_address="169.254.11.2"),
        "IPsec-VPN Connection 2",
        "is used by",
        "ECMP-8",
        "own",
    ),
    (
        connection(local_bgp_address="169.254.10.3"),
        "IPsec-VPN Connection 1",
        "is not a host address",
        "ECMP-8",
        "169.254.10.1",
    ),
    (connection(local_asn=0), "IPsec-VPN Connection 1", "ASN 0 is not in", "VPN-17", "45104"),
    (gateway(asn=4294967296), "Customer-Gateway1", "ASN 4294967296 is not in", "ECMP-3", "range"),
    (attachment(vpc="none"), "VPC-connection", "'none' does not exist", "ECMP-26", "first"),
    (vpc(region=Region.HANGZHOU), "VPC-connection", "tr-shanghai in China (Shanghai)", "ECMP-26", "own region"),
    (attachment(vswitches=("vSwitch 1",)), "VPC-connection", "cover zone F", "ECMP-36", "at least two"),
    (
        inter_region(transit_routers=("tr-hangzhou", "none")),
        "Inter-region-connection",
        "'none' does not exist",
        "ECMP-26",
        "first",
    ),
    (router(1, region=Region.HANGZHOU), "Inter-region-connection", "in one region", "ECMP-38", "peer region"),
    (
        inter_region(bandwidth=0.0),
        "Inter-region-connection",
        "bandwidth 0.0 Mbit/s is not positive",
        "ECMP-38",
        "Mbit/s",
    ),
]

BROKEN += [
    (
        gateway(address="192.168.1.9"),
        "Customer-Gateway1",
        "lies in 192.168.1.0/24 of data centre dc",
        "ECMP-3",
        "internet",
    ),
    (connection(gateway_address="10.0.9.9"), "IPsec-VPN Connection 1", "lies in 10.0.0.0/16", "ECMP-3", "internet"),
]

WARNED: list[tuple[Change, str, str]] = [
    (connection(routing_mode="protected-flow"), "VPN-15", "destination-based"),
    (connection(local_asn=65535), "VPN-17", "reserved"),
    (
        vpc(routes=(VpcRoute("192.168.0.0/16", "ecs2"),)),
        "ECMP-16",
        "192.168.0.0/24, 192.168.1.0/24, 192.168.2.0/24 cannot",
    ),
    (gateway(asn=64999), "ECMP-3", "the device speaks as AS 65530"),
]


def closed(estate: Estate) -> Estate:
    """The first instance in a group that lets nothing in."""
    (before,) = estate.vpcs
    groups = (*before.security_groups, SecurityGroup("closed"))
    first, *others = before.instances
    return vpc(security_groups=groups, instances=(replace(first, security_groups=("closed",)), *others))(estate)


WARNED.append((closed, "ECMP-42", "lets in nothing from 192.168.0.0/24"))


@pytest.mark.spec(
    "ECMP-1", "ECMP-3", "ECMP-4", "ECMP-5", "ECMP-8", "ECMP-25", "ECMP-26", "ECMP-27", "ECMP-36", "ECMP-38"
)
@pytest.mark.parametrize(("change", "owner", "rule", "spec", "remedy"), BROKEN)
def test_a_broken_rule_names_object_rule_id_and_remedy(
    change: Change, owner: str, rule: str, spec: str, remedy: str
) -> None:
    findings = [
        finding for finding in validate(change(ipsec_ecmp.estate())) if finding.spec == spec and rule in finding.rule
    ]
    assert findings, [str(finding) for finding in validate(change(ipsec_ecmp.estate()))]
    assert findings[0].object == owner
    assert remedy in findings[0].remedy
    assert findings[0].severity is Severity.ERROR
    with pytest.raises(Refused) as refused:
        compile_estate(change(ipsec_ecmp.estate()))
    assert findings[0] in refused.value.findings


@pytest.mark.spec("ECMP-3")
@pytest.mark.parametrize(("change", "spec", "words"), WARNED)
def test_a_warning_stops_nothing(change: Change, spec: str, words: str) -> None:
    (finding,) = [finding for finding in validate(change(ipsec_ecmp.estate())) if finding.spec == spec]
    assert words in finding.rule
    assert finding.severity is Severity.WARNING
    compile_estate(change(ipsec_ecmp.estate()))


def test_every_rule_of_the_table_is_broken_by_some_case() -> None:
    changes = [case[0] for case in BROKEN] + [case[0] for case in WARNED]
    for rule in RULES:
        assert any(list(rule(change(ipsec_ecmp.estate()))) for change in changes), rule.__name__


def test_the_documented_estate_breaks_no_rule() -> None:
    assert validate(ipsec_ecmp.estate()) == []


@pytest.mark.spec("ECMP-5")
@given(st.text(max_size=120))
def test_keys(key: str) -> None:
    legal = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789~`!@#$%^&*()_-+={}[]\\|;:',.<>/?")
    assert bool(KEY.fullmatch(key)) == (1 <= len(key) <= 100 and set(key) <= legal)


@pytest.mark.spec("ECMP-8")
def test_reserved_tunnel_blocks_are_the_documents() -> None:
    assert RESERVED_TUNNEL_BLOCKS == (
        "169.254.0.0/30",
        "169.254.1.0/30",
        "169.254.2.0/30",
        "169.254.3.0/30",
        "169.254.4.0/30",
        "169.254.5.0/30",
        "169.254.6.0/30",
        "169.254.169.252/30",
    )


@pytest.mark.spec("BGP-4")
def test_bgp_identifier_is_the_highest_address() -> None:
    assert bgp_identifier(("192.168.50.216/24", "198.51.100.1/32", "10.0.0.1/8")) == "198.51.100.1"


@pytest.mark.spec("ECMP-12", "ECMP-9")
def test_devices_speak_as_their_configuration_says() -> None:
    plan = compile_estate(ipsec_ecmp.estate())
    for number, node in enumerate((node for node in plan.nodes if node.role is Role.DEVICE), 1):
        assert node.speaker is not None
        cloud = node.speaker.neighbors[0]
        assert (node.speaker.asn, cloud.remote_asn, cloud.ebgp_multihop) == (65530, 65531, 255)
        assert cloud.address == f"169.254.{9 + number}.1"
        assert node.speaker.networks == ipsec_ecmp.CLIENT_BLOCKS


@pytest.mark.spec("ECMP-16", "ECMP-19")
def test_custom_routes_of_the_vpc() -> None:
    node = compile_estate(ipsec_ecmp.estate())["vpc"]
    assert tuple(route.prefix for route in node.routes) == VPC_CUSTOM_ROUTES


@pytest.mark.spec("ECMP-41")
def test_no_node_has_a_way_out_in_clear() -> None:
    """Gateways and connections have no default route, and the cloud's wiring is announced nowhere."""
    plan = compile_estate(ipsec_ecmp.estate())
    for node in plan.nodes:
        if node.role in (Role.DEVICE, Role.VPN, Role.INTERNET):
            assert "0.0.0.0/0" not in [route.prefix for route in node.routes]
        for network in node.speaker.networks if node.speaker else ():
            assert not network.startswith(str(WIRING.network_address)[:6])


@pytest.mark.spec("ECMP-7")
@pytest.mark.parametrize(("immediately", "initiate"), [(True, "start"), (False, "traffic")])
def test_effective_immediately_says_when_negotiation_begins(immediately: bool, initiate: str) -> None:
    plan = compile_estate(connection(effective_immediately=immediately)(ipsec_ecmp.estate()))
    assert plan["vpn1"].tunnel is not None
    assert plan["vpn1"].tunnel.initiate == initiate
    assert plan["vpn2"].tunnel is not None
    assert plan["vpn2"].tunnel.initiate == "start"
    assert plan["gw1"].tunnel is not None
    assert plan["gw1"].tunnel.initiate == "none"


@pytest.mark.spec("ECMP-16", "ECMP-39")
def test_a_block_that_the_vpc_has_already_is_not_added_again() -> None:
    plan = compile_estate(vpc(routes=(VpcRoute("192.168.0.0/16", "ecs2"),))(ipsec_ecmp.estate()))
    routes = [(route.prefix, route.gateway) for route in plan["vpc"].routes]
    assert [gateway for prefix, gateway in routes if prefix == "192.168.0.0/16"] == ["10.0.1.1"]
    assert {prefix for prefix, _ in routes} == set(VPC_CUSTOM_ROUTES)
