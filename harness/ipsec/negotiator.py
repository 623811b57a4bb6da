"""When a tunnel is negotiated, and again: at once, then with growing delays, without limit as long as it is wanted (ECMP-30).

It knows nothing of charon: an attempt is a function that returns why it failed, or None when the tunnel stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from harness.ipsec.reasons import Reason
from harness.ipsec.settings import Retry


class Negotiator:
    """:meth:`run` is its task; the other methods steer it from the same event loop.

    ``persistent``: a tunnel that failed or was lost is tried again. ``next_attempt`` is a monotonic time while it waits.
    """

    def __init__(
        self, retry: Retry, attempt: Callable[[], Awaitable[Reason | None]], failed: Callable[[Reason], None]
    ) -> None:
        self.attempts = 0
        self.attempting = False
        self.next_attempt: float | None = None
        self.persistent = False
        self._retry = retry
        self._attempt = attempt
        self._failed = failed
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()

    def want(self, *, persistent: bool) -> None:
        """Negotiates now, or as soon as the attempt that is under way has failed."""
        self.persistent = persistent
        self._wanted.set()
        self._hurry.set()

    def want_no_more(self) -> None:
        """No attempt follows the one that is under way."""
        self.persistent = False
        self._wanted.clear()
        self._hurry.set()

    def begun_elsewhere(self) -> None:
        """An attempt that is not of this class's making has begun; :meth:`concluded` is its end."""
        self.attempts += 1
        self.attempting = True

    def concluded(self) -> None:
        self.attempting = False

    def lost(self) -> None:
        """The tunnel stood and is gone."""
        if self.persistent:
            self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        delay: float | None = None
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()  # before the attempt: a tunnel lost while its answer is on the way is wanted again
                self._hurry.clear()
                begun = time.monotonic()
                failure = await self._try()
                if failure is None or not self.persistent:
                    delay = None
                    continue
                delay = self._retry.after(delay)
                self.next_attempt = begun + delay
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self.next_attempt - time.monotonic())):
                        await self._hurry.wait()
                    delay = None
                self.next_attempt = None
                if self.persistent:
                    self._wanted.set()
        finally:
            self.attempting, self.next_attempt = False, None
            self._wanted.clear()

    async def _try(self) -> Reason | None:
        self.attempts += 1
        self.attempting = True
        try:
            failure = await self._attempt()
        finally:
            self.attempting = False
        if failure is not None:
            self._failed(failure)
        return failure
