"""What goes into the machine and what comes back: the project and one command as a tar, a tar of results and the exit status."""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from harness.vm.suites import LAB_MODULES, PROJECT

LEFT_OUT = frozenset(
    (
        ".git",
        ".venv",
        ".cache",
        ".vagrant",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        "__pycache__",
        "build",
        "dist",
    )
)
"""Folders that stay on their own side, wherever they are; so does what an earlier run wrote to reports/out/."""

RESULTS = "reports/out"


def goes_along(path: str) -> bool:
    """Does this file or folder of the project, named from its top, go into the machine?"""
    parts = path.split("/")
    return path != RESULTS and not LEFT_OUT.intersection(parts) and not parts[-1].endswith(".egg-info")


def pack_project(top: Path, out: IO[bytes], extra: Mapping[str, str] | None = None) -> None:
    """A tar of the project as it lies there, committed or not, with files of ``extra`` content added."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member if goes_along(member.name.removeprefix("./")) else None

    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(top, arcname=".", filter=kept)
        for name, text in (extra or {}).items():
            content = text.encode()
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))


@dataclass(frozen=True, slots=True)
class Job:
    """One command in the project's folder. ``terminal`` is the window to pretend: columns and rows; ``plain`` output is for no window."""

    command: Sequence[str]
    interactive: bool = False
    plain: bool = False
    rootless: bool = False
    terminal: tuple[int, int] = (120, 40)
    environment: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> dict[str, str]:
        """The job as `guest/start` reads it, by path below the project."""
        columns, rows = self.terminal
        words = shlex.join(self.command)
        if self.rootless:  # not by su, which takes the command away from the terminal, and with it Ctrl-C
            words = f"chown -R lab reports/out && HOME=/home/lab USER=lab setpriv --reuid=lab --regid=lab --init-groups {words}"
        if self.plain:  # what the command writes to is no terminal then, and it makes no moving progress
            # Ctrl-C is the command's alone: these shells keep its status, and cat what it still says.
            words = f"trap : INT\n{{ trap : INT; {words}; echo $? >.vm/status; }} 2>&1 | (trap '' INT; exec cat)\nexit $(cat .vm/status)"
        if self.interactive:  # whoever types ./run there finds its set-up done: the image's is that of this project
            words = f"bash -c '. ./run && wanted_stamp >.venv/.setup'\n{words}"
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.environment.items())
        discipline = "sane" if self.interactive else "sane -echo -onlcr"
        return {
            ".vm/job": f"cd {PROJECT}\nmkdir -p {RESULTS}\n{exports}echo '@@vbrlab job'\n{words}\n",
            ".vm/tty": f"{discipline} cols {columns} rows {rows}\n",
            ".vm/modules": " ".join(LAB_MODULES) + "\n",
            ".vm/results": f"{RESULTS}\n",
        }


def unpack(results: Path, top: Path, into: Path) -> int | None:
    """Takes the results out of the machine's third disk: reports to the project, the exit status returned. None: the job did not end."""
    with results.open("rb") as disk:
        if disk.read(512).count(0) == 512:
            return None
    subprocess.run(["tar", "-x", "-f", results, "-C", into, "--no-same-owner"], check=True)
    status = int((into / ".vm/exit").read_text())
    reports = into / RESULTS
    if reports.is_dir():
        (top / RESULTS).mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", f"{reports}/.", top / RESULTS], check=True)
    return status
