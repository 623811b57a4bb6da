"""A peer over an in-memory link with a virtual clock: coming up, timers, going down, and what is exchanged in between."""

from __future__ import annotations

import itertools
import statistics
from functools import partial
from typing import Any

import pytest

from harness.bgp.as_path import sequence
from harness.bgp.attributes import Attributes
from harness.bgp.errors import Cease
from harness.bgp.fsm import Event, Profile, State
from harness.bgp.messages import KEEPALIVE_WIRE, MessageType, Notification, RouteRefresh, encode
from harness.bgp.prefixes import Family, from_network
from harness.bgp.signals import (
    BfdDown,
    Close,
    Closed,
    Connected,
    ConnectFailed,
    Deliver,
    Dial,
    Down,
    Log,
    Received,
    Refresh,
    RefreshAsked,
    Reset,
    Retry,
    Send,
    Start,
    Stop,
    Tick,
    Transition,
    Up,
    Write,
)
from harness.bgp.update import pack_announcements
from tests.bgp.memory_link import RawHost, World
from tests.bgp.speakers import LOW, both_up, config, pair, raw, start

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
DOCUMENTED_PATH = ["Idle", "Connect", "OpenSent", "OpenConfirm", "Established"]


@pytest.mark.spec("BGP-1", "VBR-15", "VBR-16", "VBR-18", "VBR-19", "VBR-20")
def test_the_documented_path_to_established() -> None:
    world = World()
    low, high = pair(world)
    start(low)
    assert world.run(0.5, lambda: low.peer.state is State.ACTIVE or low.peer.session is not None) is True
    start(high)
    assert world.run(1.0, lambda: both_up(low, high))
    assert high.path() == DOCUMENTED_PATH
    assert low.path()[-1] == "Established"
    for step in low.seen(Transition) + high.seen(Transition):
        assert step.reason


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("lag", [0.0, 0.001, 0.01, 0.05], ids=lambda lag: f"{lag * 1000:.0f}ms-apart")
@pytest.mark.spec("VBR-16", "VBR-17", "BGP-1")
def test_started_together_with_default_timers_they_are_up_at_once(profile: Profile, lag: float) -> None:
    """One speaker begins to listen later than the other dials: well under 100 ms after both listen they are Established."""
    for seed in range(40):
        world = World(seed, delay=0.0001, spread=0.001)
        low, high = pair(world, profile=profile)
        first, late = (low, high) if seed % 2 else (high, low)
        late.listening = False

        def listen(host: Any = late) -> None:
            host.listening = True
            host.feed(Start())

        start(first)
        world.at(lag, listen)
        assert world.run(lag + 0.1, partial(both_up, low, high)), (seed, low.path(), high.path())
        assert world.now - lag < 0.05


@pytest.mark.spec("VBR-16", "VBR-17")
def test_a_peer_that_does_not_listen_is_dialled_again_soon_then_slower_and_bounded() -> None:
    """The document's states: Connect, failure to Active, kept trying there, and back to Connect by the ConnectRetryTimer."""
    world = World()
    low, high = pair(world)
    high.listening = False
    start(low)
    world.run(300.0)
    dials = [when for when, _ in low.when(Dial)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(dials)]
    assert gaps[0] < 0.03
    assert max(gaps) <= 2.01
    assert all(0.7 * min(2.0, 0.02 * 2**n) < gap < 1.1 * min(2.0, 0.02 * 2**n) for n, gap in enumerate(gaps[:6]))
    back = [when for when, step in low.when(Transition) if step.new is State.CONNECT and step.old is State.ACTIVE]
    assert 85 <= back[0] <= 125, "ConnectRetryTime 120 s with jitter, restarted when Connect is left"
    assert low.path()[:4] == ["Idle", "Connect", "Active", "Connect"]


@pytest.mark.spec("VBR-16")
def test_the_rfc_profile_goes_to_idle_and_comes_back() -> None:
    world = World()
    low, high = pair(world, profile=Profile.RFC4271)
    high.listening = False
    start(low)
    world.run(1.0)
    assert low.path()[:6] == ["Idle", "Connect", "Idle", "Connect", "Idle", "Connect"]
    assert "Active" not in low.path()


