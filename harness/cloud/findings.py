"""What validation says: which object, which rule, where the rule stands, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

E = TypeVar("E")


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a finding's cause is written in a file. Both count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule. ``spec`` is an ID of docs/requirements.md, or of ``harness.cloud.document_tree`` for a file's form.

    ``field`` is the object's field that breaks the rule, where it is one; ``place`` is where a file says so. The text of a finding
    never contains a key.
    """

    object: str
    rule: str
    spec: str
    remedy: str
    severity: Severity = Severity.ERROR
    field: str = ""
    place: Place | None = None

    def __str__(self) -> str:
        return f"{self.severity}: {self.object}: {self.rule} ({self.spec}). {self.remedy}."

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: ``line`` and ``column`` only where the finding comes from a file."""
        words = {"object": self.object, "rule": self.rule, "spec": self.spec, "remedy": self.remedy}
        where = {} if self.place is None else {"line": self.place.line, "column": self.place.column}
        return {"severity": str(self.severity), **words, **where}


class Refused(ValueError):
    """The resources break the documents' rules; nothing was started. ``findings`` has every error, not only the first."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


def judge(estate: E, rules: Iterable[Callable[[E], Iterator[Finding]]]) -> list[Finding]:
    """Every finding of every rule, errors first."""
    found = [finding for rule in rules for finding in rule(estate)]
    return sorted(found, key=lambda finding: finding.severity is not Severity.ERROR)


def refuse_errors(found: list[Finding]) -> list[Finding]:
    """The warnings where there is no error. Raises :class:`Refused` with all errors otherwise."""
    if errors := [finding for finding in found if finding.severity is Severity.ERROR]:
        raise Refused(errors)
    return found
