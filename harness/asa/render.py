"""A gateway device as ASA 9.19.1 text: the commands of document 001 in its order, names and numbers included (ECMP-11, ECMP-32).

The text holds the key. Who writes it to a file gives the file mode 0600.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network

from harness.asa import words
from harness.cloud.resources import GatewayDevice

OUTSIDE, PRIVATE, TUNNEL = "outside1", "private", "ALIYUN1"
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
    try:
        return tuple(_commands(device))
    except KeyError as error:
        known = "the documents' words"
        raise NotRendered(f"{device.name}: {error} is no algorithm that an ASA has a word for; use {known}") from None


def render(device: GatewayDevice, lan: str) -> str:
    """The whole text: the interfaces, then the commands, ``!`` between them. Raises NotRendered."""
    return "\n".join(("!", *interfaces(device, lan), "!", *commands(device), "!", ""))


def _commands(device: GatewayDevice) -> Iterator[str]:
    ike, esp, cloud = device.ike, device.esp, device.gateway_address
    inner = IPv4Interface(device.tunnel_address)
    yield f"crypto ikev2 enable {OUTSIDE}"
    yield "crypto ikev2 policy 10"
    yield f" encryption {words.asa_word(words.ENCRYPTION, ike.encryption)}"
    yield f" integrity {words.asa_word(words.INTEGRITY, ike.integrity)}"
    yield f" group {words.asa_word(words.GROUP, ike.dh_group)}"
    yield f" prf {words.asa_word(words.INTEGRITY, ike.prf)}"
    yield f" lifetime seconds {ike.lifetime}"
    yield f"crypto ipsec ikev2 ipsec-proposal {PROPOSAL}"
    yield f" protocol esp encryption {words.asa_word(words.ENCRYPTION, esp.encryption)}"
    yield f" protocol esp integrity {words.asa_word(words.ESP_INTEGRITY, esp.integrity)}"
    yield f"crypto ipsec profile {PROFILE}"
    yield f" set ikev2 ipsec-proposal {PROPOSAL}"
    yield " set ikev2 local-identity address"
    if esp.pfs is not None:
        yield f" set pfs {words.asa_word(words.PFS, esp.pfs)}"
    yield f" set security-association lifetime seconds {esp.lifetime}"
    yield " set security-association lifetime kilobytes unlimited"
    yield f"tunnel-group {cloud} type ipsec-l2l"
    yield f"tunnel-group {cloud} ipsec-attributes"
    yield f" ikev2 remote-authentication pre-shared-key {device.key}"
    yield f" ikev2 local-authentication pre-shared-key {device.key}"
    yield "interface Tunnel1"
    yield f" nameif {TUNNEL}"
    yield f" ip address {inner.ip} {inner.netmask}"
    yield f" tunnel source interface {OUTSIDE}"
    yield f" tunnel destination {cloud}"
    yield " tunnel mode ipsec ipv4"
    yield f" tunnel protection ipsec profile {PROFILE}"
    yield " no shutdown"
    yield f"route {OUTSIDE} {cloud} 255.255.255.255 {device.provider_next_hop}"
    blocks = [IPv4Network(block) for block in device.networks]
    for block in blocks:
        yield f"route {PRIVATE} {block.network_address} {block.netmask} {device.clients_next_hop}"
    yield f"router bgp {device.asn}"
    yield " address-family ipv4 unicast"
    yield f"  neighbor {device.neighbor} remote-as {device.neighbor_asn}"
    yield f"  neighbor {device.neighbor} ebgp-multihop {device.ebgp_multihop}"
    yield f"  neighbor {device.neighbor} activate"
    for block in blocks:
        yield f"  network {block.network_address} mask {block.netmask}"
    yield " exit-address-family"
