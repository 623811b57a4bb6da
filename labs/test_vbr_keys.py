"""The BGP key of a group (TCP MD5, RFC 2385): right, wrong, on one side only, and nowhere to be read.

Source: "Configure and manage BGP", step 1. Data centre 1 has the right key throughout and shows that the others' trouble is theirs.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness import bundle
from harness.cloud.resources import Timers
from harness.cloud.vbr import VbrEstate
from harness.cloud.vbr_changes import add_network, modify_group
from harness.cloud_monitor import cloud_monitor
from harness.daemons.features import Feature
from harness.evidence import timeline_of
from harness.lab import Lab
from harness.session import Labs
from labs.conftest import Broken
from labs.test_vbr_peers import learned_by_data_centre, states, tables_are, up
from topologies import vbr

KEY = "Zug-um-Zug-4711"
OTHER = "Zug-um-Zug-4712"


async def everything_readable(lab: Lab) -> str:
    """All that the lab wrote, and what its speakers answer when asked for everything."""
    answers = [
        await node.speaker.call(question)
        for node in lab
        if "bgp" in node.daemons
        for question in ("show.summary", "show.neighbors", "show.config")
    ]
    return lab.everything_written() + str(answers)


async def nobody_reads(lab: Lab, *keys: str) -> None:
    """None of the keys stands in anything the lab wrote, answers or would put into a report."""
    readable = await everything_readable(lab)
    assert "Established" in readable, "nothing was read at all"
    for key in keys:
        assert key not in readable


@pytest.mark.spec("VBR-9", "VBR-8")
async def test_same_key_on_both_sides(fresh_vbr: Broken, tmp_path: Path) -> None:
    """Both data centres have the group's key: Established, and the kernels agree. The key is in no log, event, answer or bundle."""
    async with fresh_vbr(peers=2, key=KEY) as lab:
        await tables_are(lab, 2)
        for row in (await lab["vbr"].speaker.call("show.neighbors"))[1:]:
            assert row["key"] is True
        await nobody_reads(lab, KEY)
        for _, path in bundle.write(lab, tmp_path / "bundle"):
            assert KEY.encode() not in path.read_bytes()
        assert KEY not in repr(lab.plan) + repr(vbr.estate(key=KEY))


#: What the group has and what data centre 2 has.
MISMATCHES = {
    "another key": (KEY, OTHER),
    "no key at the data centre": (KEY, None),
    "no key at the VBR": (None, OTHER),
}


@pytest.mark.spec("VBR-9")
@pytest.mark.parametrize("mismatch", MISMATCHES)
async def test_key_that_does_not_fit(fresh_vbr: Broken, mismatch: str) -> None:
    """Data centre 2 never gets past TCP, both sides say that signatures were dropped, data centre 1 is not touched."""
    group, other = MISMATCHES[mismatch]
    async with fresh_vbr(peers=2, key=group, data_centre_keys=(group, other), established=False) as lab:
        await lab.until(lambda: ("dc1", "circuit-1") in up(lab), within=10.0, what="data centre 1 Established")
        for node, peer in (("vbr", vbr.peer_ip(2)), ("dc2", "circuit-2")):
            told = await lab.until(partial(reason, lab, node, peer), within=15.0, what=f"{node} says why")
            assert "wrong or missing TCP MD5 signature" in told
            assert set(states(lab, node, peer)) <= {"Idle", "Connect", "Active"}
        await tables_are(lab, 1)
        await nobody_reads(lab, KEY, OTHER)


def reason(lab: Lab, node: str, peer: str) -> str | None:
    """What a speaker says of a connection that it waits for, once it knows that signatures are the reason."""
    for event in lab.stream.of(node=node, kind="dial.waiting", peer=peer):
        if event.data.get("md5_dropped"):
            return str(event.data["reason"])
    return None


@pytest.mark.spec("VBR-9", "VBR-24", "VBR-27")
async def test_key_is_put_right_while_running(fresh_vbr: Broken) -> None:
    """The group's key is edited to the one that the data centre has: the session comes up, and the other one never moves."""
    before = vbr.estate(peers=2, key=KEY, data_centre_keys=(KEY, OTHER))
    async with fresh_vbr(peers=2, key=KEY, data_centre_keys=(KEY, OTHER), established=False) as lab:
        await lab.until(lambda: ("vbr", vbr.peer_ip(1)) in up(lab), within=10.0, what="the first peer Established")
        after = modify_group(before, "vbr", vbr.group_name(vbr.ASNS[1]), key=OTHER)
        edited = await lab.apply(vbr.plan_of(after))
        await lab.established(within=20.0, since=edited)
        await tables_are(lab, 2, since=edited)
        await learned_by_data_centre(lab, 2, {"172.16.0.0/16"})
        assert [event for event in lab.transitions(since=edited) if event.data["old"] == "Established"] == []
        await nobody_reads(lab, KEY, OTHER)


