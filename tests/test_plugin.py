"""The pytest plugin as its users meet it: pytest in a project of their own, as a process, with its exit code and its output."""

from __future__ import annotations

import itertools
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from harness.net import sandbox

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(60)]

LAB = '''
import os
import pytest
from harness.plan import End, Link, Node, Plan, Role

PLAN = Plan("pair", "Two nodes", (Node("a", Role.CLIENT), Node("b", Role.CLIENT)),
            (Link(End("a", "eth0", ("10.9.0.1/24",)), End("b", "eth0", ("10.9.0.2/24",))),))

async def test_ping(labs):
    """Two nodes see each other."""
    async with labs.running(PLAN, title="pair") as lab:
        assert await lab["a"].ping("10.9.0.2")

async def test_broken(labs):
    """A lab that fails."""
    async with labs.running(PLAN) as lab:
        assert await lab["a"].ping("10.9.0.99", within=0.1), "nobody there"

@pytest.mark.needs("no-such-thing")
def test_needs_what_nobody_knows():
    pass

def test_inside():
    assert "VBRLAB_SANDBOX" in os.environ

async def test_hangs(labs):
    import asyncio
    async with labs.running(PLAN):
        print("the lab hangs", flush=True)
        await asyncio.Event().wait()
'''

INI = "[pytest]\nvbrlab_labs = mylabs\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = session\n"
INI += "asyncio_default_test_loop_scope = session\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if why := sandbox.refusal():
        pytest.skip(f"no sandbox can be made here: {why}")
    if missing := [program for program in ("ping", "ip") if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed; apt-get install iputils-ping iproute2")
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "mylabs").mkdir()
    (tmp_path / "mylabs" / "test_pair.py").write_text(LAB)
    (tmp_path / "test_other.py").write_text(
        "import os\ndef test_outside():\n    assert 'VBRLAB_SANDBOX' not in os.environ\n"
    )
    return tmp_path


def command(*arguments: str) -> list[str]:
    """Without the plugin that imports all of Hypothesis at the end of a run: a quarter of what a run takes here."""
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments]


def run(project: Path, *arguments: str, patience: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "VBRLAB", "COV"))}
    if patience is not None:
        env["VBRLAB_PATIENCE"] = patience
    return subprocess.run(command(*arguments), cwd=project, env=env, capture_output=True, text=True, timeout=50)


