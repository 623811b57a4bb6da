"""What the packets of a capture say in BGP's words: TCP's signs, and the messages that begin in a segment.

For showing which packet led to what, packet by packet: streams are not reassembled, and a message that is spread over segments is named
where it begins. Nothing is verified. IPv4 only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.capture.pcapng import Packet, network_layer

PORT = 179
_TCP, _ETHERTYPE_IPV4, _HEADER = 6, 0x0800, 19
_MARKER = b"\xff" * 16
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_UPDATE, _NOTIFICATION = 2, 3
_TYPES = {1: "OPEN", 2: "UPDATE", 3: "NOTIFICATION", 4: "KEEPALIVE", 5: "ROUTE-REFRESH"}


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment of a BGP session. ``time`` is seconds since 1970; ``signs`` are "SYN", "SYN ACK", "FIN", "RST" and the names of the
    messages in it ("OPEN", "NOTIFICATION 2/2", "UPDATE (withdraws)"), in order; ``outgoing`` None where the capture does not say."""

    time: float
    interface: str
    outgoing: bool | None
    source: str
    destination: str
    ports: tuple[int, int]
    signs: tuple[str, ...]


def segments(packets: Iterable[Packet]) -> Iterator[Segment]:
    """The BGP segments among packets that carry a sign or data; bare acknowledgements are left out."""
    for packet in packets:
        kind, datagram = network_layer(packet)
        if kind != _ETHERTYPE_IPV4 or len(datagram) < 20 or datagram[0] >> 4 != 4 or datagram[9] != _TCP:
            continue
        length = int.from_bytes(datagram[2:4], "big")
        tcp = datagram[(datagram[0] & 15) * 4 : length]
        if len(tcp) < 20:
            continue
        ports = (int.from_bytes(tcp[:2], "big"), int.from_bytes(tcp[2:4], "big"))
        if PORT not in ports:
            continue
        signs = (*_flags(tcp[13]), *_messages(tcp[(tcp[12] >> 4) * 4 :]))
        if signs:
            ends = (_address(datagram[12:16]), _address(datagram[16:20]))
            yield Segment(packet.time / 1e9, packet.interface, packet.outgoing, *ends, ports, signs)


def _flags(flags: int) -> Iterator[str]:
    if flags & _SYN:
        yield "SYN ACK" if flags & _ACK else "SYN"
    if flags & _RST:
        yield "RST"
    if flags & _FIN:
        yield "FIN"


def _messages(data: bytes) -> Iterator[str]:
    if data and not data.startswith(_MARKER[: len(data)]):
        yield f"octets without a marker ({len(data)})"
        return
    while len(data) >= _HEADER and data.startswith(_MARKER):
        length, kind = struct.unpack_from("!HB", data, 16)
        body = data[_HEADER:length]
        name = _TYPES.get(kind, f"type {kind}")
        if kind == _NOTIFICATION and len(body) >= 2:
            name = f"{name} {body[0]}/{body[1]}"
        elif kind == _UPDATE and len(body) >= 2 and any(body[:2]):
            name = f"{name} (withdraws)"
        yield name
        data = data[max(length, _HEADER) :]


def _address(octets: bytes) -> str:
    return ".".join(map(str, octets))
