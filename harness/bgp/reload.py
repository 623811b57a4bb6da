"""A new configuration for a running speaker: validated whole, held against what runs, and only the difference carried out.

What runs is what counts, not the file of the start: neighbours and networks that were changed over the control socket are brought to
what the file says. A field that a running speaker cannot change (:data:`EFFECTS`) refuses the whole configuration, with nothing changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from harness.bgp.changes import Effect, changed_fields
from harness.bgp.config import ConfigError, Neighbor, Network, SpeakerConfig, load_config, masked, parse_config
from harness.bgp.speaker import Speaker

RESTART = "needs a new start of the speaker"

# Fields of the speaker -> when a change takes effect. A field that is not here needs a new start.
EFFECTS: dict[str, str] = {
    "hold_time": Effect.NEXT_SESSION.value,
    "connect_retry_time": Effect.NEXT_SESSION.value,
    "idle_hold_time": Effect.NEXT_SESSION.value,
    "profile": Effect.NEXT_SESSION.value,
    "multipath": Effect.AT_ONCE.value,
    "multipath_ibgp": Effect.AT_ONCE.value,
    "multipath_as_path": Effect.AT_ONCE.value,
    "always_compare_med": Effect.AT_ONCE.value,
    "local_pref": Effect.AT_ONCE.value,
    "selection_deferral_time": Effect.AT_ONCE.value,
    "cluster_id": Effect.NEW_ROUTES.value,
    "ebgp_requires_policy": Effect.NEW_ROUTES.value,
    "honor_graceful_shutdown": Effect.NEW_ROUTES.value,
    "bmp": Effect.AT_ONCE.value,
    "mrt": Effect.AT_ONCE.value,
    "metrics": Effect.AT_ONCE.value,
}

Change = dict[str, Any]
"""One line of a difference: ``object`` ("speaker", "neighbor a", "network 10.0.0.0/24"), ``action`` ("add", "delete", "change"), and
of a change ``field``, ``effect``, and where it is no secret ``old`` and ``new``."""


def running(speaker: Speaker) -> SpeakerConfig:
    """The configuration as it stands, whatever came over the control socket included."""
    return speaker.config.model_copy(
        update={
            "neighbors": tuple(a.config for a in speaker.adjacencies.values()),
            "networks": tuple(network for _, network in speaker.networks.values()),
        }
    )


def difference(old: SpeakerConfig, new: SpeakerConfig) -> list[Change]:
    """What would have to happen to get from ``old`` to ``new``, in the order in which it is done."""
    return [*_speaker_changes(old, new), *_neighbor_changes(old, new), *_network_changes(old, new)]


def _speaker_changes(old: SpeakerConfig, new: SpeakerConfig) -> Iterator[Change]:
    before, after = masked(old), masked(new)
    for name in SpeakerConfig.model_fields:
        if name not in ("neighbors", "networks") and getattr(old, name) != getattr(new, name):
            effect = EFFECTS.get(name, RESTART)
            yield _changed("speaker", name, effect, before[name], after[name])


def _neighbor_changes(old: SpeakerConfig, new: SpeakerConfig) -> Iterator[Change]:
    before = {neighbor.name: neighbor for neighbor in old.neighbors}
    after = {neighbor.name: neighbor for neighbor in new.neighbors}
    for name in before:
        if name not in after:
            yield _moved(f"neighbor {name}", "delete")
    for name, neighbor in after.items():
        if name not in before:
            yield _moved(f"neighbor {name}", "add")
            continue
        values = [each.model_dump(mode="json", by_alias=True) for each in (before[name], neighbor)]
        for field, effect in changed_fields(before[name], neighbor).items():
            if values[0][field] == values[1][field] and field != "key":
                yield _changed(f"neighbor {name}", field, "read again", values[0][field], values[1][field])
            else:
                yield _changed(f"neighbor {name}", field, effect.value, values[0][field], values[1][field])


def _network_changes(old: SpeakerConfig, new: SpeakerConfig) -> Iterator[Change]:
    before = {network.prefix: network for network in old.networks}
    after = {network.prefix: network for network in new.networks}
    for prefix, network in before.items():
        if prefix not in after:
            yield _moved(f"network {prefix}", "delete")
        elif network != after[prefix]:
            values = network.require_route, after[prefix].require_route
            yield _changed(f"network {prefix}", "require_route", Effect.AT_ONCE.value, *values)
    for prefix in after:
        if prefix not in before:
            yield _moved(f"network {prefix}", "add")


def _moved(what: str, action: str) -> Change:
    return {"object": what, "action": action}


def _changed(what: str, field: str, effect: str, old: object, new: object) -> Change:
    row: Change = {"object": what, "action": "change", "field": field, "effect": effect}
    return row if field == "key" else row | {"old": old, "new": new}


def text(change: Change) -> str:
    """A change as a line: ``+ network 10.0.0.0/24``, ``~ neighbor a: hold_time 90 -> 30 (at the next session)``."""
    if change["action"] != "change":
        return f"{'+' if change['action'] == 'add' else '-'} {change['object']}"
    values = f" {_short(change['old'])} -> {_short(change['new'])}" if "old" in change else ""
    return f"~ {change['object']}: {change['field']}{values} ({change['effect']})"


def _short(value: object) -> str:
    if isinstance(value, list | dict) and len(str(value)) > 60:
        return f"{len(value)} entries"
    return "none" if value is None or value == [] else str(value)


class Reloader:
    """Brings a speaker to another configuration. ``path``: where its own came from; ``monitors`` takes the part of those who look on."""

    def __init__(
        self, speaker: Speaker, monitors: Callable[[SpeakerConfig], Awaitable[None]], path: Path | None
    ) -> None:
        self._speaker = speaker
        self._monitors = monitors
        self._path = path
        self._task: asyncio.Task[None] | None = None

    async def reload(
        self, file: str | None = None, config: dict[str, Any] | None = None, dry_run: bool = False
    ) -> dict[str, Any]:
        """``config.reload``: from ``file``, else from ``config`` (the same as JSON), else from the file of the start.

        Answers ``{"applied": bool, "changes": [Change, ...]}``. Raises ConfigError, with nothing changed, where the configuration
        is wrong or asks for what needs a new start.
        """
        new = self._wanted(file, config)
        for neighbor in new.neighbors:
            neighbor.secret()
        old = running(self._speaker)
        changes = difference(old, new)
        if refused := [change for change in changes if change.get("effect") == RESTART]:
            fields = "; ".join(f"{change['field']} {change['old']} -> {change['new']}" for change in refused)
            raise ConfigError(f"{fields}: {RESTART}; nothing was changed")
        if not dry_run and changes:
            await self._apply(old, new)
            self._speaker.log.emit("reload", changes=changes)
        return {"applied": not dry_run, "changes": changes}

    def on_signal(self) -> None:
        """SIGHUP: the file of the start again. What is wrong with it is told as an event."""
        self._task = asyncio.get_running_loop().create_task(self._reload_or_tell())

    async def _reload_or_tell(self) -> None:
        try:
            await self.reload()
        except ConfigError as error:
            self._speaker.log.emit("reload.failed", reason=str(error))

    def _wanted(self, file: str | None, config: dict[str, Any] | None) -> SpeakerConfig:
        if file is not None and config is not None:
            raise ConfigError("both file and config are given; keep one")
        if config is not None:
            return parse_config(config)
        path = self._path if file is None else Path(file)
        if path is None:
            raise ConfigError("which configuration? The speaker was started without a file; name one")
        return load_config(path)

    async def _apply(self, old: SpeakerConfig, new: SpeakerConfig) -> None:
        try:
            await self._monitors(new)
        except OSError as error:
            await self._monitors(old)
            raise ConfigError(f"who looks on cannot be served: {error}; nothing was changed") from None
        speaker = self._speaker
        speaker.reconfigure(new)
        self._apply_neighbors({n.name: n for n in old.neighbors}, {n.name: n for n in new.neighbors})
        self._apply_networks({n.prefix: n for n in old.networks}, {n.prefix: n for n in new.networks})

    def _apply_neighbors(self, old: dict[str, Neighbor], new: dict[str, Neighbor]) -> None:
        # One that moves to another address goes first and comes anew: two may have exchanged theirs.
        moved = {name for name in old.keys() & new.keys() if old[name].address != new[name].address}
        for name in [*(old.keys() - new.keys()), *moved]:
            self._speaker.delete_neighbor(name)
        for name, neighbor in new.items():
            if name not in old or name in moved:
                self._speaker.add_neighbor(neighbor)
            else:
                self._speaker.change_neighbor(neighbor)

    def _apply_networks(self, old: dict[str, Network], new: dict[str, Network]) -> None:
        for prefix in [prefix for prefix, network in old.items() if new.get(prefix) != network]:
            self._speaker.delete_network(prefix)
        for prefix, network in new.items():
            if old.get(prefix) != network:
                self._speaker.add_network(network)
