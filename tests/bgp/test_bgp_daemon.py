"""Real speakers in network namespaces: sessions, kernel routes, what happens when links and processes die."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from harness.net import rtnl
from harness.net.fib import sweep
from harness.net.rtnl import Protocol, RouteInfo, Rtnl
from tests.bgp.rig import Daemon, Rig, opened

pytestmark = pytest.mark.root

CLIENTS = [f"192.168.{n}.0/24" for n in range(3)]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened(tmp_path) as made:
        yield made


def bgp_routes(sock: Rtnl) -> dict[str, RouteInfo]:
    return {str(route.prefix): route for route in sock.routes(protocol=Protocol.BGP)}


def gateways(sock: Rtnl, prefix: str) -> list[str]:
    route = bgp_routes(sock).get(prefix)
    return [] if route is None else sorted(str(hop.gateway) for hop in route.gateways)


def neighbor(name: str, address: str, asn: int, **fields: Any) -> dict[str, Any]:
    return {"name": name, "address": address, "remote_asn": asn} | fields


def installed(daemon: Daemon, ways: int, prefixes: list[str] = CLIENTS) -> bool:
    """Whether the newest ``fib`` event on each prefix says that it has so many ways."""
    found: dict[str, int] = {}
    for event in daemon.seen:
        if event["type"] == "fib":
            found.update({row["prefix"]: len(row["next_hops"]) for row in event["installed"]})
            found.update(dict.fromkeys(event["removed"], 0))
    return all(found.get(prefix, 0) == ways for prefix in prefixes)


async def pair(
    rig: Rig, left: dict[str, Any] | None = None, right: dict[str, Any] | None = None, **speaker: Any
) -> tuple[Daemon, Daemon]:
    """Two eBGP speakers over one cable, ``left`` announcing CLIENTS; the dictionaries are fields of their neighbours."""
    rig.link("a", "10.0.0.1/24", "b", "10.0.0.2/24")
    a = await rig.speaker(
        "a",
        asn=65001,
        router_id="1.1.1.1",
        networks=CLIENTS,
        neighbors=[neighbor("b", "10.0.0.2", 65002, **(left or {}))],
        **speaker,
    )
    b = await rig.speaker(
        "b", asn=65002, router_id="2.2.2.2", neighbors=[neighbor("a", "10.0.0.1", 65001, **(right or {}))], **speaker
    )
    return a, b


async def star(rig: Rig, spokes: int = 3) -> tuple[Daemon, list[Daemon]]:
    """A hub with one cable to each spoke; every spoke (AS 65531) announces the same blocks."""
    rig.node("hub")
    for n in range(spokes):
        rig.link("hub", f"10.0.{n}.1/30", f"s{n}", f"10.0.{n}.2/30")
    hub = await rig.speaker(
        "hub",
        asn=45104,
        router_id="9.9.9.9",
        multipath=8,
        neighbors=[neighbor(f"s{n}", f"10.0.{n}.2", 65531) for n in range(spokes)],
    )
    arms = [
        await rig.speaker(
            f"s{n}",
            asn=65531,
            router_id=f"1.1.1.{n}",
            networks=CLIENTS,
            neighbors=[neighbor("hub", f"10.0.{n}.1", 45104)],
        )
        for n in range(spokes)
    ]
    return hub, arms


@pytest.mark.spec("CARD-4", "BGP-1", "BGP-6")
async def test_two_speakers_install_each_others_routes_and_take_them_away(rig: Rig) -> None:
    a, b = await pair(rig)
    await b.until(lambda: installed(b, 1))
    assert gateways(rig.node("b"), CLIENTS[0]) == ["10.0.0.1"]
    route = bgp_routes(rig.node("b"))[CLIENTS[0]]
    assert (route.metric, route.protocol) == (20, Protocol.BGP)
    assert route.nhid is not None
    states = [
        event["new"]
        for event in b.seen
        if event["type"] == "fsm" and not event.get("spare") and event["old"] != event["new"]
    ]
    assert states[-3:] == ["OpenSent", "OpenConfirm", "Established"]

    await a.call("network.delete", prefix=CLIENTS[1])
    await b.until(lambda: installed(b, 0, [CLIENTS[1]]))
    assert set(bgp_routes(rig.node("b"))) == {CLIENTS[0], CLIENTS[2]}
    await a.call("network.add", prefix=CLIENTS[1])
    await b.until(lambda: installed(b, 1))

    a.child.kill(signal.SIGTERM)
    assert a.child.wait(5) == 0
    await b.event("notification", direction="received", code=6, subcode=2)
    await b.until(lambda: installed(b, 0))
    assert bgp_routes(rig.node("b")) == {}
    assert rig.node("b").nexthops() == []


@pytest.mark.spec("ECMP-17", "ECMP-24")
async def test_three_ways_in_one_group_that_keeps_its_id(rig: Rig) -> None:
    hub, arms = await star(rig)
    await hub.until(lambda: installed(hub, 3))
    sock = rig.node("hub")
    assert gateways(sock, CLIENTS[0]) == ["10.0.0.2", "10.0.1.2", "10.0.2.2"]
    groups = {route.nhid for route in bgp_routes(sock).values()}
    assert len(groups) == 1
    (group,) = groups
    info = {n.id: n for n in sock.nexthops()}[group or 0]
    assert info.resilient is not None
    assert info.resilient.buckets == 96

    arms[1].child.kill(signal.SIGTERM)
    await hub.until(lambda: installed(hub, 2))
    assert gateways(sock, CLIENTS[0]) == ["10.0.0.2", "10.0.2.2"]
    assert {route.nhid for route in bgp_routes(sock).values()} == {group}
    assert any(event["type"] == "fib" and event["in_place"] == [group] for event in hub.seen)


@pytest.mark.spec("ECMP-24")
@pytest.mark.parametrize("where", ["own end", "other end"])
async def test_a_link_goes_down_and_comes_back(rig: Rig, where: str) -> None:
    """The kernel drops next hops and routes without a word; the speaker notices, and writes them again when the link is back."""
    hub, _ = await star(rig)
    await hub.until(lambda: installed(hub, 3))
    sock, index = (rig.node("hub"), 12) if where == "own end" else (rig.node("s1"), 13)
    sock.transact([rtnl.link_set(index, up=False)])
    await hub.until(lambda: installed(hub, 2))
    assert gateways(rig.node("hub"), CLIENTS[0]) == ["10.0.0.2", "10.0.2.2"]
    sock.transact([rtnl.link_set(index, up=True)])
    await hub.until(lambda: installed(hub, 3))
    assert gateways(rig.node("hub"), CLIENTS[0]) == ["10.0.0.2", "10.0.1.2", "10.0.2.2"]
    assert len((await hub.call("show.fib"))["routes"][0]["next_hops"]) == 3
    # The session outlived it.
    assert not [event for event in hub.seen if event["type"] == "peer.down"]


async def test_all_links_down_and_up_again(rig: Rig) -> None:
    hub, _ = await star(rig, 1)
    await hub.until(lambda: installed(hub, 1))
    for up in (False, True, False, True):
        rig.node("hub").transact([rtnl.link_set(10, up=up)])
        await hub.until(partial(installed, hub, int(up)))
        assert gateways(rig.node("hub"), CLIENTS[0]) == (["10.0.0.2"] if up else [])


@pytest.mark.spec("ECMP-20")
async def test_what_others_take_away_is_told_and_left_alone(rig: Rig) -> None:
    hub, _ = await star(rig)
    await hub.until(lambda: installed(hub, 3))
    sock = rig.node("hub")
    sock.transact([rtnl.route_del(CLIENTS[0], protocol=Protocol.BGP, metric=20)])
    lost = await hub.event("fib.lost")
    assert lost["prefixes"] == [CLIENTS[0]]
    assert not lost["repaired"]
    assert CLIENTS[0] not in bgp_routes(sock)
    assert CLIENTS[0] not in [row["prefix"] for row in (await hub.call("show.fib"))["routes"]]

    one = next(n for n in sock.nexthops() if str(n.gateway) == "10.0.1.2")
    before = hub.last
    sock.transact([rtnl.nexthop_del(one.id)])
    lost = await hub.event("fib.lost", since=before)
    assert sorted(lost["prefixes"]) == CLIENTS[1:]
    assert "10.0.1.2" in lost["what"]
    assert gateways(sock, CLIENTS[1]) == ["10.0.0.2", "10.0.2.2"]


async def test_repair_is_a_choice(rig: Rig) -> None:
    rig.link("a", "10.0.0.1/24", "b", "10.0.0.2/24")
    await rig.speaker(
        "a", asn=65001, router_id="1.1.1.1", networks=CLIENTS, neighbors=[neighbor("b", "10.0.0.2", 65002)]
    )
    b = await rig.speaker(
        "b", asn=65002, router_id="2.2.2.2", neighbors=[neighbor("a", "10.0.0.1", 65001)], fib={"repair": True}
    )
    await b.until(lambda: installed(b, 1))
    sock = rig.node("b")
    group = bgp_routes(sock)[CLIENTS[0]].nhid
    assert group is not None
    sock.transact([rtnl.nexthop_del(group)])
    await b.event("fib.lost", repaired=True)
    before = b.last
    await b.call("show.fib")
    assert set(bgp_routes(sock)) == set(CLIENTS), before


async def test_a_killed_speakers_routes_are_swept(rig: Rig) -> None:
    _, b = await pair(rig)
    await b.until(lambda: installed(b, 1))
    static = "10.77.0.0/16"
    rig.node("b").transact([rtnl.route(static, gateway="10.0.0.1")])
    b.child.kill(signal.SIGKILL)
    b.child.wait(5)
    assert len(bgp_routes(rig.node("b"))) == 3
    assert sweep(rig.nodes["b"].fd) == 3
    assert bgp_routes(rig.node("b")) == {}
    assert rig.node("b").nexthops() == []
    assert IPv4Network(static) in [route.prefix for route in rig.node("b").routes()]


async def test_a_new_speaker_removes_what_a_killed_one_left(rig: Rig) -> None:
    a, b = await pair(rig)
    await b.until(lambda: installed(b, 1))
    b.child.kill(signal.SIGKILL)
    b.child.wait(5)
    a.child.kill(signal.SIGKILL)
    again = await rig.speaker("b", attempt=1, asn=65002, router_id="2.2.2.2")
    assert (await again.event("start"))["swept"] == 3
    assert bgp_routes(rig.node("b")) == {}


@pytest.mark.spec("VBR-9")
async def test_the_same_key_on_both_sides(rig: Rig) -> None:
    key = "fddsFF123****"
    a, b = await pair(rig, {"key": key}, {"key": key})
    await b.until(lambda: installed(b, 1))
    told = json.dumps([await d.call(m) for d in (a, b) for m in ("show.config", "show.neighbors", "show.summary")])
    assert key not in told + json.dumps(a.seen) + json.dumps(b.seen) + rig.log("a") + rig.log("b")


@pytest.mark.spec("VBR-9")
async def test_a_key_is_replaced_on_the_session_that_stands(rig: Rig) -> None:
    """Both sides change it, one after the other: the session goes on, and a later one uses the new key too."""
    old, new = "fddsFF123****", "fddsFF456****"
    a, b = await pair(rig, {"key": old}, {"key": old})
    await b.until(lambda: installed(b, 1))
    for daemon, fields in (
        (a, neighbor("b", "10.0.0.2", 65002, key=new)),
        (b, neighbor("a", "10.0.0.1", 65001, key=new)),
    ):
        assert (await daemon.call("neighbor.change", **fields))["changed"] == {"key": "at once"}
    await a.call("network.delete", prefix=CLIENTS[0])
    await b.until(lambda: installed(b, 0, CLIENTS[:1]))
    assert not [e for e in (*a.seen, *b.seen) if e["type"] == "peer.down"]
    since = b.last
    await a.call("neighbor.reset", name="b")
    await b.event("peer.up", since)
    for daemon, fields in ((a, neighbor("b", "10.0.0.2", 65002)), (b, neighbor("a", "10.0.0.1", 65001))):
        await daemon.call("neighbor.change", **fields)
    await a.call("network.add", prefix=CLIENTS[0])
    await b.until(lambda: installed(b, 1, CLIENTS[:1]))
    since = b.last
    await a.call("neighbor.reset", name="b")
    await b.event("peer.up", since)
    assert new not in json.dumps(a.seen) + json.dumps(b.seen) + rig.log("a") + rig.log("b")


@pytest.mark.spec("VBR-9")
@pytest.mark.parametrize("other", ["fddsFF456****", None], ids=["another key", "no key"])
async def test_different_keys_never_meet_and_the_reason_is_visible(rig: Rig, other: str | None) -> None:
    a, b = await pair(rig, {"key": "fddsFF123****"}, {"key": other})
    told = await a.event("dial.waiting")
    waiting = [told, *(e for e in b.seen if e["type"] == "dial.waiting")]
    assert any("MD5" in event["reason"] for event in waiting)
    for daemon in (a, b):
        assert not [event for event in daemon.seen if event["type"] == "peer.up"]
    (row,) = await a.call("show.neighbors")
    assert row["state"] != "Established"
    assert "wrong or missing MD5 signature" in row["md5"]


@pytest.mark.spec("VBR-20", "BGP-15")
async def test_silence_ends_the_session_after_the_hold_time(rig: Rig) -> None:
    a, b = await pair(rig, hold_time=3)
    await b.until(lambda: installed(b, 1))
    up = b.last
    a.child.kill(signal.SIGSTOP)
    told = await b.event("notification", since=up, direction="sent", code=4, subcode=0)
    down = await b.event("fsm", old="Established", new="Idle")
    assert down["event"] == "HOLD_TIMER_EXPIRES"
    await b.until(lambda: installed(b, 0))
    a.child.kill(signal.SIGCONT)
    await b.event("peer.up", since=told["seq"])
    await b.until(lambda: installed(b, 1))


@pytest.mark.spec("BGP-7", "BGP-18", "BGP-10")
async def test_a_policy_change_alone_sends_nothing(rig: Rig) -> None:
    a, b = await pair(rig)
    await b.until(lambda: installed(b, 1))

    async def meds() -> list[int | None]:
        return [row["paths"][0]["med"] for row in await b.call("show.routes", table="in")]

    await a.call("policy.set", name="b", direction="export", rules=[{"action": "permit", "med": 77}])
    sent = (await a.call("show.summary"))["neighbors"][0]["messages_out"]
    await a.call("network.add", prefix="172.16.0.0/16")
    await b.until(lambda: installed(b, 1, ["172.16.0.0/16"]))
    assert await meds() == [77, None, None, None]
    assert (await a.call("show.summary"))["neighbors"][0]["messages_out"] == sent + 1

    before = b.last
    await a.call("clear.soft", name="b", direction="out")
    await b.event("rib", since=before)
    assert await meds() == [77, 77, 77, 77]

    await b.call("policy.set", name="a", direction="import", rules=[{"action": "deny", "prefixes": [CLIENTS[0]]}])
    assert len(bgp_routes(rig.node("b"))) == 4
    await b.call("clear.soft", name="a", direction="in")
    await b.until(lambda: installed(b, 0, [CLIENTS[0]]))
    (row,) = await b.call("show.routes", table="in", prefix=CLIENTS[0])
    assert row["paths"][0]["rejected"] == "import policy, term 1"
    assert not [event for event in b.seen if event["type"] == "peer.down"]


@pytest.mark.spec("VBR-24")
async def test_neighbours_come_and_go_at_run_time(rig: Rig) -> None:
    a, b = await pair(rig)
    await b.until(lambda: installed(b, 1))
    await a.call("neighbor.delete", name="b")
    await b.event("notification", direction="received", code=6, subcode=3)
    assert (await a.call("show.summary"))["neighbors"] == []
    before = b.last
    await a.call("neighbor.add", name="b again", address="10.0.0.2", remote_asn=65002)
    await b.event("peer.up", since=before)
    await a.call("neighbor.shutdown", name="b again", text="maintenance")
    await b.event("notification", since=before, direction="received", text="maintenance")


@pytest.mark.spec("ECMP-12", "ECMP-18")
async def test_three_paths_of_one_gateway_by_add_path(rig: Rig) -> None:
    """Table 2: the far router has one next hop three times; the near one's own next hops do not matter to it."""
    hub_links = [rig.link("hub", f"10.0.{n}.1/30", f"s{n}", f"10.0.{n}.2/30") for n in range(3)]
    assert len(hub_links) == 3
    rig.link("hub", "10.1.0.1/30", "far", "10.1.0.2/30")
    hub = await rig.speaker(
        "hub",
        asn=45104,
        router_id="9.9.9.9",
        multipath=8,
        neighbors=[
            neighbor("far", "10.1.0.2", 45104, add_path="both", next_hop_self=True),
            *(neighbor(f"s{n}", f"10.0.{n}.2", 65531) for n in range(3)),
        ],
    )
    far = await rig.speaker(
        "far",
        asn=45104,
        router_id="8.8.8.8",
        multipath_ibgp=8,
        neighbors=[neighbor("hub", "10.1.0.1", 45104, add_path="both")],
    )
    arms = [
        await rig.speaker(
            f"s{n}",
            asn=65531,
            router_id=f"1.1.1.{n}",
            networks=CLIENTS,
            neighbors=[neighbor("hub", f"10.0.{n}.1", 45104)],
        )
        for n in range(3)
    ]
    await far.until(lambda: installed(far, 3))
    assert gateways(rig.node("far"), CLIENTS[0]) == ["10.1.0.1"] * 3
    group = bgp_routes(rig.node("far"))[CLIENTS[0]].nhid
    await hub.call("neighbor.shutdown", name="s0")
    await far.until(lambda: installed(far, 2))
    assert bgp_routes(rig.node("far"))[CLIENTS[0]].nhid == group
    # Nothing that a spoke announced comes back to it, and the others' copies hold its own AS.
    received = await arms[1].call("show.routes", table="in")
    assert all("AS path loop" in path["rejected"] for row in received for path in row["paths"])


