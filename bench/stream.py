"""BGP streams for the load benchmarks: ready-made UPDATE messages, in the order in which a feeder sends them.

The real one is an MRT file (RFC 6396, BGP4MP and BGP4MP_ET messages) that the user names or that lies beside the project; it does not
belong to the project. Its IPv4 next hops are set to the feeder's own address, so that every daemon can resolve them alike, and its
IPv6 routes are left out: one session, one family, one kernel table. Synthetic ones need no file.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

REAL = "ris-updates-2015.mrt.gz"
_BGP4MP_TYPES = {16: 0, 17: 4}
"""MRT types that carry BGP messages, with the octets that their extended timestamp takes (RFC 6396 4.4 and 3)."""
_AS4_OF_SUBTYPE = {1: False, 4: True}
_MARKER = b"\xff" * 16
_UPDATE = 2
_AS_PATH, _NEXT_HOP = 2, 3
_OF_OTHER_SESSIONS = frozenset({5, 9, 10, 14, 15})
"""LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST are not for eBGP; MP_REACH_NLRI and MP_UNREACH_NLRI are IPv6's here."""
_EXTENDED_LENGTH = 0x10


@dataclass(frozen=True, slots=True)
class Stream:
    """``messages``: whole UPDATEs, header included, for a session with 4-octet AS numbers. ``routes``: prefixes left at its end."""

    messages: Sequence[bytes]
    routes: int
    events: int


def real_file() -> Path | None:
    """The MRT file: the one that VBRLAB_STREAM names, or the one beside the project; None where neither is there."""
    named = os.environ.get("VBRLAB_STREAM")
    found = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data" / REAL
    return found if found.exists() else None


def real(file: Path, next_hop: IPv4Address) -> Stream:
    """The IPv4 part of an MRT file, all of it as if one peer had said it."""
    messages: list[bytes] = []
    table: set[bytes] = set()
    events = 0
    for body in _updates(file):
        whole = _for_one_session(body, next_hop.packed)
        if whole is None:
            continue
        messages.append(whole)
        withdrawn, announced = routes_of(whole)
        events += len(withdrawn) + len(announced)
        table.difference_update(withdrawn)
        table.update(announced)
    return Stream(messages, len(table), events)


def _updates(file: Path) -> Iterator[bytes]:
    """The bodies of the UPDATEs of an MRT file whose session had 4-octet AS numbers."""
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    at = 0
    while at + 12 <= len(data):
        _, kind, subtype, length = struct.unpack_from("!IHHI", data, at)
        record, at = data[at + 12 : at + 12 + length], at + 12 + length
        if kind not in _BGP4MP_TYPES or not _AS4_OF_SUBTYPE.get(subtype):
            continue
        record = record[_BGP4MP_TYPES[kind] :]
        version = int.from_bytes(record[10:12], "big")
        message = record[12 + (8 if version == 1 else 32) :]
        if message[18] == _UPDATE:
            yield message[19:]


def _for_one_session(body: bytes, next_hop: bytes) -> bytes | None:
    """An UPDATE with ``next_hop`` and without IPv6; None where nothing of IPv4 is left."""
    attributes_at = 4 + int.from_bytes(body[:2], "big")
    length = int.from_bytes(body[attributes_at - 2 : attributes_at], "big")
    withdrawn, routes = body[2 : attributes_at - 2], body[attributes_at + length :]
    if not withdrawn and not routes:
        return None
    kept = b""
    for code, attribute, value_at in _attributes(body[attributes_at : attributes_at + length]):
        if routes and code not in _OF_OTHER_SESSIONS:
            kept += attribute[:value_at] + next_hop if code == _NEXT_HOP else attribute
    return message(withdrawn, kept, routes)


def _attributes(block: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Code, whole attribute and where its value begins."""
    at = 0
    while at < len(block):
        value_at = 4 if block[at] & _EXTENDED_LENGTH else 3
        size = value_at + int.from_bytes(block[at + 2 : at + value_at], "big")
        yield block[at + 1], block[at : at + size], value_at
        at += size


def message(withdrawn: bytes, attributes: bytes, routes: bytes) -> bytes:
    """One UPDATE (RFC 4271 4.3)."""
    length = 23 + len(withdrawn) + len(attributes) + len(routes)
    head = _MARKER + struct.pack("!HBH", length, _UPDATE, len(withdrawn))
    return b"".join((head, withdrawn, struct.pack("!H", len(attributes)), attributes, routes))


def routes_of(whole: bytes) -> tuple[list[bytes], list[bytes]]:
    """Prefixes withdrawn and announced by one UPDATE, in wire form."""
    attributes_at = 23 + int.from_bytes(whole[19:21], "big")
    routes_at = attributes_at + int.from_bytes(whole[attributes_at - 2 : attributes_at], "big")
    return _cut(whole[21 : attributes_at - 2]), _cut(whole[routes_at:])


def withdrawals(messages: Sequence[bytes]) -> list[bytes]:
    """UPDATEs that take back all that ``messages`` announced, some hundred prefixes each."""
    known = list(dict.fromkeys(prefix for whole in messages for prefix in routes_of(whole)[1]))
    return [message(b"".join(known[at : at + 500]), b"", b"") for at in range(0, len(known), 500)]


def _cut(octets: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(octets):
        size = 1 + (octets[at] + 7) // 8
        found.append(octets[at : at + size])
        at += size
    return found


def attributes(as_path: Sequence[int], next_hop: IPv4Address, med: int | None = None) -> bytes:
    """ORIGIN, AS_PATH (one sequence, 4-octet numbers), NEXT_HOP and perhaps MULTI_EXIT_DISC."""
    path = bytes((2, len(as_path))) + b"".join(asn.to_bytes(4, "big") for asn in as_path)
    block = b"\x40\x01\x01\x00" + bytes((0x40, 2, len(path))) + path + b"\x40\x03\x04" + next_hop.packed
    return block if med is None else block + b"\x80\x04\x04" + med.to_bytes(4, "big")


def prefixes(count: int) -> Iterator[bytes]:
    """``count`` different /24 from 16.0.0.0 on, in wire form."""
    for number in range(count):
        yield b"\x18" + (0x100000 + number).to_bytes(3, "big")


def singles(count: int, block: bytes) -> Stream:
    """One prefix an UPDATE, all with the same attributes."""
    return Stream([message(b"", block, prefix) for prefix in prefixes(count)], count, count)


def prepended(whole: bytes, asns: Sequence[int], next_hop: IPv4Address) -> bytes:
    """An UPDATE with ``asns`` before its AS path, and another next hop: the same routes as another peer tells them."""
    attributes_at = 23 + int.from_bytes(whole[19:21], "big")
    routes_at = attributes_at + int.from_bytes(whole[attributes_at - 2 : attributes_at], "big")
    numbers = b"".join(asn.to_bytes(4, "big") for asn in asns)
    block = b""
    for code, attribute, value_at in _attributes(whole[attributes_at:routes_at]):
        value = attribute[value_at:]
        if code == _NEXT_HOP:
            value = next_hop.packed
        elif code == _AS_PATH and value[:1] == b"\x02" and value[1] + len(asns) < 256:
            value = bytes((2, value[1] + len(asns))) + numbers + value[2:]
        block += bytes((attribute[0] | _EXTENDED_LENGTH, code)) + len(value).to_bytes(2, "big") + value
    return message(whole[21 : attributes_at - 2], block, whole[routes_at:])
