"""Runs devices as their texts have them and asks the running ends what became of it.

Everything is awaited on events with one deadline a step; a step that does not come to pass is an answer, not an error. Several devices
of one lab are proven at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from harness.asa.running import Running
from harness.control import ControlError
from harness.lab import Lab
from harness.net.namespace import NamespaceError
from harness.plan import Node, Plan, Role
from harness.proving.facts import End, Facts, Session, plain
from harness.proving.graft import INSIDE, graft
from harness.stream import NotInTime


@dataclass(frozen=True, slots=True)
class Subject:
    """A device under proof: its node, the node of its connection, what its text makes, and what the data centre has behind it."""

    node: str
    connection: str
    device: Running
    blocks: tuple[str, ...]
    clients: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that each step may take. The tunnel's includes the cloud's retransmissions to a device that does not answer."""

    tunnel: float = 3.0
    second_try: float = 2.5
    rekey: float = 3.0
    session: float = 4.0
    routes: float = 2.0
    client: float = 0.5


def hurried(plan: Plan) -> Plan:
    """The plan with charons that give up after 1.2 s and speakers that dial again after 1 s, so that a silent peer is known soon."""
    nodes = []
    for node in plan.nodes:
        tunnel = node.tunnel and replace(node.tunnel, retransmit_timeout=0.4, retransmit_tries=2, dpd_delay=10.0)
        speaker = node.speaker and replace(node.speaker, connect_retry_time=1)
        nodes.append(replace(node, tunnel=tunnel, speaker=speaker))
    return replace(plan, nodes=tuple(nodes))


def staged(plan: Plan, subjects: tuple[Subject, ...]) -> Plan:
    """The plan in which the subjects stand for their nodes."""
    plan = hurried(plan)
    for subject in subjects:
        plan = graft(plan, subject.node, subject.device)
    return plan


async def prove(lab: Lab, subjects: tuple[Subject, ...], patience: Patience = Patience()) -> dict[str, Facts]:
    """What became of each device of a lab that was started from :func:`staged`, by node."""
    found = await asyncio.gather(*(_Proof(lab, subject, patience).facts() for subject in subjects))
    return {subject.node: facts for subject, facts in zip(subjects, found, strict=True)}


