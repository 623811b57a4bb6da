"""The table columns of docs/ that are generated: which files prove a requirement, what a room may import, what the kernel needs; and
the page of the speaker's tables (:mod:`tests.bgp_page`).

``python -m tests.doc_columns`` rewrites them; ``test_docs`` says when they are stale. A requirement is proven in a file that names
its ID in ``@pytest.mark.spec(...)``; whether the proof holds is for the report of a run to say.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from harness.probe import markdown
from tests import bgp_page
from tests.test_project import MAY_IMPORT, TOP, cited

REQUIREMENTS = TOP / "docs" / "requirements.md"
ARCHITECTURE = TOP / "docs" / "architecture.md"
KERNEL = TOP / "docs" / "kernel.md"
NOT_YET = "not yet"

_ID = r"(?:CARD|VBR|ECMP|VPN|BGP)-\d+"
_REQUIREMENT = re.compile(rf"^\| (?P<key>{_ID}) \| (?P<text>[^|]+) \| (?P<last>[^|]+) \|$")
_ROOM = re.compile(r"^\| (?P<key>`[\w/]+(?:/|\.py)`) \| (?P<text>[^|]+) \| (?P<last>[^|]+) \|$")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of three cells: an ID or a room's path, the words about it, the generated column."""

    key: str
    text: str
    last: str

    def line(self) -> str:
        return f"| {self.key} | {self.text} | {self.last} |"


def requirement(line: str) -> Row | None:
    """The requirement in a line of the page, None where there is none."""
    return _row(_REQUIREMENT, line)


def room(line: str) -> Row | None:
    """The room in a line of the page, None where there is none."""
    return _row(_ROOM, line)


def requirements() -> Iterator[Row]:
    """The requirements in the page's order."""
    return (found for line in REQUIREMENTS.read_text().splitlines() if (found := requirement(line)))


def rooms() -> dict[str, Path]:
    """The rooms that exist, by the name under which the page lists them."""
    found = {}
    for module in MAY_IMPORT:
        path = Path(*module.split("."))
        if (TOP / path).is_dir():
            found[f"`{path}/`"] = path
        elif (TOP / path.with_suffix(".py")).is_file():
            found[f"`{path}.py`"] = path
    return found


def proofs() -> dict[str, list[str]]:
    """The files that cite each ID, labs before tests."""
    found: dict[str, list[str]] = {}
    for folder in ("labs", "tests"):
        for path in sorted((TOP / folder).rglob("*.py")):
            for name in {name for _, name in cited(path)}:
                found.setdefault(name, []).append(str(path.relative_to(TOP)))
    return found


def refreshed() -> Mapping[Path, str]:
    """The pages with their generated columns as they should be; all else stays."""
    cite = proofs()
    allowed = {name: MAY_IMPORT[".".join(path.parts)] for name, path in rooms().items()}
    return {
        REQUIREMENTS: _rewritten(REQUIREMENTS, requirement, lambda key: _listed(cite.get(key, ()), NOT_YET)),
        ARCHITECTURE: _rewritten(ARCHITECTURE, room, lambda key: _listed(allowed.get(key, ()), "nothing")),
        bgp_page.PAGE: bgp_page.page(),
        KERNEL: KERNEL.read_text().partition("| feature |")[0] + markdown() + "\n",
    }


def main() -> None:
    for path, after in refreshed().items():
        before = path.read_text() if path.exists() else ""
        path.write_text(after)
        changed = sum(old != new for old, new in zip_longest(before.splitlines(), after.splitlines()))
        sys.stdout.write(f"{path.relative_to(TOP)}: {changed} rows changed\n")


def _row(pattern: re.Pattern[str], line: str) -> Row | None:
    found = pattern.match(line)
    return Row(found["key"], found["text"], found["last"]) if found else None


def _rewritten(path: Path, parse: Callable[[str], Row | None], last: Callable[[str], str]) -> str:
    lines = path.read_text().splitlines()
    found = (parse(line) for line in lines)
    return "".join(
        f"{line if row is None else replace(row, last=last(row.key)).line()}\n"
        for line, row in zip(lines, found, strict=True)
    )


def _listed(names: Iterable[str], none: str) -> str:
    return ", ".join(f"`{name}`" for name in names) or none


if __name__ == "__main__":
    main()
