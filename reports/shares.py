"""How load split over connections, and how sure that is: shares, intervals, and the flows that decide both.

The hash picks a path for each flow, so a share of flows is a binomial proportion and has Wilson's score interval (Wilson 1927).
Packets and bytes come in flows, so their share is as uncertain as that of the flows that carry them: with flows of unequal size that
is Kish's effective number, (sum w)^2 / sum w^2. Where a Spread does not say it, all its flows are taken as equally large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.model import Spread

#: The 97.5 % quantile of the normal distribution: two-sided 95 %.
Z95 = 1.959963984540054

MEASURES = {
    "flows": "Flows",
    "packets": "Packets",
    "bytes": "Bytes",
    "sa_packets": "Packets by the SA",
    "sa_bytes": "Bytes by the SA",
}
DIRECTIONS = {"to-vpc": "data centre → VPC", "to-dc": "VPC → data centre"}


@dataclass(frozen=True, slots=True)
class Share:
    """One connection's part of one measure: ``share``, ``low`` and ``high`` are fractions, the interval is of 95 %."""

    connection: str
    count: int
    share: float
    low: float
    high: float
    even: float

    @property
    def holds_even(self) -> bool:
        """Whether the interval contains the even share."""
        return self.low <= self.even <= self.high


def wilson(share: float, size: float) -> tuple[float, float]:
    """The 95 % score interval of a proportion seen in ``size`` independent draws; (0, 1) for none."""
    if size <= 0:
        return 0.0, 1.0
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = Z95 / (1 + z2 / size) * math.sqrt(share * (1 - share) / size + z2 / (4 * size * size))
    return max(0.0, centre - half), min(1.0, centre + half)


def independent_flows(spread: Spread, direction: str, measure: str) -> float:
    """How many independent draws stand behind a measure of ``spread``."""
    flows = float(sum(spread.counts[direction].get("flows", ())))
    if measure == "flows":
        return flows
    return spread.effective_flows.get(direction, {}).get(measure, flows)


def shares(spread: Spread, direction: str, measure: str) -> tuple[Share, ...]:
    """The share of each connection, in the order of ``spread.connections``."""
    counts = spread.counts[direction][measure]
    total = sum(counts)
    size = independent_flows(spread, direction, measure)
    found = []
    for connection, count in zip(spread.connections, counts, strict=True):
        share = count / total if total else 0.0
        low, high = wilson(share, size)
        found.append(Share(connection, count, share, low, high, 1 / len(counts)))
    return tuple(found)
