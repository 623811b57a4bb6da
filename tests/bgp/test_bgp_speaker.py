"""Whole speakers over links in memory: what neighbours are told, and that all agree once nothing moves."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bgp import prefixes as nlri
from harness.bgp import signals
from harness.bgp.adj_out import AdjRibOut
from harness.bgp.config import Network, parse_neighbor, parse_rules
from harness.bgp.export import Exporter, PathIds
from harness.bgp.neighborhood import NeighborError
from harness.bgp.peer import Peer
from harness.bgp.prefixes import Family
from harness.bgp.shows import Shows
from harness.bgp.speaker import NetworkError, Speaker
from tests.bgp.memory_world import World
from tests.bgp.routes import prefix

V4 = Family.IPV4_UNICAST


def address(one: str, other: str) -> str:
    """The address of ``one`` on its cable to ``other``: names are single letters."""
    return f"10.{ord(one)}.{ord(other)}.1"


def build(asns: dict[str, int], cables: list[str], **options: Any) -> tuple[World, dict[str, Speaker]]:
    """Speakers by letter with their ASNs, cables as pairs of letters; ``options`` by letter or by "ab" (a's neighbour b)."""
    world = World(cables)
    speakers = {}
    for name, asn in asns.items():
        peers = [c.replace(name, "") for c in cables if name in c]
        speakers[name] = world.speaker(
            name,
            [address(name, peer) for peer in peers],
            asn=asn,
            router_id=f"1.1.1.{ord(name)}",
            neighbors=[
                {"name": peer, "address": address(peer, name), "remote_asn": asns[peer]} | options.get(name + peer, {})
                for peer in peers
            ],
            **options.get(name, {}),
        )
    for speaker in speakers.values():
        speaker.start()
    world.run(10)
    return world, speakers


def rows(speaker: Speaker, **params: Any) -> dict[str, list[dict[str, Any]]]:
    return {row["prefix"]: row["paths"] for row in Shows(speaker, lambda: 0.0).routes(**params)}


NET = "192.168.0.0/24"


@pytest.mark.spec("BGP-6")
def test_a_network_travels_with_its_attributes_and_goes_again() -> None:
    world, s = build(
        {"a": 1, "b": 2, "c": 2, "d": 3}, ["ab", "bc", "cd"], a={"networks": [NET]}, bc={"next_hop_self": True}
    )
    (path,) = rows(s["b"])[NET]
    assert (path["as_path"], path["next_hop"], path["local_pref"]) == ("1", address("a", "b"), None)
    (path,) = rows(s["c"])[NET]
    assert (path["as_path"], path["next_hop"], path["local_pref"]) == ("1", address("b", "c"), 100)
    (path,) = rows(s["d"])[NET]
    assert (path["as_path"], path["next_hop"], path["local_pref"]) == ("2 1", address("c", "d"), None)
    s["a"].delete_network(NET)
    world.run(1)
    assert all(not rows(speaker) for speaker in s.values())


def test_an_ibgp_next_hop_that_nobody_knows_is_unusable_and_says_so() -> None:
    """c has no cable to a, whose address the route carries over iBGP where b does not say next-hop-self."""
    _, s = build({"a": 1, "b": 2, "c": 2, "d": 3}, ["ab", "bc", "cd"], a={"networks": [NET]})
    (path,) = rows(s["c"])[NET]
    assert path["next_hop"] == address("a", "b")
    assert (path["usable"], path["best"]) == (False, False)
    assert path["why_not"] == "next hop has no route (RFC 4271 9.1.2.1)"
    assert rows(s["d"]) == {}


def test_ibgp_routes_are_not_passed_on_over_ibgp() -> None:
    _, s = build(
        {"a": 1, "b": 2, "c": 2, "d": 2}, ["ab", "bc", "cd"], a={"networks": [NET]}, bc={"next_hop_self": True}
    )
    assert rows(s["c"])[NET][0]["best"]
    assert NET not in rows(s["d"])


@pytest.mark.spec("ECMP-41", "BGP-11")
def test_a_route_is_not_sent_back_and_a_loop_is_rejected_with_its_reason() -> None:
    _, s = build({"a": 1, "b": 2, "c": 1}, ["ab", "bc"], a={"networks": [NET]})
    assert NET not in rows(s["b"], table="out", peer="a")
    assert rows(s["a"], table="in") == {}
    (told,) = [event for event in s["c"].log.since() if event["type"] == "rejected"]
    assert (told["peer"], list(told["reasons"].values())) == ("b", [1])
    (received,) = rows(s["c"], table="in")[NET]
    assert received["rejected"] == "AS path loop: own AS 1 is in the AS path (RFC 4271 9.1.2)"
    assert rows(s["c"]) == {}


@pytest.mark.spec("ECMP-18")
def test_add_path_sends_every_usable_path_under_an_id_that_stays() -> None:
    add_path = {"add_path": "both"}
    world, s = build(
        {"a": 1, "b": 1, "c": 1, "h": 2, "f": 2},
        ["ah", "bh", "ch", "hf"],
        hf=add_path | {"next_hop_self": True},
        fh=add_path,
        f={"multipath_ibgp": 8},
        **{name: {"networks": [NET]} for name in "abc"},
    )
    paths = rows(s["f"])[NET]
    assert len(paths) == 3
    assert sum(path["best"] or path["multipath"] for path in paths) == 3
    ids = {path["path_id"] for path in paths}
    world.set_link("b", "h", False)
    s["h"].next_hops_changed(frozenset())
    world.run(1)
    assert {path["path_id"] for path in rows(s["f"])[NET]} < ids
    world.set_link("b", "h", True)
    world.run(30)
    assert {path["path_id"] for path in rows(s["f"])[NET]} == ids


def test_without_add_path_there_is_one() -> None:
    _, s = build({"a": 1, "b": 1, "h": 2, "f": 2}, ["ah", "bh", "hf"], a={"networks": [NET]}, b={"networks": [NET]})
    assert len(rows(s["h"])[NET]) == 2
    assert len(rows(s["f"])[NET]) == 1


def test_med_stays_within_two_ases_and_communities_do_what_they_say() -> None:
    terms = [
        {"action": "permit", "prefixes": ["10.1.0.0/16"], "med": 5},
        {"action": "permit", "prefixes": ["10.2.0.0/16"], "add_communities": ["no-export"]},
        {"action": "permit", "prefixes": ["10.3.0.0/16"], "add_communities": ["no-advertise"]},
    ]
    _, s = build(
        {"a": 1, "b": 2, "c": 3, "d": 2},
        ["ab", "bc", "bd"],
        a={"networks": ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]},
        ab={"export": terms},
    )
    assert rows(s["b"])["10.1.0.0/16"][0]["med"] == 5
    assert rows(s["d"])["10.1.0.0/16"][0]["med"] == 5
    assert rows(s["c"])["10.1.0.0/16"][0]["med"] is None
    assert set(rows(s["d"])) == {"10.1.0.0/16", "10.2.0.0/16"}
    assert set(rows(s["c"])) == {"10.1.0.0/16"}


