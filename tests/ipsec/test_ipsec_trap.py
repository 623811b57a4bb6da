"""What charon's log says of a packet that met its trap, read without a charon."""

from __future__ import annotations

import socket

import pytest

from harness.ipsec.strongswan import acquire_lifetime
from harness.ipsec.trap import Trap, in_words
from tests.ipsec.ends import tunnel


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        (
            "169.254.10.1/32[tcp/40000]",
            "169.254.10.2/32[tcp/179]",
            "TCP 169.254.10.1:40000 > 169.254.10.2:179",
        ),
        ("169.254.10.1/32[tcp/40000]", "169.254.10.2/32[tcp/ssh]", "TCP 169.254.10.1:40000 > 169.254.10.2:22"),
        ("169.254.10.1/32[6/40000]", "169.254.10.2/32[6/179]", "TCP 169.254.10.1:40000 > 169.254.10.2:179"),
        ("10.0.0.1/32[udp/53]", "10.0.1.1/32[udp/4000]", "UDP 10.0.0.1:53 > 10.0.1.1:4000"),
        ("10.0.0.1/32[icmp/8]", "10.0.1.1/32[icmp]", "ICMP 10.0.0.1 > 10.0.1.1"),
        ("10.0.0.1/32[icmp/8(0)]", "10.0.1.1/32[icmp]", "ICMP 10.0.0.1 > 10.0.1.1"),
        ("10.0.0.1/32[ospf]", "10.0.1.1/32[ospf]", "ospf 10.0.0.1 > 10.0.1.1"),
        ("0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/0 > 0.0.0.0/0"),
    ],
)
def test_a_packet_in_words(monkeypatch: pytest.MonkeyPatch, source: str, destination: str, words: str) -> None:
    # A bare Debian has no /etc/services; there charon writes numbers.
    monkeypatch.setattr(socket, "getservbyname", lambda *service: {("ssh", "tcp"): 22}[service])
    assert in_words(source, destination) == words


def test_of_the_log_only_acquires_are_taken() -> None:
    heard: list[str] = []
    trap = Trap.__new__(Trap)
    trap._entered = heard.append
    for line in (
        "09[KNL] creating acquire job for policy 169.254.10.1/32[tcp/40000] === 169.254.10.2/32[tcp/179] with reqid {1}",
        "10[CFG] ignoring acquire for reqid 1, connection attempt pending",
        "10[IKE] initiating IKE_SA vpn1[1] to 198.51.100.1",
    ):
        trap.heard(line)
    assert heard == ["TCP 169.254.10.1:40000 > 169.254.10.2:179"]


def test_a_failure_is_tried_again_as_soon_as_it_is_one() -> None:
    """The kernel tells of the next packet when the last retransmission of the attempt before has gone unanswered."""
    fast = tunnel(retransmit_timeout=0.3, retransmit_tries=3)
    assert 1.2 < acquire_lifetime(fast) < 165
    assert acquire_lifetime(tunnel(retransmit_timeout=4.0, retransmit_tries=5)) >= 24
