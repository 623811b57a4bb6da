"""Path attributes: the table row by row, every error of RFC 4271 6.3 under RFC 7606 and without it, 2-octet peers, sharing."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bgp import as_path, attribute_codec
from harness.bgp.as_path import Segment, SegmentType
from harness.bgp.attribute_codec import decode_block, encode_attribute, encode_attributes
from harness.bgp.attribute_table import TABLE, Action, Code
from harness.bgp.attributes import (
    Aggregator,
    Attributes,
    LargeCommunity,
    UnknownAttribute,
    community,
    community_text,
    extended_community_text,
    large_community,
)
from harness.bgp.errors import ProtocolError
from harness.bgp.prefixes import Family, from_network
from harness.bgp.session import Session
from harness.bgp.update import Update, decode_update

INTERNAL = Session(local_asn=65001, peer_asn=65001, asn4=True, families=frozenset(Family))
EXTERNAL = Session(local_asn=65001, peer_asn=65002, asn4=True, families=frozenset(Family))
NARROW = Session(local_asn=65001, peer_asn=65001)
NARROW_STRICT = Session(local_asn=65001, peer_asn=65001, revised_errors=False)
#: Attributes that only a neighbour without 4-octet numbers may send: from others they are not looked at.
OLD = (Code.AS4_PATH, Code.AS4_AGGREGATOR)
STRICT = Session(local_asn=65001, peer_asn=65001, asn4=True, families=frozenset(Family), revised_errors=False)
V4 = Family.IPV4_UNICAST
ROUTE = from_network("192.0.2.0/24")

ORIGIN = encode_attribute(0x40, 1, b"\0")
PATH = encode_attribute(0x40, 2, bytes.fromhex("0201 0000fdea"))
NEXT_HOP = encode_attribute(0x40, 3, bytes((10, 0, 0, 2)))
GOOD = ORIGIN + PATH + NEXT_HOP


def update_body(block: bytes, routes: bytes = ROUTE, withdrawn: bytes = b"") -> bytes:
    return len(withdrawn).to_bytes(2, "big") + withdrawn + len(block).to_bytes(2, "big") + block + routes


VALUES = [
    # attribute, its value in octets, the field, its value
    (Code.ORIGIN, "02", "origin", 2),
    (
        Code.AS_PATH,
        "0202 0000fdea fa56ea01 0101 00000007",
        "as_path",
        (Segment(2, (65002, 4200000001)), Segment(1, (7,))),
    ),
    (Code.NEXT_HOP, "0a000002", "next_hop", bytes((10, 0, 0, 2))),
    (Code.MULTI_EXIT_DISC, "00000064", "med", 100),
    (Code.LOCAL_PREF, "000000c8", "local_pref", 200),
    (Code.ATOMIC_AGGREGATE, "", "atomic_aggregate", True),
    (Code.AGGREGATOR, "fa56ea01 0a000001", "aggregator", Aggregator(4200000001, IPv4Address("10.0.0.1"))),
    (Code.COMMUNITIES, "fde90064 ffffff01", "communities", (65001 << 16 | 100, 0xFFFFFF01)),
    (Code.ORIGINATOR_ID, "0a000009", "originator_id", IPv4Address("10.0.0.9")),
    (Code.CLUSTER_LIST, "00000001 00000002", "cluster_list", (1, 2)),
    (Code.EXTENDED_COMMUNITIES, "0002fde900000064", "extended", (bytes.fromhex("0002fde900000064"),)),
    (Code.LARGE_COMMUNITIES, "0000b030 00000001 00000002", "large", (LargeCommunity(45104, 1, 2),)),
]


@pytest.mark.parametrize(("code", "octets", "field", "value"), VALUES, ids=[code.name for code, *_ in VALUES])
@pytest.mark.spec("BGP-6", "BGP-11", "BGP-17")
def test_octets_and_value_both_ways(code: Code, octets: str, field: str, value: Any) -> None:
    wire = encode_attribute(TABLE[code].category, code, bytes.fromhex(octets))
    block = decode_block(wire, INTERNAL)
    assert block.faults == ()
    assert getattr(block.attributes, field) == value
    assert wire in encode_attributes(Attributes(**{field: value}), INTERNAL)


# attribute, malformed value, action of RFC 7606, subcode of RFC 4271 6.3
MALFORMED = [
    (Code.ORIGIN, "", Action.TREAT_AS_WITHDRAW, 5),
    (Code.ORIGIN, "0000", Action.TREAT_AS_WITHDRAW, 5),
    (Code.ORIGIN, "03", Action.TREAT_AS_WITHDRAW, 6),
    (Code.AS_PATH, "0501 0000fdea", Action.TREAT_AS_WITHDRAW, 11),
    (Code.AS_PATH, "0001 0000fdea", Action.TREAT_AS_WITHDRAW, 11),
    (Code.AS_PATH, "0202 0000fdea", Action.TREAT_AS_WITHDRAW, 11),
    (Code.AS_PATH, "0200", Action.TREAT_AS_WITHDRAW, 11),
    (Code.AS_PATH, "02", Action.TREAT_AS_WITHDRAW, 11),
    (Code.NEXT_HOP, "0a0000", Action.TREAT_AS_WITHDRAW, 5),
    (Code.NEXT_HOP, "00000000", Action.TREAT_AS_WITHDRAW, 8),
    (Code.NEXT_HOP, "7f000001", Action.TREAT_AS_WITHDRAW, 8),
    (Code.NEXT_HOP, "e0000001", Action.TREAT_AS_WITHDRAW, 8),
    (Code.MULTI_EXIT_DISC, "000064", Action.TREAT_AS_WITHDRAW, 5),
    (Code.LOCAL_PREF, "00000064 00", Action.TREAT_AS_WITHDRAW, 5),
    (Code.ATOMIC_AGGREGATE, "00", Action.DISCARD, 5),
    (Code.AGGREGATOR, "fde9 0a000001", Action.DISCARD, 5),
    (Code.COMMUNITIES, "", Action.TREAT_AS_WITHDRAW, 9),
    (Code.COMMUNITIES, "fde900", Action.TREAT_AS_WITHDRAW, 9),
    (Code.ORIGINATOR_ID, "0a", Action.TREAT_AS_WITHDRAW, 5),
    (Code.CLUSTER_LIST, "", Action.TREAT_AS_WITHDRAW, 9),
    (Code.EXTENDED_COMMUNITIES, "00020000", Action.TREAT_AS_WITHDRAW, 9),
    (Code.LARGE_COMMUNITIES, "0000b030 00000001", Action.TREAT_AS_WITHDRAW, 9),
    (Code.AS4_PATH, "0201 0000", Action.DISCARD, 9),
    (Code.AS4_AGGREGATOR, "00", Action.DISCARD, 5),
]
IDS = [f"{code.name}-{octets.replace(' ', '') or 'empty'}" for code, octets, *_ in MALFORMED]


def with_attribute(code: int, wire: bytes, session: Session) -> bytes:
    """The good block with one attribute put in, in place of its good form."""
    path = PATH if session.asn4 else encode_attribute(0x40, 2, bytes.fromhex("0201 fdea"))
    parts = {1: ORIGIN, 2: path, 3: NEXT_HOP} | {code: wire}
    return b"".join(parts.values())


@pytest.mark.parametrize(("code", "octets", "action", "subcode"), MALFORMED, ids=IDS)
@pytest.mark.spec("BGP-6", "BGP-8")
def test_malformed_attribute(code: Code, octets: str, action: Action, subcode: int) -> None:
    """RFC 7606: the route is withdrawn or the attribute dropped; RFC 4271: the NOTIFICATION, with the attribute as data."""
    session, strict = (NARROW, NARROW_STRICT) if code in OLD else (INTERNAL, STRICT)
    wire = encode_attribute(TABLE[code].category, code, bytes.fromhex(octets))
    body = update_body(with_attribute(code, wire, session))
    update = decode_update(body, session)
    (fault,) = update.errors
    assert (fault.code, fault.action, fault.subcode, fault.data) == (code, action, subcode, wire)
    assert TABLE[code].action is action
    if action is Action.TREAT_AS_WITHDRAW:
        assert (update.announced, update.withdrawn, update.attributes) == ({}, {V4: [ROUTE]}, None)
    else:
        assert update.announced == {V4: [ROUTE]}
        good = update_body(with_attribute(Code.ORIGIN, ORIGIN, session))
        assert update.attributes == decode_update(good, session).attributes
    with pytest.raises(ProtocolError) as caught:
        decode_update(body, strict)
    assert (caught.value.code, caught.value.subcode, caught.value.data) == (3, subcode, wire)


@pytest.mark.parametrize("code", [code for code in TABLE if code not in (14, 15)], ids=lambda code: Code(code).name)
def test_wrong_flags(code: int) -> None:
    """RFC 7606 3 c: wrong Optional or Transitive bits withdraw the route; the partial bit is let pass."""
    row = TABLE[code]
    value = bytes.fromhex(next((octets for known, octets, *_ in VALUES if known == code), "0000fde90a000001"))
    for flip in (0x80, 0x40):
        wire = encode_attribute(row.category ^ flip, code, value)
        session = NARROW if code in OLD else INTERNAL
        (fault,) = decode_update(update_body(with_attribute(code, wire, session)), session).errors
        assert (fault.action, fault.subcode, fault.data) == (Action.TREAT_AS_WITHDRAW, 4, wire)


@pytest.mark.parametrize(("code", "without"), [(1, PATH + NEXT_HOP), (2, ORIGIN + NEXT_HOP), (3, ORIGIN + PATH)])
def test_missing_mandatory_attribute(code: int, without: bytes) -> None:
    update = decode_update(update_body(without), EXTERNAL)
    (fault,) = update.errors
    assert (fault.code, fault.subcode, fault.data) == (code, 3, bytes((code,)))
    assert update.withdrawn == {V4: [ROUTE]}
    assert decode_update(update_body(without, routes=b"", withdrawn=ROUTE), EXTERNAL).errors == ()
    with pytest.raises(ProtocolError) as caught:
        decode_update(update_body(without), STRICT)
    assert (caught.value.subcode, caught.value.data) == (3, bytes((code,)))


def test_an_unknown_well_known_attribute_resets_the_session() -> None:
    wire = encode_attribute(0x40, 99, b"abc")
    with pytest.raises(ProtocolError) as caught:
        decode_update(update_body(GOOD + wire), EXTERNAL)
    assert (caught.value.code, caught.value.subcode, caught.value.data) == (3, 2, wire)


def test_unknown_optional_attributes_are_kept() -> None:
    wire = encode_attribute(0xC0, 99, b"abc") + encode_attribute(0x80, 100, b"x" * 300)
    attributes = decode_update(update_body(GOOD + wire), EXTERNAL).attributes
    assert attributes is not None
    assert attributes.unknown == (UnknownAttribute(0xC0, 99, b"abc"), UnknownAttribute(0x80, 100, b"x" * 300))
    assert encode_attributes(attributes, EXTERNAL).endswith(wire)


def test_the_partial_bit_stays_and_the_order_on_the_wire_does_not_count() -> None:
    partial = encode_attribute(0xE0, 8, bytes.fromhex("fde90064"))
    attributes = decode_update(update_body(GOOD + partial), EXTERNAL).attributes
    assert attributes is not None
    assert attributes.partial == (8,)
    assert partial in encode_attributes(attributes, EXTERNAL)
    later, sooner = encode_attribute(0xC0, 99, b"a"), encode_attribute(0x80, 98, b"b")
    one = decode_update(update_body(later + GOOD + sooner), EXTERNAL).attributes
    other = decode_update(update_body(sooner + GOOD + later), EXTERNAL).attributes
    assert one == other and hash(one) == hash(other)


def test_of_several_the_first_counts() -> None:
    second = encode_attribute(0x40, 3, bytes((10, 0, 0, 3)))
    update = decode_update(update_body(GOOD + second), EXTERNAL)
    assert update.next_hop == {V4: bytes((10, 0, 0, 2))}
    assert [(fault.code, fault.action) for fault in update.errors] == [(3, Action.DISCARD)]


@pytest.mark.parametrize(
    "tail", ["40", "4005", "50050001", "400504 000000", "c0 08 ff", "50 08"], ids=lambda tail: tail.replace(" ", "")
)
@pytest.mark.spec("BGP-17")
def test_an_attribute_that_overruns_the_block_withdraws(tail: str) -> None:
    """RFC 7606 4: the NLRI field is still found by the block's length."""
    update = decode_update(update_body(GOOD + bytes.fromhex(tail)), INTERNAL)
    (fault,) = update.errors
    assert fault.action is Action.TREAT_AS_WITHDRAW
    assert update.withdrawn == {V4: [ROUTE]}


