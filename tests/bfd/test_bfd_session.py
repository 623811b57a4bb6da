"""The state machine and its timers on a virtual clock: start, loss, negotiation, polls, demand, the table."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bfd.authentication import UNKNOWN, Authenticator, AuthType, Key
from harness.bfd.demux import Arrival, Peering, Refusal, Sessions, row
from harness.bfd.fsm import TABLE, Event
from harness.bfd.ledger import PLACES, Ledger
from harness.bfd.packet import ControlPacket, decode
from harness.bfd.session import Session, Timing, Transition, Transmit
from harness.bfd.terms import Diagnostic, Discard, Discarded, State
from tests.bfd.wire import A, B, Wire

FAST = Timing(50_000, 50_000, 3)
DOWN = ControlPacket(State.DOWN, 3, my_discriminator=77)


def alone(timing: Timing = FAST) -> tuple[Session, int]:
    session = Session(5, timing, Random(1))
    session.start(0.0)
    return session, 5


def up(timing: Timing = FAST, **peer: int | bool) -> Session:
    """A session that a hand-made peer has brought Up at time 0; the poll sequence that follows is over."""
    session, number = alone(timing)
    hello = replace(DOWN, your_discriminator=number, desired_min_tx=50_000, required_min_rx=50_000)
    session.receive(hello, 0.0)
    session.receive(replace(hello, state=State.INIT), 0.0)
    session.receive(replace(hello, state=State.UP, final=True, **peer), 0.0)  # type: ignore[arg-type]
    assert session.state is State.UP
    assert not session.polling
    return session


def packets(outputs: list[object]) -> list[ControlPacket]:
    return [decode(o.data) for o in outputs if isinstance(o, Transmit)]


# -------------------------------------------------------------------------------------------------------------- state machine


def test_every_state_has_an_answer_to_every_event() -> None:
    assert set(TABLE) == {(state, event) for state in State for event in Event}
    assert all(row.reason for row in TABLE.values())


@pytest.mark.parametrize(
    ("state", "received", "new"),
    [
        (State.DOWN, State.ADMIN_DOWN, State.DOWN),
        (State.DOWN, State.DOWN, State.INIT),
        (State.DOWN, State.INIT, State.UP),
        (State.DOWN, State.UP, State.DOWN),
        (State.INIT, State.ADMIN_DOWN, State.DOWN),
        (State.INIT, State.DOWN, State.INIT),
        (State.INIT, State.INIT, State.UP),
        (State.INIT, State.UP, State.UP),
        (State.UP, State.ADMIN_DOWN, State.DOWN),
        (State.UP, State.DOWN, State.DOWN),
        (State.UP, State.INIT, State.UP),
        (State.UP, State.UP, State.UP),
    ],
)
def test_the_diagram_of_the_rfc(state: State, received: State, new: State) -> None:
    """RFC 5880 6.2 and the list at the end of 6.8.6."""
    session, number = alone()
    for said in {State.DOWN: [], State.INIT: [State.DOWN], State.UP: [State.DOWN, State.INIT]}[state]:
        session.receive(replace(DOWN, state=said, your_discriminator=number), 0.0)
    assert session.state is state
    session.receive(replace(DOWN, state=received, your_discriminator=number), 0.0)
    assert session.state is new
    if new is State.DOWN and state is not State.DOWN:
        assert session.diagnostic is Diagnostic.NEIGHBOR_SIGNALED_SESSION_DOWN


def test_a_session_is_up_after_two_round_trips_and_starts_at_once() -> None:
    wire = Wire(delay=0.001)
    wire.start()
    wire.run(0.01)
    assert wire.both_up()
    straight = {(State.DOWN, State.INIT), (State.INIT, State.UP), (State.DOWN, State.UP)}
    assert {*wire.a.transitions(), *wire.b.transitions()} <= straight


@given(
    seed=st.integers(0, 2**16), loss=st.sampled_from([0.0, 0.1, 0.3, 0.5]), delay=st.sampled_from([0.0001, 0.01, 0.2])
)
@settings(max_examples=60, deadline=None)
def test_loss_delay_and_disorder_never_leave_two_ends_of_different_minds(seed: int, loss: float, delay: float) -> None:
    """Whatever happened, ten quiet seconds bring both ends Up, with no change of state in the last of them."""
    wire = Wire(seed, loss=loss, delay=delay)
    timing = Timing(100_000, 100_000, 3) if delay < 0.1 else Timing(500_000, 500_000, 3)
    wire.start(timing)
    wire.run(20)
    wire.loss = 0.0
    wire.run(9)
    told = len(wire.a.told), len(wire.b.told)
    wire.run(1)
    assert wire.both_up()
    assert (len(wire.a.told), len(wire.b.told)) == told
    for end in (wire.a, wire.b):
        steps = end.transitions()
        assert all(before[1] is after[0] for before, after in pairwise(steps))


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_is_noticed_within_the_detection_time(seed: int) -> None:
    wire = Wire(seed)
    wire.start(FAST)
    wire.run(5)
    cut_at = wire.now
    wire.cut = {A, B}
    wire.run(1)
    for end in (wire.a, wire.b):
        at, what = end.told[-1]
        assert isinstance(what, Transition)
        assert (what.old, what.new, what.path_lost) == (State.UP, State.DOWN, True)
        assert what.diagnostic is Diagnostic.CONTROL_DETECTION_TIME_EXPIRED
        assert 0.1 - 0.002 <= at - cut_at <= 0.15 + 0.002
    wire.cut = set()
    wire.run(2)
    assert wire.both_up()


def test_a_cut_of_one_direction_takes_both_ends_down() -> None:
    wire = Wire()
    wire.start(FAST)
    wire.run(2)
    wire.cut = {A}
    cut_at = wire.now
    wire.run(0.3)
    (at_b, lost), (at_a, told) = wire.b.told[-1], wire.a.told[-1]
    assert isinstance(lost, Transition)
    assert isinstance(told, Transition)
    assert lost.event is Event.DETECTION_TIME_EXPIRED
    assert told.event is Event.RECEIVED_DOWN
    assert "(control detection time expired)" in told.reason
    assert cut_at < at_b < at_a < at_b + 0.003


def test_a_session_goes_on_in_another_process_under_its_number() -> None:
    """The first packet says Up with both numbers; a peer that has called it down meanwhile takes it down as any peer would."""
    standing = up().standing()
    assert standing is not None
    hello = replace(DOWN, your_discriminator=5, desired_min_tx=50_000, required_min_rx=50_000)
    for said, new in ((State.UP, State.UP), (State.DOWN, State.DOWN)):
        session = Session(standing.discriminator, FAST, Random(2))
        (first,) = packets([*session.start(10.0, standing)])
        assert (first.state, first.my_discriminator, first.your_discriminator) == (State.UP, 5, 77)
        assert session.detection_time == 150_000
        session.receive(replace(hello, state=said), 10.05)
        assert session.state is new
    silent = Session(standing.discriminator, FAST, Random(2))
    silent.start(10.0, standing)
    silent.tick(10.151)
    assert silent.state is State.DOWN


def test_nothing_goes_on_of_a_session_that_is_not_up() -> None:
    assert alone()[0].standing() is None


@pytest.mark.parametrize("kind", AuthType)
@pytest.mark.parametrize("seed", range(5))
def test_a_signed_session_goes_on_under_its_numbers_in_another_process(kind: AuthType, seed: int) -> None:
    """RFC 5880 6.7.4: neither end's numbers leave the other's window, and what was heard once counts no second time."""
    ledger, key = Ledger(), Key(kind, 1, b"key")
    place = ledger.take()
    assert place is not None
    wire = Wire(seed)
    wire.start(FAST, keys=(key, key), numbers=(ledger.numbers(place), None))
    wire.run(5)
    for _ in range(20):
        told = len(wire.b.told)
        # Keyed SHA1 says the same thing again under the same number; the first packet of all had a lower one.
        heard = wire.b.sent[-4 if kind is AuthType.METICULOUS_KEYED_SHA1 else 0][1]
        standing = wire.a.watched.session.standing()
        assert standing is not None
        wire.a.sessions = Sessions(Random(seed))
        wire.run(0.06)
        peering = Peering("peer", B, FAST, 1, None, key)
        wire.carry(wire.a, wire.a.sessions.add(peering, wire.now, standing, ledger.numbers(place)))
        again = wire.a.sessions.arrived(Arrival(heard, B, A, 255, 3784), wire.now)
        assert [what.reason for _, what in again if isinstance(what, Refusal)] == [Discard.AUTHENTICATION_FAILED]
        wire.run(0.2)
        assert wire.both_up()
        assert len(wire.b.told) == told
        assert wire.a.watched.refusals.total() == 1


def test_a_session_that_begins_anew_takes_any_number_and_goes_on_with_its_own() -> None:
    key = Key(AuthType.METICULOUS_KEYED_SHA1, 1, b"key")
    ledger = Ledger()
    place = ledger.take()
    assert place is not None
    numbers = ledger.numbers(place)
    numbers[0] = numbers[1] = 2**32 - 1
    session = Session(5, FAST, Random(1), key, numbers)
    (first,) = packets([*session.start(0.0)])
    assert first.authentication[4:8] == bytes(4)
    peer = Authenticator(key, 1000)
    session.receive(decode(peer.sign(DOWN)), 0.1)
    assert session.state is State.INIT
    assert list(numbers) == [1, 1001]


def test_a_session_that_is_being_removed_leaves_its_place_to_another() -> None:
    key = Key(AuthType.METICULOUS_KEYED_SHA1, 1, b"key")
    ledger = Ledger()
    place = ledger.take()
    assert place is not None
    wire = Wire()
    wire.start(FAST, keys=(key, key), numbers=(ledger.numbers(place), None))
    wire.run(2)
    before = list(ledger.numbers(place))
    wire.carry(wire.a, wire.a.sessions.remove("peer", wire.now))
    wire.run(2)
    assert list(ledger.numbers(place)) == before
    assert isinstance(last := wire.b.told[-1][1], Transition)
    assert last.event is Event.RECEIVED_ADMIN_DOWN


def test_a_place_is_had_once_and_empty() -> None:
    ledger = Ledger()
    places = [ledger.take() for _ in range(PLACES)]
    assert sorted(p for p in places if p is not None) == list(range(PLACES))
    assert ledger.take() is None
    ledger.numbers(7)[0] = 9
    ledger.give_back(7)
    assert ledger.take() == 7
    assert list(ledger.numbers(7)) == [UNKNOWN, UNKNOWN]


def test_admin_down_is_told_for_a_detection_time_and_is_no_lost_path() -> None:
    wire = Wire()
    wire.start(FAST)
    wire.run(2)
    removed_at = wire.now
    wire.carry(wire.a, wire.a.sessions.remove("peer", wire.now))
    wire.run(5)
    _, what = wire.b.told[-1]
    assert isinstance(what, Transition)
    assert (what.new, what.path_lost) == (State.DOWN, False)
    last, data = wire.a.sent[-1]
    assert decode(data).state is State.ADMIN_DOWN
    assert last - removed_at <= 0.15
    assert wire.a.sessions.deadline() is None


# --------------------------------------------------------------------------------------------------------------------- timers


@pytest.mark.parametrize(
    ("a", "b", "detect_a", "detect_b"),
    [
        (Timing(50_000, 50_000, 3), Timing(50_000, 50_000, 3), 150, 150),
        (Timing(50_000, 200_000, 3), Timing(100_000, 10_000, 5), 1000, 150),
        (Timing(10_000, 10_000, 1), Timing(1_000_000, 10_000, 2), 2000, 10),
    ],
)
def test_detection_times_are_negotiated(a: Timing, b: Timing, detect_a: int, detect_b: int) -> None:
    """The peer's multiplier times the larger of what it wants to send and what is accepted here (6.8.4)."""
    wire = Wire(delay=0.0001)
    wire.start(a, b)
    wire.run(10)
    assert wire.both_up()
    assert row(wire.a.watched)["detection_time_ms"] == detect_a
    assert row(wire.b.watched)["detection_time_ms"] == detect_b


