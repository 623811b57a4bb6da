"""A path: one neighbour's offer to reach a prefix, and where it came from.

One Path object stands for every prefix that came with the same attributes from the same source, so that a table of half a
million prefixes holds a few thousand of them and a decision can be remembered by identity. Nothing here knows a prefix.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum

from harness.bgp.attributes import Attributes


class Kind(Enum):
    """Where a path was learned."""

    LOCAL = "local"
    EBGP = "ebgp"
    IBGP = "ibgp"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The session (or this speaker itself) that a path came from. A new session is a new Source: identity is the key.

    ``client``: an iBGP neighbour whose routes are reflected (RFC 4456).
    """

    name: str
    kind: Kind
    asn: int
    router_id: int = 0
    address: bytes = b""
    client: bool = False

    @property
    def address_text(self) -> str:
        return str(ipaddress.ip_address(self.address)) if self.address else ""


@dataclass(slots=True, eq=False)
class Path:
    """One row of Adj-RIB-In, shared by the prefixes it fits. Nobody writes to it; frozen, making one would cost three times as much.

    ``received`` is what came, ``attributes`` what the import policy made of it; ``next_hop`` has 4 or 16 octets (empty: local);
    ``path_id`` is the neighbour's (RFC 7911) or 0. ``rejected`` says why the path is no candidate at all.
    """

    source: Source
    path_id: int
    received: Attributes
    attributes: Attributes
    next_hop: bytes
    rejected: str | None = None

    def says_as(self, other: Path) -> bool:
        """Whether ``other`` is the same offer, made another time."""
        return (
            self.source is other.source
            and self.path_id == other.path_id
            and self.next_hop == other.next_hop
            and self.rejected == other.rejected
            and self.received == other.received
            and self.attributes == other.attributes
        )
