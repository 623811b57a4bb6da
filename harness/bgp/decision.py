"""The decision process: RFC 4271 9.1.2, with multipath. A pure function of the candidates and of what is known of next hops.

Each step of RFC 4271 9.1.2.2 is a row of ``STEPS``; walking it removes candidates and notes for each the step that removed it.
The steps are set operations, so the order in which the candidates came never matters (MED included). The RFC's step (d) to (g)
carry RFC 4456's changes: ORIGINATOR_ID stands for the BGP Identifier, then the shorter CLUSTER_LIST wins.

Beyond the RFC stand, as in every implementation: own networks before learned routes, and the path id as the very last tie-break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from harness.bgp.attributes import Origin
from harness.bgp.paths import Kind, Path

DEFAULT_LOCAL_PREF = 100

Cost = Callable[[bytes], "int | None"]
"""Interior cost to a next hop (4 or 16 octets); None: there is no route to it."""


class Reason(Enum):
    """Why a candidate is not the best path; the values are the steps' places in the RFCs."""

    UNRESOLVABLE = "RFC 4271 9.1.2.1"
    LOCAL_ORIGIN = "own network"
    LOCAL_PREF = "RFC 4271 9.1.1"
    AS_PATH_LENGTH = "RFC 4271 9.1.2.2 a"
    ORIGIN = "RFC 4271 9.1.2.2 b"
    MED = "RFC 4271 9.1.2.2 c"
    EBGP_OVER_IBGP = "RFC 4271 9.1.2.2 d"
    INTERIOR_COST = "RFC 4271 9.1.2.2 e"
    ROUTER_ID = "RFC 4271 9.1.2.2 f"
    CLUSTER_LIST = "RFC 4456 9"
    PEER_ADDRESS = "RFC 4271 9.1.2.2 g"
    PATH_ID = "RFC 7911 path id"


@dataclass(frozen=True, slots=True)
class Preferences:
    """The speaker's choices about the decision."""

    multipath_ebgp: int = 1
    multipath_ibgp: int = 1
    multipath_as_path: Literal["identical", "length"] = "identical"
    always_compare_med: bool = False
    local_pref: int = DEFAULT_LOCAL_PREF


@dataclass(slots=True, eq=False)
class Selection:
    """The outcome for one set of candidates, shared by all prefixes that have this set. Nobody writes to it (see :class:`Path`).

    ``usable`` are the candidates whose next hop resolves; ``multipath`` starts with ``best``; ``reasons`` has one entry for each
    candidate: None for the best path.
    """

    candidates: tuple[Path, ...]
    usable: tuple[Path, ...]
    best: Path | None
    multipath: tuple[Path, ...]
    reasons: tuple[Reason | None, ...]

    def why_not(self, path: Path) -> str | None:
        """One line on why ``path`` is not the best: the step, both values and the source. None for the best itself."""
        reason = self.reasons[self.candidates.index(path)]
        if reason is None:
            return None
        if self.best is None or reason is Reason.UNRESOLVABLE:
            return f"next hop has no route ({reason.value})"
        label, value = _EXPLAIN[reason]
        if value is None:
            return f"{label} ({reason.value})"
        return f"{label} {value(path)}, the best path has {value(self.best)} ({reason.value})"


Key = Callable[[Path, Preferences, Cost], int | bytes]


def _identifier(path: Path, _preferences: Preferences, _cost: Cost) -> int:
    originator = path.attributes.originator_id
    return path.source.router_id if originator is None else int(originator)


def _local_pref(path: Path, preferences: Preferences, _cost: Cost) -> int:
    value = path.attributes.local_pref
    return -(preferences.local_pref if value is None else value)


def _interior_cost(path: Path, _preferences: Preferences, cost: Cost) -> int:
    return (cost(path.next_hop) or 0) if path.next_hop else 0


# The lowest key wins. MED is None here because it compares only within a neighbouring AS: see _worse_med.
_BEFORE_MULTIPATH: tuple[tuple[Reason, Key | None], ...] = (
    (Reason.LOCAL_ORIGIN, lambda p, _, __: p.source.kind is not Kind.LOCAL),
    (Reason.LOCAL_PREF, _local_pref),
    (Reason.AS_PATH_LENGTH, lambda p, _, __: p.attributes.as_path_length),
    (Reason.ORIGIN, lambda p, _, __: p.attributes.origin),
    (Reason.MED, None),
    (Reason.EBGP_OVER_IBGP, lambda p, _, __: p.source.kind is Kind.IBGP),
    (Reason.INTERIOR_COST, _interior_cost),
)
_TIE_BREAKS: tuple[tuple[Reason, Key | None], ...] = (
    (Reason.ROUTER_ID, _identifier),
    (Reason.CLUSTER_LIST, lambda p, _, __: len(p.attributes.cluster_list)),
    (Reason.PEER_ADDRESS, lambda p, _, __: p.source.address),
    (Reason.PATH_ID, lambda p, _, __: p.path_id),
)
STEPS = _BEFORE_MULTIPATH + _TIE_BREAKS


