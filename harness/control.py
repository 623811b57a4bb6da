"""The control socket that every daemon of a lab speaks: JSON lines over a Unix stream socket.

A request is ``{"id": 1, "method": "show.summary", "params": {}}``; the answer is ``{"id": 1, "result": ...}`` or
``{"id": 1, "error": {"message": ...}}``. ``events.follow`` with ``{"since": N}`` answers once and then streams
``{"event": {...}}`` lines: first the kept events with ``seq`` over N, then each new one as it happens.

Every event carries ``seq`` (from 1, no gaps), ``time`` (CLOCK_MONOTONIC seconds, the same clock in every process of the
machine) and ``type``. A reader that falls behind by more than the log keeps finds its next event's ``seq`` jump and knows it.

This is a leaf: standard library only, so that the speaker can use it and still import nothing of the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Method = Callable[..., Any]

_IN_MOVED_TO, _IN_CREATE = 0x80, 0x100
_LINE_LIMIT = 64 * 1024 * 1024
_BACKLOG_LIMIT = 8 * 1024 * 1024


class ControlError(Exception):
    """The other side refused a request; the text is its reason."""


class ControlClosed(ControlError):
    """The other side is gone: the daemon ended, or was never there."""


class EventLog:
    """A bounded, numbered history of events that any number of followers can read from any point."""

    def __init__(self, keep: int = 20_000) -> None:
        self._kept: deque[Event] = deque(maxlen=keep)
        self._numbers = itertools.count(1)
        self._listeners: list[Callable[[Event], None]] = []

    def emit(self, kind: str, /, **fields: Any) -> Event:
        """Appends an event and hands it to every listener."""
        event: Event = {"seq": next(self._numbers), "time": time.monotonic(), "type": kind, **fields}
        self._kept.append(event)
        for listener in tuple(self._listeners):
            listener(event)
        return event

    def since(self, seq: int = 0) -> list[Event]:
        return [event for event in self._kept if event["seq"] > seq]

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Calls ``listener`` with every further event until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


class ControlServer:
    """Serves ``methods`` (sync or async callables taking keyword parameters) and the event log on a Unix socket.

    A method's ``ValueError`` or ``KeyError`` is the client's fault and becomes an error answer, as does a :class:`ControlError`.
    """

    def __init__(self, path: Path, methods: Mapping[str, Method], log: EventLog) -> None:
        self.path = path
        self._methods = dict(methods)
        self._log = log
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """Serves from now on. A stale file of a dead daemon is replaced; a living one is an error.

        The socket listens before it gets its name, so that whoever sees the name can connect.
        """
        with contextlib.suppress(FileNotFoundError):
            self._refuse_living()
            self.path.unlink()
        unnamed = self.path.with_suffix(f".{os.getpid()}")
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._accept, unnamed, limit=_LINE_LIMIT)
        finally:
            os.umask(before)
        unnamed.rename(self.path)

    def _refuse_living(self) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                return
        raise ControlError(
            f"control socket {self.path}: another daemon is serving it; stop that one or choose another path"
        )

    async def close(self) -> None:
        self._closed = True
        if self._server is not None:
            self._server.close()
        for task in tuple(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        stop: list[Callable[[], None]] = []
        try:
            # A connection accepted in the very turn of the loop that closes the server must not outlive it.
            while not self._closed and (line := await reader.readline()):
                await self._serve(line, writer, stop)
                await writer.drain()
        except (ConnectionError, asyncio.LimitOverrunError, ValueError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            for end in stop:
                end()
            self._clients.discard(task)
            writer.close()

    async def _serve(self, line: bytes, writer: asyncio.StreamWriter, stop: list[Callable[[], None]]) -> None:
        number = None
        try:
            request = json.loads(line)
            number, name, params = request.get("id"), request["method"], request.get("params") or {}
            if name == "events.follow":
                self._follow(number, int(params.get("since", 0)), writer, stop)
                return
            method = self._methods.get(name)
            if method is None:
                raise ControlError(
                    f"unknown method {name!r}; there are {', '.join(sorted([*self._methods, 'events.follow']))}"
                )
            result = method(**params)
            if asyncio.iscoroutine(result):
                result = await result
            answer: dict[str, Any] = {"id": number, "result": result}
        except (ControlError, ValueError, KeyError, TypeError) as error:
            answer = {"id": number, "error": {"message": str(error)}}
        writer.write(json.dumps(answer).encode() + b"\n")

    def _follow(self, number: Any, since: int, writer: asyncio.StreamWriter, stop: list[Callable[[], None]]) -> None:
        def send(event: Event) -> None:
            # A follower that does not read must not grow the daemon: it is cut off and may follow again from its last seq.
            if writer.transport.get_write_buffer_size() > _BACKLOG_LIMIT:
                writer.transport.abort()
            else:
                writer.write(json.dumps({"event": event}).encode() + b"\n")

        writer.write(json.dumps({"id": number, "result": "following"}).encode() + b"\n")
        for event in self._log.since(since):
            send(event)
        stop.append(self._log.listen(send))


class ControlClient:
    """An asyncio client: calls may be made while events stream in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(reader))

    @classmethod
    async def connect(cls, path: Path, within: float = 0.0) -> ControlClient:
        """Connects as soon as a daemon serves ``path``. Raises ControlClosed when none does after ``within`` seconds."""
        try:
            async with asyncio.timeout(within) if within else contextlib.nullcontext():
                if within:
                    await named(path)
                reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_LIMIT)
        except (FileNotFoundError, ConnectionRefusedError, TimeoutError) as error:
            raise ControlClosed(f"control socket {path}: no daemon serves it") from error
        return cls(reader, writer)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                message = json.loads(line)
                if "event" in message:
                    self._events.put_nowait(message["event"])
                elif (waiting := self._waiting.pop(message["id"], None)) is not None and not waiting.done():
                    if "error" in message:
                        waiting.set_exception(ControlError(message["error"]["message"]))
                    else:
                        waiting.set_result(message["result"])
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ControlClosed("the daemon closed its control socket"))
        self._waiting.clear()
        self._events.put_nowait(None)

    async def call(self, method: str, **params: Any) -> Any:
        """The result of ``method``. Raises ControlError with the daemon's reason, ControlClosed when it is gone."""
        if self._task.done():
            raise ControlClosed("the daemon closed its control socket")
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n")
        return await self._waiting[number]

    async def events(self, since: int = 0) -> AsyncIterator[Event]:
        """All events from ``since`` on; ends when the daemon does. One follower for each client."""
        await self.call("events.follow", since=since)
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._events.put_nowait(None)
        self._writer.close()


