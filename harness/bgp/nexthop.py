"""Next-hop resolution (RFC 4271 9.1.2.1): which interface and gateway reach a next hop, by the kernel's routes that are not ours.

A next hop resolves over the longest match among connected and static routes whose interface is up and has carrier. The default
route does not count unless asked for: a next hop behind a tunnel must not turn up on the internet when the tunnel goes.

A picture of the kernel taken by :meth:`Resolver.load`; who takes it when is the daemon's business.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from harness.net.fib import Way, Ways
from harness.net.rtnl import AddressInfo, Hop, LinkInfo, RouteInfo, RouteKind

Prefix = tuple[int, int, int]
"""IP version, prefix length, the prefix bits as a number."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """How a next hop is reached. ``cost``: the metric of the route used; ``via``: its prefix."""

    ways: Ways
    cost: int
    via: str


class Resolver:
    """Answers for next hops, and remembers which were asked for, so that a change can be told to those it concerns."""

    def __init__(self, *, protocol: int, resolve_via_default: bool = False) -> None:
        self._protocol = protocol
        self._shortest = 0 if resolve_via_default else 1
        self._routes: dict[Prefix, RouteInfo] = {}
        self._lengths: dict[int, list[int]] = {4: [], 6: []}
        self._usable: frozenset[int] = frozenset()
        self._names: dict[int, str] = {}
        self._own: frozenset[bytes] = frozenset()
        self._addresses: tuple[AddressInfo, ...] = ()
        self._answers: dict[bytes, Resolved | None] = {}

    def load(
        self, links: Iterable[LinkInfo], addresses: Iterable[AddressInfo], routes: Iterable[RouteInfo]
    ) -> frozenset[bytes]:
        """Takes a new picture. Returns the next hops asked for so far whose answer it changes."""
        found = list(links)
        self._names = {link.ifindex: link.name for link in found}
        self._usable = frozenset(link.ifindex for link in found if link.up and link.carrier)
        self._addresses = tuple(addresses)
        self._own = frozenset(a.interface.ip.packed for a in self._addresses)
        self._routes = {}
        for route in routes:
            if route.protocol != self._protocol and route.kind == RouteKind.UNICAST and route.gateways:
                self._add(route)
        self._lengths = {
            version: sorted({p[1] for p in self._routes if p[0] == version and p[1] >= self._shortest}, reverse=True)
            for version in (4, 6)
        }
        before, self._answers = self._answers, {}
        return frozenset(next_hop for next_hop, answer in before.items() if self.resolve(next_hop) != answer)

    def _add(self, route: RouteInfo) -> None:
        """The route of the lowest metric stands for its prefix; IPv6 hops of one route may come one by one."""
        key = _key(route.prefix.network_address.packed, route.prefix.prefixlen)
        known = self._routes.get(key)
        if not any(hop.ifindex in self._usable for hop in route.gateways):
            return
        if known is None or route.metric < known.metric:
            self._routes[key] = route

    def resolve(self, next_hop: bytes) -> Resolved | None:
        """The answer for ``next_hop`` (4 or 16 octets, or link-local as :func:`on_link` gives it); None: no route leads there."""
        try:
            return self._answers[next_hop]
        except KeyError:
            answer = self._answers[next_hop] = self._look_up(next_hop)
            return answer

    def cost(self, next_hop: bytes) -> int | None:
        """The interior cost of RFC 4271 9.1.2.2 e."""
        answer = self.resolve(next_hop)
        return None if answer is None else answer.cost

    def _look_up(self, next_hop: bytes) -> Resolved | None:
        if is_link_local(next_hop):
            ifindex = int.from_bytes(next_hop[16:], "big")
            if ifindex not in self._usable:
                return None
            return Resolved((Way(next_hop[:16], ifindex),), 0, f"link {self.interface(ifindex)}")
        for length in self._lengths[4 if len(next_hop) == 4 else 6]:
            route = self._routes.get(_key(next_hop, length))
            if route is not None:
                ways = tuple(_way(hop, next_hop) for hop in route.gateways if hop.ifindex in self._usable)
                return Resolved(ways, route.metric, str(route.prefix))
        return None

    def over(self, ifindex: int) -> frozenset[bytes]:
        """The next hops asked for that are reached over an interface."""
        return frozenset(
            next_hop
            for next_hop, answer in self._answers.items()
            if answer is not None and any(way.ifindex == ifindex for way in answer.ways)
        )

    def link_to(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int | None:
        """The interface on whose link a neighbour is; 0: behind a router; None: there is no way to it."""
        scope = address.scope_id if isinstance(address, ipaddress.IPv6Address) else None
        if scope is not None:
            return next((i for i, name in self._names.items() if name == scope and i in self._usable), None)
        answer = self.resolve(address.packed)
        if answer is None:
            return None
        return next((way.ifindex for way in answer.ways if way.gateway == address.packed), 0)

    def own_next_hop(self, local: bytes, ifindex: int, version: int) -> bytes:
        """What a neighbour on that link is told as next hop for routes of an IP version, ``local`` being the session's end here.

        IPv6: the global address and the link-local one (RFC 2545 3), or the latter alone where the link has no global one. A session of
        the other version takes an address of the link; where it has none, ``local`` itself.
        """
        there = [a.interface.ip for a in self._addresses if a.ifindex == ifindex and a.interface.version == version]
        if version == 4:
            return local if len(local) == 4 else next((ip.packed for ip in there), local)
        own_global = next((ip.packed for ip in there if not ip.is_link_local), b"")
        own_link_local = next((ip.packed for ip in there if ip.is_link_local), b"")
        if len(local) == 4:
            return own_global + own_link_local if own_global else local
        return own_global + local if is_link_local(local) else local + own_link_local

    def is_own(self, address: bytes) -> bool:
        """Whether ``address`` (packed) is one of this node's."""
        return address in self._own

    def shares_subnet(self, address: bytes) -> bool:
        """Whether ``address`` (packed) is in the subnet of one of this node's, whatever the state of the link."""
        wanted = ipaddress.ip_address(address)
        return any(a.interface.version == wanted.version and wanted in a.interface.network for a in self._addresses)

    def interface(self, ifindex: int) -> str:
        """The name of an interface."""
        return self._names.get(ifindex, f"if{ifindex}")

    def has_route(self, prefix: bytes, version: int) -> bool:
        """Whether the kernel has a usable route of another protocol to exactly this prefix (length octet and prefix octets)."""
        return _key(prefix[1:].ljust(4 if version == 4 else 16, b"\0"), prefix[0]) in self._routes

    def default_identifier(self) -> ipaddress.IPv4Address | None:
        """BGP Identifier where none is configured (BGP-4): the highest loopback address, else the highest address."""
        mine = [a for a in self._addresses if a.interface.version == 4 and not a.interface.ip.is_loopback]
        loopback = [a.interface.ip for a in mine if self._names.get(a.ifindex) == "lo"]
        found = loopback or [a.interface.ip for a in mine]
        return max((ipaddress.IPv4Address(ip.packed) for ip in found), default=None)


def is_link_local(next_hop: bytes) -> bool:
    """Whether the octets begin as a link-local IPv6 address (fe80::/10)."""
    return len(next_hop) >= 16 and next_hop[0] == 0xFE and next_hop[1] & 0xC0 == 0x80


def on_link(next_hop: bytes, ifindex: int) -> bytes:
    """A received IPv6 next hop of 16 or 32 octets as it is resolved: the global address; where there is none the link-local one
    with the link that it came over (20 octets)."""
    if not (is_link_local(next_hop) or (len(next_hop) == 32 and not any(next_hop[:16]))):
        return next_hop[:16]
    return next_hop[-16:] + ifindex.to_bytes(4, "big") if ifindex else next_hop[-16:]


def _key(address: bytes, length: int) -> Prefix:
    bits = 8 * len(address)
    return (4 if bits == 32 else 6, length, int.from_bytes(address, "big") >> (bits - length))


def _way(hop: Hop, next_hop: bytes) -> Way:
    if hop.gateway is None:
        return Way(next_hop, hop.ifindex)
    return Way(hop.gateway.packed, hop.ifindex, hop.onlink)
