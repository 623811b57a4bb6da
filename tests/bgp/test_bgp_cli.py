"""``vbrlab-bgp`` and ``vbrlab-bgpd`` as commands: what they print, and what they return."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
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
from tests.test_project import TOP

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


async def test_why_a_prefix_is_where_it_is(run: Run) -> None:
    """Who offers it, which is best and why no other, who is told and who is not."""
    status, out, _ = await run("show", "why", NET)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == NET
    assert lines[1].startswith("  best: by b, path 1, next hop ")
    assert "  not used: by a" in lines[2]
    assert "RFC 4271 9.1.2.2 c" in lines[2]
    told = {line.split()[0]: line for line in lines if line[:2] == "  " and line.split()[0] in ("a", "b", "z")}
    assert "b: it was learned from this neighbour" in told["b"]
    assert "a: only the best path is announced" in told["b"]
    assert "path 2 1" in told["a"]
    assert "path 1, next hop" in told["z"]
    _, out, _ = await run("show", "why", "10.9.0.0/24")
    assert "best: by z" in out
    _, out, _ = await run("show", "why", "203.0.113.0/24", "--json")
    answer = json.loads(out)
    assert (answer["received"], answer["candidates"]) == ([], [])
    assert answer["neighbors"][0]["why_not"] == [{"peer": None, "reason": "no path to it can be used"}]


async def test_why_a_route_is_rejected_or_withheld(run: Run) -> None:
    await run("neighbor", "shutdown", "b")
    _, out, _ = await run("show", "why", NET)
    assert "the session is Idle" in out


async def test_what_both_sides_offer(run: Run) -> None:
    _, out, _ = await run("show", "neighbors", "a")
    assert "4-octet AS number: 2" in out  # ours
    assert "4-octet AS number: 1" in out  # its
    assert "In use" in out
    _, out, _ = await run("show", "neighbors", "a", "--json")
    (row,) = json.loads(out)
    assert row["configured"]["connect_retry_time"] == 120
    assert "Route Refresh" in row["offered"]["sent"]


async def test_events_of_one_neighbour_or_type(run: Run) -> None:
    _, out, _ = await run("show", "events", "--peer", "a", "--type", "peer.up", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [(e["type"], e["peer"]) for e in events] == [("peer.up", "a")]


async def test_reload_in_words(run: Run, served: tuple[World, Path], tmp_path: Path) -> None:
    _, out, _ = await run("show", "config")
    config = json.loads(out)
    config["networks"] = []
    (tmp_path / "new.json").write_text(json.dumps(config))
    status, _, err = await run("reload", str(tmp_path / "new.json"))
    # Only a speaker that is a process has the method; the complaint says what there is.
    assert status == 1
    assert "unknown method 'config.reload'" in err
    assert served[1].exists()


@pytest.mark.parametrize(("value", "coloured"), [(None, True), ("", True), ("1", False), ("0", False)])
def test_no_color(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str | None, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    cli._print([{"next_hop": "10.0.0.1", "resolved": None}], False, render.next_hops)
    assert ("\x1b" in capsys.readouterr().out) is coloured


async def test_the_shell_completes_what_the_speaker_knows(served: tuple[World, Path]) -> None:
    def complete(*words: str) -> list[str]:
        environment = {
            **os.environ,
            "_VBRLAB_BGP_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(("vbrlab-bgp", *words)),
            "COMP_CWORD": str(len(words)),
        }
        code = "from harness.bgp.cli import app; app(prog_name='vbrlab-bgp')"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=TOP, capture_output=True, text=True, timeout=60
        )
        return done.stdout.split()

    socket = str(served[1])
    assert await asyncio.to_thread(complete, "--socket", socket, "show", "neighbors", "") == ["a", "b", "z"]
    assert await asyncio.to_thread(complete, "--socket", socket, "network", "delete", "1") == ["10.0.0.0/24"]
    assert "summary" in await asyncio.to_thread(complete, "--socket", socket, "show", "su")
    assert await asyncio.to_thread(complete, "--socket", "/nowhere", "show", "neighbors", "") == []


async def test_the_socket_must_be_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VBRLAB_BGP_SOCKET", raising=False)
    monkeypatch.setattr(sys, "argv", ["vbrlab-bgp", "show", "summary"])
    with pytest.raises(SystemExit) as end:
        await asyncio.to_thread(cli.main)
    assert end.value.code == 2
    assert "--socket FILE, or VBRLAB_BGP_SOCKET" in " ".join(capsys.readouterr().err.split()).replace("│ ", "")
    assert run is not None


async def test_single_fields_keys_and_policies(
    run: Run, served: tuple[World, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed in place, with when each takes effect; a key comes by standard input and is never shown."""
    _, out, _ = await run("neighbor", "set", "a", "hold_time=30", "next_hop_self=true", "description=the way out")
    assert "hold_time: at the next session" in out
    assert "description: at once" in out
    assert (await run("neighbor", "set", "a", "hold_time=30"))[1] == "nothing differs\n"
    status, _, err = await run("neighbor", "set", "a", "hold_time=1")
    assert (status, "hold time 1 s is not allowed" in err) == (1, True)
    assert (await run("neighbor", "set", "a", "key=secret"))[0] == 2
    status, _, err = await run("neighbor", "set", "a", "name=c")
    assert (status, "keeps its name" in err) == (1, True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a new secret\n"))
    assert await run("neighbor", "key", "a") == (0, "key: at once\n", "")
    _, out, _ = await run("show", "config")
    assert "a new secret" not in out
    assert '"key": "****' in out
    assert (await run("neighbor", "key", "a", "--remove"))[1] == "key: at once\n"
    (tmp_path / "policy.json").write_text('[{"action": "deny"}]')
    status, out, _ = await run("policy", "set", "z", "export", str(tmp_path / "policy.json"))
    assert (status, "after a soft clear" in out) == (0, True)
    assert (await run("clear", "z", "--soft", "out"))[0] == 0
    served[0].run(1)
    _, out, _ = await run("show", "routes", "--table", "out", "--peer", "z")
    assert out == "no routes\n"


async def test_only_best_or_only_rejected_paths(run: Run, served: tuple[World, Path], tmp_path: Path) -> None:
    _, out, _ = await run("show", "routes", "--best", "--json")
    assert [len(row["paths"]) for row in json.loads(out)] == [1, 1, 1]
    _, out, _ = await run("show", "routes", "--rejected")
    assert out == "no routes\n"
    (tmp_path / "deny.json").write_text('[{"action": "deny"}]')
    await run("policy", "set", "b", "import", str(tmp_path / "deny.json"))
    await run("clear", "b", "--soft", "in", "--stored")
    served[0].run(1)
    _, out, _ = await run("show", "routes", "--rejected")
    (line,) = [line for line in out.splitlines() if NET in line]
    assert line.startswith("r ")
    assert line.endswith("import policy, term 1")
    assert (await run("show", "routes", "--best", "--table", "in"))[0] == 2
