"""The two IPsec data planes side by side: what each carries through three tunnels, and the processor time for it.

Each round starts `ipsec-ecmp` once on every plane that the machine has, in a sandbox, in turn; a plane that is not there is shown as
absent. There are no rivals: the kernel's is the yardstick of charon's own (libipsec).

    python -m bench.dataplane ROUNDS        the measurement alone, as JSON: {plane: [[Mbit/s, CPU s for a Gbit], ...]}
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence

from bench.lab import CheckFailed
from bench.registry import Measurement, Options, benchmark

ROUNDS, TIMEOUT_S = 3, 900.0
OURS, KERNEL = "libipsec", "xfrm"


@benchmark("dataplane", "ipsec-ecmp with charon encrypting (libipsec) and with the kernel (xfrm): throughput and CPU")
def dataplane(options: Options) -> Iterator[Measurement]:
    """Medians of bulk TCP through all three tunnels; "ours" is libipsec, the rival the kernel."""
    found = measured(options.rounds or ROUNDS)
    for index, (name, unit) in enumerate((("payload through three tunnels", "Mbit/s"), ("CPU for a Gbit of it", "s"))):
        values = {plane: statistics.median(row[index] for row in rows) for plane, rows in found.items()}
        if OURS in values:
            yield Measurement(f"{name}, libipsec", unit, values[OURS], {KERNEL: values.get(KERNEL)})
        elif KERNEL in values:
            yield Measurement(f"{name}, xfrm", unit, values[KERNEL], {OURS: None})


def measured(rounds: int) -> dict[str, list[list[float]]]:
    """The rounds of every plane, from a process in a sandbox. Raises CheckFailed."""
    command = [sys.executable, "-m", "bench.dataplane", str(rounds)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise CheckFailed(
            f"{' '.join(command)} exited {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}"
        )
    found: dict[str, list[list[float]]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


async def trials(rounds: int) -> dict[str, list[list[float]]]:
    """Every plane in turn, round by round, each in a lab of its own."""
    from harness.lab import PRELOAD, Lab
    from harness.net.zygote import Zygote
    from harness.plane_trial import cost, planes
    from topologies import ipsec_ecmp

    here = []
    for plane, why in planes():
        if why:
            sys.stderr.write(f"{plane} is not here: {why}\n")
        else:
            here.append(plane)
    zygote = Zygote.start(PRELOAD)
    found: dict[str, list[list[float]]] = {plane.value: [] for plane in here}
    for _ in range(rounds):
        for plane in here:
            lab = await Lab.start(ipsec_ecmp.plan(), zygote, plane=plane)
            try:
                await lab.tunnels_up(within=30)
                await lab.established(within=30)
                await lab["dc-router"].learned("10.0.0.0/24", within=10)
                spent = await cost(lab)
                found[plane.value].append([spent.mbit_per_second, spent.cpu_per_gbit])
            finally:
                await lab.stop()
    zygote.stop()
    return found


def main(arguments: Sequence[str]) -> int:
    """Goes into a sandbox, then measures and prints the figures as JSON."""
    import asyncio

    from harness.net import sandbox

    if not sandbox.inside():
        sandbox.reexec([sys.executable, "-m", "bench.dataplane", *arguments], name="bench")
    sys.stdout.write(json.dumps(asyncio.run(trials(int(arguments[0])))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
