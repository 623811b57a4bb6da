"""A foreign program as a child of an agent: started, its lines read as they come, ended with its agent (PR_SET_PDEATHSIG)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.control import ControlError

_PR_SET_PDEATHSIG = 1
_KEPT = 4000
_LONGEST = 4 * 1024 * 1024
_libc = ctypes.CDLL(None)


class ProgramError(ControlError):
    """A foreign program did not start or did not take its orders; the text has its own words."""


class Program:
    """A running program. ``on_line`` gets each line that it says on stdout or stderr; :attr:`lines` keeps the last ones.

    ``masked`` takes the keys out of a line before anybody sees or keeps it.
    """

    def __init__(self, name: str, on_line: Callable[[str], None], log: Path, masked: Callable[[str], str]) -> None:
        self.name = name
        self._masked = masked
        self.lines: deque[str] = deque(maxlen=_KEPT)
        self._on_line = on_line
        self._log = log
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
            if os.getppid() != parent:
                os._exit(1)

        self._process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, **(environment or {})},
            preexec_fn=die_with_parent,
            start_new_session=True,
            limit=_LONGEST,
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        with self._log.open("ab", buffering=0) as log:
            async for raw in process.stdout:
                line = self._masked(raw.decode(errors="replace").rstrip())
                self.lines.append(line)
                log.write(line.encode() + b"\n")
                self._on_line(line)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def ended(self) -> int:
        """Its exit status once it is gone and its last line is read."""
        assert self._process is not None
        status = await self._process.wait()
        if self._reading is not None:
            await asyncio.wait({self._reading})
        return status

    async def until(self, ready: asyncio.Future[Any] | asyncio.Task[Any], within: float) -> None:
        """Returns once ``ready`` is done. Raises ProgramError with the last lines when the program ends first or is too slow."""
        ending = asyncio.create_task(self.ended())
        try:
            await asyncio.wait({ready, ending}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                words = "; ".join(list(self.lines)[-5:]) or "it said nothing"
                how = f"ended with {ending.result()}" if ending.done() else f"was not ready within {within:g} s"
                raise ProgramError(f"{self.name} {how}: {words}")
        finally:
            ending.cancel()
            if not ready.done():
                ready.cancel()

    async def stop(self, number: int = signal.SIGTERM, grace: float = 2.0) -> None:
        """Ends it by a signal, by SIGKILL after ``grace`` seconds."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


async def answer_of(*argv: str, within: float = 10.0) -> str:
    """What a command says on stdout. Raises ProgramError with its words when it fails."""
    process = await asyncio.create_subprocess_exec(*argv, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise ProgramError(f"{argv[0]} {' '.join(argv[1:])}: no answer within {within:g} s") from None
    text = output.decode(errors="replace")
    if process.returncode:
        raise ProgramError(f"{' '.join(argv)}: {text.strip() or f'status {process.returncode}'}")
    return text


async def dialled(path: Path, limit: int, within: float = 5.0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a Unix socket whose name is there.

    The one place that asks again: a foreign daemon binds the name first and listens a moment later, and no event tells of the second.
    One that follows a killed one finds that one's name, takes it away and binds it anew: meanwhile there is none.
    Raises ProgramError after ``within`` seconds.
    """
    deadline = asyncio.get_running_loop().time() + within
    while True:
        try:
            return await asyncio.open_unix_connection(path, limit=limit)
        except (ConnectionRefusedError, FileNotFoundError):
            if asyncio.get_running_loop().time() > deadline:
                raise ProgramError(f"{path.name}: nobody listens there after {within:g} s") from None
            await asyncio.sleep(0.002)
