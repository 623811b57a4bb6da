"""The configuration of one neighbour, the OPEN that follows from it, and what it asks of the neighbour's OPEN.

Sources: RFC 4271 6.2 and 10, RFC 5492, RFC 6286, RFC 6793. Checks that need no configuration are the decoder's
(:mod:`harness.bgp.messages`).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from harness.bgp.as_path import AS_TRANS
from harness.bgp.capabilities import (
    AddPath,
    AddPathFamily,
    Capability,
    EnhancedRouteRefresh,
    ExtendedMessage,
    FourOctetAs,
    GracefulRestart,
    Multiprotocol,
    RouteRefreshCapability,
    encode_capability,
    offered_families,
)
from harness.bgp.errors import ErrorCode, OpenError, ProtocolError
from harness.bgp.fsm import Profile
from harness.bgp.messages import Open
from harness.bgp.prefixes import Family


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """One neighbour. Times are seconds; the defaults are RFC 4271's (10) where it has one.

    ``hold_time``: offered in the OPEN; 0 asks for no keepalives. ``open_hold_time``: RFC 4271's "large value" for the wait in
    OpenSent. ``dial_retry_first`` and ``dial_retry_max``: after a dial that failed the next one starts that soon, each later
    one twice as late up to the bound, all inside the ConnectRetryTimer; ``dial_timeout``: an unanswered dial is replaced.
    ``idle_hold_first`` and ``idle_hold_max``: the same
    for the wait in Idle after a session that ended with an error (``damp_peer_oscillations`` false keeps it at the first
    value). ``delay_open_time`` over 0 sets DelayOpen. ``collision_wait``: how long a connection's OPEN may wait for that
    of the other connection that will win against it. ``seed`` makes the jitter repeat.
    """

    name: str
    local_asn: int
    peer_asn: int
    identifier: IPv4Address
    families: frozenset[Family] = frozenset({Family.IPV4_UNICAST})
    add_path_receive: frozenset[Family] = frozenset()
    add_path_send: frozenset[Family] = frozenset()
    passive: bool = False
    profile: Profile = Profile.DOCUMENT
    hold_time: int = 90
    open_hold_time: float = 240.0
    connect_retry_time: float = 120.0
    delay_open_time: float = 0.0
    dial_retry_first: float = 0.02
    dial_retry_max: float = 2.0
    dial_timeout: float = 5.0
    idle_hold_first: float = 1.0
    idle_hold_max: float = 60.0
    damp_peer_oscillations: bool = True
    collision_wait: float = 1.0
    send_notification_without_open: bool = True
    asn4: bool = True
    route_refresh: bool = True
    enhanced_refresh: bool = True
    graceful_restart: GracefulRestart | None = None
    extended_message: bool = True
    revised_errors: bool = True
    enforce_first_as: bool = True
    seed: int = 0

    def capabilities(self) -> tuple[Capability, ...]:
        """What the OPEN offers, ascending by code."""
        families = sorted(self.families, key=lambda family: family.value)
        offer: list[Capability] = [Multiprotocol(*family.value) for family in families]
        if self.route_refresh:
            offer.append(RouteRefreshCapability())
        if self.extended_message:
            offer.append(ExtendedMessage())
        if self.graceful_restart is not None:
            offer.append(self.graceful_restart)
        if self.asn4:
            offer.append(FourOctetAs(self.local_asn))
        paths = tuple(
            AddPathFamily(family.afi, family.safi, family in self.add_path_receive, family in self.add_path_send)
            for family in families
            if family in self.add_path_receive | self.add_path_send
        )
        if paths:
            offer.append(AddPath(paths))
        if self.enhanced_refresh:
            offer.append(EnhancedRouteRefresh())
        return tuple(offer)

    def open(self) -> Open:
        """The OPEN we send."""
        return Open.of(self.local_asn, self.hold_time, self.identifier, self.capabilities())


def check_open(message: Open, config: PeerConfig) -> None:
    """Checks an OPEN against our configuration (RFC 4271 6.2, RFC 6286 2.2); raises :class:`ProtocolError`."""
    code = ErrorCode.OPEN_MESSAGE_ERROR
    asn = message.true_asn if config.asn4 else message.asn
    # RFC 6793 9: to a speaker of 2-octet ASNs every neighbour with a longer one is AS_TRANS.
    if asn != (AS_TRANS if not config.asn4 and config.peer_asn > 0xFFFF else config.peer_asn):
        text = f"the peer is AS {asn}, AS {config.peer_asn} is configured"
        raise ProtocolError(code, OpenError.BAD_PEER_AS, b"", text)
    if message.identifier == config.identifier and config.peer_asn == config.local_asn:
        text = f"BGP Identifier {message.identifier} is our own, and so is the AS"
        raise ProtocolError(code, OpenError.BAD_BGP_IDENTIFIER, b"", text)
    if not offered_families(message.capabilities) & config.families:
        # RFC 5492 5: the data are the capabilities that are missing.
        wanted = sorted(config.families, key=lambda family: family.value)
        data = b"".join(encode_capability(Multiprotocol(*family.value)) for family in wanted)
        text = f"no address family in common; ours: {', '.join(map(str, wanted))}"
        raise ProtocolError(code, OpenError.UNSUPPORTED_CAPABILITY, data, text)
