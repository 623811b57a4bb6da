"""A speaker that is killed and started again while the kernel goes on forwarding by its routes (RFC 4724)."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.net.monitor import Group, Monitor
from harness.net.records import RouteInfo
from harness.net.rtnl import Protocol
from tests.bgp.rig import Daemon, Rig, opened
from tests.bgp.test_bgp_daemon import CLIENTS, bgp_routes, installed, neighbor

pytestmark = pytest.mark.root

KEPT = {"graceful_restart": {"restart_time": 60}}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened(tmp_path) as made:
        yield made


async def middle(rig: Rig, attempt: int = 0, **config: Any) -> Daemon:
    """m, which learns the clients' blocks from two neighbours and tells the third: a true multipath in the kernel."""
    neighbors = [
        neighbor("a", "10.0.0.1", 65001, **KEPT),
        neighbor("b", "10.0.1.1", 65001, **KEPT),
        neighbor("z", "10.0.2.1", 65003, **KEPT),
    ]
    return await rig.speaker(
        "m", attempt=attempt, asn=65002, router_id="2.2.2.2", multipath=4, neighbors=neighbors, **config
    )


@pytest.mark.parametrize("kind", ["resilient", "multipath"])
async def test_kill_9_and_restart_under_traffic_free_of_gaps(rig: Rig, kind: str) -> None:
    """Not one of the kernel's routes is touched from the kill to the last End-of-RIB; what is gone by then goes, nothing else."""
    for n, name in enumerate("abz"):
        rig.link(name, f"10.0.{n}.1/24", "m", f"10.0.{n}.2/24")
    ends = {
        name: await rig.speaker(
            name,
            asn=65003 if name == "z" else 65001,
            router_id=f"1.1.1.{n}",
            networks=[] if name == "z" else CLIENTS,
            neighbors=[neighbor("m", f"10.0.{n}.2", 65002, **KEPT)],
        )
        for n, name in enumerate("abz")
    }
    m = await middle(rig, groups={"kind": kind})
    await m.until(lambda: installed(m, 2))
    await ends["z"].until(lambda: installed(ends["z"], 1))
    before = bgp_routes(rig.node("m"))
    assert {len(route.gateways) for route in before.values()} == {2}
    monitor = Monitor((Group.IPV4_ROUTE,), netns_fd=rig.nodes["m"].fd)

    since = ends["z"].last
    m.child.kill(signal.SIGKILL)
    m.child.wait(5)
    assert bgp_routes(rig.node("m")) == before
    told = await ends["z"].event("graceful-restart", since, phase="stale")
    assert told["count"] == len(CLIENTS)
    # One block goes while m is away: m must find that out itself.
    for name in "ab":
        await ends[name].call("network.delete", prefix=CLIENTS[0])

    again = await middle(rig, 1, groups={"kind": kind})
    start = await again.event("start")
    assert (start["adopted"], start["swept"]) == (3, 0)
    await again.event("graceful-restart", phase="selected", family="ipv4 unicast")
    await ends["z"].event("graceful-restart", since, phase="removed", count=1)
    await again.until(lambda: any(CLIENTS[0] in e["removed"] for e in again.seen if e["type"] == "fib"))
    after = bgp_routes(rig.node("m"))
    assert after == {prefix: before[prefix] for prefix in CLIENTS[1:]}, "the same routes by the same next-hop groups"
    changes = [
        (change.new, str(change.info.prefix))
        for change in monitor.read()
        if isinstance(change.info, RouteInfo) and change.info.protocol == Protocol.BGP
    ]
    assert changes == [(False, CLIENTS[0])]
    monitor.close()
    assert not [e for e in ends["z"].seen if e["seq"] > since and e["type"] == "fib" and e["installed"]]
    await ends["z"].event("fib", since, installed=[], removed=[CLIENTS[0]])

    again.child.kill(signal.SIGTERM)
    assert again.child.wait(5) == 0
    assert bgp_routes(rig.node("m")) == {}, "an end that was asked for keeps nothing"
    assert not [n for n in rig.node("m").nexthops() if n.protocol == Protocol.BGP]
    await ends["z"].event("notification", since, code=6, subcode=9)
    await ends["z"].until(lambda: installed(ends["z"], 0))


async def test_what_cannot_be_taken_over_is_swept(rig: Rig) -> None:
    """Another metric, another kind of groups: those routes are none of the new speaker's."""
    rig.link("a", "10.0.0.1/24", "m", "10.0.0.2/24")
    a = await rig.speaker(
        "a",
        asn=65001,
        router_id="1.1.1.1",
        networks=CLIENTS,
        neighbors=[neighbor("m", "10.0.0.2", 65002, **KEPT)],
    )
    config: dict[str, Any] = {
        "asn": 65002,
        "router_id": "2.2.2.2",
        "neighbors": [neighbor("a", "10.0.0.1", 65001, **KEPT)],
    }
    m = await rig.speaker("m", **config)
    await m.until(lambda: installed(m, 1))
    others: list[dict[str, Any]] = [{"fib": {"metric": 30}}, {"groups": {"kind": "plain"}, "fib": {"metric": 30}}]
    for attempt, changes in enumerate(others, 1):
        m.child.kill(signal.SIGKILL)
        m.child.wait(5)
        m = await rig.speaker("m", attempt=attempt, **config, **changes)
        start = await m.event("start")
        assert (start["adopted"], start["swept"]) == (0, 3)
        await m.until(lambda m=m: installed(m, 1))  # type: ignore[misc]
    assert {route.metric for route in bgp_routes(rig.node("m")).values()} == {30}
    assert a.child.alive()
