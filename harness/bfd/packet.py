"""The BFD Control packet (RFC 5880 4.1), and the checks of 6.8.6 that need nothing but the packet.

An authentication section is kept as its octets: :mod:`harness.bfd.authentication` makes and judges it. Intervals are microseconds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from harness.bfd.terms import Discard, Discarded, State

VERSION = 1
_FIXED = struct.Struct("!BBBBIIIII")
LENGTH = _FIXED.size
_LENGTH_AUTHENTICATED = LENGTH + 2
_POLL, _FINAL, _INDEPENDENT, _AUTHENTICATED, _DEMAND, _MULTIPOINT = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01


@dataclass(frozen=True, slots=True)
class ControlPacket:
    """One packet. ``diagnostic`` is 0 to 31; ``authentication`` the section's octets, empty where the A bit is clear."""

    state: State
    detect_mult: int
    my_discriminator: int
    your_discriminator: int = 0
    desired_min_tx: int = 1_000_000
    required_min_rx: int = 1_000_000
    required_min_echo_rx: int = 0
    diagnostic: int = 0
    poll: bool = False
    final: bool = False
    control_plane_independent: bool = False
    demand: bool = False
    authentication: bytes = b""


def encode(packet: ControlPacket) -> bytes:
    """The packet's octets: the mandatory section and the authentication section as it is."""
    flags = (
        _POLL * packet.poll
        | _FINAL * packet.final
        | _INDEPENDENT * packet.control_plane_independent
        | _AUTHENTICATED * bool(packet.authentication)
        | _DEMAND * packet.demand
    )
    fixed = _FIXED.pack(
        VERSION << 5 | packet.diagnostic,
        packet.state << 6 | flags,
        packet.detect_mult,
        LENGTH + len(packet.authentication),
        packet.my_discriminator,
        packet.your_discriminator,
        packet.desired_min_tx,
        packet.required_min_rx,
        packet.required_min_echo_rx,
    )
    return fixed + packet.authentication


def decode(data: bytes) -> ControlPacket:
    """The packet at the start of a datagram; what follows its length is ignored. Raises Discarded (RFC 5880 6.8.6)."""
    # Of a datagram too short to have a length field, the version still counts first.
    if data and data[0] >> 5 != VERSION:
        raise Discarded(Discard.VERSION, f"it is {data[0] >> 5}")
    if len(data) < LENGTH:
        raise Discarded(Discard.SHORT if len(data) < 4 or data[3] < LENGTH else Discard.LONG, f"{len(data)} octets")
    head, flags, detect_mult, length, mine, yours, desired_tx, required_rx, echo_rx = _FIXED.unpack_from(data)
    authenticated = bool(flags & _AUTHENTICATED)
    if length < (_LENGTH_AUTHENTICATED if authenticated else LENGTH):
        raise Discarded(Discard.SHORT, f"it is {length}")
    if length > len(data):
        raise Discarded(Discard.LONG, f"it is {length} in a datagram of {len(data)} octets")
    if detect_mult == 0:
        raise Discarded(Discard.DETECT_MULT_ZERO)
    if flags & _MULTIPOINT:
        raise Discarded(Discard.MULTIPOINT)
    if mine == 0:
        raise Discarded(Discard.MY_DISCRIMINATOR_ZERO)
    state = State(flags >> 6)
    if yours == 0 and state not in (State.DOWN, State.ADMIN_DOWN):
        raise Discarded(Discard.YOUR_DISCRIMINATOR_ZERO, f"the state is {state.text}")
    return ControlPacket(
        state=state,
        detect_mult=detect_mult,
        my_discriminator=mine,
        your_discriminator=yours,
        desired_min_tx=desired_tx,
        required_min_rx=required_rx,
        required_min_echo_rx=echo_rx,
        diagnostic=head & 0x1F,
        poll=bool(flags & _POLL),
        final=bool(flags & _FINAL),
        control_plane_independent=bool(flags & _INDEPENDENT),
        demand=bool(flags & _DEMAND),
        authentication=bytes(data[LENGTH:length]) if authenticated else b"",
    )
