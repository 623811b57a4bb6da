"""Windows, series and paths over packet logs; counters and how they may differ."""

from __future__ import annotations

import json

import pytest

from harness.traffic.counters import Counters, CountersDisagree, NoSuchInterface, assert_agreement, parse, read
from harness.traffic.flows import Direction
from harness.traffic.observations import Observations, SplitFlow, Window


def _seen() -> Observations:
    """Flow 1 on vpn1 until 2.0, then on vpn2; flow 2 on vpn2 all along; one packet each half second, both directions."""
    seen = Observations(["vpn1", "vpn2"])
    for step in range(8):
        now = step * 0.5
        for flow, tunnel in ((1, "vpn1" if now < 2.0 else "vpn2"), (2, "vpn2")):
            for direction in Direction:
                log = seen.logs[tunnel][direction]
                log.times.append(now + flow / 100)
                log.flows.append(flow)
                log.lengths.append(100 * flow)
    return seen


def test_window_is_half_open() -> None:
    window = _seen().window(0.01, 2.01)
    assert window.shares["vpn1"][Direction.TO_VPC].packets == 4
    assert window.tunnel_of(Direction.TO_VPC) == {1: "vpn1", 2: "vpn2"}
    assert window.measure(Direction.TO_DC) == {"flows": (1, 1), "packets": (4, 4), "bytes": (400, 800)}


def test_windows_show_the_move() -> None:
    seen = _seen()
    assert seen.window(2.0, 4.0).tunnel_of(Direction.TO_DC) == {1: "vpn2", 2: "vpn2"}
    whole = seen.window(0.0, 5.0)
    assert whole.paths(Direction.TO_DC) == {1: ("vpn2", "vpn1"), 2: ("vpn2",)}
    with pytest.raises(SplitFlow, match="flow 1 used vpn2 and vpn1 to-dc"):
        whole.tunnel_of(Direction.TO_DC)


def test_window_survives_json() -> None:
    window = _seen().window(0.0, 4.0)
    assert Window.from_dict(json.loads(json.dumps(window.to_dict()))) == window


def test_series_counts_every_packet_once() -> None:
    series = _seen().series(0.0, 4.0, 1.0)
    assert series["vpn1"][Direction.TO_VPC] == ((0.0, 2, 200), (1.0, 2, 200), (2.0, 0, 0), (3.0, 0, 0))
    assert [packets for _t, packets, _b in series["vpn2"][Direction.TO_VPC]] == [2, 2, 4, 4]


DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
ipsec0:    4000      40    1    2    0     0          0         0     3000      30    4    3    0     0       0          0
"""


def test_counters_of_proc_net_dev() -> None:
    assert parse(DEV, "ipsec0") == Counters(40, 4000, 30, 3000, 3, 7)
    with pytest.raises(NoSuchInterface, match="'ipsec1'"):
        parse(DEV, "ipsec1")
    assert read("lo").in_packets >= 0


INTERFACE = Counters(in_packets=40, in_bytes=4000, out_packets=30, out_bytes=3000, in_dropped=0, out_dropped=2)


@pytest.mark.spec("ECMP-23")
def test_counters_that_agree() -> None:
    assert_agreement("vpn1", INTERFACE, sa=Counters(40, 4000, 30, 3000), meter=Counters(40, 4000, 32, 3200))
    assert_agreement("vpn1", INTERFACE, sa=Counters(40, 4000, 28, 2800), unprotected=2)


@pytest.mark.spec("ECMP-23")
@pytest.mark.parametrize(
    ("sa", "meter", "text"),
    [
        (
            Counters(40, 4000, 29, 2900),
            None,
            "interface to SA, out: 30 packets, 3000 octets against 29, 2900; 1 fewer, 0 accounted for",
        ),
        (Counters(40, 4000, 30, 2999), None, "interface to SA, out"),
        (Counters(39, 3900, 30, 3000), None, "SA to interface, in: 39 packets"),
        (None, Counters(40, 4000, 33, 3300), "meter to interface, out"),
        (None, Counters(39, 3900, 30, 3000), "interface to meter, in"),
    ],
)
def test_counters_that_do_not(sa: Counters | None, meter: Counters | None, text: str) -> None:
    with pytest.raises(CountersDisagree, match=text):
        assert_agreement("vpn1", INTERFACE, sa=sa, meter=meter)


def test_counters_from_their_sources() -> None:
    sa = {"bytes_in": 2, "packets_in": 1, "bytes_out": 4, "packets_out": 3}
    assert Counters.of_sa(sa) == Counters(1, 2, 3, 4)
    meter = {"in_packets": 1, "in_bytes": 2, "out_packets": 3, "out_bytes": 4, "bound": 7, "dropped": 0}
    assert Counters.of_meter(meter) == Counters(1, 2, 3, 4)


def test_difference_of_two_readings() -> None:
    assert Counters(10, 1000, 5, 500, 1, 2) - Counters(4, 400, 5, 500, 1, 0) == Counters(6, 600, 0, 0, 0, 2)
