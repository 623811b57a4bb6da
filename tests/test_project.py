"""The project's own rules, checked on its text: who imports whom, which requirements exist, how labs wait, what the lock may say.

Not here: what ruff and mypy check already.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).resolve().parent.parent
PACKAGES = ("harness", "topologies", "reports", "labs", "bench")

# ------------------------------------------------------------------------------------------------------- who may import whom

NETLINK = tuple(
    f"harness.net.{leaf}"
    for leaf in ("rtnl", "background", "requests", "route_encoder", "records", "monitor", "echo_filter", "fib")
)
MININET = tuple(f"harness.net.{door}" for door in ("mininet", "mn_command", "plan_topo"))
SPEAKER_MAY = ("harness.control", "harness.version", *NETLINK)

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "harness.impairment": (),
    "harness.plan": ("harness.impairment",),
    "harness.control": (),
    "harness.patience": (),
    "harness.version": (),
    "harness.stream": ("harness.patience",),
    "harness.tables": (),
    "harness.cloud": ("harness.plan", "harness.impairment"),
    "harness.alerts": ("harness.cloud", "harness.control"),
    "harness.asa": ("harness.cloud", "harness.plan"),
    "harness.bgp": (*SPEAKER_MAY, "harness.bfd"),
    "harness.bfd": (),
    "harness.net": ("harness.plan", "harness.impairment"),
    "harness.ipsec": ("harness.net", "harness.plan", "harness.control", "harness.probe", "harness.patience"),
    "harness.capture": ("harness.net", "harness.control"),
    "harness.sequence": ("harness.bgp", "harness.capture"),
    "harness.traffic": ("harness.net", "harness.capture", "harness.control", "harness.patience"),
    "harness.daemons": ("harness.net", "harness.control", "harness.bgp"),
    "harness.vm": (),
    "topologies": ("harness.cloud", "harness.plan", "harness.impairment", *MININET),
    "reports": (),
    "labs": ("harness", "topologies", "reports.model"),
    "labs.document": ("harness.tables",),
}
"""Room -> what it may import of the project beside itself. A prefix stands for all below it; the longest matching room counts."""

COMPOSERS = ("harness", "topologies", "reports")
"""What a module outside those rooms (lab, plugin, command, benchmarks) may import: all but the labs, the tests and the benchmarks."""

PURE = (
    "harness.impairment",
    "harness.plan",
    "harness.cloud",
    "harness.asa",
    "topologies",
    *(
        f"harness.bgp.{core}"
        for core in ("messages", "update", "attributes", "capabilities", "fsm", "peer", "rib", "decision", "policy")
    ),
    *(f"harness.bfd.{core}" for core in ("terms", "packet", "authentication", "fsm", "session", "demux")),
)
IMPURE_MODULES = {"asyncio", "socket", "select", "selectors", "subprocess", "threading", "time"}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((TOP / package).rglob("*.py")):
            parts = path.relative_to(TOP).with_suffix("").parts
            if parts[:2] != ("reports", "out"):
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def below(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every import; `from a import b` counts as `a.b`, so that a submodule is seen for what it is."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def breaches(module: str, source: str) -> list[str]:
    """The lines of a module that its room does not allow."""
    rooms = [room for room in MAY_IMPORT if below(module, room)]
    room = max(rooms, key=len) if rooms else None
    allowed = (room, *MAY_IMPORT[room]) if room else (*COMPOSERS, module.split(".")[0])
    if room == "labs":
        allowed = (*allowed, "labs.document")
    found = []
    for line, name in imports(source):
        package = name.split(".")[0]
        if package in (*PACKAGES, "tests") and not any(below(name, each) for each in allowed):
            found.append(f"{module}:{line} imports {name}; {room or 'it'} may import {', '.join(allowed)}")
        if package in IMPURE_MODULES and any(below(module, pure) for pure in PURE):
            found.append(f"{module}:{line} imports {name}; it is pure: no I/O and no clock")
    return found


def test_each_room_imports_only_what_it_may() -> None:
    found = [breach for module, path in modules() for breach in breaches(module, path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("harness.cloud.vbr", "from harness.net import rtnl"),
        ("harness.cloud.vbr", "import time"),
        ("harness.bgp.rib", "from harness.net.sandbox import reexec"),
        ("harness.bgp.fsm", "def f():\n    import asyncio"),
        ("topologies.vbr", "from labs.document import ipsec_ecmp"),
        ("harness.lab", "import labs.document.ipsec_ecmp"),
        ("labs.test_ecmp", "from tests.proofs import rows"),
        ("labs.document.vbr", "from topologies import vbr"),
        ("reports.page", "from harness.lab import Lab"),
    ],
)
def test_the_import_rules_see(module: str, source: str) -> None:
    assert breaches(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("harness.cloud.vbr", "from harness.plan import Plan\nfrom harness.cloud import rules"),
        ("harness.bgp.daemon", "import asyncio\nfrom harness.net.fib import Fib"),
        ("labs.test_ecmp", "from harness.lab import Lab\nfrom labs.document import ipsec_ecmp"),
        ("harness.plugin", "from reports import page\nfrom harness.lab import Lab"),
    ],
)
def test_the_import_rules_allow(module: str, source: str) -> None:
    assert not breaches(module, source)


# ------------------------------------------------------------------------------------------------- requirements and waiting

REQUIREMENT = re.compile(r"(?:CARD|VBR|ECMP|VPN|BGP)-\d+")


def cited(path: Path) -> Iterator[tuple[int, str]]:
    """Line and argument of every `pytest.mark.spec(...)` in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "spec":
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def test_every_cited_requirement_exists() -> None:
    known = set(re.findall(rf"^\| ({REQUIREMENT.pattern}) ", (TOP / "docs/requirements.md").read_text(), re.MULTILINE))
    assert known, "docs/requirements.md has no rows"
    unknown = [
        f"{path.relative_to(TOP)}:{line} {name}"
        for folder in ("labs", "tests")
        for path in sorted((TOP / folder).rglob("*.py"))
        for line, name in cited(path)
        if name not in known
    ]
    assert not unknown, "\n".join(unknown)


