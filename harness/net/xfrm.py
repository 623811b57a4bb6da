"""The kernel's own IPsec tables: states (one for each direction of each SA) and policies, read by NETLINK_XFRM as `ip xfrm` does.

Reading only: charon is the one who writes them. pyroute2 has no messages of this family, so the layouts of uapi/linux/xfrm.h are here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from harness.net.namespace import Namespace, socket_in
from harness.net.netlink import HEADER, Control, Flag, Frame, NetlinkError, attributes, frames, unpack_u32

_NETLINK_XFRM = 6
_GETSA, _GETPOLICY = 0x12, 0x15
_NEWSA, _NEWPOLICY = 0x10, 0x13
_CHANGES = 1 << 2 | 1 << 3  # XFRMNLGRP_SA, XFRMNLGRP_POLICY
_IPPROTO_ESP = 50
_RECEIVE = 1 << 16

# struct xfrm_usersa_info: 56 octets of selector, then these; its attributes follow at 224.
_STATE = struct.Struct("=56x 16s 4s B3x 16s 64x QQ 16x 12x II HBBB7x")
# struct xfrm_userpolicy_info: selector, lifetimes, then priority, index, direction; its attributes follow at 168.
_POLICY = struct.Struct("=56x 64x 32x IIB7x")
_AUTH, _CRYPT, _ENCAP, _AEAD, _AUTH_TRUNC, _IF_ID = 1, 2, 4, 18, 20, 31
_DIRECTIONS = ("in", "out", "fwd")


@dataclass(frozen=True, slots=True)
class State:
    """One ESP state. ``spi`` as charon writes it (eight hexadecimal digits); algorithms by the kernel's names with the key's bits."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    spi: str
    if_id: int | None
    encryption: tuple[str, int] | None
    integrity: tuple[str, int] | None
    encapsulated: bool
    octets: int
    packets: int


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of forwarded or own traffic (not of a single socket)."""

    direction: str
    if_id: int | None
    priority: int


def state_of(body: bytes) -> State | None:
    """An XFRM_MSG_NEWSA; None for another protocol's, and for a place held for an SA that is not negotiated yet (SPI 0)."""
    destination, spi, protocol, source, octets, packets, _seq, _reqid, family, *_ = _STATE.unpack_from(body)
    if protocol != _IPPROTO_ESP or spi == bytes(4):
        return None
    length = 4 if family == socket.AF_INET else 16
    told = attributes(body, _STATE.size)
    return State(
        ip_address(source[:length]),
        ip_address(destination[:length]),
        spi.hex(),
        unpack_u32(told[_IF_ID]) if _IF_ID in told else None,
        _algorithm(told.get(_CRYPT) or told.get(_AEAD)),
        _algorithm(told.get(_AUTH_TRUNC) or told.get(_AUTH)),
        _ENCAP in told,
        octets,
        packets,
    )


def policy_of(body: bytes) -> Policy | None:
    """An XFRM_MSG_NEWPOLICY; None for one that belongs to a socket, as IKE's own have."""
    priority, _index, direction = _POLICY.unpack_from(body)
    told = attributes(body, _POLICY.size)
    if direction >= len(_DIRECTIONS):
        return None
    return Policy(_DIRECTIONS[direction], unpack_u32(told[_IF_ID]) if _IF_ID in told else None, priority)


def _algorithm(told: bytes | None) -> tuple[str, int] | None:
    """struct xfrm_algo and its longer kin: a name of 64 octets, the key's bits, whatever follows."""
    if told is None:
        return None
    name, bits = struct.unpack_from("=64sI", told)
    return name.rstrip(b"\0").decode(), bits


def states(namespace: Namespace | None = None) -> list[State]:
    """The ESP states of a namespace. Raises OSError where the kernel has no IPsec at all, NetlinkError when it refuses."""
    return [found for frame in _dump("list IPsec states", _GETSA, _NEWSA, namespace) if (found := state_of(frame.body))]


def policies(namespace: Namespace | None = None) -> list[Policy]:
    """The policies of a namespace, without those of sockets. Raises as :func:`states`."""
    asked = _dump("list IPsec policies", _GETPOLICY, _NEWPOLICY, namespace)
    return [found for frame in asked if (found := policy_of(frame.body))]


@contextlib.contextmanager
def watching(namespace: Namespace, changed: Callable[[], None]) -> Iterator[None]:
    """While it lasts ``changed()`` is called on the running event loop after every change of the namespace's states and policies."""
    loop = asyncio.get_running_loop()
    with socket_in(namespace.fd, socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_XFRM) as heard:
        heard.bind((0, _CHANGES))

        def readable() -> None:
            # What does not fit (ENOBUFS) is a change as well.
            with contextlib.suppress(OSError):
                while heard.recv(_RECEIVE):
                    pass
            changed()

        loop.add_reader(heard, readable)
        try:
            yield
        finally:
            loop.remove_reader(heard)


def _dump(what: str, kind: int, answer: int, namespace: Namespace | None) -> Iterator[Frame]:
    with socket_in(
        None if namespace is None else namespace.fd, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM
    ) as asked:
        asked.send(HEADER.pack(HEADER.size, kind, Flag.REQUEST | Flag.DUMP, 1, 0))
        while True:
            for frame in frames(asked.recv(_RECEIVE)):
                if frame.type == Control.DONE:
                    return
                if frame.type == Control.ERROR:
                    raise NetlinkError(what, -struct.unpack_from("=i", frame.body)[0])
                if frame.type == answer:
                    yield frame
