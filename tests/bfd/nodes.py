"""Two nodes on a switch, and speakers with BFD in them. Needs root."""

from __future__ import annotations

from typing import Any

from harness.net import rtnl
from tests.bgp.rig import Daemon, Rig

FAST = {"interval_ms": 50, "multiplier": 3}
Options = dict[str, Any] | None
IPV4, IPV6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")


def switched(rig: Rig, addresses: tuple[str, str] = IPV4) -> int:
    """Nodes a and b on a switch: cutting b's cable at the switch (the index returned) leaves a its carrier."""
    sw = rig.node("sw")
    sw.transact([rtnl.bridge("br", ifindex=2), rtnl.link_set(2, up=True)])
    for number, (node, address) in enumerate(zip("ab", addresses, strict=True), 11):
        host = rig.node(node)
        rig.nodes[node].sysctl({"net.ipv6.conf.all.accept_dad": "0", "net.ipv6.conf.default.accept_dad": "0"})
        sw.transact([rtnl.veth(f"to-{node}", "eth0", rig.nodes[node].fd, ifindex=number, peer_ifindex=number)])
        sw.transact([rtnl.link_set(number, up=True, master=2)])
        length = 64 if ":" in address else 24
        host.transact([rtnl.link_set(number, up=True), rtnl.address(number, f"{address}/{length}")])
        host.transact([rtnl.link_get(number)])
        sw.transact([rtnl.link_get(number)])
    return 12


async def speakers(
    rig: Rig, addresses: tuple[str, str], left: Options, right: Options, **neighbor: Any
) -> tuple[Daemon, Daemon]:
    """An eBGP speaker in a and one in b with these BFD options of their neighbour."""
    found = []
    for node, other, asn, far, address, options in (
        ("a", "b", 65001, 65002, addresses[1], left),
        ("b", "a", 65002, 65001, addresses[0], right),
    ):
        config = {"name": other, "address": address, "remote_asn": far, "bfd": options, **neighbor}
        found.append(await rig.speaker(node, asn=asn, router_id=f"{asn - 65000}.1.1.1", neighbors=[config]))
    return found[0], found[1]


async def bfd(daemon: Daemon) -> dict[str, Any]:
    (row,) = await daemon.call("show.neighbors")
    found: dict[str, Any] = row["bfd"]
    return found
