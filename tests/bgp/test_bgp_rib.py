"""Loc-RIB and Adj-RIB-In against an independent, brute-force computation, after random sequences of everything that can happen."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bgp import rib as rib_module
from harness.bgp.decision import Preferences
from harness.bgp.paths import Kind, Path, Source
from harness.bgp.prefixes import Family, with_path_id
from harness.bgp.rib import AdjRibIn, Table
from tests.bgp.routes import path, prefix, source

PREFERENCES = Preferences(multipath_ebgp=2, multipath_ibgp=2, multipath_as_path="length")
PREFIXES = [prefix(f"10.0.{n}.0/24") for n in range(4)]
HOPS = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def brute_force(candidates: list[Path], costs: dict[bytes, int | None]) -> tuple[Path | None, set[Path]]:
    """RFC 4271 9.1.2 written down once more, without the steps' table: pairwise for MED, one sort key for the rest."""
    usable = [p for p in candidates if costs[p.next_hop] is not None]
    if not usable:
        return None, set()

    def degree(p: Path) -> tuple[int, int, int]:
        a = p.attributes
        return (-(100 if a.local_pref is None else a.local_pref), a.as_path_length, a.origin)

    top = min(map(degree, usable))
    first = [p for p in usable if degree(p) == top]
    lowest_med: dict[int, int] = {}
    for p in first:
        asn = p.attributes.neighbor_as
        lowest_med[asn] = min(lowest_med.get(asn, 1 << 32), p.attributes.med or 0)
    second = [p for p in first if (p.attributes.med or 0) == lowest_med[p.attributes.neighbor_as]]
    internal = all(p.source.kind is Kind.IBGP for p in second)
    third = [p for p in second if internal or p.source.kind is Kind.EBGP]
    cheapest = min(costs[p.next_hop] or 0 for p in third)
    equal = [p for p in third if (costs[p.next_hop] or 0) == cheapest]
    equal.sort(key=lambda p: (p.source.router_id, p.source.address, p.path_id))
    return equal[0], set(equal[:2])


@dataclass
class Session:
    """What a test remembers of a session, to compute from."""

    by: Source
    rib: AdjRibIn
    held: dict[bytes, Path] = field(default_factory=dict)


@dataclass
class World:
    """A table, its sessions, and the costs of the next hops."""

    costs: dict[bytes, int | None]
    table: Table
    sessions: dict[int, Session] = field(default_factory=dict)

    def session(self, number: int, add_path: bool) -> Session:
        if number not in self.sessions:
            kind = Kind.IBGP if number == 3 else Kind.EBGP
            by = source(f"p{number}", kind=kind, router_id=10 - number, address=f"10.9.0.{number}")
            self.sessions[number] = Session(by, AdjRibIn(self.table, add_path=add_path))
        return self.sessions[number]

    def check(self) -> None:
        found: dict[bytes, list[Path]] = collections.defaultdict(list)
        for session in self.sessions.values():
            assert session.rib.routes == session.held
            assert session.rib.rejected == sum(p.rejected is not None for p in session.held.values())
            for key, held in session.held.items():
                if held.rejected is None:
                    found[session.rib.prefix_of(key)].append(held)
        assert set(self.table.selections) == set(found)
        assert self.table.candidates == sum(map(len, found.values()))
        for key, candidates in found.items():
            selection = self.table.selections[key]
            assert set(selection.candidates) == set(candidates)
            best, multipath = brute_force(candidates, self.costs)
            assert selection.best is best
            assert set(selection.multipath) == multipath


STEP = st.one_of(
    st.tuples(
        st.just("announce"),
        st.integers(1, 3),
        st.lists(st.integers(0, 3), min_size=1, max_size=4),
        st.fixed_dictionaries(
            {
                "asns": st.sampled_from([(65001,), (65002,), (65001, 65002), (65002, 65001), (65001, 1, 2)]),
                "local_pref": st.sampled_from([None, 100, 200]),
                "med": st.sampled_from([None, 0, 5, 9]),
                "origin": st.sampled_from([0, 0, 1, 2]),
                "next_hop": st.sampled_from(HOPS),
                "path_id": st.integers(1, 2),
                "rejected": st.sampled_from([None, None, None, "policy"]),
            }
        ),
    ),
    st.tuples(
        st.just("withdraw"), st.integers(1, 3), st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(1, 2)
    ),
    st.tuples(st.just("lose"), st.integers(1, 3)),
    st.tuples(st.just("cost"), st.sampled_from(HOPS), st.sampled_from([None, 0, 5])),
    st.tuples(st.just("take"), st.integers(1, 5)),
)


