"""The door of a running sandbox: how a command from another terminal gets into one of its nodes.

The supervisor binds an abstract Unix socket on the host's side, ``@vbrlab/UID/PID/NAME``, before it goes inside; main inherits
it. Nothing is on disk, and the name is gone when the lab is. A visitor connects from the host and asks
``{"op": "enter", "node": "gw1"}``; the lab answers with the namespaces' descriptors (SCM_RIGHTS) if the visitor's uid
(SO_PEERCRED) is its own. ``{"op": "control"}`` is answered with a connection to the lab's own control socket, which is inside. Root
visits as the lab's owner. The visitor's command then lives in the lab's PID namespace and dies with the lab, while its terminal stays
the visitor's.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from harness.net import supervisor
from harness.net.namespace import NamespaceError, setns

_NAMESPACES = {
    "user": supervisor.CLONE_NEWUSER,
    "mnt": supervisor.CLONE_NEWNS,
    "net": supervisor.CLONE_NEWNET,
    "pid": supervisor.CLONE_NEWPID,
}
_HANDED_ON = ("VBRLAB_SANDBOX", "VBRLAB_RUN", "TMPDIR")
_OF_TERMINALS = (signal.SIGINT, signal.SIGQUIT)
_ANSWER_WITHIN = 5.0
_MESSAGE = 1 << 16


class JoinError(Exception):
    """A running lab could not be entered: no such lab or node, not ours, or not answering."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A running sandbox: its name, its owner and its supervisor's process id."""

    name: str
    uid: int
    pid: int

    @property
    def socket_name(self) -> str:
        return f"\0{supervisor.DOOR_PREFIX}{self.uid}/{self.pid}/{self.name}"


