"""The only writer of kernel routes in a lab: what a routing daemon installs, and the removal of what a killed one left.

``fib_model`` says what a Fib is and how a route is given; ``fib_groups`` writes next-hop objects and groups, ``fib_multipath``
RTA_MULTIPATH for kernels without them; :func:`open_fib` chooses. The public names of the first are handed on from here.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace

from harness.net.background import BackgroundWriter
from harness.net.fib_groups import GroupFib
from harness.net.fib_model import Fib, FibSettings, GroupKind, Installed, Loss, Way, Ways, Written, wire
from harness.net.fib_multipath import MultipathFib
from harness.net.netlink import NetlinkError
from harness.net.requests import (
    TABLE_MAIN,
    Protocol,
    Resilient,
    nexthop_del,
    nexthop_group,
)
from harness.net.route_encoder import RouteEncoder
from harness.net.rtnl import Rtnl

_ABSENT_ID = 0x7FFFFFFF

__all__ = [
    "Fib",
    "FibSettings",
    "GroupKind",
    "Installed",
    "Loss",
    "Way",
    "Ways",
    "Written",
    "has_nexthops",
    "has_resilient_groups",
    "open_fib",
    "sweep",
    "sweep_with",
]


def open_fib(rtnl: Rtnl, family: int, settings: FibSettings, background: BackgroundWriter | None = None) -> Fib:
    """The Fib of the kind asked for, or the next simpler one that this kernel can do; ``Fib.name`` says which it is.

    With ``background`` large batches are written there, where the kind can do that.
    """
    if settings.kind is GroupKind.MULTIPATH or not has_nexthops(rtnl):
        return MultipathFib(rtnl, family, settings)
    if settings.kind is GroupKind.RESILIENT and not has_resilient_groups(rtnl):
        settings = replace(settings, kind=GroupKind.PLAIN)
    return GroupFib(rtnl, family, settings, background)


def has_nexthops(rtnl: Rtnl) -> bool:
    """Whether the kernel has next-hop objects (Linux 5.3 and later)."""
    try:
        rtnl.nexthops()
    except NetlinkError:
        return False
    return True


def has_resilient_groups(rtnl: Rtnl) -> bool:
    """Whether the kernel has resilient groups (Linux 5.13 and later).

    Asks for one with a member that does not exist: a kernel that knows them objects to the member, others to the attributes.
    """
    asked = nexthop_group(_ABSENT_ID, [(_ABSENT_ID - 1, 1)], resilient=Resilient(8, 0.0, 0.0))
    return any(error.remark == "Invalid nexthop id" for error in rtnl.attempt([asked]))


def sweep(netns_fd: int | None, *, table: int = TABLE_MAIN, protocol: int = Protocol.BGP) -> int:
    """Removes the routes and next hops that a killed daemon left in a namespace (None: the caller's). Returns how many routes."""
    with Rtnl(netns_fd) as rtnl:
        return sweep_with(rtnl, table=table, protocol=protocol)


def sweep_with(rtnl: Rtnl, *, table: int = TABLE_MAIN, protocol: int = Protocol.BGP, keep: Sequence[Fib] = ()) -> int:
    """:func:`sweep` over a socket that is open already; what the Fibs of ``keep`` have adopted stays."""
    removed = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        keys = [
            key
            for key in rtnl.route_keys(table, protocol, family)
            if not any(
                fib.family == family and fib.settings.metric == key[3] and fib.route(wire(key[2], key[1]))
                for fib in keep
            )
        ]
        removed += len(keys)
        for metric in {key[3] for key in keys}:
            encode = RouteEncoder(family, metric=metric, protocol=protocol, table=table)
            rtnl.bulk_routes(encode, [wire(packed, length) for _, length, packed, m, _ in keys if m == metric], None)
    if has_nexthops(rtnl):
        # Groups first: deleting their members would take them apart one by one.
        owned = frozenset[int]().union(*(fib.owned() for fib in keep))
        found = [n for n in rtnl.nexthops() if n.protocol == protocol and n.id not in owned]
        left = sorted(found, key=lambda n: not n.group)
        rtnl.attempt([nexthop_del(n.id) for n in left])
    return removed
