"""A lab in a sandbox as seen from outside: who belongs to it, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.net import sandbox
from tests.net.sandboxed import ROOT, environment, refusal, supervised

WITHIN = 10.0


def need_to_be_outside() -> None:
    """Skips the test where there is no sandbox to be looked at from outside."""
    if sandbox.inside():
        pytest.skip("the sandbox is looked at from outside, and this is inside")
    if (reason := refusal()) is not None:
        pytest.skip(reason)


LAB = """
import json, os, subprocess, sys
from harness.net import rtnl, sandbox
from harness.net.door import Door
from harness.net.namespace import Namespace
from harness.net.zygote import Zygote
nodes = {name: Namespace.create(name) for name in ("gw1", "gw2")}
router = rtnl.Rtnl(nodes["gw1"])
router.transact([rtnl.veth("eth0", "eth0", nodes["gw2"].fd)])
daemon = nodes["gw1"].popen(["sleep", "1000"], start_new_session=True)
zygote = Zygote.start()
worker = zygote.spawn("tests.net.test_net_zygote:wait_for_ever", [], nodes["gw2"].fd, "worker", sandbox.run_directory() / "log")
door = Door(lambda node: nodes[node].fd, lambda: nodes)
kinds = ("net", "mnt", "pid")
own = [os.stat(f"/proc/self/ns/{kind}").st_ino for kind in kinds]
print(json.dumps({"inodes": own + [node.inode for node in nodes.values()], "id": sandbox.lab_id()}), flush=True)
sys.stdin.read()
"""


@dataclass
class Running:
    """A lab in a sandbox: two nodes, a daemon, a zygote with a worker."""

    process: subprocess.Popen[str]
    inodes: set[int]
    lab_id: str

    def members(self) -> dict[str, int]:
        """The processes of the lab as the host numbers them, by role."""
        (init,) = children_of(self.process.pid)
        (main,) = [pid for pid in children_of(init) if "-c" in command_of(pid)]
        return {"supervisor": self.process.pid, "PID 1": init, "main": main}


@contextlib.contextmanager
def pinned(pids: list[int]) -> Iterator[None]:
    """Holds the namespaces of processes, so that the kernel gives their inodes to no other while we look for them."""
    with contextlib.ExitStack() as held:
        for pid in pids:
            for kind in ("net", "mnt", "pid"):
                held.callback(os.close, os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY))
        yield


def command_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def holders(inodes: set[int]) -> dict[str, list[str]]:
    """Every living process that is in one of the namespaces, or holds a descriptor of one, by pid.

    The dead that only wait for the host's init to bury them hold nothing.
    """
    found: dict[str, list[str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            if (process / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                continue
            for entry in (*process.glob("ns/*"), *process.glob("fd/*")):
                with contextlib.suppress(OSError):
                    target = os.readlink(entry)  # noqa: PTH115
                    kind, _, number = target.partition(":[")
                    if kind in ("net", "mnt", "pid") and int(number[:-1]) in inodes:
                        found.setdefault(process.name, []).append(target)
    return found


@contextlib.contextmanager
def lab(name: str = "test", *, run_by: Callable[..., list[str]] = lambda *command: [*command]) -> Iterator[Running]:
    """``run_by`` makes of the lab's command that of another user."""
    process = subprocess.Popen(
        run_by(*supervised(sys.executable, "-c", LAB, name=name)),
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        said = json.loads(process.stdout.readline())
        yield Running(process, set(said["inodes"]), said["id"])
    finally:
        process.stdin.close()
        process.wait(WITHIN)
        process.stdout.close()


def all_ended(pids: list[int]) -> Iterator[int]:
    """Pidfds of processes, to be waited on."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            yield os.pidfd_open(pid)


def visiting(name: str, script: str) -> str:
    """The Python program that runs a shell script in gw1 of a running lab and ends with its exit code."""
    return f"import sys; from harness.net import sandbox; sys.exit(sandbox.join({name!r}, 'gw1', ['sh', '-c', {script!r}]))"
