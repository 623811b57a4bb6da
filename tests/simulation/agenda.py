"""A call that is due: the entry of the simulation's agenda, and what a speaker holds of its timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.network import Node


class Due:
    """A call that is due at a time of the world; with ``node`` a timer of that node, which its clock moves."""

    __slots__ = ("call", "cancelled", "node", "when")

    def __init__(self, call: Callable[[], None], node: Node | None = None, when: float = 0.0) -> None:
        self.call: Callable[[], None] | None = call
        self.node = node
        self.when = when
        self.cancelled = False

    def cancel(self) -> None:
        self.call, self.cancelled = None, True
        if self.node is not None:
            self.node.timers.pop(self, None)
