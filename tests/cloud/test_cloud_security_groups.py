"""Security groups (ECMP-42): what is refused before anything runs, and which packets the filter of an instance lets in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.cloud.build import compile_estate
from harness.cloud.document import read
from harness.cloud.document_kinds import KINDS
from harness.cloud.findings import Finding, Severity
from harness.cloud.resources import Ecs, Estate, InboundRule, SecurityGroup
from harness.cloud.rules import validate
from harness.cloud.security_groups import filter_of, first_match, refusal
from harness.plan import Plan
from topologies import ipsec_ecmp

OUTSIDE = "192.168.0.10"


def estate(*groups: SecurityGroup, **changes: Any) -> Estate:
    """The documented estate with these groups, and with both instances in all of them."""
    made = ipsec_ecmp.estate()
    (vpc,) = made.vpcs
    names = tuple(group.name for group in groups)
    members = tuple(replace(each, **{"security_groups": names} | changes) for each in vpc.instances)
    return replace(made, vpcs=(replace(vpc, security_groups=groups, instances=members),))


def one(rule: InboundRule) -> Estate:
    return estate(SecurityGroup("sg", (rule,)))


@pytest.mark.spec("ECMP-42")
@pytest.mark.parametrize(
    ("broken", "owner", "words", "remedy"),
    [
        (one(InboundRule("192.168.0.1/24")), "security group sg, inbound rule 1", "has host bits", "CIDR block"),
        (one(InboundRule("all")), "security group sg, inbound rule 1", "source: 'all'", "CIDR block"),
        (one(InboundRule("10.0.0.0/8", priority=0)), "security group sg, inbound rule 1", "priority 0", "1 (first)"),
        (one(InboundRule("10.0.0.0/8", priority=101)), "security group sg, inbound rule 1", "priority 101", "100"),
        (one(InboundRule("10.0.0.0/8", "icmp", "8/8")), "security group sg, inbound rule 1", "of icmp", "-1/-1"),
        (one(InboundRule("10.0.0.0/8", "tcp", "80")), "security group sg, inbound rule 1", "'80'", "FIRST/LAST"),
        (one(InboundRule("10.0.0.0/8", "tcp", "200/1")), "security group sg, inbound rule 1", "'200/1'", "FIRST/LAST"),
        (one(InboundRule("10.0.0.0/8", "udp", "0/9")), "security group sg, inbound rule 1", "'0/9'", "FIRST/LAST"),
        (one(InboundRule("10.0.0.0/8", "udp", "1/65536")), "security group sg, inbound rule 1", "'1/65536'", "FIRST"),
        (estate(SecurityGroup("a", (InboundRule("0.0.0.0/0"),) * 201)), "security group a", "201 rules", "Join"),
        (estate(SecurityGroup("a"), SecurityGroup("a")), "security group a", "two of this name", "Rename"),
        (estate(SecurityGroup("a"), security_groups=("b",)), "ECS ecs", "'b' does not exist in VPC vpc", "Choose a"),
        (estate(SecurityGroup("a"), security_groups=()), "ECS ecs", "in no security group", "Put it into a"),
        (estate(security_groups=("a",)), "ECS ecs", "'a' does not exist", "Create it first"),
        (estate(*(SecurityGroup(f"g{n}") for n in range(11))), "ECS ecs", "in 11 security groups", "Join"),
    ],
)
def test_what_is_refused(broken: Estate, owner: str, words: str, remedy: str) -> None:
    found = validate(broken)
    assert any(f.object == owner and words in f.rule and remedy in f.remedy for f in found), found
    assert {f.spec for f in found} == {"ECMP-42"}
    assert {f.severity for f in found} == {Severity.ERROR}


@pytest.mark.spec("ECMP-1")
@pytest.mark.parametrize(
    ("address", "words"),
    [("10.0.9.1", "not free"), ("10.0.0.253", "not free"), ("10.0.0.0", "not free"), ("ten", "address: ")],
)
def test_an_instance_has_an_address_of_its_vswitch(address: str, words: str) -> None:
    made = ipsec_ecmp.estate()
    (vpc,) = made.vpcs
    moved = replace(vpc, instances=(replace(vpc.instances[0], address=address), vpc.instances[1]))
    (found,) = validate(replace(made, vpcs=(moved,)))
    assert (found.object, found.spec) == ("ECS ecs", "ECMP-1")
    assert words in found.rule


@pytest.mark.spec("ECMP-1")
def test_two_instances_with_one_address() -> None:
    made = ipsec_ecmp.estate()
    (vpc,) = made.vpcs
    twice = (*vpc.instances, Ecs("third", "vSwitch 1", "10.0.0.1", security_groups=vpc.instances[0].security_groups))
    (found,) = validate(replace(made, vpcs=(replace(vpc, instances=twice),)))
    assert "ECS ecs has the address 10.0.0.1 already" in found.rule


@pytest.mark.spec("ECMP-42")
@pytest.mark.parametrize(
    ("rules", "warned"),
    [
        ((), ["192.168.0.0/24, 192.168.1.0/24, 192.168.2.0/24"]),
        ((InboundRule("192.168.0.0/23"),), ["192.168.2.0/24"]),
        ((InboundRule("192.168.0.0/16", "tcp", "22/22"),), []),
        ((InboundRule("192.168.0.0/16", priority=2), InboundRule("192.168.0.0/24", policy="drop")), ["192.168.0.0/24"]),
        ((InboundRule("192.168.0.0/16"), InboundRule("192.168.0.0/24", policy="drop", priority=2)), []),
    ],
)
def test_a_data_centre_that_stays_out_is_warned_about(rules: tuple[InboundRule, ...], warned: list[str]) -> None:
    """Once for all instances that a group keeps shut; the lab runs all the same."""
    made = estate(SecurityGroup("sg", rules))
    found = validate(made)
    assert [f.rule for f in found] == [
        f"it lets in nothing from {blocks} of the data centre to ECS ecs, ECS ecs2" for blocks in warned
    ]
    assert {f.object for f in found} <= {"security group sg"}
    assert all((f.severity, f.spec) == (Severity.WARNING, "ECMP-42") for f in found)
    compile_estate(made)


def decided(made: Estate, source: str, protocol: str, port: int = 0, instance: int = 0) -> str:
    (vpc,) = made.vpcs
    wall = filter_of(vpc, vpc.instances[instance])
    assert wall is not None
    rule = first_match(wall, source, protocol, port)
    return "refused" if rule is None else f"{rule.action} by {rule.label}"


@pytest.mark.spec("ECMP-42")
def test_rules_of_all_groups_are_one_list_by_priority() -> None:
    """Smaller numbers first, of equal ones a drop, then the members of a group, then nothing."""
    web = SecurityGroup("web", (InboundRule("0.0.0.0/0", "tcp", "80/443", priority=5), InboundRule("192.168.0.0/16")))
    shut = SecurityGroup("shut", (InboundRule("192.168.0.0/24", policy="drop"),), interconnected=False)
    both = estate(web, shut)
    assert decided(both, OUTSIDE, "icmp") == "drop by inbound rule 1 of shut"
    assert decided(both, "192.168.1.9", "icmp") == "accept by inbound rule 2 of web"
    assert decided(both, "203.0.113.9", "tcp", 80) == "accept by inbound rule 1 of web"
    assert decided(both, "203.0.113.9", "tcp", 79) == "refused"
    assert decided(both, "203.0.113.9", "udp", 80) == "refused"
    assert decided(both, "10.0.1.1", "icmp") == "accept by members of web"
    assert decided(estate(shut), "10.0.1.1", "icmp") == "refused"
    assert decided(estate(SecurityGroup("a")), "10.0.0.1", "icmp", instance=0) == "refused"


@pytest.mark.spec("ECMP-42")
def test_a_refusal_names_instance_group_rule_and_remedy() -> None:
    plan = compile_estate(estate(SecurityGroup("sg", (InboundRule("192.168.0.0/24", policy="drop", priority=7),))))
    assert refusal(plan["ecs"], OUTSIDE, "tcp", 22, 3) == (
        "ecs (ECS 10.0.0.1 in vSwitch 1): security group sg refuses tcp to port 22 from 192.168.0.10 (3 packets): inbound rule 1 "
        "of sg drops it (ECMP-42). Change that rule, or accept it with a higher priority; the route tables do not depend on it."
    )
    assert "no inbound rule lets it in (ECMP-42). Add one" in str(refusal(plan["ecs"], "192.0.2.9", "icmp"))
    documented = ipsec_ecmp.plan()
    assert refusal(documented["ecs"], OUTSIDE, "icmp") is None
    assert refusal(documented["gw1"], OUTSIDE, "icmp") is None


@pytest.mark.spec("ECMP-42")
def test_a_filter_survives_the_trip_through_json() -> None:
    plan = compile_estate(one(InboundRule("192.168.0.0/24", "tcp", "22/80")))
    assert Plan.from_json(plan.to_json()) == plan
    assert plan["ecs"].filter is not None
    assert plan["ecs"].filter.rules[0].ports == (22, 80)


DOCUMENTS = {
    "ipsec": """\
