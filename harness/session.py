"""A run of labs: its folder, its results, its evidence; and the fixture object that starts labs in it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import bundle
from harness.evidence import LabArchive, stages_of, timeline_of, topology_of
from harness.ipsec.strongswan import DataPlane
from harness.lab import DATA_PLANE, Lab
from harness.net import sandbox
from harness.net.zygote import Zygote
from harness.patience import described
from harness.plan import Plan
from harness.probe import Choice, Finding, probe
from harness.speakers import NotSuited, Wish
from reports.model import Attachment, Item, Result, Run, RunFolder

if TYPE_CHECKING:
    from reports.console import Line

Pause = Callable[[Lab, BaseException], Awaitable[None]]

_REQUIREMENT = re.compile(r"^\| *((?:CARD|VBR|ECMP|VPN|BGP)-\d+) *\| *(.*?) *\|")


def refusal(plane: str | None = None) -> str | None:
    """None when labs can run here, else one line that says why not and what to do. Remembers the data plane for the sandbox.

    ``plane`` is the one to use and no other: where it is not there, that is the refusal.
    """
    choice = probe().dataplane(None if plane is None else DataPlane(plane))
    if choice.plane is not None:
        os.environ[DATA_PLANE] = choice.plane.value
    elif plane is not None:
        return f"--dataplane {plane}: {choice.reason}; vbrlab doctor says what to do, without --dataplane the labs take what is there"
    return sandbox.refusal()


def plane_of_run() -> Choice:
    """The data plane of the labs of this run, and why that one."""
    found = probe().dataplane()
    forced = os.environ.get(DATA_PLANE)
    return found if forced in (None, found.plane) else probe().dataplane(DataPlane(forced))


def no_data_plane() -> str | None:
    """None when tunnels can run here, else one line that says why not and what to do."""
    choice = plane_of_run()
    if choice.plane is not None:
        return None
    return f"no IPsec data plane: {sandbox.tun_refusal() or choice.reason}; vbrlab doctor says more"


class RunRecord:
    """The run in the making. ``owner`` is the process that writes the report: not a worker of pytest-xdist."""

    def __init__(self, root: Path, folder: Path, owner: bool) -> None:
        self.root, self.folder, self.owner = root, RunFolder(folder), owner
        self.test = ""
        self.planes: dict[str, list[str]] = {}
        self._results: dict[str, Result] = {}
        self._began = time.monotonic()
        self._started = datetime.now(UTC)
        self._features: tuple[Finding, ...] = tuple(probe().values()) if owner else ()
        self._run: Run | None = None
        self._page: Path | None = None

    @classmethod
    def begin(cls, root: Path, folder: Path | None, *, owner: bool) -> RunRecord:
        if folder is None:
            stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
            folder = root / "reports" / "out" / f"{stamp}-{os.environ['VBRLAB_SANDBOX'].rpartition('-')[2]}"
        folder.mkdir(parents=True, exist_ok=True)
        return cls(root, folder, owner)

    def header(self) -> list[str]:
        missing = [finding.feature.title for finding in self._features if not finding.ok]
        choice = plane_of_run()
        return [
            f"vbrlab: {no_data_plane() or f'IPsec data plane {choice.plane} ({choice.reason})'}",
            f"vbrlab: {described()}",
            f"vbrlab: absent here: {', '.join(missing) or 'nothing'} (vbrlab doctor says what each changes)",
        ]

    def add(self, item: Item) -> None:
        self.folder.add(item, self.test)

    def bundle(self, lab: Lab, test: str) -> None:
        """Stores what a failed lab looked like."""
        name = re.sub(r"\W+", "-", test).strip("-")
        for title, path in bundle.write(lab, self.folder.files / name):
            self.folder.add(Attachment(title, str(path.relative_to(self.folder.path))), test)

    def note(self, report: Any) -> None:
        """Takes a phase of a test into the results: the worst outcome of the phases is the test's."""
        before = self._results.get(report.nodeid)
        outcome = report.outcome
        if report.failed and report.when != "call":
            outcome = "error"
        if before is not None and before.outcome != "passed":
            outcome = before.outcome
        properties = list(report.user_properties)
        message = before.message if before else ""
        if report.failed:
            message = message or report.longreprtext
        elif report.skipped and isinstance(report.longrepr, tuple):
            message = report.longrepr[2].removeprefix("Skipped: ")  # pytest's own heading
        self._results[report.nodeid] = Result(
            report.nodeid,
            next((value for name, value in properties if name == "title"), report.nodeid),
            outcome,
            (before.seconds if before else 0.0) + report.duration,
            tuple(value for name, value in properties if name == "spec"),
            message,
            tuple(dict.fromkeys(value for name, value in properties if name == "plane")),
        )

    def finish(self) -> None:
        """Writes the run and its page."""
        if not self._results:
            return
        from reports import page

        self._run = Run(
            self.folder.path.name,
            self._started.isoformat(timespec="seconds"),
            time.monotonic() - self._began,
            shlex.join(["pytest", *sys.argv[1:]]),
            host_facts(),
            tuple(_shown(finding) for finding in self._features),
            # By file, whichever worker was done with it first; within a file as they ran.
            tuple(sorted(self._results.values(), key=lambda result: result.nodeid.partition("::")[0])),
            requirements(self.root),
        )
        self.folder.write_run(self._run)
        self._page = page.write(self.folder)

    def summary(self, width: int) -> Iterator[Line]:
        """The lines that end a run in the terminal."""
        if self._run is not None and self._page is not None:
            from reports import console

            yield from console.summary(self._run, Path(os.path.relpath(self._page)), width)