@pytest.mark.parametrize(("multiplier", "most"), [(3, 1.0), (1, 0.9)])
def test_packets_leave_after_75_to_100_percent_of_the_interval(multiplier: int, most: float) -> None:
    """6.8.7; with a multiplier of 1 at most 90 percent, or each late packet would be a loss."""
    wire = Wire(delay=0.0001)
    wire.start(Timing(50_000, 50_000, multiplier))
    wire.run(1)
    wire.a.sent.clear()
    wire.run(20)
    times = [at for at, _ in wire.a.sent]
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) >= 0.05 * 0.75 - 1e-9
    assert max(gaps) <= 0.05 * most + 1e-9
    assert max(gaps) - min(gaps) > 0.05 * 0.1


def test_a_session_that_is_not_up_sends_once_a_second() -> None:
    session, _ = alone()
    (first,) = packets(list(session.tick(session.deadline() or 0.0)))
    assert first.desired_min_tx == 1_000_000
    assert first.required_min_rx == 50_000
    assert 0.75 <= (session.deadline() or 0.0) - 0.75 <= 1.25


def test_going_up_polls_until_the_peer_has_answered() -> None:
    session, number = alone()
    session.receive(replace(DOWN, your_discriminator=number), 0.0)
    (said,) = packets(list(session.receive(replace(DOWN, state=State.INIT, your_discriminator=number), 0.0)))
    assert (said.state, said.poll, said.desired_min_tx) == (State.UP, True, 50_000)
    (again,) = packets(list(session.tick(session.deadline() or 0.0)))
    assert again.poll
    session.receive(replace(DOWN, state=State.UP, your_discriminator=number, final=True, required_min_rx=1), 0.1)
    (calm,) = packets(list(session.tick(session.deadline() or 0.0)))
    assert not calm.poll


