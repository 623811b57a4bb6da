"""A pulse: one small datagram after another from a node to another, and when nothing of it arrived.

For measuring an outage of one flow; thousands of flows are ``harness.traffic.run``'s business. Everything runs in the caller's event loop,
with sockets in the nodes' namespaces. A late sender is no outage: only datagrams that were sent and never came count, by the times
at which they and their neighbours were sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from harness.net.namespace import socket_in
from harness.patience import stretched

_NUMBER = struct.Struct("!Q")
#: The way is gone for the moment: the datagram counts as sent and lost.
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENOBUFS, errno.EPERM)


@dataclass(frozen=True, slots=True)
class Outage:
    """Datagrams in a row that never came: from when the last one before them was sent to when the first one after them was."""

    start: float
    end: float
    lost: int

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Pulse:
    """Use :func:`pulse`. Times are CLOCK_MONOTONIC seconds."""

    def __init__(self, out: socket.socket, into: socket.socket, to: tuple[str, int], interval: float) -> None:
        self._out, self._into, self._to, self.interval = out, into, to, interval
        self._sent: list[float] = []
        self._came: set[int] = set()
        self._arrived = asyncio.Event()

    async def send(self) -> None:
        """Sends until cancelled, one datagram each ``interval``; behind time it sends the next at once, not all that it owes."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            with contextlib.suppress(BlockingIOError):
                self._send_one()
            due = max(due + self.interval, loop.time())
            await asyncio.sleep(due - loop.time())

    def _send_one(self) -> None:
        number = len(self._sent)
        self._sent.append(time.monotonic())
        try:
            self._out.sendto(_NUMBER.pack(number), self._to)
        except OSError as error:
            if error.errno not in _NO_WAY:
                raise

    def take(self) -> None:
        """Takes what has arrived."""
        with contextlib.suppress(BlockingIOError):
            while True:
                (number,) = _NUMBER.unpack(self._into.recv(64))
                self._came.add(number)
                self._arrived.set()

    def outages(self, since: float) -> list[Outage]:
        """What was lost from ``since`` on and has ended: something sent later has come."""
        self.take()
        found: list[Outage] = []
        before: float | None = None
        lost = 0
        for number, at in enumerate(self._sent):
            if number not in self._came:
                lost += 1
                continue
            if lost and at >= since:
                found.append(Outage(self._sent[number - lost] if before is None else before, at, lost))
            before, lost = at, 0
        return found

    async def beats(self, count: int = 1, within: float = 30.0) -> None:
        """Returns when that many more datagrams have come. Raises TimeoutError."""
        wanted = len(self._came) + count
        async with asyncio.timeout(stretched(within)):
            while len(self._came) < wanted:
                self._arrived.clear()
                await self._arrived.wait()


@contextlib.asynccontextmanager
async def pulse(
    netns_from: int | None,
    source: str,
    netns_to: int | None,
    destination: str,
    *,
    ports: tuple[int, int],
    interval: float = 0.005,
) -> AsyncIterator[Pulse]:
    """A pulse for as long as the block lasts, from (``source``, first port) to (``destination``, second port), IPv4 addresses.

    A namespace of None: the one that it is called in.
    """
    loop = asyncio.get_running_loop()
    with (
        contextlib.closing(socket_in(netns_from, socket.AF_INET, socket.SOCK_DGRAM)) as out,
        contextlib.closing(socket_in(netns_to, socket.AF_INET, socket.SOCK_DGRAM)) as into,
    ):
        for end, address in ((out, (source, ports[0])), (into, (destination, ports[1]))):
            end.setblocking(False)
            end.bind(address)
        beating = Pulse(out, into, (destination, ports[1]), interval)
        loop.add_reader(into, beating.take)
        sending = asyncio.create_task(beating.send())
        try:
            yield beating
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            loop.remove_reader(into)
