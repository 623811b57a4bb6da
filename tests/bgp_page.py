"""docs/bgp-reference.md: the page of the speaker's tables, drawn from the tables themselves: events, transitions, attributes, errors.

``python -m tests.doc_columns`` rewrites it with the other generated parts; ``test_docs`` says when it is stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.bgp import attribute_table, capabilities
from harness.bgp.attribute_table import Flag
from harness.bgp.errors import MEANING
from harness.bgp.fsm import DIFFERENCES, EVENTS, TABLES, Cell, Event, Profile, Row, State
from tests.test_project import TOP

PAGE = TOP / "docs" / "bgp-reference.md"

HEAD = """# BGP reference

What the speaker does on each event and with each attribute, as it stands in its code. This page is written by `python -m tests.doc_columns`
from the tables in `harness/bgp/fsm.py`, `harness/bgp/attribute_table.py`, `harness/bgp/errors.py` and `harness/bgp/capabilities.py`; change
those, not this.
"""

# RFC 4271 8.1.2 to 8.1.5, RFC 9687 4.2.
RFC_NAMES: dict[int, str] = {
    1: "ManualStart",
    2: "ManualStop",
    3: "AutomaticStart",
    4: "ManualStart_with_PassiveTcpEstablishment",
    5: "AutomaticStart_with_PassiveTcpEstablishment",
    6: "AutomaticStart_with_DampPeerOscillations",
    7: "AutomaticStart_with_DampPeerOscillations_and_PassiveTcpEstablishment",
    8: "AutomaticStop",
    9: "ConnectRetryTimer_Expires",
    10: "HoldTimer_Expires",
    11: "KeepaliveTimer_Expires",
    12: "DelayOpenTimer_Expires",
    13: "IdleHoldTimer_Expires",
    14: "TcpConnection_Valid",
    15: "Tcp_CR_Invalid",
    16: "Tcp_CR_Acked",
    17: "TcpConnectionConfirmed",
    18: "TcpConnectionFails",
    19: "BGPOpen",
    20: "BGPOpen with DelayOpenTimer running",
    21: "BGPHeaderErr",
    22: "BGPOpenMsgErr",
    23: "OpenCollisionDump",
    24: "NotifMsgVerErr",
    25: "NotifMsg",
    26: "KeepAliveMsg",
    27: "UpdateMsg",
    28: "UpdateMsgErr",
    29: "SendHoldTimer_Expires",
}
_OWN = 100
"""Events from here on are the speaker's own."""


def page() -> str:
    """The whole page."""
    parts = [
        HEAD,
        *_events(),
        *_diagram(),
        *_transitions(),
        *_differences(),
        *_attributes(),
        *_errors(),
        *_capabilities(),
    ]
    return "\n".join(parts) + "\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = list(head)
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '∣') for cell in row)} |"
    yield ""


def event_name(event: Event) -> str:
    """As RFC 4271 writes it; the speaker's own as the code does."""
    return RFC_NAMES.get(event, event.name)


def is_raised(event: Event) -> bool:
    return not EVENTS[event].raised.startswith("not raised")


def _events() -> Iterator[str]:
    yield "## Events\n"
    yield (
        "RFC 4271 section 8.1 names 28 events; some it asks for, others it leaves to the implementation. The state machine\n"
        "answers every one of them in every state. Those that nothing raises here have the reason.\n"
    )
    yield from _table(
        ("Event", "Name", "RFC 4271", "Here", "Raised by, or why not"),
        (
            (
                str(int(event)),
                f"`{event_name(event)}`",
                "own" if event >= _OWN else "mandatory" if info.mandatory else "optional",
                "yes" if is_raised(event) else "no",
                info.raised.removeprefix("not raised: "),
            )
            for event, info in EVENTS.items()
        ),
    )


def _diagram() -> Iterator[str]:
    yield "## States\n"
    yield (
        "The changes of state in the profile `document`. Numbers are events; what leads back to Idle for any other reason is\n"
        "in the tables below.\n"
    )
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    [*] --> Idle"
    for old in State:
        for new in State:
            events = [event for event in Event if _leads(old, event, new)]
            if old is not new and events:
                yield f"    {old.value} --> {new.value}: {_numbers(events)}"
    yield "```\n"


def _leads(old: State, event: Event, new: State) -> bool:
    """Whether the event is one that this state expects, and may lead there."""
    rows = TABLES[Profile.DOCUMENT][old, event]
    return any(row.new is new and not row.reason.startswith("not expected") for row in rows)


def _numbers(events: Iterable[int]) -> str:
    """``1, 3-5``."""
    runs: list[list[int]] = []
    for number in sorted(map(int, events)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _transitions() -> Iterator[str]:
    yield "## Transitions\n"
    yield "Rows of one event are tried in order; the first whose condition holds counts. Actions are carried out from left to right.\n"
    for state in State:
        yield f"### {state.value}\n"
        cells: dict[Cell, list[Event]] = {}
        for event in Event:
            cells.setdefault(TABLES[Profile.DOCUMENT][state, event], []).append(event)
        yield from _table(
            ("Events", "If", "Next", "Actions", "Reason", "Source"),
            (_row(_numbers(events), row) for cell, events in cells.items() for row in cell),
        )


def _row(events: str, row: Row) -> tuple[str, ...]:
    return (
        events,
        row.guard.value if row.guard else "",
        row.new.value,
        "; ".join(action.value for action in row.actions) or "none",
        row.reason,
        row.source,
    )


def _differences() -> Iterator[str]:
    yield "## The profile rfc4271\n"
    yield (
        "Where `profile: rfc4271` goes another way than the tables above, which follow the cloud's description of the states\n"
        "(VBR-15 to VBR-20):\n"
    )
    yield from _table(
        ("State", "Event", "If", "Next", "Actions", "Reason", "Source"),
        (
            (state.value, *_row(str(int(event)), row))
            for state, event in DIFFERENCES
            for row in TABLES[Profile.RFC4271][state, event]
        ),
    )


def _attributes() -> Iterator[str]:
    yield "## Path attributes\n"
    yield (
        "What a malformed attribute leads to (RFC 7606). An attribute that is not here is passed on if it is optional and\n"
        "transitive, dropped if it is optional and not, and ends the session if it claims to be well-known.\n"
    )
    yield from _table(
        ("Code", "Name", "Flags", "If malformed", "From an external peer", "Source"),
        (
            (
                str(int(code)),
                row.name,
                _flags(row.category),
                str(row.action),
                "ignored" if row.internal_only else "read",
                row.source,
            )
            for code, row in attribute_table.TABLE.items()
        ),
    )


def _flags(category: Flag) -> str:
    optional = "optional" if Flag.OPTIONAL in category else "well-known"
    return f"{optional}, {'transitive' if Flag.TRANSITIVE in category else 'not transitive'}"


def _errors() -> Iterator[str]:
    yield "## NOTIFICATION codes\n"
    yield from _table(
        ("Code", "Name", "Meaning", "Data"),
        (
            (f"{code}/{subcode}", name, meaning, data or "none")
            for (code, subcode), (name, meaning, data) in MEANING.items()
        ),
    )


def _capabilities() -> Iterator[str]:
    yield "## Capabilities\n"
    yield "Read and understood. Any other is shown with its number and otherwise ignored (RFC 5492 3).\n"
    yield from _table(
        ("Code", "Name", "Source"),
        ((str(code), row.name, row.source) for code, row in sorted(capabilities.TABLE.items())),
    )
