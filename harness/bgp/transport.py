"""TCP for the speaker: listening and dialling on asyncio, with TTL, local addresses and MD5 keys (RFC 2385).

Octets in, octets out; the meaning is the Peer's. Each read takes at most READ octets, so that a neighbour that sends fast cannot
keep the loop from the others. A neighbour that reads slowly is not written to while its buffer is full, and costs no more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import struct
import termios
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from harness.bgp import signals
from harness.bgp.config import Neighbor

READ = 8192
BUFFER_HIGH = 1 << 20
LINGER = 5.0
"""Seconds that a closing connection may take to deliver what is left to say."""

_TCP_MD5SIG = 14
_INT = struct.Struct("=i")
_MD5_RECORD = struct.Struct("=BBHi80s")
_SOCKADDR_STORAGE = 128
_MAX_HOPS = 255
_IP_MINTTL, _IPV6_MINHOPCOUNT = 21, 73
_INTERNETWORK_CONTROL = 0xC0  # RFC 4271 appendix E: IP precedence 6

Feed = Callable[[str, signals.Input], None]
AnySocket = socket.socket | TransportSocket


class TransportError(OSError):
    """A listening socket could not be had; the text names the address, the reason and the remedy."""


def ttl_of(neighbor: Neighbor, own_asn: int) -> int:
    """TTL of a session's packets: 1 for a direct eBGP neighbour, the configured hops, the most for iBGP and with GTSM (RFC 5082)."""
    if neighbor.ttl_security is not None or neighbor.remote_asn == (neighbor.local_asn or own_asn):
        return _MAX_HOPS
    return neighbor.ebgp_multihop or 1


def set_key(sock: AnySocket, address: str, key: bytes) -> None:
    """Signs the segments to and from ``address`` (RFC 2385); an empty key removes it."""
    ip = ipaddress.ip_address(address)
    if ip.version == 4:
        head = struct.pack("=HH4s", socket.AF_INET, 0, ip.packed)
    else:
        head = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, ip.packed, 0)
    record = head.ljust(_SOCKADDR_STORAGE, b"\0") + _MD5_RECORD.pack(0, 0, len(key), 0, key)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, record)
    except FileNotFoundError:
        if key:
            raise


def _dropped(*names: str) -> int:
    """The sum of counters of this namespace's TCP."""
    with open("/proc/thread-self/net/netstat") as file:
        lines = [line.split() for line in file if line.startswith("TcpExt:")]
    counters = dict(zip(lines[0], lines[1], strict=True))
    return sum(int(counters.get(name, 0)) for name in names)


def md5_failures() -> int:
    """Segments that this namespace dropped for a wrong, missing or unexpected signature (the kernel counts no finer)."""
    return _dropped("TCPMD5NotFound", "TCPMD5Unexpected", "TCPMD5Failure")


def ttl_failures() -> int:
    """Segments that this namespace dropped because they came from too far away (RFC 5082)."""
    return _dropped("TCPMinTTLDrop")


def _address_text(end: tuple[Any, ...]) -> str:
    """The address of a socket's end as the configuration writes it: a link-local one with its interface."""
    if len(end) == 4 and end[3]:
        with contextlib.suppress(OSError):
            return f"{end[0].partition('%')[0]}%{socket.if_indextoname(end[3])}"
    return str(end[0])


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


