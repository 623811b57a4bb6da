"""A pulse over the loopback: nothing lost is no outage; what was lost is one, by its times of sending."""

from __future__ import annotations

import socket

import pytest

from harness.traffic.pulse import Pulse, pulse


def cut(numbers: set[int], sent: int) -> Pulse:
    """A pulse of ``sent`` datagrams, one a second, of which ``numbers`` never came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        into.setblocking(False)
        made = Pulse(closed, into, ("127.0.0.1", 9), 1.0)
    made._sent = [float(number) for number in range(sent)]
    made._came = set(range(sent)) - numbers
    return made


@pytest.mark.parametrize(
    ("lost", "since", "found"),
    [
        (set(), 0.0, []),
        ({4, 5}, 0.0, [(3.0, 6.0, 2)]),
        ({0, 1}, 0.0, [(0.0, 2.0, 2)]),
        ({2, 5, 6}, 0.0, [(1.0, 3.0, 1), (4.0, 7.0, 2)]),
        ({2, 5, 6}, 5.0, [(4.0, 7.0, 2)]),
        ({8, 9}, 0.0, []),
    ],
    ids=["none", "a gap", "at the beginning", "two gaps", "only later ones", "not over yet"],
)
def test_outages_by_times_of_sending(lost: set[int], since: float, found: list[tuple[float, float, int]]) -> None:
    assert [(o.start, o.end, o.lost) for o in cut(lost, 10).outages(since)] == found


async def test_pulse_over_the_loopback_loses_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with pulse(None, "127.0.0.1", None, "127.0.0.1", ports=(0, port), interval=0.002) as beating:
        await beating.beats(20)
        assert beating.outages(0.0) == []
