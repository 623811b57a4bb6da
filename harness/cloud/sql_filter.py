"""The SQL filter of an alert rule (VBR-23): a condition or a query over one event, run by sqlite where it can do nothing else.

The event is the one row of the table ``event``: a column for each field of its JSON form (``harness.cloud.events``), ``content`` as
JSON text and each of its keys as a column of its own. ``level = 'Warning' AND routes > 200`` is a filter, and so is ``SELECT 1 FROM event
WHERE reason LIKE '%BFD%'``. An event passes when a row comes out; a lone value that is 0 or NULL counts as none, as ``count(*)`` gives it.

What the document says of the language is nothing: sqlite's is this project's choice†. The database is in memory and new for each
event; reading that table and calling functions without side effects is all that the authorizer allows (no ATTACH, no PRAGMA, no
recursion), and a filter is ended after :data:`STEPS` steps of sqlite's virtual machine.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3

from harness.cloud.events import Event, EventName

#: Most steps of the virtual machine for one event.
STEPS = 100_000
#: Most octets of a text and of any value on the way.
LENGTH = 65_536

#: Most brackets inside each other. sqlite's own bound depends on its version: from 3.46 on it has none.
DEEPEST = 100

_EVERY = 1_000
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_COLUMNS = (
    "ver",
    "traceId",
    "product",
    "type",
    "level",
    "name",
    "eventTime",
    "regionId",
    "resourceId",
    "instanceName",
    "content",
)
#: Keys of the content of any event; each is a column, NULL where the event has no such key.
_CONTENT = ("vbr", "peer", "bgpGroup", "peerAsn", "reason", "status", "routes", "quota", "action")
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"})
_LIMITS = (
    (sqlite3.SQLITE_LIMIT_LENGTH, LENGTH),
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, LENGTH),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 10),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
)


class SqlFilterError(ValueError):
    """The filter is not SQL that may run over an event; the text says why."""


def passes(sql: str, event: Event) -> bool:
    """Does the filter let the event through? Raises :class:`SqlFilterError`."""
    with contextlib.closing(_database(event)) as database:
        try:
            cursor = database.execute(_query(sql))
            rows = cursor.fetchmany(2)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise SqlFilterError(_said(error)) from None
        except (ValueError, OverflowError) as error:  # a NUL character in the text, a number that is none of sqlite's
            raise SqlFilterError(str(error)) from None
    return any(len(row) > 1 or row[0] not in (0, None) for row in rows)


def refusal(sql: str) -> str | None:
    """Why the filter cannot be used, None where it can: it is tried on an event of each name."""
    for name in EventName:
        try:
            passes(sql, Event(0.0, name, "vbr", "192.0.2.1", content={"reason": "", "routes": 0, "quota": 0}))
        except SqlFilterError as error:
            return str(error)
    return None


def _query(sql: str) -> str:
    text = sql.strip().removesuffix(";")
    depth = 0
    for bracket in re.findall(r"[()]", _QUOTED.sub("", text)):
        depth += 1 if bracket == "(" else -1
        if depth > DEEPEST:
            raise SqlFilterError(f"it has more than {DEEPEST} brackets inside each other")
    if re.match(r"(select|with|values)\b", text, re.IGNORECASE):
        return text
    # On lines of their own, so that a comment at the end of the condition ends before the bracket.
    return f"SELECT 1 FROM event WHERE (\n{text}\n)"


def _database(event: Event) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    columns = [*_COLUMNS, *_CONTENT]
    database.execute(f"CREATE TABLE event ({', '.join(columns)})")
    fields = event.fields()
    content = fields["content"]
    values = {**{name: content.get(name) for name in _CONTENT}, **fields, "content": json.dumps(content)}
    marks = ", ".join("?" * len(columns))
    database.execute(f"INSERT INTO event VALUES ({marks})", [values[name] for name in columns])
    database.commit()
    for limit, most in _LIMITS:
        database.setlimit(limit, most)
    left = STEPS // _EVERY

    def step() -> int:
        nonlocal left
        left -= 1
        return int(left < 0)

    database.set_progress_handler(step, _EVERY)
    database.set_authorizer(_authorize)
    return database


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _source: str | None) -> int:
    match action:
        case sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        case sqlite3.SQLITE_READ if first == "event" or not first:
            return sqlite3.SQLITE_OK
        case sqlite3.SQLITE_FUNCTION if (second or "").lower() not in _FORBIDDEN_FUNCTIONS:
            return sqlite3.SQLITE_OK
        case _:
            return sqlite3.SQLITE_DENY


def _said(error: sqlite3.Error | sqlite3.Warning) -> str:
    text = str(error)
    if text == "interrupted":
        return f"it takes more than {STEPS:,} steps for one event"
    if text == "not authorized":
        return "it may only read the table event"
    return text
