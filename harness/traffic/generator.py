"""The load of a lab as one thing: starts runs on all workers at once, waits for the last packet, joins the receipts.

Speaks to the workers (:mod:`harness.traffic.worker`) and the meter (:mod:`harness.traffic.meter`) over their control sockets only; where
they run is the lab's business.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.control import ControlClient
from harness.patience import factor, stretched
from harness.traffic.endpoint import Side
from harness.traffic.flows import Direction, FlowSet, FlowSpec, Protocol
from harness.traffic.observations import Window
from harness.traffic.receipts import Ledger, Report, join
from harness.traffic.worker import DEFAULT_SIZE

# Time for the start order to reach every worker before the first packet is due.
_LEAD = 0.03


class WorkersDisagree(Exception):
    """A worker made other flows from the same FlowSpec, or not all of them: it runs another version of this code."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run under way: CLOCK_MONOTONIC seconds of its first packet and of the end of its last interval."""

    run: int
    start: float
    end: float


class Generator:
    """All traffic endpoints of a lab. ``clients`` maps a client block to its worker's control socket."""

    def __init__(self, spec: FlowSpec, *, clients: Mapping[str, Path], server: Path) -> None:
        self.flows = FlowSet(spec)
        self._paths = (dict(clients), server)
        self._clients: list[ControlClient] = []
        self._server: ControlClient | None = None
        self._runs = itertools.count(1)

    async def open(self) -> None:
        """Loads the flows everywhere; all TCP connections stand when it returns. Raises ControlError with a worker's reason."""
        clients, server = self._paths
        spec = self.flows.spec.to_dict()
        self._server = await ControlClient.connect(server)
        answers = [await self._server.call("load", flows=spec, side=Side.SERVER)]
        self._clients = [await ControlClient.connect(path) for path in clients.values()]
        answers += await asyncio.gather(
            *(
                worker.call("load", flows=spec, side=Side.CLIENT, blocks=[block])
                for block, worker in zip(clients, self._clients, strict=True)
            )
        )
        if any(answer["digest"] != self.flows.digest for answer in answers):
            raise WorkersDisagree("the workers' flows differ from the lab's; start all from the same installation")
        if sum(answer["flows"] for answer in answers[1:]) != len(self.flows):
            raise WorkersDisagree(
                f"the client blocks {', '.join(clients)} do not hold every flow once; give one worker a block of the FlowSpec"
            )

    async def reload(self, spec: FlowSpec) -> None:
        """Takes other flows at the same ends; what was open for the old ones is closed."""
        await self.close()
        self.flows = FlowSet(spec)
        await self.open()

    async def start(
        self,
        *,
        rate: float,
        packets: int | None = None,
        duration: float | None = None,
        size: int = DEFAULT_SIZE,
        directions: Sequence[Direction] = tuple(Direction),
    ) -> Started:
        """Every flow sends ``rate`` packets a second in each of ``directions``, as many as told or as fit ``duration`` seconds.

        ``size`` is the record's, without IP and UDP headers. All ends begin at the same moment. On a machine that is slower than those
        that loads are made for, the same packets take as much longer as its deadlines do: it would lose what it has no time for.
        """
        rate, duration = rate / factor(), None if duration is None else stretched(duration)
        run, at = next(self._runs), time.monotonic() + _LEAD
        senders = [
            *(self._clients if Direction.TO_VPC in directions else ()),
            *([self._end] if Direction.TO_DC in directions else ()),
        ]
        answers = await asyncio.gather(
            *(
                worker.call("start", run=run, rate=rate, packets=packets, duration=duration, size=size, at=at)
                for worker in senders
            )
        )
        return Started(run, at, max(answer["end"] for answer in answers))

    async def advance(self, started: Started, rounds: int = 1) -> float:
        """Waits until every sending flow has sent ``rounds`` more packets, or the run is over; returns the time then.

        How a scenario lets load pass without sleeping: what the flows do now is seen in the window up to that time.
        """
        answers = await asyncio.gather(
            *(worker.call("advance", run=started.run, rounds=rounds) for worker in (*self._clients, self._end))
        )
        return float(max(answer["time"] for answer in answers))

    async def stop(self) -> None:
        """Ends the run under way before its time."""
        await asyncio.gather(*(worker.call("stop") for worker in (*self._clients, self._end)))

    async def finish(self, started: Started, *, quiet: float = 0.3, within: float = 10.0) -> Ledger:
        """Waits for the run's end and for what is still under way, then joins all receipts.

        Returns at once when everything came; else when UDP was silent for ``quiet`` seconds and TCP is complete, or ``within``
        seconds after the last packet was sent.
        """
        await asyncio.gather(*(worker.call("finished") for worker in (*self._clients, self._end)))
        reports = await self._reports(started.run)
        server, clients = reports[-1], reports[:-1]
        expected: dict[int, dict[Protocol, int]] = {}
        for number, report in enumerate(reports):
            peers = clients if report is server else [server]
            own = set(report.flows)
            counts = {Protocol.UDP: 0, Protocol.TCP: 0}
            for peer in peers:
                for flow, sent in zip(peer.flows, peer.sent, strict=True):
                    if flow in own:
                        counts[self.flows[flow].protocol] += sent
            expected[number] = counts
        await asyncio.gather(
            *(
                worker.call(
                    "settle",
                    run=started.run,
                    udp=expected[number][Protocol.UDP],
                    tcp=expected[number][Protocol.TCP],
                    quiet=stretched(quiet),
                    within=stretched(within),
                )
                for number, worker in enumerate((*self._clients, self._end))
            )
        )
        return await self.ledger(started.run)

    async def ledger(self, run: int) -> Ledger:
        """The receipts of a run as they are now: what is under way counts as missing."""
        *clients, server = await self._reports(run)
        return join(self.flows, clients, server)

    async def close(self) -> None:
        for worker in (*self._clients, *([self._server] if self._server else ())):
            await worker.close()

    @property
    def _end(self) -> ControlClient:
        assert self._server is not None, "open() comes first"
        return self._server

    async def _reports(self, run: int) -> list[Report]:
        values = await asyncio.gather(*(worker.call("receipts", run=run) for worker in (*self._clients, self._end)))
        return [Report.from_dict(value) for value in values]


