"""Adj-RIB-Out (RFC 4271 3.2) of one neighbour: what it was told for one family, and what it still has to be told.

Most of it is its update group's (``out_group``): here is only in which prefixes this neighbour differs from the group. A policy
change alone moves nothing (BGP-7): only prefixes that changed, or that a soft clear or a refresh marked, are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from harness.bgp.export import NOTHING, Advert, Exporter, seen_by
from harness.bgp.out_group import OutGroup, pieces
from harness.bgp.parcels import Parcel, Step, difference, said
from harness.bgp.prefixes import Family, with_path_id
from harness.bgp.rib import STRIDE
from harness.bgp.session import Session
from harness.bgp.update import end_of_rib
from harness.bgp.watcher import Marks


class AdjRibOut:
    """One neighbour, one family, for the life of a session: a member of ``group``.

    ``is_ready`` says whether the session can take messages, ``send`` gives it some.
    """

    def __init__(
        self,
        session: Session,
        family: Family,
        exporter: Exporter,
        is_ready: Callable[[], bool],
        send: Callable[[list[bytes]], None],
    ) -> None:
        self.exporter = exporter
        self.session = session
        self.family = family
        self.is_ready = is_ready
        self.watch: list[Marks] = []
        self.group = OutGroup(session, family, exporter.alike())
        self._send = send
        self._add_path = family in session.add_path_send
        # What it knows of the prefixes in which it may differ from the group; while it joins it knows nothing of any other.
        self._missed: dict[bytes, Advert] = {}
        self._joining = 0
        self._forced: set[bytes] = set()
        self._marker_due = False
        self._ended = False

    @property
    def name(self) -> str:
        return self.exporter.target.name

    @property
    def in_step(self) -> bool:
        """It knows what its group's ``sent`` says."""
        return not self._missed and not self._joining

    @property
    def waiting(self) -> bool:
        """Whether there is something to look at or to send."""
        return not self.in_step or self._marker_due or self.group.waiting

    @property
    def marker_due(self) -> bool:
        """Whether End-of-RIB is still to come."""
        return self._marker_due

    @property
    def behind(self) -> bool:
        """:meth:`messages` has some more to say."""
        return bool(self._missed) and not self._joining

    def __len__(self) -> int:
        """How many prefixes it was told of."""
        if self._joining:
            return sum(bool(seen_by(advert, self.name)) for advert in self._missed.values())
        count, sent, name = self.group.count(self.name), self.group.sent, self.name
        for prefix, advert in self._missed.items():
            count += bool(seen_by(advert, name)) - bool(seen_by(sent.get(prefix, NOTHING), name))
        return count

    def told(self, prefix: bytes) -> Advert:
        """What it was told of a prefix."""
        advert = self._missed.get(prefix)
        if advert is None:
            advert = NOTHING if self._joining else self.group.sent.get(prefix, NOTHING)
        own = self.exporter.target.own_address
        return tuple((row[0], row[1], row[2] or own, row[3]) for row in seen_by(advert, self.name))

    @property
    def sent(self) -> dict[bytes, Advert]:
        """All that it was told, made up anew."""
        known = chain(self._missed, () if self._joining else self.group.sent)
        return {prefix: advert for prefix in known if (advert := self.told(prefix))}

    def slices(self) -> list[bytes]:
        """What the neighbour was told, as NLRI (with path ids where ADD-PATH is sent)."""
        if not self._add_path:
            return list(self.sent)
        return [with_path_id(row[0], prefix) for prefix, advert in self.sent.items() for row in advert]

    # ------------------------------------------------------------------------------------------------------------------ the group

    def join(self, group: OutGroup, known: dict[bytes, Advert]) -> Iterator[None]:
        """Becomes a member, knowing ``known``. At once; the walk that is returned makes it complete."""
        self.group = group
        self._missed = known
        self._joining += 1
        return self._join(group)

    def _join(self, group: OutGroup) -> Iterator[None]:
        for piece in pieces(list(group.sent)):
            if self._ended or self.group is not group:
                break
            for prefix in piece:
                self._missed.setdefault(prefix, NOTHING)
            yield
        self._joining -= 1

    def move(self, group: OutGroup) -> Iterator[None]:
        """``group`` is a copy of its group, and takes its place. At once; the walk that is returned goes on with a :meth:`join`."""
        if self._joining:
            return self.join(group, self._missed)
        self.group = group
        return iter(())

    def known(self) -> dict[bytes, Advert]:
        """All that it was told, as :meth:`join` takes it."""
        return dict(self._missed) if self._joining else {**self.group.sent, **self._missed}

    def miss(self, step: Step) -> None:
        """The group went on without it."""
        was = NOTHING if self._joining else step.was
        setdefault = self._missed.setdefault
        for prefix in step.prefixes:
            setdefault(prefix, was)

    def tell(self, parcels: list[Parcel]) -> None:
        """The group goes on, with it."""
        if self.watch:
            slices = list(said(parcels))
            for mark in self.watch:
                mark(slices)
        own = self.exporter.target.own_address
        self._send([message for parcel in parcels for message in parcel.messages(own)])

    # --------------------------------------------------------------------------------------------------------------- what it asks for

    def begin(self) -> None:
        """The session came up: after the whole table comes the End-of-RIB marker (RFC 4724 2)."""
        self._marker_due = True

    def repeat(self) -> Iterator[None]:
        """The neighbour asked for everything again (RFC 2918): also what has not changed is sent. A walk."""
        for piece in pieces(list(self.group.sent)):
            if self._ended:
                return
            sent, joining = self.group.sent, self._joining
            for prefix in piece:
                self._missed.setdefault(prefix, NOTHING if joining else sent.get(prefix, NOTHING))
            self._forced.update(piece)
            yield

    def drain(self) -> Iterator[None]:
        """The session is gone: gives the memory back piece by piece. A walk."""
        self._ended = True
        self._forced = set()
        while self._missed:
            for _ in range(min(STRIDE, len(self._missed))):
                self._missed.popitem()
            yield

    def messages(self, limit: int) -> list[bytes]:
        """UPDATE messages for at most ``limit`` of the prefixes in which it differs from the group; then the marker, where it is due."""
        if self._joining:
            return []
        found: list[bytes] = []
        if self._missed:
            parcel = Parcel(self.session, self.family)
            sent, forced = self.group.sent, self._forced
            # By identity: a step holds its two adverts, so that no other can come to lie at their place.
            steps: dict[tuple[int, int, bool], Step] = {}
            for _ in range(min(limit, len(self._missed))):
                prefix, was = self._missed.popitem()
                now, repeat = sent.get(prefix, NOTHING), prefix in forced
                if now is was and not repeat:
                    continue
                key = (id(was), id(now), repeat)
                step = steps.get(key)
                if step is None:
                    step = steps[key] = Step(was, now)
                step.prefixes.append(prefix)
            for (_, _, repeat), step in steps.items():
                if repeat:
                    forced.difference_update(step.prefixes)
                was, now = seen_by(step.was, self.name), seen_by(step.now, self.name)
                parcel.put(difference(was, now, add_path=self._add_path, repeat=repeat), step.prefixes)
            for mark in self.watch:
                mark(parcel.slices())
            found = parcel.messages(self.exporter.target.own_address)
        if self._marker_due and not self._missed and not self.group.waiting and not self.group.filling:
            self._marker_due = False
            found.append(end_of_rib(self.family))
        return found