def test_attributes_that_stay_inside_an_as() -> None:
    """RFC 7606 7.5, 7.9, 7.10: from an external peer they are dropped unread; to one they are not sent."""
    inner = (
        encode_attribute(0x40, 5, b"\0\0\0\1") + encode_attribute(0x80, 9, b"\1") + encode_attribute(0x80, 10, b"\1")
    )
    update = decode_update(update_body(GOOD + inner), EXTERNAL)
    assert update.errors == ()
    assert update.attributes is not None
    assert (update.attributes.local_pref, update.attributes.originator_id, update.attributes.cluster_list) == (
        None,
        None,
        (),
    )
    mine = Attributes(local_pref=100, originator_id=IPv4Address(1), cluster_list=(1,))
    assert encode_attributes(mine, EXTERNAL) == encode_attributes(Attributes(), EXTERNAL)
    assert encode_attributes(mine, INTERNAL) != encode_attributes(Attributes(), INTERNAL)


def test_the_first_as_of_an_external_peer_is_its_own() -> None:
    session = Session(local_asn=1, peer_asn=65002, asn4=True, enforce_first_as=True)
    assert decode_update(update_body(GOOD), session).errors == ()
    foreign = Session(local_asn=1, peer_asn=65003, asn4=True, enforce_first_as=True)
    (fault,) = decode_update(update_body(GOOD), foreign).errors
    assert (fault.code, fault.subcode, fault.action) == (2, 11, Action.TREAT_AS_WITHDRAW)


