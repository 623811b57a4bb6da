"""What a line does to the packets of one direction: delay, jitter, loss and rate, as a value with its bounds.

Where it is written, it is written alike: in a plan, in a YAML document, at the prompt of a running lab, in Mininet's ``addLink``.
A delay may be "40ms", "1.5s", "300us", or a number of milliseconds; a loss "1%" or a number of percent; a rate "10mbit",
"500kbit", "1gbit", or a number of Mbit/s. How the kernel is told is ``harness.net.queues``'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

Given = str | float | int
"""A value as its writer gives it."""

LONGEST_MS = 60_000.0
SLOWEST_MBIT, FASTEST_MBIT = 0.01, 100_000.0


class ImpairmentError(ValueError):
    """A line that cannot be made so: ``rule`` and ``remedy``, ``word`` says of what; who raises it further puts the link in front."""

    def __init__(self, word: str, rule: str, remedy: str) -> None:
        super().__init__(f"{rule}; {remedy}")
        self.word, self.rule, self.remedy = word, rule, remedy


@dataclass(frozen=True, slots=True)
class Impairment:
    """One direction of a link. ``jitter_ms`` is how far, at most, a packet's delay lies from ``delay_ms``: packets then overtake
    each other, as with netem. ``rate_mbit`` None: as fast as the machine. Raises ImpairmentError."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    rate_mbit: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.delay_ms <= LONGEST_MS:
            raise ImpairmentError(
                "delay",
                f"a delay of {self.delay_ms:g} ms is not in 0 to {LONGEST_MS:g} ms",
                "give one there, such as 40ms",
            )
        if not 0 <= self.jitter_ms <= self.delay_ms:
            raise ImpairmentError(
                "jitter",
                f"a jitter of {self.jitter_ms:g} ms is not in 0 to the delay, {self.delay_ms:g} ms",
                "give a longer delay or less jitter: no packet arrives before it was sent",
            )
        if not 0 <= self.loss_percent <= 100:
            raise ImpairmentError(
                "loss", f"a loss of {self.loss_percent:g} % is not in 0 to 100 %", "give one there, such as 1%"
            )
        if self.rate_mbit is not None and not SLOWEST_MBIT <= self.rate_mbit <= FASTEST_MBIT:
            raise ImpairmentError(
                "rate",
                f"a rate of {self.rate_mbit:g} Mbit/s is not in {SLOWEST_MBIT:g} to {FASTEST_MBIT:g} Mbit/s",
                "give one there, such as 10mbit, or none for no limit",
            )

    @property
    def needs_netem(self) -> bool:
        """Does it do more than limit the rate?"""
        return bool(self.delay_ms or self.jitter_ms or self.loss_percent)

    def __bool__(self) -> bool:
        return self.needs_netem or self.rate_mbit is not None

    def __str__(self) -> str:
        parts = [
            f"{word} {value:g} {unit}"
            for word, value, unit in (
                ("delay", self.delay_ms, "ms"),
                ("jitter", self.jitter_ms, "ms"),
                ("loss", self.loss_percent, "%"),
                ("rate", self.rate_mbit or 0, "Mbit/s"),
            )
            if value
        ]
        return ", ".join(parts) or "nothing"


CLEAR = Impairment()

_TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3, "": 1.0}
_SHARE = {"%": 1.0, "": 1.0}
_RATE = {"kbit": 1e-3, "mbit": 1.0, "gbit": 1e3, "": 1.0}
#: The words of all writers: the field each stands for, its units, an example.
WORDS: Mapping[str, tuple[str, Mapping[str, float], str]] = {
    "delay": ("delay_ms", _TIME, "40ms"),
    "jitter": ("jitter_ms", _TIME, "5ms"),
    "loss": ("loss_percent", _SHARE, "1%"),
    "rate": ("rate_mbit", _RATE, "10mbit"),
}

_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z%]*)", re.IGNORECASE)


def changed(before: Impairment, given: Mapping[str, Given | None]) -> Impairment:
    """``before`` with what is given, by the keys of :data:`WORDS`; None leaves a value, the text "none" takes it away.

    Raises ImpairmentError for a value that cannot be read, or that is out of its bounds.
    """
    fields: dict[str, float | None] = {}
    for word, value in given.items():
        name, units, example = WORDS[word]
        if value is not None:
            nothing = None if word == "rate" else 0.0
            fields[name] = nothing if value == "none" else _number(word, value, units, example)
    return replace(before, **fields)  # type: ignore[arg-type]


def _number(word: str, value: Given, units: Mapping[str, float], example: str) -> float:
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ImpairmentError(word, f"{word} {value!r} is no number", f"write it as {example}")
    if not isinstance(value, str):
        return float(value)
    found = _NUMBER.fullmatch(value.strip())
    if found is None or found[2].lower() not in units:
        known = ", ".join(unit for unit in units if unit)
        raise ImpairmentError(
            word, f"{word} {value!r} is no number with one of the units {known}", f"write it as {example}"
        )
    return float(found[1]) * units[found[2].lower()]


def spoken(words: Sequence[str]) -> dict[str, Given | None]:
    """``["delay", "40ms", "loss", "1%"]``, as typed at a prompt, for :func:`changed`. Raises ImpairmentError."""
    given: dict[str, Given | None] = {}
    for word, value in zip(words[::2], [*words[1::2], ""], strict=False):
        if word not in WORDS:
            raise ImpairmentError(word, f"{word!r} is nothing that a link has", f"there are {', '.join(WORDS)}")
        if not value:
            raise ImpairmentError(word, f"{word} has no value", f"write it as {word} {WORDS[word][2]}")
        given[word] = value
    return given
