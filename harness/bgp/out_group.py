"""Update groups: the Adj-RIBs-Out (RFC 4271 3.2) of neighbours that are told alike, kept and encoded once.

A group's ``sent`` is what those of its members know that are in step. One that is not, because it does not read, came later or asked
for a repetition, has in its own Adj-RIB-Out what it knows of each prefix in which it differs, and nothing else: it holds up
nobody, and costs at most an entry a prefix, however often the prefix changes. When it reads again it gets the difference.

Whose policy or options change alone leaves the group with what it was told, for a change of policy moves nothing by itself (BGP-7).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from harness.bgp.decision import Selection
from harness.bgp.export import NOTHING, Advert, Exporter
from harness.bgp.parcels import Parcels, Step
from harness.bgp.prefixes import Family
from harness.bgp.rib import STRIDE, Change
from harness.bgp.session import Session

if TYPE_CHECKING:
    from harness.bgp.adj_out import AdjRibOut


class OutGroup:
    """``pure``: every entry of ``sent`` that does not wait is what the exporter makes of the table now, so that others may join."""

    def __init__(self, session: Session, family: Family, exporter: Exporter) -> None:
        self.exporter = exporter
        self.session = session
        self.family = family
        self.sent: dict[bytes, Advert] = {}
        self.members: dict[str, AdjRibOut] = {}
        self.pure = True
        self.filling = 0
        self._waiting: dict[bytes, None] = {}
        self._only_from: Counter[str] = Counter()

    @property
    def waiting(self) -> bool:
        """Whether there are prefixes to look at."""
        return bool(self._waiting)

    def copy(self, exporter: Exporter) -> OutGroup:
        """A group of its own, without members, where as much was told and as much waits as here."""
        other = OutGroup(self.session, self.family, exporter)
        other.sent = self.sent.copy()
        other._waiting = self._waiting.copy()
        other._only_from = self._only_from.copy()
        other.pure = False
        return other

    def count(self, name: str) -> int:
        """How many prefixes a member that is in step was told of."""
        return len(self.sent) - self._only_from[name]

    # ---------------------------------------------------------------------------------------------------------------- what waits

    def mark(self, prefixes: Iterable[bytes]) -> None:
        """These may have changed."""
        self._waiting.update(dict.fromkeys(prefixes))

    def follow(self, changes: Iterable[Change]) -> None:
        """The table changed. What nobody was told and nobody need be told does not wait."""
        told = self.sent.keys()
        for _, now, prefixes in changes:
            if self.exporter.may_tell(now) or (told and not told.isdisjoint(prefixes)):
                self._waiting.update(dict.fromkeys(prefixes))

    def fill(self, selections: Mapping[bytes, Selection]) -> Iterator[None]:
        """Everything may have changed. A walk; while it goes nobody has all."""
        self.filling += 1
        for piece in pieces([*selections, *self.sent]):
            self.mark(piece)
            yield
        self.filling -= 1

    # ------------------------------------------------------------------------------------------------------------------ telling

    def advance(self, selections: Mapping[bytes, Selection], limit: int) -> bool:
        """Tells at most ``limit`` of the waiting prefixes to all members that can be told; whether it did."""
        ready = [member for member in self.members.values() if member.is_ready()]
        if not ready or not self._waiting:
            return False
        steps = self._steps(selections, self._next(limit))
        in_step = {member.name: member for member in ready if member.in_step}
        for name, member in self.members.items():
            if name not in in_step:
                for step in steps:
                    member.miss(step)
        if in_step and steps:
            parcels = Parcels(self.session, self.family, in_step.keys())
            for step in steps:
                parcels.add(step)
            for name, member in in_step.items():
                if found := parcels.of(name):
                    member.tell(found)
        return True

    def _next(self, limit: int) -> list[bytes]:
        if len(self._waiting) <= limit:
            prefixes = list(self._waiting)
            self._waiting = {}
            return prefixes
        # From the end: to find the front of a dict from which the front was taken is a search through what is gone.
        pop = self._waiting.popitem
        return [pop()[0] for _ in range(limit)]

    def _steps(self, selections: Mapping[bytes, Selection], prefixes: list[bytes]) -> list[Step]:
        """What changes for these prefixes; from then on ``sent`` has it."""
        advert_of, sent = self.exporter.advert, self.sent
        # By identity: a step holds its two adverts, so that no other can come to lie at their place.
        steps: dict[tuple[int, int], Step] = {}
        for prefix in prefixes:
            now = advert_of(prefix, selections.get(prefix))
            was = sent.get(prefix, NOTHING)
            if now is not was:
                key = (id(was), id(now))
                step = steps.get(key)
                if step is None:
                    step = steps[key] = Step(was, now)
                step.prefixes.append(prefix)
        changes = [step for step in steps.values() if step.was != step.now]
        for step in changes:
            if step.now:
                sent.update(dict.fromkeys(step.prefixes, step.now))
            else:
                for prefix in step.prefixes:
                    del sent[prefix]
            self._count(step.was, -len(step.prefixes))
            self._count(step.now, len(step.prefixes))
        return changes

    def _count(self, advert: Advert, number: int) -> None:
        sources = {row[3] for row in advert}
        if len(sources) == 1:
            self._only_from[sources.pop()] += number

    def drain(self) -> Iterator[None]:
        """The last member is gone: gives the memory back piece by piece. A walk."""
        self._waiting = {}
        while self.sent:
            for _ in range(min(STRIDE, len(self.sent))):
                self.sent.popitem()
            yield


def pieces(prefixes: list[bytes]) -> Iterator[list[bytes]]:
    """Cuts a long walk."""
    for start in range(0, len(prefixes), STRIDE):
        yield prefixes[start : start + STRIDE]
