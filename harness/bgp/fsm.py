"""RFC 4271 section 8 as data: every state, every event, and for each pair what happens and why.

A cell is a tuple of rows tried in order; the first whose guard holds is taken, and the last has none. A row names the next
state, the actions in order, the reason that logs and event streams show, and its source. Two profiles differ in a few cells
(:data:`DIFFERENCES`): ``document`` follows the cloud's description of the states (VBR-15 to VBR-20), ``rfc4271`` the RFC to
the letter. This module decides nothing else: guards are answered and actions carried out by
:class:`harness.bgp.connection.Connection`.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.bgp.fsm_terms import EVENTS, Action, Cell, Event, EventInfo, Guard, Profile, Row, State, Table

__all__ = [
    "DIFFERENCES",
    "EVENTS",
    "TABLES",
    "Action",
    "Cell",
    "Event",
    "EventInfo",
    "Guard",
    "Profile",
    "Row",
    "State",
    "Table",
]

_A, _E, _G, _S = Action, Event, Guard, State

_STARTS = (
    _E.MANUAL_START,
    _E.AUTOMATIC_START,
    _E.MANUAL_START_PASSIVE,
    _E.AUTOMATIC_START_PASSIVE,
    _E.AUTOMATIC_START_DAMP,
    _E.AUTOMATIC_START_DAMP_PASSIVE,
)
_STANDS = (_E.TCP_CR_ACKED, _E.TCP_CONNECTION_CONFIRMED)
_MESSAGE_ERRORS = (_E.BGP_HEADER_ERR, _E.BGP_OPEN_MSG_ERR)

_QUIET_END = (_A.STOP_CONNECT_RETRY, _A.RELEASE, _A.DROP)
_END = (*_QUIET_END, _A.COUNT, _A.DAMP)
_STOPPED = (_A.RELEASE, _A.DROP, _A.RESET_COUNTER, _A.STOP_CONNECT_RETRY)
_OPENING = (_A.STOP_CONNECT_RETRY, _A.STOP_DIAL_RETRY, _A.SEND_OPEN, _A.START_OPEN_HOLD)
_CONFIRMING = (
    _A.STOP_CONNECT_RETRY,
    _A.STOP_DIAL_RETRY,
    _A.STOP_DELAY_OPEN,
    _A.SEND_OPEN,
    _A.SEND_KEEPALIVE,
    _A.START_HOLD,
)

_IDLE = "RFC 4271 8.2.2, Idle"
_CONNECT = "RFC 4271 8.2.2, Connect"
_ACTIVE = "RFC 4271 8.2.2, Active"
_OPEN_SENT = "RFC 4271 8.2.2, OpenSent"
_OPEN_CONFIRM = "RFC 4271 8.2.2, OpenConfirm"
_ESTABLISHED = "RFC 4271 8.2.2, Established"


def _row(new: State, actions: Iterable[Action], reason: str, source: str, guard: Guard | None = None) -> Row:
    return Row(guard, new, tuple(actions), reason, source)


def _put(table: Table, state: State, events: Event | tuple[Event, ...], *rows: Row) -> None:
    for event in events if isinstance(events, tuple) else (events,):
        table[state, event] = rows


def _rest(table: Table, state: State, row: Row) -> None:
    """RFC 4271's "in response to any other event"."""
    for event in Event:
        table.setdefault((state, event), (row,))


def _idle(table: Table) -> None:
    s = _S.IDLE
    begin = (_A.RESET_COUNTER, _A.STOP_IDLE_HOLD, _A.START_CONNECT_RETRY)
    _put(
        table,
        s,
        (_E.MANUAL_START, _E.AUTOMATIC_START),
        _row(_S.CONNECT, (*begin, _A.DIAL), "started: dials the peer", f"{_IDLE}; VBR-15"),
    )
    _put(
        table,
        s,
        (_E.MANUAL_START_PASSIVE, _E.AUTOMATIC_START_PASSIVE),
        _row(_S.ACTIVE, begin, "started passively: waits for the peer to connect", _IDLE),
    )
    _put(
        table,
        s,
        (_E.AUTOMATIC_START_DAMP, _E.AUTOMATIC_START_DAMP_PASSIVE),
        _row(s, (_A.START_IDLE_HOLD,), "waits out the idle hold before starting again", _IDLE),
    )
    _put(
        table,
        s,
        _E.IDLE_HOLD_TIMER_EXPIRES,
        _row(_S.ACTIVE, (_A.START_CONNECT_RETRY,), "the idle hold is over: waits for the peer", _IDLE, _G.PASSIVE),
        _row(_S.CONNECT, (_A.START_CONNECT_RETRY, _A.DIAL), "the idle hold is over: dials the peer", _IDLE),
    )
    _put(
        table,
        s,
        _E.MANUAL_STOP,
        _row(s, (_A.STOP_IDLE_HOLD, _A.RESET_COUNTER), "stopped: does not start again by itself", _IDLE),
    )
    _put(table, s, _STANDS, _row(s, (_A.DROP,), "refuses the connection: Idle takes none", _IDLE))
    _rest(table, s, _row(s, (), "ignored in Idle", _IDLE))


