"""The one stream of events of a lab, and waiting on it.

Speakers, IPsec agents, traffic workers, the kernel of each node and the lab itself add to it, each event with the moment it
happened (CLOCK_MONOTONIC, one clock for all processes). Waiting means: check a condition now, and again whenever something
happened, until one deadline that is anchored at its trigger. Nothing here sleeps or polls.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.patience import stretched

#: Something to become true: called for its value, which is awaited if it can be.
Condition = Callable[[], Any]

_SHOWN = 12
_LONGEST = 120
_ENVELOPE = ("seq", "time", "type", "node", "tunnel")


@dataclass(frozen=True, slots=True)
class LabEvent:
    """Something that happened. ``source`` is the daemon's kind (bgp, ipsec, ...), kernel, cloud or lab; ``data`` the daemon's event."""

    time: float
    node: str
    source: str
    type: str
    data: Mapping[str, Any]

    def text(self, origin: float = 0.0) -> str:
        """One line, the time from ``origin`` on; long values are cut."""
        fields = " ".join(
            f"{k}={_short(v)}" for k, v in self.data.items() if k not in _ENVELOPE and v not in (None, "", [])
        )
        return f"{self.time - origin:+9.3f} s  {self.node:12} {self.source:7} {self.type} {fields}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("meaning") or value.get("name") or value
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


class NotInTime(AssertionError):
    """A condition did not come true before its deadline; the text has the last events."""


class Stream:
    """All events of one lab, in the order in which they arrived."""

    def __init__(self) -> None:
        self.events: list[LabEvent] = []
        self._waiters: set[asyncio.Event] = set()
        #: Called with the node and the kind of event that somebody looks for; raises where that node never tells it.
        self.is_told: Callable[[str | None, str | None], None] = lambda _node, _kind: None

    def add(
        self, node: str, source: str, kind: str, data: Mapping[str, Any] | None = None, at: float | None = None
    ) -> LabEvent:
        event = LabEvent(time.monotonic() if at is None else at, node, source, kind, data or {})
        self.events.append(event)
        self.wake()
        return event

    def wake(self) -> None:
        """Something changed that is no event of its own (a kernel table): let every waiter look again."""
        for waiter in self._waiters:
            waiter.set()

    def of(
        self,
        *,
        node: str | None = None,
        source: str | None = None,
        kind: str | None = None,
        since: float = 0.0,
        **fields: Any,
    ) -> Iterator[LabEvent]:
        """The events that match all that is given, in the order of their times."""
        self.is_told(node, kind)
        found = (
            event
            for event in self.events
            if event.time >= since
            and (node is None or event.node == node)
            and (source is None or event.source == source)
            and (kind is None or event.type == kind)
            and all(event.data.get(name) == value for name, value in fields.items())
        )
        return iter(sorted(found, key=lambda event: event.time))

    async def follow(self, start: int = 0) -> AsyncIterator[LabEvent]:
        """Every event from the ``start``-th that arrived on, then each new one as it arrives. Never ends by itself."""
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            while True:
                changed.clear()
                while start < len(self.events):
                    start += 1
                    yield self.events[start - 1]
                await changed.wait()
        finally:
            self._waiters.discard(changed)

    async def until(self, condition: Condition, *, within: float, since: float | None = None, what: str = "") -> Any:
        """The first true value of ``condition``, looked at now and then after every event.

        The deadline is ``since`` (the trigger's moment, default now) plus ``within`` seconds, which last longer on a slow machine
        (``harness.patience``). Raises NotInTime.
        """
        origin = time.monotonic() if since is None else since
        within = stretched(within)
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            while True:
                changed.clear()
                found = condition()
                value = await found if inspect.isawaitable(found) else found
                if value:
                    return value
                try:
                    async with asyncio.timeout_at(
                        asyncio.get_running_loop().time() + origin + within - time.monotonic()
                    ):
                        await changed.wait()
                except TimeoutError:
                    raise NotInTime(self._too_late(what or _described(condition), within, origin)) from None
        finally:
            self._waiters.discard(changed)

    def _too_late(self, what: str, within: float, origin: float) -> str:
        last = "\n".join(event.text(origin) for event in self.events[-_SHOWN:]) or "no event at all"
        return f"not within {within:g} s: {what}\nthe last events, times from the trigger:\n{last}"


def _described(condition: Callable[..., Any]) -> str:
    return (inspect.getdoc(condition) or "").partition("\n")[0] or condition.__qualname__
