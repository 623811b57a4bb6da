"""The reference page says all that the tables say."""

from __future__ import annotations

import re

import pytest

from harness.bgp import attribute_table
from harness.bgp.fsm import EVENTS, TABLES, Event, Profile, State
from tests import bgp_page

TEXT = bgp_page.PAGE.read_text() if bgp_page.PAGE.exists() else ""


def section(title: str) -> str:
    return re.split(r"^## ", TEXT.partition(f"## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def test_every_event_of_the_rfc_is_there_with_its_name() -> None:
    assert sorted(bgp_page.RFC_NAMES) == list(range(1, 30))
    for number, name in bgp_page.RFC_NAMES.items():
        assert f"| {number} | `{name}` |" in section("Events")


@pytest.mark.parametrize("event", [e for e in Event if not bgp_page.is_raised(e)], ids=lambda e: e.name)
def test_an_event_that_nothing_raises_has_a_reason_and_is_optional(event: Event) -> None:
    """RFC 4271 8.1: only optional events may be left out."""
    reason = EVENTS[event].raised.removeprefix("not raised: ")
    assert len(reason) > 15
    assert not EVENTS[event].mandatory


def test_the_diagram_has_the_way_up_and_every_state() -> None:
    drawn = section("States")
    for edge in ("Idle --> Connect: 1", "OpenSent --> OpenConfirm: 19", "OpenConfirm --> Established: 26"):
        assert edge in drawn
    for state in State:
        assert f" {state.value} -->" in drawn
    # Every edge is one of the table's.
    for old, new, numbers in re.findall(r"^    (\w+) --> (\w+): (.*)$", drawn, flags=re.MULTILINE):
        first = Event(int(re.split("[,-]", numbers)[0]))
        assert State(new) in {row.new for row in TABLES[Profile.DOCUMENT][State(old), first]}


def test_every_transition_stands_in_its_states_table() -> None:
    for state in State:
        table = re.split(
            r"^##", section("Transitions").partition(f"### {state.value}\n")[2], maxsplit=1, flags=re.MULTILINE
        )[0]
        for event in Event:
            for row in TABLES[Profile.DOCUMENT][state, event]:
                assert f"| {row.reason} | {row.source} |" in table


def test_every_attribute_has_its_action() -> None:
    for code, row in attribute_table.TABLE.items():
        (line,) = [line for line in section("Path attributes").splitlines() if line.startswith(f"| {int(code)} |")]
        assert str(row.action) in line
