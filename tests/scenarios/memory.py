"""A stage in memory: the simulation's network and clock. Half a minute of waiting takes as long as what happens in it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from harness.bgp.commands import methods
from harness.bgp.shows import Shows
from tests.scenarios.stage import WITHIN, Stage
from tests.simulation.network import Link, Node, World
from tests.simulation.reference import link_between


class MemoryStage(Stage):
    """Nothing of it is real but the speakers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.world = World(seed)

    def _node(self, name: str) -> Node:
        if name not in self.world.nodes:
            actor = self.actors[name]
            Node(self.world, name, actor.asn).listeners.append(actor.seen.append)
        return self.world.nodes[name]

    def _link(self, one: str, other: str) -> Link:
        return link_between(self._node(one), self._node(other))

    async def start(self, *names: str) -> None:
        if not self.world.links:
            for number, (one, other) in enumerate(self.cables):
                Link(self.world, self._node(one), self._node(other), number)
        for name in names or tuple(self.actors):
            node = self._node(name)
            node.config = self.config(name)
            node.start()

    async def kill(self, name: str) -> None:
        self._node(name).kill(power=False)

    async def freeze(self, name: str) -> None:
        self._node(name).freeze()

    async def thaw(self, name: str) -> None:
        self._node(name).thaw()

    async def cut(self, one: str, other: str) -> None:
        self._link(one, other).set(carrier=False, passes=False)

    async def mend(self, one: str, other: str) -> None:
        self._link(one, other).set(carrier=True, passes=True)

    async def call(self, name: str, method: str, /, **params: Any) -> Any:
        node = self._node(name)
        assert node.speaker is not None, f"{name} does not run"
        answer = methods(node.speaker, Shows(node.speaker, node.now))[method](**params)
        return await answer if inspect.isawaitable(answer) else answer

    async def until(self, name: str, probe: Callable[[], Awaitable[Any]], what: str, within: float = WITHIN) -> Any:
        seen = self.actors[name].seen
        end = self.world.time + within
        while not (answer := await probe()):
            before = len(seen)
            if not self.world.run_to(end, lambda before=before: len(seen) > before):  # type: ignore[misc]
                story = "\n".join(map(str, seen[-30:]))
                raise AssertionError(f"{name}: no {what} within {within} s; last events:\n{story}")
        return answer
