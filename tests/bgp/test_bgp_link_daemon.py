"""What a session is bound to: link-local addresses with their interface (RFC 2545, RFC 4760), and the distance (RFC 5082)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.net import rtnl
from tests.bgp.rig import Rig, opened
from tests.bgp.test_bgp_daemon import bgp_routes, gateways, installed, neighbor

pytestmark = pytest.mark.root

BLOCKS = [f"2001:db8:{n}::/48" for n in range(1, 4)]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened(tmp_path) as made:
        yield made


async def link_local(rig: Rig, **fields: Any) -> None:
    """a and m on two cables with the same link-local addresses at both far ends; only the interface tells them apart."""
    for name in "ab":
        rig.node(name)
    for name in "ab":
        _, far = rig.link("m", "fe80::1/64", name, "fe80::2/64")
        peer = neighbor("m", f"fe80::1%e{far}", 65002, local_address="fe80::2", **fields)
        await rig.speaker(name, asn=65001, router_id=f"1.1.1.{ord(name)}", networks=BLOCKS, neighbors=[peer])


@pytest.mark.spec("BGP-11")
@pytest.mark.parametrize("key", [None, "only-for-us"])
async def test_sessions_between_link_local_addresses_of_two_interfaces(rig: Rig, key: str | None) -> None:
    """Both far ends are fe80::2: sessions, next hops and kernel routes each know their link; two ways in the kernel."""
    fields = {} if key is None else {"key": key}
    await link_local(rig, **fields)
    neighbors = [
        neighbor(name, f"fe80::2%e{10 + 2 * n}", 65001, local_address="fe80::1", **fields)
        for n, name in enumerate("ab")
    ]
    m = await rig.speaker("m", asn=65002, router_id="2.2.2.2", multipath=4, neighbors=neighbors)
    await m.until(lambda: installed(m, 2, BLOCKS))
    routes = bgp_routes(rig.node("m"))
    assert [(str(hop.gateway), hop.ifindex) for hop in routes[BLOCKS[0]].gateways] == [("fe80::2", 10), ("fe80::2", 12)]
    up = await m.event("peer.up", peer="a")
    assert up["remote"] == "fe80::2%e10"
    rig.node("m").transact([rtnl.link_set(12, up=False)])
    await m.until(lambda: installed(m, 1, BLOCKS))
    (row, *_) = await m.call("show.nexthops")
    assert row["next_hop"].startswith("fe80::2")


async def test_the_next_hop_carries_both_addresses_where_the_link_has_both(rig: Rig) -> None:
    rig.link("a", "fd00::1/64", "b", "fd00::2/64")
    rig.node("a").transact([rtnl.address(10, "fe80::1/64"), rtnl.address(10, "10.0.0.1/24")])
    rig.node("b").transact([rtnl.address(11, "10.0.0.2/24")])
    both = {"families": ["ipv4", "ipv6"]}
    blocks = [*BLOCKS, "192.168.0.0/24"]
    a = await rig.speaker(
        "a",
        asn=65001,
        router_id="1.1.1.1",
        networks=blocks,
        neighbors=[neighbor("b", "fd00::2", 65002, **both)],
    )
    b = await rig.speaker("b", asn=65002, router_id="2.2.2.2", neighbors=[neighbor("a", "fd00::1", 65001, **both)])
    await b.until(lambda: installed(b, 1, blocks))
    assert gateways(rig.node("b"), BLOCKS[0]) == ["fd00::1"]
    assert gateways(rig.node("b"), "192.168.0.0/24") == ["10.0.0.1"], "an IPv4 route gets an IPv4 next hop of the link"
    assert a.child.alive()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("far_side", "comes_up"), [({"ttl_security": 1}, True), ({}, False)], ids=["both", "one side"])
async def test_gtsm_takes_nothing_that_was_forwarded(
    rig: Rig, version: int, far_side: dict[str, Any], comes_up: bool
) -> None:
    """A neighbour that does not send with TTL 255 is not heard; the counter says so."""
    ends = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    rig.link("a", f"{ends[0]}/24" if version == 4 else f"{ends[0]}/64", "b", f"{ends[1]}/{24 if version == 4 else 64}")
    a = await rig.speaker(
        "a", asn=65001, router_id="1.1.1.1", neighbors=[neighbor("b", ends[1], 65002, ttl_security=1)]
    )
    b = await rig.speaker("b", asn=65002, router_id="2.2.2.2", neighbors=[neighbor("a", ends[0], 65001, **far_side)])
    if comes_up:
        await a.event("peer.up")
        await b.event("peer.up")
    else:
        await b.event("fsm", new="OpenConfirm")
        (row,) = await a.call("show.neighbors")
        assert "segments from too far away were dropped" in row["ttl_dropped"]
        assert not [e for e in a.seen if e["type"] == "peer.up"]
