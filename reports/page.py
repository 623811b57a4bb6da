"""The page of a run: one ``index.html`` that needs no network, and its charts as files beside it.

:func:`write` turns the evidence of a run folder into what the templates show; words and order of the page live in ``templates/``,
verdicts in ``verdicts``, drawings in ``charts``, ``timeline`` and ``drawing``. Everything that comes from evidence is text: Jinja2
escapes it, and a path is linked only if it stays inside the run's folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from reports import bench_plot, charts, comparison, drawing, palette, sequence, shares, svg, timeline, verdicts
from reports.model import (
    Attachment,
    Benchmarks,
    Evidence,
    Failover,
    Item,
    Monitor,
    Outages,
    Result,
    Run,
    RunFolder,
    Sequence,
    Spread,
    Stages,
    Table,
    Timeline,
    Topology,
)

_TEMPLATES = Path(__file__).parent / "templates"
_GLYPHS = {"passed": "✓", "failed": "✗", "error": "✗", "skipped": "–", "not covered": "·"}


@dataclass(frozen=True, slots=True)
class Shown:
    """An item as the templates show it: ``facts`` holds what its kind's template needs beyond the item itself."""

    anchor: str
    item: Item
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.item.kind


@dataclass(frozen=True, slots=True)
class Test:
    """A test with its evidence. ``opened``: it failed, so the page shows it unfolded."""

    anchor: str
    result: Result
    shown: tuple[Shown, ...]

    @property
    def opened(self) -> bool:
        return self.result.outcome in ("failed", "error")

    @property
    def file(self) -> str:
        return self.result.nodeid.partition("::")[0]


def write(folder: RunFolder) -> Path:
    """Writes ``index.html`` and ``files/*.svg, *.png`` of the run and returns the page's path.

    A run that was killed before ``run.json`` existed gets a page of the evidence it had.
    """
    run = _run(folder)
    evidence = list(folder.evidence())
    # ``./run bench`` leaves its rows beside the runs.
    if (benchmarks := bench_plot.read(folder.path.parent / "bench.json")) is not None:
        evidence.append(Evidence("", benchmarks))
    tests, loose = _tests(folder, run, evidence)
    everything = [*loose, *(shown for test in tests for shown in test.shown)]
    tables = [shown for shown in everything if shown.kind == "table"]
    topology = _leading(everything, Topology)
    flagship = topology.item.title if topology is not None else None
    page = _environment().get_template("page.html").render(
        run=run,
        when=_when(run.started),
        headline=verdicts.headline(run),
        tally=verdicts.tally(run.results),
        failed=[test for test in tests if test.opened],
        skips=verdicts.skip_reasons(run),
        requirements=_requirement_groups(run),
        covered=sum(1 for r in verdicts.requirements(run) if r.tests),
        met=sum(1 for r in verdicts.requirements(run) if r.verdict is verdicts.Verdict.PASSED),
        anchors={test.result.nodeid: test.anchor for test in tests},
        files=_by_file(tests),
        loose=[shown for shown in loose if shown.kind != "topology"],
        topology=topology,
        tables=tables,
        table_lines=_table_lines(tables),
        load=_story_chart(everything, Spread),
        failover=_story_chart(everything, Failover),
        outages=_story_chart(everything, Outages),
        grids=[shown for shown in everything if shown.kind == "grid"],
        bringup=_leading(everything, Stages, flagship),
        sessions=_leading(everything, Timeline, flagship),
        style=Markup(palette.css() + _source("style.css") + svg.rules()),
        script=Markup(_source("page.js")),
    )  # fmt: skip
    path = folder.path / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _run(folder: RunFolder) -> Run:
    try:
        return folder.read_run()
    except FileNotFoundError:
        return Run(folder.path.name, "", 0.0, "", {}, (), ())


