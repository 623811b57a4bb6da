"""UDP for BFD: four receiving sockets (IPv4 and IPv6, single-hop and multihop), and one sending socket for each session.

Received TTL and destination come with each datagram. A sending socket has a source port of its own in 49152 to 65535 (RFC 5881 4),
keeps its source address, and is connected, so that an ICMP answer ("no BFD here") is heard.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from random import Random

from harness.bfd.demux import Arrival, Peering
from harness.bfd.terms import PORT, PORT_MULTIHOP, TTL

SOURCE_PORTS = range(49152, 65536)
_BATCH = 64
_PRECEDENCE = 0xC0
# Linux's numbers; Python 3.11 names only some of them.
_IP_TTL, _IP_PKTINFO, _IP_RECVTTL = 2, 8, 12
_IPV6_RECVPKTINFO, _IPV6_PKTINFO, _IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 49, 50, 51, 52
_INT = struct.Struct("=i")
_ANCILLARY = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(4)


class Receiver:
    """One port of one IP version."""

    def __init__(self, family: socket.AddressFamily, port: int) -> None:
        self.port = port
        self._family = family
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
            else:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
            self._socket.bind(("", port))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def arrivals(self) -> Iterator[Arrival]:
        """What waits, a bounded number."""
        for _ in range(_BATCH):
            try:
                data, ancillary, _flags, address = self._socket.recvmsg(2048, _ANCILLARY)
            except BlockingIOError:
                return
            ttl, destination = 0, ""
            for _level, kind, value in ancillary:
                if kind in (_IP_TTL, _IPV6_HOPLIMIT):
                    (ttl,) = _INT.unpack_from(value)
                elif kind == _IP_PKTINFO:
                    destination = socket.inet_ntop(socket.AF_INET, value[8:12])
                elif kind == _IPV6_PKTINFO:
                    destination = socket.inet_ntop(socket.AF_INET6, value[:16])
            yield Arrival(data, address[0].partition("%")[0], destination, ttl, self.port)

    def close(self) -> None:
        self._socket.close()


def receivers() -> list[Receiver]:
    """All four; without IPv6 in the kernel, two. Raises OSError where another program has a port."""
    found: list[Receiver] = []
    try:
        for port in (PORT, PORT_MULTIHOP):
            found.append(Receiver(socket.AF_INET, port))
            with contextlib.suppress(_NoIpv6):
                found.append(_ipv6(port))
    except OSError:
        for receiver in found:
            receiver.close()
        raise
    return found


class _NoIpv6(Exception):
    """The kernel has no IPv6."""


def _ipv6(port: int) -> Receiver:
    try:
        return Receiver(socket.AF_INET6, port)
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise _NoIpv6 from None
        raise


class Sender:
    """Where a session's packets leave. Made when the first can: a route or an address may come later than the session."""

    def __init__(self, peering: Peering, random: Random) -> None:
        self._peering = peering
        self._random = random
        self._socket: socket.socket | None = None

    def send(self, data: bytes) -> str:
        """Sends; the trouble there was, in words, or nothing. A packet that cannot be sent is lost like one in the network."""
        try:
            if self._socket is None:
                self._socket = self._open()
            try:
                self._socket.send(data)
            except ConnectionRefusedError:
                # The answer to an earlier packet; this one was not sent yet.
                with contextlib.suppress(ConnectionRefusedError):
                    self._socket.send(data)
                return f"no BFD at {self._peering.remote}: UDP {self._peering.port} is closed there"
        except BlockingIOError:
            return ""
        except OSError as error:
            return f"cannot send to {self._peering.remote}: {os.strerror(error.errno or 0)}"
        return ""

    def _open(self) -> socket.socket:
        is_v6 = ip_address(self._peering.remote.partition("%")[0]).version == 6
        family = socket.AF_INET6 if is_v6 else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if is_v6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _PRECEDENCE)
            else:
                made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
                made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _PRECEDENCE)
            _bind_source(made, self._peering.local or "", self._random)
            made.connect((self._peering.remote, self._peering.port))
        except OSError:
            made.close()
            raise
        return made

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _bind_source(sock: socket.socket, local: str, random: Random) -> None:
    """A free source port; the start is random, so that sessions of one address differ."""
    first = random.randrange(len(SOURCE_PORTS))
    for step in range(len(SOURCE_PORTS)):
        try:
            sock.bind((local, SOURCE_PORTS[(first + step) % len(SOURCE_PORTS)]))
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no free source port")
