"""``vbrlab-bgpd``: the speaker as a process, in whatever network namespace it is started.

    vbrlab-bgpd --config FILE [--control SOCKET] [--check]
    vbrlab-bgpd --schema

One line on stderr for each event. SIGHUP reads the configuration again and carries out what differs.
SIGTERM and SIGINT end every session with Cease/2 (Administrative Shutdown), take the routes out of the
kernel and exit 0. Exit status 1: the configuration is wrong or a socket cannot be had; the reason is on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from harness.bgp import signals
from harness.bgp.bfd_watch import BfdWatch
from harness.bgp.commands import methods
from harness.bgp.config import ConfigError, Neighbor, SpeakerConfig, load_config, schema
from harness.bgp.kernel import NetlinkKernel
from harness.bgp.log_lines import line
from harness.bgp.monitors import Monitors
from harness.bgp.reload import Reloader
from harness.bgp.shows import Shows
from harness.bgp.speaker import Speaker
from harness.bgp.transport import Transport, md5_failures
from harness.control import ControlError, ControlServer, Event, EventLog


class LoopShell:
    """``ports.Shell`` on asyncio and TCP."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: SpeakerConfig, log: EventLog) -> None:
        self.speaker: Speaker | None = None
        self._loop = loop
        self._log = log
        self._config = config
        self._md5_failures = md5_failures()
        self.transport = Transport(
            loop, config.asn, config.port, self._feed, self._drained, self._accept, self._dial_slow
        )

    def now(self) -> float:
        return time.monotonic()

    def call_at(self, when: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_at(when, call)

    def call_soon(self, call: Callable[[], None]) -> object:
        return self._loop.call_soon(call)

    def dial(self, neighbor: Neighbor, conn: int) -> None:
        self.transport.dial(neighbor, conn)

    def write(self, name: str, conn: int, data: bytes) -> None:
        self.transport.write(name, conn, data)

    def close(self, name: str, conn: int) -> None:
        self.transport.close(name, conn)

    def is_writable(self, name: str, conn: int) -> bool:
        return self.transport.is_writable(name, conn)

    def taken(self, name: str, conn: int) -> tuple[int, int] | None:
        return self.transport.taken(name, conn)

    def neighbors_changed(self, neighbors: Mapping[str, Neighbor]) -> None:
        self.transport.neighbors_changed(neighbors)

    def _feed(self, name: str, signal_in: signals.Input) -> None:
        if self.speaker is not None and (adjacency := self.speaker.adjacencies.get(name)) is not None:
            adjacency.feed(signal_in)
        elif isinstance(signal_in, signals.Connected):
            # The neighbour was deleted between the connection and this word of it: nobody else would close it.
            self.transport.close(name, signal_in.conn)

    def _drained(self) -> None:
        if self.speaker is not None:
            self.speaker.wake()

    def _accept(self, address: str) -> tuple[str, int] | None:
        """Which neighbour a connection from ``address`` belongs to, and its number; None: nobody's."""
        for adjacency in self.speaker.adjacencies.values() if self.speaker is not None else ():
            if adjacency.config.address == address and not adjacency.config.shutdown:
                return adjacency.name, adjacency.peer.connection_id()
        self._log.emit(
            "connection.refused", address=address, reason="no neighbour of this address is configured and started"
        )
        return None

    def _dial_slow(self, name: str, conn: int) -> None:
        """A dial has no answer yet. Where keys are in use the kernel's counters may say why."""
        failures = md5_failures()
        fields: dict[str, object] = {
            "peer": name,
            "conn": conn,
            "reason": "no answer to the TCP connection attempt yet",
        }
        if failures > self._md5_failures:
            fields["md5_dropped"] = failures - self._md5_failures
            fields["reason"] = "segments with a wrong or missing TCP MD5 signature were dropped: compare the keys"
        self._md5_failures = failures
        self._log.emit("dial.waiting", **fields)


async def run(
    config: SpeakerConfig, control: Path | None = None, *, log: EventLog | None = None, source: Path | None = None
) -> None:
    """Speaks until SIGTERM or SIGINT; SIGHUP reads ``source``, the file of ``config``, again.

    Raises ConfigError, ControlError, OSError when it cannot begin.
    """
    loop = asyncio.get_running_loop()
    log = log or EventLog()
    shell = LoopShell(loop, config, log)
    # Before anything is touched: where another speaker runs already, this one must not sweep its routes.
    shell.neighbors_changed({neighbor.name: neighbor for neighbor in config.neighbors})
    shell.transport.listen(config.listen)
    kernel = NetlinkKernel(config)
    router_id = IPv4Address(config.router_id) if config.router_id else kernel.default_identifier()
    if router_id is None:
        raise ConfigError("router_id is not given and no interface has an IPv4 address to take it from; set router_id")
    bfd = BfdWatch(loop, log, lambda name, reason: speaker.path_lost(name, reason))
    speaker = shell.speaker = Speaker(config, router_id, shell, kernel, log, bfd, restarted=kernel.adopted > 0)
    shows = Shows(speaker, shell.now)
    monitors = Monitors(speaker, shows, shell.transport.ports, control)
    reloader = Reloader(speaker, monitors.apply, source)
    server = None
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, reloader.on_signal)
    try:
        if control is not None:
            more = monitors.methods() | {"config.reload": reloader.reload}
            server = ControlServer(control, methods(speaker, shows) | more, log)
            await server.start()
        await monitors.apply(config)
        log.emit("start", asn=config.asn, router_id=str(router_id), swept=kernel.swept, adopted=kernel.adopted)
        kernel.follow(
            loop, speaker.next_hops_changed, speaker.routes_lost, speaker.routes_dropped, speaker.routes_written
        )
        speaker.start()
        shell.transport.accept()
        await ended.wait()
        log.emit("stop", reason="signal")
    finally:
        speaker.stop()
        bfd.companion.close()
        await monitors.close()
        await shell.transport.shut()
        if server is not None:
            await server.close()
        kernel.close(loop)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. ``argv`` without the program's name; None: this process's own. Returns the exit status."""
    arguments = _parse(argv)
    if arguments.version:
        from harness import version

        sys.stdout.write(version.described("vbrlab-bgpd") + "\n")
        return 0
    if arguments.schema:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may have had enough
        json.dump(schema(), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return 0
    try:
        if arguments.config is None:
            raise ConfigError("no configuration: name a file with --config, or see --schema for what goes into it")
        # Keys are in memory, and a core file would hold them; 1 stops one that is piped into a program, too (core(5)).
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (int(most != 0), most))
        config = load_config(arguments.config)
        for neighbor in config.neighbors:
            neighbor.secret()
        if arguments.check:
            return 0
        if arguments.consume:
            arguments.config.unlink()
        log = EventLog()
        log.listen(_to_stderr)
        _tame_collector()
        source = None if arguments.consume else arguments.config
        asyncio.run(run(config, arguments.control, log=log, source=source))
    except (ConfigError, ControlError, OSError) as error:
        sys.stderr.write(f"vbrlab-bgpd: {error}\n")
        return 1
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "vbrlab-bgpd", description="A BGP-4 speaker that installs its routes in the kernel."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON configuration")
    parser.add_argument(
        "--consume", action="store_true", help="remove the configuration file once it is read: it may hold keys"
    )
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="serve vbrlab-bgp on this Unix socket")
    parser.add_argument("--schema", action="store_true", help="print the configuration's JSON schema and exit")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    return parser.parse_args(argv)


def _to_stderr(event: Event) -> None:
    sys.stderr.write(line(event) + "\n")
    sys.stderr.flush()


def _tame_collector() -> None:
    """A full collection of a large table would stop the loop for tens of milliseconds, and the tables hold no cycles."""
    # No collection first: after a fork it would copy every page that is shared with the parent.
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 1_000_000)


if __name__ == "__main__":
    sys.exit(main())
