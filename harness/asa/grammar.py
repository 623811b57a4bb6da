"""The commands that are understood, as a table: in which mode, which words, which value of which section they set.

A pattern is made of keywords, which a text may abbreviate, and of parameters: ``<name>`` one word, ``<name>+`` one or more.
Source: the configurations of document 001 (ECMP-32) and the neighbouring forms in which a running ASA prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from harness.asa import words
from harness.asa.config import Key, Kind
from harness.cloud.rules import KEY


class BadValue(ValueError):
    """A value that its command cannot have: the text has the rule and the remedy, never a key."""

    def __init__(self, rule: str, remedy: str) -> None:
        self.rule, self.remedy = rule, remedy
        super().__init__(f"{rule}. {remedy}.")


class Mode(StrEnum):
    """Where a command is understood."""

    GLOBAL = "global configuration"
    INTERFACE = "interface"
    IKEV2_POLICY = "IKEv2 policy"
    IPSEC_PROPOSAL = "IPsec proposal"
    IPSEC_PROFILE = "IPsec profile"
    TUNNEL_GROUP = "tunnel-group attributes"
    BGP = "router bgp"
    ADDRESS_FAMILY = "address family"


@dataclass(frozen=True, slots=True)
class Command:
    """One command. With ``section`` its first parameter (of WHOLE: all) names what it speaks of, else that is the open section."""

    pattern: str
    stores: str = ""
    value: Callable[..., object] = lambda *parameters: parameters[0]
    section: Kind | None = None
    opens: Mode | None = None


# --------------------------------------------------------------------------------------------------------------- parameters

_INTERFACES = (
    "GigabitEthernet", "TenGigabitEthernet", "FastEthernet", "Ethernet", "Management", "Port-channel", "Redundant",
    "Loopback", "Tunnel", "Vlan", "BVI",
)  # fmt: skip


def interface(*parts: str) -> str:
    """``g0/0``, ``tun 1``: the interface's full name."""
    text = "".join(parts)
    kind = text.rstrip("0123456789/.:")
    number = text[len(kind) :]
    found = [each for each in _INTERFACES if kind and each.lower().startswith(kind.lower())]
    if len(found) != 1 or not number:
        raise BadValue(f"{text!r} is no interface name", "Write the kind and the number, as Tunnel1")
    return found[0] + number


def address(text: str) -> str:
    try:
        return str(IPv4Address("0.0.0.0" if text == "0" else text))  # an ASA takes 0 for 0.0.0.0
    except ValueError:
        raise BadValue(f"{text!r} is no IPv4 address", "Write four numbers of 0 to 255 with dots") from None


def _mask(text: str) -> int:
    try:
        bits = int(IPv4Address("0.0.0.0" if text == "0" else text))
    except ValueError:
        bits = -1
    inverted = bits ^ 0xFFFFFFFF
    if bits < 0 or inverted & (inverted + 1):
        raise BadValue(f"{text!r} is no network mask", "Write a mask as 255.255.255.0")
    return 32 - inverted.bit_length()


def address_and_mask(host: str, mask: str) -> IPv4Interface:
    return IPv4Interface((address(host), _mask(mask)))


def prefix(network: str, mask: str) -> str:
    host, length = address(network), _mask(mask)
    try:
        return str(IPv4Network((host, length)))
    except ValueError:
        raise BadValue(f"{network} has bits outside the mask {mask}", "Write the block's first address") from None


def within(low: int, high: int, what: str) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise BadValue(f"{what} {text!r} is no number from {low} to {high}", f"Write one from {low} to {high}")
        return int(text)

    return number


def some_of(table: Mapping[str, str | None], what: str) -> Callable[..., tuple[str, ...]]:
    """One or more words of a table; each may be abbreviated to what only one of them begins with."""

    def chosen(*given: str) -> tuple[str, ...]:
        return tuple(_of(word) for word in given)

    def _of(word: str) -> str:
        found = [each for each in table if each == word.lower()]
        found = found or [each for each in table if each.startswith(word.lower())]
        if len(found) != 1:
            raise BadValue(f"{what} {word!r} is none of {', '.join(table)}", "Use one of these")
        return found[0]

    return chosen


def key(text: str) -> Key:
    """ECMP-5. The message never has the key."""
    if not KEY.fullmatch(text):
        rule = "the pre-shared key is not 1 to 100 of the letters, digits and special characters allowed"
        raise BadValue(rule, "Use no space, no double quote and at most 100 characters")
    return Key(text)


def _encrypted_key(_text: str) -> Key:
    rule = "the pre-shared key is encrypted (type 8) and cannot be read back"
    raise BadValue(rule, "Set it in clear, or export the text before the master passphrase was set")


def _kilobytes(text: str) -> int | None:
    return None if "unlimited".startswith(text.lower()) else within(10, 2147483647, "lifetime")(text)


