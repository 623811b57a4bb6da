"""FIXTURE: invented evidence of plausible shape, one function for each kind. No number here was measured; all are deterministic."""

from __future__ import annotations

import itertools
import random
from typing import Any

from reports.model import Failover, Grid, Outages, Row, Sequence, Spread, Stages, Table, Timeline, Topology, Values

CONNECTIONS = ("IPsec connection 1", "IPsec connection 2", "IPsec connection 3")
CLIENTS = tuple(f"192.168.{i}.0/24" for i in range(3))
CLOUD = ("10.0.0.0/24", "10.0.1.0/24")

HANGZHOU: tuple[Row, ...] = tuple(
    [(c, "Inter-region connection", "Auto-learned") for c in CLOUD]
    + [(c, f"VPN connection {i} (IPsec connection {i})", "Auto-learned") for c in CLIENTS for i in (1, 2, 3)]
)
SHANGHAI: tuple[Row, ...] = tuple(
    [(c, "VPC connection", "Auto-learned") for c in CLOUD]
    + [(c, "Inter-region connection", "Auto-learned") for c in CLIENTS for _ in range(3)]
)
VPC: tuple[Row, ...] = tuple(
    [(c, "Local", "System") for c in CLOUD]
    + [(c, "VPC connection", "Custom") for c in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
)
CONNECTION: tuple[Row, ...] = tuple(
    [(c, "Route learned from the Alibaba Cloud side") for c in CLOUD]
    + [(c, "Route learned from the data centre side") for c in CLIENTS]
)
COLUMNS = ("Destination CIDR block", "Next hop", "Route type")


def topology() -> Topology:
    def node(name: str, role: str, label: str, group: str, *addresses: str, asn: int | None = None) -> dict[str, Any]:
        return {"name": name, "role": role, "label": label, "group": group, "addresses": addresses, "asn": asn}

    dc, net, hz, sh = "Data centre (Hangzhou)", "Internet", "China (Hangzhou)", "China (Shanghai)"
    nodes = [node(f"client{i}", "client", f"Clients {i + 1}", dc, f"192.168.{i}.10/24") for i in range(3)]
    inside = ("192.168.50.215/24", "192.168.50.217/24", "192.168.50.214/24")
    nodes.append(node("dc", "router", "Data-centre router", dc, *inside, asn=65530))
    for i, (private, public) in enumerate((("216", "1"), ("218", "2"), ("213", "3")), 1):
        addresses = (f"192.168.50.{private}/24", f"198.51.100.{public}/32", f"169.254.{9 + i}.2/30")
        nodes.append(node(f"gw{i}", "device", f"Gateway device {i}", dc, *addresses, asn=65530))
    nodes.append(node("internet", "internet", "Internet", net, "192.0.2.172", "192.0.2.173", "192.0.2.174"))
    for i, last in enumerate((191, 213, 161), 1):
        nodes.append(
            node(
                f"vpn{i}",
                "vpn-connection",
                f"IPsec connection {i}",
                hz,
                f"203.0.113.{last}",
                f"169.254.{9 + i}.1/30",
                asn=65531,
            )
        )
    nodes.append(node("tr-hangzhou", "transit-router", "Transit router", hz, "172.31.0.1", asn=45104))
    nodes.append(node("tr-shanghai", "transit-router", "Transit router", sh, "172.31.1.1", asn=45104))
    nodes.append(node("vpc", "vpc", "VPC", sh, "10.0.0.253/24", "10.0.1.253/24"))
    nodes.append(node("ecs", "ecs", "ECS", sh, "10.0.0.1/24"))
    nodes.append(node("ecs2", "ecs", "Host in vSwitch 2", sh, "10.0.1.1/24"))

    def link(a: str, b: str, name: str = "") -> dict[str, str]:
        return {"a": a, "a_if": f"to-{b}"[:15], "b": b, "b_if": f"to-{a}"[:15], "name": name}

    links = [link(f"client{i}", "dc") for i in range(3)]
    links += [link("dc", f"gw{i}") for i in (1, 2, 3)] + [link(f"gw{i}", "internet") for i in (1, 2, 3)]
    links += [link("internet", f"vpn{i}") for i in (1, 2, 3)] + [link(f"vpn{i}", "tr-hangzhou") for i in (1, 2, 3)]
    links += [
        link("tr-hangzhou", "tr-shanghai", "Inter-region-connection"),
        link("tr-shanghai", "vpc", "VPC-connection"),
    ]
    links += [link("vpc", "ecs", "vSwitch 1"), link("vpc", "ecs2", "vSwitch 2")]
    sessions = [{"a": f"gw{i}", "b": f"vpn{i}", "kind": "eBGP"} for i in (1, 2, 3)]
    sessions += [{"a": "dc", "b": f"gw{i}", "kind": "iBGP"} for i in (1, 2, 3)]
    sessions += [{"a": f"vpn{i}", "b": "tr-hangzhou", "kind": "eBGP"} for i in (1, 2, 3)]
    sessions += [{"a": "tr-hangzhou", "b": "tr-shanghai", "kind": "iBGP"}]
    tunnels = [{"a": f"gw{i}", "b": f"vpn{i}", "name": f"IPsec connection {i}"} for i in (1, 2, 3)]
    return Topology(
        "Three IPsec connections over the internet, load-balanced",
        tuple(nodes),
        tuple(links),
        tuple(tunnels),
        tuple(sessions),
    )


def table(
    title: str, node: str, rows: tuple[Row, ...], columns: Row = COLUMNS, actual: tuple[Row, ...] | None = None
) -> Table:
    shown = tuple(sorted(rows if actual is None else actual))
    return Table(title, node, columns, tuple(sorted(rows)), shown, sorted(shown) == sorted(rows))


def broken_shanghai() -> Table:
    actual = list(SHANGHAI)
    actual.remove(("192.168.1.0/24", "Inter-region connection", "Auto-learned"))
    actual[actual.index(("10.0.1.0/24", "VPC connection", "Auto-learned"))] = (
        "10.0.1.0/24",
        "Inter-region connection",
        "Auto-learned",
    )
    actual.append(("192.168.50.0/24", "Inter-region connection", "Auto-learned"))
    return table(
        "Table 2: default route table of the Shanghai transit router", "tr-shanghai", SHANGHAI, actual=tuple(actual)
    )


def timeline(loss: bool = False) -> Timeline:
    path = [
        (0.0, "Idle", "", "configured"),
        (0.0021, "Connect", "ManualStart", "started by the lab; first TCP connection to the peer"),
        (
            0.0034,
            "Active",
            "TcpConnectionFails",
            "connection refused: the peer does not listen yet; first retry after 5 ms",
        ),
        (
            0.0089,
            "OpenSent",
            "TcpConnectionConfirmed",
            "peer connected to us; OPEN sent (AS 65530, hold 90 s, ADD-PATH, route refresh)",
        ),
        (0.0112, "OpenConfirm", "BGPOpen", "OPEN accepted: AS 65531, identifier 169.254.10.1, hold time 90 s"),
        (0.0127, "Established", "KeepAliveMsg", "first KEEPALIVE received"),
    ]
    lanes: dict[str, Any] = {}
    for i in (1, 2, 3):
        steps = [(t + 0.0013 * i * (t > 0), s, e, r) for t, s, e, r in path]
        if i == 3:
            steps.pop(2)
        if loss and i == 2:
            steps += [
                (
                    5.3127,
                    "Idle",
                    "TcpConnectionFails",
                    "line protocol of the tunnel went down: no CHILD_SA after DELETE",
                ),
                (5.3129, "Connect", "AutomaticStart", "restart; idle hold 0 s"),
                (5.3131, "Active", "TcpConnectionFails", "network is unreachable"),
                (12.0412, "OpenSent", "TcpConnectionConfirmed", "CHILD_SA installed; peer connected to us"),
                (12.0436, "OpenConfirm", "BGPOpen", "OPEN accepted: AS 65531"),
                (12.0449, "Established", "KeepAliveMsg", "first KEEPALIVE received"),
            ]
        lanes[f"gw{i} → IPsec connection {i}"] = tuple(
            {"t": t, "state": s, "event": e, "reason": r} for t, s, e, r in steps
        )
    marks = ({"t": 5.0, "label": "DELETE sent"}, {"t": 12.0, "label": "tunnel initiated again"}) if loss else ()
    return Timeline(
        "Sessions between the gateway devices and their IPsec connections", lanes, marks, 20.0 if loss else 0.5
    )


def spread(policy: int = 1, seeds: int = 20, seed: int = 1) -> Spread:
    chance = random.Random(seed)
    counts: dict[str, dict[str, tuple[int, ...]]] = {}
    p_values: dict[str, tuple[float, ...]] = {}
    effective: dict[str, dict[str, float]] = {}
    for direction in ("to-vpc", "to-dc"):
        flows = [0, 0, 0]
        for _ in range(3072):
            flows[chance.randrange(3) if policy else chance.choice((0, 0, 0, 2))] += 1
        packets = [n * 24 + chance.randrange(400) for n in flows]
        octets = [n * 812 + chance.randrange(9000) for n in packets]
        counts[direction] = {
            "flows": tuple(flows),
            "packets": tuple(packets),
            "bytes": tuple(octets),
            "sa_bytes": tuple(n + 7300 for n in octets),
        }
        effective[direction] = {"packets": 2412.0, "bytes": 2105.0, "sa_bytes": 2105.0}
        p_values[direction] = tuple(chance.random() ** (1 if policy else 40) for _ in range(seeds))
    title = "3,072 flows in each direction, hash policy 1" if policy else "The same flows with hash policy 0"
    return Spread(title, CONNECTIONS, counts, policy, tuple(range(1, seeds + 1)), p_values, effective)


def failover(resilient: bool = True) -> Failover:
    chance = random.Random(7)
    series: dict[str, tuple[tuple[float, float], ...]] = {}
    for i, connection in enumerate(CONNECTIONS):
        points = []
        for tick in range(400):
            t = tick * 0.05
            down = 5.0 <= t < 12.1
            rate = 0.0 if down and i == 1 else 3600.0 if down and t > 5.35 else 2400.0
            points.append((t, max(0.0, rate + (chance.gauss(0, 70) if rate else 0))))
        series[connection] = tuple(points)
    return Failover(
        "DELETE sent on tunnel 2 under traffic" if resilient else "The same loss with a plain next-hop group",
        CONNECTIONS,
        series,
        ({"t": 5.0, "label": "DELETE sent"}, {"t": 5.31, "label": "noticed"}, {"t": 12.1, "label": "three ways again"}),
        (
            {"t": 5.0007, "node": "vpn2", "by": "SA", "text": "CHILD_SA deleted by the peer; line protocol down"},
            {
                "t": 5.0061,
                "node": "tr-hangzhou",
                "by": "kernel",
                "text": "3 routes lost one next hop of three (in place)",
            },
            {
                "t": 5.3127,
                "node": "gw2",
                "by": "SA",
                "text": "retransmit limit reached, CHILD_SA removed; BGP session Idle",
            },
        ),
        {
            "kept": 2043,
            "moved": 1029,
            "moved though surviving": 0 if resilient else 671,
            "lost packets on kept flows": 0,
            "lost packets on moved flows": 412,
        },
        {"IPsec connection 2, data centre → VPC": 0.3127, "IPsec connection 2, VPC → data centre": 0.0061},
    )


def stages(total: float = 1.62) -> Stages:
    cuts = (
        ("imports", 0.19),
        ("sandbox", 0.24),
        ("namespaces, links, addresses", 0.41),
        ("daemons forked", 0.47),
        ("IKE: three tunnels", 0.63),
        ("BGP: ten sessions", 0.71),
        ("five tables correct", 0.94),
        ("pings through", 1.0),
    )
    ends = [0.0, *(share * total for _, share in cuts)]
    return Stages(
        "From the exec of the command",
        tuple((n, a, b) for (n, _), (a, b) in zip(cuts, itertools.pairwise(ends), strict=True)),
    )


def values() -> Values:
    rows = [
        ("IKE version", "2", "2"),
        ("IKE encryption", "AES_CBC_128", "AES_CBC_128"),
        ("IKE integrity", "HMAC_SHA1_96", "HMAC_SHA1_96"),
        ("Key exchange", "MODP_2048", "MODP_2048"),
        ("ESP integrity", "HMAC_SHA1_96", "HMAC_SHA1_96"),
        ("SA age", "0.8 s", ""),
    ]
    return Values("Negotiated on IPsec connection 2", tuple(rows))


def sequence() -> Sequence:
    """A session that starts, goes on, and is ended."""

    def step(t: float, sender: int, kind: str, title: str, *details: str) -> dict[str, Any]:
        return {"t": t, "sender": sender, "kind": kind, "title": title, "details": details}

    steps = (
        step(0.0, 0, "tcp", "SYN"),
        step(0.0001, 1, "tcp", "SYN, ACK"),
        step(0.0002, 0, "tcp", "ACK"),
        step(0.001, 0, "bgp", "OPEN AS 65530, hold 90 s, 192.0.2.1", "version 4", "my AS 65530"),
        step(0.002, 1, "bgp", "OPEN AS 65531, hold 90 s, 192.0.2.2", "version 4", "my AS 65531"),
        step(0.003, 0, "bgp", "KEEPALIVE"),
        step(0.003, 1, "bgp", "KEEPALIVE"),
        step(1.0, 0, "fold", "12 KEEPALIVE in 60.000 s"),
        step(61.0, 1, "note", "19 octets are not in the capture"),
        step(62.0, 1, "bgp", "NOTIFICATION 6/2 Cease / Administrative Shutdown"),
        step(62.001, 1, "tcp", "FIN"),
    )
    ends = ("192.0.2.1:40123", "192.0.2.2:179")
    return Sequence("gw1 and vpn1: start and end", ends, steps, "files/ipsec-ecmp/internet.pcap")


def grid() -> Grid:
    """Two rows of a table of states."""
    rows = (("Idle", "start", "Connect", "0.001 → SYN"), ("Connect", "TCP connection fails", "Active", "0.002 ← RST"))
    return Grid("A table of states", ("State", "What happens", "Next state", "Packets"), rows, "← from the data centre")


def outages() -> Outages:
    """Twenty cuts for each of three variants, around what their timers lead to."""
    chance = random.Random(5)
    expected = {"hold time 3 s": (2.0, 3.0), "BFD 3 x 300 ms": (0.6, 0.9), "BFD 3 x 50 ms": (0.1, 0.15)}
    samples = {name: tuple(chance.uniform(low, high) for _ in range(20)) for name, (low, high) in expected.items()}
    return Outages("Outage after a cut inside the line", samples, expected)
