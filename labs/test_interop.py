"""Our speaker and the four that no one here wrote: FRR, BIRD, GoBGP, ExaBGP, as Debian ships them (BGP-1 to BGP-19, VBR-2, 9, 13).

Each check is a row of the matrix in the report. What a daemon does not do is in ``LACKS`` with a pattern of its own words: the check must
end there, the words of this run stand in the cell, and a daemon that learns it or fails elsewhere makes the test fail.

Source: the RFCs named at each check.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from harness.control import ControlError
from harness.daemons.kinds import KINDS, Kind
from harness.session import Labs
from harness.speakers import NotSuited, Wish, shown
from harness.stream import NotInTime
from labs.interop import OURS, THEIRS, WITHIN, Duo, Lacking, ours, plan, theirs
from labs.raw_peer import (
    OPTIONAL,
    TRANSITIVE,
    RawPeer,
    as_path,
    attribute,
    next_hop,
    nlri,
    open_message,
    origin,
    update,
)
from reports.model import Grid

Check = Callable[[Duo], Awaitable[str]]
CHECKS: dict[str, Check] = {}


def check(title: str) -> Callable[[Check], Check]:
    """A row of the matrix. The check returns what was seen, in few words."""

    def kept(function: Check) -> Check:
        CHECKS[title] = function
        return function

    return kept


@check("Established, we dial")
async def we_dial(duo: Duo) -> str:
    async with duo.session(theirs_has={"passive": True} if duo.kind.name != "exabgp" else {}) as name:
        return f"hold time {await negotiated(duo, name)} s"


@check("Established, they dial")
async def they_dial(duo: Duo) -> str:
    async with duo.session({"passive": True}) as name:
        return f"hold time {await negotiated(duo, name)} s"


async def negotiated(duo: Duo, name: str) -> int:
    (row,) = await duo.ours.call("show.neighbors", name=name)
    assert row["session"]["hold_time"] == 90
    return int(row["session"]["hold_time"])


#: Every attribute of BGP-5 that may cross an AS border. LOCAL_PREF may not (RFC 4271 5.1.5).
RICH = (
    origin(1)
    + as_path(65003, 4200000003)
    + attribute(OPTIONAL, 4, (77).to_bytes(4, "big"))
    + attribute(TRANSITIVE, 6, b"")
    + attribute(OPTIONAL | TRANSITIVE, 7, (4200000003).to_bytes(4, "big") + bytes([9, 9, 9, 9]))
    + attribute(OPTIONAL | TRANSITIVE, 8, (65003 << 16 | 7).to_bytes(4, "big"))
    + attribute(OPTIONAL | TRANSITIVE, 16, bytes([0, 2]) + (65003).to_bytes(2, "big") + (99).to_bytes(4, "big"))
    + attribute(OPTIONAL | TRANSITIVE, 32, b"".join(n.to_bytes(4, "big") for n in (65003, 1, 2)))
)


@contextlib.asynccontextmanager
async def third(duo: Duo, side: str, last: int = 3) -> AsyncIterator[RawPeer]:
    """A session by hand with one side, from the third node's address that ends with ``last``."""
    net, own = ("10.103.0", 1) if side == "ours" else ("10.104.0", 2)
    source, name = f"{net}.{last}", f"third{last}"
    speaker = duo.lab[side].speaker
    await speaker.call(
        "neighbor.add", name=name, address=source, remote_asn=65003, local_address=f"{net}.{own}", passive=True
    )
    try:
        async with RawPeer.dialled(duo.lab["third"], source, f"{net}.{own}") as peer:
            await peer.establish(open_message(identifier=f"3.3.3.{last}"))
            await duo.lab.event(node=side, kind="peer.up", peer=name, within=WITHIN, since=time.monotonic() - 5)
            yield peer
    finally:
        await speaker.call("neighbor.delete", name=name)