@pytest.mark.spec("VBR-16")
def test_a_dial_that_never_answers_is_dialled_again_by_the_connect_retry_timer() -> None:
    host = RawHost(config(LOW, dial_timeout=1000.0))
    host.feed(Start())
    host.advance(130.0)
    dials = [output.conn for output in host.outputs if isinstance(output, Dial)]
    assert len(dials) == 2
    assert Close(dials[0]) in host.outputs, "the old dial is given up"
    assert host.state() is State.CONNECT
    steps = [output for output in host.outputs if isinstance(output, Transition)]
    assert (steps[-1].old, steps[-1].new, steps[-1].event) == (
        State.CONNECT,
        State.CONNECT,
        Event.CONNECT_RETRY_TIMER_EXPIRES,
    )


def test_an_unanswered_dial_is_replaced_long_before_that() -> None:
    host = RawHost(LOW)
    host.feed(Start())
    host.advance(16.0)
    dials = [output.conn for output in host.outputs if isinstance(output, Dial)]
    assert len(dials) == 4
    assert [output.conn for output in host.outputs if isinstance(output, Close)] == dials[:-1]
    host.feed(Connected(dials[0], True, "10.0.0.1", "10.0.0.2"))
    assert host.state() is State.CONNECT, "an answer to a dial that was given up comes too late"
    host.feed(Connected(dials[-1], True, "10.0.0.1", "10.0.0.2"))
    assert host.state() is State.OPEN_SENT


def test_retry_dials_at_once() -> None:
    host = RawHost(LOW)
    (dial,) = [output for output in host.feed(Start()) if isinstance(output, Dial)]
    for _ in range(9):
        host.feed(ConnectFailed(dial.conn, "no route to host"))
        if host.peer.deadline() is not None:
            host.now = host.peer.deadline() or 0.0
        dial = next((output for output in host.feed(Tick()) if isinstance(output, Dial)), dial)
    host.feed(ConnectFailed(dial.conn, "no route to host"))
    again = [output for output in host.feed(Retry()) if isinstance(output, Dial)]
    assert len(again) == 1
    host.feed(Connected(again[0].conn, True, "10.0.0.1", "10.0.0.2"))
    assert host.feed(Retry()) == [], "nothing is disturbed that stands"


def test_a_passive_peer_waits() -> None:
    world = World()
    low, high = pair(world)
    low.peer = type(low.peer)(config(LOW, passive=True))
    start(low)
    world.run(300.0)
    assert low.path() == ["Idle", "Active"]
    assert not low.seen(Dial)
    start(high)
    assert world.run(301.0, lambda: both_up(low, high))
    assert low.path() == ["Idle", "Active", "OpenSent", "OpenConfirm", "Established"]


@pytest.mark.spec("BGP-9", "VBR-35", "BGP-15")
def test_keepalives_come_at_a_third_of_the_hold_time_with_jitter() -> None:
    world = World()
    low, high = pair(world)
    start(low, high)
    world.run(3000.0)
    assert both_up(low, high)
    sent = [when for when, output in low.when(Write) if output.data == KEEPALIVE_WIRE][2:]
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert all(22.5 <= gap <= 30.0 for gap in gaps)
    assert statistics.pstdev(gaps) > 1.0
    assert low.peer.statistics.established == high.peer.statistics.established == 1


@pytest.mark.spec("BGP-15")
def test_hold_time_zero_needs_no_keepalives() -> None:
    world = World()
    low, high = pair(world, hold_time=0)
    start(low, high)
    world.run(1.0)
    before = low.peer.statistics.octets_sent
    world.run(100_000.0)
    assert both_up(low, high)
    assert low.peer.statistics.octets_sent == before
    assert low.peer.deadline() is None


