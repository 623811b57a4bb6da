"""The configuration check of ECMP-31: a device as read against the cloud's side of its connection, value by value, before anything starts.

Lifetimes and the PRF are not negotiated by IKEv2 or come as part of a proposal, so that no running tunnel would tell; here both
values are named. Keys are compared and never shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv4Network

from harness.asa import words
from harness.asa.config import AsaConfig, Remark, Weight
from harness.asa.device import AsaDevice, NotADevice, read_device
from harness.cloud.ends import TunnelEnd
from harness.cloud.resources import CustomerGateway, GatewayDevice


@dataclass(frozen=True, slots=True)
class _Fit:
    """One pair of values that must be equal. ``write`` makes the command that would fit from the cloud's value."""

    where: str
    what: str
    device: Callable[[GatewayDevice], object]
    cloud: Callable[[TunnelEnd, CustomerGateway], object]
    consequence: str
    write: Callable[[object], str]


def _written(command: str, table: dict[str, str | None] | None = None) -> Callable[[object], str]:
    def write(value: object) -> str:
        return f"{command} {value if table is None else words.asa_word(table, str(value))}"

    return write


def _pfs(value: object) -> str:
    return "no set pfs" if value is None else f"set pfs {value}"


_NO_IKE = "the IKE SA fails with NO_PROPOSAL_CHOSEN"
_NO_ESP = "the IKE SA comes up, its child fails with NO_PROPOSAL_CHOSEN"
_NO_BGP = "the BGP session does not come up"
_QUIET = "IKEv2 does not negotiate it: each side rekeys by its own"

_FITS: tuple[_Fit, ...] = (
    _Fit(
        "public_address",
        "public address",
        lambda device: device.public_address,
        lambda _, gateway: gateway.address,
        "the identities differ, AUTHENTICATION_FAILED or no answer",
        lambda value: f"ip address {value} 255.255.255.255",
    ),
    _Fit(
        "gateway_address",
        "tunnel destination",
        lambda device: device.gateway_address,
        lambda connection, _: connection.gateway_address,
        "nobody answers there",
        _written("tunnel destination"),
    ),
    _Fit(
        "ike.encryption",
        "IKE encryption",
        lambda device: device.ike.encryption,
        lambda connection, _: connection.ike.encryption,
        _NO_IKE,
        _written("encryption", dict(words.ENCRYPTION)),
    ),
    _Fit(
        "ike.integrity",
        "IKE integrity",
        lambda device: device.ike.integrity,
        lambda connection, _: connection.ike.integrity,
        _NO_IKE,
        _written("integrity", dict(words.INTEGRITY)),
    ),
    _Fit(
        "ike.prf",
        "PRF",
        lambda device: device.ike.prf,
        lambda connection, _: connection.ike.prf,
        _NO_IKE,
        _written("prf", dict(words.INTEGRITY)),
    ),
    _Fit(
        "ike.dh_group",
        "IKE DH group",
        lambda device: device.ike.dh_group,
        lambda connection, _: connection.ike.dh_group,
        _NO_IKE,
        _written("group", dict(words.GROUP)),
    ),
    _Fit(
        "ike.lifetime",
        "IKE lifetime",
        lambda device: device.ike.lifetime,
        lambda connection, _: connection.ike.lifetime,
        _QUIET,
        _written("lifetime seconds"),
    ),
    _Fit(
        "esp.encryption",
        "ESP encryption",
        lambda device: device.esp.encryption,
        lambda connection, _: connection.esp.encryption,
        _NO_ESP,
        _written("protocol esp encryption", dict(words.ENCRYPTION)),
    ),
    _Fit(
        "esp.integrity",
        "ESP integrity",
        lambda device: device.esp.integrity,
        lambda connection, _: connection.esp.integrity,
        _NO_ESP,
        _written("protocol esp integrity", dict(words.ESP_INTEGRITY)),
    ),
    _Fit(
        "esp.pfs",
        "PFS group",
        lambda device: device.esp.pfs,
        lambda connection, _: connection.esp.pfs,
        "the tunnel comes up and fails at its first rekey",
        _pfs,
    ),
    _Fit(
        "esp.lifetime",
        "IPsec lifetime",
        lambda device: device.esp.lifetime,
        lambda connection, _: connection.esp.lifetime,
        _QUIET,
        _written("set security-association lifetime seconds"),
    ),
    _Fit(
        "asn",
        "AS number",
        lambda device: device.asn,
        lambda _, gateway: gateway.asn,
        f"OPEN is refused with Bad Peer AS, {_NO_BGP}",
        _written("router bgp"),
    ),
    _Fit(
        "neighbor",
        "BGP neighbour",
        lambda device: device.neighbor,
        lambda connection, _: connection.local_bgp_address,
        _NO_BGP,
        lambda value: f"neighbor {value} remote-as ASN",
    ),
    _Fit(
        "neighbor_asn",
        "the neighbour's AS number",
        lambda device: device.neighbor_asn,
        lambda connection, _: connection.local_asn,
        f"OPEN is refused with Bad Peer AS, {_NO_BGP}",
        lambda value: f"remote-as {value} for that neighbour",
    ),
)


