"""The decision process, step by step: each row of the table wins by exactly one step and the loser says which."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address

import pytest

from harness.bgp.decision import Preferences, Reason, select
from harness.bgp.paths import Kind, Path
from tests.bgp.routes import LOCAL, path, source

COSTS = {"10.0.0.1": 0, "10.0.0.2": 10}


def cost(next_hop: bytes) -> int | None:
    return COSTS.get(str(IPv4Address(next_hop)))


A = source("a", router_id=1, address="10.9.0.1")
B = source("b", router_id=2, address="10.9.0.2")
I = source("i", kind=Kind.IBGP, router_id=1, address="10.9.0.3")  # noqa: E741
TWIN = source("twin", router_id=1, address="10.9.0.2")

TABLE = [
    (Reason.UNRESOLVABLE, path(A, 1, 2), path(B, 1, next_hop="10.0.0.9")),
    (Reason.LOCAL_ORIGIN, Path(LOCAL, 0, path().received, path().attributes, b""), path(A, 1, local_pref=900)),
    (Reason.LOCAL_PREF, path(B, 1, 2, 3, local_pref=200), path(A, 1, local_pref=100)),
    (Reason.LOCAL_PREF, path(B, 1, 2, 3, local_pref=101), path(A, 1)),
    (Reason.AS_PATH_LENGTH, path(B, 1, 2, origin=2), path(A, 1, 2, 3, origin=0)),
    (Reason.ORIGIN, path(B, 1, 2, origin=0, med=9), path(A, 1, 2, origin=1)),
    (Reason.MED, path(B, 1, 2, med=4), path(A, 1, 3, med=5)),
    (Reason.MED, path(B, 1, 2), path(A, 1, 3, med=1)),
    (Reason.EBGP_OVER_IBGP, path(B, 1, 2, next_hop="10.0.0.2"), path(I, 1, 2)),
    (Reason.INTERIOR_COST, path(B, 1, 2), path(A, 1, 2, next_hop="10.0.0.2")),
    (Reason.ROUTER_ID, path(A, 1, 2), path(B, 1, 2)),
    (Reason.ROUTER_ID, path(B, 1, 2, originator_id=IPv4Address(0)), path(A, 1, 2)),
    (Reason.CLUSTER_LIST, path(TWIN, 1, 2, cluster_list=(1,)), path(A, 1, 2, cluster_list=(1, 2))),
    (Reason.PEER_ADDRESS, path(A, 1, 2), path(TWIN, 1, 2)),
    (Reason.PATH_ID, path(A, 1, 2, path_id=1), path(A, 1, 2, path_id=2)),
]


@pytest.mark.spec("BGP-11")
@pytest.mark.parametrize(
    ("reason", "better", "worse"), TABLE, ids=[f"{n}-{row[0].name}" for n, row in enumerate(TABLE)]
)
def test_each_step_decides(reason: Reason, better: Path, worse: Path) -> None:
    for candidates in ((better, worse), (worse, better)):
        found = select(candidates, Preferences(), cost)
        assert found.best is better
        assert found.multipath == (better,)
        assert found.reasons[candidates.index(worse)] is reason
        assert found.reasons[candidates.index(better)] is None
        why = found.why_not(worse)
        assert why is not None
        assert reason.value in why
        assert found.why_not(better) is None


@pytest.mark.spec("BGP-11")
def test_every_reason_has_a_row() -> None:
    assert {row[0] for row in TABLE} == set(Reason)


@pytest.mark.spec("BGP-11")
def test_med_is_compared_within_a_neighbouring_as_only_and_in_any_order() -> None:
    """RFC 4271 9.1.2.2 c, the classical case where comparing pairwise depends on the order of arrival."""
    one = path(source("one", router_id=3), 1, 9, med=20)
    two = path(source("two", router_id=2), 2, 9, med=30)
    three = path(source("three", router_id=1), 2, 9, med=40)
    for order in itertools.permutations((one, two, three)):
        found = select(order, Preferences(), cost)
        assert found.best is two
        assert found.reasons[order.index(three)] is Reason.MED
        assert found.reasons[order.index(one)] is Reason.ROUTER_ID
    always = select((one, two, three), Preferences(always_compare_med=True), cost)
    assert always.best is one


@pytest.mark.spec("BGP-11", "ECMP-17")
def test_multipath_takes_equals_of_the_best_paths_kind() -> None:
    three = [path(source(f"c{n}", router_id=n, address=f"10.9.0.{n}"), 65531, 65530) for n in (3, 1, 2)]
    inside = path(I, 65531, 65530)
    found = select([*three, inside], Preferences(multipath_ebgp=8, multipath_ibgp=8), cost)
    assert [p.source.name for p in found.multipath] == ["c1", "c2", "c3"]
    assert found.reasons[3] is Reason.EBGP_OVER_IBGP
    assert len(select(three, Preferences(multipath_ebgp=2), cost).multipath) == 2
    assert len(select(three, Preferences(multipath_ibgp=8), cost).multipath) == 1


@pytest.mark.spec("BGP-11", "ECMP-18")
def test_three_paths_of_one_neighbour_by_path_id_are_three_ways() -> None:
    by = source("tr", kind=Kind.IBGP, router_id=1)
    three = [path(by, 65531, 65530, path_id=n) for n in (1, 2, 3)]
    assert len(select(three, Preferences(multipath_ibgp=8), cost).multipath) == 3


@pytest.mark.spec("BGP-11")
def test_multipath_needs_one_as_path_unless_told_otherwise() -> None:
    paths = [path(A, 1, 3), path(B, 2, 3)]
    assert len(select(paths, Preferences(multipath_ebgp=8), cost).multipath) == 1
    assert len(select(paths, Preferences(multipath_ebgp=8, multipath_as_path="length"), cost).multipath) == 2


@pytest.mark.spec("BGP-11")
def test_no_usable_candidate_leaves_no_best() -> None:
    lost = path(A, 1, next_hop="10.0.0.9")
    found = select([lost], Preferences(), cost)
    assert found.best is None
    assert found.usable == ()
    assert found.why_not(lost) == "next hop has no route (RFC 4271 9.1.2.1)"
