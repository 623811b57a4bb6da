"""A tunnel is cut off under load with BFD on its BGP session: traffic is on the other tunnels in a quarter of a second.

The document does not configure BFD on IPsec connections; "Configure and manage BGP" does on the peers of a VBR (VBR-12, VBR-13). Here it
runs between each device and its connection: hop count 255 as the console's default has it, 50 ms, three missed packets. Other timers are
those of the fail-over labs, so that without BFD the SA would be the first to notice, after two seconds.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.daemons.features import Feature
from harness.evidence import failover_of, timeline_of
from harness.instruments import load
from harness.lab import Lab
from harness.plan import Bfd, Node, Plan, Role
from harness.traffic.flows import Direction
from harness.traffic.statistics import toll
from labs.conftest import Broken
from topologies import ipsec_ecmp

LOST = "IPsec connection 1"
ON_OTHER_TUNNELS_WITHIN = 0.25
BFD = Bfd(hop_count=255, interval_ms=50, multiplier=3)


def watched(plan: Plan) -> Plan:
    """The plan with BFD on every session through a tunnel."""
    return replace(plan, nodes=tuple(_watched(node) for node in plan.nodes))


def _watched(node: Node) -> Node:
    if node.speaker is None or node.tunnel is None:
        return node
    neighbors = [replace(n, bfd=BFD) if n.ebgp_multihop == 255 else n for n in node.speaker.neighbors]
    return replace(node, speaker=replace(node.speaker, neighbors=tuple(neighbors)))


def states(lab: Lab) -> dict[tuple[str, str], str]:
    """The present state of every BFD session, by (node, neighbour's name)."""
    return {(e.node, e.data["peer"]): e.data["new"] for e in lab.stream.of(source="bgp", kind="bfd")}


async def all_up(lab: Lab, *, within: float) -> None:
    ends = sum(node.plan.tunnel is not None for node in lab)
    await lab.until(
        lambda: list(states(lab).values()) == ["Up"] * ends, within=within, what="every BFD session Up at both ends"
    )


@pytest.mark.busy
@pytest.mark.needs("timely")
@pytest.mark.spec("ECMP-24", "VBR-12", "VBR-13")
async def test_bfd_moves_the_traffic_of_a_tunnel_that_is_cut_off(fresh_ecmp: Broken) -> None:
    """Cease/10 at both ends within 200 ms, no packet lost later than 250 ms after the cut, and none at all on other tunnels."""
    async with (
        fresh_ecmp(timers=ipsec_ecmp.FAST, changed=watched) as lab,
        load(lab, udp=900, tcp=0) as traffic,
    ):
        lab.needs(Feature.RESILIENT_GROUPS, "dc-router", "tr-hangzhou")
        await all_up(lab, within=5)
        started = await traffic.generator.start(rate=2, duration=30)
        calm = await traffic.generator.advance(started, rounds=2)
        lost_at = lab.set_link("gw1", "internet", up=False)
        ceases = [
            await lab.event(node=node, source="bgp", kind="notification", direction="sent", since=lost_at, within=2)
            for node in ("gw1", "vpn1")
        ]
        detoured = await traffic.generator.advance(started)
        steady = await traffic.generator.advance(started, rounds=2)
        await traffic.generator.stop()
        ledger = await traffic.generator.finish(started)

        before, during = await traffic.meter.window(started.start, calm), await traffic.meter.window(detoured, steady)
        tolls = {d: toll(ledger, d, before.tunnel_of(d), during.tunnel_of(d), lost=[LOST]) for d in Direction}
        marks = ((lost_at, "link cut"), (steady, "measured"))
        title = f"Loss of a tunnel with BFD, {BFD.multiplier} x {BFD.interval_ms} ms"
        failover = await failover_of(lab, title, traffic, started.start, steady, marks, tolls)
        lab.record(failover)
        lab.record(timeline_of(lab, "BGP sessions with BFD: link cut", since=started.start, marks=marks, quiet=False))

        assert ledger.faults == {}
        for cease in ceases:
            assert (cease.data["code"], cease.data["subcode"]) == (6, 10)
            assert cease.time - lost_at < ON_OTHER_TUNNELS_WITHIN
        assert {"gw1", "vpn1"} <= {notice["node"] for notice in failover.noticed if notice["by"] == "BFD"}
        for direction, cost in tolls.items():
            assert (cost.bystanders_moved, cost.bystanders_lost, cost.bystanders_broken) == (0, 0, 0), (direction, cost)
            assert cost.victims_moved == cost.victims > 150, (direction, cost)
            assert cost.last_loss is not None
            assert cost.last_loss - lost_at < ON_OTHER_TUNNELS_WITHIN, (direction, cost)


@pytest.mark.needs("timely")
@pytest.mark.spec("VBR-24", "VBR-34")
async def test_bfd_comes_to_one_side_then_to_the_other_of_a_running_lab(fresh_ecmp: Broken) -> None:
    """At the device only: BGP runs and BFD says that nobody answers. At the connection too: it is up."""
    async with fresh_ecmp(connections=1, timers=ipsec_ecmp.FAST) as lab:
        full = watched(lab.plan)
        half = replace(full, nodes=tuple(n if n.role is Role.DEVICE else lab.plan[n.name] for n in full.nodes))
        for plan, up in ((half, False), (full, True)):
            applied = await lab.apply(plan)
            if up:
                await all_up(lab, within=5)
            rows = await lab["gw1"].speaker.call("show.neighbors")
            (bfd,) = [row["bfd"] for row in rows if "bfd" in row]
            assert (bfd["state"] == "Up") is up
            assert bfd["reason"].startswith("" if up else "no ")
            assert [e for e in lab.transitions(since=applied) if e.data["old"] == "Established"] == []
