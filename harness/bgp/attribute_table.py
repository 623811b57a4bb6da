"""The path attributes as a table: code, name, flags, reader, writer, and what an error leads to (RFC 7606 7).

The rows are data for the codec, for the documentation and for the tests. A reader gets the value octets and the session and
raises :class:`MalformedAttribute`; a writer gets the :class:`~harness.bgp.attributes.Attributes` and the session and returns
the value octets, or ``None`` where the attribute is not sent. MP_REACH_NLRI and MP_UNREACH_NLRI have rows for their flags
and action; their values are routes and are read by :mod:`harness.bgp.update`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from harness.bgp import as_path as paths
from harness.bgp.attributes import Aggregator, Attributes, LargeCommunity
from harness.bgp.errors import UpdateError
from harness.bgp.session import Session


class Flag(IntFlag):
    """RFC 4271 4.3: the attribute flags octet."""

    OPTIONAL = 0x80
    TRANSITIVE = 0x40
    PARTIAL = 0x20
    EXTENDED_LENGTH = 0x10


WELL_KNOWN = Flag.TRANSITIVE
OPTIONAL_TRANSITIVE = Flag.OPTIONAL | Flag.TRANSITIVE
OPTIONAL_NON_TRANSITIVE = Flag.OPTIONAL
CATEGORY = Flag.OPTIONAL | Flag.TRANSITIVE


class Action(IntEnum):
    """RFC 7606 2: what a malformed attribute leads to, mildest first."""

    DISCARD = 1
    TREAT_AS_WITHDRAW = 2
    SESSION_RESET = 3

    def __str__(self) -> str:
        return ("", "attribute discarded", "treated as withdrawn", "session reset")[self]


class Code(IntEnum):
    """Attribute type codes."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MULTI_EXIT_DISC = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    MP_REACH_NLRI = 14
    MP_UNREACH_NLRI = 15
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    LARGE_COMMUNITIES = 32


class MalformedAttribute(ValueError):
    """An attribute value that cannot be used; ``subcode`` is the UPDATE error subcode of RFC 4271 6.3."""

    def __init__(self, subcode: int, text: str) -> None:
        super().__init__(text)
        self.subcode = subcode


class Row(NamedTuple):
    """One path attribute. ``field``: where :class:`Attributes` keeps it (None: it is merged or belongs to the UPDATE).

    ``internal_only``: from an external peer it is discarded unread (RFC 7606 7.5, 7.9, 7.10).
    """

    name: str
    field: str | None
    category: Flag
    action: Action
    decode: Callable[[bytes, Session], Any]
    encode: Callable[[Attributes, Session], bytes | None]
    source: str
    internal_only: bool = False


def _length(value: bytes, due: int) -> None:
    if len(value) != due:
        raise MalformedAttribute(UpdateError.ATTRIBUTE_LENGTH_ERROR, f"{len(value)} octets, {due} are due")


def _multiple(value: bytes, unit: int, subcode: int = UpdateError.OPTIONAL_ATTRIBUTE_ERROR) -> int:
    count, rest = divmod(len(value), unit)
    if rest or not count:
        raise MalformedAttribute(subcode, f"{len(value)} octets, a multiple of {unit} is due")
    return count


def _decode_origin(value: bytes, _session: Session) -> int:
    _length(value, 1)
    if value[0] > 2:
        raise MalformedAttribute(
            UpdateError.INVALID_ORIGIN_ATTRIBUTE, f"value {value[0]} is none of IGP, EGP, INCOMPLETE"
        )
    return value[0]


def _decode_as_path(value: bytes, session: Session) -> paths.AsPath:
    try:
        path = paths.decode(value, 4 if session.asn4 else 2)
    except paths.MalformedPath as error:
        raise MalformedAttribute(UpdateError.MALFORMED_AS_PATH, str(error)) from None
    if session.ebgp and paths.has_confederation(path):
        # RFC 5065 5: this speaker is in no confederation, so no neighbour in another AS is in the same one.
        raise MalformedAttribute(UpdateError.MALFORMED_AS_PATH, "confederation segments from another AS")
    return path


def _decode_as4_path(value: bytes, _session: Session) -> paths.AsPath:
    try:
        return paths.decode(value, 4)
    except paths.MalformedPath as error:
        raise MalformedAttribute(UpdateError.OPTIONAL_ATTRIBUTE_ERROR, str(error)) from None


def _decode_next_hop(value: bytes, _session: Session) -> bytes:
    _length(value, 4)
    # RFC 4271 6.3: syntactically correct is a valid IP host address.
    if value[0] in (0, 127) or value[0] >= 224:
        raise MalformedAttribute(UpdateError.INVALID_NEXT_HOP_ATTRIBUTE, f"{IPv4Address(value)} is no host address")
    return value


