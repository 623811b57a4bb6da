"""Whose speaker runs in which node: ours, or another daemon in its place (``--speaker``).

``--speaker frr`` puts FRR wherever its features suffice and leaves our own elsewhere; ``--speaker NODE=frr`` asks for it in that node (a
name, or a pattern such as ``dc*``) and refuses where it cannot. Later words win.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.bgp.config import parse_config
from harness.control import ControlError
from harness.daemon import Daemon, write_private
from harness.daemons.features import Feature, asked_for
from harness.daemons.kinds import KINDS, Kind
from harness.patience import stretched
from harness.plan import Neighbor, Plan, Speaker
from harness.stream import NotInTime, Stream

OURS = "ours"


class UnknownSpeaker(ValueError):
    """A word of ``--speaker`` that means nothing; the text says what there is."""


class NotSuited(Exception):
    """A lab needs more than the daemon in a node's place has: the text says which daemon, what, and why not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """One word of ``--speaker``: a pattern of node names and a kind (:data:`OURS` or a key of KINDS). ``firm``: no node may refuse."""

    pattern: str
    kind: str
    firm: bool


def wishes(words: Sequence[str]) -> tuple[Wish, ...]:
    """The words of ``--speaker``, which may have several of them between commas. Raises UnknownSpeaker."""
    found = []
    for word in (part.strip() for text in words for part in text.split(",")):
        pattern, given, kind = word.rpartition("=")
        if kind not in (OURS, *KINDS):
            raise UnknownSpeaker(f"--speaker {word}: there are {', '.join((*KINDS, OURS))}, and NODE=... of these")
        if given and not pattern:
            raise UnknownSpeaker(f"--speaker {word}: no node stands before the '='")
        found.append(Wish(pattern or "*", kind, bool(given)))
    return tuple(found)


def chosen(plan: Plan, wanted: Sequence[Wish]) -> dict[str, Kind]:
    """The node names that another daemon runs in. Raises NotSuited, and UnknownSpeaker for a name that fits no speaker's node."""
    speaking = {node.name: node.speaker for node in plan.nodes if node.speaker is not None}
    found: dict[str, Kind] = {}
    refusals: list[str] = []
    for wish in wanted:
        fitting = [name for name in speaking if fnmatchcase(name, wish.pattern)]
        if wish.firm and not fitting:
            raise UnknownSpeaker(
                f"--speaker {wish.pattern}={wish.kind}: plan {plan.name} has no such node with a speaker; "
                f"there are {', '.join(speaking) or 'none'}"
            )
        for name in fitting:
            found.pop(name, None)
            if wish.kind == OURS:
                continue
            kind = KINDS[wish.kind]
            speaker = speaking[name]
            assert speaker is not None
            why = kind.absent() or kind.refuses(asked_for(parse_config(speaker_config(speaker))))
            if why is None:
                found[name] = kind
            elif wish.firm:
                raise NotSuited(f"{name}: {why}")
            else:
                refusals.append(f"{name}: {why}")
    if refusals and not found:
        raise NotSuited(refusals[0])
    return found


def kernel_protocol(node: str, kind: Kind) -> int:
    """The RTPROT_* of a stand-in's kernel routes. Raises NotSuited where it writes none."""
    if Feature.KERNEL not in kind.features:
        raise NotSuited(f"{node}: {kind.title} in the speaker's place: {kind.why_not(Feature.KERNEL)}")
    return kind.protocol


class StandIn(Daemon):
    """A foreign daemon's agent as the lab sees it. What the daemon has not raises :class:`NotSuited`, which skips a lab with its reason."""

    def __init__(
        self,
        kind: Kind,
        node: str,
        folder: Path,
        netns_fd: int | None,
        stream: Stream,
        config: Callable[[], Mapping[str, Any]],
        after: Callable[[], None],
    ) -> None:
        def hand_over() -> list[str]:
            written = write_private(folder / "bgp.json", config())
            return ["--kind", kind.name, "--config", str(written), "--consume", "--control", str(folder / "bgp.sock")]

        super().__init__(node, "bgp", "harness.daemons.agent:main", folder, netns_fd, stream, hand_over, after)
        self.stand_in = kind

    async def call(self, method: str, **params: Any) -> Any:
        if method not in self.stand_in.methods:
            raise NotSuited(f"{self.node}: {self.stand_in.title} in the speaker's place has no {method}")
        try:
            return await super().call(method, **params)
        except ControlError as error:
            if str(error).startswith(f"{self.stand_in.title}: "):
                raise NotSuited(f"{self.node}: {error}") from None
            raise


_ASKED_AGAIN = 0.03


async def shown(speaker: Daemon, good: Callable[[Any], Any], *, within: float, what: str, **question: Any) -> Any:
    """The first true value that ``good`` makes of a foreign daemon's answer to ``question`` (``method`` and its parameters).

    It asks again and again, which our own speaker's events spare a lab: a foreign daemon's table changes some time after its log has told
    of a message, and not every one tells of it at all. Raises NotInTime with the last answer.
    """
    deadline = time.monotonic() + stretched(within)
    while True:
        answer = await speaker.call(**question)
        if found := good(answer):
            return found
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {within:g} s: {what}\nthe last answer of {speaker.node}: {answer}")
        await asyncio.sleep(_ASKED_AGAIN)


def speaker_config(speaker: Speaker) -> dict[str, Any]:
    """The speaker's JSON configuration for a plan's :class:`harness.plan.Speaker`."""
    values = dataclasses.asdict(speaker)
    values["neighbors"] = [neighbor_config(neighbor) for neighbor in speaker.neighbors]
    return values


def neighbor_config(neighbor: Neighbor) -> dict[str, Any]:
    """One neighbour's part of it."""
    values = dataclasses.asdict(neighbor)
    values["import"] = values.pop("import_")
    return {name: value for name, value in values.items() if value is not None}
