"""The prompt inside a running lab: Mininet's command line, with the words of a router's.

``gw1 ip route`` runs a command in a node, ``link gw1 internet down`` cuts a cable, both as in Mininet. Added here: ``link gw1 internet
delay 40ms loss 1%``, ``NODE show bgp`` (also ``summary``, ``neighbors``, ``fib``, ``sa``, ``tunnel``), ``tables``, ``refused``,
``events``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from harness import links
from harness.bgp import render
from harness.control import ControlError, call
from harness.net.stock import CLI
from harness.refusals import refused_by_any_group

if TYPE_CHECKING:
    from harness.lab import Lab

Run = Callable[[Coroutine[Any, Any, Any]], Any]

_EVENTS_SHOWN = 30

#: ``NODE show WORD``: the daemon asked, its method, and how its answer is rendered.
SHOWN: dict[str, tuple[str, str, Callable[..., str]]] = {
    "bgp": ("bgp", "show.routes", render.routes),
    "summary": ("bgp", "show.summary", render.summary),
    "neighbors": ("bgp", "show.neighbors", render.neighbors),
    "fib": ("bgp", "show.fib", render.fib),
    "nexthops": ("bgp", "show.nexthops", render.next_hops),
    "sa": ("ipsec", "show.sas", lambda answer, **_: json.dumps(answer, indent=1)),
    "tunnel": ("ipsec", "show.status", lambda answer, **_: json.dumps(answer, indent=1)),
}

#: What ``help`` ends with, in the place of Mininet's words about its own prompt.
HELP = f"""A line that begins with a node's name runs in that node: NODE ip route. Names of nodes in it become their addresses.
  NODE show WORD     asks its daemon; WORD is {", ".join(SHOWN)}
  link A B up|down   mends or cuts the cable between two nodes
  link A B delay 40ms jitter 5ms loss 1% rate 10mbit
                     makes each direction so; what is not named stays, none takes a value away. link A -> B: what A sends
  link A B clear     as the lab began; link A B alone says how it is
  refused            what the security groups of the instances let not in, and why
  tables             the route tables of the console, read from the running nodes
  events [N]         the last events of the lab
Ctrl-D ends the lab. The other words are Mininet's: help WORD.

"""


class Console(CLI):  # type: ignore[misc]
    """A prompt until Ctrl-D or ``exit``. ``run`` runs the lab's own coroutines; without it ``tables`` starts a loop for each call."""

    def __init__(self, lab: Lab, run: Run = asyncio.run, banner: str = "") -> None:
        self.lab, self._run_in_lab = lab, run
        self._begun = False
        # Mininet takes the stdin of its import, which under pytest is not the terminal.
        super().__init__(lab.net, stdin=sys.stdin)
        self.prompt = f"{lab.plan.name}> "
        if banner:
            self.stdout.write(banner + "\n")

    def run(self) -> None:
        """Reads lines until the end. (Mininet's constructor calls this too early; the first call does nothing.)"""
        if not self._begun:
            self._begun = True
            return
        super().run()

    helpStr = HELP  # noqa: N815 (Mininet's)

    @classmethod
    def initReadline(cls) -> None:  # noqa: N802 (Mininet's)
        """Line editing without Mininet's history file in the home folder: a lab leaves nothing behind."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (importing it is what turns it on)

    def default(self, line: str) -> None:
        words = line.split()
        if len(words) >= 3 and words[1] == "show" and words[0] in self.lab.nodes:
            self.stdout.write(show(self.lab, words[0], words[2], color=self.stdout.isatty()) + "\n")
        else:
            super().default(line)

    def do_link(self, line: str) -> None:
        """link A B up|down, link A B delay 40ms jitter 5ms loss 1% rate 10mbit, link A -> B ..., link A B clear, link A B"""
        words = line.split()
        if len(words) == 3 and words[2] in ("up", "down"):
            super().do_link(line)
        else:
            self.stdout.write(self._run_in_lab(_link(self.lab, words)) + "\n")

    def do_tables(self, line: str) -> None:  # noqa: ARG002 (cmd.Cmd's signature)
        """tables: the route tables of the console, read from the running nodes."""
        self.stdout.write(self.tables() + "\n")

    def do_refused(self, line: str) -> None:  # noqa: ARG002 (cmd.Cmd's signature)
        """refused: what the security groups of the instances let not in since they were last changed, with rule and remedy."""
        lines = self._run_in_lab(refused_by_any_group(self.lab))
        self.stdout.write("\n".join(lines or ["no security group has refused anything"]) + "\n")

    def do_events(self, line: str) -> None:
        """events [N]: the last events of the lab."""
        count = int(line) if line.strip().isdigit() else _EVENTS_SHOWN
        for event in self.lab.stream.events[-count:]:
            self.stdout.write(event.text(self.lab.born) + "\n")

    def tables(self) -> str:
        """The text of ``tables``."""
        return "\n\n".join(table.text() for table in self._run_in_lab(self.lab.route_tables()))


async def _link(lab: Lab, words: list[str]) -> str:
    return links.command(lab, words)


def show(lab: Lab, node: str, word: str, *, color: bool = False) -> str:
    """What ``NODE show WORD`` prints."""
    if word not in SHOWN:
        return f"show {word}: unknown; there are {', '.join(SHOWN)}"
    kind, method, rendered = SHOWN[word]
    daemon = lab[node].daemons.get(kind)
    if daemon is None:
        return f"{node} runs no {kind} daemon; there are {', '.join(lab[node].daemons) or 'none'}"
    try:
        return rendered(call(daemon.socket, method), color=color)
    except (ControlError, OSError) as error:
        return f"{node}: {error}"