def _asn(text: str) -> int:
    return within(1, 4294967295, "AS number")(text)


def _is(value: object) -> Callable[..., object]:
    return lambda *_: value


def _name(text: str) -> str:
    return text


NAMES: Mapping[Kind, Callable[..., str]] = {
    Kind.INTERFACE: interface,
    Kind.IKEV2_ENABLE: _name,
    Kind.IKEV2_POLICY: lambda text: str(within(1, 65535, "policy number")(text)),
    Kind.IPSEC_PROPOSAL: _name,
    Kind.IPSEC_PROFILE: _name,
    Kind.TUNNEL_GROUP: _name,
    Kind.ROUTE: lambda *parts: " ".join(parts),
    Kind.BGP: lambda text: str(_asn(text)),
    Kind.NEIGHBOR: address,
    Kind.NETWORK: prefix,
}
"""How the words that name a section are read."""

WHOLE = frozenset({Kind.INTERFACE, Kind.ROUTE, Kind.NETWORK})
"""Sections that all parameters of their command name together."""


def _route(nameif: str, network: str, mask: str, gateway: str, metric: str = "1") -> dict[str, Any]:
    within(1, 255, "metric")(metric)
    return {"nameif": nameif, "prefix": prefix(network, mask), "gateway": address(gateway)}


def _tracked(nameif: str, network: str, mask: str, gateway: str, metric: str, _number: str) -> dict[str, Any]:
    """Taken as long as what it tracks is reached, which nothing here measures."""
    return _route(nameif, network, mask, gateway, metric)


# ----------------------------------------------------------------------------------------------------------------- the table

ADDRESSES = frozenset({"<address>", "<network>", "<gateway>"})
"""Parameters that may be a word of the command ``name``."""

COMMANDS: Mapping[Mode, tuple[Command, ...]] = {
    Mode.GLOBAL: (
        Command("interface <name>+", section=Kind.INTERFACE, opens=Mode.INTERFACE),
        Command("crypto ikev2 enable <nameif>", section=Kind.IKEV2_ENABLE),
        Command("crypto ikev2 enable <nameif> client-services port <port>", section=Kind.IKEV2_ENABLE),
        Command("crypto ikev2 policy <number>", section=Kind.IKEV2_POLICY, opens=Mode.IKEV2_POLICY),
        Command("crypto ipsec ikev2 ipsec-proposal <name>", section=Kind.IPSEC_PROPOSAL, opens=Mode.IPSEC_PROPOSAL),
        Command("crypto ipsec profile <name>", section=Kind.IPSEC_PROFILE, opens=Mode.IPSEC_PROFILE),
        Command("tunnel-group <name> type ipsec-l2l", "type", _is("ipsec-l2l"), section=Kind.TUNNEL_GROUP),
        Command("tunnel-group <name> ipsec-attributes", section=Kind.TUNNEL_GROUP, opens=Mode.TUNNEL_GROUP),
        Command("route <nameif> <network> <mask> <gateway>", "route", _route, section=Kind.ROUTE),
        Command("route <nameif> <network> <mask> <gateway> <metric>", "route", _route, section=Kind.ROUTE),
        Command(
            "route <nameif> <network> <mask> <gateway> <metric> track <number>", "route", _tracked, section=Kind.ROUTE
        ),
        Command("router bgp <asn>", section=Kind.BGP, opens=Mode.BGP),
    ),
    Mode.INTERFACE: (
        Command("nameif <name>", "nameif"),
        Command("security-level <number>", "security-level", within(0, 100, "security level")),
        Command("ip address <address> <mask>", "address", address_and_mask),
        Command(
            "ip address <address> <mask> standby <address>",
            "address",
            lambda host, mask, _: address_and_mask(host, mask),
        ),
        Command("tunnel source interface <name>", "source"),
        Command("tunnel destination <address>", "destination", address),
        Command("tunnel mode ipsec ipv4", "mode", _is("ipsec ipv4")),
        Command("tunnel protection ipsec profile <name>", "profile"),
        Command("no shutdown", "up", _is(True)),
        Command("shutdown", "up", _is(False)),
        Command("description <text>+"),
    ),
    Mode.IKEV2_POLICY: (
        Command("encryption <word>+", "encryption", some_of(words.ENCRYPTION, "encryption")),
        Command("integrity <word>+", "integrity", some_of(words.INTEGRITY, "integrity")),
        Command("group <word>+", "group", some_of(words.GROUP, "group")),
        Command("prf <word>+", "prf", some_of(words.INTEGRITY, "prf")),
        Command("lifetime seconds <number>", "lifetime", within(120, 2147483647, "lifetime")),
        Command("lifetime <number>", "lifetime", within(120, 2147483647, "lifetime")),
    ),
    Mode.IPSEC_PROPOSAL: (
        Command("protocol esp encryption <word>+", "encryption", some_of(words.ENCRYPTION, "encryption")),
        Command("protocol esp integrity <word>+", "integrity", some_of(words.ESP_INTEGRITY, "integrity")),
    ),
    Mode.IPSEC_PROFILE: (
        Command("set ikev2 ipsec-proposal <name>+", "proposal", lambda *names: names),
        Command("set ikev2 local-identity address", "local-identity", _is("address")),
        Command("set ikev2 local-identity hostname", "local-identity", _is("hostname")),
        Command("set ikev2 local-identity key-id <id>", "local-identity", lambda text: f"key-id {text}"),
        Command("set ikev2 local-identity email-id <id>", "local-identity", lambda text: f"email-id {text}"),
        Command("set pfs <group>", "pfs", some_of(words.PFS, "pfs")),
        Command("set security-association lifetime seconds <n>", "seconds", within(120, 2147483647, "lifetime")),
        Command("set security-association lifetime kilobytes <n>", "kilobytes", _kilobytes),
    ),
    Mode.TUNNEL_GROUP: tuple(
        Command(f"ikev2 {side}-authentication pre-shared-key {form}", f"{side}-key", read)
        for side in ("remote", "local")
        for form, read in (("<key>", key), ("0 <key>", key), ("8 <key>", _encrypted_key))
    ),
    Mode.BGP: (
        Command("address-family ipv4 unicast", opens=Mode.ADDRESS_FAMILY),
        Command("address-family ipv4", opens=Mode.ADDRESS_FAMILY),
        Command("bgp log-neighbor-changes"),
    ),
    Mode.ADDRESS_FAMILY: (
        Command("neighbor <address> remote-as <asn>", "remote-as", _asn, section=Kind.NEIGHBOR),
        Command(
            "neighbor <address> ebgp-multihop <hops>", "ebgp-multihop", within(1, 255, "hops"), section=Kind.NEIGHBOR
        ),
        Command("neighbor <address> ebgp-multihop", "ebgp-multihop", _is(255), section=Kind.NEIGHBOR),
        Command("neighbor <address> activate", "activate", _is(True), section=Kind.NEIGHBOR),
        Command("no neighbor <address> activate", "activate", _is(False), section=Kind.NEIGHBOR),
        Command("neighbor <address> shutdown", "shutdown", _is(True), section=Kind.NEIGHBOR),
        Command("neighbor <address> password <key>", "password", Key, section=Kind.NEIGHBOR),
        Command("neighbor <address> password 0 <key>", "password", Key, section=Kind.NEIGHBOR),
        Command("neighbor <address> description <text>+", section=Kind.NEIGHBOR),
        Command("network <address> mask <mask>", section=Kind.NETWORK),
        Command("no auto-summary"),
        Command("no synchronization"),
    ),
}

