"""BIRD 2 in a node's place: one process with one configuration file, asked and changed over its control socket.

The protocol of the socket (``nest/cli.c``): a request is a line; a reply's lines begin with a four-digit code and a blank (the last) or
a hyphen (more follow), or with a blank (more of the last code). The configuration may hold keys, so its file is there only while BIRD
reads it, mode 0600.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.bgp.config import Neighbor, SpeakerConfig
from harness.control import EventLog, named
from harness.daemons import bird_config
from harness.daemons.driver import ESTABLISHED, Driver, NotOffered, Row, in_order, path_row
from harness.daemons.kinds import Kind
from harness.daemons.policies import bird_name
from harness.daemons.program import ProgramError, dialled

_READY_WITHIN = 10.0
_LIMIT = 256 * 1024 * 1024

_SAID = re.compile(r"<\w+> (?P<protocol>[\w.-]+): (?P<words>.*)")
_NOTIFICATION = re.compile(r"(?P<way>Sending|Got) NOTIFICATION\(code=(?P<code>\d+)\.(?P<subcode>\d+)\)")
#: BIRD names the errors that it receives (``bgp_err_table`` of proto/bgp/bgp.c): longer names first.
_ERRORS = {
    (1, 1): "Connection not synchronized",
    (1, 2): "Bad message length",
    (1, 3): "Bad message type",
    (2, 1): "Unsupported version number",
    (2, 2): "Bad peer AS",
    (2, 3): "Bad BGP identifier",
    (2, 4): "Unsupported optional parameter",
    (2, 6): "Unacceptable hold time",
    (2, 7): "Required capability missing",
    (3, 0): "Invalid UPDATE message",
    (3, 1): "Malformed attribute list",
    (4, 0): "Hold timer expired",
    (5, 0): "Finite state machine error",
    (6, 1): "Maximum number of prefixes reached",
    (6, 2): "Administrative shutdown",
    (6, 3): "Peer de-configured",
    (6, 4): "Administrative reset",
    (6, 5): "Connection rejected",
    (6, 6): "Other configuration change",
    (6, 7): "Connection collision resolution",
    (6, 8): "Out of Resources",
}
_BFD = re.compile(
    r"(?P<words>Session to (?P<address>[0-9a-fA-F.:]+)\S* (?:removed|changed state from \w+ to (?P<new>\w+)))"
)
_RECEIVED = re.compile(r"Received: (?P<words>.*)")
#: The beginning of what BIRD traces of a BGP protocol, and the state it means (RFC 4271 8.2.2).
_STATES = (
    ("Started", "Active"),
    ("Connecting to", "Connect"),
    ("Connect delayed", "Active"),
    ("Waiting for", "Active"),
    ("Sending OPEN", "OpenSent"),
    ("Got OPEN", "OpenConfirm"),
    ("BGP session established", "Established"),
    ("BGP session closed", "Idle"),
    ("Connection closed", "Idle"),
    ("Connection lost", "Idle"),
    ("State changed to down", "Idle"),
    ("State changed to stop", "Idle"),
)


_ENDS = ("BGP session closed", "State changed to")


class Bird(Driver):
    """One BIRD."""

    title = "BIRD"

    def __init__(self, kind: Kind, config: SpeakerConfig, folder: Path, events: EventLog) -> None:
        super().__init__(kind, config, folder, events)
        self._ready = False
        self._nudge: asyncio.Task[None] | None = None
        self._again = False

    async def start(self) -> None:
        self._socket = self.folder / "bird.ctl"
        self._file = self.folder / "bird.conf"
        (path,) = self.kind.paths
        program = self.program("bird", self._heard)
        with self._configuration(self.config):
            await program.start(
                [str(path), "-f", "-c", str(self._file), "-s", str(self._socket), "-P", str(self.folder / "pid")]
            )
            await program.until(asyncio.create_task(named(self._socket)), _READY_WITHIN)
            opening = asyncio.create_task(Console.open(self._socket))
            await program.until(opening, _READY_WITHIN)
            self._console = opening.result()
            self._ready = True

    def _configuration(self, config: SpeakerConfig) -> _Handed:
        return _Handed(self._file, bird_config.whole(config))

    async def reload(self, new: SpeakerConfig) -> None:
        with self._configuration(new):
            await self._console.ask("configure")

    async def version(self) -> str:
        return (await self._console.ask("show status")).splitlines()[0]

    async def ask(self, question: str) -> str:
        return await self._console.ask(question)

    def _protocol(self, name: str) -> Neighbor | None:
        return next((n for n in self.config.neighbors if bird_name(n.name).strip("'") == name), None)

    def _heard(self, line: str) -> None:
        if (seen := _BFD.search(line)) and (watched := self.at(seen["address"])):
            self.path_is(watched.name, seen["new"] or "Down", seen["words"])
            return
        said = _SAID.search(line)
        neighbor = self._protocol(said["protocol"]) if said else None
        if said is None or neighbor is None:
            return
        words = said["words"]
        if found := _NOTIFICATION.match(words):
            direction = "sent" if found["way"] == "Sending" else "received"
            self.notified(neighbor.name, direction, int(found["code"]), int(found["subcode"]), words)
        elif found := _RECEIVED.match(words):
            code, subcode = next((key for key, name in _ERRORS.items() if found["words"].startswith(name)), (6, 0))
            self.notified(neighbor.name, "received", code, subcode, words, _quoted(found["words"]))
        for beginning, state in _STATES:
            if words.startswith(beginning):
                # While a session stands, only its own end counts: the rest is a second connection's (RFC 4271 6.8).
                if self.states.get(neighbor.name) != ESTABLISHED or words.startswith(_ENDS):
                    self.moved(neighbor.name, state, words)
                    if state == ESTABLISHED:
                        self._wake()
                return
        if words == "Got UPDATE":
            self._wake()

    def _wake(self) -> None:
        """Asks for anything: BIRD 2.0.12 may leave an UPDATE unsent until something comes by one of its sockets, up to 3 s."""
        self._again = True
        if self._ready and (self._nudge is None or self._nudge.done()):
            self._nudge = asyncio.create_task(self._ask_for_anything())

    async def _ask_for_anything(self) -> None:
        with contextlib.suppress(ProgramError, OSError):
            while self._again:
                self._again = False
                await self._console.ask("show status")

    async def routes(self, table: str, peer: Neighbor | None) -> list[Row]:
        if table == "in" and peer is None:
            raise NotOffered("BIRD: the table in of every neighbour at once is not kept; name the peer")
        found: dict[str, list[Row]] = {}
        for family in ("ipv4", "ipv6"):
            question = f"show route all table {bird_config.TABLES[family]}"
            if table == "in":
                assert peer is not None
                question += f" protocol {bird_name(peer.name)}"
            elif table == "out":
                assert peer is not None
                question = f"show route all export {bird_name(peer.name)}"
                if family == "ipv6":
                    break  # one answer has both
            for prefix, paths in _routes(await self._console.ask(question)):
                found.setdefault(prefix, []).extend(self._path(path) for path in paths)
            if table == "loc":
                self._mark_multipath(found, await self._console.ask(f"show route export {bird_config.KERNELS[family]}"))
        if peer is not None and table == "out":
            found = {p: rows for p, rows in found.items() if any(row["peer"] != peer.name for row in rows)}
        return in_order(found)

    def _path(self, path: dict[str, Any]) -> Row:
        neighbor = self._protocol(path["protocol"])
        attributes = path["attributes"]
        community = [":".join(pair) for pair in _TUPLE.findall(attributes.get("BGP.community", ""))]
        return path_row(
            neighbor.name if neighbor else "local",
            attributes.get("BGP.next_hop", "").split(" ")[0] or next(iter(path["vias"]), None) if neighbor else None,
            attributes.get("BGP.as_path", ""),
            path_id=int(attributes["BGP.path_id"]) if "BGP.path_id" in attributes else None,
            origin=attributes.get("BGP.origin", "IGP").lower(),
            med=int(attributes["BGP.med"]) if "BGP.med" in attributes else None,
            local_pref=int(attributes["BGP.local_pref"]) if "BGP.local_pref" in attributes else None,
            communities=[f"{a}:{b}" for a, b in _PAIR.findall(attributes.get("BGP.community", ""))]
            if community
            else [],
            large_communities=[":".join(three) for three in _TRIPLE.findall(attributes.get("BGP.large_community", ""))],
            extended_communities=[
                ":".join(three) for three in _EXTENDED.findall(attributes.get("BGP.ext_community", ""))
            ],
            aggregator=_aggregator(attributes.get("BGP.aggregator")),
            atomic_aggregate=True if "BGP.atomic_aggr" in attributes else None,
            best=path["best"],
        )

    def _mark_multipath(self, found: dict[str, list[Row]], exported: str) -> None:
        """A table shows one best path; which others are merged with it (``merge paths``) is seen in what goes to the kernel."""
        for prefix, (merged, *_) in _routes(exported):
            for path in (rows := found.get(prefix, [])):
                best = next((row for row in rows if row["best"]), None)
                alike = best is not None and path is not best and _worth(path) == _worth(best)
                path["multipath"] = alike and path["next_hop"] in merged["vias"]

    async def session(self, neighbor: Neighbor) -> Row:
        text = await self._console.ask(f"show protocols all {bird_name(neighbor.name)}")
        remote = text.partition("Neighbor capabilities")[2].partition("Session:")[0]
        capabilities = [
            line.strip() for line in remote.splitlines() if line.strip() and not line.startswith("        ")
        ]
        hold = re.search(r"Hold timer:\s+\S+/(\d+)", text)
        error = re.search(r"Last error:\s+(.*)", text)
        return {
            "capabilities": capabilities,
            "session": {"hold_time": int(hold[1]) if hold else 0},
            "last_down": error[1] if error else None,
            "text": error[1] if error else None,
            "received": sum(int(count) for count in re.findall(r"Routes:\s+(\d+) imported", text)),
        }

    async def shutdown(self, neighbor: Neighbor, text: str) -> None:
        quoted = text.replace('"', "'")
        await self._console.ask(f'disable {bird_name(neighbor.name)} "{quoted}"')

    async def begin(self, neighbor: Neighbor) -> None:
        await self._console.ask(f"enable {bird_name(neighbor.name)}")

    async def reset(self, neighbor: Neighbor) -> None:
        await self._console.ask(f"restart {bird_name(neighbor.name)}")

    async def refresh(self, neighbor: Neighbor, direction: str) -> None:
        await self._console.ask(f"reload {direction} {bird_name(neighbor.name)}")

    async def stop(self) -> None:
        for program in self.programs:
            await program.stop(signal.SIGTERM)


class _Handed:
    """A configuration file that is there for as long as the block lasts."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text

    def __enter__(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(self._text)

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)


