"""Captures one interface of the namespace it is started in, until Ctrl-C: ``python -m harness.capture NODE IF FILE``.

What ``vbrlab capture`` runs inside a lab.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.capture.recorder import CannotCapture, Recorder, Tap


async def record(tap: Tap, file: Path) -> dict[str, int]:
    """Records until SIGINT or SIGTERM; answers with packets written and dropped. Raises CannotCapture, OSError."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    with file.open("wb") as out:
        recorder = Recorder(out, [tap])
        out.flush()  # a capture that is killed is a readable file, packets or none
        recorder.attach(loop)
        sys.stderr.write(f"capturing on {tap.name} into {file}; Ctrl-C ends it\n")
        await ended.wait()
        return recorder.close(loop)[tap.name]


def main(arguments: Sequence[str]) -> int:
    node, interface, file = arguments
    try:
        counts = asyncio.run(record(Tap(f"{node}:{interface}", interface), Path(file)))
    except OSError as error:
        what = error.strerror if isinstance(error, CannotCapture) else f"{file}: {error.strerror}"
        sys.stderr.write(f"vbrlab: {what}\n")
        return 1
    sys.stderr.write(f"\n{counts['written']} packets, {counts['dropped']} dropped by the kernel\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
