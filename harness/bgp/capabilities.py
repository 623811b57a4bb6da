"""Capabilities: what each side of a session says it can do, and what the two together agree on.

Sources: RFC 5492 (the mechanism), and per capability the RFC in its row of :data:`TABLE`. A capability without a row is kept
as :class:`UnknownCapability` and shown, never refused (RFC 5492 3). :func:`negotiate` is the only maker of a session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from harness.bgp.errors import ErrorCode, OpenError, ProtocolError
from harness.bgp.prefixes import FAMILIES, Family
from harness.bgp.session import Session

if TYPE_CHECKING:
    from harness.bgp.messages import Open


@dataclass(frozen=True, slots=True)
class Multiprotocol:
    """RFC 4760 8: one address family; families this speaker does not carry are kept as numbers."""

    code: ClassVar[int] = 1
    afi: int
    safi: int

    @property
    def family(self) -> Family | None:
        return FAMILIES.get((self.afi, self.safi))


@dataclass(frozen=True, slots=True)
class RouteRefreshCapability:
    """RFC 2918 2."""

    code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class ExtendedMessage:
    """RFC 8654 3: messages of up to 65,535 octets."""

    code: ClassVar[int] = 6


class RestartFamily(NamedTuple):
    """A family of the graceful restart capability; ``forwarding``: its state was preserved (RFC 4724 3)."""

    afi: int
    safi: int
    forwarding: bool


@dataclass(frozen=True, slots=True)
class GracefulRestart:
    """RFC 4724 3 and RFC 8538 2; ``time`` in seconds. ``notification``: NOTIFICATIONs, too, start a graceful restart."""

    code: ClassVar[int] = 64
    restarted: bool
    notification: bool
    time: int
    families: tuple[RestartFamily, ...] = ()

    @property
    def kept(self) -> frozenset[Family]:
        """The families whose routes are kept over a restart (RFC 4724 4.2)."""
        return frozenset(family for entry in self.families if (family := FAMILIES.get((entry.afi, entry.safi))))

    @property
    def preserved(self) -> frozenset[Family]:
        """The families whose forwarding state outlived the restart (the F bit)."""
        return frozenset(family for e in self.families if e.forwarding and (family := FAMILIES.get((e.afi, e.safi))))


@dataclass(frozen=True, slots=True)
class FourOctetAs:
    """RFC 6793 3: the true AS number."""

    code: ClassVar[int] = 65
    asn: int


class AddPathFamily(NamedTuple):
    """A family of the ADD-PATH capability: may the sender of the capability receive, send, or both."""

    afi: int
    safi: int
    receive: bool
    send: bool


@dataclass(frozen=True, slots=True)
class AddPath:
    """RFC 7911 4."""

    code: ClassVar[int] = 69
    families: tuple[AddPathFamily, ...]


@dataclass(frozen=True, slots=True)
class EnhancedRouteRefresh:
    """RFC 7313 3.1."""

    code: ClassVar[int] = 70


@dataclass(frozen=True, slots=True)
class UnknownCapability:
    """A capability this speaker does not use, or one whose value it could not read."""

    code: int
    value: bytes


Capability = (
    Multiprotocol
    | RouteRefreshCapability
    | ExtendedMessage
    | GracefulRestart
    | FourOctetAs
    | AddPath
    | EnhancedRouteRefresh
    | UnknownCapability
)


class _Row(NamedTuple):
    name: str
    source: str
    decode: Callable[[bytes], Capability | None]
    encode: Callable[[Any], bytes]


def _decode_restart(value: bytes) -> GracefulRestart | None:
    if len(value) < 2 or len(value) % 4 != 2:
        return None
    families = tuple(
        RestartFamily(value[at] << 8 | value[at + 1], value[at + 2], bool(value[at + 3] & 0x80))
        for at in range(2, len(value), 4)
    )
    return GracefulRestart(bool(value[0] & 0x80), bool(value[0] & 0x40), (value[0] & 0x0F) << 8 | value[1], families)


def _encode_restart(capability: GracefulRestart) -> bytes:
    head = capability.restarted << 15 | capability.notification << 14 | capability.time
    return head.to_bytes(2, "big") + b"".join(
        bytes((afi >> 8, afi & 0xFF, safi, forwarding << 7)) for afi, safi, forwarding in capability.families
    )


def _decode_add_path(value: bytes) -> AddPath | None:
    if len(value) % 4:
        return None
    # RFC 7911 4: with a Send/Receive field that is none of 1, 2, 3 the capability is not understood.
    if not all(1 <= value[at] <= 3 for at in range(3, len(value), 4)):
        return None
    return AddPath(
        tuple(
            AddPathFamily(
                value[at] << 8 | value[at + 1], value[at + 2], bool(value[at + 3] & 1), bool(value[at + 3] & 2)
            )
            for at in range(0, len(value), 4)
        )
    )


def _encode_add_path(capability: AddPath) -> bytes:
    return b"".join(
        bytes((afi >> 8, afi & 0xFF, safi, receive | send << 1)) for afi, safi, receive, send in capability.families
    )


def _bare(make: Callable[[], Capability]) -> Callable[[bytes], Capability | None]:
    return lambda value: None if value else make()


def _nothing(_capability: Capability) -> bytes:
    return b""


# Code -> name, source, reader (None: the value has the wrong form), writer of the value.
TABLE: dict[int, _Row] = {
    1: _Row(
        "Multiprotocol Extensions",
        "RFC 4760 8",
        lambda value: Multiprotocol(value[0] << 8 | value[1], value[3]) if len(value) == 4 else None,
        lambda capability: bytes((capability.afi >> 8, capability.afi & 0xFF, 0, capability.safi)),
    ),
    2: _Row("Route Refresh", "RFC 2918 2", _bare(RouteRefreshCapability), _nothing),
    6: _Row("Extended Message", "RFC 8654 3", _bare(ExtendedMessage), _nothing),
    64: _Row("Graceful Restart", "RFC 4724 3", _decode_restart, _encode_restart),
    65: _Row(
        "4-octet AS number",
        "RFC 6793 3",
        lambda value: FourOctetAs(int.from_bytes(value, "big")) if len(value) == 4 else None,
        lambda capability: capability.asn.to_bytes(4, "big"),
    ),
    69: _Row("ADD-PATH", "RFC 7911 4", _decode_add_path, _encode_add_path),
    70: _Row("Enhanced Route Refresh", "RFC 7313 3.1", _bare(EnhancedRouteRefresh), _nothing),
}


def name(code: int) -> str:
    """What a capability is called."""
    row = TABLE.get(code)
    return row.name if row else f"capability {code}"


def decode_capabilities(value: bytes) -> tuple[Capability, ...]:
    """Reads the value of a Capabilities parameter; raises 2/0 where a capability overruns it (RFC 5492 4, RFC 4271 6.2)."""
    found: list[Capability] = []
    at, end = 0, len(value)
    while at < end:
        stop = at + 2 + value[at + 1] if at + 2 <= end else end + 1
        if stop > end:
            raise ProtocolError(
                ErrorCode.OPEN_MESSAGE_ERROR, OpenError.UNSPECIFIC, b"", "a capability overruns its parameter"
            )
        code, content = value[at], value[at + 2 : stop]
        row = TABLE.get(code)
        # A known capability with a value of the wrong form is not understood: kept as unknown (RFC 5492 3).
        found.append((row.decode(content) if row else None) or UnknownCapability(code, content))
        at = stop
    return tuple(found)


def encode_capability(capability: Capability) -> bytes:
    """Code, length, value."""
    value = capability.value if isinstance(capability, UnknownCapability) else TABLE[capability.code].encode(capability)
    return bytes((capability.code, len(value))) + value


def offered_families(capabilities: Iterable[Capability]) -> frozenset[Family]:
    """The families an OPEN offers; without any Multiprotocol capability IPv4 unicast alone (RFC 4760 8)."""
    offers = [capability for capability in capabilities if isinstance(capability, Multiprotocol)]
    if not offers:
        return frozenset({Family.IPV4_UNICAST})
    return frozenset(offer.family for offer in offers if offer.family is not None)


def _add_path(capabilities: Iterable[Capability]) -> tuple[set[Family], set[Family]]:
    found: dict[Family, AddPathFamily] = {}
    for capability in capabilities:
        if isinstance(capability, AddPath):
            for entry in capability.families:
                family = FAMILIES.get((entry.afi, entry.safi))
                if family is not None:
                    # RFC 7911 4 wants one entry for a family: of several the first counts.
                    found.setdefault(family, entry)
    return {f for f, entry in found.items() if entry.receive}, {f for f, entry in found.items() if entry.send}


def graceful_restart_of(capabilities: Iterable[Capability]) -> GracefulRestart | None:
    """RFC 4724 3: of several instances the last counts."""
    found = [capability for capability in capabilities if isinstance(capability, GracefulRestart)]
    return found[-1] if found else None


def negotiate(sent: Open, received: Open, *, revised_errors: bool = True, enforce_first_as: bool = False) -> Session:
    """The session that follows from the OPEN we sent and the one the peer sent.

    An extension is on only where both OPENs carry it; ADD-PATH needs one side to send and the other to receive. The hold
    time is the smaller of the two (RFC 4271 4.2), the keepalive interval a third of it (4.4).
    """
    ours = {capability.code for capability in sent.capabilities}
    theirs = {capability.code for capability in received.capabilities if not isinstance(capability, UnknownCapability)}
    both = ours & theirs
    families = offered_families(sent.capabilities) & offered_families(received.capabilities)
    our_receive, our_send = _add_path(sent.capabilities)
    their_receive, their_send = _add_path(received.capabilities)
    ours_restart = graceful_restart_of(sent.capabilities)
    theirs_restart = graceful_restart_of(received.capabilities) if ours_restart is not None else None
    hold_time = min(sent.hold_time, received.hold_time)
    return Session(
        local_asn=sent.true_asn,
        peer_asn=received.true_asn if FourOctetAs.code in ours else received.asn,
        local_identifier=sent.identifier,
        peer_identifier=received.identifier,
        asn4=FourOctetAs.code in both,
        families=families,
        add_path_receive=frozenset(our_receive & their_send) & families,
        add_path_send=frozenset(our_send & their_receive) & families,
        extended_message=ExtendedMessage.code in both,
        extended_receive=ExtendedMessage.code in ours,
        route_refresh=RouteRefreshCapability.code in both,
        enhanced_refresh=EnhancedRouteRefresh.code in both,
        graceful_restart=theirs_restart,
        # RFC 8538 2: the N bit counts where both set it.
        hard_reset=bool(ours_restart and ours_restart.notification and theirs_restart and theirs_restart.notification),
        hold_time=hold_time,
        keepalive=hold_time / 3,
        revised_errors=revised_errors,
        enforce_first_as=enforce_first_as,
        peer_capabilities=received.capabilities,
        opens=(sent, received),
    )