async def named(path: Path) -> None:
    """Returns once ``path`` exists; its folder must. The kernel says so (inotify(7)), nothing is polled."""
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if watcher < 0 or libc.inotify_add_watch(watcher, os.fsencode(path.parent), _IN_CREATE | _IN_MOVED_TO) < 0:
        raise OSError(ctypes.get_errno(), f"inotify on {path.parent}")
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    loop.add_reader(watcher, changed.set)
    try:
        while not path.exists():
            await changed.wait()
            changed.clear()
            with contextlib.suppress(BlockingIOError):
                os.read(watcher, 65536)
    finally:
        loop.remove_reader(watcher)
        os.close(watcher)


def call(path: Path | socket.socket, method: str, *, within: float = 10.0, **params: Any) -> Any:
    """One blocking request, to a socket's path or over a connection that is there. Raises ControlError, ControlClosed, or TimeoutError
    after ``within`` seconds."""
    with _dial(path, within) as stream:
        stream.write(json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\n")
        stream.flush()
        line = stream.readline()
    if not line:
        raise ControlClosed(f"control socket {path}: the daemon closed it")
    answer = json.loads(line)
    if "error" in answer:
        raise ControlError(answer["error"]["message"])
    return answer["result"]


def follow(path: Path | socket.socket, since: int = 0) -> Iterator[Event]:
    """Blocking stream of events, from a socket's path or a connection that is there; ends when the daemon does."""
    with _dial(path, None) as stream:
        stream.write(json.dumps({"id": 1, "method": "events.follow", "params": {"since": since}}).encode() + b"\n")
        stream.flush()
        for line in stream:
            message = json.loads(line)
            if "event" in message:
                yield message["event"]


@contextlib.contextmanager
def _dial(path: Path | socket.socket, within: float | None) -> Iterator[Any]:
    if isinstance(path, socket.socket):
        path.settimeout(within)
        with path.makefile("rwb") as stream:
            yield stream
        return
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ControlClosed(f"control socket {path}: no daemon serves it") from error
        with connection.makefile("rwb") as stream:
            yield stream
