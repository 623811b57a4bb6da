"""The data centre's side of a BGP session by hand: sockets in its namespace, and messages that a lab chooses, right or wrong.

For labs about states: the node must have no speaker of its own (``data_centre_router=False``). Not a lab.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address

from harness.bgp.capabilities import Capability, FourOctetAs, Multiprotocol
from harness.bgp.messages import Frame, Framer, Keepalive, MessageType, Notification, Open, encode
from harness.lab import Lab
from harness.net.namespace import socket_in
from topologies import vbr

PORT = 179
HIGH, LOW = IPv4Address("203.0.113.1"), IPv4Address("1.1.1.1")
"""BGP Identifiers above and below that of the VBR, 198.18.0.1."""


class Conversation:
    """One TCP connection with the VBR."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._framer = Framer()
        self._frames: list[Frame] = []

    def send(self, *messages: bytes) -> None:
        self._writer.write(b"".join(messages))

    async def hear(self, kind: MessageType, within: float = 15.0) -> bytes:
        """The body of the next message of that kind; others are passed over. Raises AssertionError at the end of the stream."""
        async with asyncio.timeout(within):
            while True:
                while self._frames:
                    frame = self._frames.pop(0)
                    if frame.type == kind:
                        return frame.body
                data = await self._reader.read(65536)
                assert data, f"the VBR closed the connection before any {kind.name}"
                self._frames += self._framer.feed(data)

    async def notification(self, within: float = 15.0) -> tuple[int, int]:
        """Code and subcode of the NOTIFICATION that comes next."""
        body = await self.hear(MessageType.NOTIFICATION, within)
        return body[0], body[1]

    async def ended(self, within: float = 15.0) -> None:
        """Returns when the VBR has closed the connection."""
        async with asyncio.timeout(within):
            while await self._reader.read(65536):
                pass

    def end(self) -> None:
        """Closes this side at once: the FIN is out when this returns."""
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


class ScriptedPeer:
    """What stands in a data centre's place: listens or not, dials or not."""

    def __init__(self, lab: Lab, number: int, asn: int) -> None:
        self.lab, self.number, self.asn = lab, number, asn
        self.name = f"dc{number}"
        self.address, self.cloud = vbr.peer_ip(number), f"10.1.{number}.1"
        self._netns = lab[self.name].namespace.fd
        self._listener: socket.socket | None = None

    def listen(self) -> None:
        """Takes connections from now on; :meth:`accept` hands them out."""
        listener = socket_in(self._netns, socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((self.address, PORT))
        listener.listen(8)
        self._listener = listener

    def refuse(self) -> None:
        """No longer listens: connections are refused."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def accept(self, within: float = 15.0) -> Conversation:
        assert self._listener is not None
        async with asyncio.timeout(within):
            connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        return await _conversation(connection)

    async def dial(self, within: float = 15.0) -> Conversation:
        dialled = socket_in(self._netns, socket.AF_INET, socket.SOCK_STREAM)
        dialled.setblocking(False)
        dialled.bind((self.address, 0))
        async with asyncio.timeout(within):
            await asyncio.get_running_loop().sock_connect(dialled, (self.cloud, PORT))
        return await _conversation(dialled)

    def open(
        self,
        *,
        asn: int | None = None,
        hold_time: int = 3,
        identifier: IPv4Address = LOW,
        version: int = 4,
        capabilities: tuple[Capability, ...] | None = None,
    ) -> bytes:
        """An OPEN of this data centre; what is given is wrong on purpose."""
        number = self.asn if asn is None else asn
        offered = (Multiprotocol(1, 1), FourOctetAs(number)) if capabilities is None else capabilities
        made = Open.of(number, hold_time, identifier, offered)
        return encode(Open(made.asn, hold_time, identifier, offered, version))

    async def establish(self, connection: Conversation, identifier: IPv4Address = LOW) -> None:
        """OPEN and KEEPALIVE both ways on a connection that stands."""
        connection.send(self.open(identifier=identifier))
        await connection.hear(MessageType.KEEPALIVE)
        connection.send(KEEPALIVE)

    def update(self, prefix: bytes) -> bytes:
        """Announces one prefix, as octets of NLRI, with this data centre's AS path and next hop."""
        path = b"\x02\x01" + self.asn.to_bytes(4, "big")
        next_hop = IPv4Address(self.address).packed
        attributes = b"\x40\x01\x01\x00" + b"\x40\x02" + bytes([len(path)]) + path + b"\x40\x03\x04" + next_hop
        body = b"\x00\x00" + len(attributes).to_bytes(2, "big") + attributes + prefix
        return message(MessageType.UPDATE, body)


async def _conversation(connection: socket.socket) -> Conversation:
    return Conversation(*await asyncio.open_connection(sock=connection))


def message(kind: int, body: bytes = b"", *, length: int | None = None, marker: bytes = b"\xff" * 16) -> bytes:
    """A message with whatever header is asked for."""
    return marker + (19 + len(body) if length is None else length).to_bytes(2, "big") + bytes([kind]) + body


KEEPALIVE = encode(Keepalive())
CEASE = encode(Notification(6, 2))
