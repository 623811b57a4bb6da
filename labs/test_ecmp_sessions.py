"""Every BGP session's way to Established and back, from the speakers' own events.

Source: "Configure and manage BGP" (the states of a BGP peer, VBR-14 to VBR-20) and RFC 4271 section 8.
"""

from __future__ import annotations

import signal

import pytest

from harness.bgp.messages import MessageType
from harness.cloud.resources import Timers
from harness.evidence import timeline_of
from harness.lab import Lab
from harness.net.fib import sweep
from harness.sequence import chart
from harness.stream import LabEvent
from harness.tables import NOT_IN_KERNEL
from labs.conftest import Broken
from labs.document import ipsec_ecmp as document

UPDATE, NOTIFICATION = MessageType.UPDATE, MessageType.NOTIFICATION

#: Which states the document lets follow which (VBR-15 to VBR-20).
FOLLOWS = {
    "Idle": {"Connect"},
    "Connect": {"Connect", "Active", "OpenSent"},
    "Active": {"Active", "Connect", "OpenSent"},
    "OpenSent": {"OpenConfirm", "Active", "Idle"},
    "OpenConfirm": {"Established", "Idle"},
    "Established": {"Established", "Idle"},
}

#: And the steps that only a collision makes: the connection that stays may be one state behind the one that is given up (RFC 4271 6.8).
BEHIND = {"OpenConfirm": "OpenSent", "Established": "OpenConfirm"}


def behind(event: LabEvent) -> bool:
    """Is this the step back to the connection that stays? Either end may be the one that gives the other up."""
    return bool(BEHIND.get(event.data["old"]) == event.data["new"])


def path(events: list[LabEvent]) -> list[str]:
    """The states walked through, a state that follows itself once; a step that was given up with its connection is none."""
    states = [events[0].data["old"]]
    for event in events:
        assert event.data["old"] == states[-1], f"a transition is missing before {event.text()}"
        if behind(event):
            states.pop()
        if event.data["new"] != states[-1]:
            states.append(event.data["new"])
    return states


@pytest.mark.spec("VBR-15", "VBR-16", "VBR-17", "VBR-18", "VBR-19", "BGP-2", "CARD-5")
async def test_every_session_walks_the_documented_path(ecmp: Lab) -> None:
    """From Idle by Connect (and Active, while the other side is not there) to OpenSent, OpenConfirm, Established, nothing left out."""
    for node, peer in ecmp.session_states():
        events = list(ecmp.transitions(node=node, peer=peer))
        for event in events:
            assert event.data["new"] in FOLLOWS[event.data["old"]] or behind(event), event.text()
            assert event.data["reason"], event.text()
        states = path(events)
        assert states[:2] == ["Idle", "Connect"]
        assert states[-3:] == ["OpenSent", "OpenConfirm", "Established"]


@pytest.mark.spec("VBR-20", "BGP-15", "ECMP-24")
async def test_hold_timer_ends_a_session_whose_tunnel_went_silent(fresh_ecmp: Broken) -> None:
    """Every packet of tunnel 3 is lost while its SA stays: the hold timer notices, NOTIFICATION 4/0, back to Idle, no routes."""
    timers = Timers(hold_time=3, connect_retry_time=5)
    async with fresh_ecmp(timers=timers) as lab:
        at = lab.set_link("gw3", "internet", up=False)
        ended = await lab.event(within=6.0, since=at, node="vpn3", kind="fsm", old="Established")
        assert (ended.data["new"], ended.data["event"]) == ("Idle", "HOLD_TIMER_EXPIRES")
        sent = await lab.event(within=6.0, since=at, node="vpn3", kind="notification", direction="sent")
        assert (sent.data["code"], sent.data["subcode"]) == (4, 0)
        expected = document.TABLE_1.without(word="VPN connection 3")
        assert await lab["tr-hangzhou"].route_table(like=expected, since=at, within=8.0) == expected
        lab.record(timeline_of(lab, "The hold timer notices", since=at - 1.0, marks=((at, "link cut"),), quiet=False))


