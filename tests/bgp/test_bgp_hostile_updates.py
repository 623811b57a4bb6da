"""What a third party's conformance suite sends: UPDATEs and capabilities at the edges of the RFCs, octet by octet.

Each case is one sentence of an RFC. Nothing here uses the speaker's own encoder for what it sends.
"""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from harness.bgp import as_path
from harness.bgp.attribute_table import Action
from harness.bgp.attributes import Attributes
from harness.bgp.capabilities import (
    AddPath,
    AddPathFamily,
    FourOctetAs,
    UnknownCapability,
    decode_capabilities,
    negotiate,
)
from harness.bgp.errors import ProtocolError
from harness.bgp.messages import MARKER, Notification, Open, decode
from harness.bgp.parcels import Parcel
from harness.bgp.prefixes import Family, from_network
from harness.bgp.session import Session
from harness.bgp.update import Update, decode_update

BOTH = frozenset(Family)
V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
NEW = Session(local_asn=1, peer_asn=2, asn4=True, families=BOTH)
OLD = Session(local_asn=1, peer_asn=2, families=BOTH)
INTERNAL = Session(local_asn=2, peer_asn=2, asn4=True, families=BOTH)
ORIGIN, PATH, HOP = "400101 00", "400206 0201 00000002", "400304 c0000201"
GOOD = ORIGIN + PATH + HOP
ROUTE = "18 c00002"
SLICE = from_network("192.0.2.0/24")
REACH_V4 = "800e0d 0001 01 04 c0000207 00 18 c00002"
REACH_V6 = "800e1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8"


def body(withdrawn: str = "", block: str = "", routes: str = "") -> bytes:
    parts = [bytes.fromhex(part) for part in (withdrawn, block, routes)]
    return len(parts[0]).to_bytes(2, "big") + parts[0] + len(parts[1]).to_bytes(2, "big") + parts[1] + parts[2]


def reset(octets: bytes, session: Session = NEW) -> tuple[int, int, str]:
    """Code, subcode and data of the NOTIFICATION that an UPDATE deserves."""
    with pytest.raises(ProtocolError) as caught:
        decode_update(octets, session)
    return caught.value.code, caught.value.subcode, caught.value.data.hex()


def fault(octets: bytes, session: Session = NEW) -> tuple[Update, int, Action]:
    update = decode_update(octets, session)
    (only,) = update.errors
    return update, only.code, only.action


@pytest.mark.spec("BGP-6", "BGP-8", "BGP-17")
@pytest.mark.parametrize("withdrawn", ["", "10 0a01"], ids=["nothing else", "withdrawals"])
@pytest.mark.parametrize(
    ("bad", "subcode", "data"),
    [
        ("400101 07" + PATH + HOP, 6, "40010107"),
        (ORIGIN + PATH + "400303 c00002", 5, "400303c00002"),
        (GOOD + "c01004 00000001", 9, "c0100400000001"),
        (GOOD + "400508 00", 5, "40050800"),
        ("c00101 00" + PATH, 4, "c0010100"),
    ],
    ids=["ORIGIN", "NEXT_HOP", "communities", "overrun", "flags"],
)
def test_errors_without_routes_reset_the_session(bad: str, subcode: int, data: str, withdrawn: str) -> None:
    """RFC 7606 5.2: with no reachable NLRI nobody can be sure that it was found, and there is nothing to withdraw."""
    assert reset(body(withdrawn, bad), INTERNAL) == (3, subcode, data)


def test_what_is_only_discarded_does_not_reset_without_routes() -> None:
    """RFC 7606 5.2: "other than attribute discard"."""
    update, code, action = fault(body("10 0a01", GOOD + "400601 00"))
    assert (code, action, update.withdrawn) == (6, Action.DISCARD, {V4: [from_network("10.1.0.0/16")]})


