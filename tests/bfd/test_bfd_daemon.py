"""BFD between real speakers in network namespaces: up, cut, wrong hop counts, one side only, keys, changes while running."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from socket import AF_INET, IP_TTL, IPPROTO_IP, SOCK_DGRAM, socket

import pytest

from harness.bfd.packet import ControlPacket, decode, encode
from harness.bfd.terms import State
from harness.net import rtnl
from tests.bfd.nodes import FAST, IPV4, IPV6, bfd, speakers, switched
from tests.bgp.rig import Rig, opened

pytestmark = pytest.mark.root

UP_WITHIN = 1.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened(tmp_path) as made:
        yield made


@pytest.mark.spec("VBR-13", "VBR-33")
@pytest.mark.parametrize("addresses", [IPV4, IPV6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("hop_count", [1, 2])
async def test_a_cut_line_ends_the_session_within_the_detection_time(
    rig: Rig, addresses: tuple[str, str], hop_count: int
) -> None:
    """Three packets of 50 ms missed, with the carrier still there: Cease/10 long before the hold timer would have noticed."""
    cable = switched(rig, addresses)
    options = {**FAST, "hop_count": hop_count}
    a, b = await speakers(rig, addresses, options, options)
    for daemon in (a, b):
        up = await daemon.event("bfd", new="Up")
        await daemon.event("peer.up")
    assert up["time"] - b.seen[0]["time"] < UP_WITHIN
    state = await bfd(a)
    assert (state["state"], state["remote_state"], state["hop_count"]) == ("Up", "Up", hop_count)

    last = a.last
    cut_at = time.monotonic()
    rig.node("sw").transact([rtnl.link_set(cable, up=False)])
    down = await a.event("bfd", since=last, old="Up", new="Down")
    ended = await a.event("notification", since=last, direction="sent", code=6, subcode=10)
    assert down["diagnostic"] == "control detection time expired"
    assert 0.1 < ended["time"] - cut_at < 1.0
    reason = (await a.event("peer.down", since=last))["reason"]
    assert "no packet within the detection time of 150 ms" in reason

    rig.node("sw").transact([rtnl.link_set(cable, up=True)])
    await a.event("bfd", since=last, new="Up")
    await a.event("peer.up", since=last)


def chain(rig: Rig, routers: int) -> tuple[str, str]:
    """Nodes a and b with so many routers between them; the addresses of the two."""
    names = ["a", *(f"r{n}" for n in range(routers)), "b"]
    ends = [rig.link(one, f"10.0.{n}.1/24", two, f"10.0.{n}.2/24") for n, (one, two) in enumerate(pairwise(names))]
    for name in names[1:-1]:
        rig.nodes[name].sysctl({"net.ipv4.ip_forward": "1"})
    for number, name in enumerate(names):
        for far in range(len(ends)):
            if far > number:
                rig.node(name).transact([rtnl.route(f"10.0.{far}.0/24", gateway=f"10.0.{number}.2")])
            elif far < number - 1:
                rig.node(name).transact([rtnl.route(f"10.0.{far}.0/24", gateway=f"10.0.{number - 1}.1")])
    return "10.0.0.1", f"10.0.{len(ends) - 1}.2"


@pytest.mark.spec("VBR-33")
async def test_the_hop_count_counts_the_devices_on_the_way(rig: Rig) -> None:
    """Two routers between: the third device is the destination. Hop count 3 is up; with 2 the status says what came."""
    addresses = chain(rig, routers=2)
    a, b = await speakers(rig, addresses, {**FAST, "hop_count": 3}, {**FAST, "hop_count": 2}, ebgp_multihop=5)
    refused = await b.event("bfd.refused")
    assert (refused["hop_count"], refused["ttl"]) == (2, 253)
    await a.event("peer.up")
    state = await bfd(b)
    assert (state["state"], state["refused_ttl"], state["hop_count"]) == ("Down", 253, 2)
    assert state["reason"] == (
        "packets from the peer are refused: more hops than the hop count: "
        "received TTL 253, hop count 2 allows 254 and more"
    )
    assert not [event for event in (*a.seen, *b.seen) if event["type"] == "bfd" and event["new"] == "Up"]

    last = b.last
    await b.call("neighbor.delete", name="a")
    again = {
        "name": "a",
        "address": addresses[0],
        "remote_asn": 65001,
        "ebgp_multihop": 5,
        "bfd": {**FAST, "hop_count": 3},
    }
    await b.call("neighbor.add", **again)
    await b.event("bfd", since=last, new="Up")
    await a.event("bfd", new="Up")


@pytest.mark.spec("VBR-13")
async def test_multihop_against_a_direct_line_says_why_it_is_not_up(rig: Rig) -> None:
    switched(rig)
    a, b = await speakers(rig, IPV4, {**FAST, "hop_count": 1}, {**FAST, "hop_count": 255})
    for daemon, own, other in ((a, 1, 3784), (b, 255, 4784)):
        refused = await daemon.event("bfd.refused")
        assert f"hop count {own} is for {other}" in refused["reason"]
    await a.event("peer.up")


@pytest.mark.spec("VBR-34")
async def test_bfd_on_one_side_only_does_not_hold_bgp_down(rig: Rig) -> None:
    switched(rig)
    a, b = await speakers(rig, IPV4, {**FAST, "hop_count": 1}, None)
    await a.event("peer.up")
    state = await bfd(a)
    assert (state["state"], state["remote_state"]) == ("Down", None)
    assert state["reason"].startswith(("no answer from 10.0.0.2 (UDP 3784)", "no BFD at 10.0.0.2"))
    (row,) = await b.call("show.neighbors")
    assert "bfd" not in row

    # Switched on at the other side while running, the session stays and BFD comes.
    last = b.last
    await b.call("neighbor.delete", name="a")
    await b.call("neighbor.add", name="a", address="10.0.0.1", remote_asn=65001, bfd={**FAST, "hop_count": 1})
    await b.event("bfd", since=last, new="Up")
    await b.event("peer.up", since=last)


async def test_bfd_that_is_switched_off_leaves_the_session_up(rig: Rig) -> None:
    """The peer's AdminDown is no loss of the path (RFC 5882 3.2); the neighbour that was deleted is gone by its own Cease."""
    switched(rig)
    options = {**FAST, "hop_count": 1}
    a, b = await speakers(rig, IPV4, options, options)
    await a.event("bfd", new="Up")
    await a.event("peer.up")
    last = a.last
    await b.call("neighbor.delete", name="a")
    down = await a.event("bfd", since=last, new="Down")
    assert down["reason"] == "the peer has disabled BFD"
    ended = await a.event("peer.down", since=last)
    assert (ended["received"]["code"], ended["received"]["subcode"]) == (6, 3)
    assert ended["sent"] is None


