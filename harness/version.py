"""Which vbrlab this is."""

from __future__ import annotations

import sys
from collections.abc import Callable


def described(command: str) -> str:
    """One line: the command, the package's version, Python's."""
    from importlib import metadata  # 30 ms, which only who asks has to wait for

    python = ".".join(map(str, sys.version_info[:3]))
    return f"{command} {metadata.version('vbrlab')} (Python {python})"


def shown_by(command: str) -> Callable[[bool], None]:
    """The callback of a command's option ``--version``, for typer."""

    def show(wanted: bool) -> None:
        if wanted:
            import typer

            typer.echo(described(command))
            raise typer.Exit

    return show
