"""The process that stands in for a speaker: it runs a foreign daemon in its node and serves our speaker's control socket for it.

It lives in its node's network namespace (whoever starts it has put it there). Every change of neighbours, networks and policies is a
change of the configuration model, which the driver renders and loads again; sessions that are as before stay up. ``ask`` hands a
question to the daemon's own command line, ``log`` gives its last lines: both for reports that quote it.

Entry: :func:`main` with ``--kind NAME --config FILE --control SOCKET [--consume]``.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import ipaddress
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.bgp.config import (
    ConfigError,
    Neighbor,
    SpeakerConfig,
    load_config,
    masked,
    parse_config,
    parse_neighbor,
    parse_network,
    parse_rules,
)
from harness.bgp.nexthop import Resolver
from harness.control import ControlError, ControlServer, EventLog
from harness.daemons.driver import ESTABLISHED, Driver, Row, is_internal, local_asn
from harness.daemons.features import asked_for
from harness.daemons.kinds import KINDS, Kind
from harness.daemons.program import ProgramError
from harness.net.rtnl import Rtnl

TABLES = ("loc", "in", "out")


class Agent:
    """One stand-in. :meth:`run` is its life."""

    def __init__(self, kind: Kind, config: SpeakerConfig, folder: Path, control: Path) -> None:
        self.kind = kind
        self.events = EventLog()
        module, _, name = kind.driver.partition(":")
        self.driver: Driver = getattr(importlib.import_module(module), name)(kind, config, folder, self.events)
        self._control = control
        self._finished = asyncio.Event()
        self._turn = asyncio.Lock()  # one change of the daemon at a time

    @property
    def config(self) -> SpeakerConfig:
        return self.driver.config

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises ProgramError when the daemon does not start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._finished.set)
        server = ControlServer(self._control, self._methods(), self.events)
        ends: set[asyncio.Task[Any]] = set()
        try:
            await self.driver.start()
            self.events.emit("start", asn=self.config.asn, router_id=self.config.router_id, daemon=self.kind.title)
            await server.start()
            ends = {asyncio.create_task(program.ended(), name=program.name) for program in self.driver.programs}
            ends.add(asyncio.create_task(self._finished.wait(), name="stop"))
            (first, *_), _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not self._finished.is_set():
                raise ProgramError(f"{first.get_name()} ended with {first.result()}")
            self.events.emit("stop", reason="signal")
        finally:
            for end in ends:
                end.cancel()
            await self.driver.stop()
            await server.close()

    def _methods(self) -> dict[str, Callable[..., Any]]:
        found: dict[str, Callable[..., Any]] = {
            "events.last": self._last_event,
            "show.summary": self._summary,
            "show.neighbors": self._neighbors,
            "show.routes": self._routes,
            "show.nexthops": self._next_hops,
            "show.config": lambda: masked(self.config),
            "network.add": self._network_add,
            "network.delete": self._network_delete,
            "neighbor.add": self._neighbor_add,
            "neighbor.change": self._neighbor_change,
            "neighbor.delete": self._neighbor_delete,
            "neighbor.shutdown": self._neighbor_shutdown,
            "neighbor.start": self._neighbor_start,
            "neighbor.reset": self._neighbor_reset,
            "policy.set": self._policy_set,
            "clear.soft": self._clear_soft,
            "version": self.driver.version,
            "ask": self._ask,
            "log": self._log,
        }
        return found

    # ---------------------------------------------------------------------------------------------------------------- reading

    def _last_event(self) -> int:
        kept = self.events.since()
        return int(kept[-1]["seq"]) if kept else 0

    def _log(self, count: int = 50) -> list[str]:
        return [line for program in self.driver.programs for line in list(program.lines)[-count:]]

    async def _ask(self, question: str) -> str:
        return self.driver.masked(await self.driver.ask(question))

    def _row(self, neighbor: Neighbor) -> Row:
        return {
            "name": neighbor.name,
            "address": neighbor.address,
            "asn": neighbor.remote_asn,
            "state": self.driver.states.get(neighbor.name, "Idle"),
            "shutdown": neighbor.shutdown,
        }

    def _summary(self) -> Row:
        return {
            "daemon": self.kind.title,
            "asn": self.config.asn,
            "router_id": self.config.router_id,
            "networks": [network.prefix for network in self.config.networks],
            "neighbors": [self._row(neighbor) for neighbor in self.config.neighbors],
        }

    async def _neighbors(self, name: str | None = None) -> list[Row]:
        chosen = self.config.neighbors if name is None else (self.driver.named(name),)
        return [
            self._row(neighbor)
            | {
                "local_asn": local_asn(self.config, neighbor),
                "type": "iBGP" if is_internal(self.config, neighbor) else "eBGP",
                "local_address": neighbor.local_address,
                "passive": neighbor.passive,
                "key": neighbor.key is not None or neighbor.key_file is not None,
            }
            | await self.driver.session(neighbor)
            for neighbor in chosen
        ]

    async def _routes(self, table: str = "loc", peer: str | None = None, prefix: str | None = None) -> list[Row]:
        if table not in TABLES:
            raise ValueError(f"table {table!r}: there are {', '.join(TABLES)}")
        if table == "out" and peer is None:
            raise ValueError("table out is kept for each neighbour: name the peer")
        wanted = None if prefix is None else str(parse_network(prefix))
        neighbor = None if peer is None else self.driver.named(peer)
        rows = await self.driver.routes(table, neighbor)
        if table == "loc" and neighbor is not None:
            rows = [
                row | {"paths": paths}
                for row in rows
                if (paths := [path for path in row["paths"] if path["peer"] == neighbor.name])
            ]
        return [row for row in rows if wanted is None or row["prefix"] == wanted]

    async def _next_hops(self) -> list[Row]:
        """What the kernel's other routes say of each next hop: the daemons resolve by the same."""
        resolver = Resolver(protocol=self.kind.protocol)
        with Rtnl() as kernel:
            links = {link.ifindex: link.name for link in kernel.links()}
            resolver.load(kernel.links(), kernel.addresses(), kernel.routes())
        hops = {path["next_hop"] for row in await self._routes() for path in row["paths"] if path["next_hop"]}
        found = []
        for hop in sorted(hops):
            answer = resolver.resolve(ipaddress.ip_address(hop).packed)
            resolved = answer and {
                "via": answer.via,
                "cost": answer.cost,
                "ways": [
                    {
                        "gateway": str(ipaddress.ip_address(way.gateway)) if way.gateway else None,
                        "interface": links.get(way.ifindex, f"if{way.ifindex}"),
                    }
                    for way in answer.ways
                ],
            }
            found.append({"next_hop": hop, "resolved": resolved})
        return found

    # --------------------------------------------------------------------------------------------------------------- changing

    async def _become(self, **changes: Any) -> None:
        """The daemon runs the present configuration with these fields changed. Raises ValueError when it cannot."""
        values = self.config.model_dump(mode="python", by_alias=True) | changes
        new = parse_config(_revealed(values))
        refused = self.kind.refuses(asked_for(new))
        if refused is not None:
            raise ValueError(refused)
        await self.driver.reload(new)
        self.driver.config = new
        names = {neighbor.name for neighbor in new.neighbors}
        for name in names - self.driver.states.keys():
            self.driver.states[name] = "Idle"
        for name in self.driver.states.keys() - names:
            self.driver.moved(name, "Idle", "the neighbour is deleted")
            del self.driver.states[name]

    async def _network_add(self, prefix: str, require_route: bool = False) -> str:
        async with self._turn:
            network = {"prefix": str(parse_network(prefix)), "require_route": require_route}
            kept = [n.model_dump() for n in self.config.networks if n.prefix != network["prefix"]]
            await self._become(networks=[*kept, network])
        self.events.emit("network", action="add", prefix=prefix)
        return f"network {prefix} is announced"

    async def _network_delete(self, prefix: str) -> str:
        async with self._turn:
            kept = [n.model_dump() for n in self.config.networks if n.prefix != str(parse_network(prefix))]
            if len(kept) == len(self.config.networks):
                raise ValueError(f"{prefix} is no network of this speaker")
            await self._become(networks=kept)
        self.events.emit("network", action="delete", prefix=prefix)
        return f"network {prefix} is withdrawn"

    async def _put(self, neighbor: Neighbor, *, new: bool) -> None:
        others = [n for n in self.config.neighbors if n.name != neighbor.name]
        if new and len(others) != len(self.config.neighbors):
            raise ValueError(f"there is a neighbour {neighbor.name} already")
        # In its own place, so that a daemon whose configuration has an order sees one change.
        listed = [neighbor if n.name == neighbor.name else n for n in self.config.neighbors]
        await self._become(
            neighbors=[n.model_dump(by_alias=True) for n in (listed if not new else [*others, neighbor])]
        )

    async def _neighbor_add(self, **fields: Any) -> str:
        neighbor = parse_neighbor(fields)
        async with self._turn:
            await self._put(neighbor, new=True)
        self.events.emit("neighbor", action="add", peer=neighbor.name)
        return f"neighbour {neighbor.name} is added"

    async def _neighbor_change(self, **fields: Any) -> Row:
        neighbor = parse_neighbor(fields)
        async with self._turn:
            old = self.driver.named(neighbor.name)
            changed = [name for name in type(old).model_fields if getattr(old, name) != getattr(neighbor, name)]
            if changed:
                await self._put(neighbor, new=False)
        self.events.emit("neighbor", action="change", peer=neighbor.name)
        return {"neighbor": neighbor.name, "changed": {name.rstrip("_"): "configured" for name in changed}}

    async def _neighbor_delete(self, name: str) -> str:
        async with self._turn:
            gone = self.driver.named(name)
            await self._become(
                neighbors=[n.model_dump(by_alias=True) for n in self.config.neighbors if n.name != gone.name]
            )
        self.events.emit("neighbor", action="delete", peer=gone.name)
        return f"neighbour {gone.name} is deleted"

    async def _neighbor_shutdown(self, name: str, text: str = "") -> str:
        async with self._turn:
            await self.driver.shutdown(self.driver.named(name), text)
            self._mark(name, down=True)
        return f"neighbour {name} is shut down"

    async def _neighbor_start(self, name: str) -> str:
        async with self._turn:
            await self.driver.begin(self.driver.named(name))
            self._mark(name, down=False)
        return f"neighbour {name} is started"

    def _mark(self, name: str, *, down: bool) -> None:
        """The configuration follows what was done by a command."""
        at = self.driver.named(name)
        listed = [n.model_copy(update={"shutdown": down}) if n is at else n for n in self.config.neighbors]
        self.driver.config = self.config.model_copy(update={"neighbors": tuple(listed)})

    async def _neighbor_reset(self, name: str, text: str = "") -> str:
        if text:
            raise ValueError(f"{self.kind.title}: a reset carries no text; neighbor.shutdown does")
        async with self._turn:
            await self.driver.reset(self.driver.named(name))
        return f"neighbour {name} is reset"

    async def _policy_set(self, name: str, direction: str, rules: list[object]) -> str:
        if direction not in ("import", "export"):
            raise ValueError(f"direction {direction!r}: there are import and export")
        field = "import_" if direction == "import" else "export"
        async with self._turn:
            changed = self.driver.named(name).model_copy(update={field: tuple(parse_rules(rules))})
            await self._put(changed, new=False)
        self.events.emit("policy", peer=changed.name, direction=direction, terms=len(rules))
        return f"neighbour {name}: {direction} policy of {len(rules)} terms"

    async def _clear_soft(self, name: str, direction: str = "both", stored: bool = False) -> str:
        neighbor = self.driver.named(name)
        if self.driver.states.get(neighbor.name) != ESTABLISHED:
            raise ValueError(f"neighbour {name} is not Established: there is nothing to clear")
        for one in ("in", "out") if direction == "both" else (direction,):
            await self.driver.refresh(neighbor, one)
        self.events.emit("clear", peer=neighbor.name, direction=direction, stored=stored)
        return f"neighbour {name}: soft clear {direction}"


