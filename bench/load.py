"""BGP daemons under load: one daemon in a namespace, feeders in another, the kernel's table as the finishing line.

As a program inside a sandbox, ``python load.py WORK DAEMON [FILE]`` prints one measurement as JSON. The works:

``stream``    the real stream from one peer into the table and the kernel, then the loss of that session until the kernel is empty;
``three``     the same from three peers with paths of different lengths, so that every prefix is decided between three; then they
              withdraw all of it, and announce it again;
``singles``   100,000 prefixes, one an UPDATE, into the kernel;
``fan``       100,000 prefixes from one peer, out to eight others, until the last of them has all;
``start``     two of the daemon, started together, to Established (``start-md5``: with a key): see ``handshake``.

The clock runs from the feeder's first octet to the kernel's last route (``fan``: to the last prefix at the last receiver). CPU time and
peak memory are those of all processes of the daemon, read from /proc. What is here: the course. How each daemon is started: ``contenders``.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import select
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench import stream
from bench.contenders import CONTENDERS, Contender, Peer, Running, Self
from bench.handshake import established
from harness.net import rtnl
from harness.net.namespace import Namespace, setns
from harness.net.rtnl import Rtnl

DAEMON = IPv4Address("10.0.0.1")
DAEMON_ASN = 64999
FEEDER_ASN = 64601
"""The first feeder's; each further one has the next number."""
PORT = 179
WITHIN = 90.0
REFUSED = 8
"""Prefixes of the real stream that a daemon may refuse: martians."""
COUNT = 100_000
RECEIVERS = 8
_KEY = "benchmark"
_TICK = os.sysconf("SC_CLK_TCK")
KEEPALIVE = b"\xff" * 16 + b"\x00\x13\x04"


@dataclass(frozen=True, slots=True)
class Load:
    """One run. Seconds, megabytes; ``extra``: further figures of this work, by name."""

    seconds: float
    cpu: float
    memory: float
    routes: int
    extra: dict[str, float] = field(default_factory=dict)


def feeder_address(number: int) -> IPv4Address:
    return DAEMON + 10 + number


# ------------------------------------------------------------------------------------------------------------------- a feeder


def open_message(asn: int, identifier: IPv4Address, hold: int = 0) -> bytes:
    """An OPEN for IPv4 unicast with 4-octet AS numbers; hold time 0: no keepalives are owed."""
    capabilities = b"\x01\x04\x00\x01\x00\x01" + b"\x41\x04" + asn.to_bytes(4, "big")
    parameters = bytes((2, len(capabilities))) + capabilities
    body = struct.pack("!BHH4sB", 4, asn, hold, identifier.packed, len(parameters)) + parameters
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), 1) + body


def feed(netns_fd: int, number: int, messages: Sequence[bytes], pipe: Connection) -> None:
    """A peer: takes the session up, then does what ``pipe`` says: "send", "withdraw", "expect N", "close". A process of its own."""
    setns(netns_fd)
    address = feeder_address(number)
    asn = FEEDER_ASN + number
    peer = session(address, asn)
    pipe.send("up")
    octets = b"".join(messages)
    while True:
        # What the daemon says meanwhile is read, or it would wait for us.
        sources: list[Any] = [peer, pipe]
        readable, _, _ = select.select(sources, [], [])
        if peer in readable and not peer.recv(1 << 20):
            raise ConnectionError("the daemon closed the session")
        if pipe in readable:
            match pipe.recv().split():
                case ["send"]:
                    pipe.send(time.monotonic())
                    _send(peer, octets)
                    pipe.send("sent")
                case ["withdraw"]:
                    gone = b"".join(stream.withdrawals(messages))
                    pipe.send(time.monotonic())
                    _send(peer, gone)
                    pipe.send("sent")
                case ["expect", count]:
                    pipe.send(_received(peer, int(count)))
                case ["close"]:
                    pipe.send(time.monotonic())
                    peer.close()
                    return


def session(address: IPv4Address, asn: int, hold: int = 0) -> socket.socket:
    """Dials until the daemon listens and the session is Established (a daemon says to nobody when it does)."""
    end = time.monotonic() + 60
    while True:
        peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        peer.bind((str(address), 0))
        try:
            peer.settimeout(5.0)
            peer.connect((str(DAEMON), PORT))
            peer.sendall(open_message(asn, address, hold) + KEEPALIVE)
            kinds = _message_kinds(peer)
            if next(kinds) == 1 and next(kinds) == 4:
                peer.settimeout(None)
                return peer
        except (OSError, StopIteration):
            if time.monotonic() > end:
                raise
        peer.close()
        time.sleep(0.05)


