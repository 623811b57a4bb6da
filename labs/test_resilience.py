"""A data centre by circuit and by VPN gateway: the circuit is cut, traffic moves to the tunnel, and back; and why the ASN must be one.

Source: "VPN Gateway: configure BGP dynamic routing", "Limits on BGP dynamic routing" (VPN-10). Fail-over is this project's; its timers
are said here: hold time 6 s, DPD every second with 2 retransmissions after 0.4 s each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from harness.cloud.findings import Severity
from harness.evidence import failover_of, timeline_of
from harness.instruments import load
from harness.lab import Lab
from harness.session import Labs
from harness.stream import LabEvent
from harness.traffic.flows import Direction, Protocol
from harness.traffic.statistics import toll
from labs.document import resilience as document
from labs.test_vpn_gateway import has
from reports.model import Values
from topologies import resilience

CIRCUIT, TUNNEL = "Circuit", "Tunnel"
TAPS = {CIRCUIT: ("dc-router", "circuit1"), TUNNEL: ("gw1", "ipsec0")}
ROUTER = "dc-router"


def way(lab: Lab, node: str, prefix: str) -> set[str]:
    """The interfaces by which a node's kernel reaches a block."""
    return {hop.interface for hop in lab[node].kernel_hops() if hop.prefix == prefix}


def by_circuit(lab: Lab) -> bool:
    """Both ends send by the circuit."""
    return way(lab, ROUTER, "10.0.0.0/24") == {"circuit1"} and way(lab, "vpc", resilience.BLOCK) == {"vbr"}


def by_tunnel(lab: Lab) -> bool:
    """Both ends send by the tunnel."""
    return way(lab, "gw1", "10.0.0.0/24") == {"ipsec0"} and way(lab, "vpc", resilience.BLOCK) == {"gateway1"}


@pytest.mark.busy
@pytest.mark.spec("VPN-10", "VPN-1")
async def test_circuit_cut_and_mended_under_load(labs: Labs) -> None:
    """All flows are on the circuit; it is cut and all are in the tunnel, TCP goes on; mended, all are on the circuit again."""
    async with labs.running(resilience.plan(timers=resilience.FAST), title="Circuit and VPN gateway") as lab:
        await lab.established(within=15)
        await has(lab, document.TABLES)
        await lab.until(lambda: by_circuit(lab), within=10.0)
        for node, to in document.PINGS:
            assert await lab[node].reaches(to)
        async with load(lab, taps=TAPS, udp=270, tcp=30) as traffic:
            started = await traffic.generator.start(rate=6, duration=60)
            calm = await traffic.generator.advance(started, rounds=3)
            cut = lab.set_link(ROUTER, "vbr", up=False)
            await lab.until(lambda: by_tunnel(lab), within=20.0, since=cut)
            await has(lab, {"vpc": document.SYSTEM_TABLE_BY_VPN}, since=cut)
            detoured = await traffic.generator.advance(started)
            steady = await traffic.generator.advance(started, rounds=3)
            mended = lab.set_link(ROUTER, "vbr", up=True)
            await lab.until(lambda: by_circuit(lab), within=30.0, since=mended)
            returned = await traffic.generator.advance(started)
            end = await traffic.generator.advance(started, rounds=3)
            await traffic.generator.stop()
            ledger = await traffic.generator.finish(started, within=20.0)

            marks = ((cut, "circuit cut"), (mended, "mended"))
            before = await traffic.meter.window(started.start, calm)
            during = await traffic.meter.window(detoured, steady)
            after = await traffic.meter.window(returned, end)
            tolls = {d: toll(ledger, d, before.tunnel_of(d), during.tunnel_of(d), lost=[CIRCUIT]) for d in Direction}
            title = "Circuit to VPN gateway and back"
            lab.record(await failover_of(lab, title, traffic, started.start, end, marks, tolls))
            lab.record(timeline_of(lab, "BGP sessions: circuit cut", since=started.start, marks=marks, quiet=False))

        assert ledger.faults == {}
        to_vpc = before.tunnel_of(Direction.TO_VPC)
        behind_router = {f for f in to_vpc if traffic.generator.flows[f].client.startswith("192.168.0.")}
        for direction, cost in tolls.items():
            flows = before.tunnel_of(direction), during.tunnel_of(direction), after.tunnel_of(direction)
            assert [{seen[flow] for flow in behind_router} for seen in flows] == [{CIRCUIT}, {TUNNEL}, {CIRCUIT}]
            assert cost.victims_broken == cost.bystanders_broken == 0
        assert all(receipt.whole for receipt in ledger.of(Protocol.TCP))
        await has(lab, document.TABLES)


def moves(lab: Lab, since: float) -> Iterator[tuple[LabEvent, str]]:
    """Each time that the data centre's router chose another neighbour for the block behind its device: the event, and whom."""
    last = ""
    for event in lab.stream.of(node=ROUTER, source="bgp", kind="rib", since=since):
        for change in event.data["changed"]:
            peer = change["paths"][0]["peer"] if change["paths"] else "none"
            if change["prefix"] == resilience.DEVICE_BLOCK and peer != last:
                last = peer
                yield event, peer


