"""Route tables as a console prints them, read from running nodes: the speaker's Loc-RIB and the kernel, which must agree.

A :class:`RouteTable` is only rows of words; two are equal when they hold the same rows, however ordered and however often read.
The readers here are pure: they take what a speaker's ``show.routes`` and a kernel dump said, and the words for each neighbour. A
path that the kernel lacks, or a hop that only the kernel has, becomes part of its row's text, so that no table looks right
while packets go elsewhere.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any

Row = tuple[str, ...]

NOT_IN_KERNEL = "not in the kernel"
KERNEL_ONLY = "only in the kernel"


@dataclass(frozen=True, slots=True)
class Usable:
    """A path of the Loc-RIB in use: the neighbour it came from and the kernel hop it must have become."""

    prefix: str
    peer: str
    gateway: str
    interface: str


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop of one kernel route."""

    prefix: str
    gateway: str
    interface: str


class RouteTable:
    """Rows of a route table under their column titles. Equality is that of the sorted rows."""

    def __init__(self, title: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        self.title = title
        self.columns = tuple(columns)
        self.rows = tuple(sorted(rows, key=_order))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RouteTable) and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<RouteTable {self.title!r}: {len(self.rows)} entries>"

    def prefixes(self) -> set[str]:
        return {row[0] for row in self.rows}

    def without(self, *, prefixes: Iterable[str] = (), word: str = "") -> RouteTable:
        """The table less the rows of some prefixes, or less the rows that have ``word`` in a cell after the first."""
        gone = set(prefixes)
        kept = (row for row in self.rows if row[0] not in gone and not (word and any(word in cell for cell in row[1:])))
        less = ", ".join([*sorted(gone), *([word] if word else [])])
        return RouteTable(f"{self.title}, without {less}", self.columns, kept)

    def text(self) -> str:
        """The table in plain text, columns aligned."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [
            self.title,
            *("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in (self.columns, *self.rows)),
        ]
        return "\n".join(line.rstrip() for line in lines)


def _order(row: Row) -> tuple[Any, ...]:
    network = ip_network(row[0])
    return (network.version, int(network.network_address), network.prefixlen, row)


def side_by_side(actual: RouteTable, expected: RouteTable) -> list[str]:
    """The two tables as lines, row against row; rows that stand on one side only are marked."""
    have, want = Counter(actual.rows), Counter(expected.rows)
    rows = sorted((have | want).elements(), key=_order)
    seen_have: Counter[Row] = Counter()
    lines: list[tuple[str, str, str]] = []
    for row in rows:
        seen_have[row] += 1
        there, wanted = seen_have[row] <= have[row], seen_have[row] <= want[row]
        text = "  ".join(row)
        lines.append((" " if there and wanted else "!", text if there else "-", text if wanted else "-"))
    left = max([len("running nodes"), *(len(line[1]) for line in lines)])
    head = [
        f"{actual.title}: {len(actual)} entries, document {len(expected)}",
        f"  {'running nodes'.ljust(left)}  document",
    ]
    return head + [f"{mark} {a.ljust(left)}  {b}".rstrip() for mark, a, b in lines]


def from_bgp(
    title: str,
    columns: Sequence[str],
    usable: Iterable[Usable],
    kernel: Iterable[Hop],
    row: Callable[[Usable], Row],
) -> RouteTable:
    """A table with one row for each usable path, checked hop by hop against the kernel's BGP routes."""
    remaining = Counter((hop.prefix, hop.gateway, hop.interface) for hop in kernel)
    rows: list[Row] = []
    for path in usable:
        words = row(path)
        key = (path.prefix, path.gateway, path.interface)
        if remaining[key] > 0:
            remaining[key] -= 1
        else:
            words = (*words[:-1], f"{words[-1]} ({NOT_IN_KERNEL})")
        rows.append(words)
    width = len(columns)
    for (prefix, gateway, interface), count in remaining.items():
        filler = (f"{gateway or 'direct'} on {interface} ({KERNEL_ONLY})", *("-" for _ in range(width - 2)))
        rows.extend(itertools.repeat((prefix, *filler), count))
    return RouteTable(title, columns, rows)


def from_vpc(
    title: str, columns: Sequence[str], local: Iterable[str], static: Iterable[Hop], words: Mapping[str, str]
) -> RouteTable:
    """The system route table of a VPC: its connected blocks and what was set to point at the VPC connection."""
    rows: list[Row] = [(prefix, "Local", "System") for prefix in local]
    rows += [(hop.prefix, words.get(hop.interface, hop.interface), "Custom") for hop in static]
    return RouteTable(title, columns, rows)


def outside(prefix: str, block: IPv4Network) -> bool:
    """Is the prefix no part of ``block`` (the wiring of the cloud, which no documented table shows)?"""
    network = ip_network(prefix)
    return not (isinstance(network, IPv4Network) and network.subnet_of(block))
