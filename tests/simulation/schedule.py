"""A seed becomes a network, its configurations and what happens to it: plain data, the same for the same seed everywhere."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

PREFIXES = ("172.16.0.0/16", "172.16.1.0/24", "192.0.2.0/25", "198.51.100.0/24", "2001:db8:1::/48")
SHAPES = ("chain", "ring", "star", "mesh", "random", "ases", "ases")
CALM = 2.0
"""Seconds between the start of the last speaker and the first disturbance, at most."""


@dataclass
class Step:
    """Something that happens at ``when`` (seconds from the start) for ``lasting`` seconds, where it lasts."""

    when: float
    kind: str
    node: str = ""
    other: str = ""
    lasting: float = 0.0
    value: Any = None

    def __str__(self) -> str:
        words = [self.kind, self.node, self.other, f"for {self.lasting:.3f} s" if self.lasting else ""]
        return " ".join(word for word in words if word) + (f" {self.value}" if self.value is not None else "")


@dataclass
class Schedule:
    """``asns`` and ``configs`` by node; ``links`` by their nodes; ``costs``: interior cost by pair of nodes of one AS."""

    seed: int
    shape: str
    asns: dict[str, int]
    links: list[tuple[str, str]]
    configs: dict[str, dict[str, Any]]
    costs: dict[tuple[str, str], int]
    starts: dict[str, float]
    steps: list[Step] = field(default_factory=list)
    delay: float = 0.0005
    spread: float = 0.005
    toll: float = 0.0
    cuts_octets: bool = False
    small_strides: bool = False
    hold: int = 90
    determined: bool = True
    """Whether the policies leave one outcome only; else the tables must agree with each other, not with a fresh start."""

    @property
    def end(self) -> float:
        """When the last disturbance is over."""
        return max([*(step.when + max(step.lasting, 0.0) for step in self.steps), *self.starts.values()])


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rnd = random.Random(f"schedule {seed}")
    shape = rnd.choice(SHAPES)
    asns, links = _ases(rnd) if shape == "ases" else _plain(rnd, shape)
    hold = rnd.choice((3, 9, 30, 90, 90))
    schedule = Schedule(
        seed,
        shape,
        asns,
        links,
        {},
        {},
        {name: rnd.random() * CALM for name in asns},
        delay=rnd.choice((0.00005, 0.0005, 0.02)),
        spread=rnd.choice((0.0001, 0.005, 0.05)),
        toll=rnd.choice((0.0, 0.0, 0.0001, 0.0015)),
        cuts_octets=rnd.random() < 0.3,
        small_strides=rnd.random() < 0.5,
        hold=hold,
    )
    for one, other in itertools.permutations(asns, 2):
        if asns[one] == asns[other]:
            schedule.costs[one, other] = rnd.choice((1, 1, 5, 10))
    _configure(rnd, schedule)
    span = rnd.choice((1.0, 3.0 * hold))
    for _ in range(rnd.randrange(1, 9)):
        schedule.steps.append(_step(rnd, schedule, CALM + rnd.random() * span))
    schedule.steps.sort(key=lambda step: step.when)
    return schedule


# --------------------------------------------------------------------------------------------------------------------- networks


def _plain(rnd: random.Random, shape: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Every node an AS of its own, the numbers in no order of the names."""
    count = rnd.randrange(2, 6) if shape != "mesh" else rnd.randrange(3, 5)
    names = [f"n{i}" for i in range(count)]
    numbers = rnd.sample([64512 + i for i in range(count - 1)] + [4200000000 + seed for seed in range(2)], count)
    pairs = list(itertools.combinations(names, 2))
    match shape:
        case "chain":
            links = list(itertools.pairwise(names))
        case "ring":
            links = [*itertools.pairwise(names), *([(names[-1], names[0])] if count > 2 else [])]
        case "star":
            links = [(names[0], name) for name in names[1:]]
        case "mesh":
            links = pairs
        case _:
            links = list(itertools.pairwise(names))
            links += [pair for pair in pairs if pair not in links and rnd.random() < 0.3]
    return dict(zip(names, numbers, strict=True)), links


