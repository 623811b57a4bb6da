"""`./run vm`: options, and the order of things. Exits with the status of what ran inside; 75 when the machine itself failed."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.vm import image, initrd, job, machine, suites

FAILED = 75  # of the sysexits: not a status of pytest's


def say(text: str) -> None:
    print(f"vm: {text}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="./run vm",
        allow_abbrev=False,
        description="Runs the labs in a virtual machine with Debian's own kernel. All other arguments are pytest's.",
        epilog="Suites: " + "; ".join(f"{name} ({suite.text()})" for name, suite in suites.SUITES.items()),
    )
    words.add_argument(
        "--suite", choices=sorted(suites.SUITES), default="bookworm", help="Debian release (default: bookworm)"
    )
    words.add_argument("--shell", action="store_true", help="a console in the project's folder instead of the labs")
    words.add_argument("--rootless", action="store_true", help="as the ordinary user lab instead of root")
    words.add_argument("--keep", action="store_true", help="keep the disks and the kernel's messages of this run")
    words.add_argument("--build", action="store_true", help="only make the image")
    words.add_argument("--cache", type=Path, default=Path(".cache/vm"), help=argparse.SUPPRESS)
    words.add_argument("--packages", default="", help=argparse.SUPPRESS)  # from run's own tables
    words.add_argument("--recipe", default="", help=argparse.SUPPRESS)  # how run makes .venv, as a digest
    return words


def pytest_command(arguments: Sequence[str]) -> list[str]:
    """pytest in the machine: all labs unless some are named, the results where every run has them."""
    where = [] if any(argument.startswith("labs/") for argument in arguments) else ["labs/"]
    junit = (
        [] if any(argument.startswith("--junit") for argument in arguments) else [f"--junitxml={job.RESULTS}/vm.xml"]
    )
    color = "--color=yes" if sys.stdout.isatty() else "--color=no"
    return [".venv/bin/python", "-m", "pytest", color, *where, *junit, *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    for number in (
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # a run that is ended, or loses its terminal, leaves no disks and no machine
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    options, rest = parser().parse_known_args(arguments)
    if platform.machine() != "x86_64":
        say(f"the machine is made for x86-64; this is {platform.machine()}")
        return FAILED
    top = Path.cwd()
    cache = options.cache.resolve()
    suite = suites.SUITES[options.suite]
    parts = image.Parts(top, suite, options.packages.split(), options.recipe)
    try:
        built = image.ready(cache, parts)
        if built is None:
            say(f"building the image of {suite.text()}; this is done once, and again when what goes into it changes")
            began = time.monotonic()
            built = image.build(cache, parts)
            say(f"image built in {time.monotonic() - began:.0f} s")
        if options.build:
            return 0
        work = Path(tempfile.mkdtemp(prefix="run.", dir=cache))
        try:
            return boot(built, cache, top, work, options, rest)
        finally:
            if options.keep:
                say(f"kept: {work}")
            else:
                shutil.rmtree(work, ignore_errors=True)
    except (image.NotBuilt, machine.NotBooted) as error:
        say(str(error))
        return FAILED
    except (OSError, subprocess.CalledProcessError) as error:  # a disk that is full, a program that fails
        say(f"the machine could not be made, or its results not taken out: {error}")
        return FAILED


def boot(
    built: image.Image, cache: Path, top: Path, work: Path, options: argparse.Namespace, rest: Sequence[str]
) -> int:
    """One run of the machine in the folder ``work``."""
    size = shutil.get_terminal_size((120, 40))
    command = ["/bin/bash", "-l"] if options.shell else pytest_command(rest)
    asked = job.Job(
        command,
        interactive=options.shell,
        plain=not (options.shell or sys.stdout.isatty()),
        rootless=options.rootless,
        terminal=(size.columns, size.lines),
        environment={"TERM": os.environ.get("TERM", "dumb"), "COLUMNS": str(size.columns)},
    )
    with (work / "job.tar").open("wb") as archive:
        job.pack_project(top, archive, asked.files())
        archive.truncate((archive.tell() + 0xFFFF) & ~0xFFFF)
    with (work / "results").open("wb") as disk:
        disk.truncate(suites.RESULT_SIZE << 20)
    initrd.build(built.modules, suites.BOOT_MODULES, top / "harness/vm/guest/init", work / "initrd")
    box = machine.Machine(
        built.kernel, work / "initrd", (built.root, work / "job.tar", work / "results"), work / "console.log"
    )
    chosen = machine.accelerator(box, cache, say)
    say(f"booting {options.suite}, kernel {built.release}")
    times = machine.run(box, chosen, interactive=options.shell, say=say)
    (work / "out").mkdir()
    status = job.unpack(work / "results", top, work / "out")
    if status is None:
        say("\n".join(("the machine ended before its job did: there are no results", box.last_words())).rstrip())
        return FAILED
    say(
        f"job took {times.end - times.job:.1f} s, {times.end:.1f} s with boot; exit {status}; reports are in {job.RESULTS}/"
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
