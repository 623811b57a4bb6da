"""Two charons over a cable: what comes up, what fails and why, and that nothing leaves in clear (ECMP-6, 7, 10, 30, 31)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from harness.net import rtnl
from harness.plan import Esp, Ike
from tests.ipsec.ends import CLOUD, DEVICE, KEY, Stage, tunnel

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

CLOUD_INSIDE, DEVICE_INSIDE = "169.254.10.1", "169.254.10.2"


@pytest.mark.spec("ECMP-6", "ECMP-7")
async def test_tunnel_comes_up_with_the_documented_algorithms(stage: Stage) -> None:
    await stage.up()
    for end in (stage.cloud, stage.device):
        found = await end.call("show.sas")
        (ike,) = found["ike"]
        (child,) = ike["children"]
        assert {key: ike[key] for key in ("encryption", "integrity", "prf", "dh_group", "state")} == {
            "encryption": "aes",
            "integrity": "sha1",
            "prf": "sha1",
            "dh_group": "group14",
            "state": "ESTABLISHED",
        }
        assert (child["encryption"], child["integrity"], child["state"]) == ("aes", "sha1", "INSTALLED")
        assert 0 < ike["rekey_in"] <= 86400
        assert 0 < child["rekey_in"] <= 86400
    status = await stage.cloud.call("show.status")
    assert (status["state"], status["console"], status["line"]) == ("up", "ipsec_sa_established", "up")
    assert await stage.cloud.ping(DEVICE_INSIDE) == 10


@pytest.mark.spec("ECMP-6")
async def test_each_rekey_changes_the_spis_and_the_counters_go_on(stage: Stage) -> None:
    await stage.up()
    spis = set()
    for round_number, what in enumerate(("child", "ike", "child"), start=1):
        assert await stage.cloud.ping(DEVICE_INSIDE) == 10
        counters = await stage.cloud.call("counters")
        assert counters["esp"] == {
            "bytes_in": round_number * 840,
            "packets_in": round_number * 10,
            "bytes_out": round_number * 840,
            "packets_out": round_number * 10,
        }
        assert counters["interface"]["packets_in"] == counters["interface"]["packets_out"] == round_number * 10
        mark = stage.cloud.mark()
        await stage.cloud.call("rekey", what=what)
        event = await stage.cloud.until("ike" if what == "ike" else "child", change="rekeyed", after=mark)
        spis.add(event.get("initiator_spi") or event["spi_in"])
    assert len(spis) == 3
    assert not [event for event in stage.cloud.events if event["type"] == "line" and event["state"] == "down"][1:]
    assert await stage.cloud.carrier() is True


async def test_a_rekey_under_traffic_loses_nothing(stage: Stage) -> None:
    """Three rekeys under 200 pings, asked for without a pause: no packet is lost, counters go on over them.

    Each waits until the one before it is concluded at both ends. Without that the peer may be asked to replace an SA that it has replaced
    already: it answers CHILD_SA_NOT_FOUND, and the SA is closed before there is another.
    """
    await stage.up()
    pinging = asyncio.create_task(stage.cloud.ping(DEVICE_INSIDE, "-c200", "-i0.005"))
    for what in ("child", "ike", "child"):
        mark = stage.device.mark()
        await stage.device.call("rekey", what=what)
        await stage.device.until("ike" if what == "ike" else "child", change="rekeyed", after=mark)
    assert await pinging == 200
    for end in (stage.cloud, stage.device):
        counters = await end.call("counters")
        assert counters["rekeys"] == 2
        assert (counters["esp"]["packets_in"], counters["esp"]["bytes_in"]) == (200, 200 * 84)
        assert (counters["interface"]["packets_in"], counters["interface"]["packets_out"]) == (200, 200)
    # The end that begins a rekey forgets the last packets of the old outbound SA: here the device.
    assert (await stage.cloud.call("counters"))["esp"]["packets_out"] == 200


async def test_rekeys_asked_for_at_once_come_one_after_the_other(stage: Stage) -> None:
    """Both ends, three times each, without waiting for anything: nobody has to answer CHILD_SA_NOT_FOUND and one SA is left."""
    await stage.up()
    for _ in range(3):
        for end in (stage.cloud, stage.device):
            mark = end.mark()
            await end.call("rekey")
            await end.call("rekey", what="ike")
            await end.until("ike", change="rekeyed", after=mark)
    for end in (stage.cloud, stage.device):
        lines = [entry["line"] for entry in await end.call("log", lines=2000)]
        assert not [line for line in lines if "NO_CHILD_SA" in line or "CHILD_SA not found" in line]
        ike = await end.only_ike()
        assert [child["state"] for child in ike["children"]].count("INSTALLED") == 1


@pytest.mark.spec("ECMP-10", "ECMP-31")
async def test_wrong_key_names_the_reason_and_the_line_stays_down(stage: Stage) -> None:
    await stage.start(stage.device, tunnel(DEVICE, key="fddsFF123***!"))
    await stage.device.until("charon", state="ready")
    await stage.start(stage.cloud, tunnel(CLOUD))
    failure = await stage.cloud.until("failure")
    assert (failure["code"], failure["phase"]) == ("AUTHENTICATION_FAILED", 1)
    assert (await stage.device.until("failure"))["code"] == "AUTHENTICATION_FAILED"
    for end in (stage.cloud, stage.device):
        status = await end.call("show.status")
        assert (status["state"], status["console"], status["line"]) == ("failed", "ike_sa_not_established", "down")
        assert await end.carrier() is False
    second = await stage.cloud.until("failure", attempt=2)
    assert second["code"] == "AUTHENTICATION_FAILED"


@pytest.mark.spec("ECMP-31")
@pytest.mark.parametrize(
    ("changes", "phase", "console"),
    [
        ({"ike": Ike(dh_group="group2")}, 1, "ike_sa_not_established"),
        ({"ike": Ike(encryption="aes256")}, 1, "ike_sa_not_established"),
        ({"esp": Esp(integrity="sha256")}, 2, "ipsec_sa_not_established"),
    ],
    ids=["dh-group", "ike-encryption", "esp-integrity"],
)
async def test_mismatch_is_no_proposal_chosen(stage: Stage, changes: dict[str, Any], phase: int, console: str) -> None:
    await stage.start(stage.device, tunnel(DEVICE, **changes))
    await stage.device.until("charon", state="ready")
    await stage.start(stage.cloud, tunnel(CLOUD))
    for end in (stage.cloud, stage.device):
        failure = await end.until("failure")
        assert (failure["code"], failure["phase"]) == ("NO_PROPOSAL_CHOSEN", phase)
        assert await end.carrier() is False
    await stage.cloud.until("failure", attempt=2)
    assert (await stage.cloud.call("show.status"))["console"] == console


@pytest.mark.spec("ECMP-31")
async def test_an_identity_that_does_not_fit_is_authentication_failed(stage: Stage) -> None:
    await stage.start(stage.device, tunnel(DEVICE, remote_id="203.0.113.99"))
    await stage.device.until("charon", state="ready")
    await stage.start(stage.cloud, tunnel(CLOUD))
    for end in (stage.cloud, stage.device):
        assert (await end.until("failure"))["code"] == "AUTHENTICATION_FAILED"


@pytest.mark.spec("ECMP-30")
async def test_negotiation_starts_before_the_device_exists_and_goes_on_until_it_does(stage: Stage) -> None:
    await stage.start(stage.cloud, tunnel(CLOUD))
    first = await stage.cloud.until("failure")
    assert (first["code"], first["text"]) == ("PEER_UNREACHABLE", "giving up after 2 retransmits")
    assert (await stage.cloud.call("show.status"))["state"] == "failed"
    await stage.start(stage.device, tunnel(DEVICE))
    await stage.lines_up()
    assert await stage.cloud.ping(DEVICE_INSIDE) == 10


@pytest.mark.spec("ECMP-30")
async def test_negotiation_goes_on_after_a_refusal_until_the_key_is_right(stage: Stage) -> None:
    await stage.start(stage.device, tunnel(DEVICE, key="another"))
    await stage.device.until("charon", state="ready")
    await stage.start(stage.cloud, tunnel(CLOUD))
    await stage.cloud.until("failure", code="AUTHENTICATION_FAILED")
    assert stage.device.child is not None
    await stage.device.call("stop")
    assert await stage.device.child.exited() == 0
    stage.device.events.clear()
    await stage.start(stage.device, tunnel(DEVICE))
    await stage.lines_up()


async def test_delete_from_either_side(stage: Stage) -> None:
    await stage.up()
    marks = stage.marks()
    await stage.device.call("terminate")
    down = await stage.cloud.until("line", state="down", after=marks[0])
    assert down["reason"]["code"] == "DELETED_BY_PEER"
    await stage.lines_up(marks)  # the end that initiates comes again

    marks = stage.marks()
    await stage.cloud.call("terminate")
    assert (await stage.cloud.until("line", state="down", after=marks[0]))["reason"]["code"] == "DELETED"
    assert (await stage.device.until("line", state="down", after=marks[1]))["reason"]["code"] == "DELETED_BY_PEER"
    await stage.cloud.until("status", state="down", after=marks[0])
    assert await stage.cloud.ping(DEVICE_INSIDE, "-c2") == 0

    marks = stage.marks()
    await stage.cloud.call("initiate")
    await stage.lines_up(marks)
    await stage.cloud.until("status", state="up", after=marks[0])
    status = await stage.cloud.call("initiate")  # of a tunnel that is up: nothing happens
    assert (status["state"], status["attempts"]) == ("up", 3)
    assert len((await stage.cloud.call("show.sas"))["ike"]) == 1
    assert (await stage.cloud.call("show.status"))["state"] == "up"


async def test_a_charon_that_is_late_finds_what_came_meanwhile(stage: Stage) -> None:
    """1,500 datagrams, half a second of a lab's load, wait for a charon that does not run; the kernel's default holds 200."""
    await stage.up()
    charon = (await stage.device.call("show.status"))["charon"]
    os.kill(charon, signal.SIGSTOP)
    try:
        with stage.cloud.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(1500):
                # An ESP packet of an SA that nobody has: charon reads it and throws it away.
                sender.sendto(b"\x12\x34\x56\x78" + bytes(96), (DEVICE, 4500))
        with stage.device.namespace.entered():
            lines = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()]
    finally:
        os.kill(charon, signal.SIGCONT)
    names, values = (line for line in lines if line[0] == "Udp:")
    assert dict(zip(names, values, strict=True))["RcvbufErrors"] == "0"


async def test_a_killed_charon_is_told_at_once_and_its_peer_finds_out(stage: Stage) -> None:
    await stage.up()
    marks = stage.marks()
    os.kill((await stage.device.call("show.status"))["charon"], signal.SIGKILL)
    ended = await stage.device.until("charon", state="ended", after=marks[1])
    assert (ended["status"], ended["asked"]) == (-signal.SIGKILL, False)
    assert (await stage.device.until("line", state="down", after=marks[1]))["reason"]["code"] == "CHARON_ENDED"
    assert await stage.device.carrier() is None
    lost = await stage.cloud.until("line", state="down", after=marks[0])
    assert lost["reason"]["code"] == "PEER_UNREACHABLE"
    # dpd_delay, a second of charon's own rounding, and (tries + 1) x retransmit_timeout.
    assert lost["time"] - ended["time"] < 1.0 + 1.0 + 3 * 0.2 + 0.5
    marks = stage.marks()
    await stage.device.call("restart")
    await stage.lines_up(marks)
    assert await stage.cloud.ping(DEVICE_INSIDE) == 10


async def test_an_agent_may_restart_its_charon_by_itself(stage: Stage) -> None:
    await stage.start(stage.device, tunnel(DEVICE))
    await stage.device.until("charon", state="ready")
    await stage.start(stage.cloud, tunnel(CLOUD), restart=True)
    await stage.lines_up()
    marks = stage.marks()
    os.kill((await stage.cloud.call("show.status"))["charon"], signal.SIGKILL)
    await stage.lines_up(marks)
    replaced = await stage.device.until("ike", change="down", after=marks[1])
    assert replaced["reason"]["code"] == "REPLACED"
    assert await stage.cloud.ping(DEVICE_INSIDE) == 10
    lines = [event["state"] for event in stage.device.events[marks[1] :] if event["type"] == "line"]
    assert lines == ["down", "up"]


async def test_a_cut_cable_takes_the_line_down_and_a_mended_one_brings_it_back(stage: Stage) -> None:
    await stage.up()
    marks = stage.marks()
    stage.plug(False)
    assert (await stage.cloud.until("line", state="down", after=marks[0]))["reason"]["code"] == "PEER_UNREACHABLE"
    # The device's own end is unplugged: that nothing could be sent is the better reason.
    assert (await stage.device.until("line", state="down", after=marks[1]))["reason"]["code"] == "NO_ROUTE"
    await stage.cloud.until("failure", attempt=2, after=marks[0])
    marks = stage.marks()
    stage.plug(True)
    await stage.lines_up(marks)
    assert await stage.cloud.ping(DEVICE_INSIDE) == 10
    assert await stage.device.ping(CLOUD_INSIDE) == 10


async def test_the_line_keeps_addresses_and_routes_while_it_is_down(stage: Stage) -> None:
    """Static routes into the tunnel come back by themselves: only the carrier goes (ECMP-40 builds on it)."""
    await stage.up()
    with rtnl.Rtnl(stage.cloud.namespace) as netlink:
        ifindex = netlink.link("ipsec0").ifindex
        netlink.transact([rtnl.route("192.168.0.0/24", gateway=DEVICE_INSIDE, oif=ifindex)])
        await stage.cloud.call("terminate")
        await stage.cloud.until("status", state="down")
        assert any(str(route.prefix) == "192.168.0.0/24" for route in netlink.routes())
        mark = stage.cloud.mark()
        await stage.cloud.call("initiate")
        await stage.cloud.until("line", state="up", after=mark)
    with rtnl.Rtnl(stage.device.namespace) as netlink:
        netlink.transact([rtnl.address(netlink.link("lo").ifindex, "192.168.0.1/32")])
    assert await stage.cloud.ping("192.168.0.1") == 10


def _sniffer(stage: Stage) -> socket.socket:
    every_protocol = 3
    found = stage.device.namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(every_protocol))
    found.bind(("wan", every_protocol))
    found.setblocking(False)
    return found


def _ports_on_the_wire(sniffer: socket.socket) -> set[tuple[int, int]]:
    """(IP protocol, UDP destination port) of every IPv4 packet that was on the cable."""
    found: set[tuple[int, int]] = set()
    while True:
        try:
            packet, address = sniffer.recvfrom(2048)
        except BlockingIOError:
            return found
        if address[1] == 0x0800:
            header = (packet[0] & 15) * 4
            port = struct.unpack_from("!H", packet, header + 2)[0] if packet[9] == socket.IPPROTO_UDP else 0
            found.add((packet[9], port))


@pytest.mark.spec("ECMP-6")
async def test_nothing_in_clear_on_the_wire_up_down_or_without_charon(stage: Stage) -> None:
    with _sniffer(stage) as sniffer:
        await stage.up()
        assert await stage.cloud.ping(DEVICE_INSIDE) == 10
        mark = stage.cloud.mark()
        await stage.cloud.call("terminate")
        await stage.cloud.until("line", state="down", after=mark)
        assert await stage.cloud.ping(DEVICE_INSIDE, "-c3") == 0
        os.kill((await stage.cloud.call("show.status"))["charon"], signal.SIGKILL)
        await stage.cloud.until("charon", state="ended")
        assert await stage.cloud.ping(DEVICE_INSIDE, "-c3") == 0
        assert _ports_on_the_wire(sniffer) == {(socket.IPPROTO_UDP, 500), (socket.IPPROTO_UDP, 4500)}


async def test_the_key_is_in_no_file_argument_event_or_answer(stage: Stage) -> None:
    await stage.up()
    found = [
        await end.call(method) for end in (stage.cloud, stage.device) for method in ("show.status", "show.sas", "log")
    ]
    found += [stage.cloud.events, stage.device.events]
    for end in (stage.cloud, stage.device):
        status = await end.call("show.status")
        assert end.child is not None
        for pid in (end.child.pid, status["charon"]):
            found += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    assert KEY not in repr(found)
    files = [path for path in stage.directory.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"agent.log", "charon.log", "strongswan.conf"}
    assert not [path for path in files if KEY in path.read_text()]


async def test_a_large_packet_passes_and_the_next_size_is_refused(stage: Stage) -> None:
    await stage.up()
    headers = 28
    assert await stage.cloud.ping(DEVICE_INSIDE, "-Mdo", f"-s{1400 - headers}", "-c3") == 3
    assert await stage.cloud.ping(DEVICE_INSIDE, "-Mdo", f"-s{1401 - headers}", "-c1") == 0


async def test_the_agent_stops_cleanly_and_tells_its_peer(stage: Stage) -> None:
    await stage.up()
    marks = stage.marks()
    assert stage.cloud.child is not None
    pid = (await stage.cloud.call("show.status"))["charon"]
    await stage.cloud.call("stop")
    assert await stage.cloud.child.exited() == 0
    assert (await stage.device.until("line", state="down", after=marks[1]))["reason"]["code"] == "DELETED_BY_PEER"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_an_end_that_comes_again_stops_at_once(stage: Stage) -> None:
    """The peer's DELETE starts a new negotiation; a stop in the middle of it does not wait for its time-outs."""
    await stage.up(retransmit_timeout=2.0)
    assert stage.cloud.child is not None
    mark = stage.cloud.mark()
    await stage.device.call("stop")
    await stage.cloud.until("line", state="down", after=mark)
    begun = time.monotonic()
    await stage.cloud.call("stop")
    assert await stage.cloud.child.exited() == 0
    assert time.monotonic() - begun < 1.5


