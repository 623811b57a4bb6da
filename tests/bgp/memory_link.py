"""Two or more peers on in-memory links with a virtual clock: hours of protocol time in milliseconds, replayable by a seed.

A :class:`World` holds the clock and the agenda; a :class:`Host` runs one :class:`~harness.bgp.peer.Peer` and does for it what
the shell does with sockets. A connection delivers octets in order after a delay, closes with an end of file behind them,
refuses where nobody listens, and is silent while the link is cut.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from harness.bgp.fsm import Event, State
from harness.bgp.messages import Framer, MessageType, Notification
from harness.bgp.peer import Peer, PeerConfig
from harness.bgp.signals import (
    Close,
    Closed,
    Connected,
    ConnectFailed,
    Dial,
    Input,
    NotificationReceived,
    NotificationSent,
    Output,
    Received,
    Start,
    Tick,
    Transition,
    Write,
)

T = TypeVar("T")


@dataclass(eq=False)
class End:
    """One end of a TCP connection: whose it is, its number there, and the other end."""

    host: Host
    conn: int
    other: End | None = None
    open: bool = True
    delivered_until: float = 0.0


class World:
    """The clock, the agenda and the link between the hosts."""

    def __init__(self, seed: int = 0, delay: float = 0.0001, spread: float = 0.0) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.delay, self.spread = delay, spread
        self.up = True
        self.hosts: list[Host] = []
        self.lost: list[Callable[[], None]] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (max(when, self.now), next(self._order), what))

    def latency(self) -> float:
        return self.delay + self.random.random() * self.spread

    def carry(self, end: End, what: Callable[[], None]) -> None:
        """Delivers something to ``end`` in order; while the link is cut it waits for the link."""
        when = max(self.now + self.latency(), end.delivered_until)
        end.delivered_until = when

        def arrive() -> None:
            if self.up:
                what()
            else:
                self.lost.append(what)

        self.at(when, arrive)

    def cut(self) -> None:
        self.up = False

    def mend(self) -> None:
        """What TCP still has in flight arrives by retransmission."""
        self.up = True
        waiting, self.lost = self.lost, []
        for what in waiting:
            self.at(self.now + self.latency(), what)

    def run(self, until: float, condition: Callable[[], bool] = lambda: False) -> bool:
        """Runs to time ``until`` (seconds from the start) or until the condition holds, which it returns."""
        while not condition():
            ticks = [when for host in self.hosts if (when := host.peer.deadline()) is not None]
            tick = min(ticks, default=float("inf"))
            event = self._agenda[0][0] if self._agenda else float("inf")
            if min(tick, event) > until:
                self.now = until
                return condition()
            if event <= tick:
                self.now, _, what = heapq.heappop(self._agenda)
                what()
            else:
                self.now = max(self.now, tick)
                for host in self.hosts:
                    when = host.peer.deadline()
                    if when is not None and when <= self.now:
                        host.feed(Tick())
        return True


@dataclass(eq=False)
class Host:
    """A peer and its sockets."""

    world: World
    config: PeerConfig
    address: str
    listening: bool = True
    outputs: list[tuple[float, Output]] = field(default_factory=list)
    ends: dict[int, End] = field(default_factory=dict)
    dials: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.peer = Peer(self.config)
        self.far: Host | None = None
        self.world.hosts.append(self)

    def feed(self, signal: Input) -> list[Output]:
        outputs = self.peer.process(signal, self.world.now)
        for output in outputs:
            self.outputs.append((self.world.now, output))
            match output:
                case Dial(conn):
                    self._dial(conn)
                case Write(conn, data):
                    self._write(conn, data)
                case Close(conn):
                    self._close(conn)
        return outputs

    def _dial(self, conn: int) -> None:
        world, far = self.world, self.far
        assert far is not None
        self.dials.add(conn)

        def refused() -> None:
            if conn in self.dials:
                self.dials.discard(conn)
                self.feed(ConnectFailed(conn, "connection refused"))

        def syn() -> None:
            if not world.up:
                return
            if not far.listening:
                world.at(world.now + world.latency(), refused)
                return
            near, there = End(self, conn), End(far, far.peer.connection_id())
            near.other, there.other = there, near
            far.ends[there.conn] = there
            # Nothing reaches the dialling end before its connection stands.
            near.delivered_until = world.now + world.latency()
            world.at(near.delivered_until, lambda: stands(near))
            far.feed(Connected(there.conn, False, far.address, self.address))

        def stands(near: End) -> None:
            if conn not in self.dials:
                self._hang_up(near)
                return
            self.dials.discard(conn)
            self.ends[conn] = near
            self.feed(Connected(conn, True, self.address, far.address))

        world.at(world.now + world.latency(), syn)

    def _write(self, conn: int, data: bytes) -> None:
        end = self.ends[conn]
        there = end.other
        assert there is not None

        def arrive() -> None:
            if there.open and there.host.ends.get(there.conn) is there:
                there.host.feed(Received(there.conn, data))

        self.world.carry(there, arrive)

    def _close(self, conn: int) -> None:
        if conn in self.dials:
            self.dials.discard(conn)
            return
        self._hang_up(self.ends.pop(conn))

    def _hang_up(self, end: End) -> None:
        end.open = False
        there = end.other
        assert there is not None

        def arrive() -> None:
            if there.open and there.host.ends.pop(there.conn, None) is not None:
                there.open = False
                there.host.feed(Closed(there.conn, "closed by the peer"))

        self.world.carry(there, arrive)

    # ----------------------------------------------------------------------------------------------- what the tests ask

    def seen(self, kind: type[T]) -> list[T]:
        return [output for _, output in self.outputs if isinstance(output, kind)]

    def when(self, kind: type[T]) -> list[tuple[float, T]]:
        return [(when, output) for when, output in self.outputs if isinstance(output, kind)]

    def chain(self) -> list[tuple[State, State, Event]]:
        """The steps of the session, those of the spare connection left out, and those that stay."""
        steps = [step for step in self.seen(Transition) if not step.spare]
        for earlier, later in itertools.pairwise(steps):
            assert earlier.new is later.old, f"the chain is broken between {earlier} and {later}"
        return [(step.old, step.new, step.event) for step in steps if step.old is not step.new]

    def path(self) -> list[str]:
        """The states the session went through, from Idle on."""
        return ["Idle", *(new.value for _, new, _ in self.chain())]

    def sent(self) -> list[Notification]:
        return [output.notification for output in self.seen(NotificationSent)]

    def got(self) -> list[Notification]:
        return [output.notification for output in self.seen(NotificationReceived)]


def join(one: Host, other: Host) -> None:
    one.far, other.far = other, one


class RawHost:
    """A far end that a test plays by hand against one peer: it sees what is sent and sends any octets."""

    def __init__(self, config: PeerConfig) -> None:
        self.peer = Peer(config)
        self.now = 0.0
        self.outputs: list[Output] = []
        self.sent = bytearray()
        self.conn = 0

    def feed(self, signal: Input) -> list[Output]:
        outputs = self.peer.process(signal, self.now)
        self.outputs += outputs
        for output in outputs:
            if isinstance(output, Write):
                self.sent += output.data
        return outputs

    def state(self) -> State:
        return self.peer.state

    def advance(self, seconds: float) -> list[Output]:
        """Lets time pass, ticking at every deadline."""
        end, outputs = self.now + seconds, []
        while (when := self.peer.deadline()) is not None and when <= end:
            self.now = max(self.now, when)
            outputs += self.feed(Tick())
        self.now = end
        return outputs

    def connect(self) -> None:
        """Starts the peer and answers its dial."""
        dials = [output for output in self.feed(Start()) if isinstance(output, Dial)]
        self.conn = dials[0].conn
        self.feed(Connected(self.conn, True, "192.0.2.1", "192.0.2.2"))

    def say(self, data: bytes) -> list[Output]:
        return self.feed(Received(self.conn, data))

    def said(self) -> list[tuple[MessageType, bytes]]:
        """The messages the peer sent so far: (type, body)."""
        framer = Framer()
        framer.max_length = 65535
        frames = framer.feed(bytes(self.sent))
        assert framer.error is None and not framer.pending
        return [(MessageType(frame.type), frame.body) for frame in frames]

    def notified(self) -> Notification | None:
        """The last NOTIFICATION the peer sent."""
        bodies = [body for kind, body in self.said() if kind is MessageType.NOTIFICATION]
        return Notification(bodies[-1][0], bodies[-1][1], bodies[-1][2:]) if bodies else None
