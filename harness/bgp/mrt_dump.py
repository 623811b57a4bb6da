"""MRT dumps of a running speaker: every message and state change as they come, and the table as it stands (RFC 6396, RFC 8050).

Messages are stored as they were on the wire. The table is written in pieces between which the speaker works, so it is no snapshot of one
moment; each prefix is as it was when its piece was written. A file that cannot be written is told once (``mrt.failed``) and left alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from harness.bgp import mrt, signals
from harness.bgp.adjacency import Adjacency
from harness.bgp.attribute_codec import encode_attribute, encode_attributes
from harness.bgp.attribute_table import OPTIONAL_NON_TRANSITIVE, Code
from harness.bgp.conversation import Conversation, Heard
from harness.bgp.decision import Selection
from harness.bgp.errors import ProtocolError
from harness.bgp.messages import HEADER_LENGTH, PRE_OPEN, MessageType
from harness.bgp.paths import Kind
from harness.bgp.paths import Path as Route
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.speaker import Speaker
from harness.bgp.update import decode_update
from harness.control import EventLog

FLUSH_OCTETS = 1 << 16
FLUSH_AFTER = 1.0
"""Seconds that a record may wait before it is in the file."""
PIECE = 512
_NEIGHBOUR, _SPEAKER = 0, 1


class Recorder:
    """A watcher that appends what sessions say to a file. ``later`` calls back after seconds, ``wall`` is the time of day in seconds."""

    def __init__(
        self,
        path: Path,
        log: EventLog,
        later: Callable[[float, Callable[[], None]], object],
        wall: Callable[[], float],
        *,
        sent: bool = False,
    ) -> None:
        self.path = path
        self.records = 0
        self._log = log
        self._later = later
        self._wall = wall
        self._sent = sent
        self._file: BinaryIO | None = path.open("ab")
        self._waiting: list[bytes] = []
        self._size = 0
        self._due = False
        self._connections: dict[tuple[str, int], tuple[mrt.Ends, Conversation]] = {}
        self._ends: dict[str, mrt.Ends] = {}

    def join(self, adjacency: Adjacency) -> None:
        """Takes up a session that is up already."""
        up = adjacency.up
        if up is None or up.session.opens is None:
            return
        sent, received = up.session.opens
        ends = self._ends_of(adjacency, up.local, up.remote)
        unread = (adjacency.peer.unread(up.conn), b"")
        self._connections[adjacency.name, up.conn] = (
            ends,
            Conversation.joined((received, sent), unread, decoded=False),
        )

    def _ends_of(self, adjacency: Adjacency, local: str, remote: str) -> mrt.Ends:
        ends = mrt.Ends(adjacency.config.remote_asn, adjacency.local_asn, _address(remote), _address(local))
        self._ends[adjacency.name] = ends
        return ends

    def takes(self, adjacency: Adjacency, signal: signals.Input) -> None:
        match signal:
            case signals.Received(conn, data):
                self._hear(adjacency, conn, _NEIGHBOUR, data)
            case signals.Connected(conn, _, local, remote):
                ends = self._ends_of(adjacency, local, remote)
                self._connections[adjacency.name, conn] = (ends, Conversation(decoded=False))
            case signals.Closed(conn, _):
                self._connections.pop((adjacency.name, conn), None)

    def gives(self, adjacency: Adjacency, output: signals.Output) -> None:
        match output:
            case signals.Write(conn, data):
                self._hear(adjacency, conn, _SPEAKER, data)
            case signals.Close(conn):
                self._connections.pop((adjacency.name, conn), None)
            case signals.Transition(old, new, spare=False) if old is not new:
                ends = self._ends.get(adjacency.name) or _unconnected(adjacency)
                self._put(mrt.StateChange(self._now(), ends, old, new))

    def _hear(self, adjacency: Adjacency, conn: int, who: int, data: bytes) -> None:
        connection = self._connections.get((adjacency.name, conn))
        if connection is None:
            return
        ends, conversation = connection
        if who == _SPEAKER and not self._sent and conversation.session(_NEIGHBOUR) is not PRE_OPEN:
            # Our own octets matter only until both OPENs are known.
            return
        for heard in conversation.hear(who, data):
            if heard.error is None and (self._sent or who == _NEIGHBOUR):
                self._put(_message(self._now(), ends, heard, sent=who == _SPEAKER))

    def _now(self) -> int:
        return int(self._wall() * 1e6)

    def _put(self, record: mrt.Record) -> None:
        wire = mrt.encode(record)
        self.records += 1
        self._waiting.append(wire)
        self._size += len(wire)
        if self._size >= FLUSH_OCTETS:
            self.flush()
        elif not self._due:
            self._due = True
            self._later(FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Everything so far is in the file."""
        self._due = False
        waiting, self._waiting, self._size = self._waiting, [], 0
        if self._file is None or not waiting:
            return
        try:
            self._file.write(b"".join(waiting))
            self._file.flush()
        except OSError as error:
            self._log.emit("mrt.failed", file=str(self.path), reason=error.strerror or str(error))
            self._file = None

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None


