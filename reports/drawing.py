"""The drawing of a topology: data centre, internet and regions from left to right, tunnels as pipes, BGP sessions as arcs.

Layout is layered: a node's role gives its column inside its group, its neighbours give its row (barycentre sweeps). The drawing
carries classes ``layer-links``, ``layer-tunnels`` and ``layer-sessions``, so that a page can hide them. Not a general graph drawer:
it knows the roles of ``harness.plan``; an unknown role stands with the devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reports import palette, svg
from reports.model import Topology

_RANKS = {
    "client": 0, "router": 2, "device": 3, "internet": 4, "vbr": 5, "vpn-connection": 5, "tunnel-hub": 6, "vpn-gateway": 6.5,
    "transit-router": 6, "vpc": 7, "ecs": 9,
}  # fmt: skip
_PITCH_X, _GROUP_GAP, _MARGIN, _HEADER = 112.0, 22.0, 2.0, 58.0
_TALLEST = 12
_RADIUS = 18.0

# Glyphs in a box of 36 around (0, 0): what the role does, in a few strokes.
_GLYPHS = {
    "client": "M-9-8h18v12h-18zM-4 9h8M0 4v5",
    "switch": "M-10-3h16m-4-4 4 4-4 4M10 5h-16m4-4-4 4 4 4",
    "router": "M0-10v7m-3-4 3-3 3 3M0 10v-7m-3 4 3 3 3-3M-10 0h7m-4-3-3 3 3 3M10 0h-7m4-3 3 3-3 3",
    "device": "M-10-7h20M-10 0h20M-10 7h20M-4-7v7M5-7v7M0 0v7M-10-7v14M10-7v14",
    "vpn-connection": "M-7-1h14v9h-14zM-4-1v-4a4 4 0 0 1 8 0v4",
    "vbr": "M-10-3h16m-4-4 4 4-4 4M10 5h-16m4-4-4 4 4 4",
    "transit-router": "M-9-9l18 18M9-9l-18 18M3-9h6v6M-3 9h-6v-6M-9-3v-6h6M9 3v6h-6",
    "vpc": "M-7 7a5 5 0 0 1 0-9 7 7 0 0 1 13-2 5.5 5.5 0 0 1 2 11z",
    "ecs": "M-8-9h16v7h-16zM-8 2h16v7h-16zM-4-5.500h1M-4 5.500h1",
}


@dataclass(slots=True)
class _Placed:
    """A node with its place: the centre of its glyph."""

    node: Mapping[str, Any]
    column: int
    x: float = 0.0
    y: float = 0.0
    neighbours: list[_Placed] = field(default_factory=list)

    @property
    def wide(self) -> bool:
        return self.node.get("role") == "internet"


@dataclass(frozen=True, slots=True)
class _Layout:
    nodes: Mapping[str, _Placed]
    boxes: tuple[tuple[str, float, float], ...]
    width: float
    height: float
    pitch_y: float


def draw(topology: Topology) -> str:
    """The topology as an inlinable SVG; its rules are ``templates/drawing.css``."""
    layout = _place(topology)
    boxes = [_box(layout, name, left, right) for name, left, right in layout.boxes]
    clouds = [_internet(layout, node) for node in layout.nodes.values() if node.wide]
    links = [_link(layout, link) for link in topology.links if {link["a"], link["b"]} <= layout.nodes.keys()]
    tunnels = [
        _tunnel(layout, tunnel, index)
        for index, tunnel in enumerate(topology.tunnels)
        if {tunnel["a"], tunnel["b"]} <= layout.nodes.keys()
    ]
    sessions = [_session(layout, s) for s in topology.sessions if {s["a"], s["b"]} <= layout.nodes.keys()]
    words = (
        f"{topology.title}: {len(topology.nodes)} nodes, {len(topology.links)} links, {len(topology.tunnels)} tunnels, "
        f"{len(topology.sessions)} BGP sessions; listed below"
    )
    return svg.image(
        layout.width,
        layout.height,
        words,
        *boxes,
        *clouds,
        svg.tag("g", *links, class_="layer-links"),
        svg.tag("g", *tunnels, class_="layer-tunnels"),
        svg.tag("g", *sessions, class_="layer-sessions"),
        *(_node(node, _colour(topology, name)) for name, node in layout.nodes.items() if not node.wide),
        kind="topology",
    )


def standalone(topology: Topology) -> str:
    """The drawing as an SVG file of its own, for light and dark."""
    return svg.standalone(draw(topology))


def _colour(topology: Topology, node: str) -> str | None:
    ending = [index for index, tunnel in enumerate(topology.tunnels) if node in (tunnel["a"], tunnel["b"])]
    return palette.series(ending[0]) if len(ending) == 1 else None


def _ranks(topology: Topology) -> dict[str, float]:
    """How far to the right each node belongs. A switch stands between those that it joins."""
    roles = {str(node["name"]): str(node.get("role")) for node in topology.nodes}
    ranks = {name: float(_RANKS.get(role, _RANKS["device"])) for name, role in roles.items() if role != "switch"}
    joined: dict[str, list[float]] = {name: [] for name, role in roles.items() if role == "switch"}
    for link in topology.links:
        for end, other in ((link["a"], link["b"]), (link["b"], link["a"])):
            if end in joined and other in ranks:
                joined[end].append(ranks[other])
    return ranks | {name: (min(near) + max(near)) / 2 if near else 1.0 for name, near in joined.items()}


def _place(topology: Topology) -> _Layout:
    ranks = _ranks(topology)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for node in topology.nodes:
        groups.setdefault(str(node.get("group") or ""), []).append(node)
    order = list(groups)

    def mean_rank(name: str) -> float:
        return sum(ranks[str(node["name"])] for node in groups[name]) / len(groups[name])

    columns: list[list[_Placed]] = []
    xs: list[float] = []
    boxes: list[tuple[str, float, float]] = []
    x = _MARGIN
    for name in sorted(groups, key=lambda name: (mean_rank(name), order.index(name))):
        left, first = x, len(columns)
        for wanted in sorted({ranks[str(node["name"])] for node in groups[name]}):
            members = [node for node in groups[name] if ranks[str(node["name"])] == wanted]
            for start in range(0, len(members), _TALLEST):
                columns.append([_Placed(node, len(columns)) for node in members[start : start + _TALLEST]])
                xs.append(x + _PITCH_X / 2)
                x += _PITCH_X
        if (lacking := left + 7.4 * len(name) + 24 - x) > 0:  # the group's name is wider than its nodes
            xs[first:] = [centre + lacking / 2 for centre in xs[first:]]
            x += lacking
        boxes.append((name, left, x))
        x += _GROUP_GAP
    placed = {str(entry.node["name"]): entry for column in columns for entry in column}
    for edge in (*topology.links, *topology.tunnels):
        a, b = placed.get(edge["a"]), placed.get(edge["b"])
        if a and b and a.column != b.column:
            a.neighbours.append(b)
            b.neighbours.append(a)
    rows = max(map(len, columns), default=1)
    pitch = 124.0 if rows <= 5 else 106.0
    _order(columns, rows, pitch)
    for column, centre in zip(columns, xs, strict=True):
        for entry in column:
            entry.x = centre
    return _Layout(placed, tuple(boxes), x - _GROUP_GAP + _MARGIN, _HEADER + rows * pitch + _MARGIN, pitch)


def _order(columns: list[list[_Placed]], rows: int, pitch: float) -> None:
    """Rows by the mean height of the neighbours, swept right and left until it has settled in practice."""

    def settle(column: list[_Placed]) -> None:
        offset = (rows - len(column)) * pitch / 2
        for i, entry in enumerate(column):
            entry.y = _HEADER + offset + i * pitch + 34

    for column in columns:
        settle(column)
    for sweep in range(6):
        for column in columns[:: 1 if sweep % 2 == 0 else -1]:
            heights = {
                id(entry): sum(other.y for other in entry.neighbours) / len(entry.neighbours)
                if entry.neighbours
                else entry.y
                for entry in column
            }
            column.sort(key=lambda entry: heights[id(entry)])
            settle(column)


def _box(layout: _Layout, name: str, left: float, right: float) -> str:
    height = layout.height - 2 * _MARGIN
    return svg.tag(
        "g",
        svg.tag("rect", x=left, y=_MARGIN, width=right - left, height=height, rx=10, class_="group"),
        svg.text(name, left + 12, _MARGIN + 21, class_="group-name"),
    )


def _internet(layout: _Layout, node: _Placed) -> str:
    """The internet is as tall as the drawing, so that one sees what crosses it."""
    top, height, width = _HEADER - 14, layout.height - _HEADER - _MARGIN + 4, _PITCH_X - 18
    return svg.tag(
        "g",
        svg.title(_facts(node.node)),
        svg.tag("rect", x=node.x - width / 2, y=top, width=width, height=height, rx=width / 2.4, class_="internet"),
    )


def _anchor(layout: _Layout, node: _Placed, other: _Placed) -> tuple[float, float]:
    """Where a line to ``other`` ends: the internet is met at the other's height."""
    return (node.x, min(max(other.y, _HEADER), layout.height)) if node.wide else (node.x, node.y)


