"""One BFD session: the variables of RFC 5880 6.8.1, its timers and its poll sequences. No I/O, no clock.

Asynchronous mode, active role. The peer's demand mode is honoured, our own is never set. Echo packets are neither sent nor accepted:
Required Min Echo RX is 0 (6.8.9). Time is seconds of any steady clock, intervals are microseconds as on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from harness.bfd.authentication import Authenticator, Key
from harness.bfd.fsm import ABSENT, RECEIVED, TABLE, Event
from harness.bfd.packet import ControlPacket, encode
from harness.bfd.terms import Diagnostic, Discard, Discarded, State, diagnostic_text

SLOW = 1_000_000
"""The least interval between packets while the session is not Up (6.8.3)."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What is asked for once the session is Up: least intervals to send and to receive, and packets missed before it is down."""

    desired_min_tx: int
    required_min_rx: int
    multiplier: int = 3


@dataclass(frozen=True, slots=True)
class Transmit:
    """Octets for the peer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Transition:
    """The session changed state. ``path_lost``: it was Up, and not because somebody switched BFD off (RFC 5882 3.2)."""

    old: State
    new: State
    event: Event
    diagnostic: Diagnostic
    remote_diagnostic: int
    reason: str
    path_lost: bool


Output = Transmit | Transition


@dataclass(frozen=True, slots=True)
class Standing:
    """What another process has to know to go on with a session that is Up, unnoticed by the peer: the numbers of both ends and what
    the peer asked for (microseconds)."""

    discriminator: int
    remote_discriminator: int
    remote_min_rx: int
    remote_desired_min_tx: int
    remote_detect_mult: int
    remote_demand: bool


class Session:
    """Feed it packets and time, send what it returns. ``discriminator`` is its number here, not zero and of no other session;
    ``numbers`` see :class:`harness.bfd.authentication.Authenticator`."""

    def __init__(
        self,
        discriminator: int,
        timing: Timing,
        random: Random,
        key: Key | None = None,
        numbers: memoryview[int] | None = None,
    ) -> None:
        self.discriminator = discriminator
        self.state = State.DOWN
        self.diagnostic = Diagnostic.NONE
        self.remote_state = State.DOWN
        self.remote_discriminator = 0
        self.remote_diagnostic = 0
        self.remote_min_rx = 1
        self.remote_desired_min_tx = 0
        self.remote_detect_mult = 0
        self.remote_demand = False
        self.heard_at: float | None = None
        self.sent = 0
        self.received = 0
        self.polling = False
        self.timing = timing
        self._random = random
        self._authenticator = None if key is None else Authenticator(key, random.getrandbits(32), numbers)
        # What is in force until the poll sequence that announces other values has ended (6.8.3).
        self._tx_in_force = SLOW
        self._rx_in_force = timing.required_min_rx
        self._period = 0
        self._sent_at: float | None = None
        self._next_at: float | None = None
        self._expires_at: float | None = None
        self._forgets_at: float | None = None
        self._outputs: list[Output] = []

    # ------------------------------------------------------------------------------------------------------------- values

    @property
    def desired_min_tx(self) -> int:
        """bfd.DesiredMinTxInterval: what packets say."""
        return self.timing.desired_min_tx if self.state is State.UP else max(SLOW, self.timing.desired_min_tx)

    @property
    def transmit_interval(self) -> int:
        """Microseconds between packets before jitter (6.8.2); 0: the peer wants none."""
        return max(self._tx_in_force, self.remote_min_rx) if self.remote_min_rx else 0

    @property
    def detection_time(self) -> int:
        """Microseconds without a packet after which the peer is gone (6.8.4); 0 before its first packet."""
        return self.remote_detect_mult * max(self._rx_in_force, self.remote_desired_min_tx)

    @property
    def is_silent(self) -> bool:
        """No periodic packets: the peer wants none, or is in demand mode and nothing is to be polled (6.8.7)."""
        if self.remote_min_rx == 0:
            return True
        both_up = self.state is State.UP and self.remote_state is State.UP
        return self.remote_demand and both_up and not self.polling

    def deadline(self) -> float | None:
        """When :meth:`tick` is due at the latest."""
        sending = None if self.is_silent else self._next_at
        return min((t for t in (sending, self._expires_at, self._forgets_at) if t is not None), default=None)

    # ------------------------------------------------------------------------------------------------------------- inputs

    def start(self, now: float, standing: Standing | None = None) -> list[Output]:
        """The first packet goes out at once: whoever is there already answers it in the same moment. ``standing`` goes on where a
        session of that number stood; a peer that has called it down meanwhile says so by its first packet."""
        self._outputs = []
        if standing is not None:
            self.state = self.remote_state = State.UP
            self.remote_discriminator = standing.remote_discriminator
            self.remote_min_rx = standing.remote_min_rx
            self.remote_desired_min_tx = standing.remote_desired_min_tx
            self.remote_detect_mult = standing.remote_detect_mult
            self.remote_demand = standing.remote_demand
            self._settle()
            self._expires_at = now + self.detection_time / 1e6
        elif self._authenticator is not None:
            self._authenticator.forget()
        self._send(now)
        return self._outputs

    def standing(self) -> Standing | None:
        """For :meth:`start` elsewhere, where packets are signed with the same ``numbers``; None unless Up."""
        if self.state is not State.UP:
            return None
        return Standing(
            self.discriminator,
            self.remote_discriminator,
            self.remote_min_rx,
            self.remote_desired_min_tx,
            self.remote_detect_mult,
            self.remote_demand,
        )

    def receive(self, packet: ControlPacket, now: float) -> list[Output]:
        """A packet that was found to be this session's. Raises Discarded (RFC 5880 6.8.6, from the A bit on)."""
        self._outputs = []
        self._authenticate(packet)
        self.remote_discriminator = packet.my_discriminator
        self.remote_state = packet.state
        self.remote_diagnostic = packet.diagnostic
        self.remote_demand = packet.demand
        self.remote_min_rx = packet.required_min_rx
        self.remote_desired_min_tx = packet.desired_min_tx
        self.remote_detect_mult = packet.detect_mult
        if self.state is State.ADMIN_DOWN:
            raise Discarded(Discard.ADMIN_DOWN)
        self.received += 1
        self.heard_at = now
        if packet.final and self.polling:
            self._end_poll()
        changed = self._fire(RECEIVED[packet.state])
        self._expires_at = now + self.detection_time / 1e6
        self._forgets_at = None
        if packet.poll:
            self._send(now, final=True)
        elif changed:
            # 6.8.7: what differs from the packet before is worth a packet between the periodic ones.
            self._send(now)
        self._pace(now)
        return self._outputs

    def tick(self, now: float) -> list[Output]:
        """Time has passed; harmless at any moment."""
        self._outputs = []
        if self._forgets_at is not None and now >= self._forgets_at:
            self._forgets_at = None
            if self._authenticator is not None:
                self._authenticator.forget()
        if self._expires_at is not None and now >= self._expires_at:
            self._expire(now)
        if self._next_at is not None and now >= self._next_at and not self.is_silent:
            self._send(now)
        return self._outputs

    def disable(self, now: float) -> list[Output]:
        """AdminDown: the peer is told, and goes on without BFD (6.8.16)."""
        self._outputs = []
        if self._fire(Event.DISABLED):
            self._expires_at = None
            self._send(now)
        return self._outputs

    def keep_apart(self) -> None:
        """Its sequence numbers are its own from now on (Authenticator.keep_apart)."""
        if self._authenticator is not None:
            self._authenticator.keep_apart()

    def enable(self, now: float) -> list[Output]:
        """Back from AdminDown."""
        self._outputs = []
        if self._fire(Event.ENABLED):
            self._send(now)
        return self._outputs

    def retime(self, timing: Timing, now: float) -> list[Output]:
        """Other timers, by a poll sequence where the session is Up (6.8.3)."""
        self._outputs = []
        before, self.timing = self.timing, timing
        if self.state is not State.UP:
            self._settle()
            self._pace(now)
            return self._outputs
        # Slower sending waits until the peer knows of it, and so does a shorter detection time; the rest counts at once.
        self._tx_in_force = min(self._tx_in_force, timing.desired_min_tx)
        self._rx_in_force = max(self._rx_in_force, timing.required_min_rx)
        if self._expires_at is not None and self.heard_at is not None:
            self._expires_at = self.heard_at + self.detection_time / 1e6
        if before != timing:
            self.polling = True
            self._send(now)
        return self._outputs

    # ---------------------------------------------------------------------------------------------------------- machinery

    def _authenticate(self, packet: ControlPacket) -> None:
        if self._authenticator is None:
            if packet.authentication:
                raise Discarded(Discard.AUTHENTICATION_UNEXPECTED)
        elif not packet.authentication:
            raise Discarded(Discard.AUTHENTICATION_MISSING)
        else:
            self._authenticator.verify(packet)

    def _fire(self, event: Event) -> bool:
        """Walks the table; whether the state changed."""
        old, row = self.state, TABLE[self.state, event]
        if row.diagnostic is not None:
            self.diagnostic = row.diagnostic
        if row.new is old:
            return False
        reason = row.reason
        if event is Event.DETECTION_TIME_EXPIRED:
            reason += f" of {self.detection_time / 1000:g} ms"
        elif event is Event.RECEIVED_DOWN and old is State.UP:
            reason += f" ({diagnostic_text(self.remote_diagnostic)})"
        self.state = row.new
        if State.UP in (old, row.new):
            # Up asks for the configured interval, all other states for a slow one; the peer has to know (6.8.3, 6.5).
            self.polling = row.new is State.UP
            self._settle()
        lost = old is State.UP and event not in ABSENT
        self._outputs.append(Transition(old, row.new, event, self.diagnostic, self.remote_diagnostic, reason, lost))
        return True

    def _settle(self) -> None:
        self._tx_in_force = self.desired_min_tx
        self._rx_in_force = self.timing.required_min_rx

    def _end_poll(self) -> None:
        self.polling = False
        self._settle()

    def _expire(self, now: float) -> None:
        detection = self.detection_time / 1e6
        changed = self._fire(Event.DETECTION_TIME_EXPIRED)
        self._expires_at = None
        self._forgets_at = now + detection
        self.remote_discriminator = 0
        self.remote_state = State.DOWN
        self.remote_min_rx = 1
        self.remote_demand = False
        if changed:
            self._send(now)
        self._pace(now)

    def _send(self, now: float, *, final: bool = False) -> None:
        packet = ControlPacket(
            state=self.state,
            detect_mult=self.timing.multiplier,
            my_discriminator=self.discriminator,
            your_discriminator=self.remote_discriminator,
            desired_min_tx=self.desired_min_tx,
            required_min_rx=self.timing.required_min_rx,
            diagnostic=self.diagnostic,
            # An answer cannot ask at the same time (6.5).
            poll=self.polling and not final,
            final=final,
            control_plane_independent=False,
        )
        data = encode(packet) if self._authenticator is None else self._authenticator.sign(packet)
        self._outputs.append(Transmit(data))
        self.sent += 1
        if final and self._next_at is not None:
            # An answer is out of turn: it moves no periodic packet (6.8.7).
            return
        self._sent_at = now
        self._period = 0
        self._pace(now)

    def _pace(self, now: float) -> None:
        """Puts the next periodic packet where the present interval wants it, with jitter (6.8.7)."""
        period = self.transmit_interval
        if period == self._period:
            return
        self._period = period
        most = 0.9 if self.timing.multiplier == 1 else 1.0
        wait = period * self._random.uniform(0.75, most) / 1e6
        self._next_at = (now if self._sent_at is None else self._sent_at) + wait
