"""Every error a neighbour can make is answered with its NOTIFICATION, ends the connection, and is on record with its meaning."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bgp.capabilities import Multiprotocol
from harness.bgp.fsm import Event, State
from harness.bgp.messages import KEEPALIVE_WIRE, MARKER, MessageType, Notification, Open, RouteRefresh, encode, frame
from harness.bgp.prefixes import Family
from harness.bgp.signals import (
    Close,
    Connected,
    Dial,
    Down,
    NotificationReceived,
    NotificationSent,
    RefreshAsked,
    Stop,
    Transition,
)
from harness.bgp.update import end_of_rib
from tests.bgp.memory_link import RawHost
from tests.bgp.speakers import HIGH, config, raw
from tests.bgp.test_bgp_messages import HEADER_ERRORS, OPEN_ERRORS, an_open
from tests.bgp.test_bgp_update import BROKEN

GOOD_OPEN = encode(HIGH.open())
UPDATE = frame(MessageType.UPDATE, bytes(4))
REFRESH = encode(RouteRefresh(1, 1))


def assert_ended(host: RawHost, notification: Notification | None, event: Event) -> None:
    """The connection ended in Idle with this NOTIFICATION, by this event, and the NOTIFICATION went out before the close."""
    assert host.notified() == notification
    steps = [output for output in host.outputs if isinstance(output, Transition)]
    assert (steps[-1].new, steps[-1].event) == (State.IDLE, event)
    assert Close(host.conn) in host.outputs
    if notification is not None:
        sent = host.outputs.index(NotificationSent(host.conn, notification))
        assert sent < host.outputs.index(Close(host.conn))
        assert host.peer.statistics.last_sent == notification
        assert str(notification).startswith(notification.name)
    assert host.peer.deadline() is not None, "the session is wanted: it starts again after the idle hold"


@pytest.mark.parametrize("state", ["OpenSent", "OpenConfirm", "Established"])
@pytest.mark.parametrize(("octets", "error"), HEADER_ERRORS)
@pytest.mark.spec("BGP-3", "BGP-8", "BGP-12", "BGP-13")
def test_header_errors(state: str, octets: bytes, error: tuple[int, int, bytes]) -> None:
    host = raw(state, extended_message=False)
    host.say(octets)
    assert_ended(host, Notification(*error), Event.BGP_HEADER_ERR)


@pytest.mark.parametrize(("body", "error"), OPEN_ERRORS)
@pytest.mark.spec("VBR-2", "VBR-18", "BGP-4", "BGP-8", "BGP-14", "BGP-15", "BGP-16")
def test_open_errors(body: bytes, error: tuple[int, int, bytes]) -> None:
    host = raw()
    host.say(frame(MessageType.OPEN, body))
    assert_ended(host, Notification(*error), Event.BGP_OPEN_MSG_ERR)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        pytest.param(
            Open(65003, 90, IPv4Address("10.0.0.2")), (2, 2, b""), marks=pytest.mark.spec("BGP-14"), id="wrong-as"
        ),
        pytest.param(
            Open.of(65002, 90, IPv4Address("10.0.0.2"), (Multiprotocol(2, 1),)),
            (2, 7, bytes.fromhex("010400010001")),
            id="no-family-in-common",
        ),
    ],
)
@pytest.mark.spec("VBR-18")
def test_opens_that_do_not_fit_the_configuration(message: Open, error: tuple[int, int, bytes]) -> None:
    host = raw()
    host.say(encode(message))
    assert_ended(host, Notification(*error), Event.BGP_OPEN_MSG_ERR)


@pytest.mark.spec("BGP-16")
def test_the_identifier_inside_one_as() -> None:
    """RFC 6286 2.2: our own identifier is an error in iBGP, and none in eBGP."""
    host = raw(peer_asn=65001)
    host.say(encode(Open(65001, 90, IPv4Address("10.0.0.1"))))
    assert_ended(host, Notification(2, 3), Event.BGP_OPEN_MSG_ERR)
    host = raw()
    host.say(encode(Open(65002, 90, IPv4Address("10.0.0.1"))))
    assert host.state() is State.OPEN_CONFIRM


UNEXPECTED = [
    ("OpenSent", KEEPALIVE_WIRE, 1, 4),
    ("OpenSent", UPDATE, 1, 2),
    ("OpenSent", REFRESH, 1, 5),
    ("OpenConfirm", GOOD_OPEN, 2, 1),
    ("OpenConfirm", UPDATE, 2, 2),
    ("OpenConfirm", REFRESH, 2, 5),
    ("Established", GOOD_OPEN, 3, 1),
    ("Established", frame(MessageType.OPEN, an_open(version=9)), 3, 1),
]


@pytest.mark.parametrize(("state", "octets", "subcode", "kind"), UNEXPECTED)
@pytest.mark.spec("BGP-8")
def test_unexpected_messages(state: str, octets: bytes, subcode: int, kind: int) -> None:
    """RFC 6608."""
    host = raw(state)
    host.say(octets)
    assert host.notified() == Notification(5, subcode, bytes((kind,)))
    assert host.state() is State.IDLE


@pytest.mark.parametrize(("octets", "error"), BROKEN)
@pytest.mark.spec("BGP-17", "BGP-8", "BGP-6")
def test_updates_that_end_the_session(octets: str, error: tuple[int, int]) -> None:
    host = raw("Established")
    host.say(frame(MessageType.UPDATE, bytes.fromhex(octets.replace(" ", ""))))
    assert_ended(host, Notification(*error), Event.UPDATE_MSG_ERR)
    (down,) = [output for output in host.outputs if isinstance(output, Down)]
    assert down.sent == Notification(*error)


@pytest.mark.spec("BGP-6")
def test_an_update_that_rfc_7606_lets_pass_keeps_the_session() -> None:
    bad = bytes.fromhex("0000 0003 400100 18 c00002".replace(" ", ""))
    host = raw("Established")
    host.say(frame(MessageType.UPDATE, bad))
    assert host.state() is State.ESTABLISHED
    strict = raw("Established", revised_errors=False)
    strict.say(frame(MessageType.UPDATE, bad))
    assert_ended(strict, Notification(3, 5, bytes.fromhex("400100")), Event.UPDATE_MSG_ERR)


@pytest.mark.spec("BGP-10")
@pytest.mark.parametrize("enhanced", [True, False])
@pytest.mark.parametrize("body", ["0001 00", "0001 0001 00", "0001 01", "0001 0201 00"])
def test_a_route_refresh_of_the_wrong_length(body: str, enhanced: bool) -> None:
    """7/1 with the whole message where it meant a begin or an end that was agreed on (RFC 7313 5), else 1/2 with the length."""
    host = raw("Established", enhanced_refresh=enhanced)
    octets = bytes.fromhex(body)
    wrong = frame(MessageType.ROUTE_REFRESH, octets)
    host.say(wrong)
    told = Notification(7, 1, wrong) if enhanced and octets[2] else Notification(1, 2, wrong[16:18])
    assert_ended(host, told, Event.ROUTE_REFRESH_MSG_ERR)


@pytest.mark.parametrize(("enhanced", "subtype", "taken"), [(True, 3, False), (True, 255, False), (False, 255, True)])
def test_a_route_refresh_of_an_unknown_subtype(enhanced: bool, subtype: int, taken: bool) -> None:
    """RFC 7313 5: ignored; where the subtype was not agreed on it is a reserved octet, and the message a request (RFC 2918 3)."""
    host = raw("Established", enhanced_refresh=enhanced)
    host.say(frame(MessageType.ROUTE_REFRESH, bytes((0, 1, subtype, 1))))
    assert host.state() is State.ESTABLISHED
    asked = [output.message.subtype for output in host.outputs if isinstance(output, RefreshAsked)]
    assert asked == ([0] if taken else [])


@pytest.mark.parametrize("state", ["OpenSent", "OpenConfirm", "Established"])
@pytest.mark.spec("BGP-8")
def test_a_notification_is_recorded_and_never_answered(state: str) -> None:
    host = raw(state)
    host.say(encode(Notification.cease(2, "bye")))
    assert host.state() is State.IDLE
    assert host.notified() is None
    assert host.peer.statistics.last_received == Notification(6, 2, b"\x03bye")
    assert NotificationReceived(host.conn, Notification(6, 2, b"\x03bye")) in host.outputs
    steps = [output for output in host.outputs if isinstance(output, Transition)]
    assert 'Cease / Administrative Shutdown (6/2): the operator shut the session down "bye"' in steps[-1].reason


def test_the_version_notification_costs_nothing() -> None:
    """RFC 4271 8.2.2, event 24: no damping; the session is tried again soon."""
    host = raw()
    host.say(encode(Notification(2, 1, b"\0\4")))
    steps = [output for output in host.outputs if isinstance(output, Transition)]
    assert steps[-1].event is Event.NOTIF_MSG_VER_ERR
    assert host.peer.statistics.connect_retries == 0
    assert (host.peer.deadline() or 99.0) < 0.1


@pytest.mark.spec("BGP-3")
def test_what_came_before_the_error_counts() -> None:
    host = raw("OpenConfirm")
    host.say(KEEPALIVE_WIRE + UPDATE + b"\0" * 19)
    steps = [output.new for output in host.outputs if isinstance(output, Transition)]
    assert steps[-2:] == [State.ESTABLISHED, State.IDLE]
    assert host.notified() == Notification(1, 1)


@pytest.mark.spec("BGP-3")
def test_octets_one_by_one() -> None:
    host = raw()
    for octet in GOOD_OPEN + KEEPALIVE_WIRE:
        host.say(bytes((octet,)))
    assert host.state() is State.ESTABLISHED


@pytest.mark.spec("BGP-12")
def test_long_messages_are_taken_by_who_offered_to_and_sent_to_who_offered_it() -> None:
    """RFC 8654 4: who offers to take them MUST be able to, whatever the other side offers."""
    long = MARKER + (5000).to_bytes(2, "big") + b"\x02" + (4977).to_bytes(2, "big") + b"\0" * 4977 + b"\0\0"
    host = raw("Established")
    host.say(long)
    assert host.state() is State.ESTABLISHED
    host = raw()
    host.say(encode(config(HIGH, extended_message=False).open()) + KEEPALIVE_WIRE)
    assert host.peer.session is not None
    assert host.peer.session.max_length == 4096
    host.say(long)
    assert host.state() is State.ESTABLISHED
    host = raw("Established", extended_message=False)
    host.say(long)
    assert host.notified() == Notification(1, 2, (5000).to_bytes(2, "big"))


GOOD_MESSAGES = [
    GOOD_OPEN,
    KEEPALIVE_WIRE,
    UPDATE,
    REFRESH,
    encode(Notification(6, 0)),
    end_of_rib(Family.IPV6_UNICAST),
]
damaged = st.tuples(st.sampled_from(GOOD_MESSAGES), st.integers(0, 80), st.integers(0, 255)).map(
    lambda item: item[0][: item[1] % len(item[0])] + bytes((item[2],)) + item[0][item[1] % len(item[0]) + 1 :]
)
streams = st.lists(st.sampled_from(GOOD_MESSAGES) | damaged | st.binary(max_size=40), max_size=8)


@given(st.sampled_from(["OpenSent", "OpenConfirm", "Established"]), streams, st.integers(1, 50))
def test_no_stream_of_octets_gets_anything_but_an_answer(state: str, parts: list[bytes], step: int) -> None:
    """Whatever comes, cut however: no exception, and the peer is in session, or has closed, or waits for more."""
    host = raw(state, families=frozenset(Family))
    stream = b"".join(parts)
    for at in range(0, len(stream), step):
        host.say(stream[at : at + step])
    open_still = Close(host.conn) not in host.outputs
    assert open_still == (host.state() in (State.OPEN_SENT, State.OPEN_CONFIRM, State.ESTABLISHED))
    host.advance(500.0)
    assert host.state() is not State.ESTABLISHED


def test_nothing_is_said_on_a_connection_that_ended() -> None:
    host = raw("Established")
    host.feed(Stop())
    before = len(host.outputs)
    host.say(KEEPALIVE_WIRE)
    assert len(host.outputs) == before


def test_every_family_can_be_the_only_one() -> None:
    for family in Family:
        host = raw("Established", families=frozenset({family}))
        assert host.peer.session is not None
        assert host.peer.session.families == {family}
        assert config(HIGH, families=frozenset({family})).capabilities()[0] == Multiprotocol(family.afi, family.safi)


@pytest.mark.spec("BGP-8", "BGP-10")
def test_a_refresh_that_fills_a_message_is_answered_with_as_much_of_it_as_fits() -> None:
    """RFC 7313 5: the data is the whole message; with 4096 octets there is no room for the NOTIFICATION's own header."""
    host = raw("Established", extended_message=False)
    refresh = frame(MessageType.ROUTE_REFRESH, bytes.fromhex("00010101") + bytes(4096 - 23))
    host.say(refresh)
    assert_ended(host, Notification(7, 1, refresh[: 4096 - 21]), Event.ROUTE_REFRESH_MSG_ERR)


