"""What one monitoring station is told, and when: a queue of what happened to sessions, and marks on routes that changed.

A route is looked up when the station can take it, so that a slow one costs an entry for each prefix that changed, never a queue of
messages, and always ends with the truth (RFC 7854 5 allows that states in between are left out). Only Peer Up and Peer Down, whose
order matters, are queued; :attr:`Feed.overflowed` says when a station does not even take those.

No socket: octets go out of :meth:`Feed.piece`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import islice

from harness.bgp import bmp, signals
from harness.bgp.adj_out import AdjRibOut
from harness.bgp.adjacency import Adjacency, mapped, packed_address
from harness.bgp.attributes import Attributes
from harness.bgp.capabilities import FourOctetAs, Multiprotocol
from harness.bgp.fsm import Event
from harness.bgp.messages import Open, encode
from harness.bgp.monitoring_options import BmpCollector
from harness.bgp.prefixes import Family, split_path_id
from harness.bgp.rib import AdjRibIn, Table
from harness.bgp.session import Session
from harness.bgp.speaker import Speaker
from harness.bgp.update import Update, end_of_rib, pack_announcements, pack_withdrawals

PIECE = 256
"""Routes looked up for one piece: about a millisecond."""
QUEUE_LIMIT = 1 << 20
"""Octets of Peer Up, Peer Down and statistics that may wait."""

_LOC_RIB = ""
"""The name of the own table among the streams; no neighbour's is empty."""

_Told = tuple[Attributes, bytes] | None
"""Attributes and next hop of a route as the station shall know it; None: it is not there."""


@dataclass(slots=True, eq=False)
class _Stream:
    """One table of one session: what has changed since the station was told. ``look`` gives a key's present state."""

    peer: bmp.Peer
    view: bmp.View
    family: Family
    wire: Session
    look: Callable[[bytes], _Told]
    first: Iterator[bytes] | None
    unwatch: Callable[[], None]
    marks: dict[bytes, None] = field(default_factory=dict)
    told: set[bytes] | None = None
    end_of_rib: bool = False

    def keys(self) -> list[bytes]:
        """The next keys to tell of: the table as it was first, then what changed."""
        if self.first is not None:
            if found := list(islice(self.first, PIECE)):
                return found
            self.first = None
        if len(self.marks) <= PIECE:
            waiting, self.marks = self.marks, {}
            return list(waiting)
        found = list(islice(self.marks, PIECE))
        for key in found:
            del self.marks[key]
        return found

    @property
    def waiting(self) -> bool:
        return bool(self.marks) or self.first is not None or self.end_of_rib

    def messages(self) -> list[bytes]:
        """UPDATEs for the next keys; after the last of a table End-of-RIB, where it is due."""
        gone: list[bytes] = []
        there: dict[tuple[Attributes, bytes], list[bytes]] = {}
        for key in self.keys():
            told = self.look(key)
            if told is not None:
                there.setdefault(told, []).append(key)
                if self.told is not None:
                    self.told.add(key)
            elif self.told is None:
                gone.append(key)
            elif key in self.told:
                self.told.discard(key)
                gone.append(key)
        found = pack_withdrawals(self.wire, self.family, gone) if gone else []
        for (attributes, next_hop), slices in there.items():
            found += self._packed(attributes, next_hop, slices)
        if self.end_of_rib and not self.marks and self.first is None:
            self.end_of_rib = False
            found.append(end_of_rib(self.family))
        return found

    def _packed(self, attributes: Attributes, next_hop: bytes, slices: list[bytes]) -> list[bytes]:
        try:
            return pack_announcements(self.wire, self.family, attributes, next_hop, slices)
        except ValueError:
            # With 4-octet AS numbers a path may outgrow the message it came in.
            return pack_announcements(_wire(self.wire, long=True), self.family, attributes, next_hop, slices)


