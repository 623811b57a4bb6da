"""How each daemon is started for the load benchmarks: in a given namespace, with a table of peers, its files in one directory.

The same job for all: accept these peers without policy, take what they say, put it into the kernel (GoBGP installs no routes itself, and
runs only where the kernel does not count). Nothing of a daemon's is touched outside the directory and the sandbox's own mounts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from harness.net.namespace import Namespace
from harness.net.supervisor import MS_BIND, MS_NODEV, MS_NOSUID, mount

_TOP = Path(__file__).resolve().parents[1]
_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/lib/frr"
_FRR_GROUPS = "root:x:0:\nfrr:x:92:\nfrrvty:x:0:root\n"


@dataclass(frozen=True, slots=True)
class Peer:
    """A neighbour of the daemon. ``passive``: it dials, the daemon waits. ``key``: TCP MD5 (RFC 2385)."""

    asn: int
    address: IPv4Address
    passive: bool = True
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Self:
    """The daemon's own AS number, address (its BGP Identifier too), neighbours, and the folder for its files."""

    asn: int
    address: IPv4Address
    peers: Sequence[Peer]
    folder: Path


@dataclass(slots=True)
class Running:
    """A daemon's processes."""

    name: str
    processes: list[subprocess.Popen[bytes]]
    log: Path

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def check(self) -> None:
        """Raises RuntimeError where a process ended."""
        for process in self.processes:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} exited {process.returncode}: {self.words()}")

    def words(self) -> str:
        """The daemon's last words."""
        return self.all()[-1500:]

    def all(self) -> str:
        """All that the daemon said."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


Commands = Callable[[Self], list[list[str]]]
"""Writes a daemon's files and says what to run."""


@dataclass(frozen=True, slots=True)
class Contender:
    """``programs`` must be there."""

    name: str
    commands: Commands
    programs: tuple[str, ...] = ()

    def start(self, node: Namespace, what: Self) -> Running:
        """Begins to listen; whether it does already, the caller finds out by dialling."""
        log, environment = what.folder / "log", {**os.environ, "PYTHONPATH": str(_TOP)}
        with log.open("wb") as sink:
            processes = [
                node.popen(
                    command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=what.folder, env=environment
                )
                for command in self.commands(what)
            ]
        return Running(self.name, processes, log)

    def absent(self) -> str | None:
        """The first program that is not installed."""
        return next((program for program in self.programs if shutil.which(program, path=_PATH) is None), None)


def _program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def our_configuration(what: Self) -> dict[str, object]:
    """What our speaker reads."""
    neighbors = [
        {
            "name": f"peer{number}",
            "address": str(peer.address),
            "remote_asn": peer.asn,
            "enforce_first_as": False,
            "passive": peer.passive,
            "key": peer.key,
        }
        for number, peer in enumerate(what.peers)
    ]
    return {"asn": what.asn, "router_id": str(what.address), "neighbors": neighbors}


def _ours(what: Self) -> list[list[str]]:
    file = what.folder / "speaker.json"
    file.write_text(json.dumps(our_configuration(what)))
    return [[sys.executable, "-m", "harness.bgp.daemon", "--config", str(file)]]


def _bird(what: Self) -> list[list[str]]:
    sessions = "\n".join(
        f"protocol bgp peer{number} {{ local {what.address} as {what.asn}; neighbor {peer.address} as {peer.asn};"
        + (" passive on;" if peer.passive else "")
        + (f' password "{peer.key}";' if peer.key else "")
        + " ipv4 { import all; export all; }; }"
        for number, peer in enumerate(what.peers)
    )
    file = what.folder / "bird.conf"
    file.write_text(
        f"log stderr all;\nrouter id {what.address};\nprotocol device {{}}\n"
        f"protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n{sessions}\n"
    )
    control, pid = what.folder / "bird.ctl", what.folder / "bird.pid"
    return [[_program("bird"), "-f", "-c", str(file), "-s", str(control), "-P", str(pid)]]


def _furnish_for_frr(folder: Path) -> None:
    """What FRR insists on, in the sandbox's own mount namespace: a group, and folders that it may write."""
    groups = folder / "group"
    groups.write_text(_FRR_GROUPS)
    mount(str(groups), "/etc/group", None, MS_BIND)
    for directory in ("/etc/frr", "/var/tmp"):
        if Path(directory).is_dir():
            mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV)


def _frr(what: Self) -> list[list[str]]:
    _furnish_for_frr(what.folder)
    lines = [
        f"router bgp {what.asn}",
        f"bgp router-id {what.address}",
        "no bgp ebgp-requires-policy",
        "no bgp enforce-first-as",
        "no bgp network import-check",
    ]
    for peer in what.peers:
        lines.append(f"neighbor {peer.address} remote-as {peer.asn}")
        lines += [f"neighbor {peer.address} passive"] if peer.passive else []
        lines += [f"neighbor {peer.address} password {peer.key}"] if peer.key else []
    (what.folder / "zebra.conf").write_text("hostname zebra\n")
    (what.folder / "bgpd.conf").write_text("\n".join(lines) + "\n")
    common = ["-u", "root", "-g", "root", "-A", "127.0.0.1", "-P", "0", "--log", "stdout"]
    common += ["--vty_socket", str(what.folder), "-z", str(what.folder / "zserv.api")]
    return [
        [
            _program(name),
            *common,
            "-i",
            str(what.folder / f"{name}.pid"),
            "-f",
            str(what.folder / f"{name}.conf"),
            *more,
        ]
        for name, more in (("zebra", []), ("bgpd", ["-l", str(what.address)]))
    ]


def _gobgp(what: Self) -> list[list[str]]:
    neighbors = "".join(
        f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{peer.address}"\npeer-as = {peer.asn}\n'
        + (f'auth-password = "{peer.key}"\n' if peer.key else "")
        + ("[neighbors.transport.config]\npassive-mode = true\n" if peer.passive else "")
        for peer in what.peers
    )
    file = what.folder / "gobgp.toml"
    file.write_text(f'[global.config]\nas = {what.asn}\nrouter-id = "{what.address}"\n{neighbors}')
    return [[_program("gobgpd"), "-f", str(file), "--api-hosts", f"unix://{what.folder / 'api'}"]]


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("ours", _ours),
        Contender("BIRD", _bird, ("bird",)),
        Contender("FRR", _frr, ("zebra", "bgpd")),
        Contender("GoBGP", _gobgp, ("gobgpd",)),
    )
}
