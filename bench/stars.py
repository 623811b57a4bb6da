"""Declares the benchmarks of `bench.star`: stars of nodes, and the calls that users make in loops, against Mininet and raw netlink.

Apart from the measuring itself because that file is also run alone, by Debian's Python without this project on its path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from bench import star
from bench.registry import Bar, Faster, Measurement, Options, Rival, Within, benchmark

MININET = Rival("Mininet", program="mnexec", package="mininet")
RAW = "raw netlink"
BUILD_ROUNDS = 9
LARGE_ROUNDS = 3
CALLS_A_RUN = 30
CALL_NAMES = {
    "cmd_builtin": "cmd of a shell built-in",
    "cmd_program": "cmd of a program",
    "popen": "popen and wait",
    "pexec": "pexec",
}
NOISE = 1.1
"""No slower than stock: two medians of the very same code differ by up to a tenth on a busy machine."""


@benchmark(
    "star",
    "stars of 256 and 1,000 nodes, by raw netlink messages, by our Mininet API and by stock Mininet",
    rivals=[MININET],
)
def stars(options: Options) -> Iterator[Measurement]:
    """Interleaved rounds; stock Mininet only at 256 nodes, where one build and stop of its takes 14 s."""
    stock = star.stock_available()
    found = star.compare_builds(
        256, options.rounds or BUILD_ROUNDS, ("ours", "raw", "stock") if stock else ("ours", "raw")
    )
    rows: list[tuple[str, Callable[[Sequence[star.Build]], float], list[Bar]]] = [
        ("star of 256 nodes, build", star.median_build, [Within(RAW, 1.5)]),
        ("star of 256 nodes, build and stop", star.median_life, [Within(RAW, 1.5), Faster(MININET.name, 20)]),
    ]
    for name, seconds, bars in rows:
        rivals = {RAW: seconds(found["raw"]), MININET.name: seconds(found["stock"]) if stock else None}
        yield Measurement(name, "s", seconds(found["ours"]), rivals, bars=bars)
    found = star.compare_builds(1000, options.rounds or LARGE_ROUNDS, ("ours", "raw"))
    yield Measurement(
        "star of 1,000 nodes", "s", star.median_build(found["ours"]), {RAW: star.median_build(found["raw"])}
    )


@benchmark("calls", "cmd, popen and pexec of a node, ours and stock Mininet's", rivals=[MININET])
def calls(options: Options) -> Iterator[Measurement]:
    """Medians of single calls; without stock Mininet there is nothing to compare with, and only ours is measured."""
    if star.stock_available():
        found = {
            way: asdict(measured) for way, measured in star.compare_calls(CALLS_A_RUN, options.rounds or 3).items()
        }
    else:
        ours = star.measure("calls", "ours", CALLS_A_RUN)
        assert isinstance(ours, star.Calls)
        found = {"ours": asdict(ours)}
    stock = found.get("stock", {})
    for call, milliseconds in found["ours"].items():
        rivals = {MININET.name: stock.get(call)}
        yield Measurement(CALL_NAMES[call], "ms", milliseconds, rivals, bars=[Within(MININET.name, NOISE)])