def _decode_u32(value: bytes, _session: Session) -> int:
    _length(value, 4)
    return int.from_bytes(value, "big")


def _decode_atomic(value: bytes, _session: Session) -> bool:
    _length(value, 0)
    return True


def _decode_aggregator(value: bytes, session: Session) -> Aggregator:
    return _aggregator(value, 4 if session.asn4 else 2)


def _decode_as4_aggregator(value: bytes, _session: Session) -> Aggregator:
    return _aggregator(value, 4)


def _aggregator(value: bytes, size: int) -> Aggregator:
    _length(value, size + 4)
    asn = int.from_bytes(value[:size], "big")
    if not asn:
        raise MalformedAttribute(UpdateError.OPTIONAL_ATTRIBUTE_ERROR, "AS 0 (RFC 7607)")
    return Aggregator(asn, IPv4Address(value[size:]))


def _decode_u32_list(value: bytes, _session: Session) -> tuple[int, ...]:
    return struct.unpack(f">{_multiple(value, 4)}I", value)


def _decode_address(value: bytes, _session: Session) -> IPv4Address:
    _length(value, 4)
    return IPv4Address(value)


def _decode_extended(value: bytes, _session: Session) -> tuple[bytes, ...]:
    _multiple(value, 8)
    return tuple(value[at : at + 8] for at in range(0, len(value), 8))


def _decode_large(value: bytes, _session: Session) -> tuple[LargeCommunity, ...]:
    _multiple(value, 12)
    found = (LargeCommunity(*numbers) for numbers in struct.iter_unpack(">III", value))
    # RFC 8092 5: duplicates are removed on receipt.
    return tuple(dict.fromkeys(found))


def _decode_routes(value: bytes, _session: Session) -> bytes:
    return value


def _encode_as_path(attributes: Attributes, session: Session) -> bytes:
    return paths.encode(attributes.as_path, 4 if session.asn4 else 2)


def _encode_as4_path(attributes: Attributes, session: Session) -> bytes | None:
    if session.asn4 or not paths.needs_as4(attributes.as_path):
        return None
    # RFC 6793 4.2.2: confederation segments are not carried in AS4_PATH.
    return paths.encode(tuple(segment for segment in attributes.as_path if segment.kind <= 2), 4)


def _encode_aggregator(attributes: Attributes, session: Session) -> bytes | None:
    if attributes.aggregator is None:
        return None
    asn, identifier = attributes.aggregator
    if session.asn4:
        return asn.to_bytes(4, "big") + identifier.packed
    return (asn if asn < 65536 else paths.AS_TRANS).to_bytes(2, "big") + identifier.packed


def _encode_as4_aggregator(attributes: Attributes, session: Session) -> bytes | None:
    if session.asn4 or attributes.aggregator is None or attributes.aggregator.asn < 65536:
        return None
    return attributes.aggregator.asn.to_bytes(4, "big") + attributes.aggregator.identifier.packed


def _u32(name: str) -> Callable[[Attributes, Session], bytes | None]:
    def encode(attributes: Attributes, _session: Session) -> bytes | None:
        value = getattr(attributes, name)
        return None if value is None else int(value).to_bytes(4, "big")

    return encode


def _u32_list(name: str) -> Callable[[Attributes, Session], bytes | None]:
    def encode(attributes: Attributes, _session: Session) -> bytes | None:
        values = getattr(attributes, name)
        return struct.pack(f">{len(values)}I", *values) if values else None

    return encode


def _never(_attributes: Attributes, _session: Session) -> bytes | None:
    return None