async def test_charon_dies_with_its_agent(stage: Stage) -> None:
    await stage.up()
    pid = (await stage.cloud.call("show.status"))["charon"]
    pidfd = os.pidfd_open(pid)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, gone.set)
    assert stage.cloud.child is not None
    stage.cloud.child.kill(signal.SIGKILL)
    try:
        await asyncio.wait_for(gone.wait(), 2.0)
    finally:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)


@pytest.mark.spec("ECMP-7")
async def test_negotiation_when_traffic_enters(stage: Stage) -> None:
    """Nothing is negotiated until a packet is routed into the tunnel; after a DELETE the next packet starts it again."""
    await stage.start(stage.device, tunnel(DEVICE))
    await stage.device.until("charon", state="ready")
    await stage.start(stage.cloud, tunnel(CLOUD, initiate="traffic"))
    await stage.cloud.until("charon", state="ready")
    status = await stage.cloud.call("show.status")
    assert (status["state"], status["line"], status["attempts"]) == ("waiting", "down", 0)
    for _ in range(2):
        marks = stage.marks()
        assert await stage.cloud.ping(DEVICE_INSIDE, "-c5", "-i0.3", "-W1") >= 3
        entered = await stage.cloud.until("traffic", after=marks[0])
        assert entered["packet"] == f"ICMP {CLOUD_INSIDE} > {DEVICE_INSIDE}"
        await stage.lines_up(marks)
        marks = stage.marks()
        await stage.device.call("terminate")
        await stage.cloud.until("status", state="waiting", after=marks[0])
    assert (await stage.cloud.call("show.status"))["attempts"] == 2


