"""A real browser for the tests of the page: Debian's Chromium, headless, driven over the DevTools protocol by a pair of pipes.

Only what these tests need: open a file, read what failed or was logged, evaluate JavaScript, emulate a screen, take a picture.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

BINARY = Path("/usr/bin/chromium")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


class BrowserError(RuntimeError):
    """The browser refused a command, ended, or did not answer within the time."""


class Browser:
    """One page of a browser with an empty profile in ``profile``. ``trouble`` collects failed loads, exceptions and console errors."""

    def __init__(self, profile: Path, within: float = 60.0) -> None:
        self.trouble: list[str] = []
        self.requested: list[str] = []
        self._number, self._buffer, self._events = 0, b"", list[Mapping[str, Any]]()
        self._within = within
        (near_commands, self._write), (self._read, near_answers) = os.pipe(), os.pipe()
        commands, answers = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (near_commands, near_answers))
        # The protocol wants descriptors 3 and 4; a shell puts them there without a preexec function in this process.
        script = f'exec 3<&{commands} 4>&{answers} {commands}<&- {answers}>&-; exec "$@"'
        argv = ["bash", "-c", script, "bash", str(BINARY), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        with open(profile.with_suffix(".log"), "wb") as log:
            self._process = subprocess.Popen(
                argv, pass_fds=(commands, answers), stdout=log, stderr=log, start_new_session=True
            )
        for fd in (commands, answers, near_commands, near_answers):
            os.close(fd)
        os.set_blocking(self._read, False)
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call("Browser.close")
            self._process.wait(5)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def screen(self, width: int, *, height: int = 900, dark: bool = False, media: str = "screen") -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, path: Path, fragment: str = "") -> None:
        # By way of a blank page: another fragment of the page that is open would load nothing.
        for url in ("about:blank", path.resolve().as_uri() + fragment):
            self._events.clear()
            self.call("Page.navigate", url=url)
            self._until("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def picture(self, path: Path, *, top: float = 0, height: float = 900, width: float | None = None) -> None:
        width = width or self.evaluate("innerWidth")
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        data = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def call(self, method: str, **params: Any) -> Any:
        return self._call(method, self._session, **params)

    def _call(self, method: str, session: str | None = None, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        deadline = time.monotonic() + self._within
        while True:
            answer = self._next(deadline, method)
            if answer.get("id") != self._number:
                self._note(answer)
            elif "error" in answer:
                raise BrowserError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def _until(self, event: str) -> None:
        deadline = time.monotonic() + self._within
        while not any(kept.get("method") == event for kept in self._events):
            self._note(self._next(deadline, event))

    def _next(self, deadline: float, awaited: str) -> Mapping[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise BrowserError(f"no answer to {awaited} within {self._within} s")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise BrowserError(f"the browser ended while {awaited} was awaited")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded: Mapping[str, Any] = json.loads(message)
        return decoded

    def _note(self, event: Mapping[str, Any]) -> None:
        self._events.append(event)
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif method == "Network.loadingFailed":
            self.trouble.append(f"failed to load: {params['errorText']}")
        elif method == "Runtime.exceptionThrown":
            self.trouble.append(f"exception: {params['exceptionDetails']['text']}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.trouble.append(f"console {params['type']}: {params['args']}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.trouble.append(f"log: {params['entry']['text']}")
