"""The sandbox as seen from outside: what it hides, what it passes on, and that nothing is left of it, whoever dies."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.net import sandbox
from tests.net.running_lab import WITHIN, all_ended, holders, lab, need_to_be_outside, pinned, visiting
from tests.net.sandboxed import ROOT, environment, supervised

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _possible() -> None:
    need_to_be_outside()


def run(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        supervised(*argv), env=environment(), capture_output=True, text=True, timeout=60, **{"cwd": ROOT, **options}
    )


def python(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", code, **options)


@pytest.mark.parametrize("victim", ["supervisor", "PID 1", "main"])
def test_kill_9_of_any_one_leaves_nothing(victim: str) -> None:
    with lab() as running:
        before = holders(running.inodes)
        assert len(before) >= 6, "supervisor, PID 1, main, daemon, zygote and worker should be there"
        pids = [int(pid) for pid in before]
        watched = list(all_ended(pids))
        with pinned(pids):
            os.kill(running.members()[victim], signal.SIGKILL)
            for pidfd in watched:
                assert select.select([pidfd], [], [], WITHIN)[0], f"{before} did not all end within {WITHIN} s"
                os.close(pidfd)
            running.process.wait(WITHIN)
            assert holders(running.inodes) == {}
        assert running.lab_id not in [f"{one.name}-{one.pid}" for one in sandbox.running()]
        assert running.lab_id not in Path("/proc/self/mountinfo").read_text()
        assert not Path("/run/vbrlab").exists()
        if victim != "supervisor":
            assert running.process.returncode == 128 + signal.SIGKILL


def test_the_end_of_main_is_the_end_of_all() -> None:
    with contextlib.ExitStack() as held, lab() as running:
        held.enter_context(pinned([int(pid) for pid in holders(running.inodes)]))
        assert running.process.stdin is not None
        running.process.stdin.close()
        assert running.process.wait(WITHIN) == 0
        assert holders(running.inodes) == {}


def test_what_it_looks_like_inside() -> None:
    done = python(
        "import json, os\n"
        "from harness.net import sandbox\n"
        "names = sorted(int(p) for p in os.listdir('/proc') if p.isdigit())\n"
        "print(json.dumps([sandbox.inside(), names, os.listdir('/sys/class/net'), sorted(os.listdir('/run')),"
        " os.environ['TMPDIR'], os.getuid(), os.getcwd(), str(sandbox.run_directory())]))"
    )
    assert done.stderr == ""
    inside, processes, links, run_files, temporary, uid, cwd, directory = json.loads(done.stdout)
    assert inside
    assert processes == [1, 2]
    assert links == ["lo"]
    assert (run_files, temporary, uid, cwd) == (["tmp", "vbrlab"], "/run/tmp", 0, str(ROOT))
    assert directory.startswith("/run/vbrlab/test-")


def test_the_environment_alone_does_not_make_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VBRLAB_SANDBOX", "1:leaked")
    assert not sandbox.inside()
    with pytest.raises(sandbox.NotInside):
        sandbox.lab_id()


def test_nothing_of_the_hosts_network_is_reachable() -> None:
    done = run("ip", "-j", "route", "show", "table", "main")
    assert json.loads(done.stdout or "[]") == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 41"], 41),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["no-such-program"], 127),
    ],
)
def test_exit_codes(command: list[str], code: int) -> None:
    assert run(*command).returncode == code


def test_a_program_that_is_not_there_is_named() -> None:
    assert run("no-such-program").stderr == "vbrlab: no-such-program: No such file or directory\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_signals_to_the_supervisor_reach_main_once(number: signal.Signals) -> None:
    code = f"""
import signal, sys, time
count = []
signal.signal({int(number)}, lambda *_: count.append(1))
print("ready", flush=True)
while not count:
    signal.pause()
end = time.monotonic() + 0.2
while time.monotonic() < end:
    signal.sigtimedwait([], 0.05)
