"""Receipts: for every flow and direction, what was sent, what came, what is missing and when.

Two halves meet here. :class:`Arrivals` is a receiver's book, written packet by packet. A :class:`Ledger` joins one end's book with
the other end's list of what it sent. Both travel over a control socket as columns (:class:`Report`): 3,000 flows are some
200 kilobytes of JSON. Pure data; times are CLOCK_MONOTONIC seconds; what a receiver calls "now" is exact to a tick (2 ms) of its worker.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.traffic.flows import Direction, Flow, FlowSet, Protocol


class Arrivals:
    """What one end received in one run. ``flows`` are the ids it expects, in any order; :meth:`note` is the hot path."""

    __slots__ = (
        "bytes",
        "delay",
        "duplicates",
        "first",
        "gap",
        "gap_at",
        "last",
        "position",
        "received",
        "reordered",
        "seen",
        "total",
    )

    def __init__(self, flows: Sequence[int]) -> None:
        n = len(flows)
        self.position = {flow: place for place, flow in enumerate(flows)}
        # One octet a sequence number, 1 when it came: the missing ones and the tail can be read from it; the last is always 1.
        self.seen = [bytearray() for _ in range(n)]
        self.received = [0] * n
        self.bytes = [0] * n
        self.duplicates = [0] * n
        self.reordered = [0] * n
        self.first = [0.0] * n
        self.last = [0.0] * n
        self.gap = [0.0] * n
        self.gap_at = [0.0] * n
        self.delay = [0.0] * n
        self.total = 0

    def note(self, flow: int, sequence: int, size: int, sent: float, now: float) -> bool:
        """Books one record of ``size`` octets. False: the flow is none of ours."""
        place = self.position.get(flow)
        if place is None:
            return False
        seen = self.seen[place]
        length = len(seen)
        if sequence == length:
            seen.append(1)
        elif sequence > length:
            seen.extend(bytes(sequence - length))
            seen.append(1)
        elif seen[sequence]:
            self.duplicates[place] += 1
            return True
        else:
            self.reordered[place] += 1
            seen[sequence] = 1
        self.total += 1
        self.received[place] += 1
        self.bytes[place] += size
        last = self.last[place]
        if not last:
            self.first[place] = now
        elif now - last > self.gap[place]:
            self.gap[place] = now - last
            self.gap_at[place] = last
        self.last[place] = now
        if now - sent > self.delay[place]:
            self.delay[place] = now - sent
        return True

    def holes(self) -> list[tuple[int, int, int]]:
        """(flow, first, last) of every run of sequence numbers that did not come though a later one did."""
        found = []
        for flow, place in self.position.items():
            seen = self.seen[place]
            start = seen.find(0)
            while start >= 0:
                end = seen.find(1, start)
                found.append((flow, start, end - 1))
                start = seen.find(0, end)
        return found


@dataclass(frozen=True, slots=True)
class Report:
    """One end's view of one run, in columns with one entry a flow, in the order in which it sends.

    ``started``, ``interval`` and ``delays`` tell when a packet was due (:meth:`due`); a delay is (packet, seconds by which the schedule
    is put off from there on), where the sender was kept from its work. ``unsent`` counts packets that the kernel refused
    (they have a sequence number and count as lost), by reason in ``refusals``. ``holes`` are (flow, first, last). ``length`` is one
    more than the highest sequence number that came. ``retransmits`` and ``broken`` are TCP's. ``overflow`` counts datagrams that the
    sockets had no room for, ``stray`` those that belong to no flow or came from a wrong address: either is a fault of the test,
    never the network's.
    """

    run: int
    flows: tuple[int, ...]
    sent: tuple[int, ...]
    unsent: tuple[int, ...]
    received: tuple[int, ...]
    bytes: tuple[int, ...]
    duplicates: tuple[int, ...]
    reordered: tuple[int, ...]
    first: tuple[float, ...]
    last: tuple[float, ...]
    gap: tuple[float, ...]
    gap_at: tuple[float, ...]
    delay: tuple[float, ...]
    length: tuple[int, ...]
    holes: tuple[tuple[int, int, int], ...]
    started: float
    interval: float
    delays: tuple[tuple[int, float], ...] = ()
    refusals: Mapping[str, int] = field(default_factory=dict)
    retransmits: Mapping[int, int] = field(default_factory=dict)
    broken: Mapping[int, str] = field(default_factory=dict)
    overflow: int = 0
    stray: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it: times rounded to the microsecond."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("first", "last", "gap", "gap_at", "delay"):
            values[name] = [round(t, 6) for t in values[name]]
        return values

    def due(self, place: int, sequence: int) -> float:
        """When packet ``sequence`` of the flow in ``place`` was to be sent: it was, at most ``harness.traffic.run.LAG`` later."""
        packet = sequence * len(self.flows) + place
        known = bisect_right(self.delays, packet, key=lambda entry: entry[0])
        return self.started + packet * self.interval + (self.delays[known - 1][1] if known else 0.0)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Report:
        columns: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        columns["holes"] = tuple((f, a, b) for f, a, b in values["holes"])
        columns["delays"] = tuple((packet, delay) for packet, delay in values["delays"])
        for name in ("retransmits", "broken"):
            columns[name] = {int(flow): value for flow, value in values[name].items()}
        return Report(**columns)


@dataclass(frozen=True, slots=True)
class Receipt:
    """One direction of one flow in one run.

    ``lost`` are the (first, last) sequence numbers that never came, ``lost_at`` when these two were due to be sent.
    ``gap`` is the longest silence between two arrivals, which began at ``gap_at``. ``delay`` is the longest time from sending
    to receipt. For TCP nothing is ever lost: a record is late (``gap``, ``retransmits``), or still under way (``lost``), or the
    connection ``broken`` with the reason.
    """

    flow: Flow
    direction: Direction
    sent: int
    received: int
    bytes: int
    lost: tuple[tuple[int, int], ...]
    lost_at: tuple[tuple[float, float], ...]
    duplicates: int
    reordered: int
    first: float
    last: float
    gap: float
    gap_at: float
    delay: float
    unsent: int = 0
    retransmits: int = 0
    broken: str = ""

    @property
    def missing(self) -> int:
        """Packets sent, or meant to be, that did not come."""
        return sum(last - first + 1 for first, last in self.lost)

    @property
    def whole(self) -> bool:
        """Everything came, once, and the connection lives."""
        return not (self.lost or self.duplicates or self.broken)


class LedgerError(ValueError):
    """Reports that do not belong together: another run, or a flow that no end, or more than one end, speaks for."""


class Ledger:
    """Every receipt of a run, by direction and flow id."""

    def __init__(
        self,
        run: int,
        receipts: Mapping[Direction, Mapping[int, Receipt]],
        faults: Mapping[str, int],
        delay: float = 0.0,
    ) -> None:
        self.run = run
        self.receipts = receipts
        self.faults = faults
        """What the test itself did wrong ("overflow", "stray", refusals of the kernel); empty in a clean run."""
        self.delay = delay
        """Seconds by which a busy machine put off the end of the schedule, at the end that suffered most."""

    def __iter__(self) -> Iterator[Receipt]:
        return (receipt for flows in self.receipts.values() for receipt in flows.values())

    def __getitem__(self, direction: Direction) -> Mapping[int, Receipt]:
        return self.receipts[direction]

    def missing(self, direction: Direction | None = None, flows: Iterable[int] | None = None) -> int:
        """Packets lost, of all flows or of ``flows``, in one direction or both."""
        wanted = None if flows is None else set(flows)
        return sum(
            receipt.missing
            for receipt in self
            if direction in (None, receipt.direction) and (wanted is None or receipt.flow.id in wanted)
        )

    def of(self, protocol: Protocol) -> Iterator[Receipt]:
        return (receipt for receipt in self if receipt.flow.protocol is protocol)

    def totals(self) -> dict[str, int]:
        """Sums over all receipts: sent, received, missing, duplicates, reordered, bytes, broken connections."""
        return {
            **{
                name: sum(getattr(receipt, name) for receipt in self)
                for name in ("sent", "received", "missing", "duplicates", "reordered", "bytes")
            },
            "broken": sum(bool(receipt.broken) for receipt in self),
        }


def join(flows: FlowSet, clients: Iterable[Report], server: Report) -> Ledger:
    """The ledger of one run from all its ends' reports. Raises LedgerError when they do not fit together."""
    clients = list(clients)
    for report in clients:
        if report.run != server.run:
            raise LedgerError(
                f"a client reports run {report.run}, the server run {server.run}; ask all ends for the same run"
            )
    owners = [flow for report in clients for flow in report.flows]
    if sorted(owners) != sorted(server.flows):
        raise LedgerError(
            f"the clients speak for {len(set(owners))} flows ({len(owners)} times), the server for {len(server.flows)}; load all ends alike"
        )
    receipts = {
        Direction.TO_VPC: {r.flow.id: r for c in clients for r in _receipts(flows, Direction.TO_VPC, c, server)},
        Direction.TO_DC: {r.flow.id: r for c in clients for r in _receipts(flows, Direction.TO_DC, server, c)},
    }
    faults: dict[str, int] = {}
    for report in (*clients, server):
        for name, count in (("overflow", report.overflow), ("stray", report.stray), *report.refusals.items()):
            if count:
                faults[name] = faults.get(name, 0) + count
    delay = max((report.delays[-1][1] for report in (*clients, server) if report.delays), default=0.0)
    return Ledger(server.run, receipts, faults, delay)


