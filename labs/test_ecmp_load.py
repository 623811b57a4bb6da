"""Step 6, second half: the clients' traffic loads all three connections, evenly, in both directions.

Source: "Create multiple IPsec connections over the internet for load balancing", step 6. The document only says that each
connection's monitor shows traffic; the counting and the test for evenness are this project's.
"""

from __future__ import annotations

import pytest

from harness.evidence import spread_of
from harness.instruments import Load, load
from harness.lab import Lab
from harness.net.sysctls import hash_seed
from harness.traffic.counters import Counters, assert_agreement
from harness.traffic.flows import Direction
from harness.traffic.observations import Window
from harness.traffic.statistics import compare, evenness
from labs.conftest import Broken

pytestmark = [pytest.mark.busy, pytest.mark.needs("hash-policy")]

ROUTERS = ("dc-router", "tr-hangzhou")
SEEDS = tuple(range(1, 21))
LEAST_P = 0.001
"""Of one try where the kernel's hash is pinned; elsewhere (before Linux 6.11 each boot draws a seed) of all tries of a lab together."""


def set_hash(lab: Lab, *, policy: int | None = None, seed: int | None = None) -> None:
    """Sets how the two routers that spread load do it; a seed only where the kernel has one."""
    for router in ROUTERS:
        if policy is not None:
            lab[router].namespace.sysctl({"net.ipv4.fib_multipath_hash_policy": str(policy)})
        if seed is not None:
            lab[router].namespace.sysctl({"net.ipv4.fib_multipath_hash_seed?": str(hash_seed(seed, router))})


def is_pinned(lab: Lab) -> bool:
    """Does the hash go by our seed, so that the same flows go the same ways in every run?"""
    return lab["dc-router"].has_sysctl("net.ipv4.fib_multipath_hash_seed")


def nearly_all_seen(window: Window, traffic: Load) -> bool:
    return all(len(window.tunnel_of(direction)) > 0.99 * len(traffic.generator.flows) for direction in Direction)


async def seen(traffic: Load) -> Window:
    """A window in which nearly all flows of the load were seen: where each goes is asked, not what arrives.

    A packet that a busy machine drops makes its flow unseen; then the load is sent once more, and a third time.
    """
    began = None
    for _ in range(3):
        started = await traffic.generator.start(rate=3, packets=1)
        began = started.start if began is None else began
        # At the end of sending some are still under way.
        for settle in (traffic.generator.advance, traffic.generator.finish):
            await settle(started)
            window = await traffic.meter.window(began, started.end + 60.0)
            if nearly_all_seen(window, traffic):
                return window
    flows = {direction: len(window.tunnel_of(direction)) for direction in Direction}
    raise AssertionError(f"of {len(traffic.generator.flows)} flows, sent three times, these were seen: {flows}")


@pytest.mark.spec("ECMP-23", "ECMP-13", "ECMP-29")
async def test_load_reaches_every_connection_and_is_counted_alike_everywhere(fresh_ecmp: Broken) -> None:
    """3,000 flows each way, UDP and TCP: none lost, all three connections loaded; meter, interface and SA counters agree."""
    async with fresh_ecmp() as lab, load(lab) as traffic:
        before = {node.name: await node.ipsec.call("counters") for node in lab if node.plan.tunnel}
        started = await traffic.generator.start(rate=1.5, packets=2)
        ledger = await traffic.generator.finish(started)
        window = await traffic.meter.window(0.0, started.end + 60.0)
        totals = await traffic.meter.totals()
        after = {node.name: await node.ipsec.call("counters") for node in lab if node.plan.tunnel}

        assert ledger.faults == {}
        assert ledger.totals()["missing"] == 0
        sa_bytes: dict[Direction, list[int]] = {direction: [] for direction in Direction}
        for number, connection in enumerate(traffic.connections, 1):
            assert totals[connection]["dropped"] == 0
            for direction in Direction:
                assert window.shares[connection][direction].packets > 0, f"{connection} carried nothing {direction}"
            gateway = f"gw{number}"
            sa = Counters.of_sa(after[gateway]["esp"]) - Counters.of_sa(before[gateway]["esp"])
            interface = Counters.of_interface(after[gateway]["interface"]) - Counters.of_interface(
                before[gateway]["interface"]
            )
            assert_agreement(connection, interface, sa=sa)
            sa_bytes[Direction.TO_VPC].append(sa.out_bytes)
            sa_bytes[Direction.TO_DC].append(sa.in_bytes)
        for direction in Direction:
            assert len(window.tunnel_of(direction)) == 3000
        by_sa = {direction: tuple(octets) for direction, octets in sa_bytes.items()}
        lab.record(spread_of("Load over the three connections", window, policy=1, sa_bytes=by_sa))


@pytest.mark.spec("ECMP-23")
async def test_spread_is_even_for_every_seed(fresh_ecmp: Broken) -> None:
    """Flows a connection against an even split, by chi-square, for 20 seeds of the hash; one seed twice, flow by flow.

    On a kernel whose hash cannot be seeded (before Linux 6.11) the flows are, and a repeat is not the same.
    """
    p_values: dict[Direction, list[float]] = {direction: [] for direction in Direction}
    async with fresh_ecmp() as lab, load(lab, udp=3000, tcp=0) as traffic:
        pinned = is_pinned(lab)
        first: dict[Direction, dict[int, str]] = {}
        window = None
        for seed in (*SEEDS, SEEDS[0]):
            set_hash(lab, seed=seed)
            if not pinned:
                await traffic.reload(seed=seed)
            window = await seen(traffic)
            ways = {direction: window.tunnel_of(direction) for direction in Direction}
            if first and seed == SEEDS[0]:
                assert not pinned or not any(
                    compare(first[direction], ways[direction]).moved for direction in Direction
                )
                break
            first = first or ways
            for direction in Direction:
                p_values[direction].append(evenness(window.measure(direction)["flows"]).p)
        assert window is not None
        lab.record(spread_of("Evenness over 20 seeds", window, policy=1, seeds=SEEDS, p_values=p_values))
        for direction in Direction:
            least = LEAST_P if pinned else LEAST_P / (2 * len(SEEDS))
            assert min(p_values[direction]) > least, f"{direction}: {p_values[direction]}"


@pytest.mark.spec("ECMP-23")
async def test_layer_3_hash_is_why_layer_4_is_set(fresh_ecmp: Broken) -> None:
    """With hash policy 0 the flows of one client address share a path: three clients leave connections idle or overfull."""
    async with (
        fresh_ecmp() as lab,
        load(lab, udp=3000, tcp=0, hosts=(128, 128), client_ports=(20_000, 4000)) as traffic,
    ):
        set_hash(lab, policy=0)
        started = await traffic.generator.start(rate=2, packets=1)
        await traffic.generator.finish(started)
        window = await traffic.meter.window(started.start, started.end + 60.0)
        lab.record(spread_of("The same with hash policy 0 (layer 3), one client in each block", window, policy=0))
        ways: dict[str, set[str]] = {}
        for flow, connection in window.tunnel_of(Direction.TO_VPC).items():
            ways.setdefault(traffic.generator.flows[flow].client, set()).add(connection)
        assert [len(taken) for taken in ways.values()] == [1, 1, 1]
        # Where the kernel draws the seed, or a daemon the order of next hops, three clients may take three connections: an even split.
        if len(set.union(*ways.values())) < 3 or (is_pinned(lab) and not lab.stand_ins):
            assert evenness(window.measure(Direction.TO_VPC)["flows"]).p < LEAST_P
