"""``vbrlab up`` as a user has it: a prompt on a terminal, words of a router, other terminals that join, and an end."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.capture.pcapng import packets
from harness.net import sandbox
from harness.probe import probe

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

PROJECT = Path(__file__).parent.parent
VBRLAB = [sys.executable, "-m", "harness.cli"]


class Terminal:
    """A command on a terminal of its own, read and typed to."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(PROJECT)
            os.execv(argv[0], argv)
        self.seen = ""
        self._read_to = 0

    def expect(self, text: str, within: float = 40.0) -> str:
        """Reads until ``text`` comes; what came before it since the last time."""
        deadline = time.monotonic() + within
        while (at := self.seen.find(text, self._read_to)) < 0:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come within {within} s:\n{self.seen}"
            self.seen += os.read(self._fd, 65536).decode(errors="replace")
        before, self._read_to = self.seen[self._read_to : at], at + len(text)
        return before

    def say(self, line: str) -> None:
        os.write(self._fd, line.encode())

    def status(self) -> int:
        """The exit status, the terminal read to its end."""
        while True:
            try:
                self.seen += os.read(self._fd, 65536).decode(errors="replace")
            except OSError:
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def vbrlab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VBRLAB, *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def up() -> Iterator[Terminal]:
    if why := sandbox.refusal():
        pytest.skip(f"no sandbox can be made here: {why}")
    if probe().dataplane().plane is None:
        pytest.skip(f"no IPsec data plane: {probe().dataplane().reason}")
    if missing := [program for program in ("ping", "ip") if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    terminal = Terminal([*VBRLAB, "up", "ipsec-ecmp"])
    terminal.expect("ipsec-ecmp> ")
    yield terminal
    terminal.say("\x04")
    assert terminal.status() == 0
    assert f"-{terminal.pid}" not in str(sandbox.running())


def name(up: Terminal) -> str:
    """This lab and no other of the same scenario that may run on the machine."""
    return f"ipsec-ecmp-{up.pid}"


def test_progress_and_tables_come_first(up: Terminal) -> None:
    shown = up.seen.replace("\r\n", "\n")
    assert "✓ 17 nodes, 20 links, their daemons" in shown
    assert "192.168.2.0/24          VPN connection 3 (IPsec connection 3)  Auto-learned" in shown


def test_a_line_runs_in_a_node_even_one_with_a_hyphen(up: Terminal) -> None:
    up.say("tr-hangzhou ip -brief link\n")
    assert "shanghai@" in up.expect("ipsec-ecmp> ")


def test_help_is_about_this_prompt(up: Terminal) -> None:
    up.say("help\n")
    shown = up.expect("ipsec-ecmp> ")
    assert "NODE show WORD     asks its daemon; WORD is bgp, summary" in shown
    assert "mininet>" not in shown


@pytest.mark.spec("ECMP-42")
def test_what_security_groups_refuse(up: Terminal) -> None:
    if probe().missing("packet-filter"):
        pytest.skip("no nf_tables with connection tracking")
    up.say("refused\n")
    up.expect("no security group has refused anything")
    up.expect("ipsec-ecmp> ")
    up.say("gw1 ping -c 1 -W 0.3 -I 192.168.50.216 10.0.0.1\n")
    up.expect("ipsec-ecmp> ")
    up.say("refused\n")
    up.expect(
        "security group ecs-security-group refuses icmp from 192.168.50.216 (1 packet): no inbound rule lets it in"
    )
    up.expect("ipsec-ecmp> ")


def test_show_bgp(up: Terminal) -> None:
    up.say("tr-hangzhou show bgp\n")
    shown = up.expect("5 prefixes, 11 paths")
    assert "65531 65530" in shown
    up.say("gw1 show tunnel\n")
    assert '"state": "up"' in up.expect('"charon"')


def test_exec_joins_from_another_terminal(up: Terminal) -> None:
    done = vbrlab("exec", name(up), "gw2", "--", "ip", "-j", "-4", "address", "show", "dev", "ipsec0")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["addr_info"][0]["local"] == "169.254.11.2"
    assert vbrlab("exec", name(up), "gw2", "--", "sh", "-c", "exit 7").returncode == 7
    wrong = vbrlab("exec", name(up), "gw9", "--", "true")
    assert wrong.returncode == 1
    assert "no node 'gw9'; there are dc-client0" in wrong.stderr


def test_capture_joins_and_ends_on_ctrl_c(up: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "gw1.pcapng"
    capture = Terminal([*VBRLAB, "capture", name(up), "gw1", "ipsec0", "-w", str(file)])
    capture.expect("capturing on gw1:ipsec0")
    assert vbrlab("exec", name(up), "gw1", "--", "ping", "-c2", "-i0.1", "169.254.10.1").returncode == 0
    capture.say("\x03")
    capture.expect("0 dropped by the kernel")
    assert capture.status() == 0
    with file.open("rb") as pcap:
        assert len(list(packets(pcap))) >= 4


def test_a_second_lab_beside_it_disturbs_nothing(up: Terminal) -> None:
    """Two runs at once: the other one checks its own tables and pings, and this one's are as before."""
    other = vbrlab("up", "ipsec-ecmp", "--check")
    assert other.returncode == 0, other.stdout + other.stderr
    assert "9 of 9 tables as in the document, 3 of 3 pings answered" in other.stdout
    up.say("ecs ping -c1 -W1 192.168.0.10\n")
    up.expect("1 received")


@pytest.mark.usefixtures("up")
def test_a_lab_that_does_not_run_is_named() -> None:
    wrong = vbrlab("exec", "no-such-lab", "gw1", "--", "true")
    assert wrong.returncode == 1
    assert "no lab 'no-such-lab' is running" in wrong.stderr


def test_ctrl_c_at_the_prompt_ends_no_lab(up: Terminal) -> None:
    up.say("\x03")
    up.expect("Interrupt")
    up.expect("ipsec-ecmp> ")
    up.say("gw1 echo still here\n")
    up.expect("still here")
    up.expect("still here")
