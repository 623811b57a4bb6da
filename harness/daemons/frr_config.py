"""FRR's configuration commands for a speaker's configuration, and for the way from one to another. Pure text, no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from harness.bgp.config import Neighbor, SpeakerConfig
from harness.daemons.driver import hold_time, is_internal
from harness.daemons.policies import IPV4, IPV6, route_map, word_of

#: How long bgpd waits for more neighbours before it sends a first table; its own default of a second is all that a small lab waits for.
_COALESCE_MS = 20
_FAMILIES = {"ipv4": IPV4, "ipv6": IPV6}


def whole(config: SpeakerConfig) -> list[str]:
    """The commands of a bgpd that runs nothing yet."""
    lines = [line for neighbor in config.neighbors for line in policies(config, neighbor)]
    lines += [
        f"router bgp {config.asn}",
        "no bgp ebgp-requires-policy",  # what a neighbour without policies gets is the model's ``strict``, in its route map
        "no bgp network import-check",
        "no bgp default ipv4-unicast",
        "bgp log-neighbor-changes",
        f"coalesce-time {_COALESCE_MS}",
        *([f"bgp router-id {config.router_id}"] if config.router_id else []),
        f"timers bgp {keepalive(config.hold_time)} {config.hold_time}",
        *_graceful_restart(config),
        *(["bgp always-compare-med"] if config.always_compare_med else []),
        *(["bgp bestpath as-path multipath-relax"] if config.multipath_as_path == "length" else []),
    ]
    if config.local_pref != 100:
        lines.append(f"bgp default local-preference {config.local_pref}")
    for name in _FAMILIES:
        lines += [
            f"address-family {name} unicast",
            f"maximum-paths {config.multipath}",
            f"maximum-paths ibgp {config.multipath_ibgp}",
            "exit-address-family",
        ]
    for neighbor in config.neighbors:
        lines += neighbor_lines(config, neighbor)
    lines += network_lines([network.prefix for network in config.networks])
    return lines


def _graceful_restart(config: SpeakerConfig) -> list[str]:
    """bgpd has one set of times for all its neighbours: the longest that any asks for."""
    chosen = [n.graceful_restart for n in config.neighbors if n.graceful_restart is not None]
    if not chosen:
        return []
    return [
        f"bgp graceful-restart restart-time {max(options.restart_time for options in chosen)}",
        f"bgp graceful-restart stalepath-time {round(max(options.stale_time for options in chosen))}",
        *(["bgp graceful-restart notification"] if any(options.notification for options in chosen) else []),
    ]


def changes(old: SpeakerConfig, new: SpeakerConfig) -> list[str]:
    """The commands that lead from one configuration to another; neighbours that stay as they are are not named."""
    before = {n.name: n for n in old.neighbors}
    after = {n.name: n for n in new.neighbors}
    lines: list[str] = []
    for name, neighbor in after.items():
        if before.get(name) != neighbor:
            lines += policies(new, neighbor)
    lines.append(f"router bgp {new.asn}")
    for name, neighbor in before.items():
        if name not in after or _restarts(neighbor, after[name]):
            lines.append(f"no neighbor {neighbor.address}")
    for name, neighbor in after.items():
        if name not in before or before[name] != neighbor:
            lines += neighbor_lines(new, neighbor)
    gone = {n.prefix for n in old.networks} - {n.prefix for n in new.networks}
    fresh = {n.prefix for n in new.networks} - {n.prefix for n in old.networks}
    lines += network_lines(sorted(gone), "no ") + network_lines(sorted(fresh))
    return lines


def _restarts(old: Neighbor, new: Neighbor) -> bool:
    """Whether a change of this neighbour is made by removing it first: only policies and limits change in place."""
    in_place = {"import_", "export", "strict", "maximum_prefixes", "shutdown"}
    return any(
        getattr(old, field) != getattr(new, field) for field in type(new).model_fields if field not in in_place
    ) or (bool(old.import_ or old.export or old.strict) != bool(new.import_ or new.export or new.strict))


def keepalive(seconds: int) -> int:
    """The keepalive interval that RFC 4271 10 suggests: a third of the hold time."""
    return seconds // 3


def _map_name(neighbor: Neighbor, direction: str, family: str) -> str:
    return f"{word_of(neighbor.name)}-{direction}-{family}"


def _has_policies(neighbor: Neighbor) -> bool:
    return bool(neighbor.import_ or neighbor.export or neighbor.strict)


def policies(config: SpeakerConfig, neighbor: Neighbor) -> Iterator[str]:
    """The neighbour's route maps, taken away and made anew."""
    if not _has_policies(neighbor):
        return
    for family in neighbor.address_families:
        for direction, rules in (("in", neighbor.import_), ("out", neighbor.export)):
            name = _map_name(neighbor, direction, family)
            yield f"no route-map {name}"
            yield from route_map(name, rules, _FAMILIES[family], config, neighbor)


