"""The BFD process: a loop of its own over sockets and timers, so that nothing the speaker does delays a packet.

It is forked by the speaker and joined to it by a socket pair that carries one JSON object in each datagram (:class:`Request` and
:class:`Report` name their fields), and it ends when the speaker does. It serves no control socket: the speaker shows
its sessions.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from random import Random
from typing import Any, Literal, NoReturn, TypedDict

from harness.bfd.authentication import AuthType, Key
from harness.bfd.demux import Peering, Refusal, Sessions, Told, Watched, row
from harness.bfd.ledger import Ledger
from harness.bfd.session import Standing, Timing, Transition, Transmit
from harness.bfd.shell import Receiver, Sender, receivers
from harness.bfd.terms import diagnostic_text

MESSAGE_MAX = 1 << 20
_PR_SET_NAME = 15


class Request(TypedDict, total=False):
    """What the speaker wants. Intervals are milliseconds; ``key`` is hexadecimal; ``number`` comes back with the answer to "status";
    ``standing`` is what a former process told of the session, ``place`` where its sequence numbers are in the ledger."""

    op: Literal["add", "remove", "retime", "status"]
    name: str
    remote: str
    local: str | None
    hop_count: int
    interval_ms: int
    multiplier: int
    auth: dict[str, Any] | None
    standing: dict[str, Any]
    place: int | None
    number: int


class Report(TypedDict, total=False):
    """What the process tells. ``time`` is CLOCK_MONOTONIC; ``session`` is a row of :func:`harness.bfd.demux.row`; ``standing`` is for
    a process that comes after this one (:class:`harness.bfd.session.Standing`), None where it begins anew."""

    kind: Literal["ready", "failed", "transition", "resumed", "refused", "status"]
    name: str
    time: float
    old: str
    new: str
    diagnostic: str
    remote_diagnostic: str
    reason: str
    path_lost: bool
    ttl: int
    hop_count: int
    session: dict[str, Any]
    standing: dict[str, Any] | None
    sessions: dict[str, dict[str, Any]]
    number: int


class Process:
    """Sessions, their sockets and the pair's end. ``run`` returns when the speaker is gone."""

    def __init__(self, pair: socket.socket, ledger: Ledger, random: Random) -> None:
        self._pair = pair
        self._ledger = ledger
        self._random = random
        self._sessions = Sessions(random)
        self._senders: dict[int, Sender] = {}
        self._selector = selectors.DefaultSelector()
        self._receivers: list[Receiver] = []

    def run(self) -> None:
        try:
            self._receivers = receivers()
        except OSError as error:
            self._tell({"kind": "failed", "reason": f"BFD's UDP ports cannot be had: {error.strerror}"})
            return
        self._selector.register(self._pair, selectors.EVENT_READ)
        for receiver in self._receivers:
            self._selector.register(receiver.fileno(), selectors.EVENT_READ)
        self._tell({"kind": "ready"})
        while True:
            due = self._sessions.deadline()
            self._selector.select(None if due is None else max(0.0, due - time.monotonic()))
            # What has arrived counts before what has run out: a process that was kept waiting must not call its peers dead.
            for receiver in self._receivers:
                for arrival in receiver.arrivals():
                    self._carry_out(self._sessions.arrived(arrival, time.monotonic()))
            if not self._serve():
                return
            self._carry_out(self._sessions.tick(time.monotonic()))

    def _serve(self) -> bool:
        """Does what the speaker asks for; False when it is gone."""
        while True:
            try:
                message = self._pair.recv(MESSAGE_MAX)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            if not message:
                return False
            self._obey(json.loads(message), time.monotonic())

    def _obey(self, request: Request, now: float) -> None:
        match request["op"]:
            case "add":
                standing = request.get("standing")
                resumed = None if standing is None else Standing(**standing)
                place = request.get("place")
                numbers = None if place is None else self._ledger.numbers(place)
                self._carry_out(self._sessions.add(_peering(request), now, resumed, numbers))
                if resumed is not None:
                    self._tell_resumed(self._sessions[request["name"]])
            case "remove":
                self._carry_out(self._sessions.remove(request["name"], now))
            case "retime":
                self._carry_out(self._sessions.retime(request["name"], _timing(request), now))
            case "status":
                rows = {name: row(watched) for name, watched in self._sessions.items()}
                self._tell({"kind": "status", "number": request["number"], "sessions": rows})

    def _carry_out(self, told: Iterable[Told]) -> None:
        for watched, what in told:
            match what:
                case Transmit(data):
                    watched.trouble = self._sender(watched).send(data)
                case Transition():
                    self._tell_transition(watched, what)
                case Refusal():
                    self._tell_refusal(watched, what)

    def _sender(self, watched: Watched) -> Sender:
        number = watched.session.discriminator
        if number not in self._senders:
            for gone in [n for n in self._senders if not self._sessions.knows(n)]:
                self._senders.pop(gone).close()
            self._senders[number] = Sender(watched.peering, self._random)
        return self._senders[number]

    def _tell_transition(self, watched: Watched, seen: Transition) -> None:
        self._tell(
            {
                "kind": "transition",
                "name": watched.peering.name,
                "time": time.monotonic(),
                "old": seen.old.text,
                "new": seen.new.text,
                "diagnostic": diagnostic_text(seen.diagnostic),
                "remote_diagnostic": diagnostic_text(seen.remote_diagnostic),
                "reason": seen.reason,
                "path_lost": seen.path_lost,
                "session": row(watched),
                "standing": _standing(watched),
            }
        )

    def _tell_resumed(self, watched: Watched) -> None:
        self._tell(
            {
                "kind": "resumed",
                "name": watched.peering.name,
                "time": time.monotonic(),
                "session": row(watched),
                "standing": _standing(watched),
            }
        )

    def _tell_refusal(self, watched: Watched, refusal: Refusal) -> None:
        self._tell(
            {
                "kind": "refused",
                "name": watched.peering.name,
                "time": time.monotonic(),
                "reason": refusal.text,
                "ttl": refusal.ttl,
                "hop_count": watched.peering.hop_count,
                "session": row(watched),
            }
        )

    def _tell(self, report: Report) -> None:
        # A speaker that does not read loses reports, never BFD its pace; what it asks for later is whole again.
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._pair.send(json.dumps(report).encode())


