"""A virtual border router with 1, 2 and 8 data centres, the ninth, and the ASNs of both sides.

Source: "Configure and manage BGP", limits and steps 1 to 3. The addresses are this project's; see ``topologies/vbr.py``.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from harness.cloud.findings import Refused, Severity
from harness.cloud.vbr import Account, BgpGroup, BgpPeer
from harness.cloud.vbr_changes import associate_ecr, create_group, create_peer
from harness.daemons.features import Feature
from harness.lab import Lab
from harness.session import Labs
from harness.tables import Hop, RouteTable
from labs.conftest import Broken
from labs.document import vbr as document
from topologies import vbr

ECS = "172.16.0.10"


def with_peers(table: RouteTable, peers: int) -> RouteTable:
    """A table of eight data centres, less those that the lab does not have."""
    return table.without(prefixes=[f"192.168.{number}.0/24" for number in range(peers + 1, document.MOST_PEERS + 1)])


def numbers(lab: Lab) -> range:
    return range(1, sum(name.startswith("circuit-") for name in (link.name for link in lab.plan.links)) + 1)


async def tables_are(lab: Lab, peers: int, *, since: float | None = None) -> None:
    """The tables of VBR and VPC are the document's for that many peers."""
    for node, table in document.TABLES.items():
        expected = with_peers(table, peers)
        assert await lab[node].route_table(like=expected, within=3.0, since=since) == expected


async def learned_by_data_centre(lab: Lab, number: int, prefixes: set[str]) -> None:
    """The data centre's kernel has these prefixes by its circuit, and no other by BGP."""
    expected = {Hop(prefix, f"10.1.{number}.1", "circuit1") for prefix in prefixes}
    centre = lab[f"dc{number}"]
    await lab.until(
        lambda: set(centre.kernel_hops()) == expected, within=3.0, what=f"{centre.name} has {prefixes} by its circuit"
    )


def states(lab: Lab, node: str, peer: str, since: float = 0.0) -> list[str]:
    """The states of a session in their order, from the speaker's events; a state that follows itself stands once."""
    found: list[str] = []
    for event in lab.transitions(node=node, peer=peer, since=since):
        found += [state for state in (event.data["old"], event.data["new"]) if found[-1:] != [state]]
    return found


@pytest.mark.spec("VBR-1", "VBR-3", "VBR-14", "VBR-21", "CARD-2", "CARD-5")
@pytest.mark.parametrize("peers", [1, 2, 8])
async def test_data_centres_and_vpc_reach_each_other(fresh_vbr: Broken, peers: int) -> None:
    """Every peer is Established, the VBR learns each block and announces the VPC's, kernels agree, pings pass both ways."""
    async with fresh_vbr(peers=peers, title=f"vbr with {peers} peers") as lab:
        await tables_are(lab, peers)
        for number in numbers(lab):
            await learned_by_data_centre(lab, number, {"172.16.0.0/16"})
        pings = [lab[f"dc{n}-client0"].reaches(ECS) for n in numbers(lab)]
        pings += [lab["ecs"].reaches(f"192.168.{n}.10") for n in numbers(lab)]
        assert all(await asyncio.gather(*pings))
        assert len(numbers(lab)) == peers
        for number in numbers(lab):
            for node, peer in (("vbr", vbr.peer_ip(number)), (f"dc{number}", f"circuit-{number}")):
                walked = states(lab, node, peer)
                assert set(walked) <= set(document.STATUSES)
                assert walked[:2] == ["Idle", "Connect"]
                assert walked[-3:] == ["OpenSent", "OpenConfirm", "Established"]


@pytest.mark.spec("VBR-3")
async def test_ninth_peer_is_refused_and_the_eight_stay(fresh_vbr: Broken) -> None:
    """The refusal names the quota and the eight; the ninth data centre is configured, dials and gets nowhere; no session moves."""
    async with fresh_vbr(peers=8, circuits=9, established=False) as lab:
        lab.needs(Feature.STATES, "dc9")
        eight = {("vbr", vbr.peer_ip(number)) for number in range(1, 9)}
        await lab.until(lambda: eight <= up(lab), within=10.0, what="the eight Established")
        asked = lab.stream.add("vbr", "lab", "ninth peer asked for").time
        with pytest.raises(Refused) as refused:
            create_peer(vbr.estate(peers=8, circuits=9), "vbr", BgpPeer(vbr.group_name(vbr.ASNS[7]), vbr.peer_ip(9)))
        (finding,) = refused.value.findings
        assert (finding.spec, finding.object) == ("VBR-3", "BGP peer 10.1.9.2 of VBR vbr")
        assert f"at most {document.MOST_PEERS}" in finding.rule
        assert all(vbr.peer_ip(number) in finding.rule for number in range(1, 9))

        await lab.event(within=5.0, since=asked, node="dc9", kind="fsm", peer="circuit-9", new="OpenSent")
        assert "Established" not in states(lab, "dc9", "circuit-9")
        assert [event.text() for event in lab.transitions(since=asked) if event.data["old"] == "Established"] == []
        assert eight <= up(lab)
        await tables_are(lab, 8)


