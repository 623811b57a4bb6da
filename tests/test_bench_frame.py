"""The benchmarks' frame: bars, verdicts, declaration, the table and `bench.json`; and how the main job's benchmark reads its stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bench import lab, registry
from bench.__main__ import app, quantity, render
from bench.registry import AtLeast, AtMost, Bar, Faster, Measurement, Options, Rival, Within

ABSENT = Rival("Nobody", program="no-such-program", package="no-such-package")


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Benchmark]:
    """An empty registry in place of the project's."""
    own: dict[str, registry.Benchmark] = {}
    monkeypatch.setattr(registry, "_declared", own)
    return own


def declare(name: str, *rows: Measurement, error: Exception | None = None, rivals: tuple[Rival, ...] = ()) -> None:
    @registry.benchmark(name, f"what {name} does", rivals=rivals)
    def measure(options: Options) -> Iterator[Measurement]:
        assert options.rounds in (None, 3)
        yield from rows
        if error:
            raise error


@pytest.mark.parametrize(
    ("bar", "ours", "theirs", "met"),
    [
        (AtMost(2), 2.0, None, True),
        (AtMost(2), 2.1, None, False),
        (AtLeast(30), 30.0, None, True),
        (AtLeast(30), 29.0, None, False),
        (Within("rival", 1.5), 3.0, 2.0, True),
        (Within("rival", 1.5), 3.1, 2.0, False),
        (Within("rival", 1.5), 3.0, None, None),
        (Faster("rival", 20), 1.0, 20.0, True),
        (Faster("rival", 20), 1.0, 19.9, False),
        (Faster("rival", 20), 1.0, None, None),
    ],
)
def test_bars(bar: Bar, ours: float, theirs: float | None, met: bool | None) -> None:
    assert Measurement("work", "s", ours, {"rival": theirs}, bars=[bar]).ok is met


def test_one_missed_bar_is_a_miss_whatever_else_could_not_be_judged() -> None:
    unjudged = Faster("rival", 20)
    assert Measurement("work", "s", 1.0, {"rival": None}, bars=[AtMost(2), unjudged]).ok is None
    assert Measurement("work", "s", 3.0, {"rival": None}, bars=[AtMost(2), unjudged]).ok is False
    assert Measurement("work", "s", 3.0).ok is None


def test_a_bar_on_a_rival_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(registry.UnknownRival, match="'work' is held to 'rival' but carries only: other"):
        _ = Measurement("work", "s", 1.0, {"other": 1.0}, bars=[Within("rival", 1)]).ok


def test_a_name_is_declared_once(declared: dict[str, registry.Benchmark]) -> None:
    declare("one")
    with pytest.raises(registry.DuplicateBenchmark, match="'one'"):
        declare("one")
    assert list(declared) == ["one"]


def test_the_projects_benchmarks_declare_themselves() -> None:
    assert "lab" in registry.discover()


def test_results_are_written_and_a_missed_bar_fails(declared: dict[str, registry.Benchmark], tmp_path: Path) -> None:
    declare(
        "good",
        Measurement("star", "s", 0.25, {"Mininet": 12.0, "Nobody": None}, bars=[Faster("Mininet", 20)]),
        rivals=(ABSENT,),
    )
    declare("bad", Measurement("load", "s", 9.0, bars=[AtMost(5.4)]))
    assert sorted(declared) == ["bad", "good"]
    out = tmp_path / "deep" / "bench.json"
    done = CliRunner().invoke(app, ["good", "--out", str(out), "--rounds", "3"])
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text()) == [
        {
            "name": "star",
            "unit": "s",
            "ours": 0.25,
            "rivals": {"Mininet": 12.0, "Nobody": None},
            "bar": "Mininet ≥ 20 × ours",
            "ok": True,
        }
    ]
    assert "Nobody is absent (no no-such-program; Debian package no-such-package)" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["--out", str(out)])
    assert done.exit_code == 1
    assert [row["ok"] for row in json.loads(out.read_text())] == [False, True]


def test_a_benchmark_that_fails_does_not_take_the_others_with_it(
    declared: dict[str, registry.Benchmark], tmp_path: Path
) -> None:
    declare("a", Measurement("first", "s", 1.0), error=lab.CheckFailed("tables differ"))
    declare("b", Measurement("second", "s", 1.0))
    assert sorted(declared) == ["a", "b"]
    out = tmp_path / "bench.json"
    done = CliRunner().invoke(app, ["--out", str(out)])
    assert done.exit_code == 1
    assert "CheckFailed: tables differ" in done.output
    assert [row["name"] for row in json.loads(out.read_text())] == ["first", "second"]


