"""What a BGP daemon can be asked to do, and what a speaker's configuration asks for.

A configuration asks by its fields: each field that differs from its default needs a feature, or is one that every daemon renders
(:data:`PLAIN`), or concerns only the inside of our own speaker (:data:`OURS_ALONE`). A field that is in none of these tables is new:
no daemon renders it, and :func:`asked_for` says so by its name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from harness.bgp.config import Neighbor, Rule, SpeakerConfig


class Feature(StrEnum):
    """A thing that some daemons do and others do not; the value is how reports call it."""

    KERNEL = "installs kernel routes"
    IPV6 = "IPv6 routes"
    MD5 = "TCP MD5 (RFC 2385)"
    MD5_BLANKS = "keys with blanks in them"
    MD5_QUOTES = "keys with quotation marks in them"
    MD5_CHANGE = "a key changed under a session that stays"
    MULTIHOP = "eBGP multihop"
    LOCAL_ASN = "a local ASN for a neighbour"
    PASSIVE = "waits for the neighbour to connect"
    PORT = "a port of its own"
    ROUTE_REFRESH = "route refresh (RFC 2918)"
    ADD_PATH_SEND = "ADD-PATH, sending (RFC 7911)"
    ADD_PATH_RECEIVE = "ADD-PATH, receiving (RFC 7911)"
    GRACEFUL_RESTART = "graceful restart (RFC 4724)"
    BFD = "BFD on a direct line (RFC 5881)"
    BFD_MULTIHOP = "BFD over hops (RFC 5883)"
    BFD_AUTHENTICATION = "BFD authentication"
    BFD_APART = "BFD over hops beside a session without multihop, or the reverse"
    MULTIPATH = "eBGP multipath"
    MULTIPATH_IBGP = "iBGP multipath"
    MULTIPATH_ALIKE = "several paths of one next hop used side by side"
    RESILIENT_GROUPS = "next-hop groups whose other flows stay when a hop goes"
    ADOPTION = "kernel routes kept over a kill, and taken over by the next process"
    NEXT_HOP_SELF = "next-hop-self"
    FALL_OVER = "ends a session with the route to its neighbour"
    MAXIMUM_PREFIXES = "maximum prefixes"
    DROPS_PREFIXES = "prefixes beyond the maximum dropped one by one"
    POLICY = "import and export policies"
    POLICY_AS_PATH = "AS path expressions in policies"
    POLICY_SOURCE = "policies by where a route was learned"
    FORGET_AS_PATH = "an AS path emptied by a policy"
    ALLOW_AS_IN = "the own ASN in a received AS path"
    ANY_FIRST_AS = "a first ASN that is not the neighbour's"
    REQUIRE_ROUTE = "announces a network only while the kernel has it"
    COMPARE_MED = "MED compared between ASes"
    FIB_TABLE = "another kernel table or metric"
    CONNECT_RETRY = "a ConnectRetryTime of a neighbour's own"
    NEXTHOP_OBJECTS = "routes by next-hop objects of the kernel"
    REFUSED_SEEN = "refused routes that stay to be seen, with the reason"
    STATES = "every state that a session walks through, with its event"
    BFD_CEASE = "a session's end that names BFD (Cease/10, RFC 9384)"
    ADVERTISEMENT_INTERVAL = "an interval between advertisements"
    SHUTDOWN_SENT = "shutdown text, sent (RFC 9003)"
    SHUTDOWN_READ = "shutdown text, read (RFC 9003)"
    ASN_2_BYTES = "no 4-byte ASN capability on demand"
    CHANGE = "neighbours and networks changed while running"


@dataclass(frozen=True, slots=True)
class Need:
    """A feature that a configuration needs, and the field that needs it: "neighbor gw1, bfd"."""

    feature: Feature | None
    field: str


Asks = Callable[[Any], Iterator[Feature]]


def _always(*features: Feature) -> Asks:
    return lambda _: iter(features)


def _add_path(value: str) -> Iterator[Feature]:
    if value in ("send", "both"):
        yield Feature.ADD_PATH_SEND
    if value in ("receive", "both"):
        yield Feature.ADD_PATH_RECEIVE


def _key(value: Any) -> Iterator[Feature]:
    yield Feature.MD5
    text = value.get_secret_value()
    if " " in text:
        yield Feature.MD5_BLANKS
    if '"' in text:
        yield Feature.MD5_QUOTES


def _bfd(value: Any) -> Iterator[Feature]:
    yield Feature.BFD if value.hop_count == 1 else Feature.BFD_MULTIHOP
    if value.auth is not None:
        yield Feature.BFD_AUTHENTICATION


def _maximum_prefixes(value: Any) -> Iterator[Feature]:
    yield Feature.MAXIMUM_PREFIXES
    if value.action == "drop":
        yield Feature.DROPS_PREFIXES


def _families(value: tuple[str, ...]) -> Iterator[Feature]:
    if "ipv6" in value:
        yield Feature.IPV6


def _rules(rules: tuple[Rule, ...]) -> Iterator[Feature]:
    yield Feature.POLICY
    if any(rule.as_path is not None for rule in rules):
        yield Feature.POLICY_AS_PATH
    if any(rule.neighbors or rule.local is not None for rule in rules):
        yield Feature.POLICY_SOURCE
    if any(rule.forget_as_path for rule in rules):
        yield Feature.FORGET_AS_PATH


def _networks(networks: Any) -> Iterator[Feature]:
    if any(":" in network.prefix for network in networks):
        yield Feature.IPV6
    if any(network.require_route for network in networks):
        yield Feature.REQUIRE_ROUTE


_GLOBAL: dict[str, Asks] = {
    "networks": _networks,
    "always_compare_med": _always(Feature.COMPARE_MED),
    "fib": _always(Feature.FIB_TABLE),
    "port": _always(Feature.PORT),
}
NEIGHBOR_FIELDS: dict[str, Asks] = {
    "local_asn": _always(Feature.LOCAL_ASN),
    "port": _always(Feature.PORT),
    "ebgp_multihop": _always(Feature.MULTIHOP),
    "fall_over": _always(Feature.FALL_OVER),
    "bfd": _bfd,
    "next_hop_self": _always(Feature.NEXT_HOP_SELF),
    "add_path": _add_path,
    "families": _families,
    "passive": _always(Feature.PASSIVE),
    "key": _key,
    "key_file": _always(Feature.MD5),
    "connect_retry_time": _always(Feature.CONNECT_RETRY),
    "four_octet_asn": _always(Feature.ASN_2_BYTES),
    "advertisement_interval": _always(Feature.ADVERTISEMENT_INTERVAL),
    "enforce_first_as": _always(Feature.ANY_FIRST_AS),
    "allow_as_in": _always(Feature.ALLOW_AS_IN),
    "import_": _rules,
    "export": _rules,
    "strict": _always(Feature.POLICY),
    "maximum_prefixes": _maximum_prefixes,
    "graceful_restart": _always(Feature.GRACEFUL_RESTART),
}
#: Fields that every daemon of this package renders.
PLAIN = frozenset(
    {"name", "address", "remote_asn", "local_address", "shutdown", "hold_time", "asn", "router_id", "neighbors"}
)
#: Fields that tune our own speaker and have no meaning on the wire or in a table, or that only permit: who uses one path keeps to
#: "at most four".
OURS_ALONE = frozenset(
    {
        "multipath",
        "multipath_ibgp",
        "description",
        "groups",
        "profile",
        "connect_retry_time",
        "idle_hold_time",
        "send_hold_time",
        "resolve_via_default",
        "listen",
    }
)


def asked_for(config: SpeakerConfig) -> list[Need]:
    """What a daemon must have to stand in for a speaker of this configuration; a ``feature`` of None: no daemon renders the field."""
    found = list(_model_needs(config, "configuration", _GLOBAL, PLAIN | OURS_ALONE))
    for neighbor in config.neighbors:
        found += neighbor_needs(neighbor)
        internal = (neighbor.local_asn or config.asn) == neighbor.remote_asn
        if internal and config.multipath_ibgp > 1 and neighbor.add_path in ("receive", "both"):
            found.append(Need(Feature.MULTIPATH_ALIKE, f"neighbor {neighbor.name}, add_path"))
        if not internal and neighbor.bfd is not None and (neighbor.bfd.hop_count > 1) != bool(neighbor.ebgp_multihop):
            found.append(Need(Feature.BFD_APART, f"neighbor {neighbor.name}, bfd.hop_count"))
    return found


def neighbor_needs(neighbor: Neighbor) -> list[Need]:
    """As :func:`asked_for`, of one neighbour."""
    found = list(_model_needs(neighbor, f"neighbor {neighbor.name}", NEIGHBOR_FIELDS, PLAIN | {"description"}))
    if not neighbor.families and ipaddress.ip_address(neighbor.address).version == 6:
        found.append(Need(Feature.IPV6, f"neighbor {neighbor.name}, address"))
    return found


def _model_needs(model: BaseModel, what: str, table: dict[str, Asks], free: frozenset[str]) -> Iterator[Need]:
    for field, info in type(model).model_fields.items():
        value = getattr(model, field)
        if field in free and field not in table:
            continue
        if value == info.get_default(call_default_factory=True):
            continue
        where = f"{what}, {info.alias or field}"
        if field not in table:
            yield Need(None, where)
            continue
        yield from (Need(feature, where) for feature in table[field](value))
