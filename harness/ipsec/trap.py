"""charon's own trap: on the kernel's data plane a packet that no SA takes makes charon negotiate (ECMP-7, "when traffic enters").

The trap is a policy of charon's with no SA behind it. The kernel drops the packet that meets it and tells charon (XFRM_MSG_ACQUIRE), which
says so in its log and negotiates by itself. It stays while the tunnel is up: after a loss the next packet does the same. libipsec tells
charon nothing, there the packet is heard by ``doorway``.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from harness.ipsec.line import Line
from harness.ipsec.vici_session import ViciSession

_ACQUIRED = re.compile(r"creating acquire job for policy (?P<source>\S+) === (?P<destination>\S+) with reqid")
_SELECTOR = re.compile(r"(?P<address>[0-9.]+)(?:/32)?(?:\[(?P<protocol>[^]/]+)(?:/(?P<port>[^]]+))?\])?")


class Trap:
    """``entered(packet)`` is called for each packet that charon takes for a reason to negotiate, with the packet in words."""

    def __init__(self, name: str, line: Line, entered: Callable[[str], None]) -> None:
        self._names = {"ike": name, "child": name}
        self._line = line
        self._entered = entered

    async def install(self, vici: ViciSession) -> None:
        """From now on packets are taken. Raises ViciError."""
        await vici.request("install", self._names)

    async def uninstall(self, vici: ViciSession) -> None:
        """From now on none. Raises ViciError."""
        await vici.request("uninstall", self._names)

    def open(self) -> None:
        """Lets packets in while there is no SA; the line stays down."""
        self._line.let_in()

    def close(self) -> None:
        """Nothing: a tunnel that is up has its trap as well, and whoever moves the line next decides."""

    def heard(self, line: str) -> None:
        """Takes a line of charon's log."""
        if found := _ACQUIRED.search(line):
            self._entered(in_words(found["source"], found["destination"]))


def in_words(source: str, destination: str) -> str:
    """Two traffic selectors of charon's log as ``doorway`` writes a packet: ``TCP 169.254.10.1:40000 > 169.254.10.2:179``."""
    ends = [_SELECTOR.fullmatch(source), _SELECTOR.fullmatch(destination)]
    words, protocol = [], ""
    for end, text in zip(ends, (source, destination), strict=True):
        if end is None or end["protocol"] is None:
            words.append(end["address"] if end else text)
            continue
        protocol = end["protocol"]
        ported = protocol.lower() in ("tcp", "udp", "6", "17") and end["port"]
        words.append(f"{end['address']}:{_port(end['port'], protocol)}" if ported else end["address"])
    return " ".join(filter(None, (_PROTOCOLS.get(protocol.lower(), protocol), f"{words[0]} > {words[1]}")))


_PROTOCOLS = {"1": "ICMP", "6": "TCP", "17": "UDP", "icmp": "ICMP", "tcp": "TCP", "udp": "UDP"}


def _port(text: str, protocol: str) -> str:
    """charon writes a port by its name where /etc/services has one."""
    if text.isdecimal():
        return text
    try:
        return str(socket.getservbyname(text, _PROTOCOLS[protocol.lower()].lower()))
    except OSError:
        return text
