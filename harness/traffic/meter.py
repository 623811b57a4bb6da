"""The meter: listens on every tunnel interface and knows which flow takes which tunnel, at any time.

One process holds a packet ring (:mod:`harness.capture.ring`) in each gateway's namespace, bound to the tunnel's interface, where the inner
packets of both directions pass in clear. When the interface is made anew (a TUN is, with its daemon) the ring follows it. Packets that
a ring had no room for are counted and told, never passed over.

    python -m harness.traffic.meter CONFIG.json

with ``{"socket": PATH, "taps": [{"tunnel": "vpn1", "netns": "/proc/PID/fd/N", "interface": "ipsec0"}]}``. Control:

``load(flows)``               a FlowSpec as a dict: the flows to tell apart. Forgets what was seen.
``window(start, end)``        :class:`harness.traffic.observations.Window` as a dict, complete up to the moment of asking.
``series(start, end, width)`` tunnel -> direction -> [(bin, packets, bytes), ...].
``totals()``                  a tap's packets and bytes in and out, known flows and other packets, kernel drops, and whether it is bound.

Events: ``meter.bound``, ``meter.lost`` (the interface came or went).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.capture.ring import OUTGOING, PACKET_HEADER, PacketRing, realtime_ahead
from harness.control import ControlServer, EventLog
from harness.net.monitor import Group, Monitor, Overrun
from harness.net.namespace import entered
from harness.net.records import LinkInfo
from harness.net.rtnl import Rtnl
from harness.traffic.flows import Direction, FlowSet, FlowSpec
from harness.traffic.observations import Observations, Other

# The IPv4 header without options and the ports behind it are all that is looked at.
_SNAPLEN = 64
_IPV4_PLAIN = 0x45
_HOLD = 0.01
# A block is handed over at the latest so long after its first packet: their number says for how long the meter may be kept from reading,
# here 5 s (8 MiB). With the 32 of a ring's default it was a third of a second, and a busy machine lost packets.
_BLOCKS, _BLOCK_BYTES = 512, 1 << 14


@dataclass(frozen=True, slots=True)
class Tap:
    """Where to listen: ``interface`` in the network namespace that the file ``netns`` stands for."""

    tunnel: str
    netns: str
    interface: str


class _Listener:
    """One tap: its ring, its monitor of links, the interface it is bound to."""

    def __init__(self, tap: Tap, log: EventLog) -> None:
        self.tap = tap
        self._log = log
        self._netns = os.open(tap.netns, os.O_RDONLY | os.O_CLOEXEC)
        self._monitor = Monitor((Group.LINK,), self._netns)
        with entered(self._netns):
            self.ring = PacketRing(cooked=True, snaplen=_SNAPLEN, blocks=_BLOCKS, block_bytes=_BLOCK_BYTES, hold=_HOLD)
        self.bound: int | None = None
        self.packets = {True: 0, False: 0}
        self.bytes = {True: 0, False: 0}
        self.follow()

    def watch(self, loop: asyncio.AbstractEventLoop, read: Any) -> None:
        loop.add_reader(self._monitor.fileno(), self.changed)
        loop.add_reader(self.ring.fileno(), read)

    def changed(self) -> None:
        """The links of the namespace changed: maybe ours came, went, or was renamed."""
        try:
            changes = self._monitor.read()
        except Overrun:
            self.follow()
            return
        if any(
            isinstance(c.info, LinkInfo) and (c.info.name == self.tap.interface or c.info.ifindex == self.bound)
            for c in changes
        ):
            self.follow()

    def follow(self) -> None:
        """Binds to whatever interface has the name now."""
        with Rtnl(self._netns) as rtnl:
            index = next((link.ifindex for link in rtnl.links() if link.name == self.tap.interface), None)
        if index == self.bound:
            return
        if self.bound is not None:
            self._log.emit("meter.lost", tunnel=self.tap.tunnel, ifindex=self.bound)
        self.bound = None
        if index is not None:
            try:
                self.ring.bind(self.tap.interface)
            except OSError:
                return  # gone again already: its RTM_DELLINK is on the way
            self.bound = index
            self._log.emit("meter.bound", tunnel=self.tap.tunnel, ifindex=index)

    def read(self, keys: Mapping[int, Mapping[bytes, int]], seen: Observations) -> None:
        """Books all packets that are ready. The hot path: 15,000 packets/s are to cost a fraction of a core."""
        memory, unpack = self.ring.memory, PACKET_HEADER.unpack_from
        logs = seen.logs[self.tap.tunnel]
        ways = [
            (log.times.append, log.flows.append, log.lengths.append)
            for log in (logs[Direction.TO_VPC], logs[Direction.TO_DC])
        ]
        other = seen.other[self.tap.tunnel]
        ahead = realtime_ahead()
        packets, octets = self.packets, self.bytes
        nothing: Mapping[bytes, int] = {}
        for at, count in self.ring.blocks():
            for _ in range(count):
                step, seconds, nanoseconds, _kept, length, _mac, network, kind = unpack(memory, at)
                ip = at + network
                at += step
                outgoing = kind == OUTGOING
                packets[outgoing] += 1
                octets[outgoing] += length
                found = None
                if memory[ip] == _IPV4_PLAIN:
                    found = keys.get(memory[ip + 9], nothing).get(memory[ip + 12 : ip + 24])
                if found is None:
                    other.note(_kind(memory[ip : ip + 10]), length, outgoing=outgoing)
                    continue
                note_time, note_flow, note_length = ways[found & 1]
                note_time((seconds * 1_000_000_000 + nanoseconds - ahead) / 1e9)
                note_flow(found >> 1)
                note_length(length)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self.ring.fileno())
        loop.remove_reader(self._monitor.fileno())
        self.ring.close()
        self._monitor.close()
        os.close(self._netns)


class Meter:
    """All taps of a lab. Needs a running event loop; raises OSError when a namespace cannot be entered."""

    def __init__(self, taps: Sequence[Tap], log: EventLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._keys: Mapping[int, Mapping[bytes, int]] = {}
        self._listeners = [_Listener(tap, log) for tap in taps]
        self._seen = Observations(tap.tunnel for tap in taps)
        for listener in self._listeners:
            listener.watch(self._loop, lambda it=listener: it.read(self._keys, self._seen))

    def methods(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("load", "window", "series", "totals")}

    async def load(self, flows: Mapping[str, Any]) -> dict[str, int]:
        """Tells the flows of this FlowSpec apart from now on, and forgets everything seen before."""
        await self._catch_up()
        flow_set = FlowSet(FlowSpec.from_dict(flows))
        self._keys = flow_set.keys
        self._seen = Observations(listener.tap.tunnel for listener in self._listeners)
        for listener in self._listeners:
            listener.packets, listener.bytes = {True: 0, False: 0}, {True: 0, False: 0}
        return {"flows": len(flow_set), "digest": flow_set.digest}

    async def window(self, start: float, end: float) -> dict[str, Any]:
        await self._catch_up()
        return self._seen.window(start, end).to_dict()

    async def series(self, start: float, end: float, width: float) -> dict[str, Any]:
        await self._catch_up()
        return {
            tunnel: {direction.value: bins for direction, bins in directions.items()}
            for tunnel, directions in self._seen.series(start, end, width).items()
        }

    async def totals(self) -> dict[str, Any]:
        await self._catch_up()
        return {listener.tap.tunnel: self._total(listener) for listener in self._listeners}

    def _total(self, listener: _Listener) -> dict[str, Any]:
        other: Other = self._seen.other[listener.tap.tunnel]
        statistics = listener.ring.statistics()
        return {
            "bound": listener.bound,
            "out_packets": listener.packets[True],
            "out_bytes": listener.bytes[True],
            "in_packets": listener.packets[False],
            "in_bytes": listener.bytes[False],
            "other_in": other.inward,
            "other_out": other.outward,
            "dropped": statistics.dropped,
        }

    async def _catch_up(self) -> None:
        """The kernel hands a block over at the latest after the ring's hold time: what passed before now is then booked."""
        await asyncio.sleep(_HOLD * 2.5)
        for listener in self._listeners:
            listener.read(self._keys, self._seen)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close(self._loop)


def _kind(head: bytes) -> str:
    version = head[0] >> 4
    return {4: f"IPv4 protocol {head[9]}", 6: f"IPv6 next header {head[6]}"}.get(version, f"first octet {head[0]:#04x}")


async def serve(path: Path, taps: Sequence[Tap]) -> None:
    """Serves a meter at ``path`` until SIGTERM or SIGINT."""
    log = EventLog()
    meter = Meter(taps, log)
    server = ControlServer(path, meter.methods(), log)
    await server.start()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await ended.wait()
    finally:
        meter.close()
        await server.close()


def main(arguments: Sequence[str]) -> int:
    """Entry of the zygote and of ``python -m``: the path of the JSON configuration."""
    config = json.loads(Path(arguments[0]).read_text())
    asyncio.run(serve(Path(config["socket"]), [Tap(**tap) for tap in config["taps"]]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
