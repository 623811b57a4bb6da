"""The targets: octets in; nothing comes out but the protocol's own errors.

``codec`` reads octets as messages, attributes and capabilities in many session contexts, and writes what it read again. ``speaker``
takes octets as a play: connections come and go, a neighbour says right and wrong things in any order, time passes, an operator
interferes; the whole core runs, tables included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from harness.bgp.attribute_codec import decode_block, encode_attributes
from harness.bgp.capabilities import decode_capabilities, encode_capability
from harness.bgp.errors import ErrorCode, ProtocolError, describe, meaning
from harness.bgp.messages import Framer, Message, MessageType, Notification, Open, decode, encode
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.update import Update
from tests.fuzz.play import Play

CONTEXTS = 64


class Broken(AssertionError):
    """The speaker did something that no octets may make it do."""


@cache
def context(number: int) -> Session:
    """One of the sessions that a message can arrive on; ``number`` below CONTEXTS."""
    both = frozenset(Family)
    one = frozenset({Family.IPV4_UNICAST})
    paths = (frozenset(), one, both, frozenset({Family.IPV6_UNICAST}))[number >> 3 & 3]
    return Session(
        local_asn=65001,
        peer_asn=65001 if number & 2 else 65002,
        asn4=bool(number & 1),
        families=both if number & 4 else one,
        add_path_receive=paths,
        add_path_send=paths,
        extended_message=bool(number & 32),
        revised_errors=number % 7 != 0,
        enforce_first_as=number % 3 == 0,
    )


# ----------------------------------------------------------------------------------------------------------------------- codec


def codec(data: bytes) -> None:
    """The first octet chooses the context, the second what the rest is: a stream, one message, attributes, or capabilities."""
    if len(data) < 3:
        return
    session = context(data[0] % CONTEXTS)
    try:
        _READERS[data[1] % len(_READERS)](data[2:], session)
    except ProtocolError as error:
        _check_error(error)


def _stream(data: bytes, session: Session) -> None:
    framer = Framer()
    framer.max_length = session.max_length
    cut = len(data) // 2
    for piece in (data[:cut], data[cut:]):
        for frame in framer.feed(piece):
            try:
                _again(decode(frame.type, frame.body, session), session)
            except ProtocolError as error:
                _check_error(error)
    if framer.error is not None:
        _check_error(framer.error)
    elif framer.pending >= session.max_length:
        raise Broken(f"{framer.pending} octets wait for a message that cannot become that long")


def _message(data: bytes, session: Session) -> None:
    _again(decode(data[0], data[1:], session), session)


def _attributes(data: bytes, session: Session) -> None:
    block = decode_block(data, session)
    if block.faults or block.reach or block.unreach or block.missing:
        return
    again = decode_block(encode_attributes(block.attributes, session), session)
    if again.attributes != block.attributes:
        raise Broken(f"{block.attributes} became {again.attributes}")


def _capabilities(data: bytes, _session: Session) -> None:
    found = decode_capabilities(data)
    again = decode_capabilities(b"".join(map(encode_capability, found)))
    if again != found:
        raise Broken(f"{found} became {again}")


_READERS: tuple[Callable[[bytes, Session], None], ...] = (_stream, _message, _attributes, _capabilities)


def _again(message: Message, session: Session) -> None:
    """What was read without a fault is written and read as the same."""
    if isinstance(message, Notification):
        str(message)
    if isinstance(message, Update) and message.errors:
        for fault in message.errors:
            str(fault)
        return
    if message == Update():
        # Attributes without routes say nothing; an empty UPDATE would be the End-of-RIB marker.
        return
    try:
        wire = encode(message, session)
    except ValueError as error:
        # AS4_PATH and the like may make a message longer than it came (RFC 6793 4.2.2).
        if "allows" not in str(error):
            raise
        return
    if isinstance(message, Open) and len(wire) > 4096:
        return
    second = decode(wire[18], wire[19:], session)
    if second != message:
        raise Broken(f"{message} became {second}")
    if encode(second, session) != wire:
        raise Broken(f"{message} is written in two ways")


def _check_error(error: ProtocolError) -> None:
    """An error is one that can be told: its NOTIFICATION fits in a message, and has a name and a meaning."""
    notification = Notification(error.code, error.subcode, error.data)
    if (
        error.code not in set(ErrorCode)
        or not describe(error.code, error.subcode)
        or not meaning(error.code, error.subcode)
    ):
        raise Broken(f"{error}: no such error")
    wire = encode(notification, Session(extended_message=True))
    if decode(MessageType.NOTIFICATION, wire[19:], Session()) != notification:
        raise Broken(f"{error}: its NOTIFICATION does not read as it was written")


# --------------------------------------------------------------------------------------------------------------------- speaker


def speaker(data: bytes) -> None:
    """The octets as a play of one neighbour; see :mod:`tests.fuzz.play`."""
    if len(data) < 2:
        return
    play = Play(data[0])
    play.perform(data[1:])
    if play.violations:
        raise Broken("; ".join(play.violations))


TARGETS: dict[str, Callable[[bytes], None]] = {"codec": codec, "speaker": speaker}
