"""What the kernel's route family tells: frozen records decoded from dump and notification messages.

Decoders take the body of a frame (everything behind the netlink header). Layouts as in ``requests``.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.net import requests
from harness.net.netlink import Frame, attributes, unpack_u16, unpack_u32
from harness.net.requests import Address, Hop, Ifla, Interface, Network, Nha, Resilient, Rta, Rtm

_IFLA_LINK = 5
_IF_OPER_UP = 6
_RTNH_F_DEAD, _RTNH_F_LINKDOWN = 1, 16


def _address(packed: bytes) -> Address:
    return ipaddress.IPv4Address(packed) if len(packed) == 4 else ipaddress.IPv6Address(packed)


def _network(family: int, packed: bytes, length: int) -> Network:
    if family == socket.AF_INET:
        return ipaddress.IPv4Network((packed or bytes(4), length))
    return ipaddress.IPv6Network((packed or bytes(16), length))


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """A network interface. ``up`` is the administrator's will, ``carrier`` the cable's, ``operational`` both."""

    ifindex: int
    name: str
    up: bool
    carrier: bool
    operational: bool
    mtu: int
    mac: str
    kind: str
    master: int | None
    link: int | None


@dataclass(frozen=True, slots=True)
class AddressInfo:
    """An address of an interface, with its prefix length."""

    ifindex: int
    interface: Interface
    scope: int


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """A route. ``gateways`` are its hops as the kernel resolves them; ``nhid`` is the nexthop object it was given, if any.

    With ``net.ipv4.nexthop_compat_mode=0`` the kernel leaves the hops of a route by ``nhid`` out.
    """

    prefix: Network
    gateways: tuple[Hop, ...]
    protocol: int
    metric: int
    scope: int
    nhid: int | None
    table: int
    kind: int
    source: Address | None
    dead: bool


@dataclass(frozen=True, slots=True)
class NexthopInfo:
    """A nexthop object, or a ``group`` of (id, weight). ``resilient`` is set for resilient groups only."""

    id: int
    group: tuple[tuple[int, int], ...]
    gateway: Address | None
    ifindex: int | None
    protocol: int
    resilient: Resilient | None
    blackhole: bool
    onlink: bool


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """One bucket of a resilient group: which nexthop its flows take, and for how long none has come."""

    group: int
    index: int
    nexthop: int
    idle_s: float


@dataclass(frozen=True, slots=True)
class NeighbourInfo:
    """An ARP or neighbour discovery entry; ``state`` is NUD_*."""

    ifindex: int
    address: Address
    mac: str | None
    state: int


Record = LinkInfo | AddressInfo | RouteInfo | NexthopInfo | BucketInfo | NeighbourInfo


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode()


def _mac(payload: bytes) -> str:
    return payload.hex(":")


def link(body: bytes) -> LinkInfo:
    _family, _type, ifindex, flags, _change = requests.IFINFO.unpack_from(body)
    found = attributes(body, requests.IFINFO.size)
    info = attributes(found.get(Ifla.LINKINFO, b""))
    return LinkInfo(
        ifindex=ifindex,
        name=_text(found[Ifla.IFNAME]),
        up=bool(flags & requests.IFF_UP),
        carrier=bool(found.get(Ifla.CARRIER, b"\0")[0]),
        operational=found.get(Ifla.OPERSTATE, b"\0")[0] in (0, _IF_OPER_UP) and bool(flags & requests.IFF_UP),
        mtu=unpack_u32(found.get(Ifla.MTU, bytes(4))),
        mac=_mac(found.get(Ifla.ADDRESS, b"")),
        kind=_text(info.get(1, b"")),
        master=unpack_u32(found[Ifla.MASTER]) if Ifla.MASTER in found else None,
        link=unpack_u32(found[_IFLA_LINK]) if _IFLA_LINK in found else None,
    )


def address(body: bytes) -> AddressInfo:
    _family, length, _flags, scope, ifindex = requests.IFADDR.unpack_from(body)
    found = attributes(body, requests.IFADDR.size)
    packed = found.get(2) or found[1]  # IFA_LOCAL, else IFA_ADDRESS: they differ on point-to-point links only
    return AddressInfo(ifindex, ipaddress.ip_interface((packed, length)), scope)


def route(body: bytes) -> RouteInfo:
    family, length, _src, _tos, table, protocol, scope, kind, flags = requests.RTMSG.unpack_from(body)
    found = attributes(body, requests.RTMSG.size)
    nhid = unpack_u32(found[Rta.NH_ID]) if Rta.NH_ID in found else None
    return RouteInfo(
        prefix=_network(family, found.get(Rta.DST, b""), length),
        gateways=_hops(found, nhid, flags),
        protocol=protocol,
        metric=unpack_u32(found[Rta.PRIORITY]) if Rta.PRIORITY in found else 0,
        scope=scope,
        nhid=nhid,
        table=unpack_u32(found[Rta.TABLE]) if Rta.TABLE in found else table,
        kind=kind,
        source=_address(found[Rta.PREFSRC]) if Rta.PREFSRC in found else None,
        dead=bool(flags & (_RTNH_F_DEAD | _RTNH_F_LINKDOWN)),
    )


def _gateway(found: Mapping[int, bytes]) -> Address | None:
    if Rta.GATEWAY in found:
        return _address(found[Rta.GATEWAY])
    if Rta.VIA in found:
        return _address(found[Rta.VIA][2:])
    return None


def _hops(found: Mapping[int, bytes], nhid: int | None, flags: int) -> tuple[Hop, ...]:
    if Rta.MULTIPATH not in found:
        if Rta.OIF not in found:
            return ()
        onlink = bool(flags & requests.RTNH_F_ONLINK)
        return (Hop(_gateway(found), unpack_u32(found[Rta.OIF]), 1, nhid, onlink),)
    hops, data, offset = [], found[Rta.MULTIPATH], 0
    size = requests.RTNEXTHOP.size
    while offset + size <= len(data):
        span, hop_flags, weight, ifindex = requests.RTNEXTHOP.unpack_from(data, offset)
        inner = attributes(data[offset + size : offset + span])
        hop_nhid = unpack_u32(inner[Rta.NH_ID]) if Rta.NH_ID in inner else None
        hops.append(Hop(_gateway(inner), ifindex, weight + 1, hop_nhid, bool(hop_flags & requests.RTNH_F_ONLINK)))
        offset += (span + 3) & ~3
    return tuple(hops)


def nexthop(body: bytes) -> NexthopInfo:
    _family, _scope, protocol, flags = requests.NHMSG.unpack_from(body)
    found = attributes(body, requests.NHMSG.size)
    members = found.get(Nha.GROUP, b"")
    resilient = None
    if Nha.RES_GROUP in found:
        inner = attributes(found[Nha.RES_GROUP])
        resilient = Resilient(
            unpack_u16(inner[1]),
            unpack_u32(inner[2]) / requests.CLOCK_TICKS,
            unpack_u32(inner[3]) / requests.CLOCK_TICKS,
        )
    return NexthopInfo(
        id=unpack_u32(found[Nha.ID]),
        group=tuple((member, weight + 1) for member, weight, _, _ in requests.NEXTHOP_GROUP.iter_unpack(members)),
        gateway=_address(found[Nha.GATEWAY]) if Nha.GATEWAY in found else None,
        ifindex=unpack_u32(found[Nha.OIF]) if Nha.OIF in found else None,
        protocol=protocol,
        resilient=resilient,
        blackhole=Nha.BLACKHOLE in found,
        onlink=bool(flags & requests.RTNH_F_ONLINK),
    )


def bucket(body: bytes) -> BucketInfo:
    found = attributes(body, requests.NHMSG.size)
    inner = attributes(found[Nha.RES_BUCKET])
    (idle,) = struct.unpack("=Q", inner[2])
    return BucketInfo(
        unpack_u32(found[Nha.ID]), unpack_u16(inner[1]), unpack_u32(inner[3]), idle / requests.CLOCK_TICKS
    )


def neighbour(body: bytes) -> NeighbourInfo:
    _family, ifindex, state, _flags, _type = requests.NDMSG.unpack_from(body)
    found = attributes(body, requests.NDMSG.size)
    return NeighbourInfo(ifindex, _address(found[1]), _mac(found[2]) if 2 in found else None, state)


DECODERS: Mapping[int, tuple[Callable[[bytes], Record], bool]] = {
    Rtm.NEWLINK: (link, True),
    Rtm.DELLINK: (link, False),
    Rtm.NEWADDR: (address, True),
    Rtm.DELADDR: (address, False),
    Rtm.NEWROUTE: (route, True),
    Rtm.DELROUTE: (route, False),
    Rtm.NEWNEIGH: (neighbour, True),
    Rtm.DELNEIGH: (neighbour, False),
    Rtm.NEWNEXTHOP: (nexthop, True),
    Rtm.DELNEXTHOP: (nexthop, False),
}
"""Message type -> (decoder, whether the message says that the thing is there)."""


def decode(frame: Frame) -> tuple[bool, Record] | None:
    """(present, record) of a notification; None for a family or message type that no record describes."""
    entry = DECODERS.get(frame.type)
    if entry is None:
        return None
    decoder, present = entry
    if decoder in (route, address, neighbour) and frame.body[0] not in (socket.AF_INET, socket.AF_INET6):
        return None
    if decoder is link and frame.body[0] != socket.AF_UNSPEC:
        return None  # AF_BRIDGE: a port's bridge state, not a link
    return present, decoder(frame.body)
