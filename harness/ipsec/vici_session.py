"""An asyncio client of charon's vici socket: the packet layer is the ``vici`` package's, the waiting is the event loop's.

One session is one connection. Requests on it are answered in their order; a request that lasts (``initiate``) wants a session
of its own. Events that were registered for go to one function, in the order charon raised them.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vici.protocol import Message, Packet

from harness.control import ControlError
from harness.patience import stretched

Answer = dict[str, Any]
Listener = Callable[[str, Answer], None]

_HEADER = struct.Struct("!I")
_TIME_OUT = 10.0  # vici has none of its own; a healthy charon answers a query within milliseconds


class ViciError(ControlError):
    """charon refused a command, with its own text, or did not answer in time."""


class ViciClosed(ViciError):
    """charon closed the connection, or nobody listens on the socket."""


class ViciSession:
    """A connection to charon. Made by :meth:`connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener: Listener | None) -> None:
        self._writer = writer
        self._listener = listener
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._streams: dict[str, list[Answer]] = {}
        self._streaming = asyncio.Lock()
        self._task = asyncio.create_task(self._read(reader))

    @classmethod
    async def connect(cls, path: Path, listener: Listener | None = None) -> ViciSession:
        """Raises ViciClosed when nobody listens: the file alone says nothing, it outlives the daemon."""
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ViciClosed(f"vici socket {path}: no charon serves it") from error
        return cls(reader, writer, listener)

    async def request(
        self, command: str, message: Mapping[str, Any] | None = None, *, within: float | None = _TIME_OUT
    ) -> Answer:
        """The answer to ``command``. Raises ViciError with charon's text, ViciClosed when it is gone."""
        body = None if message is None else Message.serialize(message)
        packet = await self._exchange(Packet.request(command, body), within)
        if packet.response_type == Packet.CMD_UNKNOWN:
            raise ViciError(f"charon knows no command {command!r}; is the plugin that serves it loaded?")
        answer: Answer = plain(Message.deserialize(packet.payload))
        if answer.get("success", "yes") != "yes":
            raise ViciError(f"{command}: {answer.get('errmsg', 'refused without a reason')}")
        return answer

    async def stream(self, command: str, event: str, message: Mapping[str, Any] | None = None) -> list[Answer]:
        """The events that ``command`` raises before it is answered (``list-sas`` raises ``list-sa``)."""
        async with self._streaming:
            if event not in self._streams:
                await self.register(event)
            collected = self._streams[event] = []
            await self.request(command, message)
            return collected

    async def register(self, *events: str) -> None:
        for event in events:
            packet = await self._exchange(Packet.register_event(event), _TIME_OUT)
            if packet.response_type != Packet.EVENT_CONFIRM:
                raise ViciError(f"charon knows no event {event!r}")

    def close(self) -> None:
        """At once. Waits for nothing, so that a caller that is being cancelled is cancelled."""
        self._task.cancel()
        self._writer.close()

    async def _exchange(self, packet: bytes, within: float | None) -> Any:
        if self._task.done():
            raise ViciClosed("charon closed the vici connection")
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._writer.write(_HEADER.pack(len(packet)) + packet)
        try:
            # wait_for of Python 3.11 may swallow the cancellation of its caller.
            async with asyncio.timeout(None if within is None else stretched(within)):
                return await waiting
        except TimeoutError:
            raise ViciError(f"charon did not answer within {within} s") from None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    (length,) = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                    self._take(Packet.parse(await reader.readexactly(length)))
        finally:
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(ViciClosed("charon closed the vici connection"))
            self._waiting.clear()

    def _take(self, packet: Any) -> None:
        if packet.response_type != Packet.EVENT:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(packet)
            return
        name = packet.event_type.decode()
        content = plain(Message.deserialize(packet.payload))
        if name in self._streams:
            self._streams[name].append(content)
        elif self._listener is not None:
            self._listener(name, content)


def plain(message: Any) -> Any:
    """A decoded vici message with text in place of its octets."""
    if isinstance(message, bytes):
        return message.decode(errors="replace")
    if isinstance(message, Mapping):
        return {key: plain(value) for key, value in message.items()}
    return [plain(value) for value in message]
