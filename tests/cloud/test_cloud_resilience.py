"""A circuit and a VPN gateway of one data centre: the rules of their meeting, and what becomes of two plans joined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.cloud.build_resilience import CIRCUIT_PREFERENCE, FROM_VPN_GATEWAY, compile_resilience
from harness.cloud.findings import Refused, Severity
from harness.cloud.resilience import RULES, ResilienceEstate, circuits_have_addresses_of_their_own, validate
from harness.plan import Plan
from topologies import resilience


def of_vbr(estate: ResilienceEstate, **changes: Any) -> ResilienceEstate:
    return replace(estate, vbr=replace(estate.vbr, **changes))


@pytest.mark.spec("VPN-10")
def test_two_asns_are_warned_of() -> None:
    (warning,) = resilience.findings(vpn_asn=65529)
    assert (warning.object, warning.spec, warning.severity) == ("VBR vbr", "VPN-10", Severity.WARNING)
    assert "Customer-Gateway1 says AS 65529, BGP group idc of VBR vbr says AS 65530" in warning.rule
    assert "the same data-centre ASN" in warning.remedy
    assert resilience.findings() == []


@pytest.mark.spec("VPN-10")
def test_a_wider_network_over_the_circuit_is_warned_of() -> None:
    """10.0.0.0/16 by the VBR loses against the gateway's /24: nothing would ever use the circuit."""
    estate = resilience.estate()
    (vbr,) = estate.vbr.vbrs
    (warning,) = validate(of_vbr(estate, vbrs=(replace(vbr, networks=("10.0.0.0/16",)),)))
    assert "10.0.0.0/24, 10.0.1.0/24, which win against 10.0.0.0/16" in warning.rule


@pytest.mark.spec("VPN-10")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vpcs": "name"}, "the VPN gateway's VPC is another (vpc)"),
        ({"vpcs": "cidr"}, "describe it differently"),
        ({"data_centres": "name"}, "no tunnel leads to it; tunnels lead to dc"),
        ({"data_centres": "asn"}, "speaks as AS 65001 on the circuit and as AS 65530 inside"),
        ({"data_centres": "blocks"}, "its client blocks differ"),
    ],
)
def test_the_two_sides_must_meet(changes: dict[str, str], words: str) -> None:
    estate = resilience.estate(cen=True)
    ((what, field),) = changes.items()
    value: Any = {"name": "other", "cidr": "10.0.0.0/17", "asn": 65001, "blocks": ("192.168.7.0/24",)}[field]
    (first,) = getattr(estate.vbr, what)
    changed = of_vbr(estate, **{what: (replace(first, **{field: value}),)})
    if field == "name":
        (vbr,), (circuit,) = changed.vbr.vbrs, changed.vbr.circuits
        changed = of_vbr(
            changed,
            vbrs=(replace(vbr, vpc="other" if what == "vpcs" else "vpc"),),
            circuits=(replace(circuit, data_centre="other" if what == "data_centres" else "dc"),),
        )
    with pytest.raises(Refused, match="VPN-10") as refused:
        compile_resilience(changed)
    assert any(words in finding.rule for finding in refused.value.findings), refused.value.findings


@pytest.mark.spec("VPN-10", "VBR-1")
@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("198.51.100.1/30", "customer gateway Customer-Gateway1"),
        ("203.0.113.11/30", "IPsec-VPN Connection 1"),
        ("192.168.50.9/30", "data centre dc"),
        ("10.0.7.1/30", "VPC vpc"),
        ("169.254.10.1/30", "IPsec-VPN Connection 1"),
    ],
)
def test_a_circuit_takes_nobodys_address(address: str, owner: str) -> None:
    estate = resilience.estate()
    (circuit,) = estate.vbr.circuits
    moved = replace(circuit, cloud_address=address, customer_address="172.31.0.2/30")
    (found,) = circuits_have_addresses_of_their_own(of_vbr(estate, circuits=(moved,)))
    assert (found.object, found.spec, found.severity) == (f"circuit {circuit.name}", "VPN-10", Severity.ERROR)
    assert f"{address.partition('/')[0]} is that of {owner}" in found.rule
    assert circuits_have_addresses_of_their_own in RULES


@pytest.mark.spec("VPN-10")
@pytest.mark.parametrize("cen", [False, True])
def test_the_joined_plan(cen: bool) -> None:
    """Every node once; the circuit is preferred at both ends; only CEN is told what the gateway learned; the plan survives JSON."""
    plan = resilience.plan(cen=cen)
    assert len({node.name for node in plan.nodes}) == len(plan.nodes)
    assert Plan.from_json(plan.to_json()) == plan
    vpc, router = plan["vpc"].speaker, plan["dc-router"].speaker
    assert vpc is not None and router is not None
    by_name = {neighbor.name: neighbor for neighbor in (*vpc.neighbors, *router.neighbors)}
    first = by_name["tr" if cen else "vbr"]
    for neighbor in (first, by_name["circuit-1"]):
        assert [rule.local_pref for rule in neighbor.import_] == [CIRCUIT_PREFERENCE]
    assert (FROM_VPN_GATEWAY in str(first.export)) == cen
    asns = {node.speaker.asn: node.name for node in plan.nodes if node.speaker is not None}
    assert asns[vpc.asn] == "vpc"
