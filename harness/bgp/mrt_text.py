"""MRT records as lines, in the columns that ``bgpdump -m`` made customary.

    BGP4MP|time|A|peer|AS|prefix|AS path|origin|next hop|LOCAL_PREF|MED|communities|AG or NAG|aggregator|
    BGP4MP|time|W|peer|AS|prefix          BGP4MP|time|STATE|peer|AS|old|new          TABLE_DUMP2|time|B|... as A

Said beside that: the path identifier as ``prefix#id``, and extended and large communities in a column of their own behind the last. What
cannot be read is a line with the reason in place of the columns, never silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from harness.bgp import as_path
from harness.bgp import prefixes as nlri
from harness.bgp.attribute_codec import decode_block
from harness.bgp.attribute_table import Code
from harness.bgp.attributes import Attributes, Origin, community_text, extended_community_text
from harness.bgp.errors import ProtocolError, UpdateError
from harness.bgp.messages import HEADER_LENGTH, MessageType, Notification, check_header
from harness.bgp.mrt import STATE_NUMBERS, Message, Other, PeerIndex, Record, Routes, StateChange, TablePeer
from harness.bgp.prefixes import Family
from harness.bgp.session import EXTENDED_LENGTH, Session
from harness.bgp.update import Update, decode_update

_ALL = frozenset(Family)
# Both ends in one AS: nothing is left out of what was recorded (see internal_only of the attribute table).
_CONTEXT = {
    (asn4, add_path): Session(asn4=asn4, families=_ALL, add_path_receive=_ALL if add_path else frozenset())
    for asn4 in (False, True)
    for add_path in (False, True)
}


class NotAnUpdate(ValueError):
    """The record holds another message, or one that cannot be read; the text says which."""


def update_of(message: Message) -> Update:
    """The UPDATE in a record. Raises :class:`NotAnUpdate`."""
    error = check_header(message.wire[:HEADER_LENGTH].ljust(HEADER_LENGTH, b"\0"), EXTENDED_LENGTH)
    if error is not None:
        raise NotAnUpdate(str(error))
    length, kind = int.from_bytes(message.wire[16:18], "big"), message.wire[18]
    if kind != MessageType.UPDATE or length != len(message.wire):
        name = MessageType(kind).name
        raise NotAnUpdate(
            name if length == len(message.wire) else f"{name} of {length} octets, {len(message.wire)} are there"
        )
    try:
        return decode_update(message.wire[HEADER_LENGTH:], _CONTEXT[message.asn4, message.add_path])
    except ProtocolError as error:
        raise NotAnUpdate(str(error)) from None


def lines(records: Iterable[Record]) -> Iterator[str]:
    """One line for each route and state change."""
    peers: tuple[TablePeer, ...] = ()
    for record in records:
        match record:
            case PeerIndex():
                peers = record.peers
            case Routes():
                yield from _table_lines(record, peers)
            case Message():
                yield from _message_lines(record)
            case StateChange():
                numbers = [str(STATE_NUMBERS[state]) if state else "0" for state in (record.old, record.new)]
                yield f"{_head(record)}|STATE|{record.ends.peer}|{record.ends.peer_asn}|{'|'.join(numbers)}"
            case Other():
                yield f"MRT|{record.time // 1_000_000}|type {record.type} subtype {record.subtype} is not read"


def _head(record: Message | StateChange) -> str:
    seconds, micro = divmod(record.time, 1_000_000)
    local = "_LOCAL" if isinstance(record, Message) and record.sent else ""
    return f"BGP4MP_ET{local}|{seconds}.{micro:06}" if record.extended else f"BGP4MP{local}|{seconds}"


def _message_lines(message: Message) -> Iterator[str]:
    who = f"{message.ends.peer}|{message.ends.peer_asn}"
    try:
        update = update_of(message)
    except NotAnUpdate as error:
        told = str(error)
        if message.wire[18:19] == bytes((MessageType.NOTIFICATION,)) and len(message.wire) >= HEADER_LENGTH + 2:
            told = f"NOTIFICATION {Notification(message.wire[19], message.wire[20], message.wire[21:])}"
        yield f"{_head(message)}|{told}|{who}"
        return
    for family, slices in update.withdrawn.items():
        for piece in slices:
            yield f"{_head(message)}|W|{who}|{nlri.text(piece, family, message.add_path)}"
    for family, slices in update.announced.items():
        columns = _columns(update.attributes or Attributes(), update.next_hop[family])
        for piece in slices:
            yield f"{_head(message)}|A|{who}|{nlri.text(piece, family, message.add_path)}|{columns}"


def _table_lines(routes: Routes, peers: tuple[TablePeer, ...]) -> Iterator[str]:
    prefix = nlri.text(routes.prefix, routes.family)
    for entry in routes.entries:
        if entry.peer >= len(peers):
            yield f"TABLE_DUMP2|{routes.time // 1_000_000}|a path of peer {entry.peer}, the index has {len(peers)}|{prefix}"
            continue
        peer = peers[entry.peer]
        label = f"{prefix}#{entry.path_id}" if routes.add_path else prefix
        try:
            attributes, next_hop = table_attributes(entry.attributes)
        except ProtocolError as error:
            yield f"TABLE_DUMP2|{routes.time // 1_000_000}|{error}|{peer.address}|{peer.asn}|{label}"
            continue
        columns = _columns(attributes, next_hop)
        yield f"TABLE_DUMP2|{routes.time // 1_000_000}|B|{peer.address}|{peer.asn}|{label}|{columns}"


def table_attributes(block: bytes) -> tuple[Attributes, bytes]:
    """Attributes and next hop of a table's entry. MP_REACH_NLRI in full is read too: some writers do not cut it down.

    Raises :class:`~harness.bgp.errors.ProtocolError`.
    """
    read = decode_block(block, _CONTEXT[True, False])
    next_hop = read.attributes.next_hop
    for fault in read.faults:
        if fault.code == Code.NEXT_HOP and fault.subcode == UpdateError.INVALID_NEXT_HOP_ATTRIBUTE:
            # In a table 0.0.0.0 is no error: it stands with the speaker's own routes.
            next_hop = fault.data[-4:]
    if read.reach is not None:
        whole, at = read.reach
        value = whole[at:]
        # A length of next hop is never 0; the first octet of an AFI is.
        next_hop = value[1 : 1 + value[0]] if value and value[0] else value[4 : 4 + value[3]] if len(value) > 3 else b""
    return read.attributes.evolve(next_hop=b""), next_hop


def _path(path: as_path.AsPath) -> str:
    """As ``as_path.text``, the members of a set parted by commas."""
    return " ".join(
        f"{{{','.join(map(str, segment.asns))}}}"
        if segment.kind == as_path.SegmentType.AS_SET
        else as_path.text((segment,))
        for segment in path
    )


def _columns(attributes: Attributes, next_hop: bytes) -> str:
    hop = next_hop[:16]
    aggregator = attributes.aggregator
    more = [*map(extended_community_text, attributes.extended), *map(str, attributes.large)]
    return "|".join(
        (
            _path(attributes.as_path),
            Origin(attributes.origin).name,
            str(ip_address(hop)) if len(hop) in (4, 16) else "",
            str(attributes.local_pref or 0),
            str(attributes.med or 0),
            " ".join(map(community_text, attributes.communities)),
            "AG" if attributes.atomic_aggregate else "NAG",
            f"{aggregator.asn} {aggregator.identifier}" if aggregator else "",
            " ".join(more),
        )
    )
