"""Labs of this folder: the documented one shared by tests that only look, and fresh ones for tests that break things."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from harness.lab import Lab
from harness.plan import Plan
from harness.session import Labs
from topologies import ipsec_ecmp, vbr

Broken = Callable[..., AbstractAsyncContextManager[Lab]]


@pytest.fixture(scope="session")
async def ecmp(labs: Labs) -> AsyncIterator[Lab]:
    """`ipsec-ecmp` as documented, with default timers, converged. For looking only: many tests share it."""
    async with labs.running(ipsec_ecmp.plan(), title="ipsec-ecmp") as lab:
        await lab.established(within=10)
        await lab["dc-router"].learned("10.0.1.0/24", within=5)
        yield lab


@pytest.fixture
def fresh_ecmp(labs: Labs) -> Broken:
    """``async with fresh_ecmp(connections=2) as lab``: one of one's own to break, with the arguments of the topology."""

    @asynccontextmanager
    async def start(
        *,
        title: str = "",
        seed: int | None = None,
        established: bool = True,
        changed: Callable[[Plan], Plan] = lambda plan: plan,
        **estate: Any,
    ) -> AsyncIterator[Lab]:
        async with labs.running(changed(ipsec_ecmp.plan(**estate)), title=title, seed=seed) as lab:
            if established:
                await lab.established(within=10)
            yield lab

    return start


@pytest.fixture
def fresh_vbr(labs: Labs) -> Broken:
    """``async with fresh_vbr(peers=2) as lab``: a virtual border router of one's own, with the arguments of the topology."""

    @asynccontextmanager
    async def start(*, title: str = "", established: bool = True, **estate: Any) -> AsyncIterator[Lab]:
        async with labs.running(vbr.plan(**estate), title=title) as lab:
            if established:
                await lab.established(within=10)
            yield lab

    return start
