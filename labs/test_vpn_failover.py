"""Dual-tunnel mode: traffic uses the primary tunnel, on its loss the secondary, then the primary again; measured under load.

Source: "VPN Gateway: configure BGP dynamic routing", "Recommendation on BGP dynamic routing configuration"; that traffic comes back is
this project's (VPN-13). Timers are shortened and said here: hold time 6 s, DPD every second with 2 retransmissions after 0.4 s each.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from harness.cloud.build_vpn import hub
from harness.evidence import failover_of, timeline_of
from harness.instruments import load
from harness.lab import Lab
from harness.session import Labs
from harness.traffic.flows import Direction, Protocol
from harness.traffic.statistics import toll
from labs.document import vpn_gateway as document
from labs.test_vpn_gateway import has
from topologies import vpn_gateway

PRIMARY, SECONDARY = "Primary tunnel", "Secondary tunnel"
TAPS = {PRIMARY: ("gw1", "ipsec0"), SECONDARY: ("gw2", "ipsec0")}
NOTICED_WITHIN, BACK_WITHIN = 20.0, 30.0

Act = Callable[[Lab], Awaitable[object]]


async def cut_line(lab: Lab) -> None:
    lab.set_link("gw1", "internet", up=False)


async def mend_line(lab: Lab) -> None:
    lab.set_link("gw1", "internet", up=True)


async def send_delete(lab: Lab) -> None:
    await lab["vpn1a"].ipsec.call("terminate")


async def initiate(lab: Lab) -> None:
    await lab["vpn1a"].ipsec.call("initiate")


LOSSES: dict[str, tuple[Act, Act]] = {"line cut": (cut_line, mend_line), "DELETE sent": (send_delete, initiate)}


def ways(lab: Lab) -> tuple[set[str], set[str]]:
    """Where the data centre sends what is for the VPC, and the gateway what is for the data centre: the devices at the other end."""
    to_vpc = {hop.gateway for hop in lab["dc-router"].kernel_hops()}
    to_dc = {hop.interface for hop in lab[hub("vpngw")].kernel_hops() if hop.prefix in vpn_gateway.CLIENT_BLOCKS}
    return to_vpc, to_dc


def by(number: int) -> tuple[set[str], set[str]]:
    """All by tunnel ``number``: 1 the primary, 2 the secondary."""
    return {f"192.168.50.{10 + number}"}, {f"tunnel{number}"}


@pytest.mark.busy
@pytest.mark.spec("VPN-13")
@pytest.mark.parametrize("loss", LOSSES)
async def test_primary_secondary_and_back(labs: Labs, loss: str) -> None:
    """All flows are on the primary; it is lost and all are on the secondary, TCP goes on; it comes back and all are on it again."""
    lose, mend = LOSSES[loss]
    plan = vpn_gateway.plan(timers=vpn_gateway.FAST)
    async with labs.running(plan, title=f"Dual-tunnel fail-over: {loss}") as lab:
        await lab.established(within=15)
        await has(lab, document.TABLES)
        await lab.until(lambda: ways(lab) == by(1), within=10.0, what="all by the primary tunnel")
        async with load(lab, taps=TAPS, udp=270, tcp=30) as traffic:
            started = await traffic.generator.start(rate=6, duration=60)
            calm = await traffic.generator.advance(started, rounds=3)
            lost_at = time.monotonic()
            await lose(lab)
            await lab.until(
                lambda: ways(lab) == by(2), within=NOTICED_WITHIN, since=lost_at, what="all by the secondary"
            )
            # The VPC notices nothing: the gateway has the same routes by the other tunnel.
            await has(lab, {"vpc": document.SYSTEM_TABLE, "vpngw": document.GATEWAY_TABLE}, since=lost_at)
            detoured = await traffic.generator.advance(started)
            steady = await traffic.generator.advance(started, rounds=3)
            mended_at = time.monotonic()
            await mend(lab)
            await lab.until(lambda: ways(lab) == by(1), within=BACK_WITHIN, since=mended_at, what="all by the primary")
            returned = await traffic.generator.advance(started)
            end = await traffic.generator.advance(started, rounds=3)
            await traffic.generator.stop()
            ledger = await traffic.generator.finish(started, within=20.0)

            marks = ((lost_at, loss), (mended_at, "mended"))
            before = await traffic.meter.window(started.start, calm)
            during = await traffic.meter.window(detoured, steady)
            after = await traffic.meter.window(returned, end)
            tolls = {d: toll(ledger, d, before.tunnel_of(d), during.tunnel_of(d), lost=[PRIMARY]) for d in Direction}
            title = f"Primary to secondary and back: {loss}"
            lab.record(await failover_of(lab, title, traffic, started.start, end, marks, tolls))
            lab.record(timeline_of(lab, f"BGP sessions: {loss}", since=started.start, marks=marks, quiet=False))

        assert ledger.faults == {}
        for direction, cost in tolls.items():
            assert set(before.tunnel_of(direction).values()) == {PRIMARY}
            assert set(during.tunnel_of(direction).values()) == {SECONDARY}
            assert set(after.tunnel_of(direction).values()) == {PRIMARY}
            assert cost.victims == 300
            assert cost.victims_broken == 0
        assert all(receipt.whole for receipt in ledger.of(Protocol.TCP))
        await has(lab, document.TABLES)
