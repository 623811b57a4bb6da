"""Netlink framing: message headers, attributes, acknowledgements (RFC 3549 section 2.3).

Bytes in, bytes out; no socket and no knowledge of what the messages mean. What the kernel's route family says with these
frames is in ``requests`` (what we ask) and ``records`` (what it tells).
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag

HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence number, port."""

_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")
_TYPE_MASK = 0x3FFF
_NESTED = 0x8000


class Control(IntEnum):
    """Message types below NLMSG_MIN_TYPE."""

    NOOP = 1
    ERROR = 2
    DONE = 3
    OVERRUN = 4


class Flag(IntFlag):
    """NLM_F_*: bits of the header's flags."""

    REQUEST = 0x1
    MULTI = 0x2
    ACK = 0x4
    DUMP_INTERRUPTED = 0x10
    ACK_TLVS = 0x200
    DUMP = 0x300
    REPLACE = 0x100
    EXCLUSIVE = 0x200
    CREATE = 0x400
    APPEND = 0x800


_REQUEST, _ACK, _WITH_REMARK = int(Flag.REQUEST), int(Flag.ACK), int(Flag.ACK_TLVS)
_EXTACK_TEXT = 1  # NLMSGERR_ATTR_MSG


class NetlinkError(OSError):
    """The kernel refused a request. ``what`` is the request in words, ``errno`` the kernel's reason, ``remark`` its own text."""

    def __init__(self, what: str, number: int, remark: str = "") -> None:
        text = f"{what}: {os.strerror(number)}" + (f" ({remark})" if remark else "")
        super().__init__(number, text)
        self.what = what
        self.remark = remark

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel: ``what`` it is for in words, its type and flags, and everything behind the header."""

    what: str
    type: int
    flags: int
    body: bytes

    def message(self, sequence: int, *, acknowledged: bool = True) -> bytes:
        """The octets to send. Without ``acknowledged`` the kernel speaks only of a refusal."""
        flags = int(self.flags) | _REQUEST | _ACK  # plain integers: an enum's "|" takes longer than the packing
        if not acknowledged:
            flags ^= _ACK
        return HEADER.pack(HEADER.size + len(self.body), int(self.type), flags, sequence, 0) + self.body


@dataclass(frozen=True, slots=True)
class Frame:
    """One message from the kernel, header apart from body."""

    type: int
    flags: int
    sequence: int
    body: bytes


def frames(data: bytes) -> Iterator[Frame]:
    """Splits one datagram into its messages. Raises ValueError on a length that does not fit."""
    offset, end = 0, len(data)
    while offset + HEADER.size <= end:
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > end:
            raise ValueError(f"netlink message of {length} octets in a datagram with {end - offset} left")
        yield Frame(kind, flags, sequence, data[offset + HEADER.size : offset + length])
        offset += (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four octets."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + b"\0" * (-len(payload) & 3)


def u8(kind: int, value: int) -> bytes:
    return struct.pack("=HHBxxx", 5, kind, value)


def u16(kind: int, value: int) -> bytes:
    return struct.pack("=HHHxx", 6, kind, value)


def u32(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from ``offset`` on, by type without the nesting and byte-order bits; a repeated type keeps the last."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def unpack_u32(payload: bytes) -> int:
    return int.from_bytes(payload[:4], sys.byteorder)


def unpack_u16(payload: bytes) -> int:
    return int.from_bytes(payload[:2], sys.byteorder)


def acknowledgement(frame: Frame) -> tuple[int, str]:
    """(errno, the kernel's remark) of an NLMSG_ERROR frame; errno 0 is a plain acknowledgement.

    Expects a socket with NETLINK_CAP_ACK, where the refused message is not echoed beyond its header.
    """
    number = -_ERRNO.unpack_from(frame.body)[0]
    if not frame.flags & _WITH_REMARK:
        return number, ""
    remark = attributes(frame.body, _ERRNO.size + HEADER.size).get(_EXTACK_TEXT, b"")
    return number, remark.rstrip(b"\0").decode(errors="replace")
