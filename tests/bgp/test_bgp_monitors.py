"""Those who look on, at a speaker that is a process: started by the configuration, seen from outside, ended with it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.bgp import mrt, mrt_text, render
from tests.bgp.rig import Rig, opened

pytestmark = pytest.mark.root


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened(tmp_path) as made:
        yield made


async def test_all_three_at_once(rig: Rig, tmp_path: Path) -> None:
    """MRT files fill, metrics answer on their socket, a station that is not there is told; the sessions know nothing of it."""
    rig.link("a", "10.0.0.1/24", "b", "10.0.0.2/24")
    monitors: dict[str, Any] = {
        "bmp": [{"address": "127.0.0.1", "port": 11019, "retry": 0.05}],
        "mrt": {"updates": str(tmp_path / "updates.mrt"), "sent": True},
        "metrics": {},
    }
    a = await rig.speaker(
        "a",
        asn=65001,
        router_id="1.1.1.1",
        networks=["10.1.0.0/16"],
        neighbors=[{"name": "b", "address": "10.0.0.2", "remote_asn": 65002}],
    )
    b = await rig.speaker(
        "b",
        asn=65002,
        router_id="2.2.2.2",
        neighbors=[{"name": "a", "address": "10.0.0.1", "remote_asn": 65001}],
        **monitors,
    )
    await b.event("eor")
    down = await b.event("bmp.down")
    assert (down["station"], down["reason"]) == ("127.0.0.1:11019", "Connection refused")
    shown = await b.call("show.monitors")
    assert shown["metrics"] == f"unix:{tmp_path / 'b.metrics'}"
    assert "not connected" in render.monitors(shown)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "b.metrics")
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert b'vbrlab_bgp_neighbor_up{address="10.0.0.1",asn="65001",neighbor="a"} 1.0' in await reader.read()
    writer.close()
    told = await b.call("mrt.table", file=str(tmp_path / "table.mrt"))
    assert told == f"{tmp_path / 'table.mrt'}: 1 prefixes, 1 paths of 2 peers"
    a.child.kill(signal.SIGTERM)
    await b.event("peer.down")
    b.child.kill(signal.SIGTERM)
    assert b.child.wait(5) == 0
    assert not (tmp_path / "b.metrics").exists()
    with mrt.opened(tmp_path / "updates.mrt") as file:
        lines = list(mrt_text.lines(mrt.read(file)))
    kinds = [line.split("|")[2] for line in lines if line.startswith("BGP4MP_ET|")]
    assert {"STATE", "OPEN", "KEEPALIVE", "A"} <= set(kinds)
    assert any("|A|10.0.0.1|65001|10.1.0.0/16|65001|" in line for line in lines)
    assert any("Administrative Shutdown" in line for line in lines)
    assert lines[-1].split("|")[2:] == ["STATE", "10.0.0.1", "65001", lines[-1].split("|")[5], "1"]
