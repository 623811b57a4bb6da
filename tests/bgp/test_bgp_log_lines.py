"""The log: a line for every event there is, and none of them breaks."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import harness.bgp
from harness.bgp.log_lines import FORMS, line
from tests.bgp.test_bgp_speaker import NET, build

SPEAKER = Path(harness.bgp.__file__).parent


def emitted() -> set[str]:
    """The types of all events in the speaker's source."""
    found: set[str] = set()
    for file in SPEAKER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("emit", "_emit")
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(str(node.args[0].value))
    return found


def test_every_event_has_its_line() -> None:
    assert emitted() == set(FORMS)


def test_a_session_in_lines() -> None:
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": [NET]})
    s["b"].clear_soft("a", "in")
    world.run(1)
    s["b"].delete_neighbor("a")
    world.run(1)
    lines = [line(event) for event in s["b"].log.since()]
    assert not [text for text in lines if "\n" in text]
    story = "\n".join(text.split(" ", 1)[1] for text in lines)
    for expected in (
        "fsm            a: OpenConfirm -> Established (KEEPALIVE_MSG:",
        f"rib            1 prefix changed: {NET} by a",
        f"rib            1 prefix changed: {NET} gone",
        "notification   a: NOTIFICATION sent 6/3 Cease / Peer De-configured",
        "neighbor       delete a",
    ):
        assert expected in story


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            {
                "type": "fib",
                "installed": [{"prefix": NET, "next_hops": [{"gateway": None, "interface": "e0"}] * 2}],
                "removed": ["10.0.0.0/8"],
                "counts": {"installed": 1, "removed": 20, "routes": 5},
                "in_place": [],
                "cause": "link e0 is down",
            },
            f"kernel has 5 routes: +{NET} over link@e0+link@e0, -10.0.0.0/8 and 19 more (link e0 is down)",
        ),
        (
            {"type": "fib.lost", "what": "route x was deleted", "count": 1, "prefixes": ["x"], "repaired": True},
            "route x was deleted: x, repaired",
        ),
        ({"type": "fib.failed", "count": 1, "failed": [{"prefix": "x", "reason": "no"}]}, "x: no"),
        ({"type": "unheard.of", "a": 1, "b": 2}, "a=1 b=2"),
    ],
)
def test_lines(event: dict[str, Any], expected: str) -> None:
    assert line({"seq": 1, "time": 1.5} | event) == f"1.500000 {event['type']:<14} {expected}"