def _curve(a: tuple[float, float], b: tuple[float, float]) -> str:
    (ax, ay), (bx, by) = a, b
    if ax == bx:
        bulge = ax + 46
        return f"M{ax:.1f} {ay:.1f}C{bulge:.1f} {ay:.1f} {bulge:.1f} {by:.1f} {bx:.1f} {by:.1f}"
    middle = (ax + bx) / 2
    return f"M{ax:.1f} {ay:.1f}C{middle:.1f} {ay:.1f} {middle:.1f} {by:.1f} {bx:.1f} {by:.1f}"


def _link(layout: _Layout, link: Mapping[str, str]) -> str:
    a, b = layout.nodes[link["a"]], layout.nodes[link["b"]]
    start, end = _anchor(layout, a, b), _anchor(layout, b, a)
    name = link.get("name", "")
    ends = f"{link['a']} {link.get('a_if', '')} — {link['b']} {link.get('b_if', '')}"
    facts = filter(None, (ends, name, link.get("impairment", "")))
    parts = [svg.title("\n".join(facts)), svg.tag("path", d=_curve(start, end), class_="link")]
    told = any(name.casefold() in str(end.node.get("label")).casefold() for end in (a, b))
    lines = [] if told or a.wide or b.wide else svg.wrap(name, 13, 2)
    middle, base = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 7 - 11 * (len(lines) - 1)
    parts += [svg.text(line, middle, base + 11 * i, class_="link-name") for i, line in enumerate(lines)]
    return svg.tag("g", *parts)


