"""The loop hazard: when the console warns, what happens with the AS path and without it, and which remedies help.

Source: "Configure and manage BGP", step 1, the note on BGP loops (VBR-11, VBR-30); that a VBR cannot pass the AS path to CEN is the word
of the vendor's page on VBRs and CEN. One data centre has a line to each of two VBRs, both attached to one transit router of CEN, which
passes routes from one to the other. The block is behind the data centre, at an edge router that prepends, so that the way round by
the cloud looks shorter once its AS path is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from harness.cloud.findings import Severity
from harness.lab import Lab
from harness.plan import End, Link, Neighbor, Node, Plan, Role, Rule, Speaker
from harness.session import Labs
from harness.stream import LabEvent
from reports.model import Grid
from topologies import vbr

BLOCK, LATER = "192.168.1.0/24", tuple(f"192.168.{number}.0/24" for number in range(2, 10))
EDGE_ASN, CENTRE_ASN, CEN_ASN, DEFAULT_ASN, ECR_ASN = 65100, 65011, 64500, 45104, 64600
CIRCUIT = "45104:2"
#: So many changes of one block without a cause are a flap.
FLAPS = 12

_LOST = Rule("permit", forget_as_path=True)
_MARKED = Rule("permit", add_communities=(CIRCUIT,))


@dataclass(frozen=True, slots=True)
class Case:
    """How the loop is set up, and what a run shows: "stable", "flaps" or "loops" (no flap, but the cloud's way is used)."""

    shows: str
    as_path_kept: bool = False
    asns: tuple[int, int] = (DEFAULT_ASN, DEFAULT_ASN)
    cen_passes_on: bool = True
    centre_refuses_its_own: bool = False


CASES = {
    "AS_PATH kept": Case("stable", as_path_kept=True),
    "AS_PATH lost between VBR and CEN": Case("flaps"),
    "lost; an ECR's ASN on both lines": Case("flaps", asns=(ECR_ASN, ECR_ASN)),
    "lost; an ASN of its own on each line": Case("loops", asns=(DEFAULT_ASN, ECR_ASN)),
    "lost; CEN passes no circuit's routes to another VBR": Case("stable", cen_passes_on=False),
    "lost; the data centre refuses its own block": Case("stable", centre_refuses_its_own=True),
}


def plan(case: Case) -> Plan:
    """edge -- dc == vbr1, vbr2 -- tr."""
    addresses = {
        ("edge", "dc"): ("10.0.0.1", "10.0.0.2"),
        ("dc", "vbr1"): ("10.1.1.2", "10.1.1.1"),
        ("dc", "vbr2"): ("10.1.2.2", "10.1.2.1"),
        ("vbr1", "tr"): ("198.18.0.1", "198.18.0.2"),
        ("vbr2", "tr"): ("198.18.0.5", "198.18.0.6"),
    }
    asns = {"edge": EDGE_ASN, "dc": CENTRE_ASN, "vbr1": case.asns[0], "vbr2": case.asns[1], "tr": CEN_ASN}
    forgotten = () if case.as_path_kept else (_LOST,)
    held_back = () if case.cen_passes_on else (Rule("deny", communities=(CIRCUIT,)),)
    refused = (Rule("deny", prefixes=(BLOCK,)),) if case.centre_refuses_its_own else ()
    imports = {(name, "dc"): (_MARKED,) for name in ("vbr1", "vbr2")} | {
        ("dc", name): refused for name in ("vbr1", "vbr2")
    }
    exports = {(name, "tr"): forgotten for name in ("vbr1", "vbr2")}
    exports |= {("tr", name): (*held_back, *forgotten) for name in ("vbr1", "vbr2")}
    exports["edge", "dc"] = (Rule("permit", prepend=3),)
    nodes = []
    for number, name in enumerate(asns, 1):
        neighbors = []
        for pair, ends in addresses.items():
            if name in pair:
                other = pair[1 - pair.index(name)]
                neighbors.append(
                    Neighbor(
                        other,
                        ends[pair.index(other)],
                        asns[other],
                        local_address=ends[pair.index(name)],
                        import_=imports.get((name, other), ()),
                        export=exports.get((name, other), ()),
                    )
                )
        networks = (BLOCK,) if name == "edge" else ()
        role = Role.VBR if name.startswith("vbr") else Role.TRANSIT_ROUTER if name == "tr" else Role.ROUTER
        speaker = Speaker(asns[name], f"192.0.2.{number}", tuple(neighbors), networks)
        nodes.append(Node(name, role, forwarding=True, speaker=speaker))
    links = [
        Link(End(a, f"to-{b}", (f"{near}/30",)), End(b, f"to-{a}", (f"{far}/30",)))
        for (a, b), (near, far) in addresses.items()
    ]
    return Plan("loop", "Two lines to one data centre, joined by CEN", tuple(nodes), tuple(links))


def moves(lab: Lab, since: float = 0.0) -> list[LabEvent]:
    """The data centre's changes of mind about its block."""
    told = lab.stream.of(node="dc", source="bgp", kind="rib", since=since)
    return [event for event in told if any(row["prefix"] == BLOCK for row in event.data["changed"])]


async def way(lab: Lab) -> str:
    """By which neighbour the data centre reaches its block now."""
    routes = await lab["dc"].speaker.call("show.routes", table="loc")
    return next((path["peer"] for r in routes if r["prefix"] == BLOCK for path in r["paths"] if path["best"]), "none")


async def round_the_cloud(lab: Lab) -> bool:
    return await way(lab) in ("vbr1", "vbr2")


async def refusals(lab: Lab) -> set[str]:
    """Why the second VBR does not use what it hears of the block."""
    routes = await lab["vbr2"].speaker.call("show.routes", table="in")
    return {path["rejected"] for r in routes if r["prefix"] == BLOCK for path in r["paths"] if "rejected" in path}


@pytest.mark.spec("VBR-11", "VBR-30")
async def test_loop_with_and_without_the_as_path(labs: Labs) -> None:
    """Kept, loop detection stops it; lost, the block flaps without end. A remedy counts if the block stays and is reached directly."""
    rows = []
    for name, case in CASES.items():
        async with labs.running(plan(case)) as lab:
            await lab.established(within=10)
            shows, told = await observed(lab, case)
            seen = await way(lab) if shows != "flaps" else "now one, now the other"
            rejected = await refusals(lab) if case.as_path_kept else set()
            rows.append((name, shows, seen, told, ", ".join(sorted(rejected))))
            assert shows == case.shows, rows[-1]
            if case.as_path_kept:
                assert any("AS" in reason for reason in rejected), rejected
    columns = ("Set-up", "The block", "The data centre reaches it by", "Changes of mind", "Refused at the second VBR")
    labs.record.add(Grid("The loop hazard: one data centre, two VBRs, one transit router", columns, tuple(rows)))


async def observed(lab: Lab, case: Case) -> tuple[str, str]:
    """What the block does, and the data centre's changes of mind: a flap does not end, else a later block comes through."""
    if case.shows == "flaps":
        await lab.until(lambda: len(moves(lab)) >= FLAPS, within=30, what=f"{FLAPS} changes of mind about {BLOCK}")
        found = moves(lab)
        return "flaps", f"{len(found)} in {found[-1].time - found[0].time:.2f} s, and on"
    for node in ("vbr1", "vbr2", "tr"):
        await lab[node].learned(BLOCK, within=20)
    if case.shows == "loops":
        # The second VBR had the block directly before it had it by CEN: the data centre hears last of the way round.
        await lab.until(
            lambda: round_the_cloud(lab), within=20, what=f"the data centre uses the cloud's way to {BLOCK}"
        )
    for later in LATER:
        # Another block takes the whole way round after it: what has not come to rest moves meanwhile.
        before = len(moves(lab))
        asked = lab.stream.add("edge", "lab", "another block").time
        await lab["edge"].speaker.call("network.add", prefix=later)
        for node in ("vbr1", "vbr2", "tr"):
            await lab[node].learned(later, within=20, since=asked)
        if len(moves(lab)) == before:
            direct = await way(lab) == "edge"
            return ("stable" if direct else "loops"), str(before)
    return "flaps", str(len(moves(lab)))


#: Arguments of the scenario, and whether the console warns.
WARNED: dict[str, tuple[dict[str, Any], bool]] = {
    "one line on the default ASN": ({"peers": 1}, False),
    "two lines on the default ASN": ({"peers": 2}, True),
    "eight lines on an ECR's ASN": ({"peers": 8, "ecr_asn": ECR_ASN}, False),
    "one line, CEN": ({"peers": 1, "cen": True}, True),
    "one line of two with a peer": ({"peers": 1, "circuits": 2}, True),
}


@pytest.mark.spec("VBR-11", "VBR-30")
@pytest.mark.parametrize("name", WARNED)
def test_warning_if_and_only_if_the_hazard_is_there(name: str) -> None:
    """Each group of a VBR with the hazard is warned of, no group of a safe one."""
    arguments, hazard = WARNED[name]
    found = [finding for finding in vbr.findings(**arguments) if finding.spec == "VBR-11"]
    assert bool(found) is hazard
    assert all(finding.severity is Severity.WARNING for finding in found)
    if hazard:
        assert {finding.object for finding in found} == {
            f"BGP group {group.name} of VBR vbr" for group in vbr.estate(**arguments).vbrs[0].groups
        }
