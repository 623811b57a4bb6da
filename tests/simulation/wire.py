"""Octets of the simulated connections, read without the speaker's codec: for the trace, and for what must never be on the wire."""

from __future__ import annotations

from collections.abc import Iterator

_TYPES = {1: "OPEN", 2: "UPDATE", 3: "NOTIFICATION", 4: "KEEPALIVE", 5: "ROUTE-REFRESH"}
_UPDATE = 2
_EXTENDED_LENGTH = 0x10
_INTERNAL = {5: "LOCAL_PREF", 9: "ORIGINATOR_ID", 10: "CLUSTER_LIST"}


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each message. Raises ValueError where the octets are not whole messages."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 16 : at + 18], "big")
        if not data.startswith(b"\xff" * 16, at) or length < 19 or at + length > len(data):
            raise ValueError("no whole message")
        yield data[at + 18], data[at + 19 : at + length]
        at += length


def text(data: bytes) -> str:
    """The messages, or where they are cut the octets."""
    try:
        return ", ".join(f"{_TYPES.get(kind, 'type?')} {body.hex()}".rstrip() for kind, body in messages(data))
    except ValueError:
        return f"{len(data)} octets {data[:24].hex()}..."


def internal_attributes(data: bytes) -> list[str]:
    """Attributes of whole messages that must not leave an AS (RFC 4271 5.1.5, RFC 4456 8)."""
    return [
        _INTERNAL[code]
        for kind, body in messages(data)
        if kind == _UPDATE
        for code in _codes(body)
        if code in _INTERNAL
    ]


def _codes(body: bytes) -> Iterator[int]:
    at = 4 + int.from_bytes(body[:2], "big")
    end = at + int.from_bytes(body[at - 2 : at], "big")
    while at < end:
        head = 4 if body[at] & _EXTENDED_LENGTH else 3
        yield body[at + 1]
        at += head + int.from_bytes(body[at + 2 : at + head], "big")
