"""The program that runs a command in a sandbox: ``python -I -S supervisor.py NAME COMMAND...``. Started by ``sandbox.reexec``.

Three processes: the **supervisor** (this one, outside, which users and shells see and signal), **PID 1** of a new PID
namespace (mounts, reaps, passes signals on), and **main**, the command. New mount and network namespaces too, and a user
namespace when root's rights are missing. The end of any one is the end of all: the supervisor's death kills PID 1
(PR_SET_PDEATHSIG), PID 1's death kills everything inside (pid_namespaces(7)), main's death ends PID 1. The kernel then drops
links, namespaces, mounts and the tmpfs by itself, so there is nothing to clean up.

Standard library only and no ``site``: it must start in milliseconds and be able to say why it cannot.

Terminal: all three stay in the caller's process group, so that main may read the terminal and Ctrl-C and Ctrl-Z reach it
straight from the kernel. Signals that a *process* sent to the supervisor are passed on to main; those of the kernel have
reached main already and are not sent twice.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
DOOR_PREFIX = "vbrlab/"
REFUSED = 125
NOT_FOUND = 127

MS_NOSUID, MS_NODEV, _MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1

FORWARDED = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
_AWAITED = FORWARDED | {signal.SIGCHLD}

_libc = ctypes.CDLL(None, use_errno=True)


class Refusal(Exception):
    """The kernel or the machine's settings forbid a sandbox: the text is one line that says what to do."""


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent() -> None:
    """The kernel kills the calling process when its parent('s thread) dies; the caller rules out that it is dead already."""
    _call(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0))


def name_process(name: str) -> None:
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def isolate() -> bool:
    """Fresh mount, network and (for children) PID namespaces for this process; True when a user namespace was needed.

    Raises Refusal. Rootless, uid and gid 0 inside are the caller's own outside.
    """
    kinds = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _libc.unshare(kinds) == 0:
        return False
    if _libc.unshare(CLONE_NEWUSER | kinds) != 0:
        raise Refusal(_no_user_namespace(ctypes.get_errno()))
    try:
        for path, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{path}", "w") as file:
                file.write(text)
    except OSError as error:
        raise Refusal(f"user namespace: the kernel refuses to map uid {uid} ({error.strerror}); run as root") from error
    return True


def _no_user_namespace(number: int) -> str:
    reason = os.strerror(number)
    for path, off, remedy in (
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        try:
            with open(path) as file:
                value = file.read().strip()
        except OSError:
            continue
        if value == off:
            return f"user namespaces are switched off here ({reason}); run as root, or as root once: {remedy}"
    return f"the kernel refuses new namespaces ({reason}); run as root, in a container with --privileged"


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if word is None else word.encode() for word in (source, target, kind)]
    _call(_libc.mount(*encoded, ctypes.c_ulong(flags), None if options is None else options.encode()))


def furnish(lab_id: str) -> dict[str, str]:
    """Private mounts, fresh /proc, /sys, /run and /dev/shm, ``lo`` up; the environment that describes it. Raises Refusal."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    guarded = MS_NOSUID | MS_NODEV
    try:
        mount("proc", "/proc", "proc", guarded | _MS_NOEXEC)
    except OSError as error:
        raise Refusal(
            f"/proc: the kernel refuses a fresh one ({error.strerror}): this container hides parts of its own; "
            "start it with --privileged, or with --security-opt systempaths=unconfined"
        ) from error
    with contextlib.suppress(PermissionError):  # a container that hides parts of /sys: the outer one stays
        mount("sysfs", "/sys", "sysfs", guarded | _MS_NOEXEC)
    for target in ("/run", "/dev/shm"):
        if os.path.isdir(target):  # noqa: PTH112 (pathlib costs a third of this program's start)
            mount("tmpfs", target, "tmpfs", guarded, "mode=0755" if target == "/run" else "mode=1777")
    run, temporary = f"/run/vbrlab/{lab_id}", "/run/tmp"
    os.makedirs(run, 0o755)  # noqa: PTH103
    os.mkdir(temporary, 0o1777)  # noqa: PTH102
    _loopback_up()
    return {
        "VBRLAB_SANDBOX": f"{os.stat('/proc/self/ns/pid').st_ino}:{lab_id}",  # noqa: PTH116
        "VBRLAB_RUN": run,
        "TMPDIR": temporary,
    }


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def exit_code(status: int) -> int:
    """A wait status as a shell would say it: the exit code, or 128 and the signal's number."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


