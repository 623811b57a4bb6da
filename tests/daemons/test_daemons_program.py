"""How a foreign daemon's Unix socket is reached, by sockets of our own."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from harness.daemons.program import dialled


async def test_the_name_that_a_killed_daemon_left_is_not_the_next_ones(tmp_path: Path) -> None:
    """Nobody listens at the old name; it goes, and comes again with somebody who does: as FRR does when it follows a killed one."""
    path = tmp_path / "bgpd.vty"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    dialling = asyncio.create_task(dialled(path, 1 << 16))
    await asyncio.sleep(0.01)
    path.unlink()
    await asyncio.sleep(0.01)
    server = await asyncio.start_unix_server(lambda _reader, writer: writer.close(), path)
    reader, writer = await dialling
    assert await reader.read() == b""
    writer.close()
    server.close()
