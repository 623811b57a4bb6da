"""Alert rules: which events they take, where they send, what the form refuses, and when an alert is repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.cloud.alerts import (
    Alerting,
    AlertRule,
    ApplicationGroup,
    Channel,
    Contact,
    ContactGroup,
    KeywordCondition,
    destinations,
    judge_event,
    require_valid,
    validate,
)
from harness.cloud.events import Cleared, Event, EventName, EventType, Level
from harness.cloud.findings import Refused
from harness.cloud.muting import Alarms

DOWN = Event(0.0, EventName.PEER_DOWN, "vbr", "10.1.1.2", content={"reason": "the hold timer expired"})
EXCEEDED = Event(0.0, EventName.ROUTES_EXCEEDED, "vbr", "10.1.1.2", content={"routes": 111, "quota": 110})
RULE = AlertRule("peer down", EventType.DOWN, EventName.PEER_DOWN)
ON_CALL = ContactGroup(
    "on call",
    (
        Contact("Ada", phone="+00 1", email="ada@example.net", webhook="https://192.0.2.1/hook"),
        Contact("Bob", email="b@example.net"),
    ),
)


def alerting(**changes: Any) -> Alerting:
    return Alerting(
        (replace(RULE, **changes),),
        (ON_CALL,),
        (ApplicationGroup("first line", ("vbr/vbr/bgp-peer/10.1.1.2",)), ApplicationGroup("all", ("vbr/vbr",))),
        ("queue",),
        ("function",),
        ("logstore",),
    )


ANY, NONE = KeywordCondition.CONTAINS_ANY, KeywordCondition.CONTAINS_NONE
#: What a rule says, and which of the two events it takes.
TAKEN: dict[str, tuple[dict[str, Any], Event, bool]] = {
    "its type and name": ({}, DOWN, True),
    "another name": ({}, EXCEEDED, False),
    "another level": ({"level": Level.CRITICAL}, DOWN, False),
    "one of the keywords": ({"keywords": ("BFD", "HOLD timer"), "keyword_condition": ANY}, DOWN, True),
    "none of the keywords, one wanted": ({"keywords": ("BFD",), "keyword_condition": ANY}, DOWN, False),
    "none of the keywords": ({"keywords": ("BFD",), "keyword_condition": NONE}, DOWN, True),
    "a keyword that must not be there": ({"keywords": ("BFD", "hold"), "keyword_condition": NONE}, DOWN, False),
    "SQL that holds": ({"sql": "peer LIKE '10.1.%'"}, DOWN, True),
    "SQL that does not": ({"sql": "peer LIKE '10.2.%'"}, DOWN, False),
    "no SQL": ({"sql": " "}, DOWN, True),
    "its application group": ({"application_group": "first line"}, DOWN, True),
    "the application group of the VBR": ({"application_group": "all"}, DOWN, True),
    "another application group": ({"application_group": "first line"}, replace(DOWN, peer="10.1.1.20"), False),
}


@pytest.mark.spec("VBR-23")
@pytest.mark.parametrize("case", TAKEN)
def test_which_events_a_rule_takes(case: str) -> None:
    changes, event, taken = TAKEN[case]
    rules = require_valid(alerting(**changes))
    verdict = judge_event(rules, rules.rules[0], event)
    assert (verdict.taken, verdict.trouble) == (taken, None), verdict


@pytest.mark.spec("VBR-23")
def test_filter_that_fails_lets_through_and_says_so() -> None:
    rules = alerting(sql="no_column = 1")
    verdict = judge_event(rules, rules.rules[0], DOWN)
    assert verdict.taken
    assert "no such column" in str(verdict.trouble)


#: What the form refuses: the change, the requirement, and words of the finding.
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no name": ({"name": " "}, "VBR-38", "has a name"),
    "Down with Exceed": ({"event_name": EventName.ROUTES_EXCEEDED}, "VBR-38", "does not fit event type Down"),
    "Receive Routes with Down": ({"event_type": EventType.RECEIVE_ROUTES}, "VBR-38", "does not fit"),
    "another product": ({"product": "ECS"}, "VBR-38", "has no BGP peers"),
    "mute period zero": ({"mute_period": 0.0}, "VBR-37", "not positive"),
    "mute period negative": ({"mute_period": -1.0}, "VBR-37", "not positive"),
    "https callback": ({"callback": "https://192.0.2.1/"}, "VBR-41", "not of the scheme http"),
    "ftp callback": ({"callback": "ftp://192.0.2.1/"}, "VBR-41", "not of the scheme http"),
    "callback to nobody": ({"callback": "http:///alerts"}, "VBR-41", "no URL of a host"),
    "callback of a wrong port": ({"callback": "http://192.0.2.1:99999/"}, "VBR-41", "no URL"),
    "callback with a password": ({"callback": "http://me:secret@192.0.2.1/"}, "VBR-41", "carries a user"),
    "unknown contact group": ({"contact_group": "nobody"}, "VBR-39", "does not exist"),
    "unknown application group": ({"application_group": "none"}, "VBR-23", "does not exist"),
    "unknown queue": ({"smq": "other"}, "VBR-40", "does not exist"),
    "unknown function": ({"function": "other"}, "VBR-40", "does not exist"),
    "unknown Logstore": ({"log_store": "other"}, "VBR-40", "does not exist"),
    "SQL that is none": ({"sql": "SELECT"}, "VBR-23", "cannot run"),
    "SQL that writes": ({"sql": "DELETE FROM event"}, "VBR-23", "cannot run"),
    "empty keyword": ({"keywords": ("",)}, "VBR-23", "keyword is empty"),
}


@pytest.mark.spec("VBR-23", "VBR-37", "VBR-38", "VBR-39", "VBR-40", "VBR-41")
@pytest.mark.parametrize("case", REFUSED)
def test_the_form_refuses(case: str) -> None:
    changes, spec, words = REFUSED[case]
    (finding,) = validate(alerting(**changes))
    assert (finding.spec, words in finding.rule) == (spec, True), finding
    assert finding.remedy
    assert "secret" not in str(finding)
    with pytest.raises(Refused):
        require_valid(alerting(**changes))


def test_two_rules_of_one_name_are_refused() -> None:
    (finding,) = validate(replace(alerting(), rules=(RULE, RULE)))
    assert "2 have this name" in finding.rule


#: VBR-39: the channels of each level, as the document lists them.
CHANNELS = {
    Level.CRITICAL: {Channel.PHONE, Channel.SMS, Channel.EMAIL, Channel.WEBHOOK},
    Level.WARNING: {Channel.SMS, Channel.EMAIL, Channel.WEBHOOK},
    Level.INFO: {Channel.EMAIL, Channel.WEBHOOK},
}


@pytest.mark.spec("VBR-39", "VBR-40")
@pytest.mark.parametrize("level", Level)
def test_destinations(level: Level) -> None:
    rules = alerting(
        contact_group="on call",
        notification=level,
        smq="queue",
        function="function",
        log_store="logstore",
        callback="http://192.0.2.1/",
    )
    found = destinations(rules, rules.rules[0])
    assert {each.channel for each in found if each.contact == "Ada"} == CHANNELS[level]
    assert {each.channel for each in found if each.contact == "Bob"} == {Channel.EMAIL}
    assert [(str(each.channel), each.address) for each in found if not each.contact] == [
        ("smq", "queue"),
        ("function-compute", "function"),
        ("simple-log-service", "logstore"),
        ("callback", "http://192.0.2.1/"),
    ]
    assert destinations(alerting(), RULE) == []


# ------------------------------------------------------------------------------------------------------------ mute period


def cleared(event: Event) -> Cleared:
    return Cleared(0.0, event.name, event.vbr, event.peer, "up again")


@pytest.mark.spec("VBR-37")
def test_alert_is_repeated_each_period_until_it_clears() -> None:
    alarms = Alarms(alerting(mute_period=60.0))
    assert [alert.number for alert in alarms.take(DOWN, 100.0)] == [1]
    assert alarms.take(replace(DOWN, time=110.0), 110.0) == []
    assert alarms.deadline() == 160.0
    assert alarms.tick(159.9) == []
    (second,) = alarms.tick(160.0)
    assert (second.number, second.event.time) == (2, 110.0)
    (third,) = alarms.tick(500.0)
    assert third.number == 3
    assert alarms.deadline() == 560.0
    assert alarms.take(cleared(DOWN), 510.0) == []
    assert alarms.deadline() is None
    assert alarms.tick(1000.0) == []
    assert [alert.number for alert in alarms.take(DOWN, 1001.0)] == [1]


@pytest.mark.spec("VBR-37")
def test_peers_are_muted_apart() -> None:
    alarms = Alarms(alerting(mute_period=60.0))
    other = replace(DOWN, peer="10.1.2.2")
    assert [len(alarms.take(event, 0.0)) for event in (DOWN, other, DOWN, other)] == [1, 1, 0, 0]
    alarms.take(cleared(other), 1.0)
    assert [alert.event.peer for alert in alarms.tick(60.0)] == [DOWN.peer]


@pytest.mark.spec("VBR-37")
def test_without_a_mute_period_every_event_is_sent_once() -> None:
    alarms = Alarms(alerting())
    assert [len(alarms.take(DOWN, now)) for now in (0.0, 0.1, 0.2)] == [1, 1, 1]
    assert alarms.deadline() is None


@pytest.mark.spec("VBR-23")
def test_keywords_are_not_found_in_the_trace_id() -> None:
    trace = DOWN.fields()["traceId"]
    rules = alerting(keywords=(trace[:6],))
    assert not judge_event(rules, rules.rules[0], DOWN).taken