# ------------------------------------------------------------------------------------------------ 2-octet AS numbers (6793)


@pytest.mark.spec("BGP-5")
def test_large_numbers_through_a_two_octet_peer() -> None:
    mine = Attributes(
        as_path=as_path.sequence((65001, 4200000001, 7)), aggregator=Aggregator(4200000001, IPv4Address("10.0.0.1"))
    )
    wire = encode_attributes(mine, NARROW)
    assert bytes.fromhex("0203 fde9 5ba0 0007".replace(" ", "")) in wire, "AS_TRANS stands for the large number"
    assert decode_block(wire, NARROW).attributes == mine, "AS4_PATH and AS4_AGGREGATOR bring it back"
    small = Attributes(as_path=as_path.sequence((65001, 7)), aggregator=Aggregator(7, IPv4Address("10.0.0.1")))
    assert len(encode_attributes(small, NARROW)) < len(encode_attributes(small, INTERNAL)), (
        "no AS4 attributes without need"
    )


def narrow_block(path: str, path4: str, aggregator: str = "", aggregator4: str = "") -> bytes:
    parts = [(0x40, 2, path), (0xC0, 7, aggregator), (0xC0, 17, path4), (0xC0, 18, aggregator4)]
    return b"".join(encode_attribute(flags, code, bytes.fromhex(octets)) for flags, code, octets in parts if octets)


