"""Values of the speaker as JSON values: the one place that says what a path or a next hop looks like in events and answers."""

from __future__ import annotations

import ipaddress
from typing import Any

from harness.bgp import as_path, capabilities
from harness.bgp.attributes import Attributes, Origin, community_text, extended_community_text
from harness.bgp.capabilities import AddPath, Capability, FourOctetAs, GracefulRestart, Multiprotocol, UnknownCapability
from harness.bgp.errors import describe, meaning
from harness.bgp.messages import Notification
from harness.bgp.paths import Path
from harness.bgp.ports import Kernel
from harness.bgp.prefixes import FAMILIES
from harness.bgp.session import Session
from harness.net.fib import Ways


def path_row(path: Path) -> dict[str, Any]:
    """A path in an event: who offers it, over which next hop, with which AS path."""
    return {
        "peer": path.source.name,
        "next_hop": address_text(path.next_hop),
        "as_path": as_path.text(path.attributes.as_path),
    }


def full_path_row(path: Path) -> dict[str, Any]:
    """A path in an answer, with every attribute as the import policy left it."""
    row = path_row(path) | {"kind": path.source.kind.value, "path_id": path.path_id} | _attributes_row(path.attributes)
    if path.rejected is not None:
        row["rejected"] = path.rejected
    return row


def advert_row(path_id: int, attributes: Attributes, next_hop: bytes) -> dict[str, Any]:
    """A path as a neighbour was told of it."""
    return {
        "next_hop": address_text(next_hop),
        "as_path": as_path.text(attributes.as_path),
        "path_id": path_id,
    } | _attributes_row(attributes)


def _attributes_row(attributes: Attributes) -> dict[str, Any]:
    row: dict[str, Any] = {
        "origin": Origin(attributes.origin).name.lower(),
        "med": attributes.med,
        "local_pref": attributes.local_pref,
        "communities": [community_text(c) for c in attributes.communities],
        "large_communities": [str(c) for c in attributes.large],
        "extended_communities": [extended_community_text(c) for c in attributes.extended],
    }
    if attributes.atomic_aggregate:
        row["atomic_aggregate"] = True
    if attributes.aggregator is not None:
        row["aggregator"] = f"{attributes.aggregator.asn} {attributes.aggregator.identifier}"
    if attributes.originator_id is not None:
        row["originator_id"] = str(attributes.originator_id)
    if attributes.cluster_list:
        row["cluster_list"] = [str(ipaddress.IPv4Address(c)) for c in attributes.cluster_list]
    return row


def capability_text(capability: Capability) -> str:
    """A capability with what it says: ``ADD-PATH: ipv4 unicast both``."""
    name = capabilities.name(capability.code)
    match capability:
        case Multiprotocol(afi, safi):
            return f"{name}: {family_text(afi, safi)}"
        case FourOctetAs(asn):
            return f"{name}: {asn}"
        case AddPath(families):
            ways = [f"{family_text(f.afi, f.safi)} {_WAYS[f.receive, f.send]}" for f in families]
            return f"{name}: {', '.join(ways)}"
        case GracefulRestart():
            state = ", restarted" if capability.restarted else ""
            return f"{name}: {capability.time} s{state}"
        case UnknownCapability():
            return f"{name} {capability.value.hex()}".rstrip()
    return name


_WAYS = {(True, False): "receive", (False, True): "send", (True, True): "both", (False, False): "neither"}


def family_text(afi: int, safi: int) -> str:
    """A family by its name where this speaker carries it, else by its numbers."""
    family = FAMILIES.get((afi, safi))
    return str(family) if family else f"AFI {afi} SAFI {safi}"


def address_text(packed: bytes) -> str | None:
    """An address as text; None for the empty one of an own network. Of an IPv6 next hop (RFC 2545 3) the first of its addresses."""
    return str(ipaddress.ip_address(packed[:16])) if packed else None


def ways_rows(ways: Ways, kernel: Kernel) -> list[dict[str, Any]]:
    """The kernel's ways: gateway (None: on the link) and interface name."""
    return [{"gateway": address_text(w.gateway), "interface": kernel.interface(w.ifindex)} for w in ways]


def session_fields(session: Session) -> dict[str, object]:
    """What was negotiated, as JSON values."""
    return {
        "asn": session.peer_asn,
        "router_id": str(session.peer_identifier),
        "hold_time": session.hold_time,
        "keepalive": session.keepalive,
        "families": sorted(str(f) for f in session.families),
        "asn4": session.asn4,
        "add_path_receive": sorted(str(f) for f in session.add_path_receive),
        "add_path_send": sorted(str(f) for f in session.add_path_send),
        "route_refresh": session.route_refresh,
        "enhanced_refresh": session.enhanced_refresh,
        "extended_message": session.extended_message,
        "graceful_restart": None if session.graceful_restart is None else restart_fields(session),
    }


def restart_fields(session: Session) -> dict[str, object]:
    """What the neighbour said of graceful restart."""
    theirs = session.graceful_restart
    assert theirs is not None
    return {
        "restart_time": theirs.time,
        "restarted": theirs.restarted,
        "notification": session.hard_reset,
        "families": sorted(map(str, theirs.kept)),
        "preserved": sorted(map(str, theirs.preserved)),
    }


def notification_fields(notification: Notification) -> dict[str, object]:
    """A NOTIFICATION as JSON values, with its name and meaning."""
    code, subcode = notification.code, notification.subcode
    fields: dict[str, object] = {
        "code": code,
        "subcode": subcode,
        "name": describe(code, subcode),
        "meaning": meaning(code, subcode),
        "data": notification.data.hex(),
    }
    if (meant := notification.meant) is not notification:
        fields["meant"] = {"code": meant.code, "subcode": meant.subcode, "name": describe(meant.code, meant.subcode)}
    if notification.communication:
        fields["text"] = notification.communication
    return fields
