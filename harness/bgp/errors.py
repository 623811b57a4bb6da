"""NOTIFICATION error codes: what each code and subcode is called, what it means, and the error that becomes one.

Sources: RFC 4271 4.5 and 6, RFC 4486 and RFC 9003 (Cease), RFC 5492 (2/7), RFC 6608 (FSM subcodes), RFC 7313 (code 7),
RFC 8538 (Cease/9), RFC 9234 (2/11), RFC 9384 (Cease/10), RFC 9687 (code 8). :data:`MEANING` is the one table; the documentation is drawn
from it.
"""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """RFC 4271 4.5, RFC 7313 5, RFC 9687 3."""

    MESSAGE_HEADER_ERROR = 1
    OPEN_MESSAGE_ERROR = 2
    UPDATE_MESSAGE_ERROR = 3
    HOLD_TIMER_EXPIRED = 4
    FINITE_STATE_MACHINE_ERROR = 5
    CEASE = 6
    ROUTE_REFRESH_MESSAGE_ERROR = 7
    SEND_HOLD_TIMER_EXPIRED = 8


class HeaderError(IntEnum):
    """RFC 4271 6.1."""

    CONNECTION_NOT_SYNCHRONIZED = 1
    BAD_MESSAGE_LENGTH = 2
    BAD_MESSAGE_TYPE = 3


class OpenError(IntEnum):
    """RFC 4271 6.2, RFC 5492 5."""

    UNSPECIFIC = 0
    UNSUPPORTED_VERSION_NUMBER = 1
    BAD_PEER_AS = 2
    BAD_BGP_IDENTIFIER = 3
    UNSUPPORTED_OPTIONAL_PARAMETER = 4
    UNACCEPTABLE_HOLD_TIME = 6
    UNSUPPORTED_CAPABILITY = 7
    ROLE_MISMATCH = 11


class UpdateError(IntEnum):
    """RFC 4271 6.3."""

    MALFORMED_ATTRIBUTE_LIST = 1
    UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE = 2
    MISSING_WELL_KNOWN_ATTRIBUTE = 3
    ATTRIBUTE_FLAGS_ERROR = 4
    ATTRIBUTE_LENGTH_ERROR = 5
    INVALID_ORIGIN_ATTRIBUTE = 6
    INVALID_NEXT_HOP_ATTRIBUTE = 8
    OPTIONAL_ATTRIBUTE_ERROR = 9
    INVALID_NETWORK_FIELD = 10
    MALFORMED_AS_PATH = 11


class FsmError(IntEnum):
    """RFC 6608."""

    UNSPECIFIED = 0
    UNEXPECTED_MESSAGE_IN_OPEN_SENT = 1
    UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM = 2
    UNEXPECTED_MESSAGE_IN_ESTABLISHED = 3


class Cease(IntEnum):
    """RFC 4486 3, RFC 8538 3.1, RFC 9384 2."""

    UNSPECIFIC = 0
    MAXIMUM_NUMBER_OF_PREFIXES_REACHED = 1
    ADMINISTRATIVE_SHUTDOWN = 2
    PEER_DECONFIGURED = 3
    ADMINISTRATIVE_RESET = 4
    CONNECTION_REJECTED = 5
    OTHER_CONFIGURATION_CHANGE = 6
    CONNECTION_COLLISION_RESOLUTION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9
    BFD_DOWN = 10


class RefreshError(IntEnum):
    """RFC 7313 5."""

    INVALID_MESSAGE_LENGTH = 1


