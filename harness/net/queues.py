"""From an impairment to the queues of an interface: netem at the root for delay, jitter and loss, tbf inside it, or alone, for a rate.

An interface shapes what it sends, so that each direction of a link is its sender's. A kernel that lacks a queue refuses what needs it
with the reason, before anything is changed; a rate needs tbf only.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

from harness.impairment import CLEAR, Impairment
from harness.net.namespace import Namespace
from harness.net.netlink import NetlinkError, Request
from harness.net.qdisc import INSIDE_NETEM, ROOT, netem, no_queue, token_bucket
from harness.net.rtnl import Rtnl

_LOOPBACK = 1

#: A queue by its kernel's name: how it is tried, and what else to do where the kernel has it not.
TRIALS: dict[str, tuple[Request, str]] = {
    "netem": (netem(_LOOPBACK, delay_ms=1), "give a rate alone, which needs none"),
    "tbf": (token_bucket(_LOOPBACK, rate_mbit=10), "leave the rate out"),
}


def requests(ifindex: int, before: Impairment, after: Impairment) -> Iterator[Request]:
    """What turns the queues of ``before`` into those of ``after``. The same queues change in place; what is under way stays so."""
    if before and _kinds(before) != _kinds(after):
        yield no_queue(ifindex)
    if after.needs_netem:
        yield netem(ifindex, delay_ms=after.delay_ms, jitter_ms=after.jitter_ms, loss_percent=after.loss_percent)
    if after.rate_mbit is not None:
        parent = INSIDE_NETEM if after.needs_netem else ROOT
        yield token_bucket(ifindex, rate_mbit=after.rate_mbit, parent=parent)


def _kinds(impairment: Impairment) -> tuple[str, ...]:
    wanted = (("netem", impairment.needs_netem), ("tbf", impairment.rate_mbit is not None))
    return tuple(kind for kind, needed in wanted if needed)


def refusal(wanted: Impairment) -> str | None:
    """Why this kernel cannot make a link so, and what to do instead; None where it can."""
    for kind in _kinds(wanted):
        if (reason := lacking(kind)) is not None:
            words = str(Impairment(rate_mbit=wanted.rate_mbit) if kind == "tbf" else _without_rate(wanted))
            return (
                f"{words} needs the kernel's {kind} queues, which are not here ({reason}); {TRIALS[kind][1]}, or take a "
                f"kernel with CONFIG_NET_SCH_{kind.upper()} (Debian's has it)"
            )
    return None


def _without_rate(wanted: Impairment) -> Impairment:
    return Impairment(wanted.delay_ms, wanted.jitter_ms, wanted.loss_percent)


@functools.cache
def lacking(kind: str) -> str | None:
    """The kernel's words for not having a queue, from trying it once in a namespace that nobody uses; None where it has it."""
    with Namespace.create("trial") as scratch, Rtnl(scratch) as netlink:
        try:
            netlink.transact([TRIALS[kind][0]])
        except NetlinkError as error:
            return error.remark or os.strerror(error.errno or 0)
    return None


__all__ = ["CLEAR", "TRIALS", "lacking", "refusal", "requests"]
