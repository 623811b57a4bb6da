"""A node's daemon as the lab sees it: a process forked from the zygote, its control socket, its events in the lab's stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.control import ControlClient, ControlClosed
from harness.net.zygote import Child, Spawn, Zygote
from harness.patience import stretched
from harness.stream import Stream

_READY_WITHIN = 20.0


class DaemonDied(RuntimeError):
    """A daemon ended before it served its control socket; the text has the end of its log."""


class Daemon:
    """One daemon of one node. ``kind`` is bgp, ipsec or traffic; ``folder`` holds its ``<kind>.sock`` and ``<kind>.log``.

    ``prepare`` writes what the daemon is started with and returns its arguments, anew at every start; ``after`` is called when
    the process has ended by itself or by :meth:`kill`.
    """

    def __init__(
        self,
        node: str,
        kind: str,
        entry: str,
        folder: Path,
        netns_fd: int | None,
        stream: Stream,
        prepare: Callable[[], list[str]],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self.node, self.kind, self._entry, self._netns_fd, self._stream = node, kind, entry, netns_fd, stream
        self.folder = folder
        self.socket, self.log = folder / f"{kind}.sock", folder / f"{kind}.log"
        self._prepare = prepare
        self._after = after
        self._child: Child | None = None
        self._client: ControlClient | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def spawn(self) -> Spawn:
        """What the zygote is to fork; hand its answer to :meth:`started`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Spawn(self._entry, self._prepare(), self._netns_fd, f"{self.kind}:{self.node}"[:15], self.log)

    def started(self, child: Child) -> None:
        self._child = child
        self._tasks.append(asyncio.create_task(self._watch(child)))

    async def connect(self) -> None:
        """Returns when the daemon serves its socket and its events flow. Raises DaemonDied with the end of its log."""
        assert self._child is not None
        connecting = asyncio.create_task(ControlClient.connect(self.socket, stretched(_READY_WITHIN)))
        dying = asyncio.create_task(self._child.exited())
        await asyncio.wait({connecting, dying}, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            raise DaemonDied(f"{self.node}: {self.kind} ended with {dying.result()} at its start\n{self.last_lines()}")
        dying.cancel()
        self._client = connecting.result()
        following = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._follow(self._client, following)))
        await following.wait()

    def last_lines(self, count: int = 20) -> str:
        """The end of the daemon's log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        return "(no log)"

    async def _follow(self, client: ControlClient, following: asyncio.Event) -> None:
        events = client.events()
        asyncio.get_running_loop().call_soon(following.set)
        with contextlib.suppress(ControlClosed):
            async for event in events:
                self._stream.add(self.node, self.kind, event["type"], event, event["time"])

    async def _watch(self, child: Child) -> None:
        status = await child.exited()
        if self._child is child:
            self._after()
            self._stream.add(self.node, "lab", "exit", {"daemon": self.kind, "status": status})

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.alive()

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    async def call(self, method: str, **params: Any) -> Any:
        """A control request. Raises ControlError with the daemon's reason, ControlClosed when it is gone."""
        if self._client is None:
            raise ControlClosed(f"{self.node}: {self.kind} is not running")
        return await self._client.call(method, **params)

    async def kill(self, number: int = signal.SIGKILL) -> int:
        """Sends a signal and returns the exit status once the process is gone."""
        assert self._child is not None
        self._child.kill(number)
        return await self._child.exited()

    async def abandon(self) -> None:
        """Kills the process and does not wait for its end: the kernel takes its time over packet rings."""
        child = self._child
        await self.close()
        if child is not None:
            child.kill(signal.SIGKILL)

    async def restart(self, zygote: Zygote) -> None:
        """Starts the daemon again from its configuration; the old one must be gone."""
        await self.close()
        # A killed daemon leaves its socket's name, which would be taken for the new one's.
        self.socket.unlink(missing_ok=True)
        self.started(zygote.spawn_all([self.spawn()])[0])
        await self.connect()

    async def close_stream(self) -> None:
        """Stops taking events, so that an end that is wanted is not reported as one that happened."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Lets go of the process; it is not stopped."""
        await self.close_stream()
        self._child = None
        if self._client is not None:
            await self._client.close()
            self._client = None


def write_private(path: Path, values: Mapping[str, Any]) -> Path:
    """Writes JSON that this user alone can read: a configuration may hold keys."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(values, file)
    return path
