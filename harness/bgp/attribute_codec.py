"""Reading and writing the path attribute block of an UPDATE.

Blocks repeat: neighbours send thousands of routes with the same attributes. Each block of octets is read once and then
found again by those octets, so the same block is the same :class:`~harness.bgp.attributes.Attributes` object (the cache is
bounded; equality does not depend on it). Which error leads to what is the table's business (RFC 7606); this module walks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from harness.bgp import as_path as paths
from harness.bgp.attribute_table import (
    CATEGORY,
    MANDATORY,
    OPTIONAL_TRANSITIVE,
    TABLE,
    Action,
    Code,
    Flag,
    MalformedAttribute,
    Row,
    name,
)
from harness.bgp.attributes import Aggregator, Attributes, UnknownAttribute
from harness.bgp.errors import ErrorCode, ProtocolError, UpdateError
from harness.bgp.session import Session


@dataclass(frozen=True, slots=True)
class AttributeFault:
    """An error in one attribute: what was done about it, and what RFC 4271 6.3 would have sent for it."""

    code: int
    action: Action
    subcode: int
    data: bytes
    text: str

    @property
    def name(self) -> str:
        return name(self.code)

    def __str__(self) -> str:
        return f"{self.name}: {self.text} ({self.action})"


class Block(NamedTuple):
    """A path attribute block as read. ``missing``: mandatory attributes that are not there (NEXT_HOP not counted).

    ``reach`` and ``unreach`` are the whole attributes MP_REACH_NLRI and MP_UNREACH_NLRI, header included, and where their
    value starts in it.
    """

    attributes: Attributes
    missing: tuple[int, ...] = ()
    faults: tuple[AttributeFault, ...] = ()
    reach: tuple[bytes, int] | None = None
    unreach: tuple[bytes, int] | None = None


EMPTY = Block(Attributes())
_BLOCKS_KEPT = 4096
_VALUES_KEPT = 16384
# One cache per codec context: the same octets mean other things with other AS number sizes, and from external peers.
_BLOCKS: tuple[dict[bytes, Block], ...] = tuple({} for _ in range(4))
_VALUES: tuple[dict[bytes, tuple[str, Any]], ...] = tuple({} for _ in range(4))
# Plain integers: arithmetic on enum members costs ten times as much, and this is the hot path.
_REACH, _UNREACH, _AS_PATH = int(Code.MP_REACH_NLRI), int(Code.MP_UNREACH_NLRI), int(Code.AS_PATH)
_ROUTES = (_REACH, _UNREACH)
_EXTENDED, _CATEGORY, _OPTIONAL = int(Flag.EXTENDED_LENGTH), int(CATEGORY), int(Flag.OPTIONAL)
# RFC 4271 4.3: the lower four bits are unused; the extended length is the writer's business.
_PARTIAL, _MEANT = int(Flag.PARTIAL), int(CATEGORY | Flag.PARTIAL)
_WELL_KNOWN, _SEQUENCE = int(Flag.TRANSITIVE), int(paths.SegmentType.AS_SEQUENCE)
_code_of = attrgetter("code")
_CATEGORIES = {int(code): int(row.category) for code, row in TABLE.items()}


def decode_block(block: bytes, session: Session) -> Block:
    """Reads a block; raises :class:`ProtocolError` only for what RFC 7606 still lets reset the session."""
    cache = _BLOCKS[session.codec]
    known = cache.get(block)
    if known is not None:
        return known
    read = _decode_usual(block, session)
    if read is None:
        pieces, faults, with_routes = _split(block)
        if with_routes:
            return _decode_with_routes(pieces, faults, session)
        read = _decode(pieces, faults, session)
    if len(cache) >= _BLOCKS_KEPT:
        cache.clear()
    cache[block] = read
    return read


def forget() -> None:
    """Empties the caches of blocks and values (for measurements, and after a table was dropped)."""
    for blocks, values in zip(_BLOCKS, _VALUES, strict=True):
        blocks.clear()
        values.clear()


def _decode_usual(block: bytes, session: Session) -> Block | None:
    """Most blocks of a full table: an AS_PATH of one AS_SEQUENCE, and other attributes that were all seen before.

    None for any other block, with or without errors; what it answers, :func:`_decode` answers too, in three times the time.
    """
    found: dict[str, Any] = {}
    values = _VALUES[session.codec]
    formats, size = (paths.FORMATS[4], 4) if session.asn4 else (paths.FORMATS[2], 2)
    at, end = 0, len(block)
    while end - at >= 3:
        flags, code = block[at], block[at + 1]
        if flags & _EXTENDED:
            if end - at < 4:
                return None
            value_at = at + 4
            stop = value_at + (block[at + 2] << 8 | block[at + 3])
        else:
            value_at = at + 3
            stop = value_at + block[at + 2]
        if flags & _PARTIAL or stop > end:
            return None
        if code == _AS_PATH:
            if flags & _CATEGORY != _WELL_KNOWN or stop - value_at < 2 or block[value_at] != _SEQUENCE:
                return None
            count = block[value_at + 1]
            if not count or value_at + 2 + count * size != stop:
                return None
            asns = formats[count].unpack_from(block, value_at + 2)
            if 0 in asns:
                return None
            field, value = "as_path", (paths.Segment(_SEQUENCE, asns),)
        else:
            known = values.get(block[at:stop])
            if known is None:
                return None
            field, value = known
        if field in found:
            return None
        found[field] = value
        at = stop
    if at != end or "as_path" not in found or "origin" not in found:
        return None
    return Block(Attributes(**found))


# flags, code, the whole attribute with its header, where its value starts in it
_Piece = tuple[int, int, bytes, int]


def _split(block: bytes) -> tuple[list[_Piece], list[AttributeFault], bool]:
    """Cuts a block into attributes, and says whether an MP attribute is among them.

    Where an attribute overruns the block the rest is lost and the routes are withdrawn (RFC 7606 4).
    """
    pieces: list[_Piece] = []
    with_routes = False
    at, end = 0, len(block)
    while end - at >= 3:
        flags, code, length = block[at], block[at + 1], block[at + 2]
        head = 3
        if flags & _EXTENDED:
            if end - at < 4:
                break
            length = length << 8 | block[at + 3]
            head = 4
        stop = at + head + length
        if stop > end:
            text = f"{length} octets claimed, {end - at - head} left"
            if code in _ROUTES:
                # RFC 7606 3 j: what cannot be read whole cannot be withdrawn.
                optional, whole = UpdateError.OPTIONAL_ATTRIBUTE_ERROR, block[at:]
                raise ProtocolError(ErrorCode.UPDATE_MESSAGE_ERROR, optional, whole, f"{name(code)}: {text}")
            return pieces, [_overrun(code, block[at:], text)], with_routes
        if code in _ROUTES:
            with_routes = True
        pieces.append((flags, code, block[at:stop], head))
        at = stop
    if at == end:
        return pieces, [], with_routes
    code = block[at + 1] if at + 1 < end else 0
    return pieces, [_overrun(code, block[at:], "the block ends inside an attribute header")], with_routes


def _overrun(code: int, data: bytes, text: str) -> AttributeFault:
    return AttributeFault(code, Action.TREAT_AS_WITHDRAW, UpdateError.ATTRIBUTE_LENGTH_ERROR, data, text)


def _decode_with_routes(pieces: list[_Piece], faults: list[AttributeFault], session: Session) -> Block:
    found: dict[int, tuple[bytes, int]] = {}
    others: list[_Piece] = []
    for piece in pieces:
        flags, code, whole, value_at = piece
        if code not in (_REACH, _UNREACH):
            others.append(piece)
            continue
        if code in found:
            # RFC 7606 3 g: which of the two holds the routes cannot be known.
            raise ProtocolError(
                ErrorCode.UPDATE_MESSAGE_ERROR,
                UpdateError.MALFORMED_ATTRIBUTE_LIST,
                b"",
                f"{name(code)} occurs twice",
            )
        if flags & _CATEGORY != _CATEGORIES[code]:
            faults = [*faults, _flags_fault(code, flags, whole)]
        found[code] = (whole, value_at)
    if faults:
        read = _decode(others, faults, session)
    else:
        # Without the routes the block is that of thousands of other UPDATEs: find it again by the octets that remain.
        read = decode_block(b"".join(whole for _, _, whole, _ in others), session) if others else _bare()
    return read._replace(reach=found.get(_REACH), unreach=found.get(_UNREACH))


def _bare() -> Block:
    return EMPTY._replace(missing=tuple(int(code) for code in MANDATORY))


def _flags_fault(code: int, flags: int, whole: bytes) -> AttributeFault:
    text = f"flags {flags:#04x} do not fit"
    return AttributeFault(code, Action.TREAT_AS_WITHDRAW, UpdateError.ATTRIBUTE_FLAGS_ERROR, whole, text)


def _decode(pieces: list[_Piece], faults: list[AttributeFault], session: Session) -> Block:
    found: dict[str, Any] = {}
    merged: dict[int, Any] = {}
    unknown: list[UnknownAttribute] = []
    partial: list[int] = []
    present: set[int] = set()
    faults = list(faults)
    values = _VALUES[session.codec]
    for piece in pieces:
        code = piece[1]
        if code in present:
            # RFC 7606 3 g: of several the first counts.
            text = "occurs more than once"
            faults.append(AttributeFault(code, Action.DISCARD, UpdateError.MALFORMED_ATTRIBUTE_LIST, b"", text))
            continue
        present.add(code)
        known = values.get(piece[2])
        if known is None:
            row = TABLE.get(code)
            if row is None:
                unknown.append(_unknown(*piece))
                continue
            if row.field is None and session.asn4:
                # RFC 6793 4.1 and 6: AS4_PATH and AS4_AGGREGATOR of a peer with 4-octet numbers are discarded unread.
                continue
            try:
                value = _read(row, piece, session)
            except _Faulty as error:
                faults.append(error.fault)
                continue
            if row.field is None:
                merged[code] = value
                continue
            known = (row.field, value)
            # An AS_PATH with its block differs too often to be worth remembering apart from it.
            if code != _AS_PATH:
                if len(values) >= _VALUES_KEPT:
                    values.clear()
                values[piece[2]] = known
        found[known[0]] = known[1]
        if piece[0] & _PARTIAL and _CATEGORIES[code] == OPTIONAL_TRANSITIVE:
            partial.append(code)
    if merged and not session.asn4:
        _merge(found, merged)
    if unknown:
        found["unknown"] = tuple(sorted(unknown, key=_code_of))
    if partial:
        found["partial"] = tuple(sorted(partial))
    missing = _NONE_MISSING if present >= _MANDATORY else tuple(sorted(_MANDATORY - present))
    return Block(Attributes(**found), missing, tuple(faults))


_MANDATORY = frozenset(int(code) for code in MANDATORY)
_NONE_MISSING: tuple[int, ...] = ()


class _Faulty(Exception):
    def __init__(self, fault: AttributeFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def _read(row: Row, piece: _Piece, session: Session) -> Any:
    flags, code, whole, value_at = piece
    if flags & _CATEGORY != _CATEGORIES[code]:
        raise _Faulty(_flags_fault(code, flags, whole))
    if row.internal_only and session.ebgp:
        return None if row.field is None else _ABSENT[row.field]
    try:
        return row.decode(whole[value_at:], session)
    except MalformedAttribute as error:
        raise _Faulty(AttributeFault(code, row.action, error.subcode, whole, str(error))) from None


_ABSENT = {row.field: getattr(EMPTY.attributes, row.field) for row in TABLE.values() if row.field is not None}


def _unknown(flags: int, code: int, whole: bytes, value_at: int) -> UnknownAttribute:
    if not flags & _OPTIONAL:
        raise ProtocolError(
            ErrorCode.UPDATE_MESSAGE_ERROR,
            UpdateError.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
            whole,
            f"well-known attribute {code} is unknown",
        )
    return UnknownAttribute(flags & _MEANT, code, whole[value_at:])


def _merge(found: dict[str, Any], merged: dict[int, Any]) -> None:
    """RFC 6793 4.2.3: what a 2-octet peer passed on of the true numbers.

    An AGGREGATOR that is not AS_TRANS was put there by a 2-octet speaker after the others: then both AS4 attributes are stale.
    """
    aggregator: Aggregator | None = found.get("aggregator")
    as4_aggregator = merged.get(Code.AS4_AGGREGATOR)
    if as4_aggregator is not None and aggregator is not None:
        if aggregator.asn != paths.AS_TRANS:
            return
        found["aggregator"] = as4_aggregator
    as4_path = merged.get(Code.AS4_PATH)
    if as4_path is not None and "as_path" in found:
        found["as_path"] = paths.merge(found["as_path"], as4_path)


def encode_attribute(flags: int, code: int, value: bytes) -> bytes:
    """One attribute: header and value; the extended length exactly where the value needs it."""
    if len(value) > 255:
        return bytes((flags | _EXTENDED, code)) + len(value).to_bytes(2, "big") + value
    return bytes((flags & ~_EXTENDED, code, len(value))) + value


_WRITERS: tuple[tuple[int, Row], ...] = tuple(sorted((int(code), row) for code, row in TABLE.items()))


def encode_attributes(attributes: Attributes, session: Session) -> bytes:
    """The block as sent on ``session``: ascending by code (RFC 4271 5), without any MP attribute.

    To an external peer the attributes that stay inside an AS are left out (RFC 4271 5.1.5, RFC 4456 8). With a 2-octet peer
    AS_TRANS stands for large numbers, and AS4_PATH and AS4_AGGREGATOR go with them (RFC 6793 4.2.2).
    """
    out: list[tuple[int, bytes]] = []
    external = session.ebgp
    for code, row in _WRITERS:
        if row.internal_only and external:
            continue
        value = row.encode(attributes, session)
        if value is not None:
            flags = row.category | _PARTIAL if code in attributes.partial else row.category
            out.append((code, encode_attribute(flags, code, value)))
    out += [(item.code, encode_attribute(item.flags, item.code, item.value)) for item in attributes.unknown]
    out.sort(key=lambda pair: pair[0])
    return b"".join(wire for _, wire in out)
