"""The documentation says what the code does: requirements in shape and in step with the marks, links, paths, rooms, constants.

Not here: whether a requirement holds; that is for the labs and tests that name it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from harness.cloud import build, build_data_centre
from harness.lab import DATA_PLANE
from harness.net.sysctls import node_sysctls
from harness.session import refusal, requirements
from reports import verdicts
from reports.model import KINDS
from tests import doc_columns
from tests.test_project import TOP

DOCS = sorted((TOP / "docs").glob("*.md"))
ROWS = {"CARD": 8, "VBR": 42, "ECMP": 42, "VPN": 25, "BGP": 19}
"""How many requirements each family has. A new one gets the next number; a number is never used again."""


def prose(page: str) -> str:
    """A page without its fenced code."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)


# ------------------------------------------------------------------------------------------------------------ requirements


def test_every_requirement_stands_once_and_in_order() -> None:
    expected = [f"{family}-{number}" for family, count in ROWS.items() for number in range(1, count + 1)]
    assert [row.key for row in doc_columns.requirements()] == expected


def test_a_requirement_is_three_cells_on_one_line() -> None:
    lines = doc_columns.REQUIREMENTS.read_text().splitlines()
    begun = [line for line in lines if re.match(r"^\W*(?:CARD|VBR|ECMP|VPN|BGP)-\d+\W+\|", line)]
    broken = [line for line in begun if doc_columns.requirement(line) is None]
    assert not broken, "\n".join(broken)
    assert len(begun) == sum(ROWS.values())


def test_the_report_reads_what_the_page_says() -> None:
    assert requirements(TOP) == {row.key: row.text for row in doc_columns.requirements()}


@pytest.mark.parametrize("path", doc_columns.refreshed(), ids=lambda path: path.name)
def test_generated_columns_are_fresh(path: Path) -> None:
    before, after = path.read_text().splitlines(), doc_columns.refreshed()[path].splitlines()
    stale = [str(old or new).strip("| ").partition("|")[0] for old, new in zip_longest(before, after) if old != new]
    assert not stale, f"{', '.join(stale)}: run python -m tests.doc_columns"


def test_a_proof_is_a_file_that_names_the_requirement() -> None:
    row = next(row for row in doc_columns.requirements() if row.key == "ECMP-17")
    assert "`labs/test_ecmp_tables.py`" in row.last
    assert "tests/test_docs.py" not in str(doc_columns.proofs().values())


# --------------------------------------------------------------------------------------------------------- links and paths


def anchors(page: str) -> set[str]:
    """The fragment of every heading, as the usual renderers make it."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(path: Path) -> Iterator[tuple[str, Path, str]]:
    """Every link of a page to a place in the project: its text, the file, the fragment."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(path.read_text())):
        file, _, fragment = target.partition("#")
        yield target, (path.parent / file).resolve() if file else path, fragment


@pytest.mark.parametrize("path", [*DOCS, *TOP.glob("README.md")], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    lost = [
        target
        for target, file, fragment in links(path)
        if not file.exists() or (fragment and fragment not in anchors(file.read_text()))
    ]
    assert not lost


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_named_files_exist(path: Path) -> None:
    named = re.findall(r"`((?:harness|labs|topologies|reports|tests|docs|bench)/[\w/.-]*)`", prose(path.read_text()))
    gone = [name for name in named if not name.startswith("reports/out/") and not (TOP / name).exists()]
    assert not gone


# ------------------------------------------------------------------------------------------------------------ architecture

ARCHITECTURE = doc_columns.ARCHITECTURE.read_text()


def test_architecture_has_every_room() -> None:
    told = [row.key for line in ARCHITECTURE.splitlines() if (row := doc_columns.room(line))]
    assert sorted(told) == sorted(doc_columns.rooms())


@pytest.mark.parametrize("setting", node_sysctls(forwarding=True, seed=1))
def test_architecture_names_every_sysctl(setting: str) -> None:
    assert f"`{setting.rstrip('?').rpartition('.')[2]}" in ARCHITECTURE


def test_architecture_has_the_numbers_of_the_cloud() -> None:
    for value in (build.WIRING, build.VPC_ASN, build.FROM_VPN_CONNECTION, build_data_centre.PROVIDER_CLOUD_SIDE):
        assert str(value) in ARCHITECTURE


# ------------------------------------------------------------------------------------------------------------- the report


REPORT = (TOP / "docs" / "report.md").read_text()


@pytest.mark.parametrize("word", [*KINDS, *(str(verdict) for verdict in verdicts.Verdict)])
def test_the_reports_page_explains(word: str) -> None:
    assert re.search(rf"\*\*{word}\*\*|`{word}`", REPORT)


def test_the_reports_page_names_the_sections() -> None:
    page = (TOP / "reports" / "templates" / "page.html").read_text()
    sections = re.findall(r'<h2 id="h-[^"]+">([^<]+)</h2>', page)
    assert sections
    assert [section for section in sections if f"## {section}\n" not in REPORT] == []


# ---------------------------------------------------------------------------------------------------------- write a lab


TUTORIAL = (TOP / "docs" / "write-a-lab.md").read_text()
FILES = dict(re.findall(r"^`([\w/.-]+)`:\n\n```\w+\n(.*?)^```$", TUTORIAL, flags=re.MULTILINE | re.DOTALL))


def test_the_tutorial_has_its_files() -> None:
    assert list(FILES) == [
        "pytest.ini",
        "two_routers.py",
        "mine/test_two_routers.py",
        "office.py",
        "mine/test_office.py",
    ]
    for name, code in FILES.items():
        if name.endswith(".py"):
            compile(code, name, "exec")


@pytest.mark.root
@pytest.mark.timeout(180)
def test_the_labs_of_the_tutorial_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_PLANE, "")  # what a refusal remembers there is forgotten with this test
    if reason := refusal():
        pytest.skip(reason)
    if shutil.which("ping") is None:
        pytest.skip("ping is not installed; apt-get install --no-install-recommends iputils-ping")
    for name, code in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    done = subprocess.run([sys.executable, "-m", "pytest", "mine"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
