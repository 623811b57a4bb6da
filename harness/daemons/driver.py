"""What the agent asks of each foreign daemon, and the events that a driver makes of the daemon's own words.

Rows and events have the shape of our speaker's (``harness.bgp.shows``, ``harness.bgp.adjacency``), so that a lab reads both alike:

``fsm``           peer, old, new, event (empty: daemons do not name it), reason: the daemon's words
``peer.up``       peer
``peer.down``     peer, reason
``notification``  peer, direction, code, subcode, and text where the daemon prints it
``bfd``           peer, old, new, reason, of the daemons that have BFD
"""

from __future__ import annotations

import ipaddress
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from harness.bgp.config import Neighbor, SpeakerConfig
from harness.control import EventLog
from harness.daemons.kinds import Kind
from harness.daemons.program import Program

Row = dict[str, Any]

ESTABLISHED = "Established"


class NotOffered(ValueError):
    """The daemon has no such thing; the text says what and why."""


class Driver(ABC):
    """One daemon in one node. ``config`` is what it runs at present; the agent exchanges it by :meth:`reload`."""

    title: ClassVar[str]

    def __init__(self, kind: Kind, config: SpeakerConfig, folder: Path, events: EventLog) -> None:
        self.kind, self.config, self.folder, self.events = kind, config, folder, events
        self.states: dict[str, str] = {neighbor.name: "Idle" for neighbor in config.neighbors}
        self.watched: dict[str, str] = {}
        self.programs: list[Program] = []

    # What a daemon's driver does

    @abstractmethod
    async def start(self) -> None:
        """Starts it with ``config``; returns when it is ready to speak. Raises ProgramError."""

    @abstractmethod
    async def reload(self, new: SpeakerConfig) -> None:
        """Changes the running daemon to ``new``, whose sessions that are as before stay. ``config`` is still the old one."""

    @abstractmethod
    async def version(self) -> str:
        """The daemon's own words on its version."""

    @abstractmethod
    async def ask(self, question: str) -> str:
        """The answer of the daemon's own command line to a question, as it is printed."""

    @abstractmethod
    async def routes(self, table: str, peer: Neighbor | None) -> list[Row]:
        """The rows of ``show.routes``. Raises NotOffered for a table that the daemon does not keep."""

    @abstractmethod
    async def session(self, neighbor: Neighbor) -> Row:
        """More of a neighbour than its state: ``capabilities`` (of the neighbour, in the daemon's words), ``hold_time``, ``text``."""

    @abstractmethod
    async def shutdown(self, neighbor: Neighbor, text: str) -> None:
        """Ends the session with Cease/2 and this text (RFC 9003), and keeps it ended. Raises NotOffered."""

    @abstractmethod
    async def begin(self, neighbor: Neighbor) -> None:
        """Starts a session that :meth:`shutdown` ended."""

    @abstractmethod
    async def reset(self, neighbor: Neighbor) -> None:
        """Ends a session and lets it come back."""

    @abstractmethod
    async def refresh(self, neighbor: Neighbor, direction: str) -> None:
        """A soft clear, ``direction`` "in" (asks for the routes again, RFC 2918) or "out"."""

    async def stop(self) -> None:
        """Ends the daemon as its operator would."""
        for program in reversed(self.programs):
            await program.stop()

    # What drivers share

    def program(self, name: str, on_line: Callable[[str], None]) -> Program:
        found = Program(name, on_line, self.folder / f"{name}.log", self.masked)
        self.programs.append(found)
        return found

    def masked(self, text: str) -> str:
        """``text`` without any key of the configuration (VBR-9)."""
        for neighbor in self.config.neighbors:
            secrets = [neighbor.secret() or b""]
            if neighbor.bfd is not None and neighbor.bfd.auth is not None:
                secrets.append(neighbor.bfd.auth.key.get_secret_value().encode())
            for secret in secrets:
                text = text.replace(secret.decode(), "***") if secret else text
        return text

    def at(self, address: str) -> Neighbor | None:
        """The neighbour of an address as the daemon writes it."""
        try:
            wanted = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return None
        return next((n for n in self.config.neighbors if ipaddress.ip_address(n.address) == wanted), None)

    def named(self, name: str) -> Neighbor:
        """The neighbour of a name or an address. Raises ValueError naming those there are."""
        for neighbor in self.config.neighbors:
            if name in (neighbor.name, neighbor.address):
                return neighbor
        raise ValueError(f"no neighbour {name!r}; there are {', '.join(n.name for n in self.config.neighbors)}")

    def moved(self, peer: str, new: str, reason: str = "") -> None:
        """The daemon said that a session is in another state."""
        old = self.states.get(peer, "Idle")
        if old == new:
            return
        self.states[peer] = new
        self.events.emit("fsm", peer=peer, old=old, new=new, event="", reason=reason)
        if new == ESTABLISHED:
            self.events.emit("peer.up", peer=peer)
        elif old == ESTABLISHED:
            self.events.emit("peer.down", peer=peer, reason=reason)

    def path_is(self, peer: str, new: str, reason: str) -> None:
        """The daemon said that a BFD session is in another state."""
        old = self.watched.get(peer, "Down")
        if old != new:
            self.watched[peer] = new
            self.events.emit("bfd", peer=peer, old=old, new=new, reason=reason)

    def notified(
        self, peer: str, direction: str, code: int, subcode: int, reason: str, text: str | None = None
    ) -> None:
        fields = {} if text is None else {"text": text}
        self.events.emit(
            "notification", peer=peer, direction=direction, code=code, subcode=subcode, meaning=reason, **fields
        )


def local_asn(config: SpeakerConfig, neighbor: Neighbor) -> int:
    return neighbor.local_asn or config.asn


def is_internal(config: SpeakerConfig, neighbor: Neighbor) -> bool:
    return local_asn(config, neighbor) == neighbor.remote_asn


def hold_time(config: SpeakerConfig, neighbor: Neighbor) -> int:
    return config.hold_time if neighbor.hold_time is None else neighbor.hold_time


def source_for(neighbor: Neighbor) -> str:
    """The address that the kernel would speak to a neighbour from. Raises OSError where no route leads there."""
    family = socket.AF_INET6 if ":" in neighbor.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect((neighbor.address, neighbor.port))  # sends nothing
        return str(asking.getsockname()[0])


def path_row(peer: str, next_hop: str | None, as_path: str, **more: Any) -> Row:
    """A path in the shape of our speaker's answers; what a daemon does not print stays empty."""
    row: Row = {
        "peer": peer,
        "next_hop": next_hop,
        "as_path": as_path,
        "path_id": 0,
        "origin": "igp",
        "med": None,
        "local_pref": None,
        "communities": [],
        "large_communities": [],
        "extended_communities": [],
        "best": True,
        "multipath": False,
    }
    return row | {key: value for key, value in more.items() if value is not None}


def in_order(rows: dict[str, list[Row]]) -> list[Row]:
    """Rows of ``show.routes`` in the prefixes' numeric order, IPv4 first."""

    def key(prefix: str) -> tuple[int, int, int]:
        network = ipaddress.ip_network(prefix)
        return network.version, int(network.network_address), network.prefixlen

    return [{"prefix": prefix, "paths": rows[prefix]} for prefix in sorted(rows, key=key)]
