"""A small network to prove the traffic room on: clients - router - three ways - router - server, of namespaces and veth only.

            way1
    c0 -+  /    \\
    c1 -+ r1-way2-r2 - ecs        Both routers spread by the layer-4 hash over a resilient next-hop group.
    c2 -+  \\    /
            way3
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from harness.net.namespace import Namespace
from harness.net.netlink import Request
from harness.net.rtnl import (
    Resilient,
    RouteKind,
    Rtnl,
    address,
    link_del,
    link_get,
    link_set,
    nexthop,
    nexthop_del,
    nexthop_group,
    route,
    veth,
)

BLOCKS = ("192.168.0.0/24", "192.168.1.0/24", "192.168.2.0/24")
SERVER = "10.0.0.1"
WAYS = ("way1", "way2", "way3")
_GROUP = 100
_NET = {"r1": 17, "r2": 18}
_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.fib_multipath_hash_policy": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.default.disable_ipv6": "1",
}


class Fabric:
    """Needs the right to make namespaces: raises PermissionError without. A context manager; nothing outlives it."""

    def __init__(self, folder: Path, *, mtu: int = 1500) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self._mtu = mtu
        names = ("c0", "c1", "c2", "r1", *WAYS, "r2", "ecs")
        self.nodes: Mapping[str, Namespace] = {n: Namespace.create(n, _SYSCTLS) for n in names}
        self._rtnl = {}
        for name, namespace in self.nodes.items():
            self._stack.callback(namespace.close)
            self._rtnl[name] = self._stack.enter_context(Rtnl(namespace))
        self._build()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def index(self, node: str, interface: str) -> int:
        return self._rtnl[node].link(interface).ifindex

    def tell(self, node: str, *requests: Request) -> None:
        self._rtnl[node].transact(requests)

    def link(self, a: str, b: str, a_address: str, b_address: str) -> None:
        """Interfaces are named after the node at the other end."""
        self.tell(a, veth(b, a, self.nodes[b].fd, mtu=self._mtu, peer_mtu=self._mtu))
        for node, other, own in ((a, b, a_address), (b, a, b_address)):
            index = self.index(node, other)
            self.tell(node, link_set(index, up=True), address(index, own))
        # Until the kernel's link watch has run, the end opened first has no queue and loses the first ARP request.
        for node, other in ((a, b), (b, a)):
            self.tell(node, link_get(self.index(node, other)))

    def set_link(self, node: str, interface: str, *, up: bool) -> None:
        self.tell(node, link_set(self.index(node, interface), up=up))

    def regroup(self, *, buckets: int | None) -> None:
        """Makes the groups of both routers anew: resilient with ``buckets``, or plain with None."""
        for router in _NET:
            self.tell(router, nexthop_del(_GROUP))
        self._spread(buckets)

    def remake(self, way: str) -> None:
        """Deletes the link between a way and r2 and makes it again: another interface of the same name."""
        self.tell(way, link_del(self.index(way, "r2")))
        self._to_server(way)
        self._group("r2", 96)

    def worker(self, node: str) -> Path:
        """Starts a traffic worker in ``node`` and returns its control socket, which answers."""
        path = self.folder / f"{node}.sock"
        return self.daemon(node, "harness.traffic.worker", path, f'{{"name": "{node}", "socket": "{path}"}}')

    def meter(self) -> Path:
        """A meter on the interface towards r2 of each way."""
        taps = ", ".join(
            f'{{"tunnel": "{w}", "netns": "/proc/{os.getpid()}/fd/{self.nodes[w].fd}", "interface": "r2"}}'
            for w in WAYS
        )
        path = self.folder / "meter.sock"
        return self.daemon("r1", "harness.traffic.meter", path, f'{{"socket": "{path}", "taps": [{taps}]}}')

    def daemon(self, node: str, module: str, path: Path, config: str) -> Path:
        file = path.with_suffix(".json")
        file.write_text(config)
        errors = self._stack.enter_context(path.with_suffix(".log").open("w+b"))
        process = self.nodes[node].popen([sys.executable, "-m", module, str(file)], stderr=errors)
        self._stack.callback(_end, process)
        while not path.exists():
            if process.poll() is not None:
                raise RuntimeError(f"{module} in {node} ended: {path.with_suffix('.log').read_text()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        return path

    def _build(self) -> None:
        for node in self.nodes:
            self.tell(node, link_set(1, up=True))
        for number, block in enumerate(BLOCKS):
            client, net = f"c{number}", block.removesuffix("0/24")
            self.link(client, "r1", f"172.16.{number}.2/30", f"172.16.{number}.1/30")
            self.tell(
                client,
                route(f"{net}128/25", oif=1, kind=RouteKind.LOCAL, table=255),
                route("0.0.0.0/0", gateway=f"172.16.{number}.1"),
            )
            self.tell("r1", route(block, gateway=f"172.16.{number}.2"))
        for number, way in enumerate(WAYS):
            self.link(way, "r1", f"172.17.{number}.2/30", f"172.17.{number}.1/30")
            self.tell(way, route("192.168.0.0/16", gateway=f"172.17.{number}.1"))
            self._to_server(way)
        self.link("ecs", "r2", f"{SERVER}/24", "10.0.0.254/24")
        self.tell("ecs", route("0.0.0.0/0", gateway="10.0.0.254"))
        self._spread(96)

    def _to_server(self, way: str) -> None:
        number = WAYS.index(way)
        self.link(way, "r2", f"172.18.{number}.2/30", f"172.18.{number}.1/30")
        self.tell(way, route("10.0.0.0/8", gateway=f"172.18.{number}.1"))

    def _spread(self, buckets: int | None) -> None:
        for router, prefix in (("r1", "10.0.0.0/24"), ("r2", "192.168.0.0/16")):
            self._group(router, buckets)
            self.tell(router, route(prefix, nhid=_GROUP, replace=True))

    def _group(self, router: str, buckets: int | None) -> None:
        """One next hop for each way, and the group of the three, replaced in place if it is there."""
        present = {found.id for found in self._rtnl[router].nexthops()}
        for number, way in enumerate(WAYS):
            if number + 1 not in present:
                gateway = f"172.{_NET[router]}.{number}.2"
                self.tell(router, nexthop(number + 1, oif=self.index(router, way), gateway=gateway))
        resilient = Resilient(buckets, 0.0, 0.0) if buckets else None
        members = [(number + 1, 1) for number in range(len(WAYS))]
        self.tell(router, nexthop_group(_GROUP, members, resilient=resilient, replace=_GROUP in present))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(5)
