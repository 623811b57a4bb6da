"""The console's pages of one VBR of a running lab: groups, peers, advertised networks, status; the same for labs and for commands.

    vbr = VbrConsole(lab, estate)
    peer = await vbr.peers.create(group="idc", ip="10.1.2.2", bfd=True, bfd_hop_count=1)
    await peer.established(within=5.0)

Every change goes the same way: resources, rules, plan, difference, running lab. What the rules refuse raises
:class:`harness.cloud.findings.Refused` before anything is touched. Changes are made one after the other, whoever asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from harness.cloud import vbr_changes
from harness.cloud.build_vbr import compile_vbr_estate
from harness.cloud.findings import Finding, Refused
from harness.cloud.status import PeerStatus, peer_status
from harness.cloud.vbr import (
    BgpGroup,
    BgpPeer,
    Protocol,
    Vbr,
    VbrEstate,
    basic_information,
    bfd_hop_count,
    circuit_of,
    group_of,
    local_asn,
)
from harness.cloud.vbr_rules import validate
from harness.control import ControlError

if TYPE_CHECKING:
    from harness.lab import Lab

Act = Callable[[VbrEstate], VbrEstate]

#: A speaker that does not answer within this many seconds has no live state to show (VBR-36).
ANSWER_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A line of the page "BGP peers". ``uptime`` in seconds; ``routes`` are those received; ``reason`` says why it is not Established."""

    peer: str
    group: str
    protocol: str
    peer_asn: int
    local_asn: int
    circuit: str
    status: PeerStatus
    uptime: float | None
    routes: int
    quota: int
    over_quota: bool
    bfd: str
    bfd_hop_count: int | None
    reason: str