class Signals:
    """The signals this process waits for instead of being interrupted by them; ``before`` is the mask to give back to main."""

    def __init__(self) -> None:
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)

    def wait_for(self, child: int, reap_all: bool) -> int:
        """The wait status of ``child``; meanwhile passes on what processes send. ``reap_all``: buries orphans too (PID 1)."""
        while True:
            told = signal.sigwaitinfo(_AWAITED)
            if told.si_signo == signal.SIGCHLD:
                status = _reap(child, reap_all)
                if status is not None:
                    return status
            elif told.si_code <= 0:  # SI_USER and the like: by a process, not by the terminal
                os.kill(child, told.si_signo)


def _reap(child: int, reap_all: bool) -> int | None:
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1 if reap_all else child, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def _pid_1(lab_id: str, argv: list[str], door: socket.socket, life: int, signals: Signals) -> NoReturn:
    die_with_parent()
    if select.select([life], [], [], 0)[0]:  # end of file: the supervisor died before we asked to die with it
        os._exit(REFUSED)
    name_process("vbrlab-init")
    directory = os.getcwd()  # noqa: PTH109
    try:
        environment = furnish(lab_id)
    except Refusal as refusal:
        _complain(refusal)
        os._exit(REFUSED)
    main = os.fork()
    if main == 0:
        os.close(life)
        _main(argv, environment, directory, door, signals)
    door.close()
    os.chdir("/")
    os._exit(exit_code(signals.wait_for(main, reap_all=True)))


def _main(
    argv: list[str], environment: dict[str, str], directory: str, door: socket.socket, signals: Signals
) -> NoReturn:
    os.chdir(directory)
    os.environ.update(environment, VBRLAB_DOOR=str(door.fileno()))
    os.environ.pop("XDG_RUNTIME_DIR", None)  # below the /run that is hidden
    door.set_inheritable(True)
    for one in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would hand that on
        signal.signal(one, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, signals.before)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"vbrlab: {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(NOT_FOUND)


class Terminal:
    """The caller's terminal, given back as it was: a killed main may leave it raw, or in the hands of a dead process group."""

    def __init__(self) -> None:
        self._modes: list[int | list[bytes | int]] | None = None
        try:
            if os.tcgetpgrp(0) == os.getpgrp():
                self._modes = termios.tcgetattr(0)
        except (OSError, termios.error):
            pass

    def give_back(self) -> None:
        if self._modes is None:
            return
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            if os.tcgetpgrp(0) != os.getpgrp():
                os.tcsetpgrp(0, os.getpgrp())
            termios.tcsetattr(0, termios.TCSADRAIN, self._modes)
        except (OSError, termios.error):
            pass  # the terminal is gone


def _complain(refusal: Refusal) -> None:
    print(f"vbrlab: no sandbox: {refusal}", file=sys.stderr, flush=True)  # noqa: T201


def supervise(name: str, argv: list[str]) -> int:
    """Runs ``argv`` in a sandbox called ``name`` and returns its exit code (128 and more: killed by a signal)."""
    lab_id = f"{name}-{os.getpid()}"
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    door.bind(f"\0{DOOR_PREFIX}{os.getuid()}/{os.getpid()}/{name}")
    door.listen(16)
    terminal = Terminal()
    signals = Signals()
    try:
        isolate()
    except Refusal as refusal:
        _complain(refusal)
        return REFUSED
    life, alive = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(alive)
        _pid_1(lab_id, argv, door, life, signals)
    os.close(life)
    door.close()
    status = signals.wait_for(child, reap_all=False)
    terminal.give_back()
    return exit_code(status)


if __name__ == "__main__":
    os._exit(supervise(sys.argv[1], sys.argv[2:]))
