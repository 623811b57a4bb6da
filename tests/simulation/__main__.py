"""``python -m tests.simulation``: many schedules, or one with its trace."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from tests.simulation.run import Outcome, run

CHUNK = 50


def main() -> int:
    """Exit status 0 where every invariant held, 1 where one did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed; alone: this one, with its trace")
    parser.add_argument("--schedules", type=int, help="how many seeds from there on")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failing seed")
    options = parser.parse_args()
    if options.schedules is None:
        return _one(options.seed)
    seeds = range(options.seed, options.seed + options.schedules)
    begun, done, virtual, failed = time.monotonic(), 0, 0.0, []
    for outcome in _outcomes(seeds, options.jobs):
        done += 1
        virtual += outcome.seconds
        if outcome.violations:
            failed.append(outcome.schedule.seed)
            _say(f"seed {outcome.schedule.seed}: {outcome.violations[0]}")
            if not options.keep_going:
                break
        if not done % 10_000:
            _say(f"{done} schedules in {time.monotonic() - begun:.0f} s")
    spent, times = time.monotonic() - begun, os.times()
    cpu = times.user + times.children_user + times.system + times.children_system
    figures = f"{virtual / 86400:.1f} days of protocol time in {spent:.1f} s ({cpu:.1f} s of CPU)"
    _say(f"{done} schedules, {figures}; failed: {failed or 'none'}")
    return 1 if failed else 0


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(run, seeds, CHUNK)


def _one(seed: int) -> int:
    outcome = run(seed, trace=True)
    schedule = outcome.schedule
    _say(f"seed {seed}: {schedule.shape}, {len(schedule.asns)} nodes, hold time {schedule.hold} s")
    for name, config in schedule.configs.items():
        _say(f"  {name}: {config}")
    for line in outcome.trace:
        _say(line)
    for line in outcome.violations:
        _say(f"VIOLATION {line}")
    return 1 if outcome.violations else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
