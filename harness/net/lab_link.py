"""Mininet's Link and Intf over netlink: a veth pair made in place, with indexes and MAC addresses of our own choosing.

A link is never moved into a namespace (16 ms) and never deleted at the end of a lab (20 ms): the namespaces' end is its end.
Source of the API: mininet.link.
"""

# ruff: noqa: N802, N803, N815, ARG002 (Mininet's names and signatures)

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.impairment import CLEAR, Given, Impairment, ImpairmentError, changed
from harness.net import queues, rtnl
from harness.net.records import LinkInfo
from harness.net.rtnl import Network
from harness.net.stock import Intf, Link

if TYPE_CHECKING:
    from harness.net.lab_node import LabNode


#: TCLink's parameters that are queues of another kind than ours.
_FOREIGN = ("max_queue_size", "use_hfsc", "enable_ecn", "enable_red")


class LabError(Exception):
    """The network described cannot be built: the text names the object, the rule and the remedy."""


class LabIntf(Intf):  # type: ignore[misc]
    """An interface. Parameters beyond Mininet's: ``addresses`` ("10.0.0.1/24"), ``mtu`` (octets), ``impairment``.

    TCLink's are here too: ``bw`` (Mbit/s), ``delay`` and ``jitter`` ("5ms"), ``loss`` (percent), each of what this end sends.
    """

    node: LabNode
    name: str
    link: LabLink | None
    ip: str | None
    prefixLen: str | None

    def __init__(self, name: str, node: LabNode, link: LabLink, **params: Any) -> None:
        self.ifindex = link.take_index()
        self.addresses: list[str] = []
        self.impairment = CLEAR
        super().__init__(name, node=node, link=link, **params)

    def config(
        self,
        mac: str | None = None,
        ip: str | None = None,
        ifconfig: str | None = None,
        up: bool = True,
        addresses: tuple[str, ...] = (),
        mtu: int | None = None,
        impairment: Impairment = CLEAR,
        bw: Given | None = None,
        delay: Given | None = None,
        jitter: Given | None = None,
        loss: Given | None = None,
        **params: Any,
    ) -> dict[str, Any]:
        """Sets the interface. Raises LabError for TCLink's parameters that are not here, and as :meth:`considered` does."""
        if beyond := [key for key in _FOREIGN if params.get(key)]:
            raise LabError(
                f"{self._words()}: {', '.join(beyond)}: a link here has bw, delay, jitter and loss, and a queue of 50 ms at its bw; "
                "leave it out, or run tc in the node"
            )
        results: dict[str, Any] = {}
        self.setParam(results, "setMAC", mac=mac)
        if up or mtu is not None:
            self._set(rtnl.link_set(self.ifindex, up=True if up else None, mtu=mtu))
        if up:
            self.node.wiring.raised(self.node, self.ifindex)
        given = {"delay": delay, "jitter": jitter, "loss": loss, "rate": bw}
        self.impair(self.considered(impairment or self.impairment, given))
        self.setParam(results, "setIP", ip=ip)
        for address in addresses:
            self.add_address(address)
        self.setParam(results, "ifconfig", ifconfig=ifconfig)
        return results

    def considered(self, before: Impairment, given: Mapping[str, Given | None]) -> Impairment:
        """``before`` with what is ``given`` changed (:func:`harness.impairment.changed`), for :meth:`impair`. Raises LabError for a
        value out of bounds or a queue that the kernel lacks."""
        try:
            wanted = changed(before, given)
        except ImpairmentError as error:
            raise LabError(f"{self._words()}: {error}") from None
        if wanted != self.impairment and (why := queues.refusal(wanted)) is not None:
            raise LabError(f"{self._words()}: {why}")
        return wanted

    def impair(self, wanted: Impairment) -> None:
        """Makes what this end sends late, lossy or slow."""
        if wanted != self.impairment:
            before, self.impairment = self.impairment, wanted
            self._set(*queues.requests(self.ifindex, before, wanted))

    def _words(self) -> str:
        return f"node {self.node.name}: interface {self.name}"

    def _set(self, *requests: rtnl.Request) -> None:
        self.node.wiring.set(self.node, *requests)

    def info(self) -> LinkInfo:
        """What the kernel says of this interface now. Raises KeyError when it is gone."""
        self.node.wiring.flush()
        for found in self.node.rtnl.links():
            if found.ifindex == self.ifindex:
                return found
        raise KeyError(f"node {self.node.name}: interface {self.name} is gone")

    def networks(self) -> list[Network]:
        return [ipaddress.ip_interface(address).network for address in self.addresses]

    def add_address(self, address: str) -> None:
        """One address more; the first is what ``IP()`` says."""
        if self.ip is None:
            self.ip, self.prefixLen = address.split("/")
        self.addresses.append(address)
        self._set(rtnl.address(self.ifindex, address))

    def setIP(self, ipstr: str, prefixLen: int | str | None = None) -> str:
        """Replaces the interface's first address."""
        if "/" not in ipstr:
            if prefixLen is None:
                raise ValueError(f"{self.name}: no prefix length for {ipstr}; say {ipstr}/24 or give one")
            ipstr = f"{ipstr}/{prefixLen}"
        if self.ip is not None:
            self._set(rtnl.address_del(self.ifindex, f"{self.ip}/{self.prefixLen}"))
            self.addresses.pop(0)
        self.ip, self.prefixLen = ipstr.split("/")
        self.addresses.insert(0, ipstr)
        self._set(rtnl.address(self.ifindex, ipstr))
        return ""

    def setMAC(self, macstr: str) -> str:
        self._set(rtnl.link_set(self.ifindex, mac=macstr))
        self.mac = macstr
        return ""

    def isUp(self, setUp: bool = False) -> bool:
        if setUp:
            self.raise_()
            return True
        return self.info().up

    def raise_(self) -> None:
        """Up, with the static routes over this interface; the cable's carrier is settled before this returns."""
        self._set(rtnl.link_set(self.ifindex, up=True))
        for end in self.link.ends() if self.link else ():
            end.node.wiring.raised(end.node, end.ifindex)
        self.node.restore_routes(self.ifindex)

    def lower(self) -> None:
        """Down: the kernel drops every route over this interface, and the other end loses its carrier."""
        self._set(rtnl.link_set(self.ifindex, up=False))

    def ifconfig(self, *args: Any) -> str:
        """The forms that Mininet itself uses, over netlink; others go to the program, in the node's shell."""
        match " ".join(str(arg) for arg in args).split():
            case ["up"]:
                self.raise_()
            case ["down"]:
                self.lower()
            case ["hw", "ether", mac]:
                self.setMAC(mac)
            case [address] | [address, "up"] if "/" in address:
                self.setIP(address)
            case []:
                return str(self.cmd("ip address show dev", self.name))
            case _:
                return str(self.cmd("ifconfig", self.name, *args))
        return ""

    def updateIP(self) -> str | None:
        """The first IPv4 address as the kernel has it now."""
        self.node.wiring.flush()
        for found in self.node.rtnl.addresses():
            if found.ifindex == self.ifindex and found.interface.version == 4:
                self.ip, self.prefixLen = str(found.interface).split("/")
                return str(self.ip)
        self.ip = self.prefixLen = None
        return None

    def updateMAC(self) -> str:
        self.mac = self.info().mac
        return self.mac

    def updateAddr(self) -> tuple[str | None, str]:
        return self.updateIP(), self.updateMAC()

    def rename(self, newname: str) -> str:
        self.node.nameToIntf[newname] = self.node.nameToIntf.pop(self.name)
        self._set(
            rtnl.link_set(self.ifindex, up=False),
            rtnl.link_set(self.ifindex, name=newname),
            rtnl.link_set(self.ifindex, up=True),
        )
        self.name = newname
        self.node.restore_routes(self.ifindex)
        return ""

    def delete(self) -> None:
        """Deletes the interface, and so the link: the other end's record stays until it is deleted too."""
        if self.link is not None and not self.link.cut:
            self.link.cut = True
            self._set(rtnl.link_del(self.ifindex))
        self.node.delIntf(self)
        self.link = None

    def status(self) -> str:
        try:
            self.info()
        except KeyError:
            return "MISSING"
        return "OK"


