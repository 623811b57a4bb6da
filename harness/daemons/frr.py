"""FRR in a node's place: zebra, bgpd and, where a neighbour has BFD, bfdd; configured and asked over their vty sockets.

FRR insists on a group ``frrvty`` with its user in it and on folders of its own (``/etc/frr``, ``/var/tmp/frr``). The agent gives it both
in a mount namespace of its own, so that nothing of the machine's is read or written and an ordinary user may run it.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from harness.bgp.config import Neighbor, SpeakerConfig
from harness.control import named
from harness.daemons import frr_config
from harness.daemons.driver import ESTABLISHED, Driver, Row, in_order, path_row
from harness.daemons.vty import Vty
from harness.net.namespace import unshare
from harness.net.supervisor import CLONE_NEWNS, MS_BIND, MS_NODEV, MS_NOSUID, mount

_READY_WITHIN = 15.0
_GROUP = "root:x:0:\nfrr:x:92:\nfrrvty:x:0:root\n"

_MOVED = re.compile(r"(?P<address>[0-9a-fA-F.:]+)(?:\(\S*\))? went from (?P<old>\w+) to (?P<new>\w+)")
_NOTIFICATION = re.compile(
    r"%NOTIFICATION: (?P<way>sent to|received from) neighbor (?P<address>[0-9a-fA-F.:]+)(?:\(\S*\))? "
    r"(?P<code>\d+)/(?P<subcode>\d+) \([^)]*\)(?: \"(?P<text>.*)\")?"
)
_BFD = re.compile(
    r"(?P<what>state-change|session-delete): \[?mhop:\w+ peer:(?P<address>[0-9a-fA-F.:]+) .*?(?:\] [\w-]+ -> (?P<new>[\w-]+).*)?$"
)
_BFD_STATES = {"up": "Up", "init": "Init", "adm-down": "AdminDown"}


class Frr(Driver):
    """zebra and bgpd."""

    title = "FRR"

    async def start(self) -> None:
        self._furnish()
        zebra, bgpd, _ = (str(path) for path in self.kind.paths)
        await self._daemon("zebra", zebra)
        self._bgpd = await self._daemon("bgpd", bgpd)
        if any(neighbor.bfd is not None for neighbor in self.config.neighbors):
            await self._begin_bfd()
        await self._bgpd.configure(["debug bgp neighbor-events", *frr_config.whole(self.config)])

    async def _begin_bfd(self) -> None:
        """bfdd tells of its sessions' states only while it is debugged."""
        vty = await self._daemon("bfdd", str(self.kind.paths[2]), "--bfdctl", str(self.folder / "bfdd.ctl"))
        await vty.configure(["debug bfd peer"])

    def _furnish(self) -> None:
        """What FRR expects of a machine, for this process and its children alone."""
        unshare(CLONE_NEWNS)
        group = self.folder / "group"
        group.write_text(_GROUP)
        mount(str(group), "/etc/group", None, MS_BIND)
        for folder in ("/etc/frr", "/var/tmp"):
            if Path(folder).is_dir():
                mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV)

    async def _daemon(self, name: str, path: str, *more: str) -> Vty:
        """Starts one of FRR's daemons; returns when it serves its vty."""
        empty = self.folder / f"{name}.conf"
        empty.touch()
        program = self.program(name, self._heard)
        await program.start(
            [
                path,
                *("-u", "root", "-g", "root", "-f", str(empty), "-A", "127.0.0.1", "-P", "0", "--log", "stdout"),
                *("-i", str(self.folder / f"{name}.pid"), "-z", str(self.folder / "zserv.api")),
                *("--vty_socket", str(self.folder), *more),
            ],
        )
        socket = self.folder / f"{name}.vty"
        await program.until(asyncio.create_task(named(socket)), _READY_WITHIN)
        return await Vty.open(socket)

    async def reload(self, new: SpeakerConfig) -> None:
        if any(n.bfd is not None for n in new.neighbors) and all(p.name != "bfdd" for p in self.programs):
            await self._begin_bfd()
        await self._bgpd.configure(frr_config.changes(self.config, new))

    async def version(self) -> str:
        return (await self._bgpd.ask("show version")).splitlines()[0]

    async def ask(self, question: str) -> str:
        return await self._bgpd.ask(question)

    def _heard(self, line: str) -> None:
        words = line.rpartition("] ")[2]
        if (moved := _MOVED.search(line)) and (neighbor := self.at(moved["address"])):
            self._state(neighbor.name, moved["old"], moved["new"], words)
        elif (said := _NOTIFICATION.search(line)) and (neighbor := self.at(said["address"])):
            direction = "sent" if said["way"].startswith("sent") else "received"
            self.notified(neighbor.name, direction, int(said["code"]), int(said["subcode"]), words, said["text"])
        elif (seen := _BFD.search(line)) and (neighbor := self.at(seen["address"])):
            self.path_is(neighbor.name, _BFD_STATES.get(seen["new"] or "", "Down"), words)

    def _state(self, peer: str, old: str, new: str, words: str) -> None:
        """FRR has a peer object for each connection of a collision and logs both alike; a deleted one had lost."""
        of_another = self.states.get(peer) == ESTABLISHED != old
        if new != "Deleted" and not of_another:
            self.moved(peer, "Idle" if new == "Clearing" else new, words)

    async def routes(self, table: str, peer: Neighbor | None) -> list[Row]:
        found: dict[str, list[Row]] = {}
        for family in ("ipv4", "ipv6"):
            if table == "loc":
                answer = json.loads(await self._bgpd.ask(f"show bgp {family} unicast json detail"))
                for prefix, (_head, *paths) in answer["routes"].items():
                    found[prefix] = [self._path(path) for path in paths]
                continue
            for neighbor in self.config.neighbors if peer is None else (peer,):
                if family in neighbor.address_families:
                    word, key = _TABLES[table]
                    question = f"show bgp {family} unicast neighbors {neighbor.address} {word} json"
                    answer = json.loads(await self._bgpd.ask(question) or "{}")
                    for prefix, path in answer.get(key, {}).items():
                        found.setdefault(prefix, []).append(_short_path(neighbor.name, path))
        return in_order(found)

    def _path(self, path: Row) -> Row:
        """A path of ``json detail``."""
        neighbor = self.at(path["peer"]["peerId"])
        hop = next((hop["ip"] for hop in path["nexthops"] if hop.get("used")), None)
        aggregator = f"{path['aggregatorAs']} {path['aggregatorId']}" if "aggregatorAs" in path else None
        best = path.get("bestpath", {})
        return path_row(
            neighbor.name if neighbor else "local",
            hop if neighbor else None,
            "" if path["aspath"]["string"] == "Local" else path["aspath"]["string"],
            path_id=path.get("addpathRxId"),
            origin=path["origin"].lower(),
            med=path.get("metric"),
            local_pref=path.get("locPrf"),
            communities=_words(path, "community"),
            large_communities=_words(path, "largeCommunity"),
            extended_communities=_words(path, "extendedCommunity"),
            aggregator=aggregator,
            atomic_aggregate=True if path.get("atomicAggregate") else None,
            originator_id=path.get("originatorId"),
            best=bool(best.get("overall")),
            multipath=bool(path.get("multipath")) and not best.get("overall"),
            usable=bool(path.get("valid")),
        )

    async def session(self, neighbor: Neighbor) -> Row:
        answer = json.loads(await self._bgpd.ask(f"show bgp neighbors {neighbor.address} json"))
        row = answer.get(neighbor.address, {})
        offered = {
            name: words if isinstance(words, str) else " ".join(str(word) for word in _leaves(words))
            for name, words in row.get("neighborCapabilities", {}).items()
        }
        return {
            "capabilities": [name for name, words in offered.items() if "eceived" in words],
            "session": {"hold_time": row.get("bgpTimerHoldTimeMsecs", 0) // 1000},
            "text": row.get("lastShutdownDescription"),
            "last_down": row.get("lastResetDueTo"),
            "graceful_restart": row.get("gracefulRestartInfo"),
            "bfd": row.get("peerBfdInfo"),
        }

    async def shutdown(self, neighbor: Neighbor, text: str) -> None:
        await self._of(neighbor, f"shutdown message {text}" if text else "shutdown")

    async def begin(self, neighbor: Neighbor) -> None:
        await self._of(neighbor, "shutdown", no="no ")

    async def _of(self, neighbor: Neighbor, words: str, no: str = "") -> None:
        await self._bgpd.configure([f"router bgp {self.config.asn}", f"{no}neighbor {neighbor.address} {words}"])

    async def reset(self, neighbor: Neighbor) -> None:
        await self._bgpd.ask(f"clear bgp {neighbor.address}")

    async def refresh(self, neighbor: Neighbor, direction: str) -> None:
        for family in neighbor.address_families:
            # With the routes kept as they came (soft-reconfiguration inbound) bgpd would not ask the neighbour again.
            kept = f"neighbor {neighbor.address} soft-reconfiguration inbound"
            there = [f"router bgp {self.config.asn}", f"address-family {family} unicast"]
            if direction == "in":
                await self._bgpd.configure([*there, f"no {kept}"])
            await self._bgpd.ask(f"clear bgp {family} unicast {neighbor.address} soft {direction}")
            if direction == "in":
                await self._bgpd.configure([*there, kept])


_TABLES = {"in": ("received-routes", "receivedRoutes"), "out": ("advertised-routes", "advertisedRoutes")}
_ORIGINS = {"i": "igp", "e": "egp", "?": "incomplete"}


def _short_path(peer: str, path: Row) -> Row:
    """A path of ``received-routes`` and ``advertised-routes``: they show no communities."""
    return path_row(
        peer,
        path.get("nextHop") or path.get("nextHopGlobal"),
        path.get("path", ""),
        origin=_ORIGINS.get(path.get("bgpOriginCode", ""), "igp"),
        med=path.get("metric"),
        local_pref=path.get("locPrf"),
    )


def _words(path: Row, name: str) -> list[str]:
    return str(path.get(name, {}).get("string", "")).split()


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [f"{key}" for key, item in value.items() if item is True] + [
            leaf for item in value.values() for leaf in _leaves(item)
        ]
    return []
