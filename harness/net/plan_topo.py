"""A plan as a Mininet topology: nodes, links, addresses and static routes of :class:`harness.plan.Plan`, no daemons."""

from __future__ import annotations

from typing import Any

from harness.net.lab_node import LabNode, LabSwitch
from harness.net.stock import Topo
from harness.plan import End, Link, Plan, Role


class PlanTopo(Topo):  # type: ignore[misc]
    """``PlanTopo(plan)``; for a LabNet. Nodes of role SWITCH become bridges; they need no controller and no start."""

    def build(self, plan: Plan) -> None:
        for node in plan.nodes:
            if node.role is Role.SWITCH:
                self.addSwitch(node.name, cls=LabSwitch, sysctls=dict(node.sysctls))
                continue
            self.addHost(
                node.name,
                cls=LabNode,
                ip=None,
                addresses=node.addresses,
                routes=node.routes,
                tables=node.tables,
                forwarding=node.forwarding,
                sysctls=dict(node.sysctls),
            )
        for link in plan.links:
            self.addLink(link.a.node, link.b.node, **link_parameters(link))


def link_parameters(link: Link) -> dict[str, Any]:
    """Mininet's keyword arguments of ``addLink`` for a link of a plan."""
    a, b = link.ends()
    return {"intfName1": a.interface, "intfName2": b.interface, "params1": _end(a), "params2": _end(b)}


def _end(end: End) -> dict[str, Any]:
    return {"addresses": end.addresses, "mtu": end.mtu, "impairment": end.impairment}
