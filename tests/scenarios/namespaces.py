"""A stage of network namespaces: each speaker is a process with its own sockets, links and kernel routes. Needs root."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from harness.net import rtnl
from tests.bgp.rig import Daemon, Rig
from tests.scenarios.stage import WITHIN, Stage


class NamespaceStage(Stage):
    """``rig`` owns the nodes and processes and ends them."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self.rig = rig
        self._daemons: dict[str, Daemon] = {}
        self._attempts: dict[str, int] = {}
        self._ends: dict[tuple[str, str], tuple[str, int]] = {}

    async def start(self, *names: str) -> None:
        if not self._ends:
            for number, (one, other) in enumerate(self.cables):
                ends = self.rig.link(one, f"10.{number}.0.1/24", other, f"10.{number}.0.2/24")
                self._ends[one, other], self._ends[other, one] = (one, ends[0]), (other, ends[1])
        await asyncio.gather(*(self._start(name) for name in names or tuple(self.actors)))

    async def _start(self, name: str) -> None:
        attempt = self._attempts[name] = self._attempts.get(name, -1) + 1
        daemon = await self.rig.speaker(name, attempt=attempt, **self.config(name))
        actor, before = self.actors[name], list(self.actors[name].seen)
        # The daemon's list grows by itself; what the last life told stays before it.
        daemon.seen[:0] = before
        actor.seen = daemon.seen
        self._daemons[name] = daemon

    async def kill(self, name: str) -> None:
        daemon = self._daemons[name]
        daemon.child.kill(signal.SIGKILL)
        await daemon.child.exited()

    async def freeze(self, name: str) -> None:
        self._daemons[name].child.kill(signal.SIGSTOP)

    async def thaw(self, name: str) -> None:
        self._daemons[name].child.kill(signal.SIGCONT)

    async def cut(self, one: str, other: str) -> None:
        self._set_link(one, other, up=False)

    async def mend(self, one: str, other: str) -> None:
        self._set_link(one, other, up=True)

    def _set_link(self, one: str, other: str, *, up: bool) -> None:
        node, index = self._ends[one, other]
        self.rig.node(node).transact([rtnl.link_set(index, up=up)])

    async def call(self, name: str, method: str, /, **params: Any) -> Any:
        return await self._daemons[name].call(method, **params)

    async def until(self, name: str, probe: Callable[[], Awaitable[Any]], what: str, within: float = WITHIN) -> Any:
        daemon = self._daemons[name]
        try:
            async with asyncio.timeout(within):
                while True:
                    before = len(daemon.seen)
                    if answer := await probe():
                        return answer
                    await daemon.until(lambda before=before: len(daemon.seen) > before, within)  # type: ignore[misc]
        except (TimeoutError, AssertionError):
            story = "\n".join(map(str, daemon.seen[-30:]))
            raise AssertionError(f"{name}: no {what} within {within} s; last events:\n{story}") from None
