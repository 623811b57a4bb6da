"""UPDATEs as a whole: lengths, NLRI, other families, path identifiers, End-of-RIB, and packing many routes."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bgp import as_path
from harness.bgp.attribute_codec import encode_attribute
from harness.bgp.attribute_table import Action
from harness.bgp.attributes import Attributes
from harness.bgp.errors import ProtocolError
from harness.bgp.messages import Framer
from harness.bgp.prefixes import (
    Family,
    MalformedNlri,
    Network,
    cut,
    family_of,
    from_network,
    split_path_id,
    text,
    to_network,
    with_path_id,
)
from harness.bgp.session import Session
from harness.bgp.update import (
    Update,
    decode_update,
    encode_update,
    end_of_rib,
    pack_announcements,
    pack_withdrawals,
)

BOTH = frozenset(Family)
V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
SESSION = Session(local_asn=1, peer_asn=1, asn4=True, families=BOTH)
ONLY_V4 = Session(local_asn=1, peer_asn=1, asn4=True)
PATHS = Session(local_asn=1, peer_asn=1, asn4=True, families=BOTH, add_path_receive=BOTH, add_path_send=BOTH)
ATTRIBUTES = Attributes(as_path=as_path.sequence((65002,)))
HOP4, HOP6 = bytes((192, 0, 2, 1)), bytes.fromhex("20010db8000000000000000000000001")
LINK_LOCAL = bytes.fromhex("fe800000000000000000000000000001")


def body(withdrawn: str = "", block: str = "", routes: str = "") -> bytes:
    parts = [bytes.fromhex(part.replace(" ", "")) for part in (withdrawn, block, routes)]
    return len(parts[0]).to_bytes(2, "big") + parts[0] + len(parts[1]).to_bytes(2, "big") + parts[1] + parts[2]


GOOD = "400101 00  400206 0201 0000fdea  400304 c0000201"


@pytest.mark.spec("BGP-6", "BGP-17")
def test_octets_and_update_both_ways() -> None:
    octets = body("10 0a01 00", GOOD, "18 c00002 09 0a80 20 c6336401")
    update = Update(
        announced={V4: [from_network(item) for item in ("192.0.2.0/24", "10.128.0.0/9", "198.51.100.1/32")]},
        withdrawn={V4: [from_network("10.1.0.0/16"), from_network("0.0.0.0/0")]},
        attributes=ATTRIBUTES.evolve(next_hop=HOP4),
        next_hop={V4: HOP4},
    )
    assert decode_update(octets, SESSION) == update
    assert encode_update(update, SESSION)[19:] == octets


@pytest.mark.spec("BGP-11")
def test_ipv6_both_ways() -> None:
    """RFC 4760 and RFC 2545: a global next hop, with the link-local one behind it."""
    reach = encode_attribute(
        0x80, 14, bytes.fromhex("000201 20") + HOP6 + LINK_LOCAL + b"\0" + from_network("2001:db8::/32")
    )
    unreach = encode_attribute(0x80, 15, bytes.fromhex("000201") + from_network("2001:db8:1::/48"))
    octets = body(block=(unreach + reach).hex() + "400101 00  400206 0201 0000fdea")
    update = Update(
        announced={V6: [from_network("2001:db8::/32")]},
        withdrawn={V6: [from_network("2001:db8:1::/48")]},
        attributes=ATTRIBUTES,
        next_hop={V6: HOP6 + LINK_LOCAL},
    )
    assert decode_update(octets, SESSION) == update
    assert encode_update(update, SESSION)[19:] == octets


@pytest.mark.spec("BGP-11", "BGP-19")
def test_path_identifiers_both_ways_and_only_where_negotiated() -> None:
    octets = body("00000007 10 0a01", GOOD, "00000001 18 c00002  00000002 18 c00002")
    route = from_network("192.0.2.0/24")
    update = decode_update(octets, PATHS)
    assert update.announced == {V4: [with_path_id(1, route), with_path_id(2, route)]}
    assert update.withdrawn == {V4: [with_path_id(7, from_network("10.1.0.0/16"))]}
    assert encode_update(update, PATHS)[19:] == octets
    assert split_path_id(update.announced[V4][1]) == (2, route)
    assert text(update.announced[V4][1], V4, add_path=True) == "192.0.2.0/24#2"
    plain = decode_update(body("", GOOD, "00 00 00 00 18 c00002"), SESSION)
    assert len(plain.announced[V4]) == 5, "without ADD-PATH four zero octets are four default routes"


BROKEN = [
    pytest.param("0005 0a0000", (3, 1), id="withdrawn-overruns"),
    pytest.param("0000 0008 4001", (3, 1), id="attributes-overrun"),
    pytest.param("0000 ffff", (3, 1), id="attributes-overrun-nothing"),
    pytest.param("0001 21 0000", (3, 10), id="withdrawn-length-33"),
    pytest.param("0002 18 0a 0000", (3, 10), id="withdrawn-prefix-cut"),
    pytest.param("0000 0000 21 0a000000 00", (3, 10), id="length-33"),
    pytest.param("0000 0000 18 0a00", (3, 10), id="prefix-cut"),
    pytest.param("0000 0000 08 0a 18", (3, 10), id="second-prefix-cut"),
]


@pytest.mark.parametrize(("octets", "error"), BROKEN)
@pytest.mark.spec("BGP-17", "BGP-8")
def test_what_cannot_be_parsed_resets_the_session(octets: str, error: tuple[int, int]) -> None:
    for session in (SESSION, PATHS):
        with pytest.raises(ProtocolError) as caught:
            decode_update(bytes.fromhex(octets.replace(" ", "")), session)
        assert (caught.value.code, caught.value.subcode, caught.value.data) == (*error, b"")


MP_BROKEN = [
    pytest.param(14, "0002", id="reach-without-family"),
    pytest.param(14, "000201 10 2001", id="reach-cut-in-the-next-hop"),
    pytest.param(14, "000201 04 0a000001 00 20 20010db8", id="ipv6-with-an-ipv4-next-hop"),
    pytest.param(14, "000101 10 20010db8000000000000000000000001 00 08 0a", id="ipv4-with-an-ipv6-next-hop"),
    pytest.param(14, "000201 10 20010db8000000000000000000000001 00 81 20010db8", id="reach-length-129"),
    pytest.param(14, "000201 10 20010db8000000000000000000000001 00 40 20010db8", id="reach-prefix-cut"),
    pytest.param(15, "0002", id="unreach-without-family"),
    pytest.param(15, "000201 40 2001", id="unreach-prefix-cut"),
]


@pytest.mark.parametrize(("code", "value"), MP_BROKEN)
@pytest.mark.spec("BGP-11")
def test_mp_attributes_that_cannot_be_parsed_reset_the_session(code: int, value: str) -> None:
    """RFC 7606 7.11 and 5.3: which routes are meant cannot be known; the attribute is the data."""
    wire = encode_attribute(0x80, code, bytes.fromhex(value.replace(" ", "")))
    with pytest.raises(ProtocolError) as caught:
        decode_update(body(block=wire.hex() + GOOD), SESSION)
    assert (caught.value.code, caught.value.subcode, caught.value.data) == (3, 9, wire)


def test_mp_attributes_with_wrong_flags_withdraw() -> None:
    """RFC 7606 3 c."""
    reach = encode_attribute(0xC0, 14, bytes.fromhex("000201 10") + HOP6 + b"\0" + from_network("2001:db8::/32"))
    update = decode_update(body(block=reach.hex() + GOOD), SESSION)
    assert update.withdrawn == {V6: [from_network("2001:db8::/32")]}
    assert [(fault.code, fault.subcode, fault.data) for fault in update.errors] == [(14, 4, reach)]


def test_mp_attributes_twice_reset_the_session() -> None:
    wire = encode_attribute(0x80, 15, bytes.fromhex("000201"))
    with pytest.raises(ProtocolError) as caught:
        decode_update(body(block=(wire + wire).hex()), SESSION)
    assert (caught.value.code, caught.value.subcode) == (3, 1)


@pytest.mark.spec("BGP-19", "BGP-11")
def test_a_family_that_was_not_negotiated_is_ignored() -> None:
    reach = encode_attribute(0x80, 14, bytes.fromhex("000201 10") + HOP6 + b"\0" + from_network("2001:db8::/32"))
    update = decode_update(body(block=reach.hex() + GOOD, routes="18 c00002"), ONLY_V4)
    assert set(update.announced) == {V4}
    assert [(fault.code, fault.action) for fault in update.errors] == [(14, Action.DISCARD)]
    assert "AFI 2 SAFI 1 was not negotiated" in str(update.errors[0])


def test_an_ipv6_next_hop_that_is_no_host_withdraws() -> None:
    for hop in ("00" * 16, "00" * 15 + "01", "ff02" + "00" * 14):
        reach = encode_attribute(0x80, 14, bytes.fromhex("000201 10" + hop) + b"\0" + from_network("2001:db8::/32"))
        update = decode_update(body(block=reach.hex() + GOOD), SESSION)
        assert update.withdrawn == {V6: [from_network("2001:db8::/32")]}
        assert update.errors[0].subcode == 8


def test_a_bad_attribute_withdraws_the_routes_of_both_families() -> None:
    reach = encode_attribute(0x80, 14, bytes.fromhex("000201 10") + HOP6 + b"\0" + from_network("2001:db8::/32"))
    update = decode_update(body("08 0b", reach.hex() + GOOD + "800403 000001", "08 0a"), SESSION)
    assert update.announced == {}
    assert update.withdrawn == {V4: [b"\x08\x0b", b"\x08\x0a"], V6: [from_network("2001:db8::/32")]}
    assert update.attributes is None


@pytest.mark.spec("BGP-6")
def test_end_of_rib() -> None:
    for family in Family:
        wire = end_of_rib(family)
        (frame,) = Framer().feed(wire)
        update = decode_update(frame.body, SESSION)
        assert update == Update(end_of_rib=family)
        assert encode_update(update, SESSION) == wire
    assert end_of_rib(V4) == b"\xff" * 16 + bytes.fromhex("0017 02 0000 0000")
    assert decode_update(body("08 0a"), SESSION).end_of_rib is None


# ------------------------------------------------------------------------------------------------------------------- NLRI


@pytest.mark.spec("BGP-17")
def test_host_bits_are_cleared_so_that_a_prefix_has_one_key() -> None:
    assert cut(bytes.fromhex("0c ac1f"), 32) == [from_network("172.16.0.0/12")]
    assert cut(bytes.fromhex("00000001 0c ac1f"), 32, True) == [with_path_id(1, from_network("172.16.0.0/12"))]
    assert cut(b"", 32) == cut(b"", 128, True) == []
    with pytest.raises(MalformedNlri, match="ends inside a path identifier"):
        cut(bytes(4), 32, True)
    with pytest.raises(MalformedNlri, match="33 at octet 2 is over 32"):
        cut(bytes.fromhex("08 0a 21 00000000"), 32)


networks = st.one_of(
    st.builds(lambda a, n: IPv4Network((a, n), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(lambda a, n: IPv6Network((a, n), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)),
)


@given(st.lists(networks, max_size=20), st.booleans())
@pytest.mark.spec("BGP-17")
def test_networks_and_slices_round_trip(items: list[Network], add_path: bool) -> None:
    for family in Family:
        mine = [item for item in items if family_of(item) is family]
        slices = [from_network(item) for item in mine]
        assert [to_network(piece, family) for piece in slices] == mine
        assert [text(piece, family) for piece in slices] == [str(item) for item in mine]
        if add_path:
            slices = [with_path_id(number, piece) for number, piece in enumerate(slices)]
        assert cut(b"".join(slices), family.bits, add_path) == slices


@given(st.binary(max_size=60), st.sampled_from([32, 128]), st.booleans())
def test_any_nlri_field_is_cut_or_refused(field: bytes, bits: int, add_path: bool) -> None:
    try:
        slices = cut(field, bits, add_path)
    except MalformedNlri:
        return
    assert sum(map(len, slices)) == len(field)


# ---------------------------------------------------------------------------------------------------------------- packing


@pytest.mark.parametrize("family", Family, ids=str)
@pytest.mark.parametrize("extended", [False, True], ids=["4096", "65535"])
@pytest.mark.parametrize("add_path", [False, True], ids=["plain", "add-path"])
@pytest.mark.spec("BGP-12", "BGP-11")
def test_packing_fills_messages_and_loses_nothing(family: Family, extended: bool, add_path: bool) -> None:
    base = PATHS if add_path else SESSION
    session = Session(
        local_asn=1,
        peer_asn=1,
        asn4=True,
        families=BOTH,
        add_path_receive=base.add_path_receive,
        add_path_send=base.add_path_send,
        extended_message=extended,
    )
    net = "10.{}.{}.0/24" if family is V4 else "2001:db8:{:x}:{:x}::/64"
    slices = [from_network(net.format(high, low)) for high, low in itertools.product(range(12), range(256))]
    if add_path:
        slices = [with_path_id(number, piece) for number, piece in enumerate(slices)]
    hop = HOP4 if family is V4 else HOP6 + LINK_LOCAL
    for wires in (
        pack_announcements(session, family, ATTRIBUTES, hop, slices),
        pack_withdrawals(session, family, slices),
    ):
        assert all(len(wire) <= session.max_length for wire in wires)
        assert all(len(wire) > session.max_length - 2 * len(slices[0]) for wire in wires[:-1]), "no message half empty"
        framer = Framer()
        framer.max_length = session.max_length
        updates = [decode_update(frame.body, session) for frame in framer.feed(b"".join(wires))]
        assert framer.error is None
        assert not any(update.errors for update in updates)
        seen = [piece for update in updates for piece in (update.announced or update.withdrawn)[family]]
        assert seen == slices
        if updates[0].announced:
            assert all(update.next_hop == {family: hop} for update in updates)
            assert all(update.attributes is updates[0].attributes for update in updates)


def test_attributes_that_leave_no_room() -> None:
    huge = ATTRIBUTES.evolve(communities=tuple(range(1015)))
    with pytest.raises(ValueError, match="leave"):
        pack_announcements(SESSION, V4, huge, HOP4, [from_network("10.0.0.0/24")])
    assert pack_announcements(SESSION, V4, huge, HOP4, []) == []
    with pytest.raises(ValueError, match="the session allows 4096"):
        encode_update(Update(withdrawn={V4: [from_network("10.0.0.0/24")] * 1100}), SESSION)
