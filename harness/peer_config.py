"""What a connection's other end is to be configured with, and which connection a device's text belongs to (ECMP-11, ECMP-31).

Joins the cloud's side of an estate with the forms of ``asa`` and ``ipsec``. The texts hold keys: :func:`save` gives the file mode 0600.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from harness.asa import render as asa
from harness.cloud.build_data_centre import attach_data_centre
from harness.cloud.ends import CloudEnd, Sided, ends_of
from harness.cloud.resources import CustomerGateway, DataCentre, Estate, GatewayDevice
from harness.ipsec import swanctl
from harness.plan import Node, Tunnel


class NoPeer(LookupError):
    """The estate has no such connection, or none that fits: the text names those there are."""


class Form(StrEnum):
    """The forms in which a peer configuration can be had."""

    ASA = "asa"
    STRONGSWAN = "strongswan"
    FRR = "frr"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Peer:
    """The cloud's end of a tunnel with its customer gateway and the data centre's device there."""

    estate: Sided
    connection: CloudEnd
    gateway: CustomerGateway
    centre: DataCentre
    device: GatewayDevice

    def expected(self) -> GatewayDevice:
        """The device as the cloud's side needs it: the cloud's key, algorithms and BGP values, the device's own addresses."""
        connection = self.connection
        block = IPv4Network(connection.tunnel_cidr)
        free = next(str(host) for host in block.hosts() if str(host) != connection.local_bgp_address)
        return replace(
            self.device,
            public_address=self.gateway.address,
            gateway_address=connection.gateway_address,
            tunnel_address=f"{free}/{block.prefixlen}",
            neighbor=connection.local_bgp_address,
            key=connection.key,
            asn=self.device.asn if self.gateway.asn is None else self.gateway.asn,
            neighbor_asn=connection.local_asn,
            networks=self.centre.blocks,
            ike=connection.ike,
            esp=connection.esp,
        )


def find(estate: Sided, name: str) -> tuple[Peer, ...]:
    """The connection of a name, or of the node or the name of one of its tunnels: a peer for each tunnel that is meant. Raises NoPeer.

    In dual-tunnel mode a connection's own name means both tunnels, if one device is to have them.
    """
    ends = ends_of(estate)
    found = [end for end in ends if name in (end.name, end.node)] or [end for end in ends if name == end.connection]
    if isinstance(estate, Estate) and name in estate.unattached:
        rule = "is attached to no transit router yet, and its gateway IP address is assigned when it is (ECMP-4)"
        raise NoPeer(f"{name} {rule}; attach it first")
    if not found:
        names = ", ".join(f"{each.node} ({each.name})" for each in ends)
        raise NoPeer(f"{estate.name} has no IPsec connection {name!r}; there are {names or 'none'}")
    if len({end.customer_gateway for end in found}) > 1:
        names = " or ".join(f"{each.node} ({each.name})" for each in found)
        raise NoPeer(f"the tunnels of {name} lead to different customer gateways, so to two devices: name {names}")
    return tuple(_peer(estate, end) for end in found)


def belonging(estate: Sided, destinations: tuple[str, ...], addresses: tuple[str, ...]) -> tuple[Peer, ...]:
    """The connection that a device's tunnel leads to, or else the one made for the device's public address. Raises NoPeer.

    Where the device has both tunnels of one customer gateway, each of them.
    """
    ends = ends_of(estate)
    reached = [end for end in ends if end.gateway_address in destinations]
    if reached:
        return tuple(_peer(estate, end) for end in reached if end.customer_gateway == reached[0].customer_gateway)
    owners = {gateway.name: gateway.address for gateway in estate.customer_gateways}
    for end in ends:
        if owners.get(end.customer_gateway) in addresses:
            return (_peer(estate, end),)
    names = ", ".join(each.node for each in ends)
    raise NoPeer(f"{estate.name} has no IPsec connection for this device; name one with --connection: {names}")


def _peer(estate: Sided, end: CloudEnd) -> Peer:
    gateway = next(each for each in estate.customer_gateways if each.name == end.customer_gateway)
    devices = [(centre, device) for centre in estate.data_centres for device in centre.devices]
    told = [each for each in devices if each[1].gateway_address == end.gateway_address]
    for centre, device in told or [each for each in devices if each[1].public_address == gateway.address]:
        return Peer(estate, end, gateway, centre, device)
    raise NoPeer(f"{end.name}: no gateway device has the address {gateway.address} of {gateway.name}; add one")


def _asa(peers: Sequence[Peer]) -> str:
    return asa.render([peer.expected() for peer in peers], peers[0].centre.lan)


def _strongswan(peers: Sequence[Peer]) -> str:
    return "\n".join(swanctl.render(_tunnel(peer), peer.connection.node) for peer in peers)


def _tunnel(peer: Peer) -> Tunnel:
    """The device's end of the tunnel, as the lab of this estate would have it."""
    nodes: list[Node] = []
    centre = replace(peer.centre, devices=(peer.expected(),))
    attach_data_centre(centre, peer.estate.timers, lambda device: device.gateway_address, nodes, [])
    return next(node.tunnel for node in nodes if node.tunnel is not None)


def _frr(peers: Sequence[Peer]) -> str:
    devices = [peer.expected() for peer in peers]
    first = devices[0]
    lines = [f"router bgp {first.asn}", f" bgp router-id {first.public_address}", " no bgp ebgp-requires-policy"]
    for device in devices:
        lines += [
            f" neighbor {device.neighbor} remote-as {device.neighbor_asn}",
            f" neighbor {device.neighbor} ebgp-multihop {device.ebgp_multihop}",
            f" neighbor {device.neighbor} update-source {IPv4Interface(device.tunnel_address).ip}",
        ]
    lines += [
        " address-family ipv4 unicast",
        *(f"  network {block}" for block in first.networks),
        *(f"  neighbor {device.neighbor} activate" for device in devices),
        " exit-address-family",
        "exit",
    ]
    return "\n".join(lines) + "\n"


def _json(peers: Sequence[Peer]) -> str:
    """One object for a tunnel, a list of them for two."""
    made = [{"connection": peer.connection.name, **dataclasses.asdict(peer.expected())} for peer in peers]
    return json.dumps(made if len(made) > 1 else made[0], indent=1) + "\n"


_FORMS: Mapping[Form, Callable[[Sequence[Peer]], str]] = {
    Form.ASA: _asa,
    Form.STRONGSWAN: _strongswan,
    Form.FRR: _frr,
    Form.JSON: _json,
}

#: The forms that are of no use without BGP.
_OF_BGP = (Form.ASA, Form.FRR)


def render(peers: Sequence[Peer], form: Form) -> str:
    """The configuration of a peer's device in a form, or of one device with two tunnels. All but FRR's hold the key. Raises NoPeer."""
    without = next((peer.connection.name for peer in peers if not peer.connection.bgp), None)
    if without is not None and form in _OF_BGP:
        raise NoPeer(
            f"{without}: BGP is disabled, and {form} configures the device for it; enable BGP, or take strongswan"
        )
    return _FORMS[form](peers)


def save(text: str, path: Path) -> None:
    """Writes a text with a key: the file is the user's alone (mode 0600) from before it has a word in it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
