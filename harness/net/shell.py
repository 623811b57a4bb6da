"""A node's bash, started when it is first needed.

Mininet's Node is a bash on a pseudo-terminal, and starting one takes longer than building the node's network. Most nodes of a
lab never run a shell command, so the attributes that stand for the shell (``shell``, ``pid``, ``stdin``...) start it when they are
first read. What is said over the terminal is Mininet's own: a prompt of one octet 127 ends each command's output.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import termios
from typing import Any

SENTINEL = chr(127)
_HANGUP_WITHIN = 1.0


class FromShell:
    """An attribute of a node that is None until somebody reads it, which starts the node's bash."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_shell_{name}"

    def __get__(self, node: Any, owner: type | None = None) -> Any:
        if node is None:
            return self
        value = node.__dict__.get(self._name)
        if value is None and node.shell_wanted():
            node.start_bash()
            value = node.__dict__.get(self._name)
        return value

    def __set__(self, node: Any, value: Any) -> None:
        node.__dict__[self._name] = value


class Bash:
    """A bash on a pseudo-terminal of its own, as its controlling terminal, so that octet 3 interrupts what runs in it."""

    def __init__(self, popen: Any, title: str, prefix: tuple[str, ...] = ()) -> None:
        """``popen`` starts a process in the node, as ``subprocess.Popen`` does; ``prefix`` goes before the command."""
        self.master, self.slave = pty.openpty()
        modes = termios.tcgetattr(self.slave)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(self.slave, termios.TCSANOW, modes)
        self.process: subprocess.Popen[bytes] = popen(
            ["setsid", "--ctty", *prefix, "bash", "--norc", "--noediting", "-is", title],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**os.environ, "PS1": SENTINEL, "HISTFILE": ""},
        )
        self.stdin = os.fdopen(self.master, "r")
        self.poll = select.poll()
        self.poll.register(self.master)

    def close(self) -> None:
        """Hangs up: bash and what runs in its session end. Waits for bash."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGHUP)
        self.stdin.close()
        os.close(self.slave)
        try:
            self.process.wait(_HANGUP_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
