"""Devices run as their ASA texts have them: the document's own work, and of each that does not the line to blame is named.

Source: "Create multiple IPsec connections over the internet for load balancing", step 3. What is wrong is learned from the running
charons and speakers; the configuration it should have been is nowhere to be seen for those who judge.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from pathlib import Path

import pytest

from harness.proving.prove import staged
from harness.proving.verdict import Candidate, Verdict, candidates_of, judged
from harness.session import Labs
from labs.document import asa
from labs.document import ipsec_ecmp as document
from labs.mutations import Mutation, mutations
from topologies import ipsec_ecmp

#: How many labs of three wrong devices each; ``VBRLAB_MUTANTS=120`` runs some hundred devices (and wants a larger --timeout).
ROUNDS = int(os.environ.get("VBRLAB_MUTANTS", "2"))
AT_ONCE = 2
SEED = int(os.environ.get("VBRLAB_MUTANTS_SEED", "1"))

#: One of each way to fail, three to a lab; the sample of all mutations comes on top.
CHOSEN = (
    ("line 13: group 14 -> 5", "line 27: another key", "line 21: identity hostname"),
    ("line 22: set pfs group14 -> group2", "line 43: remote-as 65532", "line 37: 192.0.2.174 ->"),
)


def candidate(number: int, text: str) -> Candidate:
    (found,) = candidates_of(ipsec_ecmp.estate(), text, Path(f"gw{number}.txt"), f"vpn{number}")
    return found


async def judge(labs: Labs, texts: dict[int, str], title: str) -> dict[int, Verdict]:
    chosen = tuple(candidate(number, text) for number, text in texts.items())
    plan = ipsec_ecmp.plan()
    async with labs.running(staged(plan, tuple(each.subject(plan) for each in chosen)), title=title) as lab:
        verdicts = await judged(lab, chosen)
        if texts == asa.CONFIGURATIONS:
            for node, table in document.TABLES.items():
                assert await lab[node].route_table(like=table, within=5.0) == table
    return dict(zip(texts, verdicts, strict=True))


@pytest.mark.spec("ECMP-32", "ECMP-12", "ECMP-17", "ECMP-18", "ECMP-19", "ECMP-20", "ECMP-21")
async def test_the_documents_devices_work(labs: Labs) -> None:
    """Tunnel, rekey, session, routes, clients: every step of all three; tables 1 to 5 are the document's."""
    verdicts = await judge(labs, asa.CONFIGURATIONS, "the document's ASA texts, proven")
    for verdict in verdicts.values():
        assert verdict.works, verdict.to_text()
        assert all(step.passed for step in verdict.steps)
        assert not verdict.culprits
        assert not verdict.unknown


def held(mutation: Mutation, verdict: Verdict) -> None:
    """The verdict names the line that was mutated, first; or says that it works where it does."""
    assert verdict.works == mutation.works, f"{mutation.what}\n{verdict.to_text()}"
    if not mutation.works:
        assert verdict.culprits, f"{mutation.what}\n{verdict.to_text()}"
        assert verdict.culprits[0].line in mutation.culprits, f"{mutation.what}\n{verdict.to_text()}"
    keys = [line.split()[-1] for line in mutation.text.splitlines() if "pre-shared-key" in line]
    assert not any(key in verdict.to_text() + str(verdict.to_fields()) for key in keys)


@pytest.mark.spec("ECMP-31", "ECMP-10")
@pytest.mark.parametrize("which", CHOSEN, ids=lambda words: words[0].partition(" ->")[0])
async def test_the_line_to_blame_is_named(labs: Labs, which: tuple[str, str, str]) -> None:
    """Three devices that fail in three ways, each with its own connection: each verdict names its own device's line."""
    made = {
        n: next(m for m in mutations(asa.CONFIGURATIONS[n]) if m.what.startswith(words))
        for n, words in enumerate(which, 1)
    }
    verdicts = await judge(labs, {number: mutation.text for number, mutation in made.items()}, "three wrong ASA texts")
    for number, mutation in made.items():
        held(mutation, verdicts[number])


@pytest.mark.spec("ECMP-31", "ECMP-32")
@pytest.mark.timeout(30 + 12 * ROUNDS)
async def test_any_mutation_is_judged_rightly(labs: Labs) -> None:
    """A sample of all mutations of the three texts, three to a lab."""
    pools = []
    for number, text in asa.CONFIGURATIONS.items():
        pool = list(mutations(text, seed=number))
        random.Random(SEED * 10 + number).shuffle(pool)
        pools.append(pool)
    rounds = [dict(enumerate(three, 1)) for three in itertools.islice(zip(*pools, strict=False), ROUNDS)]
    # A verdict on a device that fails is waiting, most of it: two labs wait at once.
    for first in range(0, len(rounds), AT_ONCE):
        together = rounds[first : first + AT_ONCE]
        texts = [{number: mutation.text for number, mutation in made.items()} for made in together]
        judgements = await asyncio.gather(*(judge(labs, each, "mutated ASA texts") for each in texts))
        for made, verdicts in zip(together, judgements, strict=True):
            for number, mutation in made.items():
                held(mutation, verdicts[number])
