"""What the charts look like: bars of shares with their intervals, p-values, and rates through a fail-over.

One matplotlib axes the size of the figure, in CSS pixels from the top left, carries a whole chart: eight axes with ticks of their own
cost fifteen times as much, and a report draws many. ``charts`` renders what is drawn here.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

from reports import palette
from reports.model import Failover, Monitor, Spread
from reports.shares import DIRECTIONS, MEASURES, Share, shares
from reports.verdicts import plural

WIDE, NARROW = 880, 400
_COLOUR = palette.light()
_DASH = (0, (3, 2))
_BAR, _LABELS = 26.0, 118.0
_STRIP, _SLIM_STRIP, _ABOVE, _INSIDE = 74.0, 92.0, 40.0, 56.0

Size = tuple[float, float]
MARGIN, TITLE = 24.0, 52.0
SPREAD_NOTE = "Share of each connection; dashed: the even share, thin bar: the 95 % confidence interval"
FAILOVER_NOTE = "Packets per second on each connection"
MONITOR_NOTE = "Kilobits per second through the tunnel at each end, in and out"


def frame(figure: Any, title: str, note: str, size: Size) -> None:
    """Gives a drawn chart a margin, its title and a note, for a picture that stands alone."""
    width, height = size[0] + 2 * MARGIN, size[1] + 2 * MARGIN + TITLE
    figure.set_size_inches(width / figure.dpi, height / figure.dpi)
    figure.axes[0].set_position((MARGIN / width, MARGIN / height, size[0] / width, size[1] / height))
    for content, down, style in (
        (title, 8, {"fontsize": 14, "fontweight": "bold", "color": _COLOUR["ink"]}),
        (note, 28, {"fontsize": 11, "color": _COLOUR["muted"]}),
    ):
        place = (MARGIN / width, 1 - (MARGIN + down) / height)
        figure.text(*place, content, va="center", parse_math=False, **style)


class Canvas:
    """A figure's only axes, with the few strokes that the charts are made of; (0, 0) is the top left."""

    def __init__(self, figure: Any, size: Size) -> None:
        self.width, self.height = size
        self._axes = figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(0, self.width)
        self._axes.set_ylim(self.height, 0)
        self._axes.set_axis_off()

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        size: float = 10.5,
        bold: bool = False,
        ha: str = "left",
        role: str = "ink",
    ) -> None:
        weight = "bold" if bold else "normal"
        # A dollar sign in a name is no mathematics.
        self._axes.text(
            x, y, content, fontsize=size, fontweight=weight, ha=ha, va="center", color=_COLOUR[role], parse_math=False
        )

    def rectangle(self, x: float, y: float, width: float, height: float, role: str) -> None:
        from matplotlib.patches import Rectangle

        self._axes.add_artist(Rectangle((x, y), width, height, facecolor=_COLOUR[role], linewidth=0))

    def lines(
        self, paths: Sequence[Sequence[tuple[float, float]]], role: str, width: float = 1.0, dash: Any = "-"
    ) -> None:
        from matplotlib.collections import LineCollection

        self._axes.add_collection(
            LineCollection(paths, colors=_COLOUR[role], linewidths=width, linestyles=[dash], capstyle="butt"),
            autolim=False,
        )

    def dots(self, points: Sequence[tuple[float, float]], role: str) -> None:
        self._axes.plot(
            *zip(*points, strict=True), "o", markersize=6, alpha=0.6, color=_COLOUR[role], markeredgewidth=0
        )

    def area(self, outline: Sequence[tuple[float, float]], role: str) -> None:
        from matplotlib.patches import Polygon

        self._axes.add_artist(Polygon(outline, closed=True, facecolor=_COLOUR[role], alpha=0.2, linewidth=0))


def short(connection: str) -> str:
    """ "IPsec connection 2" as an axis has room for it: "Connection 2"."""
    name = re.sub(r"^(IPsec|VPN)[ -]?(VPN )?connection ", "Connection ", connection, flags=re.I)
    return name if len(name) <= 16 else name[:15] + "…"


# -- load -----------------------------------------------------------------------------------------------------------------------


def spread_size(item: Spread, slim: bool) -> Size:
    rows = len(_panels(item)) if slim else len(item.counts)
    strip = 66 + _BAR * len(item.p_values) if item.p_values else 0
    return (NARROW if slim else WIDE, rows * _row_height(item, slim) + strip + (8 if slim else 4))