def _before_open(table: Table, state: State, source: str) -> None:
    """What Connect and Active have in common."""
    _put(table, state, _STARTS, _row(state, (), "already started", source))
    _put(
        table,
        state,
        _E.DELAY_OPEN_TIMER_EXPIRES,
        _row(_S.OPEN_SENT, _OPENING, "the delay is over: sends OPEN", source),
    )
    _put(table, state, _E.TCP_CONNECTION_VALID, _row(state, (), "the connection is being made", source))
    _put(table, state, _E.TCP_CR_INVALID, _row(state, (), "an invalid connection request is rejected", source))
    _put(
        table,
        state,
        _STANDS,
        _row(
            state,
            (_A.STOP_CONNECT_RETRY, _A.STOP_DIAL_RETRY, _A.START_DELAY_OPEN),
            "the TCP connection stands: delays the OPEN",
            source,
            _G.DELAY_OPEN,
        ),
        _row(_S.OPEN_SENT, _OPENING, "the TCP connection stands: sends OPEN", f"{source}; {_VBR_OF[state]}"),
    )
    _put(
        table,
        state,
        _E.BGP_OPEN_WITH_DELAY_OPEN_TIMER,
        _row(_S.OPEN_CONFIRM, _CONFIRMING, "the peer's OPEN came first: sends OPEN and KEEPALIVE", source),
    )
    _put(
        table,
        state,
        _MESSAGE_ERRORS,
        _row(_S.IDLE, (_A.SEND_ERROR, *_END), "error in a message", source, _G.NOTIFY_WITHOUT_OPEN),
        _row(_S.IDLE, _END, "error in a message", source),
    )
    _put(
        table,
        state,
        _E.NOTIF_MSG_VER_ERR,
        _row(
            _S.IDLE,
            (_A.STOP_DELAY_OPEN, *_QUIET_END),
            "the peer does not speak this version",
            source,
            _G.DELAY_OPEN_RUNNING,
        ),
        _row(_S.IDLE, _END, "the peer does not speak this version", source),
    )
    _rest(table, state, _row(_S.IDLE, (_A.STOP_DELAY_OPEN, *_END), "not expected in this state", source))


_VBR_OF = {_S.CONNECT: "VBR-16", _S.ACTIVE: "VBR-17"}


def _connect(table: Table, profile: Profile) -> None:
    s = _S.CONNECT
    _put(table, s, _E.MANUAL_STOP, _row(_S.IDLE, _STOPPED, "stopped", _CONNECT))
    _put(
        table,
        s,
        _E.CONNECT_RETRY_TIMER_EXPIRES,
        _row(
            s,
            (_A.DROP, _A.STOP_DELAY_OPEN, _A.STOP_DIAL_RETRY, _A.START_CONNECT_RETRY, _A.DIAL),
            "no connection within the ConnectRetryTime: dials again",
            f"{_CONNECT}; VBR-16",
        ),
    )
    _put(
        table,
        s,
        _E.DIAL_RETRY_TIMER_EXPIRES,
        _row(s, (_A.STOP_DIAL_RETRY, _A.DIAL), "the dial goes unanswered: dials again", "this speaker"),
    )
    to_active = (_A.RELEASE, _A.START_CONNECT_RETRY, _A.START_DIAL_RETRY)
    failed = "the TCP connection failed"
    delayed = _row(_S.ACTIVE, to_active, failed, _CONNECT, _G.DELAY_OPEN_RUNNING)
    if profile is Profile.DOCUMENT:
        plain = _row(_S.ACTIVE, to_active, failed, "VBR-16")
    else:
        plain = _row(_S.IDLE, _QUIET_END, failed, _CONNECT)
    _put(table, s, _E.TCP_CONNECTION_FAILS, delayed, plain)
    _before_open(table, s, _CONNECT)


