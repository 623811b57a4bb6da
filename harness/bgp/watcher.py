"""Looking on: what a speaker tells those who watch it (BMP, MRT dumps).

A watcher hears, for each neighbour, the inputs its Peer takes and the outputs it gives, in order. It changes nothing, raises nothing and
returns at once. With none, nothing is spent on it. Changes of tables are watched where they are: ``AdjRibIn.watch``, ``AdjRibOut.watch``,
``Table.watch`` (what was decided and told).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from harness.bgp import signals

if TYPE_CHECKING:
    from harness.bgp.adjacency import Adjacency

Marks = Callable[[Iterable[bytes]], object]
"""Takes the keys that a table put, changed or lost; what became of each is looked up in the table."""


class Watcher(Protocol):
    """Stands in ``Speaker.watchers``."""

    def takes(self, adjacency: Adjacency, signal: signals.Input) -> None:
        """Before the Peer has processed ``signal``."""
        ...

    def gives(self, adjacency: Adjacency, output: signals.Output) -> None:
        """After ``output`` was carried out."""
        ...