async def test_keys_that_agree_and_keys_that_do_not(rig: Rig) -> None:
    switched(rig)
    right = {**FAST, "hop_count": 1, "auth": {"key": "rightkey"}}
    a, b = await speakers(rig, IPV4, right, {**right, "auth": {"key": "wrongkey"}})
    refused = await a.event("bfd.refused")
    assert refused["reason"] == "authentication failed: wrong digest: compare the keys"
    last = b.last
    await b.call("neighbor.delete", name="a")
    await b.call("neighbor.add", name="a", address="10.0.0.1", remote_asn=65001, bfd=right)
    await b.event("bfd", since=last, new="Up")
    assert (await bfd(b))["authentication"] == "meticulous-keyed-sha1"
    told = json.dumps([await d.call(m) for d in (a, b) for m in ("show.config", "show.neighbors")])
    said = told + json.dumps(a.seen + b.seen) + rig.log("a") + rig.log("b")
    assert "rightkey" not in said
    assert "wrongkey" not in said
    assert b"rightkey".hex() not in said


async def test_a_peer_whose_address_changes_stays_up(rig: Rig) -> None:
    """Four detection times of packets from another address, each the answer to one that still comes to the address configured."""
    switched(rig)
    rig.node("b").transact([rtnl.address(12, "10.0.0.3/24")])
    config = {"name": "b", "address": "10.0.0.2", "remote_asn": 65002, "bfd": {**FAST, "hop_count": 1}}
    a = await rig.speaker("a", asn=65001, router_id="1.1.1.1", neighbors=[config])
    said = ControlPacket(State.DOWN, 3, my_discriminator=77, desired_min_tx=50_000, required_min_rx=50_000)
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        here, old, new = (sockets.enter_context(rig.nodes["b"].socket(AF_INET, SOCK_DGRAM)) for _ in range(3))
        for sock, own in ((here, ("10.0.0.2", 3784)), (old, ("10.0.0.2", 50000)), (new, ("10.0.0.3", 50000))):
            sock.setblocking(False)
            sock.setsockopt(IPPROTO_IP, IP_TTL, 255)
            sock.bind(own)

        async def answer(sock: socket, state: State) -> State:
            heard = decode(await loop.sock_recv(here, 2048))
            packet = replace(said, state=state, your_discriminator=heard.my_discriminator, final=heard.poll)
            sock.sendto(encode(packet), ("10.0.0.1", 3784))
            return heard.state

        async with asyncio.timeout(10):
            await answer(old, State.DOWN)
            while await answer(old, State.INIT) is not State.UP:
                pass
            start = loop.time()
            while loop.time() < start + 0.6:
                assert await answer(new, State.UP) is State.UP
    assert (await bfd(a))["source"] == "10.0.0.3"
    assert not [event for event in a.seen if event.get("old") == "Up"]


