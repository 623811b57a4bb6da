"""The example run with its page, written once for all tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports import page
from tests.reports import example_run


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the example run; its folder has the charts and the evidence."""
    return page.write(example_run.write(tmp_path_factory.mktemp("run") / "example"))
