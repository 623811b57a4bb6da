"""Routes that carry their ways themselves (RTA_MULTIPATH): for kernels without next-hop objects, and to be compared with groups.

A change of the ways rewrites each route, and the kernel's hash threshold moves flows that could have stayed: that is what groups cure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from harness.net.fib_model import Fib, FibSettings, Installed, Loss, Way, Ways, Written, wire
from harness.net.netlink import Request
from harness.net.records import NexthopInfo, RouteInfo
from harness.net.requests import Hop, route
from harness.net.rtnl import Rtnl


class MultipathFib(Fib):
    """Routes of one family, each with its own list of hops."""

    def __init__(self, rtnl: Rtnl, family: int, settings: FibSettings) -> None:
        super().__init__(rtnl, family, settings)
        self._routes: dict[bytes, Ways] = {}

    @property
    def name(self) -> str:
        return "multipath"

    def __len__(self) -> int:
        return len(self._routes)

    def route(self, prefix: bytes) -> Installed | None:
        ways = self._routes.get(prefix)
        return None if ways is None else Installed(prefix, ways, None)

    def installed(self) -> Iterable[Installed]:
        for prefix, ways in self._routes.items():
            yield Installed(prefix, ways, None)

    def write(self, by_ways: Mapping[Ways, Sequence[bytes]]) -> Written:
        written = Written()
        new: list[tuple[bytes, Ways]] = []
        for ways, prefixes in by_ways.items():
            ordered = tuple(sorted(ways))
            for prefix in prefixes:
                if ordered == self._routes.get(prefix, ()):
                    continue
                if ordered:
                    new.append((prefix, ordered))
                else:
                    written.removed.append(prefix)
                    del self._routes[prefix]
        self._delete_routes(written.removed)
        requests = {prefix: self._route(prefix, ways) for prefix, ways in new}
        refused = {error.what: str(error) for error in self._rtnl.attempt(list(requests.values()))}
        for prefix, ways in new:
            reason = refused.get(requests[prefix].what)
            if reason is None:
                self._routes[prefix] = ways
                written.installed.append(prefix)
            else:
                written.failed.append((prefix, reason))
        return written

    def _route(self, prefix: bytes, ways: Ways) -> Request:
        size = 4 if self.version == 4 else 16
        hops = [
            Hop(ipaddress.ip_address(way.gateway) if way.gateway else None, way.ifindex, onlink=way.onlink)
            for way in ways
        ]
        return route(
            ipaddress.ip_network((prefix[1:].ljust(size, b"\0"), prefix[0])),
            hops=hops,
            table=self.settings.table,
            protocol=self.settings.protocol,
            metric=self.settings.metric,
            replace=True,
        )

    def adopt(self) -> int:
        settings = self.settings
        for info in self._rtnl.routes(settings.table, settings.protocol, self.family):
            # A route by a next-hop object was written by another kind of Fib.
            if info.metric == settings.metric and info.nhid is None and info.gateways and not info.dead:
                ways = tuple(
                    Way(hop.gateway.packed if hop.gateway else b"", hop.ifindex, hop.onlink) for hop in info.gateways
                )
                prefix = wire(info.prefix.network_address.packed, info.prefix.prefixlen)
                # The kernel lists the hops of an IPv6 route one by one where it was written so.
                self._routes[prefix] = tuple(sorted(self._routes.get(prefix, ()) + ways))
        return len(self._routes)

    def link_lost(self, ifindex: int) -> list[bytes]:
        # The kernel takes a route away with its last hop; one with other hops left keeps the dead one until it is rewritten.
        hit = [p for p, ways in self._routes.items() if any(way.ifindex == ifindex for way in ways)]
        for prefix in hit:
            if all(way.ifindex == ifindex for way in self._routes[prefix]):
                del self._routes[prefix]
        return hit

    def noticed(self, present: bool, info: RouteInfo | NexthopInfo) -> Loss | None:
        settings = self.settings
        if not isinstance(info, RouteInfo) or present or info.prefix.version != self.version:
            return None
        if info.table != settings.table or info.metric != settings.metric or info.protocol != settings.protocol:
            return None
        prefix = wire(info.prefix.network_address.packed, info.prefix.prefixlen)
        if self._routes.pop(prefix, None) is None:
            return None
        return Loss(f"route {info.prefix} was deleted", (prefix,))

    def verify(self) -> Loss | None:
        keys = self._rtnl.route_keys(self.settings.table, self.settings.protocol, self.family)
        there = {wire(packed, length) for _, length, packed, metric, _ in keys if metric == self.settings.metric}
        lost = [prefix for prefix in self._routes if prefix not in there]
        for prefix in lost:
            del self._routes[prefix]
        return Loss("routes are missing from the kernel's dump", tuple(lost)) if lost else None

    def clear(self) -> None:
        self._delete_routes(list(self._routes))
        self._routes.clear()
