"""Charts: the statistics they show, and SVG that can be inlined, told apart, themed and made again byte for byte."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from reports import charts, palette, plots
from reports.model import Failover, Outages, RunFolder, Spread
from reports.shares import shares, wilson
from tests.reports.example_items import failover, outages, spread

ITEMS: dict[str, Spread | Failover | Outages] = {"spread": spread(), "failover": failover(), "outages": outages()}
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")


@pytest.mark.parametrize(
    ("share", "size", "low", "high"),
    # Newcombe 1998, table I, method 3 (81/263, 15/148) and the closed form n / (n + z^2) for 0 of n.
    [(81 / 263, 263, 0.2553, 0.3662), (15 / 148, 148, 0.0624, 0.1605), (0.0, 20, 0.0, 0.1611)],
)
def test_wilson_interval_has_the_published_values(share: float, size: int, low: float, high: float) -> None:
    assert wilson(share, size) == pytest.approx((low, high), abs=5e-5)


def test_no_flow_says_nothing_about_the_split() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_shares_of_a_direction() -> None:
    item = Spread("t", ("a", "b"), {"to-vpc": {"flows": (300, 100)}}, 1)
    first, second = shares(item, "to-vpc", "flows")
    assert (first.share, second.share, first.even) == (0.75, 0.25, 0.5)
    assert not first.holds_even


def test_bytes_are_as_uncertain_as_the_flows_that_carry_them() -> None:
    counts = {"to-vpc": {"flows": (500, 500), "bytes": (520_000, 480_000)}}
    plain = shares(Spread("t", ("a", "b"), counts, 1), "to-vpc", "bytes")[0]
    uneven = Spread("t", ("a", "b"), counts, 1, effective_flows={"to-vpc": {"bytes": 100.0}})
    weighted = shares(uneven, "to-vpc", "bytes")[0]
    assert plain.high - plain.low == pytest.approx(wilson(0.52, 1000)[1] - wilson(0.52, 1000)[0])
    assert weighted.high - weighted.low > 3 * (plain.high - plain.low)


@pytest.mark.spec("CARD-8")
@pytest.mark.parametrize("kind", ITEMS)
def test_svg_takes_its_colours_from_the_page(kind: str) -> None:
    chart = charts.chart(ITEMS[kind], "x")
    for svg in (chart.wide, chart.narrow):
        ET.fromstring(svg)
        assert COLOUR.findall(svg) == []
        assert {"s1", "s2", "s3", "ink"} <= set(re.findall(r"var\(--([\w-]+)\)", svg))
        assert "<metadata" not in svg and "DejaVu" not in svg


@pytest.mark.parametrize("kind", ITEMS)
def test_ids_of_two_charts_in_one_page_never_meet(kind: str) -> None:
    first, second = charts.chart(ITEMS[kind], "x-1"), charts.chart(ITEMS[kind], "x-2")
    copy = first.renamed("story-")
    drawings = [svg for chart in (first, second, copy) for svg in (chart.wide, chart.narrow)]
    ids = [found for svg in drawings for found in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(ids) == len(set(ids)) > 0
    for svg in drawings:
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= set(re.findall(r'\bid="([^"]+)"', svg))


@pytest.mark.parametrize("kind", ITEMS)
def test_same_evidence_same_bytes(kind: str) -> None:
    assert charts.chart(ITEMS[kind], "x") == charts.chart(ITEMS[kind], "x")


def test_standalone_svg_carries_both_schemes_title_and_size() -> None:
    chart = charts.chart(spread(), "x")
    text = charts.standalone(chart.wide, "A & <B>", "note")
    root = ET.fromstring(text)
    assert float(root.get("width", "0")) > 880
    assert palette.light()["s1"] in text and palette.dark()["s1"] in text
    assert "A &amp; &lt;B&gt;" in text


def test_png_is_light_and_twice_as_large_as_the_chart() -> None:
    png = charts.chart(spread(), "x").png
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 2 * (880 + 2 * 24)
    assert b"matplotlib" not in png.lower()


def test_words_tell_what_the_chart_shows() -> None:
    assert "IPsec connection 2 33.1% of 3,072 flows" in charts.spread_in_words(spread())
    assert "DELETE sent at 5.00 s" in charts.failover_in_words(failover())


@pytest.mark.parametrize(
    "item",
    [
        Spread("nothing sent", ("a", "b", "c"), {"to-vpc": {"flows": (0, 0, 0), "bytes": (0, 0, 0)}}, 1),
        Spread("one", ("a",), {"to-dc": {"flows": (7,)}}, 0, (1,), {"to-dc": (0.0,)}),
        Spread("untested", ("a", "b"), {"to-dc": {"flows": (7, 8)}}, 1, (), {"to-dc": ()}),
        Spread("nothing counted", ("a",), {}, 1),
        Outages("nothing cut", {}),
        Outages("no sample", {"a": ()}, {"a": (0.1, 0.2)}),
        Outages("one", {"a": (0.5,)}),
        Outages("nothing lost", {"a": (0.0, 0.0)}, {"a": (0.0, 0.0)}),
        Failover("no traffic", ("a", "b"), {}, (), (), {}, {}),
        Failover("one moment", ("a",), {"a": ((3.0, 0.0),)}, ({"t": 3.0, "label": "x" * 90},), (), {}, {}),
        dataclasses.replace(spread(), connections=("$x^2$", "_a_", "<b>&amp;\\1")),
    ],
    ids=lambda item: item.title,
)
def test_odd_evidence_is_drawn_all_the_same(item: Spread | Failover | Outages) -> None:
    chart = charts.chart(item, "x")
    assert "nan" not in chart.wide.lower().replace("dominant", "")
    ET.fromstring(chart.wide)
    ET.fromstring(charts.standalone(chart.narrow, item.title, ""))


def test_a_rate_holds_from_its_moment_to_the_next() -> None:
    steps = plots._as_steps([(0.0, 1.0), (10.0, 5.0), (20.0, 2.0)], 25.0)
    assert steps == [(0.0, 1.0), (10.0, 1.0), (10.0, 5.0), (20.0, 5.0), (20.0, 2.0), (25.0, 2.0)]


def test_ecmp_writes_the_charts_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.add(spread(), "t")
    folder.add(failover(), "t")
    paths = charts.ecmp(folder, tmp_path / "out")
    assert [p.name for p in paths] == ["spread-1.svg", "spread-1.png", "failover-1.svg", "failover-1.png"]
    assert all(p.stat().st_size > 1000 for p in paths)
    assert not (tmp_path / "run" / "index.html").exists()


def test_matplotlib_comes_with_the_first_chart_and_pyplot_never() -> None:
    program = (
        "import sys; from reports import page, charts, console; assert 'matplotlib' not in sys.modules\n"
        "from tests.reports.example_items import spread\n"
        "charts.chart(spread(), 'x'); assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
