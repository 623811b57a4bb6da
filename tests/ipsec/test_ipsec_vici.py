"""The vici client against a socket that speaks vici: answers in order, refusals, events, the end of the daemon."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from vici.protocol import FiniteStream, Message, Packet

from harness.ipsec.vici_session import ViciClosed, ViciError, ViciSession
from tests.ipsec.ends import short_directory


def answer(**fields: Any) -> bytes:
    return bytes([Packet.CMD_RESPONSE]) + bytes(Message.serialize(fields))


def event(name: str, **fields: Any) -> bytes:
    return struct.pack("!BB", Packet.EVENT, len(name)) + name.encode() + bytes(Message.serialize(fields))


CONFIRM = bytes([Packet.EVENT_CONFIRM])


class Daemon:
    """Says what it was told to say to each command or registration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self.spoken_to = asyncio.Event()
        self.says: dict[str, list[bytes]] = {}
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while True:
                (length,) = struct.unpack("!I", await reader.readexactly(4))
                packet = await reader.readexactly(length)
                stream = FiniteStream(packet[1:])
                name = stream.read(stream.read(1)[0]).decode()
                self.heard.append(name)
                self.spoken_to.set()
                for said in self.says.get(name, []):
                    writer.write(struct.pack("!I", len(said)) + said)
        except asyncio.IncompleteReadError:
            writer.close()

    async def end(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    with short_directory() as directory:
        made = Daemon(directory / "vici")
        await made.start()
        yield made
        await made.end()


async def test_requests_are_answered_in_order(daemon: Daemon) -> None:
    daemon.says = {"version": [answer(version="5.9.8")], "stats": [answer(plugins=["vici", "aes"])]}
    session = await ViciSession.connect(daemon.path)
    version, stats = await asyncio.gather(session.request("version"), session.request("stats"))
    assert (version, stats) == ({"version": "5.9.8"}, {"plugins": ["vici", "aes"]})
    session.close()


async def test_a_refusal_has_charon_s_words(daemon: Daemon) -> None:
    daemon.says = {"load-conn": [answer(success="no", errmsg="invalid value for: proposals, config discarded")]}
    session = await ViciSession.connect(daemon.path)
    with pytest.raises(ViciError, match="load-conn: invalid value for: proposals"):
        await session.request("load-conn", {})
    session.close()


async def test_an_unknown_command_says_what_may_be_missing(daemon: Daemon) -> None:
    daemon.says = {"rekey": [bytes([Packet.CMD_UNKNOWN])]}
    session = await ViciSession.connect(daemon.path)
    with pytest.raises(ViciError, match="knows no command 'rekey'"):
        await session.request("rekey")
    session.close()


async def test_streams_collect_and_other_events_go_to_the_listener(daemon: Daemon) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    daemon.says = {
        "list-sa": [CONFIRM],
        "ike-updown": [CONFIRM],
        "list-sas": [
            event("list-sa", c1={"state": "ESTABLISHED"}),
            event("ike-updown", up="yes"),
            event("list-sa", c2={"state": "CONNECTING"}),
            answer(),
        ],
    }
    session = await ViciSession.connect(daemon.path, lambda name, content: heard.append((name, content)))
    await session.register("ike-updown")
    two = await asyncio.gather(session.stream("list-sas", "list-sa"), session.stream("list-sas", "list-sa"))
    assert list(two) == [[{"c1": {"state": "ESTABLISHED"}}, {"c2": {"state": "CONNECTING"}}]] * 2
    assert heard == [("ike-updown", {"up": "yes"})] * 2
    assert daemon.heard == ["ike-updown", "list-sa", "list-sas", "list-sas"]
    session.close()


async def test_the_end_of_the_daemon_ends_what_waits(daemon: Daemon) -> None:
    session = await ViciSession.connect(daemon.path)
    waiting = asyncio.create_task(session.request("initiate", within=None))
    await daemon.spoken_to.wait()
    await daemon.end()
    with pytest.raises(ViciClosed):
        await waiting
    with pytest.raises(ViciClosed):
        await session.request("version")
    session.close()


async def test_a_daemon_that_says_nothing_is_not_waited_for_without_end(daemon: Daemon) -> None:
    session = await ViciSession.connect(daemon.path)
    with pytest.raises(ViciError, match=r"did not answer within 0.01 s"):
        await session.request("version", within=0.01)
    session.close()


async def test_the_file_of_a_dead_daemon_is_no_daemon(daemon: Daemon) -> None:
    await daemon.end()
    with pytest.raises(ViciClosed, match="no charon serves it"):
        await ViciSession.connect(daemon.path)
