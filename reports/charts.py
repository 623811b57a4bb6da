"""Charts of load, of fail-over and of outages, drawn by matplotlib: from items of evidence to SVG and PNG.

A chart is drawn wide (a desk) and narrow (a telephone). Its SVG names colours as CSS variables (``palette``), so it follows the page
it is inlined in, and as a file of its own it carries them and follows the reader's system; the PNG is light. The same evidence
gives the same bytes. State timelines, stages and the topology are no statistics and are drawn by ``timeline`` and ``drawing``.

matplotlib is loaded at the first chart, and only through its object interface: nothing here touches pyplot or a display.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reports import bench_plot, outage_plot, palette, plots
from reports.model import Benchmarks, Evidence, Failover, Monitor, Outages, RunFolder, Spread
from reports.shares import DIRECTIONS, shares

_LIGHT = palette.light()
_INCH = 72.0  # matplotlib writes SVG in points: one unit of ours is one CSS pixel
_RC = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "savefig.facecolor": _LIGHT["surface"],
    "figure.facecolor": "none",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart. ``wide`` and ``narrow`` are SVG to be inlined, ``description`` says in words what they show."""

    name: str
    title: str
    description: str
    note: str
    wide: str
    narrow: str
    png: bytes

    def renamed(self, prefix: str) -> Chart:
        """The same chart with other ids, to stand in one page twice."""

        def ids(drawn: str) -> str:
            return re.sub(rf'(\bid="|href="#|url\(#)(?={re.escape(self.name)}-)', rf"\1{prefix}", drawn)

        return replace(self, wide=ids(self.wide), narrow=ids(self.narrow))

    def save(self, folder: Path) -> list[Path]:
        """Writes ``<name>.svg`` and ``<name>.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        svg, png = folder / f"{self.name}.svg", folder / f"{self.name}.png"
        svg.write_text(standalone(self.wide, self.title, self.note), encoding="utf-8")
        png.write_bytes(self.png)
        return [svg, png]


def ecmp(folder: RunFolder, out_dir: Path) -> list[Path]:
    """Draws every chart of a run into ``out_dir`` and returns the files: for each an SVG and a PNG."""
    return [path for _, chart in of_run(folder.evidence()) for path in chart.save(out_dir)]


def of_run(evidence: Iterator[Evidence] | list[Evidence]) -> Iterator[tuple[Evidence, Chart]]:
    """The charts of what can be charted, with names that are unique in the run."""
    count = dict.fromkeys((Spread.kind, Failover.kind, Outages.kind, Benchmarks.kind, Monitor.kind), 0)
    for entry in evidence:
        if isinstance(entry.item, Spread | Failover | Outages | Benchmarks | Monitor):
            count[entry.item.kind] += 1
            yield entry, chart(entry.item, f"{entry.item.kind}-{count[entry.item.kind]}")


def chart(item: Spread | Failover | Outages | Benchmarks | Monitor, name: str) -> Chart:
    """One chart; ``name`` becomes its file's and must be a word."""
    if isinstance(item, Spread):
        return _render(item, name, plots.SPREAD_NOTE, spread_in_words(item), plots.draw_spread, plots.spread_size)
    if isinstance(item, Outages):
        words = outage_plot.in_words(item)
        return _render(item, name, outage_plot.NOTE, words, outage_plot.draw_outages, outage_plot.outages_size)
    if isinstance(item, Benchmarks):
        words = bench_plot.in_words(item)
        return _render(item, name, bench_plot.NOTE, words, bench_plot.draw_benchmarks, bench_plot.benchmarks_size)
    if isinstance(item, Monitor):
        note, words = plots.MONITOR_NOTE, monitor_in_words(item)
    else:
        note, words = plots.FAILOVER_NOTE, failover_in_words(item)
    return _render(item, name, note, words, plots.draw_failover, plots.failover_size)


