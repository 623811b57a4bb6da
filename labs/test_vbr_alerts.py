"""Events and alerts: from a line that is cut to the callback, through receivers that refuse, recover and hang.

Source: "Configure and manage BGP", "View monitoring events of BGP peers". The lines run over bridging devices and are cut inside them, so
that BFD (3 x 300 ms) is what notices. The alerter runs in the VPC's node, the user's receiver is an HTTP server on the ECS instance.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from harness.alerts.delivery import Patience
from harness.cloud.alerts import Alerting, AlertRule, ApplicationGroup, Contact, ContactGroup, KeywordCondition
from harness.cloud.events import EventName, EventType, Level
from harness.cloud.vbr import Line, VbrEstate
from harness.cloud_monitor import CloudMonitor, callback_receiver, cloud_monitor
from harness.daemons.features import Feature
from harness.evidence import timeline_of
from harness.lab import Lab
from harness.session import Labs
from labs.vbr_acts import bfd_up, cut_unseen
from reports.model import Values
from topologies import vbr

PATIENCE = Patience(timeout=0.5, first=0.1, longest=0.2)
DOWN = AlertRule("peer down", EventType.DOWN, EventName.PEER_DOWN)
PEER = vbr.peer_ip(1)


def two_lines() -> VbrEstate:
    """Two data centres; the first line runs over a bridging device and has BFD at both ends."""
    estate = vbr.estate(peers=2, line=Line.BRIDGED)
    router, (first, second) = estate.vbrs[0], estate.data_centres
    peers = (replace(router.peers[0], bfd=True, bfd_hop_count=1), router.peers[1])
    return replace(estate, vbrs=(replace(router, peers=peers),), data_centres=(replace(first, bfd_hop_count=1), second))


@asynccontextmanager
async def watched(labs: Labs, *rules: AlertRule) -> AsyncIterator[tuple[Lab, CloudMonitor]]:
    """A VBR with two lines, watched, and alert rules; "URL" in a callback stands for the receiver on the ECS instance."""
    estate = two_lines()
    async with labs.running(vbr.plan_of(estate)) as lab, callback_receiver(lab, "ecs") as url:
        alerting = Alerting(
            tuple(replace(rule, callback=rule.callback and rule.callback.replace("URL", url)) for rule in rules),
            (ContactGroup("on call", (Contact("Ada", phone="+00 1", email="ada@example.net"),)),),
            (ApplicationGroup("second line", ("vbr/vbr/bgp-peer/10.1.2.2",)),),
            queues=("queue",),
        )
        async with cloud_monitor(lab, estate, "vbr", alerting, patience=PATIENCE) as monitor:
            await lab.established(within=10)
            await bfd_up(lab, 1, within=10)
            yield lab, monitor


@pytest.mark.spec("VBR-22", "VBR-23", "VBR-38", "VBR-39", "VBR-40", "VBR-41")
async def test_from_cut_line_to_callback(labs: Labs) -> None:
    """The callback has the event soon after the cut; receivers that hang or refuse, and rules that do not match, delay nothing."""
    rules = (
        replace(DOWN, callback="URL/alerts", contact_group="on call", notification=Level.CRITICAL, smq="queue"),
        replace(DOWN, name="hangs", callback="URL/hang"),
        replace(DOWN, name="recovers", callback="URL/flaky"),
        replace(DOWN, name="refuses", callback="URL/refuse"),
        replace(DOWN, name="by keyword and SQL", callback="URL/bfd", keywords=("BFD",), sql="peer = '10.1.1.2'"),
        replace(DOWN, name="no BFD", callback="URL/never", keywords=("BFD",), keyword_condition=KeywordCondition.CONTAINS_NONE),
        replace(DOWN, name="other line", callback="URL/never", application_group="second line"),
        replace(DOWN, name="critical only", callback="URL/never", level=Level.CRITICAL),
    )  # fmt: skip
    async with watched(labs, *rules) as (lab, monitor):
        lab.needs(Feature.BFD_CEASE, "vbr")
        cut = cut_unseen(lab, "circuit-1", whole=False)
        noticed = await lab.event(node="vbr", kind="bfd", peer=PEER, new="Down", since=cut, within=5)
        down = await lab.event(source="cloud", kind="BgpPeerStatus:Down", since=cut, within=5)
        called = await lab.event(source="receiver", kind="callback", path="/alerts", since=cut, within=5)
        sent = json.loads(called.data["body"])
        assert sent["content"]["peer"] == PEER
        assert {key: sent[key] for key in ("name", "level", "product", "alertRule", "alertNumber")} == {
            "name": "BgpPeerStatus:Down",
            "level": "Warning",
            "product": "Express Connect - physical connection",
            "alertRule": "peer down",
            "alertNumber": 1,
        }
        assert cut < noticed.time <= down.time <= called.time

        recovered = await lab.event(kind="alert.delivered", rule="recovers", since=cut, within=10)
        assert recovered.data["attempt"] == 3
        for name, why in (("refuses", "HTTP 500"), ("hangs", "no answer within 0.5 s")):
            failed = await lab.event(kind="alert.failed", rule=name, since=cut, within=10)
            assert failed.data["reason"] == why
            logged = await lab.event(kind="alert.log", rule=name, since=cut, within=10)
            assert logged.data["alert_body"]["resourceId"] == "vbr/vbr/bgp-peer/10.1.1.2"
        delivered = {e.data["destination"] for e in lab.stream.of(kind="alert.delivered", rule="peer down", since=cut)}
        assert {name.partition(" ")[0] for name in delivered} == {"phone", "sms", "email", "smq", "callback"}
        paths = {event.data["path"] for event in lab.stream.of(source="receiver", kind="callback", since=cut)}
        assert paths == {"/alerts", "/hang", "/flaky", "/refuse", "/bfd"}
        assert monitor.events[-1].peer == PEER
        kept = [json.loads(line) for line in monitor.path.read_text().splitlines()]
        assert kept == [event.fields() for event in monitor.events]

        lab.attach(monitor.path, "Events of the BGP peers", "JSON lines")
        lab.record(timeline_of(lab, "A line is cut: sessions and the console's events", since=cut, quiet=False))
        steps = (
            ("BFD calls the line gone", noticed.time),
            ("BgpPeerStatus:Down", down.time),
            ("the callback has arrived", called.time),
            ("a receiver that refuses twice has taken it", recovered.time),
        )
        rows = tuple((what, f"{(at - cut) * 1000:.1f} ms", "") for what, at in steps)
        lab.record(Values("From the cut of a line to the callback, BFD 3 x 300 ms", rows))


@pytest.mark.spec("VBR-37", "VBR-22")
async def test_muted_alert_comes_again_until_the_peer_is_back(labs: Labs) -> None:
    """With a mute period of 0.3 s the alert comes at once, again each period, and no more once the session is up."""
    async with watched(labs, replace(DOWN, callback="URL/alerts", mute_period=0.3)) as (lab, monitor):
        cut = cut_unseen(lab, "circuit-1", whole=False)
        numbers = [
            await lab.event(kind="alert", rule="peer down", number=number, since=cut, within=10) for number in (1, 2, 3)
        ]
        for earlier, later in itertools.pairwise(numbers):
            assert later.data["at"] - earlier.data["at"] >= 0.3
        cut_unseen(lab, "circuit-1", whole=True)
        cleared = await lab.event(source="cloud", kind="cleared", since=cut, within=20)
        assert cleared.data["reason"] == "the peer is Established"
        # The other peer's second alert is a mute period later than its first: by then the first peer's would have come again.
        again = lab.stream.add("vbr", "lab", "the other peer is reset").time
        await lab["vbr"].speaker.call("neighbor.reset", name=vbr.peer_ip(2))
        second = "vbr/vbr/bgp-peer/10.1.2.2"
        # The alerter takes one happening after the other: with this alert it knows that the first peer is back.
        first = await lab.event(kind="alert", resource=second, number=1, since=again, within=10)
        other = await lab.event(kind="alert", resource=second, number=2, since=again, within=10)
        late = [e for e in lab.stream.of(kind="alert", since=first.time) if e.time <= other.time]
        assert {e.data["resource"] for e in late} == {second}
        assert [event.peer for event in monitor.events[-2:]] == [PEER, vbr.peer_ip(2)]


@pytest.mark.spec("VBR-22", "VBR-36", "VBR-23")
async def test_dead_speaker_is_down_for_every_peer_and_a_dead_alerter_is_told_of(labs: Labs) -> None:
    """The VBR's speaker is killed: each peer that was up raises Down, cleared when it is back. An alerter that dies stops no watch."""
    async with watched(labs, replace(DOWN, callback="URL/alerts")) as (lab, monitor):
        killed = lab.stream.add("vbr", "lab", "speaker killed").time
        await lab["vbr"].speaker.kill()
        for number in (1, 2):
            resource = f"vbr/vbr/bgp-peer/{vbr.peer_ip(number)}"
            down = await lab.event(
                source="cloud", kind="BgpPeerStatus:Down", since=killed, resourceId=resource, within=10
            )
            assert down.data["content"]["reason"] == "the speaker of the VBR ended"
            await lab.event(kind="alert.delivered", resource=resource, since=killed, within=10)
        assert monitor.alerter is not None
        await monitor.alerter.kill()
        again = lab.stream.add("vbr", "lab", "speaker started").time
        await lab["vbr"].speaker.restart(lab.zygote)
        for number in (1, 2):
            await lab.event(source="cloud", kind="cleared", peer=vbr.peer_ip(number), since=again, within=30)
        assert list(lab.stream.of(source="cloud", kind="alerter.failed", since=again))
