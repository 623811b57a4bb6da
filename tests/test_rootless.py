"""The labs as an ordinary user: no root, a user namespace, and a /dev/net/tun that anybody may open, as distributions have it.

Root makes that user's world in a private mount namespace: the project where the user can read it, at its own path and at
another, and a tun node of mode 0666.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.probe import probe

pytestmark = [pytest.mark.root, pytest.mark.timeout(100)]

PROJECT = Path(__file__).parent.parent
USER = 65534

WORLD = """
set -e
mount --make-rprivate /
mkdir -p "$1/dev" && mount -t tmpfs none "$1/dev" && mkdir "$1/dev/net" && mknod -m {mode} "$1/dev/net/tun" c 10 200
mount --bind "$1/dev/net" /dev/net
mount -t tmpfs none /mnt && mkdir /mnt/vbrlab && mount --bind "$2" /mnt/vbrlab
if [ -n "$3" ]; then mount -t tmpfs -o mode=0755 none "$3" && mkdir -p "$2" && mount --bind /mnt/vbrlab "$2"; fi
cd "$4"
export HOME="$1/home" TMPDIR="$1/home" PYTHONDONTWRITEBYTECODE=1
shift 4
exec setpriv --reuid {user} --regid {user} --clear-groups "$@"
"""


def closed_above(path: Path) -> str:
    """The topmost folder on the way to ``path`` that others may not pass through, "" where there is none."""
    return next((str(folder) for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), "")


def as_user(
    folder: Path, *argv: str, tun: str = "0666", at: Path = Path("/mnt/vbrlab")
) -> subprocess.CompletedProcess[str]:
    """Runs a command of the project as an ordinary user; the project is seen at /mnt/vbrlab too. ``at`` is where it is called."""
    (folder / "home").mkdir(exist_ok=True)
    for path in (folder, folder / "home"):
        os.chown(path, USER, USER)
    script = WORLD.format(user=USER, mode=tun)
    where = (str(folder), str(PROJECT), closed_above(PROJECT), str(at))
    command = ["unshare", "--mount", "sh", "-c", script, "sh", *where, *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL)


@pytest.fixture
def world() -> Iterator[Path]:
    """A folder that the user owns. (pytest's own lies below one that only root may enter.)"""
    with tempfile.TemporaryDirectory(prefix="vbrlab-rootless-") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def possible() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; as an ordinary user the labs themselves are this test")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    missing = probe().missing("user-namespaces", "charon", "libipsec")
    if missing:
        pytest.skip(f"not here: {', '.join(finding.feature.title for finding in missing)}")


def python() -> str:
    return str(Path("/mnt/vbrlab") / Path(sys.executable).relative_to(PROJECT))


@pytest.mark.spec("CARD-8")
def test_labs_run_as_an_ordinary_user(world: Path) -> None:
    done = as_user(
        world, python(), "-m", "pytest", "labs/test_ecmp_tables.py", "-k", "system_table or hangzhou or ping",
        "--run-dir", str(world / "home" / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    run = json.loads((world / "home" / "run" / "run.json").read_text())
    assert run["host"]["user"] == "ordinary user"


@pytest.mark.spec("CARD-8")
def test_run_labs_as_an_ordinary_user(world: Path) -> None:
    """The README's own command, in a clone that root has set up: nothing to install, nothing to write but the report."""
    if subprocess.run(["bash", "-c", "source ./run && python_is_ready"], cwd=PROJECT).returncode != 0:
        pytest.skip("this clone's .venv is not of ./run's making, or not of this commit: ./run setup")
    report = world / "home" / "run"
    done = as_user(
        world, "./run", "labs", "-k", "hangzhou_transit_router or (vbr and two_peers)", "--run-dir", str(report), at=PROJECT
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((report / "run.json").read_text())
    assert run["host"]["user"] == "ordinary user"
    assert {result["outcome"] for result in run["results"]} == {"passed"}, done.stdout
    assert (report / "index.html").exists()


def test_up_and_check_as_an_ordinary_user(world: Path) -> None:
    done = as_user(world, python(), "-m", "harness.cli", "up", "ipsec-ecmp", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 of 9 tables as in the document" in done.stdout


def test_a_tun_that_cannot_be_opened_is_one_clear_line(world: Path) -> None:
    if probe()["esp"].ok:
        pytest.skip("this kernel has ESP: labs need no tun here")
    run = str(world / "home" / "run")
    done = as_user(world, python(), "-m", "pytest", "labs", "-k", "hangzhou_transit", "--run-dir", run, tun="0600")
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert done.stdout.count("chmod 0666 /dev/net/tun") >= 2, "once in the header and once as the reason of the skip"
