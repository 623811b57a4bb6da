"""The events that drivers make of lines that FRR 8.4 and BIRD 2.0.12 really wrote. No daemon runs here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.bgp.config import parse_config
from harness.control import EventLog
from harness.daemons.bird import Bird
from harness.daemons.driver import Row, path_row
from harness.daemons.frr import Frr
from harness.daemons.kinds import KINDS

CONFIG = parse_config(
    {
        "asn": 65001,
        "router_id": "1.1.1.1",
        "neighbors": [{"name": "circuit-1", "address": "10.1.1.1", "remote_asn": 45104, "bfd": {"hop_count": 1}}],
    }
)


def told(kind: str, line: str, tmp_path: Path, *, watched: str = "Down") -> list[dict[str, Any]]:
    """The events of one line."""
    events = EventLog()
    driver = {"frr": Frr, "bird": Bird}[kind](KINDS[kind], CONFIG, tmp_path, events)
    driver.watched["circuit-1"] = watched
    driver._heard(line)  # type: ignore[attr-defined]
    return [{key: value for key, value in event.items() if key not in ("seq", "time")} for event in events.since()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '%NOTIFICATION: received from neighbor 10.1.1.1 6/2 (Cease/Administrative Shutdown) "good night"',
            {"direction": "received", "code": 6, "subcode": 2, "text": "good night"},
        ),
        (
            "%NOTIFICATION: received from neighbor 10.1.1.1 6/3 (Cease/Peer De-configured) 0 bytes",
            {"direction": "received", "code": 6, "subcode": 3},
        ),
        (
            "%NOTIFICATION: sent to neighbor 10.1.1.1 4/0 (Hold Timer Expired) 0 bytes",
            {"direction": "sent", "code": 4, "subcode": 0},
        ),
    ],
)
def test_frr_tells_of_notifications(line: str, expected: dict[str, Any], tmp_path: Path) -> None:
    (event,) = told("frr", f"2026/11/28 18:18:27 BGP: [H7QV4-WR3ZD] {line}", tmp_path)
    assert event | {"type": "notification", "peer": "circuit-1"} | expected == event
    assert event["meaning"] == line


@pytest.mark.parametrize(
    ("kind", "line", "new"),
    [
        ("frr", "BFD: [J1C6V] state-change: [mhop:no peer:10.1.1.1 local:10.1.1.2 vrf:default] down -> up", "Up"),
        (
            "frr",
            "BFD: [SEY1D] state-change: [mhop:no peer:10.1.1.1 vrf:default] up -> down reason:neighbor-down",
            "Down",
        ),
        ("frr", "BFD: [NW21R] session-delete: mhop:no peer:10.1.1.1 local:0.0.0.0 vrf:default", "Down"),
        ("bird", "<TRACE> bfd1: Session to 10.1.1.1 changed state from Init to Up", "Up"),
        ("bird", "<TRACE> bfd1: Session to 10.1.1.1 removed", "Down"),
    ],
)
def test_bfd_states_are_told(kind: str, line: str, new: str, tmp_path: Path) -> None:
    (event,) = told(kind, line, tmp_path, watched="Down" if new == "Up" else "Up")
    assert (event["type"], event["peer"], event["new"]) == ("bfd", "circuit-1", new)


def test_birds_merged_paths_are_those_of_its_kernel_route(tmp_path: Path) -> None:
    """Equal paths whose gateway stands in the exported route; a longer one by the same gateway is not among them."""
    exported = """Table master4:
192.168.0.0/24       unicast [gw1 18:02:26.038] * (100) [AS65530i]
\tvia 198.18.1.2 on a weight 1
\tvia 198.18.1.6 on b weight 1
"""
    rows: dict[str, list[Row]] = {
        "192.168.0.0/24": [
            path_row("gw1", "198.18.1.2", "65531 65530", best=True),
            path_row("gw2", "198.18.1.6", "65531 65530", best=False),
            path_row("far", "198.18.1.6", "65531 65000 65530", best=False),
            path_row("gw3", "198.18.1.9", "65531 65530", best=False),
        ]
    }
    Bird(KINDS["bird"], CONFIG, tmp_path, EventLog())._mark_multipath(rows, exported)
    assert [path["multipath"] for path in rows["192.168.0.0/24"]] == [False, True, False, False]


async def test_bird_is_woken_when_it_may_have_something_to_send(tmp_path: Path) -> None:
    """Left alone it may keep it for three seconds. What happens while it answers counts for one question more."""
    asked: list[str] = []
    answered = asyncio.Event()

    class Console:
        async def ask(self, question: str) -> str:
            asked.append(question)
            await answered.wait()
            return ""

    bird = Bird(KINDS["bird"], CONFIG, tmp_path, EventLog())
    said = "2026-11-29 00:49:40.478 <TRACE> to-circuit-1: "
    bird._heard(said + "Got UPDATE")  # its control socket is not open yet
    bird._console, bird._ready = Console(), True  # type: ignore[assignment]
    bird._heard(said + "BGP session established")
    for _ in range(3):
        await asyncio.sleep(0)
        bird._heard(said + "Got UPDATE")
    assert bird._nudge is not None
    answered.set()
    await bird._nudge
    assert asked == ["show status"] * 2
