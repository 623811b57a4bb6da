"""Routes written in the background: the same outcome as at once, told once it is there, refusals included."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.net import rtnl
from harness.net.background import BackgroundWriter
from harness.net.fib import Fib, FibSettings, GroupKind, Way, open_fib
from harness.net.fib_groups import WORTH_IT
from harness.net.namespace import Namespace, NamespaceError
from harness.net.rtnl import Rtnl
from tests.net.batches import apply

pytestmark = pytest.mark.root

MANY = [bytes((24, 20, n >> 8, n & 255)) for n in range(4 * WORTH_IT)]
LINK = 2


@contextmanager
def fib() -> Iterator[tuple[Rtnl, Fib]]:
    """A Fib with a background, over a link whose other end is in a namespace of its own."""
    try:
        Namespace.create().close()
    except (NamespaceError, PermissionError) as error:
        pytest.skip(f"network namespaces: {error}")
    with Namespace.create("router") as router, Namespace.create("other") as other, Rtnl(router) as netlink:
        netlink.transact([rtnl.veth("wire", "wire", other.fd, ifindex=LINK, peer_ifindex=LINK)])
        with Rtnl(other) as far:
            far.transact([rtnl.link_set(LINK, up=True)])
        netlink.transact([rtnl.link_set(LINK, up=True), rtnl.address(LINK, "10.0.0.1/24")])
        background = BackgroundWriter(Rtnl(router))
        try:
            yield netlink, open_fib(netlink, socket.AF_INET, FibSettings(kind=GroupKind.PLAIN), background)
        finally:
            background.close()


def way(last: int) -> Way:
    return Way(socket.inet_aton(f"10.0.0.{last}"), LINK)


def test_a_large_batch_is_told_when_the_kernel_has_it() -> None:
    with fib() as (netlink, table):
        done = threading.Event()
        table.on_written = done.set
        assert not apply(table, [(prefix, (way(2),)) for prefix in MANY]), "not yet"
        assert done.wait(10.0)
        assert table.settle().installed == MANY
        assert not table.settle(), "told once"
        assert len(netlink.route_keys(protocol=186)) == len(MANY)


def test_the_next_batch_waits_for_the_one_before() -> None:
    with fib() as (netlink, table):
        apply(table, [(prefix, (way(2),)) for prefix in MANY])
        written = apply(table, [(MANY[0], (way(3),)), (MANY[1], ())])
        assert set(written.installed) == {*MANY}
        assert written.removed == [MANY[1]]
        apply(table, [(prefix, ()) for prefix in MANY])
        assert set(table.settle().removed) == {MANY[0], *MANY[2:]}
        assert netlink.route_keys(protocol=186) == []
        assert [n for n in netlink.nexthops() if n.protocol == 186] == [], "the groups went with their last route"


def test_a_refused_route_of_a_large_batch_is_no_route() -> None:
    with fib() as (netlink, table):
        apply(table, [(prefix, (way(2),)) for prefix in [*MANY, b"\x21\x14\x02\xbc\x00"]])
        written = table.settle()
        assert [prefix for prefix, _ in written.failed] == [b"\x21\x14\x02\xbc\x00"]
        assert (len(written.installed), len(table)) == (len(MANY), len(MANY))
        assert len(netlink.route_keys(protocol=186)) == len(MANY)


@pytest.mark.parametrize("question", ["installed", "verify", "clear"])
def test_questions_wait_for_what_is_under_way(question: str) -> None:
    with fib() as (_, table):
        apply(table, [(prefix, (way(2),)) for prefix in MANY])
        answer = getattr(table, question)()
        assert answer is None or len(list(answer)) == len(MANY)
        assert table.settle().installed == MANY