_CHOSEN: tuple[Reason | None, ...] = (None,)


def select(candidates: Sequence[Path], preferences: Preferences, cost: Cost) -> Selection:
    """Chooses the best path and the multipath set among ``candidates``, and says of every other one which step removed it."""
    if len(candidates) == 1 and (not candidates[0].next_hop or cost(candidates[0].next_hop) is not None):
        only = tuple(candidates)
        return Selection(only, only, only[0], only, _CHOSEN)
    reasons: dict[Path, Reason] = {}
    usable = [p for p in candidates if not p.next_hop or cost(p.next_hop) is not None]
    if len(usable) < len(candidates):
        reasons.update(dict.fromkeys(set(candidates) - set(usable), Reason.UNRESOLVABLE))
    equal = _walk(_BEFORE_MULTIPATH, usable, preferences, cost, reasons)
    # Two sessions of one neighbour may offer the same path for a moment; a stable sort keeps the candidates' order then.
    ranked = _walk(_TIE_BREAKS, equal, preferences, cost, reasons)
    best = ranked[0] if ranked else None
    for path in ranked[1:]:
        reasons[path] = Reason.PATH_ID
    return Selection(
        tuple(candidates),
        tuple(usable),
        best,
        () if best is None else _multipath(best, equal, preferences),
        tuple(reasons.get(p) for p in candidates),
    )


def _walk(
    steps: Iterable[tuple[Reason, Key | None]],
    remaining: list[Path],
    preferences: Preferences,
    cost: Cost,
    reasons: dict[Path, Reason],
) -> list[Path]:
    for reason, key in steps:
        if len(remaining) < 2:
            break
        if key is None:
            kept = [p for p in remaining if not _worse_med(p, remaining, preferences)]
        else:
            keys = [key(p, preferences, cost) for p in remaining]
            lowest = min(keys)
            kept = [p for p, k in zip(remaining, keys, strict=True) if k == lowest]
        if len(kept) < len(remaining):
            reasons.update(dict.fromkeys(set(remaining) - set(kept), reason))
        remaining = kept
    return remaining


def _worse_med(path: Path, others: list[Path], preferences: Preferences) -> bool:
    """RFC 4271 9.1.2.2 c: another path from the same neighbouring AS has a lower MED; none at all counts as 0."""
    med, asn = path.attributes.med or 0, path.attributes.neighbor_as
    return any(
        (other.attributes.med or 0) < med and (preferences.always_compare_med or other.attributes.neighbor_as == asn)
        for other in others
    )


def _multipath(best: Path, equal: list[Path], preferences: Preferences) -> tuple[Path, ...]:
    """The best path and its equals of the same kind, at most as many as allowed; the rest is ordered by the tie-breaks' keys."""
    if best.source.kind is Kind.LOCAL:
        return (best,)
    limit = preferences.multipath_ebgp if best.source.kind is Kind.EBGP else preferences.multipath_ibgp
    others = [
        p for p in equal if p is not best and p.source.kind is best.source.kind and _same_way(p, best, preferences)
    ]
    others.sort(key=lambda p: (_identifier(p, preferences, _no_cost), p.source.address, p.path_id))
    return (best, *others[: limit - 1])


def _same_way(path: Path, best: Path, preferences: Preferences) -> bool:
    return preferences.multipath_as_path == "length" or path.attributes.as_path == best.attributes.as_path


def _no_cost(_next_hop: bytes) -> int:
    return 0


def _dotted(value: int) -> str:
    return ".".join(str(octet) for octet in value.to_bytes(4, "big"))


# What a reason compares, for people; None where the value is not the path's own (a cost is the kernel's, a MED has its AS).
_EXPLAIN: dict[Reason, tuple[str, Callable[[Path], object] | None]] = {
    Reason.LOCAL_ORIGIN: ("learned by", lambda p: p.source.kind.value),
    Reason.LOCAL_PREF: (
        "local preference",
        lambda p: "default" if p.attributes.local_pref is None else p.attributes.local_pref,
    ),
    Reason.AS_PATH_LENGTH: ("AS path length", lambda p: p.attributes.as_path_length),
    Reason.ORIGIN: ("origin", lambda p: Origin(p.attributes.origin).name.lower()),
    Reason.MED: ("MED is higher than that of another path from the same neighbouring AS", None),
    Reason.EBGP_OVER_IBGP: ("learned by", lambda p: p.source.kind.value),
    Reason.INTERIOR_COST: ("the next hop costs more than the best path's", None),
    Reason.ROUTER_ID: ("BGP identifier", lambda p: _dotted(_identifier(p, Preferences(), _no_cost))),
    Reason.CLUSTER_LIST: ("cluster list length", lambda p: len(p.attributes.cluster_list)),
    Reason.PEER_ADDRESS: ("peer address", lambda p: p.source.address_text),
    Reason.PATH_ID: ("path id", lambda p: p.path_id),
}
