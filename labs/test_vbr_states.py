"""The document's table of states, brought about transition by transition on real sockets, in both profiles.

Source: "Configure and manage BGP", step 2, the statuses of a BGP peer (VBR-15 to VBR-20). Eight data centres are scripted: they refuse,
keep silent, close, send wrong OPENs, or stop talking, each on its own circuit and all at once. Every circuit runs over a bridging
device, so that a host can be silent while its line is up. ConnectRetryTime is 1 s, the hold time 3 s and the first idle hold 0.1 s by
configuration. What is asserted comes from the speaker's event stream; the packets that go with it from a capture at the VBR.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from harness.bgp.messages import MessageType
from harness.capture.bgp_segments import Segment, segments
from harness.cloud.resources import Timers
from harness.cloud.vbr import BgpPeer, Line
from harness.cloud.vbr_changes import create_peer
from harness.daemons.features import Feature
from harness.instruments import Capture, capture
from harness.lab import Lab
from harness.session import Labs
from harness.stream import LabEvent
from labs.document import vbr as document
from labs.scripted_peer import CEASE, HIGH, KEEPALIVE, LOW, ScriptedPeer, message
from labs.vbr_acts import cut_unseen
from reports.model import Grid
from topologies import vbr

TIMERS = Timers(hold_time=3, connect_retry_time=1, idle_hold_time=0.1)
#: Two-byte ASNs, so that one OPEN of a wrong peer is as short as another.
ASNS = tuple(range(65011, 65019))
SOON = 30.0
BLOCK = b"\x18\xc0\xa8\x01"  # 192.168.1.0/24


@dataclass(frozen=True, slots=True)
class Bench:
    """A VBR without peers, eight scripted data centres, and what a scenario does with them."""

    lab: Lab
    peers: tuple[ScriptedPeer, ...]

    def peer(self, number: int) -> ScriptedPeer:
        return self.peers[number - 1]

    async def step(self, number: int, old: str, new: str, since: float = 0.0, **more: Any) -> LabEvent:
        """The transition of a peer from one state to another, from the event stream."""
        return await self.lab.event(
            node="vbr", kind="fsm", peer=vbr.peer_ip(number), old=old, new=new, since=since, within=SOON, **more
        )

    def now(self) -> float:
        return time.monotonic()


Scenario = Callable[[Bench], Coroutine[Any, Any, None]]
Profile = Literal["document", "rfc4271"]

# ------------------------------------------------------------------------------------------------------------- scenarios


async def refused_then_silent_peer(bench: Bench) -> None:
    """Refused until ConnectRetryTimer leads back to Connect; then a session, an UPDATE, and silence until the hold timer expires."""
    peer = bench.peer(1)
    await bench.step(1, "Connect", "Active", event="TCP_CONNECTION_FAILS")
    await bench.step(1, "Active", "Active", event="TCP_CONNECTION_FAILS")
    back = await bench.step(1, "Active", "Connect", event="CONNECT_RETRY_TIMER_EXPIRES")
    await bench.step(1, "Connect", "Active", since=back.time)
    peer.listen()
    connection = await peer.accept()
    await peer.establish(connection)
    up = await bench.step(1, "OpenConfirm", "Established")
    connection.send(peer.update(BLOCK))
    await bench.lab["vbr"].learned("192.168.1.0/24", within=SOON, since=up.time)
    assert await connection.notification() == (4, 0)
    await bench.step(1, "Established", "Idle", event="HOLD_TIMER_EXPIRES")


async def silent_host_then_collisions(bench: Bench) -> None:
    """Nothing answers until ConnectRetryTimer expires in Connect; accepted and closed; then collisions that either side wins."""
    lab, peer = bench.lab, bench.peer(2)
    await bench.step(2, "Connect", "Connect", event="CONNECT_RETRY_TIMER_EXPIRES")
    peer.listen()
    cut_unseen(lab, "circuit-2", whole=True)
    connection = await peer.accept()
    await connection.hear(MessageType.OPEN)
    connection.end()
    await bench.step(2, "OpenSent", "Active", event="TCP_CONNECTION_FAILS")
    connection.close()
    for identifier in (HIGH, LOW):
        began = bench.now()
        theirs = await peer.accept()
        await theirs.hear(MessageType.OPEN)
        ours = await peer.dial()
        await ours.hear(MessageType.OPEN)
        for each in (ours, theirs):
            each.send(peer.open(identifier=identifier))
        # RFC 4271 6.8: the connection that the side with the higher BGP Identifier dialled stays.
        stays, goes = (ours, theirs) if identifier == HIGH else (theirs, ours)
        assert await goes.notification() == (6, 7)
        await stays.hear(MessageType.KEEPALIVE)
        stays.send(KEEPALIVE)
        up = await bench.step(2, "OpenConfirm", "Established", since=began)
        if identifier == HIGH:
            stays.send(CEASE)
            stays.end()
            await bench.step(2, "Established", "Idle", since=up.time, event="NOTIF_MSG")
            await bench.step(2, "Idle", "Connect", since=up.time)
    stays.end()
    await bench.step(2, "Established", "Idle", since=up.time, event="TCP_CONNECTION_FAILS")


#: Every error of an OPEN (RFC 4271 6.1 and 6.2, RFC 5492): the code and subcode, and the message that earns it.
OPEN_ERRORS: dict[tuple[int, int], Callable[[ScriptedPeer], bytes]] = {
    (1, 1): lambda peer: b"\x00" * 16 + peer.open()[16:],
    (1, 2): lambda peer: message(MessageType.OPEN, peer.open()[19:], length=18),
    (1, 3): lambda _: message(9),
    (2, 0): lambda peer: _body(peer, lambda body: body[:9] + b"\x04\x02\x06\x01\x04"),
    (2, 1): lambda peer: peer.open(version=3),
    (2, 2): lambda peer: peer.open(asn=64999),
    (2, 3): lambda peer: _body(peer, lambda body: body[:5] + bytes(4) + body[9:]),
    (2, 4): lambda peer: _body(peer, lambda body: body[:9] + b"\x03\x07\x01\x00"),
    (2, 6): lambda peer: peer.open(hold_time=2),
    (2, 7): lambda peer: _body(peer, lambda body: body[:9] + b"\x08\x02\x06\x01\x04\x00\x02\x00\x01"),
}


def _body(peer: ScriptedPeer, change: Callable[[bytes], bytes]) -> bytes:
    return message(MessageType.OPEN, change(peer.open()[19:]))


def wrong_opens(number: int, errors: Iterable[tuple[int, int]]) -> Scenario:
    """Sends wrong OPENs, one after the other; each is answered with its NOTIFICATION and leads to Idle."""

    async def scenario(bench: Bench) -> None:
        peer = bench.peer(number)
        for error in errors:
            began = bench.now()
            connection = await peer.accept()
            await connection.hear(MessageType.OPEN)
            connection.send(OPEN_ERRORS[error](peer))
            assert await connection.notification() == error
            await bench.step(number, "OpenSent", "Idle", since=began)
            await connection.ended()
            connection.close()

    return scenario


async def closed_then_silent_in_open_confirm(bench: Bench) -> None:
    """TCP is closed in OpenConfirm; the next time no KEEPALIVE comes and the hold timer expires."""
    peer = bench.peer(8)
    for how in ("TCP_CONNECTION_FAILS", "HOLD_TIMER_EXPIRES"):
        connection = await peer.accept()
        began = bench.now()
        connection.send(peer.open())
        await connection.hear(MessageType.KEEPALIVE)
        if how == "TCP_CONNECTION_FAILS":
            connection.end()
        else:
            assert await connection.notification() == (4, 0)
        await bench.step(8, "OpenConfirm", "Idle", since=began, event=how)


async def refused_by_the_rfc(bench: Bench) -> None:
    """RFC 4271: a refused connection leads from Connect and from Active to Idle."""
    peer = bench.peer(1)
    await bench.step(1, "Connect", "Idle", event="TCP_CONNECTION_FAILS")
    peer.listen()
    connection = await peer.accept()
    await peer.establish(connection)
    up = await bench.step(1, "OpenConfirm", "Established")
    connection.send(peer.update(BLOCK))
    await bench.lab["vbr"].learned("192.168.1.0/24", within=SOON, since=up.time)
    connection.end()
    await bench.step(1, "Established", "Idle", since=up.time)
    connection.close()
    # A session has stood: the next dial from Active comes at once, however often it was refused before, and not after ConnectRetryTime.
    connection = await peer.accept()
    await connection.hear(MessageType.OPEN)
    began = bench.now()
    peer.refuse()
    connection.end()
    await bench.step(1, "OpenSent", "Active", since=began, event="TCP_CONNECTION_FAILS")
    await bench.step(1, "Active", "Idle", since=began, event="TCP_CONNECTION_FAILS")
    connection.close()


async def silent_by_the_rfc(bench: Bench) -> None:
    """ConnectRetryTimer expires in Connect and, after a connection that was closed by a host now silent, in Active."""
    lab, peer = bench.lab, bench.peer(2)
    await bench.step(2, "Connect", "Connect", event="CONNECT_RETRY_TIMER_EXPIRES")
    peer.listen()
    cut_unseen(lab, "circuit-2", whole=True)
    connection = await peer.accept()
    await connection.hear(MessageType.OPEN)
    connection.end()
    cut_unseen(lab, "circuit-2", whole=False)
    await bench.step(2, "OpenSent", "Active", event="TCP_CONNECTION_FAILS")
    again = await bench.step(2, "Active", "Connect", event="CONNECT_RETRY_TIMER_EXPIRES")
    cut_unseen(lab, "circuit-2", whole=True)
    await peer.accept()
    await bench.step(2, "Connect", "OpenSent", since=again.time)


async def active_by_the_rfc(bench: Bench) -> None:
    """A connection is closed and no other stands at once: the VBR is Active when the peer dials."""
    lab, peer = bench.lab, bench.peer(3)
    connection = await peer.accept()
    await connection.hear(MessageType.OPEN)
    connection.end()
    cut_unseen(lab, "circuit-3", whole=False)
    began = await bench.step(3, "OpenSent", "Active")
    cut_unseen(lab, "circuit-3", whole=True)
    dialled = await peer.dial()
    await bench.step(3, "Active", "OpenSent", since=began.time)
    dialled.close()


ERRORS = list(OPEN_ERRORS)
#: What the data centres do, by profile.
SCENARIOS: dict[Profile, tuple[Scenario, ...]] = {
    "document": (
        refused_then_silent_peer,
        silent_host_then_collisions,
        *(wrong_opens(number, ERRORS[2 * (number - 3) : 2 * (number - 2)]) for number in range(3, 8)),
        closed_then_silent_in_open_confirm,
    ),
    "rfc4271": (
        refused_by_the_rfc,
        silent_by_the_rfc,
        active_by_the_rfc,
        *(wrong_opens(number, ERRORS[2 * (number - 3) : 2 * (number - 3) + 1]) for number in range(4, 8)),
        closed_then_silent_in_open_confirm,
    ),
}
REFUSES, SILENT = 1, 2


@asynccontextmanager
async def started(labs: Labs, profile: Profile) -> AsyncIterator[tuple[Bench, Capture]]:
    """The lab with its capture running: peers are created one by one, each when its data centre is ready for it."""
    before = vbr.estate(
        peers=0, circuits=8, asns=ASNS, line=Line.BRIDGED, data_centre_router=False, timers=TIMERS, profile=profile
    )
    async with (
        labs.running(vbr.plan_of(before)) as lab,
        capture(
            lab,
            {"vbr": [f"circuit{number}" for number in range(1, 9)]},
            matches=((6, 179),),
            name=f"states-{profile}",
            blocks=8,
        ) as recording,
    ):
        bench = Bench(lab, tuple(ScriptedPeer(lab, number, asn) for number, asn in enumerate(ASNS, 1)))
        # The VBR knows the host's address already: what it sends then goes onto the line.
        assert await lab[f"dc{SILENT}"].ping(bench.peer(SILENT).cloud)
        cut_unseen(lab, f"circuit-{SILENT}", whole=False)
        estate = before
        for number, asn in enumerate(ASNS, 1):
            if number not in (REFUSES, SILENT):
                bench.peer(number).listen()
            estate = create_peer(estate, "vbr", BgpPeer(vbr.group_name(asn), vbr.peer_ip(number)))
        await lab.apply(vbr.plan_of(estate))
        yield bench, recording


COLUMNS = ("State", "What happens", "Next state", "Source", "Seen", "Packets at the VBR")


@pytest.mark.spec("VBR-14", "VBR-15", "VBR-16", "VBR-17", "VBR-18", "VBR-19", "VBR-20", "VBR-35", "BGP-1", "BGP-8")
async def test_every_documented_transition(labs: Labs) -> None:
    """Each row of the document's table of states is seen in both profiles, with the packets that go with it; no other step is."""
    # Both labs wait for the same timers most of the time, so they run side by side.
    tables = await asyncio.gather(*(transitions_of(labs, profile) for profile in SCENARIOS))
    for profile, rows in zip(SCENARIOS, tables, strict=True):
        sys.stdout.write(in_columns(_title(profile), COLUMNS, rows))
        assert not [row[:3] for row in rows if row[4] == "0"], profile
        assert not [row for row in rows if not row[5]], profile