class VbrConsole:
    """One VBR of a running lab. ``estate`` is what the console has now; ``changed`` is told of each new one."""

    def __init__(
        self,
        lab: Lab,
        estate: VbrEstate,
        vbr: str | None = None,
        changed: Callable[[VbrEstate], None] = lambda _: None,
        *,
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        self.lab, self.estate = lab, estate
        self.name = vbr or estate.vbrs[0].name
        self.groups, self.peers, self.networks = Groups(self), Peers(self), Networks(self)
        self.moment = lab.born
        self._changed, self._answer_within = changed, answer_within
        self._one_at_a_time = asyncio.Lock()

    @property
    def vbr(self) -> Vbr:
        """The resource as it is now."""
        return next(each for each in self.estate.vbrs if each.name == self.name)

    def information(self) -> dict[str, str]:
        """The details page (VBR-29)."""
        return basic_information(self.estate, self.vbr)

    def warnings(self) -> list[Finding]:
        """What the rules warn of as things are now."""
        return validate(self.estate)

    async def associate_ecr(self, ecr: str) -> None:
        """Associates the VBR with an ECR of the estate (VBR-6, VBR-28). Raises Refused."""
        await self.change(lambda estate: vbr_changes.associate_ecr(estate, self.name, ecr))

    async def change(self, act: Act) -> float:
        """Carries out one change and returns its moment (CLOCK_MONOTONIC). Raises Refused; then nothing is changed."""
        async with self._one_at_a_time:
            after = act(self.estate)
            plan = compile_vbr_estate(after).impaired_as(self.lab.plan)
            self._changed(after)
            self.moment = await self.lab.apply(plan)
            self.estate = after
            return self.moment

    async def status(self) -> list[PeerRow]:
        """The page "BGP peers", read from the running speaker."""
        told = await self._told()
        return [self._row(peer, told.get(peer.ip)) for peer in self.vbr.peers]

    async def _told(self) -> dict[str, dict[str, Any]]:
        """What the speaker says of each neighbour, by name; nothing where it does not run or does not answer."""
        speaker = self.lab[self.name].speaker
        if not speaker.running:
            return {}
        try:
            async with asyncio.timeout(self._answer_within):
                rows = await speaker.call("show.neighbors")
        except (ControlError, TimeoutError):
            return {}
        return {row["name"]: row for row in rows}

    def _row(self, peer: BgpPeer, told: dict[str, Any] | None) -> PeerRow:
        vbr = self.vbr
        group, circuit = group_of(vbr, peer), circuit_of(self.estate, vbr.name, peer.ip)
        assert group is not None and circuit is not None  # the rules have seen to it
        state = None if told is None else str(told["state"])
        status = peer_status(state, started=told is None or not told["shutdown"])
        limits = ((told or {}).get("maximum_prefixes") or {}).get("families", {}).values()
        bfd = (told or {}).get("bfd") or {}
        return PeerRow(
            peer.ip,
            group.name,
            str(group.protocol),
            group.peer_asn,
            local_asn(self.estate, vbr, group),
            circuit.name,
            status,
            (told or {}).get("uptime"),
            (told or {}).get("received", 0),
            group.route_quota,
            any(limit["over"] for limit in limits),
            "off" if not peer.bfd else str(bfd.get("state", "unknown")),
            bfd_hop_count(peer),
            _why(status, told, bfd),
        )


def _why(status: PeerStatus, told: dict[str, Any] | None, bfd: dict[str, Any]) -> str:
    """Why a peer is not Established, or what is wrong though it is."""
    if told is None:
        return "the speaker of the VBR does not run, or does not answer"
    if status is not PeerStatus.ESTABLISHED:
        last, dropped = told.get("last_down"), told.get("md5")
        # Segments are dropped at the start of every keyed session: they are the reason where nothing was heard at all.
        return "; ".join(part for part in (last, dropped if not last or "Hold Timer" in last else None) if part)
    return "" if bfd.get("state") in (None, "Up") else f"BFD: {bfd.get('reason') or bfd['state']}"


class Groups:
    """The page "BGP groups"."""

    def __init__(self, console: VbrConsole) -> None:
        self._console = console

    def list(self) -> tuple[BgpGroup, ...]:
        return self._console.vbr.groups

    async def create(self, name: str, peer_asn: int, **fields: Any) -> BgpGroup:
        """Step 1 of the document; ``fields`` are those of :class:`harness.cloud.vbr.BgpGroup`. Raises Refused."""
        group = BgpGroup(name, peer_asn, **_protocol(fields))
        await self._console.change(lambda estate: vbr_changes.create_group(estate, self._console.name, group))
        return group

    async def modify(self, name: str, /, **changes: Any) -> BgpGroup:
        """Changes what the form "Modify BGP group" has. Raises Refused."""
        vbr, changes = self._console.name, _protocol(changes)
        await self._console.change(lambda estate: vbr_changes.modify_group(estate, vbr, name, **changes))
        now = changes.get("name", name)
        return next(group for group in self.list() if group.name == now)

    async def delete(self, name: str) -> None:
        """Refused while it has peers."""
        await self._console.change(lambda estate: vbr_changes.delete_group(estate, self._console.name, name))


class Peers:
    """The page "BGP peers"."""

    def __init__(self, console: VbrConsole) -> None:
        self._console = console

    def list(self) -> tuple[BgpPeer, ...]:
        return self._console.vbr.peers

    def __getitem__(self, ip: str) -> Peer:
        """The peer of that address. Raises Refused where there is none."""
        ip = _plain(ip)
        vbr_changes.find_peer(self._console.vbr, ip)
        return Peer(self._console, ip)

    async def create(self, group: str, ip: str, *, bfd: bool = False, bfd_hop_count: int | None = None) -> Peer:
        """Step 2 of the document. Raises Refused."""
        peer = BgpPeer(group, _plain(ip), bfd, bfd_hop_count)
        await self._console.change(lambda estate: vbr_changes.create_peer(estate, self._console.name, peer))
        return Peer(self._console, peer.ip)

    async def modify(self, ip: str, /, **changes: Any) -> Peer:
        """Changes what the form "Modify BGP peer" has: group, ip, bfd, bfd_hop_count. Raises Refused."""
        vbr, ip = self._console.name, _plain(ip)
        if "ip" in changes:
            changes["ip"] = _plain(changes["ip"])
        await self._console.change(lambda estate: vbr_changes.modify_peer(estate, vbr, ip, **changes))
        return Peer(self._console, changes.get("ip", ip))

    async def delete(self, ip: str) -> None:
        """Its session ends with Cease/3. Raises Refused."""
        ip = _plain(ip)
        await self._console.change(lambda estate: vbr_changes.delete_peer(estate, self._console.name, ip))


class Peer:
    """A BGP peer of a running lab."""

    def __init__(self, console: VbrConsole, ip: str) -> None:
        self._console, self.ip = console, ip
        #: When the console was last changed before this handle was made: what to wait since.
        self.since = console.moment

    def __repr__(self) -> str:
        return f"<BGP peer {self.ip} of VBR {self._console.name}>"

    async def row(self) -> PeerRow:
        """Its line of the page. Raises Refused where it is deleted."""
        vbr_changes.find_peer(self._console.vbr, self.ip)
        return next(row for row in await self._console.status() if row.peer == self.ip)

    async def status(self) -> PeerStatus:
        """One of the seven, now."""
        return (await self.row()).status

    async def established(self, *, within: float) -> None:
        """Returns once the peer is Established; the deadline counts from the change that made this handle. Raises NotInTime."""
        await self.reaches(PeerStatus.ESTABLISHED, within=within)

    async def reaches(self, status: PeerStatus, *, within: float) -> None:
        """Returns once the peer's present state is ``status``, as its speaker's events tell it. Raises NotInTime."""
        session = (self._console.name, self.ip)
        await self._console.lab.until(
            lambda: self._console.lab.peer_statuses().get(session) == status,
            within=within,
            since=self.since,
            what=f"{self!r} is {status}",
        )


class Networks:
    """The page "advertised BGP networks" (step 3)."""

    def __init__(self, console: VbrConsole) -> None:
        self._console = console

    def list(self) -> tuple[str, ...]:
        return self._console.vbr.networks

    async def add(self, cidr: str) -> None:
        """Raises Refused."""
        await self._console.change(lambda estate: vbr_changes.add_network(estate, self._console.name, cidr))

    async def delete(self, cidr: str) -> None:
        """It is withdrawn from every data centre. Raises Refused."""
        await self._console.change(lambda estate: vbr_changes.delete_network(estate, self._console.name, cidr))


def _protocol(fields: dict[str, Any]) -> dict[str, Any]:
    """The protocol as the console writes it, "IPv4" or "IPv6". Raises Refused for another word."""
    if "protocol" not in fields:
        return fields
    try:
        return {**fields, "protocol": Protocol(fields["protocol"])}
    except ValueError:
        rule = f"protocol {fields['protocol']!r} does not exist"
        raise Refused([Finding("BGP group", rule, "VBR-8", f"Choose {' or '.join(Protocol)}")]) from None


def _plain(ip: str) -> str:
    """An address in its usual form; what is none is for the rules."""
    try:
        return str(ip_address(ip))
    except ValueError:
        return ip