def _ases(rnd: random.Random) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """ASes of one to three routers: iBGP inside, as a full mesh or by a route reflector; eBGP between."""
    asns: dict[str, int] = {}
    groups = []
    for number in range(rnd.randrange(1, 4)):
        names = [f"{'abc'[number]}{i}" for i in range(rnd.choice((1, 2, 2, 3)))]
        groups.append(names)
        asns |= dict.fromkeys(names, 65001 + number)
    if len(asns) == 1:
        asns["a1"], groups[0] = 65001, ["a0", "a1"]
    links = []
    for names in groups:
        mesh = list(itertools.combinations(names, 2))
        # Three routers: now and then the first reflects for the others, which have no session with each other.
        links += mesh[:2] if len(names) == 3 and rnd.random() < 0.4 else mesh
    for one, other in itertools.pairwise(groups):
        links.append((rnd.choice(one), rnd.choice(other)))
    between = [pair for pair in itertools.combinations(asns, 2) if asns[pair[0]] != asns[pair[1]] and pair not in links]
    links += rnd.sample(between, min(len(between), rnd.randrange(0, 3)))
    return asns, links


# --------------------------------------------------------------------------------------------------------------- configurations


def _configure(rnd: random.Random, schedule: Schedule) -> None:
    asns, links = schedule.asns, schedule.links
    two_families = rnd.random() < 0.3
    prefixes = PREFIXES if two_families else PREFIXES[:4]
    flavours = ["none", "none", "filters", "filters", "med"]
    if schedule.shape in ("chain", "star"):
        # In a cycle of ASes preferences need not ever come to rest (RFC 4264); in a tree they do, in one of several ways.
        flavours.append("preference")
    flavour = rnd.choice(flavours)
    alone = len(set(asns.values())) == len(asns)
    schedule.determined = flavour != "preference" and (flavour != "med" or alone)
    compare = {asn: rnd.random() < 0.3 for asn in asns.values()}
    identifiers = rnd.sample(range(1, 250), len(asns))
    paths = rnd.random() < 0.3
    graceful = rnd.random() < 0.3
    reflectors = _reflectors(asns, links)
    for number, (name, identifier) in enumerate(zip(asns, identifiers, strict=True)):
        networks = rnd.sample(prefixes, rnd.choice((0, 1, 1, 2)) or (not number))
        schedule.configs[name] = {
            "asn": asns[name],
            "router_id": f"192.0.2.{identifier}",
            "networks": sorted(networks),
            "hold_time": schedule.hold,
            "profile": rnd.choice(("document", "document", "rfc4271")),
            "multipath": rnd.choice((1, 1, 8)),
            "multipath_ibgp": rnd.choice((1, 8)),
            "multipath_as_path": rnd.choice(("identical", "length")),
            "always_compare_med": compare[asns[name]],
            "selection_deferral_time": 20,
            "neighbors": [],
        }
    hops = {asn: rnd.random() < 0.5 for asn in asns.values()}
    for number, (one, other) in enumerate(links):
        ends = [(one, other, 1, 2), (other, one, 2, 1)]
        rnd.shuffle(ends)
        for position, (name, far, _, theirs) in enumerate(ends):
            neighbor: dict[str, Any] = {"name": far, "address": f"10.{number}.0.{theirs}", "remote_asn": asns[far]}
            if two_families:
                neighbor["families"] = ["ipv4", "ipv6"]
            reflects = asns[name] in reflectors
            if asns[name] == asns[far] and (hops[asns[name]] or reflects):
                neighbor["next_hop_self"] = True
            if asns[name] == asns[far] and reflectors.get(asns[name]) == name:
                neighbor["route_reflector_client"] = True
            if paths and len(asns) < 5:
                neighbor["add_path"] = rnd.choice(("none", "send", "receive", "both", "both"))
            if not position and rnd.random() < 0.15:
                neighbor["passive"] = True
            if rnd.random() < 0.1:
                neighbor["delay_open"] = rnd.choice((0.05, 2.0))
            if max(asns[name], asns[far]) < 65536 and rnd.random() < 0.2:
                neighbor["four_octet_asn"] = False
            if graceful and rnd.random() < 0.8:
                neighbor["graceful_restart"] = {
                    "mode": rnd.choice(("full", "full", "helper")),
                    "restart_time": rnd.choice((2, 20, 120)),
                    "stale_time": 30,
                    "notification": rnd.random() < 0.5,
                }
            if rnd.random() < 0.1:
                neighbor["hold_time"] = rnd.choice((3, 9, 180))
            for direction in ("import", "export"):
                if rules := _rules(rnd, flavour, direction, asns[name] != asns[far], prefixes):
                    neighbor[direction] = rules
            schedule.configs[name]["neighbors"].append(neighbor)


