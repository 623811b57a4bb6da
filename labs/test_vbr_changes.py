"""A VBR is changed while it runs: peers and advertised networks come and go, and nothing else moves.

Source: "Configure and manage BGP", "Manage BGP". A change is an act of ``harness.cloud.vbr_changes``; ``lab.apply`` carries out the
difference of the two plans.
"""

from __future__ import annotations

import pytest

from harness.cloud.findings import Refused
from harness.cloud.vbr import BgpPeer
from harness.cloud.vbr_changes import add_network, create_peer, delete_group, delete_network, delete_peer
from harness.lab import Lab
from labs.conftest import Broken
from labs.test_vbr_peers import ECS, learned_by_data_centre, tables_are, up
from topologies import vbr

IDC_2 = vbr.group_name(vbr.ASNS[1])


def sessions_lost(lab: Lab, since: float) -> list[tuple[str, str]]:
    """Which sessions left Established, by the speakers' own events."""
    return [(e.node, e.data["peer"]) for e in lab.transitions(since=since) if e.data["old"] == "Established"]


@pytest.mark.spec("VBR-21", "VBR-24")
async def test_network_is_added_and_deleted(fresh_vbr: Broken) -> None:
    """Without a network a data centre has no way to the VPC; added it has, deleted it is withdrawn; no session moves."""
    before = vbr.estate(peers=2, networks=())
    async with fresh_vbr(peers=2, networks=()) as lab:
        await tables_are(lab, 2)
        for number in (1, 2):
            await learned_by_data_centre(lab, number, set())
        assert not await lab["dc1-client0"].ping(ECS, within=0.3)

        after = add_network(before, "vbr", "172.16.0.0/24")
        added = await lab.apply(vbr.plan_of(after))
        for number in (1, 2):
            await learned_by_data_centre(lab, number, {"172.16.0.0/24"})
        assert await lab["dc1-client0"].reaches(ECS)

        await lab.apply(vbr.plan_of(delete_network(after, "vbr", "172.16.0.0/24")))
        for number in (1, 2):
            await learned_by_data_centre(lab, number, set())
        assert not await lab["dc2-client0"].ping(ECS, within=0.3)
        assert sessions_lost(lab, added) == []
        await tables_are(lab, 2)


@pytest.mark.spec("VBR-24", "VBR-25")
async def test_peer_is_created_and_deleted(fresh_vbr: Broken) -> None:
    """A second peer comes up beside the first; deleted it gets Cease/3 and its routes go; the first never moves."""
    before = vbr.estate(peers=1, circuits=2)
    async with fresh_vbr(peers=1, circuits=2, established=False) as lab:
        await lab.until(lambda: ("vbr", vbr.peer_ip(1)) in up(lab), within=10.0, what="the first peer Established")
        await tables_are(lab, 1)

        with_second = create_peer(before, "vbr", BgpPeer(IDC_2, vbr.peer_ip(2)))
        created = await lab.apply(vbr.plan_of(with_second))
        await lab.established(within=10.0, since=created)
        await tables_are(lab, 2, since=created)
        await learned_by_data_centre(lab, 2, {"172.16.0.0/16"})
        assert await lab["dc2-client0"].reaches(ECS)

        deleted = await lab.apply(vbr.plan_of(delete_peer(with_second, "vbr", vbr.peer_ip(2))))
        heard = await lab.event(
            within=2.0, since=deleted, node="dc2", kind="notification", direction="received", peer="circuit-2"
        )
        assert (heard.data["code"], heard.data["subcode"]) == (6, 3)
        await tables_are(lab, 1, since=deleted)
        await learned_by_data_centre(lab, 2, set())
        assert {peer for _, peer in sessions_lost(lab, created)} <= {"circuit-2", vbr.peer_ip(2)}
        assert await lab["dc1-client0"].reaches(ECS)


@pytest.mark.spec("VBR-24")
async def test_group_with_peers_is_not_deleted(fresh_vbr: Broken) -> None:
    """The refusal names the peers, and nothing happens to them."""
    async with fresh_vbr(peers=2, asns=(65011, 65011)) as lab:
        asked = lab.stream.add("vbr", "lab", "group asked to go").time
        with pytest.raises(Refused, match=r"still has BGP peers \(10\.1\.1\.2, 10\.1\.2\.2\)"):
            delete_group(vbr.estate(peers=2, asns=(65011, 65011)), "vbr", vbr.group_name(65011))
        await tables_are(lab, 2)
        assert sessions_lost(lab, asked) == []


@pytest.mark.spec("VBR-24", "CARD-4")
async def test_speaker_that_starts_again_has_what_was_changed(fresh_vbr: Broken) -> None:
    """A peer is created, the VBR's speaker killed and started: it comes back with both peers, not with what the lab began with."""
    before = vbr.estate(peers=1, circuits=2)
    async with fresh_vbr(peers=1, circuits=2, established=False) as lab:
        created = await lab.apply(vbr.plan_of(create_peer(before, "vbr", BgpPeer(IDC_2, vbr.peer_ip(2)))))
        await lab.established(within=10.0, since=created)
        await lab["vbr"].speaker.kill()
        again = lab.stream.add("vbr", "lab", "start").time
        await lab["vbr"].speaker.restart(lab.zygote)
        await lab.established(within=10.0, since=again)
        await tables_are(lab, 2, since=again)
