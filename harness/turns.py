"""Labs or tests two at a time, by pytest-xdist: which worker takes which, and never two of those that disturb each other.

Most labs wait for the protocols' timers most of their time and leave the processors idle; those that send thousands of flows through
tunnels keep one of them at work and measure what is lost. The latter carry the mark ``busy``: one worker begins with them, the others
with the rest, and whoever is done first takes from what is left. Whatever the distribution, a lock keeps two busy labs apart.
``tests/`` does the same with the mark ``root``: what runs real processes in namespaces beside what only computes.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

BUSY = "busy"


def marked_last(items: list[pytest.Item], mark: str) -> None:
    """Puts the tests with ``mark`` behind the others, each part in its order: where :class:`TwoEnds` looks for them."""
    items.sort(key=lambda item: item.get_closest_marker(mark) is not None)


@contextlib.contextmanager
def one_at_a_time(item: pytest.Item, mark: str, folder: Path) -> Iterator[None]:
    """Waits until no other process runs a test with ``mark``, if ``item`` has it. The lock lies in ``folder``, which the workers share."""
    if item.get_closest_marker(mark) is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / mark).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def units(nodeids: Sequence[str]) -> dict[str, str]:
    """The unit of work of each test: neighbours of one file, which may share a running lab."""
    return {
        nodeid: f"{file} {number}"
        for number, (file, group) in enumerate(itertools.groupby(nodeids, lambda each: each.partition("::")[0]))
        for nodeid in group
    }


class TwoEnds(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Files from both ends of the collection: the last worker begins at the end, where :func:`marked_last` put the busy ones."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._units: dict[str, str] = {}
        config.option.loadscopereorder = False  # the order is what this is about

    def schedule(self) -> None:
        if not self._units:
            self._units = units(next(iter(self.registered_collections.values())))
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._units[nodeid]

    def _assign_work_unit(self, node: WorkerController) -> None:
        if node is self.nodes[-1] and len(self.nodes) > 1:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


def scheduler(config: pytest.Config, log: Any) -> TwoEnds | None:
    """Ours, unless the user asked for another way to distribute (``--dist``)."""
    return TwoEnds(config, log) if config.getoption("dist") == "load" else None
