"""The virtual border router's two figures: how fast eight peers stand, and how long a cut circuit is missed, variant by variant.

The first is ``vbrlab up vbr --check`` by its own account of its stages: namespaces, speakers, sessions, and the document's tables read
from kernels and found right; the whole command from exec to exit stands beside it. The second is ``harness.outage_trial`` in a sandbox
of its own, each trial in a fresh lab, four circuits cut at once. There is no rival: nothing else builds these labs.

    python -m bench.vbr CUTS        the trials alone, as JSON: {variant: [seconds, ...]}
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.lab import CheckFailed, run_once
from bench.registry import AtMost, Measurement, Options, benchmark

ROUNDS, PEERS_BAR_S = 5, 1.0
#: The command's stages from the first namespace to the tables found right: not the interpreter and its imports, nor the pings after.
FROM_NOTHING = ("lab", "bgp", "tables")
CUTS, CENTRES, TIMEOUT_S = 20, 4, 600.0
OUT = Path("reports/out/vbr-failover")
#: Over what the timers lead to: a packet's interval of the pulse at each end, and the time to react.
_REACTION_S = 0.1
#: The cut comes up to this many beats of 5 ms after the pulse has begun: anywhere between two KEEPALIVEs of a hold time of 3 s.
_LATEST = 210


@benchmark(
    "vbr",
    "eight peers of a VBR from nothing to Established, with the document's tables right in the kernels",
)
def peers(options: Options) -> Iterator[Measurement]:
    """Medians: from nothing to the tables, the parts of that, and what the command takes besides."""
    runs = [run_once(("up", "vbr", "--check", "--json")) for _ in range(options.rounds or ROUNDS)]
    built = statistics.median(sum(stages[stage] for stage in FROM_NOTHING) for _, stages in runs)
    yield Measurement("8 peers, from nothing to routes in the kernel", "s", built, bars=[AtMost(PEERS_BAR_S)])
    for stage in runs[-1][1]:
        part = "of it" if stage.partition(":")[0] in FROM_NOTHING else "besides"
        yield Measurement(f"8 peers, {part}: {stage}", "s", statistics.median(stages[stage] for _, stages in runs))
    total = statistics.median(seconds for seconds, _ in runs)
    yield Measurement("8 peers, the command from exec to exit", "s", total)


@benchmark("vbr-failover", "outage after a circuit is cut inside its line: hold timer, BFD 3 x 300 ms, BFD 3 x 50 ms")
def failover(options: Options) -> Iterator[Measurement]:
    """Least, median, 95th percentile and most of at least 20 cuts a variant; the chart is in ``reports/out/vbr-failover``."""
    samples = measured(options.rounds or CUTS)
    from harness.outage_trial import VARIANTS

    for name, values in samples.items():
        most = VARIANTS[name].expected[1] + _REACTION_S
        label = f"outage, {name}, {len(values)} cuts"
        yield Measurement(f"{label}, least", "s", min(values))
        yield Measurement(f"{label}, median", "s", statistics.median(values), bars=[AtMost(most)])
        yield Measurement(f"{label}, 95th percentile", "s", statistics.quantiles(values, n=20)[-1])
        yield Measurement(f"{label}, most", "s", max(values))
    _chart(samples)


def measured(cuts: int) -> dict[str, list[float]]:
    """At least that many outages of every variant, from a process in a sandbox. Raises CheckFailed."""
    command = [sys.executable, "-m", "bench.vbr", str(cuts)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise CheckFailed(
            f"{' '.join(command)} exited {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}"
        )
    found: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _chart(samples: dict[str, list[float]]) -> None:
    from harness.outage_trial import VARIANTS
    from reports.charts import chart
    from reports.model import Outages

    title = f"Outage after a cut inside the line, {min(map(len, samples.values()))} cuts a variant"
    expected = {name: variant.expected for name, variant in VARIANTS.items()}
    item = Outages(title, {name: tuple(values) for name, values in samples.items()}, expected)
    chart(item, "outages").save(OUT)


async def trials(cuts: int) -> dict[str, list[float]]:
    """Every variant in turn, round by round, so that what the machine does besides is spread over all of them."""
    from harness.cloud.vbr import Line
    from harness.lab import PRELOAD, Lab
    from harness.net.zygote import Zygote
    from harness.outage_trial import VARIANTS, Disturbed, trial
    from topologies import vbr

    zygote = Zygote.start(PRELOAD)
    samples: dict[str, list[float]] = {name: [] for name in VARIANTS}
    disturbed, chance = 0, random.Random(1)
    while any(len(values) < cuts for values in samples.values()):
        for name, variant in VARIANTS.items():
            hop_count = 1 if variant.bfd else None
            plan = vbr.plan(
                peers=2 * CENTRES,
                lines=2,
                line=Line.BRIDGED,
                bfd_hop_count=hop_count,
                data_centre_bfd=hop_count,
                timers=variant.timers,
            )
            lab = await Lab.start(plan, zygote)
            try:
                samples[name] += await trial(lab, CENTRES, bfd=variant.bfd, beats=chance.randint(10, _LATEST))
            except Disturbed as error:
                disturbed += 1
                sys.stderr.write(f"{name}: disturbed: {error}\n")
                if disturbed > cuts:
                    raise
            finally:
                await lab.stop()
    zygote.stop()
    return samples


def main(arguments: Sequence[str]) -> int:
    """Goes into a sandbox, then measures and prints the samples as JSON."""
    import asyncio

    from harness.net import sandbox

    if not sandbox.inside():
        sandbox.reexec([sys.executable, "-m", "bench.vbr", *arguments], name="bench")
    sys.stdout.write(json.dumps(asyncio.run(trials(int(arguments[0])))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
