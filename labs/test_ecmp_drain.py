"""A tunnel is drained before it is taken away: graceful shutdown (RFC 8326), with no packet lost.

The counterpart of ``test_ecmp_failover``, where the loss comes unannounced. The operator of gateway device 1 drains its session through the
tunnel: it sends the community GRACEFUL_SHUTDOWN, which the cloud honours by LOCAL_PREF 0, and prefers its own routes least as
well. Both sides leave the tunnel while it still carries what is under way. Only then is the line cut.
"""

from __future__ import annotations

import time

import pytest

from harness.evidence import failover_of, timeline_of
from harness.instruments import load
from harness.lab import Lab
from harness.traffic.flows import Direction
from harness.traffic.statistics import toll
from labs.conftest import Broken
from topologies import ipsec_ecmp

pytestmark = [pytest.mark.busy, pytest.mark.needs("resilient-groups", "hash-policy")]

DRAINED = "IPsec connection 1"
SPREADING = ("tr-hangzhou", "dc-router")
"""The nodes that spread flows over the tunnels, one for each direction."""


def session_through_the_tunnel(lab: Lab) -> str:
    """The name that device 1 has for its IPsec connection."""
    speaker = lab.plan["gw1"].speaker
    assert speaker is not None
    return next(neighbor.name for neighbor in speaker.neighbors if neighbor.ebgp_multihop == 255)


async def spread_over(lab: Lab, ways: int, since: float) -> None:
    """Returns once both sides spread every block that has several ways over so many."""

    async def all_so() -> bool:
        for node in SPREADING:
            routes = (await lab[node].speaker.call("show.fib"))["routes"]
            if max((len(route["next_hops"]) for route in routes), default=0) != ways:
                return False
        return True

    await lab.until(all_so, within=10.0, since=since, what=f"flows spread over {ways} tunnels on both sides")


@pytest.mark.spec("ECMP-24")
async def test_drain_of_a_tunnel_under_load(fresh_ecmp: Broken) -> None:
    """All its flows move to the other two, nobody else's do, the line is cut, it comes back: not one packet is lost in all that."""
    async with fresh_ecmp(timers=ipsec_ecmp.FAST) as lab, load(lab, udp=1500, tcp=150) as traffic:
        session = session_through_the_tunnel(lab)
        started = await traffic.generator.start(rate=2.5, duration=60)
        calm = await traffic.generator.advance(started, rounds=2)
        drained_at = time.monotonic()
        await lab["gw1"].speaker.call("neighbor.drain", name=session)
        await spread_over(lab, 2, drained_at)
        empty = await traffic.generator.advance(started)
        cut_at = lab.set_link("gw1", "internet", up=False)
        await lab.event(kind="peer.down", node="gw1", since=cut_at, within=10.0)
        steady = await traffic.generator.advance(started, rounds=2)
        mended_at = lab.set_link("gw1", "internet", up=True)
        await lab.event(kind="peer.up", node="gw1", since=mended_at, within=15.0)
        undone_at = time.monotonic()
        await lab["gw1"].speaker.call("neighbor.drain", name=session, draining=False)
        await spread_over(lab, 3, undone_at)
        returned = await traffic.generator.advance(started)
        end = await traffic.generator.advance(started, rounds=2)
        await traffic.generator.stop()
        ledger = await traffic.generator.finish(started, within=20.0)

        marks = ((drained_at, "drained"), (cut_at, "line cut"), (mended_at, "mended"), (undone_at, "in use again"))
        before, during = await traffic.meter.window(started.start, calm), await traffic.meter.window(empty, steady)
        after = await traffic.meter.window(returned, end)
        tolls = {d: toll(ledger, d, before.tunnel_of(d), during.tunnel_of(d), lost=[DRAINED]) for d in Direction}
        lab.record(await failover_of(lab, "Drain of a tunnel", traffic, started.start, end, marks, tolls))
        lab.record(timeline_of(lab, "BGP sessions: drain", since=started.start, marks=marks, quiet=False))

        assert ledger.faults == {}
        for direction, cost in tolls.items():
            assert (cost.bystanders_moved, cost.bystanders_lost, cost.bystanders_broken) == (0, 0, 0), (direction, cost)
            assert (cost.victims_lost, cost.victims_broken) == (0, 0), (direction, cost)
            assert cost.victims_moved == cost.victims > 300
            assert set(during.tunnel_of(direction).values()) == {"IPsec connection 2", "IPsec connection 3"}
            assert set(after.tunnel_of(direction).values()) == set(traffic.connections)
        assert all(receipt.whole for receipt in ledger)
