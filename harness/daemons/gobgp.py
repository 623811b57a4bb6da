"""GoBGP in a node's place: gobgpd with one file of JSON, asked and changed by its own command ``gobgp`` (gRPC on the node's loopback).

It writes no kernel route by itself. The file may hold keys, so it is there only while gobgpd reads it, mode 0600.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

from harness.bgp.config import Neighbor, SpeakerConfig
from harness.daemons.driver import ESTABLISHED, Driver, Row, hold_time, in_order, local_asn, path_row
from harness.daemons.program import ProgramError, answer_of

_READY_WITHIN = 15.0
_FAMILIES = {"ipv4": "ipv4-unicast", "ipv6": "ipv6-unicast"}
_STATES = {
    "IDLE": "Idle",
    "CONNECT": "Connect",
    "ACTIVE": "Active",
    "OPENSENT": "OpenSent",
    "OPENCONFIRM": "OpenConfirm",
    "ESTABLISHED": ESTABLISHED,
}
_ORIGINS = ("igp", "egp", "incomplete")


class GoBgp(Driver):
    """One gobgpd."""

    title = "GoBGP"

    async def start(self) -> None:
        self._file = self.folder / "gobgpd.json"
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loaded = asyncio.Event()
        path, self._command = (str(path) for path in self.kind.paths)
        program = self._program = self.program("gobgpd", self._heard)
        self._write(self.config)
        await program.start(
            [path, "-f", str(self._file), "-t", "json", "-l", "debug", "--api-hosts", "127.0.0.1:50051"]
        )
        try:
            await program.until(self._ready, _READY_WITHIN)
        finally:
            self._file.unlink(missing_ok=True)
        for network in self.config.networks:
            await self._network("add", network.prefix)

    def _write(self, config: SpeakerConfig) -> None:
        fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(whole(config), file)

    async def _gobgp(self, *words: str) -> str:
        return await answer_of(self._command, *words)

    async def _network(self, action: str, prefix: str) -> None:
        await self._gobgp("global", "rib", action, prefix, "-a", "ipv6" if ":" in prefix else "ipv4")

    async def reload(self, new: SpeakerConfig) -> None:
        old = self.config
        before, after = {n.name: n for n in old.neighbors}, {n.name: n for n in new.neighbors}
        if before != after:
            self._write(new)
            self._loaded.clear()
            self._program.signal(signal.SIGHUP)
            try:
                async with asyncio.timeout(_READY_WITHIN):
                    await self._loaded.wait()
                # The file is read; the changes are made one after the other, and the command waits its turn behind them.
                await self._gobgp("neighbor")
            except TimeoutError:
                raise ProgramError("gobgpd did not read its configuration again") from None
            finally:
                self._file.unlink(missing_ok=True)
        gone = {n.prefix for n in old.networks} - {n.prefix for n in new.networks}
        fresh = {n.prefix for n in new.networks} - {n.prefix for n in old.networks}
        for prefix in sorted(gone):
            await self._network("del", prefix)
        for prefix in sorted(fresh):
            await self._network("add", prefix)

    async def version(self) -> str:
        return (await self._gobgp("--version")).strip()

    async def ask(self, question: str) -> str:
        return await self._gobgp(*question.split())

    def _heard(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        message = said.get("msg", "")
        if message in ("Finished reading the config file", "Configuration reloaded", "Reload the config file"):
            self._loaded.set()
            if not self._ready.done():
                self._ready.set_result(None)
        neighbor = self.at(str(said.get("Key", "")))
        if neighbor is None:
            return
        if message == "state changed":
            words = said.get("reason")
            self.moved(neighbor.name, _STATES[said["new"].removeprefix("BGP_FSM_")], _reason(words))
        elif "notification" in message and "Code" in said:
            direction = "sent" if "sent" in message else "received"
            text = said.get("Communicated-Reason")
            self.notified(neighbor.name, direction, int(said["Code"]), int(said["Subcode"]), message, text)

    async def routes(self, table: str, peer: Neighbor | None) -> list[Row]:
        found: dict[str, list[Row]] = {}
        for family in _FAMILIES:
            if table == "loc":
                questions: list[tuple[Neighbor | None, list[str]]] = [(None, ["global", "rib"])]
            else:
                chosen = self.config.neighbors if peer is None else (peer,)
                questions = [
                    (n, ["neighbor", n.address, f"adj-{table}"]) for n in chosen if family in n.address_families
                ]
            for neighbor, words in questions:
                try:
                    answer = json.loads(await self._gobgp("-j", *words, "-a", family))
                except (ProgramError, ValueError):
                    continue  # "not in table": an empty table has no JSON
                for prefix, paths in (answer or {}).items():
                    found.setdefault(prefix, []).extend(self._path(path, neighbor) for path in paths)
        return in_order(found)

    def _path(self, path: Row, neighbor: Neighbor | None) -> Row:
        attributes = {attribute["type"]: attribute for attribute in path.get("attrs", [])}
        learned = neighbor or self.at(str(path.get("neighbor-ip", "")))
        reach = attributes.get(14, {})
        aggregator = attributes.get(7)
        return path_row(
            learned.name if learned else "local",
            (attributes.get(3, {}).get("nexthop") or reach.get("nexthop")) if learned else None,
            as_path(attributes.get(2, {}).get("as_paths") or []),
            path_id=path.get("path-id") or path.get("id"),
            origin=_ORIGINS[attributes.get(1, {}).get("value", 0)],
            med=attributes.get(4, {}).get("metric"),
            local_pref=attributes.get(5, {}).get("value"),
            communities=[f"{c >> 16}:{c & 0xFFFF}" for c in attributes.get(8, {}).get("communities", [])],
            large_communities=[
                f"{c['ASN']}:{c['LocalData1']}:{c['LocalData2']}" for c in attributes.get(32, {}).get("value", [])
            ],
            extended_communities=[str(c.get("value", c)) for c in attributes.get(16, {}).get("value", [])],
            aggregator=f"{aggregator['as']} {aggregator['address']}" if aggregator else None,
            atomic_aggregate=True if 6 in attributes else None,
            best=bool(path.get("best")),
        )

    async def session(self, neighbor: Neighbor) -> Row:
        row = json.loads(await self._gobgp("-j", "neighbor", neighbor.address))
        state = row.get("state", {})
        return {
            "capabilities": [str(c["type_url"]).rpartition(".")[2] for c in state.get("remote_cap", [])],
            "session": {"hold_time": row.get("timers", {}).get("state", {}).get("negotiated_hold_time", 0)},
        }

    async def shutdown(self, neighbor: Neighbor, text: str) -> None:
        await self._gobgp("neighbor", neighbor.address, "disable", *(["--reason", text] if text else []))

    async def begin(self, neighbor: Neighbor) -> None:
        await self._gobgp("neighbor", neighbor.address, "enable")

    async def reset(self, neighbor: Neighbor) -> None:
        await self._gobgp("neighbor", neighbor.address, "reset")

    async def refresh(self, neighbor: Neighbor, direction: str) -> None:
        await self._gobgp("neighbor", neighbor.address, f"softreset{direction}")


def _reason(value: Any) -> str:
    """gobgpd gives a number and, where one went either way, the NOTIFICATION's data."""
    return f"reason {value.get('Type')} of gobgpd's" if isinstance(value, dict) else str(value or "")


