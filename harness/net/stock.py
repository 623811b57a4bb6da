"""Mininet's own classes, imported without the 100 ms and the Python version that its import of ``distutils`` costs.

``mininet.node`` imports ``distutils.version`` for comparing the version of Open vSwitch. With setuptools installed that import
loads half of it, and Python 3.12 has no distutils at all. For the moment of the import a stand-in takes the place.
"""

from __future__ import annotations

import importlib
import sys
import types


class StrictVersion:
    """What ``mininet.node`` asks of distutils: an ordering of "1.10" and "1.9"."""

    def __init__(self, text: str) -> None:
        self._parts = tuple(int(part) for part in text.split(".") if part.isdigit())

    def __lt__(self, other: StrictVersion) -> bool:
        return self._parts < other._parts


def _import_node() -> None:
    if "mininet.node" in sys.modules:
        return
    version = types.ModuleType("distutils.version")
    version.StrictVersion = StrictVersion  # type: ignore[attr-defined]
    names = ("distutils", "distutils.version")
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(zip(names, (types.ModuleType("distutils"), version), strict=True))
    try:
        importlib.import_module("mininet.node")
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


_import_node()

from mininet.cli import CLI  # noqa: E402
from mininet.link import Intf, Link, TCLink  # noqa: E402
from mininet.net import Mininet  # noqa: E402
from mininet.node import Host, Node  # noqa: E402
from mininet.topo import Topo  # noqa: E402

# Else "dc1-client0 ping" would run "-client0 ping" in a node dc1: names of nodes may have a hyphen.
CLI.identchars = CLI.identchars + "-"

__all__ = ["CLI", "Host", "Intf", "Link", "Mininet", "Node", "TCLink", "Topo"]
