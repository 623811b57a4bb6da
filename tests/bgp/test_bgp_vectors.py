"""413 messages that another implementation wrote or read, through this codec and back.

The file lies beside the project and is not part of it. Every message is decoded in a context that is recorded for it, compared
with the other implementation's reading where there is one, and encoded again. What is passed over, and where the octets differ
after the round trip, is named and counted below: a new difference fails.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from harness.bgp import as_path
from harness.bgp.attribute_codec import _split
from harness.bgp.attributes import Origin
from harness.bgp.errors import ProtocolError
from harness.bgp.messages import Framer, MessageType, Open, decode, encode
from harness.bgp.prefixes import Family, text
from harness.bgp.session import Session
from harness.bgp.update import Update

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bgp-messages.json"
pytestmark = pytest.mark.skipif(not VECTORS.exists(), reason=f"{VECTORS} is not there: no foreign vectors to check")


WITH_2_OCTET_ASNS = {"encoding/conf-no-asn4.ci#0"}
WITH_PATH_IDS = {
    "encoding/conf-addpath.ci#0",
    "encoding/conf-addpath.ci#1",
    "encoding/conf-path-information.ci#0",
    "encoding/conf-path-information.ci#1",
    "encoding/conf-path-information.ci#2",
    "api/api-attributes-path.ci#2",
    "api/api-attributes-path.ci#3",
    "api/api-open.ci#1",
}
"""The session context of each vector, by file and number in it: all others have 4-octet AS numbers and no ADD-PATH."""

UNREACH_WITH_EXTENDED_LENGTH = {
    "encoding/conf-attributes.ci#1",
    "encoding/conf-extended-attributes.ci#16",
    "encoding/conf-group-limit.ci#1",
    "encoding/conf-ipself6.ci#1",
    "encoding/conf-ipv46routes6family.ci#1",
    "encoding/conf-llnh-lla-only.ci#1",
    "encoding/conf-llnh-update.ci#1",
    "encoding/conf-new-v6.ci#2",
    "encoding/extended-nexthop.ci#4",
    "api/api-attributes-path.ci#1",
    "api/api-check.ci#1",
    "api/api-eor.ci#1",
    "api/api-eor.ci#3",
    "api/api-ipv6.ci#0",
    "api/api-nexthop.ci#0",
}
"""MP_UNREACH_NLRI of under 256 octets with the extended length flag: we set it only where it is needed (RFC 4271 4.3)."""

REACH_NOT_FIRST = {
    "encoding/conf-group-limit.ci#3",
    "encoding/conf-group-limit.ci#4",
    "encoding/conf-ipv46routes6family.ci#0",
    "encoding/conf-ipv6grouping.ci#0",
    "encoding/conf-ipv6grouping.ci#1",
    "encoding/conf-llnh-lla-only.ci#0",
    "encoding/conf-llnh-update.ci#0",
    "encoding/conf-new-v6.ci#0",
    "encoding/conf-new-v6.ci#1",
    "api/api-ipv6.ci#2",
    "api/api-nexthop.ci#1",
    "api/api-nexthop.ci#2",
    "api/api-nexthop.ci#3",
}
"""MP_REACH_NLRI stands behind the other attributes: we write it first (RFC 7606 5.1)."""

NOT_ASCENDING = {"decoding/ipv4-unicast-2#0"}
"""Attributes in no order of their codes: we write them ascending (RFC 4271 5)."""

PARAMETER_EACH = {
    "encoding/conf-cap-link-local-nexthop.ci#0",
    "encoding/conf-cap-software-version.ci#0",
    "encoding/conf-hostname.ci#0",
    "decoding/bgp-open-sofware-version#0",
}
"""OPENs with a parameter for each capability: we write all capabilities into one (RFC 5492 4)."""

DIFFERENCES = {
    "unreach": UNREACH_WITH_EXTENDED_LENGTH,
    "reach": REACH_NOT_FIRST,
    "order": NOT_ASCENDING,
    "open": PARAMETER_EACH,
}


@cache
def vectors() -> list[dict[str, Any]]:
    """The vectors, each with its ``name``: file and number in it."""
    found: list[dict[str, Any]] = json.loads(VECTORS.read_text())
    numbers: Counter[str] = Counter()
    for vector in found:
        vector["name"] = f"{vector['file']}#{numbers[vector['file']]}"
        numbers[vector["file"]] += 1
    return found


def context(asn4: bool, add_path: bool) -> Session:
    families = frozenset(Family) if add_path else frozenset()
    return Session(
        local_asn=1,
        peer_asn=1,
        asn4=asn4,
        families=frozenset(Family),
        add_path_receive=families,
        add_path_send=families,
        extended_message=True,
    )


def outcome(vector: dict[str, Any]) -> tuple[str, Any, Session, bytes]:
    """(what became of it, the message, the context, the octets); the first word before a colon is what is counted."""
    raw = bytes.fromhex(vector["raw"].replace(":", ""))
    session = context(vector["name"] not in WITH_2_OCTET_ASNS, vector["name"] in WITH_PATH_IDS)
    framer = Framer()
    framer.max_length = 65535
    frames = framer.feed(raw)
    if framer.error is not None or not frames:
        return "a bare NLRI or attribute, no message", None, session, raw
    try:
        message = decode(*frames[0], session)
    except ProtocolError as error:
        return f"refused: {error}", None, session, raw
    if isinstance(message, Update) and message.errors:
        if any("was not negotiated" in fault.text for fault in message.errors):
            return "a family this speaker does not carry", message, session, raw
        return f"fault: {message.errors[0]}", message, session, raw
    return "carried", message, session, raw


EXPECTED = Counter(
    {
        "carried": 252,
        "a family this speaker does not carry": 136,
        "a bare NLRI or attribute, no message": 6,
        "refused": 4,
        "fault": 15,
    }
)


@pytest.mark.spec("BGP-3", "BGP-6", "BGP-17")
def test_every_vector_is_accounted_for() -> None:
    counted = Counter(outcome(vector)[0].partition(":")[0] for vector in vectors())
    assert counted == EXPECTED


@pytest.mark.spec("BGP-6")
def test_what_is_refused_or_faulty_is_refused_for_a_named_reason() -> None:
    """A well-known attribute 153, next hops of another family (RFC 8950), and next hops that are no host address."""
    reasons = Counter(
        state.split(": ", 1)[1]
        for vector in vectors()
        if (state := outcome(vector)[0]).startswith(("refused", "fault"))
    )
    named = ("well-known attribute 153 is unknown", "MP_REACH_NLRI with a next hop of", "is no host address")
    assert {reason for reason in reasons if not any(name in reason for name in named)} == set()


def pieces(raw: bytes) -> tuple[bytes, bytes, list[tuple[int, int, bytes]]]:
    """An UPDATE's withdrawn routes, NLRI, and its attributes without regard to order and extended length flags."""
    body = raw[19:]
    withdrawn = int.from_bytes(body[:2], "big")
    block_at = 4 + withdrawn
    block_end = block_at + int.from_bytes(body[block_at - 2 : block_at], "big")
    cut, _, _ = _split(body[block_at:block_end])
    return (
        body[2 : 2 + withdrawn],
        body[block_end:],
        sorted((flags & 0xEF, code, whole[at:]) for flags, code, whole, at in cut),
    )


