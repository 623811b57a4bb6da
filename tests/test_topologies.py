"""Every documented scenario: what a topology file must have, and that Mininet's own command builds it.

What a scenario shows once its daemons run is for ``labs/``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import topologies
from harness.cloud.findings import Severity
from harness.net import sandbox
from harness.plan import Plan
from harness.up import welcome
from tests.test_project import TOP

#: Names that ``mn`` takes from a custom file for its own (``MininetRunner.setCustom``); it knows others, which ours replace knowingly.
TAKEN_BY_MN = {"validate", "switches", "hosts", "controllers", "links", "testnames"}

#: A client of each scenario and the address of its own router.
PINGS = {
    "ipsec-ecmp": ("dc-client0", "192.168.0.1"),
    "vbr": ("dc1-client0", "192.168.1.1"),
    "vpn-gateway": ("dc-client0", "192.168.0.1"),
    "resilience": ("gw1-client0", "192.168.1.1"),
}


@pytest.mark.parametrize("name", topologies.SCENARIOS)
def test_a_scenario_has_what_commands_ask_of_it(name: str) -> None:
    scenario = topologies.load(name)
    assert (scenario.NAME, list(scenario.topos)) == (name, [name])
    assert isinstance(scenario.plan(), Plan)
    assert [finding for finding in scenario.findings() if finding.severity is Severity.ERROR] == []
    assert TAKEN_BY_MN.isdisjoint(vars(scenario))


@pytest.mark.parametrize("name", topologies.SCENARIOS)
def test_the_prompt_greets_with_nodes_of_the_lab(name: str) -> None:
    plan = topologies.load(name).plan()
    words = welcome(plan).split()
    a, b = words[words.index("link") + 1 : words.index("link") + 3]
    assert any({a, b} == {end.node for end in link.ends()} for link in plan.links)
    assert plan[a].speaker is not None


@pytest.mark.root
@pytest.mark.spec("CARD-6", "CARD-7")
@pytest.mark.parametrize("topo", ["ipsec-ecmp", "vbr", "vbr,2", "vpn-gateway", "resilience"])
def test_mn_builds_it(topo: str) -> None:
    """``mn --custom FILE --topo NAME``: the nodes are there, and one whose name has a hyphen takes a command."""
    if (reason := sandbox.refusal()) is not None:
        pytest.skip(reason)
    program = Path(sys.executable).with_name("mn")
    if not program.exists():
        pytest.skip("mn is not installed beside this Python")
    if shutil.which("ping") is None:
        pytest.skip("ping is not installed; apt-get install --no-install-recommends iputils-ping")
    name = topo.partition(",")[0]
    client, gateway = PINGS[name]
    file = Path(topologies.load(name).__file__ or "")
    done = subprocess.run(
        [str(program), "--custom", str(file), "--topo", topo],
        env={**os.environ, "PYTHONPATH": str(TOP)},
        input=f"nodes\n{client} ping -c1 -W1 {gateway}\nexit\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert client in done.stderr
    assert "1 packets transmitted, 1 received" in done.stderr, done.stderr
    assert ("dc3" in done.stderr) == (topo == "vbr")
    assert done.returncode == 0
