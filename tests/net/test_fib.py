"""The Fib against a real kernel: groups that keep their ids, repetitions of one gateway, silent losses, the sweep."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

import pytest

from harness.net import fib as fib_module
from harness.net import rtnl
from harness.net.echo_filter import ignore_own
from harness.net.fib import Fib, FibSettings, GroupKind, Way, Ways, open_fib, sweep
from harness.net.monitor import Change, Group, Monitor
from harness.net.namespace import Namespace, NamespaceError
from harness.net.records import NexthopInfo, RouteInfo
from harness.net.rtnl import Protocol, Rtnl
from tests.net.batches import apply

pytestmark = pytest.mark.root

PREFIXES = [bytes((24, 192, 168, n)) for n in range(4)]
NAMES = [f"192.168.{n}.0/24" for n in range(4)]
LINKS = 3
FIRST_INDEX = 10


class Router:
    """A namespace with three cables: link n has 10.0.n.1/24 here and 10.0.n.2 at the far end."""

    def __init__(self) -> None:
        self.near, self.far = Namespace.create("near"), Namespace.create("far")
        self.rtnl, far = Rtnl(self.near), Rtnl(self.far)
        for n in range(LINKS):
            index, far_index = FIRST_INDEX + n, 20 + n
            self.rtnl.transact([rtnl.veth(f"e{n}", f"f{n}", self.far.fd, ifindex=index, peer_ifindex=far_index)])
            for sock, i, host in ((self.rtnl, index, 1), (far, far_index, 2)):
                sock.transact(
                    [
                        rtnl.link_set(i, up=True),
                        rtnl.address(i, f"10.0.{n}.{host}/24"),
                        rtnl.address(i, f"fd00:{n}::{host}/64"),
                    ]
                )
            self.rtnl.transact([rtnl.link_get(index)])
        far.close()

    def close(self) -> None:
        self.rtnl.close()
        self.near.close()
        self.far.close()

    def routes(self) -> dict[str, list[str]]:
        return {
            str(route.prefix): sorted(str(hop.gateway) for hop in route.gateways)
            for route in self.rtnl.routes(protocol=Protocol.BGP)
        }

    def groups(self) -> set[int | None]:
        return {route.nhid for route in self.rtnl.routes(protocol=Protocol.BGP)}


@pytest.fixture
def router() -> Iterator[Router]:
    try:
        made = Router()
    except (NamespaceError, PermissionError) as error:
        pytest.skip(f"network namespaces: {error}")
    yield made
    made.close()


@pytest.fixture(params=list(GroupKind))
def fib(router: Router, request: pytest.FixtureRequest) -> Fib:
    return open_fib(router.rtnl, socket.AF_INET, FibSettings(kind=request.param))


def ways(*links: int) -> Ways:
    return tuple(Way(bytes((10, 0, n, 2)), FIRST_INDEX + n) for n in links)


def via(*links: int) -> list[str]:
    return sorted(f"10.0.{n}.2" for n in links)


def test_what_is_applied_is_what_the_kernel_has(router: Router, fib: Fib) -> None:
    assert apply(fib, [(p, ways(0, 1, 2)) for p in PREFIXES]).installed == PREFIXES
    assert router.routes() == dict.fromkeys(NAMES, via(0, 1, 2))
    assert not apply(fib, [(p, ways(2, 1, 0)) for p in PREFIXES])
    written = apply(fib, [(PREFIXES[0], ways(1)), (PREFIXES[1], ()), (PREFIXES[2], ways(1, 2))])
    assert (sorted(written.installed), written.removed) == ([PREFIXES[0], PREFIXES[2]], [PREFIXES[1]])
    assert router.routes() == {NAMES[0]: via(1), NAMES[2]: via(1, 2), NAMES[3]: via(0, 1, 2)}
    assert {row.prefix: sorted(w.ifindex for w in row.ways) for row in fib.installed()} == {
        PREFIXES[0]: [11],
        PREFIXES[2]: [11, 12],
        PREFIXES[3]: [10, 11, 12],
    }
    fib.clear()
    assert router.routes() == {}
    assert router.rtnl.nexthops() == []
    assert len(fib) == 0


@pytest.mark.spec("ECMP-18")
def test_one_gateway_three_times_is_three_ways(router: Router, fib: Fib) -> None:
    apply(fib, [(PREFIXES[0], ways(0, 0, 0))])
    assert router.routes() == {NAMES[0]: via(0, 0, 0)}
    apply(fib, [(PREFIXES[0], ways(0, 0, 1))])
    assert router.routes() == {NAMES[0]: via(0, 0, 1)}


@pytest.mark.spec("ECMP-24")
@pytest.mark.parametrize("kind", [GroupKind.RESILIENT, GroupKind.PLAIN])
def test_a_group_keeps_its_id_when_all_its_routes_move_together(router: Router, kind: GroupKind) -> None:
    fib = open_fib(router.rtnl, socket.AF_INET, FibSettings(kind=kind))
    apply(fib, [(p, ways(0, 1, 2)) for p in PREFIXES])
    (group,) = router.groups()
    for links in ((0, 2), (0, 1, 2), (1,)):
        written = apply(fib, [(p, ways(*links)) for p in PREFIXES])
        assert written.in_place == [group]
        assert written.installed == PREFIXES
        assert router.routes() == dict.fromkeys(NAMES, via(*links))
        assert router.groups() == {group}


def test_a_group_is_left_alone_when_only_some_of_its_routes_move(router: Router) -> None:
    fib = open_fib(router.rtnl, socket.AF_INET, FibSettings())
    apply(fib, [(p, ways(0, 1, 2)) for p in PREFIXES])
    (group,) = router.groups()
    written = apply(fib, [(p, ways(0, 1)) for p in PREFIXES[:3]])
    assert written.in_place == []
    assert len(router.groups()) == 2
    # The last one follows in a later batch: its group is free to be exchanged, and is.
    assert apply(fib, [(PREFIXES[3], ways(0, 1))]).in_place == [group]
    # Withdrawn routes do not hold a group back.
    assert len(apply(fib, [(PREFIXES[0], ()), *((p, ways(2)) for p in PREFIXES[1:])]).in_place) == 2
    assert router.routes() == dict.fromkeys(NAMES[1:], via(2))


def test_resilient_groups_have_the_timers_asked_for(router: Router) -> None:
    asked = rtnl.Resilient(32, 1.5, 2.0)
    apply(open_fib(router.rtnl, socket.AF_INET, FibSettings(resilient=asked)), [(PREFIXES[0], ways(0, 1))])
    assert [n.resilient for n in router.rtnl.nexthops() if n.group] == [asked]


def test_the_kind_is_the_best_that_the_kernel_has(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_fib(router.rtnl, socket.AF_INET, FibSettings()).name == "resilient"
    assert router.rtnl.nexthops() == []
    monkeypatch.setattr(fib_module, "has_resilient_groups", lambda _: False)
    plain = open_fib(router.rtnl, socket.AF_INET, FibSettings())
    assert plain.name == "plain"
    apply(plain, [(PREFIXES[0], ways(0, 1))])
    assert [n.resilient for n in router.rtnl.nexthops() if n.group] == [None]
    plain.clear()
    monkeypatch.setattr(fib_module, "has_nexthops", lambda _: False)
    assert open_fib(router.rtnl, socket.AF_INET, FibSettings()).name == "multipath"


@pytest.mark.spec("ECMP-24")
def test_a_lost_link_is_forgotten_and_written_again(router: Router, fib: Fib) -> None:
    apply(fib, [(PREFIXES[0], ways(0, 1)), (PREFIXES[1], ways(0)), (PREFIXES[2], ways(2))])
    router.rtnl.transact([rtnl.link_set(FIRST_INDEX, up=False)])
    assert sorted(fib.link_lost(FIRST_INDEX)) == PREFIXES[:2]
    apply(fib, [(PREFIXES[0], ways(1)), (PREFIXES[1], ())])
    assert router.routes() == {NAMES[0]: via(1), NAMES[2]: via(2)}
    assert fib.verify() is None
    router.rtnl.transact([rtnl.link_set(FIRST_INDEX, up=True)])
    written = apply(fib, [(PREFIXES[0], ways(0, 1)), (PREFIXES[1], ways(0))])
    assert written.failed == []
    assert router.routes() == {NAMES[0]: via(0, 1), NAMES[1]: via(0), NAMES[2]: via(2)}


def test_routes_move_although_the_kernel_has_dropped_their_group_unheard(router: Router, fib: Fib) -> None:
    """The link goes, its news is still under way, and a better route arrives: the group to exchange is gone with its routes."""
    apply(fib, [(p, ways(0)) for p in PREFIXES])
    router.rtnl.transact([rtnl.link_set(FIRST_INDEX, up=False)])
    assert router.routes() == {}
    assert apply(fib, [(p, ways(1)) for p in PREFIXES]).installed == PREFIXES
    assert router.routes() == dict.fromkeys(NAMES, via(1))


def test_what_the_kernel_refuses_is_named_and_not_counted(router: Router, fib: Fib) -> None:
    off_link = (Way(bytes((172, 16, 0, 1)), FIRST_INDEX),)
    written = apply(fib, [(PREFIXES[0], off_link), (PREFIXES[1], ways(0))])
    assert [prefix for prefix, _ in written.failed] == [PREFIXES[0]]
    assert written.installed == [PREFIXES[1]]
    assert fib.route(PREFIXES[0]) is None
    assert router.routes() == {NAMES[1]: via(0)}
    assert apply(fib, [(PREFIXES[0], (off_link[0]._replace(onlink=True),))]).installed == [PREFIXES[0]]


def test_routes_of_others_are_not_touched(router: Router, fib: Fib) -> None:
    router.rtnl.transact([rtnl.route(NAMES[0], gateway="10.0.2.2")])
    apply(fib, [(PREFIXES[0], ways(0))])
    fib.clear()
    assert [str(r.prefix) for r in router.rtnl.routes(protocol=Protocol.STATIC)] == [NAMES[0]]


def test_missing_routes_are_found_by_comparison(router: Router, fib: Fib) -> None:
    apply(fib, [(p, ways(0, 1)) for p in PREFIXES])
    router.rtnl.transact([rtnl.route_del(NAMES[2], metric=20)])
    loss = fib.verify()
    assert loss is not None
    assert loss.prefixes == (PREFIXES[2],)
    assert fib.verify() is None
    apply(fib, [(PREFIXES[2], ways(0, 1))])
    assert len(router.routes()) == 4


def heard(monitor: Monitor) -> list[Change]:
    return [change for change in monitor.read() if isinstance(change.info, RouteInfo | NexthopInfo)]


def test_only_what_others_do_is_heard(router: Router) -> None:
    fib = open_fib(router.rtnl, socket.AF_INET, FibSettings())
    with Monitor((Group.IPV4_ROUTE, Group.NEXTHOP), router.near) as monitor, Rtnl(router.near) as other:
        ignore_own(monitor.fileno(), [router.rtnl.fileno()], Protocol.BGP)
        apply(fib, [(p, ways(0, 1)) for p in PREFIXES])
        apply(fib, [(PREFIXES[0], ())])
        assert heard(monitor) == []
        other.transact([rtnl.route_del(NAMES[1], metric=20)])
        (change,) = heard(monitor)
        assert isinstance(change.info, RouteInfo)
        loss = fib.noticed(change.new, change.info)
        assert loss is not None
        assert loss.prefixes == (PREFIXES[1],)
        other.transact([rtnl.route("10.99.0.0/16", gateway="10.0.0.2")])
        (change,) = heard(monitor)
        assert isinstance(change.info, RouteInfo)
        assert fib.noticed(change.new, change.info) is None
        # Somebody's route of the same metric takes the place of ours.
        other.transact([rtnl.route(NAMES[2], gateway="10.0.2.2", metric=20, replace=True)])
        losses = [fib.noticed(c.new, c.info) for c in heard(monitor) if isinstance(c.info, RouteInfo)]
        assert [loss.prefixes for loss in losses if loss] == [(PREFIXES[2],)]


def test_a_deleted_next_hop_is_one_loss(router: Router) -> None:
    fib = open_fib(router.rtnl, socket.AF_INET, FibSettings())
    with Monitor((Group.IPV4_ROUTE, Group.NEXTHOP), router.near) as monitor, Rtnl(router.near) as other:
        ignore_own(monitor.fileno(), [router.rtnl.fileno()], Protocol.BGP)
        apply(fib, [(PREFIXES[0], ways(0, 1)), (PREFIXES[1], ways(1))])
        one = next(n for n in router.rtnl.nexthops() if str(n.gateway) == "10.0.1.2")
        other.transact([rtnl.nexthop_del(one.id)])
        losses = [fib.noticed(c.new, c.info) for c in heard(monitor) if isinstance(c.info, RouteInfo | NexthopInfo)]
        (loss,) = [loss for loss in losses if loss]
        assert sorted(loss.prefixes) == PREFIXES[:2]
        assert "10.0.1.2" in loss.what
        assert {row.prefix for row in fib.installed()} == {PREFIXES[0]}
        apply(fib, [(PREFIXES[0], ways(0, 1)), (PREFIXES[1], ways(1))])
        assert router.routes() == {NAMES[0]: via(0, 1), NAMES[1]: via(1)}


@pytest.mark.parametrize("kind", list(GroupKind))
def test_the_sweep_leaves_nothing_of_ours_and_all_of_others(router: Router, kind: GroupKind) -> None:
    for family, gateway, prefix in (
        (socket.AF_INET, "10.0.0.2", PREFIXES[0]),
        (socket.AF_INET6, "fd00:0::2", bytes((32, 0x20, 1, 0xD, 0xB8))),
    ):
        written = open_fib(router.rtnl, family, FibSettings(kind=kind)).write(
            {(Way(ipaddress.ip_address(gateway).packed, FIRST_INDEX),): [prefix]}
        )
        assert written.failed == []
    router.rtnl.transact([rtnl.route("10.99.0.0/16", gateway="10.0.0.2")])
    assert len(router.routes()) == 2
    assert sweep(router.near.fd) == 2
    assert router.routes() == {}
    assert router.rtnl.nexthops() == []
    assert len(router.rtnl.routes(protocol=Protocol.STATIC)) == 1
    assert sweep(router.near.fd) == 0