TABLE: dict[int, Row] = {
    Code.ORIGIN: Row(
        "ORIGIN",
        "origin",
        WELL_KNOWN,
        Action.TREAT_AS_WITHDRAW,
        _decode_origin,
        lambda attributes, _session: bytes((attributes.origin,)),
        "RFC 4271 5.1.1, RFC 7606 7.1",
    ),
    Code.AS_PATH: Row(
        "AS_PATH",
        "as_path",
        WELL_KNOWN,
        Action.TREAT_AS_WITHDRAW,
        _decode_as_path,
        _encode_as_path,
        "RFC 4271 5.1.2, RFC 7606 7.2",
    ),
    Code.NEXT_HOP: Row(
        "NEXT_HOP",
        "next_hop",
        WELL_KNOWN,
        Action.TREAT_AS_WITHDRAW,
        _decode_next_hop,
        lambda attributes, _session: attributes.next_hop or None,
        "RFC 4271 5.1.3, RFC 7606 7.3",
    ),
    Code.MULTI_EXIT_DISC: Row(
        "MULTI_EXIT_DISC",
        "med",
        OPTIONAL_NON_TRANSITIVE,
        Action.TREAT_AS_WITHDRAW,
        _decode_u32,
        _u32("med"),
        "RFC 4271 5.1.4, RFC 7606 7.4",
    ),
    Code.LOCAL_PREF: Row(
        "LOCAL_PREF",
        "local_pref",
        WELL_KNOWN,
        Action.TREAT_AS_WITHDRAW,
        _decode_u32,
        _u32("local_pref"),
        "RFC 4271 5.1.5, RFC 7606 7.5",
        internal_only=True,
    ),
    Code.ATOMIC_AGGREGATE: Row(
        "ATOMIC_AGGREGATE",
        "atomic_aggregate",
        WELL_KNOWN,
        Action.DISCARD,
        _decode_atomic,
        lambda attributes, _session: b"" if attributes.atomic_aggregate else None,
        "RFC 4271 5.1.6, RFC 7606 7.6",
    ),
    Code.AGGREGATOR: Row(
        "AGGREGATOR",
        "aggregator",
        OPTIONAL_TRANSITIVE,
        Action.DISCARD,
        _decode_aggregator,
        _encode_aggregator,
        "RFC 4271 5.1.7, RFC 7606 7.7",
    ),
    Code.COMMUNITIES: Row(
        "COMMUNITIES",
        "communities",
        OPTIONAL_TRANSITIVE,
        Action.TREAT_AS_WITHDRAW,
        _decode_u32_list,
        _u32_list("communities"),
        "RFC 1997, RFC 7606 7.8",
    ),
    Code.ORIGINATOR_ID: Row(
        "ORIGINATOR_ID",
        "originator_id",
        OPTIONAL_NON_TRANSITIVE,
        Action.TREAT_AS_WITHDRAW,
        _decode_address,
        _u32("originator_id"),
        "RFC 4456 8, RFC 7606 7.9",
        internal_only=True,
    ),
    Code.CLUSTER_LIST: Row(
        "CLUSTER_LIST",
        "cluster_list",
        OPTIONAL_NON_TRANSITIVE,
        Action.TREAT_AS_WITHDRAW,
        _decode_u32_list,
        _u32_list("cluster_list"),
        "RFC 4456 8, RFC 7606 7.10",
        internal_only=True,
    ),
    Code.MP_REACH_NLRI: Row(
        "MP_REACH_NLRI",
        None,
        OPTIONAL_NON_TRANSITIVE,
        Action.SESSION_RESET,
        _decode_routes,
        _never,
        "RFC 4760 3, RFC 7606 7.11",
    ),
    Code.MP_UNREACH_NLRI: Row(
        "MP_UNREACH_NLRI",
        None,
        OPTIONAL_NON_TRANSITIVE,
        Action.SESSION_RESET,
        _decode_routes,
        _never,
        "RFC 4760 4, RFC 7606 7.12",
    ),
    Code.EXTENDED_COMMUNITIES: Row(
        "EXTENDED_COMMUNITIES",
        "extended",
        OPTIONAL_TRANSITIVE,
        Action.TREAT_AS_WITHDRAW,
        _decode_extended,
        lambda attributes, _session: b"".join(attributes.extended) or None,
        "RFC 4360, RFC 7606 7.14",
    ),
    Code.AS4_PATH: Row(
        "AS4_PATH",
        None,
        OPTIONAL_TRANSITIVE,
        Action.DISCARD,
        _decode_as4_path,
        _encode_as4_path,
        "RFC 6793 4.2.2 and 6",
    ),
    Code.AS4_AGGREGATOR: Row(
        "AS4_AGGREGATOR",
        None,
        OPTIONAL_TRANSITIVE,
        Action.DISCARD,
        _decode_as4_aggregator,
        _encode_as4_aggregator,
        "RFC 6793 4.2.2 and 6",
    ),
    Code.LARGE_COMMUNITIES: Row(
        "LARGE_COMMUNITIES",
        "large",
        OPTIONAL_TRANSITIVE,
        Action.TREAT_AS_WITHDRAW,
        _decode_large,
        lambda attributes, _session: b"".join(struct.pack(">III", *item) for item in attributes.large) or None,
        "RFC 8092 3 and 6",
    ),
}

# RFC 4271 5: mandatory with every announced route; NEXT_HOP only where MP_REACH_NLRI brings none (RFC 4760 3).
MANDATORY = (Code.ORIGIN, Code.AS_PATH)


def name(code: int) -> str:
    """What an attribute is called."""
    row = TABLE.get(code)
    return row.name if row else f"attribute {code}"
