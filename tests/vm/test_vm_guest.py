"""What runs inside the machine beside the job, in namespaces of its own here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

GUEST = Path(__file__).resolve().parents[2] / "harness/vm/guest"
ALONE = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


def test_every_first_user_of_the_kernels_switches_is_held() -> None:
    """By a process that stays: the packet filter's hooks, and three sockets."""
    if missing := [program for program in ("unshare", "nft", "/usr/bin/python3") if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    if subprocess.run((*ALONE, "nft", "list", "ruleset"), capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespace with a packet filter can be made here")
    script = '"$1" && nft list ruleset && for process in /proc/[0-9]*; do ls -l $process/exe $process/fd; done'
    words = (*ALONE, "sh", "-c", script, "sh", str(GUEST / "hold"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    for hook in ("prerouting", "input", "forward", "output", "postrouting"):
        assert f"hook {hook}" in done.stdout, done.stderr
    (held,) = (part for part in done.stdout.split("/exe ->") if part.lstrip().startswith("/usr/bin/python3"))
    assert held.count("socket:[") == 3


def test_they_are_held_before_the_job_begins() -> None:
    lines = (GUEST / "start").read_text().splitlines()
    (held,) = (number for number, line in enumerate(lines) if line.startswith("/vbrlab/harness/vm/guest/hold"))
    (begun,) = (number for number, line in enumerate(lines) if "$job/job" in line)
    assert held < begun
