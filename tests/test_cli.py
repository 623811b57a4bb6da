"""What every ``vbrlab`` command owes its user: help that can be read whole, and a file that cannot be written named in one line."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.bgp.cli import app as bgp_app
from harness.cli import app

GROUPS = ((), ("chart",), ("vbr",), ("vbr", "group"), ("vbr", "peer"), ("vbr", "network"), ("vbr", "ecr"))


@pytest.mark.parametrize("group", GROUPS, ids=" ".join)
def test_no_line_of_a_list_of_commands_is_cut_off(group: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
    commands = shown.partition("Commands:\n")[2].splitlines()
    assert commands
    assert [line for line in commands if line.endswith("...") or len(line) > 80] == []


def test_a_drawing_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["graph", "vbr", "-o", str(tmp_path / "none" / "vbr.svg")])
    assert (done.exit_code, done.output) == (
        1,
        f"vbrlab: {tmp_path}/none/vbr.svg cannot be written: No such file or directory\n",
    )


@pytest.mark.parametrize(("name", "command"), [("vbrlab", app), ("vbrlab-bgp", bgp_app)])
def test_a_command_tells_its_version(name: str, command: typer.Typer) -> None:
    done = CliRunner().invoke(command, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith(f"{name} {metadata.version('vbrlab')} (Python 3.")