def _tunnel(layout: _Layout, tunnel: Mapping[str, str], index: int) -> str:
    a, b = layout.nodes[tunnel["a"]], layout.nodes[tunnel["b"]]
    path = _curve((a.x, a.y), (b.x, b.y))
    colour = f"stroke:var(--{palette.series(index)})"
    lines = svg.wrap(tunnel.get("name", ""), 14, 2)
    middle, base = (a.x + b.x) / 2, (a.y + b.y) / 2 + 19
    return svg.tag(
        "g",
        svg.title(f"Tunnel {tunnel.get('name', '')}: {tunnel['a']} — {tunnel['b']}"),
        svg.tag("path", d=path, class_="pipe", style=colour),
        svg.tag("path", d=path, class_="pipe-core", style=colour),
        *(svg.text(line, middle, base + 12 * i, class_="tunnel-name") for i, line in enumerate(lines)),
    )


def _session(layout: _Layout, session: Mapping[str, str]) -> str:
    """An arc above the two nodes, or beside the cable where they stand in different rows."""
    a, b = sorted((layout.nodes[session["a"]], layout.nodes[session["b"]]), key=lambda node: node.x)
    kind = session.get("kind", "BGP")
    label: tuple[float, float] | None
    if a.x == b.x:
        bulge = a.x - 56
        path = f"M{a.x:.1f} {a.y:.1f}C{bulge:.1f} {a.y:.1f} {bulge:.1f} {b.y:.1f} {b.x:.1f} {b.y:.1f}"
        label = (a.x - 42, (a.y + b.y) / 2 + 3)
    elif abs(a.y - b.y) > _RADIUS:
        aside = 7 if b.y > a.y else -7
        path = _curve((a.x + aside, a.y - 10), (b.x + aside, b.y - 10))
        label = None
    else:
        top, lift = a.y - _RADIUS, 20 + 0.03 * (b.x - a.x)
        path = f"M{a.x + 8:.1f} {top + 2:.1f}C{a.x + 36:.1f} {top - lift:.1f} {b.x - 36:.1f} {top - lift:.1f} {b.x - 8:.1f} {top + 2:.1f}"
        label = ((a.x + b.x) / 2, top - 0.75 * lift + 4)
    css = "session internal" if kind == "iBGP" else "session"
    tip = svg.title(f"{kind} session: {session['a']} — {session['b']}")
    written = [svg.text(kind, *label, class_="session-name")] if label else []
    return svg.tag("g", tip, svg.tag("path", d=path, class_=css), *written)


def _node(placed: _Placed, colour: str | None) -> str:
    """The glyph and what is written below it; ``colour`` is that of the one tunnel that ends here."""
    node, role = placed.node, str(placed.node.get("role"))
    glyph = _GLYPHS.get(role, _GLYPHS["device"])
    addresses = [str(address).partition("/")[0] for address in node.get("addresses") or ()]
    lines = svg.wrap(str(node.get("label") or node["name"]), 14, 3)
    base = placed.y + _RADIUS + 14
    written = [svg.text(line, placed.x, base + 13 * i, class_="node-name") for i, line in enumerate(lines)]
    small = ([f"AS {node['asn']}"] if node.get("asn") else []) + addresses
    if len(small) > 2:
        small = [small[0], f"{small[1]} +{len(small) - 2}"]
    base += 13 * len(lines)
    written += [svg.text(line, placed.x, base + 11.5 * i, class_="node-fact") for i, line in enumerate(small)]
    return svg.tag(
        "g",
        svg.title(_facts(node)),
        svg.tag(
            "circle",
            cx=placed.x,
            cy=placed.y,
            r=_RADIUS,
            class_="node",
            style=colour and f"stroke:var(--{colour});stroke-width:2.5",
        ),
        svg.tag("path", d=glyph, transform=f"translate({placed.x:.1f} {placed.y:.1f})", class_="glyph"),
        *written,
    )


def _facts(node: Mapping[str, Any]) -> str:
    return "\n".join([f"{node.get('label') or node['name']} ({node['name']})", *map(str, node.get("addresses") or ())])
