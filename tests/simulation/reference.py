"""What every table must hold, computed from configurations alone and another way than the speaker does.

No caches, no increments, no wire form: values as text, one look at every session, again until nothing changes. Written from the RFCs, not
from the speaker; it shares no line with it. Sources: RFC 4271 5.1, 9.1.2, 9.2; RFC 1997; RFC 4456; RFC 7911.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network
from typing import Any

from tests.simulation.network import Link, Node, World, reachable

ROUNDS = 60


class NotUnique(Exception):
    """The outcome depends on what came first, as the protocol lets it; nothing can be said beforehand."""


@dataclass(frozen=True)
class Offer:
    """A route as one speaker sees it. ``by``: the neighbour's name, empty for an own network."""

    by: str
    kind: str
    path: tuple[int, ...] = ()
    next_hop: str = ""
    local_pref: int | None = None
    med: int | None = None
    communities: frozenset[str] = frozenset()
    identifier: int = 0
    address: str = ""
    originator: int | None = None
    clusters: tuple[int, ...] = ()

    def short(self) -> str:
        words = f"by {self.by or 'itself'} path {self.path} via {self.next_hop} pref {self.local_pref}"
        return f"{words} med {self.med} {sorted(self.communities)}"


@dataclass(frozen=True)
class Choice:
    """What a speaker makes of its offers for one prefix. ``first``: those that only their path ids tell from the best."""

    usable: tuple[Offer, ...]
    first: tuple[Offer, ...]
    multipath: tuple[Offer, ...]
    full: bool


Tables = dict[str, dict[str, Choice]]


def neighbors(node: Node) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in node.config["neighbors"]}


def sessions(world: World) -> Iterable[tuple[Node, Node]]:
    """Who has to be in session with whom, both ways round: configured on both sides, shut on neither."""
    for link in world.links:
        one, other = link.nodes
        near, far = neighbors(one).get(other.name), neighbors(other).get(one.name)
        if near and far and not near.get("shutdown") and not far.get("shutdown"):
            yield one, other
            yield other, one


def settled(world: World) -> Tables:
    """The tables of a network that starts afresh. Raises NotUnique where that is not determined."""
    tables: Tables = {name: {} for name in world.nodes}
    pairs = list(sessions(world))
    prefixes = {network for node in world.nodes.values() for network in node.config["networks"]}
    for _ in range(ROUNDS):
        again: Tables = {}
        for name, node in world.nodes.items():
            again[name] = {}
            for prefix in prefixes:
                offers = own(node, prefix)
                for teller, hearer in pairs:
                    if hearer is node and prefix in tables[teller.name]:
                        choice = tables[teller.name][prefix]
                        if len(set(choice.first)) > 1 and not sends_all(teller, node):
                            raise NotUnique(prefix)
                        offers += accepted(node, prefix, told(teller, node, prefix, choice.first[0], choice.usable))
                if choice_of := choose(node, offers):
                    again[name][prefix] = choice_of
        if again == tables:
            return tables
        tables = again
    raise NotUnique("no rest is found")


def own(node: Node, prefix: str) -> list[Offer]:
    return [Offer("", "local")] if prefix in node.config["networks"] else []


def sends_all(teller: Node, hearer: Node) -> bool:
    sends = neighbors(teller)[hearer.name].get("add_path", "none") in ("send", "both")
    return sends and neighbors(hearer)[teller.name].get("add_path", "none") in ("receive", "both")


def told(teller: Node, hearer: Node, prefix: str, best: Offer, usable: Iterable[Offer]) -> list[Offer]:
    """What ``teller`` announces to ``hearer``, as it arrives there: RFC 4271 5.1 and 9.2, RFC 7911."""
    session = neighbors(teller)[hearer.name]
    external = teller.asn != hearer.asn
    sent = []
    for offer in usable if sends_all(teller, hearer) else (best,):
        inside = offer.kind == "ibgp" and not external
        if offer.by == hearer.name or (inside and not (is_client(teller, offer.by) or is_client(teller, hearer.name))):
            continue
        if "no-advertise" in offer.communities or (external and "no-export" in offer.communities):
            continue
        if external and offer.kind != "local":
            offer = replace(offer, med=None)
        changed, self_as_hop = policy(session.get("export", ()), prefix, offer, teller.asn)
        if changed is None:
            continue
        link = link_between(teller, hearer)
        if external or (session.get("next_hop_self") and not inside) or self_as_hop or not changed.next_hop:
            changed = replace(changed, next_hop=link.address(teller))
        if inside:
            first = offer.identifier if offer.originator is None else offer.originator
            changed = replace(changed, originator=first, clusters=(identifier_of(teller), *offer.clusters))
        if external:
            changed = replace(changed, originator=None, clusters=())
        if external:
            changed = replace(changed, path=(teller.asn, *changed.path), local_pref=None)
        elif changed.local_pref is None:
            changed = replace(changed, local_pref=teller.config.get("local_pref", 100))
        sent.append(
            replace(
                changed,
                by=teller.name,
                kind="ebgp" if external else "ibgp",
                identifier=identifier_of(teller),
                address=link.address(teller),
            )
        )
    return sent


