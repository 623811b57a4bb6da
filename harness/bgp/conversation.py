"""The octets of one TCP connection of BGP, cut into messages and read in the context that its own OPENs set.

For whoever looks on without being an end: the recorder of MRT dumps, the reader of captures. Nothing is answered and nothing is checked
beyond what reading needs; a stream that cannot be read any further says so once and is silent from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.bgp.capabilities import negotiate
from harness.bgp.errors import ProtocolError
from harness.bgp.messages import (
    HEADER_LENGTH,
    MARKER,
    PRE_OPEN,
    Framer,
    Message,
    MessageType,
    Open,
    decode,
)
from harness.bgp.session import Session


@dataclass(frozen=True, slots=True)
class Heard:
    """One message: who said it (0 or 1), its octets with the header, and the session it is read in.

    ``message`` is None where it cannot be read; ``error`` says why, and what the other end would answer.
    """

    speaker: int
    wire: bytes
    session: Session
    message: Message | None
    error: ProtocolError | None = None

    @property
    def type(self) -> int:
        return self.wire[18]


class Conversation:
    """Both directions of a connection, by number: 0 and 1.

    ``decoded`` false leaves UPDATEs unread (``message`` None without an error), for who only stores them. ``assumed`` is the context
    as long as the two OPENs are not known.
    """

    def __init__(self, *, decoded: bool = True, assumed: Session = PRE_OPEN) -> None:
        self._framers = [Framer(), Framer()]
        self._opens: list[Open | None] = [None, None]
        self._sessions = [assumed, assumed]
        self._told = [False, False]
        self._decoded = decoded

    @classmethod
    def joined(cls, opens: tuple[Open, Open], unread: tuple[bytes, bytes], *, decoded: bool = True) -> Conversation:
        """A conversation that is under way: the OPENs of 0 and 1, and what has come of messages that are not complete yet."""
        conversation = cls(decoded=decoded)
        conversation._opens = list(opens)
        conversation._agree()
        for speaker, data in enumerate(unread):
            conversation.hear(speaker, data)
        return conversation

    def session(self, speaker: int) -> Session:
        """The context in which messages of ``speaker`` are read: that of the other end, for which they are meant."""
        return self._sessions[speaker]

    def pending(self, speaker: int) -> int:
        """Octets of a message of ``speaker`` that is not complete."""
        return self._framers[speaker].pending

    def skip(self, speaker: int) -> None:
        """Octets of ``speaker`` are missing: what comes next begins with a header."""
        self._framers[speaker] = Framer()
        self._framers[speaker].max_length = self._sessions[speaker].max_received
        self._told[speaker] = False

    def hear(self, speaker: int, data: bytes) -> list[Heard]:
        """The messages that ``data``, the next octets of ``speaker``, completes."""
        framer = self._framers[speaker]
        found = [self._read(speaker, kind, body) for kind, body in framer.feed(data)]
        if framer.error is not None and not self._told[speaker]:
            self._told[speaker] = True
            found.append(Heard(speaker, data.ljust(HEADER_LENGTH, b"\0"), self._sessions[speaker], None, framer.error))
        return found

    def _read(self, speaker: int, kind: int, body: bytes) -> Heard:
        wire = MARKER + (HEADER_LENGTH + len(body)).to_bytes(2, "big") + bytes((kind,)) + body
        session = self._sessions[speaker]
        if kind == MessageType.UPDATE and not self._decoded:
            return Heard(speaker, wire, session, None)
        try:
            message = decode(kind, body, session)
        except ProtocolError as error:
            return Heard(speaker, wire, session, None, error)
        if isinstance(message, Open):
            self._opens[speaker] = message
            self._agree()
        return Heard(speaker, wire, session, message)

    def _agree(self) -> None:
        one, other = self._opens
        if one is None or other is None:
            return
        # What speaker 0 says is read as speaker 1 reads it, and the reverse.
        self._sessions = [negotiate(other, one), negotiate(one, other)]
        for framer, session in zip(self._framers, self._sessions, strict=True):
            framer.max_length = max(session.max_received, framer.max_length)