def assert_rich(path: dict[str, Any], passed: int, hop: str) -> None:
    """The attributes of :data:`RICH` after one AS more, MED gone (RFC 4271 5.1.4)."""
    assert path["as_path"] == f"{passed} 65003 4200000003"
    assert path["origin"] == "egp"
    assert path["next_hop"] == hop
    assert path["communities"] == ["65003:7"]
    assert path["large_communities"] == ["65003:1:2"]
    assert len(path["extended_communities"]) == 1
    assert "99" in str(path["extended_communities"][0])
    assert path["aggregator"] == "4200000003 9.9.9.9"
    assert path["atomic_aggregate"] is True
    assert path["med"] in (None, 0)


@check("IPv4 routes, attributes intact, to us")
async def routes_to_us(duo: Duo) -> str:
    if duo.kind.name == "exabgp":
        # It has no table to pass routes on from; what it announces of its own must come.
        async with duo.session() as name:
            (path,) = await duo.path("ours", "10.102.0.0/16", name)
            assert (path["as_path"], path["next_hop"]) == (str(THEIRS), theirs(int(name[4:])))
            raise Lacking(
                (await duo.theirs.call("version")) + ": announces its own routes, passes on none: " + path["as_path"]
            )
    async with duo.session() as name, third(duo, "theirs") as peer:
        await peer.send(update(RICH + next_hop("10.104.0.3"), nlri("172.20.0.0/16")))
        (path,) = await duo.path("ours", "172.20.0.0/16", name)
        assert_rich(path, THEIRS, theirs(int(name[4:])))
        return "origin, AS path, communities, extended, large, aggregator, atomic, next hop"


@check("IPv4 routes, attributes intact, to them")
async def routes_to_them(duo: Duo) -> str:
    async with duo.session() as name, third(duo, "ours") as peer:
        await peer.send(update(RICH + next_hop("10.103.0.3"), nlri("172.21.0.0/16")))
        (path,) = await duo.path("theirs", "172.21.0.0/16", name)
        assert_rich(path, OURS, ours(int(name[4:])))
        return "origin, AS path, communities, extended, large, aggregator, atomic, next hop"


@check("iBGP: LOCAL_PREF and MED, both ways")
async def internal(duo: Duo) -> str:
    policy = [{"action": "permit", "local_pref": 222, "med": 33}]
    other = {} if duo.kind.name in ("gobgp", "exabgp") else {"export": policy}
    async with duo.session(
        {"export": policy, "local_asn": THEIRS},
        {**other, "remote_asn": THEIRS},
    ) as name:
        (path,) = await duo.path("theirs", "10.101.0.0/16", name)
        assert (path["local_pref"], path["med"], path["as_path"]) == (222, 33, "")
        (path,) = await duo.path("ours", "10.102.0.0/16", name)
        assert (path["local_pref"], path["med"]) == ((222, 33) if other else (100, path["med"]))
        return "LOCAL_PREF 222, MED 33" + ("" if other else "; theirs LOCAL_PREF 100, its own default")


@check("IPv6 routes both ways")
async def ipv6(duo: Duo) -> str:
    async with duo.session(ipv6=True) as name:
        await duo.theirs.call("network.add", prefix="2001:db8:2::/48")
        await duo.ours.call("network.add", prefix="2001:db8:1::/48")
        try:
            (path,) = await duo.path("ours", "2001:db8:2::/48", name)
            assert (path["as_path"], path["next_hop"]) == (str(THEIRS), f"fd00:{int(name[4:]):x}::2")
            (path,) = await duo.path("theirs", "2001:db8:1::/48", name)
            assert path["as_path"] == str(OURS)
        finally:
            await duo.theirs.call("network.delete", prefix="2001:db8:2::/48")
            await duo.ours.call("network.delete", prefix="2001:db8:1::/48")
        return f"next hop {path['next_hop']}"


@check("TCP MD5, same key")
async def same_key(duo: Duo) -> str:
    async with duo.session(both={"key": "Zug-um-Zug"}):
        return "Established"


@check("TCP MD5, other key")
async def other_key(duo: Duo) -> str:
    async with duo.session({"key": "Zug-um-Zug"}, {"key": "Tag-fuer-Tag"}, established=False) as name:
        told = await duo.lab.event(node="ours", kind="dial.waiting", peer=name, within=WITHIN)
        assert not list(duo.lab.stream.of(node="ours", kind="peer.up", peer=name)), told
        return "no session"


