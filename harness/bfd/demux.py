"""All sessions of a node: which one a datagram belongs to, which may not pass, and whose timer is due next. No I/O, no clock.

RFC 5880 6.8.6 for the discriminators; RFC 5881 5 and RFC 5883 for the hops: a packet is sent with TTL 255, so that one which arrives
with less than 256 - hop count has come too far and is refused before anything in it is believed. What was refused is kept
for the operator: VBR-33 wants hop count and received TTL to be seen.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from harness.bfd.authentication import Key
from harness.bfd.packet import decode
from harness.bfd.session import Output, Session, Standing, Timing, Transition
from harness.bfd.terms import PORT, PORT_MULTIHOP, Discard, Discarded, State, diagnostic_text


@dataclass(frozen=True, slots=True)
class Peering:
    """Whom a session is with. ``hop_count`` is the most routers between and at the end (VBR-33): 1 is RFC 5881, more is RFC 5883.

    ``local`` None leaves the source address to the kernel. Addresses are text, a scope (``%eth0``) is for sending only.
    """

    name: str
    remote: str
    timing: Timing
    hop_count: int = 255
    local: str | None = None
    key: Key | None = None

    @property
    def port(self) -> int:
        return PORT if self.hop_count == 1 else PORT_MULTIHOP

    @property
    def least_ttl(self) -> int:
        return 256 - self.hop_count

    @property
    def remote_address(self) -> str:
        return self.remote.partition("%")[0]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram as it came: ``port`` is the one it was sent to, ``ttl`` the TTL or hop limit it arrived with."""

    data: bytes
    source: str
    destination: str
    ttl: int
    port: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A packet of a known peer was discarded."""

    reason: Discard
    text: str
    ttl: int


@dataclass(slots=True)
class Watched:
    """A session with its surroundings. ``ends_at``: it is removed, and says so to its peer until then. ``source`` is the address that
    the last packet came from which counted, empty before."""

    peering: Peering
    session: Session
    refusals: Counter[Discard] = field(default_factory=Counter)
    refused: Refusal | None = None
    last: Transition | None = None
    trouble: str = ""
    source: str = ""
    ends_at: float | None = None
    due: float | None = None


Told = tuple[Watched, Output | Refusal]


class Sessions:
    """The sessions of one process. Every method that returns :data:`Told` rows wants them carried out in order."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._by_name: dict[str, Watched] = {}
        self._by_discriminator: dict[int, Watched] = {}
        self._due: list[tuple[float, int]] = []
        self.strays: Counter[Discard] = Counter()

    def __getitem__(self, name: str) -> Watched:
        return self._by_name[name]

    def items(self) -> Iterator[tuple[str, Watched]]:
        """The sessions that are wanted, by name."""
        yield from self._by_name.items()

    def knows(self, discriminator: int) -> bool:
        """Whether a session of that number is there, also one that is being removed."""
        return discriminator in self._by_discriminator

    def add(
        self,
        peering: Peering,
        now: float,
        standing: Standing | None = None,
        numbers: memoryview[int] | None = None,
    ) -> list[Told]:
        """Begins a session, or goes on with one (see Session.start); one of the same peer that is being removed gives way."""
        for old in [w for w in self._by_discriminator.values() if w.peering.remote == peering.remote]:
            self._drop(old)
        number = 0 if standing is None else standing.discriminator
        while number == 0 or number in self._by_discriminator:
            number = self._random.getrandbits(32)
        watched = Watched(peering, Session(number, peering.timing, self._random, peering.key, numbers))
        self._by_name[peering.name] = self._by_discriminator[number] = watched
        return self._told(watched, watched.session.start(now, standing))

    def remove(self, name: str, now: float) -> list[Told]:
        """AdminDown, said for a Detection Time (6.8.16); then nothing is left of the session."""
        watched = self._by_name.pop(name)
        watched.session.keep_apart()
        outputs = watched.session.disable(now)
        watched.ends_at = now + watched.session.detection_time / 1e6
        return self._told(watched, outputs)

    def retime(self, name: str, timing: Timing, now: float) -> list[Told]:
        """Other timers (see Session.retime)."""
        watched = self._by_name[name]
        return self._told(watched, watched.session.retime(timing, now))

    def _drop(self, watched: Watched) -> None:
        self._by_discriminator.pop(watched.session.discriminator, None)
        if self._by_name.get(watched.peering.name) is watched:
            del self._by_name[watched.peering.name]

    # ------------------------------------------------------------------------------------------------------------ packets

    def arrived(self, arrival: Arrival, now: float) -> list[Told]:
        """A datagram on one of the ports."""
        # What belongs to no session is counted at the one that is with its sender, whose operator wants to know.
        watched = self._from(arrival.source)
        try:
            packet = decode(arrival.data)
            number = packet.your_discriminator
            known = number in self._by_discriminator
            if known:
                # RFC 5880 6.3: by the discriminator alone. The peer's address may have changed; ours to it does not (RFC 5881 6).
                watched = self._by_discriminator[number]
            if watched is not None:
                _check_way(watched.peering, arrival)
            if number and not known:
                raise Discarded(Discard.YOUR_DISCRIMINATOR_UNKNOWN, f"it is {number:#x}")
            if watched is None:
                raise Discarded(Discard.NO_SESSION, arrival.source)
            if not known:
                _check_destination(watched.peering, arrival)
            outputs = watched.session.receive(packet, now)
        except Discarded as discarded:
            return self._refused(watched, arrival, discarded)
        watched.source = arrival.source
        return self._told(watched, outputs)

    def _from(self, source: str) -> Watched | None:
        return next((w for w in self._by_discriminator.values() if w.peering.remote_address == source), None)

    def _refused(self, watched: Watched | None, arrival: Arrival, discarded: Discarded) -> list[Told]:
        if watched is None:
            self.strays[discarded.reason] += 1
            return []
        watched.refusals[discarded.reason] += 1
        refusal = Refusal(discarded.reason, str(discarded), arrival.ttl)
        before, watched.refused = watched.refused, refusal
        # A peer that is refused goes on sending: only what is new is told.
        return [] if before == refusal else [(watched, refusal)]

    # --------------------------------------------------------------------------------------------------------------- time

    def deadline(self) -> float | None:
        """When :meth:`tick` is due."""
        return self._due[0][0] if self._due else None

    def tick(self, now: float) -> list[Told]:
        """Fires what is due. Packets that have arrived come first: see the shell."""
        told: list[Told] = []
        while self._due and self._due[0][0] <= now:
            when, number = heapq.heappop(self._due)
            watched = self._by_discriminator.get(number)
            if watched is None or watched.due != when:
                continue
            watched.due = None
            if watched.ends_at is not None and now >= watched.ends_at:
                self._drop(watched)
                continue
            told += self._told(watched, watched.session.tick(now))
        return told

    def _told(self, watched: Watched, outputs: list[Output]) -> list[Told]:
        for output in outputs:
            if isinstance(output, Transition):
                watched.last = output
                if output.new is State.UP:
                    watched.refused = None
        times = [t for t in (watched.session.deadline(), watched.ends_at) if t is not None]
        due = min(times, default=None)
        if due is not None and due != watched.due:
            heapq.heappush(self._due, (due, watched.session.discriminator))
        watched.due = due
        return [(watched, output) for output in outputs]