def up(lab: Lab) -> set[tuple[str, str]]:
    """The sessions that are Established now."""
    return {session for session, state in lab.session_states().items() if state == "Established"}


@pytest.mark.spec("VBR-4")
@pytest.mark.parametrize("asns", [(65011, 65012), (4200000011, 4294967295), (1, 65536)], ids=str)
async def test_asns_of_two_and_four_bytes(fresh_vbr: Broken, asns: tuple[int, ...]) -> None:
    """Data centres of both kinds: Established, the AS path at the VBR is the data centre's ASN, at the data centre 45104."""
    async with fresh_vbr(peers=2, asns=asns) as lab:
        await tables_are(lab, 2)
        for number, asn in enumerate(asns, 1):
            await learned_by_data_centre(lab, number, {"172.16.0.0/16"})
            assert await as_paths(lab, "vbr", f"192.168.{number}.0/24") == [str(asn)]
            assert await as_paths(lab, f"dc{number}", "172.16.0.0/16") == [str(document.CLOUD_ASN)]


async def as_paths(lab: Lab, node: str, prefix: str) -> list[str]:
    routes = await lab[node].speaker.call("show.routes", table="loc")
    return [path["as_path"] for route in routes if route["prefix"] == prefix for path in route["paths"]]


@pytest.mark.spec("VBR-6", "VBR-28", "VBR-5")
@pytest.mark.parametrize("asn", [64512, 65534, 4200000000, 4294967294])
async def test_associated_vbr_speaks_with_the_ecrs_asn(fresh_vbr: Broken, asn: int) -> None:
    """The ECR first, BGP then: both data centres see the ECR's ASN. The other order is refused, and so is no warning of a loop."""
    assert vbr.findings(peers=2, ecr_asn=asn) == []
    async with fresh_vbr(peers=2, ecr_asn=asn) as lab:
        await tables_are(lab, 2)
        for number in numbers(lab):
            await learned_by_data_centre(lab, number, {"172.16.0.0/16"})
            assert await as_paths(lab, f"dc{number}", "172.16.0.0/16") == [str(asn)]
    late = replace(vbr.estate(peers=2, ecr_asn=asn), ecr_associations=())
    with pytest.raises(Refused, match=r"has BGP groups already .*associate the ECR, then configure BGP"):
        associate_ecr(late, "vbr", "ecr")


@pytest.mark.spec("VBR-5", "VBR-26")
async def test_group_with_a_local_asn_of_its_own(labs: Labs) -> None:
    """A privileged account gives the second group another local ASN: its data centre sees that one, the first still 45104."""
    second = BgpGroup("privileged", 65012, local_asn=64777)
    privileged = vbr.estate(peers=1, circuits=2, asns=(65011, 65012), account=Account(may_set_local_asn=True))
    first, other = privileged.data_centres
    told = replace(privileged, data_centres=(first, replace(other, neighbor_asn=64777)))
    emptied = replace(told, vbrs=(replace(told.vbrs[0], groups=told.vbrs[0].groups[:1]),))
    changed = create_peer(create_group(emptied, "vbr", second), "vbr", BgpPeer("privileged", vbr.peer_ip(2)))
    async with labs.running(vbr.plan_of(changed)) as lab:
        await lab.established(within=10)
        for number, asn in ((1, document.CLOUD_ASN), (2, 64777)):
            await learned_by_data_centre(lab, number, {"172.16.0.0/16"})
            assert (await as_paths(lab, f"dc{number}", "172.16.0.0/16"))[0].split()[0] == str(asn)
        assert await lab["dc2-client0"].reaches(ECS)


@pytest.mark.spec("VBR-21", "VBR-42", "VBR-11", "VBR-30")
async def test_where_cen_joins_vpc_and_vbr_its_routes_are_advertised(fresh_vbr: Broken) -> None:
    """No BGP network is added, the vSwitch's block comes from CEN; the loop warning is there, though one line only is used."""
    (warning,) = vbr.findings(peers=1, cen=True)
    assert (warning.spec, warning.severity) == ("VBR-11", Severity.WARNING)
    assert "transit router" in warning.rule
    async with fresh_vbr(peers=2, cen=True) as lab:
        for number in numbers(lab):
            await learned_by_data_centre(lab, number, {"172.16.0.0/24"})
            await lab["vpc"].learned(f"192.168.{number}.0/24", within=3.0)
        assert await lab["dc1-client0"].reaches(ECS)
        assert await lab["ecs"].reaches("192.168.2.10")
