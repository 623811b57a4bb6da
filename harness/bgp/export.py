"""What a neighbour is told: which paths, with which attributes. A pure function of the selection, the session and the policy.

Rules: RFC 4271 5.1 (attributes over eBGP and iBGP), 9.2 and 9.2.1 (iBGP routes are not passed on over iBGP), RFC 4456 (unless they are
reflected), RFC 1997 (NO_EXPORT and its kind), RFC 7911 (several paths, each under an id), RFC 8326 (a session that is drained). A path
never goes back to the neighbour it came from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from harness.bgp.attributes import Attributes, UnknownAttribute, WellKnownCommunity, community_text
from harness.bgp.decision import Selection
from harness.bgp.nexthop import is_link_local
from harness.bgp.paths import Kind, Path, Source
from harness.bgp.policy import Policy

_REMEMBERED = 2048
"""Selections whose advert is at hand: a batch is looked at when it comes, and once more when it goes out."""
_TRANSITIVE = 0x40
_PARTIAL = 0x20
_EXTENDED_NON_TRANSITIVE = 0x40  # RFC 4360 2: in the first octet of an extended community

Row = tuple[int, Attributes, bytes, str]
"""Path id (0 where ADD-PATH is not in use), attributes, next hop, and the name of the path's source, which is not sent."""

Advert = tuple[Row, ...]
"""What is announced for one prefix, a row for each path."""

NOTHING: Advert = ()


def seen_by(advert: Advert, name: str) -> Advert:
    """What of ``advert`` a neighbour may be told: no path goes back to where it came from."""
    for row in advert:
        if row[3] == name:
            return tuple(row for row in advert if row[3] != name)
    return advert


