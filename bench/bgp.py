"""Declares the benchmarks of the speaker under load, against the daemons that people know. The course itself is `bench.load`.

Every measurement is one child process in a sandbox of its own, because a daemon under load must not meet what another left; rounds are
interleaved and medians compared.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import stream
from bench.contenders import CONTENDERS
from bench.growth import ROUTES
from bench.load import Load
from bench.registry import AtLeast, AtMost, Bar, Measurement, Options, Rival, Skipped, Within, benchmark
from bench.slices import HOLD_S

_PROGRAM = Path(__file__).with_name("load.py")
_TOP = _PROGRAM.parents[1]
_SUPERVISOR = _TOP / "harness" / "net" / "supervisor.py"
_PATIENCE_S = 240.0

OURS = "ours"
BIRD = Rival("BIRD", program="bird", package="bird2")
FRR = Rival("FRR", program="vtysh", package="frr")
GOBGP = Rival("GoBGP", program="gobgpd", package="gobgpd")
INSTALLERS = (BIRD, FRR)
GROWTH = {8: 20, 64: 40, 256: 60}
"""Nodes of a star of speakers, and the seconds after which it has to be complete."""


class CourseFailed(RuntimeError):
    """A measurement did not come to its end: the daemon's name and last words."""


def measure(work: str, daemon: str) -> Load:
    """One run of ``bench.load`` in a sandbox. Raises CourseFailed."""
    return Load(**_in_sandbox([str(_PROGRAM), work, daemon], f"{work} with {daemon}"))


