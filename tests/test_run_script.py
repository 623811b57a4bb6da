"""`./run` and `.ci/run` as their users meet them, in a folder of their own where every program they start is a recording stand-in.

Nothing is installed and no network is used. That the real set-up works on a bare machine is for a bare machine to show.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
ONE_NEED = '"no-such-package|no-such-program|the test"'


class Folder:
    """A project folder (its path has a space) with the real scripts; `bin` is ahead on PATH, `record` is what stand-ins were told."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.bin = top.parent / "bin"
        self.record = top.parent / "record"
        self.bin.mkdir()
        top.mkdir()
        for name in ("run", "requirements.lock", "pyproject.toml"):
            shutil.copy(TOP / name, top / name)
        for name in ("sudo", "apt-get", "systemctl"):
            self.stand_in(self.bin / name, "exit 97")

    def stand_in(self, path: Path, then: str = "") -> None:
        """A program that records its name and arguments, one call a line, then runs `then`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'#!/bin/bash\n{{ printf "%s" "${{0##*/}}"; printf " [%s]" "$@"; echo; }} >>"{self.record}"\n{then}\n'
        )
        path.chmod(0o755)

    def calls(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []

    def set_up(self, **programs: str) -> None:
        """What a finished set-up leaves: programs in .venv/bin and the stamp, as ./run itself writes it."""
        for name in ("python", "pip", "ruff", "mypy"):
            self.stand_in(self.top / ".venv/bin" / name, programs.get(name, ""))
        assert self.shell("wanted_stamp >.venv/.setup").returncode == 0

    def call(self, *command: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.bin}:{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=cwd or self.top,
            env={**os.environ, "PATH": path, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.call(str(self.top / "run"), *arguments, cwd=cwd, **environment)

    def shell(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`script` with all functions of ./run defined."""
        return self.call("bash", "-c", f'source "$1"; shift; {script}', "bash", str(self.top / "run"), *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "my project")


def test_usage_names_every_command(folder: Folder) -> None:
    shown = folder.run("help")
    assert shown.returncode == 0
    for command in ("labs", "tests", "bench", "vm", "setup", "lock", "help"):
        assert f"\n  {command} " in shown.stdout


@pytest.mark.parametrize("arguments", [[], ["lab"], ["--nope"]])
def test_an_unknown_command_is_refused_with_the_usage(folder: Folder, arguments: list[str]) -> None:
    done = folder.run(*arguments)
    assert done.returncode == 2
    assert "usage: ./run COMMAND" in done.stderr
    assert not folder.calls()


def test_labs_passes_its_arguments_on(folder: Folder) -> None:
    folder.set_up()
    done = folder.shell('lab_needs=(); run_labs "$@"', "-k", "a b", "--pdb")
    assert done.returncode == 0, done.stderr
    assert folder.calls() == ["python [-m] [pytest] [labs/] [-k] [a b] [--pdb]"]


@pytest.mark.parametrize("argument", ["-n4", "--pdb", "--pause-on-failure", "-s", "--collect-only"])
def test_labs_run_two_at_a_time_unless_the_user_wants_otherwise(folder: Folder, argument: str) -> None:
    """Alone where the terminal belongs to one lab, where the user says how many, and where there is one processor."""
    folder.set_up()
    folder.stand_in(folder.bin / "nproc", "echo 2")
    folder.shell('lab_needs=(); run_labs "$@"', "-k", "vbr", "-x")
    folder.shell('lab_needs=(); run_labs "$@"', argument)
    folder.stand_in(folder.bin / "nproc", "echo 1")
    folder.shell('lab_needs=(); run_labs "$@"')
    assert [call for call in folder.calls() if call.startswith("python")] == [
        "python [-m] [pytest] [labs/] [-n] [2] [-k] [vbr] [-x]",
        f"python [-m] [pytest] [labs/] [{argument}]",
        "python [-m] [pytest] [labs/]",
    ]


def test_a_lab_that_is_named_runs_alone(folder: Folder) -> None:
    folder.set_up()
    folder.shell('lab_needs=(); run_labs "$@"', "labs/test_ecmp.py::test_x", "-x")
    assert folder.calls() == ["python [-m] [pytest] [labs/test_ecmp.py::test_x] [-x]"]


