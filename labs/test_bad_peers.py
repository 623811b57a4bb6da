"""Neighbours that misbehave: every NOTIFICATION that one can provoke, and a good session beside them that never notices.

Sources: RFC 4271 6, RFC 4486, RFC 6608, RFC 7313 5, RFC 7606, RFC 9003. The bad neighbours speak by hand (``labs.raw_peer``), all at
once, each from an address of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP

from harness.instruments import capture
from harness.lab import Lab
from harness.plan import End, Link, MaximumPrefixes, Neighbor, Node, Plan, Role, Speaker
from harness.session import Labs
from labs.raw_peer import (
    KEEPALIVE,
    NOTIFICATION,
    OPEN,
    OPTIONAL,
    ROUTE_REFRESH,
    TRANSITIVE,
    UPDATE,
    RawPeer,
    as_path,
    attribute,
    message,
    next_hop,
    nlri,
    open_message,
    origin,
    update,
)
from reports.model import Grid

OURS, BAD, GOOD = "10.9.0.1", "10.9.0", "10.8.0.2"
HOLD = 3

Act = Callable[[Lab, RawPeer, str], Awaitable[None]]
Error = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True)
class Case:
    """A misdeed in a state, and the NOTIFICATION that it must bring; None: the session stays (RFC 7606)."""

    title: str
    state: str
    act: Act
    error: Error | None


def says(octets: bytes) -> Act:
    async def act(_lab: Lab, peer: RawPeer, _name: str) -> None:
        await peer.send(octets)

    return act


def told(method: str, **params: object) -> Act:
    """Not the neighbour's doing: the operator's."""

    async def act(lab: Lab, _peer: RawPeer, name: str) -> None:
        await lab["ours"].speaker.call(method, name=name, **params)

    return act


async def silent(_lab: Lab, _peer: RawPeer, _name: str) -> None:
    """Says nothing more."""


async def changed(lab: Lab, _peer: RawPeer, name: str) -> None:
    number = int(name[3:])
    await lab["ours"].speaker.call(
        "neighbor.change", name=name, address=f"{BAD}.{number}", remote_asn=65003, passive=True, local_asn=65010
    )


ROUTE = origin() + as_path(65003) + next_hop("10.9.0.99")
BROKEN_REACH = attribute(OPTIONAL, 14, b"\0\2\1\5\0\0\0\0\0\0")
REST = as_path(65003) + next_hop("10.9.0.99")
UNKNOWN = attribute(TRANSITIVE, 99, b"x")
CUT_REACH = attribute(OPTIONAL, 14, b"\0\1\1\xff\0")
BAD_SEGMENT = attribute(TRANSITIVE, 2, b"\x09\1\0\0\xfd\xeb")
TWO_PREFIXES = update(ROUTE, nlri("172.30.0.0/16", "172.31.0.0/16"))
REFRESH_SHORT = message(ROUTE_REFRESH, struct.pack("!HBB", 1, 1, 1) + b"\0")


def bad_update(attributes: bytes) -> bytes:
    return update(attributes, nlri("172.30.0.0/16"))


CASES = (
    Case("a marker that is not all ones", "OpenSent", says(message(KEEPALIVE, marker=b"\0" * 16)), (1, 1, b"")),
    Case("a length of 18", "Established", says(message(KEEPALIVE, length=18)), (1, 2, struct.pack("!H", 18))),
    Case("a length of 65535", "OpenSent", says(message(OPEN, length=65535)), (1, 2, struct.pack("!H", 65535))),
    Case("a KEEPALIVE of 20 octets", "Established", says(message(KEEPALIVE, b"\0")), (1, 2, struct.pack("!H", 20))),
    Case("an OPEN of 28 octets", "OpenSent", says(message(OPEN, b"\4" * 9)), (1, 2, struct.pack("!H", 28))),
    Case("message type 0", "Established", says(message(0)), (1, 3, b"\0")),
    Case("message type 77", "OpenSent", says(message(77)), (1, 3, bytes([77]))),
    Case("version 3", "OpenSent", says(open_message(version=3)), (2, 1, struct.pack("!H", 4))),
    Case("another AS", "OpenSent", says(open_message(65004)), (2, 2, b"")),
    Case("BGP Identifier 0.0.0.0", "OpenSent", says(open_message(identifier="0.0.0.0")), (2, 3, b"")),
    Case("optional parameter 99", "OpenSent", says(open_message(parameters=bytes([99, 1, 0]))), (2, 4, b"")),
    Case("a hold time of 2 s", "OpenSent", says(open_message(hold_time=2)), (2, 6, b"")),
    Case(
        "only IPv6 offered",
        "OpenSent",
        says(open_message(capabilities=[(1, struct.pack("!HBB", 2, 0, 1)), (65, struct.pack("!I", 65003))])),
        (2, 7, bytes.fromhex("010400010001")),
    ),
    Case(
        "an attribute list longer than the message", "Established", says(message(UPDATE, b"\0\0\0\xff\0")), (3, 1, b"")
    ),
    Case("withdrawn routes longer than the message", "Established", says(message(UPDATE, b"\0\xff\0\0")), (3, 1, b"")),
    Case("MP_REACH_NLRI twice", "Established", says(bad_update(ROUTE + BROKEN_REACH * 2)), (3, 1, b"")),
    Case(
        "an unknown well-known attribute",
        "Established",
        says(bad_update(ROUTE + UNKNOWN)),
        (3, 2, UNKNOWN),
    ),
    Case("no ORIGIN", "Established", says(bad_update(REST)), None),
    Case(
        "ORIGIN with the flags of an optional one",
        "Established",
        says(bad_update(attribute(OPTIONAL, 1, b"\0") + REST)),
        None,
    ),
    Case(
        "ORIGIN of 2 octets",
        "Established",
        says(bad_update(attribute(TRANSITIVE, 1, b"\0\0") + REST)),
        None,
    ),
    Case("ORIGIN 7", "Established", says(bad_update(origin(7) + REST)), None),
    Case(
        "NEXT_HOP of 3 octets",
        "Established",
        says(bad_update(origin() + as_path(65003) + attribute(TRANSITIVE, 3, b"abc"))),
        None,
    ),
    Case(
        "MP_REACH_NLRI that ends in its next hop",
        "Established",
        says(update(origin() + as_path(65003) + CUT_REACH)),
        (3, 9, CUT_REACH),
    ),
    Case("a prefix of 33 bits", "Established", says(update(ROUTE, bytes([33, 1, 2, 3, 4, 5]))), (3, 10, b"")),
    Case(
        "an AS_PATH segment of type 9",
        "Established",
        says(bad_update(origin() + BAD_SEGMENT + next_hop("10.9.0.99"))),
        None,
    ),
    Case("silence for the hold time", "Established", silent, (4, 0, b"")),
    Case("a header and then silence", "Established", says(message(UPDATE, length=4000)[:19]), (4, 0, b"")),
    Case("KEEPALIVE before OPEN", "OpenSent", says(message(KEEPALIVE)), (5, 1, bytes([KEEPALIVE]))),
    Case("UPDATE before KEEPALIVE", "OpenConfirm", says(update()), (5, 2, bytes([UPDATE]))),
    Case("a second OPEN", "Established", says(open_message()), (5, 3, bytes([OPEN]))),
    Case(
        "more prefixes than the maximum",
        "Established",
        says(TWO_PREFIXES),
        (6, 1, bytes.fromhex("00010100000001")),
    ),
    Case("(the operator shuts it down)", "Established", told("neighbor.shutdown", text="genug"), (6, 2, b"\5genug")),
    Case("(the operator deletes it)", "Established", told("neighbor.delete"), (6, 3, b"")),
    Case("(the operator resets it)", "Established", told("neighbor.reset"), (6, 4, b"")),
    Case("(the operator changes its local ASN)", "Established", changed, (6, 6, b"")),
    Case("a ROUTE-REFRESH of the wrong length", "Established", says(REFRESH_SHORT), (7, 1, REFRESH_SHORT)),
)

#: NOTIFICATIONs that no neighbour brings about, and why.
NEVER = {
    (2, 5): "deprecated by RFC 4271",
    (2, 11): "BGP roles (RFC 9234) are not offered",
    (3, 3): "RFC 7606 3 d: treated as withdrawn",
    (3, 4): "RFC 7606 3 c: treated as withdrawn",
    (3, 5): "RFC 7606 7: treated as withdrawn",
    (3, 6): "RFC 7606 7.1: treated as withdrawn",
    (3, 7): "deprecated by RFC 4271",
    (3, 8): "RFC 7606 7.3: treated as withdrawn",
    (3, 11): "RFC 7606 7.2: treated as withdrawn",
    (6, 5): "a connection from nobody's address gets no answer of BGP",
    (6, 8): "no bound of ours is reached by one neighbour",
}


def plan() -> Plan:
    """Ours, a good neighbour with a hold time of 3 s, and a node full of bad ones."""
    limited = next(n for n, case in enumerate(CASES, 2) if case.title.startswith("more prefixes"))
    bad = tuple(
        Neighbor(
            f"bad{n}",
            f"{BAD}.{n}",
            65003,
            passive=True,
            hold_time=HOLD if case.error is not None and case.error[0] == 4 else None,
            maximum_prefixes=MaximumPrefixes(1) if n == limited else None,
        )
        for n, case in enumerate(CASES, 2)
    )
    slow = tuple(Neighbor(f"slow{n}", f"{BAD}.{n}", 65003, passive=True) for n in range(100, 105))
    good = Neighbor("good", GOOD, 65002, hold_time=HOLD)
    # One of the two dials, so that no collision of their own is resolved while others misbehave.
    to_ours = Neighbor("ours", "10.8.0.1", 65001, hold_time=HOLD, passive=True)
    addresses = tuple(f"{BAD}.{n}/24" for n in (*range(2, 2 + len(CASES)), *range(99, 105), 200))
    return Plan(
        "bad-peers",
        "A speaker among neighbours that misbehave",
        (
            Node("ours", Role.ROUTER, speaker=Speaker(65001, "1.1.1.1", (good, *bad, *slow), ("10.101.0.0/16",))),
            Node("good", Role.ROUTER, speaker=Speaker(65002, "2.2.2.2", (to_ours,), ("10.102.0.0/16",))),
            Node("bad", Role.ROUTER),
        ),
        (
            Link(End("ours", "good", ("10.8.0.1/24",)), End("good", "ours", (f"{GOOD}/24",))),
            Link(End("ours", "bad", (f"{OURS}/24",)), End("bad", "ours", addresses)),
        ),
    )


@pytest.fixture(scope="module")
async def lab(labs: Labs) -> AsyncIterator[Lab]:
    async with labs.running(plan(), title="bad peers") as running:
        await running.event(node="good", kind="peer.up", peer="ours", within=10)
        await running["good"].learned("10.101.0.0/16", within=5)
        yield running


@contextlib.asynccontextmanager
async def undisturbed(lab: Lab) -> AsyncIterator[None]:
    """The good session stays as it is, loses no route, and hears from us at the least every hold time: by the packets."""
    since = time.monotonic()
    async with capture(lab, {"good": ["ours"]}, matches=[(6, 179)]) as recording:
        yield
        await recording.sync()
        heard = [packet.time / 1e9 for packet in recording.packets() if _from_us(packet.data)]
    for node in ("ours", "good"):
        of_good = [
            e for e in lab.stream.of(node=node, source="bgp", since=since) if e.data.get("peer") in ("good", "ours")
        ]
        assert [e.text() for e in of_good if e.type in ("fsm", "peer.down", "notification", "update.error")] == []
    assert any(str(route.prefix) == "10.101.0.0/16" for route in lab["good"].kernel_routes())
    gaps = [later - earlier for earlier, later in itertools.pairwise(heard)]
    assert max(gaps, default=0.0) < HOLD, gaps


def _from_us(frame: bytes) -> bool:
    return frame[26:30] == socket.inet_aton("10.8.0.1")


async def brought_to(peer: RawPeer, state: str) -> None:
    """The session as far as ``state``; the neighbour's OPEN was read."""
    if state == "OpenSent":
        await peer.until(OPEN)
        return
    await peer.send(
        open_message(
            capabilities=[(1, struct.pack("!HBB", 1, 0, 1)), (2, b""), (70, b""), (65, struct.pack("!I", 65003))]
        )
    )
    await peer.until(OPEN)
    if state == "Established":
        await peer.send(message(KEEPALIVE))
        await peer.until(KEEPALIVE)


