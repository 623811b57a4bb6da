"""The main job's time: from exec of the command, imports included, to five right route tables and pings through.

Measured from outside the process, so that nothing it does is left out; the stages are the command's own account of itself. There is no
rival: nothing else builds this lab.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.registry import AtMost, Measurement, Options, benchmark

COMMAND = ("up", "ipsec-ecmp", "--check", "--json")
ROUNDS = 5
TIMEOUT_S = 60.0
TOTAL_BAR_S = 2.0
STAGE_BARS_S = {"ike": 0.2}
"""Bars for single stages, by the stage's name in the command's output."""


class CheckFailed(RuntimeError):
    """`vbrlab up --check` did not end well: its command, status and last words."""


def run_once(arguments: Sequence[str] = COMMAND) -> tuple[float, dict[str, float]]:
    """One run of ``vbrlab``, which must print its stages: seconds from exec to exit, and those of each stage. Raises CheckFailed."""
    command = [str(Path(sys.executable).with_name("vbrlab")), *arguments]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as late:
        raise CheckFailed(f"{' '.join(command)} was not done after {TIMEOUT_S:g} s") from late
    seconds = time.perf_counter() - start
    if done.returncode:
        raise CheckFailed(
            f"{' '.join(command)} exited {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}"
        )
    return seconds, parse_stages(done.stdout)


def parse_stages(output: str) -> dict[str, float]:
    """The stages out of the command's last line of JSON, `{"stages": [{"name": str, "seconds": float}, ...]}`. Raises CheckFailed."""
    try:
        report = json.loads(output.strip().splitlines()[-1])
        return {stage["name"]: float(stage["seconds"]) for stage in report["stages"]}
    except (LookupError, TypeError, ValueError) as wrong:
        raise CheckFailed(f"`vbrlab {' '.join(COMMAND)}` printed no stages but: {output.strip()[-500:]!r}") from wrong


@benchmark("lab", "ipsec-ecmp from exec of the command to all tables right and pings through")
def lab(options: Options) -> Iterator[Measurement]:
    """Median of the whole and of each stage; the first run of a machine (cold caches) counts like any other."""
    runs = [run_once() for _ in range(options.rounds or ROUNDS)]
    yield Measurement(
        "ipsec-ecmp, all of it", "s", statistics.median(total for total, _ in runs), bars=[AtMost(TOTAL_BAR_S)]
    )
    for stage in runs[-1][1]:
        seconds = statistics.median(stages[stage] for _, stages in runs if stage in stages)
        bars = [AtMost(STAGE_BARS_S[stage])] if stage in STAGE_BARS_S else []
        yield Measurement(f"ipsec-ecmp, {stage}", "s", seconds, bars=bars)
