"""The BGP messages as values, their wire form, and the framer that cuts a TCP stream into them.

Sources: RFC 4271 4 and 6.1-6.2, RFC 2918 and RFC 7313 (ROUTE-REFRESH), RFC 5492 and RFC 9072 (optional parameters),
RFC 8654 (extended messages), RFC 9003 (shutdown text). The UPDATE is in :mod:`harness.bgp.update`. What an OPEN must agree
with in *our* configuration (AS number, identifier) is checked by the peer, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from struct import Struct
from typing import NamedTuple

from harness.bgp.as_path import two_octet
from harness.bgp.capabilities import Capability, FourOctetAs, decode_capabilities, encode_capability
from harness.bgp.errors import (
    Cease,
    ErrorCode,
    HeaderError,
    OpenError,
    ProtocolError,
    RefreshError,
    describe,
    meaning,
)
from harness.bgp.prefixes import FAMILIES, Family
from harness.bgp.session import EXTENDED_LENGTH, STANDARD_LENGTH, Session
from harness.bgp.update import Update, decode_update, encode_update

MARKER = b"\xff" * 16
HEADER_LENGTH = 19
VERSION = 4


class MessageType(IntEnum):
    """RFC 4271 4.1, RFC 2918 3."""

    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


class Frame(NamedTuple):
    """A message as cut from the stream: its type and the octets after the header."""

    type: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Open:
    """RFC 4271 4.2. ``asn`` is the 2-octet My Autonomous System field; :attr:`true_asn` what the capability says."""

    asn: int
    hold_time: int
    identifier: IPv4Address
    capabilities: tuple[Capability, ...] = ()
    version: int = VERSION

    @property
    def true_asn(self) -> int:
        """The AS number of the sender (RFC 6793 4.1)."""
        for capability in self.capabilities:
            if isinstance(capability, FourOctetAs):
                return capability.asn
        return self.asn

    @classmethod
    def of(cls, asn: int, hold_time: int, identifier: IPv4Address, capabilities: tuple[Capability, ...]) -> Open:
        """An OPEN of the AS ``asn``, which may need four octets: then AS_TRANS stands in the field (RFC 6793 9)."""
        return cls(two_octet(asn), hold_time, identifier, capabilities)


@dataclass(frozen=True, slots=True)
class Notification:
    """RFC 4271 4.5: why the sender ends the session."""

    code: int
    subcode: int = 0
    data: bytes = b""

    @classmethod
    def cease(cls, subcode: int, text: str = "") -> Notification:
        """A Cease; a text goes with shutdown and reset (RFC 9003), cut to 255 octets at a character."""
        if not text or subcode not in (Cease.ADMINISTRATIVE_SHUTDOWN, Cease.ADMINISTRATIVE_RESET):
            return cls(ErrorCode.CEASE, subcode)
        wire = text.encode()[:255].decode(errors="ignore").encode()
        return cls(ErrorCode.CEASE, subcode, bytes((len(wire),)) + wire)

    def hard(self) -> Notification:
        """This NOTIFICATION inside a Hard Reset (RFC 8538 3.1)."""
        return Notification(ErrorCode.CEASE, Cease.HARD_RESET, bytes((self.code, self.subcode)) + self.data)

    def fitting(self, max_length: int) -> Notification:
        """Its data cut to what a message holds: a faulty message goes back as data, and leaves no room for its own header."""
        room = max_length - HEADER_LENGTH - 2
        return self if len(self.data) <= room else Notification(self.code, self.subcode, self.data[:room])

    @property
    def is_hard(self) -> bool:
        return (self.code, self.subcode) == (ErrorCode.CEASE, Cease.HARD_RESET)

    @property
    def meant(self) -> Notification:
        """What a Hard Reset carries; any other NOTIFICATION itself."""
        if self.is_hard and len(self.data) >= 2:
            return Notification(self.data[0], self.data[1], self.data[2:])
        return self

    @property
    def communication(self) -> str:
        """The operator's text of a shutdown or reset; empty where there is none or it is malformed (RFC 9003 2)."""
        if self.is_hard and self.meant is not self:
            return self.meant.communication
        if self.code != ErrorCode.CEASE or self.subcode not in (
            Cease.ADMINISTRATIVE_SHUTDOWN,
            Cease.ADMINISTRATIVE_RESET,
        ):
            return ""
        if not self.data or len(self.data) != 1 + self.data[0]:
            return ""
        try:
            return self.data[1:].decode()
        except UnicodeDecodeError:
            return ""

    @property
    def name(self) -> str:
        return describe(self.code, self.subcode)

    def __str__(self) -> str:
        said = f' "{self.communication}"' if self.communication else ""
        inside = f", meant {self.meant.name} ({self.meant.code}/{self.meant.subcode})" if self.meant is not self else ""
        return f"{self.name} ({self.code}/{self.subcode}): {meaning(self.code, self.subcode)}{inside}{said}"


