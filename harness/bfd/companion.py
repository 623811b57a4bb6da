"""The speaker's end of the BFD process: starts it when a session is first wanted, asks, and hears what happens.

Nothing here waits for the process: requests are sent, reports come by the loop. A process that ends by itself is started again at
once and takes up the sessions that were Up where they stood, so that nobody is called down, here or at the other end. The sequence
numbers of those whose packets are signed are in memory that both processes share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from harness.bfd.daemon import MESSAGE_MAX, Report, Request, become
from harness.bfd.ledger import Ledger

AGAIN_AFTER = 1.0
"""Seconds between the starts of two processes: one that ends at its start is not tried in a circle."""
ANSWER_WITHIN = 1.0


class Companion:
    """``told`` is called with every report of a transition, a refusal or a failure."""

    def __init__(self, loop: asyncio.AbstractEventLoop, told: Callable[[Report], None]) -> None:
        self._loop = loop
        self._told = told
        self._wanted: dict[str, Request] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._standing: dict[str, dict[str, Any]] = {}
        self._ledger: Ledger | None = None
        self._started_at = -AGAIN_AFTER
        self._pair: socket.socket | None = None
        self._pid = 0
        self._number = 0
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._again: asyncio.TimerHandle | None = None
        self._refused = False

    @property
    def pid(self) -> int:
        """The process; 0 while there is none."""
        return self._pid

    def row(self, name: str) -> dict[str, Any] | None:
        """The session as last reported (:func:`harness.bfd.demux.row`); None before the first report."""
        return self._rows.get(name)

    def add(self, request: Request) -> None:
        """Begins a session; ``request`` is complete but for ``op`` and ``place``."""
        if self._ledger is None:
            self._ledger = Ledger()
        place = None if request["auth"] is None else self._ledger.take()
        self._vacate(request["name"])
        request = {**request, "op": "add", "place": place}
        self._wanted[request["name"]] = request
        self._standing.pop(request["name"], None)
        if self._pair is None:
            self._start()
        else:
            self._send(request)

    def remove(self, name: str) -> None:
        """Ends a session: the peer hears AdminDown. Harmless where there is none of that name."""
        if name in self._wanted:
            self._vacate(name)
            del self._wanted[name]
            self._rows.pop(name, None)
            self._standing.pop(name, None)
            self._send({"op": "remove", "name": name})

    def retime(self, name: str, interval_ms: int, multiplier: int) -> None:
        """Other timers, agreed on by a poll sequence while the session stays Up."""
        self._wanted[name] = {**self._wanted[name], "interval_ms": interval_ms, "multiplier": multiplier}
        self._send({"op": "retime", "name": name, "interval_ms": interval_ms, "multiplier": multiplier})

    async def refresh(self) -> None:
        """Returns once :meth:`row` is up to date, counters too; at once where there is no session, after a second where no answer."""
        if not self._wanted or self._pair is None:
            return
        self._number += 1
        answered = self._asked[self._number] = self._loop.create_future()
        self._send({"op": "status", "number": self._number})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WITHIN):
                await answered

    def close(self) -> None:
        """Every session says goodbye and the process ends."""
        for name in tuple(self._wanted):
            self.remove(name)
        if self._again is not None:
            self._again.cancel()
        self._bury()

    # ---------------------------------------------------------------------------------------------------------- the process

    def _start(self) -> None:
        assert self._ledger is not None
        self._refused = False
        if self._again is not None:
            self._again.cancel()
            self._again = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            become(theirs, self._ledger)
        theirs.close()
        ours.setblocking(False)
        self._pair, self._pid = ours, pid
        self._loop.add_reader(ours, self._hear)
        self._started_at = self._loop.time()
        for name, request in self._wanted.items():
            standing = self._standing.get(name)
            # Signed and without a place its sequence number is gone: it begins anew.
            if standing is not None and (request["auth"] is None or request["place"] is not None):
                request = {**request, "standing": standing}
            self._send(request)

    def _send(self, request: Request) -> None:
        if self._pair is not None:
            # A process that ended is noticed by its end of the pair, and gets all of it again.
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self._pair.send(json.dumps(request).encode())

    def _hear(self) -> None:
        assert self._pair is not None
        while True:
            try:
                message = self._pair.recv(MESSAGE_MAX)
            except BlockingIOError:
                return
            except ConnectionError:
                message = b""
            if not message:
                self._lost()
                return
            self._take(json.loads(message))

    def _take(self, report: Report) -> None:
        if report["kind"] == "status":
            self._rows.update({name: row for name, row in report["sessions"].items() if name in self._wanted})
            if (asked := self._asked.pop(report["number"], None)) is not None and not asked.done():
                asked.set_result(None)
            return
        if (name := report.get("name")) is not None:
            # Of a session that is being removed there is nothing to tell any more.
            if name not in self._wanted:
                return
            self._rows[name] = report["session"]
            if "standing" in report:
                self._stands(name, report["standing"])
        if report["kind"] == "failed":
            self._refused = True
        if report["kind"] != "ready":
            self._told(report)

    def _vacate(self, name: str) -> None:
        if self._ledger is not None and (place := self._wanted.get(name, {}).get("place")) is not None:
            self._ledger.give_back(place)

    def _stands(self, name: str, standing: dict[str, Any] | None) -> None:
        if standing is None:
            self._standing.pop(name, None)
        else:
            self._standing[name] = standing

    def _lost(self) -> None:
        self._bury()
        self._rows.clear()
        if self._refused:
            # It said why. The next session that is wanted tries again.
            return
        self._told({"kind": "failed", "reason": "the BFD process ended; it is started again"})
        self._again = self._loop.call_at(max(self._loop.time(), self._started_at + AGAIN_AFTER), self._start)

    def _bury(self) -> None:
        if self._pair is None:
            return
        self._loop.remove_reader(self._pair)
        self._pair.close()
        self._pair = None
        for asked in self._asked.values():
            if not asked.done():
                asked.set_result(None)
        self._asked.clear()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        self._pid = 0
