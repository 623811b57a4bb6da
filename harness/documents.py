"""A user's YAML document as a file: read, and its findings shown. What it says is judged in ``harness.cloud.document``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.cloud.document import Document, read
from harness.cloud.document_kinds import KINDS
from harness.cloud.findings import Finding, Severity


class Unreadable(Exception):
    """The file cannot be read; the text names it and says why."""


def read_file(path: str) -> Document:
    """The document in a file; "-" is the standard input. Raises Unreadable; what the text says raises nothing."""
    import topologies

    try:
        octets = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except FileNotFoundError:
        raise Unreadable(
            f"{path!r} is neither a file nor a scenario; scenarios are {', '.join(topologies.SCENARIOS)}"
        ) from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        # A byte order mark is no part of the text, but would move every column of the first line.
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"{path}, line {line}: no UTF-8; save it in that encoding") from None
    return read(text, KINDS)


def as_text(name: str, findings: Sequence[Finding]) -> str:
    """Every finding on a line of its own, errors first and apart from the warnings, and their numbers at the end."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    warnings = [finding for finding in findings if finding.severity is Severity.WARNING]
    parts = ["\n".join(_line(name, finding) for finding in group) for group in (errors, warnings) if group]
    parts.append(f"{name}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    return "\n\n".join(parts) if errors and warnings else "\n".join(parts)


def as_json(name: str, findings: Sequence[Finding]) -> str:
    """One object: ``valid``, ``errors`` and ``warnings``; each finding has line and column where it comes from a file."""
    apart = {
        f"{severity}s": [finding.to_dict() for finding in findings if finding.severity is severity]
        for severity in Severity
    }
    return json.dumps({"name": name, "valid": not apart["errors"], **apart})


def _line(name: str, finding: Finding) -> str:
    return str(finding) if finding.place is None else f"{name}:{finding.place}: {finding}"


def _count(findings: Sequence[Finding], word: str) -> str:
    return f"{len(findings)} {word}{'' if len(findings) == 1 else 's'}"
