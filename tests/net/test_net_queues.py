"""Queues of a link: what the kernel is told, that it does it, and what is said where it cannot."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from pyroute2.netlink.rtnl.tcmsg.common import percent2u32

from harness.impairment import CLEAR, Impairment
from harness.net import queues
from harness.net.mininet import LabError, LabNet
from harness.net.netlink import attributes
from harness.net.qdisc import netem, token_bucket
from harness.net.requests import TCMSG
from harness.net.stock import TCLink
from harness.probe import FEATURES
from tests.net.sandboxed import inside
from tests.net.test_net_mininet import Star

EVERYTHING = Impairment(delay_ms=40, jitter_ms=5, loss_percent=1, rate_mbit=10)


def test_netem_as_pkt_sched_h_lays_it_out() -> None:
    """struct tc_netem_qopt, then TCA_NETEM_LATENCY64 (10) and TCA_NETEM_JITTER64 (11) in nanoseconds."""
    body = netem(7, delay_ms=40, jitter_ms=2.5, loss_percent=25).body
    _family, ifindex, handle, parent, _info = TCMSG.unpack_from(body)
    assert (ifindex, handle, parent) == (7, 0x10000, 0xFFFFFFFF)
    told = attributes(body, TCMSG.size)
    assert told[1] == b"netem\0"
    latency, limit, loss, gap, duplicate, jitter = struct.unpack_from("=6I", told[2])
    assert (latency, gap, duplicate, jitter) == (0, 0, 0, 0)
    assert limit == 1 << 24
    assert loss == 1 << 30
    assert {kind: struct.unpack("=q", value)[0] for kind, value in attributes(told[2], 24).items()} == {
        10: 40_000_000,
        11: 2_500_000,
    }


@pytest.mark.parametrize("percent", [0.1, 1, 50, 100])
def test_a_loss_is_the_fraction_that_pyroute2_makes_of_it(percent: float) -> None:
    told = attributes(netem(1, loss_percent=percent).body, TCMSG.size)
    (ours,) = struct.unpack_from("=I", told[2], 8)
    assert ours == pytest.approx(percent2u32(percent), abs=1)


def shape(before: Impairment, after: Impairment) -> list[tuple[str, int, int]]:
    """Each request by its kind, its type and its parent."""
    found = []
    for request in queues.requests(3, before, after):
        kind = attributes(request.body, TCMSG.size).get(1, b"").rstrip(b"\0").decode()
        found.append((kind, int(request.type), TCMSG.unpack_from(request.body)[3]))
    return found


ROOT, INSIDE, NEW, DELETE = 0xFFFFFFFF, 0x10001, 36, 37


@pytest.mark.parametrize(
    ("before", "after", "asked"),
    [
        (CLEAR, CLEAR, []),
        (CLEAR, Impairment(rate_mbit=1), [("tbf", NEW, ROOT)]),
        (CLEAR, Impairment(delay_ms=1), [("netem", NEW, ROOT)]),
        (CLEAR, EVERYTHING, [("netem", NEW, ROOT), ("tbf", NEW, INSIDE)]),
        (EVERYTHING, CLEAR, [("", DELETE, ROOT)]),
        (Impairment(rate_mbit=1), Impairment(rate_mbit=2), [("tbf", NEW, ROOT)]),
        (EVERYTHING, Impairment(loss_percent=3, rate_mbit=2), [("netem", NEW, ROOT), ("tbf", NEW, INSIDE)]),
        (EVERYTHING, Impairment(rate_mbit=2), [("", DELETE, ROOT), ("tbf", NEW, ROOT)]),
        (Impairment(rate_mbit=2), EVERYTHING, [("", DELETE, ROOT), ("netem", NEW, ROOT), ("tbf", NEW, INSIDE)]),
    ],
)
def test_queues_change_in_place_where_they_are_the_same(
    before: Impairment, after: Impairment, asked: list[tuple[str, int, int]]
) -> None:
    assert shape(before, after) == asked


def test_a_rate_over_what_32_bits_hold() -> None:
    options = attributes(attributes(token_bucket(1, rate_mbit=50_000).body, TCMSG.size)[2])
    assert struct.unpack("=Q", options[4])[0] == 6_250_000_000


def test_a_missing_queue_is_named_with_the_kernels_reason_and_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "lacking", lambda kind: "Specified qdisc kind is unknown" if kind == "netem" else None)
    assert queues.refusal(Impairment(rate_mbit=10)) is None
    why = queues.refusal(EVERYTHING)
    remedy = next(feature.remedy for feature in FEATURES if feature.name == "netem")
    assert why == (
        "delay 40 ms, jitter 5 ms, loss 1 % needs the kernel's netem queues, which are not here (Specified qdisc kind is unknown); give a "
        f"rate alone, which needs none, or take {remedy}"
    )


def test_a_kernel_without_tbf_refuses_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "lacking", lambda kind: "Operation not supported" if kind == "tbf" else None)
    assert queues.refusal(Impairment(delay_ms=10)) is None
    assert "rate 10 Mbit/s needs the kernel's tbf queues" in str(queues.refusal(EVERYTHING))
    assert "leave the rate out" in str(queues.refusal(EVERYTHING))


def shown(node: Any, interface: str) -> str:
    """The queues of an interface in tc's words."""
    return str(node.pexec(f"tc qdisc show dev {interface}")[0])


