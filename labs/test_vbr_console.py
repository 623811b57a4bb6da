"""The console of a running VBR, in Python: step by step from nothing to two data centres, changes, refusals, the seven statuses.

Source: "Configure and manage BGP", steps 1 to 3 and "Manage BGP". The VBRs are a user's own documents; what the console does to them is
asserted from events and on the running speakers.
"""

from __future__ import annotations

import signal

import pytest

from harness.cloud.document import read
from harness.cloud.document_kinds import KINDS
from harness.cloud.findings import Refused, Severity
from harness.cloud.status import PeerStatus
from harness.cloud.vbr import VbrEstate
from harness.cloud_console import Peer, VbrConsole
from harness.lab import Lab
from harness.plan import Plan
from harness.session import Labs
from harness.tables import Hop
from harness.up_document import settled
from labs.document import vbr as document
from labs.vbr_acts import flaps

#: A VBR before BGP is configured: two circuits whose data centres are ready, and an ECR that is not associated yet.
BARE = """
vbr:
  ecr: {asn: 64600, associated: false}
  circuits:
    - {name: circuit-1}
    - {name: circuit-2}
  data_centres:
    - {name: dc1, asn: 65011, neighbor_asn: 64600, key: s3cret, bfd: {hop_count: 1}}
    - {name: dc2, asn: 4200000012, neighbor_asn: 64600}
"""

DUAL_STACK = """
vbr:
  ipv6: true
  ecr: {asn: 64600}
  groups:
    - {name: four, peer_asn: 65011, key: four}
    - {name: six, peer_asn: 65011, protocol: IPv6, key: "another, for IPv6"}
  peers:
    - {group: four, ip: 10.1.1.2}
    - {group: six, ip: "fd00:1::2", bfd: {hop_count: 1}}
  networks: [172.16.0.0/16, "fd00:172:16::/56"]
  data_centres:
    - {name: dc1, blocks: [192.168.1.0/24, "fd00:192:168:1::/64"]}
"""

ECS, ECS_IPV6 = "172.16.0.10", "fd00:172:16::10"


def understood(text: str) -> tuple[Plan, VbrEstate]:
    found = read(text, KINDS)
    assert found.errors == ()
    return found.plan(), found.estate


async def statuses(console: VbrConsole) -> dict[str, PeerStatus]:
    rows = await console.status()
    assert all(row.status in document.STATUSES for row in rows)
    return {row.peer: row.status for row in rows}


@pytest.mark.spec(
    "VBR-6", "VBR-8", "VBR-12", "VBR-21", "VBR-24", "VBR-25", "VBR-27", "VBR-28", "VBR-31", "VBR-34", "VBR-14"
)
async def test_the_documents_steps_on_a_running_lab(labs: Labs) -> None:
    """ECR, groups, peers, network; a change in place; a refusal of each sort; then everything is taken away again."""
    plan, estate = understood(BARE)
    async with labs.running(plan, title="a VBR configured by its console") as lab:
        vbr = VbrConsole(lab, estate)
        assert vbr.information()["Express Connect Router"] == "none"
        await vbr.associate_ecr("ecr")
        assert vbr.information()["Express Connect Router"] == "ecr"

        with pytest.raises(Refused, match=r"'idc' does not exist on VBR vbr \(VBR-25\)"):
            await vbr.peers.create(group="idc", ip="10.1.1.2")
        await vbr.groups.create("idc", 65011, key="s3cret")
        await vbr.groups.create("other", 4200000012)
        assert [found.spec for found in vbr.warnings()] == [], "an ECR with an ASN of its own: no hazard"
        first = await vbr.peers.create(group="idc", ip="10.1.1.2", bfd=True, bfd_hop_count=1)
        await first.established(within=10.0)
        second = await vbr.peers.create(group="other", ip="10.1.2.2")
        await second.established(within=10.0)
        assert await statuses(vbr) == dict.fromkeys(("10.1.1.2", "10.1.2.2"), PeerStatus.ESTABLISHED)
        assert flapped(lab, first.since) == []

        await vbr.networks.add("172.16.0.0/16")
        announced = Hop("172.16.0.0/16", "10.1.1.1", "circuit1")
        await lab.until(lambda: lab["dc1"].kernel_hops() == [announced], within=5.0, what="dc1 has the VPC's block")
        assert await lab["dc1-client0"].reaches(ECS)

        await refusals(vbr)
        assert flapped(lab, first.since) == []

        asked = vbr.moment
        await vbr.groups.modify("other", description="second line", route_quota=50)
        assert flapped(lab, asked) == [], "neither a description nor a quota resets a session"
        row = await second.row()
        offered = await lab["vbr"].speaker.call("show.routes", table="in", peer="10.1.2.2")
        assert (row.quota, row.routes, row.local_asn) == (50, len(offered), 64600)
        # Some speakers send back what they were told (FRR does); that is the VBR's own AS path and refused.
        used = [route["prefix"] for route in offered if not any(path.get("rejected") for path in route["paths"])]
        assert used == ["192.168.2.0/24"]

        taken = vbr.lab.plan["vpc"].speaker
        assert taken is not None
        await vbr.groups.create("with the VPC's ASN", taken.asn)
        await lab.event(within=10.0, since=vbr.moment, node="vpc", kind="fsm", peer="vbr", new="Established")
        assert flapped(lab, asked) == [], "the VPC takes another ASN; no data centre notices"
        await vbr.groups.delete("with the VPC's ASN")
        await lab.event(within=10.0, since=vbr.moment, node="vpc", kind="fsm", peer="vbr", new="Established")

        await vbr.peers.delete("10.1.2.2")
        heard = await lab.event(within=5.0, since=vbr.moment, node="dc2", kind="notification", direction="received")
        assert (heard.data["code"], heard.data["subcode"]) == (6, 3)
        await vbr.groups.delete("other")
        assert flapped(lab, asked) in ([], ["circuit-2"])
        assert await statuses(vbr) == {"10.1.1.2": PeerStatus.ESTABLISHED}


