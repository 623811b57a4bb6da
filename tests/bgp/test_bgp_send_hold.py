"""RFC 9687: a neighbour that takes nothing of what is sent to it loses its session, however well it is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from socket import AF_INET, SO_RCVBUF, SOCK_STREAM, SOL_SOCKET

import pytest

from harness.bgp.capabilities import FourOctetAs, Multiprotocol
from harness.bgp.errors import describe, meaning
from harness.bgp.messages import KEEPALIVE_WIRE, Open, encode
from harness.bgp.send_hold import span
from harness.bgp.session import Session
from tests.bgp.rig import opened
from tests.bgp.test_bgp_speaker import NET, build, rows

Taken = Callable[[float], "tuple[int, int] | None"]
"""The time since the session came up to what the neighbour's TCP has acknowledged and what it has not."""


def ended_after(taken: Taken, seconds: int, **options: object) -> float | None:
    """How long a session to a neighbour of that kind lasts, to the second and watched for ``seconds``; None where it does not end."""
    world, s = build({"a": 1, "b": 2}, ["ab"], a={"networks": [NET]}, ab=options)
    world.set_link("a", "b", False)
    world.run(1)
    looks: list[float] = []

    def found(name: str, conn: int) -> tuple[int, int] | None:  # noqa: ARG001
        looks.append(world.time)
        return taken(world.time - looks[0])

    world.shells["a"].taken = found  # type: ignore[method-assign]
    since = s["a"].log.since()[-1]["seq"]
    world.set_link("a", "b", True)
    for _ in range(60 + seconds):
        world.run(1)
        told = [e for e in s["a"].log.since(since) if e["type"] in ("notification", "peer.up", "peer.down")]
        if len(told) > 1:
            assert [e["type"] for e in told[:3]] == ["peer.up", "notification", "peer.down"]
            assert (told[1]["direction"], told[1]["code"], told[1]["subcode"]) == ("sent", 8, 0)
            assert told[2]["reason"] == "the peer takes nothing of what is sent"
            assert told[2]["event"] == "SEND_HOLD_TIMER_EXPIRES"
            return int(world.time - looks[0])
    assert told
    return None


def test_a_neighbour_that_takes_nothing_is_let_go_after_the_send_hold_time() -> None:
    assert ended_after(lambda _: (19, 4000), 1000) == 480
    assert ended_after(lambda _: (19, 4000), 1000, send_hold_time=40) == 40


@pytest.mark.parametrize(
    ("taken", "options"),
    [
        (lambda t: (int(t // 400), 4000), {}),
        (lambda _: (19, 0), {}),
        (lambda _: (19, 4000), {"send_hold_time": 0}),
        (lambda _: (19, 4000), {"hold_time": 0}),
        (lambda _: None, {}),
    ],
    ids=["slow", "idle", "switched-off", "no-hold-time", "unknown"],
)
def test_a_neighbour_that_takes_little_or_has_nothing_to_take_stays(taken: Taken, options: dict[str, object]) -> None:
    assert ended_after(taken, 3600, **options) is None


def test_the_default_is_eight_minutes_or_twice_the_hold_time() -> None:
    assert span(None, Session(hold_time=90)) == 480
    assert span(None, Session(hold_time=300)) == 600
    assert span(7, Session(hold_time=300)) == 7


def test_the_others_have_their_routes_meanwhile() -> None:
    world, s = build({"a": 1, "b": 2, "c": 3}, ["ab", "ac"], c={"networks": [NET]}, ab={"send_hold_time": 40})

    def found(name: str, conn: int) -> tuple[int, int] | None:  # noqa: ARG001
        return 0, 1 if name == "b" else 0

    world.shells["a"].taken = found  # type: ignore[method-assign]
    world.run(300)
    assert sorted(rows(s["a"])) == [NET]
    downs = {e["peer"] for e in s["a"].log.since() if e["type"] == "peer.down"}
    assert downs <= {"b"}


@pytest.mark.spec("BGP-8")
def test_the_words_of_the_code() -> None:
    assert describe(8, 0) == "Send Hold Timer Expired"
    assert meaning(8, 0) == "nothing that was sent was taken within the send hold time"


@pytest.mark.root
async def test_a_neighbour_that_does_not_read_is_let_go(tmp_path: Path) -> None:
    """A window of 2 KB and four thousand routes: TCP keeps such a connection for ever."""
    async with opened(tmp_path) as rig:
        rig.link("a", "10.0.0.1/24", "b", "10.0.0.2/24")
        neighbor = {"name": "b", "address": "10.0.0.2", "remote_asn": 65002, "passive": True, "send_hold_time": 1}
        networks = [f"172.{16 + n // 256}.{n % 256}.0/24" for n in range(4000)]
        a = await rig.speaker("a", asn=65001, router_id="1.1.1.1", neighbors=[neighbor], networks=networks)
        loop = asyncio.get_running_loop()
        with rig.nodes["b"].socket(AF_INET, SOCK_STREAM) as peer:
            peer.setsockopt(SOL_SOCKET, SO_RCVBUF, 1)
            peer.bind(("10.0.0.2", 0))
            peer.setblocking(False)
            await loop.sock_connect(peer, ("10.0.0.1", 179))
            opening = Open(65002, 90, IPv4Address("2.2.2.2"), (Multiprotocol(1, 1), FourOctetAs(65002)))
            await loop.sock_sendall(peer, encode(opening) + KEEPALIVE_WIRE)
            up = await a.event("peer.up")
            ended = await a.event("notification", within=60, direction="sent", code=8, subcode=0)
            assert ended["time"] - up["time"] >= 1.0
            assert (await a.event("peer.down"))["reason"] == "the peer takes nothing of what is sent"
