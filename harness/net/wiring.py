"""The queue between Mininet's calls, which come one by one, and the kernel, which is fast when asked in batches.

While a network is being built, links and settings are collected here and sent together: links first, then one transaction a
namespace, then one question for each new interface. Outside of a build each call is carried out before it returns, and
anything that needs the network to be as described (a command in a node) flushes first. It knows namespaces only by a route
socket and a name, nothing of Mininet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from harness.net.netlink import NetlinkError
from harness.net.rtnl import Request, Rtnl, link_get


class Wired(Protocol):
    """A node as the wiring sees it."""

    name: str
    rtnl: Rtnl


class Wiring:
    """Requests in order of arrival, by node; sent by :meth:`flush`. One thread."""

    def __init__(self) -> None:
        self._links: dict[Wired, list[Request]] = {}
        self._settings: dict[Wired, list[Request]] = {}
        self._raised: dict[Wired, list[Request]] = {}
        self._deferring = 0

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Collects until the end of the block, then flushes; when the block fails, what was collected is dropped."""
        self._deferring += 1
        try:
            try:
                yield
            finally:
                self._deferring -= 1
            self._ready()
        except BaseException:
            for queue in (self._links, self._settings, self._raised):
                queue.clear()
            raise

    def link(self, node: Wired, request: Request) -> None:
        """A link to make from ``node``'s namespace, before any setting."""
        self._links.setdefault(node, []).append(request)

    def set(self, node: Wired, *requests: Request) -> None:
        """Settings inside ``node``: addresses, routes, interfaces up and down."""
        self._settings.setdefault(node, []).extend(requests)
        self._ready()

    def raised(self, node: Wired, ifindex: int) -> None:
        """``ifindex`` has come up. It is asked for at the end, which settles its carrier: without that the end of a veth that was
        opened before its peer drops what is sent until linkwatch runs, the first ARP answer for one, and ARP asks again
        after a second."""
        self._raised.setdefault(node, []).append(link_get(ifindex))

    def _ready(self) -> None:
        if not self._deferring:
            self.flush()

    def flush(self) -> None:
        """Sends everything. Raises NetlinkError for the first refusal, naming the node and what was asked."""
        for name in ("_links", "_settings", "_raised"):
            queue: dict[Wired, list[Request]] = getattr(self, name)
            if queue:
                setattr(self, name, {})
                for node, requests in queue.items():
                    try:
                        node.rtnl.transact(requests)
                    except NetlinkError as error:
                        raise NetlinkError(f"node {node.name}: {error.what}", error.errno or 0, error.remark) from None
