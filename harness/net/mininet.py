"""Mininet's public API over netlink: the names that labs and topologies use, in one place.

``LabNet(PlanTopo(plan), seed=7)`` builds a plan; ``LabNet(topo)`` builds any Mininet topology. The classes are Mininet's own
with the engine exchanged: see ``lab_node``, ``lab_link``, ``lab_net``. For ``mn --custom`` see ``mn_command``.
"""

from __future__ import annotations

from harness.net.lab_link import LabError, LabIntf, LabLink
from harness.net.lab_net import LabNet
from harness.net.lab_node import LabNode, LabSwitch
from harness.net.plan_topo import PlanTopo
from harness.net.stock import CLI, Topo

__all__ = ["CLI", "LabError", "LabIntf", "LabLink", "LabNet", "LabNode", "LabSwitch", "PlanTopo", "Topo"]
