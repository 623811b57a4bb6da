"""The process at one end of a load: forked by the zygote into a node's namespace, or run by hand there.

    python -m harness.traffic.worker CONFIG.json        with  {"name": "dc-client0", "socket": "/run/.../traffic.sock"}

Everything else is asked for over the control socket:

``load(flows, side, blocks)``   takes a FlowSpec as a dict, this end's side ("client" or "server") and, for a client, its blocks; opens the
                                sockets; a client's answer comes when its TCP connections stand, so the server loads first.
``start(run, rate, packets | duration, size, at)``  sends a run from monotonic second ``at`` on; answers when the run begins and ends.
``stop()``                      sends no more of it.
``advance(run, rounds)``        answers when each flow has sent that many more packets: how a scenario passes time under load.
``finished()``                  answers when the run's last packet is out.
``settle(run, udp, tcp, quiet, within)``  answers when that many records have come, or none has for ``quiet`` seconds.
``receipts(run)``               a :class:`harness.traffic.receipts.Report` as a dict.
``status()``                    flows, connections, what is being sent.

Events: ``traffic.started``, ``traffic.progress`` (each second), ``traffic.done``. Sending and receiving share one event loop; it wakes at
most once a tick and works off what is due, so the cost hardly depends on the number of flows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.control import ControlServer, EventLog
from harness.patience import stretched
from harness.traffic.endpoint import Endpoint, EndpointError, Side
from harness.traffic.flows import FlowSet, FlowSpec

TICK = 0.002
_PROGRESS = 1.0
_CONNECT_WITHIN = 5.0
DEFAULT_SIZE = 64


class Worker:
    """The methods of the control socket over one :class:`Endpoint`."""

    def __init__(self, name: str, log: EventLog) -> None:
        self.name = name
        self._log = log
        self._endpoint: Endpoint | None = None
        self._flows: FlowSet | None = None
        self._sender: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._sent = asyncio.Event()
        self._rearm: asyncio.TimerHandle | None = None

    def methods(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in ("load", "start", "stop", "advance", "finished", "settle", "receipts", "status")
        }

    async def load(self, flows: Mapping[str, Any], side: str, blocks: Sequence[str] = ()) -> dict[str, Any]:
        """Takes over the given flows, in place of those it had. Raises EndpointError when an address or a port is not to be had,
        or a TCP connection does not come about."""
        await self.unload()
        self._flows = FlowSet(FlowSpec.from_dict(flows))
        end = Side(side)
        own = self._flows.flows if end is Side.SERVER else self._flows.within(blocks or self._flows.spec.blocks)
        endpoint = Endpoint(end, own)
        endpoint.open()
        self._endpoint = endpoint
        asyncio.get_running_loop().add_reader(endpoint.epoll.fileno(), self._readable)
        if end is Side.CLIENT:
            try:
                await self._connect(endpoint)
            except BaseException:
                await self.unload()
                raise
        return {"flows": len(own), "digest": self._flows.digest, "connected": endpoint.connected}

    async def _connect(self, endpoint: Endpoint) -> None:
        loop = asyncio.get_running_loop()
        pending = list(endpoint.connections())
        try:
            async with asyncio.timeout(stretched(_CONNECT_WITHIN)):
                results = await asyncio.gather(
                    *(loop.sock_connect(sock, remote) for _flow, sock, remote in pending), return_exceptions=True
                )
        except TimeoutError:
            results = [TimeoutError("no answer")] * len(pending)
        failed = []
        for (flow, sock, remote), result in zip(pending, results, strict=True):
            if result is None:
                endpoint.adopt(flow, sock)
            else:
                failed.append(f"{flow.client}:{flow.client_port} to {remote[0]}:{remote[1]}: {result}")
                sock.close()
        if failed:
            raise EndpointError(
                f"{self.name}: {len(failed)} of {len(pending)} TCP flows did not connect (first: {failed[0]}); "
                f"load the server end first, and see that both directions have a route"
            )

    def start(
        self,
        run: int,
        rate: float,
        packets: int | None = None,
        duration: float | None = None,
        size: int = DEFAULT_SIZE,
        at: float | None = None,
    ) -> dict[str, float]:
        """Every flow of this end sends ``packets`` records (or as many as fit ``duration`` seconds), ``rate`` a second each.

        ``size`` is the record's, without IP and UDP headers. Answers with the monotonic seconds of its start and end.
        """
        endpoint = self._loaded()
        if (packets is None) == (duration is None):
            raise EndpointError("give either packets or duration")
        count = packets if packets is not None else math.ceil(rate * (duration or 0.0))
        begun = time.monotonic() if at is None else at
        end = endpoint.begin(run, started=begun, rate=rate, packets=count, size=size)
        self._log.emit(
            "traffic.started", node=self.name, run=run, flows=len(endpoint.flows), start=begun, end=end, size=size
        )
        self._sender = asyncio.create_task(self._send(endpoint, run))
        return {"start": begun, "end": end}

    async def _send(self, endpoint: Endpoint, run: int) -> None:
        """Wakes at each tick, or when the next packet is due if that is later."""
        progress = time.monotonic() + _PROGRESS
        while (due := endpoint.next_due) is not None:
            now = time.monotonic()
            if due > now:
                await _until(min(max(due, now + TICK), progress))
            else:
                await asyncio.sleep(0)  # behind its time: let the receiver in, then go on
            endpoint.send(time.monotonic())
            self._sent.set()
            self._receive()
            if time.monotonic() >= progress:
                progress += _PROGRESS
                self._emit("traffic.progress", endpoint, run)
        self._emit("traffic.done", endpoint, run)
        asyncio.get_running_loop().call_soon(self._sent.set)

    def stop(self) -> dict[str, int]:
        """Ends the run under way, if any; ``traffic.done`` follows."""
        endpoint = self._loaded()
        endpoint.stop()
        return {"connected": endpoint.connected}

    async def advance(self, run: int, rounds: int = 1) -> dict[str, float]:
        """Answers with the time when every flow has sent ``rounds`` more packets, or when the run is over."""
        endpoint = self._loaded()
        goal = endpoint.sent(run) + rounds * len(endpoint.flows)
        while endpoint.sent(run) < goal and self._sender is not None and not self._sender.done():
            self._sent.clear()
            await self._sent.wait()
        return {"time": time.monotonic()}

    async def finished(self) -> dict[str, bool]:
        """Answers when nothing is being sent any more."""
        if self._sender is not None:
            await asyncio.wait((self._sender,))
        return {"sending": False}

    async def settle(
        self, run: int, udp: int, tcp: int, quiet: float = 0.3, within: float = 10.0
    ) -> dict[str, int | bool]:
        """Waits for what is still under way: until ``udp`` and ``tcp`` records have come, or TCP's have and nothing came for ``quiet``.

        TCP may need longer than ``quiet`` to send again what a lost tunnel swallowed; ``within`` bounds that. The answer's "complete"
        says whether all came.
        """
        endpoint = self._loaded()
        loop = asyncio.get_running_loop()
        deadline, last, before = loop.time() + within, loop.time(), -1
        while True:
            have_udp, have_tcp = endpoint.arrived(run)
            complete = have_udp >= udp and have_tcp >= tcp
            now = loop.time()
            if have_udp + have_tcp != before:
                before, last = have_udp + have_tcp, now
            end = min(deadline, last + quiet) if have_tcp >= tcp else deadline
            if complete or now >= end:
                return {"udp": have_udp, "tcp": have_tcp, "complete": complete}
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), end - now)

    def receipts(self, run: int) -> dict[str, Any]:
        return self._loaded().report(run).to_dict()

    def status(self) -> dict[str, Any]:
        endpoint = self._endpoint
        if endpoint is None:
            return {"name": self.name, "flows": 0}
        return {
            "name": self.name,
            "side": endpoint.side,
            "flows": len(endpoint.flows),
            "connected": endpoint.connected,
            "sending": endpoint.next_due is not None,
            "broken": {str(flow): reason for flow, reason in endpoint.broken.items()},
        }

    async def unload(self) -> None:
        """Closes all sockets and forgets all runs."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
            self._sender = None
        if self._rearm is not None:
            self._rearm.cancel()
            self._rearm = None
        if self._endpoint is not None:
            asyncio.get_running_loop().remove_reader(self._endpoint.epoll.fileno())
            self._endpoint.close()
            self._endpoint = None

    def _loaded(self) -> Endpoint:
        if self._endpoint is None:
            raise EndpointError(f"{self.name}: no flows are loaded; call load first")
        return self._endpoint

    def _readable(self) -> None:
        """Reads, then turns a deaf ear until the next tick: one wake-up then serves all that came meanwhile."""
        endpoint, loop = self._endpoint, asyncio.get_running_loop()
        if endpoint is None:
            return
        loop.remove_reader(endpoint.epoll.fileno())
        self._receive()
        self._rearm = loop.call_later(TICK, self._listen_again, endpoint)

    def _listen_again(self, endpoint: Endpoint) -> None:
        self._rearm = None
        if endpoint is self._endpoint:
            asyncio.get_running_loop().add_reader(endpoint.epoll.fileno(), self._readable)

    def _receive(self) -> None:
        if self._endpoint is not None and self._endpoint.receive(time.monotonic()):
            self._heard.set()

    def _emit(self, kind: str, endpoint: Endpoint, run: int) -> None:
        udp, tcp = endpoint.arrived(run)
        self._log.emit(
            kind,
            node=self.name,
            run=run,
            sent=endpoint.sent(run),
            received=udp + tcp,
            broken=len(endpoint.broken),
        )


async def _until(moment: float) -> None:
    """Resumes at a monotonic time: the pace of the sender."""
    loop = asyncio.get_running_loop()
    reached = loop.create_future()
    timer = loop.call_at(moment, reached.set_result, None)
    try:
        await reached
    finally:
        timer.cancel()


async def serve(name: str, path: Path) -> None:
    """Serves a worker at ``path`` until SIGTERM or SIGINT."""
    log = EventLog()
    worker = Worker(name, log)
    server = ControlServer(path, worker.methods(), log)
    await server.start()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await ended.wait()
    finally:
        await worker.unload()
        await server.close()


def main(arguments: Sequence[str]) -> int:
    """Entry of the zygote and of ``python -m``: the path of the JSON configuration."""
    config = json.loads(Path(arguments[0]).read_text())
    asyncio.run(serve(config["name"], Path(config["socket"])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
