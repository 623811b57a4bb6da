"""BMP messages as octets: what a speaker tells a monitoring station of its neighbours and their routes.

Sources: RFC 7854 (BGP Monitoring Protocol, version 3), RFC 8671 (Adj-RIB-Out). Only the sender's side: a station sends nothing back.
What is told when is :mod:`harness.bgp.bmp_feed`'s, the connection :mod:`harness.bgp.bmp_client`'s.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from ipaddress import IPv4Address

VERSION = 3


class MessageType(IntEnum):
    """RFC 7854 4.1."""

    ROUTE_MONITORING = 0
    STATISTICS_REPORT = 1
    PEER_DOWN = 2
    PEER_UP = 3
    INITIATION = 4
    TERMINATION = 5


class View(Enum):
    """Which table a route is told from; the value is the peer flags (RFC 7854 4.2, RFC 8671 5)."""

    PRE_POLICY = 0x00
    POST_POLICY = 0x40
    ADJ_RIB_OUT = 0x50


class PeerType(IntEnum):
    """RFC 7854 4.2 and RFC 9069 4.1: a neighbour, or this speaker's own table."""

    GLOBAL = 0
    LOC_RIB = 3


class DownReason(IntEnum):
    """RFC 7854 4.9: why a session ended."""

    LOCAL_NOTIFICATION = 1
    LOCAL_EVENT = 2
    REMOTE_NOTIFICATION = 3
    REMOTE_SILENT = 4


class Statistic(IntEnum):
    """RFC 7854 4.8 and RFC 8671 6.2: the counters this speaker reports."""

    ADJ_RIB_IN = 7
    LOC_RIB = 8
    ADJ_RIB_IN_OF_FAMILY = 9
    LOC_RIB_OF_FAMILY = 10
    UPDATES_TREATED_AS_WITHDRAWN = 11
    PREFIXES_TREATED_AS_WITHDRAWN = 12
    ADJ_RIB_OUT = 15
    ADJ_RIB_OUT_OF_FAMILY = 17


_COUNTERS = {Statistic.UPDATES_TREATED_AS_WITHDRAWN, Statistic.PREFIXES_TREATED_AS_WITHDRAWN}

_FLAG_IPV6 = 0x80
_PEER = struct.Struct(">BB8x16sI4sII")
_TEXT, _DESCRIPTION, _NAME, _REASON, _TABLE_NAME = 0, 1, 2, 1, 3
_ADMINISTRATIVELY_CLOSED = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """The neighbour a message is about (RFC 7854 4.2). AS paths are told with 4-octet numbers whatever the session has."""

    address: bytes
    asn: int
    identifier: IPv4Address
    kind: PeerType = PeerType.GLOBAL

    def header(self, time: float, view: View = View.PRE_POLICY) -> bytes:
        """``time``: seconds since the epoch."""
        flags = view.value | (_FLAG_IPV6 if len(self.address) == 16 else 0)
        seconds = int(time)
        return _PEER.pack(
            self.kind, flags, wide(self.address), self.asn, self.identifier.packed, seconds, int((time - seconds) * 1e6)
        )


def wide(address: bytes) -> bytes:
    """An address in the 16 octets that BMP has for one: IPv4 in the last four."""
    return address.rjust(16, b"\0")


def initiation(name: str, description: str) -> bytes:
    """RFC 7854 4.3: the first message of a connection."""
    return _message(MessageType.INITIATION, _text(_DESCRIPTION, description) + _text(_NAME, name))


def termination(text: str) -> bytes:
    """RFC 7854 4.5: the last message, of a speaker that was told to end."""
    reason = _tlv(_REASON, struct.pack(">H", _ADMINISTRATIVELY_CLOSED))
    return _message(MessageType.TERMINATION, reason + _text(_TEXT, text))


def peer_up(
    peer: Peer, time: float, local: bytes, ports: tuple[int, int], opens: tuple[bytes, bytes], table: str = ""
) -> bytes:
    """RFC 7854 4.10. ``ports``: local, remote; ``opens``: the whole OPEN messages, sent and received; ``table``: the name of a Loc-RIB,
    which RFC 9069 4.4.1 wants.

    For neighbours the optional Information at its end is left out: readers that take it for a third message are in use.
    """
    body = wide(local) + struct.pack(">HH", *ports) + b"".join(opens) + (_text(_TABLE_NAME, table) if table else b"")
    return _message(MessageType.PEER_UP, peer.header(time) + body)


def peer_down(peer: Peer, time: float, reason: DownReason, data: bytes = b"") -> bytes:
    """RFC 7854 4.9. ``data``: the NOTIFICATION, or the event of the state machine in 2 octets."""
    return _message(MessageType.PEER_DOWN, peer.header(time) + bytes((reason,)) + data)


def route_monitoring(header: bytes, update: bytes) -> bytes:
    """RFC 7854 4.6: one UPDATE behind a :meth:`Peer.header`."""
    return _message(MessageType.ROUTE_MONITORING, header + update)


def statistics(peer: Peer, time: float, values: Iterable[tuple[Statistic, bytes, int]]) -> bytes:
    """RFC 7854 4.8: (counter, AFI and SAFI in 3 octets or nothing, value)."""
    reports = [
        _tlv(kind, family + value.to_bytes(4 if kind in _COUNTERS else 8, "big")) for kind, family, value in values
    ]
    body = struct.pack(">I", len(reports)) + b"".join(reports)
    return _message(MessageType.STATISTICS_REPORT, peer.header(time) + body)


def _message(kind: MessageType, body: bytes) -> bytes:
    return struct.pack(">BIB", VERSION, 6 + len(body), kind) + body


def _text(kind: int, content: str) -> bytes:
    return _tlv(kind, content.encode()[:65535])


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">HH", kind, len(value)) + value
