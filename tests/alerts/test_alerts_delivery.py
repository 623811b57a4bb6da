"""Delivery: retries and their pauses, queues that do not wait for each other, what is dropped and who is told at last."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from harness.alerts.channels import Channels
from harness.alerts.delivery import Dispatcher, NotDelivered, Patience
from harness.cloud.alerts import Alerting, AlertRule, Channel, Contact, ContactGroup, Destination
from harness.cloud.events import Event, EventName, EventType
from harness.cloud.muting import Alert

QUICK = Patience(retries=3, timeout=0.2, first=0.01, longest=0.02, queue=3)
EVENT = Event(0.0, EventName.PEER_DOWN, "vbr", "10.1.1.2", content={"reason": "gone"})


def rule(name: str, **where: Any) -> AlertRule:
    return AlertRule(name, EventType.DOWN, EventName.PEER_DOWN, **where)


@dataclass
class Told:
    """What a dispatcher tells, and a wait for it."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, kind: str, **fields: Any) -> None:
        self.events.append((kind, fields))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for each, fields in self.events if each == kind]


@dataclass
class Receivers:
    """Destinations by address: "hang" never answers, "no" refuses, "flaky" refuses twice, the others take."""

    got: list[tuple[str, bytes]] = field(default_factory=list)
    calls: int = 0

    async def send(self, destination: Destination, body: bytes) -> None:
        self.calls += 1
        seen = sum(address == destination.address for address, _ in self.got)
        self.got.append((destination.address, body))
        if destination.address.endswith("hang"):
            await asyncio.Event().wait()
        if destination.address.endswith("no") or (destination.address.endswith("flaky") and seen < 2):
            raise NotDelivered("HTTP 500")


async def posted(*rules: AlertRule, count: int = 1, patience: Patience = QUICK) -> tuple[Told, Receivers]:
    """What happens when ``count`` alerts of each rule are posted at once."""
    told, receivers = Told(), Receivers()
    dispatcher = Dispatcher(Alerting(rules), receivers.send, told, patience)
    for number in range(1, count + 1):
        for each in rules:
            dispatcher.post(Alert(each, replace(EVENT, time=float(number)), number))
    await asyncio.wait_for(dispatcher.settled(), 20)
    await dispatcher.close()
    return told, receivers


@pytest.mark.spec("VBR-23", "VBR-41")
async def test_refused_callback_is_tried_four_times_then_logged() -> None:
    told, receivers = await posted(rule("a", callback="http://192.0.2.1/no"))
    assert receivers.calls == 4
    assert [retry["attempt"] for retry in told.of("alert.retry")] == [1, 2, 3]
    (failed,) = told.of("alert.failed")
    assert failed["reason"] == "HTTP 500"
    (logged,) = told.of("alert.log")
    assert logged["alert_body"]["name"] == "BgpPeerStatus:Down"


@pytest.mark.spec("VBR-23")
async def test_callback_that_recovers_gets_the_same_alert() -> None:
    told, receivers = await posted(rule("a", callback="http://192.0.2.1/flaky"))
    (delivered,) = told.of("alert.delivered")
    assert delivered["attempt"] == 3
    assert len({body for _, body in receivers.got}) == 1
    assert told.of("alert.log") == []


@pytest.mark.spec("VBR-23", "VBR-40")
async def test_hanging_receiver_delays_nobody() -> None:
    told, _ = await posted(
        rule("a", callback="http://192.0.2.1/hang"), rule("b", callback="http://192.0.2.2/"), count=3
    )
    kinds = [(kind, fields["destination"][-4:]) for kind, fields in told.events if "destination" in fields]
    hung = kinds.index(("alert.retry", "hang"))
    assert [kind for kind, _ in kinds[:hung]] == ["alert.delivered"] * 3
    assert told.of("alert.retry")[0]["reason"] == "no answer within 0.2 s"
    assert len(told.of("alert.failed")) == 3