def draw_spread(figure: Any, item: Spread, slim: bool) -> None:
    """A grid of panels, a row a direction, a column a measure (narrow: all below each other); the p-values below them."""
    size = spread_size(item, slim)
    canvas = Canvas(figure, size)
    panels = _panels(item)
    most = max((s.high for panel in panels for s in shares(item, *panel)), default=1.0)
    limit = min(1.0, max(0.4, most))
    directions = list(item.counts)
    columns = 1 if slim else max((sum(d == direction for d, _ in panels) for direction in directions), default=1)
    step = (size[0] - _LABELS) / columns
    for index, (direction, measure) in enumerate(panels):
        row = index if slim else directions.index(direction)
        column = 0 if slim else [m for d, m in panels if d == direction].index(measure)
        top = row * _row_height(item, slim) + (26 if slim else 46)
        way = DIRECTIONS.get(direction, direction)
        if column == 0 and not slim:
            canvas.text(0, top - 36, way, size=12, bold=True)
        x = _LABELS + column * step
        canvas.text(x, top - 11, f"{MEASURES[measure]}, {way}" if slim else MEASURES[measure], size=11, bold=True)
        _draw_shares(canvas, shares(item, direction, measure), (x, top), (step - 62) / limit, labels=column == 0)
    if item.p_values:
        _draw_p_values(canvas, item, size[1] - 24 - _BAR * len(item.p_values))


def _panels(item: Spread) -> list[tuple[str, str]]:
    return [
        (direction, measure) for direction in item.counts for measure in MEASURES if measure in item.counts[direction]
    ]


def _row_height(item: Spread, slim: bool) -> float:
    return _BAR * len(item.connections) + (40 if slim else 64)


def _draw_shares(
    canvas: Canvas, found: tuple[Share, ...], at: tuple[float, float], scale: float, *, labels: bool
) -> None:
    left, top = at
    whiskers = []
    for i, share in enumerate(found):
        y = top + _BAR * (i + 0.5)
        canvas.rectangle(left, y - 8, share.share * scale, 16, palette.series(i))
        low, high = left + share.low * scale, left + share.high * scale
        whiskers += [[(low, y), (high, y)], [(low, y - 4), (low, y + 4)], [(high, y - 4), (high, y + 4)]]
        canvas.text(max(high, left + share.even * scale) + 6, y, f"{share.share:.1%}")
        if labels:
            canvas.text(left - 10, y, short(share.connection), ha="right", role="muted")
    bottom = top + _BAR * len(found)
    canvas.lines([[(left, top), (left, bottom)]], "strong-line")
    even = left + found[0].even * scale if found else left
    canvas.lines([[(even, top - 2), (even, bottom + 2)]], "ink", dash=_DASH)
    canvas.lines(whiskers, "ink", 1.4)


