"""Which session a packet belongs to, and why one is discarded: numbers, addresses, ports, hops, keys."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from harness.bfd.authentication import Authenticator, AuthType, Key
from harness.bfd.demux import Arrival, Peering, Refusal, Sessions, row
from harness.bfd.packet import decode, encode
from harness.bfd.terms import Discard, State
from tests.bfd.test_bfd_session import DOWN, FAST
from tests.bfd.wire import A, B, Wire


def refused(arrival: Arrival, sessions: Sessions) -> Refusal:
    """The refusal that an arrival earns; the session is as before."""
    before = {k: v for k, v in row(sessions["peer"]).items() if not k.startswith(("refused", "reason"))}
    ((_, refusal),) = sessions.arrived(arrival, 0.5)
    assert isinstance(refusal, Refusal)
    assert {k: v for k, v in row(sessions["peer"]).items() if not k.startswith(("refused", "reason"))} == before
    assert refusal.text in row(sessions["peer"])["reason"]
    return refusal


def one(hop_count: int = 1, key: Key | None = None, local: str | None = None) -> Sessions:
    sessions = Sessions(Random(1))
    sessions.add(Peering("peer", B, FAST, hop_count, local, key), 0.0)
    return sessions


HELLO = Arrival(encode(DOWN), B, A, 255, 3784)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": b"\x00" + HELLO.data[1:]}, Discard.VERSION),
        ({"data": HELLO.data[:20]}, Discard.LONG),
        ({"data": encode(replace(DOWN, your_discriminator=9))}, Discard.YOUR_DISCRIMINATOR_UNKNOWN),
        ({"data": encode(replace(DOWN, authentication=bytes(28)))}, Discard.AUTHENTICATION_UNEXPECTED),
        ({"ttl": 254}, Discard.HOPS),
        ({"port": 4784}, Discard.KIND),
    ],
)
def test_discards_of_a_session(change: dict[str, object], reason: Discard) -> None:
    arrival = replace(HELLO, **change)  # type: ignore[arg-type]
    assert refused(arrival, one()).reason is reason


def test_discards_of_an_authenticated_session() -> None:
    key = Key(AuthType.KEYED_SHA1, 1, b"secret")
    assert refused(HELLO, one(key=key)).reason is Discard.AUTHENTICATION_MISSING
    forged = replace(HELLO, data=encode(replace(DOWN, authentication=bytes(28))))
    assert refused(forged, one(key=key)).reason is Discard.AUTHENTICATION_FAILED


def test_a_first_packet_is_chosen_for_by_its_addresses() -> None:
    """RFC 5881 3 and RFC 5883 4: the discriminator is 0, there is nothing else."""
    sessions = one(local=A)
    assert refused(replace(HELLO, destination="10.9.9.9"), sessions).reason is Discard.ADDRESS
    assert sessions.arrived(replace(HELLO, source="10.9.9.9"), 0.6) == []
    assert sessions.strays == {Discard.NO_SESSION: 1}


def elsewhere(sessions: Sessions) -> Arrival:
    """A packet with the number of "peer", from and to addresses that are of no session."""
    number = sessions["peer"].session.discriminator
    return replace(HELLO, source="10.9.9.9", data=encode(replace(DOWN, your_discriminator=number)))


def test_our_discriminator_alone_says_which_session_a_packet_belongs_to() -> None:
    """RFC 5880 6.3: addresses may change; what is sent goes on to the address that was configured (RFC 5881 6)."""
    sessions = one(local=A)
    sessions.add(Peering("other", "10.9.9.9", FAST, 1), 0.0)
    told = sessions.arrived(replace(elsewhere(sessions), destination="10.8.8.8"), 0.1)
    assert {watched.peering.name for watched, _ in told} == {"peer"}
    assert sessions["peer"].session.state is State.INIT
    assert sessions["peer"].peering.remote == B
    assert row(sessions["peer"])["source"] == "10.9.9.9"
    assert sessions["other"].session.state is State.DOWN
    sessions.arrived(replace(elsewhere(sessions), source=B), 0.2)
    assert row(sessions["peer"])["source"] == B


@pytest.mark.parametrize(
    ("hop_count", "change", "reason"),
    [
        (1, {"ttl": 254}, Discard.HOPS),
        (1, {"port": 4784}, Discard.KIND),
        (3, {"ttl": 252, "port": 4784}, Discard.HOPS),
        (3, {"port": 3784}, Discard.KIND),
    ],
)
def test_a_changed_address_has_to_be_as_near_as_the_session_says(
    hop_count: int, change: dict[str, int], reason: Discard
) -> None:
    sessions = one(hop_count)
    arrival = replace(elsewhere(sessions), **change)  # type: ignore[arg-type]
    assert refused(arrival, sessions).reason is reason
    assert row(sessions["peer"])["source"] is None


def test_a_changed_address_does_not_get_round_the_key() -> None:
    key = Key(AuthType.METICULOUS_KEYED_SHA1, 1, b"secret")
    sessions = one(key=key)
    plain = elsewhere(sessions)
    assert refused(plain, sessions).reason is Discard.AUTHENTICATION_MISSING
    signed = Authenticator(key, 1).sign(decode(plain.data))
    sessions.arrived(replace(plain, data=signed), 0.6)
    assert sessions["peer"].session.state is State.INIT


@pytest.mark.spec("VBR-33")
@pytest.mark.parametrize(
    ("hop_count", "devices", "is_up"), [(1, 1, True), (1, 2, False), (4, 4, True), (4, 5, False), (255, 255, True)]
)
def test_the_hop_count_is_the_most_devices_on_the_way(hop_count: int, devices: int, is_up: bool) -> None:
    wire = Wire(hops=devices)
    wire.start(hop_counts=(hop_count, hop_count))
    wire.run(10)
    assert wire.both_up() is is_up
    if not is_up:
        found = row(wire.a.watched)
        assert (found["hop_count"], found["refused_ttl"]) == (hop_count, 256 - devices)
        assert (
            f"received TTL {256 - devices}, hop count {hop_count} allows {256 - hop_count} and more" in found["reason"]
        )
        # Told once, counted each time.
        assert len(wire.a.told) == 1
        assert found["refused"]["hops"] > 5
