"""What we ask of the kernel's route family: pure functions from plain values to :class:`~harness.net.netlink.Request`.

Nothing here opens a socket. The layouts are those of the kernel's ``uapi/linux/rtnetlink.h``, ``if_link.h`` and ``nexthop.h``;
queues are ``qdisc``'s. RFC 3549 section 3 names the older half of them. IPv4 and IPv6 throughout.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from harness.net.netlink import Flag, Request, attribute, nested, text, u8, u16, u32

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

IFINFO = struct.Struct("=BxHiII")
IFADDR = struct.Struct("=BBBBI")
RTMSG = struct.Struct("=BBBBBBBBI")
NDMSG = struct.Struct("=BxxxiHBB")
NHMSG = struct.Struct("=BBBxI")
NEXTHOP_GROUP = struct.Struct("=IBBH")
RTNEXTHOP = struct.Struct("=HBBi")
TCMSG = struct.Struct("=BxxxiIII")

FIB_RULE = struct.Struct("=BBBBBBBBI")

FR_ACT_TO_TBL = 1
IFF_UP = 0x1
NUD_PERMANENT = 0x80
IFA_F_NODAD = 0x02
RTNH_F_ONLINK = 4
RTEXT_FILTER_SKIP_STATS = 8
CLOCK_TICKS = 100  # USER_HZ: the unit of the nexthop timers, whatever the kernel's own HZ is
TABLE_MAIN = 254
TABLE_LOCAL = 255


class Rtm(IntEnum):
    """RTM_*: message types."""

    NEWLINK = 16
    DELLINK = 17
    GETLINK = 18
    NEWADDR = 20
    DELADDR = 21
    GETADDR = 22
    NEWROUTE = 24
    DELROUTE = 25
    GETROUTE = 26
    NEWNEIGH = 28
    DELNEIGH = 29
    GETNEIGH = 30
    NEWRULE = 32
    NEWQDISC = 36
    DELQDISC = 37
    NEWNEXTHOP = 104
    DELNEXTHOP = 105
    GETNEXTHOP = 106
    GETNEXTHOPBUCKET = 118


class Ifla(IntEnum):
    """IFLA_*: attributes of a link."""

    ADDRESS = 1
    IFNAME = 3
    MTU = 4
    MASTER = 10
    TXQLEN = 13
    OPERSTATE = 16
    LINKINFO = 18
    NET_NS_FD = 28
    EXT_MASK = 29
    CARRIER = 33


class Rta(IntEnum):
    """RTA_*: attributes of a route."""

    DST = 1
    OIF = 4
    GATEWAY = 5
    PRIORITY = 6
    PREFSRC = 7
    MULTIPATH = 9
    TABLE = 15
    VIA = 18
    NH_ID = 30


class Fra(IntEnum):
    """FRA_*: attributes of a rule of policy routing."""

    SRC = 2
    IIFNAME = 3
    PRIORITY = 6
    TABLE = 15


class Nha(IntEnum):
    """NHA_*: attributes of a nexthop object."""

    ID = 1
    GROUP = 2
    GROUP_TYPE = 3
    BLACKHOLE = 4
    OIF = 5
    GATEWAY = 6
    RES_GROUP = 12
    RES_BUCKET = 13


class RouteKind(IntEnum):
    """RTN_*: what the kernel does with a packet that matches."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    MULTICAST = 5
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9


class Protocol(IntEnum):
    """RTPROT_*: who put a route in."""

    UNSPEC = 0
    REDIRECT = 1
    KERNEL = 2
    BOOT = 3
    STATIC = 4
    RA = 9
    BGP = 186


class Scope(IntEnum):
    """RT_SCOPE_*: how far away a destination is."""

    UNIVERSE = 0
    SITE = 200
    LINK = 253
    HOST = 254
    NOWHERE = 255


@dataclass(frozen=True, slots=True)
class Hop:
    """One way of a route: ``gateway`` (None: on-link), interface, weight (1 to 256), and its nexthop object if it has one."""

    gateway: Address | None
    ifindex: int
    weight: int = 1
    nhid: int | None = None
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class Resilient:
    """A resilient nexthop group (Documentation/networking/nexthop-group-resilient): ``buckets`` in its hash table, and after
    how many seconds idle a bucket may move, and unbalanced (0: never forced) the table is forced into balance."""

    buckets: int
    idle_timer_s: float
    unbalanced_timer_s: float


def mac_bytes(mac: str) -> bytes:
    """Six octets from "02:00:00:00:00:01"."""
    return bytes.fromhex(mac.replace(":", ""))