@pytest.mark.spec("BGP-6", "BGP-17")
def test_reencoding_gives_the_same_octets_or_a_difference_listed_by_name() -> None:
    found: dict[str, set[str]] = {kind: set() for kind in DIFFERENCES}
    same = 0
    for vector in vectors():
        state, message, session, raw = outcome(vector)
        if state != "carried":
            continue
        again = encode(message, session)
        if again == raw:
            same += 1
            continue
        assert decode(raw[18], again[19:], session) == message, vector["name"]
        if isinstance(message, Open):
            found["open"].add(vector["name"])
            continue
        assert isinstance(message, Update) and pieces(again) == pieces(raw), f"{vector['name']} is written otherwise"
        codes = attribute_codes(raw)
        if codes == attribute_codes(again):
            found["unreach"].add(vector["name"])
        else:
            found["reach" if codes[-1] == 14 and sorted(codes) == codes else "order"].add(vector["name"])
    assert found == DIFFERENCES
    assert same == 219


def attribute_codes(raw: bytes) -> list[int]:
    """The codes of an UPDATE's attributes in their order."""
    body = raw[19:]
    at = 4 + int.from_bytes(body[:2], "big")
    cut, _, _ = _split(body[at : at + int.from_bytes(body[at - 2 : at], "big")])
    return [code for _, code, _, _ in cut]