@pytest.mark.parametrize("code", ["0e", "0f"])
def test_an_attribute_with_routes_that_overruns_resets_the_session(code: str) -> None:
    """RFC 7606 3 j and 4, RFC 4760 7: the routes inside cannot be told, so they cannot be withdrawn."""
    overrun = f"80{code}40 0002 01 10"
    assert reset(body("", GOOD + overrun, ROUTE)) == (3, 9, overrun.replace(" ", ""))


@pytest.mark.spec("BGP-11")
def test_ipv4_routes_in_mp_reach_need_no_next_hop_attribute() -> None:
    """RFC 4760 3: the attribute has the next hop; NEXT_HOP is mandatory only for the NLRI field."""
    update = decode_update(body("", ORIGIN + PATH + REACH_V4), NEW)
    assert (update.announced, update.errors) == ({V4: [SLICE]}, ())
    assert update.next_hop == {V4: bytes((192, 0, 2, 7))}


@pytest.mark.spec("BGP-11")
@pytest.mark.parametrize("hop", ["400304 00000000", "400303 000000"])
def test_next_hop_beside_mp_reach_is_not_looked_at(hop: str) -> None:
    """RFC 4760 3: "a BGP speaker that receives the message SHOULD ignore this attribute"; some send zeros there."""
    update = decode_update(body("", ORIGIN + PATH + hop + REACH_V6), NEW)
    assert (list(update.announced), update.errors, update.withdrawn) == ([V6], (), {})
    both, code, action = fault(body("", ORIGIN + PATH + hop + REACH_V6, ROUTE))
    assert (code, action, set(both.withdrawn)) == (3, Action.TREAT_AS_WITHDRAW, {V4, V6})


@pytest.mark.parametrize(
    ("block", "session", "code", "action"),
    [
        (ORIGIN + "40020a 0202 00000002 00000000" + HOP, NEW, 2, Action.TREAT_AS_WITHDRAW),
        (ORIGIN + "40020c 0201 00000002 0101 00000000" + HOP, NEW, 2, Action.TREAT_AS_WITHDRAW),
        (ORIGIN + "400204 0201 0000" + HOP, OLD, 2, Action.TREAT_AS_WITHDRAW),
        (GOOD + "c00708 00000000 0a000001", NEW, 7, Action.DISCARD),
        (ORIGIN + "400204 0201 5ba0" + HOP + "c01106 0201 00000000", OLD, 17, Action.DISCARD),
        (
            ORIGIN + "400204 0201 0002" + HOP + "c00706 5ba0 0a000001" + "c01208 00000000 0a000001",
            OLD,
            18,
            Action.DISCARD,
        ),
    ],
    ids=["AS_SEQUENCE", "AS_SET", "2 octets", "AGGREGATOR", "AS4_PATH", "AS4_AGGREGATOR"],
)
def test_as_0_is_malformed(block: str, session: Session, code: int, action: Action) -> None:
    """RFC 7607 2: in AS_PATH and AGGREGATOR by RFC 7606, in AS4_PATH and AS4_AGGREGATOR by RFC 6793."""
    update, seen, done = fault(body("", block, ROUTE), session)
    assert (seen, done) == (code, action)
    assert update.announced == ({V4: [SLICE]} if action is Action.DISCARD else {})


@pytest.mark.parametrize("kind", ["03", "04"])
def test_confederation_segments_from_another_as(kind: str) -> None:
    """RFC 5065 5: an error from a neighbour that is not in the same confederation, and this speaker is in none."""
    block = ORIGIN + f"40020c {kind}01 0000fde9 0201 00000002" + HOP
    _, code, action = fault(body("", block, ROUTE))
    assert (code, action) == (2, Action.TREAT_AS_WITHDRAW)
    inside = decode_update(body("", block, ROUTE), INTERNAL)
    assert inside.errors == () and inside.attributes is not None
    assert inside.attributes.as_path_length == 1


