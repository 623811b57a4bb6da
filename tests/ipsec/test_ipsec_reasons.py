"""Lines of charon's log and the reasons they give. The lines are as strongSwan 5.9.8 wrote them."""

from __future__ import annotations

import pytest

from harness.ipsec.reasons import RULES, charon_ended, reason_in

LINES = [
    ("12[IKE] received AUTHENTICATION_FAILED notify error", "AUTHENTICATION_FAILED", 1, True),
    (
        "10[IKE] tried 1 shared key for '203.0.113.191' - '198.51.100.1', but MAC mismatched",
        "AUTHENTICATION_FAILED",
        1,
        True,
    ),
    ("10[IKE] no shared key found for '203.0.113.191' - '198.51.100.1'", "AUTHENTICATION_FAILED", 1, True),
    ("10[CFG] no matching peer config found", "AUTHENTICATION_FAILED", 1, True),
    (
        "13[CFG] constraint check failed: identity '203.0.113.99' required, not matched by '203.0.113.191'",
        "AUTHENTICATION_FAILED",
        1,
        True,
    ),
    ("09[IKE] received NO_PROPOSAL_CHOSEN notify error", "NO_PROPOSAL_CHOSEN", 1, True),
    (
        "09[IKE] no IKE config found for 198.51.100.1...203.0.113.191, sending NO_PROPOSAL_CHOSEN",
        "NO_PROPOSAL_CHOSEN",
        1,
        True,
    ),
    ("09[IKE] received proposals unacceptable", "NO_PROPOSAL_CHOSEN", 1, True),
    ("11[IKE] received NO_PROPOSAL_CHOSEN notify, no CHILD_SA built", "NO_PROPOSAL_CHOSEN", 2, True),
    ("11[IKE] no acceptable proposal found", "NO_PROPOSAL_CHOSEN", 2, True),
    ("11[IKE] received TS_UNACCEPTABLE notify, no CHILD_SA built", "TS_UNACCEPTABLE", 2, True),
    ("11[IKE] received INTERNAL_ADDRESS_FAILURE notify error", "INTERNAL_ADDRESS_FAILURE", 1, True),
    ("07[IKE] giving up after 3 retransmits", "PEER_UNREACHABLE", 1, True),
    ("04[NET] error writing to socket: Network is unreachable", "NO_ROUTE", 1, True),
    ("14[IKE] unable to install IPsec policies (SPD) in kernel", "DATA_PLANE", 2, True),
    ("14[IKE] unable to install inbound and outbound IPsec SA (SAD) in kernel", "DATA_PLANE", 2, True),
    ("00[NET] no socket implementation registered, receiving failed", "PORT_IN_USE", 0, True),
    ("00[LIB] failed to open /dev/net/tun: Permission denied", "NO_TUN", 0, True),
    ("08[IKE] received DELETE for IKE_SA IPsec-VPN-1[1]", "DELETED_BY_PEER", 1, False),
    ("08[IKE] received DELETE for ESP CHILD_SA with SPI c5a1b2d3", "DELETED_BY_PEER", 1, False),
    ("08[IKE] sending DELETE for IKE_SA IPsec-VPN-1[1]", "DELETED", 1, False),
    (
        "08[IKE] destroying duplicate IKE_SA for peer '203.0.113.191', received INITIAL_CONTACT",
        "REPLACED",
        1,
        False,
    ),
]


@pytest.mark.spec("ECMP-10", "ECMP-31")
@pytest.mark.parametrize(("line", "code", "phase", "failure"), LINES)
def test_line_gives_reason(line: str, code: str, phase: int, failure: bool) -> None:
    reason = reason_in(line)
    assert reason is not None
    assert (reason.code, reason.phase, reason.failure) == (code, phase, failure)
    assert reason.text == line.partition("] ")[2]
    assert reason.meaning
    assert bool(reason.remedy) is failure


def test_every_rule_has_a_line() -> None:
    """A rule that no known line reaches is dead, or hidden behind an earlier one."""
    reached = {next(i for i, rule in enumerate(RULES) if rule.pattern.search(line)) for line, *_ in LINES}
    assert reached == set(range(len(RULES)))


@pytest.mark.parametrize(
    "line",
    [
        "05[IKE] initiating IKE_SA IPsec-VPN-1[1] to 203.0.113.191",
        "05[ENC] parsed IKE_AUTH response 1 [ IDr AUTH SA TSi TSr ]",
        "05[IKE] retransmit 1 of request with message ID 0",
        "05[IKE] authentication of '198.51.100.1' with pre-shared key successful",
        "05[IKE] sending DPD request",
        "05[IKE] deleting IKE_SA IPsec-VPN-1[1] between 203.0.113.191[203.0.113.191]...198.51.100.1[198.51.100.1]",
        "",
    ],
)
def test_line_gives_none(line: str) -> None:
    assert reason_in(line) is None


def test_the_end_of_charon() -> None:
    assert charon_ended(-9).text == "charon killed by signal 9"
    assert charon_ended(2).text == "charon exited with status 2"
