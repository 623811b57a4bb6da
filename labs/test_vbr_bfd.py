"""BFD on the peers of a VBR: hop counts on direct and on longer lines, one side without it, and what it is for: a shorter outage.

Source: "Configure and manage BGP", step 2 (VBR-12, VBR-13, VBR-33, VBR-34). Timers are set short by configuration; no document gives any.
"""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from harness.cloud.findings import Severity
from harness.cloud.vbr import Line, VbrEstate
from harness.cloud.vbr_changes import modify_peer
from harness.cloud.vbr_rules import validate
from harness.lab import Lab
from harness.outage_trial import VARIANTS, Disturbed, trial
from harness.plan import Bfd, End, Link, Neighbor, Node, Plan, Role, Route, Speaker
from harness.session import Labs
from labs.document import vbr as document
from labs.vbr_acts import flaps
from reports.model import Grid, Outages
from topologies import vbr

DIRECT = document.BFD_HOP_COUNT_OF_A_DIRECT_LINE
DEFAULT = document.BFD_HOP_COUNT_DEFAULT
#: Data centre by data centre: the VBR's hop count, the data centre's own (None: no BFD there), and what the VBR says.
LINES: dict[int, tuple[int, int | None, str]] = {
    1: (DIRECT, DIRECT, "Up"),
    2: (DEFAULT, DEFAULT, "Up"),
    3: (DEFAULT, DIRECT, "port of the other kind|UDP 4784 is closed there"),
    4: (DIRECT, DEFAULT, "port of the other kind|UDP 3784 is closed there"),
    5: (DIRECT, None, "no answer|UDP 3784 is closed there"),
}


def lines() -> VbrEstate:
    """Five direct lines, each with the hop counts of :data:`LINES`."""
    estate = vbr.estate(peers=len(LINES))
    router = estate.vbrs[0]
    peers = tuple(replace(peer, bfd=True, bfd_hop_count=LINES[n][0]) for n, peer in enumerate(router.peers, 1))
    centres = tuple(replace(centre, bfd_hop_count=LINES[n][1]) for n, centre in enumerate(estate.data_centres, 1))
    return replace(estate, vbrs=(replace(router, peers=peers),), data_centres=centres)


async def bfd_row(lab: Lab, node: str, peer: str) -> dict[str, Any]:
    """What a speaker shows of its BFD session with a peer."""
    (row,) = await lab[node].speaker.call("show.neighbors", name=peer)
    bfd: dict[str, Any] = row["bfd"]
    return bfd


@pytest.mark.spec("VBR-12", "VBR-13", "VBR-33", "VBR-34", "VBR-24")
async def test_hop_counts_on_direct_lines(labs: Labs) -> None:
    """1 at both ends is up, so is 255 at both; one of each never is, nor BFD on one side: the status says why, and BGP runs regardless.

    The hop count of the third line is then changed to 1 while it runs, as the document asks: BFD comes up, and nothing flaps.
    """
    estate = lines()
    warned = {finding.object.split()[2] for finding in validate(estate) if finding.spec == "VBR-13"}
    assert warned == {vbr.peer_ip(number) for number, (count, *_) in LINES.items() if count != DIRECT}
    assert all(finding.severity is Severity.WARNING for finding in validate(estate))
    async with labs.running(vbr.plan_of(estate)) as lab:
        await lab.established(within=10)

        async def as_expected(number: int) -> dict[str, Any] | None:
            row = await bfd_row(lab, "vbr", vbr.peer_ip(number))
            expected = LINES[number][2]
            if expected == "Up":
                return row if row["state"] == "Up" else None
            return row if any(words in row["reason"] for words in expected.split("|")) else None

        rows = []
        for number, (ours, theirs, _) in LINES.items():
            row = await lab.until(partial(as_expected, number), within=20, what=f"BFD of line {number}")
            kind = "UDP 3784" if ours == DIRECT else "UDP 4784"
            assert kind == f"UDP {row['port']}"
            rows.append((str(ours), str(theirs or "no BFD"), row["state"], kind, row["reason"]))
        columns = ("Hop count of the VBR", "Of the data centre", "BFD", "Port", "What the status says")
        lab.record(Grid("BFD hop counts on direct lines", columns, tuple(rows)))
        right = {("vbr", vbr.peer_ip(1)), ("dc1", "circuit-1"), ("vbr", vbr.peer_ip(2)), ("dc2", "circuit-2")}
        told = {(e.node, e.data["peer"]) for e in lab.stream.of(source="bgp", kind="bfd", new="Up")}
        assert told == right

        changed = await lab.apply(vbr.plan_of(modify_peer(estate, "vbr", vbr.peer_ip(3), bfd_hop_count=DIRECT)))
        await lab.event(node="vbr", kind="bfd", peer=vbr.peer_ip(3), new="Up", since=changed, within=20)
        # A session whose BFD is up may end for a machine that stalls; none ends for the change.
        watched = {peer for _, peer in right}
        assert {event.data["peer"] for event in flaps(lab, changed)} <= watched


