"""Those who look on at a speaker, as the configuration has them: BMP stations, MRT dumps, metrics. Started, changed and ended together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.bgp.bmp_client import BmpClient
from harness.bgp.config import SpeakerConfig
from harness.bgp.metrics import MetricsServer
from harness.bgp.monitoring_options import BmpCollector, MetricsOptions, MrtOptions
from harness.bgp.mrt_dump import Recorder, write_table
from harness.bgp.shows import Shows
from harness.bgp.speaker import Speaker


class Monitors:
    """``ports`` tells the TCP ports of a connection, ``control`` is where the control socket is, if there is one."""

    def __init__(
        self, speaker: Speaker, shows: Shows, ports: Callable[[str, int], tuple[int, int]], control: Path | None
    ) -> None:
        self._speaker = speaker
        self._shows = shows
        self._ports = ports
        self._control = control
        self._stations: dict[BmpCollector, BmpClient] = {}
        self._mrt: MrtOptions | None = None
        self._recorder: Recorder | None = None
        self._tables: asyncio.Task[None] | None = None
        self._metrics: tuple[MetricsOptions, MetricsServer] | None = None

    async def apply(self, config: SpeakerConfig) -> None:
        """From now on those of ``config``; who stays as he was notices nothing. Raises OSError, ValueError where a place cannot be had."""
        await self._apply_metrics(config.metrics)
        self._apply_mrt(config.mrt)
        for options in [options for options in self._stations if options not in config.bmp]:
            await self._stations.pop(options).close("the station is no longer configured")
        for options in config.bmp:
            if options not in self._stations:
                client = self._stations[options] = BmpClient(self._speaker, options, self._ports)
                client.start()

    async def close(self) -> None:
        """Says good-bye to all."""
        await asyncio.gather(*(client.close() for client in self._stations.values()))
        self._stations.clear()
        self._apply_mrt(None)
        await self._apply_metrics(None)

    def methods(self) -> dict[str, Callable[..., Any]]:
        """The control methods on those who look on."""
        return {"show.monitors": self.show, "mrt.table": self.table}

    def show(self) -> dict[str, Any]:
        """``show.monitors``."""
        return {
            "bmp": [client.row() for client in self._stations.values()],
            "mrt": None
            if self._recorder is None
            else {"updates": str(self._recorder.path), "records": self._recorder.records},
            "metrics": None if self._metrics is None else self._metrics[1].where,
        }

    async def table(self, file: str) -> str:
        """``mrt.table``: writes the table to ``file`` now. Raises ValueError where it cannot be written."""
        try:
            counts = await write_table(self._speaker, Path(file), time.time(), time.monotonic())
        except OSError as error:
            raise ValueError(f"{file} cannot be written: {error.strerror}") from None
        return f"{file}: {counts['prefixes']} prefixes, {counts['paths']} paths of {counts['peers']} peers"

    async def _apply_metrics(self, options: MetricsOptions | None) -> None:
        if self._metrics is not None:
            if self._metrics[0] == options:
                return
            await self._metrics[1].close()
            self._metrics = None
        if options is not None:
            server = MetricsServer(options, self._shows, self._control)
            await server.start()
            self._metrics = (options, server)

    def _apply_mrt(self, options: MrtOptions | None) -> None:
        if options == self._mrt:
            return
        self._mrt = options
        if self._tables is not None:
            self._tables.cancel()
            self._tables = None
        if self._recorder is not None:
            self._speaker.watchers.remove(self._recorder)
            self._recorder.close()
            self._recorder = None
        if options is None:
            return
        loop = asyncio.get_running_loop()
        if options.updates is not None:
            log = self._speaker.log
            self._recorder = Recorder(options.updates, log, loop.call_later, time.time, sent=options.sent)
            for adjacency in self._speaker.adjacencies.values():
                self._recorder.join(adjacency)
            self._speaker.watchers.append(self._recorder)
        if options.table is not None:
            self._tables = loop.create_task(self._write_tables(options.table, options.table_interval))

    async def _write_tables(self, path: Path, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                await write_table(self._speaker, path, time.time(), time.monotonic())
            except OSError as error:
                self._speaker.log.emit("mrt.failed", file=str(path), reason=error.strerror or str(error))
