"""Changing a neighbour while it runs: for each field of its configuration when a new value takes effect.

A table, not a policy engine: :meth:`harness.bgp.neighborhood.Neighborhood.change_neighbor` walks it.
"""

from __future__ import annotations

from enum import Enum

from harness.bgp.config import Neighbor


class Effect(Enum):
    """When a changed field counts; the value is what the answer to ``neighbor.change`` says."""

    AT_ONCE = "at once"
    NEW_ROUTES = "for routes from now on; for those already there by a soft clear"
    NEXT_SESSION = "at the next session"
    RESET = "session reset with Cease/6"


# Every field of a neighbour but its name, which says whom the change is for.
EFFECTS: dict[str, Effect] = {
    "description": Effect.AT_ONCE,
    "address": Effect.RESET,
    "remote_asn": Effect.RESET,
    "local_asn": Effect.RESET,
    "local_address": Effect.RESET,
    "port": Effect.NEXT_SESSION,
    "ebgp_multihop": Effect.RESET,
    "ttl_security": Effect.RESET,
    "fall_over": Effect.AT_ONCE,
    "bfd": Effect.AT_ONCE,
    "next_hop_self": Effect.NEW_ROUTES,
    "route_reflector_client": Effect.RESET,
    "add_path": Effect.RESET,
    "families": Effect.RESET,
    "passive": Effect.NEXT_SESSION,
    "shutdown": Effect.AT_ONCE,
    "key": Effect.AT_ONCE,
    "key_file": Effect.AT_ONCE,
    "hold_time": Effect.NEXT_SESSION,
    "send_hold_time": Effect.NEXT_SESSION,
    "connect_retry_time": Effect.NEXT_SESSION,
    "delay_open": Effect.NEXT_SESSION,
    "damp_peer_oscillations": Effect.NEXT_SESSION,
    "idle_hold_time": Effect.NEXT_SESSION,
    "idle_hold_time_max": Effect.NEXT_SESSION,
    "four_octet_asn": Effect.RESET,
    "enforce_first_as": Effect.NEW_ROUTES,
    "allow_as_in": Effect.NEW_ROUTES,
    "advertisement_interval": Effect.AT_ONCE,
    "maximum_prefixes": Effect.AT_ONCE,
    "graceful_restart": Effect.NEXT_SESSION,
    "import_": Effect.NEW_ROUTES,
    "export": Effect.NEW_ROUTES,
    "strict": Effect.NEW_ROUTES,
}


def changed_fields(old: Neighbor, new: Neighbor) -> dict[str, Effect]:
    """The fields that differ, by the names of the configuration file, and when each takes effect.

    A key file counts as changed when its content may have: it is read again.
    """
    found = {
        Neighbor.model_fields[name].alias or name: effect
        for name, effect in EFFECTS.items()
        if getattr(old, name) != getattr(new, name)
    }
    if new.key_file is not None:
        found.setdefault("key_file", Effect.AT_ONCE)
    return found
