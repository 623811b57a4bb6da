"""BMP: what a station hears, read by our own codec and by tshark's; stations that come late, do not read, or are not there."""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from harness.bgp import bmp, signals
from harness.bgp import prefixes as nlri
from harness.bgp.bmp_client import BmpClient
from harness.bgp.bmp_feed import QUEUE_LIMIT, Feed
from harness.bgp.config import Network, parse_rules
from harness.bgp.fsm import Event
from harness.bgp.messages import Open, decode
from harness.bgp.monitoring_options import BmpCollector
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.speaker import Speaker
from harness.bgp.update import Update
from tests.bgp.memory_world import World
from tests.bgp.test_bgp_speaker import NET, address, build

V4 = Family.IPV4_UNICAST
WALL = 1_700_000_000.25


class Station:
    """Reads a BMP stream: the messages in order, and the routes that it knows by now."""

    def __init__(self, add_path: bool = False) -> None:
        self.messages: list[tuple[bmp.MessageType, bytes]] = []
        self.routes: dict[tuple[str, int], dict[str, Update]] = {}
        self.ends: list[tuple[str, int]] = []
        self._session = Session(
            asn4=True, families=frozenset(Family), add_path_receive=frozenset({V4}) if add_path else frozenset()
        )
        self._rest = b""

    def hear(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= 6:
            version, length, kind = struct.unpack_from(">BIB", self._rest)
            assert version == 3
            if len(self._rest) < length:
                return
            body, self._rest = self._rest[6:length], self._rest[length:]
            self.messages.append((bmp.MessageType(kind), body))
            if kind == bmp.MessageType.ROUTE_MONITORING:
                self._learn(body)

    def _learn(self, body: bytes) -> None:
        flags, peer = body[1], str(ip_address(body[10:26] if body[1] & 0x80 else body[22:26]))
        update = decode(body[42 + 18], body[42 + 19 :], self._session)
        assert isinstance(update, Update)
        assert not update.errors
        table = self.routes.setdefault((peer, flags), {})
        add_path = bool(self._session.add_path_receive)
        for piece in update.withdrawn.get(V4, ()):
            table.pop(nlri.text(piece, V4, add_path), None)
        for piece in update.announced.get(V4, ()):
            table[nlri.text(piece, V4, add_path)] = update
        if update.end_of_rib is not None:
            self.ends.append((peer, flags))

    def kinds(self) -> list[str]:
        """The types of the messages, a run of equal ones once."""
        names = [kind.name for kind, _ in self.messages]
        return [name for number, name in enumerate(names) if not number or names[number - 1] != name]


def pieces(feed: Feed) -> Iterator[bytes]:
    while (piece := feed.piece()) is not None:
        yield piece


def fed(speaker: Speaker, **options: Any) -> tuple[Feed, Callable[[], None], Station]:
    """A feed of the speaker, the call that lets the station read it to its end, and the station."""
    collector = BmpCollector.model_validate({"address": "127.0.0.1"} | options)
    feed = Feed(speaker, collector, "r1", lambda _name, _conn: (179, 40000), lambda: WALL, lambda: None)
    station = Station(any(a.config.add_path != "none" for a in speaker.adjacencies.values()))

    def read() -> None:
        for piece in pieces(feed):
            station.hear(piece)

    return feed, read, station


def small(**options: Any) -> tuple[World, dict[str, Speaker]]:
    return build({"a": 1, "b": 2}, ["ab"], a={"networks": [NET, "10.0.0.0/24"]}, **options)


A_AT_B = address("a", "b")


def test_a_station_that_comes_late_hears_all_there_is() -> None:
    _, s = small()
    _, read, station = fed(s["b"])
    read()
    assert station.kinds() == ["INITIATION", "PEER_UP", "ROUTE_MONITORING"]
    assert set(station.routes[A_AT_B, 0]) == {NET, "10.0.0.0/24"}
    assert station.ends == [(A_AT_B, 0)]
    update = station.routes[A_AT_B, 0][NET]
    assert update.attributes is not None
    assert update.attributes.as_path_length == 1
    assert update.next_hop[V4] == ip_address(A_AT_B).packed


def test_changes_follow_and_a_session_that_ends_says_why() -> None:
    world, s = small()
    _, read, station = fed(s["b"])
    read()
    s["a"].add_network(Network(prefix="172.16.0.0/16"))
    s["a"].delete_network(NET)
    world.run(1)
    read()
    assert set(station.routes[A_AT_B, 0]) == {"172.16.0.0/16", "10.0.0.0/24"}
    s["b"].shut_neighbor("a", "maintenance")
    world.run(1)
    read()
    kind, body = station.messages[-1]
    assert kind is bmp.MessageType.PEER_DOWN
    assert body[42] == bmp.DownReason.LOCAL_NOTIFICATION
    assert body[43 + 19 : 43 + 21] == bytes((6, 2))
    s["b"].start_neighbor("a")
    world.run(100)
    read()
    assert station.kinds()[-3:] == ["PEER_DOWN", "PEER_UP", "ROUTE_MONITORING"]
    # The neighbour's own End-of-RIB ends the table of a new session.
    assert station.ends == [(A_AT_B, 0), (A_AT_B, 0)]


@pytest.mark.parametrize("how", ["notification", "silence"])
def test_the_other_side_ends_it(how: str) -> None:
    world, s = small()
    _, read, station = fed(s["b"])
    read()
    if how == "notification":
        s["a"].shut_neighbor("b")
    else:
        world.set_link("a", "b", False)
    world.run(1)
    read()
    kind, body = station.messages[-1]
    assert kind is bmp.MessageType.PEER_DOWN
    expected = bmp.DownReason.REMOTE_NOTIFICATION if how == "notification" else bmp.DownReason.REMOTE_SILENT
    assert body[42] == expected


def test_before_and_after_the_policy_and_towards_the_neighbour() -> None:
    """Three tables of one session: what came, what the import policy left, what goes out (RFC 8671)."""
    rules = [{"action": "deny", "prefixes": ["10.0.0.0/24"]}, {"action": "permit", "local_pref": 300}]
    world, s = build(
        {"a": 1, "b": 2},
        ["ab"],
        a={"networks": [NET, "10.0.0.0/24"]},
        b={"networks": ["10.9.0.0/24"]},
        ba={"import": rules},
    )
    _, read, station = fed(s["b"], post_policy=True, adj_rib_out=True)
    read()
    pre, post, out = (station.routes[A_AT_B, view.value] for view in bmp.View)
    assert set(pre) == {NET, "10.0.0.0/24"}
    assert set(post) == {NET}
    assert set(out) == {"10.9.0.0/24"}
    assert [u.attributes.local_pref if u.attributes else 0 for u in (pre[NET], post[NET])] == [None, 300]
    s["b"].set_policy("a", "import", parse_rules([{"action": "deny", "prefixes": [NET]}]))
    s["b"].clear_soft("a", "in", stored=True)
    s["b"].delete_network("10.9.0.0/24")
    world.run(1)
    read()
    pre, post, out = (station.routes[A_AT_B, view.value] for view in bmp.View)
    assert (set(pre), set(post), set(out)) == ({NET, "10.0.0.0/24"}, {"10.0.0.0/24"}, set())


def test_path_identifiers_are_told_where_they_were_negotiated() -> None:
    world, s = build(
        {"a": 1, "b": 1, "h": 2, "z": 2},
        ["ah", "bh", "hz"],
        a={"networks": [NET]},
        b={"networks": [NET]},
        hz={"add_path": "send", "next_hop_self": True},
        zh={"add_path": "receive"},
    )
    _, read, station = fed(s["z"])
    read()
    told = [name for table in station.routes.values() for name in table]
    assert len(told) == 2
    assert all(name.startswith(f"{NET}#") for name in told)
    world.set_link("a", "h", False)
    world.run(1)
    read()
    assert len([name for table in station.routes.values() for name in table]) == 1


def test_a_route_that_changes_often_is_told_once() -> None:
    """What waits for a slow station is a mark for each prefix, not a message for each change."""
    world, s = small()
    _, read, station = fed(s["b"])
    read()
    heard = len(station.messages)
    for _ in range(200):
        s["a"].delete_network(NET)
        world.run(0.1)
        s["a"].add_network(Network(prefix=NET))
        world.run(0.1)
    read()
    assert len(station.messages) == heard + 1
    assert NET in station.routes[A_AT_B, 0]


def test_too_many_waiting_session_messages_are_noticed() -> None:
    _, s = small()
    feed, read, _ = fed(s["b"])
    read()
    (adjacency,) = s["b"].adjacencies.values()
    up = adjacency.up
    assert up is not None
    for _ in range(QUEUE_LIMIT // 200):
        feed.gives(adjacency, signals.Down("the session ended", Event.HOLD_TIMER_EXPIRES))
        feed.gives(adjacency, up)
    assert feed.overflowed


def test_a_feed_that_is_closed_looks_on_no_longer() -> None:
    _, s = small()
    feed, read, _ = fed(s["b"], post_policy=True, adj_rib_out=True)
    read()
    feed.close()
    (adjacency,) = s["b"].adjacencies.values()
    assert s["b"].watchers == []
    assert not adjacency.inbound[V4].rib.watch
    assert not adjacency.outbound[V4].watch


# ------------------------------------------------------------------------------------------------------- somebody else's reader


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed; apt-get install tshark")
@pytest.mark.skipif(
    shutil.which("text2pcap") is None, reason="text2pcap is not installed; it comes with wireshark-common"
)
def test_tshark_reads_every_message(tmp_path: Path) -> None:
    """Wireshark's dissector on the same octets: types, flags, peers, ports, OPENs, routes, reasons, counters; nothing malformed."""
    world, s = small()
    feed, read, station = fed(s["b"], post_policy=True, adj_rib_out=True)
    read()
    feed.report()
    s["b"].shut_neighbor("a", "bye")
    world.run(1)
    read()
    station.hear(bmp.termination("the speaker ends"))
    lines = []
    for kind, body in station.messages:
        wire = struct.pack(">BIB", 3, 6 + len(body), kind) + body
        lines += ["000000 " + " ".join(f"{octet:02x}" for octet in wire)]
    (tmp_path / "hex").write_text("\n".join(lines) + "\n")
    pcap = tmp_path / "bmp.pcap"
    subprocess.run(
        ["text2pcap", "-q", "-T", "40000,11019", str(tmp_path / "hex"), str(pcap)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    done = subprocess.run(
        ["tshark", "-r", str(pcap), "-d", "tcp.port==11019,bmp", "-T", "json"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "malformed" not in done.stdout.lower()
    read_by_them = [packet["_source"]["layers"].get("bmp") for packet in json.loads(done.stdout)]
    assert [int(layer["bmp.type"]) for layer in read_by_them] == [int(kind) for kind, _ in station.messages]
    for expected in (A_AT_B, "192.168.0.0", "r1", "bmp.term.reason"):
        assert expected in done.stdout
    assert done.stdout.count('"bgp.type": "1"') == 2  # the OPENs of Peer Up


# ----------------------------------------------------------------------------------------------------------- the connection


class Listener:
    """A TCP server that hears one station's stream, or, told so, reads nothing of it."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.station = Station()
        self.connections = 0
        self.deaf = deaf
        self.heard = asyncio.Condition()

    async def __aenter__(self) -> Listener:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.station = Station()
        if self.deaf:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            return
        while data := await reader.read(65536):
            self.station.hear(data)
            async with self.heard:
                self.heard.notify_all()
        writer.close()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self.heard:
            await self.heard.wait_for(holds)


def client(speaker: Speaker, port: int, **options: Any) -> BmpClient:
    collector = BmpCollector.model_validate({"address": "127.0.0.1", "port": port, "retry": 0.01} | options)
    return BmpClient(speaker, collector, lambda _name, _conn: (1, 2))


async def event(speaker: Speaker, kind: str) -> dict[str, Any]:
    """The next event of that kind, or the last one that there was."""
    arrived: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    for seen in speaker.log.since():
        if seen["type"] == kind:
            return seen
    stop = speaker.log.listen(lambda e: arrived.set_result(e) if e["type"] == kind and not arrived.done() else None)
    try:
        async with asyncio.timeout(10):
            return await arrived
    finally:
        stop()


async def test_over_tcp_from_initiation_to_termination() -> None:
    world, s = small()
    async with Listener() as listener:
        told = client(s["b"], listener.port, statistics_interval=0.05)
        told.start()
        await listener.until(lambda: any(k is bmp.MessageType.STATISTICS_REPORT for k, _ in listener.station.messages))
        assert set(listener.station.routes[A_AT_B, 0]) == {NET, "10.0.0.0/24"}
        s["a"].delete_network(NET)
        world.run(1)
        await listener.until(lambda: set(listener.station.routes[A_AT_B, 0]) == {"10.0.0.0/24"})
        assert told.row()["connected"] is True
        # A speaker that ends says of each session why, then good-bye.
        s["b"].stop()
        await told.close()
        await listener.until(lambda: listener.station.messages[-1][0] is bmp.MessageType.TERMINATION)
        assert listener.station.messages[-2][0] is bmp.MessageType.PEER_DOWN


async def test_a_station_that_does_not_read_is_given_up_and_told_anew() -> None:
    """The speaker goes on; what waits is bounded; the loss is told; the next connection has everything."""
    world, s = small()
    for number in range(3000):
        s["a"].add_network(Network(prefix=f"20.{number // 256}.{number % 256}.0/24"))
    world.run(5)
    async with Listener(deaf=True) as listener:
        # Every prefix with a message of its own fills the kernel's buffers.
        told = client(s["b"], listener.port, patience=0.05)
        told.start()
        await event(s["b"], "bmp.up")
        (adjacency,) = s["b"].adjacencies.values()
        assert adjacency.up is not None
        watchers = list(s["b"].watchers)
        for _ in range(QUEUE_LIMIT // 200):
            for watcher in watchers:
                watcher.gives(adjacency, signals.Down("flap", Event.HOLD_TIMER_EXPIRES))
                watcher.gives(adjacency, adjacency.up)
        dropped = await event(s["b"], "bmp.dropped")
        assert dropped["drops"] == 1
        assert told.row()["reason"]
        listener.deaf = False
        await listener.until(lambda: len(listener.station.routes.get((A_AT_B, 0), {})) == 3002)
        assert listener.connections >= 2
        await told.close()


async def test_a_station_that_is_not_there_is_told_once_and_found_when_it_comes() -> None:
    _, s = small()
    async with Listener() as listener:
        port = listener.port
    told = client(s["b"], port)
    told.start()
    down = await event(s["b"], "bmp.down")
    assert down["reason"] == "Connection refused"
    # Several attempts later it is still the one event.
    server = await asyncio.start_server(listener._serve, "127.0.0.1", port)
    await listener.until(lambda: bool(listener.station.messages))
    assert len([e for e in s["b"].log.since() if e["type"] == "bmp.down"]) == 1
    server.close()
    await told.close()


def test_a_station_hears_what_was_chosen() -> None:
    """RFC 9069: the Loc-RIB as a peer of type 3 without an address; own routes too, of several offers the best, and what goes goes."""
    world, s = build(
        {"a": 1, "b": 2, "c": 1},
        ["ab", "cb"],
        a={"networks": [NET]},
        c={"networks": [NET]},
        b={"networks": ["172.16.0.0/16"]},
    )
    _, read, station = fed(s["b"], loc_rib=True, pre_policy=False)
    read()
    ups = [body for kind, body in station.messages if kind is bmp.MessageType.PEER_UP]
    (own,) = [body for body in ups if body[0] == bmp.PeerType.LOC_RIB]
    assert own[1] == 0 and own[2:26] == bytes(24)
    assert own[26:34] == (2).to_bytes(4, "big") + s["b"].router_id.packed
    length = int.from_bytes(own[78:80], "big")
    sent, received, rest = own[62 : 62 + length], own[62 + length : 62 + 2 * length], own[62 + 2 * length :]
    opened = decode(sent[18], sent[19:])
    assert sent == received and isinstance(opened, Open)
    assert (opened.true_asn, opened.hold_time, opened.identifier) == (2, 0, s["b"].router_id)
    assert rest == struct.pack(">HH", 3, 6) + b"global"

    table = station.routes["0.0.0.0", 0]
    assert set(table) == {NET, "172.16.0.0/16"}
    assert station.ends == [("0.0.0.0", 0)] * 2, "one for each family"
    chosen = s["b"].tables[V4].selections[nlri.from_network(NET)].best
    assert chosen is not None
    assert table[NET].next_hop == {V4: chosen.next_hop}
    assert table["172.16.0.0/16"].next_hop == {V4: s["b"].router_id.packed}

    best = chosen.source.name
    s[best].delete_network(NET)
    world.run(1)
    read()
    assert station.routes["0.0.0.0", 0][NET].next_hop == {
        V4: ip_address(address({"a": "c", "c": "a"}[best], "b")).packed
    }
    s[{"a": "c", "c": "a"}[best]].delete_network(NET)
    s["b"].delete_network("172.16.0.0/16")
    world.run(1)
    read()
    assert station.routes["0.0.0.0", 0] == {}
