"""What was seen on the tunnels, packet by packet, and the questions it answers: which tunnel a flow takes, when, and how much.

Each tunnel has one log a direction: three arrays (time, flow, length) in the order of arrival, 16 octets a packet, so that any window
[t0, t1) can be asked for afterwards; counting a window is C speed. Pure data: who listens is ``meter``'s business. Times are
CLOCK_MONOTONIC seconds, lengths are those of the inner IP packets.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.traffic.flows import Direction


@dataclass(frozen=True, slots=True)
class Share:
    """How much went over one tunnel in one direction in a window. ``flows`` maps a flow's id to its packets."""

    packets: int
    bytes: int
    flows: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """All tunnels and both directions in [start, end)."""

    start: float
    end: float
    shares: Mapping[str, Mapping[Direction, Share]]

    @property
    def tunnels(self) -> tuple[str, ...]:
        return tuple(self.shares)

    def paths(self, direction: Direction) -> dict[int, tuple[str, ...]]:
        """flow -> the tunnels that carried it in this window, the busiest first: one, unless it moved meanwhile."""
        seen: dict[int, list[tuple[int, str]]] = {}
        for tunnel, directions in self.shares.items():
            for flow, packets in directions[direction].flows.items():
                seen.setdefault(flow, []).append((packets, tunnel))
        return {flow: tuple(name for _n, name in sorted(found, reverse=True)) for flow, found in seen.items()}

    def tunnel_of(self, direction: Direction) -> dict[int, str]:
        """flow -> its tunnel. Raises SplitFlow when one used several: choose windows in which nothing changes."""
        paths = self.paths(direction)
        for flow, tunnels in paths.items():
            if len(tunnels) > 1:
                raise SplitFlow(
                    f"flow {flow} used {' and '.join(tunnels)} {direction} between {self.start:.3f} and {self.end:.3f} s; "
                    f"ask for a window before or after its move"
                )
        return {flow: tunnels[0] for flow, tunnels in paths.items()}

    def measure(self, direction: Direction) -> dict[str, tuple[int, ...]]:
        """ "flows", "packets" and "bytes", each with one number a tunnel in the order of ``tunnels``."""
        shares = [self.shares[tunnel][direction] for tunnel in self.tunnels]
        return {
            "flows": tuple(len(share.flows) for share in shares),
            "packets": tuple(share.packets for share in shares),
            "bytes": tuple(share.bytes for share in shares),
        }

    def to_dict(self) -> dict[str, Any]:
        """Flows as two columns, ids and packets: 3,000 flows both ways are about 60 kilobytes of JSON."""
        return {
            "start": self.start,
            "end": self.end,
            "shares": {
                tunnel: {
                    direction.value: {
                        "packets": share.packets,
                        "bytes": share.bytes,
                        "ids": list(share.flows),
                        "counts": list(share.flows.values()),
                    }
                    for direction, share in directions.items()
                }
                for tunnel, directions in self.shares.items()
            },
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Window:
        return Window(
            values["start"],
            values["end"],
            {
                tunnel: {
                    Direction(name): Share(
                        share["packets"], share["bytes"], dict(zip(share["ids"], share["counts"], strict=True))
                    )
                    for name, share in directions.items()
                }
                for tunnel, directions in values["shares"].items()
            },
        )


class SplitFlow(ValueError):
    """A flow used more than one tunnel where one was expected."""


class PacketLog:
    """The packets of known flows on one tunnel in one direction, oldest first. ``append`` to the three arrays together."""

    __slots__ = ("flows", "lengths", "times")

    def __init__(self) -> None:
        self.times = array("d")
        self.flows = array("I")
        self.lengths = array("I")

    def between(self, start: float, end: float) -> Share:
        first, last = bisect_left(self.times, start), bisect_left(self.times, end)
        return Share(last - first, sum(self.lengths[first:last]), Counter(self.flows[first:last]))

    def series(self, start: float, end: float, width: float) -> tuple[tuple[float, int, int], ...]:
        """(start of the bin, packets, bytes) of each bin of ``width`` seconds that ends by ``end``."""
        bins = []
        first = bisect_left(self.times, start)
        for number in range(int((end - start) / width + 1e-9)):
            last = bisect_left(self.times, start + (number + 1) * width, first)
            bins.append((start + number * width, last - first, sum(self.lengths[first:last])))
            first = last
        return tuple(bins)


@dataclass(slots=True)
class Other:
    """Packets of no known flow, by what they are ("IPv4 protocol 1"), each (packets, bytes) inward and outward."""

    inward: dict[str, list[int]] = field(default_factory=dict)
    outward: dict[str, list[int]] = field(default_factory=dict)

    def note(self, kind: str, length: int, *, outgoing: bool) -> None:
        counts = (self.outward if outgoing else self.inward).setdefault(kind, [0, 0])
        counts[0] += 1
        counts[1] += length


class Observations:
    """The logs of all tunnels."""

    def __init__(self, tunnels: Iterable[str]) -> None:
        self.logs = {tunnel: {direction: PacketLog() for direction in Direction} for tunnel in tunnels}
        self.other = {tunnel: Other() for tunnel in self.logs}

    def window(self, start: float, end: float) -> Window:
        """Everything seen in [start, end)."""
        return Window(
            start,
            end,
            {tunnel: {d: log.between(start, end) for d, log in logs.items()} for tunnel, logs in self.logs.items()},
        )

    def series(
        self, start: float, end: float, width: float
    ) -> dict[str, dict[Direction, tuple[tuple[float, int, int], ...]]]:
        """tunnel -> direction -> :meth:`PacketLog.series`."""
        return {
            tunnel: {d: log.series(start, end, width) for d, log in logs.items()} for tunnel, logs in self.logs.items()
        }
