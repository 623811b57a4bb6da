"""Which vbrlab this is."""

from __future__ import annotations

import sys
from importlib import metadata


def described(command: str) -> str:
    """One line: the command, the package's version, Python's."""
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{command} {metadata.version('vbrlab')} (Python {python})"