@pytest.mark.spec("BGP-7", "BGP-18", "BGP-10")
def test_a_policy_counts_after_a_soft_clear() -> None:
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": [NET]})
    deny = parse_rules([{"action": "deny"}])
    for speaker, peer, direction, clear in ((s["a"], "b", "export", "out"), (s["b"], "a", "import", "in")):
        for rules, present in ((deny, False), ((), True)):
            before = rows(s["b"])
            speaker.set_policy(peer, direction, rules)
            world.run(5)
            assert rows(s["b"]) == before
            speaker.clear_soft(peer, clear)
            world.run(5)
            assert (NET in rows(s["b"])) is present
    s["b"].set_policy("a", "import", deny)
    s["b"].clear_soft("a", "in", stored=True)
    world.run(1)
    assert rows(s["b"]) == {}


@pytest.mark.spec("BGP-19")
def test_who_cannot_be_asked_for_routes_is_not_asked() -> None:
    world = World(["ab"])
    s = {
        name: world.speaker(
            name,
            [address(name, peer)],
            asn=asn,
            router_id=f"1.1.1.{asn}",
            networks=[f"10.0.{asn}.0/24"],
            neighbors=[{"name": peer, "address": address(peer, name), "remote_asn": 3 - asn}],
        )
        for name, peer, asn in (("a", "b", 1), ("b", "a", 2))
    }
    s["a"].start()
    deaf = s["b"]
    deaf.start()
    adjacency = deaf.adjacencies["a"]
    adjacency.peer = Peer(replace(adjacency.peer.config, route_refresh=False))
    adjacency.feed(signals.Start())
    world.run(10)
    assert adjacency.is_up
    with pytest.raises(NeighborError, match="did not announce the route refresh capability"):
        s["a"].clear_soft("b", "in")
    s["a"].set_policy("b", "import", parse_rules([{"action": "deny"}]))
    s["a"].clear_soft("b", "in", stored=True)
    world.run(1)
    assert set(rows(s["a"])) == {"10.0.1.0/24"}


def test_commands_that_make_no_sense_are_refused_by_name() -> None:
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": [NET]})
    with pytest.raises(NetworkError, match="is announced already"):
        s["a"].add_network(Network(prefix=NET))
    with pytest.raises(NetworkError, match=f"there are {NET}"):
        s["a"].delete_network("10.0.0.0/8")
    with pytest.raises(NeighborError, match="there are b"):
        s["a"].delete_neighbor("x")
    with pytest.raises(NeighborError, match="is there already"):
        s["a"].add_neighbor(parse_neighbor({"name": "b", "address": "10.9.9.9", "remote_asn": 9}))
    with pytest.raises(NeighborError, match="import and export"):
        s["a"].set_policy("b", "sideways", ())
    world.set_link("a", "b", False)
    world.run(1)
    with pytest.raises(NeighborError, match="needs a session"):
        s["a"].clear_soft("b", "out")


