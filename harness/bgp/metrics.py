"""Figures of a speaker in the text form that Prometheus reads, and the HTTP that hands them out.

Served on a Unix socket or on a loopback address alone: neighbours and everybody else on the network have no way to it. One page,
``GET /metrics``, made anew for each reader from ``show.neighbors``; prometheus_client is imported when the first page is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import Metric

from harness.bgp.config import ConfigError
from harness.bgp.fsm import State
from harness.bgp.monitoring_options import MetricsOptions
from harness.bgp.shows import Shows

REQUEST_LIMIT = 8192
PATIENCE = 5.0
"""Seconds that a reader may take to ask."""

_Rows = list[dict[str, Any]]


def page(shows: Shows) -> bytes:
    """All figures. Names are ``vbrlab_bgp_...``; counters end in ``_total``."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class _Speaker(Collector):
        def collect(self) -> Iterator[Metric]:
            return _metrics(shows)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Speaker())
    return generate_latest(registry)


def _metrics(shows: Shows) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    summary, rows = shows.summary(), shows.neighbors()
    info = InfoMetricFamily("vbrlab_bgp_speaker", "The speaker")
    info.add_metric([], {"asn": str(summary["asn"]), "router_id": summary["router_id"], "profile": summary["profile"]})
    yield info
    for name, key, words in (
        ("prefixes", "prefixes", "Prefixes in the Loc-RIB"),
        ("kernel_routes", "kernel_routes", "Routes in the kernel"),
    ):
        family = GaugeMetricFamily(f"vbrlab_bgp_{name}", words, labels=["family"])
        for label, count in summary[key].items():
            family.add_metric([label], count)
        yield family
    up = GaugeMetricFamily("vbrlab_bgp_neighbor_up", "1 while the session is Established", labels=_WHO)
    state = GaugeMetricFamily("vbrlab_bgp_neighbor_state", "1 for the state the session is in", labels=[*_WHO, "state"])
    for row in rows:
        up.add_metric(_who(row), row["state"] == State.ESTABLISHED.value)
        for each in State:
            state.add_metric([*_who(row), each.value], row["state"] == each.value)
    yield up
    yield state
    for name, words, value in _GAUGES:
        gauge = GaugeMetricFamily(f"vbrlab_bgp_neighbor_{name}", words, labels=_WHO)
        for row in rows:
            if (figure := value(row)) is not None:
                gauge.add_metric(_who(row), figure)
        yield gauge
    for name, words, value in _COUNTERS:
        counter = CounterMetricFamily(f"vbrlab_bgp_neighbor_{name}", words, labels=_WHO)
        for row in rows:
            counter.add_metric(_who(row), value(row) or 0)
        yield counter
    messages = CounterMetricFamily(
        "vbrlab_bgp_neighbor_messages", "Messages by type and direction", labels=[*_WHO, "type", "direction"]
    )
    for row in rows:
        for direction, key in (("received", "received_messages"), ("sent", "sent_messages")):
            for kind, count in row[key].items():
                messages.add_metric([*_who(row), kind, direction], count)
    yield messages


_WHO = ["neighbor", "address", "asn"]

_Figure = Callable[[dict[str, Any]], float | None]
_GAUGES: tuple[tuple[str, str, _Figure], ...] = (
    ("uptime_seconds", "How long the session has been Established", lambda row: row["uptime"]),
    ("routes_received", "Routes in the Adj-RIB-In", lambda row: row["received"]),
    ("routes_accepted", "Routes that the import policy and the checks let in", lambda row: row["accepted"]),
    ("routes_advertised", "Routes in the Adj-RIB-Out", lambda row: row["advertised"]),
)
_COUNTERS: tuple[tuple[str, str, _Figure], ...] = (
    ("established", "How often the session came up", lambda row: row["established_count"]),
    ("transitions", "Transitions of the state machine", lambda row: row["transitions"]),
    ("received_octets", "Octets received in messages", lambda row: row["octets_received"]),
    ("sent_octets", "Octets sent in messages", lambda row: row["octets_sent"]),
)


def _who(row: dict[str, Any]) -> list[str]:
    return [row["name"], row["address"], str(row["asn"])]


class MetricsServer:
    """HTTP/1.0 for one page. ``beside`` is the control socket, whose name the default socket takes."""

    def __init__(self, options: MetricsOptions, shows: Shows, beside: Path | None) -> None:
        self._options = options
        self._shows = shows
        self._server: asyncio.Server | None = None
        self._path = options.socket or (None if beside is None else beside.with_suffix(".metrics"))

    @property
    def where(self) -> str:
        """The address that readers use."""
        if self._options.address is None:
            return f"unix:{self._path}"
        host = f"[{self._options.address}]" if ":" in self._options.address else self._options.address
        return f"http://{host}:{self._options.port}/metrics"

    async def start(self) -> None:
        """Raises OSError where the place cannot be had, ConfigError where none is given."""
        if self._options.address is not None:
            self._server = await asyncio.start_server(
                self._serve, self._options.address, self._options.port, limit=REQUEST_LIMIT
            )
            return
        if self._path is None:
            raise ConfigError("metrics: there is no control socket to stand beside; name a socket or an address")
        self._path.unlink(missing_ok=True)
        before = os.umask(0o117)  # its group may read figures; the control socket is its owner's alone
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=REQUEST_LIMIT)
        finally:
            os.umask(before)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._options.address is None and self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer(head))
            async with asyncio.timeout(PATIENCE):
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        target = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"only GET and HEAD are answered\n", more="Allow: GET, HEAD\r\n")
        if target not in (b"/metrics", b"/"):
            return _response("404 Not Found", b"the figures are at /metrics\n", body=method == b"GET")
        return _response("200 OK", page(self._shows), "text/plain; version=0.0.4; charset=utf-8", body=method == b"GET")


def _response(
    status: str, content: bytes, kind: str = "text/plain; charset=utf-8", *, more: str = "", body: bool = True
) -> bytes:
    head = f"HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n{more}Connection: close\r\n\r\n"
    return head.encode() + (content if body else b"")