sys.exit(len(count))
"""
    with subprocess.Popen(supervised(sys.executable, "-c", code), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(WITHIN) == 1


def test_default_signal_dispositions_inside() -> None:
    """Python ignores SIGPIPE; what runs inside must not inherit that, nor the supervisor's blocked signals."""
    done = run("grep", "-E", "SigBlk|SigIgn", "/proc/self/status")
    by_nohup = int(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)
    assert [int(line.split()[1], 16) for line in done.stdout.splitlines()] == [0, by_nohup]


def test_orphans_are_buried() -> None:
    """PID 1 reaps: a double fork's grandchild must not stay as a zombie."""
    done = run(
        "sh",
        "-c",
        "(true & ) ; (sh -c 'exit 3' &) ; sleep 0.2; grep -c '^State:.Z' /proc/[0-9]*/status | grep -c ':1$'",
    )
    assert done.stdout.strip() == "0"


def test_two_sandboxes_do_not_meet() -> None:
    with lab("one") as one, lab("two") as two:
        assert not one.inodes & two.inodes
        assert {"one", "two"} <= {found.name for found in sandbox.running()}


class TestTerminal:
    """With a terminal of its own, as from a shell."""

    @staticmethod
    def start(code: str) -> tuple[int, int]:
        """(pid, terminal) of a supervisor that leads the session of a fresh terminal."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execve(sys.executable, supervised(sys.executable, "-c", code), environment())
        return pid, terminal

    @staticmethod
    def read_until(terminal: int, text: str) -> str:
        seen = ""
        while text not in seen:
            assert select.select([terminal], [], [], WITHIN)[0], f"waited for {text!r}, saw {seen!r}"
            seen += os.read(terminal, 4096).decode()
        return seen

    def test_main_reads_the_terminal(self) -> None:
        pid, terminal = self.start("print('said', input('name? '))")
        self.read_until(terminal, "name? ")
        os.write(terminal, b"gw1\n")
        self.read_until(terminal, "said gw1")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.close(terminal)

    def test_control_c_reaches_main_once_and_only_main_decides(self) -> None:
        code = """
import signal
interrupts = []
signal.signal(signal.SIGINT, lambda *_: interrupts.append(print("interrupt", len(interrupts) + 1, flush=True)))
print("ready", flush=True)
while len(interrupts) < 2:
    signal.sigtimedwait([], 0.05)
"""
        pid, terminal = self.start(code)
        self.read_until(terminal, "ready")
        os.write(terminal, b"\x03")
        assert "interrupt 2" not in self.read_until(terminal, "interrupt 1")
        os.write(terminal, b"\x03")
        with contextlib.suppress(OSError):  # the second one ends main, and its last words may go with the terminal
            while os.read(terminal, 4096):
                pass
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.close(terminal)

    def test_an_interactive_bash_has_job_control(self) -> None:
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execve(
                sys.executable, supervised("bash", "--norc", "--noprofile", "-i"), {**environment(), "PS1": "ready> "}
            )
        seen = self.read_until(terminal, "ready> ")
        assert "no job control" not in seen
        os.write(terminal, b"sed -u s/wa/we/\n")
        os.write(terminal, b"walcome\n")
        self.read_until(terminal, "welcome")  # sed is in its next read when it has said this, or will be
        os.write(terminal, b"\x1a")
        self.read_until(terminal, "Stopped")
        os.write(terminal, b"exit 5\nexit 5\n")  # at the first, bash warns of the stopped job
        while True:
            try:
                if not os.read(terminal, 4096):
                    break
            except OSError:
                break
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        os.close(terminal)

    def test_the_terminal_is_given_back_after_a_kill(self) -> None:
        """A main that made the terminal raw and was killed leaves it as it was, whoever asked for the kill."""
        code = """
import os, signal, tty
tty.setraw(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
        outer = f"""
import subprocess, sys, termios
before = termios.tcgetattr(0)
done = subprocess.run({supervised(sys.executable, "-c", code)!r})
print("code", done.returncode, termios.tcgetattr(0) == before)
"""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, [sys.executable, "-c", outer], environment())
        assert "code 137 True" in self.read_until(terminal, "e\r\n")
        os.waitpid(pid, 0)
        os.close(terminal)


ORDINARY = 1234
"""A uid with no account, no group and no rights."""


