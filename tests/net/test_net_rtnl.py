"""Rtnl, Monitor and Namespace against the running kernel, and against what ``ip`` says of the result."""

from __future__ import annotations

import errno
import ipaddress
import itertools
import json
import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.net import rtnl
from harness.net.monitor import Monitor, Overrun
from harness.net.namespace import Namespace, SysctlError, entered
from harness.net.records import LinkInfo, RouteInfo
from harness.net.route_encoder import RouteEncoder
from harness.net.rtnl import Hop, NetlinkError, Resilient, RouteKind, Rtnl
from tests.net.sandboxed import inside

LEFT, RIGHT = 5, 7


@contextmanager
def pair() -> Iterator[tuple[Namespace, Namespace, Rtnl, Rtnl]]:
    """Two namespaces with a cable: 10.0.0.1/24 and fd00::1/64 left, .2 right."""
    with Namespace.create("left") as a, Namespace.create("right") as b, Rtnl(a) as left, Rtnl(b) as right:
        left.transact(
            [
                rtnl.veth(
                    "eth0",
                    "eth9",
                    b.fd,
                    ifindex=LEFT,
                    peer_ifindex=RIGHT,
                    mac="02:00:00:00:00:01",
                    peer_mac="02:00:00:00:00:02",
                )
            ]
        )
        for side, ifindex, host in ((left, LEFT, 1), (right, RIGHT, 2)):
            side.transact(
                [
                    rtnl.link_set(1, up=True),
                    rtnl.link_set(ifindex, up=True, mtu=1400),
                    rtnl.address(ifindex, f"10.0.0.{host}/24"),
                    rtnl.address(ifindex, f"fd00::{host}/64"),
                ]
            )
        left.transact([rtnl.link_get(LEFT)])
        right.transact([rtnl.link_get(RIGHT)])
        yield a, b, left, right


def ip(ns: Namespace, *words: str) -> Any:
    """What iproute2 says, as JSON."""
    process = ns.popen(["ip", "-j", *words], stdout=subprocess.PIPE)
    return json.loads(process.communicate()[0])


@inside
def test_a_veth_is_made_in_place_with_our_indexes_and_macs() -> None:
    with pair() as (a, b, left, right):
        (ours,) = ip(a, "link", "show", "eth0")
        assert (ours["ifindex"], ours["address"], ours["mtu"]) == (LEFT, "02:00:00:00:00:01", 1400)
        assert (ours["link_index"], ours["operstate"]) == (RIGHT, "UP")
        info = left.link("eth0")
        assert (info.ifindex, info.kind, info.up, info.carrier, info.operational) == (LEFT, "veth", True, True, True)
        assert right.link("eth9").mac == "02:00:00:00:00:02"
        assert a.popen(["ping", "-c1", "-W1", "10.0.0.2"], stdout=subprocess.DEVNULL).wait() == 0
        assert b.popen(["ping", "-c1", "-W1", "fd00::1"], stdout=subprocess.DEVNULL).wait() == 0
        with pytest.raises(KeyError, match="no link 'eth5'; there are lo, eth0"):
            left.link("eth5")


@inside
def test_the_first_packet_is_not_lost() -> None:
    """Without the question for each new link the first ARP answer is lost, and ARP asks again after a second."""
    with (
        pair() as (a, b, _, _),
        a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        b.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("10.0.0.2", 5000))
        sender.sendto(b"x", ("10.0.0.2", 5000))
        assert select.select([receiver], [], [], 0.5)[0], "the first datagram took over half a second"


