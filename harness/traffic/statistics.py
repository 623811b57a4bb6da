"""Is the load even, and who moved: the statistics of ECMP, pure functions over counts and flow -> tunnel maps.

Evenness is judged on flows, which the hash places independently of one another, never on packets, which come in flows (ECMP-23). The
test is Pearson's chi-square against equal shares (or the shares a resilient group's buckets give); its p-value is the chance of a spread at
least as uneven when the hash is fair.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from harness.traffic.flows import Direction
from harness.traffic.receipts import Ledger

# Cochran's rule: below five expected in a cell the chi-square distribution does not describe the statistic.
_LEAST_EXPECTED = 5.0


class TooFewFlows(ValueError):
    """Not enough flows, or connections, for the chi-square distribution to hold."""


@dataclass(frozen=True, slots=True)
class Evenness:
    """Pearson's chi-square of ``counts`` against ``expected``. ``p`` is the chance of this or worse under a fair hash."""

    counts: tuple[int, ...]
    expected: tuple[float, ...]
    chi_square: float
    p: float

    def __str__(self) -> str:
        return f"{' / '.join(map(str, self.counts))}: chi-square {self.chi_square:.2f}, p = {self.p:.4f}"


def evenness(counts: Sequence[int], weights: Sequence[float] | None = None) -> Evenness:
    """The test for flow ``counts``, one a connection; ``weights`` are the shares meant, equal ones by default.

    Raises TooFewFlows with under two connections or under five flows expected on one.
    """
    weights = weights or [1.0] * len(counts)
    if len(counts) < 2 or len(weights) != len(counts):
        raise TooFewFlows(f"{len(counts)} connections and {len(weights)} shares: a spread needs at least two, one each")
    total, scale = sum(counts), sum(weights)
    expected = tuple(total * weight / scale for weight in weights)
    if min(expected) < _LEAST_EXPECTED:
        raise TooFewFlows(
            f"{total} flows over {len(counts)} connections expect {min(expected):.1f} on one; "
            f"chi-square needs {_LEAST_EXPECTED:.0f}: send more flows"
        )
    from scipy.special import chdtrc  # here, not above: 0.1 s that most importers do not need

    statistic = sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))
    return Evenness(tuple(counts), expected, statistic, float(chdtrc(len(counts) - 1, statistic)))


@dataclass(frozen=True, slots=True)
class Interval:
    """In which a connection's count lies with ``confidence`` when the hash is fair."""

    low: float
    mean: float
    high: float
    confidence: float

    def __contains__(self, count: float) -> bool:
        return self.low <= count <= self.high


def even_share(flows: int, connections: int, confidence: float = 0.99) -> Interval:
    """The share of one of ``connections`` among ``flows`` (binomial, normal approximation; one connection: all of them)."""
    share = 1.0 / connections
    mean = flows * share
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(flows * share * (1 - share))
    return Interval(max(0.0, mean - reach), mean, min(float(flows), mean + reach), confidence)


@dataclass(frozen=True, slots=True)
class Moves:
    """Two flow -> tunnel maps compared. ``appeared`` were not in the first, ``vanished`` not in the second."""

    kept: frozenset[int]
    moved: Mapping[int, tuple[str, str]]
    vanished: frozenset[int]
    appeared: frozenset[int]

    def moved_from(self, tunnel: str) -> frozenset[int]:
        return frozenset(flow for flow, (old, _new) in self.moved.items() if old == tunnel)

    def moved_from_others(self, tunnels: Collection[str]) -> frozenset[int]:
        """Flows that moved though their tunnel is none of ``tunnels``, the lost ones: there should be none."""
        return frozenset(flow for flow, (old, _new) in self.moved.items() if old not in tunnels)


def compare(before: Mapping[int, str], after: Mapping[int, str]) -> Moves:
    """Which flows take the same tunnel in both maps, and which do not."""
    both = before.keys() & after.keys()
    return Moves(
        kept=frozenset(flow for flow in both if before[flow] == after[flow]),
        moved={flow: (before[flow], after[flow]) for flow in sorted(both) if before[flow] != after[flow]},
        vanished=frozenset(before.keys() - after.keys()),
        appeared=frozenset(after.keys() - before.keys()),
    )


@dataclass(frozen=True, slots=True)
class Toll:
    """What the loss of tunnels cost the flows of one direction.

    ``bystanders`` are flows that were on other tunnels, ``victims`` those on a lost one. ``outage`` is the longest silence of a
    victim (no finer than its sending period); ``first_loss`` and ``last_loss`` are when the victims' lost packets were due.
    """

    direction: Direction
    bystanders: int
    bystanders_moved: int
    bystanders_lost: int
    bystanders_broken: int
    victims: int
    victims_moved: int
    victims_lost: int
    victims_broken: int
    outage: float
    first_loss: float | None
    last_loss: float | None


def toll(
    ledger: Ledger, direction: Direction, before: Mapping[int, str], after: Mapping[int, str], lost: Collection[str]
) -> Toll:
    """Joins receipts and the maps of before and after the loss of the tunnels ``lost``; a flow seen in neither map is an error.

    "lost" counts packets of UDP and records of TCP that never came; a TCP flow that only waited has lost none.
    """
    moves = compare(before, after)
    receipts = ledger[direction]
    if unseen := receipts.keys() - before.keys():
        raise ValueError(
            f"{len(unseen)} flows {direction} were seen on no tunnel before the loss (first: {min(unseen)}); "
            f"let every flow send at least once before"
        )
    victims = [receipts[flow] for flow in receipts if before[flow] in lost]
    bystanders = [receipts[flow] for flow in receipts if before[flow] not in lost]
    losses = [span for receipt in victims for span in receipt.lost_at]
    return Toll(
        direction=direction,
        bystanders=len(bystanders),
        bystanders_moved=sum(receipt.flow.id in moves.moved for receipt in bystanders),
        bystanders_lost=sum(receipt.missing for receipt in bystanders),
        bystanders_broken=sum(bool(receipt.broken) for receipt in bystanders),
        victims=len(victims),
        victims_moved=sum(receipt.flow.id in moves.moved for receipt in victims),
        victims_lost=sum(receipt.missing for receipt in victims),
        victims_broken=sum(bool(receipt.broken) for receipt in victims),
        outage=max((receipt.gap for receipt in victims), default=0.0),
        first_loss=min((first for first, _last in losses), default=None),
        last_loss=max((last for _first, last in losses), default=None),
    )
