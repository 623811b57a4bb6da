"""The life of a tunnel on real charons: how it begins, why it does not, rekeying without loss, what a peer does to it.

Source: "Create multiple IPsec connections over the internet for load balancing", step 2. What the console would show is the connection's
status; its reason is charon's own. Timers: ``FAST`` of the topology, so that a silent peer is known after 1.2 s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.instruments import load
from harness.lab import Lab
from harness.monitor import chart_of, prometheus, readings
from harness.plan import Esp, Ike, Plan, Tunnel
from harness.traffic.flows import Direction
from labs.conftest import Broken
from labs.document import ipsec_ecmp as document
from reports.model import Values
from topologies import ipsec_ecmp

TOLD_WITHIN = 3.0

Change = Callable[[Tunnel], Tunnel]


def tunnels(**changes: Change) -> Callable[[Plan], Plan]:
    """The plan with the tunnels of the named nodes changed."""

    def changed(plan: Plan) -> Plan:
        nodes = [
            replace(node, tunnel=changes[node.name](node.tunnel)) if node.name in changes and node.tunnel else node
            for node in plan.nodes
        ]
        return replace(plan, nodes=tuple(nodes))

    return changed


def having(**values: Any) -> Change:
    return lambda tunnel: replace(tunnel, **values)


#: Device 1's tunnel, device 2's, and what the console shows of each: state, the vendor's word, charon's reason, its phase.
WAYS_TO_FAIL: dict[str, tuple[Change, Change, tuple[str, str, int], tuple[str, str, int]]] = {
    "keys": (
        having(key="not-the-key"),
        having(key=""),
        ("ike_sa_not_established", "AUTHENTICATION_FAILED", 1),
        ("ike_sa_not_established", "AUTHENTICATION_FAILED", 1),
    ),
    "algorithms": (
        having(ike=Ike(dh_group="group5")),
        having(esp=Esp(integrity="sha256")),
        ("ike_sa_not_established", "NO_PROPOSAL_CHOSEN", 1),
        ("ipsec_sa_not_established", "NO_PROPOSAL_CHOSEN", 2),
    ),
    "identity and address": (
        having(local_id="gateway.example"),
        having(local="198.51.100.77", local_id="198.51.100.77"),
        ("ike_sa_not_established", "AUTHENTICATION_FAILED", 1),
        ("ike_sa_not_established", "NO_PROPOSAL_CHOSEN", 1),
    ),
}


async def carries_on(lab: Lab, number: int) -> None:
    """The connection works by itself: its session, its table, its line."""
    expected = document.TABLE_4[number]
    assert await lab[f"vpn{number}"].route_table(like=expected, within=5.0) == expected
    assert await lab.until(lambda: lab.lines()[f"vpn{number}"], within=5.0)


@pytest.mark.spec("ECMP-31", "ECMP-10")
@pytest.mark.parametrize("way", WAYS_TO_FAIL)
async def test_what_the_console_shows_of_a_failure(fresh_ecmp: Broken, way: str) -> None:
    """In under 3 s the status of each failing connection has charon's reason; the third carries on."""
    first, second, *shown = WAYS_TO_FAIL[way]
    rows: list[tuple[str, str, str]] = []
    changed = tunnels(gw1=first, gw2=second)
    async with fresh_ecmp(timers=ipsec_ecmp.FAST, established=False, changed=changed, title=f"failing: {way}") as lab:
        for number, (console, code, phase) in enumerate(shown, 1):
            told = await lab.event(
                within=TOLD_WITHIN, since=lab.begun, node=f"vpn{number}", source="ipsec", kind="failure"
            )
            status = await lab[f"vpn{number}"].ipsec.call("show.status")
            assert (status["state"], status["console"]) == ("failed", console)
            assert (status["reason"]["code"], status["reason"]["phase"]) == (code, phase)
            assert status["reason"]["remedy"]
            rows += [
                (f"IPsec connection {number}", status["console"], console),
                (f"IPsec connection {number}, reason", f"{code}: {status['reason']['text']}", ""),
                (f"IPsec connection {number}, told after", f"{told.time - lab.begun:.2f} s", ""),
            ]
        await carries_on(lab, 3)
        lab.record(Values(f"What the console shows: {way}", tuple(rows)))
        assert "not-the-key" not in lab.everything_written()


