"""A gateway device as ASA 9.19.1 text: the commands of document 001 in its order, names and numbers included (ECMP-11, ECMP-32).

The text holds the key. Who writes it to a file gives the file mode 0600.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface, IPv4Network

from harness.asa import words
from harness.cloud.resources import GatewayDevice

OUTSIDE, PRIVATE, TUNNEL = "outside1", "private", "ALIYUN"
PROPOSAL, PROFILE = "ALIYUN-PROPOSAL", "ALIYUN-PROFILE"


class NotRendered(ValueError):
    """The device has a value that no ASA command can express: the text names it."""


def interfaces(device: GatewayDevice, lan: str) -> tuple[str, ...]:
    """The eight lines that the document shows of ``show running-config interface``: they are there before the rest (ECMP-33)."""
    inside = IPv4Interface((device.private_address, IPv4Network(lan).prefixlen))
    return (
        "interface GigabitEthernet0/0",
        f" nameif {OUTSIDE}",
        " security-level 0",
        f" ip address {device.public_address} 255.255.255.255",
        "interface GigabitEthernet0/1",
        f" nameif {PRIVATE}",
        " security-level 100",
        f" ip address {inside.ip} {inside.netmask}",
    )


def commands(device: GatewayDevice) -> tuple[str, ...]:
    """The document's 41 commands (40 without PFS). Raises NotRendered."""
    return _all_commands([device])


def render(devices: Sequence[GatewayDevice], lan: str) -> str:
    """The whole text: the interfaces, then the commands, ``!`` between them. Raises NotRendered.

    Several are one device with several tunnels (VPN-24): what they share stands once.
    """
    return "\n".join(("!", *interfaces(devices[0], lan), "!", *_all_commands(devices), "!", ""))


def _all_commands(devices: Sequence[GatewayDevice]) -> tuple[str, ...]:
    try:
        return tuple(_commands(devices))
    except KeyError as error:
        known = "the documents' words"
        raise NotRendered(
            f"{devices[0].name}: {error} is no algorithm that an ASA has a word for; use {known}"
        ) from None


def _commands(devices: Sequence[GatewayDevice]) -> Iterator[str]:
    first = devices[0]
    yield f"crypto ikev2 enable {OUTSIDE}"
    for number, ike in enumerate(dict.fromkeys(device.ike for device in devices), 1):
        yield f"crypto ikev2 policy {10 * number}"
        yield f" encryption {words.asa_word(words.ENCRYPTION, ike.encryption)}"
        yield f" integrity {words.asa_word(words.INTEGRITY, ike.integrity)}"
        yield f" group {words.asa_word(words.GROUP, ike.dh_group)}"
        yield f" prf {words.asa_word(words.INTEGRITY, ike.prf)}"
        yield f" lifetime seconds {ike.lifetime}"
    profiles = {esp: "" if n == 1 else str(n) for n, esp in enumerate(dict.fromkeys(d.esp for d in devices), 1)}
    for esp, mark in profiles.items():
        yield f"crypto ipsec ikev2 ipsec-proposal {PROPOSAL}{mark}"
        yield f" protocol esp encryption {words.asa_word(words.ENCRYPTION, esp.encryption)}"
        yield f" protocol esp integrity {words.asa_word(words.ESP_INTEGRITY, esp.integrity)}"
        yield f"crypto ipsec profile {PROFILE}{mark}"
        yield f" set ikev2 ipsec-proposal {PROPOSAL}{mark}"
        yield " set ikev2 local-identity address"
        if esp.pfs is not None:
            yield f" set pfs {words.asa_word(words.PFS, esp.pfs)}"
        yield f" set security-association lifetime seconds {esp.lifetime}"
        yield " set security-association lifetime kilobytes unlimited"
    for device in devices:
        yield f"tunnel-group {device.gateway_address} type ipsec-l2l"
        yield f"tunnel-group {device.gateway_address} ipsec-attributes"
        yield f" ikev2 remote-authentication pre-shared-key {device.key}"
        yield f" ikev2 local-authentication pre-shared-key {device.key}"
    for number, device in enumerate(devices, 1):
        inner = IPv4Interface(device.tunnel_address)
        yield f"interface Tunnel{number}"
        yield f" nameif {TUNNEL}{number}"
        yield f" ip address {inner.ip} {inner.netmask}"
        yield f" tunnel source interface {OUTSIDE}"
        yield f" tunnel destination {device.gateway_address}"
        yield " tunnel mode ipsec ipv4"
        yield f" tunnel protection ipsec profile {PROFILE}{profiles[device.esp]}"
        yield " no shutdown"
    for device in devices:
        yield f"route {OUTSIDE} {device.gateway_address} 255.255.255.255 {device.provider_next_hop}"
    blocks = [IPv4Network(block) for block in first.networks]
    for block in blocks:
        yield f"route {PRIVATE} {block.network_address} {block.netmask} {first.clients_next_hop}"
    yield f"router bgp {first.asn}"
    yield " address-family ipv4 unicast"
    for device in devices:
        yield f"  neighbor {device.neighbor} remote-as {device.neighbor_asn}"
        yield f"  neighbor {device.neighbor} ebgp-multihop {device.ebgp_multihop}"
        yield f"  neighbor {device.neighbor} activate"
    for block in blocks:
        yield f"  network {block.network_address} mask {block.netmask}"
    yield " exit-address-family"