@pytest.mark.spec("VPN-10")
@pytest.mark.parametrize(("vpn_asn", "cycles"), [(65530, 1), (65529, 2)], ids=["one ASN", "two ASNs"])
async def test_routes_flap_in_the_data_centre_with_two_asns(labs: Labs, vpn_asn: int, cycles: int) -> None:
    """The way to a block inside the data centre: with one ASN it never leads through the cloud, with two it goes there and comes back.

    The cloud offers the data centre its own block, learned over the tunnel. With one ASN the router sees the loop. With two it
    takes the offer, and prefers it, as it prefers all that comes over the circuit; so does the cloud with what the router says of
    the block. Each wants the other's way, and what they have depends on who spoke last: whenever an inner session or the
    tunnel goes and comes, the route moves.
    """
    warned = [f.spec for f in resilience.findings(vpn_asn=vpn_asn, cen=True) if f.severity is Severity.WARNING]
    assert ("VPN-10" in warned) == (vpn_asn != 65530)
    plan = resilience.plan(vpn_asn=vpn_asn, cen=True, timers=resilience.FAST)
    async with labs.running(plan, title=f"Circuit as AS 65530, VPN gateway as AS {vpn_asn}") as lab:
        await lab.established(within=15)
        await lab.until(lambda: by_circuit_and_cen(lab), within=10.0)
        await tunnel_restarted(lab)
        began = lab.stream.add("lab", "lab", "cycles begin").time
        for _ in range(cycles):
            await inner_session_restarted(lab, expected={"circuit1"} if vpn_asn != 65530 else set())
            if vpn_asn != 65530:
                # The router sends its neighbour's packets to the VPC and back through the tunnel.
                assert await lab["dc-client0"].reaches("192.168.1.10")
                assert way(lab, ROUTER, resilience.DEVICE_BLOCK) == {"circuit1"}
            await tunnel_restarted(lab)
            assert way(lab, ROUTER, resilience.DEVICE_BLOCK) == {"lan"}
        history = [(event.time - began, peer) for event, peer in moves(lab, began)]
        rows = tuple((f"+{at:.3f} s", "withdrawn" if peer == "none" else f"by {peer}", "") for at, peer in history)
        lab.record(Values(f"{resilience.DEVICE_BLOCK} at {ROUTER}", rows))
        lab.record(timeline_of(lab, "BGP sessions", since=began, quiet=False))
        through_the_cloud = sum(peer == "circuit-1" for _, peer in history)
        assert through_the_cloud == (0 if vpn_asn == 65530 else cycles), history
        if vpn_asn == 65530:
            refused = await offers_of_the_cloud(lab)
            assert refused == {"AS path loop"} or refused == set()


def by_circuit_and_cen(lab: Lab) -> bool:
    """The VPC sends by CEN, and the data centre's router has the VPC by the circuit."""
    return way(lab, "vpc", resilience.BLOCK) == {"tr"} and way(lab, ROUTER, "10.0.0.0/24") == {"circuit1"}


async def inner_session_restarted(lab: Lab, expected: set[str]) -> None:
    """The session between router and device ends and begins again; meanwhile the router's way to the device's block is ``expected``."""
    since = time.monotonic()
    await lab["gw1"].speaker.call("neighbor.shutdown", name="dc router")
    await lab.until(lambda: way(lab, ROUTER, resilience.DEVICE_BLOCK) == expected, within=10.0, since=since)
    again = time.monotonic()
    await lab["gw1"].speaker.call("neighbor.start", name="dc router")
    await lab.established(within=20.0, since=again)
    await lab["gw1"].learned("10.0.0.0/24", within=10.0, since=again)
    await heard_again(lab, again)


async def heard_again(lab: Lab, since: float) -> None:
    """The router has the device's offer of its block, used or not."""

    async def offered() -> bool:
        rows = await lab[ROUTER].speaker.call("show.routes", table="in", peer="dc gw1")
        return resilience.DEVICE_BLOCK in {row["prefix"] for row in rows}

    await lab.until(offered, within=10.0, since=since)


async def tunnel_restarted(lab: Lab) -> None:
    """The tunnel goes, so that the cloud has the block by the circuit alone, and comes again."""
    since = time.monotonic()
    await lab["vpn1a"].ipsec.call("terminate")
    await lab.until(
        lambda: (
            way(lab, ROUTER, resilience.DEVICE_BLOCK) == {"lan"} and way(lab, "vpc", resilience.DEVICE_BLOCK) == {"tr"}
        ),
        within=20.0,
        since=since,
        what="the block by the LAN at the router, by CEN at the VPC",
    )
    again = time.monotonic()
    await lab["vpn1a"].ipsec.call("initiate")
    await lab.tunnels_up(within=20.0, since=again)
    await lab.established(within=20.0, since=again)
    await lab["vpngw"].learned(resilience.DEVICE_BLOCK, within=20.0, since=again)


async def offers_of_the_cloud(lab: Lab) -> set[str]:
    """Why the router refuses what the cloud offers of the data centre's own block."""
    rows = await lab[ROUTER].speaker.call("show.routes", table="in", peer="circuit-1")
    own = [row for row in rows if row["prefix"] == resilience.DEVICE_BLOCK]
    return {str(path.get("rejected")).partition(":")[0] for row in own for path in row["paths"]}
