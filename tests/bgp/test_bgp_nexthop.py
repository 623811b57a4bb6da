"""Next-hop resolution on a made-up picture of the kernel."""

from __future__ import annotations

import ipaddress
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from harness.bgp.nexthop import Resolved, Resolver, on_link
from harness.net.fib import Way
from harness.net.rtnl import AddressInfo, Hop, LinkInfo, Protocol, RouteInfo, RouteKind

LINKS = {1: "lo", 2: "wan", 3: "ipsec0"}


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def link(index: int, *, up: bool = True, carrier: bool = True) -> LinkInfo:
    return LinkInfo(index, LINKS[index], up, carrier, up and carrier, 1500, "", "", None, None)


def route(
    prefix: str, *hops: Hop, metric: int = 0, protocol: int = Protocol.STATIC, kind: int = RouteKind.UNICAST
) -> RouteInfo:
    return RouteInfo(ip_network(prefix), hops, protocol, metric, 0, None, 254, kind, None, False)


def hop(index: int, gateway: str | None = None, *, onlink: bool = False) -> Hop:
    return Hop(None if gateway is None else ipaddress.ip_address(gateway), index, onlink=onlink)


ADDRESSES = [AddressInfo(2, ip_interface("198.51.100.1/24"), 0), AddressInfo(3, ip_interface("169.254.10.2/30"), 0)]
ROUTES = [
    route("198.51.100.0/24", hop(2), protocol=Protocol.KERNEL),
    route("169.254.10.0/30", hop(3), protocol=Protocol.KERNEL),
    route("203.0.113.191/32", hop(2, "192.0.2.172", onlink=True), metric=5),
    route("0.0.0.0/0", hop(2, "198.51.100.254")),
    route("10.0.0.0/8", hop(2, "198.51.100.9")),
    route("10.1.0.0/16", hop(3, "169.254.10.1"), protocol=Protocol.BGP),
    route("10.2.0.0/16", protocol=Protocol.STATIC, kind=RouteKind.BLACKHOLE),
    route("172.16.0.0/12", hop(2, "198.51.100.7"), hop(3, "169.254.10.1")),
    route("fd00::/64", hop(2), protocol=Protocol.KERNEL, metric=256),
]


def resolver(*, down: Any = (), **options: Any) -> Resolver:
    made = Resolver(protocol=Protocol.BGP, **options)
    made.load([link(i, carrier=i not in down) for i in LINKS], ADDRESSES, ROUTES)
    return made


@pytest.mark.parametrize(
    ("next_hop", "ways", "cost", "via"),
    [
        ("198.51.100.20", [("198.51.100.20", 2, False)], 0, "198.51.100.0/24"),
        ("169.254.10.1", [("169.254.10.1", 3, False)], 0, "169.254.10.0/30"),
        ("203.0.113.191", [("192.0.2.172", 2, True)], 5, "203.0.113.191/32"),
        # Over another protocol's route, never over one of BGP, though that is longer; a blackhole leads nowhere.
        ("10.1.2.3", [("198.51.100.9", 2, False)], 0, "10.0.0.0/8"),
        ("10.2.2.3", [("198.51.100.9", 2, False)], 0, "10.0.0.0/8"),
        ("172.16.0.1", [("198.51.100.7", 2, False), ("169.254.10.1", 3, False)], 0, "172.16.0.0/12"),
        ("fd00::7", [("fd00::7", 2, False)], 256, "fd00::/64"),
    ],
)
def test_resolution(next_hop: str, ways: list[tuple[str, int, bool]], cost: int, via: str) -> None:
    expected = tuple(Way(packed(gateway), index, onlink) for gateway, index, onlink in ways)
    assert resolver().resolve(packed(next_hop)) == Resolved(expected, cost, via)


@pytest.mark.spec("ECMP-24")
def test_the_default_route_reaches_no_next_hop_unless_asked_for() -> None:
    """A next hop inside a lost tunnel must not turn up on the internet."""
    lost = packed("169.254.10.1")
    assert resolver(down=[3]).resolve(lost) is None
    assert resolver().resolve(packed("8.8.8.8")) is None
    asked = resolver(down=[3], resolve_via_default=True).resolve(lost)
    assert asked is not None
    assert asked.via == "0.0.0.0/0"