async def provoke(lab: Lab, number: int, case: Case) -> str:
    """What came of a case, in the words of the report's table; an empty text: not what was due."""
    name = f"bad{number}"
    async with RawPeer.dialled(lab["bad"], f"{BAD}.{number}", OURS) as peer:
        await brought_to(peer, case.state)
        if case.state == "Established":
            await lab.event(node="ours", kind="peer.up", peer=name, within=10)
        acted = time.monotonic()
        await case.act(lab, peer, name)
        if case.error is None:
            event = await lab.event(node="ours", kind="update.error", peer=name, since=acted, within=10)
            assert next((e for e in lab.transitions(node="ours", peer=name, since=acted)), None) is None
            return f"session stays: {event.data['errors'][0]}"
        seen = (await peer.until(NOTIFICATION, within=15)).error
        assert seen == case.error, f"{case.title}: {seen}, due {case.error}"
        assert await peer.read(within=5) is None, "the connection is closed after a NOTIFICATION"
        return f"{seen[0]}/{seen[1]} {seen[2].hex(' ')}"


@pytest.mark.spec("BGP-3", "BGP-4", "BGP-8", "BGP-12", "BGP-13", "BGP-15", "BGP-16", "BGP-17", "VBR-18")
async def test_every_notification(lab: Lab) -> None:
    """Each misdeed brings the NOTIFICATION and the data that the RFCs ask for, read from the wire; then the connection ends."""
    async with undisturbed(lab):
        seen = await asyncio.gather(
            *(provoke(lab, number, case) for number, case in enumerate(CASES, 2)), return_exceptions=True
        )
    rows = tuple((case.title, case.state, str(found)) for case, found in zip(CASES, seen, strict=True))
    never = tuple((f"({code}/{subcode})", "", f"never sent: {why}") for (code, subcode), why in NEVER.items())
    lab.record(Grid("Misdeeds and what they bring", ("What the neighbour does", "State", "What it gets"), rows + never))
    failures = [
        f"{case.title}: {found!r}" for case, found in zip(CASES, seen, strict=True) if isinstance(found, BaseException)
    ]
    assert not failures, "\n".join(failures)