class _Proof:
    def __init__(self, lab: Lab, subject: Subject, patience: Patience) -> None:
        self._lab, self._subject, self._patience = lab, subject, patience
        self._node, self._cloud = lab[subject.node], lab[subject.connection]

    async def facts(self) -> Facts:
        up = await self._tunnel()
        rekey = session = None
        if up:
            session = await self._session()
            rekey = await self._rekey()
        facts = replace(
            await self._gathered(),
            up=up,
            rekey=rekey,
            session=bool(session),
            way=await self._way(),
            unresolved=await self._unresolved(),
        )
        if session:
            facts = await self._beyond(facts)
        return facts

    # ------------------------------------------------------------------------------------------------------------------ tunnel

    def _ends(self) -> set[str]:
        return {node.name for node in (self._node, self._cloud) if "ipsec" in node.daemons}

    def _is_up(self) -> bool:
        lines = self._lab.lines()
        return len(self._ends()) == 2 and all(lines.get(end) for end in self._ends())

    def _failed_since(self, since: float) -> bool:
        events = self._lab.stream.of(source="ipsec", kind="failure", since=since)
        return any(event.node == self._cloud.name for event in events)

    async def _tunnel(self) -> bool:
        """Up at both ends, and so still after a second key has been tried (``Tunnel.peer_key``)?"""
        began = self._lab.begun
        with contextlib.suppress(NotInTime):
            await self._lab.until(
                lambda: self._is_up() or self._failed_since(began),
                within=self._patience.tunnel,
                since=began,
                what="a tunnel",
            )
        tunnel = self._lab.plan[self._subject.node].tunnel
        if tunnel is not None and tunnel.peer_key is not None and self._is_up():
            with contextlib.suppress(NotInTime):
                await self._lab.until(
                    lambda: self._failed_since(began), within=self._patience.tunnel, what="the second key's failure"
                )
        if not self._is_up() and tunnel is not None:
            await self._calls_itself()
        return self._is_up()

    async def _calls_itself(self) -> None:
        """One negotiation from the device's end: what keeps its own packets from the cloud is known only there."""
        since = time.monotonic()
        with contextlib.suppress(NotInTime, ControlError, ValueError):
            await self._node.ipsec.call("initiate")
            await self._lab.until(
                lambda: (
                    self._is_up()
                    or any(
                        event.node == self._node.name
                        for event in self._lab.stream.of(source="ipsec", kind="failure", since=since)
                    )
                ),
                within=self._patience.second_try,
                since=since,
                what="the device's own attempt",
            )

    async def _rekey(self) -> str | None:
        """A trial rekey from the cloud: PFS that differs is known by it, a day before the lifetime would tell."""
        since = time.monotonic()
        try:
            await self._cloud.ipsec.call("rekey")
            await self._lab.until(
                lambda: (
                    any(
                        self._lab.stream.of(
                            node=self._cloud.name, source="ipsec", kind="child", since=since, change="rekeyed"
                        )
                    )
                    or self._failed_since(since)
                ),
                within=self._patience.rekey,
                since=since,
            )
        except (NotInTime, ControlError) as error:
            return str(error).splitlines()[0]
        failures = [
            e for e in self._lab.stream.of(source="ipsec", kind="failure", since=since) if e.node == self._cloud.name
        ]
        return str(failures[-1].data["text"]) if failures else None

    # --------------------------------------------------------------------------------------------------------------------- BGP

    def _sessions(self) -> list[tuple[str, str]]:
        """The session by the tunnel as its two ends call it: (node, neighbour)."""
        found = []
        for handle in (self._node, self._cloud):
            if (neighbor := _by_the_tunnel(self._lab.plan[handle.name])) is not None:
                found.append((handle.name, neighbor))
        return found

    async def _session(self) -> bool:
        ends = self._sessions()

        def established() -> bool:
            states = self._lab.session_states()
            return len(ends) == 2 and all(states.get(end) == "Established" for end in ends)

        with contextlib.suppress(NotInTime):
            await self._lab.until(established, within=self._patience.session)
        return established()

    async def _beyond(self, facts: Facts) -> Facts:
        """With a session: routes both ways, the clients, the data-centre router."""
        neighbor = self._sessions()[1][1]

        async def learned() -> tuple[str, ...]:
            rows = await self._cloud.speaker.call("show.routes", table="in", peer=neighbor)
            return tuple(str(row["prefix"]) for row in rows)

        async def complete() -> bool:
            return set(self._subject.blocks) <= set(await learned())

        with contextlib.suppress(NotInTime):
            await self._lab.until(complete, within=self._patience.routes)
        speaker = self._lab.plan[self._subject.node].speaker
        # The lab's own neighbour comes last (see graft); others of the text have nobody there.
        inner = [] if speaker is None else [(self._subject.node, speaker.neighbors[-1].name)]

        def all_inner() -> bool:
            states = self._lab.session_states()
            return all(states[key] == "Established" for key in inner)

        with contextlib.suppress(NotInTime):
            await self._lab.until(all_inner, within=self._patience.routes)
        has = await learned()
        answers = await asyncio.gather(*(self._reaches(client) for client in self._subject.clients.values()))
        silent = [block for block, answer in zip(self._subject.clients, answers, strict=True) if not answer]
        unreached = {block: (await self._way(self._subject.clients[block]) or ("", ""))[0] for block in silent}
        return replace(
            facts,
            learned=has,
            missing=tuple(block for block in self._subject.blocks if block not in has),
            unreached=unreached,
            unresolved=await self._unresolved(),
            inner=all_inner(),
        )

    async def _reaches(self, client: str) -> bool:
        ends = [end for end, _ in self._lab.plan.interfaces(self._subject.node) if end.interface == INSIDE]
        source = next((address.partition("/")[0] for end in ends for address in end.addresses), None)
        return bool(await self._node.ping(client, count=1, source=source, within=self._patience.client))

    # ---------------------------------------------------------------------------------------------------------------- quotations

    async def _gathered(self) -> Facts:
        device, cloud = await asyncio.gather(self._end(self._subject.node), self._end(self._subject.connection))
        device_bgp, cloud_bgp = await asyncio.gather(self._bgp(self._subject.node), self._bgp(self._subject.connection))
        return Facts(device=device, cloud=cloud, device_bgp=device_bgp, cloud_bgp=cloud_bgp)

    async def _end(self, node: str) -> End:
        handle = self._lab[node]
        if "ipsec" not in handle.daemons:
            return End()
        try:
            status, log = await asyncio.gather(handle.ipsec.call("show.status"), handle.ipsec.call("log", lines=2000))
        except ControlError as error:
            return End(log=(str(error),))
        return End(status["state"], status["reason"], plain(log))

    async def _bgp(self, node: str) -> Session:
        handle = self._lab[node]
        events = [
            event
            for event in self._lab.stream.of(node=node, source="bgp")
            if event.type in ("connection.refused", "dial.waiting")
        ]
        refused = tuple(dict.fromkeys(str(e.data["address"]) for e in events if e.type == "connection.refused"))
        waiting = next((str(e.data.get("reason")) for e in reversed(events) if e.type == "dial.waiting"), None)
        neighbor = _by_the_tunnel(self._lab.plan[node])
        if "bgp" not in handle.daemons or neighbor is None:
            return Session(refused=refused, waiting=waiting)
        try:
            row: dict[str, Any] = (await handle.speaker.call("show.neighbors", name=neighbor))[0]
        except (ControlError, IndexError):
            return Session(refused=refused, waiting=waiting)
        return Session(
            row["state"], _error(row["last_sent_error"]), _error(row["last_received_error"]), refused, waiting
        )

    async def _way(self, to: str | None = None) -> tuple[str, str] | None:
        target = to or self._subject.device.value("destination")
        if target is None:
            return None
        done = await self._node.run("ip", "-j", "route", "get", str(target))
        if not done:
            return None
        with contextlib.suppress(ValueError, IndexError):
            row = json.loads(done.output)[0]
            return str(row.get("gateway", "")), str(row.get("dev", ""))
        return None

    async def _unresolved(self) -> frozenset[str]:
        with contextlib.suppress(NamespaceError, ValueError):
            rows = json.loads((await self._node.run("ip", "-j", "neigh", "show")).output or "[]")
            return frozenset(str(row["dst"]) for row in rows if {"FAILED", "INCOMPLETE"} & set(row.get("state", ())))
        return frozenset()


def _by_the_tunnel(node: Node) -> str | None:
    """The neighbour at the other end of a node's tunnel; where none has an address there, the first."""
    if node.speaker is None or not node.speaker.neighbors:
        return None
    block = ip_interface(node.tunnel.address).network if node.tunnel is not None else None
    inside = [each.name for each in node.speaker.neighbors if block is not None and ip_address(each.address) in block]
    return (inside or [node.speaker.neighbors[0].name])[0]


def _error(fields: Mapping[str, Any] | None) -> str | None:
    return None if fields is None else f"NOTIFICATION {fields['code']}/{fields['subcode']} {fields['name']}"


def clients_of(plan: Plan, blocks: tuple[str, ...]) -> dict[str, str]:
    """An address of a client in each block."""
    found: dict[str, str] = {}
    for node in plan.nodes:
        if node.role is not Role.CLIENT:
            continue
        for end, _ in plan.interfaces(node.name):
            for address in end.addresses:
                block = str(ip_interface(address).network)
                if ip_network(block) in [ip_network(each) for each in blocks]:
                    found.setdefault(block, address.partition("/")[0])
    return found