async def transitions_of(labs: Labs, profile: Profile) -> tuple[tuple[str, ...], ...]:
    """Plays the scenarios of a profile; the document's rows as :func:`state_table` has them."""
    async with started(labs, profile) as (bench, recording):
        bench.lab.needs(Feature.STATES, "vbr")
        async with asyncio.TaskGroup() as tasks:
            for scenario in SCENARIOS[profile]:
                tasks.create_task(scenario(bench))
        await recording.sync()
        rows = state_table(bench.lab, recording, profile)
        note = "Packets: ← from the data centre, → from the VBR; seconds since the capture began."
        bench.lab.record(Grid(_title(profile), COLUMNS, rows, note))
        bench.lab.attach(recording.path, f"Packets behind the table of states, profile {profile}", "pcapng")
        return rows


def _title(profile: Profile) -> str:
    return f"The document's table of states, profile {profile}"


# ------------------------------------------------------------------------------------------------------------ the evidence


def state_table(lab: Lab, recording: Capture, profile: str) -> tuple[tuple[str, ...], ...]:
    """The document's rows, each with how often it was seen and the packets of one time. Raises AssertionError for a foreign step."""
    table = document.STATE_TABLE | document.STATE_TABLES[profile]
    seen: dict[tuple[str, str, str], list[LabEvent]] = {key: [] for key in table}
    strangers = []
    for event in lab.stream.of(node="vbr", source="bgp", kind="fsm"):
        if event.data["peer"] not in {vbr.peer_ip(number) for number in range(1, 9)}:
            continue
        what = document.EVENT_WORDS.get(event.data["event"])
        key = (event.data["old"], what or event.data["event"], event.data["new"])
        if key in seen:
            seen[key].append(event)
        elif what is not None and not event.data.get("spare"):
            strangers.append(event.text())
    assert not strangers, "\n".join(strangers)
    # An UPDATE in Established moves no state: the speaker tells what it did to the routes.
    updates = [e for e in lab.stream.of(node="vbr", source="bgp", kind="rib") if "192.168.1.0/24" in str(e.data)]
    seen["Established", "UPDATE received", "Established"] += updates[:1]
    ahead = time.time() - time.monotonic()
    told = sorted(segments(recording.packets()), key=lambda segment: segment.time)
    began = told[0].time
    rows = []
    for (old, what, new), source in sorted(table.items(), key=lambda row: document.STATUSES.index(row[0][0])):
        events = seen[old, what, new]
        shown = next((text for event in events if (text := packets_of(event, what, told, ahead, began))), "")
        rows.append((old, what, new, source, str(len(events)), shown))
    return tuple(rows)