class PathIds:
    """Path ids of this speaker for ADD-PATH: one for each (source, its path id), the same for as long as the speaker lives."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, int], int] = {}

    def of(self, path: Path) -> int:
        return self._ids.setdefault((path.source.name, path.path_id), len(self._ids) + 1)


@dataclass(frozen=True, slots=True)
class Target:
    """The neighbour as the export rules see it. ``own_address`` (packed) is the local end of the session.

    ``client``: routes of other iBGP neighbours are reflected to it, with ``cluster_id`` (RFC 4456). ``draining``: the session is
    about to go, and its routes say so (RFC 8326 4.2).

    Several neighbours alike have one target without a name and without an address: then no path is left out for its source, and
    an empty next hop stands for the local end of each session.
    """

    name: str
    ebgp: bool
    local_asn: int
    own_address: bytes
    next_hop_self: bool
    add_path: bool
    default_local_pref: int
    client: bool = False
    cluster_id: int = 0
    draining: bool = False


class Exporter:
    """The export of one session and family."""

    def __init__(self, target: Target, policy: Policy, ids: PathIds) -> None:
        self.target = target
        self.policy = policy
        self._ids = ids
        self._adverts: dict[Selection, Advert] = {}

    def alike(self, name: str = "") -> Exporter:
        """The export that all neighbours with these rules share; with ``name`` still without the paths of that one."""
        return Exporter(replace(self.target, name=name, own_address=b""), self.policy, self._ids)

    def advert(self, prefix: bytes, selection: Selection | None) -> Advert:
        """What the neighbour shall be told of ``prefix``. Nothing where no path may go to it."""
        if selection is None or selection.best is None:
            return NOTHING
        if self.policy.looks_at_prefix:
            return self._advert(prefix, selection)
        advert = self._adverts.get(selection)
        if advert is None:
            if len(self._adverts) >= _REMEMBERED:
                self._adverts.clear()
            advert = self._adverts[selection] = self._advert(prefix, selection)
        return advert

    def may_tell(self, selection: Selection | None) -> bool:
        """Whether the neighbour may have to be told of a prefix with ``selection``, as far as that does not depend on the prefix."""
        if selection is None or selection.best is None:
            return False
        target = self.target
        if selection.best.source.name == target.name and not target.add_path:
            return False
        return self.policy.looks_at_prefix or bool(self.advert(b"", selection))

    def _advert(self, prefix: bytes, selection: Selection) -> Advert:
        assert selection.best is not None
        add_path = self.target.add_path
        found = []
        for path in selection.usable if add_path else (selection.best,):
            told = self._told(prefix, path)
            if told is not None:
                found.append((self._ids.of(path) if add_path else 0, *told, path.source.name))
        return tuple(found)

    def refusal(self, prefix: bytes, path: Path) -> str | None:
        """Why the neighbour is not told of ``path``, in words; None where it is. For people: what is told is decided without it."""
        target, source = self.target, path.source
        if source.name == target.name:
            return "it was learned from this neighbour"
        if source.kind is Kind.IBGP and not target.ebgp and not (source.client or target.client):
            return (
                "it was learned over iBGP, and neither neighbour is a route reflector client (RFC 4271 9.2, RFC 4456 6)"
            )
        held = [c for c in path.attributes.communities if self._held_back((c,))]
        if held:
            return f"it carries the community {community_text(held[0])} (RFC 1997)"
        outcome = self.policy.apply(prefix, source, path.attributes)
        if outcome.attributes is None:
            return f"export policy, {'implicit deny' if not outcome.term else f'term {outcome.term}'}"
        return None

    def _told(self, prefix: bytes, path: Path) -> tuple[Attributes, bytes] | None:
        target, source, attributes = self.target, path.source, path.attributes
        reflected = source.kind is Kind.IBGP and not target.ebgp
        if source.name == target.name or (reflected and not (source.client or target.client)):
            return None
        if self._held_back(attributes.communities):
            return None
        if target.ebgp and source.kind is not Kind.LOCAL and attributes.med is not None:
            attributes = attributes.evolve(med=None)  # RFC 4271 5.1.4: not passed on to other ASes
        outcome = self.policy.apply(prefix, source, attributes)
        if outcome.attributes is None:
            return None
        attributes = outcome.attributes
        if target.draining:
            marked = tuple(sorted({*attributes.communities, WellKnownCommunity.GRACEFUL_SHUTDOWN}))
            attributes = attributes.evolve(communities=marked, local_pref=0)
        # RFC 4456 10: a reflected route keeps its next hop, unless a policy says otherwise.
        own_next_hop = (
            target.ebgp
            or (target.next_hop_self and not reflected)
            or outcome.next_hop_self
            or not path.next_hop
            # RFC 2545 3: a link-local next hop means nothing beyond its link.
            or is_link_local(path.next_hop)
        )
        next_hop = target.own_address if own_next_hop else path.next_hop
        if reflected:
            attributes = self._reflected(attributes, source)
        return (self._over_ebgp if target.ebgp else self._over_ibgp)(attributes), next_hop

    def _reflected(self, attributes: Attributes, source: Source) -> Attributes:
        """RFC 4456 8: who brought the route into the AS, and the clusters that it went through, this one first."""
        originator = attributes.originator_id
        return attributes.evolve(
            originator_id=IPv4Address(source.router_id) if originator is None else originator,
            cluster_list=(self.target.cluster_id, *attributes.cluster_list),
        )

    def _held_back(self, communities: tuple[int, ...]) -> bool:
        if WellKnownCommunity.NO_ADVERTISE in communities:
            return True
        return self.target.ebgp and (
            WellKnownCommunity.NO_EXPORT in communities or WellKnownCommunity.NO_EXPORT_SUBCONFED in communities
        )

    def _over_ebgp(self, attributes: Attributes) -> Attributes:
        return attributes.prepended(self.target.local_asn).evolve(
            next_hop=b"",
            local_pref=None,
            originator_id=None,
            cluster_list=(),
            extended=tuple(c for c in attributes.extended if not c[0] & _EXTENDED_NON_TRANSITIVE),
            unknown=_passed_on(attributes),
        )

    def _over_ibgp(self, attributes: Attributes) -> Attributes:
        local_pref = attributes.local_pref
        return attributes.evolve(
            next_hop=b"",
            local_pref=self.target.default_local_pref if local_pref is None else local_pref,
            unknown=_passed_on(attributes),
        )


def _passed_on(attributes: Attributes) -> tuple[UnknownAttribute, ...]:
    """RFC 4271 9: unknown transitive attributes go on with the Partial bit, others stop here."""
    return tuple(a._replace(flags=a.flags | _PARTIAL) for a in attributes.unknown if a.flags & _TRANSITIVE)
