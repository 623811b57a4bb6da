"""Two tunnel ends joined by a cable, each an agent with its charon in a namespace of its own: the stage of the tunnel tests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.control import ControlClient, ControlClosed, Event
from harness.ipsec.settings import Settings
from harness.ipsec.strongswan import DataPlane
from harness.net import rtnl
from harness.net.namespace import Namespace, NamespaceError
from harness.net.zygote import Child, Zygote
from harness.plan import Tunnel
from harness.probe import probe

CLOUD, DEVICE = "203.0.113.191", "198.51.100.1"
KEY = "fddsFF123****"


def tunnel(local: str = DEVICE, **changes: Any) -> Tunnel:
    """One end of the documents' first connection; times short enough for a test."""
    remote = CLOUD if local == DEVICE else DEVICE
    made = Tunnel(
        name="IPsec-VPN-1",
        local=local,
        remote=remote,
        local_id=local,
        remote_id=remote,
        key=KEY,
        interface="ipsec0",
        address="169.254.10.2/30" if local == DEVICE else "169.254.10.1/30",
        initiate="none" if local == DEVICE else "start",
        dpd_delay=1,
        retransmit_timeout=0.2,
        retransmit_tries=2,
    )
    return replace(made, **changes)


class End:
    """One agent: its process, its control client, the events so far."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace = namespace
        self.directory = directory
        self.events: list[Event] = []
        self.child: Child | None = None
        self._came = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.client: ControlClient | None = None

    async def start(self, zygote: Zygote, settings: Settings) -> None:
        arguments = settings.hand_over(self.directory / "hand-over.json")
        self.child = zygote.spawn(
            "harness.ipsec.agent:main", arguments, self.namespace.fd, settings.node, self.directory / "agent.log"
        )
        self.client = await _connect(settings.socket, self.child)
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        assert self.client is not None
        async for event in self.client.events():
            async with self._came:
                self.events.append(event)
                self._came.notify_all()

    def mark(self) -> int:
        """A point in the events; :meth:`until` looks behind it."""
        return len(self.events)

    async def until(self, kind: str, *, after: int = 0, within: float = 5.0, **fields: Any) -> Event:
        """The first event of ``kind`` behind the mark with these fields."""

        def found() -> Event | None:
            for event in self.events[after:]:
                if event["type"] == kind and all(event.get(key) == value for key, value in fields.items()):
                    return event
            return None

        async with self._came:
            try:
                await asyncio.wait_for(self._came.wait_for(lambda: found() is not None), within)
            except TimeoutError:
                raise AssertionError(
                    f"no {kind} {fields} within {within} s; there were {self.events[after:]}"
                ) from None
        event = found()
        assert event is not None
        return event

    def _are_more_than(self, mark: int) -> bool:
        return len(self.events) > mark

    async def only_ike(self, within: float = 5.0) -> dict[str, Any]:
        """The IKE SA once it is alone: after a rekey the old one goes with its DELETE."""
        async with asyncio.timeout(within):
            while True:
                mark = self.mark()
                found = (await self.call("show.sas"))["ike"]
                if len(found) == 1:
                    return dict(found[0])
                async with self._came:
                    await self._came.wait_for(functools.partial(self._are_more_than, mark))

    async def call(self, method: str, **params: Any) -> Any:
        assert self.client is not None
        return await self.client.call(method, **params)

    async def ping(self, address: str, *options: str) -> int:
        """Answers to pings of ``address`` from here, of ten in half a second unless told otherwise; 0 with no route to it."""
        argv = ["ping", "-n", "-c10", "-i0.05", "-W1", *options, address]
        process = self.namespace.popen(argv, stdout=-1, stderr=-1, text=True)
        out, err = await asyncio.to_thread(process.communicate)
        if "No route to host" in err:
            return 0
        summary = [line for line in out.splitlines() if "received" in line]
        assert summary, err
        return int(summary[0].split(",")[1].split()[0])

    async def carrier(self) -> bool | None:
        """The tunnel interface's carrier as the kernel has it; None when there is no interface."""
        with rtnl.Rtnl(self.namespace) as netlink:
            return next((link.carrier for link in netlink.links() if link.name == "ipsec0"), None)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.client is not None:
            await self.client.close()
        if self.child is not None:
            self.child.kill(9)
            self.child.wait(5)