def _tests(folder: RunFolder, run: Run, evidence: list[Evidence]) -> tuple[list[Test], list[Shown]]:
    """The tests in order, each with its evidence; then what belongs to the whole run. Evidence without a result is not lost."""
    drawn = {id(entry): chart for entry, chart in charts.of_run(evidence)}
    for chart in drawn.values():
        chart.save(folder.files)
    shown: dict[str, list[Shown]] = {}
    for number, entry in enumerate(evidence, 1):
        anchor = f"{entry.item.kind}-{number}"
        shown.setdefault(entry.test, []).append(
            Shown(anchor, entry.item, _facts(folder, entry.item, anchor, drawn.get(id(entry))))
        )
    unfinished = "left evidence, but no result: the run ended before the test did"
    results = list(run.results)
    known = {result.nodeid for result in results}
    results += [
        Result(nodeid, nodeid, "error", 0.0, (), unfinished) for nodeid in shown if nodeid and nodeid not in known
    ]
    taken: set[str] = set()
    tests = [Test(_anchor(result.nodeid, taken), result, tuple(shown.pop(result.nodeid, ()))) for result in results]
    return tests, shown.get("", [])


def _facts(folder: RunFolder, item: Item, anchor: str, chart: charts.Chart | None) -> dict[str, Any]:
    match item:
        case Topology():
            return {"drawing": _keep(folder, anchor, drawing.draw(item))}
        case Table():
            return {"pairs": comparison.compare(item), "differences": comparison.differences(item)}
        case Timeline():
            wide = _keep(folder, anchor, timeline.draw(item))
            return {"wide": wide, "narrow": Markup(timeline.draw(item, timeline.NARROW)), "steps": _steps(item)}
        case Stages():
            wide = _keep(folder, anchor, timeline.stages(item))
            return {"wide": wide, "narrow": Markup(timeline.stages(item, timeline.NARROW))}
        case Spread() | Failover() | Outages() | Benchmarks() | Monitor():
            assert chart is not None
            facts = {"chart": chart, "wide": Markup(chart.wide), "narrow": Markup(chart.narrow)}
            return facts | (_spread_facts(item) if isinstance(item, Spread) else {})
        case Attachment():
            return _file(folder, item.path)
        case Sequence():
            wide = _keep(folder, anchor, sequence.draw(item))
            file = _file(folder, item.path) if item.path else {"link": None, "size": ""}
            return {"wide": wide, "narrow": Markup(sequence.draw(item, sequence.NARROW)), **file}
        case _:
            return {}


def _keep(folder: RunFolder, name: str, image: str) -> Markup:
    """Saves a drawing beside the page and hands it on for inlining."""
    (folder.files / f"{name}.svg").write_text(svg.standalone(image), encoding="utf-8")
    return Markup(image)


def _spread_facts(item: Spread) -> dict[str, Any]:
    rows = [
        (shares.DIRECTIONS.get(direction, direction), shares.MEASURES.get(measure, measure), share)
        for direction, measures in item.counts.items()
        for measure in measures
        for share in shares.shares(item, direction, measure)
    ]
    tested = {d: v for d, v in item.p_values.items() if v}
    return {"rows": rows, "tested": tested, "directions": shares.DIRECTIONS, "weighted": bool(item.effective_flows)}


def _steps(item: Timeline) -> list[dict[str, Any]]:
    """All transitions of all lanes in order of time."""
    steps = [
        {**step, "lane": lane, "before": history[i - 1]["state"] if i else ""}
        for lane, history in item.lanes.items()
        for i, step in enumerate(history)
    ]
    return sorted(steps, key=lambda step: step["t"])


def _file(folder: RunFolder, named: str) -> dict[str, Any]:
    """The link and the size of a file of the run; no link for what lies outside of it or is not there."""
    try:
        path = (folder.path / named).resolve()
        size = path.stat().st_size if path.is_relative_to(folder.path.resolve()) and path.is_file() else None
    except (OSError, ValueError):  # names that no file can have
        size = None
    if size is None or PurePosixPath(named).is_absolute():
        return {"link": None, "size": ""}
    return {"link": "./" + quote(named), "size": _size(size)}


