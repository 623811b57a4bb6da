"""Two peers under seeded schedules of cuts, restarts, resets and jitter: afterwards they are always in session again."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import pytest

from harness.bgp.fsm import State
from harness.bgp.signals import Down, Reset, Start, Stop, Transition, Up
from tests.bgp.memory_link import Host, World
from tests.bgp.speakers import both_up, pair, start

SCHEDULES = int(os.environ.get("VBRLAB_SCHEDULES", "150"))
FIRST = int(os.environ.get("VBRLAB_FIRST_SEED", "0"))


def reset(host: Host) -> None:
    host.feed(Reset())


def restart(host: Host) -> None:
    """Stops the speaker and starts it again."""
    host.feed(Stop())
    host.feed(Start())


def disturb(world: World, low: Host, high: Host) -> None:
    """Puts a random schedule of disturbances within the first 300 s on the agenda; after it the link is up."""
    random = world.random
    kinds: list[Callable[[], None]] = [
        world.cut,
        world.mend,
        lambda: reset(low),
        lambda: reset(high),
        lambda: restart(low),
        lambda: restart(high),
        lambda: setattr(high, "listening", not high.listening),
    ]
    for _ in range(random.randrange(1, 12)):
        world.at(random.random() * 300.0, random.choice(kinds))
    world.at(300.0, world.mend)
    world.at(300.0, lambda: setattr(high, "listening", True))


@pytest.mark.spec("BGP-1", "BGP-15", "VBR-16", "VBR-17", "VBR-20")
def test_after_any_schedule_they_are_in_session_again() -> None:
    """A failing seed replays with ``VBRLAB_FIRST_SEED=<seed> VBRLAB_SCHEDULES=1``; more schedules with the latter alone."""
    for seed in range(FIRST, FIRST + SCHEDULES):
        world = World(seed, delay=0.0001, spread=0.01)
        low, high = pair(world, hold_time=world.random.choice([3, 9, 90]))
        world.at(world.random.random(), partial(start, low))
        world.at(world.random.random(), partial(start, high))
        disturb(world, low, high)
        world.run(300.0)
        assert world.run(500.0, partial(both_up, low, high)), f"seed {seed}: {low.path()[-5:]} {high.path()[-5:]}"
        world.run(world.now + 100.0)
        assert both_up(low, high), f"seed {seed}: the session does not stay"
        for host in (low, high):
            assert_consistent(host, seed)


def assert_consistent(host: Host, seed: int) -> None:
    """The chain is unbroken, Up and Down take turns with Established, one connection is left and no dial."""
    note = f"seed {seed}"
    host.chain()
    turns = [type(output) for output in host.seen(Up) + host.seen(Down)]
    assert turns.count(Up) == turns.count(Down) + 1, note
    ordered = [type(output) for _, output in host.outputs if isinstance(output, Up | Down)]
    assert ordered == [Up, Down] * (len(ordered) // 2) + [Up], note
    entered = [
        step for step in host.seen(Transition) if step.new is State.ESTABLISHED and step.old is not State.ESTABLISHED
    ]
    assert len(entered) == ordered.count(Up), note
    assert len(host.ends) == 1, note
    assert not host.dials, note
    (near,) = host.ends.values()
    assert near.open and near.other is not None and near.other.open, note
