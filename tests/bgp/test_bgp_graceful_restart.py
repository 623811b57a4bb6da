"""Graceful restart (RFC 4724, RFC 8538): routes kept over a lost session, over a restart, and the ways they go all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.bgp.capabilities import GracefulRestart, RestartFamily
from harness.bgp.config import parse_neighbor
from harness.bgp.deferral import Deferral
from harness.bgp.errors import Cease
from harness.bgp.messages import KEEPALIVE_WIRE, Notification, encode
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.shows import Shows
from harness.bgp.signals import Close, Connected, Down, Received
from harness.bgp.speaker import Speaker
from harness.net.fib import Written
from harness.net.fib_model import Installed
from tests.bgp.memory_link import RawHost
from tests.bgp.memory_world import World
from tests.bgp.routes import prefix
from tests.bgp.speakers import HIGH, LOW, config, raw
from tests.bgp.test_bgp_maximum_prefixes import BLOCKS
from tests.bgp.test_bgp_speaker import address, build, rows

V4 = Family.IPV4_UNICAST
FULL = {"graceful_restart": {"restart_time": 120}}
PLAIN_4724 = {"graceful_restart": {"notification": False}}


def pair(a: dict[str, Any] = FULL, b: dict[str, Any] = FULL) -> tuple[World, Speaker, Speaker]:
    """a announces BLOCKS to b; the dictionaries are options of their neighbours."""
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": BLOCKS}, ab=a, ba=b)
    assert len(rows(s["b"])) == len(BLOCKS)
    return world, s["a"], s["b"]


def restarts(speaker: Speaker) -> list[tuple[str, int | None]]:
    return [(e["phase"], e.get("count")) for e in speaker.log.since() if e["type"] == "graceful-restart"]


def die(world: World, name: str) -> None:
    """A speaker is killed: its connections end without a word, and nothing of it is left."""
    shell = world.shells[name]
    dead = shell.speaker
    assert dead is not None
    for adjacency in dead.adjacencies.values():
        adjacency.config = adjacency.config.model_copy(update={"shutdown": True})
        for conn in adjacency.peer.standing():
            shell.close(adjacency.name, conn)
    dead.adjacencies.clear()


def born(world: World, name: str, dead: Speaker, *, restarted: bool = True, **changes: Any) -> Speaker:
    """The same speaker again, as a new process."""
    shell = world.shells[name]
    config = dead.config.model_copy(update=changes)
    shell.speaker = Speaker(config, dead.router_id, shell, dead.kernel, dead.log, restarted=restarted)
    shell.speaker.start()
    return shell.speaker


def test_a_killed_speaker_comes_back_and_no_route_was_lost_meanwhile() -> None:
    world, a, b = pair()
    changes = len([e for e in b.log.since() if e["type"] == "rib"])
    die(world, "a")
    world.run(5)
    assert len(rows(b)) == len(BLOCKS)
    assert all(path["stale"] for paths in rows(b, table="in").values() for path in paths)
    row = Shows(b, lambda: world.time).neighbors("a")[0]["graceful_restart"]
    assert row["stale"] == {"ipv4 unicast": 5} and 100 < row["stale_for"] <= 120
    a = born(world, "a", a, networks=a.config.networks[1:])
    world.run(10)
    session = b.adjacencies["a"].peer.session
    assert session is not None and session.graceful_restart is not None
    assert session.graceful_restart.restarted and session.graceful_restart.preserved == {V4}
    assert restarts(b) == [("stale", 5), ("removed", 1)]
    assert sorted(rows(b)) == BLOCKS[1:], "what was not announced again went with End-of-RIB"
    told = [row["prefix"] for e in b.log.since() if e["type"] == "rib" for row in e["changed"]][changes:]
    assert set(told) <= set(BLOCKS)
    assert not any(p.get("stale") for paths in rows(b, table="in").values() for p in paths)


def test_a_speaker_that_does_not_come_back_loses_its_routes_after_its_restart_time() -> None:
    world, _, b = pair()
    die(world, "a")
    world.run(119)
    assert len(rows(b)) == 5
    world.run(2)
    assert rows(b) == {}
    assert restarts(b) == [("stale", 5), ("removed", 5)]


def test_without_the_option_routes_go_with_the_session() -> None:
    world, _, b = pair(b={})
    die(world, "a")
    world.run(1)
    assert rows(b) == {}


def test_a_helper_keeps_the_others_routes_and_asks_for_nothing() -> None:
    world, a, b = pair(b={"graceful_restart": {"mode": "helper"}})
    session = a.adjacencies["b"].peer.session
    assert session is not None and session.graceful_restart is not None
    assert session.graceful_restart.families == ()
    die(world, "a")
    world.run(1)
    assert len(rows(b)) == 5


def test_a_speaker_that_lost_its_kernel_routes_says_so_and_its_old_routes_go_at_once() -> None:
    world, a, b = pair()
    die(world, "a")
    world.run(5)
    born(world, "a", a, restarted=False, networks=())
    world.run(10)
    reasons = [e["reason"] for e in b.log.since() if e["type"] == "graceful-restart"]
    assert reasons[1:] == ["the neighbour did not preserve its forwarding state (F bit)"]
    assert rows(b) == {}


def test_a_second_loss_before_end_of_rib_removes_what_was_stale() -> None:
    world, a, b = pair()
    die(world, "a")
    world.run(5)
    assert b.adjacencies["a"].helper.stale == {V4}
    # Up again, and lost again before anything but OPEN and KEEPALIVE was said: the restarting side waits for us.
    waiting = born(world, "a", a)
    while b.adjacencies["a"].peer.session is None:
        world.run(0.001)
    die(world, "a")
    world.run(1)
    assert restarts(b)[:2] == [("stale", 5), ("removed", 5)]
    assert rows(b) == {}
    assert waiting.adjacencies == {}


@pytest.mark.parametrize(
    ("options", "subcode", "kept"),
    [(FULL, None, True), (PLAIN_4724, None, False), (FULL, Cease.ADMINISTRATIVE_RESET, False)],
    ids=["N bit", "no N bit", "hard reset"],
)
def test_what_a_notification_does(options: dict[str, Any], subcode: Cease | None, kept: bool) -> None:
    """An error keeps the routes where both set the N bit; what an operator does goes as a hard reset and keeps none."""
    world, a, b = pair(a=options, b=options)
    if subcode is None:
        # A connection that sends garbage: 1/1 in the answer.
        conn = a.adjacencies["b"].peer.standing()[0]
        world.shells["a"].write("b", conn, b"\0" * 19)
    else:
        a.reset_neighbor("b")
    world.run(0.05)
    assert b.adjacencies["a"].peer.session is None
    assert (len(rows(b)) == 5) is kept
    (said,) = [e for e in b.log.since() if e["type"] == "notification"]
    if subcode is not None:
        assert (said["code"], said["subcode"], said["data"]) == (6, 9, "0604")
        assert said["meant"] == {"code": 6, "subcode": 4, "name": "Cease / Administrative Reset"}
    world.run(20)
    assert len(rows(b)) == 5


def test_an_expired_hold_timer_keeps_the_routes_with_the_n_bit() -> None:
    world, a, b = pair(a=FULL | {"hold_time": 3}, b=FULL | {"hold_time": 3})
    shell = world.shells["a"]
    shell.write = lambda *_: None  # type: ignore[method-assign]
    world.run(3.5)
    assert [e["code"] for e in b.log.since() if e["type"] == "notification"] == [4]
    assert restarts(b) == [("stale", 5)]
    assert len(rows(b)) == 5
    assert a.router_id


def test_an_operator_who_shuts_the_neighbour_down_removes_what_was_stale() -> None:
    world, _, b = pair()
    die(world, "a")
    world.run(1)
    b.shut_neighbor("a")
    world.run(1)
    assert rows(b) == {}


@pytest.mark.parametrize("family", [True, False], ids=["kept", "not kept"])
def test_a_new_connection_on_an_established_session_means_that_the_neighbour_restarted(family: bool) -> None:
    """RFC 4724 5, where the old connection still stands because the neighbour lost its power."""
    offer = GracefulRestart(False, True, 60, (RestartFamily(1, 1, True),) if family else ())
    host = raw("Established", graceful_restart=offer)
    host.now += 1.0
    number = host.peer.connection_id()
    host.feed(Connected(number, False, "192.0.2.1", "192.0.2.2"))
    host.outputs.clear()
    # 65002's identifier is the higher: without a restart the connection that it opens would win, at the old one's cost.
    host.feed(Received(number, encode(config(HIGH, graceful_restart=offer).open()) + KEEPALIVE_WIRE))
    (down,) = [o for o in host.outputs if isinstance(o, Down)]
    assert (down.sent is None) is family
    assert host.peer.session is not None


@pytest.mark.parametrize("restarted", [True, False], ids=["with its Restart State bit", "without"])
def test_connections_that_cross_are_a_collision_also_once_one_is_established(restarted: bool) -> None:
    """The neighbour's dial may come in just after our own became the session: each end closed the connection that the other kept."""
    offer = GracefulRestart(False, True, 60, (RestartFamily(1, 1, True),))
    host = RawHost(config(HIGH, graceful_restart=offer))
    host.connect()
    host.say(encode(config(LOW, graceful_restart=offer).open()) + KEEPALIVE_WIRE)
    number = host.peer.connection_id()
    host.feed(Connected(number, False, "192.0.2.1", "192.0.2.2"))
    host.outputs.clear()
    told = config(LOW, graceful_restart=replace(offer, restarted=restarted)).open()
    host.feed(Received(number, encode(told) + KEEPALIVE_WIRE))
    downs = [o for o in host.outputs if isinstance(o, Down)]
    assert bool(downs) is restarted
    closed = [o.conn for o in host.outputs if isinstance(o, Close)]
    assert (number in closed) is not restarted
    assert host.peer.session is not None


