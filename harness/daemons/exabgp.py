"""ExaBGP in a node's place: it announces what it is told and hands on what it hears; it has no table of best routes and no kernel's.

Its API speaks with a child of its own over pipes: JSON events one way, commands the other. Here that child is two ``cat`` that join
the pipes to two FIFOs of the agent's. The agent keeps what each neighbour announced, which is what ExaBGP's own users do.
The configuration may hold keys, so its file is there only while ExaBGP reads it, mode 0600.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal

from harness.bgp.config import Neighbor, SpeakerConfig
from harness.daemons.driver import (
    ESTABLISHED,
    Driver,
    NotOffered,
    Row,
    hold_time,
    in_order,
    local_asn,
    path_row,
    source_for,
)
from harness.daemons.features import Feature
from harness.daemons.program import ProgramError, answer_of

_READY_WITHIN, _TRIES = 20.0, 10
_STATES = {
    "IDLE": "Idle",
    "CONNECT": "Connect",
    "ACTIVE": "Active",
    "OPENSENT": "OpenSent",
    "OPENCONFIRM": "OpenConfirm",
    "ESTABLISHED": ESTABLISHED,
}
_OPEN = re.compile(
    r"<< OPEN version=4 asn=(?P<asn>\d+) hold_time=(?P<hold>\d+) \S+ capabilities=\[(?P<capabilities>.*)\]"
)
_LONGEST = 4 * 1024 * 1024
#: ExaBGP as a child of an agent: no daemon of its own, no other user, no pipes of its command line's, events as they come.
_ENVIRONMENT = {
    "exabgp.daemon.daemonize": "false",
    "exabgp.daemon.drop": "false",
    "exabgp.daemon.user": "root",
    "exabgp.api.cli": "false",
    "exabgp.api.ack": "false",
    "exabgp.log.destination": "stdout",
    "exabgp.log.short": "true",
    "exabgp.log.level": "DEBUG",
    "exabgp.log.all": "true",
    "exabgp.tcp.delay": "0",
}


class ExaBgp(Driver):
    """One ExaBGP."""

    title = "ExaBGP"

    async def start(self) -> None:
        self._file = self.folder / "exabgp.conf"
        self._events, self._commands = self.folder / "events", self.folder / "commands"
        self._heard_routes: dict[str, dict[tuple[str, int], Row]] = {}
        self._told: dict[str, str] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loaded = asyncio.Event()
        for fifo in (self._events, self._commands):
            fifo.unlink(missing_ok=True)  # of one that was killed
            os.mkfifo(fifo, 0o600)
        reading = os.open(self._events, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._orders = os.open(self._commands, os.O_RDWR | os.O_CLOEXEC)
        reader = asyncio.StreamReader(limit=_LONGEST)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
        )
        self._reading = asyncio.create_task(self._read(reader))
        (path,) = self.kind.paths
        program = self._program = self.program("exabgp", self._said)
        self._write(self.config)
        listen = " ".join(sorted({n.local_address for n in self.config.neighbors if n.local_address})) or "0.0.0.0 ::"
        await program.start([str(path), str(self._file)], {**_ENVIRONMENT, "exabgp.tcp.bind": listen})
        try:
            await program.until(self._ready, _READY_WITHIN)
        finally:
            self._file.unlink(missing_ok=True)

    def _write(self, config: SpeakerConfig) -> None:
        fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(whole(config, str(self._events), str(self._commands)))

    def _order(self, command: str) -> None:
        os.write(self._orders, command.encode() + b"\n")

    async def reload(self, new: SpeakerConfig) -> None:
        self._write(new)
        self._loaded.clear()
        try:
            # ExaBGP drops a signal that comes while it handles another, and says nothing.
            for _ in range(_TRIES):
                self._program.signal(signal.SIGUSR1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_READY_WITHIN / _TRIES):
                        await self._loaded.wait()
                        return
            raise ProgramError("exabgp did not read its configuration again")
        finally:
            self._file.unlink(missing_ok=True)

    async def version(self) -> str:
        return "ExaBGP " + next((line for line in self._program.lines if re.fullmatch(r"\d+\.\d+\.\d+", line)), "?")

    async def ask(self, question: str) -> str:
        """What ExaBGP says of a line in a neighbour's part of its configuration: it has no other command line to ask."""
        lines = [
            *("neighbor 192.0.2.1 {", "router-id 192.0.2.2; local-address 192.0.2.2; local-as 1; peer-as 2;"),
            *(question, "}"),
        ]
        tried = self.folder / "tried.conf"
        tried.write_text("\n".join(lines) + "\n")
        try:
            return await answer_of(str(self.kind.paths[0]), "--test", str(tried))
        except ProgramError as refusal:
            return str(refusal)
        finally:
            tried.unlink()

    def _said(self, line: str) -> None:
        if "loaded new configuration successfully" in line:
            self._loaded.set()
            if not self._ready.done():
                self._ready.set_result(None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while raw := await reader.readline():
            try:
                self._heard(json.loads(raw))
            except (ValueError, KeyError):
                continue  # no event: what a command of the API answers

    def _heard(self, event: Row) -> None:
        about = event["neighbor"]
        neighbor = self.at(about["address"]["peer"])
        if neighbor is None:
            return
        kind = event["type"]
        if kind == "fsm":
            if about["state"] != "ESTABLISHED":
                self._heard_routes.pop(neighbor.name, None)
            self.moved(neighbor.name, _STATES.get(about["state"], "Idle"), self._told.pop(neighbor.name, ""))
        elif kind == "state" and about["state"] == "down":
            self._heard_routes.pop(neighbor.name, None)
            self._told[neighbor.name] = str(about.get("reason", ""))
            self.moved(neighbor.name, "Idle", str(about.get("reason", "")))
        elif kind == "notification":
            said = about["notification"] if "notification" in about else about["message"]["notification"]
            text = bytes.fromhex(str(said.get("data", "")).removeprefix("0x")).decode(errors="replace")
            direction = "received" if about.get("direction") == "receive" else "sent"
            self.notified(neighbor.name, direction, int(said["code"]), int(said["subcode"]), kind, text or None)
        elif kind == "update" and about.get("direction") == "receive":
            self._learn(neighbor, about["message"].get("update", {}))

    def _learn(self, neighbor: Neighbor, update: Row) -> None:
        table = self._heard_routes.setdefault(neighbor.name, {})
        for entries in update.get("withdraw", {}).values():
            for entry in entries:
                table.pop((entry["nlri"], path_id_of(entry)), None)
        attributes = update.get("attribute", {})
        for hops in update.get("announce", {}).values():
            for hop, entries in hops.items():
                for entry in entries:
                    table[entry["nlri"], path_id_of(entry)] = _path(neighbor, hop, entry, attributes)

    async def routes(self, table: str, peer: Neighbor | None) -> list[Row]:
        if table == "out":
            raise NotOffered("ExaBGP: it does not tell what it has announced")
        found: dict[str, list[Row]] = {}
        for name, rows in self._heard_routes.items():
            for (prefix, _), row in rows.items():
                if peer is None or peer.name == name:
                    found.setdefault(prefix, []).append(row)
        return in_order(found)

    async def session(self, neighbor: Neighbor) -> Row:
        """The neighbour's OPEN as the log has it. The API's own event for it ends a session that has ADD-PATH (4.2.21)."""
        said = [m for line in self._program.lines if (m := _OPEN.match(line)) and int(m["asn"]) == neighbor.remote_asn]
        if not said:
            return {"capabilities": []}
        seconds = min(int(said[-1]["hold"]), hold_time(self.config, neighbor))
        return {"capabilities": re.split(r", (?=[A-Z])", said[-1]["capabilities"]), "session": {"hold_time": seconds}}

    async def shutdown(self, neighbor: Neighbor, text: str) -> None:
        if text:
            raise NotOffered(f"ExaBGP: {self.kind.why_not(Feature.SHUTDOWN_SENT)}; not {text!r} to {neighbor.name}")
        await self._with(neighbor, down=True)

    async def begin(self, neighbor: Neighbor) -> None:
        await self._with(neighbor, down=False)

    async def _with(self, neighbor: Neighbor, *, down: bool) -> None:
        """A neighbour that is down is left out of the file."""
        changed = neighbor.model_copy(update={"shutdown": down})
        listed = tuple(changed if n.name == neighbor.name else n for n in self.config.neighbors)
        await self.reload(self.config.model_copy(update={"neighbors": listed}))

    async def reset(self, neighbor: Neighbor) -> None:
        self._order(f"neighbor {neighbor.address} teardown 4")

    async def refresh(self, neighbor: Neighbor, direction: str) -> None:
        if direction == "out":
            raise NotOffered("ExaBGP: it does not announce again what it has announced")
        for family in neighbor.address_families:
            self._order(f"neighbor {neighbor.address} announce route-refresh {family} unicast")

    async def stop(self) -> None:
        self._reading.cancel()
        await super().stop()


def path_id_of(entry: Row) -> int:
    """ADD-PATH's identifier of an entry, which ExaBGP writes as four octets with dots."""
    octets = str(entry.get("path-information", "0.0.0.0")).split(".")
    return int.from_bytes(bytes(int(octet) for octet in octets), "big") if len(octets) == 4 else 0


def _path(neighbor: Neighbor, hop: str, entry: Row, attributes: Row) -> Row:
    aggregator = str(attributes.get("aggregator", ""))
    asn, _, router = aggregator.partition(":")
    return path_row(
        neighbor.name,
        hop.split(" ")[0],
        as_path(attributes.get("as-path", [])),
        path_id=path_id_of(entry),
        origin=attributes.get("origin", "igp"),
        med=attributes.get("med"),
        local_pref=attributes.get("local-preference"),
        communities=[":".join(str(part) for part in pair) for pair in attributes.get("community", [])],
        large_communities=[":".join(str(part) for part in three) for three in attributes.get("large-community", [])],
        extended_communities=[str(c.get("string", c)) for c in attributes.get("extended-community", [])],
        aggregator=f"{asn} {router}" if aggregator else None,
        atomic_aggregate=True if attributes.get("atomic-aggregate") else None,
        best=False,
    )


def as_path(value: object) -> str:
    """ExaBGP's list of ASNs as text; a set is a list inside it."""
    if not isinstance(value, list):
        return str(value)
    return " ".join("{" + ",".join(map(str, part)) + "}" if isinstance(part, list) else str(part) for part in value)


def whole(config: SpeakerConfig, events: str, commands: str) -> str:
    """ExaBGP's configuration file. Networks stand in each neighbour's part."""
    lines = [
        "process lab {",
        f'  run /bin/sh -c "cat {commands} & exec cat > {events}";',
        "  encoder json;",
        "}",
    ]
    for neighbor in config.neighbors:
        if not neighbor.shutdown:
            lines += neighbor_lines(config, neighbor)
    return "\n".join(lines) + "\n"


def neighbor_lines(config: SpeakerConfig, neighbor: Neighbor) -> list[str]:
    words = {"none": "disable", "send": "send", "receive": "receive", "both": "send/receive"}
    families = neighbor.address_families
    lines = [
        f"neighbor {neighbor.address} {{",
        f"  local-address {neighbor.local_address or source_for(neighbor)};",
        f"  router-id {config.router_id};",
        f"  local-as {local_asn(config, neighbor)};",
        f"  peer-as {neighbor.remote_asn};",
        f"  hold-time {hold_time(config, neighbor)};",
    ]
    if neighbor.passive:
        lines.append("  passive true; listen 179;")
    if neighbor.ebgp_multihop:
        lines.append(f"  outgoing-ttl {neighbor.ebgp_multihop};")
    if (secret := neighbor.secret()) is not None:
        lines.append(f'  md5-password "{secret.decode()}"; md5-base64 false;')
    restart = neighbor.graceful_restart
    wide = "enable" if neighbor.four_octet_asn else "disable"
    lines.append(
        f"  capability {{ asn4 {wide}; route-refresh enable; add-path {words[neighbor.add_path]}; "
        f"graceful-restart {restart.restart_time if restart else 'disable'}; }}"
    )
    lines.append("  family { " + " ".join(f"{family} unicast;" for family in families) + " }")
    routes = []
    for network in config.networks:
        family = "ipv6" if ":" in network.prefix else "ipv4"
        if family in families:
            routes.append(f"route {network.prefix} next-hop self;")
    if routes:
        lines.append("  static { " + " ".join(routes) + " }")
    lines.append(
        "  api { processes [ lab ]; neighbor-changes; fsm; receive { parsed; update; notification; refresh; } "
        "send { parsed; notification; } }"
    )
    return [*lines, "}"]
