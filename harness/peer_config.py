"""What a connection's other end is to be configured with, and which connection a device's text belongs to (ECMP-11, ECMP-31).

Joins the cloud's side of an estate with the forms of ``asa`` and ``ipsec``. The texts hold keys: :func:`save` gives the file mode 0600.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from harness.asa import render as asa
from harness.cloud.build import compile_estate
from harness.cloud.resources import CustomerGateway, DataCentre, Estate, GatewayDevice, IpsecConnection
from harness.ipsec import swanctl


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
    """A connection with its customer gateway and the data centre's device there."""

    estate: Estate
    connection: IpsecConnection
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


def find(estate: Estate, name: str) -> Peer:
    """The connection of a name or of a node's name. Raises NoPeer."""
    for connection in estate.ipsec_connections:
        if name in (connection.name, connection.node):
            return _peer(estate, connection)
    names = ", ".join(f"{each.node} ({each.name})" for each in estate.ipsec_connections)
    raise NoPeer(f"{estate.name} has no IPsec connection {name!r}; there are {names or 'none'}")


def belonging(estate: Estate, destinations: tuple[str, ...], addresses: tuple[str, ...]) -> Peer:
    """The connection that a device's tunnel leads to, or else the one made for the device's public address. Raises NoPeer."""
    for connection in estate.ipsec_connections:
        if connection.gateway_address in destinations:
            return _peer(estate, connection)
    owners = {gateway.name: gateway.address for gateway in estate.customer_gateways}
    for connection in estate.ipsec_connections:
        if owners.get(connection.customer_gateway) in addresses:
            return _peer(estate, connection)
    names = ", ".join(each.node for each in estate.ipsec_connections)
    raise NoPeer(f"{estate.name} has no IPsec connection for this device; name one with --connection: {names}")


def _peer(estate: Estate, connection: IpsecConnection) -> Peer:
    gateway = next(each for each in estate.customer_gateways if each.name == connection.customer_gateway)
    devices = [(centre, device) for centre in estate.data_centres for device in centre.devices]
    for centre, device in devices:
        if gateway.address == device.public_address or connection.gateway_address == device.gateway_address:
            return Peer(estate, connection, gateway, centre, device)
    raise NoPeer(f"{connection.name}: no gateway device has the address {gateway.address} of {gateway.name}; add one")


def _asa(peer: Peer) -> str:
    return asa.render(peer.expected(), peer.centre.lan)


def _strongswan(peer: Peer) -> str:
    estate = replace(peer.estate, data_centres=(replace(peer.centre, devices=(peer.expected(),)),))
    tunnel = compile_estate(estate)[peer.device.name].tunnel
    assert tunnel is not None
    return swanctl.render(tunnel, peer.connection.node)


def _frr(peer: Peer) -> str:
    device = peer.expected()
    inner = IPv4Interface(device.tunnel_address)
    lines = [
        f"router bgp {device.asn}",
        f" bgp router-id {device.public_address}",
        " no bgp ebgp-requires-policy",
        f" neighbor {device.neighbor} remote-as {device.neighbor_asn}",
        f" neighbor {device.neighbor} ebgp-multihop {device.ebgp_multihop}",
        f" neighbor {device.neighbor} update-source {inner.ip}",
        " address-family ipv4 unicast",
        *(f"  network {block}" for block in device.networks),
        f"  neighbor {device.neighbor} activate",
        " exit-address-family",
        "exit",
    ]
    return "\n".join(lines) + "\n"


def _json(peer: Peer) -> str:
    return json.dumps({"connection": peer.connection.name, **dataclasses.asdict(peer.expected())}, indent=1) + "\n"


_FORMS: Mapping[Form, Callable[[Peer], str]] = {
    Form.ASA: _asa,
    Form.STRONGSWAN: _strongswan,
    Form.FRR: _frr,
    Form.JSON: _json,
}


def render(peer: Peer, form: Form) -> str:
    """The peer's configuration in a form; all but FRR's hold the key."""
    return _FORMS[form](peer)


def save(text: str, path: Path) -> None:
    """Writes a text with a key: the file is the user's alone (mode 0600) from before it has a word in it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
