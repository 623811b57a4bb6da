"""What goes into a peer and what comes out of it: values, no behaviour.

The shell turns sockets, timers and commands into inputs, calls ``Peer.process(input, now)`` and carries out the outputs in
order. ``conn`` numbers a TCP connection or a dial under way: the peer chooses it for the ones it dials
(:class:`Dial`), the shell for the ones it accepts, from ``Peer.connection_id()``, so that no number is used twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.bgp.errors import Cease
from harness.bgp.fsm import Event, State
from harness.bgp.messages import Notification, RouteRefresh
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.update import Update

# ---------------------------------------------------------------------------------------------------------------- inputs


@dataclass(frozen=True, slots=True)
class Start:
    """Begin to want the session (ManualStart; with ``PeerConfig.passive`` its passive form)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the session and stay down until :class:`Start` (ManualStop). The text goes to the peer (RFC 9003)."""

    subcode: int = Cease.ADMINISTRATIVE_SHUTDOWN
    text: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """End the session and begin again after the idle hold (AutomaticStop).

    ``data`` for Cease/1 is AFI, SAFI and the bound (RFC 4486 4). ``restart_after`` (seconds) replaces the idle hold once;
    with ``stay_down`` the session stays in Idle until :class:`Start`.
    """

    subcode: int = Cease.ADMINISTRATIVE_RESET
    text: str = ""
    data: bytes = b""
    restart_after: float | None = None
    stay_down: bool = False


@dataclass(frozen=True, slots=True)
class BfdDown:
    """BFD says that the path is gone: the session goes down at once with Cease/10 (RFC 9384) and begins again."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """The network may have come back (a link, a route): dial now instead of at the next retry. Never needed, only faster."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A TCP connection stands: one we dialled, or one accepted from the peer's address. Addresses are text."""

    conn: int
    outgoing: bool
    local: str
    remote: str


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """A dial did not succeed."""

    conn: int
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """Octets from a connection, as they came."""

    conn: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection ended without our doing."""

    conn: int
    reason: str


@dataclass(frozen=True, slots=True)
class SendHoldExpired:
    """The neighbour's TCP has acknowledged nothing for the SendHoldTime, though something was waiting (RFC 9687)."""

    conn: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: due when ``Peer.deadline()`` is reached; harmless at any other moment."""


@dataclass(frozen=True, slots=True)
class Send:
    """Complete UPDATE messages for the peer; dropped with a log line when the session is not Established."""

    messages: tuple[bytes, ...] | list[bytes]


@dataclass(frozen=True, slots=True)
class Refresh:
    """Ask the peer for all its routes of a family (RFC 2918); refused with a log line where not negotiated (BGP-19).

    ``subtype`` 1 and 2 mark the begin and end of our own answer (RFC 7313).
    """

    family: Family
    subtype: int = 0


Input = (
    Start
    | Stop
    | Reset
    | BfdDown
    | Retry
    | Connected
    | ConnectFailed
    | Received
    | Closed
    | SendHoldExpired
    | Tick
    | Send
    | Refresh
)

# --------------------------------------------------------------------------------------------------------------- outputs


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a TCP connection to the peer and answer with :class:`Connected` or :class:`ConnectFailed`."""

    conn: int


@dataclass(frozen=True, slots=True)
class Write:
    """Send octets on a connection."""

    conn: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection once all it was given to write is sent; or give up the dial. No :class:`Closed` is expected for it."""

    conn: int


@dataclass(frozen=True, slots=True)
class Transition:
    """A state machine moved, or looked at an event and stayed.

    Those with ``spare`` false form one unbroken chain, each ``old`` the ``new`` before it: the state of the peer. Those of the
    second connection of a collision have ``spare`` true.
    """

    old: State
    new: State
    event: Event
    reason: str
    conn: int | None
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Up:
    """The session is Established."""

    session: Session
    conn: int
    local: str
    remote: str


@dataclass(frozen=True, slots=True)
class Down:
    """An Established session ended: why, and the NOTIFICATION that ended it (sent by us, received, or neither)."""

    reason: str
    event: Event
    sent: Notification | None = None
    received: Notification | None = None


@dataclass(frozen=True, slots=True)
class Deliver:
    """An UPDATE arrived on the Established session."""

    update: Update


@dataclass(frozen=True, slots=True)
class RefreshAsked:
    """The peer asks for our routes of a family again (or marks the begin and end of its own; RFC 7313)."""

    family: Family
    message: RouteRefresh


@dataclass(frozen=True, slots=True)
class NotificationSent:
    """A NOTIFICATION went out (also on connections that never were Established)."""

    conn: int
    notification: Notification


@dataclass(frozen=True, slots=True)
class NotificationReceived:
    """A NOTIFICATION came in."""

    conn: int
    notification: Notification


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the operator."""

    text: str


Output = (
    Dial
    | Write
    | Close
    | Transition
    | Up
    | Down
    | Deliver
    | RefreshAsked
    | NotificationSent
    | NotificationReceived
    | Log
)