class Door:
    """Answers visitors, in a thread of its own, for the lab process. ``resolve`` maps a node's name to the descriptor of its
    network namespace and raises KeyError for an unknown one; ``nodes`` lists the names for that error's text. ``control`` is the path
    of the lab's control socket (``harness.control``), where it has one.
    """

    def __init__(
        self, resolve: Callable[[str], int], nodes: Callable[[], Iterable[str]], control: Path | None = None
    ) -> None:
        self._resolve = resolve
        self._nodes = nodes
        self._control = control
        self._socket: socket.socket | None = None
        number = os.environ.pop("VBRLAB_DOOR", None)
        if number is not None:
            self._socket = socket.socket(fileno=int(number))
            self._socket.set_inheritable(False)
            threading.Thread(target=self._serve, name="door", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """No more visitors; the name is free. Those inside stay until the lab ends."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None

    def _serve(self) -> None:
        listening = self._socket
        while listening is not None:
            try:
                visitor, _ = listening.accept()
            except OSError:
                return
            with visitor, contextlib.suppress(OSError, ValueError):
                visitor.settimeout(_ANSWER_WITHIN)
                self._answer(visitor)

    def _answer(self, visitor: socket.socket) -> None:
        request = json.loads(visitor.recv(_MESSAGE))
        _pid, uid, _gid = struct.unpack("=iII", visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            return self._refuse(visitor, "this lab belongs to another user; ask its owner, or join as root")
        operation = request.get("op")
        if operation == "nodes":
            visitor.send(json.dumps({"nodes": list(self._nodes())}).encode())
            return None
        if operation == "control":
            return self._connect(visitor)
        if operation != "enter":
            return self._refuse(visitor, f"unknown operation {operation!r}; there are control, enter and nodes")
        node = request.get("node")
        with contextlib.ExitStack() as opened:
            fds = []
            kinds = [kind for kind in _NAMESPACES if kind != "user" or _in_user_namespace()]
            for kind in kinds:
                if kind == "net" and node is not None:
                    try:
                        fds.append(self._resolve(node))
                    except KeyError:
                        return self._refuse(visitor, f"no node {node!r}; there are {', '.join(self._nodes())}")
                    continue
                fds.append(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
                opened.callback(os.close, fds[-1])
            environment = {key: os.environ[key] for key in _HANDED_ON if key in os.environ}
            socket.send_fds(visitor, [json.dumps({"kinds": kinds, "env": environment}).encode()], fds)
        return None

    def _connect(self, visitor: socket.socket) -> None:
        if self._control is None:
            return self._refuse(visitor, "it has no console; vbrlab vbr needs a lab with a virtual border router")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._control))
            socket.send_fds(visitor, [json.dumps({"control": True}).encode()], [connection.fileno()])
        return None

    @staticmethod
    def _refuse(visitor: socket.socket, reason: str) -> None:
        visitor.send(json.dumps({"error": reason}).encode())


def _in_user_namespace() -> bool:
    """The initial user namespace maps every uid there is; a sandbox's maps one."""
    return Path("/proc/self/uid_map").read_text().split()[2] == "1"


def running() -> list[Lab]:
    """The sandboxes of this machine (of this network namespace, to be exact), whoever owns them, oldest first."""
    found = set()
    for line in Path("/proc/net/unix").read_text().splitlines():
        _, _, path = line.partition(f"@{supervisor.DOOR_PREFIX}")
        parts = path.split("/", 2)
        if len(parts) == 3:
            found.add(Lab(parts[2], int(parts[0]), int(parts[1])))
    return sorted(found, key=lambda lab: lab.pid)


def find(name: str) -> Lab:
    """The one running lab called ``name``, or NAME-PID where several are. Raises JoinError naming those that run."""
    labs = running()
    matching = [lab for lab in labs if name in (lab.name, f"{lab.name}-{lab.pid}")]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(f"{lab.name}-{lab.pid}" for lab in matching or labs)
    if matching:
        raise JoinError(f"lab {name!r} runs {len(matching)} times; say which: {names}")
    raise JoinError(f"no lab {name!r} is running; {'there are ' + names if names else 'vbrlab up starts one'}")


def ask(lab: Lab, request: Mapping[str, Any], *, within: float = _ANSWER_WITHIN) -> tuple[dict[str, Any], list[int]]:
    """One request through the door: the answer, and the descriptors that came with it. Raises JoinError."""
    own = os.geteuid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(within)
        try:
            if own == 0 and lab.uid != 0:
                os.seteuid(lab.uid)  # the credentials of connect(2) are what the lab sees
            try:
                connection.connect(lab.socket_name)
            finally:
                os.seteuid(own)
            connection.send(json.dumps(request).encode())
            data, fds, _flags, _address = socket.recv_fds(connection, _MESSAGE, len(_NAMESPACES))
        except TimeoutError as error:
            raise JoinError(f"lab {lab.name}: its process {lab.pid} does not answer; is it still starting?") from error
        except OSError as error:
            raise JoinError(f"lab {lab.name}: {error.strerror}; it has just ended") from error
    if not data:
        raise JoinError(f"lab {lab.name}: it closed the door; it has just ended")
    answer: dict[str, Any] = json.loads(data)
    if "error" in answer:
        raise JoinError(f"lab {lab.name}: {answer['error']}")
    return answer, fds


def control(lab: Lab, *, within: float = _ANSWER_WITHIN) -> socket.socket:
    """A connection to the control socket of a running lab. Raises JoinError where it has none."""
    _, fds = ask(lab, {"op": "control"}, within=within)
    return socket.socket(fileno=fds[0])


def join(name: str, node: str | None, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Runs ``argv`` in ``node`` of the running lab ``name`` (None: beside the lab's own process) and returns its exit code.

    The command has this process's terminal, files and working directory, and the lab's PID namespace: when the lab ends, it ends
    (137). What other processes tell this one (SIGTERM, SIGHUP, SIGINT, SIGQUIT) goes on to it; Ctrl-C reaches it by itself. Raises
    JoinError before anything is started.
    """
    lab = find(name)
    answer, fds = ask(lab, {"op": "enter", "node": node})
    environment = {**os.environ, **answer["env"], **(env or {})}
    parent_alive, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        _enter(lab, dict(zip(answer["kinds"], fds, strict=True)), argv, environment, parent_alive)
    os.close(parent_alive)
    for fd in fds:
        os.close(fd)
    try:
        with _passing_on(child):
            return supervisor.exit_code(os.waitpid(child, 0)[1])
    finally:
        os.close(held)


@contextlib.contextmanager
def _passing_on(child: int) -> Iterator[None]:
    """Meanwhile signals go to ``child`` instead of this process; those of its terminal reach both, and are for ``child`` alone."""

    def tell(number: int, _frame: object) -> None:
        if number not in _OF_TERMINALS or not _at_terminal():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    before = {one: signal.signal(one, tell) for one in (signal.SIGTERM, signal.SIGHUP, *_OF_TERMINALS)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _at_terminal() -> bool:
    """Is this process in the foreground of a terminal, so that Ctrl-C goes to it and to all it has started?"""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _end_with_visitor(alive: int) -> None:
    """The kernel kills this process with its parent; ``alive`` is at its end where the visitor had gone before that was asked for."""
    supervisor.die_with_parent()
    if select.select([alive], [], [], 0)[0]:
        os._exit(supervisor.REFUSED)


def _enter(
    lab: Lab, namespaces: Mapping[str, int], argv: Sequence[str], environment: dict[str, str], parent_alive: int
) -> NoReturn:
    """In the child: into the namespaces, and one fork more, since a PID namespace is entered by birth."""
    try:
        _end_with_visitor(parent_alive)
        directory = os.getcwd()  # noqa: PTH109
        if os.geteuid() == 0 and lab.uid != 0:
            os.setgroups([])
            os.setresgid(*[Path(f"/proc/{lab.pid}").stat().st_gid] * 3)
        for kind, fd in namespaces.items():
            setns(fd, _NAMESPACES[kind])
        if "user" in namespaces:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        signals = supervisor.Signals()
        command = os.fork()
        if command == 0:
            _end_with_visitor(parent_alive)
            os.close(parent_alive)
            signal.pthread_sigmask(signal.SIG_SETMASK, signals.before)
            with contextlib.suppress(OSError):
                os.chdir(directory)
            for one in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(one, signal.SIG_DFL)
            os.execvpe(argv[0], list(argv), environment)
        os._exit(supervisor.exit_code(signals.wait_for(command, reap_all=False)))
    except FileNotFoundError as error:
        _fail(f"{argv[0]}: {error.strerror}", supervisor.NOT_FOUND)
    except (OSError, NamespaceError) as error:
        _fail(f"lab {lab.name}: {error.strerror}", supervisor.REFUSED)


def _fail(text: str, code: int) -> NoReturn:
    print(f"vbrlab: {text}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(code)