@pytest.mark.spec("BGP-5")
def test_a_two_octet_speaker_that_prepended() -> None:
    block = narrow_block("0203 fde9 fdea 5ba0", "0201 fa56ea01")
    assert decode_block(block, NARROW).attributes.as_path == as_path.sequence((65001, 65002, 4200000001))


@pytest.mark.spec("BGP-5")
def test_as4_attributes_that_do_not_count() -> None:
    longer = narrow_block("0201 5ba0", "0202 fa56ea01 fa56ea02")
    assert decode_block(longer, NARROW).attributes.as_path == as_path.sequence((23456,)), (
        "an AS4_PATH longer than the AS_PATH"
    )
    stale = narrow_block("0201 5ba0", "0201 fa56ea01", "fde9 0a000001", "fa56ea01 0a000002")
    seen = decode_block(stale, NARROW).attributes
    assert seen.aggregator == Aggregator(65001, IPv4Address("10.0.0.1")), "the AGGREGATOR is newer than AS4_AGGREGATOR"
    assert seen.as_path == as_path.sequence((23456,))
    wide = encode_attribute(0x40, 2, bytes.fromhex("0201 0000fdea")) + encode_attribute(
        0xC0, 17, bytes.fromhex("0201 fa56ea01")
    )
    assert decode_block(wide, INTERNAL).attributes.as_path == as_path.sequence((65002,)), (
        "from a 4-octet peer: discarded"
    )


SEQ, SET, CONFED = SegmentType.AS_SEQUENCE, SegmentType.AS_SET, SegmentType.AS_CONFED_SEQUENCE