class Console:
    """BIRD's control socket. Requests are answered in turn."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> Console:
        reader, writer = await dialled(path, _LIMIT)
        await reader.readline()  # its greeting
        return cls(reader, writer)

    async def ask(self, question: str) -> str:
        """The answer without its codes. Raises ProgramError with BIRD's words for an error (codes from 8000 on)."""
        async with self._turn:
            self._writer.write(question.encode() + b"\n")
            lines: list[str] = []
            while raw := await self._reader.readline():
                line = raw.decode(errors="replace").rstrip("\n")
                code = line[:4] if line[:4].isdigit() else ""
                text = line[5:] if code else line[1:]
                if not (code == "0000" and not text):
                    lines.append(text)
                if code and line[4:5] != "-":
                    if int(code) >= 8000:
                        raise ProgramError(f"bird: {question.partition(' ')[0]}: {text}")
                    break
        return "\n".join(lines)


_TUPLE = re.compile(r"\((\d+),(\d+)\)")
_PAIR = _TUPLE
_TRIPLE = re.compile(r"\((\d+), ?(\d+), ?(\d+)\)")
_EXTENDED = re.compile(r"\((\w+), ?(\d+), ?(\d+)\)")
_HEAD = re.compile(
    r"(?P<prefix>\S+)?\s+(?P<kind>unicast|unreachable|blackhole|prohibit) \[(?P<protocol>\S+) [^\]]*\](?P<best> \*)?"
)