def test_tests_runs_every_step_and_ends_with_the_first_failure(folder: Folder, tmp_path: Path) -> None:
    folder.set_up(ruff='[ "$1" = format ] || exit 3', mypy="exit 5")
    folder.stand_in(folder.bin / "nproc", "echo 2")
    done = folder.run("tests", "-q", cwd=tmp_path)
    assert done.returncode == 3
    assert folder.calls() == [
        "nproc []",
        "ruff [check] [.]",
        "ruff [format] [--check] [.]",
        "mypy []",
        "python [-m] [pytest] [tests/] [-n] [2] [-q]",
    ]
    assert done.stdout.splitlines()[-1] == "== failed: ruff check, mypy --strict"
    assert "\x1b" not in done.stdout + done.stderr


def test_tests_that_pass_say_so(folder: Folder) -> None:
    folder.set_up()
    done = folder.run("tests")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "== all four steps passed")


def test_a_second_set_up_starts_no_installer_and_takes_no_time(folder: Folder) -> None:
    folder.set_up()
    start = time.perf_counter()
    done = folder.shell("lab_needs=(); setup")
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 1
    assert (folder.calls(), done.stdout, done.stderr) == ([], "", "")


@pytest.mark.parametrize(
    ("changed", "old", "new", "stale"),
    [
        ("requirements.lock", "aiohttp==", "# more\naiohttp==", 1),
        ("pyproject.toml", "[project]", "# more\n[project]", 1),
        ("run", "--no-deps", "--no-deps --no-index", 1),
        ("run", "pip_install() {", "pip_install() {\n  echo more", 1),
        ("run", "usage: ./run COMMAND", "usage of it: ./run COMMAND", 0),
    ],
)
def test_set_up_is_stale_after_a_change_of_what_makes_it(
    folder: Folder, changed: str, old: str, new: str, stale: int
) -> None:
    folder.set_up()
    assert folder.shell("python_is_ready").returncode == 0
    path = folder.top / changed
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    assert folder.shell("python_is_ready").returncode == stale


def test_set_up_is_stale_in_a_copied_folder(folder: Folder) -> None:
    folder.set_up()
    copy = folder.top.parent / "copy"
    shutil.copytree(folder.top, copy)
    folder.top = copy
    assert folder.shell("python_is_ready").returncode == 1


@pytest.mark.parametrize(
    ("config", "ours"),
    [
        ("home = /usr/bin\nversion = {version}.4\ncommand = /usr/bin/python3 -m venv {top}/.venv\n", True),
        ("home = /usr/bin\nversion = {version}.4\ncommand = /usr/bin/python3 -m venv --clear {top}/.venv\n", True),
        ("home = /root/.pyenv/bin\nversion = {version}.4\ncommand = python -m venv {top}/.venv\n", False),
        ("home = /usr/bin\nversion = 3.9.2\ncommand = /usr/bin/python3 -m venv {top}/.venv\n", False),
        ("home = /usr/bin\nversion = {version}.4\ncommand = /usr/bin/python3 -m venv /elsewhere/.venv\n", False),
    ],
)
def test_a_venv_of_another_python_or_place_is_not_taken_over(folder: Folder, config: str, ours: bool) -> None:
    folder.set_up()
    interpreter = Path("/usr/bin/python3")
    if not interpreter.exists():
        pytest.skip("no /usr/bin/python3 here")
    version = interpreter.resolve().name.removeprefix("python")
    (folder.top / ".venv/pyvenv.cfg").write_text(config.format(version=version, top=folder.top))
    assert (folder.shell("venv_is_ours").returncode == 0) is ours


def test_a_venv_whose_making_was_cut_short_is_not_taken_over(folder: Folder) -> None:
    folder.set_up()
    version = Path("/usr/bin/python3").resolve().name.removeprefix("python")
    made = f"home = /usr/bin\nversion = {version}.4\ncommand = /usr/bin/python3 -m venv {folder.top}/.venv\n"
    (folder.top / ".venv/pyvenv.cfg").write_text(made)
    assert folder.shell("venv_is_ours").returncode == 0
    (folder.top / ".venv/bin/pip").unlink()
    assert folder.shell("venv_is_ours").returncode == 1


def test_without_root_or_sudo_it_says_the_line_to_type_and_changes_nothing(folder: Folder) -> None:
    folder.stand_in(folder.bin / "id", 'echo "${1/-u/1000}"')
    done = folder.shell(f"python_needs=(); lab_needs=({ONE_NEED}); run_labs")
    assert done.returncode == 1
    assert "apt-get update && apt-get install --no-install-recommends no-such-package\n" in done.stderr
    assert "the test" in done.stderr
    assert not (folder.top / ".venv").exists()
    assert [call for call in folder.calls() if not call.startswith("id")] == ["sudo [-n] [true]"]


