"""Policies of the configuration model in the words of FRR's route maps and BIRD's filters. Pure text, no I/O.

The model: ordered terms, the first that matches decides, then permit (deny where ``strict``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.bgp.config import Neighbor, Rule, SpeakerConfig
from harness.bgp.prefix_list import PrefixRange
from harness.daemons.driver import local_asn

IPV4, IPV6 = 4, 6


def is_large(text: str) -> bool:
    return text.count(":") == 2


def ranges_of(rule: Rule, version: int) -> list[tuple[str, PrefixRange]]:
    """The rule's prefix conditions of one IP version: the block's text and the parsed bounds."""
    parsed = [(text.split()[0], PrefixRange.parse(text)) for text in rule.prefixes]
    return [(block, found) for block, found in parsed if found.version == version]


def route_map(name: str, rules: Sequence[Rule], version: int, config: SpeakerConfig, neighbor: Neighbor) -> list[str]:
    """FRR's commands for a route map and the lists that it looks at. Community conditions of both sizes become two entries."""
    lists: list[str] = []
    entries: list[str] = []
    number = 0
    for place, rule in enumerate(rules, 1):
        ranges = ranges_of(rule, version)
        if rule.prefixes and not ranges:
            continue  # only prefixes of the other family: the term matches nothing here
        conditions: list[str] = []
        if ranges:
            words = "ip" if version == IPV4 else "ipv6"
            named = f"{name}-{place}"
            lists += [f"{words} prefix-list {named} permit {_frr_range(block, found)}" for block, found in ranges]
            conditions.append(f"match {words} address prefix-list {named}")
        actions, more = _frr_actions(rule, f"{name}-{place}", config, neighbor)
        lists += more
        for match in _frr_communities(rule, f"{name}-{place}", lists):
            number += 10
            entries += [f"route-map {name} {rule.action} {number}", *conditions, *match, *actions, "exit"]
    end = "deny" if neighbor.strict else "permit"
    return [*lists, *entries, f"route-map {name} {end} 65535", "exit"]


def _frr_range(block: str, found: PrefixRange) -> str:
    bounds = f" ge {found.shortest}" if found.shortest > found.length else ""
    if found.longest > found.length:
        bounds += f" le {found.longest}"
    return block + bounds


def _frr_communities(rule: Rule, name: str, lists: list[str]) -> Iterable[list[str]]:
    """The community conditions, each a way to match: any community of the rule is enough."""
    if not rule.communities:
        return [[]]
    found = []
    small = [text for text in rule.communities if not is_large(text)]
    large = [text for text in rule.communities if is_large(text)]
    if small:
        lists += [f"bgp community-list standard {name} permit {text}" for text in small]
        found.append([f"match community {name}"])
    if large:
        lists += [f"bgp large-community-list standard {name}-large permit {text}" for text in large]
        found.append([f"match large-community {name}-large"])
    return found


def _frr_actions(rule: Rule, name: str, config: SpeakerConfig, neighbor: Neighbor) -> tuple[list[str], list[str]]:
    """The ``set`` commands of a permitted term and the lists that they name."""
    if rule.action == "deny":
        return [], []
    actions: list[str] = []
    lists: list[str] = []
    small = [text for text in rule.remove_communities if text != "*" and not is_large(text)]
    large = [text for text in rule.remove_communities if is_large(text)]
    if "*" in rule.remove_communities:
        # Deleted by an expression and not by "set community none": what the same term adds must stay.
        lists += [
            "bgp community-list expanded every-community permit .*",
            "bgp large-community-list expanded every-large permit .*",
        ]
        actions += ["set comm-list every-community delete", "set large-comm-list every-large delete"]
    if small:
        lists += [f"bgp community-list standard {name}-remove permit {text}" for text in small]
        actions.append(f"set comm-list {name}-remove delete")
    if large:
        lists += [f"bgp large-community-list standard {name}-remove permit {text}" for text in large]
        actions.append(f"set large-comm-list {name}-remove delete")
    added = [text for text in rule.add_communities if not is_large(text)]
    added_large = [text for text in rule.add_communities if is_large(text)]
    actions += [f"set community {' '.join(added)} additive"] if added else []
    actions += [f"set large-community {' '.join(added_large)} additive"] if added_large else []
    actions += [f"set local-preference {rule.local_pref}"] if rule.local_pref is not None else []
    actions += [f"set metric {rule.med}"] if rule.med is not None else []
    actions += (
        [f"set as-path prepend {' '.join([str(local_asn(config, neighbor))] * rule.prepend)}"] if rule.prepend else []
    )
    actions += ["set ip next-hop peer-address"] if rule.next_hop_self else []
    return actions, lists


