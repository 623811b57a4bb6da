"""One factor for all deadlines: measured once, capped, carried to the run's other processes, and applied where a deadline is made."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from harness import patience, plugin
from harness.stream import NotInTime, Stream


@pytest.mark.parametrize(
    ("slowness", "factor"), [(0.4, 1.0), (1.0, 1.0), (1.9, 1.0), (2.1, 2.1), (15.0, 15.0), (60.0, patience.MOST)]
)
def test_the_factor_follows_the_machine_within_bounds(slowness: float, factor: float) -> None:
    assert patience.measured(slowness * patience._REFERENCE) == pytest.approx(factor)


def test_it_is_measured_once_and_children_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(patience.VARIABLE, raising=False)
    samples = iter([2.0, 1.0, 9.0, 0.75, 4.0])
    monkeypatch.setattr(patience, "_sample", lambda: next(samples) * patience._REFERENCE * 4)
    assert patience.factor() == 3.0  # the quickest of five; a sixth would raise
    assert patience.factor() == 3.0
    said = subprocess.run(
        [sys.executable, "-c", "from harness.patience import factor; print(factor())"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "3.0\n"


def test_a_sample_takes_cpu_time_and_waiting_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_STEPS", 0)
    monkeypatch.setattr(patience, "_PROCESSES", 1)
    spawn = os.posix_spawn
    monkeypatch.setattr(os, "posix_spawn", lambda *_: spawn("/bin/sleep", ["sleep", "0.3"], {}))
    assert 0 < patience._sample() < 0.2


async def test_a_deadline_is_stretched_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.VARIABLE, "4")
    stream = Stream()
    began = time.monotonic()
    asyncio.get_running_loop().call_later(0.3, stream.add, "gw1", "bgp", "fsm")
    assert await stream.until(lambda: stream.events, within=0.2)
    assert time.monotonic() - began > 0.25
    with pytest.raises(NotInTime, match=r"not within 0\.4 s"):
        await stream.until(lambda: False, within=0.1)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        ("1", "as usual"),
        ("1.8", "deadlines are 1.8 times as long (at most 20)"),
        ("15", "deadlines are 15 times as long (at most 20); performance bars are not asserted"),
    ],
)
def test_the_head_of_a_run_says_it(monkeypatch: pytest.MonkeyPatch, factor: str, words: str) -> None:
    monkeypatch.setenv(patience.VARIABLE, factor)
    assert patience.described().endswith(words) or (words == "as usual" and words in patience.described())
    assert patience.timely() is (float(factor) <= 2)


@pytest.mark.parametrize(
    ("option", "environment", "seconds"), [(None, "", 120.0), (None, "50", 50.0), (7.0, "50", 7.0)]
)
def test_the_limit_of_a_test_is_found_wherever_it_is_set(
    monkeypatch: pytest.MonkeyPatch, option: float | None, environment: str, seconds: float
) -> None:
    monkeypatch.setenv("PYTEST_TIMEOUT", environment)
    told: Any = SimpleNamespace(option=SimpleNamespace(timeout=option), getini={"timeout": "120"}.get)
    assert plugin._timeout(told) == seconds
