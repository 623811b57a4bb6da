"""Policies: conditions, actions, order, and what they remember."""

from __future__ import annotations

from typing import Any

import pytest

from harness.bgp import as_path
from harness.bgp.attributes import Attributes, LargeCommunity
from harness.bgp.config import Rule
from harness.bgp.policy import Outcome, Policy
from harness.bgp.prefix_list import PrefixRange, PrefixRangeError
from harness.bgp.prefixes import Family
from tests.bgp.routes import LOCAL, attributes, prefix, source

V4 = Family.IPV4_UNICAST
ROUTE = prefix("192.168.1.0/24")
BASE = attributes(65531, 65530, communities=(65531 << 16 | 100,))


def rule(**fields: Any) -> Rule:
    return Rule.model_validate({"action": "permit"} | fields)


def outcome(*rules: Rule, route: bytes = ROUTE, attrs: Attributes = BASE, by: Any = None, **options: Any) -> Outcome:
    return Policy(rules, V4, 64500, **options).apply(route, by or source("conn-1"), attrs)


def test_without_terms_everything_passes_unchanged() -> None:
    assert outcome().attributes is BASE
    assert outcome(strict=True).attributes is None


CONDITIONS = [
    (True, {"prefixes": ["192.168.1.0/24"]}),
    (False, {"prefixes": ["192.168.0.0/16"]}),
    (True, {"prefixes": ["10.0.0.0/8", "192.168.0.0/16 ge 24"]}),
    (False, {"prefixes": ["192.168.0.0/16 ge 25"]}),
    (True, {"prefixes": ["192.168.0.0/16 le 24"]}),
    (False, {"prefixes": ["192.168.0.0/16 le 23"]}),
    (True, {"prefixes": ["0.0.0.0/0 le 32"]}),
    (False, {"prefixes": ["::/0 le 128"]}),
    (True, {"communities": ["65531:100"]}),
    (True, {"communities": ["65531:1", "65531:100"]}),
    (False, {"communities": ["no-export"]}),
    (False, {"communities": ["65531:1:2"]}),
    (True, {"neighbors": ["conn-1", "conn-2"]}),
    (False, {"neighbors": ["conn-2"]}),
    (True, {"as_path": "^65531 "}),
    (False, {"as_path": "^65530"}),
    (True, {"local": False}),
    (False, {"local": True}),
    (False, {"prefixes": ["192.168.1.0/24"], "communities": ["1:1"]}),
]


@pytest.mark.spec("BGP-7")
@pytest.mark.parametrize(("matches", "fields"), CONDITIONS, ids=[str(row[1]) for row in CONDITIONS])
def test_conditions(matches: bool, fields: dict[str, Any]) -> None:
    refused = outcome(rule(action="deny", **fields))
    assert (refused.attributes is None) == matches
    assert refused.term == (1 if matches else 0)


def test_first_matching_term_decides() -> None:
    found = outcome(rule(prefixes=["10.0.0.0/8"], med=1), rule(med=2), rule(action="deny"))
    assert found.term == 2
    assert found.attributes is not None
    assert found.attributes.med == 2


def test_actions() -> None:
    found = outcome(
        rule(
            local_pref=300,
            med=7,
            prepend=2,
            add_communities=["no-export", "1:2:3"],
            remove_communities=["65531:100"],
            next_hop_self=True,
        )
    )
    changed = found.attributes
    assert changed is not None
    assert (changed.local_pref, changed.med) == (300, 7)
    assert changed.communities == (0xFFFFFF01,)
    assert changed.large == (LargeCommunity(1, 2, 3),)
    assert as_path.text(changed.as_path) == "64500 64500 65531 65530"
    assert found.next_hop_self


def test_star_removes_all_communities() -> None:
    found = outcome(rule(remove_communities=["*"], add_communities=["9:9"]))
    assert found.attributes is not None
    assert found.attributes.communities == (9 << 16 | 9,)


def test_own_networks_are_local() -> None:
    assert outcome(rule(action="deny", local=True), by=LOCAL).attributes is None


def test_an_outcome_is_remembered_for_each_set_of_prefix_conditions() -> None:
    policy = Policy([rule(prefixes=["10.0.0.0/8 le 32"], med=1), rule(med=2)], V4, 64500)
    by = source()
    assert policy.looks_at_prefix
    first = policy.apply(prefix("10.1.0.0/16"), by, BASE)
    other = policy.apply(prefix("11.0.0.0/8"), by, BASE)
    assert first.attributes is not None
    assert other.attributes is not None
    assert (first.attributes.med, other.attributes.med) == (1, 2)
    assert policy.apply(prefix("10.2.0.0/16"), by, BASE).attributes is first.attributes


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("10.0.0.1/8", "host bits"),
        ("10.0.0.0/8 ge 4", "matches nothing"),
        ("10.0.0.0/8 le 33", "matches nothing"),
        ("10.0.0.0/8 ge 20 le 16", "matches nothing"),
        ("10.0.0.0/8 gt 16", "only"),
        ("10.0.0.0/8 ge", "only"),
        ("nonsense", "nonsense"),
    ],
)
def test_bad_prefix_conditions_are_named(text: str, complaint: str) -> None:
    with pytest.raises(PrefixRangeError, match=complaint):
        PrefixRange.parse(text)


def test_ipv6_ranges() -> None:
    covered = PrefixRange.parse("2001:db8::/33 ge 40 le 48")
    assert covered.matches(prefix("2001:db8:100::/40"))
    assert not covered.matches(prefix("2001:db8:8000::/40"))
    assert not covered.matches(prefix("2001:db8::/33"))


def test_forgotten_as_path_is_empty_and_what_is_prepended_stands_alone() -> None:
    forgotten = outcome(rule(forget_as_path=True)).attributes
    assert forgotten is not None
    assert (forgotten.as_path, forgotten.as_path_length, forgotten.neighbor_as) == ((), 0, 0)
    prepended = outcome(rule(forget_as_path=True, prepend=2)).attributes
    assert prepended is not None
    assert as_path.text(prepended.as_path) == "64500 64500"