def as_ordinary_user(*command: str, tun: bool = True) -> list[str]:
    """``command`` by an ordinary user, with (or without) a /dev/net/tun that it may open, in a private mount namespace."""
    node = "mknod -m 0666 /dev/net/tun c 10 200" if tun else "mknod -m 0600 /dev/net/tun c 10 200"
    script = f'mount -t tmpfs none /dev/net && {node} && exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", *command]


def readable_by_all(path: Path) -> bool:
    """May any user read what lies at ``path``?"""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(
    not readable_by_all(ROOT),
    reason=f"no other user may read {ROOT} (tests/test_rootless.py shows it elsewhere)",
)
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is not installed")
class TestOrdinaryUser:
    def test_everything_a_lab_does(self) -> None:
        code = """
import os, socket
from harness.net import rtnl, sandbox
from harness.net.mininet import LabNet, Topo
from harness.net.zygote import Zygote
assert sandbox.inside() and os.getuid() == 0 and sandbox.tun_refusal() is None, sandbox.tun_refusal()
topo = Topo()
for name in ("h1", "h2"):
    topo.addHost(name, forwarding=True)
topo.addLink("h1", "h2", bw=100)
net = LabNet(topo)
h1, h2 = net["h1"], net["h2"]
assert h1.pexec("ping -c1 -W1 " + h2.IP())[2] == 0
assert h1.cmd("id -u").strip() == "0"
low = h1.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
low.bind(("10.0.0.1", 179))
with Zygote.start() as zygote:
    child = zygote.spawn("os:listdir", ["/"][0], h1.namespace.fd, "x", sandbox.run_directory() / "log")
    child.wait(10)
print("good")
"""
        done = subprocess.run(
            as_ordinary_user(*supervised(sys.executable, "-c", code)),
            env=environment(),
            cwd="/",
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.returncode) == ("good\n", 0), done.stderr

    def test_files_written_inside_belong_to_the_user(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o777)
            file = Path(folder) / "file"
            subprocess.run(as_ordinary_user(*supervised("touch", str(file))), env=environment(), cwd="/", check=True)
            assert file.stat().st_uid == ORDINARY

    def test_a_tun_that_cannot_be_opened_is_named_with_the_remedy(self) -> None:
        code = "from harness.net import sandbox; print(sandbox.tun_refusal())"
        done = subprocess.run(
            as_ordinary_user(sys.executable, "-c", code, tun=False),
            env=environment(),
            cwd="/",
            capture_output=True,
            text=True,
        )
        assert done.stdout == (
            "/dev/net/tun cannot be opened (Permission denied); as root: chmod 0666 /dev/net/tun, or run as root\n"
        )

    def test_refused_user_namespaces_are_named_with_the_remedy(self) -> None:
        """A user namespace that allows no further one stands for a machine that refuses them."""
        code = "from harness.net import sandbox; print(sandbox.refusal())"
        script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps -all --reuid 0 "$@"'
        for inner, where in (((sys.executable, "-c", code), "stdout"), (tuple(supervised("true")), "stderr")):
            done = subprocess.run(
                ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *inner],
                env=environment(),
                capture_output=True,
                text=True,
            )
            (line,) = getattr(done, where).splitlines()
            assert "user namespaces are switched off here" in line
            assert "user.max_user_namespaces" in line
        assert done.returncode == 125

    def test_the_owner_and_root_may_enter(self) -> None:
        with lab("rootless", run_by=as_ordinary_user):
            code = visiting("rootless", "ip link set eth0 up && exit 9")
            for command, expected in (
                ([sys.executable, "-c", code], 9),
                (as_ordinary_user(sys.executable, "-c", code), 9),
                (["setpriv", "--reuid", "4321", "--clear-groups", sys.executable, "-c", code], 1),
            ):
                done = subprocess.run(command, env=environment(), cwd="/", capture_output=True, text=True)
                assert done.returncode == expected, done.stderr
            assert "this lab belongs to another user" in done.stderr


def test_it_is_quick() -> None:
    """Tens of milliseconds, once a run: nobody waits for the sandbox. (CPU time: the machine may be busy.)"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(5):
        run("true")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 5 < 0.3
