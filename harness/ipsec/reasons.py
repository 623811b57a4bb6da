"""What charon's log says of a negotiation, in the words of IKEv2 (RFC 7296 3.10.1) and of whoever has to repair it.

A table from log lines to reasons. charon's control socket says only "establishing CHILD_SA failed"; the cause is in the log
alone, and on the responder's side nowhere else at all. A line that is not here is no reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Phase = Literal[0, 1, 2]


@dataclass(frozen=True, slots=True)
class Reason:
    """``code`` is a notify's name where there was one; ``text`` is charon's line; ``phase`` 1 is the IKE_SA, 2 the CHILD_SA, 0
    the machine beneath both. ``failure`` is False for an end that somebody asked for."""

    code: str
    text: str
    phase: Phase
    meaning: str
    remedy: str
    failure: bool = True

    def as_fields(self) -> dict[str, object]:
        return {
            "code": self.code,
            "text": self.text,
            "phase": self.phase,
            "meaning": self.meaning,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    code: str  # may name a group of the pattern: "\1"
    phase: Phase
    meaning: str
    remedy: str
    failure: bool = True


def _rule(pattern: str, code: str, phase: Phase, meaning: str, remedy: str, *, failure: bool = True) -> _Rule:
    return _Rule(re.compile(pattern), code, phase, meaning, remedy, failure)


_SAME_KEY = "set the same pre-shared key on both sides, and each side's identity as the other expects it"
_SAME_IKE = "give both sides the same IKE encryption, integrity, PRF and DH group, and configure the connection on both"
_SAME_ESP = "give both sides the same ESP encryption, integrity and PFS group"
_LOOK_AT_PATH = "look at the links and routes between the two addresses, and whether the peer runs"

RULES = (
    _rule(
        r"received (AUTHENTICATION_FAILED) notify",
        r"\1",
        1,
        "the peer does not accept this side's key or identity",
        _SAME_KEY,
    ),
    _rule(
        r"tried \d+ shared keys? for .* but MAC mismatched",
        "AUTHENTICATION_FAILED",
        1,
        "the peer's key is not this side's",
        _SAME_KEY,
    ),
    _rule(
        r"no shared key found for",
        "AUTHENTICATION_FAILED",
        1,
        "this side has no key for that pair of identities",
        "set the pre-shared key of the connection",
    ),
    _rule(
        r"no matching peer config found|no alternative config found",
        "AUTHENTICATION_FAILED",
        1,
        "no connection of this side fits the identities the peer gives",
        _SAME_KEY,
    ),
    _rule(
        r"constraint check failed: identity",
        "AUTHENTICATION_FAILED",
        1,
        "the peer's identity is not the one expected",
        _SAME_KEY,
    ),
    _rule(
        r"no IKE config found for",
        "NO_PROPOSAL_CHOSEN",
        1,
        "no connection is configured here for the peer that asks",
        "configure the connection on this side, with the peer's address",
    ),
    _rule(
        r"received (NO_PROPOSAL_CHOSEN) notify, no CHILD_SA built",
        r"\1",
        2,
        "the peer accepts none of the ESP proposals",
        _SAME_ESP,
    ),
    _rule(
        r"received (NO_PROPOSAL_CHOSEN) notify",
        r"\1",
        1,
        "the peer accepts none of the IKE proposals, or has no such connection",
        _SAME_IKE,
    ),
    _rule(
        r"no acceptable proposal found",
        "NO_PROPOSAL_CHOSEN",
        2,
        "this side accepts none of the peer's ESP proposals",
        _SAME_ESP,
    ),
    _rule(
        r"received proposals unacceptable|remote host proposed no acceptable|no matching proposal found",
        "NO_PROPOSAL_CHOSEN",
        1,
        "this side accepts none of the peer's IKE proposals",
        _SAME_IKE,
    ),
    _rule(
        r"giving up after \d+ retransmits",
        "PEER_UNREACHABLE",
        1,
        "the peer does not answer",
        _LOOK_AT_PATH,
    ),
    _rule(
        r"error writing to socket: (?:Network is unreachable|No route to host)",
        "NO_ROUTE",
        1,
        "this side has no route to the peer",
        _LOOK_AT_PATH,
    ),
    _rule(
        r"unable to install IPsec policies|unable to install (?:inbound|outbound|inbound and outbound) IPsec SA",
        "DATA_PLANE",
        2,
        "the keys were agreed but could not be installed",
        "see charon's log; `vbrlab doctor` shows what the kernel offers",
    ),
    _rule(
        r"no socket implementation registered",
        "PORT_IN_USE",
        0,
        "UDP 500 or 4500 of this node is taken",
        "end the other IKE daemon of the node",
    ),
    _rule(
        r"failed to open /dev/net/tun|failed to configure TUN device|failed to create TUN device",
        "NO_TUN",
        0,
        "charon could not make its TUN device",
        "give the user access to /dev/net/tun; `vbrlab doctor` shows what is missing",
    ),
    _rule(
        r"received (\w+) notify error",
        r"\1",
        1,
        "the peer refused",
        "see the peer's log",
    ),
    _rule(
        r"received (\w+) notify, no CHILD_SA built",
        r"\1",
        2,
        "the peer refused the CHILD_SA",
        "see the peer's log",
    ),
    _rule(
        r"destroying duplicate IKE_SA .* received INITIAL_CONTACT",
        "REPLACED",
        1,
        "the peer has started anew",
        "",
        failure=False,
    ),
    _rule(
        r"received DELETE for (?:IKE_SA|ESP CHILD_SA)",
        "DELETED_BY_PEER",
        1,
        "the peer ended the tunnel",
        "",
        failure=False,
    ),
    _rule(
        r"sending DELETE for (?:IKE_SA|ESP CHILD_SA)",
        "DELETED",
        1,
        "this side ended the tunnel",
        "",
        failure=False,
    ),
)

_PREFIX = re.compile(r"^\d+\[[A-Z]+\] (?:<[^>]*> )?")


def reason_in(line: str) -> Reason | None:
    """The reason that a line of charon's log gives, the first rule that matches; None for a line that gives none."""
    text = _PREFIX.sub("", line)
    for rule in RULES:
        if found := rule.pattern.search(text):
            return Reason(found.expand(rule.code), text, rule.phase, rule.meaning, rule.remedy, rule.failure)
    return None


def unexplained(text: str) -> Reason:
    """For a failed attempt of which the log gives no reason that the table knows."""
    return Reason("UNEXPLAINED", text, 1, "charon gave no reason that is known here", "see charon's log")


def charon_ended(status: int) -> Reason:
    """``status`` as of subprocess.Popen.returncode: an exit code, or minus a signal's number."""
    how = f"killed by signal {-status}" if status < 0 else f"exited with status {status}"
    return Reason("CHARON_ENDED", f"charon {how}", 0, "the IKE daemon of this node is gone", "restart it")


def interface_refused(text: str) -> Reason:
    """The kernel would not switch the tunnel interface: somebody has removed or renamed it."""
    return Reason(
        "NO_INTERFACE", text, 0, "the tunnel interface cannot be switched", "restart charon, which makes it anew"
    )
