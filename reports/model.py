"""What a run leaves behind, as plain data: the only thing that charts and pages are made from.

A run is a folder, ``reports/out/<run>/``: ``run.json`` (a :class:`Run`), ``evidence/*.json`` (one :class:`Item` each, written the
moment it exists, so that a killed run keeps what it had), ``files/`` (pcaps, logs, charts) and the page ``index.html``.

All times are seconds. ``t`` counts from the item's own ``origin``, the moment that its lab or its trigger began. A direction is
"to-vpc" (data centre to VPC) or "to-dc" (VPC to data centre). Nothing here does more than read and write these files.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """One test: ``outcome`` is passed, failed, skipped or error; ``message`` is the failure or the reason of the skip.

    ``planes`` are the IPsec data planes of its labs, where they have tunnels.
    """

    nodeid: str
    title: str
    outcome: str
    seconds: float
    spec: tuple[str, ...] = ()
    message: str = ""
    planes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run. ``requirements`` maps every spec ID to its text, so that untested ones can be listed as such."""

    id: str
    started: str
    seconds: float
    command: str
    host: Mapping[str, str]
    features: tuple[Mapping[str, Any], ...]
    results: tuple[Result, ...]
    requirements: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topology:
    """The drawing: nodes ``{name, role, label, group, addresses}``, links ``{a, a_if, b, b_if, name}`` with
    ``impairment`` in words where there is one, tunnels ``{a, b, name}``,
    BGP sessions ``{a, b, kind}`` with kind "eBGP" or "iBGP"."""

    kind: ClassVar[str] = "topology"
    title: str
    nodes: tuple[Mapping[str, Any], ...]
    links: tuple[Mapping[str, str], ...]
    tunnels: tuple[Mapping[str, str], ...] = ()
    sessions: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A route table of a running node beside the document's. Rows are sorted; ``equal`` is the verdict."""

    kind: ClassVar[str] = "table"
    title: str
    node: str
    columns: Row
    expected: tuple[Row, ...]
    actual: tuple[Row, ...]
    equal: bool
    spec: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """State histories. ``lanes`` maps "gw1 → IPsec connection 1" to steps ``{t, state, event, reason}``; ``marks`` are ``{t, label}``;
    ``end`` is when watching ended, if later than the last step."""

    kind: ClassVar[str] = "timeline"
    title: str
    lanes: Mapping[str, tuple[Mapping[str, Any], ...]]
    marks: tuple[Mapping[str, Any], ...] = ()
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """How load spread over the connections.

    ``counts[direction][measure]`` has one number a connection; measures are "flows", "packets", "bytes" (tunnel interface) and,
    where an SA counts, "sa_bytes". ``p_values[direction]`` has one chi-square p of the flows for each seed tried.
    ``effective_flows[direction][measure]``: how many equally large flows would be as uncertain, (sum w)^2 / sum w^2 over the flows'
    packets or bytes w; where absent, the number of flows.
    """

    kind: ClassVar[str] = "spread"
    title: str
    connections: tuple[str, ...]
    counts: Mapping[str, Mapping[str, tuple[int, ...]]]
    hash_policy: int
    seeds: tuple[int, ...] = ()
    p_values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    effective_flows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failover:
    """Traffic over time through a loss and a recovery.

    ``series[connection]`` is ``((t, packets per second), ...)``, each rate holding from its ``t`` to the next;
    ``marks`` are ``{t, label}``; ``noticed`` are ``{t, node, by, text}`` in order;
    ``flows`` counts "kept", "moved", "lost packets on kept flows", "lost packets on moved flows", "moved though surviving"...;
    ``outage`` maps a name to seconds.
    """

    kind: ClassVar[str] = "failover"
    title: str
    connections: tuple[str, ...]
    series: Mapping[str, tuple[tuple[float, float], ...]]
    marks: tuple[Mapping[str, Any], ...]
    noticed: tuple[Mapping[str, Any], ...]
    flows: Mapping[str, int]
    outage: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Outages:
    """How long traffic was lost after a cut, variant by variant: ``samples[variant]`` in seconds, one number a cut.

    ``expected[variant]`` is the least and the most that its timers lead to, where they do.
    """

    kind: ClassVar[str] = "outages"
    title: str
    samples: Mapping[str, tuple[float, ...]]
    expected: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """The rows of ``bench.json`` that have a rival or a bar: ``{name, unit, ours, rivals: {name: value or None}, bar, ok}``.

    ``growth``: what was measured of stars of speakers, in words with the unit, and its value for each number of nodes.
    """

    kind: ClassVar[str] = "benchmarks"
    title: str
    rows: tuple[Mapping[str, Any], ...]
    growth: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stages:
    """Where the time of a bring-up went: ``(name, start, end)`` in seconds from the exec of the command."""

    kind: ClassVar[str] = "stages"
    title: str
    stages: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class Values:
    """A small table of facts: negotiated algorithms, timers, figures. ``rows`` are ``(name, value, expected or "")``."""

    kind: ClassVar[str] = "values"
    title: str
    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of what was seen, with nothing to compare it with: ``rows`` have a cell for each of ``columns``."""

    kind: ClassVar[str] = "grid"
    title: str
    columns: Row
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of the run, ``path`` relative to the run's folder: a pcap, a log, the bundle of a failure."""

    kind: ClassVar[str] = "attachment"
    title: str
    path: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sequence:
    """What two ends of a connection said to one another. ``steps`` are ``{t, sender, kind, title, details}`` in order: seconds from the
    first, 0 or 1, "tcp", "bgp", "note" or "fold" (steps left out), one line, and all fields as lines. ``path`` is the capture, as of an
    Attachment, or empty.
    """

    kind: ClassVar[str] = "sequence"
    title: str
    ends: tuple[str, str]
    steps: tuple[Mapping[str, Any], ...]
    path: str = ""


