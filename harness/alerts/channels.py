"""How an alert reaches a destination: HTTP POST for callbacks and webhooks, a local sink for everything else (VBR-39 to VBR-41).

A sink is a file of JSON lines below one folder, named after its channel and address: in a lab that is what stands for the telephone, the
queue, the function and the Logstore†. A file that cannot be written is a sink that is down. No redirect is followed and no answer is
read beyond its status.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import aiohttp

from harness.alerts.delivery import NotDelivered
from harness.cloud.alerts import Channel, Destination

_BY_HTTP = frozenset({Channel.CALLBACK, Channel.WEBHOOK})
_HEADERS = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "vbrlab"}


class Channels:
    """Every channel. ``sinks`` is the folder of the local ones."""

    def __init__(self, sinks: Path) -> None:
        self.sinks = sinks
        self._session: aiohttp.ClientSession | None = None

    async def send(self, destination: Destination, body: bytes) -> None:
        """Returns when the destination has the alert. Raises NotDelivered."""
        if destination.channel in _BY_HTTP:
            await self._post(destination.address, body)
        else:
            await asyncio.to_thread(self._append, self.path(destination), body)

    def path(self, destination: Destination) -> Path:
        """The file of a local sink."""
        safe = re.sub(r"[^\w.@+-]+", "-", destination.address).strip(".-")[:100] or "unnamed"
        return self.sinks / f"{destination.channel}-{safe}.jsonl"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, url: str, body: bytes) -> None:
        if self._session is None:
            # Each destination has one request under way at most; none of them may wait for another's connection.
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None), trust_env=False
            )
        try:
            async with self._session.post(url, data=body, headers=_HEADERS, allow_redirects=False) as answer:
                if not 200 <= answer.status < 300:
                    raise NotDelivered(f"HTTP {answer.status}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotDelivered(str(error) or type(error).__name__) from None

    @staticmethod
    def _append(path: Path, body: bytes) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
            with os.fdopen(fd, "wb", buffering=0) as file:
                file.write(body + b"\n")
        except OSError as error:
            raise NotDelivered(f"sink {path.name}: {error.strerror}") from None
