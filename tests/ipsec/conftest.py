"""The zygote that the tunnel tests' agents are forked from, and a stage for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from harness.net.zygote import Zygote
from tests.ipsec import ends


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    ends.require_libipsec()
    with Zygote.start(["harness.ipsec.agent"]) as started:
        yield started


@pytest.fixture
async def stage(zygote: Zygote) -> AsyncIterator[ends.Stage]:
    async with ends.stage(zygote) as made:
        yield made
