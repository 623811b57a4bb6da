"""What the console would not let a user change in place: an estate held against the one that it was before.

A customer gateway cannot be edited once it is created (ECMP-3, VPN-16). What a VBR lets be changed is in ``harness.cloud.vbr_changes``.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.cloud.ends import with_tunnels
from harness.cloud.findings import Finding
from harness.cloud.resources import CustomerGateway

_FIELDS = (("address", "IP address"), ("asn", "ASN"))


def edits(was: object, shall: object) -> list[Finding]:
    """The edits that are refused between two estates; none where one of the two has no tunnels."""
    before, after = with_tunnels(was), with_tunnels(shall)
    if before is None or after is None:
        return []
    known = {gateway.name: gateway for gateway in before.customer_gateways}
    return [
        finding
        for gateway in after.customer_gateways
        if gateway.name in known
        for finding in _of_a_customer_gateway(known[gateway.name], gateway)
    ]


def _of_a_customer_gateway(was: CustomerGateway, shall: CustomerGateway) -> Iterator[Finding]:
    for field, words in _FIELDS:
        before, after = getattr(was, field), getattr(shall, field)
        if before != after:
            rule = f"{words} {_shown(after)} in the place of {_shown(before)}: a customer gateway cannot be edited"
            yield Finding(shall.name, rule, "ECMP-3", "Delete it and create another, by another name", field=field)


def _shown(value: object) -> object:
    return "none" if value is None else value
