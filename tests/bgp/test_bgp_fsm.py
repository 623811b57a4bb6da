"""The state table: every cell is driven, and the rows that the document and the RFC describe say what they say there."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from harness.bgp import connection as connections
from harness.bgp.connection import Connection
from harness.bgp.errors import ErrorCode, OpenError, ProtocolError
from harness.bgp.fsm import DIFFERENCES, EVENTS, TABLES, Action, Event, Guard, Profile, State
from harness.bgp.messages import MessageType, Notification, Open
from harness.bgp.peer_config import PeerConfig
from harness.bgp.shared import Shared, Timer
from harness.bgp.signals import Close, Dial, Down, NotificationSent, Output, Transition, Up, Write

E, S, A = Event, State, Action
CELLS = [(profile, state, event) for profile in Profile for state in State for event in Event]
FOR_EVERY_CELL = pytest.mark.parametrize(
    ("profile", "state", "event"), CELLS, ids=[f"{p.value}-{s.value}-{e.name}" for p, s, e in CELLS]
)
CONFIG = PeerConfig("peer", 65001, 65002, IPv4Address("10.0.0.1"))


def connection_in(state: State, profile: Profile, **changes: Any) -> Connection:
    """A connection as it is when it stands in ``state``: with TCP from OpenSent on, with a session from OpenConfirm on."""
    values = {name: getattr(CONFIG, name) for name in CONFIG.__slots__} | {"profile": profile} | changes
    shared = Shared(PeerConfig(**values))
    tracked: list[bool] = []
    connection = Connection(shared, lambda: tracked.append(True), state)
    rank = list(State).index(state)
    if rank >= 3:
        connection.adopt(1, True, "10.0.0.1", "10.0.0.2")
        connection.timers[Timer.HOLD] = 90.0
    elif rank:
        connection.conn = 1
        connection.timers[Timer.CONNECT_RETRY] = 120.0
    theirs = PeerConfig("us", 65002, 65001, IPv4Address("10.0.0.2"))
    connection.received_open = theirs.open()
    if rank >= 4:
        connection._start_hold()
    connection.error = ProtocolError(ErrorCode.OPEN_MESSAGE_ERROR, OpenError.BAD_PEER_AS, b"", "a test")
    return connection


@FOR_EVERY_CELL
@pytest.mark.spec("VBR-14", "VBR-15", "VBR-16", "VBR-17", "VBR-18", "VBR-19", "VBR-20")
def test_every_cell(profile: Profile, state: State, event: Event) -> None:
    """Each event in each state ends in the row's state, says why, and leaves a consistent connection."""
    connection = connection_in(state, profile)
    if event in (E.TCP_CR_ACKED, E.TCP_CONNECTION_CONFIRMED) and state in (S.IDLE, S.CONNECT, S.ACTIVE):
        connection.adopt(2, event is E.TCP_CR_ACKED, "10.0.0.1", "10.0.0.2")
    if event in (E.DELAY_OPEN_TIMER_EXPIRES, E.BGP_OPEN_WITH_DELAY_OPEN_TIMER) and state in (S.CONNECT, S.ACTIVE):
        connection.adopt(2, True, "10.0.0.1", "10.0.0.2")
        del connection.timers[Timer.CONNECT_RETRY]
    if event is E.TCP_CONNECTION_FAILS:
        connection.lose()
    row = connection.fire(event, "the detail")
    outputs = connection.shared.outputs
    assert connection.state is row.new
    assert row.reason and row.source
    steps = [output for output in outputs if isinstance(output, Transition)]
    if state is not row.new:
        assert [(step.old, step.new, step.event) for step in steps] == [(state, row.new, event)]
        assert steps[0].reason == f"{row.reason}: the detail"
    if row.new is S.IDLE and state is not S.IDLE:
        assert not connection.stands
        assert connection.conn is None
        assert not set(connection.timers) & {Timer.HOLD, Timer.KEEPALIVE, Timer.DELAY_OPEN, Timer.DIAL_RETRY}
    if row.new in (S.OPEN_SENT, S.OPEN_CONFIRM, S.ESTABLISHED):
        assert connection.stands
        assert Timer.HOLD in connection.timers
        assert Timer.CONNECT_RETRY not in connection.timers
    assert any(isinstance(output, Up) for output in outputs) == (state is not row.new and row.new is S.ESTABLISHED)
    assert any(isinstance(output, Down) for output in outputs) == (
        state is S.ESTABLISHED and row.new is not S.ESTABLISHED
    )
    sent = [action for action in row.actions if action.name.startswith("SEND_") and action is not A.SEND_KEEPALIVE]
    if state in (S.OPEN_SENT, S.OPEN_CONFIRM, S.ESTABLISHED) and sent:
        assert any(isinstance(output, NotificationSent) for output in outputs)
        order = [type(output) for output in outputs if isinstance(output, Write | Close)]
        assert order == [Write, Close], "the NOTIFICATION goes out before the connection is closed"


