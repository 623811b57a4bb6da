"""What an IPsec data plane carries and costs: bulk TCP through the tunnels of `ipsec-ecmp`, and the processor time that goes into it.

One measurement for the lab that holds the planes against each other and for ``./run bench dataplane``. Processor time is that of every
process of the sandbox: the senders, the receivers, and charon where it encrypts. The kernel's encryption is done, and counted, in the
process that sends or receives.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.ipsec.strongswan import DataPlane
from harness.lab import Lab
from harness.patience import factor
from harness.probe import probe
from harness.traffic.bulk import transfer

CLIENTS, SERVER, SERVER_ADDRESS = 3, "ecs", "10.0.0.1"
PORT = 5001
_WITHIN = 300.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one plane: ``mbit_per_second`` of ``octets`` of payload in all, ``cpu_seconds`` of all processes, of them ``charon_seconds``."""

    plane: DataPlane
    octets: int
    mbit_per_second: float
    cpu_seconds: float
    charon_seconds: float

    @property
    def cpu_per_gbit(self) -> float:
        """Seconds of processor time for each Gbit of payload."""
        return self.cpu_seconds / (self.octets * 8 / 1e9)


def planes() -> Iterator[tuple[DataPlane, str]]:
    """Each plane, and why it cannot be had here ("" where it can)."""
    for plane in DataPlane:
        choice = probe().dataplane(plane)
        yield plane, "" if choice.plane is not None else choice.reason


async def cost(lab: Lab, megabytes: int = 24) -> Cost:
    """Sends that much from the server to the clients of all three blocks at once, on ports that lead through all tunnels.

    On a slow machine it is as much less as its deadlines are longer: the measurement takes about as long everywhere.
    The inter-region connection is made as fast as the machine for it. Raises TransferFailed.
    """
    assert lab.plane is not None
    lab.impair("tr-hangzhou", "tr-shanghai", rate="none")
    octets = int(megabytes * 1_000_000 / factor()) // CLIENTS
    before, charons = _ticks(), _ticks("charon")
    began = asyncio.get_running_loop().time()
    await asyncio.gather(
        *(
            transfer(
                lab[SERVER].namespace.fd,
                lab[f"dc-client{number}"].namespace.fd,
                f"192.168.{number}.10",
                octets=octets,
                port=PORT + number,
                source=SERVER_ADDRESS,
                within=_WITHIN,
            )
            for number in range(CLIENTS)
        )
    )
    seconds = asyncio.get_running_loop().time() - began
    used, by_charon = _ticks() - before, _ticks("charon") - charons
    lab.clear("tr-hangzhou", "tr-shanghai")
    whole = octets * CLIENTS
    hertz = os.sysconf("SC_CLK_TCK")
    return Cost(lab.plane, whole, whole * 8 / seconds / 1e6, used / hertz, by_charon / hertz)


def _ticks(name: str = "") -> int:
    """Processor time so far, in clock ticks, of all processes seen from here whose name begins so (proc(5): utime and stime)."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # it has just ended
            continue
        own, _, rest = text.partition("(")[2].rpartition(")")
        if own.startswith(name):
            fields = rest.split()
            total += int(fields[11]) + int(fields[12])
    return total
