"""The colours of the report, once: pages, drawings and charts take them from here, so that a connection looks the same everywhere.

Every role has a light and a dark value. Text roles hold WCAG AA (4.5:1) and series colours 3:1 on their surface, and the first three
series colours stay apart under protanopia, deuteranopia and tritanopia; ``tests/reports`` computes all of this. Not a style sheet:
sizes and spacing live in ``templates/style.css``.
"""

from __future__ import annotations

from collections.abc import Mapping

# Roles: (light, dark). Light values are pairwise different, because `charts` finds a role again by its value.
ROLES: Mapping[str, tuple[str, str]] = {
    "page": ("#f6f7f8", "#0f1216"),
    "surface": ("#ffffff", "#171b21"),
    "raised": ("#eff1f3", "#1f242c"),
    "line": ("#dcdfe4", "#2d343e"),
    "strong-line": ("#8b93a1", "#6b7585"),
    "ink": ("#171a21", "#eceef2"),
    "muted": ("#565e6c", "#a3acba"),
    "accent": ("#0a6f62", "#52cdb6"),
    "accent-soft": ("#dff1ee", "#123a35"),
    "fail": ("#b8211a", "#ff8a80"),
    "fail-soft": ("#fcebe9", "#45191a"),
    "warn": ("#7f5500", "#f0be62"),
    "warn-soft": ("#fbf1dc", "#3b2c0c"),
}

SERIES: tuple[tuple[str, str], ...] = (
    ("#1667c0", "#6cb0ff"),
    ("#c67b00", "#f5c15c"),
    ("#a0307a", "#e08ab8"),
    ("#0b7f74", "#3fc9bb"),
    ("#5b4bc4", "#ada2ff"),
    ("#64701f", "#bccb62"),
    ("#8a5a3b", "#d6a27e"),
    ("#46566b", "#9fb3cc"),
)


def series(index: int) -> str:
    """The CSS variable of the ``index``-th connection, counted from 0; there are eight, then they come again."""
    return f"s{index % len(SERIES) + 1}"


def light() -> dict[str, str]:
    """CSS variable name -> light value."""
    return {**{name: pair[0] for name, pair in ROLES.items()}, **{series(i): p[0] for i, p in enumerate(SERIES)}}


def dark() -> dict[str, str]:
    """CSS variable name -> dark value."""
    return {**{name: pair[1] for name, pair in ROLES.items()}, **{series(i): p[1] for i, p in enumerate(SERIES)}}


def css(selector: str = ":root") -> str:
    """The variables as CSS: light, and dark where the reader's system asks for it (never on paper)."""

    def block(values: Mapping[str, str]) -> str:
        return selector + "{" + "".join(f"--{name}:{value};" for name, value in values.items()) + "}"

    return f"{block(light())}@media screen and (prefers-color-scheme:dark){{{block(dark())}}}"