@pytest.mark.parametrize("hold", [3, 9, 90])
@pytest.mark.spec("BGP-15", "VBR-20")
def test_silence_ends_the_session_after_the_hold_time(hold: int) -> None:
    world = World()
    low, high = pair(world, hold_time=hold)
    start(low, high)
    assert world.run(1.0, lambda: both_up(low, high))
    world.cut()
    world.run(1.0 + 2 * hold)
    ((when, down),) = low.when(Down)
    assert hold * 0.6 < when <= 0.01 + hold
    assert (down.event, down.sent) == (Event.HOLD_TIMER_EXPIRES, Notification(4, 0))
    assert "hold timer" in down.reason
    chain = [step for step in low.chain() if step[0] is State.ESTABLISHED]
    assert chain == [(State.ESTABLISHED, State.IDLE, Event.HOLD_TIMER_EXPIRES)]
    world.mend()
    assert world.run(world.now + 10.0, lambda: both_up(low, high)), "and comes back by itself"


@pytest.mark.spec("VBR-35", "VBR-20")
def test_silence_in_open_confirm() -> None:
    host = raw("OpenConfirm")
    host.advance(89.0)
    assert host.state() is State.OPEN_CONFIRM
    host.advance(1.1)
    assert host.notified() == Notification(4, 0)
    kinds = [kind for kind, _ in host.said()]
    assert kinds.count(MessageType.KEEPALIVE) >= 3, "the answer to the OPEN, and then one for each interval"


@pytest.mark.spec("VBR-19", "BGP-15")
def test_the_keepalive_that_brings_the_session_up_restarts_the_hold_timer() -> None:
    host = raw("OpenConfirm")
    host.advance(80.0)
    host.say(KEEPALIVE_WIRE)
    host.advance(85.0)
    assert host.state() is State.ESTABLISHED
    host.advance(5.1)
    assert host.notified() == Notification(4, 0)


def test_silence_in_open_sent_ends_after_the_large_hold_time() -> None:
    host = raw("OpenSent")
    host.advance(239.0)
    assert host.state() is State.OPEN_SENT
    host.advance(1.1)
    assert host.notified() == Notification(4, 0)


def test_octets_that_waited_when_the_timer_ran_out_still_count() -> None:
    """After a stall of our own process the shell hands over what arrived before it ticks."""
    host = raw("Established")
    host.now += 1000.0
    host.say(KEEPALIVE_WIRE)
    host.feed(Tick())
    assert host.state() is State.ESTABLISHED


@pytest.mark.spec("BGP-8")
def test_stop_says_why_and_stays_down() -> None:
    world = World()
    low, high = pair(world)
    start(low, high)
    world.run(1.0)
    low.feed(Stop(text="maintenance until noon"))
    world.run(1000.0)
    assert low.path() == [*DOCUMENTED_PATH, "Idle"]
    (got,) = [item for item in high.got() if item.subcode == Cease.ADMINISTRATIVE_SHUTDOWN]
    assert got.communication == "maintenance until noon"
    (down,) = high.seen(Down)
    assert "maintenance until noon" in down.reason
    assert down.received == got and down.sent is None
    assert high.path()[5] == "Idle"
    start(low)
    assert world.run(world.now + 5.0, lambda: both_up(low, high))


@pytest.mark.spec("BGP-8", "BGP-6")
def test_reset_comes_back_after_the_idle_hold_or_as_told() -> None:
    host = raw("Established")
    host.feed(Reset(Cease.MAXIMUM_NUMBER_OF_PREFIXES_REACHED, data=bytes.fromhex("0001010000006e"), restart_after=30.0))
    assert host.notified() == Notification(6, 1, bytes.fromhex("0001010000006e"))
    host.advance(29.0)
    assert host.state() is State.IDLE
    host.advance(1.5)
    assert host.state() is State.CONNECT
    host = raw("Established")
    host.feed(Reset(text="keys changed"))
    assert host.notified() == Notification.cease(Cease.ADMINISTRATIVE_RESET, "keys changed")
    host.advance(1.01)
    assert host.state() is State.CONNECT


def test_bfd_takes_down_an_established_session_only() -> None:
    host = raw("Established")
    host.feed(BfdDown("control detection time expired"))
    assert host.notified() == Notification(6, 10)
    (down,) = [output for output in host.outputs if isinstance(output, Down)]
    assert "BFD is down: control detection time expired" in down.reason
    host = raw("OpenConfirm")
    assert host.feed(BfdDown()) == []


