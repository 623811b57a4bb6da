"""The words of RFC 5880: states, diagnostics (4.1), and why a received packet is discarded (6.8.6)."""

from __future__ import annotations

from enum import Enum, IntEnum

PORT = 3784
PORT_MULTIHOP = 4784
"""UDP destination ports (RFC 5881 4, RFC 5883 5)."""
TTL = 255
"""What every packet is sent with (RFC 5881 5)."""


class State(IntEnum):
    """Session states by their wire value."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3

    @property
    def text(self) -> str:
        return STATE_TEXT[self]


STATE_TEXT = {State.ADMIN_DOWN: "AdminDown", State.DOWN: "Down", State.INIT: "Init", State.UP: "Up"}


class Diagnostic(IntEnum):
    """Why the sender's session last changed state; 9 to 31 are reserved and kept as numbers."""

    NONE = 0
    CONTROL_DETECTION_TIME_EXPIRED = 1
    ECHO_FUNCTION_FAILED = 2
    NEIGHBOR_SIGNALED_SESSION_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8


def diagnostic_text(value: int) -> str:
    """The RFC's words for a diagnostic, in lower case; a reserved one by its number."""
    if value > max(Diagnostic):
        return f"diagnostic {value}"
    return Diagnostic(value).name.lower().replace("_", " ")


class Discard(Enum):
    """Why a received packet is not looked at further: the rows of RFC 5880 6.8.6 in their order, then RFC 5881 and 5883."""

    VERSION = "the version is not 1"
    SHORT = "the length is less than the smallest possible"
    LONG = "the length is more than the datagram holds"
    DETECT_MULT_ZERO = "Detect Mult is zero"
    MULTIPOINT = "the Multipoint bit is set"
    MY_DISCRIMINATOR_ZERO = "My Discriminator is zero"
    YOUR_DISCRIMINATOR_UNKNOWN = "Your Discriminator is of no session"
    YOUR_DISCRIMINATOR_ZERO = "Your Discriminator is zero though the state is neither Down nor AdminDown"
    NO_SESSION = "no session is configured with this sender"
    AUTHENTICATION_UNEXPECTED = "the packet is authenticated, the session is not"
    AUTHENTICATION_MISSING = "the session is authenticated, the packet is not"
    AUTHENTICATION_FAILED = "authentication failed"
    ADMIN_DOWN = "the session is administratively down"
    HOPS = "more hops than the hop count"
    KIND = "sent to the port of the other kind (single-hop 3784, multihop 4784)"
    ADDRESS = "a first packet, and not to the session's address"


class Discarded(Exception):
    """A packet was discarded; ``detail`` says more than the reason where there is more to say."""

    def __init__(self, reason: Discard, detail: str = "") -> None:
        super().__init__(f"{reason.value}{f': {detail}' if detail else ''}")
        self.reason = reason
