"""``vbrlab up FILE``: brings up what a user's own YAML document describes, and checks it against itself where asked.

A user's circuit may be wrong on purpose, so a session that does not come up ends nothing: its state and reason are shown, and the prompt
comes all the same. Runs inside the sandbox; ``harness.cli`` has put it there. Scenarios are ``harness.up``'s.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING

from harness.node import addresses_of
from harness.plan import Neighbor, Plan, Role
from harness.stream import NotInTime
from harness.up import Loop, Told, interact, started

if TYPE_CHECKING:
    from harness.cloud.document import Document
    from harness.lab import Lab
    from harness.speakers import Wish

#: How long sessions may take before the prompt comes without them.
SESSIONS_WITHIN = 10.0
TUNNELS_WITHIN = 30.0
PINGS_WITHIN = 5.0


def up_document(
    document: Document,
    plan: Plan,
    speakers: Sequence[Wish] = (),
    *,
    seed: int,
    check: bool,
    as_json: bool,
    entered: float,
) -> int:
    """The command for a document without errors. ``plan`` is its lab; ``entered`` is when the process began. Returns the exit status."""
    from harness.net.zygote import Zygote

    told = Told(as_json)
    told.stages.append(("interpreter and sandbox", time.monotonic() - entered))
    with told.stage("imports", "reading the document"):
        from harness.lab import PRELOAD

        zygote = Zygote.start(PRELOAD)
    loop = Loop()
    with told.stage("lab", f"{len(plan.nodes)} nodes, {len(plan.links)} links, their daemons"):
        lab = started(loop, plan, zygote, seed=seed, speakers=speakers)
    if lab is None:
        return 1
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


def at_data_centres(plan: Plan, words: Sequence[str]) -> list[str]:
    """The words of ``--speaker`` with a daemon alone meant for every data centre: the rest of a document's lab is the cloud's."""
    centres = [node.name for node in plan.nodes if node.role is Role.ROUTER and node.speaker is not None]
    parts = [part.strip() for word in words for part in word.split(",")]
    return [meant for part in parts for meant in ([part] if "=" in part else [f"{name}={part}" for name in centres])]


def expected_sessions(plan: Plan) -> set[tuple[str, str]]:
    """The sessions that both ends have, by (node, neighbour's name): a circuit may wait for a peer that is created later."""
    owners = dict(addresses_of(plan))
    all_sessions = [
        (node.name, neighbor) for node in plan.nodes if node.speaker is not None for neighbor in node.speaker.neighbors
    ]

    def answers_to(node: str, near: Neighbor, far: Neighbor) -> bool:
        """Is ``far`` the other end's name for the session that ``node`` calls ``near``? An address that is not given is any."""
        if far.local_address not in (None, near.address):
            return False
        return far.address == near.local_address if near.local_address else owners.get(far.address) == node

    return {
        (node, near.name)
        for node, near in all_sessions
        if any(other == owners.get(near.address) and answers_to(node, near, far) for other, far in all_sessions)
    }


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
    """From clients to every ECS instance of their IP version: the node and the address. Not where a router's sessions all lack a peer."""
    speaking = {node for node, _ in expected_sessions(plan)}
    waiting = {node.name for node in plan.nodes if node.speaker is not None} - speaking
    instances = [address for node in plan.nodes if node.role is Role.ECS for address in _addresses(plan, node.name)]
    for node in plan.nodes:
        routers = {plan.peer_of(node.name, end.interface).node for end, _ in plan.interfaces(node.name)}
        if node.role is Role.CLIENT and not routers & waiting:
            versions = {ip_address(own).version for own in _addresses(plan, node.name)}
            yield from ((node.name, address) for address in instances if ip_address(address).version in versions)


def _addresses(plan: Plan, node: str) -> list[str]:
    return [address.partition("/")[0] for end, _ in plan.interfaces(node) for address in end.addresses]


async def answers(lab: Lab, node: str, address: str, *, since: float) -> bool:
    """Is a ping answered before ``PINGS_WITHIN`` is over? Tried again whenever a route or a session changes."""
    try:
        await lab.until(lambda: lab[node].ping(address, within=0.5), within=PINGS_WITHIN, since=since)
    except NotInTime:
        return False
    return True


def _check(
    lab: Lab, loop: Loop, document: Document, told: Told, as_json: bool, entered: float, waiting: list[str]
) -> int:
    """Sessions and pings; for a VBR its status page."""
    from harness.cloud.vbr import VbrEstate
    from harness.cloud_console import VbrConsole
    from harness.refusals import refused_by_groups

    rows = []
    if isinstance(document.estate, VbrEstate):
        rows = loop.run(VbrConsole(lab, document.estate).status())
    with told.stage("pings", "pings"):
        since = time.monotonic()
        pings = [(node, to, loop.run(answers(lab, node, to, since=since))) for node, to in ping_pairs(lab.plan)]
    refused = [line for node, to, ok in pings if not ok for line in loop.run(refused_by_groups(lab, node, to))]
    total = time.monotonic() - entered
    answered = sum(answer for *_, answer in pings)
    if as_json:
        report = {
            "peers": [asdict(row) for row in rows],
            "not_established": waiting,
            "pings": {f"{node} {to}": answer for node, to, answer in pings},
            "refused": refused,
            "seconds": round(total, 4),
            "stages": [{"name": stage, "seconds": round(took, 4)} for stage, took in told.stages],
        }
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        for row in rows:
            line = f"{row.peer:15} {row.group:15} {row.status:14} {row.routes} of {row.quota} routes {row.reason}"
            sys.stdout.write(line.rstrip() + "\n")
        sys.stdout.writelines(f"  ✗ {line}\n" for line in refused)
        sys.stdout.write(
            f"{len(expected_sessions(lab.plan)) - len(waiting)} of {len(expected_sessions(lab.plan))} session ends Established, "
            f"{answered} of {len(pings)} pings answered, {total:.2f} s from the start of the command\n"
        )
    return 0 if not waiting and answered == len(pings) else 1
