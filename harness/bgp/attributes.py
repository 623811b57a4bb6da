"""Path attributes of a route as one immutable value, shared by every route that has them.

:class:`Attributes` is what the RIBs and the policy see. Its wire form, the flags of each attribute and what an error in it
leads to are rows of :mod:`harness.bgp.attribute_table`; reading and writing whole attribute blocks is
:mod:`harness.bgp.attribute_codec`. MP_REACH_NLRI and MP_UNREACH_NLRI are not here: they carry routes, so they belong to
the UPDATE. The next hop of a route is ``Update.next_hop[family]``; ``Attributes.next_hop`` is the NEXT_HOP attribute alone.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from harness.bgp import as_path as paths
from harness.bgp.as_path import AsPath


class Origin(IntEnum):
    """RFC 4271 5.1.1; lower is preferred."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


class Aggregator(NamedTuple):
    """AGGREGATOR (RFC 4271 5.1.7): who formed the aggregate; ``identifier`` is its BGP Identifier."""

    asn: int
    identifier: IPv4Address


class LargeCommunity(NamedTuple):
    """RFC 8092: ``global:local1:local2``."""

    administrator: int
    local1: int
    local2: int

    def __str__(self) -> str:
        return f"{self.administrator}:{self.local1}:{self.local2}"


class UnknownAttribute(NamedTuple):
    """An optional attribute this speaker has no row for; kept and, where transitive, passed on with the partial bit."""

    flags: int
    code: int
    value: bytes


class WellKnownCommunity(IntEnum):
    """RFC 1997, RFC 3765, RFC 8326, RFC 7999."""

    GRACEFUL_SHUTDOWN = 0xFFFF0000
    BLACKHOLE = 0xFFFF029A
    NO_EXPORT = 0xFFFFFF01
    NO_ADVERTISE = 0xFFFFFF02
    NO_EXPORT_SUBCONFED = 0xFFFFFF03
    NO_PEER = 0xFFFFFF04


def community_text(value: int) -> str:
    """``65530:100``, or the name of a well-known community."""
    try:
        return WellKnownCommunity(value).name.lower().replace("_", "-")
    except ValueError:
        return f"{value >> 16}:{value & 0xFFFF}"


def community(text: str) -> int:
    """The value of ``65530:100`` or of a well-known name; raises ``ValueError`` naming what is wrong."""
    named = WellKnownCommunity.__members__.get(text.upper().replace("-", "_"))
    if named is not None:
        return int(named)
    high, colon, low = text.partition(":")
    if not colon or not high.isdecimal() or not low.isdecimal() or int(high) > 65535 or int(low) > 65535:
        raise ValueError(f"community {text!r}: write two numbers up to 65535 as ASN:VALUE, or a well-known name")
    return int(high) << 16 | int(low)


def large_community(text: str) -> LargeCommunity:
    """The value of ``45104:1:2`` (RFC 8092 canonical form)."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) < 1 << 32 for part in parts):
        raise ValueError(f"large community {text!r}: write three numbers up to 4294967295 as A:B:C")
    return LargeCommunity(*map(int, parts))


def extended_community_text(value: bytes) -> str:
    """An extended community for people: ``rt 65530:100``, ``ro 10.0.0.1:7``, else its octets in hex (RFC 4360, RFC 5668)."""
    kind, sub = value[0] & 0x3F, value[1]
    name = {2: "rt", 3: "ro"}.get(sub)
    if name is None or kind > 2:
        return value.hex()
    if kind == 0:
        return f"{name} {int.from_bytes(value[2:4], 'big')}:{int.from_bytes(value[4:], 'big')}"
    administrator = str(IPv4Address(value[2:6])) if kind == 1 else str(int.from_bytes(value[2:6], "big"))
    return f"{name} {administrator}:{int.from_bytes(value[6:], 'big')}"


class Attributes(NamedTuple):
    """The path attributes of a route. ``None`` and empty mean: not there.

    ``next_hop``: the octets of NEXT_HOP (4), empty where only MP_REACH_NLRI carries one. ``communities``: 32-bit values;
    ``extended``: 8 octets each; ``cluster_list``: 32-bit cluster ids; ``unknown`` ascending by code; ``partial``: codes of known
    attributes that arrived with the partial bit, which stays set (RFC 4271 5). Equal values are equal and hash alike, whoever made
    them; blocks decoded from the same octets are the same object, which is what makes comparing them cheap.

    A tuple, because one is made for nearly every UPDATE of a full table, and that costs a tenth of a frozen dataclass.
    """

    origin: int = Origin.IGP
    as_path: AsPath = ()
    next_hop: bytes = b""
    med: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: Aggregator | None = None
    communities: tuple[int, ...] = ()
    originator_id: IPv4Address | None = None
    cluster_list: tuple[int, ...] = ()
    extended: tuple[bytes, ...] = ()
    large: tuple[LargeCommunity, ...] = ()
    unknown: tuple[UnknownAttribute, ...] = ()
    partial: tuple[int, ...] = ()

    @property
    def as_path_length(self) -> int:
        """RFC 4271 9.1.2.2 a."""
        return paths.length(self.as_path)

    @property
    def neighbor_as(self) -> int:
        """RFC 4271 9.1.2.2 c: 0 for a path that starts with a set or is empty."""
        return _neighbor_as(self.as_path)

    def evolve(self, **changes: Any) -> Attributes:
        """A copy with some fields changed; ``self`` when nothing changes."""
        if all(getattr(self, name) == value for name, value in changes.items()):
            return self
        return self._replace(**changes)

    def prepended(self, asn: int, count: int = 1) -> Attributes:
        """With ``asn`` in front of the path, as an eBGP speaker sends it (RFC 4271 5.1.2)."""
        return self.evolve(as_path=paths.prepend(self.as_path, asn, count))


def _neighbor_as(path: AsPath) -> int:
    """RFC 4271 9.1.2.2 c: the leftmost AS of an AS_SEQUENCE; confederation segments are passed over (RFC 5065 5.3)."""
    for kind, asns in path:
        if kind == paths.SegmentType.AS_SEQUENCE:
            return asns[0]
        if kind == paths.SegmentType.AS_SET:
            return 0
    return 0
