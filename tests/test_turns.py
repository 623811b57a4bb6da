"""Which tests run beside which: a lock for those of one mark, the order of the collection, units of one file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import cast

import pytest

from harness.turns import BUSY, marked_last, one_at_a_time, units


class Marked:
    """A test as far as turns look at it."""

    def __init__(self, *marks: str) -> None:
        self.marks = marks

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def item(*marks: str) -> pytest.Item:
    return cast(pytest.Item, Marked(*marks))


def test_a_busy_test_keeps_the_lock_and_no_other_test_waits_for_it(tmp_path: Path) -> None:
    with one_at_a_time(item(BUSY), BUSY, tmp_path):
        again = os.open(tmp_path / BUSY, os.O_WRONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with one_at_a_time(item("root"), BUSY, tmp_path):
            """Would wait for ever if it took the lock."""
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)


def test_the_lock_is_given_back_by_a_test_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), one_at_a_time(item(BUSY), BUSY, tmp_path):
        raise ZeroDivisionError
    with one_at_a_time(item(BUSY), BUSY, tmp_path):
        assert (tmp_path / BUSY).exists()


def test_marked_tests_go_last_and_keep_their_order() -> None:
    one, two, three, four = item(BUSY), item(), item("root", BUSY), item()
    items = [one, two, three, four]
    marked_last(items, BUSY)
    assert items == [two, four, one, three]


def test_neighbours_of_a_file_are_one_unit_and_a_file_met_again_is_another() -> None:
    assert units(["a::1", "a::2", "b::1", "a::3"]) == {"a::1": "a 0", "a::2": "a 0", "b::1": "b 1", "a::3": "a 2"}
