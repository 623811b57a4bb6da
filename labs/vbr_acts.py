"""Acts and looks that several labs of the virtual border router share. Not a lab; nothing here asserts more than that it was reached."""

from __future__ import annotations

from collections.abc import Iterator

from harness.lab import Lab
from harness.net import rtnl
from harness.stream import LabEvent
from topologies import vbr


def cut_unseen(lab: Lab, circuit: str, *, whole: bool) -> float:
    """Cuts (or makes ``whole`` again) a circuit inside its bridging device: no end sees its carrier go. Returns when."""
    bridge = lab[f"{circuit}-bridge"]
    at = lab.stream.add(bridge.name, "lab", "line", {"circuit": circuit, "whole": whole}).time
    bridge.rtnl.transact([rtnl.link_set(bridge.rtnl.link("br0").ifindex, up=whole)])
    return at


def bfd_states(lab: Lab) -> dict[tuple[str, str], str]:
    """The present state of every BFD session that has told one, by (node, neighbour's name)."""
    return {(e.node, e.data["peer"]): e.data["new"] for e in lab.stream.of(source="bgp", kind="bfd")}


async def bfd_up(lab: Lab, sessions: int, *, within: float, since: float | None = None) -> None:
    """Returns once that many BFD sessions are Up at both ends."""
    await lab.until(
        lambda: list(bfd_states(lab).values()).count("Up") == 2 * sessions,
        within=within,
        since=since,
        what=f"{sessions} BFD sessions Up at both ends",
    )


def flaps(lab: Lab, since: float) -> Iterator[LabEvent]:
    """The transitions out of Established."""
    return (event for event in lab.transitions(since=since) if event.data["old"] == "Established")


async def peer_up(lab: Lab, number: int, *, within: float, since: float = 0.0) -> LabEvent:
    """The moment that a data centre's session was up at the VBR."""
    return await lab.event(node="vbr", kind="peer.up", peer=vbr.peer_ip(number), within=within, since=since)
