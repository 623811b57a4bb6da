"""The kernel side of the speaker: next-hop resolution kept up to date by notifications, and the Fibs of both families.

The picture is taken anew (dumps filtered by the kernel, our own routes left out) when a link, an address or somebody's route changed:
never by a timer. What the kernel drops silently when a link goes is forgotten at the link's notification.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, ip_address

from harness.bgp.config import SpeakerConfig
from harness.bgp.nexthop import Resolved, Resolver
from harness.bgp.prefixes import Family
from harness.net.background import BackgroundWriter
from harness.net.echo_filter import ignore_own
from harness.net.fib import Fib, FibSettings, GroupKind, Loss, open_fib, sweep_with
from harness.net.monitor import Change, Group, Monitor, Overrun
from harness.net.records import LinkInfo, NexthopInfo, RouteInfo
from harness.net.requests import TABLE_MAIN, Protocol, Resilient
from harness.net.rtnl import Rtnl

_AF = {Family.IPV4_UNICAST: socket.AF_INET, Family.IPV6_UNICAST: socket.AF_INET6}
_GROUPS = (
    Group.LINK,
    Group.IPV4_IFADDR,
    Group.IPV6_IFADDR,
    Group.IPV4_ROUTE,
    Group.IPV6_ROUTE,
    Group.NEXTHOP,
)


class NetlinkKernel:
    """The kernel of the namespace that the process is in. Holds three netlink sockets until :meth:`close`."""

    def __init__(self, config: SpeakerConfig) -> None:
        self._rtnl = Rtnl()
        # Listening begins before the first dump: a change in between is seen twice rather than never.
        self._monitor = Monitor(_GROUPS)
        self._background = BackgroundWriter(Rtnl())
        ignore_own(self._monitor.fileno(), [self._rtnl.fileno(), self._background.fileno()], Protocol.BGP)
        self._resolver = Resolver(protocol=Protocol.BGP, resolve_via_default=config.resolve_via_default)
        self.fibs: dict[Family, Fib] = {}
        self.swept = self.adopted = 0
        if config.fib.install:
            self.fibs = {
                family: open_fib(self._rtnl, af, _settings(config, family), self._background)
                for family, af in _AF.items()
            }
            if config.keeps_forwarding:
                self.adopted = sum(fib.adopt() for fib in self.fibs.values())
            self.swept = sweep_with(self._rtnl, table=config.fib.table, keep=tuple(self.fibs.values()))
        # A dump walks the whole table for each protocol: only those that own routes here are asked for.
        self._protocols: set[int] = {Protocol.KERNEL}
        self._load_all()
        self._changed: Callable[[frozenset[bytes]], None] = lambda _: None
        self._lost: Callable[[Family, Loss], None] = lambda _, __: None
        self._dropped: Callable[[Family, list[bytes], str], None] = lambda _, __, ___: None

    def _load_all(self) -> frozenset[bytes]:
        routes = [r for r in self._rtnl.routes(TABLE_MAIN) if r.protocol != Protocol.BGP]
        self._protocols.update(r.protocol for r in routes)
        return self._resolver.load(self._rtnl.links(), self._rtnl.addresses(), routes)

    # What the speaker asks (``ports.Kernel``).

    def resolve(self, next_hop: bytes) -> Resolved | None:
        return self._resolver.resolve(next_hop)

    def cost(self, next_hop: bytes) -> int | None:
        return self._resolver.cost(next_hop)

    def is_own(self, address: bytes) -> bool:
        return self._resolver.is_own(address)

    def shares_subnet(self, address: bytes) -> bool:
        return self._resolver.shares_subnet(address)

    def link_to(self, address: str) -> int | None:
        return self._resolver.link_to(ip_address(address))

    def own_next_hop(self, local: bytes, ifindex: int, version: int) -> bytes:
        return self._resolver.own_next_hop(local, ifindex, version)

    def has_route(self, prefix: bytes, version: int) -> bool:
        return self._resolver.has_route(prefix, version)

    def interface(self, ifindex: int) -> str:
        return self._resolver.interface(ifindex)

    def default_identifier(self) -> IPv4Address | None:
        """BGP Identifier where none is configured."""
        return self._resolver.default_identifier()

    # What it is told.

    def follow(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[frozenset[bytes]], None],
        lost: Callable[[Family, Loss], None],
        dropped: Callable[[Family, list[bytes], str], None],
        written: Callable[[Family], None],
    ) -> None:
        """From now on ``changed`` gets the next hops that resolve another way, ``lost`` what others did to our routes, and
        ``dropped`` the prefixes that the kernel itself took ways from, with the cause. ``written``: a Fib has something to settle."""
        for family, fib in self.fibs.items():
            fib.on_written = partial(loop.call_soon_threadsafe, written, family)
        self._changed, self._lost, self._dropped = changed, lost, dropped
        loop.add_reader(self._monitor.fileno(), self._read)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._monitor.fileno())
        self._monitor.close()
        self._background.close()
        self._rtnl.close()

    def _read(self) -> None:
        try:
            changes = self._monitor.read()
        except Overrun:
            self._changed(self._load_all())
            for family, fib in self.fibs.items():
                if (loss := fib.verify()) is not None:
                    self._lost(family, loss)
            return
        affected: frozenset[bytes] = frozenset()
        stale = False
        for change in changes:
            if isinstance(change.info, LinkInfo):
                stale = True
                affected |= self._link(change, change.info)
            elif isinstance(change.info, RouteInfo) and change.info.protocol != Protocol.BGP:
                stale = stale or change.info.table == TABLE_MAIN
                self._protocols.add(change.info.protocol)
                self._others(change, change.info)
            elif isinstance(change.info, RouteInfo | NexthopInfo):
                self._others(change, change.info)
            else:
                stale = True
        if stale:
            self._changed(affected | self._reload())

    def _link(self, change: Change, link: LinkInfo) -> frozenset[bytes]:
        """A link that cannot carry: the kernel dropped what was written over it."""
        if change.new and link.up and link.carrier:
            return frozenset()
        cause = f"link {link.name} is " + ("gone" if not change.new else "down" if not link.up else "without carrier")
        for family, fib in self.fibs.items():
            if hit := fib.link_lost(link.ifindex):
                self._dropped(family, hit, cause)
        return self._resolver.over(link.ifindex)

    def _others(self, change: Change, info: RouteInfo | NexthopInfo) -> None:
        for family, fib in self.fibs.items():
            if (loss := fib.noticed(change.new, info)) is not None:
                self._lost(family, loss)

    def _reload(self) -> frozenset[bytes]:
        routes: list[RouteInfo] = []
        for protocol in self._protocols:
            routes += self._rtnl.routes(TABLE_MAIN, protocol)
        return self._resolver.load(self._rtnl.links(), self._rtnl.addresses(), routes)


def _settings(config: SpeakerConfig, family: Family) -> FibSettings:
    groups = config.groups
    return FibSettings(
        kind=GroupKind(groups.kind),
        resilient=Resilient(groups.buckets, groups.idle_timer, groups.unbalanced_timer),
        table=config.fib.table,
        metric=config.fib.metric if family is Family.IPV4_UNICAST else config.fib.metric_ipv6,
    )
