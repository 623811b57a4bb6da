"""An MRT file announced into a speaker: what the speaker then has is what the file says."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from harness.bgp.messages import decode
from harness.bgp.mrt_feed import FeedOptions, messages
from harness.bgp.prefixes import Family, text
from harness.bgp.session import Session
from harness.bgp.update import Update
from tests.bgp.rig import Rig, opened
from tests.bgp.test_bgp_mrt import RECORDS, file_of
from tests.test_project import TOP

OWN = bytes((10, 0, 0, 1))
SESSION = Session(local_asn=65001, peer_asn=65002, asn4=True, families=frozenset(Family))


def said(**options: Any) -> list[Update]:
    chosen = FeedOptions("10.0.0.2", 65001, 65002, IPv4Address("1.1.1.1"), **options)
    found = [decode(wire[18], wire[19:], SESSION) for wire in messages(RECORDS, SESSION, chosen, OWN)]
    return [update for update in found if isinstance(update, Update)]


def test_routes_go_out_as_over_ebgp() -> None:
    updates = said()
    assert not any(update.errors for update in updates)
    announced = [
        (text(piece, family), update)
        for update in updates
        for family, slices in update.announced.items()
        for piece in slices
    ]
    assert {name for name, _ in announced} == {"10.1.0.0/16", "10.2.0.0/16", "2001:db8::/32", "0.0.0.0/0", "::/0"}
    for _, update in announced:
        assert update.attributes is not None
        assert update.attributes.as_path[0].asns[:2] == (65001, 65531)
        for family, next_hop in update.next_hop.items():
            assert next_hop == (OWN if family is Family.IPV4_UNICAST else bytes(10) + b"\xff\xff" + OWN)
    assert [update.end_of_rib for update in updates[-2:]] == [Family.IPV4_UNICAST, Family.IPV6_UNICAST]


def test_or_as_they_are() -> None:
    first = said(as_is=True)[0]
    assert first.attributes is not None
    assert first.attributes.as_path[0].asns == (65531, 64500)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened(tmp_path) as made:
        yield made


@pytest.mark.root
async def test_a_speaker_is_fed(rig: Rig, tmp_path: Path) -> None:
    """``vbrlab-bgp feed``: the table of the file, twice: one that leaves, and one whom the speaker refuses."""
    rig.link("a", "10.0.0.1/24", "b", "10.0.0.2/24")
    b = await rig.speaker(
        "b",
        asn=65002,
        router_id="2.2.2.2",
        neighbors=[{"name": "a", "address": "10.0.0.1", "remote_asn": 65001, "passive": True}],
    )
    (tmp_path / "f.mrt").write_bytes(file_of(RECORDS).getvalue())
    namespace = rig.nodes["a"].fd

    def enter() -> None:
        ctypes.CDLL(None).setns(namespace, 0x40000000)

    def feed(asn: int, *more: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "harness.bgp.cli", "feed", str(tmp_path / "f.mrt"), "--to", "10.0.0.2"]
        argv += ["--asn", str(asn), "--peer-asn", "65002", *more]
        return subprocess.Popen(
            argv, cwd=TOP, preexec_fn=enter, pass_fds=[namespace], text=True, env=dict(os.environ),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    fed = feed(65001)
    await b.event("eor")
    (row,) = await b.call("show.routes", prefix="10.1.0.0/16")
    assert row["paths"][0]["as_path"].startswith("65001 65531")
    assert {r["prefix"] for r in await b.call("show.routes")} == {"10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0"}
    await b.call("neighbor.shutdown", name="a")
    out, _ = fed.communicate(timeout=20)
    assert fed.returncode == 0
    assert "UPDATEs to AS 65002" in out
    assert "Administrative Shutdown" in out

    await b.call("neighbor.start", name="a")
    wrong = feed(65009)
    _, err = wrong.communicate(timeout=20)
    assert wrong.returncode == 1
    assert "Bad Peer AS" in err


def test_a_file_that_is_not_there_is_named_before_anybody_is_called(tmp_path: Path) -> None:
    file = tmp_path / "none.mrt"
    argv = [
        sys.executable,
        "-m",
        "harness.bgp.cli",
        "feed",
        str(file),
        "--to",
        "192.0.2.1",
        "--asn",
        "1",
        "--peer-asn",
        "2",
    ]
    done = subprocess.run(argv, cwd=TOP, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, str(file) in done.stderr, "No such file" in done.stderr) == (1, True, True)
