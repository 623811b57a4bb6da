"""A BGP message in words: one line for the chart, and all of its fields for who wants to read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.bgp import as_path
from harness.bgp import prefixes as nlri
from harness.bgp.attributes import Attributes, Origin, community_text, extended_community_text
from harness.bgp.conversation import Heard
from harness.bgp.messages import Keepalive, MessageType, Notification, Open, RefreshSubtype, RouteRefresh
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.telling import capability_text, family_text
from harness.bgp.update import Update

SHOWN = 3
"""Prefixes that a title names."""


def title(heard: Heard) -> str:
    """The message in one line."""
    match heard.message:
        case Open() as message:
            return f"OPEN AS {message.true_asn}, hold {message.hold_time} s, {message.identifier}"
        case Update() as message:
            return f"UPDATE {_update_title(message, heard.session)}"
        case Notification() as message:
            return f"NOTIFICATION {message.code}/{message.subcode} {message.name}"
        case RouteRefresh() as message:
            return f"ROUTE-REFRESH {family_text(message.afi, message.safi)}{_REFRESH.get(message.subtype, '')}"
        case Keepalive():
            return "KEEPALIVE"
    kind = heard.type
    name = MessageType(kind).name if kind in set(MessageType) else "octets"
    return f"{name} that cannot be read"


_REFRESH: dict[int, str] = {RefreshSubtype.BEGIN: ", begins", RefreshSubtype.END: ", ends"}


def details(heard: Heard) -> tuple[str, ...]:
    """Every field of the message, a line each."""
    found = [f"length {len(heard.wire)}"]
    match heard.message:
        case Open() as message:
            found += [
                f"version {message.version}",
                f"my AS {message.asn}",
                f"hold time {message.hold_time} s",
                f"BGP Identifier {message.identifier}",
                *(f"capability {capability_text(each)}" for each in message.capabilities),
            ]
        case Update() as message:
            found += _update_details(message, heard.session)
        case Notification() as message:
            found.append(str(message))
            if message.data and not message.communication:
                found.append(f"data {message.data.hex()}")
    if heard.error is not None:
        found.append(f"error: {heard.error}")
    return tuple(found)


def _update_title(update: Update, session: Session) -> str:
    if update.end_of_rib is not None:
        return f"End-of-RIB {update.end_of_rib}"
    parts = []
    for sign, routes in (("+", update.announced), ("-", update.withdrawn)):
        names = list(_names(routes, session))
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{sign}{', '.join(names[:SHOWN])}{more}")
    return "; ".join(parts) or "without routes"


def _names(routes: Mapping[Family, Sequence[bytes]], session: Session) -> Iterator[str]:
    for family, slices in routes.items():
        add_path = family in session.add_path_receive
        for piece in slices:
            yield nlri.text(piece, family, add_path)


def _update_details(update: Update, session: Session) -> Iterator[str]:
    for name in _names(update.withdrawn, session):
        yield f"withdrawn {name}"
    if update.attributes is not None:
        yield from _attributes(update.attributes)
    for family, next_hop in update.next_hop.items():
        yield f"next hop {_address(next_hop[:16], family)}"
        if len(next_hop) == 32:
            yield f"link-local next hop {_address(next_hop[16:], family)}"
    for name in _names(update.announced, session):
        yield f"announced {name}"
    for fault in update.errors:
        yield f"error: {fault}"


def _attributes(attributes: Attributes) -> Iterator[str]:
    yield f"ORIGIN {Origin(attributes.origin).name}"
    yield f"AS_PATH {as_path.text(attributes.as_path) or '(empty)'}"
    if attributes.med is not None:
        yield f"MULTI_EXIT_DISC {attributes.med}"
    if attributes.local_pref is not None:
        yield f"LOCAL_PREF {attributes.local_pref}"
    if attributes.atomic_aggregate:
        yield "ATOMIC_AGGREGATE"
    if attributes.aggregator is not None:
        yield f"AGGREGATOR {attributes.aggregator.asn} {attributes.aggregator.identifier}"
    if attributes.communities:
        yield f"COMMUNITIES {' '.join(map(community_text, attributes.communities))}"
    if attributes.extended:
        yield f"EXTENDED_COMMUNITIES {' '.join(map(extended_community_text, attributes.extended))}"
    if attributes.large:
        yield f"LARGE_COMMUNITIES {' '.join(map(str, attributes.large))}"
    if attributes.originator_id is not None:
        yield f"ORIGINATOR_ID {attributes.originator_id}"
    for other in attributes.unknown:
        yield f"attribute {other.code} {other.value.hex()}"


def _address(octets: bytes, family: Family) -> str:
    return str(nlri.to_network(bytes((family.bits,)) + octets, family).network_address)
