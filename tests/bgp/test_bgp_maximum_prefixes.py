"""Maximum prefixes (RFC 4271 6.7, RFC 4486): warn, drop and take again, teardown and restart."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bgp.admission import Admission, Receiver
from harness.bgp.config import Network, parse_rules
from harness.bgp.decision import Preferences
from harness.bgp.fsm import State
from harness.bgp.inbound import Inbound
from harness.bgp.neighbor_options import MaximumPrefixes
from harness.bgp.paths import Kind, Source
from harness.bgp.policy import Policy
from harness.bgp.prefix_limit import PrefixLimit
from harness.bgp.prefixes import Family
from harness.bgp.rib import AdjRibIn, Table
from harness.bgp.shows import Shows
from harness.bgp.speaker import Speaker
from tests.bgp.memory_world import World
from tests.bgp.routes import attributes
from tests.bgp.test_bgp_speaker import build, rows

V4 = Family.IPV4_UNICAST
ODD = [f"192.168.{n}.0/24" for n in range(1, 10, 2)]
BLOCKS = [f"192.168.{n}.0/24" for n in range(5)]


def limited(networks: int, **options: Any) -> tuple[World, Speaker, Speaker]:
    """a announces so many blocks to b, whose limit is in ``options``."""
    world, s = build(
        {"a": 1, "b": 2}, ["ab"], a={"networks": BLOCKS[:networks]}, ba={"maximum_prefixes": {"limit": 3} | options}
    )
    return world, s["a"], s["b"]


def told(speaker: Speaker) -> list[tuple[int, bool]]:
    return [(e["count"], e["over"]) for e in speaker.log.since() if e["type"] == "maximum-prefixes"]


def test_warn_says_when_the_limit_is_passed_and_when_it_is_met_again() -> None:
    world, a, b = limited(3, action="warn")
    assert told(b) == []
    a.add_network(Network(prefix=BLOCKS[3]))
    world.run(1)
    (event,) = [e for e in b.log.since() if e["type"] == "maximum-prefixes"]
    assert {k: event[k] for k in ("neighbor", "family", "count", "limit", "action", "over")} == {
        "neighbor": "a",
        "family": "ipv4 unicast",
        "count": 4,
        "limit": 3,
        "action": "warn",
        "over": True,
    }
    assert len(rows(b)) == 4
    a.delete_network(BLOCKS[0])
    world.run(1)
    assert told(b) == [(4, True), (3, False)]


def test_dropped_routes_stay_visible_and_are_taken_when_there_is_room_again() -> None:
    world, a, b = limited(5, action="drop")
    assert told(b) == [(5, True)]
    assert sorted(rows(b)) == BLOCKS[:3]
    (path,) = rows(b, table="in")[BLOCKS[4]]
    assert path["rejected"] == "over the limit of 3 prefixes (RFC 4271 6.7)"
    a.delete_network(BLOCKS[1])
    world.run(1)
    assert sorted(rows(b)) == [BLOCKS[0], BLOCKS[2], BLOCKS[3]], "the first that came is the first to be taken"
    a.delete_network(BLOCKS[0])
    world.run(1)
    assert sorted(rows(b)) == [BLOCKS[2], BLOCKS[3], BLOCKS[4]]
    assert told(b) == [(5, True), (3, False)]
    assert b.adjacencies["a"].peer.statistics.established == 1


def test_a_waiting_route_that_is_withdrawn_or_refused_waits_no_longer() -> None:
    world, a, b = limited(5, action="drop", limit=4)
    a.delete_network(BLOCKS[4])
    world.run(1)
    assert told(b) == [(5, True), (4, False)]
    row = Shows(b, lambda: world.time).neighbors("a")[0]["maximum_prefixes"]
    assert row["families"] == {"ipv4 unicast": {"count": 4, "over": False}}
    a.delete_network(BLOCKS[0])
    world.run(1)
    assert sorted(rows(b)) == BLOCKS[1:4]


def test_a_soft_clear_counts_what_the_new_policy_lets_in() -> None:
    world, _, b = limited(5, action="drop")
    deny = parse_rules([{"action": "deny", "prefixes": [BLOCKS[0]]}])
    b.set_policy("a", "import", deny)
    b.clear_soft("a", "in", stored=True)
    world.run(1)
    assert sorted(rows(b)) == BLOCKS[1:4]
    b.set_policy("a", "import", ())
    b.clear_soft("a", "in", stored=True)
    world.run(1)
    assert sorted(rows(b)) == BLOCKS[1:4], "a route in use does not make room for one that comes back"
    assert len(rows(b, table="in")) == 5


def test_teardown_says_which_limit_and_stays_down_until_it_is_started() -> None:
    world, _, b = limited(4, action="teardown")
    (sent,) = [e for e in b.log.since() if e["type"] == "notification"]
    assert (sent["direction"], sent["code"], sent["subcode"]) == ("sent", 6, 1)
    assert sent["data"] == "0001" + "01" + "00000003", "AFI, SAFI, upper bound (RFC 4486 4)"
    world.run(1000)
    assert b.adjacencies["a"].peer.state is State.IDLE
    assert rows(b) == {}
    established = b.adjacencies["a"].peer.statistics.established
    assert established == 1
    b.reset_neighbor("a")
    world.run(5)
    assert b.adjacencies["a"].peer.statistics.established == 2


def test_teardown_with_a_restart_timer_begins_again_by_itself() -> None:
    world, a, b = limited(4, action="teardown", restart=60)
    assert b.adjacencies["a"].peer.session is None
    left = b.adjacencies["a"].peer.timers(world.time)["idle_hold"]
    assert 45 < left <= 60
    a.delete_network(BLOCKS[0])
    world.run(75)
    assert b.adjacencies["a"].peer.session is not None
    assert len(rows(b)) == 3


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["+", "-", "deny", "permit", "limit"]), st.integers(0, 9)), max_size=40),
)
@settings(max_examples=150, deadline=None)
def test_as_many_as_there_is_room_for_are_in_use_at_any_moment(limit: int, acts: list[tuple[str, int]]) -> None:
    """Whatever comes, goes, is refused or allowed again: in use are min(limit, offered), and Loc-RIB has exactly those."""
    table = Table(V4, Preferences(), lambda _: 0)
    source = Source("a", Kind.EBGP, 1, 1, bytes((10, 0, 0, 1)))
    receiver = Receiver(frozenset({2}), 2)
    policies = {"permit": Policy((), V4, 2), "deny": Policy(parse_rules([{"action": "deny", "prefixes": ODD}]), V4, 2)}
    admission = Admission(source, receiver, policies["permit"], lambda _: False)
    options = MaximumPrefixes(limit=limit, action="drop")
    inbound = Inbound(AdjRibIn(table, add_path=False), admission, PrefixLimit.of(options))
    received = attributes(1)
    there: set[bytes] = set()
    for act, number in acts:
        nlri = bytes((24, 192, 168, number))
        if act == "+":
            inbound.announce([nlri], received, bytes((10, 0, 0, 1)))
            there.add(nlri)
        elif act == "-":
            inbound.withdraw([nlri])
            there.discard(nlri)
        elif act == "limit":
            limit = number + 1
            list(inbound.set_limit(MaximumPrefixes(limit=limit, action="drop")))
        else:
            admission.policy = policies[act]
            list(inbound.again())
        allowed = {n for n in there if admission.policy is policies["permit"] or not n[3] % 2}
        assert inbound.offered == len(allowed)
        assert inbound.accepted == len(table.selections) == min(limit, len(allowed))
        assert set(table.selections) <= allowed
        assert set(inbound.rib.routes) == there