async def test_ipv6_over_a_link_that_goes_down_and_comes_back(rig: Rig) -> None:
    """The kernel announces the loss of IPv6 routes; that is its own doing, not somebody's."""
    blocks = ["2001:db8:1::/48", "2001:db8:2::/48"]
    index, _ = rig.link("a", "fd00::1/64", "b", "fd00::2/64")
    a = await rig.speaker(
        "a", asn=65001, router_id="1.1.1.1", networks=blocks, neighbors=[neighbor("b", "fd00::2", 65002)]
    )
    b = await rig.speaker("b", asn=65002, router_id="2.2.2.2", neighbors=[neighbor("a", "fd00::1", 65001)])
    await b.until(lambda: installed(b, 1, blocks))
    assert gateways(rig.node("b"), blocks[0]) == ["fd00::1"]
    assert bgp_routes(rig.node("b"))[blocks[0]].metric == 2048
    rig.node("a").transact([rtnl.link_set(index, up=False)])
    await b.until(lambda: installed(b, 0, blocks))
    rig.node("a").transact([rtnl.link_set(index, up=True), rtnl.address(index, "fd00::1/64")])
    await b.until(lambda: installed(b, 1, blocks))
    assert gateways(rig.node("b"), blocks[0]) == ["fd00::1"]
    assert not [event for event in b.seen if event["type"] == "fib.lost"]
    assert a.child.alive()


