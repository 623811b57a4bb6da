"""A run as one end sees it: its absolute schedule, what it sent, what arrived. Pure bookkeeping, no socket.

Packet ``i`` of a run is due at ``started + i * interval`` however late the one before was; it is packet ``i // n`` of the flow in place
``i % n`` of the ``n`` flows. A sender that was kept from its work for longer than :data:`LAG` does not make up for it by a burst, which
queues on the way might not hold: it puts off the rest of the schedule, and says so. An end that only receives has a run with ``total`` 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.traffic.receipts import Arrivals, Report
from harness.traffic.record import HEADER

LAG = 0.05
"""Seconds of sending that are made up for at once."""


@dataclass(slots=True)
class Run:
    """``cursor`` of ``total`` packets are sent; ``unsent`` (by flow) and ``refusals`` (by reason) count those that the kernel refused."""

    number: int
    flows: tuple[int, ...]
    arrivals: Arrivals
    started: float = 0.0
    interval: float = 0.0
    size: int = HEADER.size
    total: int = 0
    cursor: int = 0
    delays: list[tuple[int, float]] = field(default_factory=list)
    tcp_arrived: int = 0
    stray: int = 0
    overflow_before: int = 0
    unsent: dict[int, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    retransmits_before: Mapping[int, int] = field(default_factory=dict)

    @staticmethod
    def open(number: int, flows: Sequence[int], overflow: int) -> Run:
        return Run(number, tuple(flows), Arrivals(flows), overflow_before=overflow)

    def schedule(self, *, started: float, rate: float, packets: int, size: int) -> float:
        """Every flow sends ``packets`` records of ``size`` octets, ``rate`` a second; returns when the last one's interval ends."""
        self.started, self.size = started, size
        self.total = packets * len(self.flows)
        self.interval = 1.0 / (rate * max(1, len(self.flows)))
        return started + self.total * self.interval

    def due(self, now: float, most: int) -> range:
        """The packets to send at ``now``, at most ``most``; they count as sent."""
        late = now - self.next_due
        if late < 0 or self.cursor >= self.total:
            return range(0)
        if late > LAG:
            self.delays.append((self.cursor, self._delay + late - LAG))
            late = LAG
        first = self.cursor
        self.cursor = min(self.total, first + most, first + 1 + int(late / self.interval))
        return range(first, self.cursor)

    @property
    def next_due(self) -> float:
        return self.started + self.cursor * self.interval + self._delay

    @property
    def _delay(self) -> float:
        return self.delays[-1][1] if self.delays else 0.0

    def refuse(self, flow: int, reason: str) -> None:
        self.unsent[flow] = self.unsent.get(flow, 0) + 1
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def report(self, *, retransmits: Mapping[int, int], broken: Mapping[int, str], overflow: int) -> Report:
        """``retransmits`` and ``overflow`` are the present totals of the sockets; the run's own part is told."""
        rounds, rest = divmod(self.cursor, max(1, len(self.flows)))
        arrivals = self.arrivals
        return Report(
            run=self.number,
            flows=self.flows,
            sent=tuple(rounds + (place < rest) for place in range(len(self.flows))),
            unsent=tuple(self.unsent.get(flow, 0) for flow in self.flows),
            received=tuple(arrivals.received),
            bytes=tuple(arrivals.bytes),
            duplicates=tuple(arrivals.duplicates),
            reordered=tuple(arrivals.reordered),
            first=tuple(arrivals.first),
            last=tuple(arrivals.last),
            gap=tuple(arrivals.gap),
            gap_at=tuple(arrivals.gap_at),
            delay=tuple(arrivals.delay),
            length=tuple(map(len, arrivals.seen)),
            holes=tuple(arrivals.holes()),
            started=self.started,
            interval=self.interval,
            delays=tuple(self.delays),
            refusals=dict(self.refusals),
            retransmits={
                flow: count - self.retransmits_before.get(flow, 0)
                for flow, count in retransmits.items()
                if count > self.retransmits_before.get(flow, 0)
            },
            broken=dict(broken),
            overflow=overflow - self.overflow_before,
            stray=self.stray,
        )