def bird_filter(name: str, rules: Sequence[Rule], version: int, config: SpeakerConfig, neighbor: Neighbor) -> str:
    """A filter in BIRD's language."""
    lines = [f"filter {name} {{"]
    for rule in rules:
        ranges = ranges_of(rule, version)
        if rule.prefixes and not ranges:
            continue
        conditions = _bird_conditions(rule, ranges)
        body = " ".join(_bird_actions(rule, config, neighbor))
        lines.append(f"  if {' && '.join(conditions) or 'true'} then {{ {body} }}")
    lines += ["  reject;" if neighbor.strict else "  accept;", "}"]
    return "\n".join(lines)


def bird_name(neighbor: str) -> str:
    """A neighbour's name as a symbol of BIRD's: any text between apostrophes that has none itself."""
    return f"'to-{word_of(neighbor)}'"  # a word of BIRD's language stays one between apostrophes


def word_of(name: str) -> str:
    """A name as one word that every daemon takes."""
    return "".join(c if c.isalnum() or c in "_-." else "_" for c in name)


def _bird_community(text: str) -> str:
    return f"({','.join(text.split(':'))})" if ":" in text else _WELL_KNOWN[text]


_WELL_KNOWN = {
    "no-export": "(65535,65281)",
    "no-advertise": "(65535,65282)",
    "no-export-subconfed": "(65535,65283)",
    "graceful-shutdown": "(65535,0)",
    "blackhole": "(65535,666)",
}


def _bird_conditions(rule: Rule, ranges: list[tuple[str, PrefixRange]]) -> list[str]:
    found = []
    if ranges:
        found.append("net ~ [ " + ", ".join(f"{block}{{{r.shortest},{r.longest}}}" for block, r in ranges) + " ]")
    if rule.communities:
        either = [
            f"{_bird_community(text)} ~ {'bgp_large_community' if is_large(text) else 'bgp_community'}"
            for text in rule.communities
        ]
        found.append(f"({' || '.join(either)})")
    if rule.neighbors:
        either = [f'proto = "{bird_name(name).strip(chr(39))}"' for name in rule.neighbors]
        found.append(f"({' || '.join(either)})")
    if rule.local is not None:
        found.append(f"source {'=' if rule.local else '!='} RTS_STATIC")
    return found


def _bird_actions(rule: Rule, config: SpeakerConfig, neighbor: Neighbor) -> list[str]:
    if rule.action == "deny":
        return ["reject;"]
    found = []
    for text in rule.remove_communities:
        if text == "*":
            found += ["bgp_community.empty;", "bgp_large_community.empty;"]
        else:
            found.append(
                f"{'bgp_large_community' if is_large(text) else 'bgp_community'}.delete({_bird_community(text)});"
            )
    for text in rule.add_communities:
        found.append(f"{'bgp_large_community' if is_large(text) else 'bgp_community'}.add({_bird_community(text)});")
    found += [f"bgp_local_pref = {rule.local_pref};"] if rule.local_pref is not None else []
    found += [f"bgp_med = {rule.med};"] if rule.med is not None else []
    found += [f"bgp_path.prepend({local_asn(config, neighbor)});"] * rule.prepend
    return [*found, "accept;"]
