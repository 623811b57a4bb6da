"""What a topology file says to Mininet's own command, ``mn --custom FILE --topo NAME``, so that it builds our way.

``mn`` executes the file while it parses its arguments and takes over the file's globals: names that ``mn`` itself uses are
replaced by them. Three are: ``Mininet`` (by LabNet), ``findController`` (there is none to find) and ``cleanup``, which in ``mn``
kills by name pattern and removes files from /tmp. Before that the file's execution moves ``mn`` into a sandbox.

At the end of a topology file::

    topos = {"ipsec-ecmp": lambda: PlanTopo(plan())}
    globals().update(mn_command.names())

Anywhere else than in ``mn`` that adds nothing.
"""

from __future__ import annotations

import sys
from typing import Any

from harness.net import sandbox


def running() -> bool:
    """Is this process Mininet's ``mn``?"""
    return hasattr(sys.modules["__main__"], "MininetRunner")


def names(name: str = "mn") -> dict[str, Any]:
    """The globals for ``mn``, after moving it into a sandbox called ``name``; {} in any other program."""
    if not running():
        return {}
    if not sandbox.inside():
        sandbox.reexec([sys.executable, *sys.argv], name=name)
    from harness.net.door import Door
    from harness.net.mininet import LabNet

    class DoorNet(LabNet):
        """LabNet whose nodes ``vbrlab exec`` can enter from another terminal."""

        def build(self) -> None:
            super().build()
            self.door = Door(lambda node: int(self[node].namespace.fd), self.keys)

    return {"Mininet": DoorNet, "findController": _no_controller, "cleanup": _nothing_to_clean}


def _no_controller(*_args: Any, **_kwargs: Any) -> Any:
    """``mn`` looks for an OpenFlow controller by default; a LabNet takes none, so any class will do."""
    from mininet.node import NullController

    return NullController


def _nothing_to_clean() -> None:
    """The sandbox goes with the process."""
