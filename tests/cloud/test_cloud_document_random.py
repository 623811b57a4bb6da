"""A thousand configurations, sound and spoilt: each compiles, or is refused with object, rule and remedy; none raises anything else."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cloud.document import read, schema
from harness.cloud.document_kinds import KINDS
from harness.cloud.findings import Refused
from harness.cloud.vbr import VbrEstate
from harness.plan import Plan
from labs.configurations import document, fits, spoilt, to_yaml

#: What the test run saw: how many were accepted and refused, by which rules.
SEEN: Counter[str] = Counter()


def judged(text: str) -> Plan | None:
    """The plan of an accepted document, None for a refused one; the refusal is held against what one must say."""
    found = read(text, KINDS)
    try:
        plan = found.plan()
    except Refused as refused:
        assert found.errors == refused.findings
        for finding in refused.findings:
            assert finding.object and finding.rule and finding.spec and finding.remedy, finding
            assert finding.place is not None, finding
            assert 1 <= finding.place.line <= text.count("\n") + 1, finding
        SEEN.update({finding.spec for finding in refused.findings})
        return None
    assert not found.errors
    assert Plan.from_json(plan.to_json()) == plan
    return plan


@pytest.mark.spec("VBR-1", "VBR-3", "VBR-4", "VBR-5", "VBR-8", "VBR-12", "VBR-25", "VBR-31", "VBR-32", "VBR-42")
@given(seed=st.integers(0, 2**32), spoil=st.booleans())
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
def test_a_thousand_configurations(seed: int, spoil: bool) -> None:
    random = Random(seed)
    whole = document(random, most_peers=9, links=True)
    plan = judged(to_yaml(spoilt(whole, random) if spoil else whole))
    SEEN["accepted" if plan is not None else "refused"] += 1


def test_the_thousand_were_of_every_sort() -> None:
    """Both verdicts are frequent, and a sound document is accepted unless it has too many peers or a VPC ASN that is taken."""
    if not SEEN:
        pytest.skip("the configurations were not generated in this run")
    assert min(SEEN["accepted"], SEEN["refused"]) > 100, SEEN
    assert len([spec for spec in SEEN if spec.startswith("YAML-")]) >= 3, SEEN
    assert len([spec for spec in SEEN if spec.startswith("VBR-")]) >= 10, SEEN


def test_sound_documents_are_accepted_and_most_fit() -> None:
    fitting = 0
    for seed in range(100):
        found = read(to_yaml(document(Random(seed), links=True)), KINDS)
        assert found.errors == (), (seed, found.errors)
        assert isinstance(found.estate, VbrEstate)
        fitting += fits(found.estate)
    assert fitting > 70


def test_every_field_of_the_schema_turns_up() -> None:
    written: set[str] = set()
    for seed in range(300):
        _keys(document(Random(seed), links=True), written)
    made = schema([KINDS["vbr"]])
    known = set(made["properties"]["vbr"]["properties"])
    for form in made["$defs"].values():
        known |= set(form.get("properties", ()))
    assert known - written == set()


def _keys(value: Any, into: set[str]) -> None:
    if isinstance(value, dict):
        into.update(value)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _keys(inner, into)