def packets_of(event: LabEvent, what: str, told: list[Segment], ahead: float, began: float) -> str:
    """The packets around a transition: what came before it and made it happen, what went out because of it."""
    peer = event.data.get("peer", vbr.peer_ip(1))
    at = event.time + ahead
    cause, effect = document.SIGNS[what]
    own = [segment for segment in told if peer in (segment.source, segment.destination)]
    found = []
    if cause:
        came = [s for s in own if s.source == peer and s.time <= at + 0.002 and _has(s, cause)]
        if not came:
            return ""
        found.append((came[-1].time, f"← {', '.join(came[-1].signs)}"))
    if effect:
        after = found[0][0] if found else at - 0.01
        went = [s for s in own if s.destination == peer and s.time >= after and _has(s, effect)]
        if not went and not cause:
            return ""
        found += [(s.time, f"→ {', '.join(s.signs)}") for s in went[:1] if s.time < at + 1.0]
    return "; ".join(f"{time - began:.3f} {text}" for time, text in found)


def _has(segment: Segment, wanted: tuple[str, ...]) -> bool:
    return any(sign == each or sign.startswith(f"{each} ") for sign in segment.signs for each in wanted)


def in_columns(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """The table as text."""
    lines = [columns, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]

    def text() -> Iterator[str]:
        yield title
        for line in lines:
            yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()

    return "\n".join(text()) + "\n"