def test_a_poll_is_answered_at_once_and_an_answer_never_asks() -> None:
    session = up(desired_min_tx=1_000_000)
    session.retime(Timing(100_000, 50_000), 1.0)
    assert session.polling
    before = session.deadline()
    ask = replace(DOWN, state=State.UP, your_discriminator=5, poll=True, required_min_rx=50_000)
    (answer,) = packets(list(session.receive(ask, 1.0)))
    assert (answer.final, answer.poll) == (True, False)
    assert session.deadline() == before


def test_slower_sending_and_shorter_detection_wait_for_the_end_of_the_poll() -> None:
    """6.8.3: the peer must know first."""
    session = up(Timing(50_000, 400_000))
    (said,) = packets(list(session.retime(Timing(300_000, 60_000), 1.0)))
    assert (said.poll, said.desired_min_tx, said.required_min_rx) == (True, 300_000, 60_000)
    assert (session.transmit_interval, session.detection_time) == (50_000, 1_200_000)
    answer = replace(DOWN, state=State.UP, your_discriminator=5, desired_min_tx=50_000, required_min_rx=50_000)
    session.receive(replace(answer, final=True), 1.1)
    assert (session.transmit_interval, session.detection_time) == (300_000, 180_000)


def test_faster_sending_and_longer_detection_count_at_once() -> None:
    session = up(Timing(300_000, 60_000))
    session.retime(Timing(50_000, 400_000), 1.0)
    assert (session.transmit_interval, session.detection_time) == (50_000, 1_200_000)


