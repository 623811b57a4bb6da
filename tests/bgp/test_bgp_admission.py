"""Admission: what must not be used is refused with its reason, and stays visible."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address

import pytest

from harness.bgp.admission import Admission, Receiver
from harness.bgp.attributes import Attributes
from harness.bgp.config import Rule
from harness.bgp.decision import Preferences
from harness.bgp.inbound import Inbound
from harness.bgp.paths import Kind, Source
from harness.bgp.policy import Policy
from harness.bgp.prefixes import Family, text, with_path_id
from harness.bgp.rib import AdjRibIn, Table
from tests.bgp.routes import attributes, prefix, source

NET = prefix("192.168.0.0/24")
OWN = ipaddress.ip_address("10.0.0.1").packed
HOP = ipaddress.ip_address("10.0.0.2").packed
RECEIVER = Receiver(frozenset({64500, 64510}), int(IPv4Address("9.9.9.9")))
EBGP = source(asn=65001)
IBGP = source(kind=Kind.IBGP, asn=64500)


def admission(by: Source = EBGP, receiver: Receiver = RECEIVER, *rules: Rule) -> Admission:
    return Admission(by, receiver, Policy(rules, Family.IPV4_UNICAST, 64500), lambda address: address == OWN)


def refusal(by: Source, attrs: Attributes, next_hop: bytes = HOP, receiver: Receiver = RECEIVER) -> str | None:
    return admission(by, receiver).path(NET, 0, attrs, next_hop).rejected


@pytest.mark.spec("BGP-11", "VBR-11")
def test_loops() -> None:
    assert refusal(EBGP, attributes(65001, 64500)) == "AS path loop: own AS 64500 is in the AS path (RFC 4271 9.1.2)"
    assert "64510 is in the AS path 2 times" in (refusal(EBGP, attributes(65001, 64510, 64510)) or "")
    tolerant = Receiver(RECEIVER.own_asns, RECEIVER.router_id, allow_as_in=1)
    assert refusal(EBGP, attributes(65001, 64500), receiver=tolerant) is None
    assert "2 times" in (refusal(EBGP, attributes(65001, 64500, 64500), receiver=tolerant) or "")
    assert refusal(IBGP, attributes(65001, originator_id=IPv4Address("9.9.9.9"))) == (
        "ORIGINATOR_ID is this speaker's BGP Identifier (RFC 4456 8)"
    )


def test_an_external_path_begins_with_its_neighbour() -> None:
    assert (
        refusal(EBGP, attributes(65002))
        == "the first AS of the path is 65002, not the neighbour's 65001 (RFC 4271 6.3)"
    )
    assert refusal(IBGP, attributes(65002)) is None
    lax = Receiver(RECEIVER.own_asns, RECEIVER.router_id, enforce_first_as=False)
    assert refusal(EBGP, attributes(65002), receiver=lax) is None


def test_a_next_hop_must_not_be_our_own() -> None:
    assert refusal(EBGP, attributes(65001), OWN) == "next hop is an address of this node (RFC 4271 5.1.3)"


def test_a_refused_route_is_seen_as_it_came() -> None:
    deny = Rule(action="deny", prefixes=("192.168.0.0/24",))
    asked = admission(EBGP, RECEIVER, deny)
    came = attributes(65001)
    refused = asked.path(NET, 0, came, HOP)
    assert refused.rejected == "import policy, term 1"
    assert refused.attributes is came
    assert asked.path(prefix("10.0.0.0/8"), 0, came, HOP).rejected is None


def test_the_same_route_is_the_same_path() -> None:
    asked = admission(EBGP, RECEIVER, Rule(action="permit", local_pref=200))
    one = asked.path(NET, 0, attributes(65001), HOP)
    assert asked.path(NET, 0, attributes(65001), HOP) is one
    assert one.attributes.local_pref == 200
    assert one.received.local_pref is None
    assert asked.path(NET, 1, attributes(65001), HOP) is not one
    # A link-local next hop beside the global one is not kept (RFC 2545 3).
    assert asked.path(NET, 0, attributes(65001), bytes(32)).next_hop == bytes(16)


@pytest.mark.parametrize(("hop", "taken"), [("10.0.0.1", True), ("10.0.0.77", True), ("192.0.2.9", False)])
def test_a_neighbour_one_hop_away_names_itself_or_somebody_on_a_link(hop: str, taken: bool) -> None:
    """RFC 4271 6.3: NEXT_HOP is the sender's address, or shares a subnet with the receiver; else the route is ignored."""
    near = {ipaddress.ip_address(address).packed for address in ("10.0.0.77",)}
    policy = Policy((), Family.IPV4_UNICAST, 64500)
    direct = Admission(EBGP, RECEIVER, policy, lambda _: False, 2, near.__contains__)
    packed = ipaddress.ip_address(hop).packed
    rejected = direct.path(NET, 0, attributes(65001), packed).rejected
    assert rejected == (
        None if taken else f"next hop {hop} is neither the neighbour nor in a subnet of this node (RFC 4271 6.3)"
    )
    behind_routers = Admission(EBGP, RECEIVER, policy, lambda _: False, 0)
    assert behind_routers.path(NET, 0, attributes(65001), packed).rejected is None


@pytest.mark.parametrize("add_path", [False, True], ids=["plain", "ADD-PATH"])
@pytest.mark.parametrize(
    ("family", "hop", "bad", "good"),
    [
        (Family.IPV4_UNICAST, HOP, ("224.0.0.0/4", "239.1.0.0/16"), ("0.0.0.0/0", "223.255.255.0/24", "10.0.0.0/8")),
        (Family.IPV6_UNICAST, bytes(15) + b"\2", ("ff02::/16",), ("::/0", "fe00::/9", "2001:db8::/32")),
    ],
    ids=["ipv4", "ipv6"],
)
def test_multicast_prefixes_among_unicast_ones_are_ignored(
    family: Family, hop: bytes, bad: tuple[str, ...], good: tuple[str, ...], *, add_path: bool
) -> None:
    """RFC 4271 6.3: logged and ignored, the others taken; a soft clear changes nothing."""
    table = Table(family, Preferences(), lambda _: 0)
    inbound = Inbound(AdjRibIn(table, add_path=add_path), Admission(EBGP, RECEIVER, Policy((), family, 64500), no))
    slices = [(with_path_id(7, s) if add_path else s) for s in map(prefix, (*good, *bad))]
    inbound.announce(slices, attributes(65001), hop)
    for _ in range(2):
        refused = {text(nlri, family, add_path) for nlri, path in inbound.rib.routes.items() if path.rejected}
        assert refused == {f"{p}#7" if add_path else p for p in bad}
        assert (inbound.accepted, sum(inbound.refusals.values())) == (len(good), len(bad))
        for _ in inbound.again():
            pass
    inbound.withdraw(slices)
    assert (len(inbound.rib), inbound.accepted) == (0, 0)


def no(_address: bytes) -> bool:
    return False