@dataclass(frozen=True, slots=True)
class Keepalive:
    """RFC 4271 4.4: a bare header."""


class RefreshSubtype(IntEnum):
    """RFC 7313 3.2."""

    REQUEST = 0
    BEGIN = 1
    END = 2


@dataclass(frozen=True, slots=True)
class RouteRefresh:
    """RFC 2918 3, RFC 7313 3.2: asks for the routes of a family, or marks begin and end of the answer."""

    afi: int
    safi: int
    subtype: int = RefreshSubtype.REQUEST

    @property
    def family(self) -> Family | None:
        return FAMILIES.get((self.afi, self.safi))


Message = Open | Update | Notification | Keepalive | RouteRefresh

PRE_OPEN = Session()
KEEPALIVE_WIRE = MARKER + b"\x00\x13\x04"

# Type -> least and most octets of the whole message (RFC 4271 6.1); None: what the session allows (RFC 8654 4).
LENGTHS: dict[int, tuple[int, int | None]] = {
    MessageType.OPEN: (29, STANDARD_LENGTH),
    MessageType.UPDATE: (23, None),
    MessageType.NOTIFICATION: (21, None),
    MessageType.KEEPALIVE: (19, 19),
    # RFC 7313 5: a wrong length of a ROUTE-REFRESH is its own error, told by the decoder.
    MessageType.ROUTE_REFRESH: (19, None),
}

_HEAD = Struct(">HB").unpack_from


class Framer:
    """Cuts a TCP stream into frames.

    After the first error the stream has no more frames: :attr:`error` holds it, and the frames before it were handed out, so
    that what came in order is answered in order.
    """

    def __init__(self) -> None:
        self.max_length = STANDARD_LENGTH
        self.error: ProtocolError | None = None
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Takes the next octets of the stream and returns the frames they complete."""
        if self.error is not None:
            return []
        if self._rest:
            data = self._rest + data
        # As Frame() does it, without the call of a Python function that a named tuple's constructor is.
        frames, make = list[Frame](), tuple.__new__
        at, end = 0, len(data)
        while end - at >= HEADER_LENGTH:
            length, kind = _HEAD(data, at + 16)
            stop = at + length
            # An UPDATE within the common bounds needs only its marker looked at; everything else takes the full check.
            if not (kind == 2 and 23 <= length <= STANDARD_LENGTH and data.startswith(MARKER, at)):
                self.error = check_header(data[at : at + HEADER_LENGTH], self.max_length)
                if self.error is not None:
                    self._rest = b""
                    return frames
            if stop > end:
                break
            frames.append(make(Frame, (kind, data[at + HEADER_LENGTH : stop])))
            at = stop
        self._rest = data[at:]
        return frames

    @property
    def pending(self) -> int:
        """How many octets of a message that is not complete yet are here."""
        return len(self._rest)

    @property
    def rest(self) -> bytes:
        """Those octets."""
        return self._rest


def check_header(header: bytes, max_length: int = STANDARD_LENGTH) -> ProtocolError | None:
    """What is wrong with a message header (RFC 4271 6.1), in the RFC's order: marker, length, type, length of that type."""
    if not header.startswith(MARKER):
        return ProtocolError(
            ErrorCode.MESSAGE_HEADER_ERROR,
            HeaderError.CONNECTION_NOT_SYNCHRONIZED,
            b"",
            f"the marker is {header[:16].hex()}",
        )
    length, kind = _HEAD(header, 16)
    bounds = LENGTHS.get(kind)
    if bounds is None and HEADER_LENGTH <= length <= max_length:
        return ProtocolError(
            ErrorCode.MESSAGE_HEADER_ERROR, HeaderError.BAD_MESSAGE_TYPE, bytes((kind,)), f"message type {kind}"
        )
    least, most = bounds or (HEADER_LENGTH, None)
    if most is None:
        most = max_length
    if not least <= length <= most:
        return ProtocolError(
            ErrorCode.MESSAGE_HEADER_ERROR,
            HeaderError.BAD_MESSAGE_LENGTH,
            header[16:18],
            f"length {length} of a message of type {kind}; {least} to {most} is allowed",
        )
    return None