def test_table_has_every_code() -> None:
    """Whatever NOTIFICATION the RFCs define is provoked here, brought about by another lab, or named with the reason."""
    from harness.bgp.errors import MEANING

    provoked = {case.error[:2] for case in CASES if case.error is not None}
    elsewhere = {
        (6, 7): "tests/bgp/test_bgp_collision.py, labs/test_vbr_states.py",
        (6, 9): "graceful restart",
        (6, 10): "labs/test_ecmp_bfd.py, labs/test_interop.py",
    }
    defined = {key for key in MEANING if key[1] != 0 or key == (4, 0)}
    assert defined - provoked - NEVER.keys() - elsewhere.keys() == set()


@pytest.mark.spec("BGP-3")
async def test_octets_one_by_one(lab: Lab) -> None:
    """OPEN and KEEPALIVE in segments of one octet: the session comes up, the good one is as it was."""
    async with undisturbed(lab), RawPeer.dialled(lab["bad"], f"{BAD}.100", OURS) as peer:
        for octet in open_message() + message(KEEPALIVE):
            await peer.send(bytes([octet]))
        await lab.event(node="ours", kind="peer.up", peer="slow100", within=10)


@pytest.mark.spec("BGP-1")
async def test_floods_and_half_open_connections(lab: Lab) -> None:
    """SYNs without end, connections from nobody's and from a neighbour's address: nothing stays open, the good session is as it was."""
    speaker = lab["ours"].speaker
    before = descriptors(speaker.pid)
    async with undisturbed(lab):
        with lab["bad"].namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for port in range(20000, 20300):
                half_open = IP(src=f"{BAD}.{210 + port % 40}", dst=OURS) / TCP(
                    sport=port, dport=179, flags="S", seq=port
                )
                raw.sendto(bytes(half_open), (OURS, 0))
        flood = [connect_and_leave(lab, f"{BAD}.200") for _ in range(100)] + [
            connect_and_leave(lab, f"{BAD}.101") for _ in range(50)
        ]
        await asyncio.gather(*flood)
        async with RawPeer.dialled(lab["bad"], f"{BAD}.101", OURS) as peer:
            await peer.establish(open_message(identifier="3.3.3.101"))
            await lab.event(node="ours", kind="peer.up", peer="slow101", within=10)
        await lab.event(node="ours", kind="peer.down", peer="slow101", within=10)
    assert descriptors(speaker.pid) <= before + 2


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def connect_and_leave(lab: Lab, source: str) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with RawPeer.dialled(lab["bad"], source, OURS):
            pass