def _draw_p_values(canvas: Canvas, item: Spread, top: float) -> None:
    """A dot for each seed on a logarithmic axis; an even hash gives p-values spread over (0, 1), hardly any below 0.001."""
    lowest = min((p for values in item.p_values.values() for p in values), default=1.0)
    floor = min(2e-4, max(lowest, 1e-12) / 2)
    left, right = _LABELS, canvas.width - 14
    bottom = top + _BAR * len(item.p_values)

    def place(p: float) -> float:
        return left + (right - left) * (1 - math.log(max(p, floor)) / math.log(floor))

    limit = place(1e-3)
    canvas.rectangle(left, top, limit - left, bottom - top, "fail-soft")
    ticks = [10.0**e for e in range(-12, 1) if 10.0**e >= floor]
    ticks = ticks[-1 :: -(-len(ticks) // 7) * -1]
    canvas.lines([[(place(t), top), (place(t), bottom)] for t in ticks], "line")
    canvas.lines([[(limit, top), (limit, bottom)]], "fail", 1.2)
    canvas.lines([[(left, bottom), (right, bottom)]], "strong-line")
    for tick in ticks:
        canvas.text(place(tick), bottom + 12, f"{tick:g}", size=10, ha="center", role="muted")
    for i, (direction, values) in enumerate(item.p_values.items()):
        y = top + _BAR * (i + 0.5)
        way = DIRECTIONS.get(direction, direction).replace("data centre", "DC")
        canvas.text(left - 10, y, way, ha="right", role="muted")
        if values:
            canvas.dots([(place(p), y) for p in values], "accent")
    seeds = max(len(values) for values in item.p_values.values())
    canvas.text(left, top - 12, f"Chi-square p, {plural(seeds, 'seed')} (red: below 0.001)", size=11, bold=True)


# -- fail-over ------------------------------------------------------------------------------------------------------------------


def failover_size(item: Failover | Monitor, slim: bool) -> Size:
    return (NARROW if slim else WIDE, _ABOVE + 28 + (_SLIM_STRIP if slim else _STRIP) * len(item.connections))


def draw_failover(figure: Any, item: Failover | Monitor, slim: bool) -> None:
    """A strip for each connection under one time axis; the marks go through all of them."""
    size = failover_size(item, slim)
    canvas = Canvas(figure, size)
    points = [point for series in item.series.values() for point in series]
    highest = max((rate for _, rate in points), default=1.0) * 1.12 or 1.0
    times = [t for t, _ in points] + [float(mark["t"]) for mark in item.marks]
    start, end = min(times, default=0.0), max(times, default=1.0)
    end = end if end > start else start + 1
    left, right, step = (14.0, size[0] - 38, _SLIM_STRIP) if slim else (_LABELS, size[0] - 42, _STRIP)
    scale = (right - left) / (end - start)
    floor = 0.0
    for i, connection in enumerate(item.connections):
        floor = _ABOVE + step * (i + 1) - 6
        line = [
            (left + (t - start) * scale, floor - rate / highest * _INSIDE)
            for t, rate in item.series.get(connection, ())
        ]
        _draw_rate(canvas, line, (left, right), floor, highest, palette.series(i))
        if slim:
            canvas.text(left, floor - _INSIDE - 8, short(connection), bold=True)
        else:
            canvas.text(left - 12, floor - _INSIDE / 2, short(connection), bold=True, ha="right")
    for tick in _ticks(start, end, 5 if slim else 9):
        x = left + (tick - start) * scale
        canvas.lines([[(x, floor), (x, floor + 3)]], "strong-line")
        canvas.text(x, floor + 12, f"{tick:g} s", size=10, ha="center", role="muted")
    canvas.text(
        size[0], _ABOVE - 2, "kbit/s" if isinstance(item, Monitor) else "packets/s", size=10, ha="right", role="muted"
    )
    _draw_marks(canvas, item, (left, start, scale), floor)


def _draw_rate(
    canvas: Canvas,
    line: list[tuple[float, float]],
    across: tuple[float, float],
    floor: float,
    highest: float,
    role: str,
) -> None:
    left, right = across
    level = _round_below(highest / 1.05)
    for value in (level / 2, level):
        y = floor - value / highest * _INSIDE
        canvas.lines([[(left, y), (right, y)]], "line")
        canvas.text(right + 5, y, f"{value:,.5g}", size=10, role="muted")
    if line:
        steps = _as_steps(line, right)
        canvas.area([(steps[0][0], floor), *steps, (steps[-1][0], floor)], role)
        canvas.lines([steps], role, 1.6)
    canvas.lines([[(left, floor), (right, floor)]], "strong-line")
    canvas.text(right + 5, floor, "0", size=10, role="muted")


def _as_steps(line: list[tuple[float, float]], right: float) -> list[tuple[float, float]]:
    """Each rate holds from its moment to the next one's, the last as long as the one before it."""
    corners = [line[0]]
    for (_, y), (next_x, next_y) in itertools.pairwise(line):
        corners += [(next_x, y), (next_x, next_y)]
    last = line[-1][0] - line[-2][0] if len(line) > 1 else 0.0
    return [*corners, (min(line[-1][0] + last, right), line[-1][1])]


def _draw_marks(canvas: Canvas, item: Failover | Monitor, axis: tuple[float, float, float], floor: float) -> None:
    """A line through all strips for each mark, its name above: on its left where the next is near, a row up where neither side has room."""
    left, start, scale = axis
    marks = sorted(item.marks, key=lambda mark: float(mark["t"]))
    places = [left + (float(mark["t"]) - start) * scale for mark in marks]
    free = [0.0, 0.0]
    for mark, x, following in zip(marks, places, [*places, math.inf][1:], strict=True):
        label = str(mark["label"])
        length = 6.8 * len(label) + 8
        crowded = x + length > min(following, canvas.width)
        row = 0
        if crowded and x - length > free[0]:
            canvas.text(x - 4, 26, label, size=10, bold=True, ha="right")
            free[0] = x
        else:
            at = min(x, canvas.width - length)
            row = 0 if at >= free[0] else 1
            free[row] = at + length
            canvas.text(at + 4 * (at == x), 26 - 15 * row, label, size=10, bold=True)
        canvas.lines([[(x, 20.0 - 15 * row), (x, floor)]], "ink", dash=_DASH)


def _round_below(value: float) -> float:
    """The largest of 1, 2, 4, 6, 8 times a power of ten that is not above ``value``."""
    power: float = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return max((digit * power for digit in (1, 2, 4, 6, 8) if digit * power <= value), default=power)


def _ticks(start: float, end: float, most: int) -> list[float]:
    """At most ``most`` round values in [start, end] after zero's, 1, 2 or 5 times a power of ten apart."""
    raw = (end - start) / most
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= raw * 0.999)
    first = math.ceil(start / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(end / step + 1e-9) + 1)]
