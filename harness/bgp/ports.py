"""What the routing half of the speaker needs from the world: connections and time (:class:`Shell`), the kernel (:class:`Kernel`),
and where it is configured, BFD (:class:`Bfd`).

``transport`` and ``kernel`` are the real ones. A simulation has its own: a virtual clock, links in memory, no kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from harness.bgp.config import Neighbor
from harness.bgp.nexthop import Resolved
from harness.bgp.prefixes import Family
from harness.net.fib import Fib


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None: ...


class Shell(Protocol):
    """Connections and time. ``conn`` is the number that the neighbour's Peer gave the connection."""

    def now(self) -> float:
        """Seconds on a steady clock."""
        ...

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        """``call`` at ``when`` of that clock."""
        ...

    def call_soon(self, call: Callable[[], None]) -> object:
        """``call`` after what is already waiting."""
        ...

    def dial(self, neighbor: Neighbor, conn: int) -> None:
        """Connects; the outcome comes as Connected or ConnectFailed."""
        ...

    def write(self, name: str, conn: int, data: bytes) -> None: ...

    def close(self, name: str, conn: int) -> None:
        """Ends the connection after what was written, or gives up the dial."""
        ...

    def is_writable(self, name: str, conn: int) -> bool:
        """False while the neighbour does not read fast enough; :meth:`Speaker.wake` follows when that changes."""
        ...

    def taken(self, name: str, conn: int) -> tuple[int, int] | None:
        """Octets of what was written that the neighbour's TCP has acknowledged, and that it has not; None where nobody knows."""
        ...

    def neighbors_changed(self, neighbors: Mapping[str, Neighbor]) -> None:
        """These are the neighbours that may connect from now on (their keys included)."""
        ...


class Kernel(Protocol):
    """The kernel's routes: those that are not ours, to resolve next hops, and those that are, to be written."""

    @property
    def fibs(self) -> Mapping[Family, Fib]: ...

    def resolve(self, next_hop: bytes) -> Resolved | None: ...

    def cost(self, next_hop: bytes) -> int | None: ...

    def is_own(self, address: bytes) -> bool: ...

    def shares_subnet(self, address: bytes) -> bool:
        """Whether an address (packed) is in the subnet of one of this node's."""
        ...

    def link_to(self, address: str) -> int | None:
        """The interface on whose link a neighbour is; 0: behind a router; None: there is no way to it."""
        ...

    def own_next_hop(self, local: bytes, ifindex: int, version: int) -> bytes:
        """The next hop of own announcements of that IP version to a neighbour on that link, the session's local end being ``local``:
        4, 16 or 32 octets (RFC 2545 3); ``local`` where there is no better one."""
        ...

    def has_route(self, prefix: bytes, version: int) -> bool: ...

    def interface(self, ifindex: int) -> str: ...


class Bfd(Protocol):
    """Watches the paths to neighbours. What it finds comes as :meth:`Speaker.path_lost`."""

    def watch(self, neighbor: Neighbor) -> None:
        """Begins, where the neighbour is configured with BFD."""
        ...

    def unwatch(self, name: str) -> None:
        """Ends; harmless for a neighbour that is not watched."""
        ...

    def retime(self, name: str, interval_ms: int, multiplier: int) -> None:
        """Other timers, the session staying up."""
        ...

    def row(self, name: str) -> dict[str, Any] | None:
        """The session as JSON values; None where nothing is known of it."""
        ...

    async def refresh(self) -> None:
        """Returns once :meth:`row` is up to date."""
        ...


class NoBfd:
    """A world without BFD."""

    def watch(self, neighbor: Neighbor) -> None: ...

    def unwatch(self, name: str) -> None: ...

    def retime(self, name: str, interval_ms: int, multiplier: int) -> None: ...

    def row(self, name: str) -> dict[str, Any] | None:  # noqa: ARG002
        return None

    async def refresh(self) -> None: ...
