"""What a Fib is: the kernel's routing table as a routing daemon fills it.

A route is given as its prefix (wire form of RFC 4271 4.3: length octet and prefix octets) and its *ways*: gateway and interface, in any
number, the same gateway several times where it was offered several times. ``fib_groups`` and ``fib_multipath`` are the two
ways to write them.

What the kernel does by itself and announces to nobody is told to the Fib by its user: :meth:`Fib.link_lost`. What others do to
our routes is found by :meth:`Fib.noticed` and reported, never repaired here.

Not here: which routes there should be. No thread, no timer, no state beyond what was written.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Self

from harness.net.records import NexthopInfo, RouteInfo
from harness.net.requests import TABLE_MAIN, Protocol, Resilient
from harness.net.route_encoder import RouteEncoder
from harness.net.rtnl import Rtnl


class Way(NamedTuple):
    """One way to a destination: ``gateway`` packed (4 or 16 octets; empty: the destination is on the link) and interface."""

    gateway: bytes
    ifindex: int
    onlink: bool = False


Ways = tuple[Way, ...]


class GroupKind(Enum):
    """How several ways are written."""

    RESILIENT = "resilient"
    PLAIN = "plain"
    MULTIPATH = "multipath"


@dataclass(frozen=True, slots=True)
class FibSettings:
    """``resilient`` counts for RESILIENT only. ``metric`` keeps our routes apart from everybody else's of the same prefix."""

    kind: GroupKind = GroupKind.RESILIENT
    resilient: Resilient = Resilient(96, 0.0, 0.0)
    table: int = TABLE_MAIN
    metric: int = 20
    protocol: int = Protocol.BGP


@dataclass(slots=True)
class Written:
    """What one batch did. ``in_place``: groups whose members were exchanged under their routes; ``failed``: prefix, kernel's reason."""

    installed: list[bytes] = field(default_factory=list)
    removed: list[bytes] = field(default_factory=list)
    failed: list[tuple[bytes, str]] = field(default_factory=list)
    in_place: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.installed or self.removed or self.failed)

    def __iadd__(self, more: Written) -> Self:
        self.installed += more.installed
        self.removed += more.removed
        self.failed += more.failed
        self.in_place += more.in_place
        return self


@dataclass(frozen=True, slots=True)
class Loss:
    """Somebody else removed or changed what we had written: ``what`` in words, and the prefixes that it hit."""

    what: str
    prefixes: tuple[bytes, ...]


class Installed(NamedTuple):
    """One of our routes as written: its ways, and the group's id (None: without next-hop objects)."""

    prefix: bytes
    ways: Ways
    group: int | None


def wire(packed: bytes, length: int) -> bytes:
    """The key of a prefix: length octet and as many octets of the address as the length needs (RFC 4271 4.3)."""
    return bytes((length,)) + packed[: (length + 7) // 8]


class Fib(ABC):
    """Our routes of one address family (``socket.AF_INET`` or ``AF_INET6``) in one table.

    ``on_written`` is called, in another thread, when the background has written a batch: :meth:`settle` then tells what.
    """

    def __init__(self, rtnl: Rtnl, family: int, settings: FibSettings) -> None:
        self.family = family
        self.settings = settings
        self.on_written: Callable[[], object] = lambda: None
        self._rtnl = rtnl
        self._encode = RouteEncoder(family, metric=settings.metric, protocol=settings.protocol, table=settings.table)

    @abstractmethod
    def write(self, by_ways: Mapping[Ways, Sequence[bytes]]) -> Written:
        """Writes a batch, each prefix at most once; no ways: the route is removed. What already is so costs nothing."""

    @abstractmethod
    def adopt(self) -> int:
        """Takes over what a former daemon left in the kernel and this Fib could have written; returns how many routes.

        For a Fib that has written nothing yet. What it cannot take over stays where it is, for :func:`harness.net.fib.sweep_with`.
        """

    def owned(self) -> frozenset[int]:
        """The ids of next-hop objects and groups that are in use."""
        return frozenset()

    def settle(self) -> Written:
        """Waits for what a writer in the background has under way, and tells what it did since the last time."""
        return Written()

    @abstractmethod
    def link_lost(self, ifindex: int) -> list[bytes]:
        """The link went down, lost its carrier or was deleted: the kernel dropped what used it, and said nothing.

        Returns the prefixes that have fewer ways now, or none.
        """

    @abstractmethod
    def noticed(self, present: bool, info: RouteInfo | NexthopInfo) -> Loss | None:
        """A change that this Fib did not make itself; a Loss where it concerns our routes."""

    @abstractmethod
    def verify(self) -> Loss | None:
        """Compares what was written with the kernel's dump; what is missing there is forgotten here and returned."""

    @abstractmethod
    def clear(self) -> None:
        """Removes all that was written."""

    @abstractmethod
    def __len__(self) -> int:
        """How many routes are written."""

    @abstractmethod
    def route(self, prefix: bytes) -> Installed | None:
        """One route as written."""

    @abstractmethod
    def installed(self) -> Iterable[Installed]:
        """The routes as written."""

    @property
    def name(self) -> str:
        """How several ways are written, in words for people."""
        return self.settings.kind.value

    @property
    def version(self) -> int:
        """IP version: 4 or 6."""
        return 4 if self.family == socket.AF_INET else 6

    def _delete_routes(self, prefixes: Sequence[bytes]) -> None:
        # A refusal means that the route was gone already, which is what was asked for.
        self._rtnl.bulk_routes(self._encode, prefixes, None)