def _in_sandbox(program: Sequence[str], what: str) -> dict[str, Any]:
    """What a program of this package prints last, as JSON. Raises CourseFailed."""
    command = [sys.executable, "-I", "-S", str(_SUPERVISOR), "bench", sys.executable, *program]
    environment = {**os.environ, "PYTHONPATH": str(_TOP)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired as late:
        raise CourseFailed(f"{what} was not done after {_PATIENCE_S:g} s") from late
    if done.returncode:
        raise CourseFailed(f"{what}: {done.stderr.strip()[-1500:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def interleaved(work: str, rivals: Sequence[Rival], rounds: int) -> dict[str, list[Load] | None]:
    """``rounds`` runs of each daemon; None for a rival that is absent."""
    present = [OURS, *(rival.name for rival in rivals if CONTENDERS[rival.name].absent() is None)]
    runs: dict[str, list[Load] | None] = {rival.name: None for rival in rivals}
    runs.update({name: [] for name in present})
    for _ in range(rounds):
        for name in present:
            found = runs[name]
            if found is None:
                continue
            try:
                found.append(measure(work, name))
            except CourseFailed as error:
                if name == OURS:
                    raise
                # A rival that cannot do the work is told of, and has no figure; ours are judged all the same.
                sys.stderr.write(f"  {error}\n")
                runs[name] = None
    return runs


def row(
    name: str, unit: str, runs: dict[str, list[Load] | None], figure: Callable[[Load], float], bars: Sequence[Bar] = ()
) -> Measurement:
    """The medians of one figure, ours and the rivals'."""
    medians = {
        who: None if loads is None else statistics.median(figure(load) for load in loads) for who, loads in runs.items()
    }
    ours = medians.pop(OURS)
    assert ours is not None
    return Measurement(name, unit, ours, medians, bars)


def _real_file() -> Path:
    file = stream.real_file()
    if file is None:
        raise Skipped(
            "there is no stream of real UPDATEs: name an MRT file of them with VBRLAB_STREAM=FILE "
            f"(or put {stream.REAL} into ../shared/data, beside the project)"
        )
    return file


def _seconds(load: Load) -> float:
    return load.seconds


def _rate(load: Load) -> float:
    return load.routes / load.seconds


@benchmark("stream", "a real stream of UPDATEs into table and kernel, and the loss of it", rivals=INSTALLERS)
def real_stream(options: Options) -> Iterator[Measurement]:
    """The whole Internet table from one peer; then its session is lost. Needs the MRT file that VBRLAB_STREAM names."""
    _real_file()
    runs = interleaved("stream", INSTALLERS, options.rounds or 1)
    yield row("real stream into the kernel", "s", runs, _seconds, [Within(BIRD.name, 1.0)])
    yield row("real stream, CPU time", "s", runs, lambda load: load.cpu)
    yield row("real stream, peak memory", "MB", runs, lambda load: load.memory, [Within(BIRD.name, 3.0), AtMost(813)])
    yield row("loss of the session to an empty kernel", "s", runs, lambda load: load.extra["withdrawn"], [AtMost(3.0)])


@benchmark("decide", "the real stream from three peers, every prefix decided between three paths", rivals=INSTALLERS)
def decisions(options: Options) -> Iterator[Measurement]:
    """Three peers send the same table with AS paths of different lengths at once. Needs the MRT file."""
    _real_file()
    runs = interleaved("three", INSTALLERS, options.rounds or 1)
    yield row("real stream from three peers", "s", runs, _seconds)
    yield row("three peers, CPU time", "s", runs, lambda load: load.cpu)
    yield row("three peers, peak memory", "MB", runs, lambda load: load.memory)
    yield row("three peers withdraw all of it", "s", runs, lambda load: load.extra["withdrawn"])
    yield row("three peers announce it again", "s", runs, lambda load: load.extra["again"])


@benchmark("slices", "what the real stream does to the loop, to KEEPALIVEs and to BFD at 3 x 50 ms")
def slices(_: Options) -> Iterator[Measurement]:
    """One run of ``bench.slices``, with a meter on the loop; sessions are watched from outside the process."""
    file = _real_file()
    done = _in_sandbox([str(_PROGRAM.with_name("slices.py")), str(file)], "the loop under load")
    yield Measurement("longest piece of work of the loop", "ms", done["longest"], bars=[AtMost(10)])
    yield Measurement("pieces over 10 ms", f"of {done['slices']}", done["over"])
    yield Measurement(f"longest silence, hold time {HOLD_S} s", "s", done["silence"], bars=[AtMost(HOLD_S / 3 + 0.1)])
    yield Measurement("sessions lost, BFD 3 x 50 ms and hold time", "", done["downs"], bars=[AtMost(0)])


@benchmark("singles", "100,000 UPDATEs of one prefix each into the kernel", rivals=INSTALLERS)
def singles(options: Options) -> Iterator[Measurement]:
    """UPDATEs a second, counted when the kernel has them all."""
    runs = interleaved("singles", INSTALLERS, options.rounds or 1)
    yield row("UPDATEs of one prefix", "1/s", runs, _rate, [AtLeast(30_000)])


@benchmark("fan", "100,000 prefixes from one peer out to eight", rivals=INSTALLERS)
def fan(options: Options) -> Iterator[Measurement]:
    """Until the last of eight receivers has the last prefix. Without GoBGP: docs/speed.md says why."""
    runs = interleaved("fan", INSTALLERS, options.rounds or 1)
    yield row("100,000 prefixes to eight peers", "s", runs, _seconds)


@benchmark("start", "two speakers started together, to Established, default timers", rivals=(*INSTALLERS, GOBGP))
def start(options: Options) -> Iterator[Measurement]:
    """From the start of both to the last KEEPALIVE of the handshake on the wire; ours start as in a lab, forked from the zygote."""
    for work, words in (("start", "without a key"), ("start-md5", "with a key")):
        runs = interleaved(work, (*INSTALLERS, GOBGP), options.rounds or 3)
        yield row(f"two speakers to Established, {words}", "s", runs, _seconds, [AtMost(0.1)])


@benchmark(
    "growth", "stars of 8, 64 and 256 nodes, a speaker in each, ten routes from each, to every route in every kernel"
)
def growth(_: Options) -> Iterator[Measurement]:
    """One star of each size. Larger ones by ``bench/growth.py`` itself."""
    told: dict[int, float] = {}
    for nodes, within in GROWTH.items():
        size = _in_sandbox(
            [str(_PROGRAM.with_name("growth.py")), str(nodes), str(within)], f"a star of {nodes} speakers"
        )
        label = f"{nodes} speakers"
        yield Measurement(f"{label}, every route in every kernel", "s", size["seconds"])
        yield Measurement(f"{label}, kernels complete", "", size["complete"], bars=[AtLeast(nodes)])
        yield Measurement(f"{label}, CPU time", "s", size["cpu"])
        yield Measurement(f"{label}, memory of all", "MB", size["memory"])
        told[nodes] = size["cpu"] / (ROUTES * (nodes - 1) * (nodes - 2)) * 1e6
    small, large = "star of 64", max(GROWTH)
    yield Measurement(
        f"CPU time a route told, star of {large}", "us", told[large], {small: told[64]}, [Within(small, 1.2)]
    )
