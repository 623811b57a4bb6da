"""TCP segments out of captured packets: addresses, numbers, flags, octets. No streams, no checksums.

Sources: RFC 791, RFC 8200 (extension headers are stepped over), RFC 9293 3.1. Fragments other than whole packets are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import ip_address

from harness.capture.pcapng import Packet, network_layer

BGP_PORT = 179
_TCP = 6
_IPV6_HEADERS = (0, 43, 60)
# LINKTYPE -> octets before the network layer's own; of "any" captures and of loopback elsewhere.
_OTHER_LINKS = {113: 16, 276: 20, 0: 4, 108: 4, 12: 0, 14: 0, 228: 0, 229: 0}

Endpoint = tuple[str, int]


class Flag(IntFlag):
    """RFC 9293 3.1."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10


@dataclass(frozen=True, slots=True)
class Segment:
    """``time`` in nanoseconds since the epoch; ``data`` what was captured of ``length`` octets."""

    time: int
    source: Endpoint
    target: Endpoint
    seq: int
    ack: int
    flags: Flag
    data: bytes
    length: int


def segments(packets: Iterable[Packet], port: int = BGP_PORT) -> Iterator[Segment]:
    """The segments from or to ``port``."""
    for packet in packets:
        segment = _of(packet)
        if segment is not None and port in (segment.source[1], segment.target[1]):
            yield segment


def _network(packet: Packet) -> bytes:
    skip = _OTHER_LINKS.get(packet.link)
    if skip is not None:
        return packet.data[skip:]
    kind, data = network_layer(packet)
    return data if kind in (0x0800, 0x86DD) else b""


def _of(packet: Packet) -> Segment | None:
    data = _network(packet)
    if len(data) < 20:
        return None
    if data[0] >> 4 == 4:
        head, total = (data[0] & 0x0F) * 4, int.from_bytes(data[2:4], "big")
        if data[9] != _TCP or int.from_bytes(data[6:8], "big") & 0x3FFF:
            return None
        source, target = data[12:16], data[16:20]
    elif data[0] >> 4 == 6 and len(data) >= 40:
        head, total, following = 40, 40 + int.from_bytes(data[4:6], "big"), data[6]
        while following in _IPV6_HEADERS and len(data) >= head + 8:
            following, head = data[head], head + 8 + 8 * data[head + 1]
        if following != _TCP:
            return None
        source, target = data[8:24], data[24:40]
    else:
        return None
    tcp = data[head:total]
    if len(tcp) < 20:
        return None
    body = (tcp[12] >> 4) * 4
    return Segment(
        packet.time,
        (str(ip_address(source)), int.from_bytes(tcp[0:2], "big")),
        (str(ip_address(target)), int.from_bytes(tcp[2:4], "big")),
        int.from_bytes(tcp[4:8], "big"),
        int.from_bytes(tcp[8:12], "big"),
        Flag(tcp[13] & 0x1F),
        tcp[body:],
        max(total - head - body, 0),
    )
