"""FRR's vty sockets: commands to one of its daemons, as ``vtysh`` sends them (``lib/vty.c``, ``vtysh_read``).

A command ends with a zero octet; the answer ends with three zero octets and one octet of status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from harness.daemons.program import ProgramError, dialled

_END = b"\0\0\0"
_LIMIT = 256 * 1024 * 1024
CMD_SUCCESS, CMD_WARNING = 0, 1


class Vty:
    """One open vty. Commands are answered in turn."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._name, self._reader, self._writer = name, reader, writer
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> Vty:
        reader, writer = await dialled(path, _LIMIT)
        vty = cls(path.stem, reader, writer)
        await vty.ask("enable")
        return vty

    async def ask(self, command: str) -> str:
        """The answer to a command. Raises ProgramError with the daemon's words when it refuses."""
        async with self._turn:
            status, text = await self._exchange(command)
        if status not in (CMD_SUCCESS, CMD_WARNING):
            raise ProgramError(f"{self._name}: {_without_key(command)}: {text.strip() or f'status {status}'}")
        return text

    async def configure(self, commands: Iterable[str]) -> None:
        """Runs commands of the configuration mode, all of them. Raises ProgramError naming the first that is refused."""
        refused = None
        async with self._turn:
            for command in ("configure terminal", *commands, "end"):
                status, text = await self._exchange(command)
                if status not in (CMD_SUCCESS, CMD_WARNING) and refused is None:
                    refused = f"{self._name}: {_without_key(command)}: {text.strip() or f'status {status}'}"
        if refused is not None:
            raise ProgramError(refused)

    async def _exchange(self, command: str) -> tuple[int, str]:
        self._writer.write(command.encode() + b"\0")
        raw = await self._reader.readuntil(_END)
        (status,) = await self._reader.readexactly(1)
        return status, raw[: -len(_END)].decode(errors="replace")

    def close(self) -> None:
        self._writer.close()


def _without_key(command: str) -> str:
    head, word, _ = command.partition(" password ")
    return f"{head}{word}***" if word else command
