"""``vbrlab-bgp`` and ``vbrlab-bgpd`` as commands: what they print, and what they return."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.bgp import cli, daemon, render
from harness.bgp.commands import methods
from harness.bgp.shows import Shows
from harness.control import ControlServer
from tests.bgp.memory_world import World
from tests.bgp.test_bgp_speaker import NET, build

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[World, Path]]:
    """Speaker ``h`` of a small network in memory, with its control socket: two ways to NET, one loop, an own network."""
    world, s = build(
        {"a": 1, "b": 1, "h": 2, "z": 2},
        ["ah", "bh", "hz"],
        a={"networks": [NET]},
        b={"networks": [NET]},
        h={"networks": ["10.0.0.0/24"]},
        z={"networks": ["10.9.0.0/24"]},
        ah={"export": [{"action": "permit", "med": 7, "add_communities": ["65531:100"]}]},
    )
    speaker = s["h"]
    server = ControlServer(tmp_path / "bgp.sock", methods(speaker, Shows(speaker, lambda: world.time)), speaker.log)
    await server.start()
    yield world, server.path
    await server.close()


@pytest.fixture
def run(served: tuple[World, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    async def run_it(*words: str, socket: Path | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vbrlab-bgp", "--socket", str(socket or served[1]), *words])
        try:
            await asyncio.to_thread(cli.main)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run_it


async def test_show_summary(run: Run) -> None:
    status, out, _ = await run("show", "summary")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == f"BGP router identifier 1.1.1.{ord('h')}, local AS 2"
    assert "announces 10.0.0.0/24" in lines
    (row,) = [line.split() for line in lines if line.startswith("a ")]
    assert row[1:3] == [f"10.{ord('a')}.{ord('h')}.1", "1"]
    assert "Established" in row
    assert "\x1b" not in out


async def test_show_routes_says_best_and_why_not(run: Run) -> None:
    status, out, _ = await run("show", "routes")
    assert status == 0
    first, second = (line for line in out.splitlines() if " 1 i" in line)
    assert first.startswith(f"*>  {NET}")
    assert second.startswith("*")
    assert "MED is higher than that of another path from the same neighbouring AS (RFC 4271 9.1.2.2 c)" in second
    assert "65531:100" in second
    assert out.rstrip().endswith("3 prefixes, 4 paths")
    _, out, _ = await run("show", "routes", NET, "--json")
    assert [path["peer"] for path in json.loads(out)[0]["paths"]] == ["a", "b"]
    _, out, _ = await run("show", "routes", "--table", "out", "--peer", "z", "--json")
    assert {row["prefix"] for row in json.loads(out)} == {NET, "10.0.0.0/24"}
    _, out, _ = await run("show", "routes", "--table", "in", "--peer", "b")
    assert NET in out


async def test_show_neighbors(run: Run) -> None:
    _, out, _ = await run("show", "neighbors", "z")
    assert out.startswith(f"BGP neighbor is 10.{ord('z')}.{ord('h')}.1 (z), remote AS 2, local AS 2, iBGP")
    assert "Route Refresh" in out
    assert "hold" in out


async def test_changes_and_refusals(run: Run, served: tuple[World, Path]) -> None:
    assert await run("network", "add", "172.16.0.0/16") == (0, "network 172.16.0.0/16 is announced\n", "")
    served[0].run(1)
    _, out, _ = await run("show", "routes", "172.16.0.0/16")
    assert "172.16.0.0/16" in out
    assert (await run("network", "delete", "172.16.0.0/16"))[0] == 0
    status, out, err = await run("network", "delete", "172.16.0.0/16")
    assert (status, out) == (1, "")
    assert err == "vbrlab-bgp: network 172.16.0.0/16 is not announced; there are 10.0.0.0/24\n"
    status, _, err = await run("network", "add", "172.16.0.1/16")
    assert status == 1
    assert "the block is 172.16.0.0/16" in err
    status, _, err = await run("clear", "nobody", "--soft", "out")
    assert status == 1
    assert "there are a, b, z" in err
    assert (await run("clear", "a", "--soft", "both"))[0] == 0


async def test_events_one_a_line_and_as_json(run: Run) -> None:
    status, out, _ = await run("show", "events")
    assert status == 0
    assert "OpenConfirm -> Established" in out
    _, out, _ = await run("show", "events", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    _, out, _ = await run("show", "events", "--since", str(len(events) - 1))
    assert len(out.splitlines()) == 1


async def test_no_speaker_is_another_status_than_a_refusal(run: Run, tmp_path: Path) -> None:
    status, _, err = await run("show", "summary", socket=tmp_path / "none.sock")
    assert status == 3
    assert "no daemon serves it" in err
    status, _, _ = await run("show", "nonsense")
    assert status == 2


def test_colours_only_when_asked_for() -> None:
    rows: list[dict[str, Any]] = [{"next_hop": "10.0.0.1", "resolved": None}]
    assert "\x1b[31m" in render.next_hops(rows, color=True)
    assert "\x1b" not in render.next_hops(rows)


def test_the_daemon_prints_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon.main(["--schema"]) == 0
    assert "router_id" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize(
    ("text", "status", "complaint"),
    [
        ('{"asn": 65530, "router_id": "192.0.2.1"}', 0, ""),
        ('{"asn": 0}', 1, "asn: Input should be greater than or equal to 1"),
        (
            '{"asn": 1, "neighbors": [{"name": "n", "address": "10.0.0.1", "remote_asn": 2, "key_file": "/none"}]}',
            1,
            "key_file /none",
        ),
    ],
)
def test_the_daemon_checks_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, status: int, complaint: str
) -> None:
    (tmp_path / "c.json").write_text(text)
    assert daemon.main(["--config", str(tmp_path / "c.json"), "--check"]) == status
    err = capsys.readouterr().err
    assert complaint in err
    assert (err == "") == (status == 0)


def test_the_daemon_asks_for_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon.main([]) == 1
    assert "name a file with --config" in capsys.readouterr().err
