"""A speaker with two neighbours on a stage without sockets: octets say what happens, one scene after the other.

The first neighbour is the one that misbehaves. The second is well and in session from the start: whatever the first does, it must
stay so, and what it is told must be readable. A scene is an octet that names it, and octets that it takes.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import Any

from harness.bgp import signals
from harness.bgp.config import Neighbor, SpeakerConfig, parse_config
from harness.bgp.fsm import State
from harness.bgp.messages import KEEPALIVE_WIRE, MARKER, Framer, MessageType, Open, decode, encode
from harness.bgp.nexthop import Resolved
from harness.bgp.peer import PeerConfig
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.speaker import Speaker
from harness.control import EventLog
from harness.net.fib import Fib, Way

_ROUTER_ID = IPv4Address("10.0.0.1")
_GOOD = PeerConfig("good", 65003, 65001, IPv4Address("10.0.0.3"), families=frozenset(Family))


def _config(number: int) -> SpeakerConfig:
    bad: dict[str, Any] = {
        "name": "bad",
        "address": "10.0.0.2",
        "remote_asn": 65002 if number & 1 else 65001,
        "families": ["ipv4", "ipv6"],
        "add_path": "both" if number & 2 else "none",
        "passive": bool(number & 4),
        "hold_time": 0 if number & 24 == 24 else 90,
    }
    if number & 8:
        bad["import"] = [{"action": "permit", "prefixes": ["0.0.0.0/0 ge 8"], "local_pref": 7}]
    if number & 16:
        bad["export"] = [{"action": "permit", "prepend": 1, "add_communities": ["65001:1", "65001:1:1"]}]
    good = {"name": "good", "address": "10.0.0.3", "remote_asn": 65003, "families": ["ipv4", "ipv6"]}
    return parse_config(
        {
            "asn": 65001,
            "router_id": str(_ROUTER_ID),
            "networks": ["192.0.2.0/24", "2001:db8::/32"],
            "profile": "rfc4271" if number & 32 else "document",
            "neighbors": [bad, good],
        }
    )


_CONFIGS = [_config(number) for number in range(64)]


class _Call:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Play:
    """``violations`` says what went wrong on the stage; what the speaker itself lets out is raised."""

    def __init__(self, number: int) -> None:
        self.time = 0.0
        self.violations: list[str] = []
        self.dials: dict[str, list[int]] = {"bad": [], "good": []}
        self.standing: dict[str, list[int]] = {"bad": [], "good": []}
        self.heard: dict[tuple[str, int], Framer] = {}
        self._agenda: list[tuple[float, int, _Call]] = []
        self._numbers = itertools.count()
        self._soon: list[Callable[[], None]] = []
        self._slow = False
        log = EventLog(64)
        self.speaker = Speaker(_CONFIGS[number % len(_CONFIGS)], _ROUTER_ID, self, _Kernel(), log)
        self.speaker.start()
        self._bring_up_the_good()

    def _bring_up_the_good(self) -> None:
        conn = self.dials["good"].pop()
        self._connected("good", conn, True)
        self._feed("good", signals.Received(conn, encode(_GOOD.open())))
        self._feed("good", signals.Received(conn, KEEPALIVE_WIRE))
        self._work()

    def perform(self, script: bytes) -> None:
        at = 0
        while at < len(script):
            scene, length = _SCENES[script[at] % len(_SCENES)]
            taken = script[at + 1 : at + 1 + length] if length >= 0 else b""
            at += 1 + max(length, 0)
            if length < 0 and at < len(script):
                # A text: its length (times four, so that long ones are to be had), then as many octets.
                taken = script[at + 1 : at + 1 + 4 * script[at]]
                at += 1 + len(taken)
            scene(self, taken)
            self._work()
            self._look()
            if self.violations:
                return
        # Silence: whatever state is left, its timers lead out of it and nothing else happens.
        if len(script) % 8 == 0:
            self._pass(700.0)
            self._look()

    # ---------------------------------------------------------------------------------------------------------------- scenes

    def _connect(self, taken: bytes) -> None:
        """A dial succeeds, the oldest or the newest, or one that was given up."""
        if dials := self.dials["bad"]:
            self._connected("bad", dials.pop(0 if taken[:1] < b"\x80" else -1), True)

    def _accept(self, _taken: bytes) -> None:
        if len(self.standing["bad"]) < 5:
            self._connected("bad", self.speaker.adjacencies["bad"].peer.connection_id(), False)

    def _refuse(self, _taken: bytes) -> None:
        if dials := self.dials["bad"]:
            self._feed("bad", signals.ConnectFailed(dials.pop(), "connection refused"))

    def _lose(self, taken: bytes) -> None:
        if (conn := self._some(taken)) is not None:
            self.standing["bad"].remove(conn)
            self._feed("bad", signals.Closed(conn, "reset"))

    def _octets(self, taken: bytes) -> None:
        self._say(taken[:1], taken[1:])

    def _body(self, taken: bytes) -> None:
        """A message of any type with a right header."""
        kind, body = taken[1:2] or b"\x04", taken[2:]
        self._say(taken[:1], MARKER + (19 + len(body)).to_bytes(2, "big") + kind + body)

    def _update(self, taken: bytes) -> None:
        self._say(taken[:1], MARKER + (19 + len(taken[1:])).to_bytes(2, "big") + b"\x02" + taken[1:])

    def _route(self, taken: bytes) -> None:
        """A good announcement or withdrawal, so that there is something to spoil."""
        prefix = bytes((24, 10, taken[1] if len(taken) > 1 else 0, 0))
        if self._session().add_path_receive:
            prefix = bytes(3) + taken[2:3].rjust(1, b"\0") + prefix
        asn = b"\x02\x01" + (65002).to_bytes(4 if self._session().asn4 else 2, "big")
        path = asn if self._session().ebgp else b""
        block = b"\x40\x01\x01\x00\x40\x02" + bytes((len(path),)) + path + b"\x40\x03\x04\x0a\x00\x00\x02"
        if taken[:1] < b"\x80":
            body = b"\0\0" + len(block).to_bytes(2, "big") + block + prefix
        else:
            body = len(prefix).to_bytes(2, "big") + prefix + b"\0\0"
        self._say(taken[:1], MARKER + (19 + len(body)).to_bytes(2, "big") + b"\x02" + body)

    def _open(self, taken: bytes) -> None:
        """A good OPEN; the octets choose what it offers, or are parameters of their own."""
        config = self.speaker.adjacencies["bad"].peer.config
        flags = taken[1] if len(taken) > 1 else 0
        theirs = PeerConfig(
            "x",
            config.peer_asn,
            config.local_asn,
            IPv4Address("10.0.0.2") if flags & 1 else IPv4Address("9.0.0.2"),
            families=frozenset(Family) if flags & 2 else frozenset({Family.IPV4_UNICAST}),
            add_path_receive=config.families if flags & 4 else frozenset(),
            add_path_send=config.families if flags & 8 else frozenset(),
            asn4=not flags & 16,
            route_refresh=not flags & 32,
            extended_message=bool(flags & 64),
            hold_time=0 if flags & 128 else 9,
        )
        self._say(taken[:1], encode(theirs.open()))

    def _keepalive(self, taken: bytes) -> None:
        self._say(taken, KEEPALIVE_WIRE)

    def _wait(self, taken: bytes) -> None:
        self._pass((0.001, 0.5, 3.0, 30.0, 100.0, 300.0)[(taken or b"\0")[0] % 6])

    def _order(self, taken: bytes) -> None:
        """The operator."""
        orders: tuple[signals.Input, ...] = (
            signals.Stop(text="work"),
            signals.Start(),
            signals.Reset(),
            signals.Reset(restart_after=2.0),
            signals.Retry(),
            signals.BfdDown("test"),
            signals.Refresh(Family.IPV4_UNICAST),
            signals.Refresh(Family.IPV6_UNICAST),
            signals.Tick(),
        )
        self._feed("bad", orders[(taken or b"\0")[0] % len(orders)])

    def _flood(self, taken: bytes) -> None:
        self._slow = taken[:1] >= b"\x80"
        self.speaker.wake()

    def _say(self, choice: bytes, data: bytes) -> None:
        if (conn := self._some(choice)) is not None:
            self._feed("bad", signals.Received(conn, data))

    def _some(self, choice: bytes) -> int | None:
        standing = self.standing["bad"]
        return standing[(choice or b"\0")[0] % len(standing)] if standing else None

    def _session(self) -> Session:
        return self.speaker.adjacencies["bad"].peer.session or Session()

    # --------------------------------------------------------------------------------------------------------------- the stage

    def _connected(self, name: str, conn: int, outgoing: bool) -> None:
        self.standing[name].append(conn)
        self.heard[name, conn] = Framer()
        self.heard[name, conn].max_length = 65535
        self._feed(name, signals.Connected(conn, outgoing, "10.0.0.1", "10.0.0.2" if name == "bad" else "10.0.0.3"))

    def _feed(self, name: str, signal: signals.Input) -> None:
        self.speaker.adjacencies[name].feed(signal)

    def _work(self) -> None:
        for _ in range(200):
            if not self._soon:
                return
            soon, self._soon = self._soon, []
            for call in soon:
                call()
        self.violations.append("work without an end")

    def _pass(self, seconds: float) -> None:
        end = self.time + seconds
        while self._agenda and self._agenda[0][0] <= end:
            when, _, call = heapq.heappop(self._agenda)
            self.time = max(self.time, when)
            if call.call is not None:
                call.call()
                self._work()
            # The good neighbour goes on living.
            for conn in self.standing["good"]:
                self._feed("good", signals.Received(conn, KEEPALIVE_WIRE))
        self.time = end

    def _look(self) -> None:
        bad, good = self.speaker.adjacencies["bad"], self.speaker.adjacencies["good"]
        if not good.is_up:
            self.violations.append("the good neighbour lost its session")
        if sorted(bad.peer.standing()) != sorted(self.standing["bad"]):
            self.violations.append(f"{bad.peer.standing()} stand for the machine, {self.standing['bad']} are open")
        if bad.is_up is not (bad.peer.state is State.ESTABLISHED):
            self.violations.append(f"up={bad.is_up} in {bad.peer.state.value}")
        if not bad.is_up and (bad.inbound or bad.outbound):
            self.violations.append("tables of a session that is down")

    # ------------------------------------------------------------------------------------------------------------- ports.Shell

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, call: Callable[[], None]) -> _Call:
        due = _Call(call)
        heapq.heappush(self._agenda, (when, next(self._numbers), due))
        return due

    def call_soon(self, call: Callable[[], None]) -> None:
        self._soon.append(call)

    def dial(self, neighbor: Neighbor, conn: int) -> None:
        self.dials[neighbor.name].append(conn)

    def write(self, name: str, conn: int, data: bytes) -> None:
        """Whatever is said can be read by the other side, whole message by whole message."""
        framer = self.heard.get((name, conn))
        if framer is None or conn not in self.standing[name]:
            self.violations.append(f"writes on connection {conn} of {name}, which does not stand")
            return
        for frame in framer.feed(data):
            if frame.type == MessageType.OPEN and not isinstance(decode(*frame), Open):
                self.violations.append("an OPEN that is none")
            if frame.type == MessageType.NOTIFICATION:
                decode(*frame, Session(extended_message=True))
            if frame.type == MessageType.UPDATE and name == "good":
                session = self.speaker.adjacencies["good"].peer.session
                # What we tell is read as the other side would.
                update = decode(*frame, session or Session(families=frozenset(Family), asn4=True))
                if getattr(update, "errors", ()):
                    self.violations.append(f"the good neighbour is told {frame.body.hex()}: {update}")
        if framer.error is not None or framer.pending:
            self.violations.append(f"writes what is no message to {name}: {framer.error}")

    def close(self, name: str, conn: int) -> None:
        for numbers in (self.standing[name], self.dials[name]):
            if conn in numbers:
                numbers.remove(conn)

    def is_writable(self, name: str, conn: int) -> bool:
        return conn in self.standing[name] and not (self._slow and name == "bad")

    def taken(self, name: str, conn: int) -> tuple[int, int] | None:  # noqa: ARG002
        return None

    def neighbors_changed(self, neighbors: Mapping[str, Neighbor]) -> None:
        pass


_TEXT = -1
_SCENES: tuple[tuple[Callable[[Play, bytes], None], int], ...] = (
    (Play._connect, 1),
    (Play._accept, 0),
    (Play._refuse, 0),
    (Play._lose, 1),
    (Play._octets, _TEXT),
    (Play._body, _TEXT),
    (Play._update, _TEXT),
    (Play._route, 3),
    (Play._open, 2),
    (Play._keepalive, 1),
    (Play._wait, 1),
    (Play._order, 1),
    (Play._flood, 1),
)
"""Scene -> how many octets it takes; _TEXT: the next octet says it, in fours."""


class _Kernel:
    """Every next hop but those of 10.255.0.0/16 is one hop away."""

    fibs: Mapping[Family, Fib] = {}

    def resolve(self, next_hop: bytes) -> Resolved | None:
        return None if next_hop[:2] == b"\x0a\xff" else Resolved((Way(next_hop, 1),), 0, "stage")

    def cost(self, next_hop: bytes) -> int | None:
        return None if next_hop[:2] == b"\x0a\xff" else 0

    def is_own(self, address: bytes) -> bool:
        return address == _ROUTER_ID.packed

    def shares_subnet(self, address: bytes) -> bool:  # noqa: ARG002
        return True

    def link_to(self, address: str) -> int | None:  # noqa: ARG002
        return 1

    def own_next_hop(self, local: bytes, ifindex: int, version: int) -> bytes:  # noqa: ARG002
        return local

    def has_route(self, prefix: bytes, version: int) -> bool:  # noqa: ARG002
        return False

    def interface(self, ifindex: int) -> str:
        return f"if{ifindex}"
