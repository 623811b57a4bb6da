"""A NETLINK_ROUTE socket in a network namespace: transactions, bulk writes, dumps.

The messages themselves are pure functions of ``requests`` and the answers records of ``records``; both are handed on from
here, so that ``from harness.net import rtnl`` is all a user needs. Notifications are ``monitor``'s.

A transaction is one ``sendmsg`` for up to 60 requests, every error matched by its sequence number to what it was for. The
kernel works while ``sendmsg`` runs, so nothing here waits on anything but the kernel's own locks.
"""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from harness.net import records, requests
from harness.net.namespace import Namespace, socket_in
from harness.net.netlink import (
    HEADER,
    Control,
    Flag,
    Frame,
    NetlinkError,
    Request,
    acknowledgement,
    attributes,
    frames,
    u32,
    unpack_u32,
)
from harness.net.qdisc import netem, no_queue, token_bucket
from harness.net.records import AddressInfo, BucketInfo, LinkInfo, NeighbourInfo, NexthopInfo, RouteInfo
from harness.net.requests import (
    Address,
    Hop,
    Interface,
    Network,
    Protocol,
    Resilient,
    RouteKind,
    Rtm,
    Scope,
    address,
    address_del,
    bridge,
    link_del,
    link_get,
    link_set,
    neighbour,
    nexthop,
    nexthop_del,
    nexthop_group,
    route,
    route_del,
    rule,
    veth,
)
from harness.net.route_encoder import RouteEncoder

__all__ = [
    "Address",
    "AddressInfo",
    "BucketInfo",
    "Failure",
    "Hop",
    "Interface",
    "LinkInfo",
    "NeighbourInfo",
    "NetlinkError",
    "Network",
    "NexthopInfo",
    "Protocol",
    "Request",
    "Resilient",
    "RouteInfo",
    "RouteKind",
    "Rtnl",
    "Scope",
    "address",
    "address_del",
    "bridge",
    "link_del",
    "link_get",
    "link_set",
    "neighbour",
    "netem",
    "nexthop",
    "nexthop_del",
    "nexthop_group",
    "no_queue",
    "open_socket",
    "route",
    "route_del",
    "rule",
    "token_bucket",
    "veth",
]

_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
_BATCH = 60
_BULK = 150  # what refusals of every message of one sendmsg may fill of the default receive buffer
_RECEIVE = 1 << 18
_LAST_SEQUENCE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Failure:
    """One refused message of :meth:`Rtnl.bulk_routes`: its index, the kernel's errno and remark."""

    index: int
    errno: int
    remark: str


