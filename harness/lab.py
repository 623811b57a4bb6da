"""A running lab: built from a plan, watched through one stream of events, changed by difference, gone without a trace.

Everything happens inside the sandbox (``harness.net.sandbox``): namespaces and links come from ``harness.net.mininet``, daemons
are forked from the zygote, and nothing waits but on events. What a lab shows goes to an :class:`Archive`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from harness import links
from harness.cloud.status import PeerStatus, peer_status
from harness.control import ControlError
from harness.daemon import Daemon, write_private
from harness.daemons.features import Feature
from harness.daemons.kinds import OURS_ALONE
from harness.impairment import Given
from harness.instruments import Capture, flight_recorder, start
from harness.ipsec.settings import Settings
from harness.ipsec.strongswan import DataPlane
from harness.net import fib, packet_filter, requests, sandbox
from harness.net.mininet import LabNet, PlanTopo
from harness.net.monitor import Group, Monitor, Overrun
from harness.net.plan_topo import link_parameters
from harness.net.zygote import Zygote
from harness.node import NodeHandle, console_name, roles_of_neighbors
from harness.plan import Link, Neighbor, Node, Plan, Role, Speaker, Tunnel, diff
from harness.probe import probe
from harness.sequence.streams import Exchange
from harness.speakers import NotSuited, StandIn, Wish, chosen, neighbor_config, speaker_config
from harness.stream import Condition, LabEvent, Stream
from harness.tables import RouteTable

#: What every child of the zygote needs: imported once, before the first fork.
PRELOAD = (
    "harness.bgp.daemon",
    "harness.daemons.agent",
    "harness.ipsec.agent",
    "harness.traffic.worker",
    "harness.traffic.meter",
    "harness.capture.recorder",
)

#: Environment variable that carries the data plane into the sandbox, so that it is probed once.
DATA_PLANE = "VBRLAB_DATAPLANE"

_numbers = itertools.count(1)


class Archive(Protocol):
    """Where a lab puts what a report will show."""

    def table(self, node: str, actual: RouteTable, expected: RouteTable) -> None: ...

    def record(self, item: Any) -> None: ...

    def attach(self, path: Path, title: str, note: str) -> None: ...

    def sequence(self, shown: Exchange, title: str, capture: Path) -> None: ...


@dataclasses.dataclass(slots=True)
class Stage:
    """A part of the bring-up; times are CLOCK_MONOTONIC."""

    name: str
    start: float
    end: float


class Lab:
    """Use :meth:`start`; ``lab["gw1"]`` is a :class:`harness.node.NodeHandle`."""

    def __init__(
        self,
        plan: Plan,
        net: Any,
        zygote: Zygote,
        archive: Archive | None,
        speakers: Sequence[Wish] = (),
        plane: DataPlane | None = None,
    ) -> None:
        self.plan, self.net, self.zygote, self.archive = plan, net, zygote, archive
        self.stand_ins = chosen(plan, speakers)
        self.stream = Stream()
        self.stream.is_told = self._is_told
        self.plane = (plane or data_plane()) if any(node.tunnel for node in plan.nodes) else None
        self.folder = sandbox.run_directory() / f"{os.getpid()}-{next(_numbers)}"
        self.nodes: dict[str, NodeHandle] = {}
        self.stages: list[Stage] = []
        self.born = time.monotonic()
        self.begun = self.born
        self.loop = asyncio.get_running_loop()
        self.recording: Capture | None = None
        self._instruments = contextlib.AsyncExitStack()
        self._monitors: list[Monitor] = []

    @classmethod
    async def start(
        cls,
        plan: Plan,
        zygote: Zygote,
        *,
        seed: int = 1,
        archive: Archive | None = None,
        record: bool = False,
        speakers: Sequence[Wish] = (),
        plane: DataPlane | None = None,
    ) -> Lab:
        """Builds the plan and returns when every daemon serves its control socket. Raises DaemonDied, NetlinkError, LabError.

        ``plane`` is who encrypts in this lab, by default the run's (:func:`data_plane`).
        ``speakers`` puts other daemons in the place of our speaker (:mod:`harness.speakers`); raises NotSuited and UnknownSpeaker for them.
        With ``record`` the signalling is recorded from before the first daemon on, for the bundle of a failure.
        """
        if not sandbox.inside():
            raise sandbox.NotInside("a lab runs in the sandbox only; start it by vbrlab up or pytest")
        began = time.monotonic()
        # Both are refused before anything is built.
        chosen(plan, speakers)
        links.refuse_impossible(plan)
        net = LabNet(PlanTopo(plan), seed=seed)  # builds it too, as Mininet does
        lab = cls(plan, net, zygote, archive, speakers, plane)
        lab.stages.append(Stage("namespaces, links, addresses, routes", began, time.monotonic()))
        try:
            for node in plan.nodes:
                lab.nodes[node.name] = NodeHandle(lab, node, net.get(node.name))
            lab._watch_kernels()
            with lab.stage("daemons started"):
                if record:
                    lab.recording = await lab._instruments.enter_async_context(flight_recorder(lab))
                await asyncio.gather(lab._set_filters(), lab._start_daemons())
            await lab.begin_tunnels()
        except BaseException:
            await lab.stop()
            raise
        return lab

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a part of the bring-up for the report."""
        began = time.monotonic()
        yield
        self.stages.append(Stage(name, began, time.monotonic()))

    def __getitem__(self, name: str) -> NodeHandle:
        if name not in self.nodes:
            raise LookupError(f"lab {self.plan.name}: no node {name!r}; there are {', '.join(self.nodes)}")
        return self.nodes[name]

    def __iter__(self) -> Iterator[NodeHandle]:
        return iter(self.nodes.values())

    def having(self, role: Role) -> list[NodeHandle]:
        """The nodes of one role, in the plan's order."""
        return [node for node in self if node.plan.role is role]

    # Waiting

    async def until(self, condition: Condition, *, within: float, since: float | None = None, what: str = "") -> Any:
        """See :meth:`harness.stream.Stream.until`."""
        return await self.stream.until(condition, within=within, since=since, what=what)

    async def event(self, *, within: float, since: float = 0.0, **wanted: Any) -> LabEvent:
        """The first event that matches ``wanted`` (see :meth:`harness.stream.Stream.of`) from ``since`` on."""
        words = " ".join(f"{k}={v}" for k, v in wanted.items())

        def first() -> LabEvent | None:
            return next(self.stream.of(since=since, **wanted), None)

        found: LabEvent = await self.until(first, within=within, since=since or None, what=f"an event {words}")
        return found

    async def tunnels_up(self, *, within: float, since: float | None = None) -> float | None:
        """Returns once every tunnel's line is up at both its ends: the moment of the last, or None where the plan has no tunnel."""
        ends = {node.name for node in self if node.plan.tunnel is not None}

        def all_up() -> bool:
            return ends <= {name for name, up in self.lines().items() if up}

        await self.until(all_up, within=within, since=since, what="every tunnel up at both ends")
        return max((event.time for event in self.stream.of(source="ipsec", kind="line")), default=None)

    def lines(self) -> dict[str, bool]:
        """The present line protocol of every tunnel interface, by node: up while it has an installed CHILD_SA."""
        found = {node.name: False for node in self if node.plan.tunnel is not None}
        for event in self.stream.of(source="ipsec", kind="line"):
            found[event.node] = event.data["state"] == "up"
        return found

    def session_states(self) -> dict[tuple[str, str], str]:
        """The present state of every BGP session, by (node, neighbour's name), as the speakers' events told it."""
        states = {
            (node.name, neighbor.name): "Idle"
            for node in self
            if node.plan.speaker is not None
            for neighbor in node.plan.speaker.neighbors
        }
        for event in self.stream.of():
            if event.source == "bgp" and event.type == "fsm" and not event.data.get("spare"):
                states[event.node, event.data["peer"]] = event.data["new"]
            elif event.type == "exit" and event.data["daemon"] == "bgp":
                # A dead speaker has no live state to show (VBR-36).
                states.update({session: "Idle" for session in states if session[0] == event.node})
        return states

    def peer_statuses(self) -> dict[tuple[str, str], PeerStatus]:
        """The console's status of every BGP session, by (node, neighbour's name): a dead speaker's are Unestablished (VBR-36)."""
        return {
            (node, peer): peer_status(state if self[node].speaker.running else None)
            for (node, peer), state in self.session_states().items()
        }

    def needs(self, feature: Feature, *nodes: str) -> None:
        """Says that what comes next takes ``feature`` in these nodes (none named: in every node that speaks BGP).

        Our speaker has them all. Raises NotSuited where another daemon stands in its place and has not.
        """
        for node, kind in self.stand_ins.items():
            if (not nodes or node in nodes) and feature not in kind.features:
                raise NotSuited(
                    f"{node}: {kind.title} in the speaker's place does without {feature}: {kind.why_not(feature)}"
                )

    def transitions(
        self, *, node: str | None = None, peer: str | None = None, since: float = 0.0
    ) -> Iterator[LabEvent]:
        """The state transitions of BGP sessions, without those of the connection that loses a collision (RFC 4271 6.8).

        Raises NotSuited for a node whose daemon is not our speaker: it walks through the states in its own way.
        """
        if (stand_in := self.stand_ins.get(node or "")) is not None:
            raise NotSuited(f"{node}: {stand_in.title} in the speaker's place walks through the states in its own way")
        wanted = {} if peer is None else {"peer": peer}
        for event in self.stream.of(node=node, source="bgp", kind="fsm", since=since, **wanted):
            if not event.data.get("spare"):
                yield event

    async def established(self, *, within: float, since: float | None = None) -> None:
        """Returns once every BGP session of the plan is Established. Raises NotInTime naming the others."""
        waiting: list[str] = []

        def all_up() -> bool:
            states = self.session_states()
            waiting[:] = [
                f"{node} → {peer}: {state}" for (node, peer), state in states.items() if state != "Established"
            ]
            return not waiting

        try:
            await self.until(all_up, within=within, since=since, what="every BGP session Established")
        except AssertionError as error:
            raise type(error)(f"sessions not Established: {', '.join(waiting)}\n{error}") from None

    # What tests and tables ask of the plan

    def console_names(self, node: str) -> dict[str, str]:
        """For each neighbour of a transit router, how the console's route table calls that next hop."""
        speaker = self.plan[node].speaker
        return {n.name: console_name(n.name) for n in speaker.neighbors} if speaker is not None else {}

    def roles_of_neighbors(self, node: str) -> dict[str, Role]:
        return roles_of_neighbors(self.plan, node)

    async def route_tables(self) -> list[RouteTable]:
        """The tables that the documents print, of every node that has one, in the plan's order."""
        documented = (Role.TRANSIT_ROUTER, Role.VBR, Role.VPN_GATEWAY, Role.VPC, Role.VPN, Role.DEVICE)
        nodes = [node for role in documented for node in self.having(role) if "bgp" in node.daemons]
        return list(await asyncio.gather(*(node.route_table() for node in nodes)))

    def record(self, item: Any) -> None:
        """Puts an item of ``reports.model`` into the report, under the test that is running."""
        if self.archive is not None:
            self.archive.record(item)

    def record_table(self, node: str, actual: RouteTable, expected: RouteTable) -> None:
        if self.archive is not None:
            self.archive.table(node, actual, expected)

    def record_sequence(self, shown: Exchange, title: str, capture: Path) -> None:
        """The chart of a connection's start and end, with the capture it was read from."""
        if self.archive is not None:
            self.archive.sequence(shown, title, capture)

    def attach(self, path: Path, title: str, note: str = "") -> None:
        """Keeps a file of the lab (a pcap, a log) in the report."""
        if self.archive is not None:
            self.archive.attach(path, title, note)

    def everything_written(self) -> str:
        """All that this lab has said or written: events, logs, configuration left on disk, arguments of its processes."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".pcapng"]
        arguments = Path("/proc").glob("[0-9]*/cmdline")
        texts = [event.text() for event in self.stream.events]
        for path in (*files, *arguments):
            with contextlib.suppress(OSError):
                texts.append(path.read_text(errors="replace"))
        return "\n".join(texts)

    # Change while running

    def set_link(self, a: str, b: str, up: bool) -> float:
        """Cuts or mends the cable between two nodes at the first one's end, as Mininet's ``link a b down``; returns when."""
        at = time.monotonic()
        self.net.configLinkStatus(a, b, "up" if up else "down")
        self.stream.add(a, "lab", "link", {"peer": b, "up": up}, at)
        return at

    def impair(self, a: str, b: str, *, one_way: bool = False, **given: Given | None) -> float:
        """Makes a link late, lossy or slow: ``lab.impair("gw1", "internet", delay="40ms", loss=1)``; see :mod:`harness.links`."""
        return links.impair(self, a, b, given, one_way=one_way)

    def clear(self, a: str, b: str, *, one_way: bool = False) -> float:
        """Makes the links between two nodes again as the plan has them. Returns when."""
        return links.clear(self, a, b, one_way=one_way)

    async def apply(self, plan: Plan) -> float:
        """Turns the running lab into ``plan`` by the difference: new links, routes, filters, neighbours and networks.

        Nothing else restarts.

        Returns the moment of the change. Raises ValueError for a difference that needs another lab (a node more or less).
        """
        at = time.monotonic()
        changes = diff(self.plan, plan)
        known = {change.name for change in changes if change.kind == "node" and None in (change.old, change.new)}
        if known:
            raise ValueError(f"lab {plan.name}: {', '.join(known)} would come or go; start another lab for that")
        links.refuse_impossible(plan)
        self.plan = plan
        for change in changes:
            if isinstance(change.new, Link) and change.old is None:
                self.net.addLink(change.new.a.node, change.new.b.node, **link_parameters(change.new))
            elif links.only_impaired(change):
                links.follow(self, change)
            elif change.kind == "link":
                raise ValueError(f"lab {plan.name}: link {change.name} would change or go; cut it by set_link")
        for change in changes:
            if isinstance(change.old, Node) and isinstance(change.new, Node):
                await self._change_node(change.old, change.new)
        self.stream.add("lab", "lab", "applied", {"changes": [f"{c.kind} {c.name}" for c in changes]}, at)
        return at

    async def _change_node(self, old: Node, new: Node) -> None:
        handle = self[new.name]
        handle.plan = new
        for route in old.routes:
            if route not in new.routes:
                handle.mn.delete_route(route)
        for route in new.routes:
            if route not in old.routes:
                handle.mn.add_route(route)
        if new.filter != old.filter:
            await asyncio.to_thread(packet_filter.load, handle.namespace, new.filter)
        if old.speaker is None or new.speaker is None or not handle.speaker.running:
            # A speaker that does not run finds the new plan when it starts.
            return
        if _own_fields(old.speaker) != _own_fields(new.speaker):
            await handle.speaker.kill(signal.SIGTERM)
            await handle.speaker.restart(self.zygote)
            return
        before = {neighbor.name: neighbor for neighbor in old.speaker.neighbors}
        after = {neighbor.name: neighbor for neighbor in new.speaker.neighbors}
        for name in before.keys() - after.keys():
            await handle.speaker.call("neighbor.delete", name=name)
        for name, neighbor in after.items():
            if name not in before:
                await handle.speaker.call("neighbor.add", **neighbor_config(neighbor))
            elif before[name] != neighbor:
                await _change_neighbor(handle.speaker, neighbor)
        for prefix in set(old.speaker.networks) - set(new.speaker.networks):
            await handle.speaker.call("network.delete", prefix=prefix)
        for prefix in set(new.speaker.networks) - set(old.speaker.networks):
            await handle.speaker.call("network.add", prefix=prefix)

    # The inside

    async def _set_filters(self) -> None:
        """Where the machine has no packet filters, everything is let in, and an event says so as the run's header does."""
        walled = [handle for handle in self if handle.plan.filter is not None]
        try:
            await asyncio.gather(
                *(asyncio.to_thread(packet_filter.load, each.namespace, each.plan.filter) for each in walled)
            )
        except packet_filter.FilterError:
            if not (lacking := probe().missing("packet-filter")):
                raise
            self.stream.add("lab", "lab", "unfiltered", {"reason": lacking[0].reason})

    async def _start_daemons(self) -> None:
        for handle in self:
            if handle.plan.tunnel is not None:
                handle.daemons["ipsec"] = self._agent(handle, handle.plan.tunnel)
            if handle.plan.speaker is not None:
                handle.daemons["bgp"] = self._speaker(handle)
        # Agents first: a charon takes longest to be ready, and only a tunnel that is up has a neighbour to talk to.
        await start(self, [h.daemons[kind] for kind in ("ipsec", "bgp") for h in self if kind in h.daemons])

    def _agent(self, node: NodeHandle, tunnel: Tunnel) -> Daemon:
        folder = self.folder / node.name
        plane = self.plane
        assert plane is not None

        def hand_over() -> list[str]:
            # Both ends have their connection loaded before either begins: see begin_tunnels.
            settings = Settings(node.name, tunnel, plane, folder, folder / "ipsec.sock", begin=False)
            return settings.hand_over(folder / "ipsec.json")

        return Daemon(node.name, "ipsec", "harness.ipsec.agent:main", folder, node.namespace.fd, self.stream, hand_over)

    def _speaker(self, node: NodeHandle) -> Daemon:
        folder = self.folder / node.name
        netns_fd = node.namespace.fd
        if (kind := self.stand_ins.get(node.name)) is not None:

            def present() -> dict[str, Any]:
                assert node.plan.speaker is not None
                return speaker_config(node.plan.speaker)

            def gone() -> None:
                if node.plan.speaker is None or not node.plan.speaker.keeps_forwarding:
                    for protocol in kind.leaves:
                        _swept(netns_fd, protocol)

            return StandIn(kind, node.name, folder, netns_fd, self.stream, present, gone)

        def configure() -> list[str]:
            # The node's present speaker: it may have changed since the lab began.
            assert node.plan.speaker is not None
            config = write_private(folder / "bgp.json", speaker_config(node.plan.speaker))
            return ["--config", str(config), "--consume", "--control", str(folder / "bgp.sock")]

        def after() -> None:
            # A killed speaker cannot take its routes with it: the lab does, the moment it is gone, unless they are to stay.
            if node.plan.speaker is None or not node.plan.speaker.keeps_forwarding:
                _swept(netns_fd)

        return Daemon(
            node.name,
            "bgp",
            "harness.bgp.daemon:main",
            folder,
            netns_fd,
            self.stream,
            configure,
            after=after,
        )

    async def begin_tunnels(self, *, within: float = 10.0) -> None:
        """Once both ends know their connection, lets the tunnels that are to start at once begin (ECMP-7, ECMP-30).

        The cloud's side initiates, without limit. Raises NotInTime when a charon is not ready.
        """
        ends = {node.name for node in self if node.plan.tunnel is not None}

        def all_loaded() -> bool:
            return ends <= {event.node for event in self.stream.of(source="ipsec", kind="status", state="waiting")}

        await self.until(all_loaded, within=within, what="every charon has its connection loaded")
        starting = [node for node in self if node.plan.tunnel is not None and node.plan.tunnel.initiate == "start"]
        self.begun = time.monotonic()
        await asyncio.gather(*(node.ipsec.call("initiate") for node in starting))

    def _watch_kernels(self) -> None:
        loop = asyncio.get_running_loop()
        groups = (Group.LINK, Group.IPV4_ROUTE, Group.IPV6_ROUTE, Group.NEXTHOP)
        for node in self:
            monitor = Monitor(groups, netns_fd=node.namespace.fd)
            self._monitors.append(monitor)
            loop.add_reader(monitor.fileno(), self._kernel_changed, node.name, monitor)

    def _is_told(self, node: str | None, kind: str | None) -> None:
        stand_in = self.stand_ins.get(node or "")
        if stand_in is not None and kind in OURS_ALONE - stand_in.tells:
            raise NotSuited(f"{node}: {stand_in.title} in the speaker's place tells no {kind}")

    def _kernel_changed(self, node: str, monitor: Monitor) -> None:
        with contextlib.suppress(Overrun):
            for change in monitor.read():
                if change.kind == "link":
                    info = change.info
                    up = change.new and getattr(info, "operational", False)
                    self.stream.add(node, "kernel", "link", {"interface": getattr(info, "name", "?"), "up": up})
        self.stream.wake()

    async def stop(self) -> None:
        """Ends daemons and lets the kernel take the namespaces down. Speakers and charons say goodbye only if asked before."""
        await self._instruments.aclose()
        loop = asyncio.get_running_loop()
        for monitor in self._monitors:
            loop.remove_reader(monitor.fileno())
            monitor.close()
        self._monitors.clear()
        daemons = [daemon for node in self for daemon in node.daemons.values()]
        ends: list[Awaitable[Any]] = [daemon.kill() for daemon in daemons if daemon.running]
        for daemon in daemons:
            await daemon.close_stream()
        await asyncio.gather(*ends, return_exceptions=True)
        for daemon in daemons:
            await daemon.close()
        self.net.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def data_plane() -> DataPlane:
    """The IPsec data plane of this run: found by whoever made the sandbox, else now. Raises LookupError where there is none."""
    if (known := os.environ.get(DATA_PLANE)) is not None:
        return DataPlane(known)
    choice = probe().dataplane()
    if choice.plane is None:
        raise LookupError(f"no IPsec data plane: {choice.reason}; vbrlab doctor says what to do")
    return choice.plane


def _own_fields(speaker: Speaker) -> Speaker:
    """What of a speaker takes effect only when it starts: its ASN, its timers, how it writes routes."""
    return dataclasses.replace(speaker, neighbors=(), networks=())


async def _change_neighbor(speaker: Daemon, neighbor: Neighbor) -> None:
    """In place; another policy counts for the routes that are there as well, as it would in a lab begun with it."""
    changed = (await speaker.call("neighbor.change", **neighbor_config(neighbor)))["changed"]
    for field, direction in (("import", "in"), ("export", "out"), ("next_hop_self", "out")):
        if field in changed:
            # A session that is down, or comes up now, has no old routes.
            with contextlib.suppress(ControlError):
                await speaker.call("clear.soft", name=neighbor.name, direction=direction, stored=True)


def _swept(netns_fd: int, protocol: int = requests.Protocol.BGP) -> None:
    with contextlib.suppress(OSError):
        fib.sweep(netns_fd, protocol=protocol)