def _active(table: Table, profile: Profile) -> None:
    s = _S.ACTIVE
    _put(
        table,
        s,
        _E.MANUAL_STOP,
        _row(_S.IDLE, (_A.SEND_CEASE, *_STOPPED), "stopped", _ACTIVE, _G.CEASE_WITHOUT_OPEN),
        _row(_S.IDLE, _STOPPED, "stopped", _ACTIVE),
    )
    _put(
        table,
        s,
        _E.CONNECT_RETRY_TIMER_EXPIRES,
        _row(
            s,
            (_A.START_CONNECT_RETRY,),
            "passive: goes on waiting for the peer",
            "this speaker: a passive neighbour is never dialled",
            _G.PASSIVE,
        ),
        _row(
            _S.CONNECT,
            (_A.STOP_DIAL_RETRY, _A.START_CONNECT_RETRY, _A.DIAL),
            "no connection within the ConnectRetryTime: dials again",
            f"{_ACTIVE}; VBR-17",
        ),
    )
    _put(
        table,
        s,
        _E.DIAL_RETRY_TIMER_EXPIRES,
        _row(s, (), "passive: goes on waiting for the peer", "this speaker", _G.PASSIVE),
        _row(s, (_A.STOP_DIAL_RETRY, _A.DIAL), "keeps trying: dials again", "VBR-17"),
    )
    failed = "the TCP connection failed"
    if profile is Profile.DOCUMENT:
        row = _row(s, (_A.RELEASE, _A.START_DIAL_RETRY), failed, "VBR-17")
    else:
        # Damping is optional here, and would keep two sides apart whose dials meet each other's idle hold.
        row = _row(_S.IDLE, (_A.START_CONNECT_RETRY, _A.RELEASE, _A.COUNT), failed, _ACTIVE)
    _put(table, s, _E.TCP_CONNECTION_FAILS, row)
    _before_open(table, s, _ACTIVE)


def _after_open(table: Table, state: State, source: str, last: tuple[Action, ...] = ()) -> None:
    """What OpenSent, OpenConfirm and Established have in common; ``last`` is done before all else when a session ends."""
    end = (*last, *_END)
    _put(table, state, _STARTS, _row(state, (), "already started", source))
    _put(table, state, _E.MANUAL_STOP, _row(_S.IDLE, (_A.SEND_CEASE, *last, *_STOPPED), "stopped", source))
    _put(table, state, _E.AUTOMATIC_STOP, _row(_S.IDLE, (_A.SEND_CEASE, *end), "reset", source))
    _put(
        table,
        state,
        _E.HOLD_TIMER_EXPIRES,
        _row(_S.IDLE, (_A.SEND_HOLD_EXPIRED, *end), "the hold timer expired", f"{source}; VBR-20, VBR-35"),
    )
    _put(table, state, _E.TCP_CONNECTION_VALID, _row(state, (), "a second connection is being made", source))
    _put(table, state, _E.TCP_CR_INVALID, _row(state, (), "an invalid connection request is ignored", source))
    _put(table, state, _STANDS, _row(state, (_A.TRACK,), "a second connection stands", f"{source}; RFC 4271 6.8"))
    _put(
        table,
        state,
        _E.OPEN_COLLISION_DUMP,
        _row(_S.IDLE, (_A.SEND_CEASE, *end), "collision: the other connection stays", f"{source}; RFC 4271 6.8"),
    )
    _put(
        table,
        state,
        _E.DIAL_RETRY_TIMER_EXPIRES,
        _row(state, (), "a connection stands already", "this speaker"),
    )
    unexpected = _row(_S.IDLE, (_A.SEND_FSM_ERROR, *end), "not expected in this state", f"{source}; RFC 6608")
    _rest(table, state, unexpected)


def _open_sent(table: Table, profile: Profile) -> None:
    s = _S.OPEN_SENT
    _put(
        table,
        s,
        _E.TCP_CONNECTION_FAILS,
        _row(
            _S.ACTIVE,
            (_A.RELEASE, _A.DROP, _A.START_CONNECT_RETRY, _A.START_DIAL_RETRY),
            "the TCP connection failed",
            f"{_OPEN_SENT}; VBR-18",
        ),
    )
    _put(
        table,
        s,
        _E.BGP_OPEN,
        _row(
            _S.OPEN_CONFIRM,
            (_A.STOP_DELAY_OPEN, _A.STOP_CONNECT_RETRY, _A.SEND_KEEPALIVE, _A.START_HOLD),
            "the peer's OPEN is right: sends KEEPALIVE",
            f"{_OPEN_SENT}; VBR-18",
        ),
    )
    _put(
        table,
        s,
        _MESSAGE_ERRORS,
        _row(_S.IDLE, (_A.SEND_ERROR, *_END), "error in a message", f"{_OPEN_SENT}; VBR-18"),
    )
    _put(
        table,
        s,
        _E.NOTIF_MSG_VER_ERR,
        _row(_S.IDLE, _QUIET_END, "the peer does not speak this version", _OPEN_SENT),
    )
    if profile is Profile.DOCUMENT:
        # The RFC answers with an FSM error, as for any message that is not due.
        _put(
            table,
            s,
            _E.NOTIF_MSG,
            _row(_S.IDLE, _END, "the peer sent a NOTIFICATION", "this speaker: none is answered by another"),
        )
    _after_open(table, s, _OPEN_SENT)


