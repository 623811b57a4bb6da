"""Events as lines of a log: time, what happened, to whom, why. For people; programs follow the events themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.control import Event


def _peer_up(e: Event) -> str:
    return (
        f"{e['peer']}: up, AS {e['asn']} {e['router_id']}, {e['local']} to {e['remote']}, hold {e['hold_time']} s, "
        f"{', '.join(e['families'])}"
    )


def _neighbor(e: Event) -> str:
    changed = "; ".join(f"{field}: {effect}" for field, effect in e.get("changed", {}).items())
    return f"{e['action']} {e['peer']}{f': {changed}' if changed else ''}"


def _graceful_restart(e: Event) -> str:
    who = f"{e['peer']}: " if "peer" in e else ""
    count = f"{e['count']} " if "count" in e else ""
    return f"{who}{count}{e['family']} routes {e['phase']}: {e['reason']}"


def _notification(e: Event) -> str:
    text = f', "{e["text"]}"' if e.get("text") else ""
    data = f", data {e['data']}" if e["data"] else ""
    return (
        f"{e['peer']}: NOTIFICATION {e['direction']} {e['code']}/{e['subcode']} {e['name']}: {e['meaning']}{data}{text}"
    )


def _rib(e: Event) -> str:
    return f"{_count(e['count'], 'prefix', 'prefixes')} changed: {_some([_route(r) for r in e['changed']], e['count'])}"


def _route(row: dict[str, Any]) -> str:
    if not row["paths"]:
        return f"{row['prefix']} gone"
    return f"{row['prefix']} by {'+'.join(path['peer'] for path in row['paths'])}"


def _fib(e: Event) -> str:
    counts = e["counts"]
    parts = [f"+{r['prefix']} over {_ways(r['next_hops'])}" for r in e["installed"]] + [f"-{p}" for p in e["removed"]]
    cause = f" ({e['cause']})" if "cause" in e else ""
    return f"kernel has {counts['routes']} routes: {_some(parts, counts['installed'] + counts['removed'])}{cause}"


def _ways(rows: list[dict[str, Any]]) -> str:
    return "+".join(f"{row['gateway'] or 'link'}@{row['interface']}" for row in rows)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _some(parts: list[str], total: int) -> str:
    shown = parts[:8]
    return ", ".join(shown) + (f" and {total - len(shown)} more" if total > len(shown) else "")


# Every event that a speaker emits, by type; ``peer`` is always the neighbour's name.
FORMS: dict[str, Callable[[Event], str]] = {
    "start": lambda e: (
        f"AS {e['asn']} {e['router_id']}, {e['swept']} routes of a former speaker removed"
        + (f", {e['adopted']} kept" if e.get("adopted") else "")
    ),
    "stop": lambda e: e["reason"],
    "fsm": lambda e: f"{e['peer']}: {e['old']} -> {e['new']} ({e['event']}: {e['reason']})",
    "peer.up": _peer_up,
    "peer.down": lambda e: f"{e['peer']}: down, {e['reason']}",
    "peer.log": lambda e: f"{e['peer']}: {e['text']}",
    "notification": _notification,
    "rib": _rib,
    "fib": _fib,
    "fib.lost": lambda e: f"{e['what']}: {_some(e['prefixes'], e['count'])}{', repaired' if e['repaired'] else ''}",
    "fib.failed": lambda e: _some([f"{r['prefix']}: {r['reason']}" for r in e["failed"]], e["count"]),
    "eor": lambda e: f"{e['peer']}: all its {e['family']} routes are here (End-of-RIB)",
    "maximum-prefixes": lambda e: (
        f"{e['peer']}: {e['count']} {e['family']} prefixes, {'over' if e['over'] else 'within'} "
        f"the limit of {e['limit']} ({e['action']})"
    ),
    "graceful-restart": _graceful_restart,
    "refresh": lambda e: f"{e['peer']}: route refresh of {e['family']} {e['kind']}",
    "bfd": lambda e: f"{e['peer']}: BFD {e['old']} -> {e['new']} ({e['reason']})",
    "bfd.refused": lambda e: f"{e['peer']}: BFD packet refused, {e['reason']}",
    "bfd.resumed": lambda e: f"{e['peer']}: BFD goes on, Up as before",
    "bfd.failed": lambda e: e["reason"],
    "neighbor": _neighbor,
    "rejected": lambda e: f"{e['peer']}: {'; '.join(f'{n} routes: {why}' for why, n in e['reasons'].items())}",
    "drain": lambda e: f"{e['peer']}: {'drained' if e['draining'] else 'in full use again'} (RFC 8326)",
    "network": lambda e: f"{e['action']} {e['prefix']}",
    "policy": lambda e: f"{e['peer']}: {e['direction']} policy has {e['terms']} terms",
    "clear": lambda e: f"{e['peer']}: soft clear {e['direction']}",
    "connection.refused": lambda e: f"from {e['address']}: {e['reason']}",
    "dial.waiting": lambda e: f"{e['peer']}: {e['reason']}",
    "reload": lambda e: f"{_count(len(e['changes']), 'change', 'changes')} of the configuration",
    "reload.failed": lambda e: f"the running configuration stays: {e['reason']}",
    "bmp.up": lambda e: f"station {e['station']}: connected",
    "bmp.down": lambda e: f"station {e['station']}: {e['reason']}",
    "bmp.dropped": lambda e: f"station {e['station']}: given up, {e['reason']} ({e['drops']} times so far)",
    "mrt.failed": lambda e: f"{e['file']} cannot be written: {e['reason']}",
    "update.error": lambda e: f"{e['peer']}: {'; '.join(e['errors'])}",
}
_HIDDEN = {"seq", "time", "type"}


def line(event: Event) -> str:
    """One line, no line break: monotonic seconds, the event's type, the story."""
    form = FORMS.get(event["type"])
    story = form(event) if form else " ".join(f"{k}={v}" for k, v in event.items() if k not in _HIDDEN)
    return f"{event['time']:.6f} {event['type']:<14} {story}"
