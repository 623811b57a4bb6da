"""Does anything but IPsec cross the internet? Reads a capture of the public side and says what it found, packet by packet.

Allowed are IKE (RFC 7296), ESP (RFC 4303) and both inside UDP 4500 (RFC 3948), ARP, ICMP errors between outer addresses that quote only
outer packets, and IPv6 link-local housekeeping (RFC 4861, RFC 3810), which no router passes on. Everything else is a violation: an
inner address, any other protocol, ESP whose inside can be read (NULL encryption, RFC 2410), the marker of the test's own records
anywhere. A capture cut short could hide all that, so truncated packets are violations too.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.capture.pcapng import Packet, network_layer

_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_IKE_PORT, _NAT_PORT = 500, 4500
# ICMP type -> quotes the packet it is about (RFC 792)
_ICMP_ERRORS = {3, 4, 5, 11, 12}


class Kind(StrEnum):
    """What a permitted packet is."""

    IKE = "IKE"
    IKE_NAT = "IKE in UDP 4500"
    ESP = "ESP"
    ESP_NAT = "ESP in UDP 4500"
    KEEPALIVE = "NAT keepalive"
    FRAGMENT = "fragment of IPsec"
    ARP = "ARP"
    ICMP_ERROR = "ICMP error about IPsec"
    LINK_LOCAL = "IPv6 link-local housekeeping"


@dataclass(frozen=True, slots=True)
class Violation:
    """Packet ``number`` of the capture (from 1, as Wireshark counts) and why it must not be there."""

    number: int
    time: int
    interface: str
    reason: str
    head: bytes

    def __str__(self) -> str:
        return f"packet {self.number} on {self.interface}: {self.reason} ({self.head[:40].hex()})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a capture holds: permitted packets by kind, and every violation."""

    counts: Counter[Kind]
    violations: tuple[Violation, ...]

    @property
    def protected(self) -> int:
        """Packets that carry ESP, bare or in UDP: without any, an absence of clear text proves nothing."""
        return self.counts[Kind.ESP] + self.counts[Kind.ESP_NAT] + self.counts[Kind.FRAGMENT]

    def __str__(self) -> str:
        found = ", ".join(f"{count} {kind}" for kind, count in self.counts.most_common()) or "nothing"
        return found + "".join(f"\n{violation}" for violation in self.violations)


class ClearText(Exception):
    """Raised inside this module for the packet at hand: the reason it must not be there."""


