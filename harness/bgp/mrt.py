"""MRT export format, both ways: the messages and state changes of sessions, and whole tables, as records of a file.

Sources: RFC 6396 (the format), RFC 8050 (path identifiers of ADD-PATH). Written are BGP4MP_ET with 4-octet AS numbers and TABLE_DUMP_V2;
read are all subtypes of BGP4MP, BGP4MP_ET and TABLE_DUMP_V2 that carry IPv4 or IPv6 unicast; every other record comes out as
:class:`Other` with its numbers, so that a reader can say what it passed over.

Values and octets only: what a record's attributes mean is the codec's business, who writes dumps is :mod:`harness.bgp.mrt_dump`'s.
"""

from __future__ import annotations

import bz2
import gzip
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import BinaryIO, cast

from harness.bgp.as_path import AS_TRANS
from harness.bgp.fsm import State
from harness.bgp.prefixes import Family

Address = IPv4Address | IPv6Address


class Type(IntEnum):
    """RFC 6396 4; the types this module knows."""

    TABLE_DUMP_V2 = 13
    BGP4MP = 16
    BGP4MP_ET = 17


class Bgp4mp(IntEnum):
    """RFC 6396 4.4 and RFC 8050 3: subtypes of BGP4MP."""

    STATE_CHANGE = 0
    MESSAGE = 1
    MESSAGE_AS4 = 4
    STATE_CHANGE_AS4 = 5
    MESSAGE_LOCAL = 6
    MESSAGE_AS4_LOCAL = 7
    MESSAGE_ADDPATH = 8
    MESSAGE_AS4_ADDPATH = 9
    MESSAGE_LOCAL_ADDPATH = 10
    MESSAGE_AS4_LOCAL_ADDPATH = 11


class TableDump(IntEnum):
    """RFC 6396 4.3 and RFC 8050 4: subtypes of TABLE_DUMP_V2 for unicast."""

    PEER_INDEX_TABLE = 1
    RIB_IPV4_UNICAST = 2
    RIB_IPV6_UNICAST = 4
    RIB_IPV4_UNICAST_ADDPATH = 8
    RIB_IPV6_UNICAST_ADDPATH = 10


_S = Bgp4mp
_FOUR_OCTETS = {
    _S.MESSAGE_AS4,
    _S.STATE_CHANGE_AS4,
    _S.MESSAGE_AS4_LOCAL,
    _S.MESSAGE_AS4_ADDPATH,
    _S.MESSAGE_AS4_LOCAL_ADDPATH,
}
_LOCAL = {_S.MESSAGE_LOCAL, _S.MESSAGE_AS4_LOCAL, _S.MESSAGE_LOCAL_ADDPATH, _S.MESSAGE_AS4_LOCAL_ADDPATH}
_ADD_PATH = {_S.MESSAGE_ADDPATH, _S.MESSAGE_AS4_ADDPATH, _S.MESSAGE_LOCAL_ADDPATH, _S.MESSAGE_AS4_LOCAL_ADDPATH}
_STATES = {_S.STATE_CHANGE, _S.STATE_CHANGE_AS4}
# (sent by the dumping speaker, with path identifiers) -> subtype written
_WRITTEN = {
    (False, False): _S.MESSAGE_AS4,
    (True, False): _S.MESSAGE_AS4_LOCAL,
    (False, True): _S.MESSAGE_AS4_ADDPATH,
    (True, True): _S.MESSAGE_AS4_LOCAL_ADDPATH,
}
# (family, with path identifiers) -> subtype
_RIBS = {
    (Family.IPV4_UNICAST, False): TableDump.RIB_IPV4_UNICAST,
    (Family.IPV6_UNICAST, False): TableDump.RIB_IPV6_UNICAST,
    (Family.IPV4_UNICAST, True): TableDump.RIB_IPV4_UNICAST_ADDPATH,
    (Family.IPV6_UNICAST, True): TableDump.RIB_IPV6_UNICAST_ADDPATH,
}
_RIB_OF = {subtype: key for key, subtype in _RIBS.items()}

# RFC 6396 4.4.1.
STATE_NUMBERS = {state: number for number, state in enumerate(State, 1)}
_STATE_OF = {number: state for state, number in STATE_NUMBERS.items()}

LONGEST = 1 << 24
"""Octets of a record beyond which the file is taken for damaged: no speaker writes one of 16 MiB."""


class MrtError(ValueError):
    """The file is no MRT file, or is damaged; the text names the record's number and the octet it begins at."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of a recorded session: the neighbour and the speaker that recorded, AS numbers and addresses."""

    peer_asn: int
    local_asn: int
    peer: Address
    local: Address
    interface: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A BGP message, header included. ``time`` in microseconds since the epoch.

    ``asn4`` and ``add_path`` say how it is to be read, ``sent`` that the recording speaker sent it. ``extended`` is false where the
    record's time had whole seconds only.
    """

    time: int
    ends: Ends
    wire: bytes
    asn4: bool = True
    add_path: bool = False
    sent: bool = False
    extended: bool = True


@dataclass(frozen=True, slots=True)
class StateChange:
    """A session's state machine moved (RFC 6396 4.4.1); None: a number that no state has."""

    time: int
    ends: Ends
    old: State | None
    new: State | None
    extended: bool = True


