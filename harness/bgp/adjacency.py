"""One neighbour at work: its Peer, and while the session is up its Adj-RIB-In and Adj-RIB-Out.

Carries out what the Peer asks for, turns UPDATEs into paths and table changes, and emits the neighbour's events. Decisions, the kernel and
the other neighbours are the speaker's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from zlib import crc32

from harness.bgp import as_path, signals
from harness.bgp.adj_out import AdjRibOut
from harness.bgp.admission import Admission, Receiver
from harness.bgp.config import Neighbor
from harness.bgp.errors import Cease
from harness.bgp.export import Exporter, Target
from harness.bgp.fsm import Profile, State
from harness.bgp.graceful import Helper, restart_offer
from harness.bgp.inbound import Inbound
from harness.bgp.messages import Notification
from harness.bgp.paths import Kind, Source
from harness.bgp.peer import Peer, PeerConfig
from harness.bgp.policy import Policy
from harness.bgp.ports import Timer
from harness.bgp.prefix_limit import PrefixLimit
from harness.bgp.prefixes import Family
from harness.bgp.refresh import Refreshes
from harness.bgp.rib import AdjRibIn
from harness.bgp.send_hold import SendHold, span
from harness.bgp.surroundings import Surroundings
from harness.bgp.telling import notification_fields, session_fields
from harness.bgp.update import Update

FAMILY_OF_NAME = {"ipv4": Family.IPV4_UNICAST, "ipv6": Family.IPV6_UNICAST}
SEND_LIMIT = 1024
"""Prefixes looked at between two pauses of an announcement."""


class Adjacency:
    """A configured neighbour."""

    def __init__(self, config: Neighbor, around: Surroundings) -> None:
        self.config = config
        self.peer = Peer(peer_config(config, around))
        self.inbound: dict[Family, Inbound] = {}
        self.helper = Helper(around, self._emit, self.inbound)
        self._refreshes = Refreshes(around, self._emit, self.inbound)
        self.outbound: dict[Family, AdjRibOut] = {}
        self.established_at: float | None = None
        self.last_down: str | None = None
        self.draining = False
        self.up: signals.Up | None = None
        self._around = around
        self._answering: set[Family] = set()
        self._asked: set[Family] = set()
        self._told = False
        self._send_hold = SendHold(around.shell, config.name, lambda conn: self.feed(signals.SendHoldExpired(conn)))
        self._rest: Timer | None = None
        self._conn: int | None = None
        self._timer: Timer | None = None
        self._timer_at: float | None = None

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def local_asn(self) -> int:
        return self.config.local_asn or self._around.config.asn

    @property
    def is_up(self) -> bool:
        return self._conn is not None

    # ---------------------------------------------------------------------------------------------------------- the state machine

    def feed(self, signal: signals.Input) -> None:
        """Gives the Peer an input and does what it asks for."""
        watchers = self._around.watchers
        for watcher in watchers:
            watcher.takes(self, signal)
        for output in self.peer.process(signal, self._around.shell.now()):
            if type(output) is signals.Deliver:
                self._deliver(output.update)
            else:
                self._carry_out(output)
            for watcher in watchers:
                watcher.gives(self, output)
        self._set_timer()

    def way_lost(self) -> None:
        """The kernel has no route to the neighbour any more: its connections are as good as closed (RFC 4271 8.1.4, Event 18)."""
        for conn in self.peer.standing():
            self._around.shell.close(self.name, conn)
            self.feed(signals.Closed(conn, f"no route to {self.config.address} any more"))

    def _carry_out(self, output: signals.Output) -> None:
        shell = self._around.shell
        match output:
            case signals.Write(conn, data):
                shell.write(self.name, conn, data)
            case signals.Transition():
                self._transition(output)
            case signals.Dial(conn):
                shell.dial(self.config, conn)
            case signals.Close(conn):
                shell.close(self.name, conn)
            case signals.Up():
                self._up(output)
            case signals.Down():
                self._down(output)
            case signals.RefreshAsked(family, message):
                self._refresh_asked(family, message.subtype)
            case signals.NotificationSent(_, notification):
                self._notification("sent", notification)
            case signals.NotificationReceived(_, notification):
                self._notification("received", notification)
            case signals.Log(text):
                self._emit("peer.log", text=text)

    def _set_timer(self) -> None:
        due = self.peer.deadline()
        if due == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = None if due is None else self._around.shell.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        self.feed(signals.Tick())

    def retire(self) -> None:
        """The neighbour is no longer configured: its timer goes, its session is down already."""
        if self._timer is not None:
            self._timer.cancel()
        self.helper.forget("the neighbour is no longer configured")

    # --------------------------------------------------------------------------------------------------------------------- events

    def _emit(self, kind: str, /, **fields: object) -> None:
        self._around.log.emit(kind, peer=self.name, **fields)

    def _transition(self, seen: signals.Transition) -> None:
        # In Established every message is an event that leads nowhere: those are counted, not told.
        if seen.old is not seen.new or seen.old is not State.ESTABLISHED:
            self._emit(
                "fsm",
                old=seen.old.value,
                new=seen.new.value,
                event=seen.event.name,
                reason=seen.reason,
                **({"spare": True} if seen.spare else {}),
            )

    def _notification(self, direction: str, notification: Notification) -> None:
        self._emit("notification", direction=direction, **notification_fields(notification))

    # -------------------------------------------------------------------------------------------------------------------- session

    def _up(self, up: signals.Up) -> None:
        session, around = up.session, self._around
        self._conn = up.conn
        self.up = up
        self.helper.back(self.config.graceful_restart, session)
        self.established_at = around.shell.now()
        source = Source(
            self.name,
            Kind.EBGP if session.ebgp else Kind.IBGP,
            # As configured: without 4-octet numbers the neighbour may call itself AS_TRANS, and AS4_PATH has its true number.
            self.config.remote_asn,
            int(session.peer_identifier),
            packed_address(self.config.address),
            self.config.route_reflector_client,
        )
        own_address = packed_address(up.local)
        link = around.kernel.link_to(self.config.address) or 0
        for family in sorted(session.families, key=lambda f: f.value):
            table = around.tables[family]
            direct = session.ebgp and link and not self.config.ebgp_multihop
            admission = Admission(
                source,
                self._receiver(),
                self._policy("import", family),
                around.kernel.is_own,
                link,
                around.kernel.shares_subnet if direct else None,
            )
            if (stale := self.inbound.get(family)) is not None:
                stale.admission = admission
            else:
                rib = AdjRibIn(table, add_path=family in session.add_path_receive)
                self.inbound[family] = Inbound(rib, admission, PrefixLimit.of(self.config.maximum_prefixes))
            target = Target(
                name=self.name,
                ebgp=session.ebgp,
                local_asn=self.local_asn,
                own_address=self._own_next_hop(own_address, link, family),
                next_hop_self=self.config.next_hop_self,
                add_path=family in session.add_path_send,
                default_local_pref=around.config.local_pref,
                client=self.config.route_reflector_client,
                cluster_id=around.cluster_id,
                draining=self.draining,
            )
            exporter = Exporter(target, self._policy("export", family), around.path_ids)
            outbound = self.outbound[family] = AdjRibOut(session, family, exporter, self._can_send, self._send)
            outbound.begin()
            around.groups.enter(outbound)
        self._refreshes.came_up(session)
        # From now on this neighbour's routes are kept by what we say of forwarding, whatever there was before (RFC 8538 4).
        self.offer_anew()
        around.deferral.came_up(self.name, session)
        self._send_hold.begin(up.conn, span(self.config.send_hold_time, session))
        self._emit("peer.up", local=up.local, remote=up.remote, **session_fields(session))
        around.wake()

    def _down(self, down: signals.Down) -> None:
        assert self.up is not None
        session = self.up.session
        self._conn = self.up = None
        self.established_at = None
        self.last_down = down.reason
        self._send_hold.stop()
        self._refreshes.lost()
        self.helper.lost(self.config.graceful_restart, session, down)
        for outbound in self.outbound.values():
            self._around.groups.leave(outbound)
            self._around.walk(outbound.drain())
        self.outbound = {}
        self._answering.clear()
        self._asked.clear()
        self._stop_rest()
        self._emit(
            "peer.down",
            reason=down.reason,
            event=down.event.name,
            sent=None if down.sent is None else notification_fields(down.sent),
            received=None if down.received is None else notification_fields(down.received),
        )
        self._around.wake()

    def _own_next_hop(self, local: bytes, link: int, family: Family) -> bytes:
        version = 4 if family is Family.IPV4_UNICAST else 6
        if link:
            local = self._around.kernel.own_next_hop(local, link, version)
        # RFC 8950 is not spoken: an IPv4 route needs an IPv4 next hop.
        return self._around.router_id.packed if version == 4 and len(local) != 4 else mapped(local, family)

    def _policy(self, direction: str, family: Family) -> Policy:
        rules = self.config.import_ if direction == "import" else self.config.export
        missing = not rules and self._around.config.ebgp_requires_policy and self.config.remote_asn != self.local_asn
        return Policy(rules, family, self.local_asn, strict=self.config.strict or missing)

    def drain(self, draining: bool) -> None:
        """Makes the session's routes the last choice at both ends, or lifts that (RFC 8326): the neighbour is told at once."""
        self.draining = draining
        self.configure(self.config)
        for family, outbound in self.outbound.items():
            self._around.groups.renew(outbound)
            self._around.walk(self.inbound[family].again())
        self._around.wake()

    def configure(self, config: Neighbor) -> None:
        """Another configuration. Policies and export options count for what comes and goes from now on, what is there stays
        (BGP-7); limits count at once; what the OPEN says and the timers count from the next session."""
        if config.advertisement_interval != self.config.advertisement_interval:
            self._stop_rest()
            self._around.wake()
        limit_changed = config.maximum_prefixes != self.config.maximum_prefixes
        self.config = config
        self.offer_anew()
        for family, inbound in self.inbound.items():
            inbound.admission.policy = self._policy("import", family)
            inbound.admission.receiver = self._receiver()
            if limit_changed:
                self._around.walk(inbound.set_limit(config.maximum_prefixes))
        for family, outbound in self.outbound.items():
            target = replace(
                outbound.exporter.target,
                next_hop_self=config.next_hop_self,
                default_local_pref=self._around.config.local_pref,
                cluster_id=self._around.cluster_id,
                draining=self.draining,
            )
            outbound.exporter = Exporter(target, self._policy("export", family), self._around.path_ids)
            self._around.groups.changed(outbound)

    def offer_anew(self) -> None:
        """What the next OPEN says follows the configuration, and whether this speaker is still restarting."""
        self.peer.configure(peer_config(self.config, self._around, was_up=self.peer.statistics.established > 0))

    def _receiver(self) -> Receiver:
        around, config = self._around, self.config
        return Receiver(
            frozenset({around.config.asn, self.local_asn}),
            int(around.router_id),
            config.allow_as_in,
            config.enforce_first_as,
            around.cluster_id,
            around.config.honor_graceful_shutdown,
            self.draining,
        )

    # --------------------------------------------------------------------------------------------------------------------- routes

    def _deliver(self, update: Update) -> None:
        for family, slices in update.withdrawn.items():
            if (inbound := self.inbound.get(family)) is not None:
                inbound.withdraw(slices)
        if update.attributes is not None:
            for family, slices in update.announced.items():
                if (inbound := self.inbound.get(family)) is not None:
                    inbound.announce(slices, update.attributes, update.next_hop[family])
        if update.errors:
            self._emit("update.error", errors=[str(error) for error in update.errors])
        if update.end_of_rib is not None:
            self._emit("eor", family=str(update.end_of_rib))
            self.helper.end_of_rib(update.end_of_rib)
            self._refreshes.end_of_rib(update.end_of_rib)
            self._around.deferral.end_of_rib(self.name, update.end_of_rib)
        if self.config.maximum_prefixes is not None:
            self._count_prefixes()
        self._around.wake()

    def _count_prefixes(self) -> None:
        """Tells when a family passes its limit and when it is back under it; with ``teardown`` ends the session (RFC 4271 6.7)."""
        options = self.config.maximum_prefixes
        assert options is not None
        for family, inbound in list(self.inbound.items()):
            if (count := inbound.crossed()) is None:
                continue
            over = count > options.limit
            self._emit(
                "maximum-prefixes",
                neighbor=self.name,
                family=str(family),
                count=count,
                limit=options.limit,
                action=options.action,
                over=over,
            )
            if over and options.action == "teardown":
                # RFC 4486 4: AFI, SAFI and the upper bound.
                data = family.wire + options.limit.to_bytes(4, "big")
                stay = options.restart is None
                reset = signals.Reset(
                    Cease.MAXIMUM_NUMBER_OF_PREFIXES_REACHED, data=data, restart_after=options.restart, stay_down=stay
                )
                self.feed(reset)
                return

    def _refresh_asked(self, family: Family, subtype: int) -> None:
        inbound, outbound = self.inbound.get(family), self.outbound.get(family)
        if inbound is None or outbound is None:
            return
        self._emit("refresh", family=str(family), kind=("asked", "begins", "ends")[subtype])
        if subtype == 1:
            self._refreshes.begins(family)
        elif subtype == 2:
            self._refreshes.ends(family)
        elif outbound.marker_due:
            # RFC 7313 4: no BoRR before End-of-RIB. What went out before the request is repeated after that.
            self._asked.add(family)
        else:
            self._around.groups.renew(outbound)
            self._around.walk(self._answer(family, outbound))
            if self.peer.session is not None and self.peer.session.enhanced_refresh:
                self.feed(signals.Refresh(family, 1))
        self._around.wake()

    def _answer(self, family: Family, outbound: AdjRibOut) -> Iterator[None]:
        yield from outbound.repeat()
        if outbound is self.outbound.get(family):
            self._answering.add(family)

    def announce(self) -> bool:
        """Sends one bounded piece of what its update groups do not send; whether more can follow. Tells what was refused since the last
        time."""
        if self.config.maximum_prefixes is not None:
            self._count_prefixes()
        if self._conn is None:
            return False
        for inbound in self.inbound.values():
            if inbound.refusals:
                self._emit("rejected", reasons=dict(inbound.refusals))
                inbound.refusals.clear()
        more = False
        for family, outbound in self.outbound.items():
            if family in self._around.deferral.waiting:
                continue
            answered = family in self._answering
            if not (outbound.waiting or answered) or not self._can_send():
                continue
            messages = outbound.messages(SEND_LIMIT)
            if messages:
                self._send(messages)
            if family in self._asked and not outbound.marker_due:
                self._asked.discard(family)
                self._refresh_asked(family, 0)
            if answered and not outbound.waiting:
                self._answering.discard(family)
                if self.peer.session is not None and self.peer.session.enhanced_refresh:
                    self.feed(signals.Refresh(family, 2))
            more = more or outbound.behind
        if self._told and not any(outbound.waiting for outbound in self.outbound.values()):
            self._told = False
            self._begin_rest()
        return more

    def _can_send(self) -> bool:
        return self._conn is not None and self._rest is None and self._around.shell.is_writable(self.name, self._conn)

    def _send(self, messages: list[bytes]) -> None:
        self._told = True
        self.feed(signals.Send(messages))

    def _begin_rest(self) -> None:
        """All that there was to tell is told: what comes now waits for the MinRouteAdvertisementIntervalTimer (RFC 4271 9.2.1.1)."""
        if self.config.advertisement_interval:
            wait = self.peer.jitter(self.config.advertisement_interval)
            self._rest = self._around.shell.call_at(self._around.shell.now() + wait, self._rested)

    def _rested(self) -> None:
        self._rest = None
        self._around.wake()

    def _stop_rest(self) -> None:
        self._told = False
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None


