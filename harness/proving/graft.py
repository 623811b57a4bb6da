"""A device as its text has it, in a plan whose world does not move with it.

The provider's router, the data centre and the cloud stay those of the plan: a device that names another next hop meets nobody
there. Pure data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

from harness.asa.config import Value
from harness.asa.running import BgpNeighbor, Running
from harness.cloud.sites import bgp_identifier
from harness.plan import End, Link, Neighbor, Node, Plan, Route, Speaker, Tunnel

OUTSIDE, INSIDE, TUNNEL = "outside1", "private", "ipsec0"
"""The device's interfaces as the lab calls them, whatever the text does."""

_HOST_NAME = "ciscoasa"


def graft(plan: Plan, node: str, device: Running) -> Plan:
    """``plan`` with the device in the place of ``node``: its addresses, ways, speaker and tunnel."""
    part = any(end.shared for end, _ in plan.interfaces(node))
    nodes = [_node(each, device, part) if each.name == node else each for each in plan.nodes]
    others = {
        address.partition("/")[0]
        for name, addresses in (
            # Nodes that together stand for one device have its addresses in common.
            *((end.node, end.addresses) for link in plan.links for end in link.ends() if not end.shared),
            *((each.name, each.addresses) for each in plan.nodes),
        )
        if name != node
        for address in addresses
    }
    return replace(
        plan, nodes=tuple(nodes), links=tuple(_link(link, node, device, others, part) for link in plan.links)
    )


def interfaces(device: Running) -> dict[str, str]:
    """The lab's interface for each nameif that has one."""
    pairs = ((device.outside, OUTSIDE), (device.inside, INSIDE), (device.value("nameif"), TUNNEL))
    return {nameif: interface for nameif, interface in pairs if nameif is not None}


def _link(link: Link, node: str, device: Running, others: Collection[str], part: bool) -> Link:
    """``part``: the node is one of several that stand for the device. Each keeps the address on the LAN that the lab gave it."""

    def end(old: End) -> End:
        if old.node != node or (part and old.interface == INSIDE):
            return old
        port = device.ports.get({OUTSIDE: device.outside, INSIDE: device.inside}.get(old.interface) or "")
        # A port that is shut down answers by no address, nor does one with somebody else's, who has it first.
        there = port is not None and port.up and port.address is not None and str(port.address.ip) not in others
        return replace(old, addresses=(str(port.address),) if port is not None and there else ())

    return replace(link, a=end(link.a), b=end(link.b))


def _node(old: Node, device: Running, part: bool) -> Node:
    return replace(
        old,
        routes=tuple(_routes(device)),
        speaker=_speaker(old, device, part),
        tunnel=_tunnel(old, device) if old.tunnel else None,
    )


def _routes(device: Running) -> Iterator[Route]:
    names, own = interfaces(device), {str(port.address.ip) for port in device.ports.values() if port.address}
    taken = set()
    for way in sorted(device.ways, key=lambda each: each.metric):
        gateway, interface = IPv4Address(way.gateway), names.get(way.nameif)
        port = device.ports.get(way.nameif)
        if (
            interface in (None, TUNNEL)
            or port is None
            or not port.up
            or way.prefix in taken
            or way.gateway in own
            or not _a_host(gateway)
        ):
            continue
        taken.add(way.prefix)
        yield Route(way.prefix, way.gateway, interface, onlink=True)


def _a_host(address: IPv4Address) -> bool:
    return not (address.is_multicast or address.is_unspecified or address.is_loopback or int(address) >> 28 == 15)


def _speaker(old: Node, device: Running, part: bool) -> Speaker | None:
    if device.asn is None or old.speaker is None:
        return None
    inner: IPv4Interface | None = device.value("address")
    cloud, *others = old.speaker.neighbors
    neighbors: list[Neighbor] = []
    for each in by_the_tunnel(device):
        if each.remote_asn is None or not each.active or not _a_host(IPv4Address(each.address)):
            continue
        if inner is not None and IPv4Address(each.address) == inner.ip:
            continue
        if part and neighbors:  # of the device's other tunnel, which another node has
            continue
        name = cloud.name if not neighbors else each.address
        local = None if inner is None else str(inner.ip)
        hops = max(2, each.hops) if each.remote_asn != device.asn.value else None
        key = None if each.key is None else each.key.reveal()
        neighbors.append(
            Neighbor(name, each.address, each.remote_asn, local, ebgp_multihop=hops, fall_over=True, key=key)
        )
    taken = {each.address for each in neighbors}
    addresses = [str(port.address.ip) for port in device.ports.values() if port.address is not None]
    return replace(
        old.speaker,
        asn=device.asn.value,
        router_id=bgp_identifier(tuple(addresses)) if addresses and not part else old.speaker.router_id,
        neighbors=(*neighbors, *(other for other in others if other.address not in taken)),
        networks=tuple(device.networks),
    )


def by_the_tunnel(device: Running) -> list[BgpNeighbor]:
    """The neighbours, those in the tunnel's block first."""
    inner: IPv4Interface | None = device.value("address")
    return sorted(device.neighbors, key=lambda each: inner is None or IPv4Address(each.address) not in inner.network)


def _tunnel(old: Node, device: Running) -> Tunnel | None:
    """None where the device would not answer: no IKEv2 on that port, no proposal, no address to start from."""
    assert old.tunnel is not None
    source, inner, remote = device.source, device.value("address"), device.value("destination")
    complete = source is not None and source.address is not None and inner is not None and remote is not None
    ready = device.listens and device.ike and device.esp and device.value("mode") and device.value("profile")
    if not (complete and ready and _runs(device)):
        return None
    keys = {side: value.value.reveal() for side, value in device.keys.items()}
    local = str(source.address.ip)  # type: ignore[union-attr]
    identity = device.identity
    return replace(
        old.tunnel,
        local=local,
        remote=remote,
        local_id=local
        if identity == "address"
        else _HOST_NAME
        if identity == "hostname"
        else identity.split(" ", 1)[1],
        remote_id=remote,
        key=keys.get("local", "") if len(keys) == 2 else "",
        peer_key=keys["remote"] if len(keys) == 2 and keys["remote"] != keys["local"] else None,
        interface=TUNNEL,
        address=str(inner),
        initiate="none",
        ike=device.ike[0].ike,
        ike_offers=tuple(offer.ike for offer in device.ike[1:]),
        esp=device.esp[0].esp,
        esp_offers=tuple(offer.esp for offer in device.esp[1:]),
    )


def _runs(device: Running) -> bool:
    return bool(device.tunnel is not None and device.tunnel.values.get("up", Value(True, 0)).value)