def test_idle_hold_backs_off_is_bounded_and_forgets() -> None:
    """DampPeerOscillations: a peer that always sends a wrong OPEN is tried again ever later."""
    host = RawHost(config(LOW, idle_hold_first=1.0, idle_hold_max=8.0))
    host.feed(Start())
    waits = []
    for _ in range(7):
        conn = next(output.conn for output in reversed(host.outputs) if isinstance(output, Dial))
        host.conn = conn
        host.feed(Connected(conn, True, "10.0.0.1", "10.0.0.2"))
        host.say(encode(config(LOW).open()))
        assert host.state() is State.IDLE
        begun = host.now
        host.advance((host.peer.deadline() or 0.0) - host.now)
        waits.append(host.now - begun)
    for wait, base in zip(waits, [1, 2, 4, 8, 8, 8, 8], strict=True):
        assert 0.75 * base <= wait <= base
    assert host.peer.statistics.connect_retries == 7
    host.feed(Stop())
    host.feed(Start())
    assert host.peer.statistics.connect_retries == 0


def test_a_session_that_stood_long_starts_the_back_off_again() -> None:
    world = World()
    low, high = pair(world)
    start(low, high)
    for _ in range(6):
        assert world.run(world.now + 5.0, lambda: both_up(low, high))
        world.run(world.now + 100.0)
        low.feed(Reset())
        begun = world.now
        assert world.run(world.now + 5.0, lambda: both_up(low, high))
        assert world.now - begun < 1.2


def test_a_session_that_once_stood_long_excuses_only_its_own_end() -> None:
    host = raw("Established", hold_time=0)
    host.advance(1000.0)
    waits = []
    for _ in range(4):
        host.say(b"\0" * 19)
        assert host.state() is State.IDLE
        begun = host.now
        host.advance((host.peer.deadline() or 0.0) - host.now)
        waits.append(host.now - begun)
        host.conn = next(output.conn for output in reversed(host.outputs) if isinstance(output, Dial))
        host.feed(Connected(host.conn, True, "10.0.0.1", "10.0.0.2"))
    for wait, base in zip(waits, [1, 2, 4, 8], strict=True):
        assert 0.75 * base <= wait <= base


def test_without_damping_the_idle_hold_stays() -> None:
    host = RawHost(config(LOW, damp_peer_oscillations=False))
    host.feed(Start())
    for _ in range(5):
        host.conn = next(output.conn for output in reversed(host.outputs) if isinstance(output, Dial))
        host.feed(Connected(host.conn, True, "10.0.0.1", "10.0.0.2"))
        host.say(encode(config(LOW).open()))
        begun = host.now
        host.advance((host.peer.deadline() or 0.0) - host.now)
        assert host.now - begun <= 1.0


def test_idle_refuses_connections() -> None:
    host = RawHost(LOW)
    conn = host.peer.connection_id()
    assert host.feed(Connected(conn, False, "10.0.0.1", "10.0.0.2")) == [Close(conn)]
    assert host.state() is State.IDLE


ATTRIBUTES = Attributes(as_path=sequence((65001,)))


def announcement(host: Any, network: str = "192.0.2.0/24") -> list[bytes]:
    assert host.peer.session is not None
    return pack_announcements(host.peer.session, V4, ATTRIBUTES, bytes((10, 0, 0, 1)), [from_network(network)])


@pytest.mark.spec("BGP-6", "VBR-20", "BGP-9")
def test_updates_are_delivered_in_order_and_stand_for_keepalives() -> None:
    world = World()
    low, high = pair(world)
    start(low, high)
    world.run(1.0)
    for number in range(5):
        low.feed(Send(announcement(low, f"10.{number}.0.0/16")))
        sent_at = world.now
        keepalives = low.peer.statistics.sent[MessageType.KEEPALIVE]
        world.run(sent_at + 22.4)
        assert low.peer.statistics.sent[MessageType.KEEPALIVE] == keepalives, "an UPDATE restarts the KeepaliveTimer"
    seen = [output.update.announced[V4] for output in high.seen(Deliver)]
    assert seen == [[from_network(f"10.{number}.0.0/16")] for number in range(5)]
    assert high.peer.statistics.received[MessageType.UPDATE] == low.peer.statistics.sent[MessageType.UPDATE] == 5
    assert high.peer.statistics.octets_received > 5 * 40