@pytest.mark.spec("ECMP-7")
async def test_traffic_that_meets_no_peer_is_a_failure_and_is_tried_again(stage: Stage) -> None:
    await stage.start(stage.cloud, tunnel(CLOUD, initiate="traffic"))
    await stage.cloud.until("charon", state="ready")
    assert await stage.cloud.ping(DEVICE_INSIDE, "-c2") == 0
    assert (await stage.cloud.until("failure"))["code"] == "PEER_UNREACHABLE"
    await stage.start(stage.device, tunnel(DEVICE))
    await stage.device.until("charon", state="ready")
    assert await stage.cloud.ping(DEVICE_INSIDE, "-c5", "-i0.3", "-W1") >= 3


async def test_two_ends_that_both_begin_are_left_with_one_tunnel(stage: Stage) -> None:
    """Both initiate at once: if two IKE_SAs come to stand one end ends the second; INITIAL_CONTACT may replace one before that."""
    await stage.start(stage.device, tunnel(DEVICE, initiate="start"), begin=False)
    await stage.start(stage.cloud, tunnel(CLOUD), begin=False)
    await stage.device.until("charon", state="ready")
    await stage.cloud.until("charon", state="ready")
    marks = stage.marks()
    await asyncio.gather(stage.cloud.call("initiate"), stage.device.call("initiate"))
    await stage.lines_up(marks)
    for end in (stage.cloud, stage.device):
        standing = (await end.call("show.sas"))["ike"]
        if len(standing) > 1:
            await end.until("ike", change="down", within=5.0)
            standing = (await end.call("show.sas"))["ike"]
        assert [ike["state"] for ike in standing].count("ESTABLISHED") == 1
    assert await stage.cloud.ping(DEVICE_INSIDE) == 10
    for end, mark in zip((stage.cloud, stage.device), marks, strict=True):
        assert [event["state"] for event in end.events[mark:] if event["type"] == "line"][-1] == "up"


@pytest.mark.spec("ECMP-31")
async def test_two_keys_on_one_end_are_tried_each_for_itself(stage: Stage) -> None:
    """The peer's proof is held against one key, this side's own is made with the other, as on a device that has two."""
    await stage.start(stage.device, tunnel(DEVICE, key="another", peer_key=KEY))
    await stage.device.until("charon", state="ready")
    await stage.start(stage.cloud, tunnel(CLOUD))
    await stage.cloud.until("failure", code="AUTHENTICATION_FAILED")
    lines = [entry["line"] for entry in await stage.cloud.call("log")]
    assert any("MAC mismatched" in line for line in lines), "the cloud refuses the proof made with the device's own key"
    # The answering end has an SA, and a line, until the initiator's refusal of its proof has come (RFC 7296 2.21.2).
    ended = await stage.device.until("ike", change="down", id=2)
    assert ended["reason"]["code"] == "DELETED_BY_PEER"
    await stage.device.until("line", state="down", after=stage.device.events.index(ended))
    assert await stage.cloud.carrier() is False, "the end that refuses the proof never has a tunnel by it"
