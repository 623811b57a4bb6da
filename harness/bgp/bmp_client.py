"""The connection to one monitoring station (RFC 7854 3.2): made, kept, made again; never in the way of the speaker.

A piece is made only when the last one has left for the kernel: a slow station holds at most BUFFER octets here. One that reads nothing for
``patience`` seconds, or for which too many Peer Up and Peer Down messages wait, is given up with the event ``bmp.dropped`` and gets
everything anew on the next connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable

from harness.bgp import bmp
from harness.bgp.bmp_feed import Feed
from harness.bgp.monitoring_options import BmpCollector
from harness.bgp.speaker import Speaker

BUFFER = 1 << 18
LONGEST_RETRY = 60.0
GOODBYE = 2.0
"""Seconds that the Termination message may take to leave."""


class _GivenUp(Exception):
    """The station was left, or left; the text is the reason."""


class BmpClient:
    """Tells one station for as long as it runs: :meth:`start`, :meth:`close`."""

    def __init__(self, speaker: Speaker, options: BmpCollector, ports: Callable[[str, int], tuple[int, int]]) -> None:
        self.options = options
        self.since: float | None = None
        self.octets = 0
        self.drops = 0
        self.reason = "not connected yet"
        self._speaker = speaker
        self._ports = ports
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._feed: Feed | None = None
        self._work = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, text: str = "the speaker ends") -> None:
        """Says Termination where the station listens, and ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._writer is not None:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    if self._feed is not None:
                        self._writer.write(self._feed.last_words())
                    self._writer.write(bmp.termination(text))
                    self._writer.close()
                    await self._writer.wait_closed()
            self._writer.transport.abort()

    def row(self) -> dict[str, object]:
        """The station as JSON values."""
        up = self.since is not None
        return {
            "station": self.options.name,
            "connected": up,
            "uptime": None if self.since is None else round(time.monotonic() - self.since, 3),
            "octets": self.octets,
            "drops": self.drops,
            "reason": None if up else self.reason,
        }

    # -------------------------------------------------------------------------------------------------------- the connection

    async def _run(self) -> None:
        wait = self.options.retry
        while True:
            try:
                await self._once()
            except (OSError, _GivenUp) as error:
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            if self.since is not None:
                wait = self.options.retry
            if self.since is not None or reason != self.reason:
                self._speaker.log.emit("bmp.down", station=self.options.name, reason=reason)
            self.since, self.reason = None, reason
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_RETRY)

    async def _once(self) -> None:
        options = self.options
        reader, writer = await asyncio.open_connection(options.address, options.port)
        self._writer = writer
        writer.transport.set_write_buffer_limits(BUFFER)
        self._work.clear()
        feed = self._feed = Feed(self._speaker, options, socket.gethostname(), self._ports, time.time, self._work.set)
        self.since = time.monotonic()
        self._speaker.log.emit("bmp.up", station=options.name)
        ended = asyncio.get_running_loop().create_task(_until_end(reader))
        ended.add_done_callback(lambda _: self._work.set())
        reports = asyncio.get_running_loop().create_task(self._report(feed))
        try:
            await self._tell(feed, writer, ended)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._writer = None
            writer.transport.abort()
            raise
        finally:
            feed.close()
            ended.cancel()
            reports.cancel()

    async def _report(self, feed: Feed) -> None:
        while self.options.statistics_interval:
            await asyncio.sleep(self.options.statistics_interval)
            feed.report()

    async def _tell(self, feed: Feed, writer: asyncio.StreamWriter, ended: asyncio.Task[None]) -> None:
        while True:
            if ended.done():
                raise _GivenUp("the station closed the connection")
            if feed.overflowed:
                raise self._dropped("too many messages on sessions wait for it")
            data = feed.piece()
            if data is None:
                self._work.clear()
                await self._work.wait()
                continue
            self.octets += len(data)
            writer.write(data)
            try:
                async with asyncio.timeout(self.options.patience):
                    await writer.drain()
            except TimeoutError:
                raise self._dropped(f"it read nothing for {self.options.patience:g} s") from None
            # The speaker's own work comes between two pieces.
            await asyncio.sleep(0)

    def _dropped(self, reason: str) -> _GivenUp:
        self.drops += 1
        self._speaker.log.emit("bmp.dropped", station=self.options.name, reason=reason, drops=self.drops)
        return _GivenUp(reason)


async def _until_end(reader: asyncio.StreamReader) -> None:
    # RFC 7854 3.2: a station sends nothing; what one sends all the same is read and forgotten.
    with contextlib.suppress(OSError):
        while await reader.read(4096):
            pass
