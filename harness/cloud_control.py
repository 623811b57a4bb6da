"""The control socket of a lab that has a virtual border router: what ``vbrlab vbr`` asks from another terminal.

Methods are the console's acts (``group.create``, ``peer.delete``, ...) and pages (``status``, ``group.list``, ...), in the words of
``harness.cloud_console``. An act answers ``{"done": text, "warnings": [finding]}``, or ``{"refused": [finding]}`` when nothing was
changed. ``events.follow`` streams events and alerts, each as ``shown``. A key comes in and never goes out: it is shown as true or false.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.cloud.alerts import Alerting, AlertRule
from harness.cloud.events import NAME_OF, iso
from harness.cloud.findings import Refused
from harness.cloud.vbr import BgpGroup, VbrEstate
from harness.cloud_console import VbrConsole
from harness.cloud_monitor import callback_receiver, cloud_monitor
from harness.control import ControlServer, EventLog
from harness.plan import Role
from harness.stream import LabEvent

if TYPE_CHECKING:
    from harness.lab import Lab

#: Without alert rules of the user's own: both events go to the contact of last resort, the log.
LAST_RESORT = Alerting(
    rules=tuple(AlertRule(f"every {name}", kind, name) for kind, name in NAME_OF.items()),
)


class CloudControl:
    """Serves one console on a Unix socket."""

    def __init__(self, console: VbrConsole, path: Path) -> None:
        self.console, self.path = console, path
        self._log = EventLog()
        self._server = ControlServer(path, self._methods(), self._log)
        self._watching: asyncio.Task[None] | None = None
        self._epoch = time.time() - time.monotonic()

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
            if event.source == "cloud":
                self._log.emit("event", shown=_event(event))
            elif event.source in ("alerts", "receiver"):
                self._log.emit("alert", shown=_alert(event, self._epoch))

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
            "events": lambda: self._shown("event"),
            "alerts": lambda: self._shown("alert"),
        }

    def _shown(self, kind: str) -> list[dict[str, Any]]:
        return [event["shown"] for event in self._log.since() if event["type"] == kind]

    async def _status(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in await self.console.status()]

    async def _act(self, what: str, done: str, act: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
        owner = f"{what} of VBR {self.console.name}"
        before = self.console.warnings()
        try:
            await act()
        except Refused as refused:
            return {"refused": [finding.to_dict() for finding in refused.findings]}
        # What is said of the object itself, and what the change brought on others.
        warnings = [each for each in self.console.warnings() if each.object == owner or each not in before]
        return {"done": f"{owner}: {done}", "warnings": [finding.to_dict() for finding in warnings]}


@contextlib.asynccontextmanager
async def cloud_control(lab: Lab, estate: VbrEstate) -> AsyncGenerator[Path]:
    """The console of the estate's first VBR, monitored, on a socket for as long as the block lasts; the block gets its path.

    A URL callback to an ECS instance of the lab finds a server there, which takes it.
    """
    vbr, alerting = estate.vbrs[0].name, estate.alerting or LAST_RESORT
    async with contextlib.AsyncExitStack() as stack:
        for node, port in _receivers(lab, alerting).items():
            await stack.enter_async_context(callback_receiver(lab, node, port))
        monitor = await stack.enter_async_context(cloud_monitor(lab, estate, vbr, alerting))
        control = CloudControl(VbrConsole(lab, estate, vbr, monitor.know), lab.folder / "console.sock")
        await control.start()
        try:
            yield control.path
        finally:
            await control.close()


def _receivers(lab: Lab, alerting: Alerting) -> dict[str, int]:
    """The instances that callbacks go to, each with the port of the first."""
    instances = {
        address.partition("/")[0]: node.name
        for node in lab.having(Role.ECS)
        for end, _ in lab.plan.interfaces(node.name)
        for address in end.addresses
    }
    found: dict[str, int] = {}
    for rule in alerting.rules:
        if rule.callback is not None:
            url = urlsplit(rule.callback)
            if (node := instances.get(url.hostname or "")) is not None:
                found.setdefault(node, url.port or 80)
    return found


def _event(event: LabEvent) -> dict[str, Any]:
    """An event's JSON form, or for one that is over its name and peer with ``cleared``."""
    if event.type != "cleared":
        return dict(event.data)
    fields = dict(event.data)
    return {"eventTime": iso(fields.pop("time")), "cleared": True, **fields}


def _alert(event: LabEvent, epoch: float) -> dict[str, Any]:
    """What became of an alert, with the calendar's time."""
    fields = {name: value for name, value in event.data.items() if name not in ("seq", "time", "type")}
    return {"time": iso(event.time + epoch), "what": event.type, **fields}


def _group(group: BgpGroup) -> dict[str, Any]:
    return {**asdict(group), "key": group.key is not None}