@inside
def test_routes_as_ip_shows_them() -> None:
    with pair() as (a, _, left, _):
        left.transact(
            [
                rtnl.route("10.1.0.0/16", gateway="10.0.0.2", metric=7),
                rtnl.route("10.2.0.0/16", gateway="192.0.2.9", oif=LEFT, onlink=True),
                rtnl.route("10.3.0.0/16", hops=[Hop(ipaddress.ip_address(f"10.0.0.{n}"), LEFT, n) for n in (2, 3)]),
                rtnl.route("10.4.0.0/16", gateway="fd00::2", oif=LEFT),
                rtnl.route("fd04::/32", gateway="fd00::2"),
                rtnl.route("10.5.0.0/16", oif=1, kind=RouteKind.LOCAL, table=255),
                rtnl.route("10.6.0.0/16", kind=RouteKind.BLACKHOLE, table=1000),
                rtnl.route("10.7.0.0/16", oif=LEFT, source="10.0.0.1"),
            ]
        )
        shown = {route["dst"]: route for route in ip(a, "route", "show", "table", "all")}
        assert (shown["10.1.0.0/16"]["gateway"], shown["10.1.0.0/16"]["metric"]) == ("10.0.0.2", 7)
        assert shown["10.2.0.0/16"]["flags"] == ["onlink"]
        assert [(hop["gateway"], hop["weight"]) for hop in shown["10.3.0.0/16"]["nexthops"]] == [
            ("10.0.0.2", 2),
            ("10.0.0.3", 3),
        ]
        assert shown["10.4.0.0/16"]["via"]["host"] == "fd00::2"
        assert (shown["10.5.0.0/16"]["type"], shown["10.5.0.0/16"]["table"]) == ("local", "local")
        assert (shown["10.6.0.0/16"]["type"], shown["10.6.0.0/16"]["table"]) == ("blackhole", "1000")
        assert shown["10.7.0.0/16"]["prefsrc"] == "10.0.0.1"
        ours = {str(route.prefix): route for route in left.routes(protocol=rtnl.Protocol.STATIC)}
        assert set(ours) == {"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.7.0.0/16", "fd04::/32"}
        assert [hop.weight for hop in ours["10.3.0.0/16"].gateways] == [2, 3]
        assert left.routes(table=1000)[0].kind == RouteKind.BLACKHOLE
        assert left.routes(table=777) == []
        left.transact([rtnl.route_del("10.1.0.0/16", metric=7)])
        assert "10.1.0.0/16" not in {route["dst"] for route in ip(a, "route")}


@inside
def test_an_anycast_prefix_is_ours() -> None:
    """RTN_LOCAL over a whole prefix: a node answers for any host in it."""
    with pair() as (a, _, left, right):
        right.transact([rtnl.route("198.51.100.0/24", oif=1, kind=RouteKind.LOCAL, table=255)])
        left.transact([rtnl.route("198.51.100.0/24", gateway="10.0.0.2")])
        assert a.popen(["ping", "-c1", "-W1", "198.51.100.77"], stdout=subprocess.DEVNULL).wait() == 0


@inside
def test_every_error_is_matched_to_what_it_was_for() -> None:
    with pair() as (_, _, left, _):
        with pytest.raises(NetlinkError) as caught:
            left.transact(
                [
                    rtnl.route("10.1.0.0/16", gateway="10.0.0.2"),
                    rtnl.route("10.2.0.0/16", gateway="172.16.0.1"),
                    rtnl.route("10.3.0.0/16", gateway="10.0.0.2"),
                ]
            )
        assert caught.value.errno == errno.ENETUNREACH
        assert str(caught.value).startswith("add route 10.2.0.0/16 via 172.16.0.1: Network is unreachable")
        assert {str(route.prefix) for route in left.routes(protocol=4)} == {"10.1.0.0/16", "10.3.0.0/16"}
        refused = left.attempt([rtnl.route("10.3.0.0/16", gateway="10.0.0.2"), rtnl.link_del(99)])
        assert [error.errno for error in refused] == [errno.EEXIST, errno.ENODEV]


@inside
def test_a_refusal_before_a_success_is_told_and_numbers_may_run_over() -> None:
    with pair() as (_, _, left, _):
        left._sequences = itertools.count(0xFFFFFFFE)
        good = rtnl.route("10.4.0.0/16", gateway="10.0.0.2")
        refused = left.attempt([rtnl.link_del(99), good, rtnl.link_del(98), rtnl.link_get(LEFT)])
        assert [str(error) for error in refused] == ["delete link 99: No such device", "delete link 98: No such device"]
        left.transact([rtnl.route_del("10.4.0.0/16")])
        assert left.attempt([rtnl.link_get(LEFT)] * 61) == []


