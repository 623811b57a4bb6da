"""Two speakers started together: how long until both have said KEEPALIVE to each other's OPEN, seen on the wire between them.

The wire is asked, not the daemons, so that all are judged alike: with the KEEPALIVE of both sides on the way the session is Established
(RFC 4271 8.2.2). Everything has its default timers.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from bench.contenders import Contender, Peer, Running, Self, our_configuration
from harness.net import rtnl
from harness.net.namespace import Namespace
from harness.net.rtnl import Rtnl
from harness.net.zygote import Zygote

LEFT, RIGHT = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
LEFT_ASN, RIGHT_ASN = 64601, 64602
WITHIN = 60.0
_ETH_P_ALL, _TCP, _KEEPALIVE = 3, 6, 4  # only with ETH_P_ALL the socket sees what leaves, too
_MARKER = b"\xff" * 16


def wired() -> tuple[Namespace, Namespace]:
    """Two namespaces with a wire between them, addressed and up."""
    nodes = Namespace.create("left"), Namespace.create("right")
    with Rtnl(nodes[0]) as left, Rtnl(nodes[1]) as right:
        left.transact([rtnl.veth("wire", "wire", nodes[1].fd, ifindex=2, peer_ifindex=2)])
        for netlink, address in ((left, LEFT), (right, RIGHT)):
            up = [rtnl.link_set(1, up=True), rtnl.link_set(2, up=True), rtnl.address(2, f"{address}/24")]
            netlink.transact(up)
    return nodes


def keepalives(sniffer: socket.socket) -> float:
    """The moment at which both sides have sent a KEEPALIVE. Raises TimeoutError."""
    waiting = {LEFT.packed, RIGHT.packed}
    end = time.monotonic() + WITHIN
    while waiting:
        sniffer.settimeout(max(0.001, end - time.monotonic()))
        packet = sniffer.recv(65536)
        header = (packet[0] & 15) * 4
        if packet[0] >> 4 != 4 or packet[9] != _TCP or len(packet) < header + 20:
            continue
        payload = packet[header + (packet[header + 12] >> 4) * 4 :]
        if _KEEPALIVE in _kinds(payload):
            waiting.discard(packet[12:16])
    return time.monotonic()


def _kinds(payload: bytes) -> set[int]:
    kinds, at = set(), 0
    while payload[at : at + 16] == _MARKER and len(payload) >= at + 19:
        kinds.add(payload[at + 18])
        at += int.from_bytes(payload[at + 16 : at + 18], "big") or len(payload)
    return kinds


def established(contender: Contender, key: str | None) -> float:
    """Seconds from the start of both to Established."""
    nodes = wired()
    with nodes[0].entered():
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    sniffer.bind(("wire", _ETH_P_ALL))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory, sniffer:
        sides = []
        for name, own, asn, far, far_asn in (
            ("left", LEFT, LEFT_ASN, RIGHT, RIGHT_ASN),
            ("right", RIGHT, RIGHT_ASN, LEFT, LEFT_ASN),
        ):
            folder = Path(directory) / name
            folder.mkdir()
            sides.append(Self(asn, own, [Peer(far_asn, far, passive=False, key=key)], folder))
        start = _forked if contender.name == "ours" else _executed
        return start(contender, nodes, sides, lambda: keepalives(sniffer))


def _executed(
    contender: Contender, nodes: tuple[Namespace, Namespace], sides: list[Self], done: Callable[[], float]
) -> float:
    began = time.monotonic()
    running: list[Running] = []
    try:
        for node, side in zip(nodes, sides, strict=True):
            running.append(contender.start(node, side))
        return done() - began
    except TimeoutError:
        raise TimeoutError(f"{contender.name}: {' | '.join(one.words() for one in running)}") from None
    finally:
        for one in running:
            one.end()


def _forked(_: Contender, nodes: tuple[Namespace, Namespace], sides: list[Self], done: Callable[[], float]) -> float:
    """As in a lab: the zygote stands, with the speaker imported."""
    with Zygote.start(["harness.bgp.daemon"]) as zygote:
        zygote.spawn("builtins:list", [], nodes[0].fd, "warm", Path(os.devnull)).wait(10.0)
        files = []
        for side in sides:
            files.append(side.folder / "speaker.json")
            files[-1].write_text(json.dumps(our_configuration(side)))
        began = time.monotonic()
        for node, side, file in zip(nodes, sides, files, strict=True):
            zygote.spawn("harness.bgp.daemon:main", ["--config", str(file)], node.fd, "speaker", side.folder / "log")
        return done() - began
