"""Routes written by a thread, so that the kernel works on one batch while its daemon works on the next.

Most of what a batch costs is the kernel's own time inside ``sendmsg``, which Python spends without its lock. One batch is under way at a
time for each Fib; it is handed over whole, for each further call would wait for the lock again.

Not here: which batches are worth it, and what becomes of the outcome (``fib_groups``).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from harness.net.route_encoder import RouteEncoder
from harness.net.rtnl import Failure, Rtnl

AT_ONCE = 512
"""Messages in one ``sendmsg``: the refusals of all of them still fit into the socket's receive buffer."""


class BackgroundWriter:
    """A netlink socket of its own, in the namespace of the thread that makes this, and a thread once there is work for it."""

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="routes")

    def fileno(self) -> int:
        return self._rtnl.fileno()

    def submit(self, encode: RouteEncoder, prefixes: Sequence[bytes], nhid: int | None) -> Future[list[Failure]]:
        """:meth:`Rtnl.bulk_routes` in the thread, after what was submitted before."""
        return self._pool.submit(self._rtnl.bulk_routes, encode, prefixes, nhid, AT_ONCE)

    def close(self) -> None:
        """Waits for what is under way."""
        self._pool.shutdown()
        self._rtnl.close()
