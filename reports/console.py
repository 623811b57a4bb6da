"""The last words of a run in the terminal: what was proven, what not and why, and where the page is.

Plain lines, so that a test runner, a pipe and a log file show the same; :class:`Line` says how a terminal may colour each. The words
are ``verdicts``'; the page tells the same at length.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reports import verdicts
from reports.model import Run
from reports.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Line:
    """A line and its meaning: "passed", "failed", "skipped", "heading" or "" for plain text."""

    text: str
    tone: str = ""

    def __str__(self) -> str:
        return self.text


def summary(run: Run, page: Path, width: int = 100) -> Iterator[Line]:
    """The lines, none longer than ``width`` unless a single word is (the page's path is never broken)."""
    count = verdicts.tally(run.results)
    tone = "failed" if count.failed else "passed" if count.passed else "skipped"
    yield Line(f"{verdicts.headline(run)} in {verdicts.duration(run.seconds)}", tone)
    yield from _requirements(run, width)
    for result in verdicts.failures(run):
        yield from _wrapped(f"failed   {result.nodeid}", width, "failed")
        if result.message:
            yield from _wrapped(" " * 9 + verdicts.essence(result.message.strip()).splitlines()[0], width)
    for reason, times in verdicts.skip_reasons(run):
        yield from _wrapped(f"skipped  {verdicts.plural(times, 'test')}: {' '.join(reason.split())}", width, "skipped")
    yield Line(f"report   {page}", "heading")


def _requirements(run: Run, width: int) -> Iterator[Line]:
    """Failed, passed and skipped requirements by their IDs; those that no test named as a number."""
    found = verdicts.requirements(run)
    for verdict in (Verdict.FAILED, Verdict.PASSED, Verdict.SKIPPED):
        ids = [requirement.id for requirement in found if requirement.verdict is verdict]
        if ids:
            text = f"{verdict:<8} {verdicts.plural(len(ids), 'requirement')}: {_ranges(ids)}"
            yield from _wrapped(text, width, verdict.value)
    untouched = sum(requirement.verdict is Verdict.OPEN for requirement in found)
    if untouched:
        yield Line(f"{'open':<8} {verdicts.plural(untouched, 'requirement')} not covered by this run")


def _ranges(ids: list[str]) -> str:
    """ECMP-6, ECMP-7, ECMP-8 and ECMP-12 as "ECMP-6..8, 12"."""
    groups: dict[str, list[list[int | str]]] = {}
    for name in ids:
        number = name.rpartition("-")[2]
        runs = groups.setdefault(verdicts.family(name), [])
        value: int | str = int(number) if number.isdigit() else number
        if runs and isinstance(value, int) and runs[-1][-1] == value - 1:
            runs[-1][1:] = [value]
        else:
            runs.append([value])
    return "; ".join(f"{name}-{', '.join('..'.join(map(str, r)) for r in runs)}" for name, runs in groups.items())


def _wrapped(text: str, width: int, tone: str = "") -> Iterator[Line]:
    lines = textwrap.wrap(text, width, subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False)
    yield from (Line(line, tone) for line in lines)