@pytest.mark.spec("BGP-11")
@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=40), st.booleans())
def test_loc_rib_equals_a_computation_from_scratch(steps: list[tuple], add_path: bool) -> None:  # type: ignore[type-arg]
    costs: dict[bytes, int | None] = {path(next_hop=hop).next_hop: 0 for hop in HOPS}
    world = World(costs, Table(Family.IPV4_UNICAST, PREFERENCES, lambda hop: costs[hop]))
    seen: dict[bytes, tuple[Path | None, set[Path]]] = {}

    def key(path_id: int, number: int) -> bytes:
        return with_path_id(path_id, PREFIXES[number]) if add_path else PREFIXES[number]

    for step in steps:
        match step:
            case ("announce", number, which, fields):
                session = world.session(number, add_path)
                values = dict(fields)
                asns, path_id = values.pop("asns"), values.pop("path_id")
                made = path(session.by, *asns, path_id=path_id if add_path else 0, **values)
                keys = [key(path_id, n) for n in which]
                session.rib.announce(keys, made)
                for one in keys:
                    was = session.held.get(one)
                    session.held[one] = was if was is not None and was.says_as(made) else made
            case ("withdraw", number, which, path_id):
                session = world.session(number, add_path)
                session.rib.withdraw([key(path_id, n) for n in which])
                for n in which:
                    session.held.pop(key(path_id, n), None)
            case ("lose", number):
                session = world.session(number, add_path)
                for _ in session.rib.drain():
                    pass
                del world.sessions[number]
            case ("cost", hop, value):
                packed = path(next_hop=hop).next_hop
                costs[packed] = value
                for _ in world.table.reconsider(frozenset({packed})):
                    pass
            case ("take", limit):
                for prefix_key in taken(world.table, limit):
                    seen[prefix_key] = _outcome(world.table, prefix_key)
        world.check()
    # What is taken in pieces adds up to what is there.
    while world.table.changed:
        for prefix_key in taken(world.table, 2):
            seen[prefix_key] = _outcome(world.table, prefix_key)
    for prefix_key in PREFIXES:
        assert seen.get(prefix_key, (None, set())) == _outcome(world.table, prefix_key)


def taken(table: Table, limit: int) -> list[bytes]:
    """Takes, and holds what is said of each change against the table."""
    changes = table.take(limit)
    assert all(change.now is table.selections.get(prefix) for change in changes for prefix in change.prefixes)
    found = [prefix for change in changes for prefix in change.prefixes]
    assert len(found) == len(set(found))
    return found


def _outcome(table: Table, key: bytes) -> tuple[Path | None, set[Path]]:
    selection = table.selections.get(key)
    return (None, set()) if selection is None else (selection.best, set(selection.multipath))


def table_of(*routes: tuple[bytes, Path]) -> tuple[Table, AdjRibIn]:
    table = Table(Family.IPV4_UNICAST, Preferences(), lambda _: 0)
    rib = AdjRibIn(table, add_path=False)
    for key, item in routes:
        rib.announce([key], item)
    return table, rib


def test_a_change_that_is_taken_back_is_no_change() -> None:
    one = path()
    table, rib = table_of((PREFIXES[0], one))
    assert taken(table, 10) == [PREFIXES[0]]
    rib.withdraw([PREFIXES[0]])
    rib.announce([PREFIXES[0]], one)
    assert table.take(10) == []


def test_prefixes_with_the_same_candidates_share_one_selection() -> None:
    one = path()
    table, _ = table_of(*((key, one) for key in PREFIXES))
    assert len({id(s) for s in table.selections.values()}) == 1


@pytest.mark.spec("BGP-10")
def test_a_refresh_deletes_only_what_was_not_sent_again() -> None:
    one = path()
    table, rib = table_of((PREFIXES[0], one), (PREFIXES[1], one))
    table.take(10)
    rib.begin_refresh()
    rib.announce([PREFIXES[0]], one)
    assert table.take(10) == []
    assert set(table.selections) == set(PREFIXES[:2])
    rib.end_refresh()
    assert set(table.selections) == {PREFIXES[0]}


@pytest.mark.spec("ECMP-41")
def test_rejected_routes_are_kept_and_are_no_candidates() -> None:
    table, rib = table_of((PREFIXES[0], path(rejected="AS path loop")))
    assert table.selections == {}
    assert rib.routes[PREFIXES[0]].rejected == "AS path loop"
    rib.announce([PREFIXES[0]], path())
    assert set(table.selections) == {PREFIXES[0]}
    rib.announce([PREFIXES[0]], path(rejected="AS path loop"))
    assert table.selections == {}


def test_what_goes_and_comes_during_a_reconsideration_is_decided_by_what_is_so_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second prefix is withdrawn and announced again before the walk comes to it."""
    monkeypatch.setattr(rib_module, "STRIDE", 1)
    costs: dict[bytes, int | None] = {path(next_hop=hop).next_hop: 0 for hop in HOPS}
    table = Table(Family.IPV4_UNICAST, Preferences(), lambda hop: costs[hop])
    rib = AdjRibIn(table, add_path=False)
    by = source("a")
    stays, goes = path(by, 65001, next_hop=HOPS[0]), path(by, 65002, next_hop=HOPS[1])
    rib.announce([PREFIXES[0]], stays)
    rib.announce([PREFIXES[1]], goes)
    table.take(10)
    costs[goes.next_hop] = None
    walk = table.reconsider(frozenset({goes.next_hop}))
    next(walk)
    rib.withdraw([PREFIXES[1]])
    rib.announce([PREFIXES[1]], goes)
    for _ in walk:
        pass
    assert table.selections[PREFIXES[0]].best is stays
    assert table.selections[PREFIXES[1]].best is None


def test_a_change_is_taken_back_for_many_too() -> None:
    """A whole table that goes and comes between two looks at it has not changed, however much is remembered."""
    one = path(source("a"), 65001)
    table, rib = table_of()
    rib.announce(PREFIXES, one)
    assert taken(table, 10) == PREFIXES
    for _ in rib.drain():
        pass
    assert not table.selections
    rib.announce(PREFIXES, one)
    assert table.take(10) == []