def opened(host: RawHost) -> bytes:
    """The peer dials again after its idle hold; the body of the OPEN that it then sends."""
    (dial,) = [output for output in host.advance(5) if isinstance(output, Dial)][:1]
    host.conn = dial.conn
    host.sent.clear()
    host.feed(Connected(host.conn, True, "192.0.2.1", "192.0.2.2"))
    ((kind, body),) = host.said()
    assert kind is MessageType.OPEN
    return body


@pytest.mark.spec("BGP-14", "BGP-19")
def test_a_neighbour_that_knows_no_capabilities_is_asked_without_them() -> None:
    """RFC 5492 3: after a NOTIFICATION 2/4 the session is tried again without the parameter, and comes up as BGP-4 alone."""
    host = raw("OpenSent")
    host.say(encode(Notification(2, 4)))
    body = opened(host)
    assert body[9:] == b"\0", "no optional parameters"
    assert body[1:3] == (65001).to_bytes(2, "big")
    host.say(encode(Open(65002, 90, IPv4Address("10.0.0.2"))))
    host.say(KEEPALIVE_WIRE)
    session = host.peer.session
    assert session is not None
    assert (session.asn4, set(session.families), session.route_refresh) == (False, {Family.IPV4_UNICAST}, False)
    # One that refuses that too, or that is configured anew, is offered everything again.
    host.say(encode(Notification(2, 4)))
    assert opened(host)[9] > 0


def test_capabilities_stay_where_the_session_would_be_nothing_without_them() -> None:
    """IPv6 alone cannot be spoken without the capability for it."""
    host = raw("OpenSent", families=frozenset({Family.IPV6_UNICAST}))
    host.say(encode(Notification(2, 4)))
    assert opened(host)[9] > 0
