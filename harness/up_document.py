"""``vbrlab up FILE``: brings up what a user's own YAML document describes, and checks it against itself where asked.

A user's circuit may be wrong on purpose, so a session that does not come up ends nothing: its state and reason are shown, and the prompt
comes all the same. Runs inside the sandbox; ``harness.cli`` has put it there. Scenarios are ``harness.up``'s.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.plan import Plan, Role
from harness.stream import NotInTime
from harness.up import Loop, Told, interact

if TYPE_CHECKING:
    from harness.cloud.document import Document
    from harness.lab import Lab

#: How long sessions may take before the prompt comes without them.
SESSIONS_WITHIN = 10.0
TUNNELS_WITHIN = 30.0


def up_document(
    document: Document, plan: Plan, *, seed: int, check: bool, as_json: bool, entered: float, **lab_options: Any
) -> int:
    """The command for a document without errors. ``plan`` is its lab; ``entered`` is when the process began. Returns the exit status."""
    from harness.net.zygote import Zygote

    told = Told(as_json)
    told.stages.append(("interpreter and sandbox", time.monotonic() - entered))
    with told.stage("imports", "reading the document"):
        from harness.lab import PRELOAD

        zygote = Zygote.start(PRELOAD)
        from harness.lab import Lab
    loop = Loop()
    with told.stage("lab", f"{len(plan.nodes)} nodes, {len(plan.links)} links, their daemons"):
        lab = loop.run(Lab.start(plan, zygote, seed=seed, **lab_options))
    try:
        if any(node.tunnel is not None for node in plan.nodes):
            with told.stage("waiting for the last tunnel", "tunnels"):
                loop.run(lab.tunnels_up(within=TUNNELS_WITHIN))
        with told.stage("bgp", "BGP sessions"):
            waiting = loop.run(settled(lab, within=SESSIONS_WITHIN))
        for line in waiting:
            sys.stderr.write(f"  ✗ {line}\n")
        if check:
            return _check(lab, loop, document, told, as_json, entered, waiting)
        interact(lab, loop, document.estate)
        return 0
    finally:
        loop.run(lab.stop())
        zygote.stop()


def expected_sessions(plan: Plan) -> set[tuple[str, str]]:
    """The sessions that both ends have, by (node, neighbour's name): a circuit may wait for a peer that is created later."""
    ends = {
        (neighbor.local_address, neighbor.address): (node.name, neighbor.name)
        for node in plan.nodes
        if node.speaker is not None
        for neighbor in node.speaker.neighbors
    }
    return {session for (local, remote), session in ends.items() if (remote, local) in ends}


async def settled(lab: Lab, *, within: float) -> list[str]:
    """Returns once every expected session is Established, or with a line for each that is not ``within`` that time."""
    wanted = expected_sessions(lab.plan)

    def missing() -> list[str]:
        states = lab.peer_statuses()
        return [
            f"{node} → {peer}: {states[node, peer]}"
            for node, peer in sorted(wanted)
            if states[node, peer] != "Established"
        ]

    try:
        await lab.until(lambda: not missing(), within=within, what="every BGP session Established")
    except NotInTime:
        return missing()
    return []


def ping_pairs(plan: Plan) -> Iterator[tuple[str, str]]:
    """From every client to every ECS instance: the node and the address."""
    instances = [
        end.addresses[0].partition("/")[0]
        for node in plan.nodes
        if node.role is Role.ECS
        for end, _ in plan.interfaces(node.name)
        if end.addresses
    ]
    for node in plan.nodes:
        if node.role is Role.CLIENT:
            yield from ((node.name, address) for address in instances)


def _check(
    lab: Lab, loop: Loop, document: Document, told: Told, as_json: bool, entered: float, waiting: list[str]
) -> int:
    """Sessions and pings; for a VBR its status page."""
    from harness.cloud.vbr import VbrEstate
    from harness.cloud_console import VbrConsole

    rows = []
    if isinstance(document.estate, VbrEstate):
        rows = loop.run(VbrConsole(lab, document.estate).status())
    with told.stage("pings", "pings"):
        pings = [(node, to, bool(loop.run(lab[node].ping(to)))) for node, to in ping_pairs(lab.plan)]
    total = time.monotonic() - entered
    answered = sum(answer for *_, answer in pings)
    if as_json:
        report = {
            "peers": [asdict(row) for row in rows],
            "not_established": waiting,
            "pings": {f"{node} {to}": answer for node, to, answer in pings},
            "seconds": round(total, 4),
            "stages": [{"name": stage, "seconds": round(took, 4)} for stage, took in told.stages],
        }
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        for row in rows:
            sys.stdout.write(
                f"{row.peer:15} {row.group:15} {row.status:14} {row.routes} of {row.quota} routes {row.reason}\n"
            )
        sys.stdout.write(
            f"{len(expected_sessions(lab.plan)) - len(waiting)} of {len(expected_sessions(lab.plan))} session ends Established, "
            f"{answered} of {len(pings)} pings answered, {total:.2f} s from the start of the command\n"
        )
    return 0 if not waiting and answered == len(pings) else 1
