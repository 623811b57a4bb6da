"""Sends alerts to their destinations, each destination on its own.

A destination has a bounded queue and one task that empties it, so that a receiver that hangs delays nobody else, and nothing here waits
for it. What fails is tried again: three retries and five seconds for an answer (VBR-41), with a pause before each that doubles and is
jittered†. What fails for good, and what goes nowhere, is told to the contact of last resort: the log. A full queue drops its oldest
alert and says so.

How something reaches a destination is a :data:`Send`: ``harness.alerts.channels`` has the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from harness.cloud.alerts import Alerting, Destination, destinations
from harness.cloud.muting import Alert

#: Takes an alert's JSON to a destination. Raises :class:`NotDelivered`; a time-out is the caller's.
Send = Callable[[Destination, bytes], Awaitable[None]]
#: Told what happens: a kind ("alert.delivered") and its fields.
Tell = Callable[..., object]


class NotDelivered(Exception):
    """The destination did not take an alert; the text is its answer or the reason that none came."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often. Seconds; ``first`` is the longest pause before the first retry, each later one may be twice as long."""

    retries: int = 3
    timeout: float = 5.0
    first: float = 1.0
    longest: float = 30.0
    queue: int = 100

    def pause(self, retry: int, random_: random.Random) -> float:
        """Before retry number ``retry`` (from 1 on): between half and all of the doubled time, so that alerts do not come in step."""
        return min(self.longest, self.first * 2.0 ** (retry - 1)) * random_.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True)
class _Item:
    alert: Alert
    body: bytes


def body_of(alert: Alert) -> bytes:
    """What is sent: the event's JSON form, with the rule that alerts and the how-manieth alert of the same trouble this is."""
    fields: dict[str, Any] = {**alert.event.fields(), "alertRule": alert.rule.name, "alertNumber": alert.number}
    return json.dumps(fields, ensure_ascii=False).encode()


class Dispatcher:
    """Every destination's queue. Use :meth:`post` for each alert, :meth:`close` at the end."""

    def __init__(self, alerting: Alerting, send: Send, tell: Tell, patience: Patience = Patience()) -> None:
        self.alerting = alerting
        self._send, self._tell, self._patience = send, tell, patience
        self._random = random.Random(1)
        self._lines: dict[Destination, _Line] = {}

    def post(self, alert: Alert) -> None:
        """Hands an alert to all its destinations and returns at once."""
        where = destinations(self.alerting, alert.rule)
        common = _named(alert)
        self._tell("alert", **common, at=alert.at, destinations=[str(each) for each in where])
        if alert.trouble is not None:
            self._tell("alert.trouble", **common, reason=alert.trouble)
        if not where:
            self._last_resort(alert, "the rule has no destination")
        item = _Item(alert, body_of(alert))
        for destination in where:
            line = self._lines.get(destination)
            if line is None:
                line = self._lines[destination] = _Line(destination, self)
            line.put(item)

    async def settled(self) -> None:
        """Returns once every queue is empty and nothing is under way."""
        for line in list(self._lines.values()):
            await line.idle.wait()

    def rows(self) -> list[dict[str, Any]]:
        """Each destination with its figures, for a status display."""
        return [line.row() for line in self._lines.values()]

    async def close(self) -> None:
        for line in self._lines.values():
            line.task.cancel()
        await asyncio.gather(*(line.task for line in self._lines.values()), return_exceptions=True)

    def _last_resort(self, alert: Alert, reason: str) -> None:
        self._tell("alert.log", **_named(alert), reason=reason, alert_body=alert.event.fields())


class _Line:
    """One destination."""

    def __init__(self, destination: Destination, owner: Dispatcher) -> None:
        self._destination, self._owner = destination, owner
        self._waiting: deque[_Item] = deque()
        self._filled = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self._delivered = self._failed = self._dropped = 0
        self._last = ""
        self.task = asyncio.get_running_loop().create_task(self._work(), name=str(destination))

    def put(self, item: _Item) -> None:
        owner = self._owner
        if len(self._waiting) >= owner._patience.queue:
            # The newest says most about how things are.
            oldest = self._waiting.popleft()
            self._dropped += 1
            reason = f"{len(self._waiting) + 1} alerts wait for {self._destination} already"
            owner._tell("alert.dropped", **_named(oldest.alert), destination=str(self._destination), reason=reason)
            owner._last_resort(oldest.alert, reason)
        self._waiting.append(item)
        self.idle.clear()
        self._filled.set()

    def row(self) -> dict[str, Any]:
        return {
            "destination": str(self._destination),
            "waiting": len(self._waiting),
            "delivered": self._delivered,
            "failed": self._failed,
            "dropped": self._dropped,
            "last_error": self._last,
        }

    async def _work(self) -> None:
        while True:
            await self._filled.wait()
            while self._waiting:
                await self._deliver(self._waiting.popleft())
            self._filled.clear()
            self.idle.set()

    async def _deliver(self, item: _Item) -> None:
        owner, patience = self._owner, self._owner._patience
        told = {**_named(item.alert), "destination": str(self._destination)}
        for attempt in range(1, patience.retries + 2):
            reason = await self._attempt(item)
            if reason is None:
                self._delivered += 1
                delay = round(time.time() - item.alert.event.time, 6)
                owner._tell("alert.delivered", **told, attempt=attempt, delay=delay)
                return
            self._last = reason
            if attempt <= patience.retries:
                pause = patience.pause(attempt, owner._random)
                owner._tell("alert.retry", **told, attempt=attempt, reason=reason, pause=round(pause, 3))
                await asyncio.sleep(pause)
        self._failed += 1
        owner._tell("alert.failed", **told, attempts=patience.retries + 1, reason=reason)
        owner._last_resort(item.alert, f"{self._destination}: {reason}")

    async def _attempt(self, item: _Item) -> str | None:
        """None when it is delivered, else why not."""
        timeout = self._owner._patience.timeout
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                try:
                    await self._owner._send(self._destination, item.body)
                except NotDelivered as error:
                    return str(error)
                return None
        return f"no answer within {timeout:g} s"


def _named(alert: Alert) -> dict[str, Any]:
    event = alert.event
    return {"rule": alert.rule.name, "event": str(event.name), "resource": event.resource, "number": alert.number}