@dataclass(frozen=True, slots=True)
class TablePeer:
    """A neighbour in the index of a table."""

    identifier: IPv4Address
    address: Address
    asn: int


@dataclass(frozen=True, slots=True)
class PeerIndex:
    """RFC 6396 4.3.1: comes before the routes, whose entries name their neighbour by position in ``peers``."""

    time: int
    collector: IPv4Address
    peers: tuple[TablePeer, ...]
    view: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One neighbour's path: position in the index, when it came (seconds since the epoch), its attribute block.

    AS numbers have 4 octets; MP_REACH_NLRI is cut down to the next hop's length and the next hop (RFC 6396 4.3.4).
    """

    peer: int
    originated: int
    attributes: bytes
    path_id: int = 0


@dataclass(frozen=True, slots=True)
class Routes:
    """One prefix of a table with all its paths. ``prefix`` is a wire slice (see :mod:`harness.bgp.prefixes`)."""

    time: int
    sequence: int
    family: Family
    prefix: bytes
    entries: tuple[Entry, ...]
    add_path: bool = False


@dataclass(frozen=True, slots=True)
class Other:
    """A record this module does not read."""

    time: int
    type: int
    subtype: int
    body: bytes


Record = Message | StateChange | PeerIndex | Routes | Other

_HEADER = struct.Struct(">IHHI")
_ENTRY = struct.Struct(">HIH")


# --------------------------------------------------------------------------------------------------------------- reading


def opened(path: Path) -> BinaryIO:
    """The file for reading, decompressed where it begins as gzip or bzip2 does."""
    with path.open("rb") as file:
        head = file.read(3)
    if head[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(path))
    return cast(BinaryIO, bz2.open(path)) if head == b"BZh" else path.open("rb")


def read(file: BinaryIO) -> Iterator[Record]:
    """The records in the file's order. Raises :class:`MrtError` at the first that is cut short or contradicts itself."""
    at = number = 0
    while head := file.read(_HEADER.size):
        number += 1
        where = f"record {number}, at octet {at}"
        if len(head) < _HEADER.size:
            raise MrtError(f"{where}: the file ends inside a record header")
        seconds, kind, subtype, length = _HEADER.unpack(head)
        if length > LONGEST:
            raise MrtError(f"{where}: a length of {length} octets; this is no MRT file, or it is damaged")
        body = file.read(length)
        if len(body) < length:
            raise MrtError(f"{where}: {length} octets are announced, {len(body)} are there; the file was cut short")
        try:
            yield _record(seconds, kind, subtype, body)
        except (struct.error, IndexError, ValueError) as error:
            raise MrtError(f"{where}, type {kind} subtype {subtype}: {error}") from None
        at += _HEADER.size + length


def _record(seconds: int, kind: int, subtype: int, body: bytes) -> Record:
    time = seconds * 1_000_000
    if kind == Type.TABLE_DUMP_V2 and subtype == TableDump.PEER_INDEX_TABLE:
        return _index(time, body)
    if kind == Type.TABLE_DUMP_V2 and subtype in _RIB_OF:
        return _routes(time, body, *_RIB_OF[TableDump(subtype)])
    if kind in (Type.BGP4MP, Type.BGP4MP_ET) and subtype in set(Bgp4mp):
        extended = kind == Type.BGP4MP_ET
        if extended:
            # RFC 6396 3: the microseconds stand before the message and count into the length.
            time += struct.unpack_from(">I", body)[0]
            body = body[4:]
        return _session(time, Bgp4mp(subtype), body, extended)
    return Other(time, kind, subtype, body)


def _session(time: int, subtype: Bgp4mp, body: bytes, extended: bool) -> Record:
    numbers = struct.Struct(">II" if subtype in _FOUR_OCTETS else ">HH")
    peer_asn, local_asn = numbers.unpack_from(body)
    interface, afi = struct.unpack_from(">HH", body, numbers.size)
    if afi not in (1, 2):
        raise ValueError(f"address family {afi} is none of 1 (IPv4) and 2 (IPv6)")
    octets = 4 if afi == 1 else 16
    at = numbers.size + 4
    rest = at + 2 * octets
    if rest > len(body):
        raise ValueError("the record ends inside the addresses")
    ends = Ends(
        peer_asn, local_asn, ip_address(body[at : at + octets]), ip_address(body[at + octets : rest]), interface
    )
    if subtype in _STATES:
        old, new = struct.unpack_from(">HH", body, rest)
        return StateChange(time, ends, _STATE_OF.get(old), _STATE_OF.get(new), extended)
    return Message(time, ends, body[rest:], subtype in _FOUR_OCTETS, subtype in _ADD_PATH, subtype in _LOCAL, extended)


