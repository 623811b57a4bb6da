"""The links of a running lab, made late, lossy or slow while it runs, and a plan's links, held against what the kernel can.

What such a link is stands in ``harness.impairment``, the kernel's part in ``harness.net.queues``. Cutting a link is ``Lab.set_link``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.impairment import CLEAR, Given, ImpairmentError, spoken
from harness.net import queues
from harness.net.mininet import LabError, LabIntf
from harness.plan import Change, Link, Plan

if TYPE_CHECKING:
    from harness.lab import Lab


def impair(lab: Lab, a: str, b: str, given: Mapping[str, Given | None], *, one_way: bool = False) -> float:
    """Changes the links between two nodes, each direction by what is ``given``, or with ``one_way`` what ``a`` sends.

    Keys are ``delay``, ``jitter``, ``loss`` and ``rate``. What is not given stays, "none" takes a value away. Returns when. Raises
    LabError naming the link: there is none, a value is out of its bounds, the kernel lacks a queue.
    """
    at = time.monotonic()
    found = ends(lab, a, b, one_way=one_way)
    wanted = [end.considered(end.impairment, given) for end in found]  # all, or none
    for end, impairment in zip(found, wanted, strict=True):
        end.impair(impairment)
    _tell(lab, found, at)
    return at


def clear(lab: Lab, a: str, b: str, *, one_way: bool = False) -> float:
    """Makes the links between two nodes again as the plan has them. Returns when."""
    at = time.monotonic()
    planned = {(end.node, end.interface): end.impairment for link in lab.plan.links for end in link.ends()}
    found = ends(lab, a, b, one_way=one_way)
    for end in found:
        end.impair(planned.get((end.node.name, end.name), CLEAR))
    _tell(lab, found, at)
    return at


def _tell(lab: Lab, changed: list[LabIntf], at: float) -> None:
    for end in changed:
        lab.stream.add(end.node.name, "lab", "impaired", {"interface": end.name, "by": str(end.impairment)}, at)


def ends(lab: Lab, a: str, b: str, *, one_way: bool = False) -> list[LabIntf]:
    """The interfaces between two nodes, those of ``a`` first; with ``one_way`` no others. Raises LabError, LookupError."""
    pairs = lab[a].mn.connectionsTo(lab[b].mn)
    if not pairs:
        there = dict.fromkeys(lab.plan.peer_of(a, end.interface).node for end, _ in lab.plan.interfaces(a))
        raise LabError(f"no link between {a} and {b}; {a} has links to {', '.join(there) or 'none'}")
    return [near for near, _ in pairs] + ([] if one_way else [far for _, far in pairs])


def command(lab: Lab, words: Sequence[str]) -> str:
    """What ``link WORDS`` does at the prompt; returns how each direction is then, or what is wrong with the words."""
    one_way = words[1:2] == ["->"]
    if len(words) < (3 if one_way else 2):
        return "link: name two nodes: link A B down, or link A B delay 40ms; help says more"
    a, b, *rest = (words[0], *words[2:]) if one_way else words
    try:
        if rest == ["clear"]:
            clear(lab, a, b, one_way=one_way)
        elif rest:
            impair(lab, a, b, spoken(rest), one_way=one_way)
        return "\n".join(f"{end.node.name} {end.name}: {end.impairment}" for end in ends(lab, a, b, one_way=one_way))
    except (LabError, ImpairmentError, LookupError) as error:
        return f"link: {error}"


def only_impaired(change: Change) -> bool:
    """Is the change that of a link which stays, and is otherwise as it was?"""
    return isinstance(change.old, Link) and isinstance(change.new, Link) and _bare(change.old) == _bare(change.new)


def follow(lab: Lab, change: Change) -> None:
    """Makes both directions of a link as the changed plan has them."""
    for end in change.new.ends() if isinstance(change.new, Link) else ():
        lab[end.node].mn.intf(end.interface).impair(end.impairment)


def _bare(link: Link) -> Link:
    a, b = (dataclasses.replace(end, impairment=CLEAR) for end in link.ends())
    return dataclasses.replace(link, a=a, b=b)


def refuse_impossible(plan: Plan) -> None:
    """Raises LabError for the first link that this kernel cannot make so."""
    for link in plan.links:
        for end, other in (link.ends(), link.ends()[::-1]):
            if end.impairment and (why := queues.refusal(end.impairment)) is not None:
                raise LabError(f"lab {plan.name}: link from {end.node} to {other.node}: {why}")
