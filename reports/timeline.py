"""State histories and stages as drawings: who was in which state when, and where the time of a bring-up went.

A history has moments that are milliseconds apart and silences of a minute, so its time axis shortens silence: the width of an
interval grows with the cube root of its length, and the axis says so. Stages are on a plain linear axis. Both are drawn wide (a desk)
and narrow (a telephone).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from reports import svg
from reports.model import Stages, Timeline
from reports.verdicts import duration

#: RFC 4271 8.2.2, lowest first: a session climbs to Established.
BGP_STATES = ("Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established")
WIDE, NARROW = 880.0, 400.0
_LEVEL = 13.0
_LABELS, _RIGHT = 84.0, 22.0


def states_of(item: Timeline) -> tuple[str, ...]:
    """The levels of a history from the bottom: BGP's where they are BGP's, else in order of appearance."""
    seen = list(dict.fromkeys(str(step["state"]) for lane in item.lanes.values() for step in lane))
    known = {state.casefold() for state in BGP_STATES}
    return BGP_STATES if seen and {state.casefold() for state in seen} <= known else tuple(seen)


def draw(item: Timeline, width: float = WIDE) -> str:
    """The history as an inlinable SVG, ``width`` units wide; a lane for each session, every step with its reason as tooltip."""
    levels = states_of(item)
    index = {state.casefold(): i for i, state in enumerate(levels)}
    axis = _Axis(item, _LABELS, width - _RIGHT)
    lane_height = _LEVEL * max(len(levels), 1) + 40
    top = 24.0 if item.marks else 4.0
    bottom = top + len(item.lanes) * lane_height
    parts = axis.ticks(top, bottom - 6)
    for number, (name, steps) in enumerate(item.lanes.items()):
        base = top + number * lane_height + 20
        parts.append(svg.text(name, 0, base - 6, class_="lane-name"))
        for i, state in enumerate(levels):
            y = base + (len(levels) - 1 - i) * _LEVEL + _LEVEL / 2
            parts.append(svg.text(state, _LABELS - 8, y + 3.5, class_="level-name"))
            parts.append(svg.tag("path", d=f"M{_LABELS:.0f} {y:.1f}H{width - _RIGHT:.1f}", class_="level"))
        parts += _lane(name, steps, axis, base, index, len(levels), width)
    for mark in item.marks:
        x = axis(float(mark["t"]))
        parts.append(svg.tag("path", d=f"M{x:.1f} {top - 8:.1f}V{bottom - 14:.1f}", class_="mark"))
    parts += _mark_names(item.marks, axis, width)
    words = f"{item.title}. " + "; ".join(
        f"{name}: " + ", ".join(f"{step['state']} at {duration(float(step['t']))}" for step in steps)
        for name, steps in item.lanes.items()
    )
    return svg.image(width, bottom + 16, words, *parts, kind="timeline")


def stages(item: Stages, width: float = WIDE) -> str:
    """The stages as bars under one linear axis, as an inlinable SVG."""
    end = max((stage[2] for stage in item.stages), default=1.0) or 1.0
    slim = width < 600
    left = 4.0 if slim else 230.0
    room = width - left - (90 if slim else 100)
    row = 40.0 if slim else 27.0
    parts = []
    for i, (name, start, stop) in enumerate(item.stages):
        y = 8 + i * row + (16 if slim else 0)
        x, length = left + room * start / end, max(2.0, room * (stop - start) / end)
        label = svg.text(name, 4, y - 4) if slim else svg.text(name, left - 12, y + 12, text_anchor="end")
        parts += [
            label,
            svg.tag(
                "g",
                svg.title(f"{name}: from {duration(start)} to {duration(stop)}"),
                svg.tag("rect", x=left, y=y, width=room, height=16, rx=2, class_="rail"),
                svg.tag("rect", x=x, y=y, width=length, height=16, rx=2, class_="stage"),
            ),
            svg.text(duration(stop - start), left + room + 10, y + 12, class_="figure"),
        ]
    words = f"{item.title}: " + ", ".join(f"{name} {duration(stop - start)}" for name, start, stop in item.stages)
    return svg.image(width, 10 + len(item.stages) * row, words, *parts, kind="stages")


class _Axis:
    """Seconds to pixels with silences shortened: each interval between two moments is as wide as the cube root of its length."""

    def __init__(self, item: Timeline, left: float, right: float) -> None:
        moments = {float(step["t"]) for lane in item.lanes.values() for step in lane} | {
            float(m["t"]) for m in item.marks
        }
        self.last = max(moments, default=0.0)
        end = item.end if item.end is not None and item.end > self.last else self.last + max(0.05 * self.last, 1e-3)
        self.moments = sorted(moments | {0.0, end}) if moments else [0.0, end]
        gaps = [b - a for a, b in itertools.pairwise(self.moments)]
        # A hundredth of the mean as a floor keeps simultaneous steps apart enough to be seen.
        weights = [gap ** (1 / 3) for gap in gaps]
        floor = sum(weights) / max(len(weights), 1) / 10
        widths = [max(weight, floor) for weight in weights]
        scale = (right - left) / (sum(widths) or 1.0)
        self.places = [left]
        for width in widths:
            self.places.append(self.places[-1] + width * scale)

    def __call__(self, t: float) -> float:
        return self.places[self.moments.index(t)]

    def ticks(self, top: float, bottom: float) -> list[str]:
        """Times below the lanes wherever there is room for one."""
        parts, free = [], -1e9
        last = self.places[-1] - 3.1 * len(_tick(self.moments[-1])) - 5
        for moment, x in zip(self.moments, self.places, strict=True):
            label = _tick(moment)
            half = 3.1 * len(label) + 5
            if moment != self.moments[-1] and (x - half < free or x + half > last):
                continue
            free = x + half
            parts.append(svg.tag("path", d=f"M{x:.1f} {top:.1f}V{bottom:.1f}", class_="tick"))
            parts.append(svg.text(label, x, bottom + 14, class_="tick-name"))
        return parts


def _tick(moment: float) -> str:
    """A moment with four figures, so that neighbours differ: 0, 3.4 ms, 12.04 s."""
    return "0" if moment == 0 else f"{moment * 1000:.3g} ms" if moment < 0.1 else f"{moment:.4g} s"


def _lane(
    name: str,
    steps: Sequence[Mapping[str, Any]],
    axis: _Axis,
    base: float,
    index: Mapping[str, int],
    count: int,
    width: float,
) -> list[str]:
    held: list[str] = []
    parts: list[str] = []
    floor = base + count * _LEVEL
    line = ""
    for i, step in enumerate(steps):
        x = axis(float(step["t"]))
        right = axis(float(steps[i + 1]["t"])) if i + 1 < len(steps) else width - _RIGHT
        level = index[str(step["state"]).casefold()]
        y = base + (count - 1 - level) * _LEVEL + _LEVEL / 2
        line += f"{'L' if line else 'M'}{x:.1f} {y:.1f}H{right:.1f}"
        top_state = level == count - 1 and count > 1
        before = f"{steps[i - 1]['state']} → " if i else ""
        facts = f"{name}\n{duration(float(step['t']))}: {before}{step['state']}\n{step.get('event', '')}\n{step.get('reason', '')}"
        css = "held top" if top_state else "held"
        held.append(svg.tag("rect", x=x, y=y, width=max(right - x, 0.5), height=floor - y, class_=css))
        parts.append(
            svg.tag(
                "g",
                svg.title(facts),
                svg.tag(
                    "rect",
                    x=x,
                    y=y,
                    width=max(right - x, 0.5),
                    height=floor - y,
                    class_="held top" if top_state else "held",
                ),
                svg.tag("circle", cx=x, cy=y, r=2.6, class_="step"),
                svg.tag("rect", x=x, y=base, width=max(right - x, 3), height=count * _LEVEL, class_="target"),
            )
        )
    return [*held, svg.tag("path", d=line or "M0 0", class_="history"), *parts]


def _mark_names(marks: Sequence[Mapping[str, Any]], axis: _Axis, width: float) -> list[str]:
    parts, free = [], [-1e9, -1e9]
    for mark in sorted(marks, key=lambda mark: float(mark["t"])):
        label = str(mark["label"])
        room = 5.9 * len(label) + 8
        x = min(axis(float(mark["t"])), width - room)
        row = 0 if x >= free[0] else 1
        free[row] = x + room
        parts.append(svg.text(label, x, 11 + 12 * row, class_="mark-name"))
    return parts