def _deaf(table: Table, state: State, last: tuple[Action, ...] = ()) -> None:
    """RFC 9687 4.3. The NOTIFICATION delays nothing: the shell closes behind it when it must."""
    row = _row(
        _S.IDLE,
        (_A.SEND_SEND_HOLD_EXPIRED, *last, *_END),
        "the peer takes nothing of what is sent",
        "RFC 9687 4.3",
    )
    _put(table, state, _E.SEND_HOLD_TIMER_EXPIRES, row)


def _open_confirm(table: Table) -> None:
    s = _S.OPEN_CONFIRM
    _put(
        table,
        s,
        _E.KEEPALIVE_TIMER_EXPIRES,
        _row(s, (_A.SEND_KEEPALIVE, _A.RESTART_KEEPALIVE), "time for a KEEPALIVE", f"{_OPEN_CONFIRM}; VBR-35"),
    )
    _put(
        table,
        s,
        _E.TCP_CONNECTION_FAILS,
        _row(_S.IDLE, _END, "the TCP connection was closed", f"{_OPEN_CONFIRM}; VBR-19"),
    )
    _put(table, s, _E.NOTIF_MSG, _row(_S.IDLE, _END, "the peer sent a NOTIFICATION", _OPEN_CONFIRM))
    _put(
        table,
        s,
        _E.NOTIF_MSG_VER_ERR,
        _row(_S.IDLE, _QUIET_END, "the peer does not speak this version", _OPEN_CONFIRM),
    )
    _put(table, s, _MESSAGE_ERRORS, _row(_S.IDLE, (_A.SEND_ERROR, *_END), "error in a message", _OPEN_CONFIRM))
    _put(
        table,
        s,
        _E.KEEPALIVE_MSG,
        _row(
            _S.ESTABLISHED,
            (_A.RESTART_HOLD, _A.UP),
            "the peer's KEEPALIVE came: the session is up",
            f"{_OPEN_CONFIRM}; VBR-19",
        ),
    )
    _deaf(table, s)
    # A second OPEN on the same connection ends here too: that of the other connection is the collision's business.
    _after_open(table, s, _OPEN_CONFIRM)


def _established(table: Table) -> None:
    s = _S.ESTABLISHED
    lost = (_A.DELETE_ROUTES,)
    _put(
        table,
        s,
        _E.KEEPALIVE_TIMER_EXPIRES,
        _row(s, (_A.SEND_KEEPALIVE, _A.RESTART_KEEPALIVE), "time for a KEEPALIVE", f"{_ESTABLISHED}; VBR-20"),
    )
    _put(
        table,
        s,
        _E.TCP_CONNECTION_FAILS,
        _row(_S.IDLE, (*lost, *_END), "the TCP connection was closed", _ESTABLISHED),
    )
    _put(
        table,
        s,
        (_E.NOTIF_MSG, _E.NOTIF_MSG_VER_ERR),
        _row(_S.IDLE, (*lost, *_END), "the peer sent a NOTIFICATION", _ESTABLISHED),
    )
    _put(table, s, _E.KEEPALIVE_MSG, _row(s, (_A.RESTART_HOLD,), "a KEEPALIVE came", _ESTABLISHED))
    _put(table, s, _E.UPDATE_MSG, _row(s, (_A.DELIVER, _A.RESTART_HOLD), "an UPDATE came", f"{_ESTABLISHED}; VBR-20"))
    _put(table, s, _E.ROUTE_REFRESH_MSG, _row(s, (_A.DELIVER,), "a ROUTE-REFRESH came", "RFC 2918 4"))
    wrong = (_A.SEND_ERROR, *lost, *_END)
    _put(table, s, _E.UPDATE_MSG_ERR, _row(_S.IDLE, wrong, "error in an UPDATE", f"{_ESTABLISHED}; RFC 7606"))
    _put(table, s, _E.ROUTE_REFRESH_MSG_ERR, _row(_S.IDLE, wrong, "error in a ROUTE-REFRESH", "RFC 7313 5"))
    # 8.2.2 counts event 21 among "any other event" here; 6.1 says that header errors MUST be told as such.
    _put(table, s, _E.BGP_HEADER_ERR, _row(_S.IDLE, wrong, "error in a message", "RFC 4271 6.1"))
    _deaf(table, s, lost)
    _after_open(table, s, _ESTABLISHED, lost)


def _build(profile: Profile) -> Table:
    table: Table = {}
    _idle(table)
    _connect(table, profile)
    _active(table, profile)
    _open_sent(table, profile)
    _open_confirm(table)
    _established(table)
    return table


TABLES: dict[Profile, Table] = {profile: _build(profile) for profile in Profile}

# Where the two profiles differ, cell by cell.
DIFFERENCES: tuple[tuple[State, Event], ...] = tuple(
    key for key, cell in TABLES[Profile.DOCUMENT].items() if cell != TABLES[Profile.RFC4271][key]
)
