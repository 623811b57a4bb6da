"""Network namespaces held by a file descriptor: made, entered for a moment, configured, closed.

No names below /run/netns and no process to keep them: a namespace lives as long as a descriptor or a process of it does, so a
killed lab leaves none. Entering is the calling thread's own business (setns(2) works on threads); other threads stay where
they are. Python has ``os.setns`` from 3.12 on; Debian 12 has 3.11, hence ctypes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

CLONE_NEWNET = 0x40000000
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on every architecture
_FSCONFIG_CMD_CREATE, _CLOEXEC = 6, 1
_THREAD_NETNS = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(OSError):
    """A namespace could not be made or entered."""


class SysctlError(OSError):
    """A sysctl could not be set; the text names the namespace, the key, the value and the kernel's reason."""


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise NamespaceError(number, f"{what}: {os.strerror(number)}")


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Moves the calling thread into the namespace of ``fd``. Raises NamespaceError."""
    _checked(_libc.setns(fd, kind), f"enter the namespace of descriptor {fd}")


def unshare(kinds: int) -> None:
    """Gives the calling thread (for some kinds: process) fresh namespaces. Raises NamespaceError."""
    _checked(_libc.unshare(kinds), "make a namespace")


@contextlib.contextmanager
def entered(fd: int | None) -> Iterator[None]:
    """The calling thread inside the network namespace of ``fd`` (None: where it is), and back at the end. Nests."""
    if fd is None:
        yield
        return
    home = os.open(_THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


def socket_in(netns_fd: int | None, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that lives in the namespace of ``netns_fd`` for good, whoever uses it."""
    with entered(netns_fd):
        return socket.socket(family, kind, protocol)


class _Proc:
    """A procfs instance of our own, mounted nowhere, held by its descriptor.

    The kernel keeps the entries of /proc/sys/net of all namespaces in one hash chain for each mount, and walks it: with a thousand
    namespaces the first look-up in a new one takes 0.3 ms. An instance for every few namespaces keeps the chains short.
    """

    __slots__ = ("fd", "uses")

    _NAMESPACES = 32
    _latest: ClassVar[_Proc | None] = None

    def __init__(self) -> None:
        self.fd = _detached_procfs()
        self.uses = 0

    def __del__(self) -> None:
        os.close(self.fd)

    @classmethod
    def share(cls) -> _Proc:
        proc = cls._latest
        if proc is None or proc.uses >= cls._NAMESPACES:
            proc = cls._latest = _Proc()
        proc.uses += 1
        return proc


def _detached_procfs() -> int:
    """A descriptor of the root of a fresh procfs, or of /proc where the kernel refuses one."""
    context = _libc.syscall(_FSOPEN, b"proc", _CLOEXEC)
    if context >= 0:
        try:
            if _libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0) == 0:
                root: int = _libc.syscall(_FSMOUNT, context, _CLOEXEC, 0)
                if root >= 0:
                    return root
        finally:
            os.close(context)
    return os.open("/proc", os.O_PATH | os.O_CLOEXEC)