# (code, subcode) -> (name, meaning, what the data field holds)
MEANING: dict[tuple[int, int], tuple[str, str, str]] = {
    (1, 0): ("Message Header Error", "the header of a message is wrong", ""),
    (1, 1): ("Connection Not Synchronized", "the marker is not sixteen octets of ones", ""),
    (1, 2): ("Bad Message Length", "the length is outside what the type allows", "the length field, 2 octets"),
    (1, 3): ("Bad Message Type", "the type is none that was agreed on", "the type field, 1 octet"),
    (2, 0): ("OPEN Message Error", "the OPEN cannot be read", ""),
    (2, 1): (
        "Unsupported Version Number",
        "the peer asks for another version of BGP",
        "the version we speak, 2 octets",
    ),
    (2, 2): ("Bad Peer AS", "the peer's AS number is not the configured one", ""),
    (2, 3): ("Bad BGP Identifier", "the BGP Identifier is zero, or our own inside one AS", ""),
    (2, 4): ("Unsupported Optional Parameter", "an optional parameter is unknown", ""),
    (2, 5): ("Authentication Failure (deprecated)", "the authentication parameter of RFC 1771 failed", ""),
    (2, 6): ("Unacceptable Hold Time", "the hold time is one or two seconds, or refused", ""),
    (2, 7): ("Unsupported Capability", "a capability we require is missing", "the missing capabilities"),
    (2, 11): ("Role Mismatch", "the BGP roles do not fit together", ""),
    (3, 0): ("UPDATE Message Error", "the UPDATE cannot be used", ""),
    (3, 1): ("Malformed Attribute List", "the lengths do not fit, or an attribute occurs twice", ""),
    (3, 2): ("Unrecognized Well-known Attribute", "a well-known attribute is unknown", "the attribute"),
    (3, 3): ("Missing Well-known Attribute", "a mandatory attribute is missing", "its type code, 1 octet"),
    (3, 4): ("Attribute Flags Error", "the flags do not fit the attribute", "the attribute"),
    (3, 5): ("Attribute Length Error", "the length does not fit the attribute", "the attribute"),
    (3, 6): ("Invalid ORIGIN Attribute", "ORIGIN is none of IGP, EGP, INCOMPLETE", "the attribute"),
    (3, 7): ("AS Routing Loop (deprecated)", "the path holds our own AS (RFC 1771)", ""),
    (3, 8): ("Invalid NEXT_HOP Attribute", "NEXT_HOP is no host address", "the attribute"),
    (3, 9): ("Optional Attribute Error", "an optional attribute cannot be read", "the attribute"),
    (3, 10): ("Invalid Network Field", "the NLRI cannot be read", ""),
    (3, 11): ("Malformed AS_PATH", "AS_PATH cannot be read", ""),
    (4, 0): ("Hold Timer Expired", "nothing was heard within the hold time", ""),
    (5, 0): ("Finite State Machine Error", "an event came that the state does not allow", ""),
    (5, 1): ("Receive Unexpected Message in OpenSent State", "only an OPEN is due", "the message type, 1 octet"),
    (5, 2): ("Receive Unexpected Message in OpenConfirm State", "only a KEEPALIVE is due", "the message type, 1 octet"),
    (5, 3): ("Receive Unexpected Message in Established State", "an OPEN is not due", "the message type, 1 octet"),
    (6, 0): ("Cease", "the peer closes the session", ""),
    (6, 1): ("Maximum Number of Prefixes Reached", "more prefixes than allowed", "AFI, SAFI, the bound (may be empty)"),
    (6, 2): ("Administrative Shutdown", "the operator shut the session down", "a text (RFC 9003)"),
    (6, 3): ("Peer De-configured", "the peer was removed from the configuration", ""),
    (6, 4): ("Administrative Reset", "the operator reset the session", "a text (RFC 9003)"),
    (6, 5): ("Connection Rejected", "the connection is not wanted now", ""),
    (6, 6): ("Other Configuration Change", "a change of configuration needs a new session", ""),
    (6, 7): ("Connection Collision Resolution", "the other of two connections was kept", ""),
    (6, 8): ("Out of Resources", "the speaker ran short of something", ""),
    (6, 9): ("Hard Reset", "graceful restart must not keep the routes", "the code, subcode and data meant"),
    (6, 10): ("BFD Down", "BFD lost the path", ""),
    (7, 0): ("ROUTE-REFRESH Message Error", "the ROUTE-REFRESH cannot be used", ""),
    (7, 1): ("Invalid Message Length", "a ROUTE-REFRESH of the wrong length", "the whole message"),
    (8, 0): ("Send Hold Timer Expired", "nothing that was sent was taken within the send hold time", ""),
}


def describe(code: int, subcode: int) -> str:
    """``Cease / Administrative Shutdown``: what a NOTIFICATION is called; unknown numbers keep their numbers."""
    family = MEANING.get((code, 0))
    family_name = family[0] if family else f"Error code {code}"
    if not subcode:
        return family_name
    row = MEANING.get((code, subcode))
    return f"{family_name} / {row[0] if row else f'subcode {subcode}'}"


def meaning(code: int, subcode: int) -> str:
    """One sentence on what a NOTIFICATION says."""
    row = MEANING.get((code, subcode)) or MEANING.get((code, 0))
    return row[1] if row else "not defined by any RFC this speaker knows"


class ProtocolError(Exception):
    """The peer broke the protocol; it gets a NOTIFICATION with this code, subcode and data, and the session ends."""

    def __init__(self, code: int, subcode: int, data: bytes, text: str) -> None:
        super().__init__(f"{describe(code, subcode)} ({code}/{subcode}): {text}")
        self.code = code
        self.subcode = subcode
        self.data = data
        self.text = text
