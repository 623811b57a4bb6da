"""What all neighbours of a speaker share: configuration, tables, the world outside, and how to ask for work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from harness.bgp.config import SpeakerConfig
from harness.bgp.deferral import Deferral
from harness.bgp.export import PathIds
from harness.bgp.out_groups import OutGroups
from harness.bgp.ports import Kernel, Shell
from harness.bgp.prefixes import Family
from harness.bgp.rib import Table
from harness.bgp.watcher import Watcher
from harness.control import EventLog


@dataclass(slots=True)
class Surroundings:
    """Handed to each :class:`~harness.bgp.adjacency.Adjacency`. ``walk`` takes work that pauses, ``wake`` says that there is some.

    Only ``config`` is ever exchanged, by ``Speaker.reconfigure``.
    """

    config: SpeakerConfig
    router_id: IPv4Address
    tables: dict[Family, Table]
    shell: Shell
    kernel: Kernel
    log: EventLog
    path_ids: PathIds
    groups: OutGroups
    wake: Callable[[], None]
    walk: Callable[[Iterator[None]], None]
    deferral: Deferral
    watchers: list[Watcher] = field(default_factory=list)

    @property
    def cluster_id(self) -> int:
        """RFC 4456 7."""
        configured = self.config.cluster_id
        return int(self.router_id if configured is None else IPv4Address(configured))
