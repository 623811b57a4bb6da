"""The route quota of a BGP group: the 111th prefix, both actions, and back under the quota.

Source: "Configure and manage BGP", step 1, BGP route quota (VBR-10, VBR-32). Data centre 1 has one block of its own and is given more
networks while it runs; data centre 2 shows that nothing else is lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from harness.cloud.resources import Timers
from harness.cloud_monitor import CloudMonitor, cloud_monitor
from harness.lab import Lab
from harness.session import Labs
from labs.document import vbr as document
from labs.vbr_acts import flaps
from reports.model import Values
from topologies import vbr

PEER = vbr.peer_ip(1)
QUOTA = document.ROUTE_QUOTA
#: With its own block the data centre announces exactly the quota.
MORE = tuple(f"10.64.{number}.0/24" for number in range(QUOTA - 1))
ONE_TOO_MANY = "10.65.0.0/24"


@asynccontextmanager
async def full_to_the_quota(labs: Labs, action: Literal["drop", "teardown"]) -> AsyncIterator[tuple[Lab, CloudMonitor]]:
    """Two data centres; the first announces 110 prefixes, which is no event."""
    estate = vbr.estate(peers=2, route_quota_action=action, timers=Timers(route_quota_restart=1, idle_hold_time=0.1))
    async with labs.running(vbr.plan_of(estate)) as lab, cloud_monitor(lab, estate, "vbr") as monitor:
        await lab.established(within=10)
        assert not list(lab.stream.of(node="vbr", kind="maximum-prefixes"))
        for prefix in MORE:
            await lab["dc1"].speaker.call("network.add", prefix=prefix)
        await lab.until(lambda: len(taken(lab)) == QUOTA, within=10, what=f"{QUOTA} routes of data centre 1")
        assert monitor.events == []
        yield lab, monitor


def taken(lab: Lab) -> set[str]:
    """What the VBR's kernel has by data centre 1."""
    return {hop.prefix for hop in lab["vbr"].kernel_hops() if hop.gateway == PEER}


@pytest.mark.spec("VBR-10", "VBR-22", "VBR-32")
async def test_routes_over_the_quota_are_dropped_and_taken_when_there_is_room(labs: Labs) -> None:
    """The 111th prefix: Exceed, not taken, the session stays. One prefix fewer: the event clears, the waiting one is taken."""
    async with full_to_the_quota(labs, "drop") as (lab, monitor):
        before = taken(lab)
        added = lab.stream.add("dc1", "lab", "one prefix more").time
        await lab["dc1"].speaker.call("network.add", prefix=ONE_TOO_MANY)
        exceeded = await lab.event(source="cloud", kind="BgpPeerReceiveRoutes:Exceed", since=added, within=5)
        assert exceeded.data["resourceId"] == f"vbr/vbr/bgp-peer/{PEER}"
        content = exceeded.data["content"]
        assert (content["routes"], content["quota"], content["action"]) == (QUOTA + 1, QUOTA, "drop")
        assert taken(lab) == before

        removed = lab.stream.add("dc1", "lab", "one prefix fewer").time
        await lab["dc1"].speaker.call("network.delete", prefix=MORE[0])
        await lab.until(
            lambda: taken(lab) == before - {MORE[0]} | {ONE_TOO_MANY},
            within=10,
            since=removed,
            what="the prefix that waited takes the free place",
        )
        cleared = await lab.event(source="cloud", kind="cleared", since=removed, within=5)
        assert cleared.data["reason"] == f"{QUOTA} routes, the quota is {QUOTA}"
        assert list(flaps(lab, added)) == []
        assert "192.168.2.0/24" in {hop.prefix for hop in lab["vbr"].kernel_hops()}
        assert [str(event.name) for event in monitor.events] == ["BgpPeerReceiveRoutes:Exceed"]
        rows = (
            ("prefixes announced", str(QUOTA + 1), ""),
            ("routes taken", str(len(before)), str(QUOTA)),
            ("from the 111th prefix to the event", f"{(exceeded.time - added) * 1000:.1f} ms", ""),
        )
        lab.record(Values("Route quota, action drop", rows))


@pytest.mark.spec("VBR-10", "VBR-22", "VBR-24")
async def test_teardown_ends_the_session_and_starts_again(labs: Labs) -> None:
    """The 111th prefix: Exceed, Cease/1, Down; it stays down for the restart time, and comes up under the quota. The other peer stays."""
    async with full_to_the_quota(labs, "teardown") as (lab, monitor):
        added = lab.stream.add("dc1", "lab", "one prefix more").time
        await lab["dc1"].speaker.call("network.add", prefix=ONE_TOO_MANY)
        told = await lab.event(
            node="dc1", kind="notification", direction="received", peer="circuit-1", since=added, within=5
        )
        assert (told.data["code"], told.data["subcode"]) == (6, 1)
        down = await lab.event(source="cloud", kind="BgpPeerStatus:Down", since=added, within=5)
        await lab["dc1"].speaker.call("network.delete", prefix=ONE_TOO_MANY)
        await lab.until(lambda: taken(lab) == set(), within=5, since=added, what="the peer's routes are gone")
        up = await lab.event(node="vbr", kind="peer.up", peer=PEER, since=added, within=20)
        assert up.time - down.time >= 0.7
        await lab.until(lambda: len(taken(lab)) == QUOTA, within=10, since=up.time, what="the quota is full again")
        assert [str(event.name) for event in monitor.events] == ["BgpPeerReceiveRoutes:Exceed", "BgpPeerStatus:Down"]
        assert {event.data["peer"] for event in flaps(lab, added)} == {PEER, "circuit-1"}
        assert "192.168.2.0/24" in {hop.prefix for hop in lab["vbr"].kernel_hops()}