def literal_sleeps(source: str) -> list[int]:
    """Lines that call something named sleep with a number."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) == "sleep"
        and any(
            isinstance(argument, ast.Constant) and isinstance(argument.value, int | float) for argument in node.args
        )
    ]


def test_labs_wait_on_events_only() -> None:
    assert literal_sleeps("import time\ntime.sleep(0.5)\nsleep(delay)\nawait_sleep(1)\n") == [2]
    found = [
        f"{path.relative_to(TOP)}:{line}"
        for path in sorted((TOP / "labs").rglob("*.py"))
        for line in literal_sleeps(path.read_text())
    ]
    assert not found, "\n".join(found)


# ------------------------------------------------------------------------------------------------------------------ the lock

PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;]+)(?: ; (?P<marker>.+?))? \\$")


def pins() -> Iterator[tuple[str, str, Marker | None, int]]:
    """Name, version, marker and number of hashes of each entry of requirements.lock."""
    for entry in re.split(r"\n(?=\S)", (TOP / "requirements.lock").read_text()):
        first = entry.splitlines()[0]
        if not first.startswith("#"):
            found = PINNED.match(first)
            assert found, f"not pinned by ==, or without a hash: {first}"
            marker = Marker(found["marker"]) if found["marker"] else None
            yield canonicalize_name(found["name"]), found["version"], marker, entry.count("--hash=sha256:")


def wanted() -> Iterator[Requirement]:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lines += [line for line in (TOP / "requirements.in").read_text().splitlines() if line and not line.startswith("#")]
    return map(Requirement, lines)


def test_the_lock_pins_by_hash() -> None:
    unhashed = [name for name, _, _, hashes in pins() if not hashes]
    assert not unhashed
    built = {name: hashes for name, _, _, hashes in pins() if name in {"numpy", "scipy", "pydantic-core"}}
    assert len(built) == 3
    assert min(built.values()) >= 20, f"the hashes of one machine's wheels only: {built}"


def test_the_lock_says_nothing_of_where_packages_come_from() -> None:
    lines = (TOP / "requirements.lock").read_text().splitlines()
    foreign = [line for line in lines if re.search(r"://|file:| @ |^[-/.]|^ *--(?!hash=sha256:)", line)]
    assert not foreign, "\n".join(foreign)


@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_lock_serves(python: str, machine: str) -> None:
    environment = {
        **{key: str(value) for key, value in default_environment().items()},
        "python_version": python,
        "python_full_version": python + ".2",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    chosen = [(name, version) for name, version, marker, _ in pins() if marker is None or marker.evaluate(environment)]
    versions = dict(chosen)
    assert len(versions) == len(chosen), "one package pinned twice for this Python"
    for requirement in wanted():
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in requirements.lock: ./run lock"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement} but {version} is locked: ./run lock"
        )
