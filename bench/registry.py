"""What a benchmark is: its name, its rivals, the measurements it yields and the bars they are held to.

A module of `bench` declares itself by decorating a function:

    MININET = Rival("Mininet", program="mn", package="mininet")

    @benchmark("star", "a star of N nodes, built from nothing", rivals=[MININET])
    def star(options: Options) -> Iterator[Measurement]:
        ...
        yield Measurement("star of 256 nodes", "s", ours, {"raw netlink": raw, "Mininet": stock},
                          bars=[Within("raw netlink", 1.5), Faster("Mininet", 20)])

Not here: how anything is measured, and how the table looks (`bench.__main__`).
"""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import bench

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


class UnknownBenchmark(LookupError):
    """A name that no module declares. Says which there are."""


class DuplicateBenchmark(ValueError):
    """Two functions declare the same name."""


class UnknownRival(ValueError):
    """A bar names a rival that its measurement does not carry."""


class Skipped(Exception):
    """A benchmark cannot run here; the text says what is missing and how it is had. Neither a success nor a failure."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A program that does the same work. `program` is looked for on PATH and in the sbin folders; `package` is Debian's name for it."""

    name: str
    program: str
    package: str

    def path(self) -> str | None:
        """Where the program is, or None: then the rival's figures are None and the table says "absent"."""
        return shutil.which(self.program) or shutil.which(self.program, path=SBIN)


class Bar(Protocol):
    """What a measurement is held to. `words` may name `{unit}`."""

    @property
    def words(self) -> str: ...

    def met(self, row: Measurement) -> bool | None:
        """None when it cannot be judged, the rival being absent."""
        ...


@dataclass(frozen=True, slots=True)
class AtMost:
    """Ours is at most `limit`, in the measurement's unit."""

    limit: float

    @property
    def words(self) -> str:
        return f"≤ {self.limit:g} {{unit}}"

    def met(self, row: Measurement) -> bool:
        return row.ours <= self.limit


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Ours is at least `limit`, in the measurement's unit (rates)."""

    limit: float

    @property
    def words(self) -> str:
        return f"≥ {self.limit:g} {{unit}}"

    def met(self, row: Measurement) -> bool:
        return row.ours >= self.limit


@dataclass(frozen=True, slots=True)
class Within:
    """Ours is at most `ratio` times the rival's (times, sizes)."""

    rival: str
    ratio: float

    @property
    def words(self) -> str:
        return f"≤ {self.ratio:g} × {self.rival}"

    def met(self, row: Measurement) -> bool | None:
        theirs = row.of(self.rival)
        return None if theirs is None else row.ours <= self.ratio * theirs


@dataclass(frozen=True, slots=True)
class Faster:
    """The rival takes at least `ratio` times as long as ours (times)."""

    rival: str
    ratio: float

    @property
    def words(self) -> str:
        return f"{self.rival} ≥ {self.ratio:g} × ours"

    def met(self, row: Measurement) -> bool | None:
        theirs = row.of(self.rival)
        return None if theirs is None else theirs >= self.ratio * row.ours


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the table: a median unless the name says otherwise.

    `rivals` maps a rival's name to its value in the same unit, None when it was absent; a row without bars is there for information.
    """

    name: str
    unit: str
    ours: float
    rivals: Mapping[str, float | None] = field(default_factory=dict)
    bars: Sequence[Bar] = ()

    def of(self, rival: str) -> float | None:
        """The rival's value, None when it was absent. Raises UnknownRival for one that the row does not carry."""
        if rival not in self.rivals:
            raise UnknownRival(
                f"{self.name!r} is held to {rival!r} but carries only: {', '.join(self.rivals) or 'no rivals'}"
            )
        return self.rivals[rival]

    @property
    def bar(self) -> str | None:
        """All bars in words, None when there are none."""
        return "; ".join(bar.words.format(unit=self.unit) for bar in self.bars) or None

    @property
    def ok(self) -> bool | None:
        """False when a bar is missed; None when there is no bar, or one could not be judged and none is missed; else True."""
        verdicts = [bar.met(self) for bar in self.bars]
        if False in verdicts:
            return False
        return None if None in verdicts or not verdicts else True

    def as_json(self) -> dict[str, object]:
        """The row as `bench.json` has it: name, unit, ours, rivals, bar, ok."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "rivals": dict(self.rivals),
            "bar": self.bar,
            "ok": self.ok,
        }


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says to a benchmark. `rounds` None: the benchmark's own number of repetitions."""

    rounds: int | None = None


Measure = Callable[[Options], Iterator[Measurement]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A declared benchmark: `measure` yields its rows as they are ready."""

    name: str
    about: str
    rivals: tuple[Rival, ...]
    measure: Measure


_declared: dict[str, Benchmark] = {}


def benchmark(name: str, about: str, *, rivals: Sequence[Rival] = ()) -> Callable[[Measure], Measure]:
    """Declares the decorated function as the benchmark `name`. Raises DuplicateBenchmark for a name that is taken."""

    def declare(measure: Measure) -> Measure:
        if name in _declared:
            raise DuplicateBenchmark(f"benchmark {name!r} is declared twice: {_declared[name].measure} and {measure}")
        _declared[name] = Benchmark(name, about, tuple(rivals), measure)
        return measure

    return declare


def discover() -> dict[str, Benchmark]:
    """Imports every module of this package and returns what they declare, by name. Benchmark modules import heavy things late."""
    for module in pkgutil.iter_modules(bench.__path__):
        if module.name != "__main__":
            importlib.import_module(f"bench.{module.name}")
    return dict(sorted(_declared.items()))


def select(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks named, in that order; all when none is named. Raises UnknownBenchmark."""
    known = discover()
    for name in names:
        if name not in known:
            raise UnknownBenchmark(f"no benchmark is called {name!r}; there are: {', '.join(known)}")
    return [known[name] for name in names or known]