def test_sudo_without_a_password_is_used(folder: Folder) -> None:
    folder.stand_in(folder.bin / "id", 'echo "${1/-u/1000}"')
    folder.stand_in(folder.bin / "sudo", 'shift; exec "$@"')
    folder.stand_in(folder.bin / "apt-get")
    folder.stand_in(folder.bin / "dpkg")
    done = folder.shell(f"policy_file=$PWD/policy-rc.d; find_missing {ONE_NEED}; install_missing")
    assert done.returncode == 0, done.stderr
    installs = [call for call in folder.calls() if call.startswith("apt-get") and "[install]" in call]
    assert len(installs) == 1
    assert "[--no-install-recommends]" in installs[0]
    assert installs[0].endswith("[install] [no-such-package]")


@pytest.mark.parametrize("kept", ["", "#!/bin/sh\nexit 104\n"])
@pytest.mark.parametrize("status", [0, 100])
def test_no_service_starts_while_packages_are_installed_and_the_hook_is_put_back(
    folder: Folder, kept: str, status: int
) -> None:
    policy = folder.top / "policy-rc.d"
    if kept:
        policy.write_text(kept)
    folder.stand_in(
        folder.bin / "apt-get",
        f'[[ " $* " != *" install "* ]] || {{ "{policy}"; echo "policy $?" >>"{folder.record}"; exit {status}; }}',
    )
    folder.stand_in(folder.bin / "dpkg", "echo /lib/systemd/system/some.service")
    folder.stand_in(folder.bin / "systemctl")
    done = folder.shell(f"apt_install '{policy}' some-package")
    assert (done.returncode == 0) == (status == 0)
    assert "policy 101" in folder.calls()
    assert (policy.read_text() if policy.exists() else "") == kept
    assert sorted(path.name for path in folder.top.glob("policy*")) == (["policy-rc.d"] if kept else [])
    assert ("systemctl [--quiet] [disable] [some.service]" in folder.calls()) == (status == 0)


def test_the_hook_of_a_killed_installation_denies_nothing(folder: Folder) -> None:
    policy = folder.top / "policy-rc.d"
    copy = folder.top / "as-written"
    folder.stand_in(folder.bin / "apt-get", f'cp "{policy}" "{copy}"')
    folder.stand_in(folder.bin / "dpkg")
    folder.shell(f"apt_install '{policy}' some-package")
    assert folder.call(str(copy)).returncode == 0


def test_bench_goes_on_without_rivals_that_cannot_be_installed(folder: Folder) -> None:
    folder.set_up(python='[[ " $* " != *" --packages "* ]] || echo "frr|bgpd-nowhere|the rival FRR"')
    folder.stand_in(folder.bin / "id", 'echo "${1/-u/1000}"')
    done = folder.shell('lab_needs=(); run_bench "$@"', "bgp")
    assert done.returncode == 0, done.stderr
    assert "names them as absent" in done.stderr
    assert [call for call in folder.calls() if call.startswith("python")] == [
        "python [-m] [bench] [--packages] [bgp]",
        "python [-m] [bench] [bgp]",
    ]


class Ci:
    """`.ci/run` with a `./run` that fails as told, and writes down what failed as pytest does."""

    VM = (
        "run [vm] [labs/test_ecmp_tables.py]"
        " [labs/test_ecmp_load.py::test_load_reaches_every_connection_and_is_counted_alike_everywhere]"
    )
    FIRST = ("run [tests] [--junitxml=reports/out/tests.xml]", "run [labs] [--junitxml=reports/out/labs.xml]", VM)

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        (folder.top / ".ci").mkdir()
        shutil.copy(TOP / ".ci/run", folder.top / ".ci/run")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        self.folder.stand_in(self.folder.top / "run", script)
        return self.folder.call("bash", str(self.folder.top / ".ci/run"), cwd=Path("/"), CI="true")

    @staticmethod
    def failing(command: str, *names: str, again: bool) -> str:
        cache = "reports/out/.pytest_cache/v/cache"
        failed = json.dumps(dict.fromkeys(names, True))
        repeated = "exit 1" if again else "exit 0"
        return (
            f'[ "$1" = {command} ] || exit 0; [[ " $* " != *" --last-failed "* ]] || {repeated}\n'
            f"mkdir -p {cache}; echo '{failed}' >{cache}/lastfailed; exit 1"
        )

    @staticmethod
    def once_more(command: str) -> str:
        return f"run [{command}] [--junitxml=reports/out/{command}-again.xml] [--last-failed] [--last-failed-no-failures=none] [-n0]"