def _index(time: int, body: bytes) -> PeerIndex:
    collector, size = IPv4Address(body[:4]), int.from_bytes(body[4:6], "big")
    view = body[6 : 6 + size].decode(errors="replace")
    (count,) = struct.unpack_from(">H", body, 6 + size)
    at = 8 + size
    peers = []
    for _ in range(count):
        kind, identifier = body[at], IPv4Address(body[at + 1 : at + 5])
        octets, digits = 16 if kind & 1 else 4, 4 if kind & 2 else 2
        end = at + 5 + octets + digits
        if end > len(body):
            raise ValueError("the index ends inside a peer")
        address = ip_address(body[at + 5 : at + 5 + octets])
        peers.append(TablePeer(identifier, address, int.from_bytes(body[end - digits : end], "big")))
        at = end
    return PeerIndex(time, collector, tuple(peers), view)


def _routes(time: int, body: bytes, family: Family, add_path: bool) -> Routes:
    (sequence,) = struct.unpack_from(">I", body)
    bits = body[4]
    if bits > family.bits:
        raise ValueError(f"prefix length {bits} is over {family.bits}")
    at = 5 + (bits + 7) // 8
    prefix = body[4:at]
    (count,) = struct.unpack_from(">H", body, at)
    at += 2
    entries = []
    for _ in range(count):
        path_id = 0
        if add_path:
            peer, originated, path_id, size = struct.unpack_from(">HIIH", body, at)
            at += 12
        else:
            peer, originated, size = _ENTRY.unpack_from(body, at)
            at += 8
        if at + size > len(body):
            raise ValueError("the record ends inside the attributes of a path")
        entries.append(Entry(peer, originated, body[at : at + size], path_id))
        at += size
    return Routes(time, sequence, family, prefix, tuple(entries), add_path)


# --------------------------------------------------------------------------------------------------------------- writing


def encode(record: Record) -> bytes:
    """The record's octets. Sessions are written as BGP4MP_ET unless ``extended`` is false, with 4-octet AS numbers where ``asn4``."""
    match record:
        case Message():
            return _encode_session(record, _message_subtype(record), record.wire)
        case StateChange():
            states = [0 if state is None else STATE_NUMBERS[state] for state in (record.old, record.new)]
            return _encode_session(record, Bgp4mp.STATE_CHANGE_AS4, struct.pack(">HH", *states))
        case PeerIndex():
            return _framed(record.time, Type.TABLE_DUMP_V2, TableDump.PEER_INDEX_TABLE, _encode_index(record))
        case Routes():
            subtype = _RIBS[record.family, record.add_path]
            return _framed(record.time, Type.TABLE_DUMP_V2, subtype, _encode_routes(record))
        case Other():
            return _framed(record.time, record.type, record.subtype, record.body)


def _message_subtype(record: Message) -> Bgp4mp:
    subtype = _WRITTEN[record.sent, record.add_path]
    # Each subtype with 4-octet AS numbers has its twin with 2 one or three below (RFC 6396 4.4.2, RFC 8050 3).
    return subtype if record.asn4 else Bgp4mp(subtype - (3 if subtype == Bgp4mp.MESSAGE_AS4 else 1))


def _encode_session(record: Message | StateChange, subtype: Bgp4mp, rest: bytes) -> bytes:
    ends = record.ends
    if subtype in _FOUR_OCTETS:
        numbers = struct.pack(">II", ends.peer_asn, ends.local_asn)
    else:
        numbers = struct.pack(">HH", *(asn if asn < 65536 else AS_TRANS for asn in (ends.peer_asn, ends.local_asn)))
    afi = 1 if ends.peer.version == 4 else 2
    body = numbers + struct.pack(">HH", ends.interface, afi) + ends.peer.packed + ends.local.packed + rest
    if not record.extended:
        return _framed(record.time, Type.BGP4MP, subtype, body)
    return _framed(record.time, Type.BGP4MP_ET, subtype, struct.pack(">I", record.time % 1_000_000) + body)


def _encode_index(index: PeerIndex) -> bytes:
    view = index.view.encode()
    peers = b"".join(
        bytes((2 | (peer.address.version == 6),))
        + peer.identifier.packed
        + peer.address.packed
        + struct.pack(">I", peer.asn)
        for peer in index.peers
    )
    return index.collector.packed + struct.pack(">H", len(view)) + view + struct.pack(">H", len(index.peers)) + peers


def _encode_routes(routes: Routes) -> bytes:
    entries = [
        struct.pack(">HII", e.peer, e.originated, e.path_id) + struct.pack(">H", len(e.attributes)) + e.attributes
        if routes.add_path
        else _ENTRY.pack(e.peer, e.originated, len(e.attributes)) + e.attributes
        for e in routes.entries
    ]
    return struct.pack(">I", routes.sequence) + routes.prefix + struct.pack(">H", len(entries)) + b"".join(entries)


def _framed(time: int, kind: int, subtype: int, body: bytes) -> bytes:
    return _HEADER.pack(time // 1_000_000, kind, subtype, len(body)) + body