def flapped(lab: Lab, since: float) -> list[str]:
    """The neighbours that the data centres lost."""
    return [event.data["peer"] for event in flaps(lab, since) if event.node.startswith("dc")]


async def refusals(vbr: VbrConsole) -> None:
    """Each names object, rule, ID and remedy, and changes nothing."""
    before = vbr.estate
    for refused, spec in (
        (vbr.peers.create(group="idc", ip="10.1.9.2"), "VBR-1"),
        (vbr.peers.create(group="idc", ip="fd00::2"), "VBR-31"),
        (vbr.peers.modify("10.1.1.2", bfd_hop_count=256), "VBR-12"),
        (vbr.peers.modify("10.1.9.2", bfd=False), "VBR-24"),
        (vbr.groups.create("idc", 65012), "VBR-25"),
        (vbr.groups.create("six", 65012, protocol="IPv6"), "VBR-8"),
        (vbr.groups.create("seven", 65012, protocol="IPX"), "VBR-8"),
        (vbr.groups.create("none", 0), "VBR-4"),
        (vbr.groups.create("own", 65012, local_asn=64700), "VBR-26"),
        (vbr.groups.modify("idc", local_asn=64700), "VBR-27"),
        (vbr.groups.modify("idc", route_quota=111), "VBR-32"),
        (vbr.groups.delete("idc"), "VBR-24"),
        (vbr.networks.add("10.0.0.0/8"), "VBR-42"),
        (vbr.networks.add("172.16.0.1/16"), "VBR-21"),
        (vbr.networks.delete("172.16.1.0/24"), "VBR-24"),
        (vbr.associate_ecr("ecr"), "VBR-6"),
    ):
        with pytest.raises(Refused) as said:
            await refused
        assert spec in {finding.spec for finding in said.value.findings}, said.value
        for finding in said.value.findings:
            assert finding.object and finding.rule and finding.remedy
            assert finding.severity is Severity.ERROR
    assert vbr.estate is before


