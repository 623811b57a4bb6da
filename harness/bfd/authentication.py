"""Keyed SHA1 and meticulous keyed SHA1 (RFC 5880 4.4, 6.7.4). Simple passwords and MD5 do not exist here.

The digest covers the whole packet with the key in the digest's place; a sequence number keeps old packets from counting again.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from array import array
from dataclasses import dataclass, field, replace
from enum import IntEnum

from harness.bfd.packet import LENGTH, ControlPacket, encode
from harness.bfd.terms import Discard, Discarded

KEY_MAX = 20
_HEAD = struct.Struct("!BBBBI")
_DIGEST = 20
_SENT, _RECEIVED = 0, 1
_SECTION = _HEAD.size + _DIGEST
_MODULUS = 1 << 32
UNKNOWN = -1
"""In the place of a sequence number: there is none yet."""


class AuthType(IntEnum):
    """The types that exist here, by their wire value."""

    KEYED_SHA1 = 4
    METICULOUS_KEYED_SHA1 = 5


@dataclass(frozen=True, slots=True)
class Key:
    """How a session is authenticated. ``secret`` is 1 to 20 octets, ``key_id`` 0 to 255."""

    kind: AuthType
    key_id: int
    secret: bytes = field(repr=False)


class Authenticator:
    """One session's key and sequence numbers.

    ``numbers`` are bfd.XmitAuthSeq and bfd.RcvAuthSeq, each UNKNOWN at first (for the second that is bfd.AuthSeqKnown = 0), in two words
    that may outlive this object: another one goes on with them. Without, the words are its own. ``first`` is where sending begins.
    """

    def __init__(self, key: Key, first: int, numbers: memoryview[int] | None = None) -> None:
        self._key = key
        self._secret = key.secret.ljust(_DIGEST, b"\0")
        self._numbers = memoryview(array("q", (UNKNOWN, UNKNOWN))) if numbers is None else numbers
        if self._numbers[_SENT] == UNKNOWN:
            self._numbers[_SENT] = first % _MODULUS
        self._last: ControlPacket | None = None

    def sign(self, packet: ControlPacket) -> bytes:
        """The packet's octets with the section. Keyed SHA1 counts on where the packet differs from the one before, meticulous always."""
        if self._key.kind is AuthType.METICULOUS_KEYED_SHA1 or packet != self._last:
            self._numbers[_SENT] = (self._numbers[_SENT] + 1) % _MODULUS
        self._last = packet
        head = _HEAD.pack(self._key.kind, _SECTION, self._key.key_id, 0, self._numbers[_SENT])
        with_secret = encode(replace(packet, authentication=head + self._secret))
        return with_secret[:-_DIGEST] + hashlib.sha1(with_secret).digest()

    def verify(self, packet: ControlPacket) -> None:
        """Accepts the packet's section, or raises Discarded."""
        section = packet.authentication
        if len(section) != _SECTION:
            raise _failed(f"the section has {len(section)} octets, {_SECTION} are right")
        kind, length, key_id, _reserved, sequence = _HEAD.unpack_from(section)
        if kind != self._key.kind or length != _SECTION:
            raise _failed(f"type {kind} and length {length}, expected {int(self._key.kind)} and {_SECTION}")
        if key_id != self._key.key_id:
            raise _failed(f"key {key_id}, expected {self._key.key_id}")
        received = self._numbers[_RECEIVED]
        if received != UNKNOWN:
            least = 1 if self._key.kind is AuthType.METICULOUS_KEYED_SHA1 else 0
            if not least <= (sequence - received) % _MODULUS <= 3 * packet.detect_mult:
                raise _failed(f"sequence number {sequence} after {received}")
        # The reserved octet is ignored on receipt (4.4), but the digest covers it.
        signed = encode(replace(packet, authentication=section[: _HEAD.size] + self._secret))
        if not hmac.compare_digest(hashlib.sha1(signed).digest(), section[_HEAD.size :]):
            raise _failed("wrong digest: compare the keys")
        self._numbers[_RECEIVED] = sequence

    def forget(self) -> None:
        """Nothing valid came for twice the Detection Time: any sequence number counts again (bfd.AuthSeqKnown = 0)."""
        self._numbers[_RECEIVED] = UNKNOWN

    def keep_apart(self) -> None:
        """From now on the numbers are this object's own: the words that it was given are for others."""
        self._numbers = memoryview(array("q", self._numbers))


def _failed(detail: str) -> Discarded:
    return Discarded(Discard.AUTHENTICATION_FAILED, detail)


assert LENGTH + _SECTION == 52
