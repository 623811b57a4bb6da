"""An MRT file as a neighbour: connects to a speaker, announces what the file has, and stays or leaves. For tests and benchmarks.

Sans-IO like the speaker itself: the session is a :class:`harness.bgp.peer.Peer`; only the socket is here. Routes go out as over eBGP
(own AS number in front, own address as next hop), or with ``as_is`` as the octets of the file, which the speaker must be made to take.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from itertools import islice

from harness.bgp import mrt, signals
from harness.bgp.attributes import Attributes
from harness.bgp.errors import ProtocolError
from harness.bgp.messages import MessageType
from harness.bgp.mrt_text import NotAnUpdate, table_attributes, update_of
from harness.bgp.peer import Peer, PeerConfig
from harness.bgp.prefixes import Family, split_path_id
from harness.bgp.session import Session
from harness.bgp.update import end_of_rib, pack_announcements, pack_withdrawals

BATCH = 64
GATHERED = 8192
"""Routes of a table that are held back so that those with equal attributes share messages."""


class FeedError(Exception):
    """The session did not come up, or ended; the text is the reason."""


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """Whom to feed, and as whom. ``next_hop``: for IPv4 routes; the default is the session's own address."""

    address: str
    asn: int
    peer_asn: int
    identifier: IPv4Address
    port: int = 179
    local_address: str | None = None
    next_hop: str | None = None
    as_is: bool = False
    families: frozenset[Family] = frozenset({Family.IPV4_UNICAST})


def messages(records: Iterable[mrt.Record], session: Session, options: FeedOptions, own: bytes) -> Iterator[bytes]:
    """The UPDATEs to send for a file, End-of-RIB last. ``own``: the octets of the next hop. What cannot be read is left out."""
    gathered: dict[tuple[Family, Attributes, bytes], list[bytes]] = {}
    count = 0
    for record in records:
        match record:
            case mrt.Message(sent=False):
                yield from _of_message(record, session, options, own)
            case mrt.Routes(entries=entries, family=family) if entries and family in session.families:
                try:
                    attributes, next_hop = table_attributes(entries[0].attributes)
                except ProtocolError:
                    continue
                key = family, _told(attributes, session, options), _hop(next_hop, family, own, options)
                gathered.setdefault(key, []).append(record.prefix)
                count += 1
                if count % GATHERED == 0:
                    yield from _packed(gathered, session)
    yield from _packed(gathered, session)
    for family in sorted(session.families, key=lambda family: family.value):
        yield end_of_rib(family)


def _of_message(record: mrt.Message, session: Session, options: FeedOptions, own: bytes) -> Iterator[bytes]:
    if options.as_is and record.asn4 == session.asn4 and not record.add_path:
        if record.wire[18:19] == bytes((MessageType.UPDATE,)):
            yield record.wire
        return
    try:
        update = update_of(record)
    except NotAnUpdate:
        return

    def plain(slices: Iterable[bytes]) -> list[bytes]:
        return [split_path_id(piece)[1] for piece in slices] if record.add_path else list(slices)

    for family, slices in update.withdrawn.items():
        if family in session.families:
            yield from pack_withdrawals(session, family, plain(slices))
    if update.attributes is None:
        return
    attributes = _told(update.attributes, session, options)
    for family, slices in update.announced.items():
        if family in session.families:
            next_hop = _hop(update.next_hop[family], family, own, options)
            yield from pack_announcements(session, family, attributes, next_hop, plain(slices))


def _told(attributes: Attributes, session: Session, options: FeedOptions) -> Attributes:
    if options.as_is or not session.ebgp:
        return attributes
    return attributes.prepended(options.asn).evolve(local_pref=None, next_hop=b"")


def _hop(next_hop: bytes, family: Family, own: bytes, options: FeedOptions) -> bytes:
    if options.as_is:
        return next_hop
    return own if len(own) == family.octets else own.rjust(6, b"\xff").rjust(16, b"\0")


def _packed(gathered: dict[tuple[Family, Attributes, bytes], list[bytes]], session: Session) -> Iterator[bytes]:
    for (family, attributes, next_hop), slices in gathered.items():
        yield from pack_announcements(session, family, attributes, next_hop, slices)
    gathered.clear()


class Feeder:
    """One session over one TCP connection."""

    def __init__(self, options: FeedOptions) -> None:
        self._options = options
        self._peer = Peer(
            PeerConfig(
                "fed", options.asn, options.peer_asn, options.identifier, options.families, enforce_first_as=False
            )
        )
        self._writer: asyncio.StreamWriter | None = None
        self._conn = 0
        self._up: asyncio.Future[signals.Up] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def connect(self, within: float = 30.0) -> Session:
        """Establishes the session. Raises FeedError."""
        options = self._options
        local = None if options.local_address is None else (options.local_address, 0)
        try:
            async with asyncio.timeout(within):
                reader, self._writer = await asyncio.open_connection(options.address, options.port, local_addr=local)
        except (OSError, TimeoutError) as error:
            raise FeedError(f"{options.address} port {options.port}: {error or 'no answer'}") from None
        ends = [self._writer.get_extra_info(name)[0] for name in ("sockname", "peername")]
        (dial,) = [
            output
            for output in self._peer.process(signals.Start(), time.monotonic())
            if isinstance(output, signals.Dial)
        ]
        self._conn = dial.conn
        self._feed(signals.Connected(self._conn, True, *ends))
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))
        done, _ = await asyncio.wait((self._up, self._ended), timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if self._up not in done:
            raise FeedError(self._ended.result() if self._ended.done() else f"no session after {within:g} s")
        return self._up.result().session

    async def send(self, records: Iterable[mrt.Record]) -> int:
        """Announces the file; returns the number of UPDATEs once the kernel has them all. Raises FeedError where the session ends."""
        up, options = self._up.result(), self._options
        own = ip_address(options.next_hop or up.local.partition("%")[0]).packed
        wires = messages(records, up.session, options, own)
        count = 0
        while batch := list(islice(wires, BATCH)):
            if self._ended.done():
                raise FeedError(self._ended.result())
            count += len(batch)
            self._feed(signals.Send(batch))
            assert self._writer is not None
            await self._writer.drain()
            await asyncio.sleep(0)  # what the speaker says is read between two batches
        return count

    async def stay(self) -> str:
        """Keeps the session until it ends; returns why."""
        return await asyncio.shield(self._ended)

    async def leave(self, text: str = "") -> None:
        """Cease/2, and the connection is closed."""
        self._feed(signals.Stop(text=text))
        self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
            await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while not self._ended.done():
            due = self._peer.deadline()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                    data = await reader.read(65536)
            except TimeoutError:
                self._feed(signals.Tick())
                continue
            except OSError as error:
                data = b""
                self._end(str(error))
            if not data:
                self._end("the speaker closed the connection")
                return
            self._feed(signals.Received(self._conn, data))

    def _feed(self, signal: signals.Input) -> None:
        for output in self._peer.process(signal, time.monotonic()):
            match output:
                case signals.Write(conn, data) if conn == self._conn and self._writer is not None:
                    self._writer.write(data)
                case signals.Up() if not self._up.done():
                    self._up.set_result(output)
                case signals.Down(reason):
                    self._end(reason)
                case signals.NotificationReceived(_, notification):
                    self._end(str(notification))
                case signals.Close(conn) if conn == self._conn:
                    self._end("the session did not come up")

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