def _message(time: int, ends: mrt.Ends, heard: Heard, *, sent: bool) -> mrt.Message:
    if heard.type != MessageType.UPDATE:
        return mrt.Message(time, ends, heard.wire, sent=sent)
    session = heard.session
    return mrt.Message(time, ends, heard.wire, session.asn4, _has_path_ids(heard.wire, session), sent)


def _has_path_ids(wire: bytes, session: Session) -> bool:
    if not session.add_path_receive or session.add_path_receive == session.families:
        return bool(session.add_path_receive)
    try:
        update = decode_update(wire[HEADER_LENGTH:], session)
    except ProtocolError:
        return False
    return any(family in session.add_path_receive for family in (*update.announced, *update.withdrawn))


def _address(text: str) -> mrt.Address:
    return ipaddress.ip_address(text.partition("%")[0])


def _unconnected(adjacency: Adjacency) -> mrt.Ends:
    """The ends before any connection stood: the own address is not known then."""
    peer = ipaddress.ip_address(adjacency.config.address)
    own = type(peer)(0)
    return mrt.Ends(adjacency.config.remote_asn, adjacency.local_asn, peer, own)


# --------------------------------------------------------------------------------------------------------------- the table

_WIRE = Session(asn4=True, families=frozenset(Family))


async def write_table(speaker: Speaker, path: Path, wall: float, now: float) -> dict[str, int]:
    """Writes the table with every admitted path to ``path``, which is whole or what it was before. Returns counts.

    ``wall`` and ``now``: the same moment in seconds since the epoch and on the speaker's clock. Raises OSError.
    """
    part = path.with_name(path.name + ".part")
    counts = {"prefixes": 0, "paths": 0, "peers": 0}
    peers, index = _index(speaker, wall, now)
    counts["peers"] = len(index.peers)
    with part.open("wb") as file:
        file.write(mrt.encode(index))
        for family, table in speaker.tables.items():
            keys = iter(list(table.selections))
            while piece := list(islice(keys, PIECE)):
                for routes in _rows(family, table.selections, piece, peers, index.time, counts["prefixes"]):
                    counts["prefixes"] += 1
                    counts["paths"] += len(routes.entries)
                    file.write(mrt.encode(routes))
                await asyncio.sleep(0)  # the speaker's own work comes between two pieces
    part.replace(path)
    return counts


_Peers = dict[str, tuple[int, int]]
"""Neighbour -> position in the index, when its session came up (seconds since the epoch)."""


def _index(speaker: Speaker, wall: float, now: float) -> tuple[_Peers, mrt.PeerIndex]:
    own = mrt.TablePeer(speaker.router_id, IPv4Address(0), speaker.config.asn)
    peers: _Peers = {"local": (0, int(wall))}
    listed = [own]
    for adjacency in speaker.adjacencies.values():
        session, since = adjacency.peer.session, adjacency.established_at
        if session is not None and since is not None:
            peers[adjacency.name] = (len(listed), int(wall - (now - since)))
            address = ipaddress.ip_address(adjacency.config.address)
            listed.append(mrt.TablePeer(session.peer_identifier, address, session.peer_asn))
    return peers, mrt.PeerIndex(int(wall) * 1_000_000, speaker.router_id, tuple(listed), "")


def _rows(
    family: Family, selections: dict[bytes, Selection], keys: list[bytes], peers: _Peers, time: int, number: int
) -> Iterator[mrt.Routes]:
    for key in keys:
        selection = selections.get(key)
        found = [_entry(path, family, peers) for path in selection.candidates] if selection is not None else []
        entries = tuple(entry for entry in found if entry is not None)
        if entries:
            add_path = any(entry.path_id for entry in entries)
            yield mrt.Routes(time, number, family, key, entries, add_path)
            number += 1


def _entry(path: Route, family: Family, peers: _Peers) -> mrt.Entry | None:
    """None for a path of a session that came up, or went, since the table was begun."""
    name = "local" if path.source.kind is Kind.LOCAL else path.source.name
    if name not in peers:
        return None
    position, since = peers[name]
    if family is Family.IPV4_UNICAST:
        block = encode_attributes(path.attributes.evolve(next_hop=path.next_hop or bytes(4)), _WIRE)
    else:
        next_hop = path.next_hop[:16] or bytes(16)
        reach = encode_attribute(OPTIONAL_NON_TRANSITIVE, Code.MP_REACH_NLRI, bytes((len(next_hop),)) + next_hop)
        block = reach + encode_attributes(path.attributes.evolve(next_hop=b""), _WIRE)
    return mrt.Entry(position, since, block, path.path_id)
