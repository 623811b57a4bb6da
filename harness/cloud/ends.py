"""The cloud's end of every tunnel of an estate, of whichever kind: what the device at the other end has to know (ECMP-11, VPN-24)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from typing import Protocol

from harness.cloud.resilience import ResilienceEstate
from harness.cloud.resources import Estate
from harness.cloud.vpn import VpnEstate, tunnel_words, tunnels_of
from harness.plan import Esp, Ike

Sided = Estate | VpnEstate
"""The estates that have tunnels; a ResilienceEstate has one of the second kind."""


class TunnelEnd(Protocol):
    """What a device's text is held against."""

    @property
    def name(self) -> str: ...
    @property
    def gateway_address(self) -> str: ...
    @property
    def tunnel_cidr(self) -> str: ...
    @property
    def local_bgp_address(self) -> str: ...
    @property
    def local_asn(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def ike(self) -> Ike: ...
    @property
    def esp(self) -> Esp: ...


@dataclass(frozen=True, slots=True)
class CloudEnd:
    """The cloud's end of one tunnel. ``connection`` is its IPsec connection's name, ``name`` in dual-tunnel mode says which tunnel too."""

    name: str
    connection: str
    node: str
    customer_gateway: str
    gateway_address: str
    tunnel_cidr: str
    local_bgp_address: str
    local_asn: int
    key: str = field(repr=False)
    ike: Ike
    esp: Esp
    bgp: bool


def with_tunnels(estate: object) -> Sided | None:
    """The part of an estate that has tunnels; None where it has none."""
    if isinstance(estate, ResilienceEstate):
        return estate.vpn
    return estate if isinstance(estate, (Estate, VpnEstate)) else None


def ends_of(estate: Sided) -> tuple[CloudEnd, ...]:
    """Every tunnel's end, in the estate's order. Those of a VPN gateway without a customer gateway are left out: nobody is there."""
    return tuple(_of_transit_routers(estate) if isinstance(estate, Estate) else _of_gateways(estate))


def _of_transit_routers(estate: Estate) -> Iterator[CloudEnd]:
    for each in estate.ipsec_connections:
        yield CloudEnd(
            each.name, each.name, each.node, each.customer_gateway, each.gateway_address, each.tunnel_cidr,
            each.local_bgp_address, each.local_asn, each.key, each.ike, each.esp, each.bgp,
        )  # fmt: skip


def _of_gateways(estate: VpnEstate) -> Iterator[CloudEnd]:
    devices = {device.gateway_address: device for centre in estate.data_centres for device in centre.devices}
    for connection, tunnel in tunnels_of(estate):
        device = devices.get(tunnel.gateway_address)
        # Without BGP a tunnel needs no block of its own; the lab then gives it the device's.
        inner = None if device is None else str(IPv4Interface(device.tunnel_address).network)
        block = tunnel.tunnel_cidr or inner
        local = tunnel.local_bgp_address or (None if device is None else device.neighbor)
        if tunnel.customer_gateway is None or block is None or local is None:
            continue
        yield CloudEnd(
            tunnel_words(connection, tunnel), connection.name, tunnel.node, tunnel.customer_gateway, tunnel.gateway_address,
            block, local, tunnel.local_asn, tunnel.key, tunnel.ike, tunnel.esp, connection.bgp,
        )  # fmt: skip