#: Sends UDP as fast as it can for a second; prints how long that was.
FLOOD = """
import socket, sys, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.connect((sys.argv[1], 9))
start = time.monotonic()
while time.monotonic() < start + 1.0:
    try:
        sender.send(bytes(1372))
    except OSError:  # what the other end, where nobody listens, has answered
        pass
print(time.monotonic() - start)
"""


def received(node: Any, interface: str) -> int:
    """Octets that have come in by an interface, from the namespace's own list."""
    text = node.pexec("cat /proc/thread-self/net/dev")[0]
    return int(next(line for line in text.splitlines() if f"{interface}:" in line).partition(":")[2].split()[0])


@inside
def test_links_by_mininets_words_and_their_change() -> None:
    """TCLink's parameters through addLink, each end its own; config() at run time, as TCIntf has it; then none."""
    net = LabNet(Star(1), link=TCLink)
    c0, h0 = net.get("c0", "h0")
    link = net.addLink("c0", "h0", params1={"ip": "172.16.0.1/24", "bw": 20}, params2={"ip": "172.16.0.2/24", "bw": 5})
    assert "rate 20Mbit" in shown(c0, link.intf1.name)
    assert "rate 5Mbit" in shown(h0, link.intf2.name)
    link.intf1.config(bw=50)
    assert "rate 50Mbit" in shown(c0, link.intf1.name)
    assert c0.pexec("ping -c1 -W1 172.16.0.2")[2] == 0
    link.intf1.config(bw="none")
    assert "tbf" not in shown(c0, link.intf1.name)
    with pytest.raises(LabError, match="node c0: interface c0-eth1: a rate of 0 Mbit/s is not in"):
        link.intf1.config(bw=0)
    with pytest.raises(LabError, match="max_queue_size: a link here has bw, delay, jitter and loss"):
        net.addLink("c0", "h0", max_queue_size=10)
    net.addLink("c0", "h0", params1={"ip": "172.17.0.1/24"}, params2={"ip": "172.17.0.2/24"})
    assert c0.pexec("ping -c1 -W1 172.17.0.2")[2] == 0
    assert len(h0.rtnl.links()) == 4, "a link that was refused was not made with the next one"
    net.stop()


@inside
def test_a_rate_holds() -> None:
    """A flood of UDP for a second arrives at 10 Mbit/s, and not slower; the queue of 50 ms and the bucket come on top."""
    net = LabNet(Star(1))
    c0, h0 = net.get("c0", "h0")
    h0.intf().impair(Impairment(rate_mbit=10))
    before = received(c0, "c0-eth0")
    seconds = float(h0.pexec(["python3", "-c", FLOOD, c0.IP()])[0])
    octets = received(c0, "c0-eth0") - before
    assert 0.7 * 1_250_000 * seconds < octets < 1_250_000 * (seconds + 0.5) + 80_000
    net.stop()


@inside
def test_delay_jitter_and_loss() -> None:
    if (why := queues.lacking("netem")) is not None:
        pytest.skip(f"no netem queues: {why}")
    net = LabNet(Star(1))
    c0, h0 = net.get("c0", "h0")
    h0.intf().impair(EVERYTHING)
    text = shown(h0, "h0-eth0")
    assert "delay 40ms  5ms loss 1%" in text and "rate 10Mbit" in text and "parent 1:1" in text
    c0.intf().impair(Impairment(delay_ms=20))
    answer = c0.pexec(f"ping -c5 -i0.05 -W5 {h0.IP()}")[0]
    assert 54 <= float(answer.rpartition("= ")[2].split("/")[0]) < 120
    h0.intf().impair(Impairment(loss_percent=100))
    started = time.monotonic()
    assert c0.pexec(f"ping -c3 -i0.05 -W1 {h0.IP()}")[2] != 0
    assert time.monotonic() - started < 20
    c0.intf().impair(CLEAR)
    h0.intf().impair(CLEAR)
    assert "netem" not in shown(h0, "h0-eth0")
    assert c0.pexec(f"ping -c1 -W1 {h0.IP()}")[2] == 0
    net.stop()


@inside
def test_a_delay_that_the_kernel_cannot_make_changes_nothing() -> None:
    if queues.lacking("netem") is None:
        pytest.skip("this kernel has netem")
    net = LabNet(Star(1))
    h0 = net["h0"]
    h0.intf().impair(Impairment(rate_mbit=10))
    with pytest.raises(LabError, match=r"node h0: interface h0-eth0: delay 5 ms needs the kernel's netem queues"):
        h0.intf().config(delay="5ms")
    assert "rate 10Mbit" in shown(h0, "h0-eth0")
    with pytest.raises(LabError, match="netem"):
        net.addLink("c0", "h0", delay="5ms", loss=1)
    net.stop()
