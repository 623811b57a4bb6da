"""Address families and prefixes as they stand on the wire.

On the speaker's hot path a prefix is the *wire slice* of its NLRI: one octet of length in bits, then as many octets as the
length needs, with the bits beyond it cleared (RFC 4271 4.3). Where ADD-PATH is in use the slice is preceded by the four
octets of its path identifier (RFC 7911 3). Slices are ``bytes``: they hash fast, compare exactly and need no decoding until
somebody wants to read them. ``IPv4Network`` and ``IPv6Network`` appear only at the edges.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network


class Family(Enum):
    """An address family the speaker carries: (AFI, SAFI) of RFC 4760."""

    IPV4_UNICAST = (1, 1)
    IPV6_UNICAST = (2, 1)

    afi: int
    safi: int
    wire: bytes
    bits: int
    octets: int

    def __init__(self, afi: int, safi: int) -> None:
        self.afi = afi
        self.safi = safi
        self.wire = bytes((afi >> 8, afi & 0xFF, safi))
        self.bits = 32 if afi == 1 else 128
        self.octets = self.bits // 8

    # Families are dictionary keys on the hot path; members are singletons, so identity is all there is to hash.
    __hash__ = object.__hash__

    def __str__(self) -> str:
        return ("ipv4" if self.afi == 1 else "ipv6") + " unicast"


FAMILIES: dict[tuple[int, int], Family] = {family.value: family for family in Family}


class MalformedNlri(ValueError):
    """An NLRI field that cannot be cut into prefixes; ``offset`` is where the bad one starts."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


_OCTETS = tuple((bits + 7) // 8 for bits in range(256))
# Length in bits -> octets of the slice; a length that the family does not have steps over any field's end.
_STEP = {limit: tuple(1 + _OCTETS[bits] if bits <= limit else 1 << 20 for bits in range(256)) for limit in (32, 128)}
# Length in bits -> which bits of the last octet do not belong to the prefix.
_HOST = tuple(0xFF >> bits % 8 if bits % 8 else 0 for bits in range(256))


def cut(field: bytes, max_bits: int, add_path: bool = False) -> list[bytes]:
    """Cuts an NLRI field into wire slices, host bits cleared; ``max_bits`` is 32 or 128.

    Raises :class:`MalformedNlri` for a length over ``max_bits`` and for a field that ends inside a prefix.
    """
    if add_path:
        return _cut_add_path(field, _STEP[max_bits])
    slices: list[bytes] = []
    append, step, host = slices.append, _STEP[max_bits], _HOST
    at, end = 0, len(field)
    while at < end:
        bits = field[at]
        stop = at + step[bits]
        piece = field[at:stop]
        if bits & 7 and piece[-1] & host[bits]:
            piece = _cleared(piece, bits)
        append(piece)
        at = stop
    if at != end:
        # Only the last step can have gone too far.
        raise _malformed(field, at, end - len(slices[-1]), max_bits)
    return slices


def _cut_add_path(field: bytes, step: tuple[int, ...]) -> list[bytes]:
    slices: list[bytes] = []
    at, end = 0, len(field)
    while at < end:
        if at + 4 >= end:
            raise MalformedNlri(f"NLRI ends inside a path identifier at octet {at}", at)
        bits = field[at + 4]
        stop = at + 4 + step[bits]
        if stop > end:
            raise _malformed(field, stop, at, 32 if step is _STEP[32] else 128, 4)
        piece = field[at:stop]
        if bits & 7 and piece[-1] & _HOST[bits]:
            piece = _cleared(piece, bits)
        slices.append(piece)
        at = stop
    return slices


def _cleared(piece: bytes, bits: int) -> bytes:
    # RFC 4271 4.3: the value of the trailing bits is irrelevant; one prefix must have one key.
    return piece[:-1] + bytes((piece[-1] & ~_HOST[bits],))


def _malformed(field: bytes, stop: int, at: int, max_bits: int, head: int = 0) -> MalformedNlri:
    bits = field[at + head]
    if bits > max_bits:
        return MalformedNlri(f"prefix length {bits} at octet {at + head} is over {max_bits}", at)
    return MalformedNlri(f"NLRI ends inside the prefix at octet {at}, {stop - len(field)} octets short", at)


def to_network(piece: bytes, family: Family) -> Network:
    """The prefix of a wire slice without path identifier (strip it with :func:`split_path_id`)."""
    address = piece[1:].ljust(family.octets, b"\0")
    kind = IPv4Network if family is Family.IPV4_UNICAST else IPv6Network
    return kind((address, piece[0]))


def from_network(network: Network | str) -> bytes:
    """The wire slice of a prefix; text is parsed strictly (host bits are an error)."""
    if isinstance(network, str):
        network = ip_network(network)
    return bytes((network.prefixlen,)) + network.network_address.packed[: _OCTETS[network.prefixlen]]


def family_of(network: Network | str) -> Family:
    """The family a prefix belongs to."""
    if isinstance(network, str):
        network = ip_network(network)
    return Family.IPV4_UNICAST if network.version == 4 else Family.IPV6_UNICAST


def split_path_id(piece: bytes) -> tuple[int, bytes]:
    """(path identifier, wire slice without it) of an ADD-PATH slice."""
    return int.from_bytes(piece[:4], "big"), piece[4:]


def with_path_id(path_id: int, piece: bytes) -> bytes:
    """An ADD-PATH slice: path identifier (RFC 7911 3), then the plain slice."""
    return path_id.to_bytes(4, "big") + piece


def text(piece: bytes, family: Family, add_path: bool = False) -> str:
    """A slice for people: ``10.0.0.0/24``, or with its path identifier ``10.0.0.0/24#3``."""
    if add_path:
        path_id, piece = split_path_id(piece)
        return f"{text(piece, family)}#{path_id}"
    if family is Family.IPV4_UNICAST:
        a, b, c, d = piece[1:].ljust(4, b"\0")
        return f"{a}.{b}.{c}.{d}/{piece[0]}"
    return str(to_network(piece, family))