def with_key(estate: VbrEstate, centre: str, key: str | None) -> VbrEstate:
    """The estate with another key at one data centre."""
    centres = tuple(replace(each, key=key) if each.name == centre else each for each in estate.data_centres)
    return replace(estate, data_centres=centres)


@pytest.mark.spec("VBR-9", "VBR-24", "VBR-27")
async def test_key_is_changed_on_both_sides_and_nothing_flaps(labs: Labs) -> None:
    """The group's key and the data centre's, within the hold time: no session moves, and routes pass under the new key."""
    before = vbr.estate(peers=2, key=KEY, networks=("172.16.0.0/24",))
    async with labs.running(vbr.plan_of(before)) as lab:
        lab.needs(Feature.MD5_CHANGE, "vbr", "dc1")
        await lab.established(within=10)
        changed = modify_group(before, "vbr", vbr.group_name(vbr.ASNS[0]), key=OTHER)
        edited = await lab.apply(vbr.plan_of(with_key(changed, "dc1", OTHER)))
        # What is announced from now on has passed under the new key.
        more = add_network(with_key(changed, "dc1", OTHER), "vbr", "172.16.128.0/24")
        await lab.apply(vbr.plan_of(more))
        await lab["dc1"].learned("172.16.128.0/24", within=20)
        await lab["dc2"].learned("172.16.128.0/24", within=20)
        assert [event.text() for event in lab.transitions(since=edited)] == []
        await nobody_reads(lab, KEY, OTHER)


@pytest.mark.spec("VBR-9", "VBR-22", "VBR-24")
async def test_key_is_changed_on_one_side_while_established(labs: Labs, tmp_path: Path) -> None:
    """Data centre 1 changes its key: the hold timer ends the session, which says why it stays down, until the group changes its too.

    The keys stand in nothing that is written meanwhile: events, alerts' lines, timelines, the run's evidence, a core file.
    """
    before = vbr.estate(peers=2, key=KEY, timers=Timers(hold_time=3, idle_hold_time=0.1))
    async with labs.running(vbr.plan_of(before)) as lab, cloud_monitor(lab, before, "vbr") as monitor:
        await lab.established(within=10)
        one_side = with_key(before, "dc1", OTHER)
        edited = await lab.apply(vbr.plan_of(one_side))
        down = await lab.event(source="cloud", kind="BgpPeerStatus:Down", since=edited, within=20)
        assert down.data["content"]["peer"] == vbr.peer_ip(1)
        await lab.until(partial(reason, lab, "vbr", vbr.peer_ip(1)), within=20.0, what="the VBR says why")
        mended = await lab.apply(vbr.plan_of(modify_group(one_side, "vbr", vbr.group_name(vbr.ASNS[0]), key=OTHER)))
        await lab.event(node="vbr", kind="peer.up", peer=vbr.peer_ip(1), since=mended, within=30)
        lab.record(timeline_of(lab, "A key is changed on one side, then on the other", since=edited))
        await nobody_reads(lab, KEY, OTHER)

        for _, path in bundle.write(lab, tmp_path / "bundle"):
            assert KEY.encode() not in path.read_bytes()
        evidence = [path for path in labs.record.folder.path.rglob("*") if path.is_file()]
        assert monitor.path.exists() and evidence
        for path in (monitor.path, *evidence):
            content = path.read_bytes()
            assert not [key for key in (KEY, OTHER) if key.encode() in content], path
        # core(5): 1 stops a file and a program that cores are piped into, whatever the shell allowed.
        limits = Path(f"/proc/{lab['vbr'].speaker.pid}/limits").read_text()
        soft, hard = re.search(r"^Max core file size +(\S+) +(\S+)", limits, re.MULTILINE).groups()  # type: ignore[union-attr]
        assert soft == ("0" if hard == "0" else "1")
        before_crash = cores()
        status = await lab["vbr"].speaker.kill(signal.SIGABRT)
        assert status == -signal.SIGABRT
        assert cores() == before_crash


def cores() -> set[Path]:
    """Core files where a daemon could leave one: where the run began, and below the lab's folder."""
    folders = (Path.cwd(), Path(os.sep, "run"), Path(os.sep, "tmp"))
    return {path for folder in folders for path in folder.glob("core*") if path.is_file()}