def test_a_lab_passes_and_leaves_a_report(project: Path) -> None:
    done = run(project, "mylabs", "-k", "ping or inside", "--junitxml=out.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(project.glob("reports/out/*/index.html"))
    assert len(pages) == 1
    assert str(pages[0].relative_to(project)) in done.stdout
    cases = ET.parse(project / "out.xml").getroot().iter("testcase")
    assert [case.get("name") for case in cases] == ["test_ping", "test_inside"]


def test_a_failure_exits_1_and_leaves_a_bundle(project: Path) -> None:
    done = run(project, "mylabs", "-k", "broken")
    assert done.returncode == 1
    (events,) = project.glob("reports/out/*/files/*/events.txt")
    kernel = (events.parent / "kernel.txt").read_text()
    assert "== a:" in kernel
    assert (events.parent / "daemons.json").exists()
    assert "10.9.0.1/24" in kernel


def test_other_tests_stay_outside(project: Path) -> None:
    assert run(project, "test_other.py").returncode == 0
    assert not (project / "reports").exists()


def test_collect_only_needs_no_sandbox(project: Path) -> None:
    done = run(project, "--collect-only", "-q", "mylabs")
    assert done.returncode == 0
    assert "test_pair.py::test_ping" in done.stdout
    assert not (project / "reports").exists()


def test_nothing_selected_and_wrong_usage_have_pytests_codes(project: Path) -> None:
    assert run(project, "mylabs", "-k", "nothing_of_that_name").returncode == 5
    assert run(project, "mylabs", "--no-such-option").returncode == 4


def test_a_feature_that_nobody_probes_is_an_error_that_lists_those_probed(project: Path) -> None:
    done = run(project, "mylabs", "-k", "needs")
    assert done.returncode == 1
    assert "no feature 'no-such-thing'; there are python, namespaces" in done.stdout


def test_two_workers_share_one_sandbox_and_one_report(project: Path) -> None:
    done = run(project, "mylabs", "-n", "2", "-k", "ping or broken or inside")
    assert done.returncode == 1
    assert "1 failed, 2 passed" in done.stdout
    assert len(list(project.glob("reports/out/*/run.json"))) == 1


def test_the_limit_of_a_test_is_stretched_in_workers_too(project: Path) -> None:
    """pytest-xdist starts its workers with the arguments of the run: what the plugin made of them is ours to hand on."""
    (project / "mylabs" / "test_limit.py").write_text(
        "def test_limit(request):\n    assert request.config._env_timeout == 200.0\n"
    )
    for workers in ([], ["-n", "2"]):
        done = run(project, "mylabs/test_limit.py", "--timeout=40", *workers, patience="5")
        assert "1 passed" in done.stdout, done.stdout


TURNS = """
import os, pathlib, time
import pytest

def note(name, busy):
    began = time.monotonic()
    time.sleep(0.15)
    with open("turns", "a") as file:
        print(name, int(busy), os.environ["PYTEST_XDIST_WORKER"], began, time.monotonic(), file=file)

@pytest.mark.busy
def test_loads():
    note("loads", True)

def test_waits():
    note("waits", False)

@pytest.mark.busy
def test_loads_more():
    note("loads more", True)
"""


@pytest.mark.parametrize("distribution", [[], ["--dist", "loadscope"]])
def test_busy_labs_take_turns_beside_the_others(project: Path, distribution: list[str]) -> None:
    """Of three files with busy and other labs no two busy ones overlap; by our own distribution one worker has the busy ones."""
    (project / "mylabs" / "test_pair.py").unlink()
    for name in ("one", "two", "three"):
        (project / "mylabs" / f"test_{name}.py").write_text(TURNS.replace("test_loads", f"test_{name}_loads"))
    done = run(project, "mylabs", "-n", "2", *distribution)
    assert done.returncode == 0, done.stdout
    rows = [line.rsplit(" ", 4) for line in (project / "turns").read_text().splitlines()]
    assert len(rows) == 9
    busy = sorted((float(began), float(ended)) for _, busy, _, began, ended in rows if busy == "1")
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(busy))
    if not distribution:
        first = {worker for _, busy, worker, _, _ in rows[:4] if busy == "1"}
        assert len(first) == 1
    (page,) = project.glob("reports/out/*/run.json")
    files = [result["nodeid"].partition("::")[0] for result in json.loads(page.read_text())["results"]]
    assert files == sorted(files)


def test_a_pause_wants_one_lab_at_a_time(project: Path) -> None:
    done = run(project, "mylabs", "-n", "2", "--pause-on-failure")
    assert done.returncode == 4
    assert "leave out -n" in done.stderr


def converse(project: Path, arguments: list[str], *lines: tuple[str, str]) -> tuple[str, int]:
    """Runs pytest on a terminal of its own; whenever a prompt appears, answers the next line. Output and exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project)
        os.execv(sys.executable, command(*arguments))
    seen, waiting = "", list(lines)
    since = 0
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        seen += part.decode(errors="replace")
        while waiting and (at := seen.find(waiting[0][0], since)) >= 0:
            since = at + len(waiting[0][0])
            os.write(terminal, waiting.pop(0)[1].encode())
    else:
        os.kill(pid, signal.SIGKILL)
    return seen, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_ctrl_c_interrupts_as_in_any_pytest(project: Path) -> None:
    output, status = converse(project, ["mylabs", "-s", "-k", "hangs"], ("the lab hangs", "\x03"))
    assert status == 2, output
    assert "KeyboardInterrupt" in output


def test_pdb_has_the_terminal(project: Path) -> None:
    output, status = converse(project, ["mylabs", "-k", "broken", "--pdb"], ("(Pdb) ", "p 6 * 7\n"), ("42", "q\n"))
    assert "42" in output, output
    assert status in (1, 2)


def test_pause_on_failure_stops_inside_the_lab(project: Path) -> None:
    output, status = converse(
        project,
        ["mylabs", "-k", "broken", "--pause-on-failure"],
        ("pair> ", "a ip -brief address\n"),
        ("10.9.0.1/24", ""),
        ("pair> ", "\x04"),
    )
    assert "nobody there" in output
    assert "10.9.0.1/24" in output, output
    assert status == 1
