"""One trial of a VBR's fail-over: data centres with two circuits each, one of them cut inside its bridging device, the outage measured.

Traffic is a pulse (``harness.traffic.pulse``) in each direction, of ports that both ends send by the circuit that will be cut; the outage
of a cut is the longer of its two directions'. Used by a lab, for a chart with a few cuts, and by ``./run bench vbr-failover`` for the
distribution. What decides is the timers alone: :data:`VARIANTS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from harness.cloud.resources import Timers
from harness.lab import Lab
from harness.net import rtnl
from harness.traffic.pulse import Outage, Pulse, pulse

ECS = "172.16.0.10"
_INTERVAL = 0.005
_TO_PORT = 9000


@dataclass(frozen=True, slots=True)
class Variant:
    """Timers, whether BFD runs, and the least and most seconds that they lead to without the time to react."""

    timers: Timers
    bfd: bool
    expected: tuple[float, float]


#: The hold timer runs from the last KEEPALIVE, which is at most a third of it old; BFD's detection time from the last packet.
VARIANTS: Mapping[str, Variant] = {
    "hold time 3 s, no BFD": Variant(Timers(hold_time=3), False, (2.0, 3.0)),
    "BFD 3 x 300 ms": Variant(Timers(bfd_interval_ms=300), True, (0.6, 0.9)),
    "BFD 3 x 50 ms": Variant(Timers(bfd_interval_ms=50), True, (0.1, 0.15)),
}


class Disturbed(RuntimeError):
    """Something else than the cut ended a session: the machine stalled for longer than BFD waits. The trial says nothing."""


def gateways(lab: Lab, node: str, prefix: str) -> set[str]:
    """By which gateways a node's kernel reaches a prefix."""
    return {hop.gateway for hop in lab[node].kernel_hops() if hop.prefix == prefix}


def uses(lab: Lab, centre: int, circuits: set[int]) -> bool:
    """Do VBR and data centre reach each other by exactly these circuits?"""
    there, back = {f"10.1.{n}.2" for n in circuits}, {f"10.1.{n}.1" for n in circuits}
    return (
        gateways(lab, "vbr", f"192.168.{centre}.0/24") == there
        and gateways(lab, f"dc{centre}", "172.16.0.0/16") == back
    )


async def trial(lab: Lab, centres: int, *, bfd: bool, beats: int = 10, within: float = 30.0) -> list[float]:
    """Cuts the first circuit of every data centre at once; the outage of each in seconds. Raises Disturbed, NotInTime.

    ``beats`` of the pulse (5 ms each) pass before the cut: a chosen number of them puts it anywhere between two packets of a timer.
    """
    everyone = range(1, centres + 1)
    await lab.until(
        lambda: all(uses(lab, n, {2 * n - 1, 2 * n}) for n in everyone) and (not bfd or _bfd_up(lab, 4 * centres)),
        within=within,
        what="both circuits of every data centre in use",
    )
    async with contextlib.AsyncExitStack() as stack:
        pulses = [await _both_ways(lab, stack, n) for n in everyone]
        await asyncio.gather(*(each.beats(beats) for pair in pulses for each in pair))
        cut = lab.stream.add("lab", "lab", "cut", {"circuits": [2 * n - 1 for n in everyone]}).time
        for n in everyone:
            bridge = lab[f"circuit-{2 * n - 1}-bridge"]
            bridge.rtnl.transact([rtnl.link_set(bridge.rtnl.link("br0").ifindex, up=False)])
        await lab.until(
            lambda: all(uses(lab, n, {2 * n}) for n in everyone), within=within, since=cut, what="the others stand in"
        )
        await asyncio.gather(*(each.beats(10) for pair in pulses for each in pair))
        _undisturbed(lab, centres, cut)
        return [max(_longest(each.outages(cut - 0.1)) for each in pair) for pair in pulses]


def _bfd_up(lab: Lab, ends: int) -> bool:
    states = {(e.node, e.data["peer"]): e.data["new"] for e in lab.stream.of(source="bgp", kind="bfd")}
    return list(states.values()).count("Up") == ends


def _undisturbed(lab: Lab, centres: int, cut: float) -> None:
    # A circuit has its number as its name at the data centre, and in its address at the VBR.
    lost = {name for n in range(1, 2 * centres, 2) for name in (f"circuit-{n}", f"10.1.{n}.2")}
    for event in lab.transitions():
        if event.data["old"] == "Established" and (event.data["peer"] not in lost or event.time < cut):
            raise Disturbed(event.text(cut))


def _longest(outages: list[Outage]) -> float:
    return max((outage.seconds for outage in outages), default=0.0)


async def _both_ways(lab: Lab, stack: contextlib.AsyncExitStack, centre: int) -> tuple[Pulse, Pulse]:
    """Pulses from and to a data centre that its first circuit carries."""
    client, first = f"192.168.{centre}.10", 2 * centre - 1
    ways = (
        ("ecs", ECS, f"dc{centre}-client0", client, "vbr", "vpc", f"circuit{first}"),
        (f"dc{centre}-client0", client, "ecs", ECS, f"dc{centre}", "block0", "circuit1"),
    )
    made = []
    for number, (sender, source, receiver, destination, router, entry, wanted) in enumerate(ways):
        to = _TO_PORT + 10 * centre + number
        port = await _port_by(lab, router, entry, source, destination, to, wanted)
        beating = pulse(
            lab[sender].namespace.fd,
            source,
            lab[receiver].namespace.fd,
            destination,
            ports=(port, to),
            interval=_INTERVAL,
        )
        made.append(await stack.enter_async_context(beating))
    return made[0], made[1]


async def _port_by(lab: Lab, router: str, entry: str, source: str, destination: str, to: int, wanted: str) -> int:
    """A source port whose flow the router's kernel sends by the interface wanted."""
    # Each flow has a range of its own: two may leave from one address.
    first = 100 * (to - _TO_PORT) + 20000
    for port in itertools.count(first):
        # By number: a bare Debian has no /etc/protocols.
        flow = ("ipproto", str(int(socket.IPPROTO_UDP)), "sport", str(port), "dport", str(to))
        found = await lab[router].run("ip", "route", "get", destination, "from", source, "iif", entry, *flow)
        if f" dev {wanted} " in found.output:
            return port
        if not found or port > first + 90:
            raise LookupError(f"{router} sends nothing by {wanted}: {found.output.strip()}")
    raise AssertionError("never reached")