@pytest.mark.spec("BGP-5")
@pytest.mark.parametrize("extra", ["c01106 0201 00000009", "401103 000000", "c01208 00000009 0a000001", "c01201 00"])
def test_as4_attributes_from_a_peer_with_4_octet_numbers_are_discarded_unread(extra: str) -> None:
    """RFC 6793 4.1: "MUST discard the path attribute and continue processing the UPDATE message", right or wrong."""
    plain = decode_update(body("", GOOD, ROUTE), NEW)
    assert decode_update(body("", GOOD + extra, ROUTE), NEW) == plain


@pytest.mark.spec("BGP-19")
def test_add_path_with_another_value_is_not_understood() -> None:
    """RFC 7911 4: not the entry, the capability is ignored."""
    value = bytes.fromhex("0001010100020104")
    assert decode_capabilities(bytes((69, len(value))) + value) == (UnknownCapability(69, value),)


@pytest.mark.spec("BGP-19")
def test_of_two_add_path_entries_of_a_family_the_first_counts() -> None:
    receives = AddPath((AddPathFamily(1, 1, True, False), AddPathFamily(1, 1, False, True)))
    ours = AddPath((AddPathFamily(1, 1, True, True),))
    opens = [Open.of(asn, 90, _identifier(asn), (FourOctetAs(asn), path)) for asn, path in ((1, ours), (2, receives))]
    session = negotiate(*opens)
    assert (set(session.add_path_send), len(session.add_path_receive)) == ({V4}, 0)


def _identifier(last: int) -> IPv4Address:
    return IPv4Address(last)


def test_a_faulty_message_that_fills_its_length_still_gets_its_notification() -> None:
    """RFC 7313 5 wants the whole ROUTE-REFRESH back, which leaves no room for the NOTIFICATION's own header: it is cut."""
    refresh = bytes.fromhex("00010101") + bytes(4096 - 23)
    with pytest.raises(ProtocolError) as caught:
        decode(5, refresh)
    wrong = caught.value
    assert (wrong.code, wrong.subcode, len(wrong.data)) == (7, 1, 4096)
    sent = Notification(wrong.code, wrong.subcode, wrong.data).fitting(4096)
    assert len(sent.data) == 4096 - 21
    assert sent.data.startswith(MARKER + bytes.fromhex("1000 05 00010101"))
    assert Notification(6, 2, b"\0").fitting(4096).data == b"\0"


@pytest.mark.spec("BGP-12")
@pytest.mark.parametrize("own", [False, True], ids=["next hop kept", "own next hop"])
def test_a_route_whose_attributes_grew_too_long_is_withdrawn(*, own: bool) -> None:
    """RFC 8654 4: what came in an extended message may not fit the next neighbour's; it must not keep an older route."""
    narrow = Session(local_asn=1, peer_asn=2, asn4=True, families=BOTH)
    wide = Session(local_asn=1, peer_asn=2, asn4=True, families=BOTH, extended_message=True)
    long = Attributes(as_path=as_path.sequence((2,)), communities=tuple(range(1 << 16, (1 << 16) + 2000)))
    short = Attributes(as_path=as_path.sequence((2,)))
    for family, hop, route in (
        (V4, bytes((10, 0, 0, 1)), SLICE),
        (V6, bytes.fromhex("20010db8000000000000000000000001"), from_network("2001:db8::/32")),
    ):
        other = from_network("10.0.0.0/8" if family is V4 else "2001:db8:1::/48")
        told = []
        for session in (narrow, wide):
            parcel = Parcel(session, family)
            parcel.put(((), ((0, long, b"" if own else hop),)), [route])
            parcel.put(((), ((0, short, b"" if own else hop),)), [other])
            told.append(parcel.messages(hop))
        first, second = told[0]
        assert decode_update(first[19:], narrow) == Update(withdrawn={family: [route]})
        assert decode_update(second[19:], narrow).announced == {family: [other]}
        assert len(told[1][0]) > 8000
        assert decode_update(told[1][0][19:], wide).next_hop == {family: hop}
