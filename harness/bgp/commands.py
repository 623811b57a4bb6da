"""The control methods by name: what ``harness.control`` serves for a speaker. Wrong parameters are ValueErrors with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.bgp.config import Network, parse_neighbor, parse_network, parse_rules
from harness.bgp.shows import Shows
from harness.bgp.speaker import Speaker

Methods = dict[str, Callable[..., Any]]


def methods(speaker: Speaker, shows: Shows) -> Methods:
    """Every method takes keyword parameters and answers with JSON values; commands answer with what they did."""

    def network_add(prefix: str, require_route: bool = False) -> str:
        speaker.add_network(Network(prefix=str(parse_network(prefix)), require_route=require_route))
        return f"network {prefix} is announced"

    def network_delete(prefix: str) -> str:
        speaker.delete_network(prefix)
        return f"network {prefix} is withdrawn"

    def neighbor_add(**fields: Any) -> str:
        neighbor = parse_neighbor(fields)
        speaker.add_neighbor(neighbor)
        return f"neighbour {neighbor.name} is added"

    def neighbor_delete(name: str) -> str:
        speaker.delete_neighbor(name)
        return f"neighbour {name} is deleted"

    def neighbor_change(**fields: Any) -> dict[str, Any]:
        neighbor = parse_neighbor(fields)
        return {"neighbor": neighbor.name, "changed": speaker.change_neighbor(neighbor)}

    def neighbor_set(name: str, fields: dict[str, Any]) -> dict[str, Any]:
        old = speaker.adjacency(name).config
        if fields.get("name", old.name) != old.name:
            raise ValueError("a neighbour keeps its name; delete it and add it under the new one")
        neighbor = parse_neighbor(old.model_dump(by_alias=True) | fields)
        return {"neighbor": neighbor.name, "changed": speaker.change_neighbor(neighbor)}

    def neighbor_reset(name: str, text: str = "") -> str:
        speaker.reset_neighbor(name, text)
        return f"neighbour {name} is reset"

    def neighbor_shutdown(name: str, text: str = "") -> str:
        speaker.shut_neighbor(name, text)
        return f"neighbour {name} is shut down"

    def neighbor_drain(name: str, draining: bool = True) -> str:
        speaker.drain_neighbor(name, draining)
        return f"neighbour {name} is {'drained' if draining else 'in full use again'}"

    def neighbor_start(name: str) -> str:
        speaker.start_neighbor(name)
        return f"neighbour {name} is started"

    def clear_soft(name: str, direction: str = "both", stored: bool = False) -> str:
        speaker.clear_soft(name, direction, stored=stored)
        return f"neighbour {name}: soft clear {direction}"

    def policy_set(name: str, direction: str, rules: list[object]) -> str:
        speaker.set_policy(name, direction, parse_rules(rules))
        return (
            f"neighbour {name}: {direction} policy of {len(rules)} terms; it counts for old routes after a soft clear"
        )

    async def neighbors(name: str | None = None) -> list[dict[str, Any]]:
        await speaker.bfd.refresh()
        return shows.neighbors(name)

    def bfd_timers(name: str, interval_ms: int, multiplier: int = 3) -> str:
        speaker.retime_bfd(name, interval_ms, multiplier)
        return f"neighbour {name}: BFD every {interval_ms} ms, {multiplier} missed are too many"

    def events_last() -> int:
        kept = speaker.log.since()
        return int(kept[-1]["seq"]) if kept else 0

    return {
        "events.last": events_last,
        "show.summary": shows.summary,
        "show.neighbors": neighbors,
        "show.routes": shows.routes,
        "show.why": shows.why,
        "show.fib": shows.fib,
        "show.nexthops": shows.next_hops,
        "show.config": shows.configuration,
        "network.add": network_add,
        "network.delete": network_delete,
        "neighbor.add": neighbor_add,
        "neighbor.delete": neighbor_delete,
        "neighbor.change": neighbor_change,
        "neighbor.set": neighbor_set,
        "neighbor.reset": neighbor_reset,
        "neighbor.shutdown": neighbor_shutdown,
        "neighbor.drain": neighbor_drain,
        "neighbor.start": neighbor_start,
        "bfd.timers": bfd_timers,
        "clear.soft": clear_soft,
        "policy.set": policy_set,
    }