class TestDeferral:
    """Who is waited for (RFC 4724 4.1)."""

    def deferral(self) -> tuple[Deferral, list[str]]:
        released: list[str] = []
        deferral = Deferral(lambda family, reason: released.append(f"{family}: {reason}"), restarted=True)
        deferral.begin([("a", frozenset({V4})), ("b", frozenset({V4, Family.IPV6_UNICAST}))])
        return deferral, released

    def test_until_the_last_end_of_rib(self) -> None:
        deferral, released = self.deferral()
        session = Session(families=frozenset(Family), graceful_restart=GracefulRestart(False, True, 60))
        for name in "ab":
            deferral.came_up(name, session)
        deferral.end_of_rib("a", V4)
        deferral.end_of_rib("b", V4)
        assert [line.split(":")[0] for line in released] == ["ipv4 unicast"]
        assert deferral.restarting
        deferral.end_of_rib("b", Family.IPV6_UNICAST)
        assert not deferral.restarting

    @pytest.mark.parametrize(
        "session",
        [
            Session(families=frozenset(Family)),
            Session(families=frozenset(Family), graceful_restart=GracefulRestart(True, True, 60)),
            Session(families=frozenset(), graceful_restart=GracefulRestart(False, True, 60)),
        ],
        ids=["no graceful restart", "restarts itself", "not these families"],
    )
    def test_not_for_one_that(self, session: Session) -> None:
        deferral, _ = self.deferral()
        deferral.came_up("a", session)
        deferral.came_up("b", session)
        assert not deferral.restarting

    def test_no_longer_than_the_timer(self) -> None:
        deferral, released = self.deferral()
        deferral.expire()
        assert "no End-of-RIB from a, b" in released[0]