def _message_kinds(peer: socket.socket) -> Iterator[int]:
    data = b""
    while True:
        while len(data) >= 19:
            size = int.from_bytes(data[16:18], "big")
            if len(data) < size:
                break
            yield data[18]
            data = data[size:]
        # Octet by octet would be needed to leave none unread; an End-of-RIB that is lost here is no loss.
        more = peer.recv(4096)
        if not more:
            return
        data += more


def _send(peer: socket.socket, octets: bytes) -> None:
    view = memoryview(octets)
    peer.setblocking(False)
    while view:
        readable, writable, _ = select.select([peer], [peer], [])
        if readable and not peer.recv(1 << 20):
            raise ConnectionError(f"the daemon closed with {len(view)} octets left to send")
        if writable:
            view = view[peer.send(view[: 1 << 18]) :]
    peer.setblocking(True)


def _received(peer: socket.socket, count: int) -> float:
    """The moment at which ``count`` prefixes have arrived."""
    data = bytearray()
    seen = 0
    while seen < count:
        more = peer.recv(1 << 20)
        if not more:
            raise ConnectionError(f"the daemon closed after {seen} of {count} prefixes")
        data += more
        at = 0
        while len(data) - at >= 19:
            size = data[at + 16] << 8 | data[at + 17]
            if len(data) - at < size:
                break
            if data[at + 18] == 2:
                seen += len(stream.routes_of(bytes(data[at : at + size]))[1])
            at += size
        del data[:at]
    return time.monotonic()


class Feeder:
    """A peer process and the pipe to it."""

    def __init__(self, node: Namespace, number: int, messages: Sequence[bytes]) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=feed, args=(node.fd, number, messages, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, words: str) -> None:
        self._pipe.send(words)

    def answer(self, within: float = WITHIN) -> Any:
        if not self._pipe.poll(within):
            raise TimeoutError(f"a feeder did not answer within {within:g} s")
        try:
            return self._pipe.recv()
        except EOFError:
            raise ConnectionError("a feeder ended") from None

    def end(self) -> None:
        self._process.kill()
        self._process.join()


# ---------------------------------------------------------------------------------------------------------------- the course


class Course:
    """Two namespaces and a wire: the daemon's node and the feeders'."""

    def __init__(self, peers: int) -> None:
        self.daemon, self.feeders = Namespace.create("daemon"), Namespace.create("feeders")
        self.rtnl = Rtnl(self.daemon)
        other = Rtnl(self.feeders)
        self.rtnl.transact([rtnl.veth("wire", "wire", self.feeders.fd, ifindex=2, peer_ifindex=2)])
        for netlink, addresses in (
            (self.rtnl, [DAEMON]),
            (other, [feeder_address(number) for number in range(peers)]),
        ):
            netlink.transact(
                [
                    rtnl.link_set(1, up=True),
                    rtnl.link_set(2, up=True),
                    *(rtnl.address(2, f"{address}/24") for address in addresses),
                ]
            )

    def routes(self) -> int:
        """How many routes the kernel's main table holds beside the connected ones' (from fib_triestat: no dump)."""
        with self.daemon.entered():
            text = Path("/proc/thread-self/net/fib_triestat").read_text()
        main = text.partition("Main:")[2].partition("Local:")[0] if "Main:" in text else text
        return sum(int(line.split()[1]) for line in main.splitlines() if line.strip().startswith("Prefixes:"))

    def until(self, reached: Callable[[int], bool], running: Running) -> float:
        """The moment at which the number of routes fulfils ``reached``: asked again and again, for the kernel tells no one its count.

        Counting walks the table, and that holds up who changes it: it may take a tenth of the time.
        """
        end = time.monotonic() + WITHIN
        while True:
            began = time.monotonic()
            count = self.routes()
            now = time.monotonic()
            if reached(count):
                return now
            if now > end:
                raise TimeoutError(f"after {WITHIN:g} s the kernel has {count} routes; {running.words()}")
            running.check()
            time.sleep(max(0.01, 9 * (now - began)))