def test_a_new_picture_tells_which_answers_changed() -> None:
    made = resolver()
    near, far, both = packed("198.51.100.20"), packed("169.254.10.1"), packed("172.16.0.1")
    for next_hop in (near, far, both):
        made.resolve(next_hop)
    assert made.over(3) == {far, both}
    changed = made.load([link(1), link(2), link(3, up=False)], ADDRESSES, ROUTES)
    assert changed == {far, both}
    assert made.resolve(far) is None
    left = made.resolve(both)
    assert left is not None
    assert left.ways == (Way(packed("198.51.100.7"), 2),)
    assert made.load([link(1), link(2), link(3, up=False)], ADDRESSES, ROUTES) == frozenset()
    assert made.load([link(1), link(2), link(3)], ADDRESSES, ROUTES) == {far, both}


def test_the_lowest_metric_stands_for_a_prefix() -> None:
    made = Resolver(protocol=Protocol.BGP)
    routes = [
        route("10.0.0.0/8", hop(2, "198.51.100.9"), metric=9),
        route("10.0.0.0/8", hop(3, "169.254.10.1"), metric=3),
    ]
    made.load([link(2), link(3)], ADDRESSES, routes)
    assert made.cost(packed("10.0.0.1")) == 3
    # The better one cannot be used: the other takes over.
    made.load([link(2), link(3, carrier=False)], ADDRESSES, routes)
    assert made.cost(packed("10.0.0.1")) == 9


def test_own_addresses_and_exact_routes() -> None:
    made = resolver()
    assert made.is_own(packed("169.254.10.2"))
    assert not made.is_own(packed("169.254.10.1"))
    assert made.has_route(bytes((8, 10)), 4)
    assert not made.has_route(bytes((16, 10, 1)), 4)
    assert not made.has_route(bytes((8, 11)), 4)
    assert made.interface(3) == "ipsec0"
    assert made.interface(9) == "if9"


@pytest.mark.spec("BGP-4")
def test_the_default_identifier_is_the_highest_loopback_address_else_the_highest() -> None:
    made = Resolver(protocol=Protocol.BGP)
    assert made.default_identifier() is None
    made.load([link(i) for i in LINKS], ADDRESSES, [])
    assert str(made.default_identifier()) == "198.51.100.1"
    loopbacks = [AddressInfo(1, ip_interface(text), 0) for text in ("127.0.0.1/8", "10.0.0.1/32", "10.0.0.9/32")]
    made.load([link(i) for i in LINKS], [*ADDRESSES, *loopbacks], [])
    assert str(made.default_identifier()) == "10.0.0.9"


GLOBAL, LOCAL = ipaddress.ip_address("2001:db8::1").packed, ipaddress.ip_address("fe80::1").packed


@pytest.mark.parametrize(
    ("received", "link", "resolved"),
    [
        (GLOBAL, 7, GLOBAL),
        (GLOBAL + LOCAL, 7, GLOBAL),
        (LOCAL, 7, LOCAL + b"\0\0\0\7"),
        (LOCAL + LOCAL, 7, LOCAL + b"\0\0\0\7"),
        (bytes(16) + LOCAL, 7, LOCAL + b"\0\0\0\7"),
        (LOCAL, 0, LOCAL),
    ],
    ids=["global", "both", "link-local", "twice", "unspecified and link-local", "no link"],
)
def test_a_received_next_hop_as_it_is_resolved(received: bytes, link: int, resolved: bytes) -> None:
    """RFC 2545 3: 16 or 32 octets; the link-local address means something only together with its link."""
    assert on_link(received, link) == resolved


def test_subnets_count_whatever_the_state_of_their_link() -> None:
    """RFC 4271 6.3 asks for a common subnet; that a link is down now makes a next hop unresolvable, not wrong."""
    made = resolver(down=(2, 3))
    assert [made.shares_subnet(packed(a)) for a in ("198.51.100.77", "169.254.10.1", "192.0.2.1", "fd00::1")] == [
        True,
        True,
        False,
        False,
    ]