@pytest.mark.spec("CARD-4", "BGP-8")
async def test_a_killed_speaker_leaves_no_route_and_comes_back(fresh_ecmp: Broken) -> None:
    """kill -9 of the transit router's speaker: its kernel routes are gone at once, its peers notice; started again, all is there."""
    async with fresh_ecmp() as lab:
        router = lab["tr-hangzhou"]
        assert await router.route_table(like=document.TABLE_1, within=5.0) == document.TABLE_1
        assert len(router.kernel_routes()) == 5
        at = lab.stream.add("tr-hangzhou", "lab", "kill").time
        assert await router.speaker.kill(signal.SIGKILL) == -signal.SIGKILL
        await lab.event(within=5.0, since=at, node="tr-hangzhou", source="lab", kind="exit")
        assert router.kernel_routes() == []
        assert [hop for hop in router.rtnl.nexthops() if hop.protocol] == []
        await lab.event(within=5.0, since=at, node="vpn1", kind="fsm", old="Established", peer="tr-hangzhou")
        again = lab.stream.add("tr-hangzhou", "lab", "start").time
        await router.speaker.restart(lab.zygote)
        await lab.established(within=10.0, since=again)
        for node, table in (("tr-hangzhou", document.TABLE_1), ("tr-shanghai", document.TABLE_2)):
            assert await lab[node].route_table(like=table, since=again, within=10.0) == table


@pytest.mark.spec("BGP-2", "BGP-8", "VBR-20")
async def test_a_speaker_that_is_told_to_stop_says_so(fresh_ecmp: Broken) -> None:
    """SIGTERM: Cease, administrative shutdown, to every neighbour, and the kernel's routes taken out. Start and end of each session were
    recorded on the wire and are as the document draws them."""
    async with fresh_ecmp() as lab:
        router = lab["tr-hangzhou"]
        for node, table in (("tr-hangzhou", document.TABLE_1), ("tr-shanghai", document.TABLE_2)):
            assert await lab[node].route_table(like=table, within=5.0) == table
        at = lab.stream.add("tr-hangzhou", "lab", "terminate").time
        assert await router.speaker.kill(signal.SIGTERM) == 0
        for node in ("vpn1", "vpn2", "vpn3", "tr-shanghai"):
            heard = await lab.event(within=5.0, since=at, node=node, kind="notification", direction="received")
            assert (heard.data["code"], heard.data["subcode"]) == (6, 2)
        assert router.kernel_routes() == []
        assert lab.recording is not None
        await lab.recording.sync()
        recorded = chart.of_file(lab.recording.path)
        ended = [e for e in recorded if {UPDATE, NOTIFICATION} <= {step.type for step in e.steps}]
        assert len(ended) == 4  # three IPsec connections and the other transit router
        for exchange in ended:
            words = chart.words(exchange)
            assert words[:3] == ["> SYN", "< SYN, ACK", "> ACK"]
            assert sorted(words[3:7]) == ["< KEEPALIVE", "< OPEN", "> KEEPALIVE", "> OPEN"]
            for end in "<>":
                assert words.index(f"{end} OPEN") < words.index(f"{end} KEEPALIVE")
            assert words[7] in ("> UPDATE", "< UPDATE")
            (cease,) = [word for word in words if word.endswith("NOTIFICATION")]
            side = cease[0]
            assert [word for word in words[words.index(cease) :] if word[0] == side] == [cease, f"{side} FIN"]
            # The other end closes too; what it was saying just then may find the connection gone.
            assert words[-1][2:] in ("FIN", "RST")
            lab.record_sequence(exchange, f"{' and '.join(exchange.ends)}: start and end", lab.recording.path)


@pytest.mark.spec("ECMP-17")
async def test_a_table_of_a_speaker_without_kernel_routes_is_red(fresh_ecmp: Broken) -> None:
    """The Loc-RIB alone does not make a table: routes that somebody flushed from the kernel are shown as missing there."""
    async with fresh_ecmp() as lab:
        router = lab["tr-shanghai"]
        assert await router.route_table(like=document.TABLE_2, within=5.0) == document.TABLE_2
        assert sweep(router.namespace.fd) == 5
        table = await router.route_table()
        assert len(table) == 11
        assert [row for row in table.rows if NOT_IN_KERNEL not in row[-1]] == []
