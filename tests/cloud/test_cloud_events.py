"""Events of BGP peers: what a speaker's events mean, their JSON form, and the SQL filter over them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cloud.events import (
    LEVEL_OF,
    NAME_OF,
    PRODUCT,
    Cleared,
    Event,
    EventName,
    EventType,
    Happening,
    Level,
    PeerFacts,
    PeerWatch,
)
from harness.cloud.sql_filter import LENGTH, SqlFilterError, passes, refusal
from labs.document import vbr as document

PEER = "10.1.1.2"
FACTS = {PEER: PeerFacts("idc", 65011), "10.1.2.2": PeerFacts("idc", 65011)}
DOWN = Event(1_750_000_000.25, EventName.PEER_DOWN, "vbr", PEER, "China (Hangzhou)", {"reason": "BFD is down"})
EXCEEDED = Event(1.0, EventName.ROUTES_EXCEEDED, "vbr", PEER, content={"routes": 111, "quota": 110, "action": "drop"})


def moved(old: str, new: str, peer: str = PEER, **more: Any) -> tuple[str, dict[str, Any]]:
    return "fsm", {"peer": peer, "old": old, "new": new, "event": "X", "reason": "because", **more}


def counted(count: int, over: bool) -> tuple[str, dict[str, Any]]:
    return "maximum-prefixes", {"neighbor": PEER, "count": count, "limit": 110, "action": "drop", "over": over}


def told(*events: tuple[str, dict[str, Any]]) -> list[Happening]:
    watch = PeerWatch("vbr", FACTS, "China (Hangzhou)")
    return [each for t, (kind, data) in enumerate(events) for each in watch.told(kind, data, float(t))]


@pytest.mark.spec("VBR-22", "VBR-38")
def test_names_types_and_product_are_the_documents() -> None:
    assert {str(kind): str(name) for kind, name in NAME_OF.items()} == document.EVENTS
    assert document.EVENT_PRODUCT == PRODUCT
    assert {str(level) for level in Level} == set(document.EVENT_LEVELS)
    assert set(LEVEL_OF.values()) == {Level.WARNING}


@pytest.mark.spec("VBR-22")
def test_leaving_established_is_down_and_a_failed_attempt_is_not() -> None:
    attempts = [moved("Idle", "Connect"), moved("Connect", "Active"), moved("OpenSent", "Idle")]
    assert told(*attempts) == []
    (down,) = told(*attempts, moved("OpenConfirm", "Established"), moved("Established", "Idle"))
    assert isinstance(down, Event)
    assert (down.name, down.type, down.level) == (EventName.PEER_DOWN, EventType.DOWN, Level.WARNING)
    assert (down.resource, down.time) == ("vbr/vbr/bgp-peer/10.1.1.2", 4.0)
    assert down.content == {"bgpGroup": "idc", "peerAsn": 65011, "reason": "because", "status": "Idle"}


@pytest.mark.spec("VBR-22", "VBR-37")
def test_established_again_clears() -> None:
    up = moved("OpenConfirm", "Established")
    *_, down, cleared = told(up, moved("Established", "Idle"), up, up)
    assert isinstance(down, Event)
    assert cleared == Cleared(2.0, EventName.PEER_DOWN, "vbr", PEER, "the peer is Established")


@pytest.mark.parametrize(
    "stranger",
    [
        moved("Established", "Idle", peer="vpc"),
        moved("Established", "Idle", spare=True),
        moved("Established", "Idle", peer="10.1.2.2"),
        ("update.error", {"peer": PEER}),
    ],
    ids=["session inside the cloud", "loser of a collision", "a peer that was not up", "another event"],
)
def test_what_is_no_event(stranger: tuple[str, dict[str, Any]]) -> None:
    assert told(moved("OpenConfirm", "Established"), stranger) == []


@pytest.mark.spec("VBR-10", "VBR-22")
def test_quota_exceeded_and_back() -> None:
    exceeded, cleared = told(counted(111, True), counted(110, False), counted(90, False))
    assert isinstance(exceeded, Event)
    assert exceeded.name is EventName.ROUTES_EXCEEDED
    assert exceeded.type is EventType.RECEIVE_ROUTES
    assert {"routes": 111, "quota": 110, "action": "drop"}.items() <= exceeded.content.items()
    assert isinstance(cleared, Cleared)
    assert cleared.reason == "110 routes, the quota is 110"


@pytest.mark.spec("VBR-22", "VBR-24", "VBR-36")
def test_deleted_peer_and_dead_speaker() -> None:
    watch = PeerWatch("vbr", FACTS)
    for peer in FACTS:
        assert list(watch.told(*moved("OpenConfirm", "Established", peer), 1.0)) == []
    first, second = watch.speaker_ended(2.0)
    assert [first.peer, second.peer] == sorted(FACTS)
    (cleared,) = watch.told("neighbor", {"action": "delete", "peer": PEER}, 3.0)
    assert isinstance(cleared, Cleared)
    assert cleared.reason == "the peer was deleted"
    assert list(watch.speaker_ended(4.0)) == []


@given(
    st.builds(
        Event,
        st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000),
        st.sampled_from(EventName),
        st.text(max_size=20),
        st.text(max_size=20),
        st.text(max_size=20),
        st.dictionaries(st.sampled_from(["reason", "routes", "quota"]), st.text(max_size=40) | st.integers()),
    )
)
def test_json_form_is_one_line_and_comes_back(event: Event) -> None:
    text = event.to_json()
    assert "\n" not in text
    assert Event.from_json(text) == event


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"content": 1}', '{"content": {}, "eventTime": "yesterday"}'])
def test_what_is_no_json_form(text: str) -> None:
    with pytest.raises(ValueError, match="no event of a BGP peer"):
        Event.from_json(text)


def test_fields_are_the_callbacks() -> None:
    fields = json.loads(DOWN.to_json())
    assert fields["eventTime"] == "2025-06-15T15:06:40.250+00:00"
    assert {k: fields[k] for k in ("product", "type", "level", "name", "regionId", "resourceId", "instanceName")} == {
        "product": PRODUCT,
        "type": "Down",
        "level": "Warning",
        "name": "BgpPeerStatus:Down",
        "regionId": "China (Hangzhou)",
        "resourceId": "vbr/vbr/bgp-peer/10.1.1.2",
        "instanceName": "vbr",
    }
    assert fields["content"] == {"vbr": "vbr", "peer": PEER, "reason": "BFD is down"}


# --------------------------------------------------------------------------------------------------------- the SQL filter

FILTERS = {
    "level = 'Warning'": True,
    "level = 'Critical'": False,
    "routes > quota": True,
    "routes > 200": False,
    "reason IS NULL AND action = 'drop'": True,
    "json_extract(content, '$.routes') = 111 -- a comment": True,
    "select * from event where name like '%Exceed'": True,
    "SELECT 1 FROM event WHERE peer = '192.0.2.9';": False,
    "SELECT count(*) FROM event WHERE routes > 200": False,
    "WITH big AS (SELECT routes FROM event WHERE routes > 100) SELECT routes, 1 FROM big": True,
    "peer IN (SELECT peer FROM event WHERE vbr = 'vbr')": True,
}


@pytest.mark.spec("VBR-23")
@pytest.mark.parametrize("sql", FILTERS)
def test_sql_filter(sql: str) -> None:
    assert passes(sql, EXCEEDED) is FILTERS[sql]
    assert refusal(sql) is None


HOSTILE = [
    "ATTACH DATABASE '/tmp/x' AS x",
    "SELECT 1; ATTACH DATABASE '/tmp/x' AS x",
    "1); DROP TABLE event; --",
    "DELETE FROM event",
    "INSERT INTO event(name) VALUES ('x') RETURNING 1",
    "PRAGMA database_list",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM sqlite_master",
    "SELECT load_extension('x')",
    "SELECT readfile('/etc/passwd')",
    "VACUUM INTO '/tmp/x'",
    "CREATE TEMP TABLE t(x)",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x), 1 FROM n",
    "SELECT hex(zeroblob(500000000)), 1",
    "SELECT replace(hex(zeroblob(30000)), '0', hex(zeroblob(30000))), 1",
    "no_such_column = 1",
    "level = ",
    "level = 'Warning\x00'",
    "(" * 2000 + "1" + ")" * 2000,
]


@pytest.mark.spec("VBR-23")
@pytest.mark.parametrize("sql", HOSTILE)
def test_sql_filter_can_only_read_the_event(sql: str) -> None:
    started = time.monotonic()
    assert refusal(sql) is not None
    with pytest.raises(SqlFilterError):
        passes(sql, EXCEEDED)
    assert time.monotonic() - started < 5


@pytest.mark.spec("VBR-23")
def test_sql_filter_ends_after_its_steps() -> None:
    wide = "(" + " UNION ALL ".join(["SELECT 1 AS x"] * 9) + ")"
    product = f"SELECT count(*), 1 FROM {', '.join(f'{wide} AS t{n}' for n in range(9))}"
    with pytest.raises(SqlFilterError, match="steps"):
        passes(product, EXCEEDED)


@settings(max_examples=150)
@given(st.text(max_size=60) | st.text("sSELCTfromeventwhr()*'\"%1=<>-;/ ", max_size=80))
def test_no_text_is_more_than_a_filter(sql: str) -> None:
    try:
        assert passes(sql, DOWN) in (True, False)
    except SqlFilterError as error:
        assert len(str(error)) < LENGTH