def peer_config(config: Neighbor, around: Surroundings, *, was_up: bool = False) -> PeerConfig:
    """The state machine's share of a neighbour's configuration. ``was_up``: there has been a session since the speaker started."""
    speaker = around.config
    families = families_of(config)
    nothing: frozenset[Family] = frozenset()
    return PeerConfig(
        name=config.name,
        local_asn=config.local_asn or speaker.asn,
        peer_asn=config.remote_asn if config.four_octet_asn else as_path.two_octet(config.remote_asn),
        identifier=around.router_id,
        families=families,
        add_path_receive=families if config.add_path in ("receive", "both") else nothing,
        add_path_send=families if config.add_path in ("send", "both") else nothing,
        passive=config.passive,
        profile=Profile(speaker.profile),
        hold_time=speaker.hold_time if config.hold_time is None else config.hold_time,
        graceful_restart=restart_offer(config, families, around.deferral, was_up=was_up),
        connect_retry_time=config.connect_retry_time or speaker.connect_retry_time,
        delay_open_time=config.delay_open,
        damp_peer_oscillations=config.damp_peer_oscillations,
        idle_hold_first=config.idle_hold_time or speaker.idle_hold_time,
        idle_hold_max=max(config.idle_hold_time or speaker.idle_hold_time, config.idle_hold_time_max),
        asn4=config.four_octet_asn,
        # Checked at admission instead, where the refused route stays visible with its reason.
        enforce_first_as=False,
        # Two speakers that start together must not retry in step.
        seed=int(around.router_id) ^ crc32(config.name.encode()),
    )


def families_of(config: Neighbor) -> frozenset[Family]:
    """The address families of a neighbour's configuration."""
    return frozenset(FAMILY_OF_NAME[name] for name in config.address_families)


def packed_address(text: str) -> bytes:
    """The octets of an address, a scope left off."""
    return ipaddress.ip_address(text.partition("%")[0]).packed


def mapped(address: bytes, family: Family) -> bytes:
    """``address`` as a next hop of ``family``: over an IPv4 session IPv6 routes go out with the IPv4-mapped address."""
    if len(address) != 4 or family is Family.IPV4_UNICAST:
        return address
    return bytes(10) + b"\xff\xff" + address