@pytest.mark.parametrize(
    ("path", "path4", "merged"),
    [
        (
            (Segment(SEQ, (1, 2)), Segment(SET, (3, 4))),
            (Segment(SET, (5,)),),
            (Segment(SEQ, (1, 2)), Segment(SET, (5,))),
        ),
        ((Segment(SET, (1, 2)), Segment(SEQ, (3,))), (Segment(SEQ, (9,)),), (Segment(SET, (1, 2)), Segment(SEQ, (9,)))),
        (
            (Segment(CONFED, (8,)), Segment(SEQ, (1, 2))),
            (Segment(SEQ, (9,)),),
            (Segment(CONFED, (8,)), Segment(SEQ, (1, 9))),
        ),
        ((Segment(SEQ, (1,)),), (Segment(CONFED, (7,)), Segment(SEQ, (9,))), (Segment(SEQ, (9,)),)),
        ((Segment(SEQ, (1, 2)),), (), (Segment(SEQ, (1, 2)),)),
    ],
    ids=["set-in-the-tail", "set-in-front", "confederation-in-front", "confederation-in-as4", "empty-as4"],
)
@pytest.mark.spec("BGP-5")
def test_merge(path: as_path.AsPath, path4: as_path.AsPath, merged: as_path.AsPath) -> None:
    assert as_path.merge(path, path4) == merged


def test_paths() -> None:
    path = as_path.sequence((65001, 65002))
    assert as_path.prepend(path, 7, 2) == as_path.sequence((7, 7, 65001, 65002))
    assert as_path.prepend((), 7) == as_path.sequence((7,))
    full = as_path.sequence(range(1, 256))
    assert [len(segment.asns) for segment in as_path.prepend(full, 7)] == [1, 255], "a segment holds 255 numbers"
    mixed = (Segment(CONFED, (1, 2)), Segment(SEQ, (3, 4)), Segment(SET, (5, 6)))
    assert as_path.length(mixed) == 3
    assert Attributes(as_path=mixed).neighbor_as == 3
    assert Attributes(as_path=(Segment(SET, (5,)),)).neighbor_as == 0
    assert as_path.contains(mixed, 6) == 1
    assert as_path.text(mixed) == "(1 2) 3 4 {5 6}"
    long = as_path.sequence(range(1, 300))
    assert as_path.length(as_path.decode(as_path.encode(long, 4), 4)) == 299


# --------------------------------------------------------------------------------------------------------- values, sharing


def test_the_same_octets_are_the_same_object() -> None:
    one = decode_update(update_body(GOOD), EXTERNAL).attributes
    other = decode_update(update_body(GOOD, routes=from_network("10.0.0.0/8")), EXTERNAL).attributes
    assert one is other
    assert one == Attributes(as_path=as_path.sequence((65002,)), next_hop=bytes((10, 0, 0, 2)))
    assert hash(one) == hash(Attributes(as_path=as_path.sequence((65002,)), next_hop=bytes((10, 0, 0, 2))))
    assert one != Attributes(as_path=as_path.sequence((65002,)), next_hop=bytes((10, 0, 0, 2)), med=0)
    reach = encode_attribute(
        0x80, 14, bytes.fromhex("000201 10 20010db8000000000000000000000001 00") + from_network("2001:db8::/32")
    )
    assert decode_update(update_body(reach + GOOD, routes=b""), EXTERNAL).attributes is one, "routes do not count"


def test_the_same_octets_mean_other_things_in_other_contexts() -> None:
    narrow = decode_block(encode_attribute(0x40, 2, bytes.fromhex("0202 0007fdea")), NARROW).attributes
    assert narrow.as_path == as_path.sequence((7, 65002))
    assert decode_block(encode_attribute(0x40, 2, bytes.fromhex("0202 0007fdea")), INTERNAL).faults


def test_evolve() -> None:
    one = Attributes(med=1)
    assert one.evolve(med=1) is one
    assert one.evolve(med=2, local_pref=3) == Attributes(med=2, local_pref=3)
    assert one.prepended(7).as_path_length == 1
    with pytest.raises(AttributeError):
        one.evolve(no_such_field=1)


def test_texts() -> None:
    assert community_text(community("65530:100")) == "65530:100"
    assert community("no-export") == 0xFFFFFF01
    assert community_text(0xFFFFFF01) == "no-export"
    assert str(large_community("45104:1:2")) == "45104:1:2"
    for wrong in ("65536:1", "1", "a:b", "1:2:3"):
        with pytest.raises(ValueError, match="community"):
            community(wrong)
    with pytest.raises(ValueError, match="large community"):
        large_community("1:2:4294967296")
    assert extended_community_text(bytes.fromhex("0002fde900000064")) == "rt 65001:100"
    assert extended_community_text(bytes.fromhex("01030a0000010007")) == "ro 10.0.0.1:7"
    assert extended_community_text(bytes.fromhex("0202fa56ea010007")) == "rt 4200000001:7"
    assert extended_community_text(bytes.fromhex("8006000000000000")) == "8006000000000000"