class MeterClient:
    """The meter's answers as the types they are."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, path: Path) -> MeterClient:
        return cls(await ControlClient.connect(path))

    async def load(self, flows: FlowSet) -> None:
        """Tells these flows apart from now on. Raises WorkersDisagree when the meter makes others of the same spec."""
        if (await self._client.call("load", flows=flows.spec.to_dict()))["digest"] != flows.digest:
            raise WorkersDisagree("the meter's flows differ from the lab's; start both from the same installation")

    async def window(self, start: float, end: float) -> Window:
        """What passed in [start, end) of CLOCK_MONOTONIC."""
        return Window.from_dict(await self._client.call("window", start=start, end=end))

    async def series(
        self, start: float, end: float, width: float
    ) -> dict[str, dict[Direction, tuple[tuple[float, int, int], ...]]]:
        """tunnel -> direction -> (start of the bin, packets, bytes) for each bin of ``width`` seconds."""
        answer = await self._client.call("series", start=start, end=end, width=width)
        return {
            tunnel: {Direction(name): tuple((t, p, b) for t, p, b in bins) for name, bins in directions.items()}
            for tunnel, directions in answer.items()
        }

    async def totals(self) -> dict[str, dict[str, Any]]:
        """tunnel -> packets and bytes in and out, packets of no known flow, kernel drops, the interface's index."""
        answer: dict[str, dict[str, Any]] = await self._client.call("totals")
        return answer

    async def close(self) -> None:
        await self._client.close()