async def _connect(path: Path, child: Child) -> ControlClient:
    # The agent's socket file is the first thing it makes; nothing tells the parent, so the wait is for the file itself.
    while True:
        try:
            return await ControlClient.connect(path)
        except ControlClosed:
            assert child.alive(), "the agent ended before it served its control socket"
            await asyncio.sleep(0.002)


class Stage:
    """The two ends: ``cloud`` (initiates) and ``device`` (answers), and the cable between them."""

    def __init__(self, zygote: Zygote, directory: Path) -> None:
        self._zygote = zygote
        self.directory = directory
        self.cloud = self._end("cloud")
        self.device = self._end("device")
        with rtnl.Rtnl(self.cloud.namespace) as netlink:
            netlink.transact([rtnl.veth("wan", "wan", self.device.namespace.fd)])
        for end, address in ((self.cloud, CLOUD), (self.device, DEVICE)):
            with rtnl.Rtnl(end.namespace) as netlink:
                wan, loopback = netlink.link("wan").ifindex, netlink.link("lo").ifindex
                netlink.transact(
                    [
                        rtnl.link_set(loopback, up=True),
                        rtnl.link_set(wan, up=True),
                        rtnl.address(wan, f"{address}/32"),
                        rtnl.route("0.0.0.0/0", oif=wan),
                    ]
                )

    def _end(self, name: str) -> End:
        folder = self.directory / name
        folder.mkdir()
        return End(Namespace.create(name), folder)

    async def start(self, end: End, tunnel: Tunnel, **settings: Any) -> End:
        made = Settings(
            node=end.namespace.name,
            tunnel=tunnel,
            plane=DataPlane.LIBIPSEC,
            directory=end.directory,
            socket=end.directory / "ipsec.sock",
            **settings,
        )
        await end.start(self._zygote, made)
        return end

    async def both(self, **changes: Any) -> None:
        """Both ends, ready, and then the first negotiation; ``changes`` are of both tunnels."""
        await self.start(self.device, tunnel(DEVICE, **changes))
        await self.start(self.cloud, tunnel(CLOUD, **changes), begin=False)
        await self.device.until("charon", state="ready")
        await self.cloud.until("charon", state="ready")
        await self.cloud.call("initiate")

    async def up(self, **changes: Any) -> None:
        """Both ends with the line up."""
        await self.both(**changes)
        await self.lines_up()

    async def lines_up(self, after: tuple[int, int] = (0, 0)) -> None:
        await self.cloud.until("line", state="up", after=after[0])
        await self.device.until("line", state="up", after=after[1])

    def marks(self) -> tuple[int, int]:
        return self.cloud.mark(), self.device.mark()

    def plug(self, connected: bool) -> None:
        """The device's end of the cable, in or out."""
        with rtnl.Rtnl(self.device.namespace) as netlink:
            wan = netlink.link("wan").ifindex
            netlink.transact([rtnl.link_set(wan, up=connected)])
            if connected:
                netlink.transact([rtnl.route("0.0.0.0/0", oif=wan)])

    async def close(self) -> None:
        for end in (self.cloud, self.device):
            await end.close()
            end.namespace.close()


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name (108 octets in all)."""
    folder = Path(tempfile.mkdtemp(prefix="vl-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def require_libipsec() -> None:
    """Skips, naming what the machine lacks, where no charon with a TUN device can run."""
    try:
        Namespace.create().close()
    except NamespaceError as error:
        pytest.skip(f"network namespaces: {error}")
    found = probe()
    for name in ("namespaces", "tun", "charon", "libipsec"):
        if not found[name].ok:
            pytest.skip(f"{name}: {found[name].reason}")


@contextlib.asynccontextmanager
async def stage(zygote: Zygote) -> AsyncIterator[Stage]:
    with short_directory() as directory:
        made = Stage(zygote, directory)
        try:
            yield made
        finally:
            await made.close()