def decode(kind: int, body: bytes, session: Session = PRE_OPEN) -> Message:
    """Reads a frame; raises :class:`~harness.bgp.errors.ProtocolError` with the NOTIFICATION it deserves."""
    error = check_header(MARKER + (HEADER_LENGTH + len(body)).to_bytes(2, "big") + bytes((kind,)), EXTENDED_LENGTH)
    if error is not None:
        raise error
    match kind:
        case MessageType.UPDATE:
            return decode_update(body, session)
        case MessageType.KEEPALIVE:
            return Keepalive()
        case MessageType.OPEN:
            return decode_open(body)
        case MessageType.NOTIFICATION:
            return Notification(body[0], body[1], body[2:])
        case MessageType.ROUTE_REFRESH:
            return decode_route_refresh(body)
    raise AssertionError(f"message type {kind} has bounds but no reader")


def encode(message: Message, session: Session = PRE_OPEN) -> bytes:
    """The whole message, header included; raises ``ValueError`` when it does not fit the session's message length."""
    match message:
        case Update():
            return encode_update(message, session)
        case Keepalive():
            return KEEPALIVE_WIRE
        case Open():
            return frame(MessageType.OPEN, encode_open_body(message))
        case Notification():
            body = bytes((message.code, message.subcode)) + message.data
            return frame(MessageType.NOTIFICATION, body, session.max_length)
        case RouteRefresh():
            body = message.afi.to_bytes(2, "big") + bytes((message.subtype, message.safi))
            return frame(MessageType.ROUTE_REFRESH, body)


def frame(kind: int, body: bytes, max_length: int = STANDARD_LENGTH) -> bytes:
    """Puts the header before a body."""
    length = HEADER_LENGTH + len(body)
    if length > max_length:
        raise ValueError(f"a message of type {kind} would have {length} octets; the session allows {max_length}")
    return MARKER + length.to_bytes(2, "big") + bytes((kind,)) + body


_CAPABILITIES_PARAMETER = 2
# RFC 9072 2: in place of the first parameter's type it says that lengths have two octets.
_EXTENDED_PARAMETERS = 255


def _open_error(subcode: int, data: bytes, text: str) -> ProtocolError:
    return ProtocolError(ErrorCode.OPEN_MESSAGE_ERROR, subcode, data, text)


