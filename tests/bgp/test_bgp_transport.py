"""A connection's end as the speaker hears of it, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket

from harness.bgp import signals
from harness.bgp.transport import Connection

WITHIN = 10.0


async def test_what_came_before_a_reset_is_heard_when_a_write_finds_it() -> None:
    """The neighbour says why it ends the session, and closes with something of ours unread."""
    heard: list[signals.Input] = []
    over = asyncio.Event()

    def feed(_name: str, signal: signals.Input) -> None:
        heard.append(signal)
        if isinstance(signal, signals.Closed):
            over.set()

    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        ours.setblocking(False)
        transport, _ = await loop.create_connection(
            lambda: Connection("peer", 1, True, feed, lambda: None, lambda: None), sock=ours
        )
        transport.write(b"unread")
        theirs.sendall(b"why it ends")
        theirs.close()
        transport.write(b"an UPDATE")
        await asyncio.wait_for(over.wait(), WITHIN)
    assert [signal.data for signal in heard if isinstance(signal, signals.Received)] == [b"why it ends"]
    assert isinstance(heard[-1], signals.Closed)
