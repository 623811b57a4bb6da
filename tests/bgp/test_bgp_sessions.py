"""Options of a session, from the configuration to what two whole speakers do with them."""

from __future__ import annotations

import pytest

from harness.bgp.config import ConfigError, Network, parse_config
from harness.bgp.messages import MessageType
from harness.bgp.prefixes import Family
from harness.bgp.refresh import LONGEST
from harness.bgp.signals import Refresh
from harness.bgp.speaker import Speaker
from tests.bgp.test_bgp_graceful_restart import born, die
from tests.bgp.test_bgp_speaker import NET, build, rows


def test_a_two_octet_speaker_between_two_large_as_numbers_hides_neither() -> None:
    """RFC 6793: AS_TRANS in My AS and AS_PATH, the true numbers in AS4_PATH, which the middle one passes on."""
    narrow = {"four_octet_asn": False}
    _, s = build({"a": 70000, "b": 2, "c": 80000}, ["ab", "bc"], a={"networks": [NET]}, ba=narrow, bc=narrow)
    session = s["b"].adjacencies["a"].peer.session
    assert session is not None and not session.asn4
    assert (session.peer_asn, s["a"].adjacencies["b"].peer.session) != (70000, None)
    assert rows(s["c"])[NET][0]["as_path"] == "2 70000"


def test_a_large_as_cannot_speak_with_two_octets() -> None:
    with pytest.raises(ConfigError, match="without four_octet_asn the own AS 70000 cannot be told; set local_asn"):
        parse_config(
            {
                "asn": 70000,
                "neighbors": [{"name": "n", "address": "10.0.0.1", "remote_asn": 2, "four_octet_asn": False}],
            }
        )


@pytest.mark.spec("BGP-15")
def test_a_hold_time_of_zero_on_one_side_means_no_keepalives_on_both() -> None:
    world, s = build({"a": 1, "b": 2}, ["ab"], ab={"hold_time": 0})
    peers = [s["a"].adjacencies["b"].peer, s["b"].adjacencies["a"].peer]
    sent = [peer.statistics.sent.total() for peer in peers]
    world.run(3600)
    assert all(peer.session is not None for peer in peers)
    assert [peer.statistics.sent.total() for peer in peers] == sent


def test_delay_open_lets_the_neighbour_speak_first() -> None:
    """RFC 4271 8.1.1: DelayOpen on one side costs nothing, on both sides its time."""
    delay = {"delay_open": 20}
    _, s = build({"a": 1, "b": 2}, ["ab"], ab=delay)
    assert s["a"].adjacencies["b"].peer.session is not None
    events = [e["event"] for e in s["a"].log.since() if e["type"] == "fsm"]
    assert "BGP_OPEN_WITH_DELAY_OPEN_TIMER" in events
    world, s = build({"a": 1, "b": 2}, ["ab"], ab=delay, ba=delay)
    assert s["a"].adjacencies["b"].peer.session is None
    world.run(15)
    assert s["a"].adjacencies["b"].peer.session is not None


def test_a_session_that_fails_again_and_again_waits_longer_each_time() -> None:
    """RFC 4271 8.1.1, DampPeerOscillations: b is configured with the wrong AS for a, and says so in a NOTIFICATION each time."""

    def refusals(damp: bool) -> int:
        options = {"idle_hold_time": 5, "idle_hold_time_max": 60, "damp_peer_oscillations": damp}
        world, s = build({"a": 1, "b": 2}, ["ab"], ab=options, ba=options | {"remote_asn": 7, "passive": True})
        world.run(300)
        return len([e for e in s["a"].log.since() if e["type"] == "notification" and e["subcode"] == 2])

    assert 5 <= refusals(True) <= 12
    assert refusals(False) > 30


def test_passive_on_both_sides_never_meets_and_on_one_side_does() -> None:
    passive = {"passive": True}
    world, s = build({"a": 1, "b": 2}, ["ab"], ab=passive, ba=passive)
    world.run(600)
    assert s["a"].adjacencies["b"].peer.state.value == "Active"
    _, s = build({"a": 1, "b": 2}, ["ab"], ab=passive)
    assert s["a"].adjacencies["b"].peer.session is not None


@pytest.mark.spec("BGP-10", "BGP-19")
def test_enhanced_refresh_marks_its_answer_and_sweeps_what_was_not_sent_again() -> None:
    """RFC 7313: BoRR, the routes, EoRR. A route that the refresh does not bring is gone at its end, and no sooner."""
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": [NET, "192.168.1.0/24"]})
    session = s["b"].adjacencies["a"].peer.session
    assert session is not None and session.enhanced_refresh
    # b believes in a route that a has forgotten to withdraw.
    inbound = next(iter(s["b"].adjacencies["a"].inbound.values()))
    path = next(iter(inbound.rib.routes.values()))
    inbound.rib.announce([b"\x18\xc0\xa8\x09"], path)
    s["b"].clear_soft("a", "in")
    world.run(1)
    kinds = [(e["peer"], e["kind"]) for e in s["b"].log.since() if e["type"] == "refresh"]
    assert kinds == [("a", "begins"), ("a", "ends")]
    assert sorted(rows(s["b"])) == [NET, "192.168.1.0/24"]


