"""The load benchmarks' streams: what the feeders send is what the daemons are counted for."""

from __future__ import annotations

import gzip
import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bench import stream
from harness.bgp.messages import decode
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.update import Update

HOP = IPv4Address("10.0.0.11")
SESSION = Session(local_asn=64999, peer_asn=64601, asn4=True)


def read(whole: bytes) -> Update:
    message = decode(whole[18], whole[19:], SESSION)
    assert isinstance(message, Update)
    assert message.errors == ()
    return message


def record(whole: bytes, kind: int = 16, subtype: int = 4) -> bytes:
    """A BGP4MP record (RFC 6396 4.4.3) of one message, with IPv4 addresses."""
    body = struct.pack("!IIHH", 64601, 64999, 0, 1) + bytes(8) + whole
    extended = b"\0\0\0\1" if kind == 17 else b""
    return struct.pack("!IHHI", 0, kind, subtype, len(extended + body)) + extended + body


@pytest.mark.parametrize("kind", [16, 17])
def test_the_real_stream_is_one_peers_with_its_own_next_hop(tmp_path: Path, kind: int) -> None:
    block = stream.attributes([64601, 3356], IPv4Address("198.51.100.1"), med=7)
    twice = [stream.message(b"", block, b"\x18\x10\0\0"), stream.message(b"", block, b"\x18\x10\0\1\x18\x10\0\0")]
    gone = stream.message(b"\x18\x10\0\1", b"", b"")
    file = tmp_path / "stream.mrt.gz"
    file.write_bytes(gzip.compress(b"".join(record(whole, kind) for whole in [*twice, gone])))
    found = stream.real(file, HOP)
    assert (len(found.messages), found.routes, found.events) == (3, 1, 4)
    update = read(found.messages[1])
    assert update.next_hop == {Family.IPV4_UNICAST: HOP.packed}
    assert update.attributes is not None
    assert (update.attributes.as_path, update.attributes.med) == (((2, (64601, 3356)),), 7)


def test_another_peer_tells_the_same_routes_over_a_longer_path() -> None:
    first = stream.singles(3, stream.attributes([64601], HOP)).messages[2]
    other = read(stream.prepended(first, [64602, 64602], IPv4Address("10.0.0.12")))
    assert other.attributes is not None
    assert other.attributes.as_path == ((2, (64602, 64602, 64601)),)
    assert other.announced == read(first).announced
    assert other.next_hop == {Family.IPV4_UNICAST: bytes((10, 0, 0, 12))}


def test_singles_are_different_prefixes() -> None:
    found = stream.singles(70_000, stream.attributes([64601], HOP))
    assert len({bytes(whole) for whole in found.messages}) == found.routes == 70_000
    assert stream.routes_of(found.messages[-1]) == ([], [b"\x18" + (0x100000 + 69_999).to_bytes(3, "big")])
