"""The netlink encoders against pyroute2's parser, which is somebody else's reading of the same headers."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from harness.net import netlink, records, rtnl
from harness.net.netlink import Flag, Frame, NetlinkError, Request, frames
from harness.net.requests import Rtm
from harness.net.route_encoder import RouteEncoder

few = settings(max_examples=40, deadline=None)
addresses4 = st.ip_addresses(v=4)
addresses6 = st.ip_addresses(v=6)
any_address = st.one_of(addresses4, addresses6)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=15)
indexes = st.integers(1, 2**31 - 1)
macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
nexthop_ids = st.integers(1, 2**32 - 1)


@st.composite
def networks(draw: st.DrawFn) -> rtnl.Network:
    value = draw(any_address)
    return ipaddress.ip_network((value, draw(st.integers(0, value.max_prefixlen))), strict=False)


def parsed(message_class: type, request: Request) -> Any:
    """What pyroute2 makes of the message."""
    message = message_class(request.message(7))
    message.decode()
    assert message["header"]["type"] == request.type
    assert message["header"]["length"] == 16 + len(request.body)
    assert message["header"]["flags"] & Flag.REQUEST
    return message


@few
@given(names, names, indexes, indexes, macs, macs, st.integers(68, 65535))
def test_veth(name: str, peer: str, ifindex: int, peer_ifindex: int, mac: str, peer_mac: str, mtu: int) -> None:
    message = parsed(
        ifinfmsg,
        rtnl.veth(
            name,
            peer,
            99,
            ifindex=ifindex,
            peer_ifindex=peer_ifindex,
            mac=mac,
            peer_mac=peer_mac,
            mtu=mtu,
            peer_mtu=mtu,
        ),
    )
    assert (message["index"], message.get("ifname"), message.get("address")) == (ifindex, name, mac)
    assert message.get("mtu") == mtu
    info = message.get("linkinfo")
    assert info.get("kind") == "veth"
    end = info.get("data").get("VETH_INFO_PEER")
    assert (end["index"], end.get("ifname"), end.get("address")) == (peer_ifindex, peer, peer_mac)
    assert (end.get("net_ns_fd"), end["flags"]) == (99, 0)


@few
@given(indexes, st.one_of(st.none(), st.booleans()), st.integers(0, 2**31), macs, names)
def test_link_set(ifindex: int, up: bool | None, master: int, mac: str, name: str) -> None:
    message = parsed(ifinfmsg, rtnl.link_set(ifindex, up=up, master=master, mac=mac, name=name, queue=5000))
    assert message.get("txqlen") == 5000
    assert (message["index"], message.get("master"), message.get("address")) == (ifindex, master, mac)
    assert message.get("ifname") == name
    assert (message["flags"] & 1, message["change"]) == (int(bool(up)), 0 if up is None else 1)


@few
@given(any_address, st.data(), indexes)
def test_address(value: rtnl.Address, data: st.DataObject, ifindex: int) -> None:
    length = data.draw(st.integers(0, value.max_prefixlen))
    interface = ipaddress.ip_interface((value, length))
    message = parsed(ifaddrmsg, rtnl.address(ifindex, interface))
    assert (message["index"], message["prefixlen"]) == (ifindex, length)
    assert ipaddress.ip_address(message.get("local")) == value
    if value.version == 4:
        expected = str(interface.network.broadcast_address) if length < 31 else None
        assert message.get("broadcast") == expected


@few
@given(networks(), st.data(), indexes, st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1), st.booleans())
def test_route(prefix: rtnl.Network, data: st.DataObject, oif: int, metric: int, table: int, onlink: bool) -> None:
    gateway = data.draw(addresses4 if prefix.version == 4 else addresses6)
    request = rtnl.route(prefix, gateway=gateway, oif=oif, metric=metric, table=table, onlink=onlink, protocol=186)
    message = parsed(rtmsg, request)
    assert ipaddress.ip_network((message.get("dst"), message["dst_len"])) == prefix
    assert (ipaddress.ip_address(message.get("gateway")), message.get("oif")) == (gateway, oif)
    assert message.get("priority") == metric
    assert (message.get("table") or message["table"]) == table
    assert (message["proto"], bool(message["flags"] & 4)) == (186, onlink)


@few
@given(networks(), st.lists(st.tuples(indexes, st.integers(1, 256)), min_size=2, max_size=5), st.data())
def test_multipath_round_trip(prefix: rtnl.Network, ways: list[tuple[int, int]], data: st.DataObject) -> None:
    hops = tuple(
        rtnl.Hop(data.draw(addresses4 if prefix.version == 4 else addresses6), ifindex, weight)
        for ifindex, weight in ways
    )
    request = rtnl.route(prefix, hops=hops)
    message = parsed(rtmsg, request)  # held: its attributes refer to it weakly
    theirs = message.get("multipath")
    assert [(hop["oif"], hop["hops"] + 1, ipaddress.ip_address(hop.get("gateway"))) for hop in theirs] == [
        (hop.ifindex, hop.weight, hop.gateway) for hop in hops
    ]
    ours = records.route(request.body)
    assert (ours.prefix, ours.gateways) == (prefix, hops)


@few
@given(networks(), nexthop_ids, st.integers(0, 2**32 - 1), st.sampled_from([254, 100, 1000]))
def test_route_by_nexthop_id(prefix: rtnl.Network, nhid: int, metric: int, table: int) -> None:
    """Both ways to say the same route say the same octets (as far as the kernel reads them)."""
    family = socket.AF_INET if prefix.version == 4 else socket.AF_INET6
    encoder = RouteEncoder(family, metric=metric, table=table)
    packed = prefix.network_address.packed
    length = bytes((prefix.prefixlen,))
    body = encoder(length + packed, nhid)
    assert body == encoder(length + packed[: (prefix.prefixlen + 7) // 8], nhid)
    ours = records.route(body)
    assert (ours.prefix, ours.nhid, ours.metric, ours.table, ours.protocol) == (prefix, nhid, metric, table, 186)
    theirs = parsed(rtmsg, Request("", Rtm.NEWROUTE, 0, body))
    assert ipaddress.ip_network((theirs.get("dst"), theirs["dst_len"])) == prefix
    gone = parsed(rtmsg, Request("", Rtm.DELROUTE, 0, encoder(length + packed, None)))
    assert (ipaddress.ip_address(gone.get("dst")), gone.get("priority")) == (prefix.network_address, metric)


@few
@given(st.lists(networks(), min_size=1, max_size=20), nexthop_ids, st.integers(1, 2**31))
def test_many_routes_are_the_messages_of_each(prefixes: list[rtnl.Network], nhid: int, first: int) -> None:
    """Filled in as columns they are what one by one would be; only the last wants an answer."""
    prefixes = [p for p in prefixes if p.version == prefixes[0].version]
    encoder = RouteEncoder(socket.AF_INET if prefixes[0].version == 4 else socket.AF_INET6, metric=20)
    wires = [bytes((p.prefixlen,)) + p.network_address.packed for p in prefixes]
    for number in (nhid, None):
        found = list(frames(bytes(encoder.messages(wires, number, first))))
        assert [frame.sequence for frame in found] == list(range(first, first + len(wires)))
        assert [bytes(frame.body) for frame in found] == [encoder(wire, number) for wire in wires]
        assert [bool(frame.flags & Flag.ACK) for frame in found] == [*[False] * (len(wires) - 1), True]
        assert {frame.type for frame in found} == {Rtm.DELROUTE if number is None else Rtm.NEWROUTE}


@few
@given(nexthop_ids, any_address, indexes, st.booleans())
def test_nexthop(nhid: int, gateway: rtnl.Address, oif: int, onlink: bool) -> None:
    request = rtnl.nexthop(nhid, gateway=gateway, oif=oif, onlink=onlink)
    assert request.body[0] == (socket.AF_INET if gateway.version == 4 else socket.AF_INET6)
    ours = records.nexthop(request.body)
    assert (ours.id, ours.gateway, ours.ifindex, ours.onlink, ours.protocol) == (nhid, gateway, oif, onlink, 186)


@few
@given(
    nexthop_ids,
    st.lists(st.tuples(nexthop_ids, st.integers(1, 256)), min_size=1, max_size=9),
    st.one_of(st.none(), st.builds(rtnl.Resilient, st.integers(1, 65535), st.integers(0, 900), st.integers(0, 900))),
)
def test_nexthop_group(nhid: int, members: list[tuple[int, int]], resilient: rtnl.Resilient | None) -> None:
    ours = records.nexthop(rtnl.nexthop_group(nhid, members, resilient=resilient).body)
    assert (ours.id, ours.group, ours.resilient) == (nhid, tuple(members), resilient)


def test_resilient_timers_are_clock_ticks() -> None:
    """The kernel counts them in hundredths of a second (clock_t)."""
    body = rtnl.nexthop_group(1, [(2, 1)], resilient=rtnl.Resilient(96, 0.5, 2.0)).body
    inner = netlink.attributes(netlink.attributes(body, 8)[12])
    assert (inner[1], inner[2], inner[3]) == (
        struct.pack("=H", 96),
        struct.pack("=I", 50),
        struct.pack("=I", 200),
    )


@few
@given(any_address, macs, indexes)
def test_neighbour(value: rtnl.Address, mac: str, ifindex: int) -> None:
    request = rtnl.neighbour(ifindex, value, mac)
    message = parsed(ndmsg, request)
    assert ipaddress.ip_address(message.get("dst")) == value
    assert (message.get("lladdr"), message["ifindex"], message["state"]) == (mac, ifindex, 0x80)
    assert records.neighbour(request.body) == rtnl.NeighbourInfo(ifindex, value, mac, 0x80)


@few
@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40)), max_size=12, unique_by=lambda pair: pair[0]))
def test_attributes_round_trip(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(netlink.attribute(kind, payload) for kind, payload in pairs)
    assert len(data) % 4 == 0
    assert netlink.attributes(data) == dict(pairs)


@few
@given(st.lists(st.tuples(st.integers(16, 200), st.binary(max_size=50)), max_size=10))
def test_frames_split_a_datagram(messages: list[tuple[int, bytes]]) -> None:
    data = b""
    for number, (kind, body) in enumerate(messages):
        data += netlink.HEADER.pack(16 + len(body), kind, 0, number, 0) + body + b"\0" * (-len(body) % 4)
    assert [(frame.type, frame.sequence, frame.body) for frame in netlink.frames(data)] == [
        (kind, number, body) for number, (kind, body) in enumerate(messages)
    ]


@few
@given(st.binary(max_size=200))
def test_frames_never_read_past_the_end(data: bytes) -> None:
    try:
        found = list(netlink.frames(data))
    except ValueError:
        return
    assert sum(16 + len(frame.body) for frame in found) <= len(data)


def test_a_frame_longer_than_its_datagram_is_refused() -> None:
    with pytest.raises(ValueError, match="netlink message of 99 octets"):
        list(netlink.frames(netlink.HEADER.pack(99, 16, 0, 1, 0)))


def test_acknowledgement_carries_the_kernels_remark() -> None:
    body = struct.pack("=i", -17) + bytes(16) + netlink.text(1, "Device already there")
    assert netlink.acknowledgement(Frame(2, Flag.ACK_TLVS, 1, body)) == (17, "Device already there")
    assert netlink.acknowledgement(Frame(2, 0, 1, struct.pack("=i", 0) + bytes(16))) == (0, "")


def test_error_names_what_was_asked() -> None:
    error = NetlinkError("add route 10.0.0.0/8 via 192.0.2.1", 101, "Nexthop has invalid gateway")
    assert str(error) == "add route 10.0.0.0/8 via 192.0.2.1: Network is unreachable (Nexthop has invalid gateway)"
    assert error.errno == 101
