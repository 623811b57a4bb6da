"""Which neighbours are told alike: the update groups of a speaker (``out_group``), found by what makes them equal.

Alike are sessions whose export rules and policies are the same and whose messages are written the same way. What makes a difference
is gathered in :func:`_key`; the neighbour's name and the session's local address are not part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.bgp.adj_out import AdjRibOut
from harness.bgp.export import Advert
from harness.bgp.out_group import OutGroup
from harness.bgp.prefixes import Family
from harness.bgp.rib import Change, Table

Key = tuple[object, ...]


def _key(out: AdjRibOut) -> Key:
    session, target = out.session, out.exporter.target
    return (
        out.family,
        replace(target, name="", own_address=b""),
        len(target.own_address),
        out.exporter.policy.key,
        session.asn4,
        session.ebgp,
        session.max_length,
    )


class OutGroups:
    """``walk`` takes work that pauses."""

    def __init__(self, tables: Mapping[Family, Table], walk: Callable[[Iterator[None]], None]) -> None:
        self._tables = tables
        self._walk = walk
        self._by_key: dict[Key, OutGroup] = {}
        self._keys: dict[OutGroup, Key] = {}
        self._unsettled: dict[OutGroup, None] = {}

    def all(self) -> list[OutGroup]:
        return list(self._keys)

    def enter(self, out: AdjRibOut, known: dict[bytes, Advert] | None = None) -> None:
        """A session came up, or one that knows ``known`` changes to the group of its like."""
        key = _key(out)
        group = self._by_key.get(key)
        selections = self._tables[out.family].selections
        if group is None:
            # Alone it needs no entry for the paths that came from it.
            group = self._by_key[key] = OutGroup(out.session, out.family, out.exporter.alike(out.name))
            self._keys[group] = key
            self._walk(group.fill(selections))
        elif group.exporter.target.name:
            group.exporter = out.exporter.alike()
            self._walk(group.fill(selections))
        group.members[out.name] = out
        self._walk(out.join(group, known or {}))

    def leave(self, out: AdjRibOut) -> None:
        """Its session is gone, or it goes to another group."""
        group = out.group
        if group.members.get(out.name) is not out:
            return
        del group.members[out.name]
        if not group.members:
            self._forget(group)
            self._walk(group.drain())

    def _forget(self, group: OutGroup) -> None:
        self._unsettled.pop(group, None)
        key = self._keys.pop(group)
        if self._by_key.get(key) is group:
            del self._by_key[key]

    def follow(self, family: Family, changes: Sequence[Change]) -> None:
        for group in self._keys:
            if group.family is family:
                group.follow(changes)

    def advance(self, group: OutGroup, limit: int) -> bool:
        """:meth:`OutGroup.advance`, once everybody in it is alike."""
        if self._unsettled:
            self.settle()
        return group in self._keys and group.advance(self._tables[group.family].selections, limit)

    # ------------------------------------------------------------------------------------------------------------------- changes

    def changed(self, out: AdjRibOut) -> None:
        """Its exporter is another one. What it was told stays; from the next change of a prefix on the new rules count."""
        self._unsettled[out.group] = None

    def settle(self) -> None:
        """Parts those that are no longer alike."""
        unsettled, self._unsettled = self._unsettled, {}
        for group in unsettled:
            if group not in self._keys:
                continue
            parts: dict[Key, list[AdjRibOut]] = {}
            for member in group.members.values():
                parts.setdefault(_key(member), []).append(member)
            key = self._keys[group]
            staying = key if key in parts else max(parts, key=lambda k: len(parts[k]))
            for other, members in parts.items():
                if other != staying:
                    self._part(group, other, members)
            if staying != key:
                self._change(group, staying, parts[staying][0])

    def _change(self, group: OutGroup, key: Key, member: AdjRibOut) -> None:
        """All members have the same new rules."""
        old = self._keys[group]
        if self._by_key.get(old) is group:
            del self._by_key[old]
        self._keys[group] = key
        group.exporter = member.exporter.alike(group.exporter.target.name)
        group.pure = False

    def _part(self, group: OutGroup, key: Key, members: list[AdjRibOut]) -> None:
        other = group.copy(members[0].exporter.alike())
        self._keys[other] = key
        for member in members:
            del group.members[member.name]
            other.members[member.name] = member
            self._walk(member.move(other))
        if group.filling:
            self._walk(other.fill(self._tables[group.family].selections))

    def renew(self, out: AdjRibOut) -> None:
        """Everything that ``out`` was told is to be held against its rules again; what comes out the same is not sent."""
        self.settle()
        group = out.group
        if group.pure:
            return
        if len(group.members) == 1 and _key(out) not in self._by_key:
            self._by_key[_key(out)] = group
            group.pure = True
            self._walk(group.fill(self._tables[out.family].selections))
            return
        known = out.known()
        self.leave(out)
        self.enter(out, known)
