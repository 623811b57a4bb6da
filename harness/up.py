"""``vbrlab up``: brings a scenario up, shows its tables, hands out the prompt, and takes everything away at the end.

The lab's event loop runs in a thread of its own, so that daemons are watched while the prompt waits for a line. Runs inside the
sandbox; ``harness.cli`` has put it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from harness.cloud.vbr import VbrEstate
    from harness.lab import Lab
    from harness.net.zygote import Zygote
    from harness.plan import Plan
    from harness.proving.verdict import Candidate
    from harness.speakers import Wish
    from harness.tables import RouteTable

T = TypeVar("T")

_UP_WITHIN = 30.0
_TABLES_WITHIN = 5.0


class Loop:
    """An asyncio loop in a daemon thread; :meth:`run` hands it work and waits for the result."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="lab", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Told:
    """Says what is going on: one line a stage on a terminal's stderr, nothing for a program that asked for JSON."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self.stages: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def stage(self, name: str, words: str) -> Iterator[None]:
        live = sys.stderr.isatty() and not self._quiet
        if live:
            sys.stderr.write(f"\r\033[K  … {words}")
            sys.stderr.flush()
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self.stages.append((name, took))
        if not self._quiet:
            sys.stderr.write(f"{chr(13) + chr(27) + '[K' if live else ''}  ✓ {words}  {took:.3f} s\n")


def up(
    name: str,
    *,
    seed: int,
    check: bool,
    as_json: bool,
    entered: float,
    devices: tuple[Candidate, ...] = (),
    speakers: Sequence[Wish] = (),
) -> int:
    """The command. ``entered`` is when its process began (CLOCK_MONOTONIC). Returns the exit status.

    ``speakers`` are other daemons in the place of our speaker. With ``devices``, which stand in their nodes' places, each is
    proven first. One that does not work is named with the line to blame; the prompt is given all the same, so that one can
    look, and the exit status is 1.
    """
    from harness.net.zygote import Zygote

    told = Told(as_json)
    told.stages.append(("interpreter and sandbox", time.monotonic() - entered))
    with told.stage("imports", "reading the scenario"):
        from harness.lab import PRELOAD

        zygote = Zygote.start(PRELOAD)
        import topologies

        scenario = topologies.load(name)
        plan, estate = scenario.plan(), scenario.estate()
        if devices:
            from harness.proving.prove import staged

            plan = staged(plan, tuple(each.subject(plan) for each in devices))
    loop = Loop()
    with told.stage("lab", f"{len(plan.nodes)} nodes, {len(plan.links)} links, their daemons"):
        lab = started(loop, plan, zygote, seed=seed, speakers=speakers)
    if lab is None:
        return 1
    told.stages += [(f"lab: {stage.name}", stage.end - stage.start) for stage in lab.stages]
    try:
        if devices and not _devices_work(lab, loop, told, devices, as_json):
            if not check and not as_json:
                interact(lab, loop, estate)
            return 1
        if any(node.tunnel is not None for node in plan.nodes):
            with told.stage("waiting for the last tunnel", "tunnels"):
                tunnels_up = loop.run(lab.tunnels_up(within=_UP_WITHIN))
            assert tunnels_up is not None
            told.stages.append(("ike", tunnels_up - lab.begun))
        with told.stage("bgp", "BGP sessions"):
            loop.run(lab.established(within=_UP_WITHIN))
        if check:
            return _check(lab, loop, name, told, as_json, entered)
        interact(lab, loop, estate)
        return 0
    finally:
        loop.run(lab.stop())
        zygote.stop()


def started(loop: Loop, plan: Plan, zygote: Zygote, *, seed: int, speakers: Sequence[Wish] = ()) -> Lab | None:
    """The lab of a plan; None where this kernel cannot have it, which is then said, and the zygote stopped."""
    from harness.lab import Lab
    from harness.net.mininet import LabError

    try:
        return loop.run(Lab.start(plan, zygote, seed=seed, speakers=speakers))
    except LabError as error:
        zygote.stop()
        sys.stderr.write(f"vbrlab: {error}\n")
        return None


def _devices_work(lab: Lab, loop: Loop, told: Told, devices: tuple[Candidate, ...], as_json: bool) -> bool:
    from harness.proving.verdict import judged, to_json

    with told.stage("devices", "the devices as they are configured"):
        verdicts = loop.run(judged(lab, devices))
    works = all(each.works for each in verdicts)
    if as_json and not works:
        sys.stdout.write(to_json(verdicts) + "\n")
    elif not as_json:
        sys.stderr.write("\n".join(each.to_text() for each in verdicts) + "\n")
    return works


def try_devices(plan: Plan, devices: tuple[Candidate, ...], *, tables: bool, as_json: bool) -> int:
    """``vbrlab device``: runs devices in the lab of ``plan``, says what became of them, ends. Returns the exit status."""
    from harness.daemon import DaemonDied
    from harness.lab import PRELOAD, Lab
    from harness.net.netlink import NetlinkError
    from harness.net.zygote import Zygote
    from harness.proving.prove import staged
    from harness.proving.verdict import judged, to_json

    zygote, loop = Zygote.start(PRELOAD), Loop()
    try:
        lab = loop.run(Lab.start(staged(plan, tuple(each.subject(plan) for each in devices)), zygote))
    except (DaemonDied, NetlinkError, ValueError) as error:
        zygote.stop()
        sys.stderr.write(f"vbrlab: no lab can be run with {', '.join(str(each.file) for each in devices)}: {error}\n")
        return 1
    try:
        verdicts = loop.run(judged(lab, devices))
        shown = loop.run(lab.route_tables()) if tables else []
    finally:
        loop.run(lab.stop())
        zygote.stop()
    if as_json:
        rows = {table.title: [list(row) for row in table.rows] for table in shown}
        sys.stdout.write(to_json(verdicts, rows if tables else None) + "\n")
    else:
        texts = [*(table.text() for table in shown), *(each.to_text() for each in verdicts)]
        sys.stdout.write("\n\n".join(texts) + "\n")
    return 0 if all(each.works for each in verdicts) else 1


def _check(lab: Lab, loop: Loop, name: str, told: Told, as_json: bool, entered: float) -> int:
    from harness.refusals import refused_by_groups

    document = _document(name)
    with told.stage("tables", "the document's tables"):
        found = loop.run(_read(lab, document.TABLES))
    with told.stage("pings", "pings"):
        pings = [(node, to, bool(loop.run(lab[node].ping(to)))) for node, to in document.PINGS]
    refused = [line for node, to, ok in pings if not ok for line in loop.run(refused_by_groups(lab, node, to))]
    wrong = {node: table for node, table in found.items() if table != document.TABLES[node]}
    total = time.monotonic() - entered
    if as_json:
        stages = [{"name": stage, "seconds": round(took, 4)} for stage, took in told.stages]
        report = {
            "tables": {node: table == document.TABLES[node] for node, table in found.items()},
            "pings": {f"{node} {to}": answered for node, to, answered in pings},
            "refused": refused,
            "seconds": round(total, 4),
            "stages": stages,
        }
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        from harness.tables import side_by_side

        for node, table in wrong.items():
            sys.stdout.write("\n".join(side_by_side(table, document.TABLES[node])) + "\n")
        sys.stdout.writelines(f"  ✗ {line}\n" for line in refused)
        answered = sum(ok for *_, ok in pings)
        sys.stdout.write(
            f"{len(found) - len(wrong)} of {len(found)} tables as in the document, {answered} of {len(pings)} pings answered, "
            f"{total:.2f} s from the start of the command\n"
        )
    return 0 if not wrong and all(ok for *_, ok in pings) else 1


async def _read(lab: Lab, expected: dict[str, RouteTable]) -> dict[str, RouteTable]:
    since = time.monotonic()
    tables = await asyncio.gather(
        *(lab[node].route_table(like=table, within=_TABLES_WITHIN, since=since) for node, table in expected.items())
    )
    return dict(zip(expected, tables, strict=True))


def _document(name: str) -> Any:
    try:
        return importlib.import_module(f"labs.document.{name.replace('-', '_')}")
    except ModuleNotFoundError:
        raise SystemExit(
            "vbrlab up --check: the documents' tables come with the source tree; run it in a clone"
        ) from None


def interact(lab: Lab, loop: Loop, estate: Any = None) -> None:
    """The prompt, until it is left; meanwhile the door is open to other terminals, and so is the console of the estate's VBR."""
    from harness.cloud.vbr import VbrEstate
    from harness.console import Console
    from harness.net.door import Door

    with contextlib.ExitStack() as stack:
        control = stack.enter_context(_console(lab, loop, estate)) if isinstance(estate, VbrEstate) else None
        stack.enter_context(Door(lambda node: lab.nodes[node].namespace.fd, lambda: lab.nodes, control))
        console = Console(lab, loop.run)
        sys.stdout.write(console.tables() + "\n\n")
        sys.stdout.write(welcome(lab.plan))
        console.run()


