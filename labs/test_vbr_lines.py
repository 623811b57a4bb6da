"""Two circuits to one data centre: both carry traffic where paths are equal, one takes it all when the other is cut, and back.

Source: "Configure and manage BGP": a VBR has up to eight peers, and nothing says that they are of different data centres (VBR-1,
VBR-3). The circuits run over bridging devices and BFD (3 x 300 ms) watches them, so that a cut inside the line is noticed.
"""

from __future__ import annotations

import socket

import pytest

from harness.cloud.vbr import Line
from harness.evidence import timeline_of
from harness.lab import Lab
from harness.tables import Hop
from labs.conftest import Broken
from labs.test_vbr_peers import ECS, up
from labs.vbr_acts import bfd_up, cut_unseen
from reports.model import Values
from topologies import vbr

CLOUD, BLOCK = "172.16.0.0/16", "192.168.1.0/24"


def ways(lab: Lab, node: str, prefix: str) -> set[str]:
    """The gateways by which a node's kernel reaches a prefix."""
    return {hop.gateway for hop in lab[node].kernel_hops() if hop.prefix == prefix}


async def both_ends_use(lab: Lab, circuits: set[int], *, since: float, within: float = 20.0) -> float:
    """Returns when VBR and data centre reach each other by exactly these circuits; the moment of their last route change."""

    def so() -> bool:
        there, back = {vbr.peer_ip(n) for n in circuits}, {f"10.1.{n}.1" for n in circuits}
        return ways(lab, "vbr", BLOCK) == there and ways(lab, "dc1", CLOUD) == back

    await lab.until(so, within=within, since=since, what=f"both ends use circuits {sorted(circuits)}")
    changes = [e.time for e in lab.stream.of(source="bgp", kind="fib", since=since) if e.node in ("vbr", "dc1")]
    return max(changes, default=since)


@pytest.mark.spec("VBR-1", "VBR-13", "VBR-22", "ECMP-29")
async def test_two_circuits_share_and_stand_in_for_each_other(fresh_vbr: Broken) -> None:
    """Equal paths: both ends have two next hops. Cut one: one next hop, pings pass. Mend it: two again; the other never flaps."""
    async with fresh_vbr(
        peers=2, lines=2, line=Line.BRIDGED, bfd_hop_count=1, data_centre_bfd=1, title="Two circuits to one data centre"
    ) as lab:
        await bfd_up(lab, 2, within=10)
        begun = lab.stream.add("lab", "lab", "watched").time
        await both_ends_use(lab, {1, 2}, since=begun)
        assert set(lab["vbr"].kernel_hops()) >= {Hop(BLOCK, vbr.peer_ip(n), f"circuit{n}") for n in (1, 2)}
        spread = {await way_of(lab, port) for port in range(40000, 40064)}
        assert spread == {"circuit1", "circuit2"}

        cut = cut_unseen(lab, "circuit-1", whole=False)
        gone = await both_ends_use(lab, {2}, since=cut)
        assert all([await lab["dc1-client0"].reaches(ECS), await lab["ecs"].reaches("192.168.1.10")])
        mended = cut_unseen(lab, "circuit-1", whole=True)
        back = await both_ends_use(lab, {1, 2}, since=mended, within=30.0)
        sessions = {("vbr", vbr.peer_ip(1)), ("vbr", vbr.peer_ip(2))}
        await lab.until(lambda: up(lab) >= sessions, within=10.0, what="both sessions told as Established")
        assert await lab["dc1-client0"].reaches(ECS)
        lab.record(
            Values(
                "Two circuits to one data centre, BFD 3 x 300 ms",
                (
                    ("from the cut to one next hop at both ends", f"{gone - cut:.3f} s", ""),
                    ("from the mending to two next hops at both ends", f"{back - mended:.3f} s", ""),
                ),
            )
        )
        marks = ((cut, "circuit 1 cut"), (mended, "circuit 1 mended"))
        lab.record(timeline_of(lab, "Two circuits: one is cut and mended", since=cut, marks=marks, quiet=False))


async def way_of(lab: Lab, port: int) -> str:
    """By which circuit the VBR's kernel sends a flow with this source port to the data centre."""
    flow = ("ipproto", str(int(socket.IPPROTO_TCP)), "sport", str(port), "dport", "80")
    route = await lab["vbr"].run("ip", "route", "get", "192.168.1.10", "from", ECS, "iif", "vpc", *flow)
    assert route, route.output
    return route.output.split(" dev ")[1].split()[0]
