"""The cloud's monitoring of a running lab: a VBR's speaker is watched, its events become the console's, alert rules deliver them.

Joins what is apart: ``harness.cloud.events`` says what a speaker's events mean, ``harness.alerts`` delivers in a process of its own, inside
a node. Each event is a line of ``events-VBR.jsonl`` in the lab's folder, an event of the lab's stream (source "cloud"), and a mark in
the report's timelines.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from harness.alerts.delivery import Patience
from harness.cloud.alerts import Alerting, require_valid
from harness.cloud.events import Cleared, Event, Happening, PeerFacts, PeerWatch
from harness.cloud.vbr import VbrEstate, group_of
from harness.control import ControlError
from harness.daemon import Daemon, write_private
from harness.instruments import start
from harness.lab import Lab
from harness.stream import LabEvent

_numbers = itertools.count(1)


class CloudMonitor:
    """Watches one VBR of a lab. ``events`` has all events so far, ``path`` the same as JSON lines."""

    def __init__(self, lab: Lab, estate: VbrEstate, vbr: str, alerter: Daemon | None) -> None:
        self.lab, self.vbr, self.alerter = lab, vbr, alerter
        self.events: list[Event] = []
        self.happenings: list[Happening] = []
        self.path: Path = lab.folder / f"events-{vbr}.jsonl"
        router = next(each for each in estate.vbrs if each.name == vbr)
        self._facts: dict[str, PeerFacts] = {}
        self._watch = PeerWatch(vbr, self._facts, str(router.region))
        self.know(estate)
        # Speakers tell time by CLOCK_MONOTONIC, the console by the calendar.
        self._epoch = time.time() - time.monotonic()

    def know(self, estate: VbrEstate) -> None:
        """The console's resources have changed: peers may have come and gone."""
        router = next(each for each in estate.vbrs if each.name == self.vbr)
        self._facts.clear()
        for peer in router.peers:
            if (group := group_of(router, peer)) is not None:
                self._facts[peer.ip] = PeerFacts(group.name, group.peer_asn)

    async def run(self) -> None:
        """Watches until cancelled; what the lab's stream has already counts."""
        async for told in self.lab.stream.follow():
            for happening in self._meaning(told):
                await self._take(happening, told.time)

    def _meaning(self, told: LabEvent) -> list[Happening]:
        if told.node != self.vbr:
            return []
        at = told.time + self._epoch
        if told.source == "bgp":
            return list(self._watch.told(told.type, told.data, at))
        if told.type == "exit" and told.data["daemon"] == "bgp":
            return list(self._watch.speaker_ended(at))
        return []

    async def _take(self, happening: Happening, at: float) -> None:
        self.happenings.append(happening)
        match happening:
            case Event():
                self.events.append(happening)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(happening.to_json() + "\n")
                self.lab.stream.add(self.vbr, "cloud", str(happening.name), happening.fields(), at)
                await self._alert("event", fields=happening.fields())
            case Cleared():
                fields = dataclasses.asdict(happening)
                self.lab.stream.add(self.vbr, "cloud", "cleared", fields, at)
                await self._alert("cleared", **fields)

    async def _alert(self, method: str, **fields: Any) -> None:
        """Hands a happening to the alerter; one that is gone is told of, and the watch goes on."""
        if self.alerter is None:
            return
        try:
            await self.alerter.call(method, **fields)
        except ControlError as error:
            self.lab.stream.add(self.vbr, "cloud", "alerter.failed", {"reason": str(error)})


@contextlib.asynccontextmanager
async def cloud_monitor(
    lab: Lab,
    estate: VbrEstate,
    vbr: str,
    alerting: Alerting | None = None,
    *,
    node: str | None = None,
    patience: Patience = Patience(),
) -> AsyncIterator[CloudMonitor]:
    """Watches a VBR for as long as the block lasts; with ``alerting`` its alerts are delivered from ``node`` (default: the VPC's).

    Raises Refused for alert rules that break the document's. The alerter's events are in the lab's stream, source "alerts".
    """
    alerter = None
    if alerting is not None:
        require_valid(alerting)
        where = node or next(each.vpc for each in estate.vbrs if each.name == vbr)
        alerter = _alerter(lab, where, alerting, patience)
        await start(lab, [alerter])
    monitor = CloudMonitor(lab, estate, vbr, alerter)
    watching = asyncio.create_task(monitor.run())
    try:
        yield monitor
    finally:
        watching.cancel()
        if alerter is not None:
            await _end(alerter)
        with contextlib.suppress(asyncio.CancelledError):
            await watching


@contextlib.asynccontextmanager
async def callback_receiver(lab: Lab, node: str, port: int = 8080) -> AsyncIterator[str]:
    """An HTTP server in a node (``harness.alerts.receiver``); the block gets its URL without a path. Its events: source "receiver"."""
    address = next(end for end, _ in lab.plan.interfaces(node) if end.addresses).addresses[0].partition("/")[0]
    folder = lab.folder / node
    socket = folder / "receiver.sock"

    def prepare() -> list[str]:
        config = {"socket": str(socket), "address": address, "port": port}
        return [str(write_private(folder / "receiver.json", config))]

    receiver = Daemon(
        node, "receiver", "harness.alerts.receiver:main", folder, lab[node].namespace.fd, lab.stream, prepare
    )
    await start(lab, [receiver])
    try:
        yield f"http://{address}:{port}"
    finally:
        await _end(receiver)


def _alerter(lab: Lab, node: str, alerting: Alerting, patience: Patience) -> Daemon:
    # Several VBRs may be watched, each with rules of its own.
    folder, kind = lab.folder / node / f"alerts-{next(_numbers)}", "alerts"

    def prepare() -> list[str]:
        config = {
            "socket": str(folder / f"{kind}.sock"),
            "sinks": str(folder / "sinks"),
            "alerting": dataclasses.asdict(alerting),
            "patience": dataclasses.asdict(patience),
        }
        return [str(write_private(folder / f"{kind}.json", config))]

    return Daemon(node, kind, "harness.alerts.daemon:main", folder, lab[node].namespace.fd, lab.stream, prepare)


async def _end(daemon: Daemon) -> None:
    await daemon.close_stream()
    if daemon.running:
        await daemon.kill()
    await daemon.close()