def test_updates_restart_the_hold_timer() -> None:
    host = raw("Established")
    for _ in range(10):
        host.advance(80.0)
        host.say(announcement(host)[0])
    assert host.state() is State.ESTABLISHED


def test_sending_without_a_session_is_told() -> None:
    host = raw("OpenSent")
    (line,) = host.feed(Send([KEEPALIVE_WIRE]))
    assert isinstance(line, Log) and "1 UPDATEs dropped, the session is OpenSent" in line.text


@pytest.mark.spec("BGP-10", "BGP-19")
def test_route_refresh_both_ways() -> None:
    world = World()
    low, high = pair(world, families=frozenset({V4}))
    start(low, high)
    world.run(1.0)
    low.feed(Refresh(V4))
    world.run(2.0)
    assert high.seen(RefreshAsked) == [RefreshAsked(V4, RouteRefresh(1, 1))]
    assert not high.seen(Down), "nothing is deleted"
    (line,) = low.feed(Refresh(V6))
    assert isinstance(line, Log) and "ipv6 unicast is not negotiated" in line.text
    (frame,) = [Received(conn, encode(RouteRefresh(2, 1))) for conn in high.ends]
    outputs = high.feed(frame)
    assert [type(output) for output in outputs] == [Log], "a family that was not agreed on is ignored (RFC 2918 4)"


@pytest.mark.spec("BGP-19")
def test_route_refresh_without_the_capability_is_refused_with_the_reason() -> None:
    host = raw("Established", route_refresh=False)
    (line,) = host.feed(Refresh(V4))
    assert isinstance(line, Log) and "did not offer route refresh (RFC 2918)" in line.text
    assert "not Established" in str(raw("OpenSent").peer.refresh_refusal(V4))


@pytest.mark.spec("BGP-5", "BGP-19")
def test_a_two_octet_peer() -> None:
    """AS 4200000001 speaks to a peer without 4-octet numbers: it is AS 23456 there, and the paths arrive whole."""
    world = World()
    low, high = pair(world)
    low.peer = type(low.peer)(config(low.config, local_asn=4200000001))
    high.peer = type(high.peer)(config(high.config, peer_asn=23456, asn4=False))
    start(low, high)
    assert world.run(1.0, lambda: both_up(low, high))
    session = low.peer.session
    assert session is not None and not session.asn4
    path = Attributes(as_path=sequence((23456, 4200000002)))
    low.feed(Send(pack_announcements(session, V4, path, bytes((10, 0, 0, 1)), [from_network("10.9.0.0/16")])))
    world.run(2.0)
    (deliver,) = high.seen(Deliver)
    assert deliver.update.attributes is not None
    assert deliver.update.attributes.as_path == sequence((23456, 4200000002))


def test_what_the_outside_can_ask() -> None:
    host = raw("Established")
    timers = host.peer.timers(host.now)
    assert timers["hold"] == 90.0
    assert 22.5 <= timers["keepalive"] <= 30.0
    (up,) = [output for output in host.outputs if isinstance(output, Up)]
    assert (up.local, up.remote, up.conn) == ("192.0.2.1", "192.0.2.2", host.conn)
    assert host.peer.session is up.session


@pytest.mark.spec("VBR-17")
def test_connections_that_end_before_any_message_do_not_lengthen_the_idle_hold() -> None:
    """By the RFC's profile with DelayOpen: two sides that close each other's dials from Idle would stay apart for many minutes."""
    host = RawHost(config(LOW, profile=Profile.RFC4271, delay_open_time=2.0))
    outputs = host.feed(Start())
    for _ in range(20):
        conn = next(output.conn for output in outputs if isinstance(output, Dial))
        host.feed(Connected(conn, True, "192.0.2.1", "192.0.2.2"))
        outputs = host.feed(Closed(conn, "the neighbour closed the connection")) + host.advance(3.0)
