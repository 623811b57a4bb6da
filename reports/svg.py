"""SVG text, safely: elements whose attributes and content are escaped, for the drawings that are made by hand.

Not a drawing library: it knows tags and strings. Fragments are plain ``str`` that this module made; data goes in through ``text``,
``title`` and the attributes only.
"""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path

from reports import palette

Number = int | float


def tag(name: str, *children: str, **attributes: Number | str | None) -> str:
    """One element. ``children`` are fragments; attributes are escaped, ``class_`` and ``text_anchor`` become what SVG calls them."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def number(value: Number | str) -> str:
    """Coordinates to a tenth of a pixel, without a needless zero."""
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


def text(content: str, x: Number, y: Number, **attributes: Number | str | None) -> str:
    return tag("text", html.escape(content), x=x, y=y, **attributes)


def title(content: str) -> str:
    """The tooltip of the element it is put in."""
    return tag("title", html.escape(content))


def image(width: Number, height: Number, label: str, *children: str, kind: str = "") -> str:
    """A whole drawing, to be inlined; ``kind`` becomes its class."""
    return tag(
        "svg", *children, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {number(width)} {number(height)}", role="img",
        aria_label=label, class_=f"drawing {kind}".strip(),
    )  # fmt: skip


def size(drawing: str) -> tuple[float, float]:
    """Width and height of a drawing in CSS pixels."""
    numbers = drawing.partition('viewBox="')[2].partition('"')[0].split()
    return float(numbers[2]), float(numbers[3])


@cache
def rules() -> str:
    """The style of the drawings' classes."""
    return (Path(__file__).parent / "templates" / "drawing.css").read_text(encoding="utf-8")


def standalone(drawing: str) -> str:
    """An inlined drawing as a file of its own: with the style of its classes, and colours for light and dark."""
    head, _, body = drawing.partition(">")
    width, height = size(drawing)
    own = palette.css("svg") + "svg{background:var(--surface);font-family:system-ui,'DejaVu Sans',sans-serif}" + rules()
    return f'{head} width="{width:g}" height="{height:g}"><style>{own}</style>{body}\n'


def wrap(content: str, width: int, lines: int) -> list[str]:
    """``content`` in at most ``lines`` lines of about ``width`` characters, broken at spaces and after hyphens, evenly."""
    words = re.findall(r"[^\s-]+-?\s*|-\s*", content)
    needed = min(lines, -(-len(content) // width))
    for goal in range(max(1, len(content) // max(needed, 1)), len(content) + 1):
        found = [""]
        for word in words:
            if found[-1] and len(found[-1] + word.rstrip()) > goal:
                found.append("")
            found[-1] += word
        if len(found) <= needed:
            return [line.strip() if len(line) <= 2 * width else line[: 2 * width - 1] + "…" for line in found]
    return [content]