@check("4-byte ASNs")
async def four_bytes(duo: Duo) -> str:
    ends = {"local_asn": 4200000001, "remote_asn": 4200000002}, {"local_asn": 4200000002, "remote_asn": 4200000001}
    async with duo.session(*ends) as name:
        (path,) = await duo.path("ours", "10.102.0.0/16", name)
        assert "4200000002" in path["as_path"].split()
        return str(path["as_path"])


@check("2-byte speaker (ours) and a 4-byte ASN (theirs): AS_TRANS, AS4_PATH")
async def two_bytes(duo: Duo) -> str:
    async with duo.session({"four_octet_asn": False, "remote_asn": 4200000002}, {"local_asn": 4200000002}) as name:
        (path,) = await duo.path("ours", "10.102.0.0/16", name)
        assert "4200000002" in path["as_path"].split()
        (path,) = await duo.path("theirs", "10.101.0.0/16", name)
        assert path["as_path"] == str(OURS)
        return "AS path rebuilt from AS4_PATH"


@check("Route refresh, we ask")
async def we_refresh(duo: Duo) -> str:
    # FRR puts off for ever what is asked before its End-of-RIB, which it sends to neighbours with graceful restart only (RFC 4724).
    late = duo.kind.name == "frr"
    async with duo.session(
        both={"graceful_restart": {"mode": "helper", "notification": False}} if late else {}
    ) as name:
        await duo.path("ours", "10.102.0.0/16", name)
        if late:
            await duo.lab.event(node="ours", kind="eor", peer=name, within=WITHIN)
        before = await updates(duo, name)
        await duo.ours.call("clear.soft", name=name, direction="in")

        await shown(  # routes that come again unchanged are no event
            duo.ours,
            lambda rows: updates_in(rows) > before,
            within=WITHIN,
            what="the routes come again",
            method="show.neighbors",
            name=name,
        )
        return "routes came again" + (", after its End-of-RIB" if late else "")


async def updates(duo: Duo, name: str) -> int:
    return updates_in(await duo.ours.call("show.neighbors", name=name))


def updates_in(rows: list[dict[str, Any]]) -> int:
    return int(rows[0]["received_messages"].get("UPDATE", 0))


@check("Route refresh, they ask")
async def they_refresh(duo: Duo) -> str:
    async with duo.session() as name:
        asked = time.monotonic()
        await duo.theirs.call("clear.soft", name=name, direction="in")
        if duo.kind.name == "gobgp":
            said = await duo.theirs.call("ask", question=f"neighbor {ours(int(name[4:]))}")
            raise Lacking(" ".join(next(line for line in said.splitlines() if "Refresh" in line).split()))
        await duo.lab.event(node="ours", kind="refresh", peer=name, since=asked, within=WITHIN)
        return "asked and answered"


@check("ADD-PATH, they send two paths")
async def paths_to_us(duo: Duo) -> str:
    if duo.kind.name == "exabgp":
        raise Lacking((await duo.theirs.call("version")) + ": passes no routes on")
    async with (
        duo.session({"add_path": "receive"}, {"add_path": "send"}) as name,
        third(duo, "theirs", 3) as one,
        third(duo, "theirs", 4) as two,
    ):
        for peer, last in ((one, 3), (two, 4)):
            await peer.send(
                update(origin() + as_path(65003, last) + next_hop(f"10.104.0.{last}"), nlri("172.22.0.0/16"))
            )
        found = await duo.path("ours", "172.22.0.0/16", name, count=2)
        assert {path["as_path"] for path in found} == {f"{THEIRS} 65003 3", f"{THEIRS} 65003 4"}
        assert len({path["path_id"] for path in found}) == 2
        return "both came"


@check("ADD-PATH, we send two paths")
async def paths_to_them(duo: Duo) -> str:
    async with (
        duo.session({"add_path": "send"}, {"add_path": "receive"}) as name,
        third(duo, "ours", 3) as one,
        third(duo, "ours", 4) as two,
    ):
        for peer, last in ((one, 3), (two, 4)):
            await peer.send(
                update(origin() + as_path(65003, last) + next_hop(f"10.103.0.{last}"), nlri("172.23.0.0/16"))
            )
        found = await duo.path("theirs", "172.23.0.0/16", name, count=2)
        assert {path["as_path"] for path in found} == {f"{OURS} 65003 3", f"{OURS} 65003 4"}
        return "both came"