def test_an_unknown_name_is_wrong_usage(declared: dict[str, registry.Benchmark]) -> None:
    declare("star")
    assert list(declared) == ["star"]
    done = CliRunner().invoke(app, ["stra"])
    assert done.exit_code == 2
    assert "no benchmark is called 'stra'; there are: star" in done.output


def test_packages_of_absent_rivals_are_listed_once(declared: dict[str, registry.Benchmark]) -> None:
    here = Rival("shell", program="sh", package="dash")
    declare("a", rivals=(ABSENT, here))
    declare("b", rivals=(ABSENT,))
    assert len(declared) == 2
    done = CliRunner().invoke(app, ["--packages"])
    assert done.output.splitlines() == ["no-such-package|no-such-program|the rival Nobody"]


def test_the_table_shows_ratio_absence_and_verdict() -> None:
    rows = [
        Measurement("star", "s", 0.25, {"Mininet": 12.5, "raw": 0.2}, bars=[Faster("Mininet", 20)]),
        Measurement("load", "s", 9.0, {"BIRD": None}, bars=[AtMost(5.4)]),
    ]
    console = Console(width=200, record=True)
    console.print(render(rows))
    star, load = (line.split("│") for line in console.export_text().splitlines() if "star" in line or "load" in line)
    assert [cell.strip() for cell in star[1:-1]] == [
        "star",
        "250 ms",
        "12.5 s (50 ×)",
        "200 ms (0.8 ×)",
        "",
        "Mininet ≥ 20 × ours",
        "met",
    ]
    assert [cell.strip() for cell in load[1:-1]] == ["load", "9 s", "", "", "absent", "≤ 5.4 s", "missed"]


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.2512, "s", "251 ms"),
        (5.44, "s", "5.44 s"),
        (87123.4, "UPDATEs/s", "87,123 UPDATEs/s"),
        (86.2, "MB", "86.2 MB"),
    ],
)
def test_quantities(value: float, unit: str, shown: str) -> None:
    assert quantity(value, unit) == shown


def test_the_lab_gives_the_medians_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([(1.0, {"plan": 0.1, "ike": 0.3}), (3.0, {"plan": 0.2, "ike": 0.1}), (2.0, {"plan": 0.9, "ike": 0.1})])
    monkeypatch.setattr(lab, "run_once", lambda: next(runs))
    rows = list(lab.lab(Options(rounds=3)))
    assert [(row.name, row.ours, row.bar, row.ok) for row in rows] == [
        ("ipsec-ecmp, all of it", 2.0, "≤ 2 s", True),
        ("ipsec-ecmp, plan", 0.2, None, None),
        ("ipsec-ecmp, ike", 0.1, "≤ 0.2 s", True),
    ]


def test_stages_are_the_last_line_of_the_commands_output() -> None:
    output = 'bringing it up\n{"stages": [{"name": "import", "seconds": 0.3}, {"name": "ike", "seconds": 0.1}], "total": 0.4}\n'
    assert lab.parse_stages(output) == {"import": 0.3, "ike": 0.1}


@pytest.mark.parametrize("output", ["", "ready\n", "{}", '{"stages": [{"name": "ike"}]}', "[1]"])
def test_output_without_stages_is_refused(output: str) -> None:
    with pytest.raises(lab.CheckFailed, match="no stages"):
        lab.parse_stages(output)


@pytest.mark.usefixtures("declared")
def test_a_benchmark_that_cannot_run_here_is_skipped_by_name(tmp_path: Path) -> None:
    declare("one", Measurement("a", "s", 1.0))
    declare("other", error=registry.Skipped("there is no stream; name one"))
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "bench.json"), "one", "other"])
    assert result.exit_code == 0
    assert "skipped: there is no stream; name one" in result.output
    assert [row["name"] for row in json.loads((tmp_path / "bench.json").read_text())] == ["a"]


@pytest.mark.usefixtures("declared")
def test_who_only_lists_needs_no_rival() -> None:
    declare("one", rivals=(ABSENT,))
    assert CliRunner().invoke(app, ["--packages"]).output == "no-such-package|no-such-program|the rival Nobody\n"
    assert CliRunner().invoke(app, ["--packages", "--list"]).output == ""