def _routes(text: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The answer of ``show route all``: each prefix with its paths."""
    prefix, paths = "", list[dict[str, Any]]()
    for line in text.splitlines():
        if (head := _HEAD.match(line)) is not None:
            if head["prefix"]:
                if prefix:
                    yield prefix, paths
                prefix, paths = head["prefix"], []
            paths.append({"protocol": head["protocol"], "best": head["best"] is not None, "vias": [], "attributes": {}})
        elif paths and (via := re.match(r"\s+via (\S+) on", line)):
            paths[-1]["vias"].append(via[1])
        elif paths and (pair := re.match(r"\s+(BGP\.\w+): ?(.*)", line)):
            paths[-1]["attributes"][pair[1]] = pair[2]
    if prefix:
        yield prefix, paths


def _worth(path: Row) -> tuple[object, ...]:
    """What must be equal in paths that are merged (``rte_mergable`` of BIRD's proto/bgp)."""
    return path["local_pref"], len(str(path["as_path"]).split()), path["origin"], path["med"]


def _aggregator(text: str | None) -> str | None:
    found = re.match(r"(\S+) AS(\d+)", text or "")
    return f"{found[2]} {found[1]}" if found else None


def _quoted(words: str) -> str | None:
    """The text of a shutdown: BIRD puts it between quotation marks behind the error's name."""
    found = re.search(r'"(.*)"', words)
    return found[1] if found else None
