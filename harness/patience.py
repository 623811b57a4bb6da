"""How much longer things may take on this machine than on one that runs the labs at full speed: one factor, measured once.

Every deadline of a lab, and pytest's, is stretched by it, where deadlines are made (``harness.stream``, ``harness.node``, the traffic
workers); nothing in ``labs/`` knows of it. It is measured in CPU time, so that it tells the speed of the machine (an emulated one is
ten to forty times slower) and not what else is running on it. What is not stretched: the protocols' own timers, which are configuration;
except how long charon waits for an answer (``harness.ipsec.strongswan``), which is a deadline of the other end's processor.
"""

from __future__ import annotations

import os
import resource
import time

VARIABLE = "VBRLAB_PATIENCE"
"""Environment variable that carries the factor to every process of the run; set by hand it is taken as it is."""

MOST = 20.0
"""Beyond this a lab that does not end is more likely to hang than to be slow."""

TIMELY = 2.0
"""Up to here a machine counts as one of full speed: nothing is stretched, timers of 50 ms hold, performance bars are asserted. A busy
neighbour on the same core makes that much of a difference, and no deadline of a lab is so tight."""

_REFERENCE = 0.0065
"""CPU seconds of one sample on the machine that the labs' deadlines were set on (two cores of a cloud server of 2024)."""

_SAMPLES = 5
_STEPS = 60_000
_PROCESSES = 4


def factor() -> float:
    """At least 1, at most ``MOST``. Measured at the first call of a run, in some 50 ms at full speed."""
    known = os.environ.get(VARIABLE)
    if known is None:
        known = os.environ[VARIABLE] = f"{measured(min(_sample() for _ in range(_SAMPLES))):.1f}"
    return float(known)


def measured(sample: float) -> float:
    """The factor that follows from the CPU seconds of the quickest sample."""
    ratio = sample / _REFERENCE
    return 1.0 if ratio <= TIMELY else min(ratio, MOST)


def stretched(seconds: float) -> float:
    """A deadline as it is on this machine."""
    return seconds * factor()


def timely() -> bool:
    """Is this machine fast enough for what is measured in milliseconds?"""
    return factor() <= TIMELY


def described() -> str:
    """One line for the head of a run."""
    now = factor()
    if now == 1.0:
        return "speed of this machine: as usual, deadlines as they are"
    bars = "" if timely() else "; performance bars are not asserted"
    return f"speed of this machine: deadlines are {now:g} times as long (at most {MOST:g}){bars}"


def _sample() -> float:
    """What a lab does most: Python, and processes that begin and end. CPU seconds of both."""
    began = time.process_time()
    children = _children()
    table: dict[int, int] = {}
    total = 0
    for step in range(_STEPS):
        total += step * 3
        table[step & 255] = total
    for _ in range(_PROCESSES):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return time.process_time() - began + _children() - children


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
