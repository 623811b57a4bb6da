"""Graceful shutdown (RFC 8326) and the default of no policy (RFC 8212)."""

from __future__ import annotations

from harness.bgp import render
from harness.bgp.shows import Shows
from tests.bgp.test_bgp_speaker import NET, build, rows

MARK = "graceful-shutdown"


def test_both_ends_leave_a_drained_session_while_it_carries_on() -> None:
    """s reaches NET over a and b; b's session to s is drained: s keeps the path, as the last choice."""
    world, s = build(
        {"a": 2, "b": 2, "s": 1}, ["as", "bs"], a={"networks": [NET]}, b={"networks": [NET]}, s={"multipath": 4}
    )
    assert sum(p["multipath"] for p in rows(s["s"])[NET]) == 2
    s["b"].drain_neighbor("s")
    world.run(1)
    paths = {p["peer"]: p for p in rows(s["s"])[NET]}
    assert (paths["b"]["local_pref"], paths["b"]["communities"]) == (0, [MARK])
    assert paths["a"]["best"] and not paths["b"]["multipath"] and paths["b"]["usable"]
    assert "[graceful-shutdown]" in render.routes(Shows(s["s"], lambda: 0.0).routes())
    assert Shows(s["b"], lambda: 0.0).neighbors("s")[0]["draining"]
    s["b"].drain_neighbor("s", False)
    world.run(1)
    assert sum(p["multipath"] for p in rows(s["s"])[NET]) == 2
    assert [e["draining"] for e in s["b"].log.since() if e["type"] == "drain"] == [True, False]


def test_what_comes_over_a_drained_session_is_the_last_choice_inside_the_as() -> None:
    """x announces to a and b of one AS, which tell c: a drains its session to x, and c goes by b."""
    world, s = build(
        {"x": 9, "a": 1, "b": 1, "c": 1},
        ["xa", "xb", "ac", "bc"],
        x={"networks": [NET]},
        ac={"next_hop_self": True},
        bc={"next_hop_self": True},
    )
    assert next(p["peer"] for p in rows(s["c"])[NET] if p["best"]) == "a"
    s["a"].drain_neighbor("x")
    world.run(1)
    assert next(p["peer"] for p in rows(s["c"])[NET] if p["best"]) == "b"
    drained = next(p for p in rows(s["c"])[NET] if p["peer"] == "a")
    assert (drained["local_pref"], drained["communities"]) == (0, [MARK])


def test_a_speaker_may_be_told_not_to_honour_it() -> None:
    world, s = build({"a": 2, "s": 1}, ["as"], a={"networks": [NET]}, s={"honor_graceful_shutdown": False})
    s["a"].drain_neighbor("s")
    world.run(1)
    assert rows(s["s"])[NET][0]["local_pref"] is None


def test_a_drained_session_that_comes_back_is_still_drained() -> None:
    world, s = build({"a": 2, "s": 1}, ["as"], a={"networks": [NET]})
    s["a"].drain_neighbor("s")
    s["a"].reset_neighbor("s")
    world.run(10)
    assert rows(s["s"])[NET][0]["communities"] == [MARK]


def test_ebgp_without_a_policy_takes_and_says_nothing_where_that_is_required() -> None:
    """RFC 8212; iBGP is not concerned."""
    permit = {"export": [{"action": "permit"}], "import": [{"action": "permit"}]}
    _, s = build(
        {"a": 1, "b": 2, "c": 2, "d": 3},
        ["ab", "bc", "bd"],
        a={"networks": [NET]},
        b={"ebgp_requires_policy": True, "networks": ["192.168.7.0/24"]},
        bd=permit,
    )
    assert rows(s["b"], table="in")[NET][0]["rejected"] == (
        "import policy, none is configured: implicit deny (RFC 8212)"
    )
    assert rows(s["a"], table="in") == {}
    assert "192.168.7.0/24" in rows(s["c"])
    assert "192.168.7.0/24" in rows(s["d"])