@pytest.mark.spec("BGP-6", "BGP-12")
async def test_windows_tiny_and_giant(lab: Lab) -> None:
    """4,000 routes for a neighbour that does not read behind a tiny window, and for one with a giant: the good one has them at once."""
    prefixes = [f"172.{16 + n // 256}.{n % 256}.0/24" for n in range(4000)]
    async with (
        undisturbed(lab),
        RawPeer.dialled(lab["bad"], f"{BAD}.102", OURS, window=1) as tiny,
        RawPeer.dialled(lab["bad"], f"{BAD}.103", OURS, window=4 << 20) as giant,
        RawPeer.dialled(lab["bad"], f"{BAD}.104", OURS) as source,
    ):
        for number, peer in ((102, tiny), (103, giant), (104, source)):
            await peer.establish(open_message(identifier=f"3.3.3.{number}"))
        for number, start in enumerate(range(0, len(prefixes), 100)):
            route = origin() + as_path(65003, 70000 + number) + next_hop("10.9.0.99")
            await source.send(update(route, nlri(*prefixes[start : start + 100])))
        await lab["good"].learned(prefixes[-1], within=10)
        for peer in (giant, tiny):
            seen: set[bytes] = set()
            async with asyncio.timeout(20):
                while b"\x18" + socket.inet_aton(prefixes[-1].partition("/")[0])[:3] not in b"".join(seen):
                    found = await peer.until(UPDATE, within=10)
                    seen.add(found.body)
