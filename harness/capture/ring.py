"""A packet socket with a memory-mapped receive ring (AF_PACKET, TPACKET_V3): what both meter and recorder listen with.

Packets arrive in blocks that the kernel hands over when full or after ``hold`` seconds, so one wake-up serves hundreds of them.
What the ring could not take is counted by the kernel and shown by :meth:`PacketRing.statistics`: nothing is lost silently.

A ring belongs to the network namespace in which it was opened and stays there. It is bound to an interface by name and can be
bound again when that interface was made anew. Source: Documentation/networking/packet_mmap.rst of Linux.
"""

from __future__ import annotations

import mmap
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.capture import bpf

ALL_PROTOCOLS = 0x0003
OUTGOING = 4  # linux/if_packet.h PACKET_OUTGOING
_SOL_PACKET = 263
_RX_RING, _STATISTICS, _VERSION = 5, 6, 10
_TPACKET_V3 = 2
_STATUS_KERNEL, _STATUS_USER = 0, 1

BLOCK_HEADER = struct.Struct("=8xIII")
"""block_status, num_pkts, offset_to_first_pkt of ``struct tpacket_block_desc``."""
PACKET_HEADER = struct.Struct("=IIIII4xHH20x10xB")
"""next_offset, sec, nsec, snaplen, len, mac, net of ``struct tpacket3_hdr``, then sll_pkttype of the address behind it."""


@dataclass(frozen=True, slots=True)
class RingStatistics:
    """Packets that passed the filter since the ring was opened, and those of them that found no room in it."""

    received: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A captured packet. ``time`` is CLOCK_REALTIME in nanoseconds, ``length`` the size on the wire, ``data`` what was kept."""

    time: int
    outgoing: bool
    length: int
    data: bytes


class PacketRing:
    """Opened in the network namespace of the calling thread; hears nothing until :meth:`bind`.

    ``cooked`` rings deliver packets from the network header on and so are the same for every link type. ``snaplen`` octets
    of each packet are kept (0: all). Raises PermissionError without CAP_NET_RAW in that namespace.
    """

    def __init__(
        self,
        *,
        cooked: bool,
        snaplen: int = 0,
        matches: Sequence[bpf.Match] = (),
        blocks: int = 32,
        block_bytes: int = 1 << 16,
        hold: float = 0.01,
    ) -> None:
        self._received = self._dropped = 0
        self._next = 0
        self._blocks, self._block_bytes = blocks, block_bytes
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM if cooked else socket.SOCK_RAW, 0)
        try:
            self._socket.setblocking(False)
            if snaplen or matches:
                bpf.attach(self._socket, bpf.program(matches, snaplen=snaplen or 0x40000))
            self._socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
            frame = 2048
            request = struct.pack(
                "=7I", block_bytes, blocks, frame, block_bytes // frame * blocks, max(1, round(hold * 1000)), 0, 0
            )
            self._socket.setsockopt(_SOL_PACKET, _RX_RING, request)
            self.memory = mmap.mmap(self._socket.fileno(), block_bytes * blocks, mmap.MAP_SHARED)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def bind(self, interface: str) -> int:
        """Listens on ``interface`` from now on and returns its ARPHRD type. Raises OSError (ENODEV) when it is not there."""
        self._socket.bind((interface, ALL_PROTOCOLS))
        return int(self._socket.getsockname()[3])

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The blocks that are ready, as (offset of the first packet in ``memory``, packets); each is given back when the next is asked.

        Packets follow one another by ``next_offset``. A pending error of the socket (its interface went away) is cleared.
        """
        while True:
            start = self._next * self._block_bytes
            status, packets, first = BLOCK_HEADER.unpack_from(self.memory, start)
            if not status & _STATUS_USER:
                self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                return
            yield start + first, packets
            struct.pack_into("=I", self.memory, start + 8, _STATUS_KERNEL)
            self._next = (self._next + 1) % self._blocks

    def frames(self) -> Iterator[Frame]:
        """The packets that are ready, one by one."""
        memory = self.memory
        for at, packets in self.blocks():
            for _ in range(packets):
                step, seconds, nanoseconds, kept, length, mac, _network, kind = PACKET_HEADER.unpack_from(memory, at)
                yield Frame(
                    seconds * 1_000_000_000 + nanoseconds, kind == OUTGOING, length, memory[at + mac : at + mac + kept]
                )
                at += step

    def statistics(self) -> RingStatistics:
        """Totals since the ring was opened (the kernel counts from the last question; this adds up)."""
        packets, drops, _freezes = struct.unpack("=3I", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        self._received += packets
        self._dropped += drops
        return RingStatistics(self._received, self._dropped)

    def close(self) -> None:
        self.memory.close()
        self._socket.close()


def realtime_ahead() -> int:
    """Nanoseconds by which CLOCK_REALTIME, the clock of packets, is ahead of CLOCK_MONOTONIC, the clock of events."""
    return time.time_ns() - time.monotonic_ns()