def refreshed(b: Speaker) -> list[tuple[str, int | None]]:
    return [(e["kind"], e.get("count")) for e in b.log.since() if e["type"] == "refresh"]


def test_a_refresh_that_never_ends_is_given_up() -> None:
    """RFC 7313 4: an upper bound on how long stale routes are kept after a BoRR alone; a second BoRR begins it anew."""
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": [NET, "192.168.1.0/24"]})
    s["a"].adjacencies["b"].feed(Refresh(Family.IPV4_UNICAST, 1))
    world.run(LONGEST - 1)
    s["a"].adjacencies["b"].feed(Refresh(Family.IPV4_UNICAST, 1))
    world.run(LONGEST - 1)
    assert len(rows(s["b"])) == 2
    world.run(2)
    assert (refreshed(s["b"]), rows(s["b"])) == ([("begins", None), ("begins", None), ("given up", 2)], {})
    s["b"].clear_soft("a", "in")
    world.run(1)
    assert len(rows(s["b"])) == 2


def test_an_end_of_refresh_without_a_begin_means_nothing() -> None:
    """RFC 7313 4: EoRR takes away what BoRR marked. Here the mark is graceful restart's, and waits for End-of-RIB."""
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": [NET]})
    s["b"].adjacencies["a"].inbound[Family.IPV4_UNICAST].rib.begin_refresh()
    s["a"].adjacencies["b"].feed(Refresh(Family.IPV4_UNICAST, 2))
    world.run(1)
    assert sorted(rows(s["b"])) == [NET]


def test_before_end_of_rib_no_refresh_is_begun_and_none_believed() -> None:
    """RFC 7313 4, with graceful restart: the sender's BoRR waits for its End-of-RIB, the receiver ignores one that does not."""
    options = {"graceful_restart": {"restart_time": 120}}
    world, s = build(
        {"a": 1, "b": 2, "c": 3},
        ["ab", "ac"],
        a={"networks": [NET]},
        **dict.fromkeys(("ab", "ba", "ac", "ca"), options),
    )
    die(world, "c")
    die(world, "a")
    world.run(1)
    a = born(world, "a", s["a"], selection_deferral_time=60)  # waits for c, which does not come back
    world.run(20)
    session = a.adjacencies["b"].peer.session
    assert session is not None and session.enhanced_refresh
    since = len(s["b"].log.since())
    a.adjacencies["b"].feed(Refresh(Family.IPV4_UNICAST, 1))
    a.adjacencies["b"].feed(Refresh(Family.IPV4_UNICAST, 2))
    s["b"].clear_soft("a", "in")
    world.run(5)
    assert sorted(rows(s["b"])) == [NET], "kept until End-of-RIB"
    told = [e["text"] for e in s["b"].log.since()[since:] if e["type"] == "peer.log"]
    assert told == ["begin of a refresh of ipv4 unicast before End-of-RIB: ignored (RFC 7313 4)"]
    world.run(60)
    kinds = [
        e.get("kind", "eor") for e in s["b"].log.since()[since:] if e["type"] in ("refresh", "eor") and e["peer"] == "a"
    ]
    assert kinds == ["begins", "ends", "eor", "begins", "ends"]
    assert sorted(rows(s["b"])) == [NET]


@pytest.mark.spec("BGP-6")
def test_news_of_a_route_waits_for_the_advertisement_interval() -> None:
    """RFC 4271 9.2.1.1: at most one UPDATE about a route in the interval, and the last word counts; another neighbour waits for nothing."""
    rest = {"advertisement_interval": 30}
    world, s = build({"a": 1, "b": 2, "c": 3}, ["ab", "ac"], ab=rest)
    world.run(60)

    def sent(name: str) -> int:
        return s["a"].adjacencies[name].peer.statistics.sent[MessageType.UPDATE]

    before, unhurried = sent("b"), sent("c")
    for number in range(5):
        s["a"].add_network(Network(prefix=NET))
        world.run(0.5)
        assert sorted(rows(s["b"])) == [NET], number  # told at once; the first withdrawal waits
        s["a"].delete_network(NET)
        world.run(0.5)
    assert (sent("b") - before, sent("c") - unhurried) == (1, 10)
    world.run(30)
    assert (sent("b") - before, rows(s["b"])) == (2, {})
    s["a"].add_network(Network(prefix=NET))
    world.run(1)
    assert rows(s["b"]) == {}, "within the interval of the withdrawal"
    s["a"].change_neighbor(s["a"].adjacencies["b"].config.model_copy(update={"advertisement_interval": 0.0}))
    world.run(1)
    assert sorted(rows(s["b"])) == [NET]