class Feed:
    """A watcher of the speaker for one station. ``ports`` tells a connection's ports, ``wall`` the time of day, ``changed`` is
    called when there is something to send."""

    def __init__(
        self,
        speaker: Speaker,
        options: BmpCollector,
        name: str,
        ports: Callable[[str, int], tuple[int, int]],
        wall: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.overflowed = False
        self._speaker = speaker
        self._options = options
        self._ports = ports
        self._wall = wall
        self._changed = changed
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._streams: dict[str, list[_Stream]] = {}
        self._peers: dict[str, bmp.Peer] = {}
        self._bad_updates: dict[str, list[int]] = {}
        self._turn = 0
        self._put(bmp.initiation(name, f"vbrlab-bgpd, AS {speaker.config.asn}, {speaker.router_id}"))
        if options.loc_rib:
            self._loc_rib_up()
        for adjacency in speaker.adjacencies.values():
            if adjacency.up is not None:
                self._peer_up(adjacency, adjacency.up, standing=True)
        speaker.watchers.append(self)

    def close(self) -> None:
        """Looks on no longer."""
        self._speaker.watchers.remove(self)
        for name in list(self._streams):
            self._leave(name)

    # ------------------------------------------------------------------------------------------------------- what happens

    def takes(self, adjacency: Adjacency, signal: signals.Input) -> None:
        """Nothing: what matters comes out of the Peer."""

    def gives(self, adjacency: Adjacency, output: signals.Output) -> None:
        match output:
            case signals.Deliver(update):
                if update.errors:
                    self._count_bad(adjacency.name, update)
                if update.end_of_rib is not None:
                    for stream in self._streams.get(adjacency.name, ()):
                        if stream.family is update.end_of_rib and stream.view is not bmp.View.ADJ_RIB_OUT:
                            stream.end_of_rib = True
                            self._changed()
            case signals.Up():
                self._peer_up(adjacency, output)
            case signals.Down():
                self._peer_down(adjacency.name, output)

    def _count_bad(self, name: str, update: Update) -> None:
        counts = self._bad_updates.setdefault(name, [0, 0])
        if update.attributes is None and update.withdrawn:
            counts[0] += 1
            counts[1] += sum(map(len, update.withdrawn.values()))

    def _peer_up(self, adjacency: Adjacency, up: signals.Up, *, standing: bool = False) -> None:
        session = up.session
        peer = bmp.Peer(packed_address(adjacency.config.address), session.peer_asn, session.peer_identifier)
        self._peers[adjacency.name] = peer
        self._bad_updates[adjacency.name] = [0, 0]
        sent, received = session.opens or (None, None)
        opens = (encode(sent) if sent else b"", encode(received) if received else b"")
        ports = self._ports(adjacency.name, up.conn)
        self._put(bmp.peer_up(peer, self._wall(), packed_address(up.local), ports, opens))
        self._streams[adjacency.name] = streams = list(self._opened(adjacency, peer, session))
        for stream in streams:
            # RFC 7854 5: End-of-RIB ends the first table. Of a session that just came up it is the neighbour's own.
            stream.end_of_rib = standing

    def _loc_rib_up(self) -> None:
        """RFC 9069 4 and 5: the speaker's own table as a peer without an address, whose OPENs are made up from what it carries."""
        speaker = self._speaker
        asn, identifier = speaker.config.asn, speaker.router_id
        peer = bmp.Peer(bytes(4), asn, identifier, bmp.PeerType.LOC_RIB)
        offered = Open.of(asn, 0, identifier, (*(Multiprotocol(*f.value) for f in speaker.tables), FourOctetAs(asn)))
        self._put(bmp.peer_up(peer, self._wall(), bytes(4), (0, 0), (encode(offered),) * 2, "global"))
        wire = Session(asn4=True, families=frozenset(speaker.tables), extended_message=True)
        self._streams[_LOC_RIB] = streams = []
        for family, table in speaker.tables.items():
            stream = self._stream(peer, bmp.View.PRE_POLICY, family, wire, table, _chosen(table, identifier))
            stream.told, stream.end_of_rib = set(), True
            streams.append(stream)

    def _opened(self, adjacency: Adjacency, peer: bmp.Peer, session: Session) -> Iterator[_Stream]:
        options = self._options
        for family, inbound in adjacency.inbound.items():
            wire = _wire(session, add_path=session.add_path_receive)
            if options.pre_policy:
                yield self._stream(peer, bmp.View.PRE_POLICY, family, wire, inbound.rib, _received(inbound.rib))
            if options.post_policy:
                stream = self._stream(peer, bmp.View.POST_POLICY, family, wire, inbound.rib, _admitted(inbound.rib))
                stream.told = set()
                yield stream
        for family, outbound in adjacency.outbound.items() if options.adj_rib_out else ():
            wire = _wire(session, add_path=session.add_path_send)
            add_path = family in session.add_path_send
            yield self._stream(peer, bmp.View.ADJ_RIB_OUT, family, wire, outbound, _announced(outbound, add_path))

    def _stream(
        self,
        peer: bmp.Peer,
        view: bmp.View,
        family: Family,
        wire: Session,
        table: AdjRibIn | AdjRibOut | Table,
        look: Callable[[bytes], _Told],
    ) -> _Stream:
        def mark(keys: Iterable[bytes]) -> None:
            stream.marks.update(dict.fromkeys(keys))
            self._changed()

        match table:
            case AdjRibIn():
                first = list(table.routes)
            case AdjRibOut():
                first = table.slices()
            case Table():
                first = list(table.selections)
        stream = _Stream(peer, view, family, wire, look, iter(first), lambda: table.watch.remove(mark))
        table.watch.append(mark)
        return stream

    def _peer_down(self, name: str, down: signals.Down) -> None:
        peer = self._peers.pop(name, None)
        self._leave(name)
        if peer is not None:
            self._put(bmp.peer_down(peer, self._wall(), *_why(down)))

    def _leave(self, name: str) -> None:
        for stream in self._streams.pop(name, ()):
            stream.unwatch()

    def report(self) -> None:
        """Queues a Statistics Report for each session that is up."""
        for name, peer in self._peers.items():
            adjacency = self._speaker.adjacencies.get(name)
            if adjacency is not None:
                self._put(bmp.statistics(peer, self._wall(), self._counters(adjacency)))

    def _counters(self, adjacency: Adjacency) -> Iterator[tuple[bmp.Statistic, bytes, int]]:
        tables = self._speaker.tables
        updates, prefixes = self._bad_updates[adjacency.name]
        yield bmp.Statistic.ADJ_RIB_IN, b"", sum(len(i.rib) for i in adjacency.inbound.values())
        yield bmp.Statistic.LOC_RIB, b"", sum(len(table.selections) for table in tables.values())
        for family, inbound in adjacency.inbound.items():
            yield bmp.Statistic.ADJ_RIB_IN_OF_FAMILY, family.wire, len(inbound.rib)
            yield bmp.Statistic.LOC_RIB_OF_FAMILY, family.wire, len(tables[family].selections)
        yield bmp.Statistic.UPDATES_TREATED_AS_WITHDRAWN, b"", updates
        yield bmp.Statistic.PREFIXES_TREATED_AS_WITHDRAWN, b"", prefixes
        yield bmp.Statistic.ADJ_RIB_OUT, b"", sum(map(len, adjacency.outbound.values()))
        for family, outbound in adjacency.outbound.items():
            yield bmp.Statistic.ADJ_RIB_OUT_OF_FAMILY, family.wire, len(outbound)

    # -------------------------------------------------------------------------------------------------------- what goes out

    def _put(self, message: bytes) -> None:
        self._queue.append(message)
        self._queued += len(message)
        self.overflowed = self.overflowed or self._queued > QUEUE_LIMIT
        self._changed()

    def last_words(self) -> bytes:
        """What is queued on sessions, routes left aside: for a speaker that ends."""
        found = b"".join(self._queue)
        self._queue.clear()
        return found

    def piece(self) -> bytes | None:
        """The next octets for the station, a millisecond's work at most; there may be none of a piece. None: it knows all."""
        if self._queue:
            found = b"".join(self._queue)
            self._queue.clear()
            self._queued = 0
            return found
        streams = [stream for each in self._streams.values() for stream in each]
        for number in range(len(streams)):
            stream = streams[(self._turn + number) % len(streams)]
            if stream.waiting:
                self._turn = (self._turn + number + 1) % len(streams)
                header = stream.peer.header(self._wall(), stream.view)
                return b"".join(bmp.route_monitoring(header, message) for message in stream.messages())
        return None


def _wire(session: Session, *, add_path: frozenset[Family] | None = None, long: bool = False) -> Session:
    """The context in which UPDATEs are written for the station: 4-octet AS numbers, everything told (as inside one AS)."""
    return Session(
        asn4=True,
        families=session.families,
        add_path_send=session.add_path_send if add_path is None else add_path,
        extended_message=long or session.extended_message,
    )


def _received(rib: AdjRibIn) -> Callable[[bytes], _Told]:
    def look(key: bytes) -> _Told:
        path = rib.routes.get(key)
        return None if path is None else (path.received, path.next_hop[:16])

    return look


def _admitted(rib: AdjRibIn) -> Callable[[bytes], _Told]:
    def look(key: bytes) -> _Told:
        path = rib.routes.get(key)
        return None if path is None or path.rejected is not None else (path.attributes, path.next_hop[:16])

    return look


def _chosen(table: Table, identifier: IPv4Address) -> Callable[[bytes], _Told]:
    """Own routes have no next hop; they are told with the BGP Identifier in its place."""
    own = mapped(identifier.packed, table.family)

    def look(key: bytes) -> _Told:
        selection = table.selections.get(key)
        best = None if selection is None else selection.best
        return None if best is None else (best.attributes, best.next_hop[:16] or own)

    return look


def _announced(outbound: AdjRibOut, add_path: bool) -> Callable[[bytes], _Told]:
    def look(key: bytes) -> _Told:
        path_id, prefix = split_path_id(key) if add_path else (0, key)
        for told_id, attributes, next_hop, _ in outbound.told(prefix):
            if told_id == path_id:
                return attributes, next_hop
        return None

    return look


def _why(down: signals.Down) -> tuple[bmp.DownReason, bytes]:
    if down.sent is not None:
        return bmp.DownReason.LOCAL_NOTIFICATION, encode(down.sent)
    if down.received is not None:
        return bmp.DownReason.REMOTE_NOTIFICATION, encode(down.received)
    if down.event is Event.TCP_CONNECTION_FAILS:
        return bmp.DownReason.REMOTE_SILENT, b""
    # RFC 7854 4.9: events are told by RFC 4271's numbers; those of the speaker's own have none, 0 says so.
    return bmp.DownReason.LOCAL_EVENT, (down.event if down.event < 100 else 0).to_bytes(2, "big")