def over_two_routers(hop_count: int) -> Plan:
    """vbr -- p1 -- p2 -- dc: three devices from source to destination, the destination counted. BGP is multihop."""

    def speaker(asn: int, own: str, other: str, name: str, remote_asn: int, count: int) -> Speaker:
        neighbor = Neighbor(
            name, other, remote_asn, local_address=own, ebgp_multihop=255, bfd=Bfd(count, interval_ms=100)
        )
        return Speaker(asn, own, (neighbor,))

    def default(gateway: str) -> tuple[Route, ...]:
        return (Route("10.0.0.0/8", gateway=gateway),)

    return Plan(
        "longer-line",
        "A line with two routers between VBR and data centre",
        (
            Node("vbr", Role.VBR, routes=default("10.1.0.2"), speaker=speaker(45104, "10.1.0.1", "10.1.2.2", "dc", 65011, hop_count)),
            Node("p1", Role.ROUTER, routes=(Route("10.1.2.0/30", gateway="10.1.1.2"),), forwarding=True),
            Node("p2", Role.ROUTER, routes=(Route("10.1.0.0/30", gateway="10.1.1.1"),), forwarding=True),
            Node("dc", Role.ROUTER, routes=default("10.1.2.1"), speaker=speaker(65011, "10.1.2.2", "10.1.0.1", "vbr", 45104, 3)),
        ),
        (
            Link(End("vbr", "line", ("10.1.0.1/30",)), End("p1", "cloud", ("10.1.0.2/30",))),
            Link(End("p1", "customer", ("10.1.1.1/30",)), End("p2", "cloud", ("10.1.1.2/30",))),
            Link(End("p2", "customer", ("10.1.2.1/30",)), End("dc", "line", ("10.1.2.2/30",))),
        ),
    )  # fmt: skip


@pytest.mark.spec("VBR-33", "VBR-12")
async def test_hop_count_of_a_longer_line(labs: Labs) -> None:
    """Three devices: with 2 the VBR refuses what comes and says with which TTL; changed to 3 BFD comes up."""
    async with labs.running(over_two_routers(2)) as lab:
        await lab.established(within=10)
        refused = await lab.event(node="vbr", kind="bfd.refused", peer="dc", within=10)
        assert (refused.data["ttl"], refused.data["hop_count"]) == (253, 2)
        row = await bfd_row(lab, "vbr", "dc")
        assert "received TTL 253, hop count 2 allows 254 and more" in row["reason"]
        assert row["state"] != "Up"
        changed = await lab.apply(over_two_routers(3))
        await lab.event(node="vbr", kind="bfd", peer="dc", new="Up", since=changed, within=20)


@pytest.mark.busy
@pytest.mark.spec("VBR-13", "VBR-20")
async def test_outage_with_and_without_bfd(labs: Labs) -> None:
    """A circuit is cut inside its bridging device: with BFD the other one carries on sooner than by the hold timer; charted."""
    by_timer, *by_bfd = VARIANTS

    async def one_after_the_other() -> list[list[float]]:
        return [await undisturbed(labs, name, centres=2) for name in by_bfd]

    # The hold timer needs no processor while it runs out, and BFD's two variants do.
    first, others = await asyncio.gather(undisturbed(labs, by_timer, centres=2), one_after_the_other())
    samples = {name: tuple(values) for name, values in zip(VARIANTS, (first, *others), strict=True)}
    assert all(min(samples[name]) > variant.expected[0] / 2 for name, variant in VARIANTS.items())
    title = "Outage after a cut inside the line, the longer of both directions"
    labs.record.add(Outages(title, samples, {name: variant.expected for name, variant in VARIANTS.items()}))
    by_hold_timer, slow, fast = samples.values()
    assert max(fast) < min(by_hold_timer)
    assert statistics.median(slow) < min(by_hold_timer)


async def undisturbed(labs: Labs, name: str, *, centres: int, tries: int = 5) -> list[float]:
    """The outages of one trial; a trial during which the machine stalled is tried again."""
    variant = VARIANTS[name]
    hop_count = DIRECT if variant.bfd else None
    plan = vbr.plan(
        peers=2 * centres,
        lines=2,
        line=Line.BRIDGED,
        bfd_hop_count=hop_count,
        data_centre_bfd=hop_count,
        timers=variant.timers,
    )
    for left in reversed(range(tries)):
        async with labs.running(plan) as lab:
            try:
                return await trial(lab, centres, bfd=variant.bfd)
            except Disturbed:
                if not left:
                    raise
    raise AssertionError("never reached")
