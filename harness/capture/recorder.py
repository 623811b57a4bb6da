"""The recorder: captures one or several interfaces, of one or several nodes, into a pcapng file.

Takes packets from a ring (:mod:`harness.capture.ring`) and writes them as they come; tcpdump cannot, without root. Each interface
goes by "node:interface" in the file, with the direction of every packet; the file ends with what the kernel counted and dropped.
It reads nothing of what it records.

    python -m harness.capture.recorder CONFIG.json

with ``{"socket": PATH, "file": PATH, "snaplen": 0, "matches": [[17, 500]], "blocks": 64, "taps": [TAP, ...]}`` (128 KiB blocks of the
ring of each tap), a TAP being
``{"name": "internet:gw1", "netns": "/proc/PID/fd/N", "interface": "gw1"}``. Control:

``mark(text)``   the next packet carries ``text`` as its comment.
``sync()``       everything that passed before now is in the file; answers with packets and drops of each tap.
``stop()``       the same, then ends the file; SIGTERM does too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from harness.capture.bpf import Match
from harness.capture.pcapng import LinkType, Writer
from harness.capture.ring import PacketRing
from harness.control import ControlServer, EventLog
from harness.net.namespace import entered

_HOLD = 0.01
# The kernel hands a block over when it is full, and at the latest this long after the block's first packet.
_SETTLED = _HOLD * 2.5
_BLOCKS, _BLOCK_BYTES = 64, 1 << 17


@dataclass(frozen=True, slots=True)
class Tap:
    """An interface to record: ``name`` in the file, ``netns`` a file that stands for the namespace ("" the recorder's own)."""

    name: str
    interface: str
    netns: str = ""


class CannotCapture(OSError):
    """An interface is not there, or the right to capture is missing."""


class Recorder:
    """Writes what passes ``taps`` to ``file`` from construction on, once :meth:`drain` is called (often) or :meth:`attach`-ed to a loop.

    Packets are kept to ``snaplen`` octets (0: whole) and only where any of ``matches`` accepts them (none: all).
    """

    def __init__(
        self,
        file: BinaryIO,
        taps: Sequence[Tap],
        *,
        snaplen: int = 0,
        matches: Sequence[Match] = (),
        blocks: int = _BLOCKS,
    ) -> None:
        self._blocks = blocks
        self._writer = Writer(file)
        self._taps = tuple(taps)
        self._rings: list[PacketRing] = []
        self._comment = ""
        self._written = [0] * len(self._taps)
        self._last = 0
        for tap in self._taps:
            try:
                self._rings.append(self._listen(tap, snaplen, matches))
            except OSError as error:
                self._close_rings()
                raise CannotCapture(
                    error.errno, f"{tap.name}: {error.strerror}; the interface must be there, and CAP_NET_RAW"
                ) from error

    def _listen(self, tap: Tap, snaplen: int, matches: Sequence[Match]) -> PacketRing:
        netns = os.open(tap.netns, os.O_RDONLY | os.O_CLOEXEC) if tap.netns else None
        try:
            with entered(netns):
                ring = PacketRing(
                    cooked=False,
                    snaplen=snaplen,
                    matches=matches,
                    blocks=self._blocks,
                    block_bytes=_BLOCK_BYTES,
                    hold=_HOLD,
                )
                try:
                    hardware = ring.bind(tap.interface)
                except OSError:
                    ring.close()
                    raise
        finally:
            if netns is not None:
                os.close(netns)
        self._writer.interface(tap.name, LinkType.of(hardware), snaplen)
        return ring

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drains whenever the kernel hands packets over."""
        for ring in self._rings:
            loop.add_reader(ring.fileno(), self.drain)

    def mark(self, comment: str) -> None:
        """The next packet carries ``comment``: "link cut", say."""
        self._comment = comment

    def drain(self) -> None:
        """Writes what is ready, in the order of time within each interface."""
        for number, ring in enumerate(self._rings):
            for frame in ring.frames():
                self._writer.packet(number, frame.time, frame.data, frame.length, frame.outgoing, self._comment)
                self._comment = ""
                self._written[number] += 1
                self._last = max(self._last, frame.time)
        self._writer.flush()

    def counts(self) -> dict[str, dict[str, int]]:
        """Tap -> packets "written" and "dropped"."""
        return {
            tap.name: {"written": written, "dropped": ring.statistics().dropped}
            for tap, written, ring in zip(self._taps, self._written, self._rings, strict=True)
        }

    def close(self, loop: asyncio.AbstractEventLoop | None = None) -> dict[str, dict[str, int]]:
        """Writes what passed before now, and the counts, which it answers with: takes 25 ms. The file itself stays the caller's."""
        if loop is not None:
            for ring in self._rings:
                loop.remove_reader(ring.fileno())
        if self._rings:
            time.sleep(_SETTLED)
        self.drain()
        for number, ring in enumerate(self._rings):
            statistics = ring.statistics()
            self._writer.statistics(number, self._last, statistics.received, statistics.dropped)
        self._writer.flush()
        counts = self.counts()
        self._close_rings()
        return counts

    def _close_rings(self) -> None:
        for ring in self._rings:
            ring.close()
        self._rings.clear()


async def serve(
    path: Path, file: Path, taps: Sequence[Tap], snaplen: int, matches: Sequence[Match], blocks: int = _BLOCKS
) -> None:
    """Records until ``stop`` is called or SIGTERM or SIGINT comes."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with file.open("wb") as out:
        recorder = Recorder(out, taps, snaplen=snaplen, matches=matches, blocks=blocks)

        async def sync() -> dict[str, Any]:
            await asyncio.sleep(_SETTLED)
            recorder.drain()
            return recorder.counts()

        async def stop() -> dict[str, Any]:
            counts = await sync()
            ended.set()
            return counts

        server = ControlServer(path, {"mark": lambda text: recorder.mark(text), "sync": sync, "stop": stop}, EventLog())
        recorder.attach(loop)
        await server.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        try:
            await ended.wait()
        finally:
            recorder.close(loop)
            out.flush()
            await server.close()


def main(arguments: Sequence[str]) -> int:
    """Entry of the zygote and of ``python -m``: the path of the JSON configuration."""
    config = json.loads(Path(arguments[0]).read_text())
    asyncio.run(
        serve(
            Path(config["socket"]),
            Path(config["file"]),
            [Tap(**tap) for tap in config["taps"]],
            config.get("snaplen", 0),
            [Match(*match) for match in config.get("matches", ())],
            config.get("blocks", _BLOCKS),
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