def _size(octets: float) -> str:
    for unit in ("B", "kB", "MB"):
        if octets < 1000:
            return f"{octets:.3g} {unit}"
        octets /= 1000
    return f"{octets:.3g} GB"


def _leading(everything: list[Shown], kind: type[Any], lab: str | None = None) -> Shown | None:
    """The item that opens a chapter: the topology with most tunnels, then nodes, of several the plainest name; else the first of its
    kind, that of ``lab`` if there."""
    found = [shown for shown in everything if isinstance(shown.item, kind)]
    if kind is Topology:
        return max(found, key=lambda shown: _prominence(shown.item), default=None)  # type: ignore[arg-type]
    own = [shown for shown in found if lab is not None and shown.item.title.startswith(f"{lab}:")]
    return next(iter([*own, *found]), None)


def _prominence(drawing: Topology) -> tuple[int, int, int]:
    return len(drawing.tunnels), len(drawing.nodes), -len(drawing.title)


@dataclass(frozen=True, slots=True)
class TableLine:
    """A route table in the list of all: the first that came out so, and how often it came out the same again."""

    first: Shown
    again: int


def _table_lines(tables: list[Shown]) -> list[TableLine]:
    """Equal tables of one title are one line, the first's; each that differs has its own."""
    lines: dict[object, list[Shown]] = {}
    for shown in tables:
        item = shown.item
        assert isinstance(item, Table)
        lines.setdefault((item.title, item.actual) if item.equal else id(item), []).append(shown)
    return [TableLine(same[0], len(same) - 1) for same in lines.values()]


def _story_chart(everything: list[Shown], kind: type[Any]) -> Shown | None:
    """The chart that opens a chapter, with ids of its own: it stands under its test as well."""
    shown = _leading(everything, kind)
    if shown is None:
        return None
    chart: charts.Chart = shown.facts["chart"].renamed("story-")
    return Shown(shown.anchor, shown.item, {**shown.facts, "wide": Markup(chart.wide), "narrow": Markup(chart.narrow)})


def _requirement_groups(run: Run) -> list[dict[str, Any]]:
    """By document: the requirements that a test of this run names, and those that none does."""
    groups: dict[str, dict[str, Any]] = {}
    for requirement in verdicts.requirements(run):
        name = verdicts.family(requirement.id)
        group = groups.setdefault(name, {"name": name, "covered": [], "open": []})
        group["covered" if requirement.tests else "open"].append(requirement)
    return list(groups.values())


def _by_file(tests: Iterable[Test]) -> list[dict[str, Any]]:
    files: dict[str, list[Test]] = {}
    for test in tests:
        files.setdefault(test.file, []).append(test)
    return [{"name": name, "tests": of, "tally": verdicts.tally(t.result for t in of)} for name, of in files.items()]


def _anchor(nodeid: str, taken: set[str]) -> str:
    """A word for the address bar, the same in every run that has this test."""
    base = "test-" + (re.sub(r"[^a-z0-9]+", "-", nodeid.rpartition("/")[2].lower()).strip("-") or "x")
    anchor, number = base, 1
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor


def _when(started: str) -> str:
    try:
        return datetime.fromisoformat(started).strftime("%-d %B %Y, %H:%M:%S %Z").strip()
    except ValueError:
        return started


def _prose(text: str) -> Markup:
    """Escaped, with `code` between backticks set as such."""
    return Markup(re.sub(r"``(.+?)``|`([^`]+)`", lambda m: f"<code>{(m[1] or m[2]).strip()}</code>", str(escape(text))))


@cache
def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": verdicts.duration,
        "plural": verdicts.plural,
        "title_of": verdicts.title,
        "essence": verdicts.essence,
        "prose": _prose,
        "series": palette.series,
    }
    environment.globals |= {"glyphs": _GLYPHS, "fit": svg.size}
    return environment
