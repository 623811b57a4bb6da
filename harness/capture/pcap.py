"""The older pcap file format, read only: what tcpdump writes, of either byte order, with micro- or nanoseconds.

Sources: draft-ietf-opsawg-pcap. :func:`packets` reads this and pcapng alike, by how the file begins.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from harness.capture import pcapng
from harness.capture.pcapng import NotACapture, Packet

# Magic -> byte order, nanoseconds of the second time field's unit.
_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_PCAPNG = b"\n\r\r\n"
_LONGEST = 1 << 26


def packets(file: BinaryIO) -> Iterator[Packet]:
    """The packets of a seekable capture file of either format. A last packet cut short ends the reading. Raises NotACapture."""
    head = file.read(4)
    file.seek(0)
    if head not in _MAGIC:
        if head != _PCAPNG:
            raise NotACapture(f"the file begins with {head.hex() or 'nothing'}: this is neither pcap nor pcapng")
        yield from pcapng.packets(file)
        return
    order, unit = _MAGIC[head]
    start = file.read(24)
    if len(start) < 24:
        raise NotACapture("the file ends inside its header")
    (link,) = struct.unpack(order + "I", start[20:24])
    link &= 0xFFFF  # above it: the length of a frame check sequence, which is not read
    while len(record := file.read(16)) == 16:
        seconds, fraction, kept, length = struct.unpack(order + "IIII", record)
        if kept > _LONGEST:
            raise NotACapture(f"a packet of {kept} octets: the file is damaged")
        data = file.read(kept)
        if len(data) < kept:
            return
        yield Packet("", link, seconds * 1_000_000_000 + fraction * unit, length, data)
