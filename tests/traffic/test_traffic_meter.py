"""The meter on a TUN, the interface it is made for: inner packets both ways, foreign ones, and the TUN made anew."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.control import EventLog
from harness.net.namespace import Namespace
from harness.net.rtnl import Rtnl, link_set, route
from harness.traffic.counters import Counters, assert_agreement, read
from harness.traffic.flows import Direction, Flow, FlowSet, FlowSpec, Protocol
from harness.traffic.meter import Meter, Tap

pytestmark = pytest.mark.root
SPEC = FlowSpec(("192.168.0.0/24",), "10.0.0.1", udp=40, tcp=10)
FLOWS = FlowSet(SPEC)
_TUNSETIFF, _IFF_TUN_NO_PI = 0x400454CA, 0x1001
_NO_IPV6 = {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}


class Tunnel:
    """A TUN "ipsec0" in ``node``, routed to the server's network; what a daemon holds is the descriptor."""

    def __init__(self, node: Namespace) -> None:
        with node.entered():  # a TUN belongs to the namespace in which the device was opened
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(self.fd, _TUNSETIFF, struct.pack("16sH", b"ipsec0", _IFF_TUN_NO_PI))
        with Rtnl(node) as rtnl:
            index = rtnl.link("ipsec0").ifindex
            rtnl.transact([link_set(index, up=True), route("10.0.0.0/24", oif=index)])

    def receive(self, packet: bytes) -> None:
        """As a daemon does with what came out of ESP."""
        os.write(self.fd, packet)

    def taken(self) -> list[bytes]:
        """What the kernel sent into the tunnel."""
        found = []
        while True:
            try:
                found.append(os.read(self.fd, 2000))
            except BlockingIOError:
                return found

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def node() -> Iterator[Namespace]:
    try:
        made = Namespace.create("gw1", _NO_IPV6)
    except OSError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    with made:
        try:
            Tunnel(made).close()
        except OSError as error:
            pytest.skip(f"no TUN here: {error}")
        yield made


def _packet(flow: Flow, direction: Direction, size: int = 100) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, size, 1, 0x4000, 64, flow.protocol, 0)
    return (header + flow.key(direction)).ljust(size, b"\0")


def _send(node: Namespace, packet: bytes) -> None:
    """Out of the node by way of its routes."""
    with node.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))


@pytest.mark.spec("ECMP-23")
async def test_flows_directions_and_strangers(node: Namespace) -> None:
    tunnel, log = Tunnel(node), EventLog()
    meter = Meter([Tap("vpn1", f"/proc/{os.getpid()}/fd/{node.fd}", "ipsec0")], log)
    try:
        await meter.load(SPEC.to_dict())
        begun = time.monotonic()
        for flow in FLOWS:
            _send(node, _packet(flow, Direction.TO_VPC, 100))
            tunnel.receive(_packet(flow, Direction.TO_DC, 200))
        udp = _packet(next(f for f in FLOWS if f.protocol is Protocol.UDP), Direction.TO_DC)
        tunnel.receive(b"\x46" + udp[1:])  # IP options: the ports stand elsewhere
        tunnel.receive(_packet(Flow(0, Protocol.UDP, "192.168.9.9", 1, "10.0.0.1", 2), Direction.TO_DC))
        tunnel.receive(b"\x60" + bytes(5) + b"\x3a\xff" + bytes(32))
        assert len(tunnel.taken()) == 50
        window = await meter.window(begun, time.monotonic())
        share = window["shares"]["vpn1"]
        assert {d: (share[d]["packets"], share[d]["bytes"]) for d in Direction} == {
            "to-vpc": (50, 5000),
            "to-dc": (50, 10000),
        }
        assert sorted(share["to-vpc"]["ids"]) == sorted(share["to-dc"]["ids"]) == [flow.id for flow in FLOWS]
        total = (await meter.totals())["vpn1"]
        assert total["other_in"] == {"IPv4 protocol 17": [2, 200], "IPv6 next header 58": [1, 40]}
        assert total["other_out"] == {}
        assert total["dropped"] == 0
        assert_agreement("vpn1", read("ipsec0", node.fd), meter=Counters.of_meter(total))
        earlier = await meter.window(begun - 10, begun)
        assert earlier["shares"]["vpn1"]["to-vpc"]["packets"] == 0
    finally:
        meter.close()
        tunnel.close()


@pytest.mark.spec("ECMP-24")
async def test_a_tunnel_interface_made_anew_is_followed(node: Namespace) -> None:
    log = EventLog()
    meter = Meter([Tap("vpn1", f"/proc/{os.getpid()}/fd/{node.fd}", "ipsec0")], log)
    bound: asyncio.Queue[str] = asyncio.Queue()
    log.listen(lambda event: bound.put_nowait(event["type"]))
    try:
        await meter.load(SPEC.to_dict())
        assert (await meter.totals())["vpn1"]["bound"] is None
        for turn in range(1, 4):
            tunnel = Tunnel(node)
            assert await asyncio.wait_for(bound.get(), 2) == "meter.bound"
            _send(node, _packet(FLOWS[turn], Direction.TO_VPC))
            tunnel.receive(_packet(FLOWS[turn], Direction.TO_DC))
            total = (await meter.totals())["vpn1"]
            assert (total["out_packets"], total["in_packets"]) == (turn, turn)
            tunnel.close()
            assert await asyncio.wait_for(bound.get(), 2) == "meter.lost"
        assert (await meter.totals())["vpn1"]["bound"] is None
    finally:
        meter.close()


async def test_a_full_ring_is_owned_up_to(node: Namespace) -> None:
    tunnel, log = Tunnel(node), EventLog()
    meter = Meter([Tap("vpn1", f"/proc/{os.getpid()}/fd/{node.fd}", "ipsec0")], log)
    try:
        await meter.load(SPEC.to_dict())
        packet = _packet(FLOWS[0], Direction.TO_DC)
        for _ in range(80_000):  # no turn of the event loop: the ring fills
            tunnel.receive(packet)
        total = (await meter.totals())["vpn1"]
        assert total["dropped"] > 0
        assert total["in_packets"] + total["dropped"] == read("ipsec0", node.fd).in_packets == 80_000
    finally:
        meter.close()
        tunnel.close()


async def test_a_missing_namespace_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Meter([Tap("vpn1", str(tmp_path / "nowhere"), "ipsec0")], EventLog())