_CREATE = Flag.ACK | Flag.CREATE | Flag.EXCLUSIVE
_REPLACE = Flag.ACK | Flag.CREATE | Flag.REPLACE
_LINKINFO_KIND, _LINKINFO_DATA, _VETH_PEER = 1, 2, 1
_BR_FORWARD_DELAY, _BR_STP_STATE, _BR_MCAST_SNOOPING = 1, 5, 23


def _link_identity(name: str, mac: str | None, mtu: int | None) -> bytes:
    found = text(Ifla.IFNAME, name)
    if mac is not None:
        found += attribute(Ifla.ADDRESS, mac_bytes(mac))
    if mtu is not None:
        found += u32(Ifla.MTU, mtu)
    return found


def veth(
    name: str,
    peer_name: str,
    peer_netns_fd: int,
    *,
    ifindex: int = 0,
    peer_ifindex: int = 0,
    mac: str | None = None,
    peer_mac: str | None = None,
    mtu: int | None = None,
    peer_mtu: int | None = None,
) -> Request:
    """A veth pair made in place: this end in the namespace of the socket, the other in ``peer_netns_fd``'s.

    Index 0 lets the kernel choose. Both ends start down: IFF_UP on the peer inside RTM_NEWLINK fails with ENOTCONN.
    """
    peer = (
        IFINFO.pack(socket.AF_UNSPEC, 0, peer_ifindex, 0, 0)
        + _link_identity(peer_name, peer_mac, peer_mtu)
        + u32(Ifla.NET_NS_FD, peer_netns_fd)
    )
    body = (
        IFINFO.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0)
        + _link_identity(name, mac, mtu)
        + nested(Ifla.LINKINFO, text(_LINKINFO_KIND, "veth"), nested(_LINKINFO_DATA, attribute(_VETH_PEER, peer)))
    )
    return Request(f"add veth {name} with peer {peer_name}", Rtm.NEWLINK, _CREATE, body)


def bridge(name: str, *, ifindex: int = 0, mac: str | None = None) -> Request:
    """A bridge that forwards at once: no STP, no forward delay, no multicast snooping."""
    settings = u32(_BR_FORWARD_DELAY, 0) + u32(_BR_STP_STATE, 0) + u8(_BR_MCAST_SNOOPING, 0)
    body = (
        IFINFO.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0)
        + _link_identity(name, mac, None)
        + nested(Ifla.LINKINFO, text(_LINKINFO_KIND, "bridge"), nested(_LINKINFO_DATA, settings))
    )
    return Request(f"add bridge {name}", Rtm.NEWLINK, _CREATE, body)


def link_set(
    ifindex: int,
    *,
    up: bool | None = None,
    master: int | None = None,
    mtu: int | None = None,
    mac: str | None = None,
    name: str | None = None,
    carrier: bool | None = None,
    queue: int | None = None,
) -> Request:
    """Changes a link; ``master`` 0 takes it out of its bridge; ``carrier`` only where the driver lets it (tun); ``queue`` in packets."""
    body = IFINFO.pack(socket.AF_UNSPEC, 0, ifindex, IFF_UP if up else 0, 0 if up is None else IFF_UP)
    words = [] if up is None else ["up" if up else "down"]
    if master is not None:
        body += u32(Ifla.MASTER, master)
        words.append(f"master {master}")
    if mtu is not None:
        body += u32(Ifla.MTU, mtu)
        words.append(f"mtu {mtu}")
    if mac is not None:
        body += attribute(Ifla.ADDRESS, mac_bytes(mac))
        words.append(f"address {mac}")
    if name is not None:
        body += text(Ifla.IFNAME, name)
        words.append(f"name {name}")
    if carrier is not None:
        body += u8(Ifla.CARRIER, carrier)
        words.append(f"carrier {'on' if carrier else 'off'}")
    if queue is not None:
        body += u32(Ifla.TXQLEN, queue)
        words.append(f"queue {queue}")
    return Request(f"set link {ifindex} {' '.join(words)}", Rtm.NEWLINK, Flag.ACK, body)


def link_del(ifindex: int) -> Request:
    """Deletes a link (and a veth's peer). 18-21 ms each: to end a lab, close its namespaces instead."""
    return Request(f"delete link {ifindex}", Rtm.DELLINK, Flag.ACK, IFINFO.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0))


def link_get(ifindex: int) -> Request:
    """Asks for one link. The kernel settles the link's pending carrier change before it answers, which is why a builder asks."""
    body = IFINFO.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + u32(Ifla.EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return Request(f"get link {ifindex}", Rtm.GETLINK, Flag.ACK, body)


_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4


def _address_body(ifindex: int, interface: Interface) -> bytes:
    packed = interface.ip.packed
    if interface.version == 6:
        head = IFADDR.pack(socket.AF_INET6, interface.network.prefixlen, IFA_F_NODAD, 0, ifindex)
        return head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    body = (
        IFADDR.pack(socket.AF_INET, interface.network.prefixlen, 0, 0, ifindex)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed)
    )
    if interface.network.prefixlen < 31:
        body += attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    return body