@inside
def test_a_thousand_requests_in_batches() -> None:
    with pair() as (_, _, left, _):
        left.transact(rtnl.route(f"10.{n >> 8}.{n & 255}.0/24", gateway="10.0.0.2") for n in range(256, 1256))
        assert len(left.routes(protocol=4)) == 1000


@inside
def test_nexthop_objects_and_groups() -> None:
    with pair() as (a, _, left, _):
        try:
            left.nexthops()
        except NetlinkError as error:
            pytest.skip(f"no nexthop objects here: {error}")
        left.transact(
            [
                rtnl.nexthop(10, gateway="10.0.0.2", oif=LEFT),
                rtnl.nexthop(11, gateway="192.0.2.1", oif=LEFT, onlink=True),
                rtnl.nexthop(12, blackhole=True),
                rtnl.nexthop_group(20, [(10, 1), (11, 3)]),
                rtnl.route("10.9.0.0/16", nhid=20, metric=20, protocol=186),
            ]
        )
        shown = {nexthop["id"]: nexthop for nexthop in ip(a, "nexthop")}
        assert (shown[10]["gateway"], shown[10]["dev"], shown[10]["protocol"]) == ("10.0.0.2", "eth0", "bgp")
        assert shown[11]["flags"] == ["onlink"]
        assert shown[20]["group"] == [{"id": 10}, {"id": 11, "weight": 3}]
        found = {nexthop.id: nexthop for nexthop in left.nexthops()}
        assert found[20].group == ((10, 1), (11, 3))
        assert found[12].blackhole
        (route,) = left.routes(protocol=186)
        assert (route.nhid, route.metric, len(route.gateways)) == (20, 20, 2)
        left.transact([rtnl.nexthop_del(20)])
        assert left.routes(protocol=186) == []


@inside
def test_a_resilient_group_keeps_its_buckets() -> None:
    with pair() as (_, _, left, _):
        resilient = Resilient(32, 0.5, 2.0)
        wanted = [rtnl.nexthop(n, gateway=f"10.0.0.{n}", oif=LEFT) for n in (2, 3, 4)]
        refused = left.attempt([*wanted, rtnl.nexthop_group(20, [(2, 1), (3, 1), (4, 1)], resilient=resilient)])
        if refused:
            pytest.skip(f"no resilient groups here: {refused[0]}")
        assert {nexthop.id: nexthop.resilient for nexthop in left.nexthops()}[20] == resilient
        before = {bucket.index: bucket.nexthop for bucket in left.nexthop_buckets(20)}
        assert len(before) == 32
        assert set(before.values()) == {2, 3, 4}
        left.transact([rtnl.nexthop_group(20, [(2, 1), (3, 1)], resilient=resilient, replace=True)])
        after = {bucket.index: bucket.nexthop for bucket in left.nexthop_buckets(20)}
        assert {index for index in before if before[index] != after[index]} == {
            index for index, nexthop in before.items() if nexthop == 4
        }


@inside
def test_bulk_writes_and_reports_each_refusal() -> None:
    with pair() as (_, _, left, _):
        left.transact([rtnl.nexthop(10, gateway="10.0.0.2", oif=LEFT)])
        encode = RouteEncoder(socket.AF_INET, metric=20)
        prefixes = [bytes((24, 20, n >> 8, n & 255)) for n in range(1000)]
        # A length that IPv4 does not have is refused; the rest of its sendmsg is not.
        (failure,) = left.bulk_routes(encode, [*prefixes[:700], b"\x21\x14\x02\xbc\x00", *prefixes[701:]], 10)
        assert (failure.index, failure.errno) == (700, errno.EINVAL)
        keys = left.route_keys(protocol=186)
        assert len(keys) == 999
        assert (socket.AF_INET, 24, bytes((20, 0, 5, 0)), 20, 10) in keys
        gone = left.bulk_routes(encode, prefixes, None)
        assert [(failure.index, failure.errno) for failure in gone] == [(700, errno.ESRCH)]
        assert left.route_keys(protocol=186) == []


