"""Paths, sources and attributes for the tests of the routing half."""

from __future__ import annotations

import ipaddress
from typing import Any

from harness.bgp import as_path
from harness.bgp.attributes import Attributes
from harness.bgp.paths import Kind, Path, Source
from harness.bgp.prefixes import from_network

LOCAL = Source("local", Kind.LOCAL, 64500)


def source(
    name: str = "a", *, kind: Kind = Kind.EBGP, asn: int = 65001, router_id: int = 1, address: str = "10.0.0.1"
) -> Source:
    return Source(name, kind, asn, router_id, ipaddress.ip_address(address).packed)


def attributes(*asns: int, **fields: Any) -> Attributes:
    return Attributes(as_path=as_path.sequence(asns), **fields)


def path(
    by: Source | None = None,
    *asns: int,
    path_id: int = 0,
    next_hop: str = "10.0.0.1",
    rejected: str | None = None,
    **fields: Any,
) -> Path:
    made = attributes(*(asns or (65001,)), **fields)
    return Path(by or source(), path_id, made, made, ipaddress.ip_address(next_hop).packed, rejected)


def prefix(text: str) -> bytes:
    return from_network(text)
