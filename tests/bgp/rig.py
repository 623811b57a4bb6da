"""Speakers in network namespaces for the tests: processes of the zygote, so that none outlives the test run.

A node is a namespace with its links; a speaker is started in it and watched by its event stream. Needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.control import ControlClient, ControlClosed, Event
from harness.net import rtnl
from harness.net.namespace import Namespace, NamespaceError
from harness.net.rtnl import Rtnl
from harness.net.zygote import Child, Zygote

WITHIN = 10.0


class Daemon:
    """A running speaker."""

    def __init__(self, name: str, child: Child, client: ControlClient) -> None:
        self.name = name
        self.child = child
        self.seen: list[Event] = []
        self._client = client
        self._arrived = asyncio.Condition()
        self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        async for event in self._client.events():
            async with self._arrived:
                self.seen.append(event)
                self._arrived.notify_all()

    async def call(self, method: str, **params: Any) -> Any:
        return await self._client.call(method, **params)

    async def event(self, kind: str, since: int = 0, within: float = WITHIN, **fields: Any) -> Event:
        """The first event of that kind and those fields with a number over ``since``."""

        def found() -> Event | None:
            for event in self.seen:
                if event["seq"] > since and event["type"] == kind and fields.items() <= event.items():
                    return event
            return None

        await self._wait(lambda: found() is not None, f"event {kind} {fields}", within)
        event = found()
        assert event is not None
        return event

    async def until(self, holds: Callable[[], Any], within: float = WITHIN) -> None:
        """Waits until ``holds()`` is true: looked at once and at every event."""
        await self._wait(holds, "the condition", within)

    async def _wait(self, holds: Callable[[], Any], what: str, within: float) -> None:
        try:
            async with asyncio.timeout(within), self._arrived:
                await self._arrived.wait_for(lambda: bool(holds()))
        except TimeoutError:
            story = "\n".join(json.dumps(event) for event in self.seen[-30:])
            raise AssertionError(f"{self.name}: no {what} within {within} s; last events:\n{story}") from None

    @property
    def last(self) -> int:
        """The number of the newest event seen."""
        return int(self.seen[-1]["seq"]) if self.seen else 0

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ControlClosed):
            await self._task
        await self._client.close()


class Rig:
    """Nodes, links and speakers of one test. A ``zygote`` that is given outlives it."""

    def __init__(self, folder: Path, zygote: Zygote | None = None) -> None:
        self.folder = folder
        self._own_zygote = zygote is None
        self.zygote = zygote or Zygote.start(["harness.bgp.daemon"])
        self.nodes: dict[str, Namespace] = {}
        self.sockets: dict[str, Rtnl] = {}
        self.daemons: list[Daemon] = []
        self._indexes = itertools.count(10)

    def node(self, name: str) -> Rtnl:
        """The node's netlink socket; the node is made when first asked for."""
        if name not in self.nodes:
            self.nodes[name] = Namespace.create(name)
            self.sockets[name] = Rtnl(self.nodes[name])
            self.sockets[name].transact([rtnl.link_set(1, up=True)])
        return self.sockets[name]

    def link(self, one: str, one_address: str, other: str, other_address: str) -> tuple[int, int]:
        """A cable; returns the interface indexes of its ends."""
        a, b = self.node(one), self.node(other)
        ends = next(self._indexes), next(self._indexes)
        a.transact(
            [rtnl.veth(f"e{ends[0]}", f"e{ends[1]}", self.nodes[other].fd, ifindex=ends[0], peer_ifindex=ends[1])]
        )
        for sock, index, address in ((a, ends[0], one_address), (b, ends[1], other_address)):
            sock.transact([rtnl.link_set(index, up=True), rtnl.address(index, address)])
        for sock, index in ((a, ends[0]), (b, ends[1])):
            sock.transact([rtnl.link_get(index)])
        return ends

    async def speaker(self, node: str, *, attempt: int = 0, **config: Any) -> Daemon:
        """Starts a speaker in a node; ``config`` is its configuration."""
        base = self.folder / f"{node}{attempt or ''}"
        base.with_suffix(".json").write_text(json.dumps(config))
        socket = base.with_suffix(".sock")
        arguments = ["--config", str(base.with_suffix(".json")), "--control", str(socket)]
        child = self.zygote.spawn(
            "harness.bgp.daemon:main", arguments, self.nodes[node].fd, f"bgp-{node}"[:15], base.with_suffix(".log")
        )
        async with asyncio.timeout(WITHIN):
            while True:
                try:
                    client = await ControlClient.connect(socket)
                    break
                except ControlClosed:
                    # The zygote tells when a child ends, not when it serves.
                    assert child.alive(), base.with_suffix(".log").read_text()
                    await asyncio.sleep(0.002)
        daemon = Daemon(node, child, client)
        self.daemons.append(daemon)
        return daemon

    def log(self, node: str, attempt: int = 0) -> str:
        return (self.folder / f"{node}{attempt or ''}.log").read_text()

    async def close(self) -> None:
        for daemon in self.daemons:
            await daemon.close()
            daemon.child.kill(signal.SIGKILL)
        for daemon in self.daemons:
            await daemon.child.exited()
        if self._own_zygote:
            self.zygote.stop()
        for sock in self.sockets.values():
            sock.close()
        for namespace in self.nodes.values():
            namespace.close()


@contextlib.asynccontextmanager
async def opened(folder: Path, zygote: Zygote | None = None) -> AsyncIterator[Rig]:
    """A rig, or a skip with the reason where no namespace can be made."""
    try:
        Namespace.create("probe").close()
    except NamespaceError as error:
        pytest.skip(f"network namespaces: {error}")
    rig = Rig(folder, zygote)
    try:
        yield rig
    finally:
        await rig.close()
