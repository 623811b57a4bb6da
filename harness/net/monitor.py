"""Kernel notifications of one network namespace: links, addresses, routes, nexthops and neighbours as they change.

A plain descriptor to wait on and a non-blocking read, for asyncio's ``add_reader`` as for ``select``. The kernel drops
notifications for a reader that is too slow and says so once: that is :class:`Overrun`, and the cure is a fresh dump.

What it cannot tell: nexthop objects that vanish with their link's carrier are not announced (Linux 6.18); a link's change is.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Literal, Self

from harness.net.namespace import Namespace
from harness.net.netlink import frames
from harness.net.records import AddressInfo, LinkInfo, NeighbourInfo, NexthopInfo, Record, RouteInfo, decode
from harness.net.rtnl import open_socket

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_SO_RCVBUFFORCE = 33

ChangeKind = Literal["link", "address", "route", "nexthop", "neighbour"]

_KINDS: dict[type, ChangeKind] = {
    LinkInfo: "link",
    AddressInfo: "address",
    RouteInfo: "route",
    NexthopInfo: "nexthop",
    NeighbourInfo: "neighbour",
}


class Group(IntEnum):
    """RTNLGRP_*: what to listen to."""

    LINK = 1
    NEIGH = 3
    IPV4_IFADDR = 5
    IPV4_ROUTE = 7
    IPV6_IFADDR = 9
    IPV6_ROUTE = 11
    NEXTHOP = 32


EVERYTHING = tuple(Group)


class Overrun(Exception):
    """The kernel dropped notifications because they were not read in time: what is known is stale, dump again."""


@dataclass(frozen=True, slots=True)
class Change:
    """``new``: the thing is there (added or changed); else it is gone."""

    kind: ChangeKind
    new: bool
    info: Record


class Monitor:
    """A multicast netlink socket in a namespace. Changes from the moment of construction on are seen."""

    def __init__(
        self,
        groups: Iterable[Group] = EVERYTHING,
        netns_fd: int | Namespace | None = None,
        *,
        receive_buffer: int = 1 << 22,
    ) -> None:
        self._socket = open_socket(netns_fd.fd if isinstance(netns_fd, Namespace) else netns_fd)
        self._socket.setblocking(False)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

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

    def read(self) -> list[Change]:
        """All changes that have come, oldest first; empty when there is none. Raises Overrun once after a loss."""
        found: list[Change] = []
        while True:
            try:
                data = self._socket.recv(1 << 17)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Overrun("the kernel dropped netlink notifications; dump the tables again") from error
                raise
            for frame in frames(data):
                decoded = decode(frame)
                if decoded is not None:
                    present, info = decoded
                    found.append(Change(_KINDS[type(info)], present, info))