class Inspector:
    """Judges packets one after the other.

    ``outer`` are the public addresses between which IPsec may run, ``inner`` the prefixes that must not be seen, ``markers`` octet strings
    that must not be found in any packet.
    """

    def __init__(self, *, outer: Iterable[str], inner: Iterable[str], markers: Sequence[bytes] = ()) -> None:
        self._outer = {ipaddress.IPv4Address(address).packed for address in outer}
        self._inner = [ipaddress.IPv4Network(prefix) for prefix in inner]
        self._markers = tuple(markers)
        self._fragmented: set[bytes] = set()
        self._judges: dict[int, Callable[[bytes], Kind]] = {
            _ARP: lambda _data: Kind.ARP,
            _IPV4: self._ipv4,
            _IPV6: self._ipv6,
        }

    def judge(self, packet: Packet) -> Kind:
        """What the packet is. Raises ClearText with the reason when it must not be there."""
        ethertype, data = network_layer(packet)
        if len(packet.data) < packet.length:
            raise ClearText(f"only {len(packet.data)} of {packet.length} octets were captured: record it whole")
        for marker in self._markers:
            if marker in packet.data:
                raise ClearText(f"holds the marker {marker.hex()} of the test's own traffic")
        judge = self._judges.get(ethertype)
        if judge is None:
            raise ClearText(f"EtherType {ethertype:#06x}")
        return judge(data)

    def _ipv6(self, data: bytes) -> Kind:
        if len(data) < 40:
            raise ClearText("IPv6 header cut short")
        # fe80::/10 or, before the address is there, the unspecified one; hop-by-hop options carry MLD's router alert.
        local = (data[8] == 0xFE and data[9] & 0xC0 == 0x80) or data[8:24] == bytes(16)
        if not local or data[6] not in (0, 58):
            raise ClearText(f"IPv6 from {ipaddress.IPv6Address(data[8:24])}, next header {data[6]}")
        return Kind.LINK_LOCAL

    def _ipv4(self, data: bytes) -> Kind:
        protocol, header = self._header(data)
        payload = data[header : int.from_bytes(data[2:4])]
        fragment = int.from_bytes(data[6:8])
        identity = data[4:6] + data[9:10] + data[12:20]
        if fragment & 0x1FFF:
            if identity not in self._fragmented:
                raise ClearText("a fragment whose beginning was no IPsec packet")
            return Kind.FRAGMENT
        if protocol == 1:
            return self._icmp(payload)
        kind = self._ipsec(protocol, payload)
        if fragment & 0x2000:
            self._fragmented.add(identity)
        return kind

    def _header(self, data: bytes) -> tuple[int, int]:
        """(protocol, header length) of an IPv4 packet between outer addresses."""
        if len(data) < 20 or data[0] >> 4 != 4:
            raise ClearText("IPv4 header cut short")
        for end, packed in (("from", data[12:16]), ("to", data[16:20])):
            if packed not in self._outer:
                address = ipaddress.IPv4Address(packed)
                what = "inner" if any(address in prefix for prefix in self._inner) else "unknown"
                raise ClearText(f"{what} address: IPv4 protocol {data[9]} {end} {address}")
        return data[9], (data[0] & 15) * 4

    def _icmp(self, payload: bytes) -> Kind:
        if len(payload) < 8 or payload[0] not in _ICMP_ERRORS:
            raise ClearText(f"ICMP type {payload[0] if payload else '?'}")
        quoted = payload[8:]
        protocol, header = self._header(quoted)
        self._ipsec(protocol, quoted[header:])
        return Kind.ICMP_ERROR

    def _ipsec(self, protocol: int, payload: bytes) -> Kind:
        """IKE or ESP in whichever dress."""
        if protocol == 50:
            self._sealed(payload)
            return Kind.ESP
        if protocol != 17 or len(payload) < 8:
            raise ClearText(f"IPv4 protocol {protocol}")
        ports, inside = {int.from_bytes(payload[0:2]), int.from_bytes(payload[2:4])}, payload[8:]
        if _NAT_PORT in ports:
            # RFC 3948 section 2: four zero octets mark IKE, a lone 0xff a keepalive, anything else is an SPI.
            if inside == b"\xff":
                return Kind.KEEPALIVE
            if inside[:4] == bytes(4):
                return Kind.IKE_NAT
            self._sealed(inside)
            return Kind.ESP_NAT
        if _IKE_PORT in ports:
            return Kind.IKE
        raise ClearText(f"UDP ports {' and '.join(map(str, sorted(ports)))}")

    def _sealed(self, esp: bytes) -> None:
        """An inner IPv4 header right behind SPI and sequence number, where NULL encryption leaves it, is clear text."""
        inside = esp[8:]
        if len(inside) >= 20 and inside[0] >> 4 == 4:
            ends = [ipaddress.IPv4Address(inside[12:16]), ipaddress.IPv4Address(inside[16:20])]
            if all(any(end in prefix for prefix in self._inner) for end in ends):
                raise ClearText(f"ESP without encryption: a packet from {ends[0]} to {ends[1]} can be read")


def inspect(
    packets: Iterable[Packet], *, outer: Iterable[str], inner: Iterable[str], markers: Sequence[bytes] = ()
) -> Verdict:
    """The verdict over a whole capture; see :class:`Inspector` for the parameters."""
    inspector = Inspector(outer=outer, inner=inner, markers=markers)
    counts: Counter[Kind] = Counter()
    violations = []
    for number, packet in enumerate(packets, 1):
        try:
            counts[inspector.judge(packet)] += 1
        except ClearText as found:
            violations.append(Violation(number, packet.time, packet.interface, str(found), packet.data))
    return Verdict(counts, tuple(violations))
