"""From a running lab to the items of a report: tables, drawings, state histories, stages."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any

from harness.instruments import Load
from harness.lab import Lab
from harness.plan import Link, Plan, Role, Tunnel
from harness.sequence.chart import folded
from harness.sequence.streams import Exchange
from harness.stream import LabEvent
from harness.tables import RouteTable
from harness.traffic.flows import Direction
from harness.traffic.observations import Window
from harness.traffic.statistics import Toll
from reports.model import Attachment, Failover, Item, RunFolder, Sequence, Spread, Stages, Table, Timeline, Topology


class LabArchive:
    """Turns what a lab shows into report items."""

    def __init__(self, add: Callable[[Item], None], folder: RunFolder) -> None:
        self.add = add
        self._folder = folder
        self._captures: dict[Path, str] = {}

    def attach(self, path: Path, title: str, note: str) -> None:
        """Copies a file beside the report; a number keeps files of one name apart."""
        kept = self._folder.files / f"{len(list(self._folder.files.iterdir())):03d}-{path.name}"
        shutil.copyfile(path, kept)
        self.add(Attachment(title, str(kept.relative_to(self._folder.path)), note))

    def sequence(self, shown: Exchange, title: str, capture: Path) -> None:
        """A chart, and the capture that it was made from beside the report, once for all charts of it."""
        kept = self._captures.get(capture)
        if kept is None:
            file = self._folder.files / f"{len(list(self._folder.files.iterdir())):03d}-{capture.name}"
            shutil.copyfile(capture, file)
            kept = self._captures[capture] = str(file.relative_to(self._folder.path))
        self.add(sequence_of(folded(shown), title, kept))

    def record(self, item: Item) -> None:
        self.add(item)

    def table(self, node: str, actual: RouteTable, expected: RouteTable) -> None:
        self.add(Table(expected.title, node, expected.columns, expected.rows, actual.rows, actual == expected))


def sequence_of(shown: Exchange, title: str, capture: str = "") -> Sequence:
    """What a connection said as an item; ``capture`` as of :class:`reports.model.Sequence`."""
    steps = tuple(
        {"t": s.time, "sender": s.sender, "kind": s.kind, "title": s.title, "details": s.details} for s in shown.steps
    )
    return Sequence(title, shown.ends, steps, capture)


def topology_of(plan: Plan, title: str) -> Topology:
    """The drawing of a plan: what stands where, its cables, tunnels and BGP sessions."""
    owners = {end_address: node for node, end_address in _addresses(plan)}
    nodes = tuple(
        {
            "name": node.name,
            "role": str(node.role),
            "label": node.label,
            "group": node.group,
            "addresses": [address for end, _ in plan.interfaces(node.name) for address in end.addresses],
            **({"asn": node.speaker.asn} if node.speaker is not None else {}),
        }
        for node in plan.nodes
    )
    links = tuple(
        {
            "a": k.a.node,
            "a_if": k.a.interface,
            "b": k.b.node,
            "b_if": k.b.interface,
            "name": k.name,
            **_impairment_of(k),
        }
        for k in plan.links
    )
    tunnels: list[dict[str, str]] = []
    sessions: dict[frozenset[str], dict[str, str]] = {}
    for node in plan.nodes:
        # A tunnel is drawn once, from the device to the connection it is named after, in the order of the connections.
        if node.tunnel is not None and node.role is Role.VPN and (far := _other_end(plan, node.tunnel)):
            tunnels.append({"a": far, "b": node.name, "name": node.tunnel.name})
        for neighbor in node.speaker.neighbors if node.speaker is not None else ():
            if far := owners.get(neighbor.address):
                kind = "iBGP" if node.speaker is not None and neighbor.remote_asn == node.speaker.asn else "eBGP"
                sessions.setdefault(frozenset((node.name, far)), {"a": node.name, "b": far, "kind": kind})
    return Topology(title, nodes, links, tuple(tunnels), tuple(sessions.values()))


def _impairment_of(link: Link) -> dict[str, str]:
    """What a link does to packets, in words; nothing where it does nothing."""
    a, b = link.ends()
    if a.impairment == b.impairment:
        return {"impairment": str(a.impairment)} if a.impairment else {}
    return {"impairment": "; ".join(f"from {end.node}: {end.impairment}" for end in (a, b))}


def _other_end(plan: Plan, tunnel: Tunnel) -> str | None:
    """The node with the other end of a tunnel; several nodes may have its address."""
    ends = {(node.tunnel.local, node.tunnel.remote): node.name for node in plan.nodes if node.tunnel is not None}
    owners = {address: node for node, address in _addresses(plan)}
    return ends.get((tunnel.remote, tunnel.local)) or owners.get(tunnel.remote)


def _addresses(plan: Plan) -> list[tuple[str, str]]:
    found = [(end.node, a.partition("/")[0]) for link in plan.links for end in link.ends() for a in end.addresses]
    return found + [(n.name, n.tunnel.address.partition("/")[0]) for n in plan.nodes if n.tunnel is not None]


def timeline_of(
    lab: Lab, title: str, since: float | None = None, marks: tuple[tuple[float, str], ...] = (), *, quiet: bool = True
) -> Timeline:
    """Every session's states from ``since`` (default: the lab's birth) on; ``quiet`` False leaves out those that never changed."""
    origin = lab.born if since is None else since
    lanes: dict[str, list[dict[str, Any]]] = {}
    for (node, peer), _state in lab.session_states().items():
        lanes[f"{node} → {peer}"] = [{"t": 0.0, "state": "Idle", "event": "", "reason": "not started"}]
    for event in lab.transitions():
        step = {key: str(event.data.get(key, "")) for key in ("event", "reason")}
        lane = lanes.setdefault(f"{event.node} → {event.data['peer']}", [])
        when = {"t": round(event.time - origin, 6), "state": event.data["new"], **step}
        if event.time < origin:
            lane[:] = [{**when, "t": 0.0}]
        else:
            lane.append(when)
    # The console's events, where the cloud's monitoring watches (harness.cloud_monitor).
    told = [(e.time, e.type) for e in lab.stream.of(source="cloud", since=origin) if e.type != "cleared"]
    return Timeline(
        title,
        {name: tuple(steps) for name, steps in lanes.items() if quiet or len(steps) > 1},
        tuple({"t": round(t - origin, 6), "label": label} for t, label in (*marks, *told)),
        round(time.monotonic() - origin, 3),
    )


def stages_of(lab: Lab, title: str) -> Stages:
    """Where the time of the bring-up went, from the moment the lab began: its own stages, then tunnels and sessions by their events."""
    origin = lab.stages[0].start if lab.stages else time.monotonic()
    stages = [(stage.name, stage.start, stage.end) for stage in lab.stages]
    up: dict[str, dict[tuple[str, str], float]] = {"tunnels negotiated": {}, "BGP sessions established": {}}
    for event in lab.stream.of():
        if event.source == "ipsec" and event.type == "line" and event.data["state"] == "up":
            up["tunnels negotiated"].setdefault((event.node, ""), event.time)
        elif event.source == "bgp" and event.type == "peer.up":
            up["BGP sessions established"].setdefault((event.node, event.data["peer"]), event.time)
    for name, moments in up.items():
        if moments:
            stages.append((name, lab.begun, max(moments.values())))
    return Stages(title, tuple((name, round(start - origin, 4), round(end - origin, 4)) for name, start, end in stages))


def spread_of(
    title: str,
    window: Window,
    *,
    policy: int,
    seeds: tuple[int, ...] = (),
    p_values: Mapping[Direction, Many[float]] | None = None,
    sa_bytes: Mapping[Direction, tuple[int, ...]] | None = None,
) -> Spread:
    """How the load of a window spread over the connections, in both directions; ``sa_bytes`` where the SAs were read too."""
    counts = {direction.value: dict(window.measure(direction)) for direction in Direction}
    for direction, octets in (sa_bytes or {}).items():
        counts[direction.value]["sa_bytes"] = octets
    return Spread(
        title,
        window.tunnels,
        counts,
        policy,
        seeds,
        {direction.value: tuple(values) for direction, values in (p_values or {}).items()},
        {direction.value: _effective(window, direction) for direction in Direction},
    )


def _effective(window: Window, direction: Direction) -> dict[str, float]:
    """Kish's effective number of flows for packets, (sum w)^2 / sum w^2; bytes go with them, all records being of one size."""
    weights = [count for shares in window.shares.values() for count in shares[direction].flows.values()]
    squares = sum(weight * weight for weight in weights)
    return {measure: sum(weights) ** 2 / squares for measure in ("packets", "bytes")} if squares else {}


