"""Mininet's Mininet over netlink: the same build, in batches, with no controller and no hand on the host's settings.

Source of the API: mininet.net.Mininet. Any Node subclass of a user's works: it is given our Node as a base, before Mininet's.
"""

# ruff: noqa: N802 (Mininet's names and signatures)

from __future__ import annotations

import itertools
import resource
from typing import Any

from harness.net.lab_link import LabError, LabIntf, LabLink
from harness.net.lab_node import LabNode, LabSwitch
from harness.net.stock import Host, Intf, Link, Mininet, Node

_MAC_BASE = 0x02_76_62_00_00_00  # locally administered; the rest counts the ends of a lab's links


def _ours(kind: Any) -> Any:
    """``kind`` over our Node. Anything but a Node class (a function, a partial) is trusted to make LabNodes."""
    if kind in (Node, Host):
        return LabNode
    if isinstance(kind, type) and issubclass(kind, Node) and not issubclass(kind, LabNode):
        return type(kind.__name__, (kind, LabNode), {"__doc__": kind.__doc__})
    return kind


def _our_link(kind: Any) -> Any:
    """LabLink for Mininet's own kinds of link. Raises LabError for a user's, which would make its links by programs."""
    if kind is None or getattr(kind, "__module__", "") == Link.__module__:
        return LabLink
    if isinstance(kind, type) and issubclass(kind, LabLink):
        return kind
    raise LabError(
        f"link class {kind.__name__}: links here are LabLinks; leave it out and give bw (Mbit/s) to addLink, or derive it from LabLink"
    )


def _own_limits() -> None:
    """As many open files as the machine lets us have: two a node. Mininet's own start-up, which writes the host's sysctls, is
    marked as done."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Mininet.inited = True


class LabNet(Mininet):  # type: ignore[misc]
    """A network of LabNodes. ``seed`` is the run's: each node's multipath hash seed is derived from it.

    Switches are LabSwitches whatever class is asked for, and controllers are left out: a LabSwitch learns by itself.
    """

    def __init__(self, topo: Any = None, *, seed: int = 1, **options: Any) -> None:
        self.seed = seed
        self._macs = itertools.count(1)
        options["host"] = _ours(options.get("host", LabNode))
        switch = options.get("switch")
        options["switch"] = switch if isinstance(switch, type) and issubclass(switch, LabSwitch) else LabSwitch
        options["link"] = _our_link(options.get("link"))
        if options.get("intf") in (None, Intf):
            options["intf"] = LabIntf
        _own_limits()
        super().__init__(topo=topo, **{**options, "controller": None, "inNamespace": False})

    def build(self) -> None:
        """Builds what the topology says: everything is up, addressed and routed when this returns. Raises NetlinkError or
        LabError naming the node and the rule."""
        with LabNode.wiring.deferred():
            super().build()

    def addHost(self, name: str, cls: Any = None, **params: Any) -> Any:
        return super().addHost(name, cls=_ours(cls or self.host), **{"seed": self.seed, **params})

    def addSwitch(self, name: str, cls: Any = None, **params: Any) -> Any:
        ours = cls if isinstance(cls, type) and issubclass(cls, LabSwitch) else self.switch
        return super().addSwitch(name, cls=ours, **params)

    def addLink(
        self, node1: Any, node2: Any, port1: Any = None, port2: Any = None, cls: Any = None, **params: Any
    ) -> Any:
        for key in ("addr1", "addr2"):
            params.setdefault(key, (_MAC_BASE | next(self._macs)).to_bytes(6, "big").hex(":"))
        with LabNode.wiring.deferred():  # a link that is refused is not made, not even later
            return super().addLink(node1, node2, port1, port2, _our_link(cls or self.link), **params)

    def configLinkStatus(self, src: str, dst: str, status: str) -> None:
        """Mininet's: both ends of every link between two nodes "up" or "down", in one go."""
        with LabNode.wiring.deferred():
            super().configLinkStatus(src, dst, status)