def as_path(segments: list[Row]) -> str:
    """An AS path as text; sets stand in braces (RFC 4271 4.3)."""
    found = []
    for segment in segments:
        numbers = [str(asn) for asn in segment.get("asns", [])]
        found.append("{" + ",".join(numbers) + "}" if segment.get("segment_type") == 1 else " ".join(numbers))
    return " ".join(found)


def whole(config: SpeakerConfig) -> Row:
    """gobgpd's configuration file as values."""
    return {
        "global": {"config": {"as": config.asn, "router-id": config.router_id, "port": config.port}},
        "neighbors": [neighbor_values(config, neighbor) for neighbor in config.neighbors],
    }


def neighbor_values(config: SpeakerConfig, neighbor: Neighbor) -> Row:
    """One entry of ``neighbors``."""
    seconds = hold_time(config, neighbor)
    identity: Row = {"neighbor-address": neighbor.address, "peer-as": neighbor.remote_asn}
    if local_asn(config, neighbor) != config.asn:
        identity["local-as"] = neighbor.local_asn
    if neighbor.shutdown:
        identity["admin-down"] = True
    if (secret := neighbor.secret()) is not None:
        identity["auth-password"] = secret.decode()
    transport: Row = {"passive-mode": neighbor.passive, "remote-port": neighbor.port}
    if neighbor.local_address:
        transport["local-address"] = neighbor.local_address
    families = []
    for family in neighbor.address_families:
        values: Row = {"config": {"afi-safi-name": _FAMILIES[family]}}
        if neighbor.add_path != "none":
            values["add-paths"] = {
                "config": {
                    "receive": neighbor.add_path in ("receive", "both"),
                    "send-max": 8 if neighbor.add_path in ("send", "both") else 0,
                }
            }
        if (most := neighbor.maximum_prefixes) is not None:
            values["prefix-limit"] = {"config": {"max-prefixes": most.limit}}
        families.append(values)
    found: Row = {
        "config": identity,
        "transport": {"config": transport},
        "timers": {
            "config": {
                "hold-time": seconds,
                "keepalive-interval": max(1, seconds // 3),
                "connect-retry": config.connect_retry_time,
            }
        },
        "afi-safis": families,
    }
    if (restart := neighbor.graceful_restart) is not None:
        found["graceful-restart"] = {
            "config": {
                "enabled": True,
                "restart-time": restart.restart_time,
                "helper-only": restart.mode == "helper",
                "notification-enabled": restart.notification,
            }
        }
        for values in families:
            values["mp-graceful-restart"] = {"config": {"enabled": True}}
    if neighbor.ebgp_multihop:
        found["ebgp-multihop"] = {"config": {"enabled": True, "multihop-ttl": neighbor.ebgp_multihop}}
    if neighbor.allow_as_in:
        found["as-path-options"] = {"config": {"allow-own-as": neighbor.allow_as_in}}
    return found
