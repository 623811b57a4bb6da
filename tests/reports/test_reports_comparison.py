"""Tables beside each other: rows that count as often as they occur, differences where they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reports.comparison import Verdict, compare, differences
from reports.model import Row, Table
from tests.reports.example_items import HANGZHOU, broken_shanghai

rows = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), max_size=8)


def table(expected: list[Row], actual: list[Row]) -> Table:
    return Table(
        "t", "n", ("Destination", "Next hop"), tuple(expected), tuple(actual), sorted(expected) == sorted(actual)
    )


def test_equal_tables_have_only_equal_rows() -> None:
    pairs = compare(table(list(HANGZHOU), list(HANGZHOU[::-1])))
    assert len(pairs) == 11
    assert {pair.verdict for pair in pairs} == {Verdict.SAME}


def test_the_third_of_three_equal_rows_is_missed() -> None:
    pairs = compare(table([("a", "x")] * 3, [("a", "x")] * 2))
    assert [pair.verdict for pair in pairs] == [Verdict.SAME, Verdict.SAME, Verdict.MISSING]


def test_another_next_hop_for_one_destination_is_one_difference_with_its_cell() -> None:
    (pair,) = compare(table([("a", "x")], [("a", "y")]))
    assert (pair.verdict, pair.expected, pair.actual, pair.cells) == (
        Verdict.DIFFERS,
        ("a", "x"),
        ("a", "y"),
        frozenset({1}),
    )


def test_broken_table_has_one_difference_of_each_kind() -> None:
    found = [pair.verdict for pair in compare(broken_shanghai()) if pair.verdict]
    assert sorted(found) == ["differs", "missing", "unexpected"]


def test_a_row_with_another_number_of_columns_differs_in_the_extra_one() -> None:
    (pair,) = compare(table([("a", "x")], [("a", "x", "z")]))
    assert pair.cells == frozenset({2})


@given(rows, rows)
def test_every_row_of_both_tables_is_shown_exactly_once(expected: list[Row], actual: list[Row]) -> None:
    pairs = compare(table(expected, actual))
    assert sorted(p.expected for p in pairs if p.expected is not None) == sorted(expected)
    assert sorted(p.actual for p in pairs if p.actual is not None) == sorted(actual)
    assert (differences(table(expected, actual)) == 0) == (sorted(expected) == sorted(actual))