def address(ifindex: int, interface: Interface | str) -> Request:
    """Puts an address with its prefix length on a link; IPv6 without duplicate address detection."""
    value = ipaddress.ip_interface(interface)
    return Request(f"add address {value} to link {ifindex}", Rtm.NEWADDR, _REPLACE, _address_body(ifindex, value))


def address_del(ifindex: int, interface: Interface | str) -> Request:
    value = ipaddress.ip_interface(interface)
    return Request(f"delete address {value} of link {ifindex}", Rtm.DELADDR, Flag.ACK, _address_body(ifindex, value))


def neighbour(ifindex: int, ip: Address | str, mac: str) -> Request:
    """A permanent neighbour entry: no ARP or neighbour discovery for it, and no garbage collection."""
    value = ipaddress.ip_address(ip)
    family = socket.AF_INET if value.version == 4 else socket.AF_INET6
    body = NDMSG.pack(family, ifindex, NUD_PERMANENT, 0, 0) + attribute(1, value.packed) + attribute(2, mac_bytes(mac))
    return Request(f"add neighbour {value} at {mac} on link {ifindex}", Rtm.NEWNEIGH, _REPLACE, body)


def _family(value: Address | Network) -> int:
    return socket.AF_INET if value.version == 4 else socket.AF_INET6


def _gateway(family: int, gateway: Address) -> bytes:
    if _family(gateway) == family:
        return attribute(Rta.GATEWAY, gateway.packed)
    return attribute(Rta.VIA, struct.pack("=H", _family(gateway)) + gateway.packed)  # RFC 8950: IPv4 over IPv6


def route(
    prefix: Network | str,
    *,
    gateway: Address | str | None = None,
    oif: int | None = None,
    onlink: bool = False,
    hops: Sequence[Hop] = (),
    nhid: int | None = None,
    source: Address | str | None = None,
    table: int = TABLE_MAIN,
    protocol: int = Protocol.STATIC,
    scope: int | None = None,
    metric: int | None = None,
    kind: int = RouteKind.UNICAST,
    replace: bool = False,
) -> Request:
    """A route by gateway and interface, by nexthop id, or (``hops``) by RTA_MULTIPATH. ``kind`` LOCAL makes a whole prefix ours.

    ``replace`` overwrites the route with the same prefix and metric, whoever put it in; without it such a route is EEXIST.
    """
    value = ipaddress.ip_network(prefix)
    flags = _REPLACE if replace else _CREATE
    body = _route_body(value, gateway, oif, onlink, hops, nhid, source, table, protocol, scope, metric, kind)
    return Request(f"add route {value}{_route_words(gateway, oif, nhid, metric)}", Rtm.NEWROUTE, flags, body)


def route_del(
    prefix: Network | str,
    *,
    gateway: Address | str | None = None,
    oif: int | None = None,
    nhid: int | None = None,
    table: int = TABLE_MAIN,
    protocol: int = Protocol.UNSPEC,
    metric: int | None = None,
    kind: int = 0,
) -> Request:
    """Deletes the first route that matches everything given; protocol UNSPEC matches any."""
    value = ipaddress.ip_network(prefix)
    body = _route_body(value, gateway, oif, False, (), nhid, None, table, protocol, Scope.NOWHERE, metric, kind)
    return Request(f"delete route {value}{_route_words(gateway, oif, nhid, metric)}", Rtm.DELROUTE, Flag.ACK, body)


def rule(priority: int, table: int, *, interface: str | None = None, source: Network | str | None = None) -> Request:
    """A rule of IPv4 policy routing: what comes in by ``interface``, or from ``source``, looks in ``table`` (uapi/linux/fib_rules.h)."""
    network = None if source is None else ipaddress.ip_network(source)
    bits = 0 if network is None else network.prefixlen
    body = FIB_RULE.pack(socket.AF_INET, 0, bits, 0, 0, 0, 0, FR_ACT_TO_TBL, 0)
    body += u32(Fra.PRIORITY, priority) + u32(Fra.TABLE, table)
    if interface is not None:
        body += attribute(Fra.IIFNAME, interface.encode() + b"\0")
    if network is not None:
        body += attribute(Fra.SRC, network.network_address.packed)
    words = f" iif {interface}" if interface is not None else f" from {network}"
    return Request(f"add rule{words} table {table}", Rtm.NEWRULE, _CREATE, body)


def _route_words(gateway: Address | str | None, oif: int | None, nhid: int | None, metric: int | None) -> str:
    named = (("via", gateway), ("dev", oif), ("nhid", nhid), ("metric", metric))
    return "".join(f" {word} {value}" for word, value in named if value is not None)