class LabLink(Link):  # type: ignore[misc]
    """A veth pair between two nodes. ``params1``/``params2`` or plain parameters are :class:`LabIntf`'s."""

    def __init__(self, node1: LabNode, node2: LabNode, **options: Any) -> None:
        self._indexes: list[int] = []
        self.cut = False
        self.intf1: LabIntf | None = None
        self.intf2: LabIntf | None = None
        super().__init__(node1, node2, **{"intf": LabIntf, **options})

    def makeIntfPair(
        self,
        intfname1: str,
        intfname2: str,
        addr1: str | None = None,
        addr2: str | None = None,
        node1: LabNode | None = None,
        node2: LabNode | None = None,
        deleteIntfs: bool = True,
    ) -> None:
        assert node1 is not None
        assert node2 is not None
        self._indexes = [node1.new_ifindex(), node2.new_ifindex()]
        node1.wiring.link(
            node1,
            rtnl.veth(
                intfname1,
                intfname2,
                node2.namespace.fd,
                ifindex=self._indexes[0],
                peer_ifindex=self._indexes[1],
                mac=addr1,
                peer_mac=addr2,
            ),
        )

    def take_index(self) -> int:
        """The index of the end whose Intf is being made: first intf1's, then intf2's."""
        return self._indexes.pop(0)

    def ends(self) -> list[LabIntf]:
        return [end for end in (self.intf1, self.intf2) if end is not None]

    def stop(self) -> None:
        """Nothing: the namespaces' end is the link's."""