asns = st.integers(1, 2**32 - 1)
segments = st.builds(Segment, st.sampled_from([1, 2]), st.lists(asns, min_size=1, max_size=5).map(tuple))
u32 = st.integers(0, 2**32 - 1)
addresses = u32.map(IPv4Address)
attributes_values = st.builds(
    Attributes,
    origin=st.integers(0, 2),
    as_path=st.lists(segments, max_size=3).map(tuple),
    next_hop=st.just(b"") | st.just(bytes((192, 0, 2, 1))),
    med=st.none() | u32,
    local_pref=st.none() | u32,
    atomic_aggregate=st.booleans(),
    aggregator=st.none() | st.builds(Aggregator, asns, addresses),
    communities=st.lists(u32, max_size=70).map(tuple),
    originator_id=st.none() | addresses,
    cluster_list=st.lists(u32, max_size=3).map(tuple),
    extended=st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(tuple),
    large=st.lists(st.builds(LargeCommunity, u32, u32, u32), max_size=3, unique=True).map(tuple),
    unknown=st.lists(
        st.builds(UnknownAttribute, st.sampled_from([0x80, 0xC0, 0xE0]), st.integers(33, 255), st.binary(max_size=20)),
        max_size=3,
        unique_by=lambda item: item.code,
    ).map(lambda items: tuple(sorted(items, key=lambda item: item.code))),
    partial=st.just(()),
)


@given(attributes_values)
@pytest.mark.spec("BGP-6", "BGP-11")
def test_round_trip(value: Attributes) -> None:
    block = decode_block(encode_attributes(value, INTERNAL), INTERNAL)
    assert (block.attributes, block.faults, block.missing) == (value, (), ())


@given(attributes_values, st.sampled_from([INTERNAL, EXTERNAL, NARROW]), st.data())
def test_the_short_way_says_what_the_long_way_says(value: Attributes, session: Session, data: st.DataObject) -> None:
    """A block that was seen before, and one like it with a few octets exchanged, cut short or repeated."""
    whole = encode_attributes(value, INTERNAL)
    attribute_codec.forget()
    with contextlib.suppress(ProtocolError):
        decode_block(whole, session)
    at = data.draw(st.integers(0, len(whole)))
    other = whole[:at] + data.draw(st.binary(max_size=3)) + whole[data.draw(st.integers(0, len(whole))) :]
    for block in (whole, other):
        short = attribute_codec._decode_usual(block, session)
        if short is not None:
            pieces, faults, with_routes = attribute_codec._split(block)
            assert not with_routes
            assert short == attribute_codec._decode(pieces, faults, session)


def test_the_short_way_is_taken() -> None:
    value = Attributes(as_path=as_path.sequence([65002, 3]), next_hop=bytes((192, 0, 2, 1)), communities=(7, 9))
    later = encode_attributes(value.evolve(as_path=as_path.sequence([65002, 4])), EXTERNAL)
    attribute_codec.forget()
    assert attribute_codec._decode_usual(later, EXTERNAL) is None
    decode_block(encode_attributes(value, EXTERNAL), EXTERNAL)
    short = attribute_codec._decode_usual(later, EXTERNAL)
    assert short is not None
    assert short.attributes == value.evolve(as_path=as_path.sequence([65002, 4]))


@given(attributes_values)
@pytest.mark.spec("BGP-5")
def test_round_trip_through_a_two_octet_peer(value: Attributes) -> None:
    """Up to the grouping into segments, which the merge may join, nothing is lost."""
    seen = decode_block(encode_attributes(value, NARROW), NARROW).attributes
    flat = [(kind, asn) for kind, numbers in seen.as_path for asn in numbers]
    assert flat == [(kind, asn) for kind, numbers in value.as_path for asn in numbers]
    assert seen.evolve(as_path=value.as_path) == value


@given(st.binary(max_size=80), st.booleans())
def test_any_block_gives_an_update_or_a_protocol_error(block: bytes, external: bool) -> None:
    session = EXTERNAL if external else INTERNAL
    try:
        update = decode_update(update_body(block), session)
    except ProtocolError as error:
        assert error.code == 3
    else:
        assert isinstance(update, Update)
        assert [*update.announced.get(V4, ()), *update.withdrawn.get(V4, ())].count(ROUTE) == 1