class Connection(asyncio.BufferedProtocol):
    """One TCP connection of one neighbour."""

    def __init__(
        self, name: str, conn: int, outgoing: bool, feed: Feed, drained: Callable[[], None], ended: Callable[[], object]
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.remote = ""
        self.writable = True
        self.written = 0
        self._name = name
        self._conn = conn
        self._feed = feed
        self._drained = drained
        self._ended = ended
        self._outgoing = outgoing
        self._buffer = memoryview(bytearray(READ))
        self._finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(BUFFER_HIGH)
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self.remote = _address_text(remote)
        self._feed(self._name, signals.Connected(self._conn, self._outgoing, _address_text(local), self.remote))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._finished:
            self._feed(self._name, signals.Received(self._conn, bytes(self._buffer[:nbytes])))

    def eof_received(self) -> bool:
        self._end("the neighbour closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._hear_out()
        self._end(_reason(exc) if isinstance(exc, OSError) else "the connection was closed")

    def _hear_out(self) -> None:
        """A write found the connection reset. What had come before is still to be read: the NOTIFICATION that says why, as a rule, for a
        neighbour that closes with something of ours unread resets (RFC 1122 4.2.2.13)."""
        assert self.transport is not None
        descriptor = self.transport.get_extra_info("socket").fileno()
        with contextlib.suppress(OSError):
            while not self._finished and (data := os.read(descriptor, READ)):
                self._feed(self._name, signals.Received(self._conn, data))

    def _end(self, reason: str) -> None:
        if not self._finished:
            self._finished = True
            self._ended()
            self._feed(self._name, signals.Closed(self._conn, reason))

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._drained()

    def finish(self, loop: asyncio.AbstractEventLoop) -> None:
        """Our side ends it: what was written still leaves, for LINGER seconds at most."""
        self._finished = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            loop.call_later(LINGER, self.transport.abort)


class Transport:
    """All sockets of a speaker. ``feed`` takes a neighbour's name and an input; ``refused`` hears of strangers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        own_asn: int,
        port: int,
        feed: Feed,
        drained: Callable[[], None],
        accept: Callable[[str], tuple[str, int] | None],
        dial_slow: Callable[[str, int], None],
    ) -> None:
        self._loop = loop
        self._own_asn = own_asn
        self._port = port
        self._feed = feed
        self._drained = drained
        self._accept_from = accept
        self._dial_slow = dial_slow
        self._neighbors: dict[str, Neighbor] = {}
        self._keys: dict[str, tuple[str, bytes | None]] = {}
        self._listeners: list[socket.socket] = []
        self._connections: dict[tuple[str, int], Connection] = {}
        self._dials: dict[tuple[str, int], asyncio.Task[None]] = {}

    # ---------------------------------------------------------------------------------------------------------- listening

    def listen(self, addresses: tuple[str, ...]) -> None:
        """Raises TransportError where an address cannot be listened on; IPv6 is passed over where the kernel has none.

        Connections wait until :meth:`accept`.
        """
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                listener = self._bound(family, address)
            except OSError as error:
                if family == socket.AF_INET6 and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    continue
                raise TransportError(
                    error.errno,
                    f"cannot listen on {address} port {self._port}: {_reason(error)}; "
                    "is another BGP speaker running in this namespace?",
                ) from None
            self._listeners.append(listener)

    def accept(self) -> None:
        """From now on connections are taken."""
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _bound(self, family: int, address: str) -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, self._port))
            self._reach(listener)
            # Keys first: a connection that came before its key would stay unsigned.
            for peer_address, key in self._keys.values():
                if key is not None and (":" in peer_address) == (family == socket.AF_INET6):
                    set_key(listener, peer_address, key)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
        return listener

    def neighbors_changed(self, neighbors: Mapping[str, Neighbor]) -> None:
        """Keys follow the neighbours: on the listening sockets, and on connections that stand, which go on with the new key."""
        before = self._keys
        # Read where the configuration is another one: the file may be gone since.
        self._keys = {
            name: before[name] if self._neighbors.get(name) is neighbor else (neighbor.address, neighbor.secret())
            for name, neighbor in neighbors.items()
        }
        self._neighbors = dict(neighbors)
        for listener in self._listeners:
            self._reach(listener)
        signed = {address for address, key in self._keys.values() if key is not None}
        for address, key in before.values():
            if key is not None and address not in signed:
                self._sign_listeners(address, b"")
        for name, (address, key) in self._keys.items():
            if before.get(name) == (address, key):
                continue
            if key is not None:
                self._sign_listeners(address, key)
            for sock in self._sockets(name, address):
                set_key(sock, address, key or b"")

    def _reach(self, listener: socket.socket) -> None:
        """A neighbour with GTSM may take no SYN-ACK that has a lower TTL."""
        if any(neighbor.ttl_security is not None for neighbor in self._neighbors.values()):
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _MAX_HOPS)
            else:
                listener.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _MAX_HOPS)

    def _sign_listeners(self, address: str, key: bytes) -> None:
        for listener in self._listeners:
            if (":" in address) == (listener.family == socket.AF_INET6):
                set_key(listener, address, key)

    def _sockets(self, name: str, address: str) -> list[AnySocket]:
        """The connections and dials of a neighbour that are to this address."""
        found: list[AnySocket] = []
        for (owner, _), connection in self._connections.items():
            if owner == name and connection.transport is not None and connection.remote == address:
                found.append(connection.transport.get_extra_info("socket"))
        return found

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                sock, remote = listener.accept()
                found = self._accept_from(_address_text(remote))
                if found is None:
                    sock.close()
                    continue
                name, conn = found
                sock.setblocking(False)
                self._tune(sock, self._neighbors[name])
                self._secure(sock, self._neighbors[name])
                self._run(name, conn, self._adopt(name, conn, sock, False))

    def _tune(self, sock: socket.socket, neighbor: Neighbor) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ttl = ttl_of(neighbor, self._own_asn)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _INTERNETWORK_CONTROL)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _INTERNETWORK_CONTROL)

    def _secure(self, sock: socket.socket, neighbor: Neighbor) -> None:
        """RFC 5082: from now on nothing counts that came from further away. The handshake is not looked at: a neighbour that is not
        listening yet refuses with any TTL, and nobody could finish a handshake that he does not see."""
        if neighbor.ttl_security is not None:
            least = _MAX_HOPS + 1 - neighbor.ttl_security
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, least)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, least)

    def _run(self, name: str, conn: int, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._dials[name, conn] = task
        task.add_done_callback(lambda _: self._dials.pop((name, conn), None))

    async def _adopt(self, name: str, conn: int, sock: socket.socket, outgoing: bool) -> None:
        key = (name, conn)
        connection = Connection(
            name, conn, outgoing, self._feed, self._drained, lambda: self._connections.pop(key, None)
        )
        self._connections[key] = connection
        try:
            await self._loop.create_connection(lambda: connection, sock=sock)
        except asyncio.CancelledError:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            connection.connection_lost(error)

    # ------------------------------------------------------------------------------------------------------------ dialling

    def dial(self, neighbor: Neighbor, conn: int) -> None:
        """Connects; the outcome is fed as Connected or ConnectFailed. ``dial_slow`` is told when a second has passed."""
        self._run(neighbor.name, conn, self._dial(neighbor, conn))

    async def _dial(self, neighbor: Neighbor, conn: int) -> None:
        family = socket.AF_INET6 if ":" in neighbor.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        slow = self._loop.call_later(1.0, self._dial_slow, neighbor.name, conn)
        try:
            if (key := self._keys[neighbor.name][1]) is not None:
                set_key(sock, neighbor.address, key)
            self._tune(sock, neighbor)
            address, _, interface = neighbor.address.partition("%")
            scope = (0, socket.if_nametoindex(interface)) if interface else ()
            if neighbor.local_address is not None:
                sock.bind((neighbor.local_address, 0, *scope))
            await self._loop.sock_connect(sock, (address, neighbor.port, *scope))
            self._secure(sock, neighbor)
        except OSError as error:
            sock.close()
            self._feed(neighbor.name, signals.ConnectFailed(conn, _reason(error)))
            return
        except asyncio.CancelledError:
            sock.close()
            raise
        finally:
            slow.cancel()
        await self._adopt(neighbor.name, conn, sock, True)

    # --------------------------------------------------------------------------------------------------------- connections

    def write(self, name: str, conn: int, data: bytes) -> None:
        connection = self._connections.get((name, conn))
        if connection is not None and connection.transport is not None:
            connection.written += len(data)
            connection.transport.write(data)

    def is_writable(self, name: str, conn: int) -> bool:
        connection = self._connections.get((name, conn))
        return connection is not None and connection.writable

    def taken(self, name: str, conn: int) -> tuple[int, int] | None:
        """See :meth:`harness.bgp.ports.Shell.taken`."""
        connection = self._connections.get((name, conn))
        if connection is None or connection.transport is None or connection.transport.is_closing():
            return None
        (queued,) = _INT.unpack(fcntl.ioctl(connection.transport.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4)))
        waiting = connection.transport.get_write_buffer_size() + queued
        return connection.written - waiting, waiting

    def ports(self, name: str, conn: int) -> tuple[int, int]:
        """Local and remote TCP port of a connection that stands; zeros where it does not."""
        connection = self._connections.get((name, conn))
        if connection is None or connection.transport is None:
            return 0, 0
        ends = (connection.transport.get_extra_info(end) for end in ("sockname", "peername"))
        local, remote = (end[1] if end else 0 for end in ends)
        return local, remote

    def close(self, name: str, conn: int) -> None:
        connection = self._connections.pop((name, conn), None)
        if connection is not None and connection.transport is not None:
            connection.finish(self._loop)
            return
        if (task := self._dials.pop((name, conn), None)) is not None:
            task.cancel()

    async def shut(self) -> None:
        """Closes the listeners, and waits until what was said last has left."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        for task in tuple(self._dials.values()):
            task.cancel()
        await asyncio.gather(*self._dials.values(), return_exceptions=True)
