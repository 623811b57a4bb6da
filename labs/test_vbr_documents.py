"""A user's own documents, brought up: fifty random ones that the rules accept and whose two sides fit, each to Established.

What the documents look like is ``labs/configurations.py``; that a thousand others are refused in words, and by none of them is a lab
half started, is ``tests/cloud/test_cloud_document_random.py``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from random import Random

import pytest

from harness.cloud.document import Document, read
from harness.cloud.document_kinds import KINDS
from harness.session import Labs
from harness.up_document import settled
from labs.configurations import document, fits, to_yaml

BROUGHT_UP = 50
AT_ONCE = 5
FIRST_SEED = 4711


def accepted() -> Iterator[tuple[int, Document]]:
    """Documents without a finding that is an error, whose peers must all come up, by their seeds."""
    for seed in itertools.count(FIRST_SEED):
        found = read(to_yaml(document(Random(seed), most_peers=2)), KINDS)
        if not found.errors and fits(found.estate):
            yield seed, found


@pytest.mark.busy
@pytest.mark.spec("VBR-1", "VBR-4", "VBR-8", "VBR-14")
async def test_fifty_accepted_documents_reach_established(labs: Labs) -> None:
    """Each is built, every session of its peers comes up, every peer is Established by the console's word, and it is gone again."""

    async def bring_up(seed: int, found: Document) -> tuple[int, list[str]]:
        async with labs.running(found.plan()) as lab:
            return seed, await settled(lab, within=20.0)

    chosen = accepted()
    for _ in range(BROUGHT_UP // AT_ONCE):
        together = itertools.islice(chosen, AT_ONCE)
        for seed, waiting in await asyncio.gather(*(bring_up(*each) for each in together)):
            assert waiting == [], f"seed {seed}"
