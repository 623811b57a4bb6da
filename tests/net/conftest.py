"""Tests that build real networks look at them with the usual programs; where those are not installed they are skipped by name."""

from __future__ import annotations

import shutil

import pytest

PROGRAMS = {"ip": "iproute2", "ping": "iputils-ping"}


@pytest.fixture(autouse=True)
def programs(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") is None:
        return
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; apt-get install --no-install-recommends {package}")
