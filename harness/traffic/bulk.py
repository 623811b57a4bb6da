"""A bulk TCP transfer between two namespaces: does a full stream get through unharmed, and with which segment size?

Both ends run in the calling process, each with a socket of its namespace. The receiver's checksum proves the content.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import zlib
from dataclasses import dataclass

from harness.net.namespace import socket_in
from harness.patience import stretched

_CHUNK = bytes(range(256)) * 1024
_TCP_INFO = struct.Struct("=8B24I")
_SEND_MSS, _PATH_MTU, _RETRANSMITS = 10, 21, 31


class TransferFailed(Exception):
    """The stream did not get through whole in time: a black hole for full-sized segments looks like this."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """``mss`` and ``path_mtu`` are the sender's at the end (``tcpi_snd_mss``, ``tcpi_pmtu``), ``retransmits`` its segments sent again."""

    octets: int
    seconds: float
    mss: int
    path_mtu: int
    retransmits: int

    @property
    def mbit_per_second(self) -> float:
        return self.octets * 8 / self.seconds / 1e6


async def transfer(
    sender_fd: int | None,
    receiver_fd: int | None,
    destination: str,
    *,
    octets: int = 8 << 20,
    port: int = 5001,
    source: str = "0.0.0.0",
    within: float = 10.0,
) -> Transfer:
    """Sends ``octets`` to ``destination``, an address in the namespace of ``receiver_fd``, from ``source`` in that of ``sender_fd``.

    Raises TransferFailed after ``within`` seconds or when what came is not what was sent, OSError when the port is taken.
    """
    loop = asyncio.get_running_loop()
    with (
        socket_in(receiver_fd, socket.AF_INET, socket.SOCK_STREAM) as listener,
        socket_in(sender_fd, socket.AF_INET, socket.SOCK_STREAM) as sender,
    ):
        for sock in (listener, sender):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((destination, port))
        listener.listen(1)
        sender.bind((source, 0))
        received = [0, 0]
        sink = asyncio.create_task(_receive(listener, received))
        try:
            async with asyncio.timeout(stretched(within)):
                await loop.sock_connect(sender, (destination, port))
                begun = time.monotonic()
                sent = await _send(sender, octets)
                sender.shutdown(socket.SHUT_WR)
                await sink
                seconds = time.monotonic() - begun
        except TimeoutError as error:
            raise TransferFailed(
                f"{received[0]} of {octets} octets reached {destination} in {within} s; compare the path's MTU with the MSS"
            ) from error
        except OSError as error:
            raise TransferFailed(
                f"{destination} port {port}: {error.strerror}; see that both directions have a route"
            ) from error
        finally:
            sink.cancel()
        if received != [octets, sent]:
            raise TransferFailed(f"{destination} received {received[0]} of {octets} octets, or altered ones")
        info = _TCP_INFO.unpack(sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
        return Transfer(octets, seconds, info[_SEND_MSS], info[_PATH_MTU], info[_RETRANSMITS])


async def _send(sock: socket.socket, octets: int) -> int:
    """Sends the pattern and returns its CRC."""
    loop, crc = asyncio.get_running_loop(), 0
    while octets > 0:
        chunk = _CHUNK[: min(octets, len(_CHUNK))]
        await loop.sock_sendall(sock, chunk)
        crc = zlib.crc32(chunk, crc)
        octets -= len(chunk)
    return crc


async def _receive(listener: socket.socket, received: list[int]) -> None:
    """Keeps octets and CRC of what came in ``received``."""
    loop = asyncio.get_running_loop()
    sock, _peer = await loop.sock_accept(listener)
    with sock:
        while data := await loop.sock_recv(sock, 1 << 18):
            received[0] += len(data)
            received[1] = zlib.crc32(data, received[1])
