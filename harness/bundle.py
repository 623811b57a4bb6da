"""What a failed lab looked like, as files: events, links, routes and next hops of every node, daemons' answers, their logs.

Written synchronously from the outside, over netlink and control sockets, so that it works while the test's own event loop stands
still. Keys are in none of these: daemons do not show them.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.control import ControlError, call
from harness.net.netlink import NetlinkError
from harness.node import NodeHandle
from harness.patience import stretched

if TYPE_CHECKING:
    from harness.lab import Lab

_ANSWER_WITHIN = 2.0
_QUESTIONS = {
    "bgp": ("show.summary", "show.neighbors", "show.routes", "show.fib"),
    "ipsec": ("show.status", "show.sas"),
}


def write(lab: Lab, folder: Path) -> Iterator[tuple[str, Path]]:
    """Stores the bundle and yields (title, file) for each part."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "events.txt": ("Events of the lab", _events(lab)),
        "kernel.txt": ("Links, routes and next hops of every node", "\n\n".join(map(_kernel, lab))),
        "daemons.json": ("What the daemons say", json.dumps({node.name: _daemons(node) for node in lab}, indent=1)),
        "logs.txt": ("Logs of the daemons", "\n\n".join(_logs(lab))),
    }
    for name, (title, text) in parts.items():
        path = folder / name
        path.write_text(text)
        yield title, path
    if lab.recording is not None:
        with contextlib.suppress(ControlError, OSError):
            call(lab.recording.recorder.socket, "sync", within=stretched(_ANSWER_WITHIN))
        path = folder / "signalling.pcapng"
        shutil.copyfile(lab.recording.path, path)
        yield "BGP and IKE on the routers' cables", path


def _events(lab: Lab) -> str:
    return "\n".join(event.text(lab.born) for event in lab.stream.of())


def _kernel(node: NodeHandle) -> str:
    lines = [f"== {node.name}: {node.plan.label or node.plan.role}"]
    names = node.interface_names()
    for link in node.rtnl.links():
        state = "up" if link.operational else "admin down" if not link.up else "no carrier"
        lines.append(f"link {link.name} {state} mtu {link.mtu} {link.kind}")
    lines += [f"address {a.interface} on {names.get(a.ifindex, '?')}" for a in node.rtnl.addresses()]
    for route in node.kernel_routes(None):
        hops = ", ".join(f"{hop.gateway or 'direct'} on {names.get(hop.ifindex or 0, '?')}" for hop in route.gateways)
        lines.append(f"route {route.prefix} metric {route.metric} proto {route.protocol} nhid {route.nhid}: {hops}")
    try:
        lines += [f"nexthop {hop}" for hop in node.rtnl.nexthops()]
    except NetlinkError as error:
        lines.append(f"next hops: {error}")
    return "\n".join(lines)


def _daemons(node: NodeHandle) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, daemon in node.daemons.items():
        for question in _QUESTIONS.get(kind, ()):
            try:
                found[f"{kind} {question}"] = call(daemon.socket, question, within=stretched(_ANSWER_WITHIN))
            except (ControlError, OSError) as error:
                found[f"{kind} {question}"] = f"no answer: {error}"
    return found


def _logs(lab: Lab) -> Iterator[str]:
    for node in lab:
        for daemon in node.daemons.values():
            for path in sorted({daemon.log, *daemon.folder.glob("*.log")}):
                if path.exists():
                    yield f"== {node.name} {path.name}\n{path.read_text(errors='replace')}"
