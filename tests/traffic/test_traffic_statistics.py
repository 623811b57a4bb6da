"""The statistics agree with textbook values and with a simulated fair hash, and catch an unfair one."""

from __future__ import annotations

import math
import random

import pytest

from harness.traffic.flows import Direction, FlowSet, FlowSpec
from harness.traffic.receipts import Ledger, Receipt
from harness.traffic.statistics import TooFewFlows, compare, even_share, evenness, toll


@pytest.mark.spec("ECMP-23")
def test_chi_square_of_a_textbook_die() -> None:
    # 60 throws: 5 8 9 8 10 20; chi-square 13.4, p = 0.0199 with five degrees of freedom
    result = evenness([5, 8, 9, 8, 10, 20])
    assert result.chi_square == pytest.approx(13.4)
    assert result.p == pytest.approx(0.01991, abs=1e-5)
    assert str(result) == "5 / 8 / 9 / 8 / 10 / 20: chi-square 13.40, p = 0.0199"


def test_two_degrees_of_freedom_have_a_closed_form() -> None:
    result = evenness([1018, 1008, 974])
    assert result.p == pytest.approx(math.exp(-result.chi_square / 2))


@pytest.mark.spec("ECMP-23")
def test_fair_hashes_pass_and_an_unfair_one_fails() -> None:
    chance = random.Random(7)
    values = []
    for _ in range(200):
        places = [chance.randrange(3) for _ in range(3000)]
        values.append(evenness([places.count(n) for n in range(3)]).p)
    assert min(values) > 0.001
    assert 0.35 < sum(values) / len(values) < 0.65
    # what layer-3 hashing did to three clients' flows (hash policy 0)
    assert evenness([2002, 2, 1001]).p < 1e-9


def test_weights_are_the_shares_meant() -> None:
    assert evenness([500, 250, 250], [2, 1, 1]).p == pytest.approx(1.0)
    assert evenness([334, 333, 333], [2, 1, 1]).p < 1e-9


@pytest.mark.parametrize(("counts", "weights"), [([3000], None), ([4, 4, 4], None), ([100, 100], [1.0])])
def test_what_chi_square_cannot_say_is_refused(counts: list[int], weights: list[float] | None) -> None:
    with pytest.raises(TooFewFlows):
        evenness(counts, weights)


def test_interval_of_the_even_share() -> None:
    interval = even_share(3000, 3, confidence=0.95)
    # 1.96 sqrt(3000 * 1/3 * 2/3) = 50.6
    assert interval.low == pytest.approx(949.4, abs=0.1)
    assert interval.mean == 1000.0
    assert interval.high == pytest.approx(1050.6, abs=0.1)
    assert 1000 in interval
    assert 1051 not in interval
    assert even_share(100, 1).low == even_share(100, 1).high == 100


def test_moves() -> None:
    moves = compare({1: "a", 2: "a", 3: "b", 4: "c"}, {1: "a", 2: "b", 3: "c", 5: "a"})
    assert moves.kept == {1}
    assert moves.moved == {2: ("a", "b"), 3: ("b", "c")}
    assert moves.vanished == {4}
    assert moves.appeared == {5}
    assert moves.moved_from("a") == {2}
    assert moves.moved_from_others(["a"]) == {3}


FLOWS = FlowSet(FlowSpec(("192.168.0.0/24",), "10.0.0.1", udp=4, tcp=0))


def _receipt(number: int, lost: tuple[tuple[int, int], ...] = (), gap: float = 0.5) -> Receipt:
    missing = sum(last - first + 1 for first, last in lost)
    return Receipt(
        flow=FLOWS[number], direction=Direction.TO_VPC, sent=10, received=10 - missing, bytes=0, lost=lost,
        lost_at=tuple((20.0 + first * 0.5, 20.0 + last * 0.5) for first, last in lost), duplicates=0, reordered=0, first=20.0, last=25.0,
        gap=gap, gap_at=21.0, delay=0.0,
    )  # fmt: skip


@pytest.mark.spec("ECMP-24")
def test_toll_keeps_bystanders_and_victims_apart() -> None:
    receipts = {0: _receipt(0), 1: _receipt(1, ((4, 5),), 1.5), 2: _receipt(2, ((3, 3),), 1.0), 3: _receipt(3)}
    ledger = Ledger(1, {Direction.TO_VPC: receipts, Direction.TO_DC: {}}, {})
    before, after = {0: "t1", 1: "t2", 2: "t2", 3: "t3"}, {0: "t1", 1: "t1", 2: "t3", 3: "t1"}
    result = toll(ledger, Direction.TO_VPC, before, after, lost=["t2"])
    assert (result.bystanders, result.bystanders_moved, result.bystanders_lost) == (2, 1, 0)
    assert (result.victims, result.victims_moved, result.victims_lost) == (2, 2, 3)
    assert result.outage == 1.5
    assert (result.first_loss, result.last_loss) == (21.5, 22.5)


def test_toll_refuses_a_flow_it_never_saw() -> None:
    ledger = Ledger(1, {Direction.TO_VPC: {0: _receipt(0)}, Direction.TO_DC: {}}, {})
    with pytest.raises(ValueError, match="1 flows to-vpc were seen on no tunnel before the loss"):
        toll(ledger, Direction.TO_VPC, {}, {0: "t1"}, lost=["t2"])
