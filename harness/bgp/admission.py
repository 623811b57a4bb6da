"""From a received UPDATE to paths: what RFC 4271 9.1.2 and 6.3 say must not be used, then the import policy.

A route that is refused becomes a path all the same, with its reason: it stays visible in Adj-RIB-In and never is a candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from harness.bgp import as_path
from harness.bgp.attributes import Attributes, WellKnownCommunity
from harness.bgp.nexthop import on_link
from harness.bgp.paths import Kind, Path, Source
from harness.bgp.policy import Policy

Identity = tuple[int, Attributes, bytes, "Attributes | None", "str | None"]
"""Path id, attributes as received, next hop, what the policy made of the attributes where that is something else, refusal."""

_REMEMBERED = 4096
_GRACEFUL_SHUTDOWN = int(WellKnownCommunity.GRACEFUL_SHUTDOWN)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who takes the routes: this speaker, as its neighbour on one session sees it. ``own_asns``: all that count as a loop.

    ``graceful_shutdown``: eBGP routes with that community get LOCAL_PREF 0; ``draining``: all routes of the session do, because it
    is about to go (RFC 8326 4.2).
    """

    own_asns: frozenset[int]
    router_id: int
    allow_as_in: int = 0
    enforce_first_as: bool = True
    cluster_id: int = 0
    graceful_shutdown: bool = True
    draining: bool = False


class Admission:
    """Turns the routes of one session and family into paths, the same path for the same attributes and outcome as long as it is
    remembered; later one that says the same (:meth:`Path.says_as`).

    ``is_own_address`` says whether a next hop (packed) is an address of this node; ``is_near``, for a neighbour one hop away in another
    AS, whether it is in one of this node's subnets; ``link``: the interface on whose link the
    neighbour is, 0 where it is on none.
    """

    def __init__(
        self,
        source: Source,
        receiver: Receiver,
        policy: Policy,
        is_own_address: Callable[[bytes], bool],
        link: int = 0,
        is_near: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.source = source
        self.policy = policy
        self.receiver = receiver
        self._is_own_address = is_own_address
        self._link = link
        self._is_near = is_near
        self._paths: dict[Identity, Path] = {}

    def paths(
        self, slices: Iterable[bytes], path_id: int, attributes: Attributes, next_hop: bytes
    ) -> Iterable[tuple[Path, Iterable[bytes]]]:
        """``slices`` (plain, without path ids) grouped by the path each belongs to: one group unless the policy looks at prefixes."""
        if not self.policy.looks_at_prefix:
            return ((self.path(b"", path_id, attributes, next_hop), slices),)
        groups: dict[Path, list[bytes]] = {}
        for prefix in slices:
            groups.setdefault(self.path(prefix, path_id, attributes, next_hop), []).append(prefix)
        return groups.items()

    def path(self, prefix: bytes, path_id: int, attributes: Attributes, next_hop: bytes) -> Path:
        """The path of one route. ``next_hop`` has 4, 16 or 32 octets; of two addresses the link-local one counts only where the
        other is none."""
        if len(next_hop) > 4:
            next_hop = on_link(next_hop, self._link)
        effective: Attributes | None = None
        rejected = self._refusal(attributes, next_hop)
        if rejected is None:
            if self.policy.is_transparent:
                effective = self._drained(attributes)
            else:
                outcome = self.policy.apply(prefix, self.source, attributes)
                if outcome.attributes is None:
                    rejected = f"import policy, {self.policy.term_text(outcome.term)}"
                else:
                    effective = self._drained(outcome.attributes)
            if effective is attributes:
                effective = None
        return self._shared((path_id, attributes, next_hop, effective, rejected))

    def refused(self, path: Path, reason: str) -> Path:
        """``path`` as one that must not be used."""
        effective = None if path.attributes is path.received else path.attributes
        return self._shared((path.path_id, path.received, path.next_hop, effective, reason))

    def _shared(self, identity: Identity) -> Path:
        path = self._paths.get(identity)
        if path is None:
            path_id, received, next_hop, effective, rejected = identity
            if len(self._paths) >= _REMEMBERED:
                self._paths.clear()
            path = Path(
                self.source, path_id, received, received if effective is None else effective, next_hop, rejected
            )
            self._paths[identity] = path
        return path

    def _drained(self, attributes: Attributes) -> Attributes:
        """RFC 8326 4: a path that is about to go is the last choice, and says so to others."""
        receiver, mark = self.receiver, _GRACEFUL_SHUTDOWN
        if receiver.draining:
            communities = tuple(sorted({*attributes.communities, mark}))
            return attributes.evolve(local_pref=0, communities=communities)
        if receiver.graceful_shutdown and self.source.kind is Kind.EBGP and mark in attributes.communities:
            return attributes.evolve(local_pref=0)
        return attributes

    def _refusal(self, attributes: Attributes, next_hop: bytes) -> str | None:
        receiver, path = self.receiver, attributes.as_path
        for asn in receiver.own_asns if as_path.meets(path, receiver.own_asns) else ():
            if (count := as_path.contains(path, asn)) > receiver.allow_as_in:
                times = "" if count == 1 else f" {count} times"
                return f"AS path loop: own AS {asn} is in the AS path{times} (RFC 4271 9.1.2)"
        if self.source.kind is Kind.EBGP:
            if receiver.enforce_first_as and attributes.neighbor_as != self.source.asn:
                return f"the first AS of the path is {attributes.neighbor_as}, not the neighbour's {self.source.asn} (RFC 4271 6.3)"
        elif attributes.originator_id is not None and int(attributes.originator_id) == receiver.router_id:
            return "ORIGINATOR_ID is this speaker's BGP Identifier (RFC 4456 8)"
        elif receiver.cluster_id in attributes.cluster_list:
            return f"CLUSTER_LIST holds the own cluster id {IPv4Address(receiver.cluster_id)} (RFC 4456 8)"
        if self._is_own_address(next_hop[:16]):
            return "next hop is an address of this node (RFC 4271 5.1.3)"
        foreign = self._is_near is not None and len(next_hop) == 4 and next_hop != self.source.address
        if foreign and self._is_near is not None and not self._is_near(next_hop):
            return (
                f"next hop {IPv4Address(next_hop)} is neither the neighbour nor in a subnet of this node (RFC 4271 6.3)"
            )
        return None
