"""What an agent is started with: a tunnel of the plan, the data plane, where its files lie, how it tries again.

The hand-over file holds the pre-shared key and so is made with mode 0600; the agent refuses a wider one, and with
``--consume`` removes it once read.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.ipsec.strongswan import DataPlane, check
from harness.plan import Esp, Ike, Tunnel


class SettingsError(ValueError):
    """A hand-over file that cannot be used; the text names it, the rule and the remedy, and never the key."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When a refused negotiation is tried again (ECMP-30: without limit): ``first`` seconds after it began, then ``factor``
    times as long, never over ``longest``. An attempt that took longer than that is followed by the next at once."""

    first: float = 0.1
    factor: float = 2.0
    longest: float = 5.0

    def after(self, delay: float | None) -> float:
        """The delay that follows ``delay`` (None: the first)."""
        return self.first if delay is None else min(self.longest, delay * self.factor)


@dataclass(frozen=True, slots=True)
class Settings:
    """``directory`` holds charon's configuration, log and vici socket; ``socket`` is the agent's own control socket.

    ``begin`` False keeps a tunnel that is to initiate quiet until the method ``initiate`` is called: whoever starts both ends
    can so have both connections loaded first, where the first packet would otherwise meet a peer that is not there yet and be
    repeated only after ``retransmit_timeout``. ``restart``: a charon that dies is started again, else the agent waits for the
    method ``restart``.
    """

    node: str
    tunnel: Tunnel
    plane: DataPlane
    directory: Path
    socket: Path
    begin: bool = True
    restart: bool = False
    retry: Retry = Retry()
    log_level: int = 1

    def __post_init__(self) -> None:
        check(self.tunnel, self.plane)
        if not -1 <= self.log_level <= 2:
            raise SettingsError(
                f"log level {self.log_level}: charon may be asked for -1 to 2, beyond that it logs keys"
            )

    def __repr__(self) -> str:
        return f"Settings(node={self.node!r}, tunnel={self.tunnel.name!r}, plane={self.plane.value!r})"

    def hand_over(self, path: Path) -> list[str]:
        """Writes the hand-over file and returns the arguments for ``harness.ipsec.agent:main``, which removes it."""
        content = dataclasses.asdict(self) | {"directory": str(self.directory), "socket": str(self.socket)}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
        return ["--config", str(path), "--consume"]

    @staticmethod
    def read(path: Path, *, consume: bool = False) -> Settings:
        """The settings that :meth:`hand_over` wrote. Raises SettingsError."""
        try:
            with path.open() as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise SettingsError(f"{path}: others may read it and it holds a pre-shared key; chmod 600 it")
                content = json.load(file)
            if consume:
                path.unlink()
            return _settings(content)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            # The text of these names fields and positions, not values.
            raise SettingsError(f"{path}: {type(error).__name__}: {error}") from None


def _settings(content: dict[str, Any]) -> Settings:
    tunnel = content["tunnel"]
    made = {
        "ike": Ike(**tunnel["ike"]),
        "esp": Esp(**tunnel["esp"]),
        "ike_offers": tuple(Ike(**each) for each in tunnel.get("ike_offers", ())),
        "esp_offers": tuple(Esp(**each) for each in tunnel.get("esp_offers", ())),
        "routes": tuple(tunnel.get("routes", ())),
    }
    return Settings(
        **content
        | {
            "tunnel": Tunnel(**tunnel | made),
            "plane": DataPlane(content["plane"]),
            "directory": Path(content["directory"]),
            "socket": Path(content["socket"]),
            "retry": Retry(**content["retry"]),
        }
    )
