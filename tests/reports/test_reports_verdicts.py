"""What a run proved, in numbers and in the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports import console, verdicts
from reports.model import Result, Run
from reports.verdicts import Verdict


def run(*results: Result, requirements: dict[str, str] | None = None, seconds: float = 1.5) -> Run:
    return Run("r", "2026-01-01T00:00:00+00:00", seconds, "pytest labs/", {}, (), results, requirements or {})


def result(outcome: str, *spec: str, message: str = "", nodeid: str = "labs/test_a.py::test_x") -> Result:
    return Result(nodeid, "title", outcome, 0.1, spec, message)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (["passed", "failed"], Verdict.FAILED),
        (["passed", "error"], Verdict.FAILED),
        (["passed", "skipped"], Verdict.PASSED),
        (["skipped"], Verdict.SKIPPED),
        ([], Verdict.OPEN),
    ],
)
def test_a_requirement_is_as_good_as_its_worst_test_that_ran(outcomes: list[str], verdict: Verdict) -> None:
    (found,) = verdicts.requirements(run(*(result(o, "ECMP-1") for o in outcomes), requirements={"ECMP-1": "text"}))
    assert found.verdict is verdict


def test_requirements_come_in_the_order_of_documents_and_numbers() -> None:
    found = verdicts.requirements(
        run(result("passed", "NEW-1"), requirements={"ECMP-10": "", "ECMP-2": "", "CARD-1": ""})
    )
    assert [r.id for r in found] == ["ECMP-2", "ECMP-10", "CARD-1", "NEW-1"]


@pytest.mark.parametrize(
    ("outcomes", "headline"),
    [
        (["passed", "passed"], "All 2 tests passed"),
        (["passed"], "All 1 test passed"),
        (["passed", "skipped"], "1 test passed, 1 skipped"),
        (["passed", "error", "failed"], "2 of 3 tests failed"),
        (["skipped"], "All 1 test skipped: nothing was proven"),
        ([], "No test ran to its end"),
    ],
)
def test_headline(outcomes: list[str], headline: str) -> None:
    assert verdicts.headline(run(*map(result, outcomes))) == headline


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (0.0042, "4.2 ms"), (0.83, "0.83 s"), (9.999, "10.00 s"), (58.23, "58.2 s"), (187, "3 min 07 s")],
)
def test_duration(seconds: float, text: str) -> None:
    assert verdicts.duration(seconds) == text


def test_terminal_tells_requirements_failures_reasons_and_the_page() -> None:
    lines = [
        str(line)
        for line in console.summary(
            run(
                result("passed", "ECMP-6", "ECMP-7", "ECMP-8", "ECMP-12", "CARD-3"),
                result("failed", "ECMP-18", message="two rows differ\nmore", nodeid="labs/test_a.py::test_table"),
                result("skipped", "VBR-1", message="no BFD here"),
                result("skipped", message="no BFD here"),
                requirements={"ECMP-6": "", "ECMP-99": ""},
            ),
            Path("/x/index.html"),
        )
    ]
    assert lines == [
        "1 of 4 tests failed in 1.50 s",
        "failed   1 requirement: ECMP-18",
        "passed   5 requirements: ECMP-6..8, 12; CARD-3",
        "skipped  1 requirement: VBR-1",
        "open     1 requirement not covered by this run",
        "failed   labs/test_a.py::test_table",
        "         two rows differ",
        "skipped  2 tests: no BFD here",
        "report   /x/index.html",
    ]


def test_the_essence_of_a_failure_is_what_pytest_marks() -> None:
    message = (
        "def test():\n>   assert a == b\nE   AssertionError: two rows\nE     differ\n\nlabs/test_a.py:3: AssertionError"
    )
    assert verdicts.essence(message) == "AssertionError: two rows\n  differ"
    assert verdicts.essence("plain\nwords") == "plain\nwords"
    assert verdicts.essence("x\n" * 50, most=2) == "x\nx\n…"
    assert verdicts.essence("") == ""


def test_a_title_tells_the_parameters() -> None:
    assert verdicts.title(Result("a.py::t[link cut]", "Lost", "passed", 0)) == "Lost [link cut]"
    assert verdicts.title(Result("a.py::t", "", "passed", 0)) == "a.py::t"
    assert verdicts.title(Result("a.py::t[x]", "", "passed", 0)) == "a.py::t[x]"


def test_terminal_lines_keep_to_the_width_but_never_break_a_path() -> None:
    page = Path("/a/very/long/path" * 10)
    reason = "the kernel refuses " * 20
    lines = [str(line) for line in console.summary(run(result("skipped", message=reason)), page, width=60)]
    assert max(map(len, lines[:-1])) <= 60
    assert lines[-1] == f"report   {page}"
