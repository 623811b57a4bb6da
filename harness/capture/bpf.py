"""Classic BPF programs for capture filters: one table of matches in, one list of instructions out.

Says which IP packets of a link are wanted ("UDP 500 or 4500, or ESP"), independent of the link type: offsets count from the
network header (``SKF_NET_OFF``, linux/filter.h), so the same program serves Ethernet, TUN and xfrm interfaces. It is not
a parser of tcpdump's language.

Source: Documentation/networking/filter.rst of Linux; RFC 791, RFC 8200 for the offsets.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, k): one ``struct sock_filter``."""

# linux/filter.h, linux/bpf_common.h
_LOAD_BYTE, _LOAD_HALF = 0x30, 0x28
_LOAD_HALF_INDEXED = 0x48
_LOAD_HEADER_LENGTH = 0xB1
_JUMP_EQUAL, _JUMP_SET = 0x15, 0x45
_AND, _RETURN = 0x54, 0x06
_SO_ATTACH_FILTER = 26
NETWORK_HEADER = -0x100000
_WHOLE_PACKET = 0x40000

ICMP, TCP, UDP, ESP = 1, 6, 17, 50


class FilterTooLong(ValueError):
    """The matches need more jumps than an instruction can express (255)."""


@dataclass(frozen=True, slots=True)
class Match:
    """IPv4 packets of ``protocol``; with ``port`` only those whose source or destination port it is (UDP and TCP)."""

    protocol: int
    port: int | None = None

    def __post_init__(self) -> None:
        if self.port is not None and self.protocol not in (TCP, UDP):
            raise ValueError(
                f"protocol {self.protocol} has no ports: a port can be matched in TCP (6) and UDP (17) only"
            )

    def accepts(self, packet: bytes) -> bool:
        """The same decision in Python, for a packet that begins with its IPv4 header."""
        if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != self.protocol:
            return False
        if self.port is None:
            return True
        header = (packet[0] & 15) * 4
        if struct.unpack_from("!H", packet, 6)[0] & 0x1FFF or len(packet) < header + 4:
            return False
        return self.port in struct.unpack_from("!HH", packet, header)


IPSEC: tuple[Match, ...] = (Match(UDP, 500), Match(UDP, 4500), Match(ESP))
"""IKE and ESP as they cross the internet (RFC 7296 section 2.23, RFC 3948, RFC 4303)."""


def program(
    matches: Iterable[Match], *, snaplen: int = _WHOLE_PACKET, network: int = NETWORK_HEADER
) -> list[Instruction]:
    """A program that keeps the first ``snaplen`` octets of an IPv4 packet that any of ``matches`` accepts, else nothing.

    With no matches it keeps every packet, of any protocol. ``network`` is the offset of the IP header: the default suits any
    packet socket, 0 suits a buffer that begins there.
    """
    terms = [_term(match, network) for match in matches]
    if not terms:
        return [(_RETURN, 0, 0, snaplen)]
    # Every term ends by falling through to the next one; its last instruction before that jumps to "keep".
    code: list[Instruction] = [(_LOAD_BYTE, 0, 0, network), (_AND, 0, 0, 0xF0)]
    size = len(code) + 1 + sum(map(len, terms)) + 1
    keep = size
    code.append((_JUMP_EQUAL, 0, _jump(keep - 1 - 3), 0x40))
    for term in terms:
        end = len(code) + len(term)
        for operation, when_true, when_false, k in term:
            here = len(code) + 1
            targets = {_KEEP: keep, _NEXT: end}
            code.append(
                (
                    operation,
                    _jump(targets[when_true] - here) if when_true in targets else 0,
                    _jump(targets[when_false] - here) if when_false in targets else 0,
                    k,
                )
            )
    return [*code, (_RETURN, 0, 0, 0), (_RETURN, 0, 0, snaplen)]


def attach(sock: socket.socket, instructions: Sequence[Instruction]) -> None:
    """Puts a program on a socket. Raises OSError when the kernel refuses it."""
    code = b"".join(struct.pack("HBBI", op, yes, no, k & 0xFFFFFFFF) for op, yes, no, k in instructions)
    held = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(held))
    )


_KEEP, _NEXT, _ON = -1, -2, 0


def _term(match: Match, network: int) -> list[tuple[int, int, int, int]]:
    """One match with symbolic jumps: to "keep", to the next term, or on to the following instruction."""
    if match.port is None:
        return [(_LOAD_BYTE, _ON, _ON, network + 9), (_JUMP_EQUAL, _KEEP, _NEXT, match.protocol)]
    return [
        (_LOAD_BYTE, _ON, _ON, network + 9),
        (_JUMP_EQUAL, _ON, _NEXT, match.protocol),
        (_LOAD_HALF, _ON, _ON, network + 6),
        (_JUMP_SET, _NEXT, _ON, 0x1FFF),  # RFC 791: only a first fragment has ports
        (_LOAD_HEADER_LENGTH, _ON, _ON, network),
        (_LOAD_HALF_INDEXED, _ON, _ON, network),
        (_JUMP_EQUAL, _KEEP, _ON, match.port),
        (_LOAD_HALF_INDEXED, _ON, _ON, network + 2),
        (_JUMP_EQUAL, _KEEP, _NEXT, match.port),
    ]


def _jump(distance: int) -> int:
    if distance > 255:
        raise FilterTooLong("a capture filter of so many matches does not fit classic BPF's 8-bit jumps; use fewer")
    return distance
