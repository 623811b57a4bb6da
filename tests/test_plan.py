"""Plans: pure data that survives JSON, refuses nonsense by name, and can be compared."""

from __future__ import annotations

import dataclasses
import json

import pytest

from harness.plan import End, Link, Node, Plan, PlanError, Role, Route, diff
from topologies import ipsec_ecmp

A, B = Node("a", Role.ROUTER), Node("b", Role.ROUTER)
CABLE = Link(End("a", "eth0", ("10.0.0.1/24",)), End("b", "eth0", ("10.0.0.2/24",)))


@pytest.mark.spec("CARD-1")
def test_a_documented_plan_survives_json_and_the_text_says_what_kind_of_thing_is_unknown() -> None:
    plan = ipsec_ecmp.plan()
    assert Plan.from_json(plan.to_json()) == plan
    values = json.loads(plan.to_json())
    values["nodes"][0]["colour"] = "red"
    with pytest.raises(PlanError, match=r"plan\.nodes\[0\]: unknown field 'colour'"):
        Plan.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("nodes", "links", "said"),
    [
        ((A, A), (), "two nodes are called 'a'"),
        ((A,), (CABLE,), "ends at 'b', which is no node"),
        ((A, B), (CABLE, CABLE), "a has two interfaces 'eth0'"),
        ((A, B), (dataclasses.replace(CABLE, b=End("b", "eth0", ("10.0.0.1/24",))),), "10.0.0.1 is on a and on b"),
        ((A, B), (dataclasses.replace(CABLE, b=End("b", "a-name-of-16-chs")),), "longer than the kernel's 15"),
    ],
)
def test_a_plan_that_cannot_be_built_is_refused(nodes: tuple[Node, ...], links: tuple[Link, ...], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        Plan("p", "", nodes, links)


def test_a_route_goes_somewhere() -> None:
    with pytest.raises(PlanError, match="neither gateway nor device"):
        Route("10.0.0.0/8")


def test_unknown_nodes_and_interfaces_are_named() -> None:
    plan = Plan("p", "", (A, B), (CABLE,))
    assert plan.peer_of("a", "eth0").node == "b"
    with pytest.raises(PlanError, match="no node 'c'; there are a, b"):
        plan["c"]
    with pytest.raises(PlanError, match="a has no interface 'eth9'"):
        plan.peer_of("a", "eth9")


@pytest.mark.spec("ECMP-35")
def test_the_difference_of_step_5_is_one_link_and_two_routers() -> None:
    changes = diff(ipsec_ecmp.plan(inter_region=False), ipsec_ecmp.plan())
    assert [(change.kind, change.name.partition(":")[0]) for change in changes] == [
        ("node", "tr-hangzhou"),
        ("node", "tr-shanghai"),
        ("link", "tr-hangzhou"),
    ]
    assert [change.old is None for change in changes] == [False, False, True]
    assert diff(ipsec_ecmp.plan(), ipsec_ecmp.plan()) == []


@pytest.mark.spec("ECMP-5")
def test_no_key_shows_in_the_text_form_of_a_plan() -> None:
    text = repr(ipsec_ecmp.plan()) + repr(ipsec_ecmp.estate())
    assert not [key for key in ipsec_ecmp.KEYS if key in text]