@pytest.mark.spec("ECMP-31")
async def test_pfs_on_one_side_and_a_peer_that_is_not_there(fresh_ecmp: Broken) -> None:
    """PFS that differs is found by a trial rekey, long before the lifetime; a peer that does not answer is told within 3 s."""
    changed = tunnels(gw1=having(esp=Esp(pfs=None)), vpn2=having(remote="198.51.100.222", remote_id="198.51.100.222"))
    async with fresh_ecmp(timers=ipsec_ecmp.FAST, established=False, changed=changed) as lab:
        await lab.event(within=5.0, node="vpn1", source="ipsec", kind="line", state="up")
        asked = time.monotonic()
        await lab["vpn1"].ipsec.call("rekey")
        failure = await lab.event(within=TOLD_WITHIN, since=asked, node="vpn1", source="ipsec", kind="failure")
        assert (failure.data["code"], failure.data["phase"]) == ("NO_PROPOSAL_CHOSEN", 2)
        status = await lab["vpn1"].ipsec.call("show.status")
        assert status["state"] == "up", "the old SA goes on until its lifetime ends"
        await lab.event(within=TOLD_WITHIN, since=lab.begun, node="vpn2", source="ipsec", kind="failure")
        status = await lab["vpn2"].ipsec.call("show.status")
        assert (status["state"], status["reason"]["code"]) == ("failed", status["reason"]["code"])
        assert status["reason"]["code"] in ("PEER_UNREACHABLE", "NO_ROUTE")
        await carries_on(lab, 1)
        await carries_on(lab, 3)


@pytest.mark.spec("ECMP-7", "ECMP-30")
async def test_bgp_counts_as_traffic_and_a_peer_that_comes_and_goes(fresh_ecmp: Broken) -> None:
    """Not effective immediately: the speaker's own SYN starts it. A peer restarted, moved to another address and back: told each time."""
    changed = tunnels(vpn1=having(initiate="traffic"))
    async with fresh_ecmp(timers=ipsec_ecmp.FAST, changed=changed, title="a tunnel's life") as lab:
        first = await lab.event(within=5.0, node="vpn1", source="ipsec", kind="traffic")
        assert first.data["packet"].startswith("TCP 169.254.10.1:")
        assert first.data["packet"].endswith(" > 169.254.10.2:179"), "BGP's own connection attempt is traffic"

        restarted = time.monotonic()
        await lab["gw2"].ipsec.call("restart")
        down = await lab.event(
            within=TOLD_WITHIN, since=restarted, node="vpn2", source="ipsec", kind="line", state="down"
        )
        assert down.data["reason"]["code"] == "DELETED_BY_PEER"
        await lab.event(within=5.0, since=down.time, node="vpn2", source="ipsec", kind="line", state="up")

        moved = time.monotonic()
        for change in (("del", "198.51.100.3/32"), ("add", "198.51.100.77/32")):
            assert await lab["gw3"].run("ip", "address", change[0], change[1], "dev", "outside1")
        down = await lab.event(within=5.0, since=moved, node="vpn3", source="ipsec", kind="line", state="down")
        assert down.data["reason"]["code"] == "PEER_UNREACHABLE"
        await carries_on(lab, 1)
        await carries_on(lab, 2)
        back = time.monotonic()
        assert await lab["gw3"].run("ip", "address", "add", "198.51.100.3/32", "dev", "outside1")
        assert await lab["gw3"].run(
            "ip", "route", "replace", "203.0.113.161", "via", "192.0.2.174", "dev", "outside1", "onlink"
        )
        await lab.event(within=10.0, since=back, node="vpn3", source="ipsec", kind="line", state="up")
        await carries_on(lab, 3)


#: Of one connection: 30 flows of 42 packets of 1,000 octets a second each way are 10 Mbit/s.
FLOWS, RATE, SIZE = 30, 42, 1000
CHILD_REKEYS, IKE_REKEYS = 10, 3