def _revealed(value: Any) -> Any:
    """A model's values with its secrets as text again, as the configuration file has them."""
    if isinstance(value, dict):
        return {key: _revealed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_revealed(item) for item in value]
    reveal = getattr(value, "get_secret_value", None)
    return value if reveal is None else reveal()


def main(argv: Sequence[str] | None = None) -> int:
    """The process. Exit status 1: the daemon is not installed, cannot do what is asked, or did not start; stderr says why."""
    parser = argparse.ArgumentParser(
        prog="vbrlab-standin", description="Runs another BGP daemon in our speaker's place."
    )
    parser.add_argument("--kind", required=True, choices=sorted(KINDS))
    parser.add_argument("--config", type=Path, required=True, help="the speaker's configuration, mode 0600")
    parser.add_argument("--control", type=Path, required=True, help="serve the control socket here")
    parser.add_argument("--consume", action="store_true", help="remove the configuration file once read")
    arguments = parser.parse_args(argv)
    kind = KINDS[arguments.kind]
    try:
        config = load_config(arguments.config)
        if arguments.consume:
            arguments.config.unlink()
        if (why := kind.absent() or kind.refuses(asked_for(config))) is not None:
            raise ProgramError(why)
        folder = arguments.control.parent / kind.name
        folder.mkdir(mode=0o755, exist_ok=True)
        asyncio.run(Agent(kind, config, folder, arguments.control).run())
    except (ConfigError, ControlError, ProgramError, OSError) as error:
        sys.stderr.write(f"{kind.title}: {error}\n")
        return 1
    return 0
