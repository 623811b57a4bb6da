"""One ``charon-systemd`` as a child process: started, watched, its log read, ended.

It needs no systemd. Readiness comes by the notification protocol of ``sd_notify(3)`` on a socket of ours, its end by a pidfd,
its log by a pipe from its stderr: nothing here asks again and again. charon writes a line to the pipe before it raises the vici
event that follows from it, so whoever calls :meth:`Charon.drain` before looking at an event has read the reason already.

The parent's death ends it (PR_SET_PDEATHSIG): no daemon outlives its lab. Not here: what it is told (``strongswan``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.patience import stretched

_KEPT_LINES = 2000
_PR_SET_PDEATHSIG = 1
_PRIORITY = -10
_PIDFD_GETFD = 438  # the same on every architecture
_RECEIVE_BUFFER = 4 << 20
_libc = ctypes.CDLL(None)


class CharonError(Exception):
    """charon could not be started; the text has its last words and what to do."""


def program() -> str:
    """The path of charon-systemd. Raises CharonError naming the package when it is not installed."""
    found = shutil.which("charon-systemd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise CharonError(
            "charon-systemd is not installed; apt install --no-install-recommends charon-systemd strongswan-swanctl "
            "libcharon-extra-plugins libstrongswan-standard-plugins"
        )
    return found


def _widen(pidfd: int, number: int) -> None:
    """Gives descriptor ``number`` of a process _RECEIVE_BUFFER octets to receive into where it is a UDP socket."""
    borrowed = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if borrowed < 0:
        return
    if not stat.S_ISSOCK(os.fstat(borrowed).st_mode):
        os.close(borrowed)
        return
    with socket.socket(fileno=borrowed) as found:
        if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_DGRAM:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


class Charon:
    """A running charon. ``on_line(time, line)`` gets each line of its log, ``on_exit(status)`` its end, both on the event loop."""

    def __init__(self, directory: Path, on_line: Callable[[float, str], None], on_exit: Callable[[int], None]) -> None:
        self.lines: deque[tuple[float, str]] = deque(maxlen=_KEPT_LINES)
        self._directory = directory
        self._on_line = on_line
        self._on_exit = on_exit
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: asyncio.Future[int] | None = None
        self._log = -1
        self._rest = b""
        self._file = os.open(
            directory / "charon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode=0o600
        )

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def vici_socket(self) -> Path:
        return self._directory / "vici"

    async def start(self, configuration: str, within: float = 10.0) -> None:
        """Starts it in the namespace of the calling process and returns when it serves vici. Raises CharonError."""
        path = self._directory / "strongswan.conf"
        path.write_text(configuration)
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind("")  # an abstract name of the kernel's choice: private to the namespace, nothing on disk
            notify.setblocking(False)

            def notified() -> None:
                if b"READY=1" in notify.recv(4096):
                    ready.set()

            environment = {
                "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                "STRONGSWAN_CONF": str(path),
                "NOTIFY_SOCKET": "@" + notify.getsockname()[1:].decode(),
            }
            loop.add_reader(notify, notified)
            try:
                ended = self._launch(environment)
                waiting = asyncio.ensure_future(ready.wait())
                either: set[asyncio.Future[Any]] = {waiting, ended}
                await asyncio.wait(either, timeout=stretched(within), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
            finally:
                loop.remove_reader(notify)
        if not ready.is_set():
            words = "; ".join(line for _, line in list(self.lines)[-3:])
            if not ended.done():
                await self.stop(grace=0.0)
            raise CharonError(f"charon did not start (status {ended.result()}): {words or 'it said nothing'}")
        self._widen_sockets()

    def _widen_sockets(self) -> None:
        """Larger receive buffers for the UDP sockets: in the userspace plane all ESP comes by them, and the kernel's default holds a
        twentieth of a second of a lab's load. charon has no setting for it, so its sockets are borrowed; where that is refused they
        stay as they are.
        """
        assert self._process is not None
        pid = self._process.pid
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            try:
                for each in Path(f"/proc/{pid}/fd").iterdir():
                    _widen(pidfd, int(each.name))
            finally:
                os.close(pidfd)

    def _launch(self, environment: dict[str, str]) -> asyncio.Future[int]:
        loop = asyncio.get_running_loop()
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            # In the userspace plane every packet passes through it: it goes before those who send them. Root's privilege.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)

        self._log, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_end, True)
        try:
            self._process = subprocess.Popen(
                [program()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=write_end,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        pidfd = os.pidfd_open(self._process.pid)
        ended: asyncio.Future[int] = loop.create_future()
        self._ended = ended

        def gone() -> None:
            assert self._process is not None
            loop.remove_reader(pidfd)
            os.close(pidfd)
            status = self._process.wait()
            self.drain()
            loop.remove_reader(self._log)
            os.close(self._log)
            self._log = -1
            self._process = None
            ended.set_result(status)
            self._on_exit(status)

        loop.add_reader(pidfd, gone)
        loop.add_reader(self._log, self.drain)
        return ended

    def drain(self) -> None:
        """Reads what the log holds by now."""
        while self._log >= 0:
            try:
                data = os.read(self._log, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                asyncio.get_running_loop().remove_reader(self._log)
                return
            now = time.monotonic()
            *whole, self._rest = (self._rest + data).split(b"\n")
            for raw in whole:
                line = raw.decode(errors="replace")
                os.write(self._file, f"{now:.3f} {line}\n".encode())
                self.lines.append((now, line))
                self._on_line(now, line)

    async def stop(self, grace: float = 2.0) -> int | None:
        """Ends it: SIGTERM, upon which it sends its peers DELETE, and SIGKILL after ``grace`` seconds. Returns its status."""
        if self._process is None or self._ended is None:
            return None
        if grace > 0:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    return await asyncio.shield(self._ended)
        if self._process is not None:
            self._process.kill()
        return await self._ended

    def close(self) -> None:
        """Lets go of the log file. The process must have ended."""
        os.close(self._file)
