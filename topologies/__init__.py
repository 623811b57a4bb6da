"""The documented scenarios. Each module has NAME, TITLE, ``plan()`` and ``findings()``; :func:`load` finds one by its name."""

from __future__ import annotations

import importlib
from types import ModuleType

#: Module of each scenario, by the name that commands take.
SCENARIOS = {
    "ipsec-ecmp": "topologies.ipsec_ecmp",
    "vbr": "topologies.vbr",
    "vpn-gateway": "topologies.vpn_gateway",
    "resilience": "topologies.resilience",
}


class UnknownScenario(LookupError):
    """No scenario of that name; the text lists those that exist."""


def load(name: str) -> ModuleType:
    """The module of a scenario. Raises UnknownScenario."""
    if name not in SCENARIOS:
        raise UnknownScenario(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    return importlib.import_module(SCENARIOS[name])