def _receipts(flows: FlowSet, direction: Direction, sender: Report, receiver: Report) -> Iterator[Receipt]:
    """The receipts of the flows that both reports speak for, in one direction."""
    mine = {flow: place for place, flow in enumerate(sender.flows)}
    theirs = {flow: place for place, flow in enumerate(receiver.flows)}
    holes: dict[int, list[tuple[int, int]]] = {}
    for flow, first, last in receiver.holes:
        holes.setdefault(flow, []).append((first, last))
    broken = {**receiver.broken, **sender.broken}
    for flow in mine.keys() & theirs.keys():
        place, there = mine[flow], theirs[flow]
        lost = holes.get(flow, [])
        if receiver.length[there] < sender.sent[place]:
            lost.append((receiver.length[there], sender.sent[place] - 1))
        yield Receipt(
            flow=flows[flow],
            direction=direction,
            sent=sender.sent[place],
            received=receiver.received[there],
            bytes=receiver.bytes[there],
            lost=tuple(lost),
            lost_at=tuple((sender.due(place, first), sender.due(place, last)) for first, last in lost),
            duplicates=receiver.duplicates[there],
            reordered=receiver.reordered[there],
            first=receiver.first[there],
            last=receiver.last[there],
            gap=receiver.gap[there],
            gap_at=receiver.gap_at[there],
            delay=receiver.delay[there],
            unsent=sender.unsent[place],
            retransmits=sender.retransmits.get(flow, 0),
            broken=broken.get(flow, ""),
        )
