"""AS_PATH: its segments, its wire forms with 2-octet and 4-octet AS numbers, and the merge with AS4_PATH.

Sources: RFC 4271 4.3 and 5.1.2, RFC 5065 (confederation segments are parsed and kept, and count nothing), RFC 6793 4.2.
Values are plain data; nothing here knows of messages or sessions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

# RFC 6793: stands for every AS number that does not fit in two octets.
AS_TRANS = 23456
MAX_SEGMENT = 255


def two_octet(asn: int) -> int:
    """How a 2-octet speaker sees an AS number (RFC 6793 4.2.2)."""
    return asn if asn < 65536 else AS_TRANS


class SegmentType(IntEnum):
    """RFC 4271 4.3 b and RFC 5065 3."""

    AS_SET = 1
    AS_SEQUENCE = 2
    AS_CONFED_SEQUENCE = 3
    AS_CONFED_SET = 4


class Segment(NamedTuple):
    """One segment of a path: its type and its AS numbers, leftmost (nearest) first."""

    kind: int
    asns: tuple[int, ...]


AsPath = tuple[Segment, ...]

_CONFED = (SegmentType.AS_CONFED_SEQUENCE, SegmentType.AS_CONFED_SET)


class MalformedPath(ValueError):
    """An AS_PATH or AS4_PATH that cannot be read (RFC 7606 7.2)."""


FORMATS = {size: tuple(struct.Struct(f">{n}{letter}") for n in range(256)) for size, letter in ((2, "H"), (4, "I"))}


def decode(value: bytes, size: int) -> AsPath:
    """Reads a path whose AS numbers have ``size`` octets (2 or 4); raises :class:`MalformedPath`."""
    segments: list[Segment] = []
    at, end = 0, len(value)
    formats = FORMATS[size]
    while at < end:
        if end - at < 2:
            raise MalformedPath("AS_PATH ends inside a segment header")
        kind, count = value[at], value[at + 1]
        if not 1 <= kind <= 4:
            raise MalformedPath(f"AS_PATH segment type {kind} is unknown")
        if not count:
            raise MalformedPath("AS_PATH segment with no AS number")
        stop = at + 2 + count * size
        if stop > end:
            raise MalformedPath(f"AS_PATH segment of {count} AS numbers overruns the attribute")
        asns = formats[count].unpack_from(value, at + 2)
        if 0 in asns:
            raise MalformedPath("AS_PATH holds AS 0 (RFC 7607)")
        segments.append(Segment(kind, asns))
        at = stop
    return tuple(segments)


def encode(path: AsPath, size: int) -> bytes:
    """Writes a path with AS numbers of ``size`` octets; with 2, those that do not fit become AS_TRANS."""
    out = bytearray()
    for kind, asns in path:
        for start in range(0, len(asns), MAX_SEGMENT):
            part = asns[start : start + MAX_SEGMENT]
            if size == 2:
                part = tuple(map(two_octet, part))
            out += bytes((kind, len(part)))
            out += FORMATS[size][len(part)].pack(*part)
    return bytes(out)


def length(path: AsPath) -> int:
    """Path length for the decision process: a set counts one, confederation segments nothing (RFC 4271 9.1.2.2 a, RFC 5065 5.3)."""
    total = 0
    for kind, asns in path:
        if kind == SegmentType.AS_SEQUENCE:
            total += len(asns)
        elif kind == SegmentType.AS_SET:
            total += 1
    return total


def has_confederation(path: AsPath) -> bool:
    """Whether segments of a confederation stand in it, which nobody outside of it may send (RFC 5065 5)."""
    return any(kind in _CONFED for kind, _ in path)


def needs_as4(path: AsPath) -> bool:
    """Whether a 2-octet AS_PATH loses something, so that an AS4_PATH must go with it (RFC 6793 4.2.2)."""
    return any(asn > 65535 for kind, asns in path if kind not in _CONFED for asn in asns)


def merge(path: AsPath, as4_path: AsPath) -> AsPath:
    """The true path of a route that came through 2-octet speakers (RFC 6793 4.2.3).

    The AS4_PATH replaces the tail of the AS_PATH; what 2-octet speakers prepended stays in front. An AS4_PATH longer than the
    AS_PATH is ignored. Confederation segments of an AS4_PATH are dropped (RFC 6793 6).
    """
    tail = tuple(segment for segment in as4_path if segment.kind not in _CONFED)
    keep = length(path) - length(tail)
    if keep < 0:
        return path
    head: list[Segment] = []
    for position, segment in enumerate(path):
        if segment.kind in _CONFED:
            # RFC 6793 4.2.3: leading confederation segments, and those adjacent to a kept segment, are kept.
            if keep or position == len(head):
                head.append(segment)
            continue
        if not keep:
            break
        if segment.kind == SegmentType.AS_SET:
            head.append(segment)
            keep -= 1
        else:
            part = segment.asns[:keep]
            head.append(Segment(segment.kind, part))
            keep -= len(part)
    if (
        head
        and tail
        and head[-1].kind == tail[0].kind == SegmentType.AS_SEQUENCE
        and len(head[-1].asns) + len(tail[0].asns) <= MAX_SEGMENT
    ):
        joined = Segment(SegmentType.AS_SEQUENCE, head[-1].asns + tail[0].asns)
        return (*head[:-1], joined, *tail[1:])
    return (*head, *tail)


def prepend(path: AsPath, asn: int, count: int = 1) -> AsPath:
    """The path with ``asn`` put in front ``count`` times (RFC 4271 5.1.2 b)."""
    own = (asn,) * count
    if path and path[0].kind == SegmentType.AS_SEQUENCE and len(path[0].asns) + count <= MAX_SEGMENT:
        return (Segment(SegmentType.AS_SEQUENCE, own + path[0].asns), *path[1:])
    return (Segment(SegmentType.AS_SEQUENCE, own), *path)


def contains(path: AsPath, asn: int) -> int:
    """How often ``asn`` occurs anywhere in the path: over the allowed number it is a loop (RFC 4271 9.1.2)."""
    return sum(segment.asns.count(asn) for segment in path)


def meets(path: AsPath, asns: frozenset[int]) -> bool:
    """Whether any of ``asns`` occurs anywhere in the path."""
    for segment in path:  # noqa: SIM110 — once an UPDATE, and a generator would cost as much again
        if not asns.isdisjoint(segment[1]):
            return True
    return False


def sequence(asns: Iterable[int]) -> AsPath:
    """A path of one AS_SEQUENCE; the empty path where there are no AS numbers."""
    numbers = tuple(asns)
    return (Segment(SegmentType.AS_SEQUENCE, numbers),) if numbers else ()


_BRACKETS = {1: "{%s}", 2: "%s", 3: "(%s)", 4: "[%s]"}


def text(path: AsPath) -> str:
    """A path for people: ``65530 65531 {64512 64513}``."""
    return " ".join(_BRACKETS[kind] % " ".join(map(str, asns)) for kind, asns in path)