LEAVES: Mapping[Mode, tuple[str, ...]] = {
    mode: ("exit", "quit", *(("exit-address-family",) if mode is Mode.ADDRESS_FAMILY else ())) for mode in Mode
}
"""What ends a mode."""

SESSION = (
    "enable",
    "configure terminal",
    "show running-config",
    "show running-config interface",
    "end",
    "write memory",
    "names",
)
"""What a terminal's record has besides: without effect on the configuration, except that it ends every mode."""

PARENT: Mapping[Mode, Mode] = {
    mode: Mode.BGP if mode is Mode.ADDRESS_FAMILY else Mode.GLOBAL for mode in Mode if mode is not Mode.GLOBAL
}


def match(pattern: str, given: list[str]) -> tuple[tuple[int, ...], list[str]] | None:
    """How well words fit a pattern (0 exact, 1 abbreviated, 2 parameter; the lowest is best) and the parameters; None: not."""
    fit: list[int] = []
    found: list[str] = []
    at = 0
    for element in pattern.split():
        if at >= len(given):
            return None
        if element.endswith("+"):
            rest = given[at:]
            end = next((n for n, word in enumerate(rest) if n and word.startswith("#")), len(rest))
            found += rest[:end]
            fit.append(2)
            at += end
            continue
        word = given[at]
        at += 1
        if element.startswith("<"):
            found.append(word)
            fit.append(2)
        elif word.lower() == element:
            fit.append(0)
        elif element.startswith(word.lower()) and (at > 1 or len(word) > 1):
            fit.append(1)
        else:
            return None
    if at < len(given) and not given[at].startswith("#"):
        return None
    return tuple(fit), found


def undone(pattern: str, given: list[str]) -> list[str] | None:
    """The parameters of a command that ``no`` takes back, of which the last ones may be left out; None: it is another command."""
    elements = pattern.split()
    least = next((at for at, element in enumerate(elements) if element.startswith("<")), len(elements))
    for length in range(len(elements), least - 1, -1):
        if length and (found := match(" ".join(elements[:length]), given)) is not None:
            return found[1]
    return None
