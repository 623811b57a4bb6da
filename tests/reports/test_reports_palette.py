"""Colours that can be read: WCAG 2.2 contrast, and three series that stay apart for readers with a colour vision deficiency."""

from __future__ import annotations

import itertools

import pytest

from reports import palette

# Machado, Oliveira, Fernandes 2009, severity 1.0, linear RGB.
DEFICIENCIES = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
SCHEMES = {"light": palette.light(), "dark": palette.dark()}
Triple = tuple[float, float, float]


def linear(colour: str) -> Triple:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return r, g, b


def contrast(a: str, b: str) -> float:
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(linear, (a, b)))
    return (high + 0.05) / (low + 0.05)


def times(rows: tuple[Triple, Triple, Triple], v: Triple) -> Triple:
    x, y, z = (sum(m * c for m, c in zip(row, v, strict=True)) for row in rows)
    return x, y, z


def lab(rgb: Triple) -> Triple:
    clipped = tuple(min(max(c, 0.0), 1.0) for c in rgb)
    xyz = times(((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)), clipped)  # type: ignore[arg-type]
    white = (0.9505, 1.0, 1.089)
    x, y, z = (
        t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (c / w for c, w in zip(xyz, white, strict=True))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("role", "behind"),
    [
        ("ink", "page"), ("ink", "surface"), ("ink", "raised"), ("muted", "page"), ("muted", "surface"), ("muted", "raised"),
        ("accent", "page"), ("accent", "surface"), ("fail", "surface"), ("fail", "page"), ("fail", "fail-soft"), ("ink", "fail-soft"),
        ("warn", "warn-soft"), ("ink", "warn-soft"), ("surface", "accent"), ("surface", "fail"), ("accent", "raised"),
    ],
)  # fmt: skip
def test_text_reaches_aa_contrast(scheme: str, role: str, behind: str) -> None:
    colours = SCHEMES[scheme]
    assert contrast(colours[role], colours[behind]) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_series_stand_out_from_their_surface(scheme: str) -> None:
    colours = SCHEMES[scheme]
    for index in range(len(palette.SERIES)):
        assert contrast(colours[palette.series(index)], colours["surface"]) >= 3.0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_three_connections_stay_apart_for_every_eye(scheme: str, deficiency: str) -> None:
    """A difference of 15 in CIELAB is plain to see side by side; 2.3 is the least that can be noticed."""
    seen = [lab(times(DEFICIENCIES[deficiency], linear(SCHEMES[scheme][palette.series(i)]))) for i in range(3)]
    for a, b in itertools.combinations(seen, 2):
        assert sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5 >= 15


def test_light_roles_differ_so_that_charts_can_find_them_again() -> None:
    values = list(palette.light().values())
    assert len(set(values)) == len(values)


def test_dark_rules_never_reach_paper() -> None:
    assert "@media screen and (prefers-color-scheme:dark)" in palette.css()