def _cpu_of(pids: Sequence[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def _memory_of(pids: Sequence[int]) -> float:
    """Peak resident megabytes of all processes together."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return total / 1000


@contextlib.contextmanager
def _started(
    contender: Contender, course: Course, streams: Sequence[Sequence[bytes]]
) -> Iterator[tuple[Running, list[Feeder]]]:
    peers = [Peer(FEEDER_ASN + number, feeder_address(number)) for number in range(len(streams))]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        running = contender.start(course.daemon, Self(DAEMON_ASN, DAEMON, peers, Path(directory)))
        feeders = [Feeder(course.feeders, number, messages) for number, messages in enumerate(streams)]
        try:
            try:
                for feeder in feeders:
                    feeder.answer(60.0)
            except (TimeoutError, ConnectionError) as error:
                raise ConnectionError(f"{contender.name}: {error}; {running.words()}") from error
            yield running, feeders
        finally:
            for feeder in feeders:
                feeder.end()
            running.end()


def into_kernel(
    contender: Contender, streams: Sequence[Sequence[bytes]], routes: int, *, loss: bool = False, again: bool = False
) -> Load:
    """All ``streams`` at once until the kernel has ``routes``. With ``loss`` the sessions end then, until it has none; with ``again``
    all is withdrawn, until it has none, and announced once more."""
    course = Course(len(streams))
    base = course.routes()
    with _started(contender, course, streams) as (running, feeders):

        def said(words: str, reached: Callable[[int], bool]) -> float:
            for feeder in feeders:
                feeder.ask(words)
            began: float = min(feeder.answer() for feeder in feeders)
            for feeder in feeders:
                feeder.answer()
            return course.until(reached, running) - began

        before = _cpu_of(running.pids())
        seconds = said("send", lambda count: count >= base + routes - REFUSED)
        pids = running.pids()
        cpu, memory = _cpu_of(pids) - before, _memory_of(pids)
        extra: dict[str, float] = {}
        if again:
            extra["withdrawn"] = said("withdraw", lambda count: count <= base)
            extra["again"] = said("send", lambda count: count >= base + routes - REFUSED)
        if loss:
            before = _cpu_of(pids)
            for feeder in feeders:
                feeder.ask("close")
            closed = min(feeder.answer() for feeder in feeders)
            emptied = course.until(lambda count: count <= base, running)
            extra = {"withdrawn": emptied - closed, "withdrawn_cpu": _cpu_of(pids) - before}
        return Load(seconds, cpu, memory, course.routes() - base if not loss else routes, extra)


def fan_out(contender: Contender, messages: Sequence[bytes], routes: int) -> Load:
    """One peer feeds, RECEIVERS others wait for all of it."""
    course = Course(1 + RECEIVERS)
    with _started(contender, course, [messages, *([[]] * RECEIVERS)]) as (running, feeders):
        before = _cpu_of(running.pids())
        for feeder in feeders[1:]:
            feeder.ask(f"expect {routes}")
        feeders[0].ask("send")
        began = feeders[0].answer()
        ended = max(feeder.answer() for feeder in feeders[1:])
        pids = running.pids()
        return Load(ended - began, _cpu_of(pids) - before, _memory_of(pids), routes)


def _longer(messages: Sequence[bytes], asns: Sequence[int], next_hop: IPv4Address) -> list[bytes]:
    """The same routes with a longer AS path and another next hop: what a second peer says of them."""
    return [stream.prepended(whole, asns, next_hop) for whole in messages]


def run(work: str, contender: Contender, file: Path | None) -> Load:
    """One measurement. Raises FileNotFoundError where ``work`` needs the real stream and there is none."""
    if work in ("start", "start-md5"):
        return Load(established(contender, _KEY if work == "start-md5" else None), 0.0, 0.0, 0)
    if work in ("stream", "three"):
        if file is None:
            raise FileNotFoundError("no MRT file: name one with VBRLAB_STREAM=FILE")
        first = stream.real(file, feeder_address(0))
        if work == "stream":
            return into_kernel(contender, [first.messages], first.routes, loss=True)
        others = [_longer(first.messages, [FEEDER_ASN + n] * n, feeder_address(n)) for n in (1, 2)]
        return into_kernel(contender, [first.messages, *others], first.routes, again=True)
    block = stream.attributes([FEEDER_ASN, 64700, 64800], feeder_address(0))
    singles = stream.singles(COUNT, block)
    if work == "singles":
        return into_kernel(contender, [singles.messages], singles.routes)
    return fan_out(contender, singles.messages, singles.routes)


if __name__ == "__main__":
    file = Path(sys.argv[3]) if len(sys.argv) > 3 else stream.real_file()
    print(json.dumps(asdict(run(sys.argv[1], CONTENDERS[sys.argv[2]], file))))  # noqa: T201
