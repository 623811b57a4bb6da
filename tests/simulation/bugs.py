"""Faults of a speaker, as they have been made in real ones, planted into this one while a schedule runs.

Each is a function that returns the patches. A simulation that does not find them proves nothing with its silence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from unittest import mock

from harness.bgp import adj_out, attribute_codec, decision, parcels, peer
from harness.bgp.adj_out import AdjRibOut
from harness.bgp.adjacency import Adjacency
from harness.bgp.admission import Admission
from harness.bgp.connection import _ACTIONS
from harness.bgp.export import Advert, Exporter, PathIds
from harness.bgp.fsm import Action
from harness.bgp.graceful import Helper
from harness.bgp.out_group import OutGroup
from harness.bgp.out_groups import OutGroups
from harness.bgp.paths import Kind, Path
from harness.bgp.rib import AdjRibIn, Table

Patches = list[Any]


def no_loop_check() -> Patches:
    """Routes with the own AS in their path are taken (RFC 4271 9.1.2)."""
    original = Admission._refusal

    def refusal(self: Admission, *arguments: Any) -> str | None:
        said = original(self, *arguments)
        return None if said is not None and said.startswith("AS path loop") else said

    return [mock.patch.object(Admission, "_refusal", refusal)]


def withdrawal_forgotten() -> Patches:
    """What can no longer be announced is dropped from Adj-RIB-Out without a word to the neighbour."""
    original = parcels.difference

    def difference(was: Advert, now: Advert, *, add_path: bool, repeat: bool = False) -> parcels.Difference:
        return (), original(was, now, add_path=add_path, repeat=repeat)[1]

    return [
        mock.patch.object(parcels, "difference", difference),
        mock.patch.object(adj_out, "difference", difference),
    ]


def med_of_all_neighbors_compared() -> Patches:
    """MED is compared between different neighbouring ASes though nobody asked for it (RFC 4271 9.1.2.2 c)."""

    def worse(path: Path, others: list[Path], _: object) -> bool:
        return any((other.attributes.med or 0) < (path.attributes.med or 0) for other in others)

    return [mock.patch.object(decision, "_worse_med", worse)]


def collision_keeps_both() -> Patches:
    """Two connections to one neighbour are never told apart: nobody closes one (RFC 4271 6.8)."""
    return [
        mock.patch.object(peer.Peer, "_collide", lambda *_: None),
        mock.patch.object(peer.Peer, "_waits", lambda *_: False),
    ]


def hold_timer_not_restarted() -> Patches:
    """KEEPALIVEs and UPDATEs do not restart the hold timer (RFC 4271 8.2.2)."""
    return [mock.patch.dict(_ACTIONS, {Action.RESTART_HOLD: lambda _: None})]


def old_routes_kept_after_the_session() -> Patches:
    """When a session ends, what was learned over it stays in Loc-RIB."""

    def drain(_: AdjRibIn) -> Iterator[None]:
        yield from ()

    return [mock.patch.object(AdjRibIn, "drain", drain)]


def adj_rib_out_survives_the_session() -> Patches:
    """A new session believes that the neighbour still has what the last one told it."""
    up, leave = Adjacency._up, OutGroups.leave
    told: dict[Any, dict[bytes, Advert]] = {}

    def remembering(self: OutGroups, out: AdjRibOut) -> None:
        told[id(self), out.name, out.family] = out.known()
        leave(self, out)

    def believing(self: Adjacency, signal: Any) -> None:
        up(self, signal)
        for family, out in self.outbound.items():
            out._missed.update(told.get((id(self._around.groups), self.name, family), {}))

    return [
        mock.patch.object(Adjacency, "_up", believing),
        mock.patch.object(OutGroups, "leave", remembering),
    ]


def path_id_used_twice() -> Patches:
    """ADD-PATH ids are numbered by neighbour, so that two paths of one neighbour get the same (RFC 7911 3)."""

    def of(self: PathIds, path: Path) -> int:
        return self._ids.setdefault((path.source.name, 0), len(self._ids) + 1)

    return [mock.patch.object(PathIds, "of", of)]


def path_id_given_away_again() -> Patches:
    """ADD-PATH ids are the position in the list of paths, so that they move when one before them goes."""
    original = Exporter._advert

    def advert(self: Exporter, prefix: bytes, selection: Any) -> Any:
        rows = original(self, prefix, selection)
        return tuple((number, *row[1:]) for number, row in enumerate(rows, 1)) if self.target.add_path else rows

    def difference(was: Advert, now: Advert, *, add_path: bool, repeat: bool = False) -> Any:
        gone, announced = original_difference(was, now, add_path=add_path, repeat=repeat)
        return () if now and add_path else gone, announced

    original_difference = parcels.difference
    return [
        mock.patch.object(Exporter, "_advert", advert),
        mock.patch.object(parcels, "difference", difference),
        mock.patch.object(adj_out, "difference", difference),
    ]


def local_pref_over_ebgp() -> Patches:
    """LOCAL_PREF goes to neighbours of other ASes (RFC 4271 5.1.5): the export rules and the encoder both let it pass."""
    original = Exporter._over_ebgp

    def over_ebgp(self: Exporter, attributes: Any) -> Any:
        return original(self, attributes).evolve(local_pref=attributes.local_pref)

    writers = tuple((code, row._replace(internal_only=False)) for code, row in attribute_codec._WRITERS)
    return [
        mock.patch.object(Exporter, "_over_ebgp", over_ebgp),
        mock.patch.object(attribute_codec, "_WRITERS", writers),
    ]


def ibgp_routes_reflected() -> Patches:
    """What came over iBGP goes on over iBGP (RFC 4271 9.2.1)."""
    original = Exporter._told

    def told(self: Exporter, prefix: bytes, path: Path) -> Any:
        if path.source.kind is Kind.IBGP and not self.target.ebgp and path.source.name != self.target.name:
            return self._over_ibgp(path.attributes), path.next_hop
        return original(self, prefix, path)

    return [mock.patch.object(Exporter, "_told", told)]


def implicit_withdrawal_ignored() -> Patches:
    """A second announcement of a prefix does not replace the first (RFC 4271 3.1)."""
    original = AdjRibIn.announce

    def announce(self: AdjRibIn, slices: Collection[bytes], path: Path) -> None:
        original(self, [piece for piece in slices if piece not in self.routes], path)

    return [mock.patch.object(AdjRibIn, "announce", announce)]


def next_hop_of_a_dead_link_used() -> Patches:
    """Paths are not looked at again when their next hop stops to resolve (RFC 4271 9.1.2.1)."""

    def reconsider(_: Table, __: frozenset[bytes]) -> Iterator[None]:
        yield from ()

    return [mock.patch.object(Table, "reconsider", reconsider)]


def soft_clear_forgets_denied_routes() -> Patches:
    """A soft clear out looks at what may be announced, and leaves what may not any more with the neighbour (BGP-7)."""

    original = OutGroups.renew

    def renew(self: OutGroups, out: AdjRibOut) -> None:
        original(self, out)
        for prefix in list(out._missed):
            if not out.group.exporter.advert(prefix, self._tables[out.family].selections.get(prefix)):
                out.group.sent.pop(prefix, None)
                del out._missed[prefix]

    def fill(self: OutGroup, selections: Mapping[bytes, Any]) -> Iterator[None]:
        self.mark([p for p in selections if self.exporter.advert(p, selections[p])])
        yield

    return [mock.patch.object(OutGroups, "renew", renew), mock.patch.object(OutGroup, "fill", fill)]


def stale_routes_never_swept() -> Patches:
    """After a graceful restart End-of-RIB comes, and what was not announced again stays (RFC 4724 4.2)."""

    def sweep(self: Helper, family: Any, _reason: str) -> None:
        self.stale.discard(family)

    return [mock.patch.object(Helper, "_sweep", sweep)]


def timer_left_behind() -> Patches:
    """The end of a connection does not stop its timers."""
    return [mock.patch.dict(_ACTIONS, {Action.RELEASE: lambda _: None})]


def connection_left_open() -> Patches:
    """A session that ends does not close its connection."""

    def lose(connection: Any) -> None:
        connection.lose()

    return [mock.patch.dict(_ACTIONS, {Action.DROP: lose})]


BUGS: dict[str, Callable[[], Patches]] = {
    bug.__name__: bug
    for bug in (
        no_loop_check,
        withdrawal_forgotten,
        med_of_all_neighbors_compared,
        collision_keeps_both,
        hold_timer_not_restarted,
        old_routes_kept_after_the_session,
        adj_rib_out_survives_the_session,
        path_id_used_twice,
        path_id_given_away_again,
        local_pref_over_ebgp,
        ibgp_routes_reflected,
        implicit_withdrawal_ignored,
        next_hop_of_a_dead_link_used,
        soft_clear_forgets_denied_routes,
        stale_routes_never_swept,
        timer_left_behind,
        connection_left_open,
    )
}

RARE = {"stale_routes_never_swept": 112, "next_hop_of_a_dead_link_used": 243, "soft_clear_forgets_denied_routes": 483}
"""Bugs that few schedules bring out -> the first seed that did, by which a search begins; a change of the schedules makes it useless."""


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The speaker has this bug within the block."""
    with contextlib.ExitStack() as stack:
        for patch in BUGS[name]():
            stack.enter_context(patch)
        yield