def decode_open(body: bytes) -> Open:
    """Reads the body of an OPEN and checks all that needs no configuration (RFC 4271 6.2)."""
    version = body[0]
    if version != VERSION:
        # The data is the largest version we speak: BGP-4 alone.
        text = f"the peer asks for version {version}"
        raise _open_error(OpenError.UNSUPPORTED_VERSION_NUMBER, VERSION.to_bytes(2, "big"), text)
    asn, hold_time = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    message = Open(asn, hold_time, IPv4Address(body[5:9]), _decode_parameters(body), version)
    if not message.true_asn or not asn:
        raise _open_error(OpenError.BAD_PEER_AS, b"", "the AS number is 0 (RFC 7607)")
    if hold_time in (1, 2):
        text = f"a hold time of {hold_time} s; 0 or at least 3 is allowed"
        raise _open_error(OpenError.UNACCEPTABLE_HOLD_TIME, b"", text)
    if not int(message.identifier):
        raise _open_error(OpenError.BAD_BGP_IDENTIFIER, b"", "the BGP Identifier is 0 (RFC 6286)")
    return message


def _decode_parameters(body: bytes) -> tuple[Capability, ...]:
    total, at, size = body[9], 10, 1
    if total and len(body) >= 13 and body[10] == _EXTENDED_PARAMETERS:
        total, at, size = int.from_bytes(body[11:13], "big"), 13, 2
    end = at + total
    if end != len(body):
        text = f"the optional parameters claim {total} octets, {len(body) - at} are there"
        raise _open_error(OpenError.UNSPECIFIC, b"", text)
    found: list[Capability] = []
    while at < end:
        value_at = at + 1 + size
        if value_at > end:
            raise _open_error(OpenError.UNSPECIFIC, b"", "the optional parameters end inside a parameter")
        stop = value_at + int.from_bytes(body[at + 1 : value_at], "big")
        if stop > end:
            raise _open_error(OpenError.UNSPECIFIC, b"", f"optional parameter {body[at]} overruns the message")
        if body[at] != _CAPABILITIES_PARAMETER:
            text = f"optional parameter {body[at]} is unknown"
            raise _open_error(OpenError.UNSUPPORTED_OPTIONAL_PARAMETER, b"", text)
        found += decode_capabilities(body[value_at:stop])
        at = stop
    return tuple(found)


def encode_open_body(message: Open) -> bytes:
    """The body of an OPEN: all capabilities in one parameter (RFC 5492 4); over 255 octets in the extended form (RFC 9072)."""
    value = b"".join(encode_capability(capability) for capability in message.capabilities)
    head = bytes((message.version,)) + message.asn.to_bytes(2, "big") + message.hold_time.to_bytes(2, "big")
    head += message.identifier.packed
    if not value:
        return head + b"\0"
    if len(value) <= 253:
        return head + bytes((2 + len(value), _CAPABILITIES_PARAMETER, len(value))) + value
    parameter = bytes((_CAPABILITIES_PARAMETER,)) + len(value).to_bytes(2, "big") + value
    return head + bytes((255, _EXTENDED_PARAMETERS)) + len(parameter).to_bytes(2, "big") + parameter


def decode_route_refresh(body: bytes, *, enhanced: bool = True) -> RouteRefresh:
    """Reads a ROUTE-REFRESH. ``enhanced``: RFC 7313 was agreed on; else the octet of the subtype is reserved and not looked at.

    A wrong length is error 7/1 with the whole message as data where a begin or an end was meant (RFC 7313 5), else 1/2.
    """
    subtype = body[2] if len(body) > 2 and enhanced else RefreshSubtype.REQUEST
    if len(body) == 4:
        return RouteRefresh(body[0] << 8 | body[1], body[3], subtype)
    text = f"a ROUTE-REFRESH body of {len(body)} octets; 4 are due"
    if subtype in (RefreshSubtype.BEGIN, RefreshSubtype.END):
        whole = frame(MessageType.ROUTE_REFRESH, body, EXTENDED_LENGTH)
        code, subcode = ErrorCode.ROUTE_REFRESH_MESSAGE_ERROR, RefreshError.INVALID_MESSAGE_LENGTH
        raise ProtocolError(code, subcode, whole, text)
    length = (HEADER_LENGTH + len(body)).to_bytes(2, "big")
    raise ProtocolError(ErrorCode.MESSAGE_HEADER_ERROR, HeaderError.BAD_MESSAGE_LENGTH, length, text)
