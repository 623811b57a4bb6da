"""What a run proved: results counted, failures first, every requirement with its verdict.

Pure functions over ``reports.model``; the page and the terminal say the same because both ask here.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from reports.model import Result, Run

OUTCOMES = ("failed", "error", "passed", "skipped")


class Verdict(StrEnum):
    """Of a requirement: one failed test fails it; skipped means that every test of it was skipped."""

    FAILED = "failed"
    PASSED = "passed"
    SKIPPED = "skipped"
    OPEN = "not covered"


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement, its text, and the tests of this run that name it."""

    id: str
    text: str
    verdict: Verdict
    tests: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many tests ended how; errors (a fixture that failed) count as failures."""

    passed: int
    failed: int
    skipped: int

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.skipped


def tally(results: Iterable[Result]) -> Tally:
    count = Counter(result.outcome for result in results)
    return Tally(count["passed"], count["failed"] + count["error"], count["skipped"])


def failures(run: Run) -> tuple[Result, ...]:
    return tuple(result for result in run.results if result.outcome in ("failed", "error"))


def headline(run: Run) -> str:
    """The run in one sentence."""
    count = tally(run.results)
    if not run.results:
        return "No test ran to its end"
    if count.failed:
        return f"{count.failed} of {plural(count.total, 'test')} failed"
    if not count.passed:
        return f"All {plural(count.total, 'test')} skipped: nothing was proven"
    if count.skipped:
        return f"{plural(count.passed, 'test')} passed, {count.skipped} skipped"
    return f"All {plural(count.total, 'test')} passed"


def requirements(run: Run) -> tuple[Requirement, ...]:
    """Every requirement of the run or its tests, by document and number: CARD-1, ..., ECMP-2, ECMP-10, ..."""
    tests: dict[str, list[Result]] = {name: [] for name in run.requirements}
    for result in run.results:
        for name in result.spec:
            tests.setdefault(name, []).append(result)
    order = {family(name): i for i, name in reversed(list(enumerate(tests)))}
    return tuple(
        Requirement(name, run.requirements.get(name, ""), _verdict(tests[name]), tuple(tests[name]))
        for name in sorted(tests, key=lambda name: (order[family(name)], _number(name), name))
    )


def family(requirement: str) -> str:
    """The document a requirement belongs to: ECMP of ECMP-17."""
    return requirement.rpartition("-")[0] or requirement


def skip_reasons(run: Run) -> tuple[tuple[str, int], ...]:
    """Each reason of a skip with how many tests gave it, the most frequent first."""
    return tuple(Counter(r.message or "no reason given" for r in run.results if r.outcome == "skipped").most_common())


def title(result: Result) -> str:
    """A test's title with its parameters, which its docstring cannot know: "One tunnel lost [link cut]"."""
    _, bracket, parameters = result.nodeid.partition("[")
    name = result.title or result.nodeid
    return f"{name} [{parameters}" if bracket and f"[{parameters}" not in name else name


def essence(message: str, most: int = 40) -> str:
    """What a failure says, without its traceback: the lines that pytest marks with an E; all of it where there are none."""
    lines = message.strip("\n").splitlines()
    marked = [line[1:].removeprefix("  ") for line in lines if line.startswith("E ")] or lines
    return textwrap.dedent("\n".join([*marked[:most], "…"] if len(marked) > most else marked))


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """A length of time as people say it: 4.2 ms, 0.83 s, 58.2 s, 3 min 07 s."""
    if 0 < abs(seconds) < 0.1:
        return f"{seconds * 1000:.3g} ms"
    if abs(seconds) < 10:
        return f"{seconds:.2f} s"
    if abs(seconds) < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _verdict(tests: list[Result]) -> Verdict:
    outcomes = {result.outcome for result in tests}
    if outcomes & {"failed", "error"}:
        return Verdict.FAILED
    if "passed" in outcomes:
        return Verdict.PASSED
    return Verdict.SKIPPED if outcomes else Verdict.OPEN


def _number(name: str) -> int:
    digits = re.search(r"(\d+)$", name)
    return int(digits[1]) if digits else 0