class Namespace:
    """A network namespace, open as ``fd`` until :meth:`close`. ``name`` is for error texts only."""

    __slots__ = ("_inode", "_proc", "fd", "name")

    _fresh: ClassVar[dict[str, str | None]] = {}

    def __init__(self, fd: int, name: str = "") -> None:
        self.fd = fd
        self.name = name
        self._inode: int | None = None
        self._proc: _Proc | None = None

    @classmethod
    def create(cls, name: str = "", sysctls: Mapping[str, str] | None = None) -> Self:
        """A new, empty namespace with ``lo`` down; ``sysctls`` are set on the way, which saves entering it again."""
        home = os.open(_THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWNET)
            try:
                made = cls(os.open(_THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC), name)
                if sysctls:
                    made._write(made._unlike_fresh(sysctls))
            finally:
                setns(home)
        finally:
            os.close(home)
        return made

    @classmethod
    def current(cls, name: str = "") -> Self:
        """The namespace of the calling thread."""
        return cls(os.open(_THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Namespace {self.name or '-'} fd={self.fd}>"

    @property
    def inode(self) -> int:
        """What identifies the namespace to the kernel: the number in ``/proc/PID/ns/net``."""
        if self._inode is None:
            self._inode = os.fstat(self.fd).st_ino
        return self._inode

    @property
    def closed(self) -> bool:
        return self.fd < 0

    def close(self) -> None:
        """Lets go. The kernel destroys the namespace with its links when the last process and socket are out of it."""
        if self.fd >= 0:
            self._inode = self.inode
            self._proc = None
            os.close(self.fd)
            self.fd = -1

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """``with ns.entered():`` the calling thread works inside; nothing asynchronous may be awaited meanwhile."""
        return entered(self.fd)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket inside, usable from anywhere."""
        return socket_in(self.fd, family, kind, protocol)

    def sysctl(self, values: Mapping[str, str]) -> None:
        """Sets ``{"net.ipv4.ip_forward": "1"}``; "/" for the dots where an interface name has one. Raises SysctlError.

        A key that ends in "?" is set where the kernel has it and passed over where not.
        """
        with self.entered():
            self._write(values)

    def _unlike_fresh(self, values: Mapping[str, str]) -> Mapping[str, str]:
        """Those of ``values`` that a fresh namespace, which this one still is, does not have by itself.

        A namespace starts from the host's settings or the kernel's, the same for each: they are read once for a process, since a
        write costs 10 us and most of a node's settings are what it starts with. Switching forwarding resets the redirects, so
        these are written where forwarding is.
        """
        fresh = Namespace._fresh
        for key in values:
            if key not in fresh:
                try:
                    fresh[key] = self._read(key.removesuffix("?"))
                except OSError:
                    fresh[key] = None
        unlike = {key for key, value in values.items() if fresh[key] != value}
        if any(key.removesuffix("?").endswith(("ip_forward", ".forwarding")) for key in unlike):
            unlike |= {key for key in values if "redirects" in key}
        return {key: value for key, value in values.items() if key in unlike}

    def _write(self, values: Mapping[str, str]) -> None:
        # The kernel walks /proc/sys slowly, a microsecond a component: each directory is walked once.
        directories: dict[str, int] = {}
        if self._proc is None:
            self._proc = _Proc.share()
        proc = self._proc.fd
        try:
            for key, value in values.items():
                name = key.removesuffix("?")
                directory, _, leaf = (name if "/" in name else name.replace(".", "/")).rpartition("/")
                try:
                    if directory not in directories:
                        directories[directory] = os.open(f"sys/{directory}", os.O_PATH | os.O_CLOEXEC, dir_fd=proc)
                    fd = os.open(leaf, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directories[directory])
                    try:
                        os.write(fd, value.encode())
                    finally:
                        os.close(fd)
                except FileNotFoundError as error:
                    if name == key:
                        raise self._refused(key, value, error) from error
                except OSError as error:
                    raise self._refused(key, value, error) from error
        finally:
            for fd in directories.values():
                os.close(fd)

    def _refused(self, key: str, value: str, error: OSError) -> SysctlError:
        where = f"node {self.name}" if self.name else "namespace"
        return SysctlError(error.errno, f"{where}: sysctl {key}={value}: {error.strerror}")

    def read_sysctl(self, key: str) -> str:
        """The value of a sysctl inside, stripped. Raises FileNotFoundError where the kernel has none of that name."""
        with self.entered():
            return self._read(key)

    @staticmethod
    def _read(key: str) -> str:
        return Path("/proc/sys/" + (key if "/" in key else key.replace(".", "/"))).read_text().strip()

    def popen(self, argv: list[str], **options: Any) -> subprocess.Popen[Any]:
        """``subprocess.Popen`` inside: the thread enters, forks by vfork, and is back. 0.6 ms.

        ``preexec_fn`` would undo the vfork; there is no need of it.
        """
        with self.entered():
            return subprocess.Popen(argv, **options)
