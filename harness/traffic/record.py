"""The record that every test packet carries: who sent it, which one it is, and when.

The same 24 octets head a UDP datagram and delimit records in a TCP stream; padding of zeros fills up to ``size``. The magic is also what
:mod:`harness.capture.clear_text` looks for on the internet's wire. No protocol of the outside world.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAGIC = b"vbr\xa7"
HEADER = struct.Struct("!4sHHIIQ")
"""magic, run, size of the whole record, flow, sequence number, CLOCK_MONOTONIC of sending in nanoseconds."""
LARGEST = 0xFFFF
# Past this a sequence number is damage: it would need a day at ten thousand a second.
SEQUENCE_LIMIT = 1 << 30


class StreamDamaged(ValueError):
    """The octets of a TCP stream are not the records that were written: octets are missing, doubled or altered."""


class RecordStream:
    """Cuts a TCP stream into records. The next record must begin exactly where the last one ended."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
        """(run, size, flow, sequence, sent) of every record that is complete now. Raises StreamDamaged."""
        data = self._pending + data
        at = 0
        while len(data) - at >= HEADER.size:
            magic, run, size, flow, sequence, sent = HEADER.unpack_from(data, at)
            if magic != MAGIC or size < HEADER.size:
                raise StreamDamaged(f"a record should begin here, found {data[at : at + 24].hex()}")
            if len(data) - at < size:
                break
            yield run, size, flow, sequence, sent
            at += size
        self._pending = data[at:]
