"""The fork server: where its children live, how they end, what is left of them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.net import sandbox
from harness.net.namespace import Namespace
from harness.net.zygote import Spawn, Zygote, ZygoteError, _Server
from tests.net.sandboxed import inside

HERE = "tests.net.test_net_zygote"


def facts(args: Sequence[str]) -> int:
    """A child that says where it is and ends with the code asked for."""
    comm = Path("/proc/self/comm").read_text().strip()
    fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))  # noqa: PTH208
    sys.stdout.write(f"{Namespace.current().inode} {comm} {os.getpid() == os.getsid(0)} {fds}\n")
    sys.stderr.write("to standard error\n")
    return int(args[0])


def fail(args: Sequence[str]) -> None:
    raise ValueError(f"bad {args[0]}")


def leave(args: Sequence[str]) -> None:
    sys.exit(args[0])


def wait_for_ever(_args: Sequence[str]) -> None:
    signal.pause()


def touch(args: Sequence[str]) -> None:
    Path(args[0]).touch()


def run_directory() -> Path:
    return sandbox.run_directory()


@inside
def test_a_child_lives_in_its_namespace_with_its_log() -> None:
    log = run_directory() / "gw1" / "bgp.log"
    with Namespace.create() as ns, Zygote.start(["asyncio"]) as zygote:
        child = zygote.spawn(f"{HERE}:facts", ["7"], ns.fd, "bgp gw1", log)
        assert child.wait(10) == 7
        inode, name, leads_session, *_ = log.read_text().replace("bgp gw1", "bgp-gw1").split()
        assert (int(inode), name, leads_session) == (ns.inode, "bgp-gw1", "True")
        assert "[0, 1, 2, 3]" in log.read_text(), (
            "a descriptor of the zygote leaked into the child (3 is the listing's own)"
        )
        assert "to standard error" in log.read_text()


@inside
def test_how_children_end() -> None:
    run = run_directory()
    with Zygote.start() as zygote:
        failed = zygote.spawn(f"{HERE}:fail", ["luck"], None, "fail", run / "fail.log")
        assert failed.wait(10) == 1
        assert "ValueError: bad luck" in (run / "fail.log").read_text()
        left = zygote.spawn(f"{HERE}:leave", ["no configuration"], None, "leave", run / "leave.log")
        assert left.wait(10) == 1
        assert (run / "leave.log").read_text() == "no configuration\n"
        missing = zygote.spawn("no.such:thing", [], None, "missing", run / "missing.log")
        assert missing.wait(10) == 1
        assert "No module named 'no'" in (run / "missing.log").read_text()
        killed = zygote.spawn(f"{HERE}:wait_for_ever", [], None, "killed", run / "killed.log")
        assert killed.alive()
        with pytest.raises(TimeoutError, match="did not end"):
            killed.wait(0.01)
        killed.kill(signal.SIGKILL)
        assert killed.wait(10) == -signal.SIGKILL
        assert not killed.alive()
        killed.kill()


@inside
def test_an_exit_is_awaited() -> None:
    async def scenario() -> None:
        with Zygote.start() as zygote:
            child = zygote.spawn(f"{HERE}:wait_for_ever", [], None, "wait", run_directory() / "log")
            waiting = [asyncio.create_task(child.exited()) for _ in range(2)]
            await asyncio.sleep(0)
            child.kill(signal.SIGTERM)
            assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [-signal.SIGTERM] * 2

    asyncio.run(scenario())


@inside
def test_no_child_outlives_the_zygote() -> None:
    with Zygote.start() as zygote:
        child = zygote.spawn(f"{HERE}:wait_for_ever", [], None, "wait", run_directory() / "log")
    assert child.wait(10) == -signal.SIGKILL


@inside
def test_a_dead_zygote_is_named() -> None:
    zygote = Zygote.start()
    child = zygote.spawn(f"{HERE}:wait_for_ever", [], None, "wait", run_directory() / "log")
    os.kill(zygote.pid, signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL
    with pytest.raises(ZygoteError, match=rf"the zygote \(process {zygote.pid}\) ended with -9"):
        zygote.spawn(f"{HERE}:facts", ["0"], None, "x", run_directory() / "log")


@inside
def test_a_child_whose_zygote_is_dead_before_its_first_step_does_nothing() -> None:
    ran, log = run_directory() / "ran", run_directory() / "log"
    own, theirs = socket.socketpair()
    ended, outlives = os.pipe()
    alive, server = os.pipe()
    if os.fork() == 0:
        zygote = _Server(theirs)
        if os.fork() == 0:
            os.close(server)
            os.read(alive, 1)  # end of file: the zygote is gone
            zygote._become({"entry": f"{HERE}:touch", "args": [str(ran)], "name": "late", "log": str(log)}, [])
        os._exit(0)
    os.close(server)
    os.close(outlives)
    assert os.read(ended, 1) == b""
    assert not ran.exists()
    own.close()


@inside
def test_a_child_under_a_high_descriptor_is_waited_for() -> None:
    """A thousand nodes take descriptors over 1,023, which select() refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    try:
        with Zygote.start() as zygote:
            child = zygote.spawn(f"{HERE}:wait_for_ever", [], None, "wait", run_directory() / "log")
            low, child.pidfd = child.pidfd, fcntl.fcntl(child.pidfd, fcntl.F_DUPFD_CLOEXEC, 1500)
            os.close(low)
            assert child.alive()
            child.kill(signal.SIGKILL)
            assert child.wait(10) == -signal.SIGKILL
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@inside
def test_two_hundred_children_keep_their_order() -> None:
    run = run_directory()
    with Zygote.start([HERE]) as zygote:
        children = zygote.spawn_all(
            Spawn(f"{HERE}:facts", [str(n % 100)], None, f"n{n}", run / f"{n}.log") for n in range(200)
        )
        assert [child.wait(10) for child in children] == [n % 100 for n in range(200)]
