"""A speaker of 2-octet ASNs whose neighbour has a longer one (RFC 6793): what the OPEN says, and what the AS path says."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from harness.bgp.as_path import AS_TRANS
from harness.bgp.errors import ProtocolError
from harness.bgp.messages import Open
from harness.bgp.peer_config import PeerConfig, check_open
from harness.bgp.prefixes import Family

LONG = 4200000002


def config(peer_asn: int, *, asn4: bool) -> PeerConfig:
    return PeerConfig(
        name="peer",
        local_asn=65001,
        peer_asn=peer_asn,
        identifier=IPv4Address("1.1.1.1"),
        families=frozenset({Family.IPV4_UNICAST}),
        asn4=asn4,
    )


def opening(asn: int) -> Open:
    """What the neighbour sends, with and without its capability for long ASNs."""
    theirs = config(65001, asn4=True)
    return Open.of(asn, 90, IPv4Address("2.2.2.2"), theirs.capabilities())


@pytest.mark.spec("BGP-5")
def test_a_long_asn_is_as_trans_to_a_speaker_of_short_ones() -> None:
    check_open(opening(LONG), config(LONG, asn4=False))


@pytest.mark.parametrize(
    ("sent", "configured", "asn4"), [(65003, LONG, False), (AS_TRANS, 65002, False), (65003, 65002, True)]
)
def test_another_asn_is_refused(sent: int, configured: int, asn4: bool) -> None:
    with pytest.raises(ProtocolError, match=f"AS {configured} is configured"):
        check_open(opening(sent), config(configured, asn4=asn4))
