"""The speaker stands alone: its two commands run where the lab is not, and where only their own libraries are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.test_project import MAY_IMPORT, TOP, below

DAEMON_NEEDS = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
COMMAND_NEEDS = DAEMON_NEEDS | {
    "typer",
    "annotated_doc",
    "click",
    "rich",
    "markdown_it",
    "mdurl",
    "pygments",
    "shellingham",
}

# Refuses every import that is neither Python's own, nor the speaker's, nor of a library named on the command line.
ALONE = """
import importlib.abc, json, sys
allowed, libraries = json.loads(sys.argv[1]), json.loads(sys.argv[2])

class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top == "harness":
            if any((name + ".").startswith(room + ".") or (room + ".").startswith(name + ".") for room in allowed):
                return None
        elif top in sys.stdlib_module_names or top in libraries or not path and top.startswith("_"):
            return None
        raise ModuleNotFoundError(f"{name} is not the speaker's", name=name)

sys.meta_path.insert(0, Guard())
sys.argv = sys.argv[3:]
module, _, function = sys.argv[0].partition(":")
sys.exit(getattr(importlib.import_module(module), function)())
"""


def alone(entry: str, libraries: set[str], *words: str) -> subprocess.CompletedProcess[str]:
    rooms = ["harness.bgp", *MAY_IMPORT["harness.bgp"]]
    # What the speaker may import of the network room imports leaves of that room in turn.
    rooms += [
        f"harness.net.{path.stem}" for path in (TOP / "harness" / "net").glob("*.py") if path.stem not in LAB_ONLY
    ]
    argv = [sys.executable, "-c", ALONE, json.dumps(rooms), json.dumps(sorted(libraries)), entry, *words]
    return subprocess.run(
        argv, cwd=TOP, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "100"}
    )


LAB_ONLY = {
    "mininet",
    "mn_command",
    "plan_topo",
    "lab_net",
    "lab_link",
    "lab_node",
    "sandbox",
    "supervisor",
    "zygote",
    "door",
}


@pytest.mark.spec("BGP-1")
def test_the_daemon_runs_without_the_lab(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"asn": 65530, "router_id": "192.0.2.1"}')
    done = alone("harness.bgp.daemon:main", DAEMON_NEEDS, "--config", str(tmp_path / "c.json"), "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "router_id" in alone("harness.bgp.daemon:main", DAEMON_NEEDS, "--schema").stdout


def test_the_command_runs_without_the_lab() -> None:
    done = alone("harness.bgp.cli:main", COMMAND_NEEDS, "--help")
    assert done.returncode == 0, done.stderr
    assert "neighbor" in done.stdout


def test_the_guard_guards() -> None:
    assert "harness.lab is not the speaker's" in alone("harness.lab:main", set()).stderr
    assert "pydantic is not the speaker's" in alone("harness.bgp.daemon:main", set()).stderr


def test_both_commands_are_installed() -> None:
    scripts = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["vbrlab-bgpd"] == "harness.bgp.daemon:main"
    assert scripts["vbrlab-bgp"] == "harness.bgp.cli:main"


def test_what_is_imported_is_what_the_rooms_allow() -> None:
    """Not only the source's imports: what is loaded once the daemon is imported."""
    code = (
        "import harness.bgp.daemon, json, sys; print(json.dumps([m for m in sys.modules if m.startswith('harness.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, timeout=60, check=True)
    loaded = [name for name in json.loads(done.stdout) if name != "harness.net"]
    strange = [
        name
        for name in loaded
        if not any(below(name, room) for room in ("harness.bgp", "harness.net", *MAY_IMPORT["harness.bgp"]))
        or name.rpartition(".")[2] in LAB_ONLY
    ]
    assert not strange
