"""Sequence charts as drawings: two ends, an arrow for each step, downwards in time.

Order is drawn, not duration: steps are evenly spaced and each has its time beside it. Every message carries all of its fields as a tooltip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports import svg
from reports.model import Sequence

WIDE, NARROW = 760.0, 400.0
_STEP = 26.0
_TOP = 46.0
_TIME = 74.0
_HEAD = 6.0


def draw(item: Sequence, width: float = WIDE) -> str:
    """The chart as an inlinable SVG, ``width`` units wide."""
    left, right = _TIME + 10, width - 14
    bottom = _TOP + len(item.steps) * _STEP
    parts = [
        svg.text(item.ends[0], left - 8, 18, class_="end-name"),
        svg.text(item.ends[1], right + 8, 18, class_="end-name", text_anchor="end"),
        *(svg.tag("path", d=f"M{x:.1f} 28V{bottom:.1f}", class_="lifeline") for x in (left, right)),
    ]
    for number, step in enumerate(item.steps):
        parts.append(_step(step, _TOP + number * _STEP, left, right, width))
    words = f"{item.title}. {item.ends[0]} and {item.ends[1]}: " + "; ".join(
        f"{'second' if step['sender'] else 'first'} {step['title']}" for step in item.steps
    )
    return svg.image(width, bottom + 8, words, *parts, kind="sequence")


def _step(step: Mapping[str, Any], y: float, left: float, right: float, width: float) -> str:
    middle = (left + right) / 2
    title = _cut(str(step["title"]), right - left)
    if step["kind"] in ("fold", "note"):
        return svg.tag(
            "g",
            svg.text(title, middle, y + 4, class_="aside-name", text_anchor="middle"),
            *(
                svg.tag("path", d=f"M{x:.1f} {y - 9:.1f}v18", class_="break")
                for x in (left, right)
                if step["kind"] == "fold"
            ),
        )
    start, end = (left, right) if not step["sender"] else (right, left)
    back = -_HEAD if not step["sender"] else _HEAD
    tooltip = "\n".join([str(step["title"]), *map(str, step["details"])])
    return svg.tag(
        "g",
        svg.title(tooltip),
        svg.tag("rect", x=0, y=y - _STEP / 2, width=width, height=_STEP, class_="target"),
        svg.text(f"{float(step['t']):.6f}", _TIME, y + 3.5, class_="time-name", text_anchor="end"),
        svg.tag("path", d=f"M{start:.1f} {y:.1f}H{end:.1f}", class_=f"arrow {step['kind']}"),
        svg.tag(
            "path", d=f"M{end + back:.1f} {y - 4:.1f}L{end:.1f} {y:.1f}l{back:.1f} 4", class_=f"arrow {step['kind']}"
        ),
        svg.text(title, middle, y - 4, class_=f"arrow-name {step['kind']}", text_anchor="middle"),
    )


def _cut(title: str, room: float) -> str:
    most = int(room / 6.2)
    return title if len(title) <= most else f"{title[: most - 1]}…"
