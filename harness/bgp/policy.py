"""Routing policy: ordered terms that permit, deny or change routes. The first term that matches decides.

A policy is a pure function of a route; when it is applied is the speaker's business: to each route as it comes or goes, and to
those already there only by a soft clear (BGP-7, BGP-18). Outcomes are remembered by the attributes' identity, so that a policy
costs one look-up for a route whose attributes were seen before; only terms with prefix conditions look at the prefix.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from harness.bgp import as_path
from harness.bgp.attributes import Attributes, LargeCommunity, community, large_community
from harness.bgp.config import Rule
from harness.bgp.paths import Kind, Source
from harness.bgp.prefix_list import PrefixRange
from harness.bgp.prefixes import Family

_REMEMBERED = 65536
_C = TypeVar("_C", int, LargeCommunity)


class Outcome(NamedTuple):
    """What a policy made of a route: None for refused; ``term`` counts from 1, 0 is the implicit end."""

    attributes: Attributes | None
    term: int
    next_hop_self: bool = False


class Policy:
    """The terms of one direction of one neighbour, for one address family."""

    def __init__(self, rules: Sequence[Rule], family: Family, own_asn: int, *, strict: bool = False) -> None:
        self._terms = [_Term(number, rule, family, own_asn) for number, rule in enumerate(rules, 1)]
        self._by_prefix = any(term.looks_at_prefix for term in self._terms)
        self._end_permits = not strict
        self._remembered: dict[tuple[Source, Attributes, int], Outcome] = {}
        self.key = (tuple(rules), own_asn, strict)
        """Policies of one family with equal keys do the same."""
        self.is_transparent = not rules and not strict
        """Whether every route passes unchanged."""

    def term_text(self, term: int) -> str:
        """What refused a route, in words."""
        if term:
            return f"term {term}"
        return "implicit deny" if self._terms else "none is configured: implicit deny (RFC 8212)"

    @property
    def looks_at_prefix(self) -> bool:
        """False: the outcome is the same for all prefixes of one path."""
        return self._by_prefix

    def apply(self, prefix: bytes, source: Source, attributes: Attributes) -> Outcome:
        """``prefix`` is the wire slice without path identifier; it is not looked at unless ``looks_at_prefix``."""
        if self.is_transparent:
            return Outcome(attributes, 0)
        # The mask of the terms whose prefix conditions hold is all that an outcome owes to the prefix.
        mask = -1
        if self._by_prefix:
            mask = sum(1 << i for i, term in enumerate(self._terms) if term.covers(prefix))
        key = (source, attributes, mask)
        outcome = self._remembered.get(key)
        if outcome is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            outcome = self._remembered[key] = self._decide(mask, source, attributes)
        return outcome

    def _decide(self, mask: int, source: Source, attributes: Attributes) -> Outcome:
        for position, term in enumerate(self._terms):
            if mask >> position & 1 and term.matches(source, attributes):
                return term.outcome(attributes)
        return Outcome(attributes if self._end_permits else None, 0)


class _Term:
    """One rule, its texts parsed."""

    def __init__(self, number: int, rule: Rule, family: Family, own_asn: int) -> None:
        ranges = [PrefixRange.parse(text) for text in rule.prefixes]
        version = 4 if family is Family.IPV4_UNICAST else 6
        self._number = number
        self._rule = rule
        self._own_asn = own_asn
        self._ranges = [r for r in ranges if r.version == version]
        self._as_path = re.compile(rule.as_path) if rule.as_path is not None else None
        self._wanted = _Communities(rule.communities)
        self._added = _Communities(rule.add_communities)
        self._removed = _Communities(tuple(text for text in rule.remove_communities if text != "*"))
        self._removes_all = "*" in rule.remove_communities
        self.looks_at_prefix = bool(rule.prefixes)

    def covers(self, prefix: bytes) -> bool:
        return not self.looks_at_prefix or any(r.matches(prefix) for r in self._ranges)

    def matches(self, source: Source, attributes: Attributes) -> bool:
        rule = self._rule
        if rule.local is not None and rule.local is not (source.kind is Kind.LOCAL):
            return False
        if rule.neighbors and source.name not in rule.neighbors:
            return False
        if rule.communities and not self._wanted.meets(attributes):
            return False
        return self._as_path is None or self._as_path.search(as_path.text(attributes.as_path)) is not None

    def outcome(self, attributes: Attributes) -> Outcome:
        rule = self._rule
        if rule.action == "deny":
            return Outcome(None, self._number)
        kept = () if self._removes_all else attributes.communities
        kept_large = () if self._removes_all else attributes.large
        changed = attributes.evolve(
            communities=_union(kept, self._removed.standard, self._added.standard),
            large=_union(kept_large, self._removed.large, self._added.large),
            local_pref=attributes.local_pref if rule.local_pref is None else rule.local_pref,
            med=attributes.med if rule.med is None else rule.med,
        )
        if rule.forget_as_path:
            changed = changed.evolve(as_path=())
        if rule.prepend:
            changed = changed.prepended(self._own_asn, rule.prepend)
        return Outcome(changed, self._number, rule.next_hop_self)


class _Communities:
    """Configured communities, by their kind."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.standard = tuple(community(text) for text in texts if text.count(":") < 2)
        self.large = tuple(large_community(text) for text in texts if text.count(":") == 2)

    def meets(self, attributes: Attributes) -> bool:
        return not set(self.standard).isdisjoint(attributes.communities) or not set(self.large).isdisjoint(
            attributes.large
        )


def _union(kept: tuple[_C, ...], removed: tuple[_C, ...], added: tuple[_C, ...]) -> tuple[_C, ...]:
    """RFC 1997: a set; written in ascending order once it is changed, as most speakers do."""
    if not removed and not added:
        return kept
    values: set[_C] = set(kept).difference(removed).union(added)
    return tuple(sorted(values))
