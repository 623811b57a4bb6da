"""``neighbor.change``: what takes effect in place, what at the next session, and what resets the session with Cease/6."""

from __future__ import annotations

from typing import Any

import pytest

from harness.bgp.changes import EFFECTS, Effect
from harness.bgp.config import Neighbor, parse_neighbor
from harness.bgp.neighborhood import NeighborError
from harness.bgp.speaker import Speaker
from tests.bgp.memory_world import World
from tests.bgp.test_bgp_maximum_prefixes import BLOCKS
from tests.bgp.test_bgp_speaker import address, build, rows


def pair(**options: Any) -> tuple[World, Speaker, Speaker]:
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": BLOCKS}, **options)
    return world, s["a"], s["b"]


def change(speaker: Speaker, **fields: Any) -> dict[str, str]:
    """Changes b's neighbour a."""
    known = {"name": "a", "address": address("a", "b"), "remote_asn": 1}
    return speaker.change_neighbor(parse_neighbor(known | fields))


def established(speaker: Speaker) -> int:
    return speaker.adjacencies["a"].peer.statistics.established


def notified(speaker: Speaker) -> list[tuple[str, int, int]]:
    return [(e["direction"], e["code"], e["subcode"]) for e in speaker.log.since() if e["type"] == "notification"]


def test_every_field_of_a_neighbour_says_when_it_takes_effect() -> None:
    assert EFFECTS.keys() == Neighbor.model_fields.keys() - {"name"}


def test_what_can_change_in_place_leaves_the_session_alone() -> None:
    world, _, b = pair()
    changed = change(b, description="to a", key="secret", import_=[{"action": "permit", "local_pref": 7}], hold_time=30)
    assert changed == {
        "description": Effect.AT_ONCE.value,
        "key": Effect.AT_ONCE.value,
        "import": Effect.NEW_ROUTES.value,
        "hold_time": Effect.NEXT_SESSION.value,
    }
    (told,) = [e for e in b.log.since() if e["type"] == "neighbor"]
    assert (told["action"], told["changed"]) == ("change", changed)
    assert "secret" not in str(told)
    world.run(5)
    assert established(b) == 1
    assert notified(b) == []
    assert rows(b)[BLOCKS[0]][0]["local_pref"] is None, "BGP-7: the policy waits for a soft clear"
    b.clear_soft("a", "in")
    world.run(1)
    assert rows(b)[BLOCKS[0]][0]["local_pref"] == 7
    b.reset_neighbor("a")
    world.run(10)
    session = b.adjacencies["a"].peer.session
    assert session is not None and session.hold_time == 30


def test_what_the_open_said_resets_the_session_with_cease_6() -> None:
    world, a, b = pair()
    assert change(b, add_path="both") == {"add_path": "session reset with Cease/6"}
    world.run(10)
    assert notified(b) == [("sent", 6, 6)]
    assert notified(a) == [("received", 6, 6)]
    assert established(b) == 2
    assert len(rows(b)) == len(BLOCKS)


def test_an_unchanged_configuration_changes_nothing() -> None:
    _, _, b = pair()
    before = b.log.since()[-1]["seq"]
    assert change(b) == {}
    assert b.log.since()[-1]["seq"] == before


def test_a_session_that_is_not_up_begins_again_with_all_that_is_new() -> None:
    world, _, b = pair(ba={"remote_asn": 7})
    assert established(b) == 0
    assert change(b) == {"remote_asn": "session reset with Cease/6"}
    world.run(10)
    assert established(b) == 1


def test_a_change_shuts_and_starts() -> None:
    world, _, b = pair()
    change(b, shutdown=True)
    world.run(10)
    assert notified(b) == [("sent", 6, 2)]
    assert b.adjacencies["a"].peer.session is None
    change(b)
    world.run(10)
    assert established(b) == 2


@pytest.mark.parametrize(("after", "taken"), [({"limit": 4}, 4), ({"limit": 2}, 2), ({"limit": 9}, 5), (None, 5)])
def test_a_limit_changes_under_the_session(after: dict[str, Any] | None, taken: int) -> None:
    world, _, b = pair(ba={"maximum_prefixes": {"limit": 3, "action": "drop"}})
    assert sorted(rows(b)) == BLOCKS[:3]
    change(b, maximum_prefixes=None if after is None else after | {"action": "drop"})
    world.run(1)
    assert sorted(rows(b)) == BLOCKS[:taken]
    assert established(b) == 1


def test_a_lower_limit_tears_down_at_once_and_a_higher_one_lets_the_session_come_back() -> None:
    world, _, b = pair()
    change(b, maximum_prefixes={"limit": 3})
    world.run(100)
    assert notified(b) == [("sent", 6, 1)]
    assert b.adjacencies["a"].peer.session is None
    change(b, maximum_prefixes={"limit": 30})
    world.run(10)
    assert len(rows(b)) == len(BLOCKS)


def test_a_neighbour_that_is_not_there_or_whose_address_is_taken() -> None:
    _, s = build({"a": 1, "b": 2, "c": 3}, ["ab", "bc"])
    with pytest.raises(NeighborError, match="no neighbour 'x' to change; there are a, c"):
        s["b"].change_neighbor(parse_neighbor({"name": "x", "address": "10.9.9.9", "remote_asn": 1}))
    with pytest.raises(NeighborError, match="is that of neighbour c"):
        change(s["b"], address=address("c", "b"))
