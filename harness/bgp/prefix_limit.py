"""Maximum prefixes of one session and family (RFC 4271 6.7, RFC 4486 4): how many routes are offered, and which must wait.

Counted are the routes that the import policy and the RFCs' checks accept: one that is refused anyway takes no room. With ``drop``
the routes over the limit stay in Adj-RIB-In as refused, in the order in which they came, and the first of them is taken as soon as
another route goes. This module keeps the count and the order; it changes no table (:mod:`harness.bgp.inbound` does).
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.bgp.neighbor_options import MaximumPrefixes


class PrefixLimit:
    """``waiting``: keys of Adj-RIB-In held back, oldest first. ``over``: what was told last."""

    def __init__(self, options: MaximumPrefixes) -> None:
        self.options = options
        self.waiting: dict[bytes, None] = {}
        self.over = False

    @classmethod
    def of(cls, options: MaximumPrefixes | None) -> PrefixLimit | None:
        return None if options is None else cls(options)

    @property
    def drops(self) -> bool:
        return self.options.action == "drop"

    @property
    def reason(self) -> str:
        """Why a route that waits is not used."""
        return f"over the limit of {self.options.limit} prefixes (RFC 4271 6.7)"

    def room(self, accepted: int) -> int:
        """How many more routes may be taken beside ``accepted``; below 0: how many too many there are."""
        return self.options.limit - accepted

    def forget(self, keys: Iterable[bytes]) -> None:
        """These were withdrawn, or are refused for another reason now."""
        if self.waiting:
            for key in keys:
                self.waiting.pop(key, None)

    def crossed(self, accepted: int) -> int | None:
        """The number of routes offered, where it passed the limit or came back to it since the last call; else None."""
        offered = accepted + len(self.waiting)
        over = offered > self.options.limit
        if over is self.over:
            return None
        self.over = over
        return offered