def check(
    config: AsaConfig, connection: TunnelEnd, gateway: CustomerGateway, blocks: Iterable[str] = ()
) -> list[Remark]:
    """What does not fit, in the text's order, notes last; empty when everything does. ``blocks`` are to be announced (ECMP-12)."""
    try:
        found = read_device(config, gateway.name, connection)
    except NotADevice as error:
        return _sorted(error.remarks)
    remarks = [*found.remarks, *_unequal(found, connection, gateway), *_keys(found, connection)]
    remarks += [*_inner_addresses(found, connection), *_networks(found, blocks)]
    # What is missing because a later "no" took it back has that line.
    return _sorted(each if each.line else replace(each, line=config.who_took_back(each.remedy)) for each in remarks)


def _unequal(found: AsaDevice, connection: TunnelEnd, gateway: CustomerGateway) -> Iterator[Remark]:
    for fit in _FITS:
        device, cloud = fit.device(found.device), fit.cloud(connection, gateway)
        if device != cloud:
            values = f"{fit.what}: device {_shown(device)}, cloud {_shown(cloud)} ({fit.consequence})"
            weight = Weight.NOTE if fit.consequence is _QUIET else Weight.ERROR
            yield Remark(found.lines.get(fit.where), values, f"To fit the cloud write {fit.write(cloud)}", weight)


def _keys(found: AsaDevice, connection: TunnelEnd) -> Iterator[Remark]:
    for side, key in found.keys.items():
        if key.reveal() != connection.key:
            rule = f"the {side} pre-shared key is not that of {connection.name} (AUTHENTICATION_FAILED)"
            yield Remark(found.lines[f"{side}-key"], rule, "Give both sides the same key")


def _inner_addresses(found: AsaDevice, connection: TunnelEnd) -> Iterator[Remark]:
    inner, block = IPv4Interface(found.device.tunnel_address), IPv4Network(connection.tunnel_cidr)
    free = next(str(host) for host in block.hosts() if str(host) != connection.local_bgp_address)
    if str(inner.ip) != free or inner.network != block:
        reached = "the mask alone differs" if str(inner.ip) == free else _NO_BGP
        weight = Weight.NOTE if str(inner.ip) == free else Weight.ERROR
        rule = f"tunnel address: device {inner}, cloud expects {free}/{block.prefixlen} ({reached})"
        remedy = f"To fit the cloud write ip address {free} {block.netmask}"
        yield Remark(found.lines["tunnel_address"], rule, remedy, weight)
    if found.device.ebgp_multihop < 2:
        rule = f"ebgp-multihop: device {found.device.ebgp_multihop}, document 255"
        remedy = f"Add neighbor {found.device.neighbor} ebgp-multihop 255"
        yield Remark(found.lines.get("ebgp_multihop"), rule, remedy, Weight.NOTE)


def _networks(found: AsaDevice, blocks: Iterable[str]) -> Iterator[Remark]:
    for block in blocks:
        if block not in found.device.networks:
            network = IPv4Network(block)
            rule = f"client block {block} is not announced, so the cloud has no route to it"
            yield Remark(None, rule, f"Add network {network.network_address} mask {network.netmask}")


def _shown(value: object) -> object:
    return "none" if value is None else value


def _sorted(remarks: Iterable[Remark]) -> list[Remark]:
    return sorted(remarks, key=lambda remark: (remark.weight is Weight.NOTE, remark.line is None, remark.line or 0))