@dataclass(frozen=True, slots=True)
class Monitor:
    """A connection's Monitor tab. ``series[end and direction]`` is ``((t, kbit per second), ...)``, each rate holding from its ``t`` to
    the next; ``connections`` are the series' names in order; ``marks`` are ``{t, label}``; ``states`` are ``(end, SA, BGP, rekeys)``
    at the end."""

    kind: ClassVar[str] = "monitor"
    title: str
    connections: tuple[str, ...]
    series: Mapping[str, tuple[tuple[float, float], ...]]
    marks: tuple[Mapping[str, Any], ...] = ()
    states: tuple[Row, ...] = ()


Item = (
    Topology
    | Table
    | Timeline
    | Spread
    | Failover
    | Outages
    | Benchmarks
    | Stages
    | Values
    | Grid
    | Attachment
    | Sequence
    | Monitor
)
KINDS: Mapping[str, type[Any]] = {
    kind.kind: kind
    for kind in (
        Topology,
        Table,
        Timeline,
        Spread,
        Failover,
        Outages,
        Benchmarks,
        Stages,
        Values,
        Grid,
        Attachment,
        Sequence,
        Monitor,
    )
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """An item and the test that produced it ("" for what belongs to the whole run)."""

    test: str
    item: Item


class RunFolder:
    """Reads and writes the files of one run. Several processes may write at once: names are unique by process and number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0

    @property
    def files(self) -> Path:
        folder = self.path / "files"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def add(self, item: Item, test: str = "") -> Path:
        """Stores an item at once and returns its file."""
        folder = self.path / "evidence"
        folder.mkdir(parents=True, exist_ok=True)
        self._count += 1
        path = folder / f"{os.getpid():07d}-{self._count:04d}-{item.kind}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"test": test, "kind": item.kind, "item": dataclasses.asdict(item)}, indent=1))
        part.replace(path)
        return path

    def evidence(self) -> Iterator[Evidence]:
        """All items in the order they were written."""
        for path in sorted((self.path / "evidence").glob("*.json"), key=lambda p: (p.stat().st_mtime_ns, p.name)):
            stored = json.loads(path.read_text())
            yield Evidence(stored["test"], _item(KINDS[stored["kind"]], stored["item"]))

    def write_run(self, run: Run) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "run.json").write_text(json.dumps(dataclasses.asdict(run), indent=1))

    def read_run(self) -> Run:
        stored = json.loads((self.path / "run.json").read_text())
        stored["results"] = tuple(Result(**_frozen(result)) for result in stored["results"])
        stored["features"] = tuple(stored["features"])
        return Run(**stored)


def _item(kind: type[Any], values: Mapping[str, Any]) -> Item:
    item: Item = kind(**{name: _frozen(value) for name, value in values.items()})
    return item


def _frozen(value: Any) -> Any:
    """JSON arrays come back as the tuples they were."""
    if isinstance(value, list):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    return value
