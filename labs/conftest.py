"""Labs of this folder: the documented one shared by tests that only look, and fresh ones for tests that break things."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from harness.lab import Lab
from harness.plan import Plan, Role
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
                if estate.get("vpc_connection", True) and estate.get("inter_region", True):
                    await ways_open(lab, within=5)
            yield lab

    return start


async def ways_open(lab: Lab, *, within: float) -> None:
    """Returns once the kernels forward between every client block and the first vSwitch, by every IPsec connection."""
    clients = {ipsec_ecmp.CLIENT_BLOCKS[int(node.name.removeprefix("dc-client"))] for node in lab.having(Role.CLIENT)}
    vswitch, count = "10.0.0.0/24", len(lab.having(Role.DEVICE))
    wanted = {("dc-router", vswitch): count, **{("tr-hangzhou", block): count for block in clients}}
    wanted |= {("tr-shanghai", block): 1 for block in clients} | {("tr-hangzhou", vswitch): 1}
    wanted |= {(device.name, vswitch): 1 for device in lab.having(Role.DEVICE)}
    for connection in lab.having(Role.VPN):
        wanted |= {(connection.name, block): 1 for block in (vswitch, *clients)}

    def all_there() -> bool:
        found = Counter(
            (node, hop.prefix) for node in {node for node, _ in wanted} for hop in set(lab[node].kernel_hops())
        )
        return all(found[key] >= many for key, many in wanted.items())

    await lab.until(all_there, within=within, what="every router forwards by every connection")


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
