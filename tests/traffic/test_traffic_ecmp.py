"""3,000 flows both ways over a real three-way ECMP: nothing lost, each flow's way known, and what a cut does to whom."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.control import ControlClient, call
from harness.net.rtnl import link_set
from harness.traffic.bulk import transfer
from harness.traffic.counters import Counters, assert_agreement, read
from harness.traffic.flows import Direction, FlowSpec, Protocol
from harness.traffic.generator import Generator, MeterClient
from harness.traffic.path_mtu import Outcome, path_mtu, ping
from harness.traffic.statistics import compare, evenness, toll
from tests.traffic.fabric import BLOCKS, SERVER, WAYS, Fabric

pytestmark = pytest.mark.root


@pytest.fixture
def fabric(tmp_path: Path) -> Iterator[Fabric]:
    try:
        built = Fabric(tmp_path)
    except OSError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    with built:
        yield built


async def _open(fabric: Fabric) -> tuple[Generator, MeterClient]:
    clients = {block: fabric.worker(f"c{number}") for number, block in enumerate(BLOCKS)}
    generator = Generator(FlowSpec(BLOCKS, SERVER), clients=clients, server=fabric.worker("ecs"))
    meter = await MeterClient.connect(fabric.meter())
    await generator.open()
    await meter.load(generator.flows)
    return generator, meter


@pytest.mark.spec("ECMP-23", "ECMP-24")
async def test_a_way_is_cut_under_load(fabric: Fabric) -> None:
    generator, meter = await _open(fabric)
    started = await generator.start(rate=2, duration=20)

    cut = await generator.advance(started, rounds=2)
    fabric.set_link("r1", "way2", up=False)  # r2 still sends into way2, which has lost its way on: packets die there
    await generator.advance(started, rounds=1)
    fabric.set_link("r2", "way2", up=False)
    detoured = await generator.advance(started, rounds=1)
    stopped = await generator.advance(started, rounds=2)
    await generator.stop()
    ledger = await generator.finish(started)

    before, after = await meter.window(started.start, cut), await meter.window(detoured, stopped)
    assert ledger.faults == {}
    assert {name: total["dropped"] for name, total in (await meter.totals()).items()} == dict.fromkeys(WAYS, 0)
    for direction in Direction:
        was, now = before.tunnel_of(direction), after.tunnel_of(direction)
        assert len(was) == len(now) == len(generator.flows) == 3000
        assert evenness(before.measure(direction)["flows"]).p > 0.001
        assert now.keys() == was.keys()
        assert set(now.values()) == {"way1", "way3"}
        moves = compare(was, now)
        assert moves.moved_from_others(["way2"]) == set()
        cost = toll(ledger, direction, was, now, lost=["way2"])
        assert (cost.bystanders_moved, cost.bystanders_lost, cost.bystanders_broken) == (0, 0, 0)
        assert cost.victims_moved == cost.victims == sum(way == "way2" for way in was.values())
        assert cost.victims_broken == 0
    # r1 lost its own link and moved at once; r2 knew nothing for a whole round.
    assert cost.direction is Direction.TO_DC
    assert cost.victims_lost > cost.victims // 2
    assert cost.first_loss is not None
    assert cost.first_loss > cut - 0.1
    tcp = list(ledger.of(Protocol.TCP))
    assert len(tcp) == 600
    assert all(receipt.whole for receipt in tcp)
    assert any(receipt.retransmits for receipt in tcp)
    await generator.close()
    await meter.close()


@pytest.mark.spec("ECMP-24")
async def test_a_plain_group_moves_bystanders(fabric: Fabric) -> None:
    """The control experiment: without a resilient group the survivors' flows are shuffled, and the tools say so.

    An outer way is cut: a plain group gives each way one stretch of the hash space, and the loss of the middle one moves nobody else.
    """
    fabric.regroup(buckets=None)
    generator, meter = await _open(fabric)
    first = await generator.start(rate=20, packets=1)
    await generator.finish(first)
    fabric.set_link("r1", "way1", up=False)
    fabric.set_link("r2", "way1", up=False)
    second = await generator.start(rate=20, packets=1)
    await generator.finish(second)
    was = (await meter.window(first.start, second.start)).tunnel_of(Direction.TO_VPC)
    now = (await meter.window(second.start, second.end + 1)).tunnel_of(Direction.TO_VPC)
    assert len(compare(was, now).moved_from_others(["way1"])) > 200
    await generator.close()
    await meter.close()


@pytest.mark.spec("ECMP-23")
async def test_meter_follows_an_interface_made_anew_and_agrees_with_its_counters(fabric: Fabric) -> None:
    generator, meter = await _open(fabric)
    before = {way: read("r2", fabric.nodes[way].fd) for way in WAYS}
    await generator.finish(await generator.start(rate=20, packets=1))
    totals = await meter.totals()
    for way in WAYS:
        counted = read("r2", fabric.nodes[way].fd) - before[way]
        assert_agreement(way, counted, meter=_on_ethernet(Counters.of_meter(totals[way])))
    bound = {way: total["bound"] for way, total in totals.items()}

    fabric.remake("way1")
    await meter.load(generator.flows)
    started = await generator.start(rate=20, packets=1)
    assert (await generator.finish(started)).totals()["missing"] == 0
    totals = await meter.totals()
    assert totals["way1"]["bound"] not in (None, bound["way1"])
    assert totals["way1"]["out_packets"] > 500
    client, kinds = await ControlClient.connect(fabric.folder / "meter.sock"), Counter[str]()
    async with asyncio.timeout(2):
        async for event in client.events():
            kinds[event["type"]] += 1
            if kinds["meter.bound"] == 4:
                break
    assert kinds == {"meter.bound": 4, "meter.lost": 1}
    await client.close()
    await generator.close()
    await meter.close()


def _on_ethernet(inner: Counters) -> Counters:
    """A veth's counters include the 14 octets of Ethernet's header, unlike a tunnel interface's."""
    return replace(
        inner,
        in_bytes=inner.in_bytes + 14 * inner.in_packets,
        out_bytes=inner.out_bytes + 14 * inner.out_packets,
    )


async def test_path_mtu_and_bulk(fabric: Fabric) -> None:
    for way in WAYS:
        index = fabric.index(way, "r2")
        fabric.tell(way, link_set(index, mtu=1400))
    client, server = fabric.nodes["c0"].fd, fabric.nodes["ecs"].fd
    assert (await ping(client, SERVER, source="192.168.0.200")).outcome is Outcome.REPLY
    answer = await ping(client, SERVER, size=1401, source="192.168.0.200")
    assert (answer.outcome, answer.mtu) == (Outcome.TOO_BIG, 1400)
    assert answer.by.startswith("172.17.")
    assert await path_mtu(client, SERVER, source="192.168.0.200") == 1400
    assert (await ping(client, "203.0.113.1", within=0.1)).outcome in (Outcome.UNREACHABLE, Outcome.SILENT)
    result = await transfer(client, server, SERVER, octets=4 << 20, source="192.168.0.200")
    assert result.path_mtu == 1400
    assert result.mss <= 1400 - 40
    assert result.mbit_per_second > 10


async def test_worker_serves_its_status(fabric: Fabric) -> None:
    path = fabric.worker("c0")
    assert call(path, "status") == {"name": "c0", "flows": 0}
