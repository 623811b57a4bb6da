"""kill -9 at any moment leaves nothing: no process, namespace, interface, mount, or file outside the report's folder.

Looked at from the host, by inode. The labs run from a copy of nothing: the very tree under test, with its output in a temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.ipsec.strongswan import DataPlane
from harness.net import sandbox
from harness.probe import probe

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

PROJECT = Path(__file__).parent.parent
GONE_WITHIN = 3.0
NAMESPACE = re.compile(r"(net|mnt|pid|user|ipc|uts|cgroup|time):\[")


def inode(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_ino
    return None


def processes() -> Iterator[Path]:
    return (path for path in Path("/proc").iterdir() if path.name.isdigit())


@dataclass(frozen=True)
class Host:
    """What a leak would add to."""

    interfaces: frozenset[str]
    mounts: frozenset[str]
    files: frozenset[str]

    @classmethod
    def look(cls, home: Path) -> Host:
        folders = [Path("/run"), home, home / "tmp"]
        return cls(
            frozenset(path.name for path in Path("/sys/class/net").iterdir()),
            frozenset(Path("/proc/self/mounts").read_text().splitlines()),
            frozenset(str(path) for folder in folders for path in folder.iterdir()),
        )


class Running:
    """A lab command on a terminal of its own, with what the kernel holds for it."""

    def __init__(self, argv: list[str], home: Path) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(PROJECT)
            os.environ |= {"HOME": str(home), "TMPDIR": str(home / "tmp")}
            os.execv(sys.executable, [sys.executable, *argv])
        self.seen = ""

    def until(self, text: str, within: float = 40.0) -> None:
        """Reads the terminal until ``text`` has been printed."""
        deadline = time.monotonic() + within
        while text not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} was not printed within {within} s:\n{self.seen}"
            self.seen += os.read(self.terminal, 65536).decode(errors="replace")

    def until_process(self, name: str, within: float = 40.0) -> None:
        """Returns once a process of the sandbox is called ``name...``."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            for path in self.inside():
                with contextlib.suppress(OSError):
                    if (path / "comm").read_text().startswith(name):
                        return
            if select.select([self.terminal], [], [], 0.02)[0]:
                try:
                    self.seen += os.read(self.terminal, 65536).decode(errors="replace")
                except OSError:
                    break
        raise AssertionError(f"no process {name!r} within {within} s:\n{self.seen}")

    def inside(self) -> list[Path]:
        """The processes of the sandbox: those in another PID namespace whose ancestor is the command."""
        own = inode(Path("/proc/self/ns/pid"))
        family, found = {self.pid}, []
        for path in sorted(processes(), key=lambda path: int(path.name)):
            with contextlib.suppress(OSError, IndexError):
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in family:
                    family.add(int(path.name))
                    if inode(path / "ns/pid") != own:
                        found.append(path)
        return found

    def namespaces(self) -> set[int]:
        """Inodes of all namespaces that processes of the sandbox are in or hold open."""
        own = {
            inode(Path(f"/proc/self/ns/{kind}"))
            for kind in ("net", "mnt", "pid", "user", "ipc", "uts", "cgroup", "time")
        }
        held: set[int | None] = set()
        for path in self.inside():
            for link in (*path.glob("ns/*"), *path.glob("fd/*")):
                with contextlib.suppress(OSError):
                    if NAMESPACE.match(str(link.readlink())):
                        held.add(inode(link))
        return {number for number in held - own if number is not None}


def state(process: Path) -> tuple[str, int]:
    """The letter for what a process does, and when it began, in clock ticks since boot."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])


def now() -> int:
    """The kernel's clock in the ticks of :func:`state`."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def holders(namespaces: set[int], begun: range) -> list[str]:
    """The processes of the run's time that are in one of these namespaces or hold one open.

    Earlier and later ones have nothing to do with it: the kernel gives inode numbers again. Neither have zombies: when PID 1 is one, all
    else in its namespace is gone, and how soon the host's init asks for its orphans is the host's affair (in some containers seconds).
    """
    found = []
    for path in processes():
        with contextlib.suppress(OSError):
            letter, since = state(path)
            if letter in "ZX" or since not in begun:
                continue
        for link in (*path.glob("ns/*"), *path.glob("fd/*")):
            with contextlib.suppress(OSError):
                if NAMESPACE.match(str(link.readlink())) and inode(link) in namespaces:
                    found.append(f"{path.name} {(path / 'comm').read_text().strip()} {link.name}")
    return found


@pytest.fixture(autouse=True)
def possible() -> None:
    if why := sandbox.refusal():
        pytest.skip(f"no sandbox can be made here: {why}")
    choice = probe().dataplane()
    if not isinstance(choice.plane, DataPlane):
        pytest.skip(f"no IPsec data plane: {choice.reason}")


UP = ["-m", "harness.cli", "up", "ipsec-ecmp"]
LOAD = ["-m", "pytest", "labs/test_ecmp_load.py", "-k", "alike"]

MOMENTS = {
    "while links and charons come up": (UP, "reading the scenario", None),
    "while tunnels negotiate": (UP, "17 nodes", None),
    "at the prompt": (UP, "ipsec-ecmp> ", None),
    "while it ends": (UP, "ipsec-ecmp> ", b"\x04"),
    "under load": (LOAD, "", None),
}


@pytest.mark.parametrize("victim", ["supervisor", "PID 1", "main"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_leaves_nothing(moment: str, victim: str, tmp_path: Path) -> None:
    argv, text, keys = MOMENTS[moment]
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    if argv is LOAD:
        argv = [*LOAD, "--run-dir", str(tmp_path / "run")]
    before = Host.look(home)
    began = now()
    lab = Running(argv, home)
    if text:
        lab.until(text)
    else:
        lab.until_process("meter-")
    inside = lab.inside()
    namespaces = lab.namespaces()
    assert inside
    assert namespaces
    if keys is not None:
        os.write(lab.terminal, keys)
    target = {"supervisor": lab.pid, "PID 1": int(inside[0].name), "main": int(inside[1].name)}[victim]
    begun = range(began, now() + 1)
    os.kill(target, signal.SIGKILL)

    deadline = time.monotonic() + GONE_WITHIN
    os.waitpid(lab.pid, 0)
    while holders(namespaces, begun) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert holders(namespaces, begun) == []
    os.close(lab.terminal)
    after = Host.look(home)
    assert after.interfaces == before.interfaces
    assert after.mounts == before.mounts
    assert after.files == before.files
