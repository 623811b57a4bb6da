"""The pcapng file format, both ways: what Wireshark and tshark read, with several interfaces and their names in one file.

Pure encoding and decoding of bytes; who captures is ``recorder``'s business. Section header, interface description, enhanced packet
and interface statistics blocks are written, with nanosecond times, the packet's direction, comments and drop counts; the same are
read, of either byte order, and other blocks are passed over. Source: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER = 0x1A2B3C4D
_OPTION_END, _OPTION_COMMENT = 0, 1
_IF_NAME, _IF_TSRESOL = 2, 9
_EPB_FLAGS = 2
_ISB_RECEIVED, _ISB_DROPPED = 4, 5
_SHB_HARDWARE_APPLICATION = 4


class NotACapture(ValueError):
    """The file is not pcapng, or is damaged where its writer could not have left it so."""


class LinkType(IntEnum):
    """LINKTYPE values (tcpdump.org/linktypes.html) of the interfaces a lab has."""

    ETHERNET = 1
    RAW = 101

    @staticmethod
    def of(hardware: int) -> LinkType:
        """By the interface's ARPHRD type: Ethernet and loopback have a link header, TUN and xfrm interfaces do not."""
        return LinkType.ETHERNET if hardware in (1, 772) else LinkType.RAW


@dataclass(frozen=True, slots=True)
class Packet:
    """``time`` in nanoseconds since the epoch, ``length`` on the wire, ``outgoing`` None where the file does not say."""

    interface: str
    link: int
    time: int
    length: int
    data: bytes
    outgoing: bool | None = None
    comment: str = ""


class Writer:
    """Writes blocks to ``file`` as they come; every block is whole, so a killed capture is readable up to its last packet."""

    def __init__(self, file: BinaryIO, application: str = "vbrlab") -> None:
        self._file = file
        self._interfaces = 0
        body = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
        self._block(_SECTION, body, _option(_SHB_HARDWARE_APPLICATION, application.encode()))

    def interface(self, name: str, link: int, snaplen: int = 0) -> int:
        """Declares an interface and returns its number for :meth:`packet`."""
        body = struct.pack("<HHI", link, 0, snaplen)
        self._block(_INTERFACE, body, _option(_IF_NAME, name.encode()) + _option(_IF_TSRESOL, b"\x09"))
        self._interfaces += 1
        return self._interfaces - 1

    def packet(
        self, interface: int, time: int, data: bytes, length: int, outgoing: bool | None = None, comment: str = ""
    ) -> None:
        options = b"" if outgoing is None else _option(_EPB_FLAGS, struct.pack("<I", 2 if outgoing else 1))
        if comment:
            options += _option(_OPTION_COMMENT, comment.encode())
        body = struct.pack("<IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(data), length) + _padded(data)
        self._block(_PACKET, body, options)

    def statistics(self, interface: int, time: int, received: int, dropped: int) -> None:
        """What the interface's socket counted: how many packets the file could have and how many it lacks."""
        body = struct.pack("<III", interface, time >> 32, time & 0xFFFFFFFF)
        counts = _option(_ISB_RECEIVED, struct.pack("<Q", received)) + _option(_ISB_DROPPED, struct.pack("<Q", dropped))
        self._block(_STATISTICS, body, counts)

    def flush(self) -> None:
        self._file.flush()

    def _block(self, kind: int, body: bytes, options: bytes = b"") -> None:
        if options:
            body += options + struct.pack("<HH", _OPTION_END, 0)
        size = len(body) + 12
        self._file.write(struct.pack("<II", kind, size) + body + struct.pack("<I", size))


@dataclass(frozen=True, slots=True)
class Loss:
    """The count a capture ended with: packets that passed the filter of ``interface``, and those not in the file."""

    interface: str
    received: int
    dropped: int


def read(file: BinaryIO) -> Iterator[Packet | Loss]:
    """The packets, in the file's order, and the loss counts. A last block cut short ends the reading, as a kill may leave it.

    Raises NotACapture on anything else that is not pcapng.
    """
    order = "<"
    interfaces: list[tuple[str, int, int]] = []
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack(order + "II", head)
        if kind == _SECTION:
            magic = file.read(4)
            if len(magic) < 4:
                return
            order = "<" if magic == struct.pack("<I", _BYTE_ORDER) else ">"
            if order == ">" and magic != struct.pack(">I", _BYTE_ORDER):
                raise NotACapture("the section header has no byte-order magic: this is no pcapng file")
            (size,) = struct.unpack(order + "I", head[4:])
            file.read(size - 12)
            interfaces = []
            continue
        if size < 12 or size % 4:
            raise NotACapture(f"block type {kind:#x} says it is {size} octets long, which no block can be")
        body = file.read(size - 8)
        if len(body) < size - 8:
            return
        body = body[:-4]
        if kind == _INTERFACE:
            options = _options(body[8:], order)
            resolution = options.get(_IF_TSRESOL, b"\x06")[0]
            scale = 10 ** (9 - resolution) if resolution <= 9 else 0
            if not scale:
                raise NotACapture(f"times in units of {resolution:#x} are not read; 10^0 to 10^-9 s are")
            interfaces.append((options.get(_IF_NAME, b"").decode(), struct.unpack_from(order + "H", body)[0], scale))
        elif kind == _PACKET:
            number, high, low, kept, length = struct.unpack_from(order + "IIIII", body)
            name, link, scale = _known(interfaces, number)
            options = _options(body[20 + kept + -kept % 4 :], order)
            flags = struct.unpack(order + "I", options.get(_EPB_FLAGS, bytes(4)))[0] & 3
            yield Packet(
                name,
                link,
                (high << 32 | low) * scale,
                length,
                body[20 : 20 + kept],
                {1: False, 2: True}.get(flags),
                options.get(_OPTION_COMMENT, b"").decode(),
            )
        elif kind == _STATISTICS:
            name, _link, _scale = _known(interfaces, struct.unpack_from(order + "I", body)[0])
            options = _options(body[12:], order)
            counts = [struct.unpack(order + "Q", options.get(o, bytes(8)))[0] for o in (_ISB_RECEIVED, _ISB_DROPPED)]
            yield Loss(name, *counts)
        elif not interfaces:
            raise NotACapture(f"the file begins with {head[:4].hex()}: this is no pcapng file")


def packets(file: BinaryIO) -> Iterator[Packet]:
    """Only the packets of :func:`read`."""
    return (entry for entry in read(file) if isinstance(entry, Packet))


def network_layer(packet: Packet) -> tuple[int, bytes]:
    """(EtherType, what follows the link header) of a packet; (0, b"") when it is too short. VLAN tags are passed over."""
    data = packet.data
    if packet.link == LinkType.RAW:
        version = data[0] >> 4 if data else 0
        return {4: 0x0800, 6: 0x86DD}.get(version, 0), data
    if packet.link != LinkType.ETHERNET:
        raise NotACapture(f"link type {packet.link} of interface {packet.interface!r} is not read; 1 and 101 are")
    at = 12
    while data[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    return (int.from_bytes(data[at : at + 2]), data[at + 2 :]) if len(data) >= at + 2 else (0, b"")


def _known(interfaces: list[tuple[str, int, int]], number: int) -> tuple[str, int, int]:
    if number >= len(interfaces):
        raise NotACapture(f"a packet of interface {number}, but only {len(interfaces)} are described before it")
    return interfaces[number]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _options(data: bytes, order: str) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, at)
        if code == _OPTION_END:
            break
        found[code] = data[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4
    return found