@pytest.mark.busy
@pytest.mark.needs("timely")
@pytest.mark.spec("ECMP-6")
async def test_rekeys_under_load_lose_nothing(fresh_ecmp: Broken) -> None:
    """Lifetimes of 2 s (ESP) and 4 s (IKE): ten child and three IKE rekeys under 10 Mbit/s each way, no numbered packet missing."""
    short = having(ike=Ike(lifetime=4), esp=Esp(lifetime=2))
    changed = tunnels(gw1=short, vpn1=short)
    async with (
        fresh_ecmp(connections=1, changed=changed, title="rekeys under load") as lab,
        load(lab, udp=FLOWS, tcp=0) as traffic,
    ):
        before = {name: await lab[name].ipsec.call("counters") for name in ("gw1", "vpn1")}
        began = lab.stream.events[-1].time
        started = await traffic.generator.start(rate=RATE, duration=60, size=SIZE)

        def rekeyed(kind: str) -> list[str]:
            key = "initiator_spi" if kind == "ike" else "spi_in"
            events = lab.stream.of(node="vpn1", source="ipsec", kind=kind, since=began, change="rekeyed")
            return [str(event.data[key]) for event in events]

        def enough() -> bool:
            return len(rekeyed("child")) >= CHILD_REKEYS and len(rekeyed("ike")) >= IKE_REKEYS

        samples = [await readings(lab.folder)]
        while not enough() and time.monotonic() < started.start + 30.0:
            await traffic.generator.advance(started, rounds=RATE // 2)
            samples.append(await readings(lab.folder))
        assert enough(), f"{len(rekeyed('child'))} child and {len(rekeyed('ike'))} IKE rekeys in 30 s"
        marks = [
            (event.time, "IKE rekey")
            for event in lab.stream.of(node="vpn1", source="ipsec", kind="ike", since=began, change="rekeyed")
        ]
        lab.record(chart_of("Monitor of IPsec connection 1: 10 Mbit/s each way through rekeys", samples, marks))
        assert {(each.node, each.console, each.bgp) for each in samples[-1]} == {
            ("gw1", "ipsec_sa_established", "Established"),
            ("vpn1", "ipsec_sa_established", "Established"),
        }
        page = prometheus(samples[-1]).decode()
        assert 'vbrlab_ipsec_bgp_up{connection="IPsec-VPN Connection 1",node="vpn1"} 1.0' in page
        await traffic.generator.stop()
        ledger = await traffic.generator.finish(started)
        ended = time.monotonic()
        totals = ledger.totals()
        after = {name: await lab[name].ipsec.call("counters") for name in ("gw1", "vpn1")}
        bits = totals["received"] * SIZE * 8 / len(Direction) / (ended - started.start)
        lab.record(
            Values(
                "Rekeys under load",
                (
                    ("child rekeys", str(len(rekeyed("child"))), ""),
                    ("IKE rekeys", str(len(rekeyed("ike"))), ""),
                    ("packets sent, both ways", str(totals["sent"]), ""),
                    ("packets missing", str(totals["missing"]), "0"),
                    ("Mbit/s each way", f"{bits / 1e6:.1f}", ""),
                ),
            )
        )
        assert ledger.faults == {}
        assert (totals["missing"], totals["duplicates"]) == (0, 0)
        assert bits > 8e6
        assert len(set(rekeyed("child"))) == len(rekeyed("child")), "every rekey has an SPI of its own"
        assert len(set(rekeyed("ike"))) == len(rekeyed("ike"))
        for name, peer, direction in (("gw1", "vpn1", Direction.TO_DC), ("vpn1", "gw1", Direction.TO_VPC)):
            # Each end sends at its own pace on a busy machine.
            sent = sum(receipt.sent for receipt in ledger[direction].values())
            came = after[name]["esp"]["packets_in"] - before[name]["esp"]["packets_in"]
            went = after[peer]["interface"]["packets_out"] - before[peer]["interface"]["packets_out"]
            assert came >= sent - FLOWS, "the counters go on over the rekeys"
            assert abs(came - went) <= 5, "what one end sends is what the other counts, but for BGP under way"
            assert after[name]["rekeys"] >= CHILD_REKEYS
