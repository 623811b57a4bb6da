"""What the chart of benchmarks looks like: for each row with a rival, how many times ours each rival is, on a logarithmic axis.

Right of the line a rival needs more than ours does, left of it less; rates are turned about. Below, where stars of speakers were
measured, a curve for each of their figures over the number of nodes, both axes logarithmic. ``charts`` renders it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reports import palette
from reports.model import Benchmarks
from reports.plots import NARROW, WIDE, Canvas, Size

NOTE = "Each dot is a rival: right of the line ours is better by that factor, left of it worse"
_ROW, _ABOVE, _BELOW = 40.0, 14.0, 40.0
_LABELS, _RIGHT = 350.0, 24.0
_PANEL, _PANEL_HEAD = 130.0, 34.0
_STAR = re.compile(r"(?P<nodes>[\d,]+) speakers, (?P<figure>.+)")


def read(file: Path) -> Benchmarks | None:
    """The rows of a ``bench.json``; None where there is none."""
    if not file.exists():
        return None
    rows = json.loads(file.read_text(encoding="utf-8"))
    shown = tuple(row for row in rows if row["rivals"] or row["bar"])
    return Benchmarks("Benchmarks beside their rivals", shown, _growth(rows))


def _growth(rows: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """The figures of stars of speakers that were taken at more sizes than one; counts are none."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["unit"] and (match := _STAR.fullmatch(row["name"])):
            nodes = int(match["nodes"].replace(",", ""))
            found.setdefault(f"{match['figure']} ({row['unit']})", {})[nodes] = row["ours"]
    return {figure: values for figure, values in found.items() if len(values) > 1}


def _compared(item: Benchmarks) -> list[tuple[str, dict[str, float], bool | None]]:
    """Rows with a rival that was there: name, how much better ours is than each, verdict."""
    found = []
    for row in item.rows:
        rate = row["unit"].startswith("1/")
        factors = {
            name: (row["ours"] / value if rate else value / row["ours"])
            for name, value in row["rivals"].items()
            if value and row["ours"]
        }
        if factors:
            found.append((row["name"], factors, row["ok"]))
    return found


def _rivals(item: Benchmarks) -> list[str]:
    return list(dict.fromkeys(name for _, factors, _ in _compared(item) for name in factors))


def benchmarks_size(item: Benchmarks, slim: bool) -> Size:
    return (NARROW if slim else WIDE, _comparison_height(item) + len(item.growth) * _PANEL)


def _comparison_height(item: Benchmarks) -> float:
    return _ABOVE + max(1, len(_compared(item))) * _ROW + _BELOW + 20 * len(_rivals(item))


def draw_benchmarks(figure: Any, item: Benchmarks, slim: bool) -> None:
    """``slim``: the names stand above their rows."""
    size = benchmarks_size(item, slim)
    canvas = Canvas(figure, size)
    compared, rivals = _compared(item), _rivals(item)
    left, right = (12.0, size[0] - 12.0) if slim else (_LABELS, size[0] - _RIGHT)
    values = [factor for _, factors, _ in compared for factor in factors.values()] or [1.0]
    low, high = min(0.1, 10 ** math.floor(math.log10(min(values)))), max(10.0, 10 ** math.ceil(math.log10(max(values))))

    def x(factor: float) -> float:
        return left + (right - left) * (math.log10(factor) - math.log10(low)) / (math.log10(high) - math.log10(low))

    bottom = _ABOVE + max(1, len(compared)) * _ROW
    for tick in _decades(low, high):
        canvas.lines([[(x(tick), _ABOVE), (x(tick), bottom)]], "ink" if tick == 1 else "line", 1.0)
        canvas.text(x(tick), bottom + 14, f"{tick:g} ×", size=9.5, ha="center", role="muted")
    for number, (name, factors, ok) in enumerate(compared):
        middle = _ABOVE + number * _ROW + _ROW / 2 + (6 if slim else 0)
        verdict = {True: "", False: " (bar missed)", None: ""}[ok]
        canvas.text(12.0, middle - 16 if slim else middle, name + verdict, bold=ok is False)
        for rival, factor in factors.items():
            canvas.dots([(x(factor), middle)], palette.series(rivals.index(rival)))
    for number, rival in enumerate(rivals):
        y = bottom + 34 + 20 * number
        canvas.dots([(left + 6, y)], palette.series(number))
        canvas.text(left + 18, y, rival)
    for number, (figure_name, points) in enumerate(item.growth.items()):
        _draw_growth(canvas, figure_name, points, _comparison_height(item) + number * _PANEL, (left, right))


def _draw_growth(
    canvas: Canvas, name: str, values: Mapping[int, float], top: float, between: tuple[float, float]
) -> None:
    left, right = between[0] + 20, between[1] - 30
    low, high = _PANEL - 24, _PANEL_HEAD + 14

    def place(value: float, bounds: tuple[float, float], ends: tuple[float, float]) -> float:
        least, most = (math.log10(bound) for bound in bounds)
        share = (math.log10(value) - least) / (most - least) if most > least else 0.5
        return ends[0] + share * (ends[1] - ends[0])

    canvas.text(12.0, top + 12, f"Stars of speakers: {name}", bold=True)
    nodes = (min(values), max(values))
    sizes = (min(values.values()), max(values.values()))
    line = [
        (place(n, nodes, (left, right)), top + place(value, sizes, (low, high)), n, value)
        for n, value in sorted(values.items())
        if value > 0
    ]
    canvas.lines([[(left, top + low + 8), (right, top + low + 8)]], "line", 1.0)
    canvas.lines([[(x, y) for x, y, _, _ in line]], palette.series(0), 1.5)
    canvas.dots([(x, y) for x, y, _, _ in line], palette.series(0))
    for x, y, n, value in line:
        canvas.text(x, top + low + 20, f"{n:,} nodes", size=9.5, ha="center", role="muted")
        canvas.text(x, y - 12, f"{value:,.3g}" if value < 1000 else f"{value:,.0f}", size=9.5, ha="center")


def in_words(item: Benchmarks) -> str:
    """What the chart shows, for who cannot see it."""
    parts = [
        f"{name}: " + ", ".join(f"{rival} {factor:.3g} times" for rival, factor in factors.items())
        for name, factors, _ in _compared(item)
    ]
    grown = "".join(
        f" Stars of speakers, {name}: "
        + ", ".join(f"{value:.3g} at {n:,} nodes" for n, value in sorted(values.items()))
        + "."
        for name, values in item.growth.items()
    )
    return f"How many times better ours is than each rival. {'; '.join(parts) or 'No rival was there'}.{grown}"


def _decades(low: float, high: float) -> Iterator[float]:
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        yield 10.0**exponent
