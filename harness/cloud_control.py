"""The control socket of a lab that has a virtual border router: what ``vbrlab vbr`` asks from another terminal.

Methods are the console's acts (``group.create``, ``peer.delete``, ...) and pages (``status``, ``group.list``, ...), in the words of
``harness.cloud_console``. An act answers ``{"done": text, "warnings": [finding]}``, or ``{"refused": [finding]}`` when nothing was
changed. ``events.follow`` streams the console's events. A key comes in and never goes out: it is shown as true or false.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.cloud.findings import Finding, Refused
from harness.cloud.vbr import BgpGroup
from harness.cloud_console import VbrConsole
from harness.control import ControlServer, EventLog

#: The sources of the lab's stream whose events are the console's.
EVENT_SOURCES = ("cloud", "alerts")


class CloudControl:
    """Serves one console on a Unix socket."""

    def __init__(self, console: VbrConsole, path: Path) -> None:
        self.console, self.path = console, path
        self._log = EventLog()
        self._server = ControlServer(path, self._methods(), self._log)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())
        await self._server.start()

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._server.close()

    async def _watch(self) -> None:
        async for event in self.console.lab.stream.follow():
            if event.source in EVENT_SOURCES:
                self._log.emit(event.source, happened=event.type, node=event.node, fields=dict(event.data))

    def _methods(self) -> dict[str, Callable[..., Any]]:
        console = self.console
        return {
            "details": console.information,
            "status": self._status,
            "group.list": lambda: [_group(group) for group in console.groups.list()],
            "group.create": lambda name, **fields: self._act(
                f"BGP group {name}", "created", lambda: console.groups.create(name, **fields)
            ),
            "group.modify": lambda name, changes: self._act(
                f"BGP group {changes.get('name', name)}", "modified", lambda: console.groups.modify(name, **changes)
            ),
            "group.delete": lambda name: self._act(f"BGP group {name}", "deleted", lambda: console.groups.delete(name)),
            "peer.create": lambda ip, **fields: self._act(
                f"BGP peer {ip}", "created", lambda: console.peers.create(ip=ip, **fields)
            ),
            "peer.modify": lambda ip, changes: self._act(
                f"BGP peer {changes.get('ip', ip)}", "modified", lambda: console.peers.modify(ip, **changes)
            ),
            "peer.delete": lambda ip: self._act(f"BGP peer {ip}", "deleted", lambda: console.peers.delete(ip)),
            "network.list": lambda: list(console.networks.list()),
            "network.add": lambda cidr: self._act(f"BGP network {cidr}", "added", lambda: console.networks.add(cidr)),
            "network.delete": lambda cidr: self._act(
                f"BGP network {cidr}", "deleted", lambda: console.networks.delete(cidr)
            ),
            "ecr.associate": lambda name: self._act(f"ECR {name}", "associated", lambda: console.associate_ecr(name)),
            "events": lambda: [event["fields"] for event in self._log.since() if event["type"] == "cloud"],
            "alerts": lambda: [
                {"alert": event["happened"], **event["fields"]}
                for event in self._log.since()
                if event["type"] == "alerts"
            ],
        }

    async def _status(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in await self.console.status()]

    async def _act(self, what: str, done: str, act: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
        owner = f"{what} of VBR {self.console.name}"
        try:
            await act()
        except Refused as refused:
            return {"refused": [finding.to_dict() for finding in refused.findings]}
        warnings = [finding for finding in self.console.warnings() if _concerns(finding, owner)]
        return {"done": f"{owner}: {done}", "warnings": [finding.to_dict() for finding in warnings]}


def _group(group: BgpGroup) -> dict[str, Any]:
    return {**asdict(group), "key": group.key is not None}


def _concerns(finding: Finding, owner: str) -> bool:
    return finding.object == owner
