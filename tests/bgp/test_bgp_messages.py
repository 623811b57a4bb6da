"""Message octets and message values, both ways; every header and OPEN error with its data; the framer; Hypothesis round trips."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bgp.capabilities import (
    AddPath,
    AddPathFamily,
    EnhancedRouteRefresh,
    ExtendedMessage,
    FourOctetAs,
    GracefulRestart,
    Multiprotocol,
    RestartFamily,
    RouteRefreshCapability,
    UnknownCapability,
)
from harness.bgp.errors import Cease, ProtocolError
from harness.bgp.messages import (
    KEEPALIVE_WIRE,
    MARKER,
    Framer,
    Keepalive,
    Message,
    MessageType,
    Notification,
    Open,
    RouteRefresh,
    decode,
    encode,
    frame,
)
from harness.bgp.prefixes import Family
from harness.bgp.session import Session

ROUTER = IPv4Address("10.0.0.1")
PAIRS = [
    pytest.param("0013 04", Keepalive(), marks=pytest.mark.spec("BGP-13"), id="keepalive"),
    pytest.param(
        "001d 01 04 fde9 005a 0a000001 00", Open(65001, 90, ROUTER), marks=pytest.mark.spec("BGP-4"), id="bare-open"
    ),
    pytest.param(
        "003b 01 04 5ba0 00b4 0a000001 1e 021c  0104 0001 00 01  0104 0002 00 01  0200  0600"
        "  4104 fa56ea01  4504 0001 01 03",
        Open(
            23456,
            180,
            ROUTER,
            (
                Multiprotocol(1, 1),
                Multiprotocol(2, 1),
                RouteRefreshCapability(),
                ExtendedMessage(),
                FourOctetAs(4200000001),
                AddPath((AddPathFamily(1, 1, True, True),)),
            ),
        ),
        marks=pytest.mark.spec("BGP-4", "BGP-5", "BGP-14"),
        id="open-with-capabilities",
    ),
    pytest.param(
        "002b 01 04 fde9 0000 0a000001 0e 020c  4006 c078 0001 01 80  4600  c800",
        Open(
            65001,
            0,
            ROUTER,
            (
                GracefulRestart(True, True, 120, (RestartFamily(1, 1, True),)),
                EnhancedRouteRefresh(),
                UnknownCapability(200, b""),
            ),
        ),
        marks=pytest.mark.spec("BGP-15"),
        id="open-restart-hold-zero",
    ),
    pytest.param("0015 03 04 00", Notification(4, 0), marks=pytest.mark.spec("BGP-8"), id="hold-expired"),
    pytest.param(
        "001c 03 06 02 07 676f206f7574",
        Notification(6, 2, b"\x07go out"),
        marks=pytest.mark.spec("BGP-8"),
        id="notification-with-data",
    ),
    pytest.param("0017 05 0001 00 01", RouteRefresh(1, 1), marks=pytest.mark.spec("BGP-10"), id="route-refresh"),
    pytest.param("0017 05 0002 01 01", RouteRefresh(2, 1, 1), marks=pytest.mark.spec("BGP-10"), id="refresh-begin"),
]


@pytest.mark.parametrize(("octets", "message"), PAIRS)
def test_octets_and_message_both_ways(octets: str, message: Message) -> None:
    wire = MARKER + bytes.fromhex(octets.replace(" ", ""))
    framer = Framer()
    (cut,) = framer.feed(wire)
    assert framer.error is None
    assert decode(*cut) == message
    assert encode(message) == wire


def header(length: int, kind: int, marker: bytes = MARKER) -> bytes:
    return marker + length.to_bytes(2, "big") + bytes((kind,))


HEADER_ERRORS = [
    pytest.param(header(19, 4, b"\xff" * 15 + b"\xfe"), (1, 1, b""), id="marker"),
    pytest.param(header(18, 4), (1, 2, b"\x00\x12"), id="shorter-than-a-header"),
    pytest.param(header(4097, 2), (1, 2, b"\x10\x01"), id="longer-than-4096"),
    pytest.param(header(28, 1), (1, 2, b"\x00\x1c"), id="short-open"),
    pytest.param(header(22, 2), (1, 2, b"\x00\x16"), id="short-update"),
    pytest.param(header(20, 3), (1, 2, b"\x00\x14"), id="short-notification"),
    pytest.param(header(20, 4), (1, 2, b"\x00\x14"), id="keepalive-with-a-body"),
    pytest.param(header(19, 0), (1, 3, b"\x00"), id="type-0"),
    pytest.param(header(19, 6), (1, 3, b"\x06"), id="type-6"),
    pytest.param(header(18, 255), (1, 2, b"\x00\x12"), id="length-is-looked-at-before-the-type"),
]


@pytest.mark.parametrize(("octets", "error"), HEADER_ERRORS)
@pytest.mark.spec("BGP-3", "BGP-12", "BGP-13")
def test_header_errors(octets: bytes, error: tuple[int, int, bytes]) -> None:
    framer = Framer()
    assert [cut.type for cut in framer.feed(KEEPALIVE_WIRE + octets)] == [4], "what came before the error is handed out"
    assert framer.error is not None
    assert (framer.error.code, framer.error.subcode, framer.error.data) == error
    assert framer.feed(KEEPALIVE_WIRE) == [], "after an error the stream has no more frames"


@pytest.mark.spec("BGP-12")
def test_extended_messages_only_where_negotiated() -> None:
    body = bytes(60000)
    framer = Framer()
    framer.feed(frame(MessageType.UPDATE, body, 65535))
    assert framer.error is not None
    framer = Framer()
    framer.max_length = 65535
    assert framer.feed(frame(MessageType.UPDATE, body, 65535)) == [(2, body)]
    for kind in (MessageType.OPEN, MessageType.KEEPALIVE):
        framer = Framer()
        framer.max_length = 65535
        framer.feed(header(4097, kind))
        assert framer.error is not None, "OPEN and KEEPALIVE stay as they are (RFC 8654 4)"
    with pytest.raises(ValueError, match="the session allows 4096"):
        encode(Notification(6, 0, bytes(5000)))
    assert len(encode(Notification(6, 0, bytes(5000)), Session(extended_message=True))) == 5021


@pytest.mark.spec("BGP-3")
def test_a_stream_cut_anywhere_gives_the_same_frames() -> None:
    stream = encode(Open(65001, 90, ROUTER)) + KEEPALIVE_WIRE + encode(Notification(6, 2, b"\x01x")) + KEEPALIVE_WIRE
    whole = Framer().feed(stream)
    for position in range(len(stream)):
        framer = Framer()
        assert framer.feed(stream[:position]) + framer.feed(stream[position:]) == whole
        assert framer.pending == 0
    slow = Framer()
    assert [cut for octet in stream for cut in slow.feed(bytes((octet,)))] == whole


def an_open(version: int = 4, asn: int = 65001, hold: int = 90, router: int = 0x0A000001, rest: str = "00") -> bytes:
    head = bytes((version,)) + asn.to_bytes(2, "big") + hold.to_bytes(2, "big") + router.to_bytes(4, "big")
    return head + bytes.fromhex(rest.replace(" ", ""))


OPEN_ERRORS = [
    pytest.param(an_open(version=3), (2, 1, b"\x00\x04"), marks=pytest.mark.spec("VBR-2"), id="version-3"),
    pytest.param(an_open(version=5), (2, 1, b"\x00\x04"), marks=pytest.mark.spec("VBR-2"), id="version-5"),
    pytest.param(an_open(asn=0), (2, 2, b""), marks=pytest.mark.spec("BGP-14"), id="as-0"),
    pytest.param(an_open(rest="08 0206 4104 00000000"), (2, 2, b""), marks=pytest.mark.spec("BGP-14"), id="as4-0"),
    pytest.param(an_open(router=0), (2, 3, b""), marks=pytest.mark.spec("BGP-16"), id="identifier-0"),
    pytest.param(an_open(rest="03 01 01 00"), (2, 4, b""), marks=pytest.mark.spec("BGP-14"), id="authentication"),
    pytest.param(an_open(hold=1), (2, 6, b""), marks=pytest.mark.spec("BGP-15"), id="hold-1"),
    pytest.param(an_open(hold=2), (2, 6, b""), marks=pytest.mark.spec("BGP-15"), id="hold-2"),
    pytest.param(an_open(rest="04"), (2, 0, b""), marks=pytest.mark.spec("BGP-14"), id="parameters-missing"),
    pytest.param(an_open(rest="02 0206"), (2, 0, b""), marks=pytest.mark.spec("BGP-14"), id="parameter-overruns"),
    pytest.param(an_open(rest="01 02"), (2, 0, b""), marks=pytest.mark.spec("BGP-14"), id="parameter-without-length"),
    pytest.param(an_open(rest="00 00"), (2, 0, b""), marks=pytest.mark.spec("BGP-14"), id="octets-behind"),
    pytest.param(an_open(rest="04 0202 4104"), (2, 0, b""), marks=pytest.mark.spec("BGP-14"), id="capability-overruns"),
    pytest.param(
        an_open(rest="03 0201 41"), (2, 0, b""), marks=pytest.mark.spec("BGP-14"), id="capability-without-length"
    ),
    pytest.param(an_open(rest="ff ff 0004 02 0002 41"), (2, 0, b""), id="extended-parameters-overrun"),
]


@pytest.mark.parametrize(("body", "error"), OPEN_ERRORS)
def test_open_errors(body: bytes, error: tuple[int, int, bytes]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(MessageType.OPEN, body)
    assert (caught.value.code, caught.value.subcode, caught.value.data) == error


def test_capabilities_may_have_a_parameter_each_or_a_wrong_length() -> None:
    """RFC 5492 4: they SHOULD share one, and MUST be taken from several."""
    message = decode(MessageType.OPEN, an_open(rest="10 0206 0104 00010001 0202 0200 0202 0600"))
    assert isinstance(message, Open)
    assert message.capabilities == (Multiprotocol(1, 1), RouteRefreshCapability(), ExtendedMessage())
    message = decode(MessageType.OPEN, an_open(rest="0c 020a 0104 00010001 0200 0600"))
    assert isinstance(message, Open)
    assert message.capabilities == (Multiprotocol(1, 1), RouteRefreshCapability(), ExtendedMessage())
    message = decode(MessageType.OPEN, an_open(rest="07 0205 4103 000001"))
    assert isinstance(message, Open)
    assert message.capabilities == (UnknownCapability(65, b"\x00\x00\x01"),), "not understood, kept, not used"


def test_more_than_255_octets_of_parameters() -> None:
    """RFC 9072: the lengths get two octets; the reader takes both forms."""
    message = Open(65001, 90, ROUTER, tuple(UnknownCapability(200 + n, bytes(100)) for n in range(4)))
    wire = encode(message)
    assert wire[28:30] == b"\xff\xff"
    assert decode(MessageType.OPEN, wire[19:]) == message
    for octets in (251, 252):
        message = Open(65001, 90, ROUTER, (UnknownCapability(200, bytes(octets)),))
        wire = encode(message)
        assert (wire[29] == 255) is (octets > 251)
        assert decode(MessageType.OPEN, wire[19:]) == message
    short = an_open(rest="ff ff 0005 02 0002 0200")
    assert decode(MessageType.OPEN, short) == Open(65001, 90, ROUTER, (RouteRefreshCapability(),))


@pytest.mark.spec("BGP-10")
def test_a_route_refresh_of_the_wrong_length() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(MessageType.ROUTE_REFRESH, b"\x00\x01\x01")
    assert (caught.value.code, caught.value.subcode) == (7, 1)
    assert caught.value.data == header(22, 5) + b"\x00\x01\x01", "the data is the whole message (RFC 7313 5)"


@pytest.mark.spec("BGP-8")
def test_shutdown_communication() -> None:
    """RFC 9003: one octet of length, UTF-8; what is malformed is not shown; longer texts are cut at a character."""
    said = Notification.cease(Cease.ADMINISTRATIVE_SHUTDOWN, "Wartung bis 12:00, größer")
    assert said.data[0] == len(said.data) - 1
    assert said.communication == "Wartung bis 12:00, größer"
    assert 'größer"' in str(said)
    long = Notification.cease(Cease.ADMINISTRATIVE_RESET, "ö" * 200)
    assert len(long.data) == 255
    assert long.communication == "ö" * 127
    assert Notification(6, 2, b"\x05abc").communication == ""
    assert Notification(6, 2, b"\x02\xff\xfe").communication == ""
    assert Notification(6, 3, b"\x01a").communication == ""
    assert Notification.cease(Cease.PEER_DECONFIGURED, "not for this subcode").data == b""


octets = st.binary(max_size=40)
capabilities = st.one_of(
    st.builds(Multiprotocol, st.integers(0, 65535), st.integers(0, 255)),
    st.just(RouteRefreshCapability()),
    st.just(ExtendedMessage()),
    st.just(EnhancedRouteRefresh()),
    st.builds(FourOctetAs, st.integers(1, 2**32 - 1)),
    st.builds(
        GracefulRestart,
        st.booleans(),
        st.booleans(),
        st.integers(0, 4095),
        st.lists(st.builds(RestartFamily, st.integers(0, 65535), st.integers(0, 255), st.booleans()), max_size=3).map(
            tuple
        ),
    ),
    st.sampled_from([(True, False), (False, True), (True, True)]).map(
        lambda way: AddPath(tuple(AddPathFamily(family.afi, family.safi, *way) for family in Family))
    ),
    st.builds(UnknownCapability, st.integers(128, 255), octets),
)
messages = st.one_of(
    st.just(Keepalive()),
    st.builds(
        Open,
        st.integers(1, 65535),
        st.integers(3, 65535),
        st.integers(1, 2**32 - 1).map(IPv4Address),
        st.lists(capabilities, max_size=12).map(tuple),
    ),
    st.builds(Notification, st.integers(0, 255), st.integers(0, 255), octets),
    st.builds(RouteRefresh, st.integers(0, 65535), st.integers(0, 255), st.integers(0, 255)),
)


@given(messages)
@pytest.mark.spec("BGP-3", "BGP-4", "BGP-8", "BGP-10")
def test_round_trip(message: Message) -> None:
    framer = Framer()
    (cut,) = framer.feed(encode(message))
    assert framer.error is None
    assert decode(*cut) == message


@given(st.binary(max_size=200), st.integers(0, 255) | st.sampled_from(MessageType))
def test_any_octets_give_a_message_or_a_protocol_error(body: bytes, kind: int) -> None:
    try:
        message = decode(kind, body)
    except ProtocolError as error:
        assert error.code in (1, 2, 3, 7)
        return
    if kind != MessageType.UPDATE:
        assert decode(kind, encode(message)[19:]) == message