@inside
def test_the_monitor_sees_what_changes() -> None:
    with pair() as (a, _, left, right), Monitor(netns_fd=a) as monitor:
        assert monitor.read() == []
        left.transact([rtnl.route("10.9.0.0/16", gateway="10.0.0.2")])
        (change,) = monitor.read()
        assert (change.kind, change.new) == ("route", True)
        assert isinstance(change.info, RouteInfo)
        assert str(change.info.prefix) == "10.9.0.0/16"
        right.transact([rtnl.link_set(RIGHT, up=False)])
        assert select.select([monitor], [], [], 5.0)[0]
        lost = [change.info for change in monitor.read() if isinstance(change.info, LinkInfo)]
        assert [(info.up, info.carrier) for info in lost][-1] == (True, False)


@inside
def test_a_monitor_that_was_too_slow_says_so_once() -> None:
    with pair() as (a, _, left, _), Monitor(netns_fd=a, receive_buffer=4096) as monitor:
        left.transact(rtnl.route(f"10.{n >> 8}.{n & 255}.0/24", gateway="10.0.0.2") for n in range(256, 1256))
        with pytest.raises(Overrun):
            monitor.read()
        monitor.read()
        left.transact([rtnl.route("10.9.0.0/16", gateway="10.0.0.2")])
        assert [change.kind for change in monitor.read()] == ["route"]


@inside
def test_a_token_bucket_limits() -> None:
    with pair() as (a, _, left, _):
        left.transact([rtnl.token_bucket(LEFT, rate_mbit=20)])
        shown = subprocess.PIPE
        process = a.popen(["tc", "qdisc", "show", "dev", "eth0"], stdout=shown, text=True)
        assert "tbf" in (text := process.communicate()[0])
        assert "rate 20Mbit" in text


@inside
def test_entering_is_the_threads_own_business_and_nests() -> None:
    here = Namespace.current()
    with Namespace.create("a") as a, Namespace.create("b") as b:
        seen: list[int] = []
        with a.entered():
            other = threading.Thread(target=lambda: seen.append(Namespace.current().inode))
            other.start()
            other.join()
            with b.entered():
                assert Namespace.current().inode == b.inode
            assert Namespace.current().inode == a.inode
        assert Namespace.current().inode == here.inode
        assert len({a.inode, b.inode, here.inode}) == 3
        with pytest.raises(ZeroDivisionError), entered(a.fd):
            raise ZeroDivisionError
        assert Namespace.current().inode == here.inode


@inside
def test_sysctls_of_a_namespace() -> None:
    with Namespace.create("gw1", {"net.ipv4.ip_forward": "1", "net.ipv4.no_such?": "1"}) as ns:
        assert ns.read_sysctl("net.ipv4.ip_forward") == "1"
        assert Namespace.current().read_sysctl("net.ipv4.ip_forward") == "0"
        with pytest.raises(SysctlError, match=r"node gw1: sysctl net.ipv4.no_such=1: No such file or directory"):
            ns.sysctl({"net.ipv4.no_such": "1"})
        with pytest.raises(SysctlError, match="Invalid argument"):
            ns.sysctl({"net.ipv4.ip_forward": "x"})


@inside
def test_processes_and_sockets_live_in_their_namespace() -> None:
    with Namespace.create("a") as ns:
        process = ns.popen(["readlink", "/proc/self/ns/net"], stdout=subprocess.PIPE, text=True)
        assert process.communicate()[0].strip() == f"net:[{ns.inode}]"
        with (
            ns.socket(socket.AF_INET, socket.SOCK_STREAM) as listening,
            pytest.raises(OSError, match="Network is unreachable"),
        ):
            listening.connect(("10.0.0.1", 1))
        ns.close()
        assert ns.closed
        ns.close()
        assert not os.path.exists(f"/proc/self/fd/{ns.fd}")  # noqa: PTH110
