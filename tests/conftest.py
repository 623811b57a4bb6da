"""Tests two at a time (``-n 2``): what runs real processes in namespaces one after the other, beside it what only computes.

In between stands what is marked ``beside``: real processes that need no lock, for the worker that is done first.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

MARK = "root"
BESIDE = "beside"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores it for what it runs in the background, and so would all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from harness.turns import scheduler

    return scheduler(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        from harness.turns import marked_last

        items.sort(key=lambda item: item.get_closest_marker(BESIDE) is None)
        marked_last(items, MARK)


def pytest_configure(config: pytest.Config) -> None:
    """What only computes gives way to what runs beside it by the clock: the last worker, which begins with the marked ones."""
    worker = getattr(config, "workerinput", None)
    if worker is not None and worker["workerid"] != f"gw{worker['workercount'] - 1}":
        os.nice(5)


def pytest_collection_finish() -> None:
    """The thousands of tests, and all that they imported, stay to the end: no collection need look at them again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest-timeout's: what waits for its turn has not begun
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if not hasattr(item.config, "workerinput") or item.config.cache is None or item.get_closest_marker(BESIDE):
        return (yield)
    from harness.turns import one_at_a_time

    with one_at_a_time(item, MARK, item.config.cache.mkdir("turns")):
        return (yield)