def neighbor_lines(config: SpeakerConfig, neighbor: Neighbor) -> Iterator[str]:
    """Below ``router bgp``: the neighbour and its address families."""
    at = f"neighbor {neighbor.address}"
    yield f"{at} remote-as {neighbor.remote_asn}"
    yield f"{at} shutdown"  # until all of it is there: bgpd dials from the first line on
    if neighbor.local_asn not in (None, config.asn):
        yield f"{at} local-as {neighbor.local_asn} no-prepend replace-as"
    if (secret := neighbor.secret()) is not None:
        yield f"{at} password {secret.decode()}"
    if neighbor.local_address:
        yield f"{at} update-source {neighbor.local_address}"
    if neighbor.ebgp_multihop:
        yield f"{at} ebgp-multihop {neighbor.ebgp_multihop}"
    seconds = hold_time(config, neighbor)
    yield f"{at} timers {keepalive(seconds)} {seconds}"
    yield f"{at} timers connect {neighbor.connect_retry_time or config.connect_retry_time}"
    yield f"{at} advertisement-interval {round(neighbor.advertisement_interval)}"
    if neighbor.passive:
        yield f"{at} passive"
    if neighbor.enforce_first_as and not is_internal(config, neighbor):
        yield f"{at} enforce-first-as"
    if (restart := neighbor.graceful_restart) is not None:
        yield f"{at} graceful-restart{'' if restart.mode == 'full' else '-helper'}"
    if neighbor.bfd is not None:
        yield f"{at} bfd {neighbor.bfd.multiplier} {neighbor.bfd.interval_ms} {neighbor.bfd.interval_ms}"
    for family in neighbor.address_families:
        yield f"address-family {family} unicast"
        yield f"{at} activate"
        yield f"{at} soft-reconfiguration inbound"  # Adj-RIB-In as it came, for show.routes
        if neighbor.next_hop_self:
            yield f"{at} next-hop-self"
        if neighbor.add_path in ("send", "both"):
            yield f"{at} addpath-tx-all-paths"
        if neighbor.add_path in ("none", "send"):
            yield f"{at} disable-addpath-rx"
        if neighbor.allow_as_in:
            yield f"{at} allowas-in {neighbor.allow_as_in}"
        if (most := neighbor.maximum_prefixes) is not None:
            yield f"{at} maximum-prefix {most.limit}{_beyond(most.action, most.restart)}"
        if _has_policies(neighbor):
            yield f"{at} route-map {_map_name(neighbor, 'in', family)} in"
            yield f"{at} route-map {_map_name(neighbor, 'out', family)} out"
        yield "exit-address-family"
    if not neighbor.shutdown:
        yield f"no {at} shutdown"


def _beyond(action: str, restart: float | None) -> str:
    """What bgpd does with one prefix more; it counts the time to a restart in minutes."""
    if action == "warn":
        return " warning-only"
    return "" if restart is None else f" restart {max(1, round(restart / 60))}"


def network_lines(prefixes: list[str], no: str = "") -> list[str]:
    lines: list[str] = []
    for name, version in _FAMILIES.items():
        chosen = [prefix for prefix in prefixes if (":" in prefix) == (version == IPV6)]
        if chosen:
            lines += [
                f"address-family {name} unicast",
                *(f"{no}network {prefix}" for prefix in chosen),
                "exit-address-family",
            ]
    return lines