@pytest.mark.parametrize("profile", Profile)
def test_the_table_is_whole(profile: Profile) -> None:
    """Every cell exists, ends with a row without guard, and asks each guard once."""
    table = TABLES[profile]
    assert set(table) == {(state, event) for state in State for event in Event}
    for key, cell in table.items():
        assert cell[-1].guard is None, key
        guards = [row.guard for row in cell]
        assert len(set(guards)) == len(guards), key


def test_every_action_and_guard_is_used_and_every_event_described() -> None:
    rows = [row for table in TABLES.values() for cell in table.values() for row in cell]
    assert {action for row in rows for action in row.actions} == set(Action) == set(connections._ACTIONS)
    assert {row.guard for row in rows} - {None} == set(Guard)
    assert set(EVENTS) == set(Event)
    assert {event for event in Event if event <= 28 and EVENTS[event].mandatory} == {
        # RFC 4271 8.1: the events whose status is "Mandatory".
        *(E(number) for number in (1, 2, 9, 10, 11, 16, 17, 18, 19, 21, 22, 24, 25, 26, 27, 28)),
    }


# (state, event, next state, actions that the text names), typed from the document's descriptions of the six states
DOCUMENTED = [
    pytest.param(S.IDLE, E.MANUAL_START, S.CONNECT, {A.START_CONNECT_RETRY, A.DIAL}, marks=pytest.mark.spec("VBR-15")),
    pytest.param(
        S.CONNECT,
        E.CONNECT_RETRY_TIMER_EXPIRES,
        S.CONNECT,
        {A.START_CONNECT_RETRY, A.DIAL},
        marks=pytest.mark.spec("VBR-16"),
    ),
    pytest.param(S.CONNECT, E.TCP_CONNECTION_FAILS, S.ACTIVE, set(), marks=pytest.mark.spec("VBR-16")),
    pytest.param(S.CONNECT, E.TCP_CR_ACKED, S.OPEN_SENT, {A.SEND_OPEN}, marks=pytest.mark.spec("VBR-16")),
    pytest.param(S.ACTIVE, E.CONNECT_RETRY_TIMER_EXPIRES, S.CONNECT, {A.DIAL}, marks=pytest.mark.spec("VBR-17")),
    pytest.param(S.ACTIVE, E.TCP_CONNECTION_FAILS, S.ACTIVE, {A.START_DIAL_RETRY}, marks=pytest.mark.spec("VBR-17")),
    pytest.param(S.ACTIVE, E.TCP_CONNECTION_CONFIRMED, S.OPEN_SENT, {A.SEND_OPEN}, marks=pytest.mark.spec("VBR-17")),
    pytest.param(S.OPEN_SENT, E.BGP_OPEN_MSG_ERR, S.IDLE, {A.SEND_ERROR}, marks=pytest.mark.spec("VBR-18")),
    pytest.param(
        S.OPEN_SENT,
        E.BGP_OPEN,
        S.OPEN_CONFIRM,
        {A.SEND_KEEPALIVE, A.START_HOLD},
        marks=pytest.mark.spec("VBR-18", "VBR-35"),
    ),
    pytest.param(S.OPEN_SENT, E.TCP_CONNECTION_FAILS, S.ACTIVE, set(), marks=pytest.mark.spec("VBR-18")),
    pytest.param(S.OPEN_CONFIRM, E.KEEPALIVE_MSG, S.ESTABLISHED, {A.UP}, marks=pytest.mark.spec("VBR-19")),
    pytest.param(S.OPEN_CONFIRM, E.TCP_CONNECTION_FAILS, S.IDLE, set(), marks=pytest.mark.spec("VBR-19")),
    pytest.param(S.ESTABLISHED, E.UPDATE_MSG, S.ESTABLISHED, {A.DELIVER}, marks=pytest.mark.spec("VBR-20")),
    pytest.param(
        S.ESTABLISHED,
        E.KEEPALIVE_TIMER_EXPIRES,
        S.ESTABLISHED,
        {A.SEND_KEEPALIVE, A.RESTART_KEEPALIVE},
        marks=pytest.mark.spec("VBR-20"),
    ),
    pytest.param(
        S.ESTABLISHED,
        E.HOLD_TIMER_EXPIRES,
        S.IDLE,
        {A.SEND_HOLD_EXPIRED, A.DELETE_ROUTES},
        marks=pytest.mark.spec("VBR-20"),
    ),
    pytest.param(S.OPEN_CONFIRM, E.HOLD_TIMER_EXPIRES, S.IDLE, {A.SEND_HOLD_EXPIRED}, marks=pytest.mark.spec("VBR-35")),
]


@pytest.mark.parametrize(("state", "event", "new", "actions"), DOCUMENTED)
def test_the_document_profile_is_the_document(state: State, event: Event, new: State, actions: set[Action]) -> None:
    row = TABLES[Profile.DOCUMENT][state, event][-1]
    assert row.new is new
    assert actions <= set(row.actions)


