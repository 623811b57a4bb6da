"""Filter programs decide in the kernel as the same matches do in Python. A Unix socket pair is enough to ask the kernel."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.capture.bpf import ESP, ICMP, IPSEC, TCP, UDP, FilterTooLong, Match, attach, program


def _packet(
    protocol: int, source: int = 0, destination: int = 0, *, options: int = 0, fragment: int = 0, version: int = 4
) -> bytes:
    payload = struct.pack("!HHHH", source, destination, 8, 0)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | 5 + options,
        0,
        28 + 4 * options,
        1,
        fragment,
        64,
        protocol,
        0,
        bytes(4),
        bytes(4),
    )
    return header + bytes([1] * 4 * options) + payload


def _kernel(matches: tuple[Match, ...], packet: bytes, snaplen: int = 0x40000) -> bytes | None:
    """What a socket with the filter receives of a packet; None when the filter drops it."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        right.setblocking(False)
        try:
            attach(right, program(matches, snaplen=snaplen, network=0))
        except OSError as error:
            pytest.skip(f"this kernel takes no socket filter: {error}")
        try:
            left.send(packet)
            return right.recv(2048)
        except OSError:
            return None


@pytest.mark.parametrize(
    ("packet", "wanted"),
    [
        (_packet(UDP, 500, 500), True),
        (_packet(UDP, 4500, 33333), True),
        (_packet(UDP, 33333, 4500, options=3), True),
        (_packet(ESP), True),
        (_packet(UDP, 501, 53), False),
        (_packet(TCP, 500, 500), False),
        (_packet(ICMP), False),
        (_packet(UDP, 500, 500, fragment=0x2000), True),
        (_packet(UDP, 500, 500, fragment=0x00B9), False),
        (_packet(ESP, fragment=0x00B9), True),
        (_packet(ESP, version=6), False),
    ],
)
def test_ipsec_filter(packet: bytes, wanted: bool) -> None:
    assert any(match.accepts(packet) for match in IPSEC) is wanted
    assert _kernel(IPSEC, packet) == (packet if wanted else None)


_MATCHES = st.lists(
    st.builds(Match, st.sampled_from([ICMP, TCP, UDP, ESP]))
    | st.builds(Match, st.sampled_from([TCP, UDP]), st.sampled_from([53, 179, 500])),
    min_size=1,
    max_size=6,
).map(tuple)
_PORTS = st.sampled_from([53, 179, 500, 1])


@settings(max_examples=150)
@given(
    _MATCHES,
    st.sampled_from([ICMP, TCP, UDP, ESP]),
    _PORTS,
    _PORTS,
    st.sampled_from([0, 2]),
    st.sampled_from([0, 0x2000, 7]),
)
def test_kernel_and_python_decide_alike(
    matches: tuple[Match, ...], protocol: int, source: int, destination: int, options: int, fragment: int
) -> None:
    packet = _packet(protocol, source, destination, options=options, fragment=fragment)
    assert (_kernel(matches, packet) is not None) is any(match.accepts(packet) for match in matches)


def test_no_matches_keep_all_and_snaplen_cuts() -> None:
    assert _kernel((), b"not even IP") == b"not even IP"
    assert _kernel((), b"not even IP", snaplen=3) == b"not"
    assert _kernel(IPSEC, _packet(ESP), snaplen=20) == _packet(ESP)[:20]


def test_ports_belong_to_protocols_that_have_them() -> None:
    with pytest.raises(ValueError, match="protocol 50 has no ports"):
        Match(ESP, 500)


def test_more_than_fits_is_refused() -> None:
    assert program([Match(UDP, port) for port in range(28)])
    with pytest.raises(FilterTooLong, match="8-bit jumps"):
        program([Match(UDP, port) for port in range(29)])