def is_client(node: Node, name: str) -> bool:
    return bool(neighbors(node)[name].get("route_reflector_client"))


def identifier_of(node: Node) -> int:
    return int(IPv4Address(node.config["router_id"]))


def accepted(node: Node, prefix: str, offers: Iterable[Offer]) -> list[Offer]:
    """What is left of the offers that arrived: no loop, no own next hop (RFC 4271 9.1.2, 5.1.3; RFC 4456 8), then the import policy."""
    found = []
    mine = [link.address(node) for link in node.links]
    for offer in offers:
        session = neighbors(node)[offer.by]
        if offer.path.count(node.asn) > session.get("allow_as_in", 0) or offer.next_hop in mine:
            continue
        if offer.originator == identifier_of(node) or identifier_of(node) in offer.clusters:
            continue
        changed, _ = policy(session.get("import", ()), prefix, offer, node.asn)
        if changed is not None:
            found.append(changed)
    return found


def policy(rules: Iterable[Mapping[str, Any]], prefix: str, offer: Offer, asn: int) -> tuple[Offer | None, bool]:
    for rule in rules:
        if rule.get("prefixes") and not any(covers(text, prefix) for text in rule["prefixes"]):
            continue
        if rule.get("communities") and not offer.communities & set(rule["communities"]):
            continue
        if rule.get("neighbors") and offer.by not in rule["neighbors"]:
            continue
        if rule.get("local") is not None and rule["local"] is not (offer.kind == "local"):
            continue
        if rule.get("as_path") is not None and not re.search(rule["as_path"], " ".join(map(str, offer.path))):
            continue
        if rule["action"] == "deny":
            return None, False
        kept = frozenset() if "*" in rule.get("remove_communities", ()) else offer.communities
        kept = (kept - set(rule.get("remove_communities", ()))) | set(rule.get("add_communities", ()))
        changed = replace(offer, communities=kept, path=(asn,) * rule.get("prepend", 0) + offer.path)
        if rule.get("local_pref") is not None:
            changed = replace(changed, local_pref=rule["local_pref"])
        if rule.get("med") is not None:
            changed = replace(changed, med=rule["med"])
        return changed, bool(rule.get("next_hop_self"))
    return offer, False


def covers(text: str, prefix: str) -> bool:
    """A prefix condition: a block, and the lengths that it takes."""
    words = text.split()
    block, found = ip_network(words[0]), ip_network(prefix)
    if block.version != found.version:
        return False
    limits = dict(zip(words[1::2], map(int, words[2::2]), strict=True))
    low = limits.get("ge", block.prefixlen)
    high = limits.get("le", block.max_prefixlen if "ge" in limits else block.prefixlen)
    inside = int(found.network_address) >> (found.max_prefixlen - block.prefixlen) == int(block.network_address) >> (
        found.max_prefixlen - block.prefixlen
    )
    return found.prefixlen >= block.prefixlen and inside and low <= found.prefixlen <= high


def choose(node: Node, offers: list[Offer]) -> Choice | None:
    """RFC 4271 9.1.2.2 over all offers at once; None where there is nothing to use."""
    costs = reachable(node)
    usable = [o for o in offers if o.kind == "local" or o.next_hop in costs]
    if not usable:
        return None
    default = node.config.get("local_pref", 100)
    left = [o for o in usable if o.kind == "local"] or usable
    highest = max(default if o.local_pref is None else o.local_pref for o in left)
    left = [o for o in left if (default if o.local_pref is None else o.local_pref) == highest]
    shortest = min(len(o.path) for o in left)
    left = [o for o in left if len(o.path) == shortest]
    left = [o for o in left if not any(is_worse_by_med(node, o, other) for other in left)]
    left = [o for o in left if o.kind == "ebgp"] or left
    nearest = min(costs.get(o.next_hop, 0) for o in left)
    left = [o for o in left if costs.get(o.next_hop, 0) == nearest]
    lowest = min(map(last_words, left))
    first = canonical(o for o in left if last_words(o) == lowest)
    kind = first[0].kind
    limit = 1 if kind == "local" else node.config.get("multipath" if kind == "ebgp" else "multipath_ibgp", 1)
    same = node.config.get("multipath_as_path", "identical") == "identical"
    equal = [o for o in left if o.kind == kind and (not same or o.path == first[0].path)]
    return Choice(canonical(usable), first, canonical(equal), len(equal) <= limit)


def last_words(offer: Offer) -> tuple[int, int, int]:
    """RFC 4271 9.1.2.2 f and g with RFC 4456 9 between."""
    identifier = offer.identifier if offer.originator is None else offer.originator
    return identifier, len(offer.clusters), int(IPv4Address(offer.address or 0))


def is_worse_by_med(node: Node, offer: Offer, other: Offer) -> bool:
    neighbor, others = (o.path[0] if o.path else None for o in (offer, other))
    comparable = node.config.get("always_compare_med", False) or neighbor == others
    return comparable and (other.med or 0) < (offer.med or 0)


def canonical(offers: Iterable[Offer]) -> tuple[Offer, ...]:
    return tuple(sorted(offers, key=repr))


def link_between(one: Node, other: Node) -> Link:
    return next(link for link in one.links if link.far(one) is other)