@pytest.mark.spec("VBR-16", "VBR-17")
def test_the_profiles_differ_where_they_must_and_nowhere_else() -> None:
    assert set(DIFFERENCES) == {
        (S.CONNECT, E.TCP_CONNECTION_FAILS),
        (S.ACTIVE, E.TCP_CONNECTION_FAILS),
        (S.OPEN_SENT, E.NOTIF_MSG),
    }
    table = TABLES[Profile.RFC4271]
    assert table[S.CONNECT, E.TCP_CONNECTION_FAILS][-1].new is S.IDLE
    assert table[S.CONNECT, E.TCP_CONNECTION_FAILS][0].new is S.ACTIVE, "with the DelayOpenTimer running"
    assert table[S.ACTIVE, E.TCP_CONNECTION_FAILS][-1].new is S.IDLE
    assert A.SEND_FSM_ERROR in table[S.OPEN_SENT, E.NOTIF_MSG][-1].actions


@pytest.mark.parametrize(
    ("state", "subcode"), [(S.OPEN_SENT, 1), (S.OPEN_CONFIRM, 2), (S.ESTABLISHED, 3)], ids=lambda value: str(value)
)
@pytest.mark.spec("BGP-8")
def test_an_unexpected_message_is_told_with_its_type(state: State, subcode: int) -> None:
    """RFC 6608: the subcode names the state, the data the message; a timer that is not due has neither."""
    connection = connection_in(state, Profile.DOCUMENT)
    connection.unexpected = MessageType.OPEN
    connection.fire(E.KEEPALIVE_TIMER_EXPIRES if state is S.OPEN_SENT else E.BGP_OPEN)
    assert connection.notification_sent == Notification(5, subcode, b"\x01")
    connection = connection_in(state, Profile.DOCUMENT)
    connection.fire(E.CONNECT_RETRY_TIMER_EXPIRES)
    assert connection.notification_sent == Notification(5, 0)


def outputs_of(kind: type[Output], outputs: list[Output]) -> list[Output]:
    return [output for output in outputs if isinstance(output, kind)]


def state_of(connection: Connection) -> State:
    return connection.state


def test_delay_open() -> None:
    """RFC 4271 8.1.1: the OPEN waits; the peer's OPEN, the timer or a failure ends the wait."""
    connection = connection_in(S.CONNECT, Profile.RFC4271, delay_open_time=5.0)
    connection.adopt(2, True, "10.0.0.1", "10.0.0.2")
    connection.fire(E.TCP_CR_ACKED)
    assert state_of(connection) is S.CONNECT
    assert connection.timers[Timer.DELAY_OPEN] == 5.0
    assert not outputs_of(Write, connection.shared.outputs)
    connection.fire(E.BGP_OPEN_WITH_DELAY_OPEN_TIMER)
    assert state_of(connection) is S.OPEN_CONFIRM
    assert len(outputs_of(Write, connection.shared.outputs)) == 2, "OPEN and KEEPALIVE"

    connection = connection_in(S.CONNECT, Profile.RFC4271, delay_open_time=5.0)
    connection.adopt(2, True, "10.0.0.1", "10.0.0.2")
    connection.fire(E.TCP_CR_ACKED)
    connection.lose()
    connection.fire(E.TCP_CONNECTION_FAILS)
    assert state_of(connection) is S.ACTIVE

    connection = connection_in(S.ACTIVE, Profile.RFC4271, delay_open_time=5.0)
    connection.adopt(2, False, "10.0.0.1", "10.0.0.2")
    connection.fire(E.TCP_CONNECTION_CONFIRMED)
    connection.fire(E.DELAY_OPEN_TIMER_EXPIRES)
    assert state_of(connection) is S.OPEN_SENT

    connection = connection_in(S.ACTIVE, Profile.RFC4271, delay_open_time=5.0)
    connection.adopt(2, False, "10.0.0.1", "10.0.0.2")
    connection.fire(E.TCP_CONNECTION_CONFIRMED)
    connection.fire(E.MANUAL_STOP)
    assert connection.notification_sent is not None, "Cease before an OPEN, as SendNOTIFICATIONwithoutOPEN allows"


def test_passive_never_dials() -> None:
    connection = connection_in(S.ACTIVE, Profile.DOCUMENT, passive=True)
    for event in (E.CONNECT_RETRY_TIMER_EXPIRES, E.DIAL_RETRY_TIMER_EXPIRES, E.TCP_CONNECTION_FAILS):
        connection.fire(event)
        assert connection.state is S.ACTIVE
    assert not outputs_of(Dial, connection.shared.outputs)
    assert Timer.DIAL_RETRY not in connection.timers


def test_open_of_a_four_octet_as_carries_as_trans() -> None:
    message = PeerConfig("p", 4200000001, 65001, IPv4Address("10.0.0.1")).open()
    assert isinstance(message, Open)
    assert (message.asn, message.true_asn) == (23456, 4200000001)
