"""The process that alerts: takes happenings over its control socket, mutes, delivers. It runs in a node of the cloud's side.

    python -m harness.alerts.daemon CONFIG.json

with ``{"socket": PATH, "sinks": FOLDER, "alerting": {...}, "patience": {...}}``, the last two as ``dataclasses.asdict`` of
:class:`harness.cloud.alerts.Alerting` and :class:`harness.alerts.delivery.Patience`. Control:

``event(fields)``    an event's JSON form (``harness.cloud.events``) has happened.
``cleared(...)``     the fields of :class:`harness.cloud.events.Cleared`.
``show.alerts()``    each destination with what waits, was delivered, failed and was dropped.
``settled()``        answers when nothing waits and nothing is under way.

Events: ``alert`` (a rule alerts), ``alert.delivered`` with the delay since the event, ``alert.retry``, ``alert.failed``,
``alert.dropped``, ``alert.trouble`` (a filter that failed), and ``alert.log``: the contact of last resort.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.alerts.channels import Channels
from harness.alerts.delivery import Dispatcher, Patience
from harness.cloud.alerts import Alerting, require_valid
from harness.cloud.events import Cleared, Event, EventName, Happening
from harness.cloud.muting import Alarms
from harness.control import ControlServer, EventLog


class Alerter:
    """Rules, muting and delivery over one event loop."""

    def __init__(self, alerting: Alerting, dispatcher: Dispatcher) -> None:
        self._alarms, self._dispatcher = Alarms(alerting), dispatcher
        self._timer: asyncio.TimerHandle | None = None

    def take(self, happening: Happening) -> int:
        """The number of alerts that it led to at once."""
        alerts = self._alarms.take(happening, time.monotonic())
        for alert in alerts:
            self._dispatcher.post(alert)
        self._set_timer()
        return len(alerts)

    def _tick(self) -> None:
        for alert in self._alarms.tick(time.monotonic()):
            self._dispatcher.post(alert)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._alarms.deadline()
        loop = asyncio.get_running_loop()
        self._timer = None if due is None else loop.call_later(max(0.0, due - time.monotonic()), self._tick)


async def serve(config: Mapping[str, Any]) -> None:
    """Serves the control socket until SIGTERM or SIGINT. Raises Refused for rules that break the document's."""
    alerting = require_valid(TypeAdapter(Alerting).validate_python(config["alerting"]))
    patience = TypeAdapter(Patience).validate_python(config.get("patience", {}))
    channels, log = Channels(Path(config["sinks"])), EventLog()
    channels.sinks.mkdir(parents=True, exist_ok=True)
    dispatcher = Dispatcher(alerting, channels.send, _telling(log), patience)
    alerter = Alerter(alerting, dispatcher)

    def event(fields: Mapping[str, Any]) -> int:
        return alerter.take(Event.from_json(json.dumps(fields)))

    def cleared(time: float, name: str, vbr: str, peer: str, reason: str) -> int:
        return alerter.take(Cleared(time, EventName(name), vbr, peer, reason))

    async def settled() -> str:
        await dispatcher.settled()
        return "nothing waits"

    methods: dict[str, Any] = {"event": event, "cleared": cleared, "show.alerts": dispatcher.rows, "settled": settled}
    server = ControlServer(Path(config["socket"]), methods, log)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await server.start()
    await ended.wait()
    await server.close()
    await dispatcher.close()
    await channels.close()


def _telling(log: EventLog) -> Any:
    def tell(kind: str, **fields: Any) -> None:
        log.emit(kind, **fields)
        if kind == "alert.log":
            sys.stderr.write(json.dumps({"kind": kind, **fields}, ensure_ascii=False) + "\n")
            sys.stderr.flush()

    return tell


def main(arguments: Sequence[str]) -> int:
    """Entry of the zygote and of ``python -m``: the path of the JSON configuration."""
    asyncio.run(serve(json.loads(Path(arguments[0]).read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
