"""Connection collision (RFC 4271 6.8, RFC 6286 2.3): both sides keep the same one connection, whatever the timing."""

from __future__ import annotations

import itertools
from functools import partial
from ipaddress import IPv4Address

import pytest

from harness.bgp.errors import Cease
from harness.bgp.fsm import Event, State
from harness.bgp.messages import KEEPALIVE_WIRE, Notification, encode
from harness.bgp.signals import Close, Closed, Connected, ConnectFailed, Dial, Down, Received, Start, Transition, Up
from tests.bgp.memory_link import RawHost, World
from tests.bgp.speakers import HIGH, LOW, both_up, config, pair, start

COLLISION = Notification(6, Cease.CONNECTION_COLLISION_RESOLUTION)
THEIR_OPEN = encode(HIGH.open())


def with_two(**changes: object) -> tuple[RawHost, int, int]:
    """A peer with two connections, both OpenSent: (host, the one it dialled, the one it accepted)."""
    host = RawHost(config(LOW, **changes))
    (dial,) = [output for output in host.feed(Start()) if isinstance(output, Dial)]
    accepted = host.peer.connection_id()
    host.feed(Connected(accepted, False, "10.0.0.1", "10.0.0.2"))
    host.feed(Connected(dial.conn, True, "10.0.0.1", "10.0.0.2"))
    assert host.state() is State.OPEN_SENT
    return host, dial.conn, accepted


def closed(host: RawHost) -> list[int]:
    return [output.conn for output in host.outputs if isinstance(output, Close)]


@pytest.mark.parametrize("ours_first", [True, False], ids=["open-on-ours-first", "open-on-theirs-first"])
@pytest.mark.parametrize("identifier", ["10.0.0.1", "10.0.0.3"], ids=["ours-is-lower", "ours-is-higher"])
@pytest.mark.spec("BGP-1", "BGP-16", "BGP-8")
def test_the_connection_of_the_higher_identifier_stays(identifier: str, ours_first: bool) -> None:
    host, ours, theirs = with_two(identifier=IPv4Address(identifier))
    order = (ours, theirs) if ours_first else (theirs, ours)
    for conn in order:
        host.feed(Received(conn, THEIR_OPEN))
    stays, goes = (ours, theirs) if identifier == "10.0.0.3" else (theirs, ours)
    assert closed(host) == [goes]
    assert host.peer.statistics.last_sent == COLLISION
    assert host.state() is State.OPEN_CONFIRM
    host.feed(Received(stays, KEEPALIVE_WIRE))
    (up,) = [output for output in host.outputs if isinstance(output, Up)]
    assert up.conn == stays
    assert host.peer.statistics.connect_retries == 0, "a collision says nothing against the peer"


@pytest.mark.parametrize(("asn", "dialled_stays"), [(65001, False), (65003, True)])
@pytest.mark.spec("BGP-1", "BGP-16")
def test_equal_identifiers_are_told_apart_by_the_as(asn: int, dialled_stays: bool) -> None:
    """RFC 6286 2.3."""
    host, ours, theirs = with_two(local_asn=asn, identifier=HIGH.identifier)
    host.feed(Received(theirs, THEIR_OPEN))
    host.feed(Received(ours, THEIR_OPEN))
    assert closed(host) == [theirs if dialled_stays else ours]


@pytest.mark.spec("BGP-1")
def test_an_open_waits_for_the_one_that_will_win() -> None:
    """Else the session could come up on one connection at one side only to be replaced at the other."""
    host, ours, theirs = with_two(identifier=IPv4Address("10.0.0.3"))
    sent = len(host.sent)
    host.feed(Received(theirs, THEIR_OPEN + KEEPALIVE_WIRE))
    assert len(host.sent) == sent, "no KEEPALIVE yet"
    host.feed(Closed(ours, "reset"))
    assert host.state() is State.ESTABLISHED, "the winner is gone: the one that waited goes on with all it had"

    host, ours, theirs = with_two(identifier=IPv4Address("10.0.0.3"))
    host.feed(Received(theirs, THEIR_OPEN))
    host.advance(1.01)
    assert host.state() is State.OPEN_CONFIRM, "and it does not wait for ever"
    host.feed(Received(ours, THEIR_OPEN))
    assert closed(host) == [theirs], "the decision stays the same"
    assert host.state() is State.OPEN_CONFIRM