@check("Shutdown text, we send")
async def text_to_them(duo: Duo) -> str:
    words = "Wartung bis 5 Uhr"
    async with duo.session() as name:
        await duo.path("ours", "10.102.0.0/16", name)
        await duo.ours.call("neighbor.shutdown", name=name, text=words)
        await duo.lab.event(node="theirs", kind="peer.down", peer=name, within=WITHIN)
        said = [str(event.data) for event in duo.lab.stream.of(node="theirs", kind="notification", peer=name)]
        (row,) = await duo.theirs.call("show.neighbors", name=name)
        if any(words in text for text in (*said, str(row.get("text")))):
            return f"read: {words}"

        def in_log(lines: list[str]) -> bool:
            return any(words in line for line in lines)

        try:
            await shown(duo.theirs, in_log, within=3, what="the text in its log", method="log", count=400)
        except NotInTime:
            raise Lacking(await logged(duo, r".*(otification|peer reset|closing connection).*")) from None
        return f"read: {words}"


@check("Shutdown text, they send")
async def text_to_us(duo: Duo) -> str:
    for _ in range(_TIMES):
        if (seen := await shut_down(duo, "Wartung bis 6 Uhr")) is not None:
            return seen
    raise AssertionError(f"{_TIMES} times the connection was reset before the NOTIFICATION was out")


_TIMES = 3


async def shut_down(duo: Duo, words: str) -> str | None:
    """What ours reads of a shutdown at theirs. None where it was reset instead: a daemon that closes with something of ours unread takes
    back what it has still to send (RFC 1122 4.2.2.13)."""
    async with duo.session() as name:
        if duo.kind.name != "exabgp":  # it has no table to be asked for
            await duo.path("theirs", "10.101.0.0/16", name)
        asked = time.monotonic()
        try:
            await duo.theirs.call("neighbor.shutdown", name=name, text=words)
        except NotSuited as error:
            raise Lacking(str(error).partition(": ")[2]) from None
        down = await duo.lab.event(node="ours", kind="peer.down", peer=name, since=asked, within=WITHIN)
        # By its code: the Cease of a connection that lost a collision may still be on its way.
        wanted: dict[str, Any] = {"direction": "received", "code": 6, "subcode": 2, "peer": name}
        told = next(duo.lab.stream.of(node="ours", kind="notification", since=asked, **wanted), None)
        if told is None:
            assert "reset by peer" in down.data["reason"], down.data["reason"]
            return None
        if told.data.get("text") != words:
            raise Lacking(
                await logged(duo, LACKS.get((duo.kind.name, "Shutdown text, they send"), ".*dministrative.*"))
            )
        return f"read: {words}"


@check("Maximum prefixes, ours")
async def our_limit(duo: Duo) -> str:
    async with duo.session({"maximum_prefixes": {"limit": 1}}) as name:
        await duo.theirs.call("network.add", prefix="10.112.0.0/16")
        try:
            told = await duo.lab.event(node="ours", kind="notification", direction="sent", peer=name, within=WITHIN)
            assert (told.data["code"], told.data["subcode"]) == (6, 1)
            await duo.lab.event(node="theirs", kind="peer.down", peer=name, within=WITHIN)
            return "Cease/1 sent"
        finally:
            await duo.theirs.call("network.delete", prefix="10.112.0.0/16")


_MORE = ("10.110.0.0/16", "10.111.0.0/16")


@check("Maximum prefixes, theirs")
async def their_limit(duo: Duo) -> str:
    try:
        async with duo.session({}, {"maximum_prefixes": {"limit": 1}}) as name:
            # FRR looks at the count before it adds a prefix: one more than the limit passes.
            for prefix in _MORE:
                await duo.ours.call("network.add", prefix=prefix)
            try:
                told = await duo.lab.event(
                    node="ours", kind="notification", direction="received", peer=name, within=WITHIN
                )
                assert (told.data["code"], told.data["subcode"]) == (6, 1)
                return "Cease/1 received"
            finally:
                for prefix in _MORE:
                    await duo.ours.call("network.delete", prefix=prefix)
    except NotSuited:
        raise Lacking(await words_on(duo, "maximum-prefix 1;", "")) from None