def _route_body(
    prefix: Network,
    gateway: Address | str | None,
    oif: int | None,
    onlink: bool,
    hops: Sequence[Hop],
    nhid: int | None,
    source: Address | str | None,
    table: int,
    protocol: int,
    scope: int | None,
    metric: int | None,
    kind: int,
) -> bytes:
    family = _family(prefix)
    if scope is None:
        direct = gateway is None and nhid is None and not hops
        scope = Scope.HOST if kind == RouteKind.LOCAL else Scope.LINK if direct and family == socket.AF_INET else 0
    body = RTMSG.pack(
        family,
        prefix.prefixlen,
        0,
        0,
        table & 0xFF if table < 256 else 0,
        protocol,
        scope,
        kind,
        RTNH_F_ONLINK if onlink else 0,
    ) + attribute(Rta.DST, prefix.network_address.packed)
    if table > 255:
        body += u32(Rta.TABLE, table)
    if metric is not None:
        body += u32(Rta.PRIORITY, metric)
    if source is not None:
        body += attribute(Rta.PREFSRC, ipaddress.ip_address(source).packed)
    if nhid is not None:
        body += u32(Rta.NH_ID, nhid)
    if gateway is not None:
        body += _gateway(family, ipaddress.ip_address(gateway))
    if oif is not None:
        body += u32(Rta.OIF, oif)
    if hops:
        body += attribute(Rta.MULTIPATH, b"".join(_multipath_hop(family, hop) for hop in hops))
    return body


def _multipath_hop(family: int, hop: Hop) -> bytes:
    inner = b"" if hop.gateway is None else _gateway(family, hop.gateway)
    flags = RTNH_F_ONLINK if hop.onlink else 0
    return RTNEXTHOP.pack(RTNEXTHOP.size + len(inner), flags, hop.weight - 1, hop.ifindex) + inner


def nexthop(
    nhid: int,
    *,
    oif: int | None = None,
    gateway: Address | str | None = None,
    onlink: bool = False,
    blackhole: bool = False,
    family: int = socket.AF_INET,
    protocol: int = Protocol.BGP,
    replace: bool = False,
) -> Request:
    """A nexthop object. With a gateway its family is the gateway's; ``family`` counts only without one."""
    value = None if gateway is None else ipaddress.ip_address(gateway)
    body = NHMSG.pack(family if value is None else _family(value), 0, protocol, RTNH_F_ONLINK if onlink else 0) + u32(
        Nha.ID, nhid
    )
    if blackhole:
        body += attribute(Nha.BLACKHOLE, b"")
    if oif is not None:
        body += u32(Nha.OIF, oif)
    if value is not None:
        body += attribute(Nha.GATEWAY, value.packed)
    words = f"add nexthop {nhid} via {gateway} dev {oif}"
    return Request(words, Rtm.NEWNEXTHOP, _REPLACE if replace else _CREATE, body)


def nexthop_group(
    nhid: int,
    members: Iterable[tuple[int, int]],
    *,
    resilient: Resilient | None = None,
    protocol: int = Protocol.BGP,
    replace: bool = False,
) -> Request:
    """A group of (nexthop id, weight 1 to 256). Say ``resilient`` again at every replacement: the kernel refuses a change of type."""
    pairs = list(members)
    packed = b"".join(NEXTHOP_GROUP.pack(member, weight - 1, 0, 0) for member, weight in pairs)
    body = NHMSG.pack(socket.AF_UNSPEC, 0, protocol, 0) + u32(Nha.ID, nhid) + attribute(Nha.GROUP, packed)
    if resilient is not None:
        body += u16(Nha.GROUP_TYPE, 1) + nested(
            Nha.RES_GROUP,
            u16(1, resilient.buckets),
            u32(2, round(resilient.idle_timer_s * CLOCK_TICKS)),
            u32(3, round(resilient.unbalanced_timer_s * CLOCK_TICKS)),
        )
    words = f"add nexthop group {nhid} of {', '.join(str(member) for member, _ in pairs)}"
    # Without CREATE: a group that the kernel has just dropped with its link took its routes along, and a new one would have none.
    return Request(words, Rtm.NEWNEXTHOP, Flag.ACK | Flag.REPLACE if replace else _CREATE, body)


def nexthop_del(nhid: int) -> Request:
    """Deletes a nexthop object or group, its memberships, and the routes that used only it."""
    body = NHMSG.pack(socket.AF_UNSPEC, 0, 0, 0) + u32(Nha.ID, nhid)
    return Request(f"delete nexthop {nhid}", Rtm.DELNEXTHOP, Flag.ACK, body)
