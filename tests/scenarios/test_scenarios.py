"""What two to four speakers do to each other, as scenarios that run over links in memory and over namespaces alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.net.zygote import Zygote
from tests.bgp.rig import opened
from tests.scenarios.memory import MemoryStage
from tests.scenarios.namespaces import NamespaceStage
from tests.scenarios.stage import Stage

NET, OTHER, THIRD = "192.168.0.0/24", "192.168.1.0/24", "192.168.2.0/24"
FAST: dict[str, Any] = {"idle_hold_time": 0.2}
"""Fields of a neighbour whose session ends with an error in the scenario and shall be back soon."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """One process that has imported the speaker forks it for all scenarios."""
    started = Zygote.start(["harness.bgp.daemon"])
    yield started
    started.stop()


@pytest.fixture(params=["memory", pytest.param("namespaces", marks=pytest.mark.root)])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    if request.param == "memory":
        yield MemoryStage()
        return
    async with opened(tmp_path, request.getfixturevalue("zygote")) as rig:
        yield NamespaceStage(rig)


async def pair(stage: Stage, of_a: dict[str, Any] | None = None, of_b: dict[str, Any] | None = None, **a: Any) -> None:
    """AS 65001 and AS 65002 in session, the first announcing NET; ``a``: more fields of its configuration."""
    stage.speaker("a", 65001, networks=[NET], **a)
    stage.speaker("b", 65002)
    stage.cable("a", "b", of_a, of_b)
    await stage.start()
    await stage.up("a", "b")


# ---------------------------------------------------------------------------------------------------------------- the OPEN


async def refused(stage: Stage, subcode: int, said: str) -> None:
    """Each side sends or receives the error, neither comes further than OpenConfirm, and both say why."""
    await stage.start()
    for name, other in (("a", "b"), ("b", "a")):
        told = await stage.event(name, "notification", peer=other, code=2, subcode=subcode)
        assert said in told["name"]
        assert not [e for e in stage.actors[name].seen if e["type"] == "peer.up"]


@pytest.mark.spec("BGP-14", "VBR-18")
async def test_the_wrong_as_is_refused(stage: Stage) -> None:
    stage.speaker("a", 65001)
    stage.speaker("b", 65002)
    stage.cable("a", "b", of_one={"remote_asn": 65099})
    await refused(stage, 2, "Bad Peer AS")


@pytest.mark.spec("BGP-16")
async def test_two_of_one_as_with_one_identifier_do_not_talk(stage: Stage) -> None:
    stage.speaker("a", 65001, router_id="192.0.2.9")
    stage.speaker("b", 65001, router_id="192.0.2.9")
    stage.cable("a", "b")
    await refused(stage, 3, "Bad BGP Identifier")


@pytest.mark.spec("BGP-8")
async def test_without_a_family_in_common_there_is_no_session(stage: Stage) -> None:
    stage.speaker("a", 65001)
    stage.speaker("b", 65002)
    stage.cable("a", "b", {"families": ["ipv4"]}, {"families": ["ipv6"]})
    await refused(stage, 7, "Unsupported Capability")


@pytest.mark.spec("BGP-15", "BGP-19")
async def test_the_session_has_what_both_can(stage: Stage) -> None:
    await pair(stage, {"add_path": "send", "hold_time": 30}, {"add_path": "both", "families": ["ipv4", "ipv6"]})
    for name, other, sends in (("a", "b", True), ("b", "a", False)):
        session = (await stage.state(name, other))["session"]
        assert (session["hold_time"], session["keepalive"], session["families"]) == (30, 10.0, ["ipv4 unicast"])
        assert bool(session["add_path_send"]) is sends
        assert bool(session["add_path_receive"]) is not sends


# ------------------------------------------------------------------------------------------------------------------ sessions


@pytest.mark.spec("BGP-1")
async def test_two_that_start_together_keep_one_connection(stage: Stage) -> None:
    await pair(stage)
    for name, other in (("a", "b"), ("b", "a")):
        row = await stage.state(name, other)
        assert (row["state"], row["established_count"]) == ("Established", 1)
    await stage.routes("b", NET)


@pytest.mark.spec("BGP-1")
async def test_who_waits_is_dialled(stage: Stage) -> None:
    await pair(stage, {"passive": True})
    assert not [e for e in stage.actors["a"].seen if e["type"] == "fsm" and e["event"] == "TCP_CR_ACKED"]


@pytest.mark.spec("BGP-15", "VBR-20")
async def test_a_silent_neighbour_is_given_up_after_the_hold_time(stage: Stage) -> None:
    await pair(stage, {"hold_time": 3} | FAST, FAST)
    await stage.routes("b", NET)
    marks = stage.mark("a"), stage.mark("b")
    await stage.freeze("a")
    down = await stage.event("b", "peer.down", peer="a", since=marks[1])
    assert (down["event"], down["sent"]["code"]) == ("HOLD_TIMER_EXPIRES", 4)
    await stage.routes("b")
    await stage.thaw("a")
    await stage.up("a", "b", marks)
    await stage.routes("b", NET)


@pytest.mark.spec("BGP-8")
async def test_a_shutdown_tells_why_and_lasts_until_the_start(stage: Stage) -> None:
    await pair(stage, FAST, FAST)
    marks = stage.mark("a"), stage.mark("b")
    await stage.call("a", "neighbor.shutdown", name="b", text="new cable")
    told = await stage.event("b", "notification", direction="received", since=marks[1])
    assert (told["code"], told["subcode"], told["text"]) == (6, 2, "new cable")
    await stage.routes("b")
    assert (await stage.state("a", "b"))["state"] == "Idle"
    await stage.call("a", "neighbor.start", name="b")
    await stage.up("a", "b", marks)
    await stage.routes("b", NET)


@pytest.mark.spec("BGP-8")
async def test_a_reset_comes_back_by_itself(stage: Stage) -> None:
    await pair(stage, FAST, FAST)
    marks = stage.mark("a"), stage.mark("b")
    await stage.call("b", "neighbor.reset", name="a")
    down = await stage.event("a", "peer.down", since=marks[0])
    assert (down["received"]["code"], down["received"]["subcode"]) == (6, 4)
    await stage.up("a", "b", marks)


@pytest.mark.spec("BGP-8")
async def test_a_neighbour_that_is_deleted_is_told_so(stage: Stage) -> None:
    await pair(stage)
    await stage.call("a", "neighbor.delete", name="b")
    down = await stage.event("b", "peer.down")
    assert (down["received"]["code"], down["received"]["subcode"]) == (6, 3)
    await stage.call("a", "neighbor.add", **stage.actors["a"].neighbors["b"])
    await stage.up("a", "b", (stage.mark("a"), stage.mark("b")))


@pytest.mark.spec("BGP-6")
async def test_a_speaker_that_dies_is_missed_at_once_and_welcome_again(stage: Stage) -> None:
    await pair(stage, FAST, FAST)
    await stage.routes("b", NET)
    since = stage.mark("b")
    await stage.kill("a")
    down = await stage.event("b", "peer.down", since=since)
    assert down["event"] == "TCP_CONNECTION_FAILS"
    await stage.routes("b")
    await stage.start("a")
    await stage.event("b", "peer.up", since=since)
    await stage.routes("b", NET)


@pytest.mark.spec("ECMP-24")
async def test_a_session_falls_with_its_cable_where_that_is_asked_for(stage: Stage) -> None:
    await pair(stage, {"fall_over": True} | FAST, {"fall_over": True} | FAST)
    await stage.routes("b", NET)
    marks = stage.mark("a"), stage.mark("b")
    await stage.cut("a", "b")
    for name, since in zip("ab", marks, strict=True):
        down = await stage.event(name, "peer.down", since=since)
        assert "no route to" in down["reason"]
    await stage.routes("b")
    await stage.mend("a", "b")
    await stage.up("a", "b", marks)
    await stage.routes("b", NET)


@pytest.mark.spec("BGP-8")
async def test_too_many_prefixes_end_the_session(stage: Stage) -> None:
    limit = {"maximum_prefixes": {"limit": 1, "action": "teardown", "restart": None}}
    await pair(stage, None, limit)
    await stage.routes("b", NET)
    await stage.call("a", "network.add", prefix=OTHER)
    down = await stage.event("a", "peer.down", peer="b")
    assert (down["received"]["code"], down["received"]["subcode"]) == (6, 1)
    await stage.routes("b")


# -------------------------------------------------------------------------------------------------------------------- routes


@pytest.mark.spec("BGP-6")
async def test_networks_come_and_go(stage: Stage) -> None:
    await pair(stage)
    await stage.routes("b", NET)
    await stage.call("a", "network.add", prefix=OTHER)
    await stage.routes("b", NET, OTHER)
    await stage.call("a", "network.delete", prefix=NET)
    await stage.routes("b", OTHER)


@pytest.mark.spec("BGP-6", "BGP-11")
async def test_attributes_over_ebgp_and_ibgp(stage: Stage) -> None:
    """a (AS 1) - b (AS 2) = c (AS 2) - d (AS 3): prepending, MED, communities, LOCAL_PREF, next hops."""
    terms = [{"action": "permit", "med": 7, "prepend": 1, "add_communities": ["1:5", "1:2:3"]}]
    stage.speaker("a", 1, networks=[NET])
    stage.speaker("b", 2)
    stage.speaker("c", 2)
    stage.speaker("d", 3)
    stage.cable("a", "b", {"export": terms}, {"import": [{"action": "permit", "local_pref": 300}]})
    stage.cable("b", "c", {"next_hop_self": True})
    stage.cable("c", "d")
    await stage.start()
    (path,) = (await stage.routes("b", NET))[NET]
    assert (path["as_path"], path["med"], path["local_pref"]) == ("1 1", 7, 300)
    (path,) = (await stage.routes("c", NET))[NET]
    assert (path["as_path"], path["med"], path["local_pref"]) == ("1 1", 7, 300)
    assert path["next_hop"] == stage.address("b", "c")
    (path,) = (await stage.routes("d", NET))[NET]
    assert (path["as_path"], path["med"], path["local_pref"]) == ("2 1 1", None, None)
    assert path["next_hop"] == stage.address("c", "d")
    assert (path["communities"], path["large_communities"]) == (["1:5"], ["1:2:3"])


@pytest.mark.spec("BGP-11")
async def test_a_loop_is_seen_and_said(stage: Stage) -> None:
    stage.speaker("a", 1, networks=[NET])
    stage.speaker("b", 2)
    stage.speaker("c", 1, networks=[OTHER])
    stage.cable("a", "b")
    stage.cable("b", "c")
    await stage.start()
    await stage.routes("b", NET, OTHER)
    told = await stage.event("c", "rejected", peer="b")
    assert list(told["reasons"].values()) == [1]
    await stage.routes("c", OTHER)


@pytest.mark.spec("BGP-11")
async def test_ibgp_routes_are_not_passed_on_but_by_a_reflector(stage: Stage) -> None:
    for name in "abc":
        stage.speaker(name, 1, networks=[NET] if name == "a" else [])
    stage.speaker("r", 1)
    own = {"next_hop_self": True}
    stage.cable("a", "b", own, own)
    stage.cable("b", "c", own, own)
    stage.cable("b", "r", own | {"route_reflector_client": True}, own)
    await stage.start()
    await stage.routes("b", NET)
    # A reflector leaves the next hop as it is (RFC 4456 10); r has no way to a's address, and the route all the same.
    await stage.routes("r", NET, best=False)
    await stage.up("b", "c")
    await stage.event("c", "eor", peer="b")
    await stage.routes("c")


@pytest.mark.spec("BGP-7", "BGP-10", "BGP-18")
async def test_a_policy_counts_after_a_soft_clear(stage: Stage) -> None:
    await pair(stage)
    await stage.routes("b", NET)
    deny = [{"action": "deny"}]
    since = stage.mark("a")
    await stage.call("b", "policy.set", name="a", direction="import", rules=deny)
    await stage.routes("b", NET)
    await stage.call("b", "clear.soft", name="a", direction="in")
    await stage.routes("b")
    # The neighbour was asked: RFC 2918.
    await stage.event("a", "refresh", peer="b", since=since)
    await stage.call("b", "policy.set", name="a", direction="import", rules=[])
    await stage.call("b", "clear.soft", name="a", direction="in", stored=True)
    await stage.routes("b", NET)
    await stage.call("a", "policy.set", name="b", direction="export", rules=deny)
    await stage.call("a", "clear.soft", name="b", direction="out")
    await stage.routes("b")
    assert (await stage.state("b", "a"))["established_count"] == 1


@pytest.mark.spec("ECMP-18")
async def test_add_path_carries_what_the_best_path_hides(stage: Stage) -> None:
    for name in "ab":
        stage.speaker(name, 1, networks=[NET])
    stage.speaker("h", 2)
    stage.speaker("f", 2, multipath_ibgp=8)
    stage.cable("a", "h")
    stage.cable("b", "h")
    stage.cable("h", "f", {"add_path": "send", "next_hop_self": True}, {"add_path": "receive"})
    await stage.start()
    await stage.up("a", "h")
    await stage.up("b", "h")

    async def both() -> list[dict[str, Any]] | None:
        rows = {row["prefix"]: row["paths"] for row in await stage.call("f", "show.routes")}
        return rows[NET] if len(rows.get(NET, ())) == 2 else None

    paths = await stage.until("f", both, "two paths")
    assert len({path["path_id"] for path in paths}) == 2
    await stage.call("a", "network.delete", prefix=NET)
    (path,) = await stage.until("f", lambda: _paths(stage, "f", 1), "one path")
    assert path["best"]


async def _paths(stage: Stage, name: str, count: int) -> list[dict[str, Any]] | None:
    rows = {row["prefix"]: row["paths"] for row in await stage.call(name, "show.routes")}
    return rows[NET] if len(rows.get(NET, ())) == count else None


@pytest.mark.spec("BGP-11")
async def test_the_better_way_is_taken_and_the_other_when_it_goes(stage: Stage) -> None:
    """a reaches d's network by b (one AS more) or straight; the straight cable is cut and comes back."""
    stage.speaker("a", 1)
    stage.speaker("b", 2)
    stage.speaker("d", 4, networks=[NET])
    fall = {"fall_over": True} | FAST
    stage.cable("a", "b", fall, fall)
    stage.cable("b", "d", fall, fall)
    stage.cable("a", "d", fall, fall)
    await stage.start()

    async def goes(way: str) -> bool | None:
        rows = {row["prefix"]: row["paths"] for row in await stage.call("a", "show.routes")}
        return any(path["best"] and path["as_path"] == way for path in rows.get(NET, ())) or None

    await stage.until("a", lambda: goes("4"), "the way by d")
    await stage.cut("a", "d")
    await stage.until("a", lambda: goes("2 4"), "the way by b")
    await stage.mend("a", "d")
    await stage.until("a", lambda: goes("4"), "the way by d")
