"""Every change that the console offers while a VBR runs: what goes over the wire, and what does not flap.

Source: "Configure and manage BGP", "Manage BGP" (VBR-24, VBR-27). Three data centres: the first one's group and peer are changed, the
second one is in another group and must not notice, the third one's circuit is there for a peer that moves. The packets are from a
capture on the VBR's ends of the circuits; KEEPALIVEs, which flow anyway, are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from harness.capture.bgp_segments import segments
from harness.cloud.findings import Refused
from harness.cloud.vbr import BgpGroup, BgpPeer, VbrEstate
from harness.cloud.vbr_changes import (
    add_network,
    create_group,
    create_peer,
    delete_group,
    delete_network,
    delete_peer,
    modify_group,
    modify_peer,
)
from harness.instruments import Capture, capture
from harness.lab import Lab
from harness.session import Labs
from labs.vbr_acts import flaps
from reports.model import Grid
from topologies import vbr

ASNS = (65011, 65012, 65013)
GROUP, PEER, THIRD = vbr.group_name(ASNS[0]), vbr.peer_ip(1), vbr.peer_ip(3)
SECOND = {vbr.peer_ip(2), "circuit-2"}
Change = Callable[[VbrEstate], VbrEstate]


@dataclass(slots=True)
class Watched:
    """A running lab that follows its estate, and what each change put on the wire."""

    lab: Lab
    recording: Capture
    estate: VbrEstate
    rows: list[tuple[str, ...]] = field(default_factory=list)
    at: float = 0.0

    async def change(self, what: str, act: Change, *done: dict[str, Any]) -> dict[str, list[str]]:
        """Carries out a change, waits for the events that belong to it, and returns the messages by circuit, as "→ UPDATE"."""
        before, self.estate = self.estate, act(self.estate)
        # A data centre that is no peer, and dials in vain, has no part in it.
        peers = {peer.ip for each in (before, self.estate) for peer in each.vbrs[0].peers}
        # What is on its way still belongs to the change before.
        await self.recording.sync()
        self.at = await self.lab.apply(vbr.plan_of(self.estate))
        for wanted in done:
            await self.lab.event(since=self.at, within=20, **wanted)
        # An answer over each line that stands: whatever the change sent there has arrived before it.
        assert await self.lab["dc2"].ping("10.1.2.1")
        await self.recording.sync()
        ahead = time.time() - time.monotonic()
        said: dict[str, list[str]] = {}
        for segment in sorted(segments(self.recording.packets()), key=lambda each: each.time):
            words = [sign for sign in segment.signs if sign != "KEEPALIVE"]
            if words and peers & {segment.source, segment.destination} and segment.time >= self.at + ahead - 0.001:
                arrow = "→" if segment.outgoing else "←"
                line = segment.interface.rpartition(":")[2]
                said.setdefault(line, []).append(f"{arrow} {', '.join(words)}")
        gone = sorted({event.data["peer"] for event in flaps(self.lab, self.at)} - SECOND)
        wire = "; ".join(f"{line}: {' '.join(words[:6])}" for line, words in said.items())
        self.rows.append((what, wire or "nothing", ", ".join(gone) or "none"))
        assert not {event.data["peer"] for event in flaps(self.lab, self.at)} & SECOND, what
        return said

    def flapped(self) -> set[str]:
        return {event.data["peer"] for event in flaps(self.lab, self.at)}


def up(peer: str) -> dict[str, Any]:
    return {"node": "vbr", "kind": "peer.up", "peer": peer}


def quiet_changes() -> dict[str, Change]:
    """Changes of which a data centre sees nothing."""
    return {
        "group: description": lambda e: modify_group(e, "vbr", GROUP, description="the first line"),
        "group: name": lambda e: modify_group(e, "vbr", GROUP, name="renamed"),
        "group: name back": lambda e: modify_group(e, "vbr", "renamed", name=GROUP),
        "group: route quota": lambda e: modify_group(e, "vbr", GROUP, route_quota=50),
        "group: another one created": lambda e: create_group(e, "vbr", BgpGroup("spare", ASNS[0], route_quota=20)),
        "peer: moved to a group of the same data centre": lambda e: modify_peer(e, "vbr", PEER, group="spare"),
        "peer: and back": lambda e: modify_peer(e, "vbr", PEER, group=GROUP),
        "group: an empty one deleted": lambda e: delete_group(e, "vbr", "spare"),
        "peer: BFD on, hop count 1": lambda e: modify_peer(e, "vbr", PEER, bfd=True, bfd_hop_count=1),
        "peer: BFD hop count 255": lambda e: modify_peer(e, "vbr", PEER, bfd_hop_count=255),
        "peer: BFD off": lambda e: modify_peer(e, "vbr", PEER, bfd=False, bfd_hop_count=None),
    }


def keys(key: str) -> Change:
    """Another key in the group and at its data centre."""

    def act(estate: VbrEstate) -> VbrEstate:
        first, *others = estate.data_centres
        changed = modify_group(estate, "vbr", GROUP, key=key)
        return replace(changed, data_centres=(replace(first, key=key), *others))

    return act


@pytest.mark.spec("VBR-24", "VBR-27", "VBR-25", "BGP-8")
async def test_changes_and_what_they_put_on_the_wire(labs: Labs) -> None:
    """Each change sends what it must and nothing else; only the sessions that it names end, with the Cease that says why."""
    before = vbr.estate(peers=2, circuits=3, asns=ASNS, networks=("172.16.0.0/24",), timers=vbr.QUICK)
    taps = {"vbr": [f"circuit{number}" for number in (1, 2, 3)]}
    async with (
        labs.running(vbr.plan_of(before)) as lab,
        capture(lab, taps, matches=((6, 179),), name="changes", blocks=8) as recording,
    ):
        for number in (1, 2):
            await lab.event(node="vbr", kind="peer.up", peer=vbr.peer_ip(number), within=10)
            await lab[f"dc{number}"].learned("172.16.0.0/24", within=10)
            await lab["vbr"].learned(f"192.168.{number}.0/24", within=10)
        watched = Watched(lab, recording, before)

        for what, act in quiet_changes().items():
            assert await watched.change(what, act) == {}, what
            assert watched.flapped() == set(), what

        added = await watched.change(
            "network: added", lambda e: add_network(e, "vbr", "172.16.1.0/24"), {"node": "dc2", "kind": "rib"}
        )
        assert {line: set(said) for line, said in added.items()} == {"circuit1": {"→ UPDATE"}, "circuit2": {"→ UPDATE"}}
        gone = await watched.change(
            "network: deleted", lambda e: delete_network(e, "vbr", "172.16.1.0/24"), {"node": "dc2", "kind": "rib"}
        )
        assert set(gone) == {"circuit1", "circuit2"}
        assert {word for said in gone.values() for word in said} == {"→ UPDATE (withdraws)"}

        reset = await watched.change(
            "group: peer ASN",
            lambda e: modify_group(e, "vbr", GROUP, peer_asn=65099),
            {"node": "dc1", "kind": "notification", "direction": "received", "code": 6},
        )
        assert reset["circuit1"][0].startswith("→ NOTIFICATION 6/6")
        assert watched.flapped() == {PEER, "circuit-1"}
        await watched.change(
            "group: peer ASN back", lambda e: modify_group(e, "vbr", GROUP, peer_asn=ASNS[0]), up(PEER)
        )

        # A key is put onto the live connection: what the two ends have in flight meanwhile is sent again by TCP.
        await watched.change("group and data centre: key", keys("ein-neuer"))
        await watched.change("group and data centre: key again", keys("ein-dritter"))
        assert watched.flapped() == set()

        deleted = await watched.change(
            "peer: deleted",
            lambda e: delete_peer(e, "vbr", PEER),
            {"node": "dc1", "kind": "notification", "direction": "received", "code": 6, "subcode": 3},
        )
        assert deleted["circuit1"][0].startswith("→ NOTIFICATION 6/3")
        assert watched.flapped() == {PEER, "circuit-1"}
        created = await watched.change("peer: created", lambda e: create_peer(e, "vbr", BgpPeer(GROUP, PEER)), up(PEER))
        assert set(created) == {"circuit1"}
        with pytest.raises(Refused, match="still has BGP peers"):
            delete_group(watched.estate, "vbr", GROUP)

        moved = await watched.change(
            "peer: IP of another data centre's line",
            lambda e: modify_peer(create_group(e, "vbr", BgpGroup("third", ASNS[2])), "vbr", PEER, ip=THIRD, group="third"),
            {"node": "dc1", "kind": "notification", "direction": "received", "code": 6, "subcode": 3},
            up(THIRD),
        )  # fmt: skip
        assert moved["circuit1"][0].startswith("→ NOTIFICATION 6/3")
        assert "→ OPEN" in " ".join(moved["circuit3"])

        columns = ("Change", "Over the wire", "Sessions that ended")
        note = "→ from the VBR, ← from the data centre; the second data centre's session stands throughout."
        lab.record(Grid("Run-time changes of a VBR and what they put on the wire", columns, tuple(watched.rows), note))
        lab.attach(recording.path, "Packets of the run-time changes", "pcapng")
