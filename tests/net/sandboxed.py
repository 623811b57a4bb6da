"""Runs a test inside a sandbox: by a process of its own where pytest is not in one already."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.net import sandbox, supervisor

ROOT = Path(__file__).resolve().parents[2]
_SKIPPED = 77


def supervised(*argv: str, name: str = "test") -> list[str]:
    """The command line that runs ``argv`` in a sandbox."""
    return [sys.executable, "-I", "-S", supervisor.__file__, name, *argv]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@functools.cache
def refusal() -> str | None:
    return None if sandbox.inside() else sandbox.refusal()


def inside(test: Callable[[], None]) -> Callable[[], None]:
    """The test's body runs in a sandbox; the test is skipped, by name, where the kernel refuses one."""

    @functools.wraps(test)
    def run() -> None:
        if sandbox.inside():
            test()
            return
        if (reason := refusal()) is not None:
            pytest.skip(reason)
        command = supervised(sys.executable, "-m", __name__, test.__module__, test.__name__)
        done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=60)
        if done.returncode == _SKIPPED:
            pytest.skip(done.stdout.strip())
        if done.returncode != 0:
            pytest.fail(f"exit code {done.returncode} in the sandbox\n{done.stdout}\n{done.stderr}", pytrace=False)

    return pytest.mark.root(run)


def main(module: str, name: str) -> int:
    """In the sandbox: one test of one module."""
    try:
        getattr(importlib.import_module(module), name)()
    except pytest.skip.Exception as skipped:
        sys.stdout.write(str(skipped))
        return _SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
