"""Two sets of BFD sessions on a virtual clock, joined by a wire that loses, delays and reorders by a seed."""

from __future__ import annotations

import heapq
import itertools
from random import Random

from harness.bfd.authentication import Key
from harness.bfd.demux import Arrival, Peering, Refusal, Sessions, Told, Watched
from harness.bfd.session import Timing, Transition, Transmit
from harness.bfd.terms import State

A, B = "10.0.0.1", "10.0.0.2"


class End:
    """One node: its sessions and what they told, as (time, what)."""

    def __init__(self, address: str, seed: int) -> None:
        self.address = address
        self.sessions = Sessions(Random(seed))
        self.told: list[tuple[float, Transition | Refusal]] = []
        self.sent: list[tuple[float, bytes]] = []

    @property
    def watched(self) -> Watched:
        return self.sessions["peer"]

    @property
    def state(self) -> State:
        return self.watched.session.state

    def transitions(self) -> list[tuple[State, State]]:
        return [(what.old, what.new) for _, what in self.told if isinstance(what, Transition)]


class Wire:
    """Both ends. ``loss`` is a probability; a packet takes ``delay`` to twice that, so that some overtake others."""

    def __init__(self, seed: int = 1, *, loss: float = 0.0, delay: float = 0.001, hops: int = 1) -> None:
        self.now = 100.0
        self.cut: set[str] = set()
        self.a, self.b = End(A, seed), End(B, seed + 1000)
        self.loss, self.delay, self.hops = loss, delay, hops
        self._random = Random(seed)
        self._flying: list[tuple[float, int, End, Arrival]] = []
        self._numbers = itertools.count()

    def start(
        self,
        a: Timing = Timing(50_000, 50_000),
        b: Timing | None = None,
        *,
        hop_counts: tuple[int, int] = (1, 1),
        keys: tuple[Key | None, Key | None] = (None, None),
        numbers: tuple[memoryview[int] | None, memoryview[int] | None] = (None, None),
    ) -> None:
        for end, far, timing, hop_count, key, words in zip(
            (self.a, self.b), (B, A), (a, b or a), hop_counts, keys, numbers, strict=True
        ):
            peering = Peering("peer", far, timing, hop_count, None, key)
            self.carry(end, end.sessions.add(peering, self.now, numbers=words))

    def carry(self, end: End, told: list[Told]) -> None:
        """Does what sessions ask for."""
        for watched, what in told:
            if not isinstance(what, Transmit):
                end.told.append((self.now, what))
                continue
            end.sent.append((self.now, what.data))
            if end.address in self.cut or self._random.random() < self.loss:
                continue
            far = self.b if end is self.a else self.a
            arrival = Arrival(what.data, end.address, far.address, 256 - self.hops, watched.peering.port)
            due = self.now + self.delay * self._random.uniform(1, 2)
            heapq.heappush(self._flying, (due, next(self._numbers), far, arrival))

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.now + seconds
        while True:
            timers = [(when, node) for node in (self.a, self.b) if (when := node.sessions.deadline()) is not None]
            first = min(timers, key=lambda timer: timer[0], default=(end + 1, self.a))
            if self._flying and self._flying[0][0] <= min(first[0], end):
                self.now, _, node, arrival = heapq.heappop(self._flying)
                self.carry(node, node.sessions.arrived(arrival, self.now))
            elif first[0] <= end:
                self.now = max(self.now, first[0])
                self.carry(first[1], first[1].sessions.tick(self.now))
            else:
                break
        self.now = end

    def both_up(self) -> bool:
        return self.a.state is self.b.state is State.UP