@pytest.mark.spec("BGP-1")
def test_an_established_session_gives_way_to_the_connection_that_both_sides_keep() -> None:
    host, ours, theirs = with_two(identifier=IPv4Address("10.0.0.3"))
    host.feed(Received(theirs, THEIR_OPEN))
    host.advance(1.01)
    host.feed(Received(theirs, KEEPALIVE_WIRE))
    assert host.state() is State.ESTABLISHED
    host.feed(Received(ours, THEIR_OPEN + KEEPALIVE_WIRE))
    assert host.state() is State.ESTABLISHED
    assert closed(host) == [theirs]
    kinds = [type(output) for output in host.outputs if isinstance(output, Up | Down)]
    assert kinds == [Up, Down, Up]
    chain = [step for step in host.outputs if isinstance(step, Transition) and not step.spare]
    assert all(earlier.new is later.old for earlier, later in itertools.pairwise(chain))


@pytest.mark.spec("BGP-1")
def test_a_new_connection_does_not_disturb_an_established_session() -> None:
    """A peer of the lower identifier that connects once more, or never says anything on its new connection."""
    host, ours, theirs = with_two()
    host.feed(Received(theirs, THEIR_OPEN + KEEPALIVE_WIRE))
    assert host.state() is State.ESTABLISHED
    host.feed(Closed(ours, "reset"))
    again = host.peer.connection_id()
    host.feed(Connected(again, False, "10.0.0.1", "10.0.0.2"))
    host.feed(Received(again, THEIR_OPEN))
    assert closed(host) == [again]
    assert host.peer.statistics.last_sent == COLLISION
    flood = [host.peer.connection_id() for _ in range(50)]
    for conn in flood:
        host.feed(Connected(conn, False, "10.0.0.1", "10.0.0.2"))
    assert closed(host)[1:] == flood[:-1], "at most one connection beside the session"
    host.feed(Received(flood[-1], b"\0" * 19))
    assert host.state() is State.ESTABLISHED
    assert not [output for output in host.outputs if isinstance(output, Down)]
    assert host.peer.statistics.connect_retries == 0


def test_a_dial_under_way_is_given_up_once_the_other_connection_has_an_open() -> None:
    host = RawHost(LOW)
    (dial,) = [output for output in host.feed(Start()) if isinstance(output, Dial)]
    accepted = host.peer.connection_id()
    host.feed(Connected(accepted, False, "10.0.0.1", "10.0.0.2"))
    assert closed(host) == [], "both sides giving up theirs would leave none"
    host.feed(Received(accepted, THEIR_OPEN))
    assert closed(host) == [dial.conn]
    host.feed(Connected(dial.conn, True, "10.0.0.1", "10.0.0.2"))
    assert closed(host) == [dial.conn, dial.conn], "it stood after all: closed, and nothing was said on it"
    host.feed(Received(accepted, KEEPALIVE_WIRE))
    assert host.state() is State.ESTABLISHED


@pytest.mark.parametrize("lost", ["dialled", "accepted"])
def test_losing_one_of_two_leaves_the_other(lost: str) -> None:
    host, ours, theirs = with_two()
    host.feed(Closed(ours if lost == "dialled" else theirs, "reset"))
    assert host.state() is State.OPEN_SENT
    rest = theirs if lost == "dialled" else ours
    host.feed(Received(rest, THEIR_OPEN + KEEPALIVE_WIRE))
    assert host.state() is State.ESTABLISHED
    states = [step.new for step in host.outputs if isinstance(step, Transition) and not step.spare]
    assert states == [State.CONNECT, State.OPEN_SENT, State.OPEN_CONFIRM, State.ESTABLISHED]


