"""What the connections of one neighbour have in common: back-off, jitter, counters, and the outputs of the current input."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum

from harness.bgp.fsm import TABLES, Event, Table
from harness.bgp.messages import Notification, Open
from harness.bgp.peer_config import PeerConfig
from harness.bgp.prefixes import Family
from harness.bgp.signals import Output


class Timer(Enum):
    """RFC 4271 8.1.3 and 10, and the DialRetryTimer of this speaker; the value is the event it raises."""

    CONNECT_RETRY = Event.CONNECT_RETRY_TIMER_EXPIRES
    HOLD = Event.HOLD_TIMER_EXPIRES
    KEEPALIVE = Event.KEEPALIVE_TIMER_EXPIRES
    DELAY_OPEN = Event.DELAY_OPEN_TIMER_EXPIRES
    IDLE_HOLD = Event.IDLE_HOLD_TIMER_EXPIRES
    DIAL_RETRY = Event.DIAL_RETRY_TIMER_EXPIRES


@dataclass(slots=True)
class Statistics:
    """Counters of a neighbour since the speaker started; message counts by :class:`MessageType` value."""

    received: Counter[int] = field(default_factory=Counter)
    sent: Counter[int] = field(default_factory=Counter)
    octets_received: int = 0
    octets_sent: int = 0
    established: int = 0
    transitions: int = 0
    connect_retries: int = 0
    last_sent: Notification | None = None
    last_received: Notification | None = None
    last_down: str = ""


class Shared:
    """What the connections of one neighbour have in common."""

    def __init__(self, config: PeerConfig) -> None:
        self.configure(config)
        self.random = random.Random(f"{config.seed} {config.name}")
        self.statistics = Statistics()
        self.outputs: list[Output] = []
        self.now = 0.0
        self.dial_failures = 0
        self.penalty = 0
        self.idle_hold = 0.0
        self.restart_after: float | None = None
        self.established_at: float | None = None
        self.bare = False
        self._numbers = 0

    def configure(self, config: PeerConfig) -> None:
        self.config = config
        self.table: Table = TABLES[config.profile]

    def open(self) -> Open:
        """The OPEN to send: without capabilities for a neighbour that refused the parameter (RFC 5492 3)."""
        message = self.config.open()
        return replace(message, capabilities=()) if self.bare else message

    def refused_parameter(self) -> None:
        """The neighbour answered with 2/4. It is asked once without capabilities, where something is left to speak then."""
        self.bare = not self.bare and Family.IPV4_UNICAST in self.config.families

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def jitter(self, base: float) -> float:
        """RFC 4271 10: a factor between 0.75 and 1."""
        return base * self.random.uniform(0.75, 1.0)

    def dial_delay(self) -> float:
        """How long to wait after a dial that failed: doubles from failure to failure, bounded."""
        config = self.config
        bound = min(config.dial_retry_max, config.connect_retry_time)
        self.dial_failures += 1
        return self.jitter(min(bound, config.dial_retry_first * 2.0 ** min(self.dial_failures - 1, 30)))

    def damp(self) -> None:
        """Makes the next idle hold longer, unless the session had stood for three times the last one."""
        stood = 0.0 if self.established_at is None else self.now - self.established_at
        if stood > 3 * self.idle_hold or not self.config.damp_peer_oscillations:
            self.penalty = 0
        self.penalty += 1
        self.established_at = None

    def idle_hold_time(self) -> float:
        """How long to stay in Idle: what a reset asked for, the damped time after errors, else as after a failed dial."""
        if self.restart_after is not None:
            delay, self.restart_after = self.restart_after, None
            return delay
        if not self.penalty:
            return self.dial_delay()
        config = self.config
        self.idle_hold = min(config.idle_hold_max, config.idle_hold_first * 2.0 ** min(self.penalty - 1, 30))
        return self.jitter(self.idle_hold)
