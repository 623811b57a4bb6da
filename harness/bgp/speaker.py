"""The speaker: neighbours, tables, own networks and the kernel, joined.

Work is done in slices: what arrives changes the tables at once; decisions' consequences (kernel routes, announcements, events) follow in
:meth:`Speaker._slice`, which never runs longer than SLICE and comes again through the shell while there is more. So a burst leads to
batches, and keepalives and timers get their turn between them.

No socket and no clock of its own: see ``ports``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import TypeVar

from harness.bgp import prefixes as nlri
from harness.bgp import signals
from harness.bgp.adjacency import SEND_LIMIT, families_of
from harness.bgp.attributes import Attributes, Origin
from harness.bgp.config import Network, SpeakerConfig, parse_network
from harness.bgp.decision import Preferences, Selection
from harness.bgp.deferral import Deferral
from harness.bgp.errors import Cease
from harness.bgp.export import PathIds
from harness.bgp.neighborhood import Neighborhood
from harness.bgp.out_groups import OutGroups
from harness.bgp.paths import Kind, Path, Source
from harness.bgp.ports import Bfd, Kernel, NoBfd, Shell, Timer
from harness.bgp.prefixes import Family
from harness.bgp.rib import Change, Table
from harness.bgp.surroundings import Surroundings
from harness.bgp.telling import path_row, ways_rows
from harness.control import EventLog
from harness.net.fib import Loss, Ways, Written

_T = TypeVar("_T")

SLICE = 0.004
"""Seconds that one piece of work may take before others get their turn."""
BATCH = 512
"""Prefixes decided, written and announced together."""
BACKLOG = 4096
"""Changed prefixes that interrupt a walk."""
TOLD = 64
FEW = 8
"""An event lists up to TOLD prefixes, of a larger batch the first FEW; it always carries their number."""


class NetworkError(ValueError):
    """A command names a network that is not there, or is there already."""


class Speaker(Neighborhood):
    """One BGP speaker. ``start`` begins the sessions; ``stop`` ends them and takes its routes out of the kernel."""

    def __init__(
        self,
        config: SpeakerConfig,
        router_id: IPv4Address,
        shell: Shell,
        kernel: Kernel,
        log: EventLog,
        bfd: Bfd = NoBfd(),
        *,
        restarted: bool = False,
    ) -> None:
        self.config = config
        self.router_id = router_id
        self.kernel = kernel
        self.log = log
        self.networks: dict[bytes, tuple[Family, Network]] = {}
        self._shell = shell
        self.tables = {family: Table(family, _preferences(config), kernel.cost) for family in Family}
        own = Source("local", Kind.LOCAL, config.asn, int(router_id))
        attributes = Attributes(origin=Origin.IGP)
        self._own_path = Path(own, 0, attributes, attributes, b"")
        self._originated: set[tuple[Family, bytes]] = set()
        self._walks: deque[Iterator[None]] = deque()
        self._unwritten: dict[Family, set[bytes]] = {family: set() for family in Family}
        self._turn = 0
        self._awake = False
        self._unswept: set[Family] = set()
        self._deferral = Deferral(self._selected, restarted=restarted)
        self._deferral_timer: Timer | None = None
        around = Surroundings(
            config,
            router_id,
            self.tables,
            shell,
            kernel,
            log,
            PathIds(),
            OutGroups(self.tables, self._walk),
            self.wake,
            self._walk,
            self._deferral,
        )
        self.watchers = around.watchers
        super().__init__(around, bfd)

    # ------------------------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        if self._deferral.restarted:
            self._defer()
        for network in self.config.networks:
            self._put_network(network)
        for neighbor in self.config.neighbors:
            self._put_neighbor(neighbor)
        self._tell_shell()
        for adjacency in self.adjacencies.values():
            if not adjacency.config.shutdown:
                self._begin(adjacency)
        self.wake()

    def _defer(self) -> None:
        """RFC 4724 4.1: selection waits for those whose routes the kernel still has."""
        waited = [n for n in self.config.neighbors if n.graceful_restart is not None and not n.shutdown]
        self._deferral.begin((n.name, families_of(n)) for n in waited)
        reason = f"selection waits for End-of-RIB, at most {self.config.selection_deferral_time:g} s"
        # What nobody is waited for goes now: only End-of-RIB would have told that it stays.
        self._unswept |= set(self.tables) - set(self._deferral.waiting)
        for family in self._deferral.waiting:
            self.log.emit("graceful-restart", phase="kept in the kernel", family=str(family), reason=reason)
        if self._deferral.restarting:
            due = self._shell.now() + self.config.selection_deferral_time
            self._deferral_timer = self._shell.call_at(due, self._deferral.expire)

    def _selected(self, family: Family, reason: str) -> None:
        """The selection of a family waits no longer."""
        self._unswept.add(family)
        self.log.emit("graceful-restart", phase="selected", family=str(family), reason=reason)
        if not self._deferral.restarting:
            if self._deferral_timer is not None:
                self._deferral_timer.cancel()
            for adjacency in self.adjacencies.values():
                adjacency.offer_anew()
        self.wake()

    def stop(self, text: str = "") -> None:
        """Cease/2 to every neighbour (RFC 4486), then the kernel's routes go."""
        if self._deferral_timer is not None:
            self._deferral_timer.cancel()
        for adjacency in self.adjacencies.values():
            adjacency.feed(signals.Stop(Cease.ADMINISTRATIVE_SHUTDOWN, text))
            adjacency.retire()
            self.bfd.unwatch(adjacency.name)
        for fib in self.kernel.fibs.values():
            fib.clear()

    def reconfigure(self, config: SpeakerConfig) -> None:
        """Takes over what ``config`` says of the speaker itself; its neighbours, networks and kernel options are not looked at."""
        before, self.config = _preferences(self.config), config
        self._around.config = config
        if _preferences(config) != before:
            for table in self.tables.values():
                self._walk(table.prefer(_preferences(config)))
        for adjacency in self.adjacencies.values():
            adjacency.configure(adjacency.config)

    def wake(self) -> None:
        """There may be work."""
        if not self._awake:
            self._awake = True
            self._shell.call_soon(self._slice)

    def _walk(self, walk: Iterator[None]) -> None:
        self._walks.append(walk)
        self.wake()

    def _slice(self) -> None:
        self._awake = False
        end = self._shell.now() + SLICE
        while True:
            # A walk goes to its end before its consequences are drawn, so that they come as one batch where they fit into one; where
            # they do not, the kernel begins meanwhile, and what waits stays small.
            while self._walks and not self._is_behind():
                if next(self._walks[0], self) is self:
                    self._walks.popleft()
                if self._shell.now() >= end:
                    self.wake()
                    return
            for family, table in self.tables.items():
                if family in self._deferral.waiting:
                    continue
                while table.changed:
                    self._publish(family, table.take(BATCH))
                    if self._shell.now() >= end:
                        self.wake()
                        return
            if not self._walks:
                break
        for family in self.tables:
            if family in self._unswept and family not in self._deferral.waiting:
                self._unswept.discard(family)
                self._sweep(family)
        if self._announce(end):
            self.wake()

    def _is_behind(self) -> bool:
        """Whether more has changed than waits for a walk to end."""
        return any(
            table.changed >= BACKLOG and family not in self._deferral.waiting for family, table in self.tables.items()
        )

    def _sweep(self, family: Family) -> None:
        """Of what a former process left in the kernel, that which nobody announced again goes."""
        fib = self.kernel.fibs.get(family)
        if fib is not None:
            selections = self.tables[family].selections
            gone = [route.prefix for route in fib.installed() if route.prefix not in selections]
            self._tell_written(family, fib.write({(): gone}))

    def _announce(self, end: float) -> bool:
        """A piece to each update group and each neighbour in turn until ``end``; the next time begins with whose turn it then is."""
        more = False
        groups = self._around.groups
        turns: list[Callable[[], bool]] = [
            partial(groups.advance, group, SEND_LIMIT)
            for group in groups.all()
            if group.family not in self._deferral.waiting
        ]
        turns += [adjacency.announce for adjacency in self.adjacencies.values()]
        for number in range(len(turns)):
            more = turns[(self._turn + number) % len(turns)]() or more
            if self._shell.now() >= end:
                self._turn = (self._turn + number + 1) % len(turns)
                return True
        return more

    # ---------------------------------------------------------------------------------------------------------- results

    def _publish(self, family: Family, batch: Sequence[Change]) -> None:
        """The consequences of a batch of decisions: kernel first, then the neighbours are told."""
        self._write_selections(family, [(change.now, change.prefixes) for change in batch])
        self._around.groups.follow(family, batch)
        for mark in self.tables[family].watch:
            for change in batch:
                mark(change.prefixes)
        self._tell_changes(family, [change for change in batch if not _same_routes(change.before, change.now)])

    def _tell_changes(self, family: Family, changes: Sequence[Change]) -> None:
        count = sum(len(change.prefixes) for change in changes)
        if not count:
            return
        named = count if count <= TOLD else FEW
        rows: list[dict[str, object]] = []
        for _, now, prefixes in changes:
            paths = [path_row(p) for p in now.multipath] if now is not None else []
            rows += [{"prefix": nlri.text(p, family), "paths": paths} for p in prefixes[: named - len(rows)]]
            if len(rows) == named:
                break
        self.log.emit("rib", count=count, changed=rows)

    def _write(self, family: Family, prefixes: Iterable[bytes]) -> None:
        """Gives the kernel what these prefixes' selections say."""
        selections = self.tables[family].selections
        self._write_selections(family, [(selections.get(prefix), [prefix]) for prefix in prefixes])

    def _write_selections(self, family: Family, selected: Sequence[tuple[Selection | None, list[bytes]]]) -> None:
        fib = self.kernel.fibs.get(family)
        if fib is None:
            return
        by_ways: dict[Ways, list[bytes]] = {}
        # Most paths of a table differ in their attributes and not in their next hop.
        by_hops: dict[object, list[bytes]] = {}
        for selection, prefixes in selected:
            paths = selection.multipath if selection is not None else ()
            hops: object = paths[0].next_hop if len(paths) == 1 else paths
            together = by_hops.get(hops)
            if together is None:
                ways = () if selection is None else self.ways(selection)
                together = by_hops[hops] = by_ways.setdefault(ways, [])
            together.extend(prefixes)
        self._tell_written(family, fib.write(by_ways))

    def ways(self, selection: Selection) -> Ways:
        """The kernel's ways of a selection, one for each path (several where the next hop itself has several)."""
        if len(selection.multipath) == 1:
            return self._ways_to(selection.multipath[0])
        return tuple(way for path in selection.multipath for way in self._ways_to(path))

    def _ways_to(self, path: Path) -> Ways:
        resolved = self.kernel.resolve(path.next_hop) if path.next_hop else None
        return () if resolved is None else resolved.ways

    def _tell_written(self, family: Family, written: Written) -> None:
        if not written:
            return
        if written.installed or written.removed:
            self._tell_fib(family, written.installed, written.removed, in_place=written.in_place)
        if written.failed:
            self._unwritten[family].update(prefix for prefix, _ in written.failed)
            failed = [{"prefix": nlri.text(p, family), "reason": reason} for p, reason in _some(written.failed)]
            self.log.emit("fib.failed", count=len(written.failed), failed=failed)

    def _tell_fib(self, family: Family, installed: list[bytes], removed: list[bytes], **more: object) -> None:
        fib = self.kernel.fibs[family]
        rows = [row for row in map(fib.route, _some(installed)) if row is not None]
        self.log.emit(
            "fib",
            installed=[
                {"prefix": nlri.text(r.prefix, family), "next_hops": ways_rows(r.ways, self.kernel)} for r in rows
            ],
            removed=[nlri.text(p, family) for p in _some(removed)],
            counts={"installed": len(installed), "removed": len(removed), "routes": len(fib)},
            **more,
        )

    # --------------------------------------------------------------------------------------------------------- the kernel

    def next_hops_changed(self, next_hops: frozenset[bytes]) -> None:
        """The kernel resolves these another way now, or dropped what we had written over them.

        What it refused before is tried again: the reason may have gone with the change.
        """
        for family, prefixes in self._unwritten.items():
            if prefixes:
                self._unwritten[family] = set()
                self._write(family, prefixes)
        for table in self.tables.values():
            self._walk(table.reconsider(next_hops))
        for family, network in list(self.networks.values()):
            self._settle_network(family, network)
        for adjacency in self.adjacencies.values():
            if adjacency.config.fall_over and self.kernel.link_to(adjacency.config.address) is None:
                adjacency.way_lost()
            elif not adjacency.is_up and not adjacency.config.shutdown:
                adjacency.feed(signals.Retry())

    def routes_dropped(self, family: Family, prefixes: list[bytes], cause: str) -> None:
        """The kernel took ways from these by itself: told as the changes of its table that they are."""
        fib = self.kernel.fibs[family]
        left = [p for p in prefixes if fib.route(p) is not None]
        gone = [p for p in prefixes if fib.route(p) is None]
        self._tell_fib(family, left, gone, in_place=[], cause=cause)

    def routes_written(self, family: Family) -> None:
        """The background has written a batch."""
        self._tell_written(family, self.kernel.fibs[family].settle())

    def routes_lost(self, family: Family, loss: Loss) -> None:
        """Somebody else took our routes out of the kernel: told, and repaired only where the configuration says so."""
        repair = self.config.fib.repair
        self.log.emit(
            "fib.lost",
            what=loss.what,
            count=len(loss.prefixes),
            prefixes=[nlri.text(p, family) for p in _some(loss.prefixes)],
            repaired=repair,
        )
        if repair:
            self._write(family, loss.prefixes)

    # --------------------------------------------------------------------------------------------------------- networks

    def add_network(self, network: Network) -> None:
        """Begins to originate a block. Raises NetworkError where it is there already."""
        if nlri.from_network(network.prefix) in self.networks:
            raise NetworkError(f"network {network.prefix} is announced already; delete it first to change it")
        self._put_network(network)
        self.log.emit("network", action="add", prefix=network.prefix)
        self.wake()

    def delete_network(self, prefix: str) -> None:
        """Ceases to originate a block. Raises NetworkError where it is not there."""
        key = nlri.from_network(parse_network(prefix))
        if key not in self.networks:
            known = ", ".join(network.prefix for _, network in self.networks.values()) or "none"
            raise NetworkError(f"network {prefix} is not announced; there are {known}")
        family, _ = self.networks.pop(key)
        self._originate(family, key, False)
        self.log.emit("network", action="delete", prefix=prefix)
        self.wake()

    def _put_network(self, network: Network) -> None:
        family = nlri.family_of(network.prefix)
        self.networks[nlri.from_network(network.prefix)] = (family, network)
        self._settle_network(family, network)

    def _settle_network(self, family: Family, network: Network) -> None:
        key = nlri.from_network(network.prefix)
        version = 4 if family is Family.IPV4_UNICAST else 6
        self._originate(family, key, not network.require_route or self.kernel.has_route(key, version))

    def _originate(self, family: Family, key: bytes, wanted: bool) -> None:
        present = (family, key) in self._originated
        if wanted and not present:
            self._originated.add((family, key))
            self.tables[family].replace(key, None, self._own_path)
        elif present and not wanted:
            self._originated.discard((family, key))
            self.tables[family].replace(key, self._own_path, None)


def _preferences(config: SpeakerConfig) -> Preferences:
    return Preferences(
        config.multipath,
        config.multipath_ibgp,
        config.multipath_as_path,
        config.always_compare_med,
        config.local_pref,
    )


def _some(items: Sequence[_T]) -> Sequence[_T]:
    return items if len(items) <= TOLD else items[:FEW]


def _same_routes(before: Selection | None, now: Selection | None) -> bool:
    if before is None or now is None:
        return before is now
    return before.multipath == now.multipath and before.usable == now.usable and before.candidates == now.candidates
