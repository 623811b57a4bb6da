"""What a large table does to the other duties of our speaker: the longest piece of work of its loop, KEEPALIVEs and BFD meanwhile.

The real stream comes from one peer, goes into the kernel and is lost again. Two others look on, from outside the process, and are told no
routes: a plain one with a hold time of 3 s, which notes how long it hears nothing, and a speaker with BFD at 3 x 50 ms, which must see
neither BFD nor its session go down. The speaker under load is ours with a meter (``metered``). Runs inside a sandbox; prints JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench import stream
from bench.contenders import Running
from bench.load import (
    DAEMON,
    DAEMON_ASN,
    FEEDER_ASN,
    KEEPALIVE,
    REFUSED,
    Course,
    Feeder,
    feeder_address,
    session,
)
from harness.net.namespace import Namespace, setns

HOLD_S = 3
_TOP = Path(__file__).resolve().parents[1]
_BFD = {"interval_ms": 50, "multiplier": 3, "hop_count": 1}
_UP_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Duties:
    """Milliseconds; ``silence``: seconds between two messages of the speaker; ``downs``: sessions lost, by BGP or BFD."""

    longest: float
    over: int
    slices: int
    silence: float
    downs: int
    where: list[Any]


def watch(netns_fd: int, address: IPv4Address, asn: int, pipe: Connection) -> None:
    """The plain peer, a process of its own: "up" when the session stands, at "end" the longest silence in seconds."""
    setns(netns_fd)
    peer = session(address, asn, HOLD_S)
    pipe.send("up")
    heard = said = time.monotonic()
    longest = 0.0
    sources: list[Any] = [peer, pipe]
    while True:
        readable, _, _ = select.select(sources, [], [], 0.1)
        now = time.monotonic()
        if peer in readable:
            if not peer.recv(1 << 16):
                raise ConnectionError("the speaker closed the session of the peer that only looks on")
            longest, heard = max(longest, now - heard), now
        if now - said > HOLD_S / 4:
            peer.sendall(KEEPALIVE)
            said = now
        if pipe in readable:
            pipe.send(max(longest, now - heard))
            return


def configurations() -> tuple[dict[str, object], dict[str, object]]:
    """Of the speaker under load, and of the one with BFD."""
    silent = [{"action": "deny"}]
    common = {"enforce_first_as": False, "passive": True}
    loaded = {
        "asn": DAEMON_ASN,
        "router_id": str(DAEMON),
        "neighbors": [
            {"name": "feeder", "address": str(feeder_address(0)), "remote_asn": FEEDER_ASN, **common},
            {
                "name": "plain",
                "address": str(feeder_address(1)),
                "remote_asn": FEEDER_ASN + 1,
                "export": silent,
                "hold_time": HOLD_S,
                **common,
            },
            {
                "name": "bfd",
                "address": str(feeder_address(2)),
                "remote_asn": FEEDER_ASN + 2,
                "export": silent,
                "bfd": _BFD,
                "hold_time": HOLD_S,
                **common,
            },
        ],
    }
    other = {
        "asn": FEEDER_ASN + 2,
        "router_id": str(feeder_address(2)),
        "neighbors": [
            {
                "name": "loaded",
                "address": str(DAEMON),
                "local_address": str(feeder_address(2)),
                "remote_asn": DAEMON_ASN,
                "bfd": _BFD,
                "hold_time": HOLD_S,
            }
        ],
    }
    return loaded, other


def _speaker(node: Namespace, name: str, folder: Path, configuration: object, command: list[str]) -> Running:
    file, log = folder / f"{name}.json", folder / f"{name}.log"
    file.write_text(json.dumps(configuration))
    with log.open("wb") as sink:
        process = node.popen(
            [sys.executable, "-m", *command, "--config", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(_TOP)},
        )
    return Running(name, [process], log)


def _until(reached: Any, what: str, *running: Running) -> None:
    end = time.monotonic() + _UP_WITHIN
    while not reached():
        for one in running:
            one.check()
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {_UP_WITHIN:g} s: {' | '.join(r.words() for r in running)}")
        time.sleep(0.02)


def measure(file: Path) -> Duties:
    real = stream.real(file, feeder_address(0))
    course = Course(3)
    base = course.routes()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        metered = folder / "slices.json"
        loaded, other = configurations()
        running = _speaker(course.daemon, "loaded", folder, loaded, ["bench.metered", str(metered)])
        beside = _speaker(course.feeders, "beside", folder, other, ["harness.bgp.daemon"])
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        plain = context.Process(
            target=watch, args=(course.feeders.fd, feeder_address(1), FEEDER_ASN + 1, theirs), daemon=True
        )
        plain.start()
        feeder = Feeder(course.feeders, 0, real.messages)
        try:
            feeder.answer()
            if not ours.poll(_UP_WITHIN):
                raise TimeoutError(f"the plain peer has no session: {running.words()}")
            ours.recv()
            _until(lambda: "bfd" in beside.all() and "peer.up" in beside.all(), "BFD", beside, running)
            told = len(beside.all())
            feeder.ask("send")
            feeder.answer()
            feeder.answer()
            course.until(lambda count: count >= base + real.routes - REFUSED, running)
            feeder.ask("close")
            feeder.answer()
            course.until(lambda count: count <= base, running)
            running.processes[0].send_signal(signal.SIGUSR2)
            _until(metered.exists, "the meter's answer", running)
            ours.send("end")
            silence = float(ours.recv())
            downs = sum("peer.down" in line or "Up -> " in line for line in beside.all()[told:].splitlines())
        finally:
            feeder.end()
            plain.kill()
            running.end()
            beside.end()
        found = json.loads(metered.read_text())
    return Duties(found["longest"][0][0], found["over"], found["slices"], silence, downs, found["longest"][:8])


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Path(sys.argv[1])))))  # noqa: T201
