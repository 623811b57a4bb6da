"""What sizes of packet get through: ICMP echo with DF set, and the largest that a path carries (RFC 1191).

Every probe ignores what the kernel has cached (``IP_PMTUDISC_PROBE``), so the path itself is asked each time. Sizes are whole IPv4 packets.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from harness.net.namespace import socket_in
from harness.patience import stretched

HEADERS = 28
"""Octets of an IPv4 header without options and of ICMP's."""
_LEAST_MTU = 68
# linux/in.h
_IP_MTU_DISCOVER, _DONT, _PROBE = 10, 0, 3
_ECHO_REPLY, _UNREACHABLE, _ECHO, _EXCEEDED = 0, 3, 8, 11
_FRAGMENTATION_NEEDED = 4
_sequences = itertools.count(1)


class Outcome(StrEnum):
    REPLY = "reply"
    TOO_BIG = "fragmentation needed"
    UNREACHABLE = "unreachable"
    SILENT = "no answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """``by`` is who answered; ``mtu`` what a router that refused the size told (0: told none); ``seconds`` the round trip."""

    outcome: Outcome
    size: int
    seconds: float
    by: str = ""
    mtu: int = 0


class PathBroken(Exception):
    """Not even the smallest packet is answered."""


async def ping(
    netns_fd: int | None,
    destination: str,
    *,
    size: int = 84,
    source: str | None = None,
    fragment: bool = False,
    within: float = 1.0,
) -> Answer:
    """One echo request of ``size`` octets from the namespace of ``netns_fd``; DF is set unless ``fragment``.

    Raises PermissionError without CAP_NET_RAW there, OSError when ``source`` is not local.
    """
    if size < HEADERS:
        raise ValueError(f"an echo request of {size} octets cannot be: its headers take {HEADERS}")
    loop = asyncio.get_running_loop()
    with _icmp(netns_fd, source, fragment) as sock:
        identity, sequence = os.getpid() & 0xFFFF, next(_sequences) & 0xFFFF
        begun = time.monotonic()
        try:
            await loop.sock_sendto(sock, _echo(identity, sequence, size - HEADERS), (destination, 0))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return Answer(Outcome.TOO_BIG, size, 0.0, "the sending interface")
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                return Answer(Outcome.UNREACHABLE, size, 0.0, "the sending host")
            raise
        try:
            async with asyncio.timeout(stretched(within)):
                while True:
                    packet = await loop.sock_recv(sock, 1 << 16)
                    if (answer := _answer(packet, identity, sequence)) is not None:
                        outcome, mtu = answer
                        by = socket.inet_ntoa(packet[12:16])
                        return Answer(outcome, size, time.monotonic() - begun, by, mtu)
        except TimeoutError:
            return Answer(Outcome.SILENT, size, time.monotonic() - begun)


async def path_mtu(
    netns_fd: int | None, destination: str, *, source: str | None = None, most: int = 1500, within: float = 0.5
) -> int:
    """The largest packet with DF that is answered, ``most`` at the highest: by what routers tell, else by halving.

    Raises PathBroken when the least an IPv4 link must carry (68 octets) is not answered.
    """
    if (await ping(netns_fd, destination, size=_LEAST_MTU, source=source, within=within)).outcome is not Outcome.REPLY:
        raise PathBroken(
            f"{destination} does not answer {_LEAST_MTU} octets; see that the path is up before asking its MTU"
        )
    good, bad, size = _LEAST_MTU, most + 1, most
    while bad - good > 1:
        answer = await ping(netns_fd, destination, size=size, source=source, within=within)
        if answer.outcome is Outcome.REPLY:
            good = size
        else:
            bad = size
        size = answer.mtu if good < answer.mtu < bad else (good + bad) // 2
    return good


@contextmanager
def _icmp(netns_fd: int | None, source: str | None, fragment: bool) -> Iterator[socket.socket]:
    with socket_in(netns_fd, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _DONT if fragment else _PROBE)
        if source is not None:
            sock.bind((source, 0))
        yield sock


def _echo(identity: int, sequence: int, octets: int) -> bytes:
    """An echo request with ``octets`` of payload behind its header (RFC 792)."""
    payload = bytes(number & 0xFF for number in range(octets))
    body = struct.pack("!BBHHH", _ECHO, 0, 0, identity, sequence) + payload
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def checksum(data: bytes) -> int:
    """The internet checksum of ``data`` (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _answer(packet: bytes, identity: int, sequence: int) -> tuple[Outcome, int] | None:
    """What an IPv4 packet with ICMP says about our request, and the MTU it tells; None when it is about something else."""
    body = packet[(packet[0] & 15) * 4 :]
    kind, code, _sum, first, second = struct.unpack_from("!BBHHH", body)
    if kind == _ECHO_REPLY:
        return (Outcome.REPLY, 0) if (first, second) == (identity, sequence) else None
    if kind not in (_UNREACHABLE, _EXCEEDED):
        return None
    quoted = body[8:]
    request = quoted[(quoted[0] & 15) * 4 :]
    if len(request) < 8 or request[0] != _ECHO or struct.unpack_from("!HH", request, 4) != (identity, sequence):
        return None
    if kind == _UNREACHABLE and code == _FRAGMENTATION_NEEDED:
        return Outcome.TOO_BIG, second
    return Outcome.UNREACHABLE, 0
