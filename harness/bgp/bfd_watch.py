"""BFD for the speaker: neighbours become sessions of the BFD process, its reports become events and inputs of their Peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from harness.bfd.companion import Companion
from harness.bfd.daemon import Report
from harness.bgp.bfd_options import BfdAuthentication
from harness.bgp.config import Neighbor
from harness.control import EventLog


class BfdWatch:
    """``ports.Bfd`` over a process. ``path_lost`` is called with a neighbour's name and the reason."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: EventLog, path_lost: Callable[[str, str], None]) -> None:
        self._log = log
        self._path_lost = path_lost
        self.companion = Companion(loop, self._told)

    def watch(self, neighbor: Neighbor) -> None:
        options = neighbor.bfd
        if options is None:
            return
        auth = options.auth
        self.companion.add(
            {
                "name": neighbor.name,
                "remote": neighbor.address,
                "local": neighbor.local_address,
                "hop_count": options.hop_count,
                "interval_ms": options.interval_ms,
                "multiplier": options.multiplier,
                "auth": None if auth is None else _auth(auth),
            }
        )

    def unwatch(self, name: str) -> None:
        self.companion.remove(name)

    def retime(self, name: str, interval_ms: int, multiplier: int) -> None:
        self.companion.retime(name, interval_ms, multiplier)

    def row(self, name: str) -> dict[str, Any] | None:
        return self.companion.row(name)

    async def refresh(self) -> None:
        await self.companion.refresh()

    def _told(self, report: Report) -> None:
        match report["kind"]:
            case "transition":
                told = ("old", "new", "diagnostic", "remote_diagnostic", "reason")
                values = {key: report[key] for key in told}  # type: ignore[literal-required]
                self._log.emit("bfd", peer=report["name"], detected=report["time"], **values)
                if report["path_lost"]:
                    self._path_lost(report["name"], report["reason"])
            case "refused":
                values = {key: report[key] for key in ("reason", "ttl", "hop_count")}
                self._log.emit("bfd.refused", peer=report["name"], **values)
            case "resumed":
                self._log.emit("bfd.resumed", peer=report["name"])
            case "failed":
                self._log.emit("bfd.failed", reason=report["reason"])


def _auth(auth: BfdAuthentication) -> dict[str, Any]:
    return {"type": auth.type, "key_id": auth.key_id, "key": auth.key.get_secret_value().encode().hex()}
