"""The control socket: calls, errors, events in order, late followers, daemons that come late or go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harness.control import ControlClient, ControlClosed, ControlError, ControlServer, EventLog, call


@asynccontextmanager
async def serving(path: Path, log: EventLog) -> AsyncIterator[ControlServer]:
    async def late(text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()

    def refuse() -> None:
        raise ValueError("peer 10.0.0.1: no such peer")

    server = ControlServer(path, {"late": late, "refuse": refuse}, log)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def test_calls_and_refusals(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock", EventLog()):
        client = await ControlClient.connect(tmp_path / "c.sock")
        assert await client.call("late", text="ok") == "OK"
        with pytest.raises(ControlError, match="no such peer"):
            await client.call("refuse")
        with pytest.raises(ControlError, match=r"unknown method 'nothing'.*events\.follow, late, refuse"):
            await client.call("nothing")
        assert await asyncio.to_thread(call, tmp_path / "c.sock", "late", text="x") == "X"
        await client.close()


async def test_follower_gets_history_then_live_events_without_a_gap(tmp_path: Path) -> None:
    log = EventLog()
    log.emit("first")
    log.emit("second")
    async with serving(tmp_path / "c.sock", log):
        client = await ControlClient.connect(tmp_path / "c.sock")
        stream = client.events(since=1)
        assert (await anext(stream))["type"] == "second"
        log.emit("third", peer="a")
        event = await anext(stream)
        assert (event["seq"], event["type"], event["peer"]) == (3, "third", "a")
        await client.close()


async def test_client_waits_for_a_daemon_that_starts_late(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    waiting = asyncio.create_task(ControlClient.connect(path, within=5))
    await asyncio.sleep(0)
    async with serving(path, EventLog()):
        client = await waiting
        assert await client.call("late", text="a") == "A"
        await client.close()


async def test_absent_daemon_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ControlClosed, match="no daemon serves it"):
        await ControlClient.connect(tmp_path / "none.sock")
    with pytest.raises(ControlClosed, match="no daemon serves it"):
        await ControlClient.connect(tmp_path / "none.sock", within=0.01)


async def test_second_daemon_on_a_living_socket_is_refused_and_a_stale_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with serving(path, EventLog()):
        with pytest.raises(ControlError, match="another daemon"):
            await ControlServer(path, {}, EventLog()).start()
    path.touch()
    path.unlink()
    stale = ControlServer(path, {}, EventLog())
    await stale.start()
    assert stale._server is not None
    stale._server.close()
    async with serving(path, EventLog()):
        client = await ControlClient.connect(path)
        await client.close()


async def test_waiting_call_fails_when_the_daemon_ends(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    never = asyncio.Event()
    server = ControlServer(path, {"hang": never.wait}, EventLog())
    await server.start()
    client = await ControlClient.connect(path)
    hanging = asyncio.create_task(client.call("hang"))
    await asyncio.sleep(0)
    await server.close()
    with pytest.raises(ControlClosed):
        await hanging
