"""What packets say in BGP's words: TCP's signs and messages, of frames put together here, cut short at every octet."""

from __future__ import annotations

import struct

import pytest

from harness.bgp.messages import Keepalive, Notification, encode
from harness.capture.bgp_segments import segments
from harness.capture.pcapng import LinkType, Packet

KEEPALIVE = encode(Keepalive())
UPDATE = b"\xff" * 16 + b"\x00\x17\x02" + bytes(4)
WITHDRAW = b"\xff" * 16 + b"\x00\x19\x02" + b"\x00\x02\x08\x0a" + bytes(2)
SYN, ACK, FIN, RST = 2, 16, 1, 4


def frame(flags: int, data: bytes = b"", *, port: int = 179, protocol: int = 6) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 40000, port, 1, 1, 5 << 4, flags, 1000, 0, 0) + data
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 1, protocol, 0, b"\x0a\x01\x01\x02", b"\x0a\x01\x01\x01"
    )
    # The padding of a short Ethernet frame is none of TCP's data.
    return bytes(12) + b"\x08\x00" + ip + tcp + bytes(6)


def signs(data: bytes) -> list[tuple[str, ...]]:
    return [
        segment.signs for segment in segments([Packet("vbr:circuit1", LinkType.ETHERNET, 5 * 10**9, len(data), data)])
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frame(SYN), ("SYN",)),
        (frame(SYN | ACK), ("SYN ACK",)),
        (frame(RST | ACK), ("RST",)),
        (frame(FIN | ACK, KEEPALIVE), ("FIN", "KEEPALIVE")),
        (frame(ACK, KEEPALIVE + encode(Notification(6, 7))), ("KEEPALIVE", "NOTIFICATION 6/7")),
        (frame(ACK, UPDATE + WITHDRAW), ("UPDATE", "UPDATE (withdraws)")),
        (frame(ACK, KEEPALIVE[:18] + b"\x09"), ("type 9",)),
        (frame(ACK, b"hello"), ("octets without a marker (5)",)),
    ],
)
def test_signs(data: bytes, expected: tuple[str, ...]) -> None:
    (segment,) = segments([Packet("vbr:circuit1", LinkType.ETHERNET, 5 * 10**9, len(data), data, outgoing=False)])
    assert segment.signs == expected
    assert (segment.time, segment.interface, segment.outgoing) == (5.0, "vbr:circuit1", False)
    assert (segment.source, segment.destination, segment.ports) == ("10.1.1.2", "10.1.1.1", (40000, 179))


@pytest.mark.parametrize(
    "data",
    [frame(ACK), frame(SYN, port=80), frame(SYN, protocol=17), b"", bytes(14), bytes(12) + b"\x86\xdd" + bytes(60)],
)
def test_what_is_left_out(data: bytes) -> None:
    assert signs(data) == []


def test_frames_cut_short_are_no_trouble() -> None:
    whole = frame(ACK, KEEPALIVE + encode(Notification(6, 2)))
    for length in range(len(whole)):
        signs(whole[:length])