ipsec:
  vpc:
    region: China (Hangzhou)
    VPC
  customer_gateways: [{name: left, address: 198.51.100.7, asn: 65010}]
  connections:
    - {name: one, customer_gateway: left, bgp: true, tunnel_cidr: 169.254.20.0/30, local_bgp_address: 169.254.20.1}
  data_centre: {blocks: [172.16.1.0/24]}
""",
    "vpn_gateway": """\
vpn_gateway:
  vpcs:
  - name: vpc
    VPC
  customer_gateways: [{name: left, address: 198.51.100.7, asn: 65010}]
  connections:
    - name: one
      tunnels: [{customer_gateway: left, tunnel_cidr: 169.254.20.0/30, local_bgp_address: 169.254.20.1}]
  data_centre: {blocks: [172.16.1.0/24]}
""",
}


def document(kind: str, vpc: str) -> tuple[tuple[Finding, ...], Plan | None]:
    made = read(DOCUMENTS[kind].replace("    VPC\n", f"    {vpc}\n" if vpc else ""), KINDS)
    return made.findings, None if made.errors else made.plan()


@pytest.mark.spec("ECMP-42")
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_in_a_document(kind: str) -> None:
    """Nothing written: the data centre is let in. An empty list: nothing is filtered. A group: every instance is in it."""
    findings, plan = document(kind, "")
    assert findings == ()
    assert plan is not None
    assert [rule.source for rule in plan["ecs"].filter.rules] == ["172.16.1.0/24", "10.0.1.1/32"]  # type: ignore[union-attr]
    findings, plan = document(kind, "security_groups: []")
    assert findings == ()
    assert plan is not None
    assert plan["ecs"].filter is None
    findings, plan = document(
        kind, "security_groups: [{name: own, inbound: [{source: 172.16.0.0/12, protocol: icmp}]}]"
    )
    assert findings == ()
    assert plan is not None
    assert plan["ecs2"].filter is not None
    assert plan["ecs2"].filter.rules[0].protocol == "icmp"


@pytest.mark.spec("ECMP-42")
@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize(
    ("vpc", "words"),
    [
        ("security_groups: [{name: own, inbound: [{source: ^172.16.0.0/33}]}]", "source: "),
        ("security_groups: [{name: own, inbound: [{source: 172.16.0.0/12, priority: ^0}]}]", "priority 0"),
        ("security_groups: [{name: own, inbound: [{source: 10.0.0.0/8, protocol: tcp, ports: ^9/1}]}]", "'9/1'"),
        ("vswitches: [{name: s, cidr: 10.0.0.0/24, zone: H, security_groups: ^[x]}]", "'x' does not exist"),
        ("vswitches: [{name: s, cidr: 10.0.0.0/24, zone: H, instance: ^10.0.0.300}]", "address: "),
    ],
)
def test_findings_have_their_line_and_column(kind: str, vpc: str, words: str) -> None:
    """At the value that the mark stands before."""
    findings, _ = document(kind, vpc.replace("^", ""))
    (found,) = [each for each in findings if words in each.rule]
    assert found.place is not None
    assert (found.place.line, found.place.column) == (4, 5 + vpc.index("^"))