def host_facts() -> dict[str, str]:
    """What a reader must know of the machine to judge the run; no name or address of it."""
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": str(os.cpu_count()),
        "user": "root" if os.getuid() == 0 and _initial_user_namespace() else "ordinary user",
        "data plane": str(plane_of_run().plane or "none"),
    }


def _shown(finding: Finding) -> dict[str, Any]:
    feature = finding.feature
    return {
        "name": feature.title,
        "present": finding.ok,
        "purpose": feature.purpose,
        "effect": feature.without,
        "remedy": feature.remedy,
        "reason": finding.reason,
    }


def _initial_user_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split()[2] == "4294967295"


def requirements(root: Path) -> dict[str, str]:
    """Every requirement of docs/requirements.md, by ID."""
    path = root / "docs" / "requirements.md"
    if not path.exists():
        return {}
    return {match[1]: match[2] for line in path.read_text().splitlines() if (match := _REQUIREMENT.match(line))}


class Labs:
    """The fixture ``labs``. ``pause`` is called inside a lab whose test failed, while the lab's loop runs on."""

    def __init__(
        self, zygote: Zygote, record: RunRecord, seed: int, pause: Pause | None = None, speakers: Sequence[Wish] = ()
    ) -> None:
        self.zygote, self.record, self.seed, self.speakers = zygote, record, seed, tuple(speakers)
        self._pause = pause

    @contextlib.asynccontextmanager
    async def running(
        self,
        plan: Plan,
        *,
        seed: int | None = None,
        title: str = "",
        speakers: Sequence[Wish] = (),
        plane: DataPlane | None = None,
    ) -> AsyncIterator[Lab]:
        """A lab for as long as the block lasts. Its drawing, session timelines and stages go into the report with ``title``.

        ``speakers`` are the lab's own wishes for daemons in the speaker's place; they win over the command line's. So does ``plane``,
        which must be there.
        """
        if any(node.tunnel for node in plan.nodes) and (why := no_data_plane()):
            pytest.skip(why)
        archive = LabArchive(self.record.add, self.record.folder)
        lab = await Lab.start(
            plan,
            self.zygote,
            seed=self.seed if seed is None else seed,
            archive=archive,
            record=True,
            speakers=(*self.speakers, *speakers),
            plane=plane,
        )
        if lab.plane is not None:
            self.record.planes.setdefault(self.record.test, []).append(lab.plane.value)
        if title:
            self.record.add(topology_of(plan, title))
        try:
            yield lab
        except NotSuited:
            raise
        except (Exception, pytest.fail.Exception) as failure:
            # A lab of the test's own is gone before pytest makes its report: now is the time to look.
            self.record.bundle(lab, self.record.test)
            if self._pause is not None:
                await self._pause(lab, failure)
            raise
        finally:
            if title:
                self.record.add(timeline_of(lab, f"{title}: BGP sessions"))
                self.record.add(stages_of(lab, f"{title}: bring-up"))
            await lab.stop()


def labs_of(item: Any) -> Iterator[Lab]:
    """The running labs among the fixtures of a test."""
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, Lab):
            yield value