@pytest.mark.spec("ECMP-12")
async def test_a_neighbour_behind_a_router_needs_multihop(rig: Rig) -> None:
    """eBGP over two hops: packets of a direct session die on the way; next hops resolve over the static route."""
    rig.link("a", "10.0.0.1/24", "r", "10.0.0.254/24")
    rig.link("r", "10.0.1.254/24", "b", "10.0.1.2/24")
    rig.nodes["r"].sysctl({"net.ipv4.ip_forward": "1"})
    rig.node("a").transact([rtnl.route("10.0.1.0/24", gateway="10.0.0.254")])
    rig.node("b").transact([rtnl.route("10.0.0.0/24", gateway="10.0.1.254")])
    a = await rig.speaker(
        "a",
        asn=65001,
        router_id="1.1.1.1",
        networks=CLIENTS,
        neighbors=[neighbor("b", "10.0.1.2", 65002, passive=True)],
    )
    b = await rig.speaker("b", asn=65002, router_id="2.2.2.2", neighbors=[neighbor("a", "10.0.0.1", 65001)])
    failed = await b.event("fsm", event="TCP_CONNECTION_FAILS")
    assert "No route to host" in failed["reason"]
    for daemon, name in ((a, "b"), (b, "a")):
        await daemon.call("neighbor.delete", name=name)
    await a.call("neighbor.add", name="b", address="10.0.1.2", remote_asn=65002, ebgp_multihop=255)
    await b.call("neighbor.add", name="a", address="10.0.0.1", remote_asn=65001, ebgp_multihop=2)
    await b.until(lambda: installed(b, 1))
    assert gateways(rig.node("b"), CLIENTS[0]) == ["10.0.1.254"]
    (row,) = [row for row in await b.call("show.nexthops") if row["next_hop"] == "10.0.0.1"]
    assert row["resolved"]["via"] == "10.0.0.0/24"


async def test_a_second_speaker_in_a_node_says_what_is_wrong(rig: Rig) -> None:
    a, b = await pair(rig)
    await b.until(lambda: installed(b, 1))
    config = rig.folder / "second.json"
    config.write_text('{"asn": 65001, "router_id": "1.1.1.1"}')
    child = rig.zygote.spawn(
        "harness.bgp.daemon:main", ["--config", str(config)], rig.nodes["b"].fd, "second", rig.folder / "second.log"
    )
    assert child.wait(10) == 1
    assert "cannot listen on 0.0.0.0 port 179" in (rig.folder / "second.log").read_text()
    assert a.child.alive()
    assert len(bgp_routes(rig.node("b"))) == 3
