"""Sequence charts from captures: the document's start and end, imperfect captures, and tshark's reading of the same file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bgp.attributes import LargeCommunity
from harness.bgp.capabilities import (
    AddPath,
    AddPathFamily,
    Capability,
    FourOctetAs,
    Multiprotocol,
    RouteRefreshCapability,
)
from harness.bgp.messages import KEEPALIVE_WIRE, Notification, Open, RouteRefresh, encode
from harness.bgp.prefixes import Family, from_network, with_path_id
from harness.bgp.session import Session
from harness.bgp.update import Update, end_of_rib
from harness.sequence import chart
from tests.bgp.routes import attributes
from tests.sequence.wire import ACK, BEGAN, PSH, RST, Wire
from tests.test_project import TOP

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
HOP = bytes((10, 0, 0, 1))


def hello(asn: int, last: int, *more: Capability) -> bytes:
    capabilities = (Multiprotocol(1, 1), Multiprotocol(2, 1), RouteRefreshCapability(), FourOctetAs(asn), *more)
    return encode(Open.of(asn, 90, IPv4Address(f"10.0.0.{last}"), capabilities))


SESSION = Session(asn4=True, families=frozenset(Family))
MADE = attributes(4200000001, 65530, med=7, communities=(65531 << 16 | 100,), large=(LargeCommunity(1, 2, 3),))
ROUTES = encode(Update({V4: [from_network(f"10.{n}.0.0/16") for n in range(5)]}, {}, MADE, {V4: HOP}), SESSION)
GONE = encode(Update({}, {V4: [from_network("10.1.0.0/16"), from_network("10.2.0.0/16")]}), SESSION)
ROUTES6 = encode(
    Update({V6: [from_network("2001:db8::/32")]}, {}, MADE, {V6: IPv4Address("10.0.0.1").packed.rjust(16, b"\xfd")}),
    SESSION,
)
BYE = encode(Notification.cease(2, "good night"))


def documented(*, ipv6: bool = False) -> Wire:
    """What the document draws: TCP, OPEN, OPEN, KEEPALIVE, KEEPALIVE, UPDATE; NOTIFICATION, TCP close."""
    wire = Wire(ipv6=ipv6)
    wire.open()
    wire.say(0, hello(4200000001, 1))
    wire.say(1, hello(65530, 2) + KEEPALIVE_WIRE)
    wire.say(0, KEEPALIVE_WIRE)
    wire.say(0, ROUTES + end_of_rib(V4))
    for _ in range(20):
        wire.say(0, KEEPALIVE_WIRE)
        wire.say(1, KEEPALIVE_WIRE)
    wire.say(0, GONE + ROUTES6)
    wire.say(1, encode(RouteRefresh(1, 1)))
    wire.say(1, BYE)
    wire.close(1)
    return wire


START = ["> SYN", "< SYN, ACK", "> ACK", "> OPEN", "< OPEN", "< KEEPALIVE", "> KEEPALIVE", "> UPDATE", "> UPDATE"]
END = ["< NOTIFICATION", "< FIN", "> FIN"]


@pytest.mark.spec("BGP-2")
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_start_and_end_as_the_document_draws_them(tmp_path: Path, ipv6: bool) -> None:
    (exchange,) = chart.of_file(documented(ipv6=ipv6).write(tmp_path / "f.pcapng"))
    assert exchange.ends == (("[fd00::1]:40123", "[fd00::2]:179") if ipv6 else ("10.0.0.1:40123", "10.0.0.2:179"))
    words = chart.words(exchange)
    assert words[: len(START)] == START
    assert words[-len(END) :] == END
    shown = chart.folded(exchange)
    assert len(shown.steps) < 25
    (fold,) = [step for step in shown.steps if step.kind == "fold"]
    assert "KEEPALIVE" in fold.title
    assert exchange.began == BEGAN + 1_000_000
    assert [step.time for step in exchange.steps] == sorted(step.time for step in exchange.steps)


def test_the_text(tmp_path: Path) -> None:
    (exchange,) = chart.of_file(documented().write(tmp_path / "f.pcapng"))
    text = list(chart.lines(chart.folded(exchange)))
    assert text[0].split() == ["10.0.0.1:40123", "10.0.0.2:179"]
    assert text[1].startswith("  0.000000 |-- SYN ---")
    assert text[1].endswith("->|")
    assert "<---" in text[2]
    assert "-- OPEN AS 4200000001, hold 90 s, 10.0.0.1 ---" in text[4]
    assert "NOTIFICATION 6/2 Cease / Administrative Shutdown --|" in text[-3]
    assert len({len(line) for line in text}) == 1
    decoded = "\n".join(chart.lines(exchange, decoded=True))
    for field in ("my AS 23456", "capability 4-octet AS number: 4200000001", "AS_PATH 4200000001 65530", "MULTI_EXIT_DISC 7",
                  "announced 10.4.0.0/16", "withdrawn 10.2.0.0/16", "LARGE_COMMUNITIES 1:2:3", '"good night"',
                  "ROUTE-REFRESH ipv4 unicast", "announced 2001:db8::/32"):  # fmt: skip
        assert field in decoded


def test_path_identifiers_are_read_as_negotiated(tmp_path: Path) -> None:
    wire = Wire()
    wire.open()
    wire.say(0, hello(65530, 1, AddPath((AddPathFamily(1, 1, False, True),))))
    wire.say(1, hello(65530, 2, AddPath((AddPathFamily(1, 1, True, False),))))
    slices = [with_path_id(7, from_network("10.0.0.0/8"))]
    wire.say(0, KEEPALIVE_WIRE + encode(Update({V4: slices}, {}, MADE, {V4: HOP}), SESSION))
    wire.say(1, KEEPALIVE_WIRE + GONE)
    (exchange,) = chart.of_file(wire.write(tmp_path / "f.pcapng"))
    titles = [step.title for step in exchange.steps]
    assert "UPDATE +10.0.0.0/8#7" in titles
    assert "UPDATE -10.1.0.0/16, 10.2.0.0/16" in titles


# -------------------------------------------------------------------------------------------------- captures as they come


def test_the_older_format_reads_the_same(tmp_path: Path) -> None:
    wire = documented()
    (expected,) = chart.of_file(wire.write(tmp_path / "new"))
    for order, fine in (("<", False), (">", False), ("<", True), (">", True)):
        assert chart.of_file(wire.write_old(tmp_path / "old", order, fine)) == [expected]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_cut_repeated_and_reordered_segments_change_nothing(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The stream counts, not how it was cut: any cuts, any packet twice, neighbours exchanged."""
    octets = hello(65530, 1) + KEEPALIVE_WIRE + ROUTES + GONE
    wire = Wire()
    wire.open()
    wire.say(1, hello(65530, 2) + KEEPALIVE_WIRE)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(octets) - 1), max_size=8)))
    frames = [wire.packet(0, ACK, octets[a:b]) for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    for at in data.draw(st.lists(st.integers(0, len(frames) - 1), max_size=3)):
        frames.insert(at, frames[at])
    for at in data.draw(st.lists(st.integers(0, max(len(frames) - 2, 0)), max_size=3)):
        if at + 1 < len(frames):
            frames[at], frames[at + 1] = frames[at + 1], frames[at]
    wire.put(*frames)
    folder = tmp_path_factory.mktemp("cuts")
    (exchange,) = chart.of_file(wire.write(folder / "f"))
    said = [step.title.split()[0] for step in exchange.steps if step.kind == "bgp" and step.sender == 0]
    assert said == ["OPEN", "KEEPALIVE", "UPDATE", "UPDATE"]
    assert not [step for step in exchange.steps if step.kind == "note"]


def test_octets_that_the_capture_lacks_are_told_and_reading_goes_on(tmp_path: Path) -> None:
    wire = Wire()
    wire.open()
    wire.say(0, hello(65530, 1))
    wire.say(1, hello(65530, 2) + KEEPALIVE_WIRE)
    wire.packet(0, ACK, KEEPALIVE_WIRE + ROUTES[:50])  # never captured
    wire.say(0, ROUTES[50:] + KEEPALIVE_WIRE)
    wire.say(1, KEEPALIVE_WIRE)
    wire.say(0, GONE)
    (exchange,) = chart.of_file(wire.write(tmp_path / "f"))
    titles = [step.title for step in exchange.steps]
    assert f"{19 + 50} octets are not in the capture" in titles
    assert titles[-1] == "UPDATE -10.1.0.0/16, 10.2.0.0/16"


def test_a_capture_that_begins_late_finds_the_next_message(tmp_path: Path) -> None:
    wire = Wire()
    wire.say(1, ROUTES[60:] + KEEPALIVE_WIRE)
    wire.say(0, ROUTES)
    (exchange,) = chart.of_file(wire.write(tmp_path / "f"))
    assert exchange.ends[1].endswith(":179")
    assert chart.words(exchange) == ["< KEEPALIVE", "> UPDATE"]
    assert "AS_PATH 4200000001 65530" in exchange.steps[-1].details


def test_a_connection_that_is_reset_and_one_that_follows_on_the_same_ports(tmp_path: Path) -> None:
    wire = Wire()
    wire.open()
    wire.say(0, hello(65530, 1))
    wire.put(wire.packet(1, RST | ACK))
    wire.next[0] = 5000
    wire.open()
    wire.say(0, hello(65530, 1))
    first, second = chart.of_file(wire.write(tmp_path / "f"))
    assert chart.words(first)[-1] == "< RST"
    assert chart.words(second) == ["> SYN", "< SYN, ACK", "> ACK", "> OPEN"]


def test_octets_that_are_no_bgp_are_told_once(tmp_path: Path) -> None:
    wire = Wire()
    wire.open()
    wire.say(0, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n" * 3)
    wire.say(0, b"\r\n" * 30)
    (exchange,) = chart.of_file(wire.write(tmp_path / "f"))
    (step,) = [step for step in exchange.steps if step.kind == "bgp"]
    assert "Connection Not Synchronized" in " ".join(step.details)


# ------------------------------------------------------------------------------------------------------- somebody else's eyes

FIELDS = (
    "bgp.type",
    "bgp.open.holdtime",
    "bgp.nlri_prefix",
    "bgp.withdrawn_prefix",
    "bgp.notify.major_error",
    "bgp.update.path_attribute.multi_exit_disc",
)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed; apt-get install tshark")
def test_tshark_reads_the_same_messages(tmp_path: Path) -> None:
    """Sender, type, hold time, prefixes and errors of every message, in the capture's order."""
    path = documented().write(tmp_path / "f.pcapng")
    columns = [word for name in ("ip.src", *FIELDS) for word in ("-e", name)]
    done = subprocess.run(
        ["tshark", "-r", str(path), "-Y", "bgp", "-T", "fields", "-E", "aggregator=;", *columns],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    theirs: dict[str, list[str]] = {name: [] for name in FIELDS}
    senders: list[tuple[str, str]] = []
    for line in done.stdout.splitlines():
        source, *values = line.split("\t")
        for name, value in zip(FIELDS, values, strict=True):
            theirs[name] += [v for v in value.split(";") if v]
        senders += [(source, kind) for kind in values[0].split(";")]
    (exchange,) = chart.of_file(path)
    messages = [step for step in exchange.steps if step.kind == "bgp"]
    assert senders == [(f"10.0.0.{step.sender + 1}", str(step.type)) for step in messages]
    details = [detail for step in messages for detail in step.details]

    def after(word: str) -> list[str]:
        return [detail.removeprefix(word).partition("/")[0] for detail in details if detail.startswith(word)]

    assert theirs["bgp.open.holdtime"] == [value.removesuffix(" s") for value in after("hold time ")]
    assert theirs["bgp.nlri_prefix"] == [name for name in after("announced ") if ":" not in name]
    assert theirs["bgp.withdrawn_prefix"] == after("withdrawn ")
    assert theirs["bgp.notify.major_error"] == ["6"]
    assert theirs["bgp.update.path_attribute.multi_exit_disc"] == after("MULTI_EXIT_DISC ")


# ------------------------------------------------------------------------------------------------------------- the command


def vbrlab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "sequence", *words], cwd=TOP, capture_output=True, text=True, timeout=60
    )


def test_the_command(tmp_path: Path) -> None:
    wire = documented()
    wire.put(wire.packet(0, PSH | ACK, b""))
    path = str(wire.write(tmp_path / "f.pcapng"))
    done = vbrlab(path)
    assert done.returncode == 0
    assert "-- SYN ---" in done.stdout
    (read,) = json.loads(vbrlab(path, "--json", "--all").stdout)
    assert [step["type"] for step in read["steps"]].count(4) == 42
    done = vbrlab(path, "-o", str(tmp_path / "f.svg"))
    assert done.returncode == 0
    svg = (tmp_path / "f.svg").read_text()
    assert svg.startswith("<svg")
    assert "NOTIFICATION 6/2" in svg
    done = vbrlab(str(tmp_path / "f.svg"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "this is neither pcap nor pcapng" in done.stderr
    assert vbrlab(path, "--port", "1179").returncode == 1
    assert "there is no number 3" in vbrlab(path, "-n", "3").stderr
