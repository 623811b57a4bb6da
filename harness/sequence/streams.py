"""From TCP segments to what happened on each connection, step by step: handshake, messages, end.

A capture is not a receiver: it may begin late, miss packets, and hold the same packet several times where several interfaces were
recorded. Repeated octets count once. A hole that the other end acknowledged is told as a step, and reading goes on at the next marker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.bgp.conversation import Conversation, Heard
from harness.bgp.messages import MARKER
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.sequence import words
from harness.sequence.segments import Endpoint, Flag, Segment

# Read so until both OPENs were seen, which a capture that begins late never has.
ASSUMED = Session(asn4=True, families=frozenset(Family))


@dataclass(frozen=True, slots=True)
class Step:
    """One arrow of a chart: ``time`` in seconds since the first, ``sender`` 0 or 1 (the ends' order).

    ``kind``: "tcp", "bgp", or "note" for what the capture lacks. ``type`` is the BGP message type, 0 for none; ``wire`` its octets in hex.
    """

    time: float
    sender: int
    kind: str
    title: str
    details: tuple[str, ...] = ()
    type: int = 0
    wire: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A connection of BGP. ``ends``: who opened it, then the other, as "address:port"; ``began``: nanoseconds since the epoch."""

    ends: tuple[str, str]
    began: int
    steps: tuple[Step, ...]


class _Direction:
    """The octets of one end, put in order."""

    def __init__(self) -> None:
        self.due: int | None = None
        self.syn: int | None = None
        self.ended: set[Flag] = set()
        self.waiting: dict[int, tuple[bytes, int, int]] = {}
        self.fin: int | None = None
        self.acked: int | None = None
        self.astray = False


class _Connection:
    def __init__(self, first: Segment) -> None:
        # Who opens is known by the SYN; of a capture that begins late the well-known port is the listener's.
        opens = bool(first.flags & Flag.SYN and not first.flags & Flag.ACK) or first.target[1] < first.source[1]
        self.ends: tuple[Endpoint, Endpoint] = (first.source, first.target) if opens else (first.target, first.source)
        self.began = first.time
        self.steps: list[Step] = []
        self._directions = (_Direction(), _Direction())
        self._conversation = Conversation(assumed=ASSUMED)
        self._greeted = False

    @property
    def opened_by(self) -> int | None:
        return self._directions[0].syn

    def take(self, segment: Segment) -> None:
        who = self.ends.index(segment.source)
        direction, other = self._directions[who], self._directions[1 - who]
        if segment.flags & Flag.SYN:
            self._syn(segment, who, direction)
        if segment.flags & Flag.ACK:
            other.acked = segment.ack
            self._lost(segment.time, 1 - who, other)
            if not self._greeted and who == 0 and other.syn is not None and not segment.flags & Flag.SYN:
                self._greeted = True
                self._step(segment.time, who, "tcp", "ACK")
        if segment.length:
            self._data(segment, who, direction)
        if segment.flags & Flag.FIN:
            direction.fin = (segment.seq + segment.length) % _SPACE
        self._fin(segment.time, who, direction)
        if segment.flags & Flag.RST and Flag.RST not in direction.ended:
            direction.ended.add(Flag.RST)
            self._step(segment.time, who, "tcp", "RST")

    def _step(self, time: int, who: int, kind: str, title: str) -> None:
        self.steps.append(Step((time - self.began) / 1e9, who, kind, title))

    def _syn(self, segment: Segment, who: int, direction: _Direction) -> None:
        if direction.syn == segment.seq:
            return
        direction.syn, direction.due = segment.seq, (segment.seq + 1) % _SPACE
        self._step(segment.time, who, "tcp", "SYN, ACK" if segment.flags & Flag.ACK else "SYN")

    def _fin(self, time: int, who: int, direction: _Direction) -> None:
        if direction.fin is not None and direction.due in (None, direction.fin) and Flag.FIN not in direction.ended:
            direction.ended.add(Flag.FIN)
            self._step(time, who, "tcp", "FIN")

    def _data(self, segment: Segment, who: int, direction: _Direction) -> None:
        if direction.due is None:
            direction.due, direction.astray = segment.seq, True
        ahead = _ahead(segment.seq, direction.due)
        if ahead < 0:
            if segment.length + ahead <= 0:
                return
            data, length = segment.data[-ahead:], segment.length + ahead
            self._deliver(segment.time, who, direction, data, length)
        elif ahead:
            direction.waiting.setdefault(segment.seq, (segment.data, segment.length, segment.time))
            self._lost(segment.time, who, direction)
        else:
            self._deliver(segment.time, who, direction, segment.data, segment.length)

    def _deliver(self, time: int, who: int, direction: _Direction, data: bytes, length: int) -> None:
        assert direction.due is not None
        direction.due = (direction.due + length) % _SPACE
        self._hear(time, who, direction, data)
        if len(data) < length:
            self._missing(time, who, direction, length - len(data))
        self._waiting_next(time, who, direction)

    def _waiting_next(self, time: int, who: int, direction: _Direction) -> None:
        assert direction.due is not None
        for seq in sorted(direction.waiting, key=lambda seq: _ahead(seq, direction.due or 0)):
            ahead = _ahead(seq, direction.due)
            if ahead > 0:
                return
            data, length, _ = direction.waiting.pop(seq)
            if length + ahead > 0:
                self._deliver(time, who, direction, data[-ahead:] if ahead else data, length + ahead)
                return

    def _lost(self, time: int, who: int, direction: _Direction) -> None:
        """A hole before octets that are here, and that the other end acknowledged, will not be filled any more."""
        if direction.due is None or direction.acked is None or not direction.waiting:
            return
        first = min(direction.waiting, key=lambda seq: _ahead(seq, direction.due or 0))
        if _ahead(direction.acked, first) > 0 and (gap := _ahead(first, direction.due)) > 0:
            direction.due = first
            self._missing(time, who, direction, gap)
            self._waiting_next(time, who, direction)

    def _missing(self, time: int, who: int, direction: _Direction, count: int) -> None:
        self._step(time, who, "note", f"{count} octets are not in the capture")
        self._conversation.skip(who)
        direction.astray = True

    def _hear(self, time: int, who: int, direction: _Direction, data: bytes) -> None:
        if direction.astray:
            at = data.find(MARKER)
            if at < 0:
                return
            data, direction.astray = data[at:], False
        for heard in self._conversation.hear(who, data):
            self._message(time, heard)

    def _message(self, time: int, heard: Heard) -> None:
        seconds = (time - self.began) / 1e9
        self.steps.append(
            Step(seconds, heard.speaker, "bgp", words.title(heard), words.details(heard), heard.type, heard.wire.hex())
        )


_SPACE = 1 << 32


def _ahead(one: int, other: int) -> int:
    """How far ``one`` is beyond ``other``, as sequence numbers go (RFC 9293 3.4)."""
    return (one - other + (_SPACE >> 1)) % _SPACE - (_SPACE >> 1)


def sequences(segments: Iterable[Segment]) -> list[Exchange]:
    """The connections of a capture in the order they begin; those with neither a handshake nor a message are left out."""
    found: list[_Connection] = []
    current: dict[frozenset[Endpoint], _Connection] = {}
    for segment in segments:
        key = frozenset((segment.source, segment.target))
        connection = current.get(key)
        begins = segment.flags & Flag.SYN and not segment.flags & Flag.ACK
        if connection is None or (begins and connection.opened_by not in (None, segment.seq)):
            connection = current[key] = _Connection(segment)
            found.append(connection)
        connection.take(segment)
    return [Exchange((_text(c.ends[0]), _text(c.ends[1])), c.began, tuple(c.steps)) for c in found if c.steps]


def _text(end: Endpoint) -> str:
    return f"[{end[0]}]:{end[1]}" if ":" in end[0] else f"{end[0]}:{end[1]}"