#: Events that say something noticed a loss: (source, type), and what their text is made of.
_NOTICES: Mapping[tuple[str, str], Callable[[LabEvent], str | None]] = {
    ("kernel", "link"): lambda e: None if e.data["up"] else f"interface {e.data['interface']} down",
    ("ipsec", "line"): lambda e: f"tunnel interface down: {_reason(e)}" if e.data["state"] == "down" else None,
    ("ipsec", "failure"): lambda e: _reason(e),
    ("ipsec", "charon"): lambda e: "charon ended" if e.data["state"] == "ended" else None,
    ("bgp", "bfd"): lambda e: f"{e.data['peer']}: {e.data['reason']}" if e.data["old"] == "Up" else None,
    ("bgp", "peer.down"): lambda e: f"session with {e.data['peer']} down: {e.data.get('reason', '')}",
}


def _reason(event: LabEvent) -> str:
    reason = event.data.get("reason") or {}
    return (
        str(reason.get("meaning") or reason.get("code") or "no CHILD_SA left")
        if isinstance(reason, Mapping)
        else str(reason)
    )


async def failover_of(
    lab: Lab,
    title: str,
    traffic: Load,
    start: float,
    end: float,
    marks: Many[tuple[float, str]],
    tolls: Mapping[Direction, Toll],
    width: float = 0.05,
) -> Failover:
    """Traffic through a loss: ``marks`` are (moment, label), the first one the loss, the second the mending."""
    series = await traffic.meter.series(start, end, width)
    lost_at, mended_at = marks[0][0], marks[1][0]
    noticed = []
    for event in lab.stream.of(since=lost_at):
        notice = _NOTICES.get((event.source, event.type))
        text = notice(event) if notice is not None and event.time < mended_at else None
        if text is not None:
            noticed.append(
                {
                    "t": round(event.time - start, 4),
                    "node": event.node,
                    "by": "BFD" if event.type == "bfd" else _WHO[event.source],
                    "text": text,
                }
            )
    return Failover(
        title,
        traffic.connections,
        {
            name: tuple(
                (round(bins[0][0] - start, 4), sum(packets for _, packets, _ in bins) / width)
                for bins in zip(*directions.values(), strict=True)
            )
            for name, directions in series.items()
        },
        tuple({"t": round(t - start, 4), "label": label} for t, label in marks),
        tuple(noticed),
        {
            "kept": sum(t.bystanders - t.bystanders_moved for t in tolls.values()),
            "moved": sum(t.victims_moved for t in tolls.values()),
            "moved though surviving": sum(t.bystanders_moved for t in tolls.values()),
            "lost packets on kept flows": sum(t.bystanders_lost for t in tolls.values()),
            "lost packets on moved flows": sum(t.victims_lost for t in tolls.values()),
        },
        {f"longest silence of a moved flow, {d.value}": round(t.outage, 4) for d, t in tolls.items()},
    )


_WHO = {"kernel": "link", "ipsec": "SA", "bgp": "BGP"}
