"""A batch for a Fib, written prefix by prefix as a test thinks of it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.net.fib import Fib, Ways, Written


def apply(fib: Fib, changes: Sequence[tuple[bytes, Ways]]) -> Written:
    """Writes each prefix with its ways, those of equal ways together, as the speaker does."""
    by_ways: dict[Ways, list[bytes]] = {}
    for prefix, ways in changes:
        by_ways.setdefault(ways, []).append(prefix)
    return fib.write(by_ways)
