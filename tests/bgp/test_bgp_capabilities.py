"""Negotiation: an extension is on only where both sides offer it, and the session says so."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from harness.bgp.capabilities import TABLE, UnknownCapability, name, negotiate
from harness.bgp.peer_config import PeerConfig
from harness.bgp.prefixes import Family
from harness.bgp.session import Session

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
BOTH = frozenset(Family)
FULL = PeerConfig(
    "full",
    4200000001,
    4200000002,
    IPv4Address("10.0.0.1"),
    families=BOTH,
    add_path_send=BOTH,
    add_path_receive=BOTH,
)


def agree(one: PeerConfig, other: PeerConfig) -> tuple[Session, Session]:
    return negotiate(one.open(), other.open()), negotiate(other.open(), one.open())


@pytest.mark.spec("BGP-19", "BGP-5", "BGP-10", "BGP-12")
def test_all_of_it() -> None:
    other = replace(FULL, local_asn=4200000002, peer_asn=4200000001, identifier=IPv4Address("10.0.0.2"), hold_time=30)
    ours, theirs = agree(FULL, other)
    assert ours.asn4 and ours.route_refresh and ours.extended_message
    assert ours.families == ours.add_path_send == ours.add_path_receive == BOTH
    assert (ours.peer_asn, theirs.peer_asn) == (4200000002, 4200000001)
    assert (ours.hold_time, ours.keepalive) == (30, 10.0)
    assert ours.ebgp and ours.max_length == 65535
    assert ours.peer_identifier == IPv4Address("10.0.0.2")


@pytest.mark.parametrize(
    ("without", "field"),
    [("asn4", "asn4"), ("route_refresh", "route_refresh"), ("extended_message", "extended_message")],
)
@pytest.mark.spec("BGP-19")
def test_what_one_side_lacks_is_off_for_both(without: str, field: str) -> None:
    changes: dict[str, Any] = {without: False}
    bare = replace(FULL, **changes)
    for session in (*agree(FULL, bare), *agree(bare, FULL)):
        assert getattr(session, field) is False


@pytest.mark.spec("BGP-19", "BGP-11")
def test_add_path_needs_a_sender_and_a_receiver() -> None:
    sender = replace(FULL, add_path_receive=frozenset())
    receiver = replace(FULL, add_path_send=frozenset(), families=frozenset({V4}), add_path_receive=frozenset({V4}))
    ours, theirs = agree(sender, receiver)
    assert (set(ours.add_path_send), set(ours.add_path_receive)) == ({V4}, set())
    assert (set(theirs.add_path_send), set(theirs.add_path_receive)) == (set(), {V4})
    assert ours.families == {V4}
    two_senders, _ = agree(sender, sender)
    assert not two_senders.add_path_send and not two_senders.add_path_receive


def test_an_open_without_multiprotocol_means_ipv4() -> None:
    silent = replace(FULL.open(), capabilities=())
    session = negotiate(FULL.open(), silent)
    assert session.families == {V4}
    assert (session.asn4, session.peer_asn) == (False, 23456)


@pytest.mark.parametrize(("ours", "theirs", "agreed"), [(90, 30, 30), (30, 90, 30), (0, 90, 0), (90, 0, 0)])
@pytest.mark.spec("BGP-15")
def test_the_smaller_hold_time_counts(ours: int, theirs: int, agreed: int) -> None:
    session, _ = agree(replace(FULL, hold_time=ours), replace(FULL, hold_time=theirs))
    assert (session.hold_time, session.keepalive) == (agreed, agreed / 3)


def test_a_capability_that_could_not_be_read_is_not_used() -> None:
    odd = replace(FULL.open(), capabilities=(UnknownCapability(2, b"x"), UnknownCapability(65, b"")))
    session = negotiate(FULL.open(), odd)
    assert not session.route_refresh and not session.asn4


def test_names() -> None:
    assert {name(code) for code in TABLE} == {row.name for row in TABLE.values()}
    assert name(75) == "capability 75"
