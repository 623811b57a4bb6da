"""The transit router's speaker is killed and started again under load: graceful restart (RFC 4724), with no packet lost.

The document does not speak of this. The counterpart is ``test_ecmp_sessions``, where a killed speaker takes every route with it.
"""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from harness.daemons.features import Feature
from harness.evidence import timeline_of
from harness.instruments import load
from harness.plan import GracefulRestart, Plan
from harness.traffic.flows import Direction
from harness.traffic.statistics import compare
from labs.conftest import Broken
from topologies import ipsec_ecmp

pytestmark = pytest.mark.needs("resilient-groups", "hash-policy")

ROUTER = "tr-hangzhou"


def restarting(plan: Plan) -> Plan:
    """The plan with graceful restart on every session."""
    nodes = []
    for node in plan.nodes:
        if node.speaker is not None:
            neighbors = tuple(replace(n, graceful_restart=GracefulRestart()) for n in node.speaker.neighbors)
            node = replace(node, speaker=replace(node.speaker, neighbors=neighbors))
        nodes.append(node)
    return replace(plan, nodes=tuple(nodes))


@pytest.mark.busy
@pytest.mark.spec("ECMP-17")
async def test_a_transit_routers_speaker_is_killed_under_load(fresh_ecmp: Broken) -> None:
    """Its kernel forwards by the routes it left, its neighbours keep theirs; the new one takes over. No flow moves, no packet is lost."""
    async with fresh_ecmp(timers=ipsec_ecmp.FAST, changed=restarting) as lab, load(lab, udp=1000, tcp=100) as traffic:
        lab.needs(Feature.ADOPTION, ROUTER)
        router = lab[ROUTER]
        table = await router.route_table(within=5.0)
        started = await traffic.generator.start(rate=2.5, duration=60)
        calm = await traffic.generator.advance(started, rounds=2)
        assert await router.speaker.kill(signal.SIGKILL) == -signal.SIGKILL
        killed = await lab.event(kind="exit", node=ROUTER, within=5.0)
        alone = await traffic.generator.advance(started, rounds=2)
        again = lab.stream.add(ROUTER, "lab", "speaker started")
        await router.speaker.restart(lab.zygote)
        await lab.event(kind="graceful-restart", node=ROUTER, phase="selected", since=again.time, within=20.0)
        await lab.established(within=20.0, since=again.time)
        end = await traffic.generator.advance(started, rounds=2)
        await traffic.generator.stop()
        ledger = await traffic.generator.finish(started, within=20.0)
        marks = ((killed.time, "speaker killed"), (again.time, "started again"))
        lab.record(timeline_of(lab, "BGP sessions: restart", since=started.start, marks=marks, quiet=False))

        (start,) = lab.stream.of(node=ROUTER, source="bgp", kind="start", since=again.time)
        assert (start.data["adopted"] > 0, start.data["swept"]) == (True, 0)
        before, during = await traffic.meter.window(started.start, calm), await traffic.meter.window(killed.time, alone)
        after = await traffic.meter.window(again.time, end)
        for direction in Direction:
            for then in (during, after):
                moves = compare(before.tunnel_of(direction), then.tunnel_of(direction))
                assert not moves.moved, (direction, len(moves.moved))
        assert ledger.faults == {}
        assert all(receipt.whole for receipt in ledger)
        assert await router.route_table(like=table, within=5.0) == table
