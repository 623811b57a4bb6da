"""Carries a schedule out and says what did not hold at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from harness.bgp import adj_out, adjacency, out_group, rib, signals, speaker
from harness.bgp.config import Network, parse_neighbor, parse_rules
from harness.bgp.neighborhood import NeighborError
from harness.bgp.speaker import NetworkError
from tests.simulation import invariants, reference
from tests.simulation.agenda import Due
from tests.simulation.network import Link, Node, World
from tests.simulation.schedule import Schedule, Step, draw

SETTLE = 1500.0
"""Virtual seconds within which all has to be quiet after the last disturbance: open hold time, idle holds and retries add up."""


@dataclass
class Outcome:
    """``violations`` is empty where all held. ``seconds``: virtual time from the start to the end of the check."""

    schedule: Schedule
    violations: list[str]
    seconds: float
    trace: list[str] = field(default_factory=list)


def run(seed: int, *, trace: bool = False) -> Outcome:
    """The schedule of a seed. An exception out of the speaker is a violation like any other."""
    schedule = draw(seed)
    lines: list[str] | None = [] if trace else None
    world = World(seed, trace=lines)
    with _strides(schedule.small_strides):
        try:
            found = _carried_out(schedule, world)
        except Exception as error:  # whatever the speaker lets out is what this looks for
            if trace:
                import traceback

                world.tell("", traceback.format_exc())
            found = [f"{type(error).__name__}: {error}"]
    return Outcome(schedule, found, world.time - 1000.0, lines or [])


@contextlib.contextmanager
def _strides(small: bool) -> Iterator[None]:
    """With small strides a table of five prefixes is as a large one: walks pause, batches and announcements are cut."""
    if not small:
        yield
        return
    with (
        mock.patch.object(rib, "STRIDE", 1),
        mock.patch.object(adj_out, "STRIDE", 1),
        mock.patch.object(out_group, "STRIDE", 1),
        mock.patch.object(speaker, "SEND_LIMIT", 2),
        mock.patch.object(speaker, "BATCH", 2),
        mock.patch.object(adjacency, "SEND_LIMIT", 2),
    ):
        yield


def _carried_out(schedule: Schedule, world: World) -> list[str]:
    _build(schedule, world)
    end = 1000.0 + schedule.end
    for name, when in schedule.starts.items():
        world.put(1000.0 + when, Due(world.nodes[name].start))
    for step in schedule.steps:
        _put(world, step)
    world.run(end)
    _repair(world)
    for moment in range(2):
        if not world.run(world.time + SETTLE, lambda: invariants.is_calm(world)):
            return list(invariants.machines(world)) or [f"no rest within {SETTLE:.0f} s: messages go on and on"]
        if not moment:
            before = _sessions_so_far(world)
            world.tell("", "all is quiet; now it must stay so")
            world.run(world.time + 2.2 * max([schedule.hold, *_holds(world)]))
    if (after := _sessions_so_far(world)) != before:
        return [f"sessions came up again though nothing happened: {before} before, {after} after"]
    # All speakers here are ours: what one of them finds wrong in a message another one should not have sent.
    found = world.complaints or invariants.violations(world)
    if schedule.determined and not found:
        found = list(invariants.fresh_start(world))
    return found


def _holds(world: World) -> Iterator[int]:
    for one, other in reference.sessions(world):
        session = one.speaker.adjacencies[other.name].peer.session if one.speaker is not None else None
        yield 0 if session is None else session.hold_time


def _sessions_so_far(world: World) -> dict[str, int]:
    return {
        f"{node.name}-{name}": a.peer.statistics.established
        for node in world.nodes.values()
        if node.speaker is not None
        for name, a in node.speaker.adjacencies.items()
    }


def _build(schedule: Schedule, world: World) -> None:
    world.delay, world.spread = schedule.delay, schedule.spread
    world.toll, world.cuts_octets = schedule.toll, schedule.cuts_octets
    for name, asn in schedule.asns.items():
        node = Node(world, name, asn)
        node.config = dict(schedule.configs[name])
        node.costs = {far: cost for (near, far), cost in schedule.costs.items() if near == name}
    for number, (one, other) in enumerate(schedule.links):
        Link(world, world.nodes[one], world.nodes[other], number)


def _repair(world: World) -> None:
    """The end of all disturbances that have an end: what an operator shut or took out stays so."""
    world.tell("", "the disturbances are over")
    for node in world.nodes.values():
        node.thaw()
        if node.speaker is None:
            node.start()
    for link in world.links:
        link.refuses = False
        link.set(carrier=True, passes=True)


# ------------------------------------------------------------------------------------------------------------------------ steps


def _put(world: World, step: Step) -> None:
    def happens() -> None:
        world.tell("", f"--- {step}")
        begin, finish = _STEPS[step.kind]
        begin(world, step)
        if finish is not None and step.lasting >= 0:
            world.put(world.time + step.lasting, Due(lambda: finish(world, step)))

    world.put(1000.0 + step.when, Due(happens))


Act = Callable[[World, Step], None]


def _link(world: World, step: Step) -> Link:
    return reference.link_between(world.nodes[step.node], world.nodes[step.other])


def _cut(world: World, step: Step) -> None:
    _link(world, step).set(carrier=False, passes=False)


def _blackout(world: World, step: Step) -> None:
    link = _link(world, step)
    link.set(carrier=link.carrier, passes=False)


def _mend(world: World, step: Step) -> None:
    _link(world, step).set(carrier=True, passes=True)


def _reset(world: World, step: Step) -> None:
    for end in list(_link(world, step).ends):
        if end.held and end.stands:
            end.forgotten = True
            world.at(world.time + world.latency(), lambda end=end: end.lose("connection reset by peer"))  # type: ignore[misc]


def _half(world: World, step: Step) -> None:
    """One end is told that the connection is gone; the other has to find out."""
    node = world.nodes[step.node]
    for end in [e for e in _link(world, step).ends if e.node is node and e.held and e.stands]:
        end.lose("connection timed out")


def _forget(world: World, step: Step) -> None:
    for end in _link(world, step).ends:
        end.forgotten = end.forgotten or end.stands


def _refuse(world: World, step: Step) -> None:
    _link(world, step).refuses = True


def _accept(world: World, step: Step) -> None:
    _link(world, step).refuses = False


def _freeze(world: World, step: Step) -> None:
    world.nodes[step.node].freeze()


def _thaw(world: World, step: Step) -> None:
    world.nodes[step.node].thaw()


def _jump(world: World, step: Step) -> None:
    world.nodes[step.node].jump(step.value)


def _stop(world: World, step: Step) -> None:
    node = world.nodes[step.node]
    node.thaw()
    node.stop()


def _kill(world: World, step: Step) -> None:
    node = world.nodes[step.node]
    node.thaw()
    node.kill(power=step.kind == "power")


def _start(world: World, step: Step) -> None:
    node = world.nodes[step.node]
    if node.speaker is None:
        node.start()


def _command(node: Node, edit: Callable[[], None], act: Callable[[speaker.Speaker], Any]) -> None:
    """A change by the operator: to the configuration file, and where the speaker runs, to it; what makes no sense is refused."""
    edit()
    if node.speaker is not None:
        running = node.speaker

        def ordered() -> None:
            with contextlib.suppress(NeighborError, NetworkError):
                act(running)

        node.do(node.speaker, ordered)


def _announce(world: World, step: Step) -> None:
    node = world.nodes[step.node]
    if step.value not in node.config["networks"]:
        networks = sorted([*node.config["networks"], step.value])
        _command(
            node,
            lambda: node.config.update(networks=networks),
            lambda s: s.add_network(Network(prefix=step.value)),
        )


def _withdraw(world: World, step: Step) -> None:
    node = world.nodes[step.node]
    if step.value in node.config["networks"]:
        networks = [n for n in node.config["networks"] if n != step.value]
        _command(node, lambda: node.config.update(networks=networks), lambda s: s.delete_network(step.value))


def _edit(node: Node, name: str, **changes: Any) -> None:
    node.config["neighbors"] = [
        {**item, **changes} if item["name"] == name else item for item in node.config["neighbors"]
    ]


def _policy(world: World, step: Step) -> None:
    """A policy, and the soft clear that makes it count; where the session is down it counts from the next one on."""
    node = world.nodes[step.node]
    direction, rules, stored = step.value

    def act(running: speaker.Speaker) -> None:
        running.set_policy(step.other, direction, parse_rules(rules))
        running.clear_soft(step.other, "in" if direction == "import" else "out", stored=stored)

    _command(node, lambda: _edit(node, step.other, **{direction: rules}), act)


def _clear(world: World, step: Step) -> None:
    direction, stored = step.value
    _command(world.nodes[step.node], lambda: None, lambda s: s.clear_soft(step.other, direction, stored=stored))


def _admin_reset(world: World, step: Step) -> None:
    def act(running: speaker.Speaker) -> None:
        running.adjacency(step.other).feed(signals.Reset())

    _command(world.nodes[step.node], lambda: None, act)


def _bfd(world: World, step: Step) -> None:
    """BFD finds the path gone, for a moment."""
    _command(world.nodes[step.node], lambda: None, lambda s: s.path_lost(step.other, "the path flaps"))


def _shut(world: World, step: Step) -> None:
    node = world.nodes[step.node]
    _command(node, lambda: _edit(node, step.other, shutdown=True), lambda s: s.shut_neighbor(step.other, "work"))


def _open(world: World, step: Step) -> None:
    node = world.nodes[step.node]
    _command(node, lambda: _edit(node, step.other, shutdown=False), lambda s: s.start_neighbor(step.other))


def _change(world: World, step: Step) -> None:
    """Other fields of a neighbour; export options of a session that stays count after a soft clear."""
    node = world.nodes[step.node]

    def act(running: speaker.Speaker) -> None:
        running.change_neighbor(parse_neighbor(reference.neighbors(node)[step.other]))
        running.clear_soft(step.other, "out")

    if step.other in reference.neighbors(node):
        _command(node, lambda: _edit(node, step.other, **step.value), act)


def _remove(world: World, step: Step) -> None:
    node = world.nodes[step.node]
    kept = reference.neighbors(node).get(step.other)
    if kept is not None:
        step.value = kept
        rest = [item for item in node.config["neighbors"] if item is not kept]
        _command(node, lambda: node.config.update(neighbors=rest), lambda s: s.delete_neighbor(step.other))


def _add(world: World, step: Step) -> None:
    node, kept = world.nodes[step.node], step.value
    if kept is not None and step.other not in reference.neighbors(node):
        neighbors = [*node.config["neighbors"], kept]
        _command(node, lambda: node.config.update(neighbors=neighbors), lambda s: s.add_neighbor(parse_neighbor(kept)))


_STEPS: dict[str, tuple[Act, Act | None]] = {
    "cut": (_cut, _mend),
    "blackout": (_blackout, _mend),
    "reset": (_reset, None),
    "half": (_half, None),
    "forget": (_forget, None),
    "refuse": (_refuse, _accept),
    "freeze": (_freeze, _thaw),
    "jump": (_jump, None),
    "stop": (_stop, _start),
    "kill": (_kill, _start),
    "power": (_kill, _start),
    "announce": (_announce, None),
    "withdraw": (_withdraw, None),
    "policy": (_policy, None),
    "clear": (_clear, None),
    "admin-reset": (_admin_reset, None),
    "bfd": (_bfd, None),
    "change": (_change, None),
    "shut": (_shut, _open),
    "remove": (_remove, _add),
}
"""Kind of a step -> what begins, and what ends after ``lasting``."""
