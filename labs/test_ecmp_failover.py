"""A tunnel is lost under load and comes back: what noticed it, which flows moved, what was lost, how long it took.

The document does not speak of this (ECMP-24 is this project's). Timers are shortened by the labs and said here: hold time 6 s, DPD
every second with 2 retransmissions after 0.4 s each.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from harness.daemons.features import Feature
from harness.evidence import failover_of, timeline_of
from harness.instruments import Load, load
from harness.lab import Lab
from harness.plan import NexthopGroups, Plan
from harness.tables import RouteTable
from harness.traffic.flows import Direction, Protocol
from harness.traffic.statistics import compare, toll
from labs.conftest import Broken
from labs.document import ipsec_ecmp as document
from topologies import ipsec_ecmp

pytestmark = [pytest.mark.busy, pytest.mark.needs("resilient-groups", "hash-policy")]

LOST = "IPsec connection 1"
SPREADING = ("dc-router", "tr-hangzhou")
NOTICED_WITHIN = 8.0
BACK_WITHIN = 15.0

Act = Callable[[Lab], Awaitable[object]]


async def cut_link(lab: Lab) -> None:
    lab.set_link("gw1", "internet", up=False)


async def mend_link(lab: Lab) -> None:
    lab.set_link("gw1", "internet", up=True)


async def kill_charon(lab: Lab) -> None:
    status = await lab["gw1"].ipsec.call("show.status")
    lab["gw1"].kill(status["charon"])


async def restart_charon(lab: Lab) -> None:
    await lab["gw1"].ipsec.call("restart")


async def send_delete(lab: Lab) -> None:
    await lab["vpn1"].ipsec.call("terminate")


async def initiate(lab: Lab) -> None:
    await lab["vpn1"].ipsec.call("initiate")


LOSSES: dict[str, tuple[Act, Act]] = {
    "link cut": (cut_link, mend_link),
    "charon killed": (kill_charon, restart_charon),
    "DELETE sent": (send_delete, initiate),
}


def without(number: int) -> dict[str, RouteTable]:
    """The tables while connection ``number`` is lost."""
    twice = [
        row for row in dict.fromkeys(document.TABLE_2.rows) for _ in range(2 if row[0].startswith("192.168.") else 1)
    ]
    return {
        "tr-hangzhou": document.TABLE_1.without(word=f"VPN connection {number}"),
        "tr-shanghai": RouteTable("Table 2 with two connections", document.TABLE_2.columns, twice),
        f"vpn{number}": document.TABLE_4[number].without(word="data centre"),
        f"gw{number}": RouteTable(f"Table 5 of device {number}, empty", document.TABLE_5[number].columns, ()),
    }


async def tables_are(lab: Lab, expected: dict[str, RouteTable], *, since: float, within: float) -> None:
    for node, table in expected.items():
        assert await lab[node].route_table(like=table, since=since, within=within) == table


def plain(plan: Plan) -> Plan:
    """The plan with plain next-hop groups in every speaker."""
    groups = NexthopGroups(kind="plain")
    nodes = [replace(n, speaker=replace(n.speaker, groups=groups)) if n.speaker else n for n in plan.nodes]
    return replace(plan, nodes=tuple(nodes))


@pytest.mark.spec("ECMP-24")
@pytest.mark.parametrize("loss", LOSSES)
async def test_loss_of_a_tunnel_under_load(fresh_ecmp: Broken, loss: str) -> None:
    """Its routes leave every table, its flows move, nobody else's move or lose a packet, TCP goes on; then three ways again."""
    lose, mend = LOSSES[loss]
    async with fresh_ecmp(timers=ipsec_ecmp.FAST) as lab, load(lab, udp=2700, tcp=300) as traffic:
        lab.needs(Feature.RESILIENT_GROUPS, *SPREADING)
        started = await traffic.generator.start(rate=1.5, duration=60)
        calm = await traffic.generator.advance(started, rounds=2)
        lost_at = time.monotonic()
        await lose(lab)
        await tables_are(lab, without(1), since=lost_at, within=NOTICED_WITHIN)
        detoured = await traffic.generator.advance(started)
        steady = await traffic.generator.advance(started, rounds=2)
        mended_at = time.monotonic()
        await mend(lab)
        await tables_are(lab, {node: document.TABLES[node] for node in without(1)}, since=mended_at, within=BACK_WITHIN)
        returned = await traffic.generator.advance(started)
        end = await traffic.generator.advance(started, rounds=2)
        await traffic.generator.stop()
        ledger = await traffic.generator.finish(started, within=20.0)

        marks = ((lost_at, loss), (mended_at, "mended"))
        before, during = await traffic.meter.window(started.start, calm), await traffic.meter.window(detoured, steady)
        after = await traffic.meter.window(returned, end)
        tolls = {d: toll(ledger, d, before.tunnel_of(d), during.tunnel_of(d), lost=[LOST]) for d in Direction}
        lab.record(await failover_of(lab, f"Loss of a tunnel: {loss}", traffic, started.start, end, marks, tolls))
        lab.record(timeline_of(lab, f"BGP sessions: {loss}", since=started.start, marks=marks, quiet=False))

        assert ledger.faults == {}
        for direction, cost in tolls.items():
            assert (cost.bystanders_moved, cost.bystanders_lost, cost.bystanders_broken) == (0, 0, 0), (direction, cost)
            # A TCP flow may still wait for its retransmission timer; every UDP flow has been seen on its way.
            was, now = before.tunnel_of(direction), during.tunnel_of(direction)
            waiting = was.keys() - now.keys()
            assert {traffic.generator.flows[flow].protocol for flow in waiting} <= {Protocol.TCP}
            assert cost.victims_moved == cost.victims - sum(was[flow] == LOST for flow in waiting) > 500
            assert cost.victims_broken == 0
            assert set(during.tunnel_of(direction).values()) == {"IPsec connection 2", "IPsec connection 3"}
            assert set(after.tunnel_of(direction).values()) == set(traffic.connections)
        assert all(receipt.whole for receipt in ledger.of(Protocol.TCP))


async def moved_bystanders(lab: Lab, traffic: Load, number: int) -> dict[Direction, int]:
    """How many flows of other tunnels change theirs when the device of one connection is cut off."""
    first = await traffic.generator.start(rate=2, packets=1)
    await traffic.generator.finish(first)
    lost_at = lab.set_link(f"gw{number}", "internet", up=False)
    await tables_are(lab, without(number), since=lost_at, within=NOTICED_WITHIN)
    second = await traffic.generator.start(rate=2, packets=1)
    await traffic.generator.finish(second)
    before = await traffic.meter.window(first.start, lost_at)
    after = await traffic.meter.window(second.start, second.end + 60.0)
    lost = f"IPsec connection {number}"
    return {d: len(compare(before.tunnel_of(d), after.tunnel_of(d)).moved_from_others([lost])) for d in Direction}


@pytest.mark.spec("ECMP-24")
async def test_a_plain_group_would_move_the_others(fresh_ecmp: Broken) -> None:
    """The control experiment: with plain next-hop groups the survivors' flows are shuffled, which is why groups are resilient.

    A plain group gives each hop one stretch of the hash space; connection 3 is an outer one on both sides, whose loss shifts the borders.
    """
    async with fresh_ecmp(timers=ipsec_ecmp.FAST, changed=plain) as lab, load(lab, udp=3000, tcp=0) as traffic:
        shuffled = await moved_bystanders(lab, traffic, 3)
    assert all(count > 200 for count in shuffled.values()), shuffled