def _standing(watched: Watched) -> dict[str, Any] | None:
    standing = watched.session.standing()
    return None if standing is None else asdict(standing)


def _timing(request: Request) -> Timing:
    interval = request["interval_ms"] * 1000
    return Timing(interval, interval, request["multiplier"])


def _peering(request: Request) -> Peering:
    auth = request["auth"]
    key = None
    if auth is not None:
        key = Key(AuthType[auth["type"].upper().replace("-", "_")], auth["key_id"], bytes.fromhex(auth["key"]))
    return Peering(request["name"], request["remote"], _timing(request), request["hop_count"], request["local"], key)


def become(pair: socket.socket, ledger: Ledger) -> NoReturn:
    """In a child just forked: leaves everything of the parent but the pair's end and the log, runs, and never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            # A signal to the group is for the speaker, which says goodbye to the peers by this process.
            signal.signal(number, signal.SIG_IGN if number is not signal.SIGCHLD else signal.SIG_DFL)
        gc.freeze()
        os.closerange(3, pair.fileno())
        os.closerange(pair.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"vbrlab-bfd", 0, 0, 0)
        with contextlib.suppress(OSError):
            # Where the rights are there, ahead of everything that only computes.
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        pair.setblocking(False)
        Process(pair, ledger, Random()).run()
        status = 0
    except BaseException as error:
        sys.stderr.write(f"bfd: {type(error).__name__}: {error}\n")
        raise
    finally:
        os._exit(status)