def test_a_restarted_speaker_announces_nothing_before_it_has_heard_its_neighbours() -> None:
    """It waits for End-of-RIB of b, which is up, and at most the deferral time for c, which is not."""
    options = dict.fromkeys(("ab", "ba", "ac", "ca"), FULL)
    world, s = build({"a": 1, "b": 2, "c": 3}, ["ab", "ac"], c={"networks": BLOCKS}, **options)
    die(world, "a")
    die(world, "c")
    world.run(5)
    a = born(world, "a", s["a"], selection_deferral_time=30)
    world.run(10)
    assert a.adjacencies["b"].peer.session is not None
    assert len(rows(s["b"])) == 5, "stale at b: a has not said anything yet"
    world.run(30)
    assert "no End-of-RIB from c" in [e["reason"] for e in a.log.since() if e.get("phase") == "selected"][-1]
    assert rows(s["b"]) == {}
    offer = a.adjacencies["b"].peer.config.graceful_restart
    assert offer is not None and not offer.restarted and offer.preserved == {V4}


def test_the_words_of_a_hard_reset() -> None:
    inner = Notification.cease(Cease.ADMINISTRATIVE_SHUTDOWN, "moving house")
    hard = inner.hard()
    assert (hard.code, hard.subcode, hard.data[:2]) == (6, 9, b"\x06\x02")
    assert hard.meant == inner
    assert hard.communication == "moving house"
    assert "meant Cease / Administrative Shutdown (6/2)" in str(hard)
    assert Notification(6, 9, b"\x06").meant == Notification(6, 9, b"\x06")