def _check_way(peering: Peering, arrival: Arrival) -> None:
    """Was it sent to the right port, and did it come over few enough hops?"""
    if arrival.port != peering.port:
        raise Discarded(Discard.KIND, f"it came to {arrival.port}, hop count {peering.hop_count} is for {peering.port}")
    if arrival.ttl < peering.least_ttl:
        raise Discarded(
            Discard.HOPS,
            f"received TTL {arrival.ttl}, hop count {peering.hop_count} allows {peering.least_ttl} and more",
        )


def _check_destination(peering: Peering, arrival: Arrival) -> None:
    if peering.local is not None and arrival.destination != peering.local.partition("%")[0]:
        raise Discarded(Discard.ADDRESS, f"it came to {arrival.destination}")


def why_not_up(watched: Watched) -> str:
    """What keeps a session from being Up, in the operator's words; empty while it is Up."""
    session, peering = watched.session, watched.peering
    if session.state is State.UP:
        return ""
    if watched.refused is not None:
        return f"packets from the peer are refused: {watched.refused.text}"
    if watched.trouble:
        return watched.trouble
    if session.heard_at is None:
        return f"no answer from {peering.remote} (UDP {peering.port})"
    if session.state is State.INIT:
        return "the peer does not hear us: it has not left Down"
    return watched.last.reason if watched.last is not None else ""


def row(watched: Watched) -> dict[str, Any]:
    """A session as JSON values; times are milliseconds."""
    session, peering = watched.session, watched.peering
    return {
        "state": session.state.text,
        "remote_state": None if session.heard_at is None else session.remote_state.text,
        "diagnostic": diagnostic_text(session.diagnostic),
        "remote_diagnostic": diagnostic_text(session.remote_diagnostic),
        "reason": why_not_up(watched),
        "hop_count": peering.hop_count,
        "port": peering.port,
        "source": watched.source or None,
        "discriminator": session.discriminator,
        "remote_discriminator": session.remote_discriminator,
        "interval_ms": peering.timing.desired_min_tx / 1000,
        "multiplier": session.timing.multiplier,
        "transmit_interval_ms": session.transmit_interval / 1000,
        "detection_time_ms": session.detection_time / 1000,
        "remote_demand": session.remote_demand,
        "authentication": None if peering.key is None else peering.key.kind.name.lower().replace("_", "-"),
        "sent": session.sent,
        "received": session.received,
        "refused": {reason.name.lower(): count for reason, count in watched.refusals.items()},
        "refused_ttl": None if watched.refused is None else watched.refused.ttl,
    }
