"""Notices the first packet that is routed into a tunnel that is not negotiated yet (ECMP-7, "when traffic enters").

For the libipsec data plane, which tells charon of no packet (on the kernel's it is charon's own ``trap``). So the packet is
heard on the interface. It is dropped there; whoever sent it sends it again, as TCP and ping do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from ipaddress import IPv4Address

from harness.ipsec.line import Line

_OUTGOING = 4  # PACKET_OUTGOING
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP"}


class Doorway:
    """``entered(packet)`` is called once for each :meth:`open`, with the packet in words; never after :meth:`close`."""

    def __init__(self, line: Line, entered: Callable[[str], None]) -> None:
        self._line = line
        self._entered = entered
        self._socket: socket.socket | None = None

    def open(self) -> None:
        if self._socket is None and (heard := self._line.listen()) is not None:
            self._socket = heard
            asyncio.get_running_loop().add_reader(heard, self._hear)

    def close(self) -> None:
        """The carrier stays as it is: whoever moves the line next decides."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _hear(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError, OSError):
            packet, address = self._socket.recvfrom(128)
            if address[2] == _OUTGOING and packet and packet[0] >> 4 == 4:
                self._entered(in_words(packet))


def in_words(packet: bytes) -> str:
    """An IPv4 packet's protocol, addresses and ports: ``TCP 169.254.10.1:40000 > 169.254.10.2:179``."""
    header = (packet[0] & 15) * 4
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    protocol = _PROTOCOLS.get(packet[9], f"protocol {packet[9]}")
    if packet[9] not in (6, 17) or len(packet) < header + 4:
        return f"{protocol} {source} > {destination}"
    ports = int.from_bytes(packet[header : header + 2]), int.from_bytes(packet[header + 2 : header + 4])
    return f"{protocol} {source}:{ports[0]} > {destination}:{ports[1]}"
