"""Two route tables laid beside each other, row by row: the document's and a running node's.

Rows count as often as they occur (table 2 of the document holds the same entry three times). Nothing here knows what a route is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from reports.model import Row, Table


class Verdict(StrEnum):
    """What a pair of rows says; the value is the word on the page."""

    SAME = ""
    DIFFERS = "differs"
    MISSING = "missing"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of the comparison; a side is None where that table has no such row. ``cells`` are the columns that differ."""

    verdict: Verdict
    expected: Row | None
    actual: Row | None
    cells: frozenset[int] = frozenset()


def compare(table: Table) -> tuple[Pair, ...]:
    """All rows of both tables in sorted order. A missing and an unexpected row of one destination (first column) share a line."""
    expected, actual = Counter(table.expected), Counter(table.actual)
    same = [Pair(Verdict.SAME, row, row) for row in (expected & actual).elements()]
    unexpected = list((actual - expected).elements())
    differing: list[Pair] = []
    for row in (expected - actual).elements():
        partner = next((other for other in unexpected if other[:1] == row[:1]), None)
        if partner is None:
            differing.append(Pair(Verdict.MISSING, row, None))
            continue
        unexpected.remove(partner)
        width = max(len(row), len(partner))
        cells = frozenset(i for i in range(width) if row[i : i + 1] != partner[i : i + 1])
        differing.append(Pair(Verdict.DIFFERS, row, partner, cells))
    differing += [Pair(Verdict.UNEXPECTED, None, row) for row in unexpected]
    return tuple(sorted(same + differing, key=lambda pair: (pair.expected or pair.actual or (), pair.verdict)))


def differences(table: Table) -> int:
    """How many lines of the comparison are not the same on both sides."""
    return sum(pair.verdict is not Verdict.SAME for pair in compare(table))
