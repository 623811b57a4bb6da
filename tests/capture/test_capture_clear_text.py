"""Every kind of packet that may cross the internet is allowed, every other is found, NULL encryption too."""

from __future__ import annotations

import struct

import pytest

from harness.capture.clear_text import Kind, Verdict, inspect
from harness.capture.pcapng import LinkType, Packet
from harness.traffic.record import MAGIC

GATEWAY, CLOUD = "198.51.100.1", "203.0.113.191"
OUTER = (GATEWAY, CLOUD, "192.0.2.172")
INNER = ("192.168.0.0/16", "10.0.0.0/8")


def _ip(protocol: int, payload: bytes, source: str = GATEWAY, destination: str = CLOUD, fragment: int = 0) -> bytes:
    ends = b"".join(bytes(map(int, a.split("."))) for a in (source, destination))
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 77, fragment, 64, protocol, 0) + ends + payload


def _udp(source: int, destination: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def _ethernet(ethertype: int, payload: bytes) -> bytes:
    return bytes(12) + struct.pack("!H", ethertype) + payload


def _inspect(*frames: bytes, cut: int = 0) -> Verdict:
    packets = [Packet("internet:gw1", LinkType.ETHERNET, n, len(f) + cut, f) for n, f in enumerate(frames)]
    return inspect(packets, outer=OUTER, inner=INNER, markers=[MAGIC])


_CIPHERTEXT = bytes.fromhex("c1d2e3f400000001") + bytes(range(200, 256)) * 2
_PING = _ip(1, struct.pack("!BBHHH", 8, 0, 0, 1, 1) + bytes(8), "192.168.0.5", "10.0.0.1")
_QUOTE = struct.pack("!BBHI", 3, 4, 0, 1400)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (_ethernet(0x0800, _ip(17, _udp(500, 500, bytes(28)))), Kind.IKE),
        (_ethernet(0x0800, _ip(17, _udp(4500, 4500, bytes(4) + bytes(28)))), Kind.IKE_NAT),
        (_ethernet(0x0800, _ip(17, _udp(4500, 4500, _CIPHERTEXT))), Kind.ESP_NAT),
        (_ethernet(0x0800, _ip(17, _udp(4500, 4500, b"\xff"))), Kind.KEEPALIVE),
        (_ethernet(0x0800, _ip(50, _CIPHERTEXT)), Kind.ESP),
        (_ethernet(0x0806, bytes(28)), Kind.ARP),
        (_ethernet(0x0800, _ip(1, _QUOTE + _ip(50, _CIPHERTEXT)[:28], "192.0.2.172", GATEWAY)), Kind.ICMP_ERROR),
        (
            _ethernet(0x86DD, b"\x60" + bytes(5) + b"\x3a\xff" + b"\xfe\x80" + bytes(14) + b"\xff\x02" + bytes(14)),
            Kind.LINK_LOCAL,
        ),
        (_ethernet(0x86DD, b"\x60" + bytes(5) + b"\x00\x01" + bytes(16) + b"\xff\x02" + bytes(14)), Kind.LINK_LOCAL),
    ],
)
def test_what_may_be_there(frame: bytes, kind: Kind) -> None:
    verdict = _inspect(frame)
    assert verdict.violations == ()
    assert verdict.counts == {kind: 1}


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (_ethernet(0x0800, _PING), "inner address: IPv4 protocol 1 from 192.168.0.5"),
        (_ethernet(0x0800, _ip(50, _CIPHERTEXT, GATEWAY, "10.0.0.1")), "inner address: IPv4 protocol 50 to 10.0.0.1"),
        (_ethernet(0x0800, _ip(50, _CIPHERTEXT, "8.8.8.8")), "unknown address: IPv4 protocol 50 from 8.8.8.8"),
        (_ethernet(0x0800, _ip(4, _PING)), "IPv4 protocol 4"),
        (_ethernet(0x0800, _ip(6, bytes(20))), "IPv4 protocol 6"),
        (_ethernet(0x0800, _ip(17, _udp(53, 53, b"x"))), "UDP ports 53"),
        (_ethernet(0x0800, _ip(17, b"")), "IPv4 protocol 17"),
        (_ethernet(0x0800, _ip(1, struct.pack("!BBHI", 8, 0, 0, 1))), "ICMP type 8"),
        (_ethernet(0x0800, _ip(1, _QUOTE + _PING[:28])), "inner address: IPv4 protocol 1 from 192.168.0.5"),
        (
            _ethernet(0x0800, _ip(50, _CIPHERTEXT[:8] + _PING)),
            "ESP without encryption: a packet from 192.168.0.5 to 10.0.0.1",
        ),
        (_ethernet(0x0800, _ip(17, _udp(4500, 4500, _CIPHERTEXT[:8] + _PING))), "ESP without encryption"),
        (_ethernet(0x0800, _ip(50, _CIPHERTEXT + MAGIC)), "holds the marker 766272a7"),
        (_ethernet(0x0800, _ip(50, _CIPHERTEXT, fragment=0x00B9)), "a fragment whose beginning was no IPsec packet"),
        (
            _ethernet(0x86DD, b"\x60" + bytes(5) + b"\x3a\xff" + b"\x20\x01" + bytes(30)),
            "IPv6 from 2001::, next header 58",
        ),
        (
            _ethernet(0x86DD, b"\x60" + bytes(5) + b"\x11\xff" + b"\xfe\x80" + bytes(30)),
            "IPv6 from fe80::, next header 17",
        ),
        (_ethernet(0x8863, bytes(20)), "EtherType 0x8863"),
        (_ethernet(0x0800, b"\x45" + bytes(10)), "IPv4 header cut short"),
        (bytes(5), "EtherType 0x0000"),
    ],
)
def test_what_must_not_be_there(frame: bytes, reason: str) -> None:
    verdict = _inspect(_ethernet(0x0806, bytes(28)), frame)
    assert len(verdict.violations) == 1
    assert verdict.violations[0].reason.startswith(reason)
    assert verdict.violations[0].number == 2
    assert "packet 2 on internet:gw1: " in str(verdict)


def test_fragments_follow_their_beginning() -> None:
    begun = _ethernet(0x0800, _ip(17, _udp(4500, 4500, _CIPHERTEXT), fragment=0x2000))
    rest = _ethernet(0x0800, _ip(17, _CIPHERTEXT, fragment=0x000F))
    verdict = _inspect(begun, rest)
    assert verdict.counts == {Kind.ESP_NAT: 1, Kind.FRAGMENT: 1}
    assert verdict.protected == 2


def test_a_capture_cut_short_proves_nothing() -> None:
    verdict = _inspect(_ethernet(0x0800, _ip(50, _CIPHERTEXT)), cut=10)
    assert "record it whole" in verdict.violations[0].reason
    assert verdict.protected == 0
