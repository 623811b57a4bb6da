"""Our speaker with a meter on its event loop: how much CPU time of its thread each callback of the loop took.

``python -m bench.metered FILE vbrlab-bgpd's arguments``. SIGUSR2 has it write what it has counted so far to FILE, as JSON: ``slices``,
``over`` (those longer than LIMIT_MS), and the ``longest`` ones as [milliseconds, what was called], longest first.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from harness.bgp import daemon

LIMIT_MS = 10.0
_KEPT = 20


class Meter:
    """Stands around ``asyncio.Handle._run``."""

    def __init__(self) -> None:
        self.slices = self.over = 0
        self.longest: list[tuple[float, int, str]] = []

    def install(self) -> None:
        original = asyncio.Handle._run
        clock, counted = time.thread_time, self._counted

        def run(handle: asyncio.Handle) -> Any:
            before = clock()
            try:
                return original(handle)
            finally:
                counted((clock() - before) * 1000, handle)

        asyncio.Handle._run = run  # type: ignore[method-assign, assignment]

    def _counted(self, milliseconds: float, handle: Any) -> None:
        self.slices += 1
        self.over += milliseconds > LIMIT_MS
        if len(self.longest) < _KEPT or milliseconds > self.longest[0][0]:
            name = getattr(handle._callback, "__qualname__", repr(handle._callback))
            entry = (milliseconds, self.slices, str(name))
            (heapq.heappush if len(self.longest) < _KEPT else heapq.heapreplace)(self.longest, entry)

    def write(self, file: Path) -> None:
        longest = [[round(ms, 2), name] for ms, _, name in sorted(self.longest, reverse=True)]
        whole = file.with_suffix(".part")
        whole.write_text(json.dumps({"slices": self.slices, "over": self.over, "longest": longest}))
        whole.replace(file)


def main(arguments: list[str]) -> int:
    meter, file = Meter(), Path(arguments[0])
    signal.signal(signal.SIGUSR2, lambda *_: meter.write(file))
    meter.install()
    return daemon.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
