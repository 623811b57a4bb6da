"""BFD control packets: octets both ways, and every discard of RFC 5880 6.8.6 that a packet alone can earn."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bfd.authentication import Authenticator, AuthType, Key
from harness.bfd.packet import ControlPacket, decode, encode
from harness.bfd.terms import Diagnostic, Discard, Discarded, State, diagnostic_text

#: Octets written down from RFC 5880 4.1: version 1, diagnostic 1, Up with Poll, multiplier 3, 24 octets, discriminators, 50 ms, 100 ms.
UP_POLL = bytes.fromhex("21 e0 03 18 00000001 00000002 0000c350 000186a0 00000000")
PACKET = ControlPacket(State.UP, 3, 1, 2, 50_000, 100_000, diagnostic=1, poll=True)
U32 = st.integers(0, 2**32 - 1)


def test_the_octets_of_the_rfc() -> None:
    assert encode(PACKET) == UP_POLL
    assert decode(UP_POLL) == PACKET


@st.composite
def packets(draw: st.DrawFn) -> ControlPacket:
    flags = {name: draw(st.booleans()) for name in ("poll", "final", "control_plane_independent", "demand")}
    yours = draw(U32)
    states = list(State) if yours else [State.DOWN, State.ADMIN_DOWN]
    return ControlPacket(
        state=draw(st.sampled_from(states)),
        detect_mult=draw(st.integers(1, 255)),
        my_discriminator=draw(st.integers(1, 2**32 - 1)),
        your_discriminator=yours,
        desired_min_tx=draw(U32),
        required_min_rx=draw(U32),
        required_min_echo_rx=draw(U32),
        diagnostic=draw(st.integers(0, 31)),
        authentication=draw(st.one_of(st.just(b""), st.binary(min_size=2, max_size=60))),
        **flags,
    )


@given(packets(), st.binary(max_size=8))
def test_what_is_encoded_is_decoded(packet: ControlPacket, behind: bytes) -> None:
    assert decode(encode(packet) + behind) == packet


@given(st.binary(max_size=80))
def test_any_octets_are_a_packet_or_a_reason(data: bytes) -> None:
    try:
        packet = decode(data)
    except Discarded:
        return
    assert encode(packet) == data[: len(encode(packet))]


def patched(offset: int, value: int) -> bytes:
    data = bytearray(UP_POLL)
    data[offset] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (patched(0, 0x01), Discard.VERSION),
        (patched(0, 0x41), Discard.VERSION),
        (patched(3, 23), Discard.SHORT),
        (patched(1, 0xE4), Discard.SHORT),
        (patched(3, 25), Discard.LONG),
        (UP_POLL[:23], Discard.LONG),
        (UP_POLL[:3], Discard.SHORT),
        (b"", Discard.SHORT),
        (patched(2, 0), Discard.DETECT_MULT_ZERO),
        (patched(1, 0xE1), Discard.MULTIPOINT),
        (patched(7, 0), Discard.MY_DISCRIMINATOR_ZERO),
        (patched(11, 0), Discard.YOUR_DISCRIMINATOR_ZERO),
    ],
)
def test_discards(data: bytes, reason: Discard) -> None:
    with pytest.raises(Discarded) as caught:
        decode(data)
    assert caught.value.reason is reason


def test_the_checks_come_in_the_order_of_the_rfc() -> None:
    """A packet that is wrong in every way is refused for the first row; mended row by row, for each next one."""
    data = bytearray(bytes.fromhex("01 c1 00 17 00000000 00000000 00000000 00000000 00000000"))
    mends = [(0, 0x20), (3, 30), (3, 24), (2, 3), (1, 0xC0), (7, 1), (11, 2)]
    found = []
    for offset, value in mends:
        with pytest.raises(Discarded) as caught:
            decode(bytes(data))
        found.append(caught.value.reason)
        data[offset] = value
    decode(bytes(data))
    assert found == [*list(Discard)[:6], Discard.YOUR_DISCRIMINATOR_ZERO]


def test_diagnostics_have_words() -> None:
    assert diagnostic_text(Diagnostic.CONTROL_DETECTION_TIME_EXPIRED) == "control detection time expired"
    assert diagnostic_text(31) == "diagnostic 31"


# ------------------------------------------------------------------------------------------------------------- authentication


def key(kind: AuthType = AuthType.KEYED_SHA1, key_id: int = 7, secret: bytes = b"RFC5880") -> Key:
    return Key(kind, key_id, secret)


KINDS = pytest.mark.parametrize("kind", list(AuthType))


def test_the_octets_of_a_keyed_sha1_section() -> None:
    """The digest is SHA1 over the packet with the key, filled with zeros, in its place (RFC 5880 6.7.4)."""
    signed = Authenticator(key(), first=4).sign(PACKET)
    head = bytes.fromhex("21 e4 03 34 00000001 00000002 0000c350 000186a0 00000000  04 1c 07 00 00000005")
    assert signed[:32] == head
    assert signed[32:] == hashlib.sha1(head + b"RFC5880" + bytes(13)).digest()


@KINDS
def test_a_signed_packet_is_accepted_and_a_changed_one_is_not(kind: AuthType) -> None:
    sender, receiver = Authenticator(key(kind), 0), Authenticator(key(kind), 99)
    for _ in range(5):
        data = sender.sign(PACKET)
        receiver.verify(decode(data))
    for offset in (0, 2, 7, 15, 28, 40):
        forged = bytearray(sender.sign(PACKET))
        forged[offset] ^= 2
        with pytest.raises(Discarded, match="authentication failed"):
            receiver.verify(decode(bytes(forged)))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (key(secret=b"another"), "wrong digest"),
        (key(key_id=8), "key 8, expected 7"),
        (key(AuthType.METICULOUS_KEYED_SHA1), "type 5"),
    ],
)
def test_another_key_is_refused_with_the_reason(other: Key, said: str) -> None:
    with pytest.raises(Discarded, match=said):
        Authenticator(key(), 0).verify(decode(Authenticator(other, 0).sign(PACKET)))


@KINDS
def test_old_packets_do_not_count_again(kind: AuthType) -> None:
    sender, receiver = Authenticator(key(kind), 2**32 - 3), Authenticator(key(kind), 0)
    # The sequence number passes its end on the way.
    heard = [sender.sign(replace(PACKET, diagnostic=n)) for n in range(8)]
    for data in heard:
        receiver.verify(decode(data))
    with pytest.raises(Discarded, match="sequence number"):
        receiver.verify(decode(heard[3]))
    if kind is AuthType.METICULOUS_KEYED_SHA1:
        with pytest.raises(Discarded, match="sequence number"):
            receiver.verify(decode(heard[-1]))
    else:
        receiver.verify(decode(heard[-1]))
    receiver.forget()
    receiver.verify(decode(heard[3]))


@KINDS
def test_a_gap_of_more_than_three_times_the_multiplier_is_refused(kind: AuthType) -> None:
    sender, receiver = Authenticator(key(kind), 0), Authenticator(key(kind), 0)
    receiver.verify(decode(sender.sign(replace(PACKET, diagnostic=0))))
    later = [sender.sign(replace(PACKET, diagnostic=n % 31 + 1)) for n in range(10)]
    with pytest.raises(Discarded, match="sequence number"):
        receiver.verify(decode(later[9]))
    receiver.verify(decode(later[8]))


def test_keyed_sha1_counts_where_the_packet_differs_only() -> None:
    sender = Authenticator(key(), 0)
    assert sender.sign(PACKET) == sender.sign(PACKET)
    assert sender.sign(PACKET) != sender.sign(replace(PACKET, poll=False))
    meticulous = Authenticator(key(AuthType.METICULOUS_KEYED_SHA1), 0)
    assert meticulous.sign(PACKET) != meticulous.sign(PACKET)


def test_a_section_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(Discarded, match="has 5 octets"):
        Authenticator(key(), 0).verify(replace(PACKET, authentication=b"\x01\x05\x01ab"))
