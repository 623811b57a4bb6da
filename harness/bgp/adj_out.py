"""Adj-RIB-Out (RFC 4271 3.2): what one neighbour was told for one family, and the difference to what it shall be told.

Changed prefixes wait here until the session can take them, so that a slow neighbour costs one entry a prefix, never a queue of
messages. A policy change alone moves nothing (BGP-7): only prefixes that were marked are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from harness.bgp.attributes import Attributes
from harness.bgp.decision import Selection
from harness.bgp.export import NOTHING, Advert, Exporter
from harness.bgp.prefixes import Family, with_path_id
from harness.bgp.rib import STRIDE, Change
from harness.bgp.session import Session
from harness.bgp.update import end_of_rib, pack_announcements, pack_withdrawals
from harness.bgp.watcher import Marks


class AdjRibOut:
    """One neighbour, one family, for the life of a session."""

    def __init__(self, session: Session, family: Family, exporter: Exporter) -> None:
        self.exporter = exporter
        self.sent: dict[bytes, Advert] = {}
        self.watch: list[Marks] = []
        self._session = session
        self._family = family
        self._add_path = family in session.add_path_send
        self._waiting: dict[bytes, None] = {}
        self._forced: set[bytes] = set()
        self._marker_due = False

    def __len__(self) -> int:
        return len(self.sent)

    @property
    def waiting(self) -> bool:
        """Whether there is something to look at or to send."""
        return bool(self._waiting) or self._marker_due

    def slices(self) -> list[bytes]:
        """What the neighbour was told, as NLRI (with path ids where ADD-PATH is sent)."""
        if not self._add_path:
            return list(self.sent)
        return [with_path_id(row[0], prefix) for prefix, advert in self.sent.items() for row in advert]

    def mark(self, prefixes: Iterable[bytes]) -> None:
        """These may have changed."""
        self._waiting.update(dict.fromkeys(prefixes))

    def follow(self, changes: Iterable[Change]) -> None:
        """The table changed. What the neighbour was not told and need not be told does not wait."""
        told = self.sent.keys()
        for _, now, prefixes in changes:
            if self.exporter.may_tell(now) or not told.isdisjoint(prefixes):
                self._waiting.update(dict.fromkeys(prefixes))
        self.exporter.forget()

    def begin(self, prefixes: Iterable[bytes]) -> Iterator[None]:
        """The session came up: the whole table goes out, then the End-of-RIB marker (RFC 4724 2). A walk."""
        yield from self._mark_all(list(prefixes))
        self._marker_due = True

    def repeat(self, prefixes: Iterable[bytes]) -> Iterator[None]:
        """The neighbour asked for everything again (RFC 2918): also what has not changed is sent. A walk."""
        yield from self._mark_all([*prefixes, *self.sent], forced=True)

    def reconsider(self, prefixes: Iterable[bytes]) -> Iterator[None]:
        """Soft clear out: everything is held against the policy again; what comes out the same is not sent. A walk."""
        yield from self._mark_all([*prefixes, *self.sent])

    def _mark_all(self, prefixes: list[bytes], *, forced: bool = False) -> Iterator[None]:
        for start in range(0, len(prefixes), STRIDE):
            piece = prefixes[start : start + STRIDE]
            self.mark(piece)
            if forced:
                self._forced.update(piece)
            yield

    def drain(self) -> Iterator[None]:
        """The session is gone: gives the memory back piece by piece. A walk."""
        while self.sent:
            for _ in range(min(STRIDE, len(self.sent))):
                self.sent.popitem()
            yield

    def messages(self, selections: Mapping[bytes, Selection], limit: int) -> list[bytes]:
        """UPDATE messages for at most ``limit`` of the waiting prefixes: withdrawals first, then one group for each set of attributes."""
        prefixes = self._next(limit)
        withdrawn: list[bytes] = []
        announced: dict[tuple[Attributes, bytes], list[bytes]] = {}
        advert_of, sent, forced = self.exporter.advert, self.sent, self._forced
        for prefix in prefixes:
            now = advert_of(prefix, selections.get(prefix))
            was = sent.get(prefix, NOTHING)
            repeat = prefix in forced
            if now == was and not repeat:
                continue
            forced.discard(prefix)
            if was:
                withdrawn += self._gone(prefix, was, now)
            if now:
                sent[prefix] = now
            else:
                sent.pop(prefix, None)
            for row in now:
                if repeat or row not in was:
                    path_id, attributes, next_hop = row
                    nlri = with_path_id(path_id, prefix) if self._add_path else prefix
                    announced.setdefault((attributes, next_hop), []).append(nlri)
        for mark in self.watch:
            mark(chain(withdrawn, *announced.values()))
        self.exporter.forget()
        return self._packed(withdrawn, announced)

    def _next(self, limit: int) -> list[bytes]:
        """The next of those that wait."""
        if len(self._waiting) <= limit:
            prefixes = list(self._waiting)
            self._waiting = {}
            return prefixes
        # From the end: to find the front of a dict from which the front was taken is a search through what is gone.
        pop = self._waiting.popitem
        return [pop()[0] for _ in range(limit)]

    def _gone(self, prefix: bytes, was: Advert, now: Advert) -> list[bytes]:
        if not self._add_path:
            return [] if now else [prefix]
        staying = {path_id for path_id, _, _ in now}
        return [with_path_id(path_id, prefix) for path_id, _, _ in was if path_id not in staying]

    def _packed(self, withdrawn: list[bytes], announced: dict[tuple[Attributes, bytes], list[bytes]]) -> list[bytes]:
        messages: list[bytes] = []
        if withdrawn:
            messages += pack_withdrawals(self._session, self._family, withdrawn)
        for (attributes, next_hop), slices in announced.items():
            messages += pack_announcements(self._session, self._family, attributes, next_hop, slices)
        if self._marker_due and not self._waiting:
            self._marker_due = False
            messages.append(end_of_rib(self._family))
        return messages
