"""The sandbox, as seen from Python: are we inside, get inside, what forbids it, which sandboxes run.

Everything of vbrlab that touches the network runs in private mount, PID and network namespaces (and a user namespace when not
root), so that nothing can leak, nothing can reach the host's network and two runs cannot meet. The program that makes them is
``supervisor``; this module only starts it. Entering another terminal's sandbox is ``door``'s.

Inside, the environment has VBRLAB_SANDBOX (the PID namespace's inode and the lab's id), VBRLAB_RUN (a directory on the
sandbox's own tmpfs), VBRLAB_DOOR (see ``door``) and a TMPDIR that goes away with the sandbox.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from harness.net import supervisor
from harness.net.door import JoinError, Lab, find, join, running
from harness.net.supervisor import Refusal

__all__ = [
    "JoinError",
    "Lab",
    "NotInside",
    "Refusal",
    "find",
    "inside",
    "join",
    "lab_id",
    "reexec",
    "refusal",
    "run_directory",
    "running",
    "tun_refusal",
]


class NotInside(Exception):
    """Something that must not touch the host was asked for outside of a sandbox."""


def inside() -> bool:
    """Is this process in a sandbox? An environment variable that leaked from one is not believed: the kernel is asked."""
    inode, _, _ = os.environ.get("VBRLAB_SANDBOX", "").partition(":")
    return inode == str(Path("/proc/self/ns/pid").stat().st_ino)


def lab_id() -> str:
    """The name and number of this sandbox, unique on the machine. Raises NotInside."""
    if not inside():
        raise NotInside("this process is in no sandbox; start it by sandbox.reexec, vbrlab or pytest")
    return os.environ["VBRLAB_SANDBOX"].partition(":")[2]


def run_directory() -> Path:
    """Where sockets and logs of the lab live: on the sandbox's tmpfs, seen by every node. Raises NotInside."""
    return Path("/run/vbrlab") / lab_id()


def reexec(argv: Sequence[str], *, name: str, env: Mapping[str, str] | None = None) -> NoReturn:
    """Replaces this process by a supervisor that runs ``argv`` in a sandbox and exits with its status. Never returns.

    ``argv[0]`` is looked up in PATH; ``env`` is added to the environment. Open files that are not inheritable are closed, as by
    any exec. Where a sandbox is refused, the supervisor says so in one line and exits 125: ask :func:`refusal` first.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if "/" in name or "\0" in name:
        raise ValueError(f"sandbox name {name!r}: no slash and no NUL, it becomes a path; choose another")
    command = [sys.executable, "-I", "-S", supervisor.__file__, name, *argv]
    os.execve(sys.executable, command, {**os.environ, **(env or {})})


def refusal() -> str | None:
    """None when a sandbox can be made here, else one line that says why not and what to do. Tries it in a child: 2 ms."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            supervisor.isolate()
            grandchild = os.fork()
            if grandchild == 0:
                supervisor.furnish("probe")
                os._exit(0)
            os.waitpid(grandchild, 0)
        except Refusal as error:
            os.write(writing, str(error).encode())
        except OSError as error:
            os.write(writing, f"{error.strerror}; run as root".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text or None


def tun_refusal() -> str | None:
    """None when this user can open /dev/net/tun, else one line with the remedy."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return "/dev/net/tun does not exist; as root: modprobe tun (in a container: --device /dev/net/tun)"
    except OSError as error:
        return f"/dev/net/tun cannot be opened ({error.strerror}); as root: chmod 0666 /dev/net/tun, or run as root"
    return None
