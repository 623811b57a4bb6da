"""An HTTP server that takes callbacks: what a user's own receiver is in a lab. It answers, refuses or hangs by path.

    python -m harness.alerts.receiver CONFIG.json       with  {"socket": PATH, "address": "172.16.0.10", "port": 8080}

``POST /alerts`` (any path not named below) is answered with 204; ``/refuse`` with 500; ``/flaky`` with 503 the first two times that it
gets an alert and then 204; ``/hang`` is never answered. Anything but POST gets 405. Every request that came in whole is the event
``callback`` with its path, the status it got and the body, so that a lab sees what has arrived.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from harness.control import ControlServer, EventLog

#: How often ``/flaky`` refuses before it takes.
REFUSALS = 2


async def serve(config: Mapping[str, Any]) -> None:
    """Serves HTTP and the control socket until SIGTERM or SIGINT."""
    log, calls, times = EventLog(), Counter[str](), Counter[str]()

    async def take(request: web.Request) -> web.Response:
        body = (await request.read()).decode(errors="replace")
        calls[request.path] += 1
        times[body] += 1
        status = 204
        if request.path == "/refuse":
            status = 500
        elif request.path == "/flaky" and times[body] <= REFUSALS:
            status = 503
        hangs = request.path == "/hang"
        log.emit("callback", path=request.path, status=0 if hangs else status, body=body)
        if hangs:
            await asyncio.Event().wait()
        return web.Response(status=status)

    application = web.Application(client_max_size=1 << 20)
    application.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, config["address"], config["port"]).start()
    server = ControlServer(Path(config["socket"]), {"show.calls": lambda: dict(calls)}, log)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await server.start()
    await ended.wait()
    await server.close()
    await runner.cleanup()


def main(arguments: Sequence[str]) -> int:
    """Entry of the zygote and of ``python -m``: the path of the JSON configuration."""
    asyncio.run(serve(json.loads(Path(arguments[0]).read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
