"""Waiting on events: at once, after an event, not in time; the deadline is the trigger's."""

from __future__ import annotations

import asyncio
import time

import pytest

from harness import patience
from harness.stream import NotInTime, Stream


async def test_true_at_once_needs_no_event() -> None:
    assert await Stream().until(lambda: 7, within=0.0) == 7


async def test_checked_again_after_each_event_and_only_then() -> None:
    stream, looks = Stream(), []

    def three() -> int:
        looks.append(len(stream.events))
        return len(stream.events) >= 3

    waiting = asyncio.create_task(stream.until(three, within=5))
    for number in range(3):
        await asyncio.sleep(0)
        stream.add("gw1", "bgp", "fsm", {"number": number})
    assert await waiting
    assert len(looks) <= 4


async def test_awaitable_conditions_are_awaited() -> None:
    async def later() -> str:
        await asyncio.sleep(0)
        return "yes"

    assert await Stream().until(later, within=1) == "yes"


async def test_deadline_counts_from_the_trigger_not_from_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.VARIABLE, "1")
    stream = Stream()
    stream.add("gw1", "ipsec", "child", {"state": "down"})
    began = time.monotonic()
    with pytest.raises(NotInTime, match=r"not within 5 s: route gone(.|\n)*gw1 +ipsec +child state=down"):
        await stream.until(lambda: False, within=5, since=began - 5, what="route gone")
    assert time.monotonic() - began < 1


def test_events_are_found_by_what_they_say_in_the_order_they_happened() -> None:
    stream = Stream()
    stream.add("gw2", "bgp", "fsm", {"peer": "a", "new": "Established"}, at=2.0)
    stream.add("gw1", "bgp", "fsm", {"peer": "a", "new": "Idle"}, at=3.0)
    stream.add("gw1", "bgp", "fsm", {"peer": "a", "new": "Connect"}, at=1.0)
    assert [e.data["new"] for e in stream.of(node="gw1", kind="fsm")] == ["Connect", "Idle"]
    assert [e.node for e in stream.of(new="Established")] == ["gw2"]
    assert [e.time for e in stream.of(source="bgp", since=2.0)] == [2.0, 3.0]
