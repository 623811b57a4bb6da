"""A capture written by hand: two ends of a TCP connection, whose octets become packets of a pcapng file."""

from __future__ import annotations

import io
import struct
from ipaddress import ip_address
from pathlib import Path

from harness.capture.pcapng import LinkType, Writer

CLIENT, SERVER = ("10.0.0.1", 40123), ("10.0.0.2", 179)
BEGAN = 1_700_000_000_000_000_000
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


class Wire:
    """Packets in the order they are said. ``who`` is 0 for the client, 1 for the server. Sequence numbers begin near their wrap."""

    def __init__(self, *, ipv6: bool = False) -> None:
        self.packets: list[tuple[int, bytes]] = []
        self.next = [0xFFFFFFF0, 1000]
        self._ipv6 = ipv6
        self._time = BEGAN

    def packet(
        self, who: int, flags: int, data: bytes = b"", *, seq: int | None = None, ack: int | None = None
    ) -> bytes:
        """A frame; its octets count towards the next number unless ``seq`` is given. It is not captured yet."""
        ends = (CLIENT, SERVER) if not who else (SERVER, CLIENT)
        number = self.next[who] if seq is None else seq
        if seq is None:
            self.next[who] = (self.next[who] + len(data) + bool(flags & (SYN | FIN))) % (1 << 32)
        acked = self.next[1 - who] if ack is None else ack
        tcp = struct.pack(
            ">HHIIBBHHH", ends[0][1], ends[1][1], number, acked if flags & ACK else 0, 5 << 4, flags, 65535, 0, 0
        )
        return self._ip(ends[0][0], ends[1][0], tcp + data)

    def _ip(self, source: str, target: str, body: bytes) -> bytes:
        if self._ipv6:
            ends = b"".join(ip_address(f"fd00::{a.rpartition('.')[2]}").packed for a in (source, target))
            return bytes(12) + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(body), 6, 64) + ends + body
        ends = ip_address(source).packed + ip_address(target).packed
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 6, 0)
        return bytes(12) + b"\x08\x00" + head + ends + body

    def put(self, *frames: bytes) -> None:
        """Captured now, a millisecond after the last."""
        for frame in frames:
            self._time += 1_000_000
            self.packets.append((self._time, frame))

    def say(self, who: int, data: bytes) -> None:
        self.put(self.packet(who, PSH | ACK, data))

    def open(self) -> None:
        self.put(self.packet(0, SYN), self.packet(1, SYN | ACK), self.packet(0, ACK))

    def close(self, first: int) -> None:
        self.put(self.packet(first, FIN | ACK), self.packet(1 - first, FIN | ACK), self.packet(first, ACK))

    def write(self, path: Path) -> Path:
        with path.open("wb") as file:
            writer = Writer(file)
            interface = writer.interface("tap", LinkType.ETHERNET)
            for time, frame in self.packets:
                writer.packet(interface, time, frame, len(frame))
        return path

    def write_old(self, path: Path, order: str = "<", nanoseconds: bool = False) -> Path:
        """The same in the older format."""
        out = io.BytesIO()
        magic, unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
        out.write(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1))
        for time, frame in self.packets:
            seconds, rest = divmod(time, 1_000_000_000)
            out.write(struct.pack(order + "IIII", seconds, rest // unit, len(frame), len(frame)) + frame)
        path.write_bytes(out.getvalue())
        return path
