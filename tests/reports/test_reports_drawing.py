"""Topology, timelines and stages as drawings."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from reports import drawing, svg, timeline
from reports.model import Stages, Timeline, Topology
from tests.reports import example_items

SVG = "{http://www.w3.org/2000/svg}"


def texts(image: str, css: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(image).iter(f"{SVG}text") if e.get("class") == css]


def centres(image: str) -> list[tuple[float, float]]:
    circles = ET.fromstring(image).iter(f"{SVG}circle")
    return [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in circles]


def test_groups_stand_from_the_data_centre_on_the_left_to_the_vpc_on_the_right() -> None:
    names = texts(drawing.draw(example_items.topology()), "group-name")
    ordered = sorted(names, key=lambda e: float(e.get("x", "")))
    assert [e.text for e in ordered] == ["Data centre (Hangzhou)", "Internet", "China (Hangzhou)", "China (Shanghai)"]


def test_nodes_keep_their_distance_and_stay_in_the_drawing() -> None:
    image = drawing.draw(example_items.topology())
    width, height = svg.size(image)
    placed = centres(image)
    assert len(placed) == len(example_items.topology().nodes) - 1
    for (ax, ay), (bx, by) in itertools.combinations(placed, 2):
        assert abs(ax - bx) >= 100 or abs(ay - by) >= 100
    assert all(18 <= x <= width - 18 and 18 <= y <= height - 18 for x, y in placed)


def test_a_drawing_of_its_own_carries_its_style() -> None:
    image = drawing.standalone(example_items.topology())
    ET.fromstring(image)
    assert ".drawing .pipe" in image and "prefers-color-scheme:dark" in image and ' width="' in image


def test_a_switch_stands_between_those_that_it_joins() -> None:
    def node(name: str, role: str) -> dict[str, object]:
        return {"name": name, "role": role, "label": name, "group": "g", "addresses": ()}

    def link(a: str, b: str) -> dict[str, str]:
        return {"a": a, "a_if": "e", "b": b, "b_if": "e", "name": ""}

    nodes = (node("lan", "switch"), node("gw", "device"), node("dc", "router"), node("alone", "switch"))
    image = drawing.draw(Topology("t", nodes, (link("dc", "lan"), link("gw", "lan"))))
    x = {e.text: float(e.get("x", "")) for e in texts(image, "node-name")}
    assert x["dc"] < x["lan"] < x["gw"]


def test_a_link_is_named_unless_an_end_says_it_already() -> None:
    item = example_items.topology()
    written = " ".join(e.text or "" for e in texts(drawing.draw(item), "link-name"))
    assert "Inter-region- connection" in written and "vSwitch 1" in written
    assert "vSwitch 2" not in written  # "Host in vSwitch 2" stands at its end


def test_a_tunnel_runs_straight_and_its_ends_wear_its_colour() -> None:
    image = drawing.draw(example_items.topology())
    assert re.search(r'class="pipe" style="stroke:var\(--s3\)"', image)
    assert image.count("stroke:var(--s2);stroke-width:2.5") == 2
    for path in re.findall(r'd="M([^"]+)" class="pipe"', image):
        numbers = [float(n) for n in re.findall(r"[\d.]+", path)]
        assert numbers[1] == numbers[-1]


def test_every_layer_can_be_hidden_and_every_edge_is_named() -> None:
    item = example_items.topology()
    image = drawing.draw(item)
    for layer, count in (("links", len(item.links)), ("tunnels", len(item.tunnels)), ("sessions", len(item.sessions))):
        (group,) = (g for g in ET.fromstring(image).iter(f"{SVG}g") if g.get("class") == f"layer-{layer}")
        assert len([g for g in group if g.find(f"{SVG}title") is not None]) == count


def test_a_star_of_hundreds_and_an_unknown_role_are_drawn() -> None:
    nodes = tuple({"name": f"h{i}", "role": "toaster", "label": "", "group": "", "addresses": ()} for i in range(300))
    links = tuple({"a": "h0", "a_if": "e", "b": f"h{i}", "b_if": "e", "name": ""} for i in range(1, 300))
    image = drawing.draw(Topology("star", nodes, links, ({"a": "h0", "b": "gone", "name": ""},)))
    assert len(set(centres(image))) == 300


def test_nothing_is_drawn_of_nothing() -> None:
    ET.fromstring(drawing.draw(Topology("", (), ())))
    ET.fromstring(timeline.draw(Timeline("", {})))
    ET.fromstring(timeline.draw(Timeline("", {"a": ()}, ({"t": 0.0, "label": "x"},))))
    ET.fromstring(timeline.stages(Stages("", ())))
    ET.fromstring(timeline.stages(Stages("", (("instant", 0.0, 0.0),))))


@pytest.mark.spec("CARD-5")
def test_every_step_of_a_session_is_there_with_its_reason() -> None:
    item = example_items.timeline(loss=True)
    image = timeline.draw(item)
    titles = [t.text or "" for t in ET.fromstring(image).iter(f"{SVG}title")]
    steps = [step for lane in item.lanes.values() for step in lane]
    assert len(titles) == len(steps)
    for step in steps:
        assert any(step["reason"] in title and step["event"] in title for title in titles)


def test_a_session_climbs_to_established() -> None:
    (lane,) = ([{"t": i, "state": s} for i, s in enumerate(timeline.BGP_STATES)],)
    image = timeline.draw(Timeline("t", {"a": tuple(lane)}))
    heights = [y for _, y in centres(image)]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == 6


def test_silence_is_shortened_and_milliseconds_stay_visible() -> None:
    moments = (0.0, 0.002, 0.004, 60.0)
    lane = tuple({"t": t, "state": s} for t, s in zip(moments, ("Idle", "Connect", "Established", "Idle"), strict=True))
    xs = [x for x, _ in centres(timeline.draw(Timeline("t", {"a": lane}, end=61.0)))]
    assert xs == sorted(xs)
    widths = [b - a for a, b in itertools.pairwise(xs)]
    assert min(widths) >= 15
    assert 100 < widths[2] < 0.8 * (timeline.WIDE - xs[0])


def test_two_moments_never_bear_the_same_time() -> None:
    names = [e.text for e in texts(timeline.draw(example_items.timeline(loss=True)), "tick-name")]
    assert len(names) == len(set(names)) >= 6


def test_other_states_than_bgps_are_levels_in_order_of_appearance() -> None:
    item = Timeline(
        "ike", {"a": ({"t": 0, "state": "CONNECTING"}, {"t": 1, "state": "ESTABLISHED"}, {"t": 2, "state": "DELETING"})}
    )
    assert timeline.states_of(item) == ("CONNECTING", "ESTABLISHED", "DELETING")


def test_stages_are_as_long_as_they_took() -> None:
    image = timeline.stages(Stages("t", (("a", 0.0, 1.0), ("b", 1.0, 4.0))))
    rects = [r for r in ET.fromstring(image).iter(f"{SVG}rect") if r.get("class") == "stage"]
    first, second = (float(r.get("width", "")) for r in rects)
    assert second == pytest.approx(3 * first, rel=0.01)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Clients 1", ["Clients 1"]),
        ("IPsec connection 1", ["IPsec", "connection 1"]),
        ("Inter-region-connection", ["Inter-region-", "connection"]),
        ("", [""]),
    ],
)
def test_labels_are_broken_evenly(text: str, lines: list[str]) -> None:
    assert svg.wrap(text, 15, 2) == lines


def test_a_drawing_escapes_what_it_is_given() -> None:
    image = svg.image(1, 1, '"><script>', svg.text("<b>&", 0, 0), svg.title("</title><x>"))
    assert "<script>" not in image and "<b>" not in image and "<x>" not in image
    ET.fromstring(image)