def test_a_peer_in_demand_mode_hears_nothing_but_answers_and_polls() -> None:
    """6.8.7: no periodic packets, yet a Final for its Poll, and a Poll of our own where something is to be told."""
    session = up(demand=True, desired_min_tx=10_000_000)
    assert session.is_silent
    assert packets(list(session.tick(5.0))) == []
    peer = replace(DOWN, state=State.UP, your_discriminator=5, demand=True, desired_min_tx=10_000_000)
    (answer,) = packets(list(session.receive(replace(peer, poll=True), 6.0)))
    assert answer.final
    assert session.retime(Timing(60_000, 60_000), 7.0)
    assert not session.is_silent
    session.receive(replace(peer, final=True), 7.1)
    assert session.is_silent
    session.receive(replace(peer, demand=False, required_min_rx=50_000), 8.0)
    assert packets(list(session.tick(8.2)))


def test_a_peer_that_wants_no_packets_gets_none_until_it_is_gone() -> None:
    session = up(required_min_rx=0)
    assert packets(list(session.tick(0.1))) == []
    (said,) = packets(list(session.tick(10.0)))
    assert (said.state, said.your_discriminator) == (State.DOWN, 0)


def test_echo_is_refused_in_every_packet() -> None:
    session = up(required_min_echo_rx=10_000)
    assert all(packet.required_min_echo_rx == 0 for packet in packets(list(session.tick(0.2))))


def test_keys_and_a_receiver_that_forgets() -> None:
    key = Key(AuthType.METICULOUS_KEYED_SHA1, 1, b"secret")
    wire = Wire(3, loss=0.2)
    wire.start(FAST, keys=(key, key))
    wire.run(5)
    # A peer that was away counts from anywhere once twice the detection time has passed.
    wire.cut = {A, B}
    wire.run(5)
    wire.cut, wire.loss = set(), 0.0
    wire.run(5)
    assert wire.both_up()


def test_a_disabled_session_hears_nothing() -> None:
    session, _ = alone()
    session.disable(0.0)
    with pytest.raises(Discarded, match="administratively down"):
        session.receive(DOWN, 0.1)
    assert session.state.text == "AdminDown"
    session.enable(0.2)
    session.receive(DOWN, 0.3)
    assert session.state is State.INIT


def test_what_is_told_while_nobody_answers() -> None:
    wire = Wire()
    wire.cut = {B}
    wire.start()
    wire.run(5)
    assert row(wire.a.watched)["reason"] == f"no answer from {B} (UDP 3784)"
    assert row(wire.b.watched)["reason"] == "the peer does not hear us: it has not left Down"


def test_many_sessions_share_one_queue_of_timers() -> None:
    sessions = Sessions(Random(1))
    for n in range(100):
        sessions.add(Peering(f"p{n}", f"10.0.{n}.2", FAST), 0.0)
    sent = 0
    for step in range(1, 401):
        told = sessions.tick(step * 0.01)
        sent += sum(isinstance(what, Transmit) for _, what in told)
    assert 100 * 4 <= sent <= 100 * 5.4
