"""What several neighbours are told of one piece of a table, encoded once.

All of them get the same octets but for two things: a path never goes back to the neighbour that it came from, and the next hop may be
each session's own local end. The first makes parcels of their own for the few that are concerned; for the second the
message is made once and four or sixteen octets of it are exchanged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import dataclass, field
from itertools import chain

from harness.bgp.attributes import Attributes
from harness.bgp.export import Advert, seen_by
from harness.bgp.prefixes import Family, with_path_id
from harness.bgp.session import Session
from harness.bgp.update import next_hop_at, pack_announcements, pack_withdrawals

Told = tuple[int, Attributes, bytes]
Difference = tuple[tuple[int, ...], tuple[Told, ...]]
"""Path ids to withdraw (0 without ADD-PATH), and what to announce."""


@dataclass(slots=True)
class Step:
    """Prefixes that went together from one advert to another."""

    was: Advert
    now: Advert
    prefixes: list[bytes] = field(default_factory=list)


def difference(was: Advert, now: Advert, *, add_path: bool, repeat: bool = False) -> Difference:
    """What to say to a neighbour that was told ``was`` and shall know ``now``; ``repeat``: all of ``now``."""
    known = [] if repeat else [row[:3] for row in was]
    announced = tuple(row[:3] for row in now if row[:3] not in known)
    if add_path:
        staying = {row[0] for row in now}
        return tuple(row[0] for row in was if row[0] not in staying), announced
    return ((0,) if was and not now else ()), announced


class Parcel:
    """Withdrawals and announcements for one audience. ``messages`` encodes them: when it was called nothing may be added."""

    def __init__(self, session: Session, family: Family) -> None:
        self._session = session
        self._family = family
        self._add_path = family in session.add_path_send
        self._withdrawn: list[bytes] = []
        self._announced: dict[tuple[Attributes, bytes], list[bytes]] = {}
        self._templates: list[tuple[bytes, int]] | None = None

    def put(self, said: Difference, prefixes: Collection[bytes]) -> None:
        gone, announced = said
        for path_id in gone:
            self._withdrawn += self._nlri(path_id, prefixes)
        for path_id, attributes, next_hop in announced:
            self._announced.setdefault((attributes, next_hop), []).extend(self._nlri(path_id, prefixes))

    def _nlri(self, path_id: int, prefixes: Collection[bytes]) -> Collection[bytes]:
        return [with_path_id(path_id, prefix) for prefix in prefixes] if self._add_path else prefixes

    def slices(self) -> Iterator[bytes]:
        """All that is said, as NLRI."""
        return chain(self._withdrawn, *self._announced.values())

    def messages(self, own_address: bytes) -> list[bytes]:
        """Withdrawals first, then messages for each set of attributes, for a session whose local end is ``own_address``."""
        if self._templates is None:
            self._templates = list(self._encoded(own_address))
        size = len(own_address)
        return [
            message
            if not at or message.startswith(own_address, at)
            else message[:at] + own_address + message[at + size :]
            for message, at in self._templates
        ]

    def _encoded(self, own_address: bytes) -> Iterator[tuple[bytes, int]]:
        """Each message, and where in it the next hop is to be exchanged (0: nowhere)."""
        if self._withdrawn:
            for message in pack_withdrawals(self._session, self._family, self._withdrawn):
                yield message, 0
        for (attributes, next_hop), slices in self._announced.items():
            try:
                packed = pack_announcements(self._session, self._family, attributes, next_hop or own_address, slices)
            except ValueError:
                # RFC 8654 4: what outgrew the session's messages cannot be told, and nothing older may stay in its place.
                for message in pack_withdrawals(self._session, self._family, slices):
                    yield message, 0
                continue
            for message in packed:
                yield message, 0 if next_hop else next_hop_at(message, self._family)


class Parcels:
    """The parcels of some steps for the neighbours ``names``: one for all, and where steps come from some of these, others."""

    def __init__(self, session: Session, family: Family, names: Set[str]) -> None:
        self._names = names
        self._add_path = family in session.add_path_send
        # For all but those named in the key.
        self._common: defaultdict[frozenset[str], Parcel] = defaultdict(lambda: Parcel(session, family))
        self._only: defaultdict[str, Parcel] = defaultdict(lambda: Parcel(session, family))

    def add(self, step: Step) -> None:
        was, now, add_path = step.was, step.now, self._add_path
        said = difference(was, now, add_path=add_path)
        apart: list[str] = []
        for name in {row[3] for row in chain(was, now)}.intersection(self._names):
            own = difference(seen_by(was, name), seen_by(now, name), add_path=add_path)
            if own != said:
                apart.append(name)
                if own != _SILENCE:
                    self._only[name].put(own, step.prefixes)
        if said != _SILENCE:
            self._common[frozenset(apart)].put(said, step.prefixes)

    def of(self, name: str) -> list[Parcel]:
        """The parcels of one of the neighbours."""
        found = [parcel for without, parcel in self._common.items() if name not in without]
        if name in self._only:
            found.append(self._only[name])
        return found


_SILENCE: Difference = ((), ())


def said(parcels: Iterable[Parcel]) -> Iterator[bytes]:
    """All NLRI in some parcels."""
    return chain.from_iterable(parcel.slices() for parcel in parcels)
