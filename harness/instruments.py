"""What a lab measures with: packet captures, and load with a meter on every tunnel. Processes of their own, forked from the zygote."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.capture.pcapng import Packet, packets
from harness.daemon import Daemon, write_private
from harness.plan import Role
from harness.traffic.flows import FlowSpec
from harness.traffic.generator import Generator, MeterClient

if TYPE_CHECKING:
    from harness.lab import Lab

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Capture:
    """A recording under way or done. The file is whole once the block that made it has ended, or after :meth:`sync`."""

    path: Path
    recorder: Daemon

    async def sync(self) -> dict[str, dict[str, int]]:
        """Everything that passed before now is in the file: packets written and dropped, by tap."""
        answer: dict[str, dict[str, int]] = await self.recorder.call("sync")
        return answer

    async def mark(self, text: str) -> None:
        """The next packet carries ``text`` as its comment."""
        await self.recorder.call("mark", text=text)

    def packets(self) -> list[Packet]:
        with self.path.open("rb") as file:
            return list(packets(file))


@contextlib.asynccontextmanager
async def capture(
    lab: Lab,
    taps: Mapping[str, Sequence[str]],
    *,
    matches: Sequence[tuple[int, int | None]] = (),
    snaplen: int = 0,
    name: str = "capture",
    blocks: int | None = None,
    keep: bool = True,
) -> AsyncIterator[Capture]:
    """Records interfaces of nodes, ``{"internet": ["to-gw1"]}``, for as long as the block lasts.

    ``matches`` are (IP protocol, port) of the packets wanted; none: all. ``blocks`` of 128 KiB buffer each interface.
    Without ``keep`` the end of the file is not waited for: whoever wants it calls :meth:`Capture.sync` before.
    """
    kind = f"{name}-{next(_numbers)}"
    path = lab.folder / f"{kind}.pcapng"

    def prepare() -> list[str]:
        config = {
            "socket": str(lab.folder / f"{kind}.sock"),
            "file": str(path),
            "snaplen": snaplen,
            "matches": [list(match) for match in matches],
            **({} if blocks is None else {"blocks": blocks}),
            "taps": [
                {"name": f"{node}:{interface}", "interface": interface, "netns": _netns_file(lab, node)}
                for node, interfaces in taps.items()
                for interface in interfaces
            ],
        }
        return [str(write_private(lab.folder / f"{kind}.json", config))]

    recorder = Daemon("lab", kind, "harness.capture.recorder:main", lab.folder, None, lab.stream, prepare)
    await start(lab, [recorder])
    try:
        yield Capture(path, recorder)
    finally:
        if keep and recorder.running:
            await recorder.call("stop")
        await recorder.abandon()


@dataclass(frozen=True, slots=True)
class Load:
    """Traffic endpoints at the clients and at the server, and a meter on the tunnels at the devices."""

    generator: Generator
    meter: MeterClient
    connections: tuple[str, ...]

    async def reload(self, **spec: Any) -> None:
        """Other flows from now on: the same ends with a changed :class:`harness.traffic.flows.FlowSpec`."""
        await self.generator.reload(replace(self.generator.flows.spec, **spec))
        await self.meter.load(self.generator.flows)


@contextlib.asynccontextmanager
async def load(
    lab: Lab, server: str = "ecs", *, taps: Mapping[str, tuple[str, str]] | None = None, **spec: Any
) -> AsyncIterator[Load]:
    """Endpoints in every client node and in ``server``, flows as of :class:`harness.traffic.flows.FlowSpec` with ``spec``.

    All TCP connections stand when the block begins. ``taps`` maps the name of a way to a node of the data centre and its interface
    there; default: the plan's IPsec connections, in its order.
    """
    clients = {_block(lab, node.name): node.name for node in lab.having(Role.CLIENT)}
    address = next(end for end, _ in lab.plan.interfaces(server)).addresses[0].partition("/")[0]
    workers = {name: _worker(lab, name) for name in (*clients.values(), server)}
    if taps is None:
        devices = [node.name for node in lab.having(Role.DEVICE)]
        taps = {f"IPsec connection {n}": (name, _tunnel_interface(lab, name)) for n, name in enumerate(devices, 1)}
    meter = _meter(lab, taps)
    await start(lab, [*workers.values(), meter])
    flows = FlowSpec(tuple(clients), address, **spec)
    generator = Generator(
        flows, clients={block: workers[name].socket for block, name in clients.items()}, server=workers[server].socket
    )
    metering = await MeterClient.connect(meter.socket)
    try:
        await generator.open()
        await metering.load(generator.flows)
        yield Load(generator, metering, tuple(taps))
    finally:
        await generator.close()
        await metering.close()
        daemons = [*workers.values(), meter]
        for daemon in daemons:
            await daemon.close_stream()
        await asyncio.gather(*(daemon.kill() for daemon in daemons), return_exceptions=True)
        for daemon in daemons:
            await daemon.close()


async def start(lab: Lab, daemons: Sequence[Daemon]) -> None:
    """Forks daemons and returns when all serve their sockets."""
    children = await asyncio.to_thread(lab.zygote.spawn_all, [daemon.spawn() for daemon in daemons])
    for daemon, child in zip(daemons, children, strict=True):
        daemon.started(child)
    await asyncio.gather(*(daemon.connect() for daemon in daemons))


def _worker(lab: Lab, node: str) -> Daemon:
    folder = lab.folder / node
    kind = f"traffic-{next(_numbers)}"

    def prepare() -> list[str]:
        return [str(write_private(folder / f"{kind}.json", {"name": node, "socket": str(folder / f"{kind}.sock")}))]

    return Daemon(node, kind, "harness.traffic.worker:main", folder, lab[node].namespace.fd, lab.stream, prepare)


def _meter(lab: Lab, taps: Mapping[str, tuple[str, str]]) -> Daemon:
    kind = f"meter-{next(_numbers)}"

    def prepare() -> list[str]:
        named = [
            {"tunnel": tunnel, "netns": _netns_file(lab, node), "interface": interface}
            for tunnel, (node, interface) in taps.items()
        ]
        config = {"socket": str(lab.folder / f"{kind}.sock"), "taps": named}
        return [str(write_private(lab.folder / f"{kind}.json", config))]

    return Daemon("lab", kind, "harness.traffic.meter:main", lab.folder, None, lab.stream, prepare)


def _netns_file(lab: Lab, node: str) -> str:
    return f"/proc/{os.getpid()}/fd/{lab[node].namespace.fd}"


def _block(lab: Lab, client: str) -> str:
    end = next(end for end, _ in lab.plan.interfaces(client))
    return str(ipaddress.ip_interface(end.addresses[0]).network)


def _tunnel_interface(lab: Lab, node: str) -> str:
    tunnel = lab.plan[node].tunnel
    if tunnel is None:
        raise LookupError(f"{node} has no IPsec tunnel to measure; the plan gives it none")
    return tunnel.interface


#: What the flight recorder of every lab keeps: BGP and the beginning of IKE.
SIGNALLING = ((6, 179), (17, 500))


@contextlib.asynccontextmanager
async def flight_recorder(lab: Lab) -> AsyncIterator[Capture | None]:
    """Records the signalling on the routers' cables, so that a failure can be looked at afterwards; None where no router is."""
    roles = (Role.TRANSIT_ROUTER, Role.ROUTER, Role.INTERNET, Role.VBR)
    taps = {
        node.name: [end.interface for end, _ in lab.plan.interfaces(node.name)]
        for role in roles
        for node in lab.having(role)
    }
    if not taps:
        yield None
        return
    async with capture(lab, taps, matches=SIGNALLING, name="signalling", blocks=4, keep=False) as recording:
        yield recording