def open_socket(netns_fd: int | None = None, groups: int = 0) -> socket.socket:
    """A bound NETLINK_ROUTE socket living in the namespace of ``netns_fd`` (None: the calling thread's)."""
    opened = socket_in(netns_fd, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
        opened.setsockopt(_SOL_NETLINK, option, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    opened.bind((0, groups))
    return opened


class Rtnl:
    """A route netlink socket, kept open. One thread at a time."""

    def __init__(self, netns_fd: int | Namespace | None = None) -> None:
        self._socket = open_socket(netns_fd.fd if isinstance(netns_fd, Namespace) else netns_fd)
        self._sequences = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def transact(self, asked: Iterable[Request]) -> None:
        """Sends the requests in order and raises :class:`NetlinkError` for the first that the kernel refused.

        The kernel works through all requests of a batch even when an early one fails; batches after a failed one are not sent.
        """
        source = iter(asked)
        while batch := list(itertools.islice(source, _BATCH)):
            refused = self._exchange(batch)
            for request in batch:
                if request in refused:
                    number, remark = refused[request]
                    raise NetlinkError(request.what, number, remark)

    def attempt(self, asked: Sequence[Request]) -> list[NetlinkError]:
        """Sends the requests and returns the refusals instead of raising: for work where some may fail."""
        found = []
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            found += [NetlinkError(r.what, *refusal) for r, refusal in self._exchange(batch).items()]
        return found

    def _exchange(self, batch: Sequence[Request]) -> dict[Request, tuple[int, str]]:
        first = next(self._sequences)
        last = first + len(batch) - 1
        if last > _LAST_SEQUENCE:
            first, last = 1, len(batch)
        self._sequences = itertools.count(last + 1)
        messages = [request.message(first + at, acknowledged=first + at == last) for at, request in enumerate(batch)]
        self._socket.send(b"".join(messages))
        refused: dict[Request, tuple[int, str]] = {}
        finished = False
        while not finished:
            for frame in self._receive():
                if frame.type != Control.ERROR or not first <= frame.sequence <= last:
                    continue
                number, remark = acknowledgement(frame)
                if number:
                    refused[batch[frame.sequence - first]] = (number, remark)
                finished = finished or frame.sequence == last
        return refused

    def _receive(self) -> Iterator[Frame]:
        return frames(self._socket.recv(_RECEIVE))

    def bulk_routes(
        self, encode: RouteEncoder, prefixes: Sequence[bytes], nhid: int | None, at_once: int = _BULK
    ) -> list[Failure]:
        """Writes a route to each prefix (NLRI form) by nexthop id, or deletes it (None), and returns those refused.

        ``at_once``: messages in one ``sendmsg``. Only the last of them asks for an acknowledgement; refusals come unasked. The hot path of
        a speaker.
        """
        failures: list[Failure] = []
        for base in range(0, len(prefixes), at_once):
            chunk = prefixes[base : base + at_once]
            last = len(chunk) - 1
            first = next(self._sequences)
            if first + last > _LAST_SEQUENCE:
                first = 1
            self._sequences = itertools.count(first + len(chunk))
            self._socket.send(encode.messages(chunk, nhid, first))
            finished = False
            while not finished:
                for frame in self._receive():
                    index = frame.sequence - first
                    if frame.type != Control.ERROR or not 0 <= index <= last:
                        continue
                    number, remark = acknowledgement(frame)
                    if number:
                        failures.append(Failure(base + index, number, remark))
                    finished = finished or index == last
        return failures

    def _dump(self, what: str, kind: int, body: bytes) -> Iterator[Frame]:
        """All answers to a dump request. An interrupted dump (the table changed under it) is taken again from the start."""
        while True:
            number = next(self._sequences) & 0xFFFFFFFF
            self._socket.send(HEADER.pack(16 + len(body), kind, Flag.REQUEST | Flag.DUMP, number, 0) + body)
            found: list[Frame] = []
            interrupted = finished = False
            while not finished:
                for frame in self._receive():
                    if frame.sequence != number:
                        continue
                    interrupted = interrupted or bool(frame.flags & Flag.DUMP_INTERRUPTED)
                    if frame.type == Control.ERROR:
                        refusal, remark = acknowledgement(frame)
                        raise NetlinkError(what, refusal, remark)
                    if frame.type == Control.DONE:
                        (status,) = struct.unpack_from("=i", frame.body)
                        if status < 0:
                            raise NetlinkError(what, -status)
                        finished = True
                        break
                    found.append(frame)
            if not interrupted:
                return iter(found)

    def links(self) -> list[LinkInfo]:
        body = requests.IFINFO.pack(0, 0, 0, 0, 0) + u32(requests.Ifla.EXT_MASK, requests.RTEXT_FILTER_SKIP_STATS)
        return [records.link(frame.body) for frame in self._dump("list links", Rtm.GETLINK, body)]

    def link(self, name: str) -> LinkInfo:
        """The link called ``name``. Raises KeyError naming those that exist."""
        found = {info.name: info for info in self.links()}
        if name not in found:
            raise KeyError(f"no link {name!r}; there are {', '.join(found)}")
        return found[name]

    def addresses(self) -> list[AddressInfo]:
        body = requests.IFADDR.pack(0, 0, 0, 0, 0)
        return [records.address(frame.body) for frame in self._dump("list addresses", Rtm.GETADDR, body)]

    def routes(
        self, table: int = requests.TABLE_MAIN, protocol: int | None = None, family: int = socket.AF_UNSPEC
    ) -> list[RouteInfo]:
        """The routes of one table, of one protocol or all; the kernel does the filtering. Cached clones are not routes."""
        frames_found = self._route_frames(table, protocol, family)
        return [records.route(frame.body) for frame in frames_found]

    def route_keys(
        self, table: int = requests.TABLE_MAIN, protocol: int | None = None, family: int = socket.AF_UNSPEC
    ) -> list[tuple[int, int, bytes, int, int | None]]:
        """(family, prefix length, packed address, metric, nexthop id) of each route: :meth:`routes` for large tables."""
        found = []
        for frame in self._route_frames(table, protocol, family):
            body = frame.body
            inner = attributes(body, requests.RTMSG.size)
            nhid = inner.get(requests.Rta.NH_ID)
            metric = inner.get(requests.Rta.PRIORITY)
            size = 4 if body[0] == socket.AF_INET else 16
            found.append(
                (
                    body[0],
                    body[1],
                    inner.get(requests.Rta.DST, b"").ljust(size, b"\0"),
                    0 if metric is None else unpack_u32(metric),
                    None if nhid is None else unpack_u32(nhid),
                )
            )
        return found

    def _route_frames(self, table: int, protocol: int | None, family: int) -> Iterator[Frame]:
        families = (family,) if family else (socket.AF_INET, socket.AF_INET6)
        for one in families:
            body = requests.RTMSG.pack(one, 0, 0, 0, 0, protocol or 0, 0, 0, 0) + u32(requests.Rta.TABLE, table)
            try:
                yield from self._dump(f"list routes of table {table}", Rtm.GETROUTE, body)
            except NetlinkError as error:
                if error.errno != errno.ENOENT:  # a table that has never had a route
                    raise

    def nexthops(self) -> list[NexthopInfo]:
        """All nexthop objects and groups. Raises NetlinkError (EOPNOTSUPP) on a kernel without them (before Linux 5.3)."""
        body = requests.NHMSG.pack(0, 0, 0, 0)
        return [records.nexthop(frame.body) for frame in self._dump("list nexthops", Rtm.GETNEXTHOP, body)]

    def nexthop_buckets(self, nhid: int) -> list[BucketInfo]:
        """The buckets of a resilient group, by index."""
        body = requests.NHMSG.pack(0, 0, 0, 0) + u32(requests.Nha.ID, nhid)
        found = self._dump(f"list buckets of nexthop group {nhid}", Rtm.GETNEXTHOPBUCKET, body)
        return [records.bucket(frame.body) for frame in found]

    def neighbours(self) -> list[NeighbourInfo]:
        body = requests.NDMSG.pack(0, 0, 0, 0, 0)
        return [
            records.neighbour(frame.body)
            for frame in self._dump("list neighbours", Rtm.GETNEIGH, body)
            if frame.body[0] in (socket.AF_INET, socket.AF_INET6)
        ]
