"""Answers of the control methods ``show.*``: the speaker's state as JSON values. Reads, never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from harness.bgp import capabilities
from harness.bgp import prefixes as nlri
from harness.bgp.adjacency import Adjacency
from harness.bgp.config import masked, parse_network
from harness.bgp.decision import Selection
from harness.bgp.export import Advert, Exporter
from harness.bgp.fsm import State
from harness.bgp.messages import MessageType
from harness.bgp.paths import Path
from harness.bgp.prefixes import Family
from harness.bgp.reload import running
from harness.bgp.session import Session
from harness.bgp.speaker import Speaker
from harness.bgp.telling import (
    address_text,
    advert_row,
    capability_text,
    full_path_row,
    notification_fields,
    session_fields,
    ways_rows,
)
from harness.bgp.transport import md5_failures, ttl_failures

TABLES = ("loc", "in", "out")
LIMIT = 20_000
"""Most prefixes of an answer: more would keep the speaker from its neighbours while it is written."""


class Shows:
    """The read side of a speaker. ``now`` is the clock its times are told by."""

    def __init__(self, speaker: Speaker, now: Callable[[], float]) -> None:
        self._speaker = speaker
        self._now = now

    # ------------------------------------------------------------------------------------------------------------ summary

    def summary(self) -> dict[str, Any]:
        """``show.summary``: the speaker and a line for each neighbour."""
        speaker = self._speaker
        return {
            "asn": speaker.config.asn,
            "router_id": str(speaker.router_id),
            "profile": speaker.config.profile,
            "prefixes": {str(f): len(t.selections) for f, t in speaker.tables.items() if t.selections},
            "kernel_routes": {str(f): len(fib) for f, fib in speaker.kernel.fibs.items() if len(fib)},
            "networks": [network.prefix for _, network in speaker.networks.values()],
            "neighbors": [self._summary_row(a) for a in speaker.adjacencies.values()],
        }

    def _summary_row(self, adjacency: Adjacency) -> dict[str, Any]:
        peer = adjacency.peer
        return {
            "name": adjacency.name,
            "address": adjacency.config.address,
            "asn": adjacency.config.remote_asn,
            "state": peer.state.value,
            "shutdown": adjacency.config.shutdown,
            "uptime": self._uptime(adjacency),
            "received": sum(len(i.rib) for i in adjacency.inbound.values()),
            "accepted": sum(len(i.rib) - i.rib.rejected for i in adjacency.inbound.values()),
            "advertised": sum(len(o) for o in adjacency.outbound.values()),
            "messages_in": peer.statistics.received.total(),
            "messages_out": peer.statistics.sent.total(),
            "last_down": adjacency.last_down,
        }

    def _uptime(self, adjacency: Adjacency) -> float | None:
        return None if adjacency.established_at is None else round(self._now() - adjacency.established_at, 3)

    # ---------------------------------------------------------------------------------------------------------- neighbours

    def neighbors(self, name: str | None = None) -> list[dict[str, Any]]:
        """``show.neighbors``: all there is to know of each neighbour, or of the one called ``name`` (or of that address)."""
        chosen = self._speaker.adjacencies.values() if name is None else [self._speaker.adjacency(name)]
        return [self._neighbor(a) for a in chosen]

    def _neighbor(self, adjacency: Adjacency) -> dict[str, Any]:
        peer, config = adjacency.peer, adjacency.config
        counters = peer.statistics
        session = peer.session
        row = self._summary_row(adjacency) | {
            "local_asn": adjacency.local_asn,
            "type": "iBGP" if config.remote_asn == adjacency.local_asn else "eBGP",
            "local_address": config.local_address,
            "ebgp_multihop": config.ebgp_multihop,
            "ttl_security": config.ttl_security,
            "passive": config.passive,
            "description": config.description,
            "draining": adjacency.draining,
            "route_reflector_client": config.route_reflector_client,
            "key": config.key is not None or config.key_file is not None,
            "session": None if session is None else session_fields(session),
            "capabilities": [] if session is None else [capabilities.name(c.code) for c in session.peer_capabilities],
            "offered": _offers(session),
            "configured": {
                "hold_time": peer.config.hold_time,
                "connect_retry_time": peer.config.connect_retry_time,
                "idle_hold_first": peer.config.idle_hold_first,
                "idle_hold_max": peer.config.idle_hold_max,
            },
            "timers": {k: round(v, 3) for k, v in peer.timers(self._now()).items()},
            "received_messages": {MessageType(k).name: n for k, n in sorted(counters.received.items())},
            "sent_messages": {MessageType(k).name: n for k, n in sorted(counters.sent.items())},
            "octets_received": counters.octets_received,
            "octets_sent": counters.octets_sent,
            "established_count": counters.established,
            "transitions": counters.transitions,
            "last_sent_error": None if counters.last_sent is None else notification_fields(counters.last_sent),
            "last_received_error": (
                None if counters.last_received is None else notification_fields(counters.last_received)
            ),
        }
        if config.maximum_prefixes is not None:
            row["maximum_prefixes"] = config.maximum_prefixes.model_dump() | {
                "families": {
                    str(family): {
                        "count": inbound.offered,
                        "over": inbound.limit is not None and inbound.limit.over,
                    }
                    for family, inbound in adjacency.inbound.items()
                }
            }
        if config.graceful_restart is not None:
            helper = adjacency.helper
            row["graceful_restart"] = config.graceful_restart.model_dump() | {
                "stale": {str(f): i.rib.stale_count for f, i in adjacency.inbound.items() if f in helper.stale},
                "stale_for": None if helper.until is None else round(helper.until - self._now(), 3),
            }
        if config.bfd is not None:
            row["bfd"] = self._speaker.bfd.row(adjacency.name) or {
                "state": "AdminDown" if config.shutdown else "Down",
                "reason": "the neighbour is shut down" if config.shutdown else "the BFD process has not told of it yet",
                "hop_count": config.bfd.hop_count,
            }
        if config.ttl_security is not None and (far := ttl_failures()):
            row["ttl_dropped"] = f"{far} segments from too far away were dropped in this namespace"
        if row["key"] and peer.state is not State.ESTABLISHED and (dropped := md5_failures()):
            row["md5"] = f"{dropped} segments with a wrong or missing MD5 signature were dropped in this namespace"
        return row

    # -------------------------------------------------------------------------------------------------------------- routes

    def routes(
        self, table: str = "loc", peer: str | None = None, prefix: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """``show.routes``: ``table`` is "loc", "in" (of ``peer`` or all) or "out" (of ``peer``); ``prefix`` picks one.
        ``limit`` takes that many prefixes of a table that is too large for one answer.

        Rows ``{"prefix", "paths": [...]}`` in the prefixes' order; paths of "loc" carry ``best``, ``multipath``, ``usable``, ``why_not``.
        """
        if table not in TABLES:
            raise ValueError(f"table {table!r}: there are {', '.join(TABLES)}")
        if table == "out" and peer is None:
            raise ValueError("table out is kept for each neighbour: name the peer")
        wanted = None if prefix is None else nlri.from_network(parse_network(prefix))
        found: list[dict[str, Any]] = []
        for family in Family:
            if prefix is not None and nlri.family_of(prefix) is not family:
                continue
            read = {"loc": self._loc_rows, "in": self._in_rows, "out": self._out_rows}[table]
            most = LIMIT + 1 if limit is None else limit - len(found)
            rows = list(islice(read(family, peer, wanted), most))
            if len(rows) > LIMIT and limit is None:
                raise ValueError(f"table {table} has over {LIMIT} prefixes: name a prefix, or give a limit")
            found += [{"prefix": nlri.text(key, family), "paths": paths} for key, paths in sorted(rows, key=_in_order)]
        return found

    def _loc_rows(self, family: Family, peer: str | None, wanted: bytes | None) -> Iterator[tuple[bytes, list[Any]]]:
        name = None if peer is None else self._speaker.adjacency(peer).name
        selections = self._speaker.tables[family].selections
        for key in selections if wanted is None else [wanted]:
            selection = selections.get(key)
            if selection is not None:
                paths = [self._loc_path(selection, p) for p in selection.candidates if name in (None, p.source.name)]
                if paths:
                    yield key, paths

    def _loc_path(self, selection: Selection, path: Path) -> dict[str, Any]:
        why_not = selection.why_not(path)
        row = full_path_row(path) | {
            "best": path is selection.best,
            "multipath": path in selection.multipath and len(selection.multipath) > 1,
            "usable": path in selection.usable,
        }
        if why_not is not None:
            row["why_not"] = why_not
        return row

    def _in_rows(self, family: Family, peer: str | None, wanted: bytes | None) -> Iterator[tuple[bytes, list[Any]]]:
        chosen = self._speaker.adjacencies.values() if peer is None else [self._speaker.adjacency(peer)]
        found: dict[bytes, list[Any]] = {}
        for adjacency in chosen:
            inbound = adjacency.inbound.get(family)
            for key, path in inbound.rib.routes.items() if inbound else ():
                prefix = inbound.rib.prefix_of(key) if inbound else key
                if wanted in (None, prefix):
                    stale = {"stale": True} if inbound and inbound.rib.is_stale(key) else {}
                    found.setdefault(prefix, []).append(full_path_row(path) | stale)
        yield from found.items()

    def _out_rows(self, family: Family, peer: str | None, wanted: bytes | None) -> Iterator[tuple[bytes, list[Any]]]:
        assert peer is not None
        outbound = self._speaker.adjacency(peer).outbound.get(family)
        sent: dict[bytes, Advert] = outbound.sent if outbound is not None else {}
        for key in sent if wanted is None else [wanted]:
            if key in sent:
                yield key, [advert_row(*row[:3]) for row in sent[key]]

    def why(self, prefix: str) -> dict[str, Any]:
        """``show.why``: what is known of one prefix: who offers it, which path is used and why no other, who is told and who is not.

        ``{"prefix", "received": paths, "candidates": paths, "neighbors": [{"peer", "announced": paths, "why_not": [{"peer", "reason"}]}]}``
        """
        network = parse_network(prefix)
        key, family = nlri.from_network(network), nlri.family_of(network)
        selection = self._speaker.tables[family].selections.get(key)
        received = [path for _, paths in self._in_rows(family, None, key) for path in paths]
        candidates = [] if selection is None else [self._loc_path(selection, p) for p in selection.candidates]
        told = [self._told(adjacency, family, key, selection) for adjacency in self._speaker.adjacencies.values()]
        return {"prefix": str(network), "received": received, "candidates": candidates, "neighbors": told}

    def _told(self, adjacency: Adjacency, family: Family, key: bytes, selection: Selection | None) -> dict[str, Any]:
        outbound = adjacency.outbound.get(family)
        if outbound is None:
            state = adjacency.peer.state
            reason = (
                f"the session is {state.value}" if state is not State.ESTABLISHED else f"{family} is not negotiated"
            )
            return {"peer": adjacency.name, "announced": [], "why_not": [{"peer": None, "reason": reason}]}
        announced = [advert_row(*row[:3]) for row in outbound.told(key)]
        return {
            "peer": adjacency.name,
            "announced": announced,
            "why_not": list(_withheld(outbound.exporter, key, selection, bool(announced))),
        }

    # ----------------------------------------------------------------------------------------------------------- the kernel

    def fib(self, limit: int | None = None) -> dict[str, Any]:
        """``show.fib``: what was written to the kernel and is there still, as far as the kernel told; ``limit`` as for routes."""
        kernel = self._speaker.kernel
        rows = []
        for family, fib in kernel.fibs.items():
            if len(fib) > LIMIT and limit is None:
                raise ValueError(f"the kernel has over {LIMIT} routes of this speaker: give a limit")
            for route in sorted(islice(fib.installed(), limit), key=_in_order):
                rows.append(
                    {
                        "prefix": nlri.text(route.prefix, family),
                        "group": route.group,
                        "next_hops": ways_rows(route.ways, kernel),
                    }
                )
        return {"kind": {str(f): fib.name for f, fib in kernel.fibs.items()}, "routes": rows}

    def next_hops(self) -> list[dict[str, Any]]:
        """``show.nexthops``: the next hops of all paths and what they resolve to."""
        kernel = self._speaker.kernel
        seen = {
            path.next_hop
            for table in self._speaker.tables.values()
            for selection in set(table.selections.values())
            for path in selection.candidates
            if path.next_hop
        }
        rows = []
        for next_hop in sorted(seen):
            answer = kernel.resolve(next_hop)
            rows.append(
                {
                    "next_hop": address_text(next_hop),
                    "resolved": None
                    if answer is None
                    else {"via": answer.via, "cost": answer.cost, "ways": ways_rows(answer.ways, kernel)},
                }
            )
        return rows

    def configuration(self) -> dict[str, Any]:
        """``show.config``: as it stands now, keys masked."""
        return masked(running(self._speaker))


def _withheld(exporter: Exporter, key: bytes, selection: Selection | None, announced: bool) -> Iterator[dict[str, Any]]:
    """Who brought each path that a neighbour is not told of, and why it is not."""
    if selection is None or selection.best is None:
        yield {"peer": None, "reason": "no path to it can be used"}
        return
    for path in selection.candidates:
        if path is not selection.best and not (exporter.target.add_path and path in selection.usable):
            reason: str | None = "only the best path is announced" if path in selection.usable else "it cannot be used"
        else:
            reason = exporter.refusal(key, path)
            if reason is None and not announced:
                reason = "it may be announced, and was not yet: the neighbour is slow, or a soft clear out is due"
        if reason is not None:
            yield {"peer": path.source.name, "reason": reason}


def _offers(session: Session | None) -> dict[str, list[str]]:
    """The capabilities of both OPENs of a session that is up."""
    sent, received = (session.opens if session is not None else None) or (None, None)
    return {
        "sent": [capability_text(c) for c in sent.capabilities] if sent is not None else [],
        "received": [capability_text(c) for c in received.capabilities] if received is not None else [],
    }


def _in_order(row: Any) -> tuple[bytes, int]:
    """Numeric order of prefixes: by address, the shorter first."""
    key = row[0]
    return key[1:].ljust(16, b"\0"), key[0]