@contextlib.contextmanager
def _console(lab: Lab, loop: Loop, estate: VbrEstate) -> Iterator[Path]:
    """The control socket that ``vbrlab vbr`` asks, with the cloud's monitoring behind it."""
    from harness.cloud_control import cloud_control

    inside = cloud_control(lab, estate)
    path = loop.run(inside.__aenter__())
    try:
        yield path
    finally:
        loop.run(inside.__aexit__(None, None, None))


def welcome(plan: Plan) -> str:
    """What can be typed at the prompt, with nodes of this plan as examples: those of a cable between two routers."""
    speakers = {node.name for node in plan.nodes if node.speaker is not None}
    cables = [(link.a.node, link.b.node) for link in plan.links]
    router, other = max(cables, key=lambda ends: len(speakers & set(ends)))
    return (
        f"{plan.name} is up. A line runs in a node: {router} ip route. Also: {router} show bgp, link {router} {other} down, tables,\n"
        f"events, help. From another terminal: vbrlab exec {plan.name} {router} -- COMMAND. Ctrl-D ends the lab.\n"
    )


def started_at() -> float:
    """When this process began by the kernel's book, in CLOCK_MONOTONIC seconds: exec and interpreter start included."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[19])
    since_boot = ticks / 100.0
    return since_boot - (time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic())
