"""A fork server: imports what daemons need once, then forks a ready daemon into any network namespace in 1-2 ms.

The zygote is a Python process of its own, started while links are still being built; it talks to the lab process over a socket
pair (length-prefixed JSON, descriptors by SCM_RIGHTS). Its modules are frozen out of the garbage collector before the first
fork, so that children share its pages (2-3 MB each). A child has its own session (no Ctrl-C from the lab's terminal), its log
file as stdout and stderr, and dies with the zygote, which dies with the lab process.

The lab process is not the parent of what it spawns: a pidfd tells it at once that a child ended, and the zygote, how.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from harness.net.namespace import setns
from harness.net.supervisor import die_with_parent, name_process

_LENGTH = struct.Struct("=I")
_OUTSTANDING = 32  # requests in flight: neither side's socket buffer may fill while the other side writes too


class ZygoteError(RuntimeError):
    """The fork server is gone or could not fork; the text says which and where to look."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """What to start: ``entry`` "package.module:function", called with ``args`` in the namespace of ``netns_fd`` (None: the
    zygote's own). ``name`` is the process's name (15 characters); ``log_path`` is appended to, its folder made."""

    entry: str
    args: Sequence[Any]
    netns_fd: int | None
    name: str
    log_path: Path


def _send(stream: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    payload = json.dumps(message).encode()
    data = _LENGTH.pack(len(payload)) + payload
    sent = socket.send_fds(stream, [data], list(fds)) if fds else stream.send(data)
    stream.sendall(data[sent:])


def _receive(stream: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """One message and its descriptors. Raises EOFError when the other side is gone."""
    head, fds, _flags, _address = socket.recv_fds(stream, _LENGTH.size, 1)
    if not head:
        raise EOFError
    (length,) = _LENGTH.unpack(head + _exactly(stream, _LENGTH.size - len(head)))
    message: dict[str, Any] = json.loads(_exactly(stream, length))
    return message, fds


def _exactly(stream: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = stream.recv(length)
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


@dataclass(eq=False, slots=True)
class Child:
    """A forked process. ``pidfd`` becomes readable when it ends; exit codes are as in subprocess (-9: killed by SIGKILL)."""

    pid: int
    pidfd: int
    name: str
    _zygote: Zygote = field(repr=False)
    _status: int | None = None

    def alive(self) -> bool:
        return self._status is None and not self._ends_within(0)

    def _ends_within(self, timeout: float | None) -> bool:
        # Not select(): in a lab of a thousand nodes descriptors have numbers that it does not take (over 1,023).
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def kill(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal, to this process and never to a later one of the same number; nothing when it has ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutError after ``timeout`` seconds."""
        if self._status is None:
            if not self._ends_within(timeout):
                raise TimeoutError(f"{self.name} (process {self.pid}) did not end within {timeout} s")
            self._status = self._zygote.status_of(self.pid)
            os.close(self.pidfd)
        return self._status

    async def exited(self) -> int:
        """The exit code, awaited."""
        if self._status is None:
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[None] = loop.create_future()
            watch = os.dup(self.pidfd)  # several may await the same child; a selector takes a descriptor once
            loop.add_reader(watch, lambda: None if ended.done() else ended.set_result(None))
            try:
                await ended
            finally:
                loop.remove_reader(watch)
                os.close(watch)
        return self.wait()


class Zygote:
    """The lab's side of the fork server. Thread-safe; :meth:`start` returns at once, the first spawn waits for the imports."""

    def __init__(self, process: subprocess.Popen[bytes], stream: socket.socket) -> None:
        self._process = process
        self._stream = stream
        self._lock = threading.Lock()
        self._statuses: dict[int, int] = {}

    @classmethod
    def start(cls, preload: Sequence[str] = ()) -> Self:
        """Starts the server process, which imports the modules of ``preload`` meanwhile."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.net.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            )
        zygote = cls(process, ours)
        _send(ours, {"preload": list(preload)})
        return zygote

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def spawn(self, entry: str, args: Sequence[Any], netns_fd: int | None, name: str, log_path: Path) -> Child:
        """Forks one child and returns when it exists. Raises ZygoteError."""
        return self.spawn_all([Spawn(entry, args, netns_fd, name, log_path)])[0]

    def spawn_all(self, wanted: Iterable[Spawn]) -> list[Child]:
        """Forks many: the requests overlap the forks. Children in the order asked for. Raises ZygoteError."""
        children: list[Child] = []
        flying: collections.deque[Spawn] = collections.deque()
        with self._lock:
            for one in wanted:
                self._request(one)
                flying.append(one)
                if len(flying) == _OUTSTANDING:
                    children.append(self._forked(flying.popleft()))
            while flying:
                children.append(self._forked(flying.popleft()))
        return children

    def _request(self, one: Spawn) -> None:
        message = {"entry": one.entry, "args": list(one.args), "name": one.name, "log": str(one.log_path)}
        try:
            _send(self._stream, message, [] if one.netns_fd is None else [one.netns_fd])
        except OSError as error:
            raise self._gone() from error

    def _forked(self, one: Spawn) -> Child:
        while True:
            try:
                message, fds = _receive(self._stream)
            except (EOFError, ConnectionError) as error:
                raise self._gone() from error
            if "forked" in message:
                return Child(message["forked"], fds[0], one.name, self)
            if "refused" in message:
                raise ZygoteError(f"fork {one.name}: {message['refused']}")
            self._statuses[message["ended"]] = message["status"]

    def _gone(self) -> ZygoteError:
        code = self._process.wait()
        return ZygoteError(f"the zygote (process {self.pid}) ended with {code}; its standard error says why")

    def status_of(self, pid: int) -> int:
        """The exit code of a child that has ended. A child whose zygote died with it was killed: -9."""
        with self._lock:
            while pid not in self._statuses:
                try:
                    message, _fds = _receive(self._stream)
                except (EOFError, OSError):
                    return -signal.SIGKILL
                self._statuses[message["ended"]] = message["status"]
            return self._statuses.pop(pid)

    def stop(self) -> None:
        """Ends the zygote, and with it every child still alive, by SIGKILL."""
        self._stream.close()
        self._process.wait()


class _Server:
    """The zygote process itself."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._pid = os.getpid()
        self._wake, wake = socket.socketpair()
        self._wake.setblocking(False)
        wake.setblocking(False)
        self._wake_end = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Serves until the lab process closes its end."""
        gc.disable()
        _leave_no_core()
        first, _ = _receive(self._stream)
        for module in first["preload"]:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                ready, _, _ = select.select([self._stream, self._wake], [], [])
                if self._stream in ready:
                    message, fds = _receive(self._stream)
                    self._fork(message, fds)
                if self._wake in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wake.recv(4096)
                    self._bury()

    def _bury(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                _send(self._stream, {"ended": pid, "status": os.waitstatus_to_exitcode(status)})

    def _fork(self, message: dict[str, Any], fds: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            _send(self._stream, {"refused": f"{error.strerror}; see ulimit -u and the cgroup's pids.max"})
            return
        if pid == 0:
            self._become(message, fds)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        _send(self._stream, {"forked": pid}, [pidfd])
        os.close(pidfd)

    def _become(self, message: dict[str, Any], fds: list[int]) -> NoReturn:
        """In the child: everything of the zygote off, then the entry. Never returns."""
        die_with_parent()
        if (
            os.getppid() != self._pid
        ):  # it died before we asked to die with it; asked later, it would be too late to know who it was
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        name_process(message["name"])
        status = 1
        try:
            log = Path(message["log"])
            log.parent.mkdir(parents=True, exist_ok=True)
            written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            for standard in (1, 2):
                os.dup2(written, standard)
            os.close(written)
            for own in (self._stream, self._wake, self._wake_end):
                own.close()
            for fd in fds:
                setns(fd)
                os.close(fd)
            gc.enable()
            module, _, function = message["entry"].partition(":")
            status = getattr(importlib.import_module(module), function)(message["args"]) or 0
        except SystemExit as leaving:
            status = _system_exit(leaving.code)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


def _system_exit(code: object) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)  # noqa: T201
    return 1


def _leave_no_core() -> None:
    """A crash of what is forked from here, or of its children, leaves no image of its memory: keys are in it.

    core(5): a limit of 1 stops both a file and a program that a core would be piped into; 0 stops the file only.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (int(hard != 0), hard))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        inherited.set_inheritable(False)
        name_process("vbrlab-zygote")
        _Server(inherited).run()
