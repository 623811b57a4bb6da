"""What the interop labs share: two routers, one of them ours and one somebody else's, and a third that speaks by hand.

Each check has an address pair of its own on the one cable between the two, so that it meets no other session.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from harness.daemons.kinds import Kind
from harness.lab import Lab
from harness.plan import End, GracefulRestart, Link, Neighbor, Node, Plan, Role, Speaker
from harness.speakers import shown

PAIRS = 28
OURS, THEIRS = 65001, 65002
#: Generous: the slowest of the daemons waits some seconds before it dials, and a lab machine may be busy.
WITHIN = 15.0


def ours(pair: int) -> str:
    return f"10.0.{pair}.1"


def theirs(pair: int) -> str:
    return f"10.0.{pair}.2"


def plan(kind: Kind) -> Plan:
    """Ours and theirs with one session of graceful restart between them (pair 0), and ``third`` beside both."""
    own = [f"10.0.{n}.1/24" for n in range(PAIRS)] + [f"fd00:{n:x}::1/64" for n in range(PAIRS)]
    other = [f"10.0.{n}.2/24" for n in range(PAIRS)] + [f"fd00:{n:x}::2/64" for n in range(PAIRS)]
    restart = GracefulRestart(restart_time=30, notification=False)
    to_theirs = Neighbor("base", theirs(0), THEIRS, graceful_restart=restart, local_address=ours(0))
    to_ours = Neighbor("base", ours(0), OURS, graceful_restart=restart, local_address=theirs(0))
    return Plan(
        f"interop-{kind.name}",
        f"Our speaker and {kind.title}",
        (
            Node("ours", Role.ROUTER, speaker=Speaker(OURS, "1.1.1.1", (to_theirs,), ("10.101.0.0/16",))),
            Node(
                "theirs",
                Role.ROUTER,
                label=kind.title,
                speaker=Speaker(THEIRS, "2.2.2.2", (to_ours,), ("10.102.0.0/16",)),
            ),
            Node("third", Role.ROUTER),
        ),
        (
            Link(End("ours", "theirs", tuple(own)), End("theirs", "ours", tuple(other)), "between the two"),
            Link(
                End("third", "ours", ("10.103.0.3/24", "10.103.0.4/24")),
                End("ours", "third", ("10.103.0.1/24",)),
            ),
            Link(
                End("third", "theirs", ("10.104.0.3/24", "10.104.0.4/24")),
                End("theirs", "third", ("10.104.0.2/24",)),
            ),
        ),
    )


class Lacking(Exception):
    """The daemon does not do it. The text is its own words in this run."""


class Duo:
    """A running lab of :func:`plan`, with sessions made one by one."""

    def __init__(self, lab: Lab, kind: Kind) -> None:
        self.lab, self.kind = lab, kind
        self.ours, self.theirs = lab["ours"].speaker, lab["theirs"].speaker
        self._pairs = itertools.count(1)

    @contextlib.asynccontextmanager
    async def session(
        self,
        ours_has: Mapping[str, Any] | None = None,
        theirs_has: Mapping[str, Any] | None = None,
        *,
        both: Mapping[str, Any] | None = None,
        ipv6: bool = False,
        established: bool = True,
    ) -> AsyncIterator[str]:
        """A session on addresses of its own for as long as the block lasts: its name, the same at both ends."""
        pair = next(self._pairs)
        name = f"pair{pair}"
        here, there = (f"fd00:{pair:x}::1", f"fd00:{pair:x}::2") if ipv6 else (ours(pair), theirs(pair))
        own = {
            "name": name,
            "address": there,
            "local_address": here,
            "remote_asn": THEIRS,
            **(both or {}),
            **(ours_has or {}),
        }
        other = {
            "name": name,
            "address": here,
            "local_address": there,
            "remote_asn": OURS,
            **(both or {}),
            **(theirs_has or {}),
        }
        await self.theirs.call("neighbor.add", **other)
        asked = time.monotonic()
        await self.ours.call("neighbor.add", **own)
        try:
            if established:
                await self.up(name, since=asked)
            yield name
        finally:
            await self.ours.call("neighbor.delete", name=name)
            await self.theirs.call("neighbor.delete", name=name)

    async def up(self, name: str, *, since: float | None = None) -> None:
        """Both ends say Established."""
        for node in ("ours", "theirs"):
            await self.lab.event(node=node, kind="peer.up", peer=name, within=WITHIN, since=since or 0.0)

    async def path(
        self, side: str, prefix: str, peer: str, *, count: int = 1, within: float = 8.0
    ) -> list[dict[str, Any]]:
        """The paths to ``prefix`` from ``peer`` in the table of one side, once there are ``count``."""

        def enough(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            found = [path for row in rows for path in row["paths"] if path["peer"] == peer]
            return found if len(found) >= count else []

        paths: list[dict[str, Any]] = await self.answer(
            side, enough, f"{side} has {prefix} from {peer}", within, method="show.routes", table="loc", prefix=prefix
        )
        return paths

    async def answer(
        self, side: str, good: Callable[[Any], Any], what: str, within: float = 8.0, **question: Any
    ) -> Any:
        """The first good answer of one side: ours is asked after events, theirs again and again."""
        speaker = self.lab[side].speaker
        if side == "theirs":
            return await shown(speaker, good, within=within, what=what, **question)

        async def asked() -> Any:
            return good(await speaker.call(**question))

        return await self.lab.until(asked, within=within, what=what)
