"""How delay, jitter, loss and rate are written, their bounds, and a plan's links made so."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness import cli
from harness.evidence import topology_of
from harness.impairment import CLEAR, WORDS, Given, Impairment, ImpairmentError, changed, spoken
from harness.plan import End, Link, Node, Plan, PlanError, Role, diff
from reports import drawing
from topologies import ipsec_ecmp

WRITTEN: list[tuple[Mapping[str, Given | None], Impairment]] = [
    ({"delay": "40ms"}, Impairment(delay_ms=40)),
    ({"delay": 40}, Impairment(delay_ms=40)),
    ({"delay": "1.5s", "jitter": "300us"}, Impairment(delay_ms=1500, jitter_ms=0.3)),
    ({"loss": "1%"}, Impairment(loss_percent=1)),
    ({"loss": 0.5}, Impairment(loss_percent=0.5)),
    ({"rate": "10mbit"}, Impairment(rate_mbit=10)),
    ({"rate": "500 kbit"}, Impairment(rate_mbit=0.5)),
    ({"rate": "1Gbit"}, Impairment(rate_mbit=1000)),
    ({"rate": 2.5}, Impairment(rate_mbit=2.5)),
    ({"delay": None, "loss": None}, CLEAR),
]


@pytest.mark.parametrize(("words", "meant"), WRITTEN)
def test_what_is_written(words: Mapping[str, Given | None], meant: Impairment) -> None:
    assert changed(CLEAR, words) == meant


def test_what_is_not_given_stays_and_none_takes_away() -> None:
    before = Impairment(40, 5, 1, 10)
    assert changed(before, {"loss": 2}) == Impairment(40, 5, 2, 10)
    assert changed(before, {"rate": "none", "jitter": "none"}) == Impairment(40, 0, 1, None)


WRONG: list[tuple[Mapping[str, Given | None], str]] = [
    ({"delay": "40 furlongs"}, "delay '40 furlongs' is no number with one of the units us, ms, s; write it as 40ms"),
    ({"delay": "fast"}, "delay 'fast' is no number"),
    ({"delay": ""}, "delay '' is no number"),
    ({"delay": -1}, "a delay of -1 ms is not in 0 to 60000 ms; give one there, such as 40ms"),
    ({"delay": "2000s"}, "a delay of 2e+06 ms is not in"),
    ({"delay": float("nan")}, "delay nan is no number"),
    ({"jitter": "5ms"}, "a jitter of 5 ms is not in 0 to the delay, 0 ms; give a longer delay or less jitter"),
    ({"loss": "101%"}, "a loss of 101 % is not in 0 to 100 %; give one there, such as 1%"),
    ({"loss": True}, "loss True is no number"),
    (
        {"rate": 0},
        "a rate of 0 Mbit/s is not in 0.01 to 100000 Mbit/s; give one there, such as 10mbit, or none for no limit",
    ),
    ({"rate": "10ms"}, "units kbit, mbit, gbit; write it as 10mbit"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_what_cannot_be_is_refused_with_a_remedy(words: Mapping[str, Given | None], said: str) -> None:
    with pytest.raises(ImpairmentError) as refused:
        changed(CLEAR, words)
    assert said in str(refused.value)
    assert refused.value.remedy


def test_words_of_a_prompt() -> None:
    assert spoken(["delay", "40ms", "rate", "none"]) == {"delay": "40ms", "rate": "none"}
    with pytest.raises(ImpairmentError, match="'lag' is nothing that a link has; there are delay, jitter, loss, rate"):
        spoken(["lag", "40ms"])
    with pytest.raises(ImpairmentError, match="loss has no value; write it as loss 1%"):
        spoken(["delay", "40ms", "loss"])


def test_how_it_is_said() -> None:
    assert str(Impairment(40, 5, 1, 10)) == "delay 40 ms, jitter 5 ms, loss 1 %, rate 10 Mbit/s"
    assert str(CLEAR) == "nothing"


@given(st.dictionaries(st.sampled_from(sorted(WORDS)), st.text(max_size=12) | st.floats() | st.integers()))
def test_no_value_does_anything_but_be_taken_or_refused(words: dict[str, Given]) -> None:
    try:
        assert changed(CLEAR, words).delay_ms >= 0
    except ImpairmentError as error:
        assert error.rule and error.remedy


PAIR = Plan(
    "pair",
    "Two nodes, two links",
    (Node("a", Role.CLIENT), Node("b", Role.CLIENT), Node("c", Role.CLIENT)),
    (Link(End("a", "x"), End("b", "x")), Link(End("b", "y"), End("a", "y")), Link(End("a", "z"), End("c", "z"))),
)
SLOW = Impairment(rate_mbit=1)


def test_links_of_a_plan_in_both_directions_or_one() -> None:
    both, one = PAIR.impaired("a", "b", rate=1), PAIR.impaired("b", "a", rate="1mbit", one_way=True)
    assert [[end.impairment for end in link.ends()] for link in both.links] == [[SLOW] * 2, [SLOW] * 2, [CLEAR] * 2]
    assert [[end.impairment for end in link.ends()] for link in one.links] == [
        [CLEAR, SLOW],
        [SLOW, CLEAR],
        [CLEAR] * 2,
    ]
    assert Plan.from_json(one.to_json()) == one
    assert [change.name for change in diff(PAIR, one)] == ["a:x--b:x", "b:y--a:y"]


def test_impairments_go_from_one_plan_to_another() -> None:
    one = PAIR.impaired("b", "a", rate=1, one_way=True)
    assert PAIR.impaired_as(one) == one


def test_no_link_between_two_nodes_says_where_there_are_some() -> None:
    with pytest.raises(PlanError, match="plan pair: no link between b and c; b has links to a"):
        PAIR.impaired("b", "c", rate=1)
    with pytest.raises(PlanError, match="no node 'd'"):
        PAIR.impaired("d", "c", rate=1)


@pytest.mark.spec("ECMP-38")
def test_the_bandwidth_of_an_inter_region_connection_is_the_rate_of_its_link() -> None:
    rates = {
        (end.node, other.node): end.impairment
        for link in ipsec_ecmp.plan().links
        for end, other in (link.ends(), link.ends()[::-1])
        if end.impairment
    }
    paid = Impairment(rate_mbit=100)
    assert rates == {("tr-hangzhou", "tr-shanghai"): paid, ("tr-shanghai", "tr-hangzhou"): paid}


def test_the_drawing_says_what_a_link_does() -> None:
    both, one = PAIR.impaired("a", "c", delay=5), PAIR.impaired("a", "c", loss=2, one_way=True)
    assert [link.get("impairment") for link in topology_of(both, "").links] == [None, None, "delay 5 ms"]
    assert topology_of(one, "").links[2]["impairment"] == "from a: loss 2 %; from c: nothing"
    assert "a z — c z\ndelay 5 ms" in drawing.draw(topology_of(both, ""))


def test_a_graph_says_what_a_link_does() -> None:
    shown = CliRunner().invoke(cli.app, ["graph", "ipsec-ecmp"]).output
    assert '"tr-hangzhou" -- "tr-shanghai" [label="shanghai - hangzhou\\nrate 100 Mbit/s"];' in shown
