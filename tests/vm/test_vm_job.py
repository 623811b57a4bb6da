"""What goes into the virtual machine and what comes back, without a machine."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness.vm import cli, image, initrd, job, machine, suites

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    top = tmp_path / "my project"
    for name in ("run", "harness/plan.py", "reports/page.py", "labs/test_a.py"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for name in (
        ".venv/bin/python",
        ".cache/vm/root.img",
        "reports/out/old/index.html",
        "harness/__pycache__/plan.pyc",
        ".git",
    ):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not to go along")
    return top


def test_the_project_goes_along_and_what_was_made_of_it_stays(project: Path) -> None:
    packed = io.BytesIO()
    job.pack_project(project, packed, {".vm/job": "echo\n"})
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        files = {member.name.removeprefix("./") for member in archive if member.isfile()}
        assert {member.uid for member in archive} == {0}
    assert files == {"run", "harness/plan.py", "reports/page.py", "labs/test_a.py", ".vm/job"}


def run_job(asked: job.Job, folder: Path) -> subprocess.CompletedProcess[str]:
    """The job's script as the machine runs it, in a folder of the test's."""
    for name, text in asked.files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(suites.PROJECT, str(folder)))
    return subprocess.run(["sh", folder / ".vm/job"], capture_output=True, text=True, check=False, timeout=10)


@pytest.mark.parametrize("plain", [True, False])
def test_a_job_ends_with_the_status_of_its_command(tmp_path: Path, plain: bool) -> None:
    done = run_job(
        job.Job(["sh", "-c", "echo \"$WORD\" 'a b'; exit 5"], plain=plain, environment={"WORD": "it's"}), tmp_path
    )
    assert done.returncode == 5
    assert done.stdout == "@@vbrlab job\nit's a b\n"


def test_ctrl_c_is_the_commands_and_what_it_says_then_is_heard(tmp_path: Path) -> None:
    """On a terminal of its own, as in the machine: the interrupt goes to every process of the foreground."""
    command = ["sh", "-c", "trap 'echo interrupted; exit 2' INT; echo ready; while :; do sleep 1; done"]
    for name, text in job.Job(command, plain=True).files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(suites.PROJECT, str(tmp_path)))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execlp("sh", "sh", str(tmp_path / ".vm/job"))
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # EIO: everyone has closed it
        while more := os.read(terminal, 1024):
            said += more
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    assert b"interrupted" in said


def test_the_set_up_of_a_shell_is_that_of_the_project_that_came_with_it(tmp_path: Path) -> None:
    """`./run labs` typed in the machine installs nothing, although pyproject.toml has changed in what goes into no image."""
    for name in ("run", "requirements.lock", "pyproject.toml"):
        shutil.copy(TOP / name, tmp_path / name)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    (tmp_path / ".venv/.setup").write_text("of another pyproject.toml\n")
    ready = ["bash", "-c", ". ./run; python_is_ready"]
    assert run_job(job.Job(ready), tmp_path).returncode == 1
    assert run_job(job.Job(ready, interactive=True), tmp_path).returncode == 0


def disk(path: Path, folder: Path, names: list[str]) -> Path:
    """A disk of 1 MiB with a tar at its beginning, as the machine leaves it."""
    subprocess.run(["tar", "-c", "-f", path, "-C", folder, *names], check=True)
    with path.open("r+b") as opened:
        opened.truncate(1 << 20)
    return path


def test_the_results_come_back_beside_those_of_earlier_runs(project: Path, tmp_path: Path) -> None:
    inside, out = tmp_path / "inside", tmp_path / "out"
    (inside / "reports/out/new").mkdir(parents=True)
    (inside / "reports/out/new/index.html").write_text("page")
    (inside / ".vm").mkdir()
    (inside / ".vm/exit").write_text("1\n")
    out.mkdir()
    assert job.unpack(disk(tmp_path / "results", inside, [".vm/exit", "reports/out"]), project, out) == 1
    assert (project / "reports/out/new/index.html").read_text() == "page"
    assert (project / "reports/out/old/index.html").exists()


def test_a_machine_that_was_ended_has_no_status(project: Path, tmp_path: Path) -> None:
    empty = tmp_path / "results"
    with empty.open("wb") as opened:
        opened.truncate(1 << 20)
    assert job.unpack(empty, project, tmp_path) is None


def test_a_kernel_that_ended_under_the_job_is_quoted(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def panics(box: machine.Machine, *_: object, **__: object) -> machine.Boot:
        box.console.write_text("Kernel panic - not syncing: softlockup: hung tasks\n")
        return machine.Boot(2.0, 3.0, 90.0)

    (tmp_path / "image").mkdir()
    (tmp_path / "image/release").write_text("6.1.0\n")
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(machine, "run", panics)
    monkeypatch.setattr(machine, "accelerator", lambda *_: machine.TCG)
    monkeypatch.setattr(initrd, "build", lambda *_: None)
    options = cli.parser().parse_args([])
    status = cli.boot(image.Image(tmp_path / "image"), tmp_path, project, tmp_path / "work", options, [])
    said = capsys.readouterr().err
    assert status == cli.FAILED
    assert "there are no results\nKernel panic - not syncing" in said


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["-k", "ecmp"], ["labs/"]),
        (["labs/test_vbr_bfd.py"], []),
        (["labs/"], []),
        ([], ["labs/"]),
    ],
)
def test_pytest_runs_all_labs_unless_some_are_named(arguments: list[str], where: list[str]) -> None:
    command = cli.pytest_command(arguments)
    assert command[:3] == [".venv/bin/python", "-m", "pytest"]
    assert [word for word in command if word == "labs/" and word not in arguments] == where
    assert [word for word in command if word.startswith("--junitxml=")] == ["--junitxml=reports/out/vm.xml"]


def test_our_options_are_taken_from_pytests() -> None:
    options, rest = cli.parser().parse_known_args(["--suite", "trixie", "-k", "ecmp", "--keep", "-x", "--she"])
    assert (options.suite, options.keep, options.shell) == ("trixie", True, False)
    assert rest == ["-k", "ecmp", "-x", "--she"]


def test_what_the_computer_refuses_is_the_machines_failure_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own status: `.ci/run` tells by it that the labs were not judged."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "file").touch()
    assert cli.main(["--cache", str(tmp_path / "file" / "cache")]) == cli.FAILED
    assert "vm: the machine could not be made, or its results not taken out: [Errno " in capsys.readouterr().err