@pytest.fixture
def ci(folder: Folder) -> Ci:
    return Ci(folder)


@pytest.mark.parametrize(("tests", "labs", "status"), [(0, 0, 0), (3, 0, 1), (0, 4, 1)])
def test_ci_runs_both_and_fails_if_either_does(ci: Ci, tests: int, labs: int, status: int) -> None:
    """No test is named as failed here: a command that ended otherwise (ruff, mypy, the time limit) is not tried again."""
    done = ci.run(f'[ "$1" = tests ] && exit {tests}; [ "$1" = labs ] && exit {labs}; exit 0')
    assert done.returncode == status
    assert ci.folder.calls() == list(Ci.FIRST)
    assert "+ ./run tests" in done.stdout
    assert "+ ./run labs" in done.stdout


@pytest.mark.parametrize("command", ["tests", "labs"])
@pytest.mark.parametrize("again", [False, True])
def test_ci_tries_a_few_that_failed_once_more_and_names_them(ci: Ci, command: str, again: bool) -> None:
    done = ci.run(Ci.failing(command, f"{command}/test_a.py::one", "elsewhere/test_b.py::two", again=again))
    calls = list(Ci.FIRST)
    calls.insert(calls.index(f"run [{command}] [--junitxml=reports/out/{command}.xml]") + 1, Ci.once_more(command))
    assert ci.folder.calls() == calls
    assert done.returncode == (1 if again else 0)
    named = f"failed at first and passed alone: 1\n  {command}/test_a.py::one\n"
    assert done.stdout.endswith(named) is not again


@pytest.mark.parametrize("command_status", [75, 124, 137])
def test_ci_says_that_the_machine_judged_nothing(ci: Ci, command_status: int) -> None:
    done = ci.run(f'[ "$1" = vm ] && exit {command_status}; exit 0')
    assert done.returncode == 0
    assert ci.folder.calls() == list(Ci.FIRST)
    assert done.stdout.endswith(
        f"the labs were not judged on a kernel with ESP: ./run vm ended with {command_status}\n"
    )


@pytest.mark.parametrize("again", [0, 1, 75])
def test_ci_tries_labs_that_fail_in_the_machine_once_more(ci: Ci, again: int) -> None:
    done = ci.run(f'[ "$1" = vm ] || exit 0; [ ! -e tried ] || exit {again}; touch tried; exit 1')
    assert ci.folder.calls() == [*Ci.FIRST, Ci.VM]
    assert done.returncode == (1 if again else 0)
    assert ("labs in the virtual machine, with status 1" in done.stdout) == (again == 0)


def test_ci_does_not_try_many_again(ci: Ci) -> None:
    done = ci.run(Ci.failing("tests", *(f"tests/test_a.py::test{number}" for number in range(4)), again=False))
    assert done.returncode == 1
    assert ci.folder.calls() == list(Ci.FIRST)


def test_ci_does_not_believe_what_an_earlier_run_wrote_down(ci: Ci) -> None:
    cache = ci.folder.top / "reports/out/.pytest_cache/v/cache"
    cache.mkdir(parents=True)
    (cache / "lastfailed").write_text('{"tests/test_a.py::one": true}')
    assert ci.run('[ "$1" = vm ] || exit 1').returncode == 1
    assert ci.folder.calls() == list(Ci.FIRST)


@pytest.mark.skipif(shutil.which("vagrant") is None, reason="vagrant is not installed")
def test_vagrant_accepts_the_vagrantfile(tmp_path: Path) -> None:
    shutil.copy(TOP / "Vagrantfile", tmp_path)
    shutil.copy(TOP / "run", tmp_path)
    done = subprocess.run(
        ["vagrant", "validate"],
        cwd=tmp_path,
        env={**os.environ, "VAGRANT_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_python_compiled_is_kept(folder: Folder) -> None:
    """Where the environment forbids it, each of the many processes of a run would compile the project again."""
    folder.set_up(python='echo "${PYTHONDONTWRITEBYTECODE-kept}"')
    assert "kept" in folder.run("tests", PYTHONDONTWRITEBYTECODE="1").stdout.splitlines()
