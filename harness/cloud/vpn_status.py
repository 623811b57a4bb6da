"""How the console would show a tunnel of a VPN gateway: its BGP state, and the routes of the data centre that were not taken.

Pure functions of what the tunnel's speaker answers (``show.neighbors``, ``show.routes`` of table "in"). The status of IKE and ESP is
``harness.ipsec.status``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.cloud.vpn import SHARED_ADDRESSES, SharedAddressRoutes
from harness.cloud.vpn_rules import refused_by

#: ECMP-28: what stands in place of a state where BGP was left off.
BGP_DISABLED = "BGP disabled"
#: VPN-20: the document's word where the status cannot be displayed.
UNAVAILABLE = "unavailable"

_REASONS = {
    "VPN-4": "a VPN gateway does not receive 0.0.0.0/0 from a BGP peer",
    "VPN-5": f"it is, contains or lies in {SHARED_ADDRESSES}",
}


@dataclass(frozen=True, slots=True)
class RefusedRoute:
    """A route that the data centre offers and the gateway does not take; ``spec`` is the requirement, or "" for another reason."""

    prefix: str
    reason: str
    spec: str = ""


@dataclass(frozen=True, slots=True)
class TunnelStatus:
    """``bgp`` is a state of RFC 4271, :data:`BGP_DISABLED` or :data:`UNAVAILABLE`; ``learned`` counts the routes taken."""

    tunnel: str
    bgp: str
    learned: int
    refused: tuple[RefusedRoute, ...]

    def __str__(self) -> str:
        lines = [f"{self.tunnel}: {self.bgp}, {self.learned} routes learned"]
        return "\n".join([*lines, *(f"  {route.prefix} not taken: {route.reason}" for route in self.refused)])


def tunnel_status(
    tunnel: str,
    neighbor: Mapping[str, Any] | None,
    offered: Iterable[Mapping[str, Any]] = (),
    mode: SharedAddressRoutes = SharedAddressRoutes.DROPPED,
) -> TunnelStatus:
    """``neighbor`` is the data centre's row of ``show.neighbors`` (None: BGP is off), ``offered`` the Adj-RIB-In of it."""
    if neighbor is None:
        return TunnelStatus(tunnel, BGP_DISABLED, 0, ())
    refused, learned = [], 0
    for route in offered:
        words = next((path["rejected"] for path in route["paths"] if path.get("rejected")), None)
        if words is None:
            learned += 1
            continue
        spec = refused_by(route["prefix"]) or ""
        refused.append(RefusedRoute(route["prefix"], _REASONS.get(spec, words), spec))
    shared = any(route.spec == "VPN-5" for route in refused)
    state = UNAVAILABLE if shared and mode is SharedAddressRoutes.DOCUMENTED else str(neighbor["state"])
    return TunnelStatus(tunnel, state, learned, tuple(refused))
