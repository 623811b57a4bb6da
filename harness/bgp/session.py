"""What two OPEN messages agreed on: the context that every later message is encoded and decoded in.

Extensions are used only if negotiated (BGP-19): 4-octet AS numbers (RFC 6793), families (RFC 4760), ADD-PATH and its
direction (RFC 7911), route refresh (RFC 2918, RFC 7313), extended messages (RFC 8654). A :class:`Session` is made by
:func:`harness.bgp.capabilities.negotiate` and never changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from harness.bgp.prefixes import Family

if TYPE_CHECKING:
    from harness.bgp.capabilities import Capability, GracefulRestart
    from harness.bgp.messages import Open

STANDARD_LENGTH = 4096
EXTENDED_LENGTH = 65535


@dataclass(frozen=True, slots=True)
class Session:
    """A negotiated session, or with its defaults the context before any OPEN (2-octet AS numbers, IPv4 unicast only).

    ``add_path_receive``: families in which received NLRI carry path identifiers; ``add_path_send``: those we send.
    ``hold_time`` and ``keepalive`` are seconds, 0 means never (RFC 4271 4.2). ``revised_errors`` selects RFC 7606; without it
    every attribute error resets the session as in RFC 4271 6.3. ``enforce_first_as``: an external peer's paths start with its
    AS (RFC 4271 6.3). ``graceful_restart``: the peer's capability where both offered one (RFC 4724); ``hard_reset``: both know Cease/9
    (RFC 8538). ``extended_message``: both take long messages; ``extended_receive``: we said that we do. ``opens``: the OPENs, sent and
    received, that it was made from. ``ebgp``: the peer is in another AS.
    ``codec`` numbers the contexts in which equal octets of attributes mean the same.
    """

    local_asn: int = 0
    peer_asn: int = 0
    local_identifier: IPv4Address = IPv4Address(0)
    peer_identifier: IPv4Address = IPv4Address(0)
    asn4: bool = False
    families: frozenset[Family] = frozenset({Family.IPV4_UNICAST})
    add_path_receive: frozenset[Family] = frozenset()
    add_path_send: frozenset[Family] = frozenset()
    extended_message: bool = False
    extended_receive: bool = False
    route_refresh: bool = False
    enhanced_refresh: bool = False
    graceful_restart: GracefulRestart | None = None
    hard_reset: bool = False
    hold_time: int = 90
    keepalive: float = 30.0
    revised_errors: bool = True
    enforce_first_as: bool = False
    peer_capabilities: tuple[Capability, ...] = field(default=(), compare=False)
    opens: tuple[Open, Open] | None = field(default=None, compare=False, repr=False)
    ebgp: bool = field(init=False)
    codec: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        external = self.local_asn != self.peer_asn
        object.__setattr__(self, "ebgp", external)
        object.__setattr__(self, "codec", self.asn4 | external << 1)

    @property
    def max_length(self) -> int:
        """Most octets of a message that we send (RFC 4271 4.1, RFC 8654); OPEN and KEEPALIVE stay at 4096."""
        return EXTENDED_LENGTH if self.extended_message else STANDARD_LENGTH

    @property
    def max_received(self) -> int:
        """Most octets of a message that we take: who offers it MUST be able to, whatever the other side offers (RFC 8654 4)."""
        return EXTENDED_LENGTH if self.extended_receive else STANDARD_LENGTH
