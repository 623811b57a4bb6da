"""The tunnel interface and its line protocol: up while a CHILD_SA carries traffic, down else.

No SA, no carrier, no next hop. On the libipsec data plane the interface is charon's TUN device and stays administratively up:
set down, charon could not install its route and would refuse every CHILD_SA ("Network is down"). Its *carrier* is switched
instead, which leaves addresses and static routes in place. An xfrm interface has no carrier to switch: there the
administrative state is the line.

Under the tunnel's prefix lies an ``unreachable`` route of the highest metric, so that no packet for the peer's tunnel address
leaves in clear by a default route while the interface is down or gone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path

from harness.ipsec.strongswan import IF_ID, DataPlane
from harness.net import rtnl
from harness.net.netlink import Flag, NetlinkError, Request, nested, text, u32
from harness.net.requests import IFINFO, Ifla, Rtm
from harness.plan import Tunnel

GUARD_METRIC = 0x7FFFFFFF
_EVERY_PROTOCOL = 3  # ETH_P_ALL
_QUEUE = 5000
"""Packets that wait for charon in its TUN device: the kernel's 500 are a seventh of a second of a lab's load."""
_COUNTERS = tuple(f"{what}_{way}" for way in ("in", "out") for what in ("bytes", "packets", "errors", "dropped"))
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_XFRM_IF_ID = 1, 2, 2


class NoTunnelInterface(OSError):
    """The interface of the tunnel is not there and cannot be made."""


def xfrm_interface(name: str, if_id: int, mtu: int) -> Request:
    """An xfrm interface (Linux 4.19): what is routed into it is encrypted by the states and policies of the same ``if_id``."""
    body = (
        IFINFO.pack(0, 0, 0, 0, 0)
        + text(Ifla.IFNAME, name)
        + u32(Ifla.MTU, mtu)
        + nested(Ifla.LINKINFO, text(_IFLA_INFO_KIND, "xfrm"), nested(_IFLA_INFO_DATA, u32(_IFLA_XFRM_IF_ID, if_id)))
    )
    return Request(f"add xfrm interface {name}", Rtm.NEWLINK, Flag.ACK | Flag.CREATE | Flag.EXCLUSIVE, body)


def guard(address: str) -> Request:
    """The ``unreachable`` route under the prefix of the tunnel's ``address``."""
    network = ipaddress.ip_interface(address).network
    return rtnl.route(network, kind=rtnl.RouteKind.UNREACHABLE, metric=GUARD_METRIC, replace=True)


def switch(plane: DataPlane, ifindex: int, up: bool) -> Request:
    """The line protocol of a tunnel interface, on or off."""
    if plane is DataPlane.LIBIPSEC:
        return rtnl.link_set(ifindex, carrier=up)
    return rtnl.link_set(ifindex, up=up)


class Line:
    """The tunnel interface in the namespace of the calling process. One netlink socket, kept open."""

    def __init__(self, tunnel: Tunnel, plane: DataPlane) -> None:
        self._tunnel = tunnel
        self._plane = plane
        self._netlink = rtnl.Rtnl()
        self.ifindex: int | None = None
        self.up = False
        self._used = False
        self._before: dict[str, int] = {}

    def close(self) -> None:
        self._netlink.close()

    def prepare(self) -> None:
        """Before charon starts: the guard route, and on the kernel plane the interface. Raises NetlinkError."""
        self._netlink.transact([guard(self._tunnel.address)])
        if self._plane is DataPlane.XFRM and self.ifindex is None:
            self._netlink.transact([xfrm_interface(self._tunnel.interface, IF_ID, self._tunnel.mtu)])
            self._set_up()

    def adopt(self) -> None:
        """After charon started: its TUN device gets address and MTU, with the line down. Raises NoTunnelInterface."""
        if self._plane is DataPlane.LIBIPSEC:
            self._set_up()

    def _set_up(self) -> None:
        tunnel = self._tunnel
        try:
            ifindex = self._netlink.link(tunnel.interface).ifindex
        except KeyError as error:
            raise NoTunnelInterface(
                f"tunnel {tunnel.name}: charon started without {tunnel.interface}; it could not open /dev/net/tun: "
                "give the user read and write access to it"
            ) from error
        quiet = switch(self._plane, ifindex, False)
        self._netlink.transact([quiet, rtnl.link_set(ifindex, mtu=tunnel.mtu, queue=_QUEUE)])
        if ipaddress.ip_interface(tunnel.address).version == 4:
            # Neighbour discovery and MLD of an interface that carries no IPv6 would stand in its counters.
            with contextlib.suppress(FileNotFoundError):
                Path(f"/proc/sys/net/ipv6/conf/{tunnel.interface}/disable_ipv6").write_text("1")
        self._netlink.transact([rtnl.address(ifindex, tunnel.address)])
        self.ifindex, self.up = ifindex, False
        self._used = False

    def set(self, up: bool) -> bool:
        """Switches the line; True when that changed it. An interface that went away with charon is down already."""
        if self.ifindex is None or up == self.up:
            return False
        if up and not self._used:
            # charon had its device up for a moment, and the kernel greeted the neighbours over it: that is nobody's traffic.
            self._before, self._used = self._read_counters(), True
        try:
            # Asking for the link makes the kernel carry the change out: before, the device would drop the first packets.
            self._netlink.transact([switch(self._plane, self.ifindex, up), rtnl.link_get(self.ifindex)])
            if up:
                ifindex = self.ifindex
                self._netlink.transact([rtnl.route(block, oif=ifindex, replace=True) for block in self._tunnel.routes])
        except NetlinkError:
            if up:
                raise
        self.up = up
        return True

    def listen(self) -> socket.socket | None:
        """Lets packets in while there is no SA, so that the first one can be seen: a socket that hears every packet of the interface.

        The carrier is on, without which no route leads here; what enters is dropped by whoever would encrypt it. The line stays down.
        None while the interface is gone.
        """
        if self.ifindex is None:
            return None
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        # Bound to all protocols: a socket of one protocol does not hear what goes out.
        heard.bind((self._tunnel.interface, _EVERY_PROTOCOL))
        if not self.let_in():
            heard.close()
            return None
        return heard

    def let_in(self) -> bool:
        """Routes lead into the interface from now on while the line stays down. False while the interface is gone."""
        if self.ifindex is None:
            return False
        try:
            self._netlink.transact([switch(self._plane, self.ifindex, True), rtnl.link_get(self.ifindex)])
        except NetlinkError:
            return False
        return True

    def lost(self) -> None:
        """charon is gone, and on the libipsec plane its TUN device with it."""
        self.set(False)
        if self._plane is DataPlane.LIBIPSEC:
            self.ifindex = None

    def counters(self) -> dict[str, int] | None:
        """The interface's own counters since its line first came up: bytes, packets, errors and drops in and out; None while
        the interface is gone."""
        if self.ifindex is None:
            return None
        if not self._used:
            return dict.fromkeys(_COUNTERS, 0)
        return {key: value - self._before.get(key, 0) for key, value in self._read_counters().items()}

    def _read_counters(self) -> dict[str, int]:
        for row in Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]:
            name, _, values = row.partition(":")
            if name.strip() == self._tunnel.interface:
                numbers = [int(value) for value in values.split()]
                return dict(zip(_COUNTERS, numbers[:4] + numbers[8:12], strict=True))
        return {}