@pytest.mark.spec("VBR-36", "VBR-14")
async def test_peers_of_a_killed_speaker_are_unestablished(labs: Labs) -> None:
    """Killed: Unestablished, and a change is kept for the next start. Stopped: no answer, so Unestablished too, never Established."""
    plan, estate = understood(BARE)
    async with labs.running(plan) as lab:
        vbr = VbrConsole(lab, estate, answer_within=0.3)
        await vbr.associate_ecr("ecr")
        await vbr.groups.create("idc", 65011, key="s3cret")
        peer = await vbr.peers.create(group="idc", ip="10.1.1.2")
        await peer.established(within=10.0)

        lab["vbr"].kill(lab["vbr"].speaker.pid, signal.SIGSTOP)
        assert await peer.status() is PeerStatus.UNESTABLISHED
        lab["vbr"].kill(lab["vbr"].speaker.pid, signal.SIGCONT)
        await lab.until(lambda: established(peer), within=10.0, what="the speaker answers again")

        await lab["vbr"].speaker.kill()
        assert await peer.status() is PeerStatus.UNESTABLISHED
        assert "does not run" in (await peer.row()).reason
        assert lab.peer_statuses()["vbr", "10.1.1.2"] is PeerStatus.UNESTABLISHED
        assert lab.peer_statuses()["dc1", "circuit-1"] is not PeerStatus.UNESTABLISHED, "the data centre's speaker runs"
        await vbr.networks.add("172.16.0.0/24")

        await lab["vbr"].speaker.restart(lab.zygote)
        await vbr.peers["10.1.1.2"].established(within=15.0)
        await lab["dc1"].learned("172.16.0.0/24", within=10.0)


async def established(peer: Peer) -> bool:
    return await peer.status() is PeerStatus.ESTABLISHED


@pytest.mark.spec("VBR-8", "VBR-31", "VBR-21")
async def test_both_families_over_one_circuit(labs: Labs) -> None:
    """An IPv4 and an IPv6 group, each with its key: two sessions over one circuit, both blocks learned and announced, pings in both."""
    plan, estate = understood(DUAL_STACK)
    async with labs.running(plan, title="vbr, dual stack") as lab:
        assert await settled(lab, within=10.0) == []
        vbr = VbrConsole(lab, estate)
        assert await statuses(vbr) == dict.fromkeys(("10.1.1.2", "fd00:1::2"), PeerStatus.ESTABLISHED)
        announced = {Hop("172.16.0.0/16", "10.1.1.1", "circuit1"), Hop("fd00:172:16::/56", "fd00:1::1", "circuit1")}
        await lab.until(lambda: set(lab["dc1"].kernel_hops()) == announced, within=5.0, what="dc1 has both blocks")
        learned = {"192.168.1.0/24", "fd00:192:168:1::/64"}
        await lab.until(lambda: {hop.prefix for hop in lab["vpc"].kernel_hops()} == learned, within=5.0)
        assert await lab["dc1-client0"].reaches(ECS)
        assert await lab["dc1-client1"].reaches(ECS_IPV6)

        with pytest.raises(Refused, match=r"its address is IPv4, its group six is IPv6 \(VBR-31\)"):
            await vbr.peers.modify("10.1.1.2", group="six")
        at = vbr.moment
        await vbr.networks.delete("fd00:172:16::/56")
        await lab.until(lambda: len(lab["dc1"].kernel_hops()) == 1, within=5.0, what="the IPv6 block is withdrawn")
        assert list(flaps(lab, at)) == []


@pytest.mark.spec("VBR-7", "VBR-29", "VBR-6")
async def test_without_mp_bgp_there_is_no_ecr(labs: Labs) -> None:
    """BGP itself runs with the default ASN; the association is refused and points to the details page, in a file and at run time."""
    text = BARE.replace("vbr:\n", "vbr:\n  mp_bgp: false\n", 1).replace("neighbor_asn: 64600", "neighbor_asn: 45104")
    (finding,) = read(text.replace(", associated: false", ""), KINDS).errors
    assert (finding.spec, "Advanced features of the port" in finding.remedy) == ("VBR-7", True)
    plan, estate = understood(text)
    async with labs.running(plan) as lab:
        vbr = VbrConsole(lab, estate)
        assert vbr.information()["Advanced features of the port"] == "MP-BGP not supported"
        with pytest.raises(Refused, match=r"does not support MP-BGP \(VBR-7\)"):
            await vbr.associate_ecr("ecr")
        await vbr.groups.create("idc", 65011, key="s3cret")
        await (await vbr.peers.create(group="idc", ip="10.1.1.2")).established(within=10.0)
        with pytest.raises(Refused, match="BGP groups already"):
            await vbr.associate_ecr("ecr")
