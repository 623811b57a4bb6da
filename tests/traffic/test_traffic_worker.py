"""Workers over the loopback, where every address of 127/8 is local: no namespace, no right needed."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from harness import patience
from harness.control import ControlClient, ControlError, ControlServer, EventLog
from harness.traffic.endpoint import Endpoint, EndpointError, Side
from harness.traffic.flows import Direction, FlowSet, FlowSpec, Protocol
from harness.traffic.generator import Generator
from harness.traffic.record import HEADER, MAGIC
from harness.traffic.worker import Worker

_BASE = 20_000 + os.getpid() % 500 * 80
SPEC = FlowSpec(
    ("127.1.0.0/24",),
    "127.9.9.9",
    udp=180,
    tcp=20,
    client_ports=(_BASE, 16),
    server_ports=(_BASE + 40, 8),
)


@asynccontextmanager
async def _worker(folder: Path, name: str) -> AsyncIterator[tuple[Worker, EventLog]]:
    log = EventLog()
    worker = Worker(name, log)
    server = ControlServer(folder / name, worker.methods(), log)
    await server.start()
    try:
        yield worker, log
    finally:
        await worker.unload()
        await server.close()


@asynccontextmanager
async def _generator(folder: Path, spec: FlowSpec = SPEC) -> AsyncIterator[tuple[Generator, dict[str, EventLog]]]:
    async with AsyncExitStack() as stack:
        logs = {}
        for name in ("server", *map(str, range(len(spec.blocks)))):
            logs[name] = (await stack.enter_async_context(_worker(folder, name)))[1]
        clients = {block: folder / str(number) for number, block in enumerate(spec.blocks)}
        generator = Generator(spec, clients=clients, server=folder / "server")
        await generator.open()
        stack.push_async_callback(generator.close)
        yield generator, logs


async def test_everything_sent_is_received_once(tmp_path: Path) -> None:
    async with _generator(tmp_path) as (generator, logs):
        ledger = await generator.finish(await generator.start(rate=20, packets=5, size=100))
        totals = ledger.totals()
        assert totals["sent"] == totals["received"] == 2 * 200 * 5
        assert totals["bytes"] == 2 * 200 * 5 * 100
        assert all(receipt.whole and receipt.reordered == 0 for receipt in ledger)
        assert ledger.faults == {}
        assert all(0 < receipt.delay < 1 and receipt.first < receipt.last for receipt in ledger)
        kinds = [event["type"] for event in logs["server"].since()]
        assert kinds == ["traffic.started", "traffic.done"]


async def test_runs_are_counted_apart(tmp_path: Path) -> None:
    async with _generator(tmp_path) as (generator, _logs):
        first = await generator.start(rate=50, packets=2)
        await generator.finish(first)
        second = await generator.finish(await generator.start(rate=50, packets=3))
        assert {receipt.received for receipt in second} == {3}
        assert {receipt.received for receipt in await generator.ledger(first.run)} == {2}


async def test_one_direction_alone(tmp_path: Path) -> None:
    async with _generator(tmp_path) as (generator, _logs):
        ledger = await generator.finish(await generator.start(rate=50, packets=2, directions=[Direction.TO_DC]))
        assert {receipt.received for receipt in ledger[Direction.TO_DC].values()} == {2}
        assert {receipt.sent for receipt in ledger[Direction.TO_VPC].values()} == {0}


async def test_a_slow_machine_sends_the_same_packets_in_more_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _generator(tmp_path) as (generator, _logs):
        usual = await generator.start(rate=50, packets=2)
        await generator.finish(usual)
        monkeypatch.setenv(patience.VARIABLE, "4")
        for amount in ({"packets": 2}, {"duration": 2 / 50}):
            slow = await generator.start(rate=50, **amount)
            assert slow.end - slow.start == pytest.approx(4 * (usual.end - usual.start))
            assert {receipt.received for receipt in await generator.finish(slow)} == {2}


async def test_stop_and_advance(tmp_path: Path) -> None:
    async with _generator(tmp_path) as (generator, _logs):
        started = await generator.start(rate=50, duration=60)
        passed = await generator.advance(started, rounds=3)
        assert started.start < passed < started.start + 5
        await generator.stop()
        ledger = await generator.finish(started)
        assert min(receipt.sent for receipt in ledger) >= 3
        assert ledger.totals()["missing"] == 0


async def test_a_dead_connection_is_named(tmp_path: Path) -> None:
    async with _generator(tmp_path) as (generator, _logs):
        started = await generator.start(rate=50, duration=0.4)
        client, server = [await ControlClient.connect(tmp_path / name) for name in ("0", "server")]
        await generator.advance(started)
        # The client starts anew in the middle of the run: its connections break, its datagrams stop.
        await client.call("load", flows=SPEC.to_dict(), side="client", blocks=["127.1.3.0/24"])
        assert await server.call("finished") == {"sending": False}
        report = await server.call("receipts", run=started.run)
        tcp = {str(flow.id) for flow in generator.flows if flow.protocol is Protocol.TCP}
        assert report["broken"] == dict.fromkeys(tcp, "ECONNRESET")
        assert (await server.call("status"))["connected"] == 0
        assert report["refusals"]["ENOTCONN"] > 0
        await client.close()
        await server.close()


async def test_address_that_is_not_local_is_refused_with_the_remedy(tmp_path: Path) -> None:
    spec = FlowSpec(("198.51.100.0/24",), "127.9.9.9", udp=0, tcp=1, server_ports=(_BASE + 60, 1))
    async with _worker(tmp_path, "w"):
        client = await ControlClient.connect(tmp_path / "w")
        with pytest.raises(ControlError, match=r"client end: 198\.51\.100\.\d+ .* needs a local route"):
            await client.call("load", flows=spec.to_dict(), side="client")
        with pytest.raises(ControlError, match="w: no flows are loaded"):
            await client.call("start", run=1, rate=1, packets=1)


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    spec = FlowSpec(("127.1.0.0/24",), "127.9.9.9", udp=0, tcp=2, client_ports=(_BASE, 4), server_ports=(_BASE + 60, 1))
    async with _worker(tmp_path, "w"):
        client = await ControlClient.connect(tmp_path / "w")
        with pytest.raises(ControlError, match=r"2 of 2 TCP flows did not connect .* load the server end first"):
            await client.call("load", flows=spec.to_dict(), side="client")


def test_a_taken_port_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        spec = FlowSpec(("127.1.0.0/24",), "127.9.9.9", udp=3, tcp=0, server_ports=(port, 1))
        with pytest.raises(EndpointError, match=f"server end: UDP port {port}: Address already in use"):
            Endpoint(Side.SERVER, FlowSet(spec).flows).open()


def test_strangers_are_counted_as_strays() -> None:
    flows = FlowSet(SPEC)
    endpoint = Endpoint(Side.SERVER, flows.flows)
    endpoint.open()
    flow = next(f for f in flows if f.protocol is Protocol.UDP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        record = HEADER.pack(MAGIC, 1, HEADER.size, flow.id, 0, 0)
        stranger.sendto(record, ("127.9.9.9", flow.server_port))
        stranger.sendto(b"no record at all, just noise", ("127.9.9.9", flow.server_port))
        endpoint.receive(1.0)
    report = endpoint.report(1)
    endpoint.close()
    assert report.stray == 1
    assert sum(report.received) == 0


@pytest.mark.parametrize(
    ("rate", "packets", "size", "text"),
    [(0, 1, 64, "must be positive"), (1, 0, 64, "must be positive"), (1, 1, 23, "24 to 65535 can")],
)
def test_runs_that_make_no_sense(rate: float, packets: int, size: int, text: str) -> None:
    endpoint = Endpoint(Side.CLIENT, ())
    with pytest.raises(EndpointError, match=text):
        endpoint.begin(1, started=0.0, rate=rate, packets=packets, size=size)
    endpoint.close()


def test_a_run_is_sent_once() -> None:
    flows = FlowSet(SPEC)
    endpoint = Endpoint(Side.SERVER, flows.flows)
    endpoint.open()
    endpoint.begin(1, started=1e12, rate=1, packets=1, size=64)
    with pytest.raises(EndpointError, match="run 1 is still being sent"):
        endpoint.begin(2, started=1e12, rate=1, packets=1, size=64)
    endpoint.close()


async def test_settle_gives_up_after_silence(tmp_path: Path) -> None:
    async with _generator(tmp_path) as (generator, _logs):
        await generator.finish(await generator.start(rate=50, packets=1))
        server = await ControlClient.connect(tmp_path / "server")
        begun = asyncio.get_running_loop().time()
        answer = await server.call("settle", run=1, udp=181, tcp=20, quiet=0.05)
        assert answer == {"udp": 180, "tcp": 20, "complete": False}
        assert 0.04 < asyncio.get_running_loop().time() - begun < 1.0
        await server.close()