@pytest.mark.spec("BGP-6", "BGP-11", "BGP-5")
def test_our_reading_is_that_of_the_other_implementation() -> None:
    compared = 0
    for vector in vectors():
        state, message, session, _ = outcome(vector)
        reading = (vector.get("json") or {}).get("neighbor", {}).get("message", {}).get("update")
        if state != "carried" or reading is None or not isinstance(message, Update):
            continue
        compared += 1
        assert routes(message, session) == told_routes(reading), vector["file"]
        if message.attributes is not None:
            assert_attributes(message, reading.get("attribute", {}), vector["file"])
    assert compared > 100


Routes = set[tuple[str, str, str, str]]


def routes(update: Update, session: Session) -> Routes:
    found: Routes = set()
    for family, slices in update.announced.items():
        hop = str(ip_address(update.next_hop[family][:16]))
        found |= {
            ("announce", str(family), hop, text(piece, family, bool(session.add_path_receive))) for piece in slices
        }
    for family, slices in update.withdrawn.items():
        found |= {
            ("withdraw", str(family), "", text(piece, family, bool(session.add_path_receive))) for piece in slices
        }
    return found


def told(entry: dict[str, str]) -> str:
    path = entry.get("path-information")
    return entry["nlri"] + (f"#{int(IPv4Address(path))}" if path else "")


def told_routes(reading: dict[str, Any]) -> Routes:
    found: Routes = set()
    for family, hops in reading.get("announce", {}).items():
        for hop, entries in hops.items():
            found |= {("announce", family, str(ip_address(hop)), told(entry)) for entry in entries}
    for family, entries in reading.get("withdraw", {}).items():
        found |= {("withdraw", family, "", told(entry)) for entry in entries}
    return found


def assert_attributes(update: Update, reading: dict[str, Any], name: str) -> None:
    ours = update.attributes
    assert ours is not None
    assert Origin(ours.origin).name.lower() == reading.get("origin", "igp"), name
    assert ours.local_pref == reading.get("local-preference"), name
    assert ours.med == reading.get("med"), name
    assert [list(item) for item in ours.large] == reading.get("large-community", []), name
    assert {(value >> 16, value & 0xFFFF) for value in ours.communities} == {
        tuple(pair) for pair in reading.get("community", [])
    }, name
    told = [segment["value"] for _, segment in sorted(reading.get("as-path", {}).items())]
    assert [list(segment.asns) for segment in ours.as_path] == told, name
    assert [str(int.from_bytes(value, "big")) for value in ours.extended] == [
        str(item["value"]) for item in reading.get("extended-community", [])
    ], name
    assert (str(ours.originator_id) if ours.originator_id else None) == reading.get("originator-id"), name
    assert [str(IPv4Address(item)) for item in ours.cluster_list] == reading.get("cluster-list", []), name
    assert as_path.length(ours.as_path) == ours.as_path_length


@pytest.mark.spec("BGP-4", "BGP-8", "BGP-10")
def test_messages_of_the_other_types_survive_the_round_trip() -> None:
    kinds: Counter[str] = Counter()
    for vector in vectors():
        state, message, session, raw = outcome(vector)
        if state == "carried" and raw[18] != MessageType.UPDATE:
            kinds[type(message).__name__] += 1
            again = encode(message, session)
            # An OPEN may group its capabilities otherwise than one to a parameter; the values are the same.
            assert again == raw or (isinstance(message, Open) and decode(raw[18], again[19:]) == message)
    assert {"Open", "Notification", "RouteRefresh"} <= set(kinds)
