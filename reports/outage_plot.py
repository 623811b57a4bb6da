"""What the chart of outages looks like: a strip of dots for each variant over a logarithmic axis of time, median and expectation with it.

Drawn on ``plots.Canvas``; ``charts`` renders it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

from reports import palette
from reports.model import Outages
from reports.plots import NARROW, WIDE, Canvas, Size
from reports.verdicts import duration

NOTE = "Each dot is one cut; the bar is the median, the shaded range what the timers lead to"
_ROW, _ABOVE, _BELOW = 64.0, 14.0, 40.0
_LABELS, _RIGHT = 210.0, 96.0


def outages_size(item: Outages, slim: bool) -> Size:
    return (NARROW if slim else WIDE, _ABOVE + max(1, len(item.samples)) * _ROW + _BELOW)


def draw_outages(figure: Any, item: Outages, slim: bool) -> None:
    """``slim``: the variants' names stand above their strips."""
    size = outages_size(item, slim)
    canvas = Canvas(figure, size)
    left, right = (12.0, size[0] - 74.0) if slim else (_LABELS, size[0] - _RIGHT)
    everything = [value for values in item.samples.values() for value in values if value > 0]
    everything += [bound for bounds in item.expected.values() for bound in bounds if bound > 0]
    low, high = _axis(everything)

    def x(seconds: float) -> float:
        share = (math.log10(max(seconds, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return left + (right - left) * min(1.0, share)

    bottom = _ABOVE + max(1, len(item.samples)) * _ROW
    for tick in _ticks(low, high):
        canvas.lines([[(x(tick), _ABOVE), (x(tick), bottom)]], "line", 1.0)
        canvas.text(x(tick), bottom + 14, duration(tick), size=9.5, ha="center", role="muted")
    for number, (variant, values) in enumerate(item.samples.items()):
        middle = _ABOVE + number * _ROW + _ROW / 2 + (6 if slim else 0)
        if variant in item.expected:
            least, most = (x(bound) for bound in item.expected[variant])
            most = max(most, least + 2)
            canvas.area(
                [(least, middle - 16), (most, middle - 16), (most, middle + 16), (least, middle + 16)],
                palette.series(number),
            )
        canvas.text(left if slim else 12.0, middle - 24 if slim else middle, variant, bold=True)
        if not values:
            continue
        canvas.dots(
            [(x(value), middle + _aside(place)) for place, value in enumerate(sorted(values))], palette.series(number)
        )
        median = statistics.median(values)
        canvas.lines([[(x(median), middle - 18), (x(median), middle + 18)]], "ink", 2.0)
        canvas.text(right + 8, middle, duration(median), size=10.5)


def in_words(item: Outages) -> str:
    """What the chart shows, for who cannot see it."""
    parts = [
        f"{variant}: {len(values)} cuts, {duration(min(values))} to {duration(max(values))}, median {duration(statistics.median(values))}"
        for variant, values in item.samples.items()
        if values
    ]
    return f"Outage after a cut. {'; '.join(parts) or 'No cut was measured'}."


def _aside(place: int) -> float:
    """Dots beside each other, so that equal ones are seen apart."""
    return (0.0, -6.0, 6.0, -11.0, 11.0)[place % 5]


def _axis(values: list[float]) -> tuple[float, float]:
    if not values:
        return 0.01, 10.0
    return 10 ** math.floor(math.log10(min(values))), 10 ** max(
        math.ceil(math.log10(max(values))), math.floor(math.log10(min(values))) + 1
    )


def _ticks(low: float, high: float) -> Iterator[float]:
    decade = low
    while decade < high * 1.001:
        yield decade
        decade *= 10