async def test_timers_change_while_the_session_is_up(rig: Rig) -> None:
    switched(rig)
    options = {"interval_ms": 20, "multiplier": 3, "hop_count": 1}
    a, b = await speakers(rig, IPV4, options, options)
    await a.event("bfd", new="Up")
    await b.event("bfd", new="Up")
    await a.call("bfd.timers", name="b", interval_ms=100, multiplier=5)
    # The poll sequence is a round trip; the answer shows when it is through.
    async with asyncio.timeout(2):
        while (await bfd(b))["detection_time_ms"] != 500 or (await bfd(a))["transmit_interval_ms"] != 100:
            pass
    assert not [event for event in (*a.seen, *b.seen) if event["type"] == "bfd" and event["new"] == "Down"]


@pytest.mark.parametrize("kind", [None, "keyed-sha1", "meticulous-keyed-sha1"])
async def test_the_process_is_started_again_and_nobody_is_called_down_for_it(rig: Rig, kind: str | None) -> None:
    """Neither here nor at the other end, which hears the same session go on, signed or not; a lost path is heard of as ever."""
    cable = switched(rig)
    auth = {} if kind is None else {"auth": {"type": kind, "key": "rightkey"}}
    options = {"interval_ms": 100, "multiplier": 50, "hop_count": 1, **auth}
    a, b = await speakers(rig, IPV4, options, options)
    await a.event("bfd", new="Up")
    await b.event("bfd", new="Up")
    await a.event("peer.up")
    await b.event("peer.up")
    number = (await bfd(a))["discriminator"]
    last = a.last
    (process,) = children(a.child.pid)
    os.kill(process, signal.SIGKILL)
    await a.event("bfd.failed", since=last)
    await a.event("bfd.resumed", since=last)
    assert children(a.child.pid) not in ([], [process])
    heard = (await bfd(b))["received"]
    async with asyncio.timeout(2):
        while (await bfd(b))["received"] < heard + 3 or (await bfd(a))["received"] < 3:
            pass
    state = await bfd(a)
    assert (state["state"], state["remote_state"], state["discriminator"]) == ("Up", "Up", number)
    seen = [*a.seen, *b.seen]
    assert not [event for event in seen if event["type"] == "peer.down" or event.get("new") == "Down"]

    await a.call("bfd.timers", name="b", interval_ms=100, multiplier=3)
    await b.call("bfd.timers", name="a", interval_ms=100, multiplier=3)
    async with asyncio.timeout(2):
        while (await bfd(a))["detection_time_ms"] != 300:
            pass
    rig.node("sw").transact([rtnl.link_set(cable, up=False)])
    assert (await a.event("bfd", since=last, old="Up"))["diagnostic"] == "control detection time expired"
    said = json.dumps(a.seen + b.seen) + rig.log("a") + rig.log("b")
    assert "rightkey" not in said
    assert b"rightkey".hex() not in said


async def test_the_process_ends_with_the_speaker(rig: Rig) -> None:
    switched(rig)
    options = {**FAST, "hop_count": 1}
    a, b = await speakers(rig, IPV4, options, options)
    await a.event("bfd", new="Up")
    await b.event("bfd", new="Up")
    processes = [os.pidfd_open(pid) for daemon in (a, b) for pid in children(daemon.child.pid)]
    assert len(processes) == 2
    last = b.last
    a.child.kill(signal.SIGTERM)
    assert a.child.wait(5) == 0
    assert (await b.event("bfd", since=last, new="Down"))["reason"] == "the peer has disabled BFD"
    b.child.kill(signal.SIGKILL)
    b.child.wait(5)
    for process in processes:
        assert select.select([process], [], [], 5)[0]
        os.close(process)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