def test_a_neighbour_that_is_deleted_leaves_nothing() -> None:
    world, _, b = pair()
    die(world, "a")
    world.run(1)
    b.delete_neighbor("a")
    b.add_neighbor(parse_neighbor({"name": "x", "address": address("a", "b"), "remote_asn": 1}))
    world.run(1)
    assert rows(b) == {}


def test_the_table_of_stale_routes_goes_with_them_so_that_the_next_session_has_one_of_its_own() -> None:
    """Between the two sessions ADD-PATH is configured: a table that was kept would read path ids as prefixes."""
    world, a, b = pair()
    die(world, "a")
    world.run(121)
    assert b.adjacencies["a"].inbound == {}
    b.change_neighbor(b.adjacencies["a"].config.model_copy(update={"add_path": "receive"}))
    neighbors = tuple(n.model_copy(update={"add_path": "send"}) for n in a.config.neighbors)
    born(world, "a", a, neighbors=neighbors)
    world.run(130)
    assert sorted(rows(b)) == BLOCKS


class LeftBehind:
    """A kernel's table that holds one route of a former process."""

    def __init__(self) -> None:
        self.removed: list[bytes] = []

    def installed(self) -> list[Any]:
        return [Installed(prefix("203.0.113.0/24"), (), None)]

    def write(self, by_ways: dict[Any, list[bytes]]) -> Written:
        self.removed += by_ways.get((), [])
        return Written()


def test_what_a_former_process_left_goes_at_once_where_nobody_will_say_that_it_stays() -> None:
    """The only neighbour that restarts gracefully is shut down: no End-of-RIB will come, of either family."""
    world = World(["ab"])
    options = FULL | {"name": "b", "address": address("b", "a"), "remote_asn": 2, "shutdown": True}
    a = world.speaker("a", [address("a", "b")], asn=1, router_id="1.1.1.1", neighbors=[options])
    fibs: dict[Any, Any] = {family: LeftBehind() for family in Family}
    kernel: Any = a.kernel
    kernel.fibs = fibs
    shell = world.shells["a"]
    speaker = shell.speaker = Speaker(a.config, a.router_id, shell, kernel, a.log, restarted=True)
    speaker.start()
    world.run(1)
    assert all(fib.removed == [prefix("203.0.113.0/24")] for fib in fibs.values())