def standalone(svg: str, title: str, note: str) -> str:
    """The SVG as a file of its own: with title and note, the colours' values, light and dark, and a surface to stand on."""
    rules = palette.css("svg") + "svg{background:var(--surface);--sans:system-ui,'DejaVu Sans',sans-serif}"
    head, _, body = svg.partition(">")
    width, height = (float(number) for number in re.findall(r"[\d.]+", head.partition("viewBox")[2])[2:4])
    margin, above = plots.MARGIN, plots.MARGIN + plots.TITLE
    across, down = width + 2 * margin, height + above + margin
    view = f'width="{across:g}" height="{down:g}" viewBox="{-margin:g} {-above:g} {across:g} {down:g}"'
    head = re.sub(r'viewBox="[^"]*"', view, head)
    heading = (
        f'<text y="{12 - plots.TITLE:g}" style="font: bold 14px var(--sans); fill: var(--ink)">{html.escape(title)}</text>'
        f'<text y="{32 - plots.TITLE:g}" style="font: 11px var(--sans); fill: var(--muted)">{html.escape(note)}</text>'
    )
    return f"{head}><style>{rules}</style>{heading}{body}\n"


def spread_in_words(item: Spread) -> str:
    """What a spread chart shows, for who cannot see it."""
    sentences = []
    for direction in item.counts:
        if "flows" in item.counts[direction]:
            parts = ", ".join(
                f"{s.connection} {s.share:.1%} of {sum(item.counts[direction]['flows']):,} flows"
                for s in shares(item, direction, "flows")
            )
            sentences.append(f"{DIRECTIONS.get(direction, direction)}: {parts}")
    for direction, values in item.p_values.items():
        if values:
            sentences.append(
                f"chi-square p of {len(values)} seeds, {DIRECTIONS.get(direction, direction)}: least {min(values):.3g}"
            )
    return "; ".join(sentences) + "."


def failover_in_words(item: Failover) -> str:
    """What a fail-over chart shows, for who cannot see it."""
    marks = ", ".join(f"{mark['label']} at {mark['t']:.2f} s" for mark in item.marks)
    return f"Packets per second of {', '.join(item.connections)} over time; marked: {marks}."


def monitor_in_words(item: Monitor) -> str:
    """What a monitor chart shows, for who cannot see it."""
    states = ", ".join(f"{end} {sa}, BGP {bgp}" for end, sa, bgp, _ in item.states)
    return f"Kilobits per second of {', '.join(item.connections)} over time; at the end: {states}."


def _render(
    item: Spread | Failover | Outages | Benchmarks | Monitor, name: str, note: str, words: str, draw: Any, size: Any
) -> Chart:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    def figure(slim: bool) -> Any:
        width, height = size(item, slim)
        drawn = Figure(figsize=(width / _INCH, height / _INCH), dpi=_INCH)
        draw(drawn, item, slim)
        return drawn

    def svg(drawn: Any, prefix: str) -> str:
        text = io.StringIO()
        FigureCanvasSVG(drawn).print_svg(text)
        return _adapt(text.getvalue(), prefix, words)

    with matplotlib.rc_context({**_RC, "svg.hashsalt": name}):
        drawn = figure(False)
        wide_svg = svg(drawn, f"{name}-w")
        png = io.BytesIO()
        plots.frame(drawn, item.title, note, size(item, False))
        drawn.set_dpi(2 * _INCH)
        FigureCanvasAgg(drawn).print_png(png, metadata={"Software": None})
        return Chart(name, item.title, words, note, wide_svg, svg(figure(True), f"{name}-n"), png.getvalue())


def _adapt(svg: str, prefix: str, words: str) -> str:
    """matplotlib's SVG made fit to be inlined: own ids, colours as variables, no fonts, prologue or metadata, and a name."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\1{prefix}-", svg)
    for role, value in _LIGHT.items():
        svg = svg.replace(value, f"var(--{role})")
    svg = svg.replace("'DejaVu Sans'", "var(--sans, system-ui, sans-serif)")
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r" d=\"[^\"]*\"", lambda path: _tight(path[0]), svg)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    body = svg[svg.index(">") + 1 :].rstrip()
    return f'<svg {names} {view[0]} role="img" aria-label="{html.escape(words)}">{body}'


def _tight(path: str) -> str:
    """Path data to a tenth of a pixel, commands not on lines of their own: a quarter of the size, and nothing to be seen of it."""
    rounded = re.sub(r"-?\d+\.\d+", lambda n: f"{float(n[0]):.1f}".removesuffix(".0"), path)
    return re.sub(r"\s*([MLCQHVZz])\s*", r"\1", rounded)
