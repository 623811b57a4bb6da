"""Route tables: equality by entries, the kernel's say, and two tables side by side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tables import KERNEL_ONLY, NOT_IN_KERNEL, Hop, RouteTable, Usable, from_bgp, from_vpc, side_by_side
from labs.document import ipsec_ecmp as document

COLUMNS = ("Destination", "Next hop")
PATHS = [Usable("10.0.0.0/24", "one", "192.0.2.1", "eth1"), Usable("10.0.0.0/24", "two", "192.0.2.2", "eth2")]
HOPS = [Hop("10.0.0.0/24", "192.0.2.1", "eth1"), Hop("10.0.0.0/24", "192.0.2.2", "eth2")]


def table(paths: list[Usable], hops: list[Hop]) -> RouteTable:
    return from_bgp("t", COLUMNS, paths, hops, lambda path: (path.prefix, path.peer))


def test_loc_rib_and_kernel_agree() -> None:
    assert table(PATHS, HOPS) == RouteTable("t", COLUMNS, [("10.0.0.0/24", "two"), ("10.0.0.0/24", "one")])


@pytest.mark.spec("ECMP-17")
def test_a_hop_that_the_kernel_lacks_and_one_that_only_it_has_are_told() -> None:
    assert table(PATHS, HOPS[:1]).rows[1] == ("10.0.0.0/24", f"two ({NOT_IN_KERNEL})")
    assert table(PATHS[:1], HOPS).rows[0] == ("10.0.0.0/24", f"192.0.2.2 on eth2 ({KERNEL_ONLY})")


@pytest.mark.spec("ECMP-18")
def test_three_paths_by_one_next_hop_are_three_rows_and_two_are_not_enough() -> None:
    same = [Usable("10.0.0.0/24", "one", "192.0.2.1", "eth1")] * 3
    hop = Hop("10.0.0.0/24", "192.0.2.1", "eth1")
    three = RouteTable("t", COLUMNS, [("10.0.0.0/24", "one")] * 3)
    assert table(same, [hop] * 3) == three
    assert table(same, [hop] * 2) != three


@given(st.permutations(document.TABLE_1.rows))
def test_the_order_of_rows_does_not_matter(rows: list[tuple[str, ...]]) -> None:
    assert RouteTable("t", document.TABLE_1.columns, rows) == document.TABLE_1


@given(st.integers(0, len(document.TABLE_2.rows) - 1))
def test_one_row_less_is_another_table(missing: int) -> None:
    rows = [row for number, row in enumerate(document.TABLE_2.rows) if number != missing]
    assert RouteTable("t", document.TABLE_2.columns, rows) != document.TABLE_2


@pytest.mark.spec("ECMP-17", "ECMP-18", "ECMP-19", "ECMP-20", "ECMP-21")
def test_the_documents_tables_have_the_documents_sizes() -> None:
    assert [len(t) for t in (document.TABLE_1, document.TABLE_2, document.TABLE_3)] == [11, 11, 5]
    assert [len(t) for t in document.TABLE_4.values()] == [5, 5, 5]
    assert [len(t) for t in document.TABLE_5.values()] == [2, 2, 2]


def test_side_by_side_marks_the_rows_of_one_side_only() -> None:
    lines = side_by_side(document.TABLE_1.without(prefixes=["10.0.0.0/24"]), document.TABLE_1)
    assert "10 entries, document 11" in lines[0]
    marked = [line for line in lines if line.startswith("!")]
    assert len(marked) == 1
    assert "10.0.0.0/24  Inter-region connection" in marked[0]


@pytest.mark.spec("ECMP-19")
def test_vpc_table_names_its_connection() -> None:
    found = from_vpc(
        "t", document.TABLE_3.columns, ["10.0.0.0/24"], [Hop("10.0.0.0/8", "198.18.2.1", "a")], {"a": "VPC connection"}
    )
    assert found.rows == (("10.0.0.0/8", "VPC connection", "Custom"), ("10.0.0.0/24", "Local", "System"))
