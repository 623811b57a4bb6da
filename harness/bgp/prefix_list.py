"""Prefix conditions of a policy: "10.0.0.0/8", "10.0.0.0/8 ge 16 le 24", "2001:db8::/32 le 48".

Matches are made on the NLRI's wire form (a length octet and the prefix octets), never on address objects.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


class PrefixRangeError(ValueError):
    """The text is no prefix condition."""


@dataclass(frozen=True, slots=True)
class PrefixRange:
    """All prefixes inside one block whose length lies between two bounds. ``bits`` is the block's value, ``length`` its length."""

    version: int
    bits: int
    length: int
    shortest: int
    longest: int

    @classmethod
    def parse(cls, text: str) -> PrefixRange:
        """Raises PrefixRangeError, which names the text and what is wrong."""
        block, *bounds = text.split()
        try:
            network = ipaddress.ip_network(block)
        except ValueError as error:
            raise PrefixRangeError(
                f'{text!r} is no prefix condition: {error}; write it like "10.0.0.0/8 ge 16 le 24"'
            ) from None
        words = dict(zip(bounds[::2], bounds[1::2], strict=False))
        if len(bounds) % 2 or not set(words) <= {"ge", "le"} or not all(v.isdigit() for v in words.values()):
            raise PrefixRangeError(f'{text!r} is no prefix condition; after the prefix stand only "ge N" and "le N"')
        length, longest_of_all = network.prefixlen, network.max_prefixlen
        shortest = int(words.get("ge", length))
        longest = int(words.get("le", longest_of_all if "ge" in words else length))
        if not length <= shortest <= longest <= longest_of_all:
            raise PrefixRangeError(f"{text!r} matches nothing: {length} <= ge <= le <= {longest_of_all} must hold")
        return cls(
            network.version, int(network.network_address) >> (longest_of_all - length), length, shortest, longest
        )

    def matches(self, prefix: bytes) -> bool:
        """Whether ``prefix`` (length octet, prefix octets; of the same address family) is covered and within the bounds."""
        length = prefix[0]
        if not self.shortest <= length <= self.longest:
            return False
        octets = len(prefix) - 1
        return int.from_bytes(prefix[1:], "big") >> (8 * octets - self.length) == self.bits
