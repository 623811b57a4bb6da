"""What ``vbrlab up FILE --check`` waits for: the sessions that both ends have, and pings from whoever has one."""

from __future__ import annotations

import pytest

from harness.cloud.document import read
from harness.cloud.document_kinds import KINDS
from harness.plan import Plan
from harness.up_document import at_data_centres, expected_sessions, ping_pairs

TWO_CIRCUITS = """
vbr:
  groups: [{name: idc, peer_asn: 65010}]
  peers: [{group: idc, ip: 10.1.1.2}]
  circuits: [{name: circuit-1}, {name: circuit-2}]
"""


def plan(text: str) -> Plan:
    return read(text, KINDS).plan()


@pytest.mark.spec("VBR-1")
def test_a_circuit_without_a_peer_is_not_waited_for() -> None:
    expected = {("vbr", "10.1.1.2"), ("vbr", "vpc"), ("vpc", "vbr"), ("dc1", "circuit-1")}
    assert expected_sessions(plan(TWO_CIRCUITS)) == expected
    assert list(ping_pairs(plan(TWO_CIRCUITS))) == [("dc1-client0", "172.16.0.10")]


def test_one_of_two_circuits_to_one_data_centre_may_wait() -> None:
    one_centre = TWO_CIRCUITS.replace("{name: circuit-2}", "{name: circuit-2, data_centre: dc1}")
    sessions = expected_sessions(plan(one_centre))
    assert ("dc1", "circuit-1") in sessions
    assert ("dc1", "circuit-2") not in sessions


def test_a_daemon_alone_is_for_the_data_centres() -> None:
    assert at_data_centres(plan(TWO_CIRCUITS), ["frr", "dc2=bird"]) == ["dc1=frr", "dc2=frr", "dc2=bird"]
