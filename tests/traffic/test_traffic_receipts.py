"""Receipts say exactly what came, what did not, and when; two ends' reports join into one ledger."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.traffic.flows import Direction, FlowSet, FlowSpec, Protocol
from harness.traffic.receipts import Arrivals, LedgerError, Report, join
from harness.traffic.record import HEADER, MAGIC, RecordStream, StreamDamaged
from harness.traffic.run import Run

FLOWS = FlowSet(FlowSpec(("192.168.0.0/24", "192.168.1.0/24"), "10.0.0.1", udp=8, tcp=2))


@given(st.lists(st.integers(0, 40), max_size=80))
def test_holes_are_the_complement_of_what_came(sequences: list[int]) -> None:
    arrivals = Arrivals([5])
    for moment, sequence in enumerate(sequences):
        assert arrivals.note(5, sequence, 64, 0.0, 1.0 + moment)
    came = set(sequences)
    missing = [n for _flow, first, last in arrivals.holes() for n in range(first, last + 1)]
    assert missing == sorted(set(range(max(came, default=0))) - came)
    assert arrivals.received == [len(came)]
    assert arrivals.duplicates == [len(sequences) - len(came)]
    assert arrivals.total == len(came)
    firsts = list(dict.fromkeys(sequences))
    assert arrivals.reordered == [sum(n < max(firsts[: at + 1]) for at, n in enumerate(firsts))]


def test_gap_and_delay() -> None:
    arrivals = Arrivals([1])
    for sequence, now in enumerate((10.0, 10.1, 12.6, 12.7)):
        arrivals.note(1, sequence, 64, now - 0.25 * (sequence == 1), now)
    assert (arrivals.first, arrivals.last) == ([10.0], [12.7])
    assert arrivals.gap == [pytest.approx(2.5)]
    assert arrivals.gap_at == [10.1]
    assert arrivals.delay == [pytest.approx(0.25)]


def test_a_flow_of_somebody_else_is_refused() -> None:
    assert not Arrivals([1, 2]).note(3, 0, 64, 0.0, 1.0)


def _run(flows: list[int], packets: int, started: float = 100.0) -> Run:
    run = Run.open(1, flows, 0)
    run.schedule(started=started, rate=2.0, packets=packets, size=64)
    while run.cursor < run.total:
        run.due(run.next_due, 7)
    return run


def _report(run: Run) -> Report:
    report = run.report(retransmits={}, broken={}, overflow=0)
    return Report.from_dict(json.loads(json.dumps(report.to_dict())))


def _ends(packets: int = 4) -> tuple[list[Run], Run]:
    clients = [_run([f.id for f in FLOWS.within([block])], packets) for block in FLOWS.spec.blocks]
    return clients, _run([f.id for f in FLOWS], packets)


def _carry(sender: Run, receiver: Run, lost: set[tuple[int, int]]) -> None:
    for index in range(sender.total):
        sequence, place = divmod(index, len(sender.flows))
        flow = sender.flows[place]
        if flow in receiver.flows and (flow, sequence) not in lost:
            due = sender.started + index * sender.interval
            receiver.arrivals.note(flow, sequence, 64, due, due + 0.001)


def test_ledger_of_a_clean_run_is_whole() -> None:
    clients, server = _ends()
    for client in clients:
        _carry(client, server, set())
        _carry(server, client, set())
    ledger = join(FLOWS, map(_report, clients), _report(server))
    assert all(receipt.whole and receipt.sent == receipt.received == 4 for receipt in ledger)
    assert ledger.totals() == {
        "sent": 80, "received": 80, "missing": 0, "duplicates": 0, "reordered": 0, "bytes": 5120, "broken": 0
    }  # fmt: skip
    assert len(list(ledger.of(Protocol.TCP))) == 4
    assert ledger.faults == {}


def test_ledger_finds_holes_and_tails_and_dates_them() -> None:
    clients, server = _ends()
    lost = {(3, 1), (3, 2), (6, 3), (9, 0), (9, 1), (9, 2), (9, 3)}
    for client in clients:
        _carry(client, server, lost)
        _carry(server, client, set())
    ledger = join(FLOWS, map(_report, clients), _report(server))
    there = ledger[Direction.TO_VPC]
    assert there[3].lost == ((1, 2),)
    assert there[6].lost == ((3, 3),)
    assert there[9].lost == ((0, 3),)
    assert ledger.missing() == ledger.missing(Direction.TO_VPC) == 7
    assert ledger.missing(flows=[3, 6]) == 3
    assert ledger.missing(Direction.TO_DC) == 0
    # Packet 1 of a flow is due half a second (rate 2) after packet 0, whatever its place in the order.
    owner = next(c for c in clients if 3 in c.flows)
    begun = 100.0 + owner.flows.index(3) * owner.interval
    assert there[3].lost_at[0] == pytest.approx((begun + 0.5, begun + 1.0))


def test_reports_that_do_not_belong_together() -> None:
    clients, server = map(list, (map(_report, _ends()[0]), [_report(_ends()[1])]))
    with pytest.raises(LedgerError, match="ask all ends for the same run"):
        join(FLOWS, [replace(clients[0], run=2), clients[1]], server[0])
    with pytest.raises(LedgerError, match="load all ends alike"):
        join(FLOWS, clients[:1], server[0])


def test_faults_of_the_test_itself_are_told() -> None:
    clients, server = _ends(1)
    clients[0].refuse(clients[0].flows[0], "ENETUNREACH")
    server.stray = 2
    report = replace(_report(server), overflow=5)
    assert join(FLOWS, map(_report, clients), report).faults == {"ENETUNREACH": 1, "overflow": 5, "stray": 2}


def test_schedule_is_absolute() -> None:
    run = Run.open(1, [1, 2, 3, 4], 0)
    assert run.schedule(started=50.0, rate=25.0, packets=10, size=64) == pytest.approx(50.4)
    assert list(run.due(49.999, 100)) == []
    assert list(run.due(50.0, 100)) == [0]
    assert list(run.due(50.035, 100)) == [1, 2, 3]
    assert run.next_due == pytest.approx(50.04)
    # 45 ms late: it catches up, in bites.
    assert list(run.due(50.085, 3)) == [4, 5, 6]
    assert list(run.due(50.085, 100)) == [7, 8]
    assert run.delays == []


def test_a_sender_kept_from_its_work_puts_off_the_rest() -> None:
    run = Run.open(1, [1, 2], 0)
    run.schedule(started=50.0, rate=50.0, packets=100, size=64)
    assert list(run.due(50.0, 100)) == [0]
    # 2.005 s late by the schedule: 50 ms' worth is made up for, the rest comes 1.955 s later than planned.
    assert list(run.due(52.015, 100)) == [1, 2, 3, 4, 5, 6]
    assert [packet for packet, _delay in run.delays] == [1]
    assert run.next_due == pytest.approx(50.07 + 1.955)
    report = _report(run)
    assert report.due(0, 0) == 50.0
    assert report.due(1, 0) == pytest.approx(50.01 + 1.955)
    assert report.due(0, 10) == pytest.approx(50.2 + 1.955)


@given(st.lists(st.integers(24, 200), min_size=1, max_size=20), st.integers(1, 50))
def test_a_stream_is_cut_into_the_records_written(sizes: list[int], step: int) -> None:
    data = b"".join(HEADER.pack(MAGIC, 1, s, 9, n, n * 10) + bytes(s - HEADER.size) for n, s in enumerate(sizes))
    stream = RecordStream()
    found = [r for at in range(0, len(data), step) for r in stream.feed(data[at : at + step])]
    assert found == [(1, s, 9, n, n * 10) for n, s in enumerate(sizes)]


def test_a_stream_with_an_octet_missing_is_damaged() -> None:
    record = HEADER.pack(MAGIC, 1, 32, 9, 0, 0) + bytes(8)
    stream = RecordStream()
    with pytest.raises(StreamDamaged, match="a record should begin here"):
        list(stream.feed(record[:-1] + record))
