"""The reasons that `show why` gives agree with what is done: a path has a reason exactly where it is not announced."""

from __future__ import annotations

import itertools

import pytest

from harness.bgp.prefixes import Family, from_network
from tests.bgp.test_bgp_speaker import build

PREFIXES = [f"192.168.{n}.0/24" for n in range(4)]
RULES = [
    {"action": "deny", "prefixes": [PREFIXES[0]]},
    {"action": "permit", "prefixes": [PREFIXES[1]], "add_communities": ["no-export"]},
    {"action": "permit", "prefixes": [PREFIXES[2]], "add_communities": ["no-advertise"]},
]


@pytest.mark.parametrize(
    ("add_path", "strict", "client"), list(itertools.product(("none", "both"), (False, True), (False, True)))
)
def test_reasons_and_deeds(add_path: str, strict: bool, client: bool) -> None:
    """a and b (AS 1) over h (AS 2) to its own z and y, and to e (AS 3)."""
    inside = {"add_path": add_path, "route_reflector_client": client}
    _, s = build(
        {"a": 1, "b": 1, "h": 2, "z": 2, "y": 2, "e": 3},
        ["ah", "bh", "hz", "hy", "he"],
        a={"networks": PREFIXES},
        b={"networks": PREFIXES[1:]},
        y={"networks": ["10.7.0.0/16"]},
        h={"networks": ["10.0.0.0/24"]},
        ha={"import": RULES[1:]},
        he={"export": RULES[:1], "strict": strict},
        hz=inside,
        hy=inside,
        zh={"add_path": add_path},
        yh={"add_path": add_path},
    )
    table = s["h"].tables[Family.IPV4_UNICAST]
    seen = 0
    for adjacency in s["h"].adjacencies.values():
        outbound = adjacency.outbound[Family.IPV4_UNICAST]
        for prefix in [*PREFIXES, "10.7.0.0/16", "10.0.0.0/24"]:
            key = from_network(prefix)
            selection = table.selections[key]
            offered = selection.usable if outbound.exporter.target.add_path else (selection.best,)
            free = [p for p in offered if p is not None and outbound.exporter.refusal(key, p) is None]
            assert len(free) == len(outbound.sent.get(key, ())), (adjacency.name, prefix)
            seen += 1
    assert seen == 30
