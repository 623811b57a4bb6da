"""The UPDATE message: its value, reading it, writing it, and packing many routes into few messages.

Sources: RFC 4271 4.3 and 6.3, RFC 7606 (what an error leads to), RFC 4760 and RFC 2545 (other families), RFC 7911 (path
identifiers), RFC 4724 2 (End-of-RIB). Reading is the speaker's hottest path: routes stay wire slices, attribute blocks are
found again by their octets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address
from types import MappingProxyType
from typing import Any, NamedTuple

from harness.bgp.attribute_codec import EMPTY, AttributeFault, Block, decode_block, encode_attribute, encode_attributes
from harness.bgp.attribute_table import OPTIONAL_NON_TRANSITIVE, Action, Code, Flag
from harness.bgp.attributes import Attributes
from harness.bgp.errors import ErrorCode, ProtocolError, UpdateError
from harness.bgp.prefixes import FAMILIES, Family, MalformedNlri, cut
from harness.bgp.session import Session

_HEADER = b"\xff" * 16
_TYPE = b"\x02"
_OVERHEAD = 19 + 2 + 2


_NONE: Mapping[Family, Any] = MappingProxyType({})


class Update(NamedTuple):
    """Routes announced and withdrawn, as wire slices per family (see :mod:`harness.bgp.prefixes`).

    ``announced`` and ``withdrawn`` hold only families that occur; a route in both is announced (RFC 4271 4.3).
    ``attributes`` is ``None`` where there are none, or where an error made the routes of this message withdrawn
    (treat-as-withdraw). ``next_hop`` has, for each announced family, 4, 16 or 32 octets (global, then link-local; RFC 2545 3).
    ``end_of_rib``: the family whose initial routes are complete (RFC 4724 2). ``errors`` says what was wrong with a message
    that was taken all the same.
    """

    announced: Mapping[Family, Sequence[bytes]] = _NONE
    withdrawn: Mapping[Family, Sequence[bytes]] = _NONE
    attributes: Attributes | None = None
    next_hop: Mapping[Family, bytes] = _NONE
    end_of_rib: Family | None = None
    errors: tuple[AttributeFault, ...] = ()


def _error(subcode: int, data: bytes, text: str) -> ProtocolError:
    return ProtocolError(ErrorCode.UPDATE_MESSAGE_ERROR, subcode, data, text)


def decode_update(body: bytes, session: Session) -> Update:
    """Reads the body of an UPDATE; raises :class:`~harness.bgp.errors.ProtocolError` where the session cannot go on."""
    attributes_at = 4 + (body[0] << 8 | body[1])
    if attributes_at > len(body):
        raise _error(UpdateError.MALFORMED_ATTRIBUTE_LIST, b"", "the withdrawn routes overrun the message")
    routes_at = attributes_at + (body[attributes_at - 2] << 8 | body[attributes_at - 1])
    if routes_at > len(body):
        raise _error(UpdateError.MALFORMED_ATTRIBUTE_LIST, b"", "the path attributes overrun the message")
    withdrawn: dict[Family, Sequence[bytes]] = {}
    announced: dict[Family, Sequence[bytes]] = {}
    next_hop: dict[Family, bytes] = {}
    v4 = Family.IPV4_UNICAST
    add_path = v4 in session.add_path_receive
    try:
        if attributes_at > 4:
            withdrawn[v4] = cut(body[2 : attributes_at - 2], 32, add_path)
        if routes_at < len(body):
            announced[v4] = cut(body[routes_at:], 32, add_path)
    except MalformedNlri as error:
        raise _error(UpdateError.INVALID_NETWORK_FIELD, b"", str(error)) from None
    if routes_at == attributes_at and not announced:
        return Update(withdrawn=withdrawn, end_of_rib=None if withdrawn else v4)

    block = decode_block(body[attributes_at:routes_at], session) if routes_at > attributes_at else _nothing_at_all()
    attributes, missing, faults, reach, unreach = block
    classic = bool(announced)
    if (
        classic
        and attributes.next_hop
        and not (missing or faults or reach or unreach)
        and not (session.enforce_first_as and session.ebgp)
    ):
        # Nearly every UPDATE of a table.
        return Update(announced, withdrawn, attributes, {v4: attributes.next_hop})
    if classic:
        next_hop[v4] = attributes.next_hop
    elif block.reach is not None:
        # RFC 4760 3: NEXT_HOP says nothing where MP_REACH_NLRI brings the routes, and is not looked at.
        faults = tuple(fault for fault in faults if fault.code != Code.NEXT_HOP)
    elif session.revised_errors:
        _without_routes(faults)
    if block.unreach is not None or block.reach is not None:
        faults += _routes_of_other_families(block, session, announced, withdrawn, next_hop)
    if announced:
        if block.missing or (classic and not attributes.next_hop):
            faults += _missing(block, classic and not attributes.next_hop)
        if (
            session.enforce_first_as
            and session.ebgp
            and attributes.neighbor_as != session.peer_asn
            and not block.missing
        ):
            faults += (_foreign_path(attributes, session),)
    elif block.unreach is not None and not withdrawn and attributes == EMPTY.attributes and not faults:
        return Update(end_of_rib=FAMILIES.get(_family_numbers(*block.unreach)))
    bare = bool(block.missing) and not announced
    if not faults:
        return Update(announced, withdrawn, None if bare else attributes, next_hop)
    if not session.revised_errors:
        first = faults[0]
        raise _error(first.subcode, first.data, str(first))
    if announced and any(fault.action is Action.TREAT_AS_WITHDRAW for fault in faults):
        for family, slices in announced.items():
            withdrawn[family] = [*withdrawn.get(family, ()), *slices]
        return Update(withdrawn=withdrawn, errors=faults)
    return Update(announced, withdrawn, None if bare else attributes, next_hop, errors=faults)


def _without_routes(faults: tuple[AttributeFault, ...]) -> None:
    """RFC 7606 5.2: attributes with errors and no routes to withdraw for them. Raises for all but what is merely discarded."""
    for fault in faults:
        if fault.action is not Action.DISCARD:
            raise _error(fault.subcode, fault.data, f"{fault.name}: {fault.text}, and no routes are there to withdraw")


def _nothing_at_all() -> Block:
    return Block(EMPTY.attributes, (int(Code.ORIGIN), int(Code.AS_PATH)))


def _missing(block: Block, next_hop: bool) -> tuple[AttributeFault, ...]:
    faulty = {fault.code for fault in block.faults}
    codes = [*block.missing, *([int(Code.NEXT_HOP)] if next_hop else [])]
    return tuple(
        AttributeFault(
            code,
            Action.TREAT_AS_WITHDRAW,
            UpdateError.MISSING_WELL_KNOWN_ATTRIBUTE,
            bytes((code,)),
            "mandatory, and not there",
        )
        for code in codes
        if code not in faulty
    )


def _foreign_path(attributes: Attributes, session: Session) -> AttributeFault:
    text = f"starts with AS {attributes.neighbor_as}, the peer is AS {session.peer_asn}"
    return AttributeFault(Code.AS_PATH, Action.TREAT_AS_WITHDRAW, UpdateError.MALFORMED_AS_PATH, b"", text)


def _family_numbers(whole: bytes, at: int) -> tuple[int, int]:
    return whole[at] << 8 | whole[at + 1], whole[at + 2]


def _routes_of_other_families(
    block: Block,
    session: Session,
    announced: dict[Family, Sequence[bytes]],
    withdrawn: dict[Family, Sequence[bytes]],
    next_hop: dict[Family, bytes],
) -> tuple[AttributeFault, ...]:
    """Reads MP_UNREACH_NLRI and MP_REACH_NLRI into the three dictionaries."""
    faults: tuple[AttributeFault, ...] = ()
    if block.unreach is not None:
        whole, at = block.unreach
        if len(whole) < at + 3:
            raise _error(UpdateError.OPTIONAL_ATTRIBUTE_ERROR, whole, "MP_UNREACH_NLRI ends before its family")
        family = _negotiated(whole, at, session)
        if family is None:
            faults += (_not_negotiated(Code.MP_UNREACH_NLRI, whole, at),)
        elif len(whole) > at + 3:
            slices = _cut(whole, at + 3, family, session, "MP_UNREACH_NLRI")
            withdrawn[family] = [*withdrawn.get(family, ()), *slices]
    if block.reach is not None:
        whole, at = block.reach
        hop_at = at + 4
        if len(whole) < hop_at + 1 or len(whole) < hop_at + whole[at + 3] + 1:
            raise _error(UpdateError.OPTIONAL_ATTRIBUTE_ERROR, whole, "MP_REACH_NLRI ends before its routes")
        family = _negotiated(whole, at, session)
        if family is None:
            return (*faults, _not_negotiated(Code.MP_REACH_NLRI, whole, at))
        hop = whole[hop_at : hop_at + whole[at + 3]]
        if len(hop) not in ((4,) if family is Family.IPV4_UNICAST else (16, 32)):
            text = f"MP_REACH_NLRI with a next hop of {len(hop)} octets for {family}"
            raise _error(UpdateError.OPTIONAL_ATTRIBUTE_ERROR, whole, text)
        slices = _cut(whole, hop_at + len(hop) + 1, family, session, "MP_REACH_NLRI")
        if slices:
            announced[family] = [*announced.get(family, ()), *slices]
            next_hop[family] = hop
        faults += _next_hop_fault(hop, whole)
    return faults


def _negotiated(whole: bytes, at: int, session: Session) -> Family | None:
    family = FAMILIES.get(_family_numbers(whole, at))
    return family if family in session.families else None


def _not_negotiated(code: int, whole: bytes, at: int) -> AttributeFault:
    # RFC 4760 6 and 7: routes of a family that was not agreed on are ignored; the session stays.
    afi, safi = _family_numbers(whole, at)
    text = f"AFI {afi} SAFI {safi} was not negotiated"
    return AttributeFault(code, Action.DISCARD, UpdateError.OPTIONAL_ATTRIBUTE_ERROR, whole, text)


def _cut(whole: bytes, at: int, family: Family, session: Session, name: str) -> list[bytes]:
    try:
        return cut(whole[at:], family.bits, family in session.add_path_receive)
    except MalformedNlri as error:
        raise _error(UpdateError.OPTIONAL_ATTRIBUTE_ERROR, whole, f"{name}: {error}") from None


def _next_hop_fault(hop: bytes, whole: bytes) -> tuple[AttributeFault, ...]:
    if len(hop) == 4:
        bad = hop[0] in (0, 127) or hop[0] >= 224
    else:
        address = IPv6Address(hop[:16])
        if len(hop) == 32 and address.is_unspecified:
            # A speaker without a global address on the link says so, and means the link-local one.
            address = IPv6Address(hop[16:])
        bad = address.is_unspecified or address.is_multicast or address.is_loopback
    if not bad:
        return ()
    text = f"next hop {hop.hex()} is no host address"
    code, subcode = Code.MP_REACH_NLRI, UpdateError.INVALID_NEXT_HOP_ATTRIBUTE
    return (AttributeFault(code, Action.TREAT_AS_WITHDRAW, subcode, whole, text),)


def encode_update(update: Update, session: Session) -> bytes:
    """One message, header included; raises ``ValueError`` when it would be longer than the session allows."""
    if update.end_of_rib is not None:
        return end_of_rib(update.end_of_rib)
    v4 = Family.IPV4_UNICAST
    block = b""
    for family, slices in update.withdrawn.items():
        if family is not v4:
            block += _unreach(family, b"".join(slices))
    routes = b"".join(update.announced.get(v4, ()))
    attributes = update.attributes
    for family, slices in update.announced.items():
        if family is not v4:
            block += _reach(family, update.next_hop[family], b"".join(slices))
    if attributes is not None:
        if v4 in update.next_hop:
            attributes = attributes.evolve(next_hop=update.next_hop[v4])
        block += encode_attributes(attributes, session)
    return _message(b"".join(update.withdrawn.get(v4, ())), block, routes, session)


def _message(withdrawn: bytes, block: bytes, routes: bytes, session: Session) -> bytes:
    length = _OVERHEAD + len(withdrawn) + len(block) + len(routes)
    if length > session.max_length:
        raise ValueError(f"the UPDATE would have {length} octets; the session allows {session.max_length}")
    return b"".join(
        (
            _HEADER,
            length.to_bytes(2, "big"),
            _TYPE,
            len(withdrawn).to_bytes(2, "big"),
            withdrawn,
            len(block).to_bytes(2, "big"),
            block,
            routes,
        )
    )


def _reach(family: Family, next_hop: bytes, routes: bytes) -> bytes:
    value = family.wire + bytes((len(next_hop),)) + next_hop + b"\0" + routes
    return encode_attribute(OPTIONAL_NON_TRANSITIVE, Code.MP_REACH_NLRI, value)


def _unreach(family: Family, routes: bytes) -> bytes:
    return encode_attribute(OPTIONAL_NON_TRANSITIVE, Code.MP_UNREACH_NLRI, family.wire + routes)


def pack_announcements(
    session: Session, family: Family, attributes: Attributes, next_hop: bytes, slices: Iterable[bytes]
) -> list[bytes]:
    """As few messages as hold ``slices``, all with the same attributes and next hop; ready to be sent.

    The slices carry path identifiers exactly where ``family in session.add_path_send``. IPv4 with a next hop of 4 octets goes
    in the classic fields, everything else in MP_REACH_NLRI, which stands first (RFC 7606 5.1). Raises ``ValueError`` where
    the attributes alone leave no room for a route.
    """
    if family is Family.IPV4_UNICAST:
        block = encode_attributes(attributes.evolve(next_hop=next_hop), session)
        room = session.max_length - _OVERHEAD - len(block)
        return [_message(b"", block, routes, session) for routes in _portions(slices, room)]
    block = encode_attributes(attributes.evolve(next_hop=b""), session)
    room = session.max_length - _OVERHEAD - len(block) - (4 + 5 + len(next_hop))
    return [_message(b"", _reach(family, next_hop, routes) + block, b"", session) for routes in _portions(slices, room)]


def next_hop_at(message: bytes, family: Family) -> int:
    """Where the next hop begins in a message of :func:`pack_announcements`."""
    at = _OVERHEAD
    if family is not Family.IPV4_UNICAST:
        # The first attribute: its head, the family and the next hop's length come before.
        return at + (4 if message[at] & Flag.EXTENDED_LENGTH else 3) + 4
    while message[at + 1] != Code.NEXT_HOP:
        extended = message[at] & Flag.EXTENDED_LENGTH
        at += 4 + (message[at + 2] << 8 | message[at + 3]) if extended else 3 + message[at + 2]
    return at + 3


def pack_withdrawals(session: Session, family: Family, slices: Iterable[bytes]) -> list[bytes]:
    """As few messages as hold the withdrawals."""
    if family is Family.IPV4_UNICAST:
        room = session.max_length - _OVERHEAD
        return [_message(routes, b"", b"", session) for routes in _portions(slices, room)]
    room = session.max_length - _OVERHEAD - (4 + 3)
    return [_message(b"", _unreach(family, routes), b"", session) for routes in _portions(slices, room)]


def _portions(slices: Iterable[bytes], room: int) -> Iterator[bytes]:
    portion: list[bytes] = []
    size = 0
    for piece in slices:
        size += len(piece)
        if size > room:
            if not portion:
                raise ValueError(f"the attributes leave {room} octets of the message, a route needs {len(piece)}")
            yield b"".join(portion)
            portion.clear()
            size = len(piece)
        portion.append(piece)
    if portion:
        yield b"".join(portion)


def end_of_rib(family: Family) -> bytes:
    """The End-of-RIB marker (RFC 4724 2): an empty UPDATE for IPv4 unicast, an empty MP_UNREACH_NLRI for the others."""
    if family is Family.IPV4_UNICAST:
        return _message(b"", b"", b"", Session())
    return _message(b"", _unreach(family, b""), b"", Session())