@check("Graceful restart, theirs is killed: we keep its routes")
async def theirs_restarts(duo: Duo) -> str:
    await duo.answer(
        "ours",
        lambda rows: rows[0]["state"] == "Established",
        "the base session is Established",
        WITHIN,
        method="show.neighbors",
        name="base",
    )
    await duo.path("ours", "10.102.0.0/16", "base")
    killed = time.monotonic()
    await duo.theirs.kill()
    await duo.lab.event(node="ours", kind="peer.down", peer="base", since=killed, within=WITHIN)
    await duo.path("ours", "10.102.0.0/16", "base", within=0.5)
    await duo.theirs.restart(duo.lab.zygote)
    await duo.up("base", since=killed)
    await duo.path("ours", "10.102.0.0/16", "base")
    return "kept, and refreshed"


@check("Graceful restart, ours is killed: they keep our routes")
async def ours_restarts(duo: Duo) -> str:
    await duo.path("theirs", "10.101.0.0/16", "base")
    killed = time.monotonic()
    await duo.ours.kill()
    await duo.lab.event(node="theirs", kind="peer.down", peer="base", since=killed, within=WITHIN)
    rows = await duo.theirs.call("show.routes", table="loc", prefix="10.101.0.0/16")
    kept = [path for row in rows for path in row["paths"] if path["peer"] == "base"]
    await duo.ours.restart(duo.lab.zygote)
    await duo.up("base", since=killed)
    await duo.path("theirs", "10.101.0.0/16", "base")
    if not kept:
        raise Lacking(await logged(duo, r".*(peer reset|closing connection|closed by the remote).*"))
    return "kept, and refreshed"


@check("BFD on a direct line, up and down")
async def bfd(duo: Duo) -> str:
    timers = {"bfd": {"hop_count": 1, "interval_ms": 100, "multiplier": 3}}
    try:
        async with duo.session(both=timers) as name:
            await duo.lab.event(node="ours", kind="bfd", peer=name, new="Up", within=WITHIN)
            await shown(  # both poll sequences are through: the fast timers count
                duo.ours,
                lambda rows: rows[0]["bfd"]["detection_time_ms"] == 300,
                within=WITHIN,
                what="a detection time of 300 ms",
                method="show.neighbors",
                name=name,
            )
            cut = duo.lab.set_link("ours", "theirs", up=False)
            try:
                told = await duo.lab.event(
                    node="ours", kind="notification", direction="sent", peer=name, since=cut, within=WITHIN
                )
                assert (told.data["code"], told.data["subcode"]) == (6, 10)
                return f"Cease/10 {1000 * (told.time - cut):.0f} ms after the cut"
            finally:
                duo.lab.set_link("ours", "theirs", up=True)
    except NotSuited:
        raise Lacking(await words_on(duo, "bfd true;", "bfd")) from None


async def logged(duo: Duo, pattern: str) -> str:
    """What has the pattern in the last such line of the daemon's log, which may come after its packet; else the last line of all."""
    lines: list[str] = []

    async def said() -> str | None:
        nonlocal lines
        lines = await duo.theirs.call("log", count=400)
        return next((found[0] for line in reversed(lines) if (found := re.search(pattern, line))), None)

    try:
        return str(await duo.lab.until(said, within=WITHIN))
    except NotInTime:
        return await said() or lines[-1]


async def words_on(duo: Duo, exabgp: str, others: str) -> str:
    """What the daemon's own command line says to something that it does not have."""
    try:
        said = str(await duo.theirs.call("ask", question=exabgp if duo.kind.name == "exabgp" else others))
    except ControlError as error:
        said = str(error)
    lines = [line.rpartition("|")[2].strip() for line in said.splitlines()]
    first = next((n for n, line in enumerate(lines) if re.search(r"nknown|rror", line)), 0)
    return " ".join(line for line in lines[first : first + 6] if line)[:200]


