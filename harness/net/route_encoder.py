"""Routes by nexthop id as netlink messages, by the thousand: what a BGP speaker writes when it learns a table.

Whole messages, headers included, for ``Rtnl.bulk_routes``. A single request as a value is ``requests``.
"""

from __future__ import annotations

import socket
import struct
from array import array
from collections.abc import Sequence

from harness.net.netlink import HEADER, Flag, u32
from harness.net.requests import RTMSG, TABLE_MAIN, Protocol, RouteKind, Rta, Rtm, Scope

_SEQUENCE_AT = 8  # in the header of a netlink message


class RouteEncoder:
    """Encodes routes that differ only in prefix and nexthop id: what a BGP speaker writes by the hundred thousand.

    RTM_NEWROUTE with an id, RTM_DELROUTE with None. A prefix is given in the NLRI form of RFC 4271 section 4.3: length octet, then the
    address, which may be cut after its last significant octet; it is filled with zeros.
    """

    __slots__ = ("_delete", "_length_at", "_replace", "_size")

    def __init__(self, family: int, *, metric: int, protocol: int = Protocol.BGP, table: int = TABLE_MAIN) -> None:
        self._size = 4 if family == socket.AF_INET else 16
        low = table if table < 256 else 0
        destination = struct.pack("=HH", 4 + self._size, Rta.DST) + bytes(self._size)
        tail = u32(Rta.PRIORITY, metric) + (u32(Rta.TABLE, table) if table > 255 else b"")
        new = RTMSG.pack(family, 0, 0, 0, low, protocol, Scope.UNIVERSE, RouteKind.UNICAST, 0)
        old = RTMSG.pack(family, 0, 0, 0, low, protocol, Scope.NOWHERE, 0, 0)
        self._replace = new + destination + tail
        self._delete = old + destination + tail
        self._length_at = HEADER.size + 1

    def __call__(self, prefix: bytes, nhid: int | None) -> bytes:
        """The body of one message."""
        whole = self.messages([prefix], nhid, 0)
        return bytes(whole[HEADER.size :])

    def messages(self, prefixes: Sequence[bytes], nhid: int | None, first: int) -> bytearray:
        """Whole messages, one after the other, numbered from ``first``; the last one asks for an acknowledgement.

        They are alike but for a few octets, so one is repeated and each of those octets is filled in as a column: 0.3 us a route.
        """
        kind, flags, body = Rtm.DELROUTE, Flag.REQUEST, self._delete
        if nhid is not None:
            kind, flags = Rtm.NEWROUTE, Flag.REQUEST | Flag.CREATE | Flag.REPLACE
            body = self._replace + u32(Rta.NH_ID, nhid)
        step, count = HEADER.size + len(body), len(prefixes)
        out = bytearray((HEADER.pack(step, kind, flags, 0, 0) + body) * count)
        width = 1 + self._size
        octets = b"".join([prefix.ljust(width, b"\0") for prefix in prefixes])
        out[self._length_at :: step] = octets[::width]
        address_at = HEADER.size + RTMSG.size + 4
        for number in range(self._size):
            out[address_at + number :: step] = octets[1 + number :: width]
        numbers = array("I", range(first, first + count)).tobytes()
        for number in range(4):
            out[_SEQUENCE_AT + number :: step] = numbers[number::4]
        HEADER.pack_into(out, (count - 1) * step, step, kind, flags | Flag.ACK, first + count - 1, 0)
        return out
