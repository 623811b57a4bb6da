"""The kernel side in a namespace: what it tells the speaker, also after the kernel dropped notifications."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator

import pytest

from harness.bgp.config import parse_config
from harness.bgp.kernel import NetlinkKernel
from harness.bgp.prefixes import Family
from harness.net import rtnl
from harness.net.fib import Loss
from harness.net.monitor import Overrun
from harness.net.namespace import Namespace, NamespaceError
from harness.net.rtnl import Rtnl
from tests.net.batches import apply

pytestmark = pytest.mark.root

V4 = Family.IPV4_UNICAST
HOP = ipaddress.ip_address("10.0.0.2").packed
NET = bytes((24, 192, 168, 0))


class Told:
    """A kernel side, what it told, and another netlink socket to disturb it with."""

    def __init__(self, kernel: NetlinkKernel, other: Rtnl) -> None:
        self.kernel = kernel
        self.other = other
        self.changed: list[frozenset[bytes]] = []
        self.lost: list[Loss] = []
        self.dropped: list[tuple[list[bytes], str]] = []
        self.heard = asyncio.Event()
        kernel.follow(asyncio.get_running_loop(), self._changed, self._lost, self._dropped, lambda _: None)

    def _changed(self, next_hops: frozenset[bytes]) -> None:
        self.changed.append(next_hops)
        self.heard.set()

    def _lost(self, _: Family, loss: Loss) -> None:
        self.lost.append(loss)
        self.heard.set()

    def _dropped(self, _: Family, prefixes: list[bytes], cause: str) -> None:
        self.dropped.append((prefixes, cause))

    async def next(self) -> None:
        async with asyncio.timeout(5):
            await self.heard.wait()
        self.heard.clear()


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    try:
        near, far = Namespace.create("near"), Namespace.create("far")
    except NamespaceError as error:
        pytest.skip(f"network namespaces: {error}")
    other, remote = Rtnl(near), Rtnl(far)
    other.transact([rtnl.veth("e0", "f0", far.fd, ifindex=10, peer_ifindex=20)])
    for sock, index, host in ((other, 10, 1), (remote, 20, 2)):
        sock.transact([rtnl.link_set(index, up=True), rtnl.address(index, f"10.0.0.{host}/24")])
    other.transact([rtnl.link_get(10)])
    with near.entered():
        kernel = NetlinkKernel(parse_config({"asn": 1, "router_id": "1.1.1.1"}))
    yield Told(kernel, other)
    kernel.close(asyncio.get_running_loop())
    for closing in (other, remote, near, far):
        closing.close()


def write(told: Told) -> None:
    resolved = told.kernel.resolve(HOP)
    assert resolved is not None
    assert apply(told.kernel.fibs[V4], [(NET, resolved.ways)]).failed == []


async def test_own_writes_are_not_news(told: Told) -> None:
    write(told)
    told.other.transact([rtnl.route("172.16.0.0/16", gateway="10.0.0.2")])
    await told.next()
    assert told.lost == []
    assert told.changed == [frozenset()]
    assert told.kernel.has_route(bytes((16, 172, 16)), 4)


@pytest.mark.spec("ECMP-24")
async def test_a_link_that_goes_and_comes_before_anybody_looks(told: Told) -> None:
    """Both notifications are read at once: the picture is as before, but the kernel has dropped the route."""
    write(told)
    told.other.transact([rtnl.link_set(10, up=False), rtnl.link_set(10, up=True)])
    await told.next()
    assert told.dropped == [([NET], "link e0 is down")]
    assert told.changed[0] == {HOP}
    write(told)
    assert told.kernel.fibs[V4].verify() is None


async def test_after_lost_notifications_the_tables_are_compared(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    write(told)
    told.other.transact([rtnl.route_del("192.168.0.0/24", metric=20), rtnl.route("172.16.0.0/16", gateway="10.0.0.2")])

    def overrun() -> None:
        monkeypatch.undo()
        raise Overrun("dropped")

    monkeypatch.setattr(told.kernel._monitor, "read", overrun)
    await told.next()
    assert [loss.prefixes for loss in told.lost] == [(NET,)]
    assert told.kernel.has_route(bytes((16, 172, 16)), 4)


async def test_an_address_that_goes_takes_its_next_hops_along(told: Told) -> None:
    assert told.kernel.is_own(ipaddress.ip_address("10.0.0.1").packed)
    write(told)
    told.other.transact([rtnl.address_del(10, "10.0.0.1/24")])
    await told.next()
    while told.kernel.resolve(HOP) is not None:
        await told.next()
    assert not told.kernel.is_own(ipaddress.ip_address("10.0.0.1").packed)
