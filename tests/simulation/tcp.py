"""TCP connections in memory: octets in order, and all that may happen to a connection on the way.

What is modelled because a speaker can see it: a dial that is refused, unanswered or answered late; both ends learning of a connection at
different moments and in either order; octets cut into pieces anywhere; a link that loses everything for a while (segments are kept and
sent again, as TCP does); an end that vanished, whose answer to the next segment is a reset; a reset that overtakes data; a middle box
that forgot the connection (nothing arrives any more, nobody is told); a receiver that does not read (the sender's window fills).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from harness.bgp import signals
from tests.simulation.agenda import Due

if TYPE_CHECKING:
    from tests.simulation.network import Link, Node

WINDOW = 4096
"""Octets under way after which a connection does not take more."""
LINGER = 5.0
"""Seconds that a closed connection goes on delivering what was written (as ``harness.bgp.transport``)."""
SYN_RETRY = 1.0

Segment = bytes | None
"""Octets, or None for the end of the stream."""


class End:
    """One end of a connection. ``held``: the speaker has not closed it, and it has not ended."""

    def __init__(self, node: Node, neighbor: str, conn: int, link: Link) -> None:
        self.node = node
        self.neighbor = neighbor
        self.conn = conn
        self.link = link
        self.generation = node.generation
        self.other: End | None = None
        self.held = True
        self.stands = False
        self.forgotten = False
        self.until = 0.0
        self.window = 0
        self.waiting: deque[tuple[int, Segment]] = deque()
        self.sent = self.expected = 0
        self.early: dict[int, Segment] = {}
        link.ends.append(self)

    @property
    def is_here(self) -> bool:
        """Whether anybody at this end still holds the connection."""
        return self.held and self.generation == self.node.generation

    # --------------------------------------------------------------------------------------------------------- the way here

    def fly(self, segment: Segment, delay: float) -> None:
        """A new segment is on its way to this end, behind those before it."""
        self.sent += 1
        self._fly(self.sent - 1, segment, delay)

    def _fly(self, number: int, segment: Segment, delay: float) -> None:
        world = self.node.world
        self.until = when = max(world.time + delay, self.until + 1e-7)
        world.at(when, lambda: self._arrive(number, segment))

    def _arrive(self, number: int, segment: Segment) -> None:
        if self.forgotten:
            return
        if not self.link.passes or self.node.is_off:
            self.waiting.append((number, segment))
        elif not self.is_here:
            self._answer_by_reset(number, segment)
        else:
            # One that was sent again may come behind later ones.
            self.early[number] = segment
            while self.expected in self.early:
                ready = self.early.pop(self.expected)
                self.expected += 1
                self.node.do(self, lambda ready=ready: self._read(ready))  # type: ignore[misc]

    def _read(self, segment: Segment) -> None:
        other = self.other
        assert other is not None
        if segment is None:
            self.end("the neighbour closed the connection")
            return
        was_full, other.window = other.window >= WINDOW, other.window - len(segment)
        if was_full and other.window < WINDOW:
            other.node.drained(other)
        if self.held:
            self.node.feed(self.neighbor, signals.Received(self.conn, segment))

    def retransmit(self) -> None:
        """The link passes again, or the node is back: what waited arrives, late."""
        world = self.node.world
        waiting, self.waiting = self.waiting, deque()
        for number, segment in waiting:
            self._fly(number, segment, world.latency() + world.random.random() * 0.5)

    def _answer_by_reset(self, number: int, segment: Segment) -> None:
        """This end is gone: whoever writes to it learns that now."""
        other, world = self.other, self.node.world
        assert other is not None
        if segment is None and not other.held:
            return

        def reset() -> None:
            if not self.link.passes or other.node.is_off:
                self.waiting.append((number, segment))
            elif other.held:
                other.node.do(other, lambda: other.end("connection reset by peer"))

        overtakes = world.random.random() < 0.3
        world.at(max(world.time + world.latency(), 0.0 if overtakes else other.until), reset)

    # ------------------------------------------------------------------------------------------------------- the way there

    def send(self, data: bytes) -> None:
        """The speaker writes."""
        assert self.other is not None
        self.window += len(data)
        world = self.node.world
        for piece in world.pieces(data):
            self.other.fly(piece, world.latency())

    def close(self) -> None:
        """The speaker closes: what was written leaves, then the end of the stream; what comes is answered by a reset."""
        self._drop()
        other = self.other
        if other is None:
            return
        world = self.node.world
        if not self.stands:
            # The dial was given up: the connection, if it was accepted, is reset.
            world.at(world.time + world.latency(), lambda: other.lose("connection reset by peer"))
            return
        other.fly(None, world.latency())
        world.put(world.time + LINGER, Due(lambda: other.waiting.clear()))

    def lose(self, reason: str) -> None:
        """A reset arrives from the network."""
        if self.held and self.link.passes and not self.node.is_off:
            self.node.do(self, lambda: self.end(reason))

    def end(self, reason: str) -> None:
        """The connection has ended and the speaker is told, unless it closed it first."""
        if self.held:
            self._drop()
            if self.conn:
                self.node.feed(self.neighbor, signals.Closed(self.conn, reason))

    def end_dial(self, reason: str) -> None:
        """The dial did not succeed."""
        if self.held:
            self._drop()
            self.node.feed(self.neighbor, signals.ConnectFailed(self.conn, reason))

    def _drop(self) -> None:
        self.held = False
        self.node.ends.pop((self.neighbor, self.conn), None)

    def vanish(self) -> None:
        """The node died: nobody is told, and what it had not delivered is lost with it."""
        self._drop()
        self.waiting.clear()
        if self.other is not None:
            self.other.waiting.clear()


def dial(near: End, far_node: Node) -> None:
    """The first segment of a connection leaves."""
    world, link = near.node.world, near.link

    def refuse(reason: str) -> None:
        near.node.do(near, lambda: near.end_dial(reason))

    def arrives() -> None:
        if not near.held:
            return
        if not link.carrier:
            refuse("no route to host")
        elif not link.passes or far_node.is_off:
            world.at(world.time + SYN_RETRY, arrives)
        elif far_node.speaker is None or link.refuses:
            world.at(world.time + world.latency(), lambda: refuse("connection refused"))
        else:
            _shake_hands(near, far_node)

    world.at(world.time + world.latency(), arrives)


def _shake_hands(near: End, far_node: Node) -> None:
    world, link = near.node.world, near.link
    far = End(far_node, "", 0, link)
    near.other, far.other = far, near
    near.until = world.time + world.latency()
    accepts = near.until + world.latency() * world.random.random()
    # Between taking a connection and telling of it the loop does other things.
    far.until = accepts + world.latency() * 0.1

    def stands() -> None:
        near.stands = True
        if near.held:
            local, remote = link.address(near.node), link.address(far_node)
            near.node.feed(near.neighbor, signals.Connected(near.conn, True, local, remote))

    def accepted() -> None:
        far.stands = True
        if not far.held:
            return
        found = far_node.accept(link.address(near.node))
        if found is None:
            far.close()
            return
        far.neighbor, far.conn = found
        far_node.ends[found] = far

    def told() -> None:
        if far.held and far.conn:
            signal = signals.Connected(far.conn, False, link.address(far_node), link.address(near.node))
            far_node.feed(far.neighbor, signal)

    world.at(near.until, lambda: near.node.do(near, stands))
    world.at(accepts, lambda: far_node.do(far, accepted))
    world.at(far.until, lambda: far_node.do(far, told))
