"""`python -m bench [NAMES]`, which `./run bench` calls: runs benchmarks, prints one table, writes `bench.json`.

Exit status: 0 all bars met (or not to be judged, a rival being absent), 1 a bar missed or a benchmark failed, 2 wrong usage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.registry import Benchmark, Measurement, Options, Skipped, UnknownBenchmark, discover, select

OUT = Path("reports/out/bench.json")
LOG_WIDTH = 140
VERDICT = {True: "[green]met[/]", False: "[bold red]missed[/]", None: "–"}

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def quantity(value: float, unit: str) -> str:
    """Three significant digits; seconds below one as milliseconds."""
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def render(rows: Sequence[Measurement]) -> Table:
    """The closing table: work, ours, a column for each rival (its value and how many times ours that is), bar, met or not."""
    names = list(dict.fromkeys(name for row in rows for name in row.rivals))
    table = Table(title="Benchmarks of this run", title_justify="left")
    table.add_column("work")
    for heading in ("ours", *names):
        table.add_column(escape(heading), justify="right")
    table.add_column("bar")
    table.add_column("verdict")
    for row in rows:
        table.add_row(
            escape(row.name),
            quantity(row.ours, row.unit),
            *(_against(row, name) for name in names),
            escape(row.bar or "–"),
            VERDICT[row.ok],
        )
    return table


def _against(row: Measurement, name: str) -> str:
    if name not in row.rivals:
        return ""
    theirs = row.rivals[name]
    if theirs is None:
        return "absent"
    ratio = f" ({theirs / row.ours:.3g} ×)" if row.ours else ""
    return quantity(theirs, row.unit) + ratio


def run(chosen: Sequence[Benchmark], options: Options, progress: Console) -> tuple[list[Measurement], list[str]]:
    """All rows, and the names of benchmarks that failed. A failure is printed and the others still run."""
    rows: list[Measurement] = []
    failed: list[str] = []
    for each in chosen:
        absent = [rival for rival in each.rivals if rival.path() is None]
        for rival in absent:
            progress.print(
                f"{each.name}: {rival.name} is absent (no {rival.program}; Debian package {rival.package})",
                soft_wrap=True,
            )
        progress.print(f"{each.name}: {each.about} ...", soft_wrap=True)
        try:
            for row in each.measure(options):
                rows.append(row)
                progress.print(f"  {row.name}: {quantity(row.ours, row.unit)}", highlight=False)
        except Skipped as reason:
            progress.print(f"  skipped: {escape(str(reason))}", highlight=False, soft_wrap=True)
        except Exception as error:
            failed.append(each.name)
            progress.print(f"  [bold red]failed[/]: {type(error).__name__}: {escape(str(error))}", highlight=False)
    return rows, failed


def _chart(file: Path) -> None:
    """``<name>.svg`` and ``<name>.png`` beside the results, where any row has a rival; the report of the labs has the same chart."""
    from reports import bench_plot, charts

    item = bench_plot.read(file)
    if item is not None and item.rows:
        charts.chart(item, file.stem).save(file.parent)


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks to run; all without a name.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Repetitions in place of each benchmark's own number.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = OUT,
    listing: Annotated[bool, typer.Option("--list", help="Names what there is and ends.")] = False,
    packages: Annotated[bool, typer.Option(help="Prints the Debian packages of absent rivals and ends.")] = False,
) -> None:
    """Measures the lab's own work beside its rivals, in one run."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    try:
        chosen = select(names or [])
    except UnknownBenchmark as unknown:
        Console(stderr=True).print(str(unknown), highlight=False)
        raise typer.Exit(2) from unknown
    if packages:
        for rival in dict.fromkeys(rival for each in chosen for rival in each.rivals):
            # ./run asks with the user's own options: who only lists needs no rival.
            if rival.path() is None and not listing:
                typer.echo(f"{rival.package}|{rival.program}|the rival {rival.name}")
        return
    if listing:
        for each in discover().values():
            console.print(f"{each.name}: {each.about}", highlight=False, soft_wrap=True)
        return
    began = time.monotonic()
    rows, failed = run(chosen, Options(rounds), Console(stderr=True))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([row.as_json() for row in rows], indent=2, ensure_ascii=False) + "\n")
    console.print(render(rows))
    _chart(out)
    console.print(f"{time.monotonic() - began:.0f} s; written to {out}", highlight=False)
    if failed or any(row.ok is False for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
