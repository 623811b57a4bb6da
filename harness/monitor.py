"""What the console's Monitor tab shows of IPsec connections: traffic in and out over time, the state of the SAs and of BGP.

Read from the control sockets of a running lab's daemons, in it (labs) or beside it (``vbrlab monitor``, which starts this module inside the
lab). Shown as text, as JSON lines, or as Prometheus metrics; :func:`chart_of` makes the report's chart. Keys are in none of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address, ip_interface
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.control import ControlClient, ControlError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from reports.model import Monitor

RUNNING = Path("/run/vbrlab")


@dataclass(frozen=True, slots=True)
class Reading:
    """One end of a connection at one moment (CLOCK_MONOTONIC seconds).

    Traffic is what crossed the tunnel interface, inner packets, over all rekeys; it begins at 0 when charon is started anew. ``console``
    is the vendor's word for the SAs' state, ``reason`` the code of what failed last; ``bgp`` is None without a session of that end.
    """

    time: float
    node: str
    connection: str
    state: str
    console: str
    reason: str | None
    bgp: str | None
    bytes_in: int
    packets_in: int
    bytes_out: int
    packets_out: int
    rekeys: int


async def readings(folder: Path) -> list[Reading]:
    """A reading of every tunnel end whose daemon serves its socket below ``folder``, by node."""
    paths = sorted(folder.rglob("ipsec.sock"))
    found = await asyncio.gather(*(_reading(path) for path in paths))
    return sorted((each for each in found if each is not None), key=lambda each: each.node)


async def _reading(path: Path) -> Reading | None:
    with contextlib.suppress(ControlError, OSError):
        client = await ControlClient.connect(path)
        try:
            status, counters = await asyncio.gather(client.call("show.status"), client.call("counters"))
        finally:
            await client.close()
        crossed = counters["interface"] or {}
        return Reading(
            counters["time"],
            status["node"],
            status["tunnel"],
            status["state"],
            status["console"],
            status["reason"] and status["reason"]["code"],
            await _session(path.with_name("bgp.sock"), status["address"]),
            crossed.get("bytes_in", 0),
            crossed.get("packets_in", 0),
            crossed.get("bytes_out", 0),
            crossed.get("packets_out", 0),
            counters["rekeys"],
        )
    return None


async def _session(path: Path, inner: str) -> str | None:
    """The state of the session whose neighbour is in the tunnel's block."""
    with contextlib.suppress(ControlError, OSError):
        client = await ControlClient.connect(path)
        try:
            rows = await client.call("show.neighbors")
        finally:
            await client.close()
        block = ip_interface(inner).network
        return next((str(row["state"]) for row in rows if ip_address(row["address"]) in block), None)
    return None


def text(found: Sequence[Reading]) -> str:
    """A table of readings."""
    rows = [("NODE", "CONNECTION", "SA", "BGP", "IN", "OUT", "REKEYS")]
    rows += [
        (
            each.node,
            each.connection,
            each.console + (f" ({each.reason})" if each.reason else ""),
            each.bgp or "-",
            f"{each.packets_in} packets, {each.bytes_in} bytes",
            f"{each.packets_out} packets, {each.bytes_out} bytes",
            str(each.rekeys),
        )
        for each in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def prometheus(found: Sequence[Reading]) -> bytes:
    """The readings in Prometheus' text form; names are ``vbrlab_ipsec_...``, counters end in ``_total``."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class _Connections(Collector):
        def collect(self) -> Iterator[Metric]:
            return _metrics(found)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Connections())
    return generate_latest(registry)


_WHO = ("node", "connection")


def _metrics(found: Sequence[Reading]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, words in (("bytes", "Bytes through the tunnel"), ("packets", "Packets through the tunnel")):
        counter = CounterMetricFamily(f"vbrlab_ipsec_{name}", words, labels=[*_WHO, "direction"])
        for each in found:
            for direction in ("in", "out"):
                counter.add_metric([each.node, each.connection, direction], getattr(each, f"{name}_{direction}"))
        yield counter
    rekeys = CounterMetricFamily("vbrlab_ipsec_rekeys", "Rekeys of the CHILD_SA", labels=_WHO)
    up = GaugeMetricFamily("vbrlab_ipsec_up", "1 while a CHILD_SA carries traffic", labels=_WHO)
    state = GaugeMetricFamily("vbrlab_ipsec_state", "1 for the state of the SAs", labels=[*_WHO, "state"])
    session = GaugeMetricFamily("vbrlab_ipsec_bgp_up", "1 while the session in the tunnel is Established", labels=_WHO)
    for each in found:
        who = [each.node, each.connection]
        rekeys.add_metric(who, each.rekeys)
        up.add_metric(who, each.state == "up")
        state.add_metric([*who, each.console], 1)
        if each.bgp is not None:
            session.add_metric(who, each.bgp == "Established")
    yield from (rekeys, up, state, session)


def chart_of(title: str, samples: Sequence[Sequence[Reading]], marks: Sequence[tuple[float, str]] = ()) -> Monitor:
    """Kilobits a second of each end, in and out, from two or more samples of the same ends, and the states they ended in.

    ``marks`` are (monotonic seconds, label).
    """
    from reports.model import Monitor

    begun = samples[0][0].time
    series: dict[str, list[tuple[float, float]]] = {}
    for before, after in pairwise(samples):
        then = {each.node: each for each in before}
        for now in after:
            if now.node not in then:
                continue
            last = then[now.node]
            span = max(now.time - last.time, 1e-6)
            for direction in ("in", "out"):
                grown = getattr(now, f"bytes_{direction}") - getattr(last, f"bytes_{direction}")
                series.setdefault(f"{now.node} {direction}", []).append(
                    (last.time - begun, max(0.0, grown * 8 / 1000 / span))
                )
    return Monitor(
        title,
        tuple(series),
        {name: tuple(points) for name, points in series.items()},
        tuple({"t": at - begun, "label": label} for at, label in marks),
        tuple((each.node, each.console, each.bgp or "-", str(each.rekeys)) for each in samples[-1]),
    )


def _written(found: Sequence[Reading], arguments: Any) -> str:
    if arguments.prometheus:
        return prometheus(found).decode()
    if arguments.json:
        return json.dumps([asdict(each) for each in found]) + "\n"
    return text(found) + "\n" if found else ""


async def _follow(arguments: Any) -> int:
    number = 0
    while True:
        found = await readings(arguments.folder)
        try:
            sys.stdout.write(_written(found, arguments))
            sys.stdout.flush()
        except BrokenPipeError:  # as with head: whoever read has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        number += 1
        if not found and not (arguments.json or arguments.prometheus):
            sys.stderr.write("vbrlab: no IPsec connection in this lab\n")
            return 1
        if number >= arguments.count:
            return 0 if found else 1
        await asyncio.sleep(arguments.interval)


def main(argv: Sequence[str]) -> int:
    """Inside a lab: ``python -m harness.monitor``. Exit status 1: the lab has no IPsec connection."""
    parser = argparse.ArgumentParser(prog="vbrlab monitor")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--prometheus", action="store_true")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=RUNNING)
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_follow(parser.parse_args(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
