"""What a scenario has to work with: speakers and cables by name, their events, their control methods, and faults.

A scenario names no address and waits for no time: addresses follow from the cables, and waiting is for an event or for a state that some
event brings about.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]
WITHIN = 30.0
"""Seconds (of the stage's clock) that an awaited thing may take."""


@dataclass
class Actor:
    """A speaker of the scenario. ``seen``: its events since the scenario began, restarts included."""

    name: str
    options: dict[str, Any]
    neighbors: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[Event] = field(default_factory=list)

    @property
    def asn(self) -> int:
        return int(self.options["asn"])


class Stage(ABC):
    """Speakers are declared, cabled, then started; everything else is done to running ones."""

    def __init__(self) -> None:
        self.actors: dict[str, Actor] = {}
        self.cables: list[tuple[str, str]] = []

    # ---------------------------------------------------------------------------------------------------------- the cast

    def speaker(self, name: str, asn: int, **options: Any) -> None:
        """A speaker with these fields of its configuration; its BGP Identifier follows from the order of declaration."""
        options = {"router_id": f"192.0.2.{len(self.actors) + 1}", "asn": asn} | options
        self.actors[name] = Actor(name, options)

    def cable(
        self, one: str, other: str, of_one: dict[str, Any] | None = None, of_other: dict[str, Any] | None = None
    ) -> None:
        """A cable, and with it a session: ``of_one`` are fields of ``other`` as a neighbour in ``one``'s configuration."""
        number = len(self.cables)
        self.cables.append((one, other))
        for near, far, last, fields in ((one, other, 2, of_one), (other, one, 1, of_other)):
            neighbor = {"name": far, "address": f"10.{number}.0.{last}", "remote_asn": self.actors[far].asn}
            self.actors[near].neighbors[far] = neighbor | (fields or {})

    def address(self, one: str, other: str) -> str:
        """The address of ``one`` on its cable to ``other``."""
        return str(self.actors[other].neighbors[one]["address"])

    def config(self, name: str) -> dict[str, Any]:
        actor = self.actors[name]
        return actor.options | {"neighbors": list(actor.neighbors.values())}

    # ------------------------------------------------------------------------------------------------------- what happens

    @abstractmethod
    async def start(self, *names: str) -> None:
        """The speakers start, at the same time; no name: all of them."""

    @abstractmethod
    async def kill(self, name: str) -> None:
        """The speaker dies without a word; :meth:`start` brings it back."""

    @abstractmethod
    async def freeze(self, name: str) -> None:
        """The speaker gets no CPU: its connections stand, and nobody reads or writes them."""

    @abstractmethod
    async def thaw(self, name: str) -> None: ...

    @abstractmethod
    async def cut(self, one: str, other: str) -> None:
        """The cable is pulled: both sides see that their carrier is gone."""

    @abstractmethod
    async def mend(self, one: str, other: str) -> None: ...

    @abstractmethod
    async def call(self, name: str, method: str, /, **params: Any) -> Any:
        """A control method of the speaker."""

    # ------------------------------------------------------------------------------------------------------- what is seen

    @abstractmethod
    async def until(self, name: str, probe: Callable[[], Awaitable[Any]], what: str, within: float = WITHIN) -> Any:
        """The first true answer of ``probe``, which is asked now and after every event of the speaker."""

    def mark(self, name: str) -> int:
        """A place in the events of a speaker, for ``since``."""
        return len(self.actors[name].seen)

    async def event(self, name: str, kind: str, *, since: int = 0, within: float = WITHIN, **fields: Any) -> Event:
        """The first event of that kind and those fields (of dictionaries: at least those keys) from ``since`` on."""

        async def found() -> Event | None:
            seen = self.actors[name].seen[since:]
            return next((e for e in seen if e["type"] == kind and _fits(fields, e)), None)

        event: Event = await self.until(name, found, f"event {kind} {fields}", within)
        return event

    async def up(self, one: str, other: str, since: tuple[int, int] = (0, 0)) -> None:
        """Both ends say that their session is up."""
        await self.event(one, "peer.up", peer=other, since=since[0])
        await self.event(other, "peer.up", peer=one, since=since[1])

    async def routes(
        self, name: str, *prefixes: str, best: bool = True, within: float = WITHIN
    ) -> dict[str, list[Event]]:
        """Loc-RIB, once it has exactly these prefixes, each with a best path; path rows as ``show.routes`` has them."""

        async def exactly() -> dict[str, list[Event]] | None:
            rows = {row["prefix"]: row["paths"] for row in await self.call(name, "show.routes")}
            usable = {prefix for prefix, paths in rows.items() if not best or any(path["best"] for path in paths)}
            return (rows or {"": []}) if usable == set(prefixes) else None

        found: dict[str, list[Event]] = await self.until(name, exactly, f"Loc-RIB of {sorted(prefixes)}", within)
        return found

    async def state(self, name: str, neighbor: str) -> dict[str, Any]:
        """The neighbour's row of ``show.neighbors``."""
        (row,) = await self.call(name, "show.neighbors", name=neighbor)
        return dict(row)


def _fits(wanted: Any, there: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(_fits(value, there.get(key)) for key, value in wanted.items())
    return bool(wanted == there)