@pytest.mark.spec("VBR-23")
async def test_full_queue_drops_its_oldest_and_says_so() -> None:
    told, receivers = await posted(rule("a", callback="http://192.0.2.1/"), count=10)
    dropped = [fields["number"] for fields in told.of("alert.dropped")]
    assert dropped == list(range(1, 8))
    assert [fields["number"] for fields in told.of("alert.log")] == dropped
    assert [json.loads(body)["alertNumber"] for _, body in receivers.got] == [8, 9, 10]


async def test_rule_without_destination_alerts_the_log() -> None:
    told, receivers = await posted(rule("a"))
    assert receivers.calls == 0
    assert [fields["reason"] for fields in told.of("alert.log")] == ["the rule has no destination"]


def test_pauses_double_and_are_jittered() -> None:
    patience, dice = Patience(first=1.0, longest=5.0), random.Random(7)
    for retry, most in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (9, 5.0)):
        pauses = [patience.pause(retry, dice) for _ in range(200)]
        assert most / 2 <= min(pauses) < max(pauses) <= most
        assert max(pauses) - min(pauses) > most / 4


# -------------------------------------------------------------------------------------------------------------- channels


@pytest.fixture
async def channels(tmp_path: Path) -> AsyncIterator[Channels]:
    made = Channels(tmp_path)
    yield made
    await made.close()


@pytest.mark.spec("VBR-39", "VBR-40")
async def test_local_sinks_take_json_lines_and_one_down_is_told(channels: Channels) -> None:
    there = Destination(Channel.SMQ, "queue/1")
    down = Destination(Channel.SMS, "+00 1")
    channels.path(down).mkdir()
    for body in (b'{"a": 1}', b'{"a": 2}'):
        await channels.send(there, body)
    assert channels.path(there).read_text() == '{"a": 1}\n{"a": 2}\n'
    assert channels.path(there).stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotDelivered, match="directory"):
        await channels.send(down, b"{}")


@pytest.mark.parametrize("address", ["../../etc/passwd", "/etc/passwd", "..", "", "a\x00b", "x" * 500, "é/ü"])
def test_sink_of_any_name_stays_in_its_folder(tmp_path: Path, address: str) -> None:
    path = Channels(tmp_path).path(Destination(Channel.SMQ, address))
    assert path.resolve().parent == tmp_path.resolve()
    path.write_bytes(b"")


@pytest.mark.spec("VBR-41")
async def test_http_post_carries_the_event(channels: Channels) -> None:
    seen: list[tuple[str, str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        seen.append((request.method, request.content_type, await request.read()))
        if request.path == "/moved":
            raise web.HTTPFound("/elsewhere")
        return web.Response(status=500 if request.path == "/refuse" else 204)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        await channels.send(Destination(Channel.CALLBACK, f"http://127.0.0.1:{port}/alerts"), b'{"x": 1}')
        for path, why in (("/refuse", "HTTP 500"), ("/moved", "HTTP 302")):
            with pytest.raises(NotDelivered, match=why):
                await channels.send(Destination(Channel.CALLBACK, f"http://127.0.0.1:{port}{path}"), b"{}")
    finally:
        await runner.cleanup()
    assert seen[0] == ("POST", "application/json", b'{"x": 1}')
    assert len(seen) == 3
    with pytest.raises(NotDelivered):
        await channels.send(Destination(Channel.CALLBACK, f"http://127.0.0.1:{port}/"), b"{}")


async def test_contacts_get_it_by_every_channel_of_their_level(channels: Channels) -> None:
    group = ContactGroup("on call", (Contact("Ada", phone="+00 1", email="ada@example.net"),))
    told = Told()
    alerting = Alerting((rule("a", contact_group="on call"),), (group,))
    dispatcher = Dispatcher(alerting, channels.send, told, QUICK)
    dispatcher.post(Alert(alerting.rules[0], EVENT, 1))
    await dispatcher.settled()
    await dispatcher.close()
    assert sorted(path.name for path in channels.sinks.iterdir()) == ["email-ada@example.net.jsonl", "sms-+00-1.jsonl"]
    assert {row["delivered"] for row in dispatcher.rows()} == {1}
