"""The status column of a BGP peer, as the console shows it: seven words (VBR-14), six of them the state machine's own.

Source: "Express Connect: configure and manage BGP", step 2, the table of statuses. The seventh, 未確立 (Unestablished), is described
only as "the BGP session is not established". Read†: it stands where there is no live state to show, because the peer is not started or
the VBR's speaker does not run (VBR-36); a speaker that runs shows its state, Idle included. So a killed speaker's peers are
Unestablished, never Idle and never a stale Established.
"""

from __future__ import annotations

from enum import StrEnum


class PeerStatus(StrEnum):
    """The seven statuses, in the document's order."""

    IDLE = "Idle"
    CONNECT = "Connect"
    ACTIVE = "Active"
    OPEN_SENT = "OpenSent"
    OPEN_CONFIRM = "OpenConfirm"
    ESTABLISHED = "Established"
    UNESTABLISHED = "Unestablished"


def peer_status(state: str | None, *, started: bool = True) -> PeerStatus:
    """The status of a peer whose state machine was last heard to be in ``state`` (None: it cannot be heard).

    ``started`` False: the neighbour is administratively down. Raises ValueError for a state that BGP does not have.
    """
    if state is None or not started:
        return PeerStatus.UNESTABLISHED
    return PeerStatus(state)
