"""A BGP neighbour made by hand, for labs whose neighbour must do what no speaker does: octets in, octets out, nothing believed.

Messages are built with scapy's layers, which share no line with our codec. A :class:`RawPeer` lives in a node's namespace and does
nothing by itself: no keepalive, no answer, until it is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from scapy.contrib import bgp

from harness.node import NodeHandle

OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH = 1, 2, 3, 4, 5
MARKER = b"\xff" * 16
OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED = 0x80, 0x40, 0x20, 0x10


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came: its type and what follows its header."""

    type: int
    body: bytes

    @property
    def error(self) -> tuple[int, int, bytes]:
        """Of a NOTIFICATION: code, subcode and data."""
        assert self.type == NOTIFICATION, self
        return self.body[0], self.body[1], self.body[2:]


def message(kind: int, body: bytes = b"", *, length: int | None = None, marker: bytes = MARKER) -> bytes:
    """Header and body; ``length`` and ``marker`` say what is not so."""
    return marker + struct.pack("!HB", 19 + len(body) if length is None else length, kind) + body


def open_message(
    asn: int = 65003,
    identifier: str = "3.3.3.3",
    *,
    hold_time: int = 90,
    version: int = 4,
    capabilities: Sequence[tuple[int, bytes]] | None = None,
    parameters: bytes | None = None,
) -> bytes:
    """An OPEN; by default it offers IPv4 unicast, route refresh and 4-byte ASNs. ``parameters`` stands for all optional ones."""
    if capabilities is None:
        capabilities = [(1, struct.pack("!HBB", 1, 0, 1)), (2, b""), (65, struct.pack("!I", asn))]
    if parameters is None:
        offered = b"".join(struct.pack("!BB", code, len(value)) + value for code, value in capabilities)
        parameters = struct.pack("!BB", 2, len(offered)) + offered if offered else b""
    short = asn if asn < 65536 else 23456
    fixed = bytes(bgp.BGPOpen(version=version, my_as=short, hold_time=hold_time, bgp_id=identifier, opt_param_len=0))[
        :9
    ]
    return message(OPEN, fixed + bytes([len(parameters)]) + parameters)


def attribute(flags: int, code: int, value: bytes) -> bytes:
    """A path attribute (RFC 4271 4.3)."""
    if len(value) > 255:
        return struct.pack("!BBH", flags | EXTENDED, code, len(value)) + value
    return struct.pack("!BBB", flags, code, len(value)) + value


def origin(value: int = 0) -> bytes:
    return attribute(TRANSITIVE, 1, bytes([value]))


def as_path(*asns: int, width: int = 4) -> bytes:
    body = b"".join(asn.to_bytes(width, "big") for asn in asns)
    return attribute(TRANSITIVE, 2, bytes([2, len(asns)]) + body if asns else b"")


def next_hop(address: str) -> bytes:
    return attribute(TRANSITIVE, 3, IPv4Address(address).packed)


def nlri(*prefixes: str) -> bytes:
    found = b""
    for prefix in prefixes:
        network = ip_network(prefix)
        found += bytes([network.prefixlen]) + network.network_address.packed[: -(-network.prefixlen // 8)]
    return found


def update(attributes: bytes = b"", reach: bytes = b"", withdrawn: bytes = b"") -> bytes:
    body = struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attributes)) + attributes + reach
    return message(UPDATE, body)


class RawPeer:
    """One TCP connection to a speaker's port 179."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b""

    @classmethod
    @contextlib.asynccontextmanager
    async def dialled(
        cls, node: NodeHandle, source: str, to: str, *, window: int | None = None
    ) -> AsyncIterator[RawPeer]:
        """A connection from ``source`` of a node, closed with the block; ``window`` bounds its receive buffer."""
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        connection = node.namespace.socket(family, socket.SOCK_STREAM)
        try:
            if window is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.bind((source, 0))
            connection.setblocking(False)
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_connect(connection, (to, 179))
            yield cls(connection)
        finally:
            connection.close()

    async def send(self, octets: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, octets)

    async def read(self, within: float = 5.0) -> Message | None:
        """The next message; None at the end of the connection. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while True:
                if len(self._buffer) >= 19:
                    (length,) = struct.unpack("!H", self._buffer[16:18])
                    if len(self._buffer) >= length:
                        whole, self._buffer = self._buffer[:length], self._buffer[length:]
                        return Message(whole[18], whole[19:])
                try:
                    more = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
                except ConnectionResetError:
                    return None
                if not more:
                    return None
                self._buffer += more

    async def until(self, kind: int, within: float = 5.0) -> Message:
        """The next message of a type; others are passed over. Raises EOFError at the end of the connection, TimeoutError."""
        while (found := await self.read(within)) is not None:
            if found.type == kind:
                return found
        raise EOFError(f"the connection ended before a message of type {kind}")

    async def establish(self, opening: bytes) -> None:
        """OPEN and KEEPALIVE both ways."""
        await self.send(opening)
        await self.until(OPEN)
        await self.send(message(KEEPALIVE))
        await self.until(KEEPALIVE)