def test_a_network_may_wait_for_a_route() -> None:
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": [{"prefix": NET, "require_route": True}]})
    assert rows(s["b"]) == {}
    kernel: Any = s["a"].kernel
    for there in (True, False, True):
        (kernel.exact_routes.add if there else kernel.exact_routes.discard)(prefix(NET))
        s["a"].next_hops_changed(frozenset())
        world.run(1)
        assert (NET in rows(s["b"])) is there


LETTERS = "abcde"
STEP = st.one_of(
    st.tuples(st.just("network"), st.sampled_from(LETTERS), st.integers(0, 5)),
    st.tuples(st.just("link"), st.integers(0, 9)),
    st.tuples(
        st.just("export"),
        st.integers(0, 9),
        st.sampled_from([(), ({"action": "deny", "prefixes": ["10.0.0.0/8 ge 24"]},)]),
    ),
    st.tuples(st.just("import"), st.integers(0, 9), st.sampled_from([(), ({"action": "permit", "local_pref": 300},)])),
    st.tuples(st.just("reset"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.floats(0, 0.01)),
)


@pytest.mark.spec("BGP-6", "BGP-11")
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([1, 2, 3]), min_size=5, max_size=5),
    st.sets(st.sampled_from(["".join(pair) for pair in itertools.combinations(LETTERS, 2)]), min_size=4, max_size=8),
    st.lists(STEP, max_size=15),
    st.booleans(),
)
def test_adj_rib_out_and_in_agree_once_nothing_moves(
    asns: list[int], cables: set[str], steps: list[Any], add_path: bool
) -> None:
    """Every session: what the one told is what the other has, and it is what a fresh export of the table would tell."""
    wires = sorted(cables)
    options: Any = {wire: {"add_path": "both"} for pair in wires for wire in (pair, pair[::-1])} if add_path else {}
    world, s = build(dict(zip(LETTERS, asns, strict=True)), wires, **options)
    for step in steps:
        match step:
            case ("network", name, number):
                block = f"10.0.{number}.0/24"
                if prefix(block) in s[name].networks:
                    s[name].delete_network(block)
                else:
                    s[name].add_network(Network(prefix=block))
            case ("link", number):
                one, other = wires[number % len(wires)]
                world.set_link(one, other, not world.reaches(one, other))
                for name in (one, other):
                    s[name].next_hops_changed(frozenset(nlri_hops(s[name])))
            case (("export" | "import") as direction, number, rules):
                one, other = wires[number % len(wires)]
                s[one].set_policy(other, direction, parse_rules(list(rules)))
                if s[one].adjacencies[other].is_up:
                    s[one].clear_soft(other, "out" if direction == "export" else "in")
            case ("reset", number):
                one, other = wires[number % len(wires)]
                s[one].adjacencies[other].feed(signals.Reset())
            case ("wait", seconds):
                world.run(seconds)
    world.run(300)
    for wire in wires:
        for one, other in itertools.permutations(wire):
            check_session(world, s[one], s[other], one, other)


def nlri_hops(speaker: Speaker) -> set[bytes]:
    return {
        p.next_hop
        for t in speaker.tables.values()
        for sel in t.selections.values()
        for p in sel.candidates
        if p.next_hop
    }


def check_session(world: World, teller: Speaker, hearer: Speaker, one: str, other: str) -> None:
    telling, hearing = teller.adjacencies[other], hearer.adjacencies[one]
    assert telling.is_up == hearing.is_up == world.reaches(one, other)
    if not telling.is_up:
        return
    outbound: AdjRibOut = telling.outbound[V4]
    told = rows(teller, table="out", peer=other)
    heard = rows(hearer, table="in", peer=one)
    assert {k: sorted((p["path_id"], p["as_path"], p["next_hop"]) for p in v) for k, v in told.items()} == {
        k: sorted((p["path_id"], p["as_path"], p["next_hop"]) for p in v) for k, v in heard.items()
    }
    fresh = Exporter(outbound.exporter.target, outbound.exporter.policy, PathIds())
    selections = teller.tables[V4].selections
    expected = {nlri.text(key, V4): fresh.advert(key, selection) for key, selection in selections.items()}
    assert {k: {(row[1], row[2]) for row in v} for k, v in expected.items() if v} == {
        nlri.text(k, V4): {(row[1], row[2]) for row in v} for k, v in outbound.sent.items()
    }
