"""The recorder on a real veth: whole packets, both directions, several nodes in one file, and its filter."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from harness.capture.bpf import IPSEC, UDP, Match
from harness.capture.clear_text import inspect
from harness.capture.pcapng import Loss, network_layer, packets, read
from harness.capture.recorder import CannotCapture, Recorder, Tap
from harness.control import call
from harness.net.namespace import Namespace
from harness.net.rtnl import Rtnl, address, link_get, link_set, veth

pytestmark = pytest.mark.root
_QUIET = {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces, 10.9.0.1 on ``a``'s interface "b" and 10.9.0.2 on ``b``'s interface "a"."""
    with ExitStack() as stack:
        try:
            nodes = [stack.enter_context(Namespace.create(name, _QUIET)) for name in "ab"]
        except OSError as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        tables = [stack.enter_context(Rtnl(node)) for node in nodes]
        tables[0].transact([veth("b", "a", nodes[1].fd)])
        for number, (table, name) in enumerate(zip(tables, "ba", strict=True), 1):
            index = table.link(name).ifindex
            table.transact([link_set(1, up=True), link_set(index, up=True), address(index, f"10.9.0.{number}/24")])
        for table, name in zip(tables, "ba", strict=True):
            table.transact([link_get(table.link(name).ifindex)])  # else the first ARP request may be lost
        yield nodes[0], nodes[1]


def _netns(node: Namespace) -> str:
    return f"/proc/{os.getpid()}/fd/{node.fd}"


def _talk(a: Namespace, b: Namespace, port: int, count: int = 5) -> None:
    with a.socket(socket.AF_INET, socket.SOCK_DGRAM) as left, b.socket(socket.AF_INET, socket.SOCK_DGRAM) as right:
        right.bind(("10.9.0.2", port))
        right.settimeout(2)
        for number in range(count):
            left.sendto(b"%d" % number + bytes(1000), ("10.9.0.2", port))
            data, source = right.recvfrom(2000)
            right.sendto(data[:10], source)


def test_whole_packets_of_both_nodes_in_one_file(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    a, b = pair
    file = tmp_path / "x.pcapng"
    taps = [Tap("a:b", "b", _netns(a)), Tap("b:a", "a", _netns(b))]
    with file.open("wb") as out:
        recorder = Recorder(out, taps, matches=[Match(UDP, 4500)])
        _talk(a, b, 4500)
        _talk(a, b, 4501)
        recorder.mark("second part")
        _talk(a, b, 4500, 1)
        recorder.close()
    entries = list(read(file.open("rb")))
    found = [e for e in entries if not isinstance(e, Loss)]
    assert Counter((p.interface, p.outgoing, p.length) for p in found) == {
        ("a:b", True, 14 + 28 + 1001): 6,
        ("a:b", False, 14 + 28 + 10): 6,
        ("b:a", False, 14 + 28 + 1001): 6,
        ("b:a", True, 14 + 28 + 10): 6,
    }
    assert all(len(p.data) == p.length for p in found)
    assert [e for e in entries if isinstance(e, Loss)] == [Loss("a:b", 12, 0), Loss("b:a", 12, 0)]
    # ESP in UDP 4500 between known ends: nothing to complain of; with other ends, everything.
    assert inspect(found, outer=["10.9.0.1", "10.9.0.2"], inner=[]).violations == ()
    assert len(inspect(found, outer=["10.9.0.1"], inner=["10.9.0.2/32"]).violations) == 24
    if shutil.which("tshark"):
        home = {**os.environ, "HOME": str(tmp_path)}
        command = ["tshark", "-r", str(file), "-Y", "udp.port == 4500"]
        result = subprocess.run(command, capture_output=True, text=True, check=True, env=home)
        assert len(result.stdout.splitlines()) == 24


def test_snaplen_keeps_the_true_length(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    a, b = pair
    with (tmp_path / "x.pcapng").open("w+b") as out:
        recorder = Recorder(out, [Tap("a:b", "b", _netns(a))], snaplen=60)
        _talk(a, b, 9, 1)
        recorder.close()
        out.seek(0)
        kinds = {network_layer(p)[0]: (p.length, len(p.data)) for p in packets(out) if p.outgoing}
    assert kinds[0x0800] == (1043, 60)
    assert kinds[0x0806] == (42, 42)


def test_an_interface_that_is_not_there_is_named(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as out, pytest.raises(CannotCapture, match="a:nothing: No such device"):
        Recorder(out, [Tap("a:nothing", "nothing", _netns(pair[0]))])


def test_recorder_process(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    a, b = pair
    path, file, config = tmp_path / "s", tmp_path / "x.pcapng", tmp_path / "c.json"
    matches = [[m.protocol, m.port] for m in IPSEC]
    config.write_text(
        f'{{"socket": "{path}", "file": "{file}", "matches": {str(matches).replace("None", "null")}, '
        f'"taps": [{{"name": "a:b", "netns": "{_netns(a)}", "interface": "b"}}]}}'
    )
    process = subprocess.Popen([sys.executable, "-m", "harness.capture.recorder", str(config)])
    try:
        while not path.exists():
            assert process.poll() is None
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        _talk(a, b, 500, 3)
        assert call(path, "sync") == {"a:b": {"written": 6, "dropped": 0}}
        call(path, "mark", text="cut")
        _talk(a, b, 500, 1)
        assert call(path, "stop") == {"a:b": {"written": 8, "dropped": 0}}
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()
    assert [p.comment for p in packets(file.open("rb"))] == [""] * 6 + ["cut", ""]


def test_a_capture_that_is_killed_before_its_first_packet_is_a_readable_file(
    pair: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    file = tmp_path / "x.pcapng"
    process = pair[0].popen(
        [sys.executable, "-m", "harness.capture", "a", "b", str(file)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "capturing on a:b" in process.stderr.readline()
    process.kill()
    process.communicate()
    with file.open("rb") as capture:
        assert list(read(capture)) == []
    assert file.stat().st_size > 0