def _reflectors(asns: dict[str, int], links: list[tuple[str, str]]) -> dict[int, str]:
    """AS -> its router that is in session with both others, which are not with each other."""
    found = {}
    for asn in set(asns.values()):
        names = [name for name in asns if asns[name] == asn]
        if len(names) == 3 and (names[1], names[2]) not in links:
            found[asn] = names[0]
    return found


def _rules(
    rnd: random.Random, flavour: str, direction: str, external: bool, prefixes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Policies over eBGP: those inside an AS are the same everywhere, or its routers would not agree on the way out."""
    if not external or flavour == "none" or rnd.random() < 0.5:
        return []
    if flavour == "med":
        return [{"action": "permit", "med": rnd.choice((0, 10, 20))}] if direction == "export" else []
    if flavour == "preference":
        return [{"action": "permit", "local_pref": rnd.choice((50, 200))}] if direction == "import" else []
    kinds: list[dict[str, Any]] = [
        {"action": "deny", "prefixes": [rnd.choice(prefixes)]},
        {"action": "deny", "prefixes": ["172.16.0.0/12 ge 20"]},
        {"action": "permit", "prefixes": [rnd.choice(prefixes)], "add_communities": ["64512:7"]},
        {"action": "deny", "communities": ["64512:7"]},
        {"action": "permit", "add_communities": ["no-export"], "prefixes": [rnd.choice(prefixes)]},
        {"action": "deny", "as_path": "64512"},
    ]
    if direction == "export":
        kinds += [
            {"action": "permit", "prepend": rnd.choice((1, 2))},
            {"action": "permit", "remove_communities": ["*"]},
            {"action": "permit", "local": True},
        ]
    return rnd.sample(kinds, rnd.choice((1, 1, 2)))


# ------------------------------------------------------------------------------------------------------------------ disturbances

_ON_LINK = (
    "cut",
    "blackout",
    "reset",
    "half",
    "forget",
    "refuse",
    "clear",
    "admin-reset",
    "policy",
    "shut",
    "remove",
    "change",
)
_ON_NODE = ("freeze", "jump", "stop", "kill", "power", "announce", "withdraw")


def _step(rnd: random.Random, schedule: Schedule, when: float) -> Step:
    kind = rnd.choice(_ON_LINK + _ON_NODE)
    short_or_long = rnd.choice((0.0, 0.01, 0.3, schedule.hold * 0.5, schedule.hold * 1.5)) * rnd.uniform(0.5, 1.5)
    if kind in _ON_NODE:
        node = rnd.choice(list(schedule.asns))
        match kind:
            case "announce" | "withdraw":
                return Step(when, kind, node, value=rnd.choice(PREFIXES[:4]))
            case "jump":
                return Step(when, kind, node, value=rnd.choice((0.5, schedule.hold / 3, schedule.hold * 1.1)))
        return Step(when, kind, node, lasting=short_or_long)
    one, other = rnd.sample(rnd.choice(schedule.links), 2)
    match kind:
        case "policy":
            direction = rnd.choice(("import", "export"))
            external = schedule.asns[one] != schedule.asns[other]
            rules = _rules(rnd, "filters", direction, external, PREFIXES[:4])
            return Step(when, kind, one, other, value=(direction, rules, rnd.random() < 0.5))
        case "clear":
            return Step(when, kind, one, other, value=(rnd.choice(("in", "out", "both")), rnd.random() < 0.5))
        case "shut" | "remove":
            return Step(when, kind, one, other, lasting=short_or_long if rnd.random() < 0.7 else -1.0)
        case "change":
            changes: list[dict[str, Any]] = [
                {"hold_time": rnd.choice((9, 180))},
                {"passive": False},
                {"description": "changed"},
                {"delay_open": 0.5},
                {"next_hop_self": True},
            ]
            return Step(when, kind, one, other, value=rnd.choice(changes))
        case "reset" | "half" | "forget" | "admin-reset" | "bfd":
            return Step(when, kind, one, other)
    return Step(when, kind, one, other, lasting=short_or_long)
