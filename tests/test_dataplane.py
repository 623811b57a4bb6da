"""One IPsec data plane asked for: taken where it is there, refused with the probe's reason where it is not, by pytest and by ``up``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import cli, probe, session
from harness.ipsec.strongswan import DataPlane
from harness.lab import DATA_PLANE
from harness.net import sandbox
from harness.plane_trial import Cost
from reports import page
from reports.model import Result, Run, RunFolder
from tests.test_probe import findings

LACKING = "xfrm lacks ESP in the kernel (not today)"


@pytest.fixture(params=["esp", ""], ids=["no ESP", "whole"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the machine lacks."""
    for module in (probe, session):
        monkeypatch.setattr(module, "probe", lambda: findings(*filter(None, [request.param])))
    monkeypatch.setattr(sandbox, "refusal", lambda: None)
    monkeypatch.setattr(sandbox, "inside", lambda: False)
    monkeypatch.delenv(DATA_PLANE, raising=False)
    return str(request.param)


def test_a_run_takes_the_plane_that_is_asked_for(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_PLANE, "")
    assert session.refusal("libipsec") is None
    assert os.environ[DATA_PLANE] == "libipsec"
    assert session.plane_of_run().plane is DataPlane.LIBIPSEC
    why = session.plane_of_run().reason
    assert why == ("the kernel lacks ESP or xfrm interfaces; charon encrypts in user space" if machine else "asked for")


def test_a_plane_that_is_not_there_is_refused_with_the_reason(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_PLANE, "before")
    why = session.refusal("xfrm")
    if not machine:
        assert why is None
        assert os.environ[DATA_PLANE] == "xfrm"
        return
    assert why is not None
    assert why.startswith(f"--dataplane xfrm: {LACKING}; vbrlab doctor")
    assert os.environ[DATA_PLANE] == "before"


def test_up_refuses_a_plane_before_it_starts_anything(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_PLANE, "before")
    monkeypatch.setattr(cli, "_enter_sandbox", lambda name: cli._fail(f"{name} begins", 3))
    done = CliRunner().invoke(cli.app, ["up", "ipsec-ecmp", "--dataplane", "xfrm"])
    if machine:
        assert (done.exit_code, done.output) == (
            2,
            f"vbrlab: --dataplane xfrm: {LACKING}; vbrlab doctor says what to do\n",
        )
    else:
        assert (done.exit_code, os.environ[DATA_PLANE]) == (3, "xfrm")
    done = CliRunner().invoke(cli.app, ["up", "ipsec-ecmp", "--dataplane", "esp"])
    assert (done.exit_code, done.output) == (2, "vbrlab: no data plane 'esp'; there are xfrm, libipsec\n")


def test_the_report_names_the_planes_of_a_test(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    result = Result("labs/test_a.py::test_x", "Looks", "passed", 0.1, ("ECMP-1",), "", ("xfrm", "libipsec"))
    folder.write_run(Run("run", "", 1.0, "", {}, (), (result,)))
    assert folder.read_run().results == (result,)
    assert "IPsec data plane xfrm, libipsec" in page.write(folder).read_text()


def test_a_cost_is_told_for_a_gbit() -> None:
    assert Cost(DataPlane.XFRM, 25_000_000, 400.0, 0.5, 0.25).cpu_per_gbit == pytest.approx(2.5)
