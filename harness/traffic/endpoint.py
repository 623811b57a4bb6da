"""One end of a set of flows: its sockets, what it sends and receives. No event loop: a worker calls it.

Sends sequence-numbered UDP datagrams from any address that is local to its node (AnyIP), the source given packet by packet
(``IP_PKTINFO``), so that one socket a port serves hundreds of addresses; and the same records over long-lived TCP connections.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from harness.traffic.flows import Direction, Flow, Protocol
from harness.traffic.receipts import Report
from harness.traffic.record import HEADER, LARGEST, MAGIC, SEQUENCE_LIMIT, RecordStream, StreamDamaged
from harness.traffic.run import Run

# Not in Python's socket module: linux/in.h, asm-generic/socket.h with linux/sock_diag.h, linux/tcp.h
_IP_PKTINFO = 8
_SO_MEMINFO, _MEMINFO = 55, struct.Struct("=9I")
_MEMINFO_DROPS = 8
_SO_TXREHASH = 74
_TCP_INFO = struct.Struct("=8B24I")
_TOTAL_RETRANSMITS = 31

_RECEIVE_BUFFER = 1 << 20
# A late sender catches up in bites, so that what it receives is read in between.
_BURST = 128
_RUNS_KEPT = 32

Address = tuple[str, int]


class Side(StrEnum):
    CLIENT = "client"
    SERVER = "server"

    @property
    def sends(self) -> Direction:
        return Direction.TO_VPC if self is Side.CLIENT else Direction.TO_DC


class EndpointError(ValueError):
    """The end cannot do what was asked: the text names the address, port or run, and the remedy."""


@dataclass(slots=True)
class _Connection:
    flow: Flow
    socket: socket.socket
    stream: RecordStream = field(default_factory=RecordStream)
    backlog: bytearray = field(default_factory=bytearray)


class Endpoint:
    """All ends of ``flows`` on one side. Its sockets belong to the network namespace of the caller.

    Order of use: :meth:`open`; on the client side :meth:`connections` until each is connected, then :meth:`adopt`;
    :meth:`begin`; :meth:`send` and :meth:`receive` again and again; :meth:`report`; :meth:`close`.
    """

    def __init__(self, side: Side, flows: Sequence[Flow]) -> None:
        self.side = side
        self.flows = tuple(flows)
        self.broken: dict[int, str] = {}
        self.epoll = select.epoll()
        self._ids = tuple(flow.id for flow in self.flows)
        self._remote: dict[int, Address] = {}
        self._targets: list[tuple[socket.socket, list[tuple[int, int, bytes]], Address] | None] = []
        self._udp: dict[int, socket.socket] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._connections: dict[int, _Connection] = {}
        self._backlogged: set[int] = set()
        self._readers: dict[int, Callable[[float], int]] = {}
        self._runs: dict[int, Run] = {}
        self._sending: Run | None = None
        self._buffer = bytearray(LARGEST)

    def open(self) -> None:
        """Binds the UDP ports and, on the server, listens on the TCP ports. Raises EndpointError when one is taken."""
        for flow in self.flows:
            protocol, local, port, remote, remote_port = flow.tuple_of(self.side.sends)
            self._remote[flow.id] = (remote, remote_port)
            try:
                if protocol is Protocol.UDP:
                    source = struct.pack("=i4s4s", 0, socket.inet_aton(local), bytes(4))
                    sock = self._udp.get(port) or self._open_udp(port)
                    self._targets.append((sock, [(socket.IPPROTO_IP, _IP_PKTINFO, source)], self._remote[flow.id]))
                    continue
                self._targets.append(None)
                if self.side is Side.SERVER and port not in self._listeners:
                    self._listen(port)
            except OSError as error:
                self.close()
                raise EndpointError(
                    f"{self.side} end: {protocol.name} port {port}: {error.strerror}; free it, or give the FlowSpec other ports"
                ) from error

    def connections(self) -> Iterator[tuple[Flow, socket.socket, Address]]:
        """A bound, non-blocking socket for each TCP flow of a client, to be connected to the address beside it.

        Raises EndpointError when a client's address is not local to the node.
        """
        for flow in self.flows:
            if flow.protocol is Protocol.TCP:
                sock = _stream_socket()
                try:
                    sock.bind((flow.client, flow.client_port))
                except OSError as error:
                    sock.close()
                    raise EndpointError(
                        f"client end: {flow.client} TCP port {flow.client_port}: {error.strerror}; "
                        f"the node needs a local route that covers the address, and the port free"
                    ) from error
                yield flow, sock, self._remote[flow.id]

    def adopt(self, flow: Flow, sock: socket.socket) -> None:
        """Takes over a connected TCP socket of ``flow``."""
        connection = self._connections[flow.id] = _Connection(flow, sock)
        self._watch(sock, partial(self._read_stream, connection))

    def begin(self, number: int, *, started: float, rate: float, packets: int, size: int) -> float:
        """Starts a sending run: ``packets`` records of ``size`` octets on every flow, ``rate`` a second on each.

        Returns when the last is due. Raises EndpointError while another run is under way, or on a number used before.
        """
        if self._sending is not None:
            raise EndpointError(f"run {self._sending.number} is still being sent; stop it first")
        if not HEADER.size <= size <= LARGEST:
            raise EndpointError(f"a record of {size} octets cannot be; {HEADER.size} to {LARGEST} can")
        if not (rate > 0 and 0 < packets < SEQUENCE_LIMIT):
            raise EndpointError(f"{packets} packets at {rate} a second: both must be positive")
        run = self._run(number)
        if run.total:
            raise EndpointError(f"run {number} was sent already; give the next one another number")
        end = run.schedule(started=started, rate=rate, packets=packets, size=size)
        run.retransmits_before = self._retransmits()
        self._sending = run if run.total else None
        return end

    @property
    def next_due(self) -> float | None:
        """When the next packet has to go; None when none has."""
        return None if self._sending is None else self._sending.next_due

    def stop(self) -> None:
        """Sends no more of the present run; what was not due yet was never part of it."""
        if self._sending is not None:
            self._sending.total = self._sending.cursor
            self._sending = None

    def send(self, now: float) -> None:
        """Sends what is due at ``now``, at most a burst, and what TCP held back before."""
        for flow in tuple(self._backlogged):
            self._flush(self._connections[flow])
        run = self._sending
        if run is None:
            return
        count, padding = len(self._ids), bytes(run.size - HEADER.size)
        for index in run.due(now, _BURST):
            sequence, place = divmod(index, count)
            flow = self._ids[place]
            record = HEADER.pack(MAGIC, run.number, run.size, flow, sequence, time.monotonic_ns()) + padding
            target = self._targets[place]
            if target is None:
                self._send_stream(run, flow, record)
                continue
            sock, source, remote = target
            try:
                sock.sendmsg((record,), source, 0, remote)
            except OSError as error:
                run.refuse(flow, errno.errorcode.get(error.errno or 0, str(error)))
        if run.cursor >= run.total:
            self._sending = None

    def receive(self, now: float) -> int:
        """Reads what has arrived and books it as of ``now``; returns how many records and connections that was."""
        return sum(self._readers[number](now) for number, _events in self.epoll.poll(0, 512) if number in self._readers)

    def sent(self, number: int) -> int:
        return self._run(number).cursor

    def arrived(self, number: int) -> tuple[int, int]:
        """(UDP, TCP) records of a run that have come, each counted once."""
        run = self._run(number)
        return run.arrivals.total - run.tcp_arrived, run.tcp_arrived

    @property
    def connected(self) -> int:
        """TCP connections that stand."""
        return len(self._connections)

    def report(self, number: int) -> Report:
        """This end's view of a run, at any time; of one it never heard of, that nothing came."""
        return self._run(number).report(retransmits=self._retransmits(), broken=self.broken, overflow=self._overflow())

    def close(self) -> None:
        """Ends everything; TCP connections by reset, so that no port stays in TIME_WAIT."""
        for connection in self._connections.values():
            connection.socket.close()
        for sock in (*self._udp.values(), *self._listeners.values()):
            sock.close()
        for held in (self._connections, self._udp, self._listeners, self._readers):
            held.clear()
        self.epoll.close()

    def _run(self, number: int) -> Run:
        """The run of that number; the first packet of an unknown one opens it, whichever end starts first."""
        run = self._runs.get(number)
        if run is None:
            run = self._runs[number] = Run.open(number, self._ids, self._overflow())
            while len(self._runs) > _RUNS_KEPT:
                del self._runs[next(iter(self._runs))]
        return run

    def _watch(self, sock: socket.socket, reader: Callable[[float], int]) -> None:
        self._readers[sock.fileno()] = reader
        self.epoll.register(sock.fileno(), select.EPOLLIN)

    def _open_udp(self, port: int) -> socket.socket:
        sock = self._udp[port] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.bind(("", port))
        self._watch(sock, partial(self._read_datagrams, sock))
        return sock

    def _listen(self, port: int) -> None:
        sock = self._listeners[port] = _stream_socket()
        sock.bind(("", port))
        sock.listen(4096)
        owners = {
            (flow.client, flow.client_port): flow
            for flow in self.flows
            if flow.protocol is Protocol.TCP and flow.server_port == port
        }
        self._watch(sock, partial(self._accept, sock, owners))

    def _accept(self, listener: socket.socket, owners: Mapping[Address, Flow], _now: float) -> int:
        for count in range(_BURST):
            try:
                sock, peer = listener.accept()
            except OSError:
                return count
            flow = owners.get(peer)
            if flow is None:
                sock.close()
                continue
            _prepare(sock)
            self.adopt(flow, sock)
        return _BURST

    def _read_datagrams(self, sock: socket.socket, now: float) -> int:
        buffer, remote = self._buffer, self._remote
        for count in range(_BURST):
            try:
                length, source = sock.recvfrom_into(buffer)
            except OSError:
                return count
            if length < HEADER.size:
                continue
            magic, number, size, flow, sequence, sent = HEADER.unpack_from(buffer)
            if magic != MAGIC or sequence >= SEQUENCE_LIMIT:
                continue
            run = self._run(number)
            if size != length or remote.get(flow) != source:
                run.stray += 1
            else:
                run.arrivals.note(flow, sequence, length, sent / 1e9, now)
        return _BURST

    def _read_stream(self, connection: _Connection, now: float) -> int:
        try:
            data = connection.socket.recv(1 << 16)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._break(connection, errno.errorcode.get(error.errno or 0, str(error)))
            return 0
        if not data:
            self._break(connection, "closed by the other end")
            return 0
        count, run = 0, None
        try:
            for number, size, flow, sequence, sent in connection.stream.feed(data):
                if run is None or run.number != number:
                    run = self._run(number)
                place = run.arrivals.position[connection.flow.id]
                if flow != connection.flow.id or sequence != len(run.arrivals.seen[place]):
                    raise StreamDamaged(
                        f"record {sequence} of flow {flow} came where flow {connection.flow.id} goes on"
                    )
                run.arrivals.note(flow, sequence, size, sent / 1e9, now)
                run.tcp_arrived += 1
                count += 1
        except StreamDamaged as error:
            self._break(connection, str(error))
        return count

    def _send_stream(self, run: Run, flow: int, record: bytes) -> None:
        connection = self._connections.get(flow)
        if connection is None:
            run.refuse(flow, "ENOTCONN")
            return
        connection.backlog += record
        self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        flow = connection.flow.id
        try:
            del connection.backlog[: connection.socket.send(connection.backlog)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._break(connection, errno.errorcode.get(error.errno or 0, str(error)))
            return
        if connection.backlog:
            self._backlogged.add(flow)
        else:
            self._backlogged.discard(flow)

    def _break(self, connection: _Connection, reason: str) -> None:
        flow = connection.flow.id
        self.broken.setdefault(flow, reason)
        self._backlogged.discard(flow)
        if self._connections.pop(flow, None) is not None:
            self._readers.pop(connection.socket.fileno(), None)
            connection.socket.close()

    def _retransmits(self) -> dict[int, int]:
        """flow -> segments sent again since its connection began (``tcpi_total_retrans``)."""
        return {
            flow: _TCP_INFO.unpack(connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))[
                _TOTAL_RETRANSMITS
            ]
            for flow, connection in self._connections.items()
        }

    def _overflow(self) -> int:
        """Datagrams for which the UDP sockets had no room, ever."""
        return sum(
            _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_MEMINFO_DROPS]
            for sock in self._udp.values()
        )


def _stream_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _prepare(sock)
    return sock


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    # A veth carries the sender's own hash of a TCP packet to the next router, and the sender draws a new one at every retransmission
    # timeout: the flow would change its tunnel, which no flow on a wire does. Linux before 5.18 does not have the option.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_TXREHASH, 0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