#: (daemon, check) -> a pattern of the daemon's own words, or of the reason that it is not asked.
LACKS: dict[tuple[str, str], str] = {
    ("exabgp", "IPv4 routes, attributes intact, to us"): r"passes on none",
    ("exabgp", "ADD-PATH, they send two paths"): r"passes no routes on",
    ("gobgp", "Route refresh, they ask"): r"Route Refresh: 0 0",  # softresetin looks at its own table again
    # Of what it sent, not of why the session ended: there its reader, which finds the connection closed, may be first.
    ("gobgp", "Shutdown text, they send"): r'"Code":6,"Communicated-Reason":"","Data":null.*?"Subcode":2',
    ("exabgp", "Shutdown text, we send"): r"closing connection|peer reset|otification",
    ("exabgp", "Graceful restart, ours is killed: they keep our routes"): r"closing connection|peer reset|closed by",
    ("exabgp", "Shutdown text, they send"): r"no text",
    ("exabgp", "Maximum prefixes, theirs"): r"maximum-prefix",
    ("gobgp", "BFD on a direct line, up and down"): r"bfd",
    ("exabgp", "BFD on a direct line, up and down"): r"bfd",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One daemon's column of the matrix, and what is wrong in it."""

    version: str
    cells: dict[str, str]
    failures: list[str]


async def run(labs: Labs, kind: Kind) -> Column:
    """Every check with one daemon, on one pair of running routers."""
    column = Column("", {}, [])
    wish = Wish("theirs", kind.name, firm=True)
    async with labs.running(plan(kind), speakers=[wish]) as lab:
        duo = Duo(lab, kind)
        await duo.up("base")
        column = Column((await duo.theirs.call("version")).strip(), {}, [])
        for title, does in CHECKS.items():
            expected = LACKS.get((kind.name, title))
            try:
                async with asyncio.timeout(60):
                    cell = await does(duo)
                if expected is not None:
                    column.failures.append(f"{title}: {kind.title} does it now ({cell}); take it out of LACKS")
            except Lacking as lack:
                cell = f"no: “{str(lack).strip()}”"
                if expected is None or re.search(expected, str(lack)) is None:
                    column.failures.append(f"{title}: {lack}")
            except (AssertionError, ControlError, TimeoutError, OSError, EOFError, NotSuited) as error:
                cell = f"failed: {(str(error) or type(error).__name__).splitlines()[0]}"
                column.failures.append(f"{title}: {type(error).__name__} {error}")
            column.cells[title] = cell
    return column


@pytest.fixture(scope="module")
async def columns(labs: Labs, request: pytest.FixtureRequest) -> AsyncIterator[dict[str, asyncio.Task[Column]]]:
    """The daemons of the tests that were chosen, all at once: each has a lab of its own and most of the time is theirs, waiting."""
    chosen = {name for item in request.session.items for name in KINDS if item.name == f"test_interop[{name}]"}
    found = {
        name: asyncio.create_task(run(labs, kind))
        for name, kind in KINDS.items()
        if name in chosen and kind.absent() is None
    }
    yield found
    done = {name: task.result() for name, task in found.items() if task.done() and task.exception() is None}
    if done:
        rows = tuple((title, *(column.cells.get(title, "") for column in done.values())) for title in CHECKS)
        note = "; ".join(column.version for column in done.values())
        titles = ("Check", *(KINDS[name].title for name in done))
        labs.record.add(Grid("Our speaker and the four that no one here wrote", titles, rows, note))


@pytest.mark.spec("BGP-1", "BGP-5", "BGP-6", "VBR-2", "VBR-9", "VBR-13", "VBR-33")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", KINDS)
async def test_interop(columns: dict[str, asyncio.Task[Column]], name: str) -> None:
    """Sessions, routes, keys, limits and restarts with a daemon of Debian's: a column of the matrix."""
    if (why := KINDS[name].absent()) is not None:
        pytest.skip(why)
    column = await columns[name]
    assert not column.failures, "\n\n".join(column.failures)
