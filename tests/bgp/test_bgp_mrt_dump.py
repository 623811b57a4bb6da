"""MRT dumps of a running speaker: what is in the file is what was on the wire and in the table."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.bgp import mrt, mrt_text, signals
from harness.bgp.fsm import State
from harness.bgp.mrt_dump import Recorder, write_table
from harness.bgp.speaker import Speaker
from tests.bgp.memory_world import World
from tests.bgp.test_bgp_speaker import NET, address, build

WALL = 1_700_000_000.5


def recorded(path: Path, speaker: Speaker, *, sent: bool = False) -> Recorder:
    """A recorder that keeps what it has until it is closed."""
    recorder = Recorder(path, speaker.log, lambda _after, _call: None, lambda: WALL, sent=sent)
    for adjacency in speaker.adjacencies.values():
        recorder.join(adjacency)
    speaker.watchers.append(recorder)
    return recorder


def records(path: Path) -> list[mrt.Record]:
    with mrt.opened(path) as file:
        return list(mrt.read(file))


def started(tmp_path: Path, *, sent: bool = False) -> tuple[World, dict[str, Speaker], Recorder]:
    """Two speakers whose session came up again before the eyes of b's recorder."""
    world, s = build({"a": 1, "b": 70000}, ["ab"], a={"networks": [NET]}, b={"networks": ["10.9.0.0/24"]})
    recorder = recorded(tmp_path / "b.mrt", s["b"], sent=sent)
    s["b"].shut_neighbor("a")
    world.run(1)
    s["b"].start_neighbor("a")
    world.run(100)
    return world, s, recorder


def test_a_session_from_its_end_to_its_next_route(tmp_path: Path) -> None:
    _, _, recorder = started(tmp_path)
    recorder.close()
    found = records(tmp_path / "b.mrt")
    states = [(r.old, r.new) for r in found if isinstance(r, mrt.StateChange)]
    assert states[0] == (State.ESTABLISHED, State.IDLE)
    assert states[-1] == (State.OPEN_CONFIRM, State.ESTABLISHED)
    messages = [r for r in found if isinstance(r, mrt.Message)]
    assert not any(r.sent for r in messages)
    assert {str(r.ends.peer) for r in messages} == {address("a", "b")}
    assert {(r.ends.peer_asn, r.ends.local_asn) for r in messages} == {(1, 70000)}
    kinds = [r.wire[18] for r in messages]
    assert kinds[:2] == [1, 4]
    assert 2 in kinds
    (line,) = [line for line in mrt_text.lines(found) if "|A|" in line]
    assert line.split("|")[3:8] == [address("a", "b"), "1", NET, "1", "IGP"]


def test_with_what_was_sent(tmp_path: Path) -> None:
    _, _, recorder = started(tmp_path, sent=True)
    recorder.close()
    lines = list(mrt_text.lines(records(tmp_path / "b.mrt")))
    assert any(line.startswith("BGP4MP_ET_LOCAL|") and "|A|" in line and "10.9.0.0/24|70000|" in line for line in lines)
    assert any("NOTIFICATION" in line for line in lines)


def test_path_identifiers_make_another_subtype(tmp_path: Path) -> None:
    world, s = build(
        {"a": 1, "h": 2, "z": 2},
        ["ah", "hz"],
        a={"networks": [NET]},
        hz={"add_path": "send"},
        zh={"add_path": "receive"},
    )
    recorder = recorded(tmp_path / "z.mrt", s["z"])
    s["z"].shut_neighbor("h")
    s["z"].start_neighbor("h")
    world.run(100)
    recorder.close()
    updates = [r for r in records(tmp_path / "z.mrt") if isinstance(r, mrt.Message) and r.wire[18] == 2]
    assert updates
    assert all(r.add_path for r in updates)
    assert any(f"|{NET}#" in line for line in mrt_text.lines(updates))


def test_the_file_is_appended_to_in_time(tmp_path: Path) -> None:
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": [NET]})
    later: list[tuple[float, Callable[[], None]]] = []
    recorder = Recorder(tmp_path / "b.mrt", s["b"].log, lambda after, call: later.append((after, call)), lambda: WALL)
    s["b"].watchers.append(recorder)
    s["b"].shut_neighbor("a")
    world.run(1)
    assert [after for after, _ in later] == [1.0]
    assert records(tmp_path / "b.mrt") == []
    later.pop()[1]()
    assert len(records(tmp_path / "b.mrt")) == recorder.records > 0


def test_a_full_disk_is_told_and_the_speaker_goes_on() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("/dev/full is not there")
    world, s = build({"a": 1, "b": 2}, ["ab"])
    recorder = recorded(full, s["b"])
    s["b"].shut_neighbor("a")
    world.run(1)
    recorder.flush()
    s["b"].start_neighbor("a")
    world.run(100)
    recorder.flush()
    failed = [e for e in s["b"].log.since() if e["type"] == "mrt.failed"]
    assert [e["reason"] for e in failed] == ["No space left on device"]
    assert s["b"].adjacencies["a"].is_up


def table(tmp_path: Path, speaker: Speaker, world: World) -> list[str]:
    asyncio.run(write_table(speaker, tmp_path / "table.mrt", WALL, world.time))
    return list(mrt_text.lines(records(tmp_path / "table.mrt")))


def test_the_table_has_every_path_of_every_neighbour(tmp_path: Path) -> None:
    world, s = build(
        {"a": 1, "b": 1, "h": 2},
        ["ah", "bh"],
        a={"networks": [NET, "2001:db8::/32"]},
        b={"networks": [NET]},
        h={"networks": ["10.0.0.0/24"]},
        ah={"families": ["ipv4", "ipv6"]},
        ha={"families": ["ipv4", "ipv6"]},
    )
    lines = table(tmp_path, s["h"], world)
    told = sorted((line.split("|")[3], line.split("|")[5]) for line in lines)
    assert told == sorted(
        [
            ("0.0.0.0", "10.0.0.0/24"),
            (address("a", "h"), NET),
            (address("b", "h"), NET),
            (address("a", "h"), "2001:db8::/32"),
        ]
    )
    assert not (tmp_path / "table.mrt.part").exists()


@pytest.mark.skipif(shutil.which("bgpdump") is None, reason="bgpdump is not installed; apt-get install bgpdump")
def test_bgpdump_reads_the_dumps(tmp_path: Path) -> None:
    world, s, recorder = started(tmp_path)
    recorder.close()
    ours = table(tmp_path, s["b"], world)
    for name, expected in (("b.mrt", list(mrt_text.lines(records(tmp_path / "b.mrt")))), ("table.mrt", ours)):
        done = subprocess.run(["bgpdump", "-m", str(tmp_path / name)], capture_output=True, text=True, timeout=30)
        assert done.stdout.splitlines() == [line for line in expected if line.split("|")[2] in ("A", "W", "B", "STATE")]


def test_a_watcher_hears_the_connection_end(tmp_path: Path) -> None:
    """Nothing is kept of connections that are gone."""
    world, s, recorder = started(tmp_path)
    world.set_link("a", "b", False)
    world.run(1)
    s["b"].adjacencies["a"].feed(signals.Tick())
    assert not recorder._connections