def test_an_error_on_one_of_two_leaves_the_other() -> None:
    host, ours, theirs = with_two()
    host.feed(Received(theirs, b"\0" * 19))
    assert closed(host) == [theirs]
    host.feed(Received(ours, THEIR_OPEN + KEEPALIVE_WIRE))
    assert host.state() is State.ESTABLISHED


def test_a_dial_that_fails_beside_an_accepted_connection_changes_nothing() -> None:
    host = RawHost(LOW)
    (dial,) = [output for output in host.feed(Start()) if isinstance(output, Dial)]
    accepted = host.peer.connection_id()
    host.feed(Connected(accepted, False, "10.0.0.1", "10.0.0.2"))
    assert host.feed(ConnectFailed(dial.conn, "refused")) == []
    assert host.state() is State.OPEN_SENT


def test_a_dial_under_way_goes_on_when_the_accepted_connection_is_lost() -> None:
    host = RawHost(LOW)
    (dial,) = [output for output in host.feed(Start()) if isinstance(output, Dial)]
    accepted = host.peer.connection_id()
    host.feed(Connected(accepted, False, "10.0.0.1", "10.0.0.2"))
    host.feed(Closed(accepted, "reset"))
    assert host.state() is State.ACTIVE
    host.feed(Connected(dial.conn, True, "10.0.0.1", "10.0.0.2"))
    assert host.state() is State.OPEN_SENT


def test_of_two_connections_the_peer_made_the_newer_stays() -> None:
    host = RawHost(config(LOW, passive=True))
    host.feed(Start())
    old, new = host.peer.connection_id(), host.peer.connection_id()
    host.feed(Connected(old, False, "10.0.0.1", "10.0.0.2"))
    host.feed(Received(old, THEIR_OPEN))
    host.feed(Connected(new, False, "10.0.0.1", "10.0.0.2"))
    host.feed(Received(new, THEIR_OPEN))
    assert closed(host) == [old]
    assert host.state() is State.OPEN_CONFIRM


@pytest.mark.parametrize("swap", [False, True], ids=["low-first", "high-first"])
@pytest.mark.spec("BGP-1", "BGP-16")
def test_both_sides_always_keep_the_same_connection(swap: bool) -> None:
    """600 starts at nearly the same moment with jittered delays: each ends with one session, and never with a Down."""
    resolved = 0
    for seed in range(300):
        world = World(seed, delay=0.0001, spread=0.003)
        low, high = pair(world)
        one, other = (high, low) if swap else (low, high)
        world.at(world.random.random() * 0.004, partial(start, one))
        world.at(world.random.random() * 0.004, partial(start, other))
        assert world.run(0.2, partial(both_up, low, high)), seed
        world.run(2.0)
        assert both_up(low, high), seed
        assert len(low.ends) == len(high.ends) == 1, seed
        (near,), (far,) = low.ends.values(), high.ends.values()
        assert near.other is far, "both hold the two ends of one connection"
        assert not low.seen(Down) and not high.seen(Down), seed
        low.chain()
        high.chain()
        resolved += COLLISION in low.sent() + high.sent()
        assert all(item == COLLISION for item in low.sent() + high.sent())
    assert resolved > 50, "the test sees collisions"


def test_the_events_of_a_collision() -> None:
    host, ours, theirs = with_two()
    host.feed(Received(ours, THEIR_OPEN))
    host.feed(Received(theirs, THEIR_OPEN))
    dumps = [
        step
        for step in host.outputs
        if isinstance(step, Transition) and step.event is Event.OPEN_COLLISION_DUMP and step.new is State.IDLE
    ]
    assert [(step.conn, step.spare) for step in dumps] == [(ours, True)]
    assert dumps[0].reason.startswith("collision: the other connection stays: ours 10.0.0.1, the peer's 10.0.0.2")
