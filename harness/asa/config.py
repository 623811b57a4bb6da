"""What an ASA text says: sections with values, each with the line it came from, and remarks on what was not understood.

No meaning here: which section serves which tunnel is for ``device`` to find out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

HIDDEN = "*****"
"""What is shown in the place of a secret."""


class Kind(StrEnum):
    """What a section configures: the words of the command that makes one."""

    INTERFACE = "interface"
    IKEV2_ENABLE = "crypto ikev2 enable"
    IKEV2_POLICY = "crypto ikev2 policy"
    IPSEC_PROPOSAL = "crypto ipsec ikev2 ipsec-proposal"
    IPSEC_PROFILE = "crypto ipsec profile"
    TUNNEL_GROUP = "tunnel-group"
    ROUTE = "route"
    BGP = "router bgp"
    NEIGHBOR = "neighbor"
    NETWORK = "network"


class Weight(StrEnum):
    """How much a remark matters: an error keeps the device from working as the text means it, a note does not."""

    ERROR = "error"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to say about a text. ``line`` counts from 1; None where the trouble is that a line is missing."""

    line: int | None
    rule: str
    remedy: str
    weight: Weight = Weight.ERROR

    def __str__(self) -> str:
        where = "missing" if self.line is None else f"line {self.line}"
        return f"{where}: {self.rule}. {self.remedy}."


@dataclass(frozen=True, slots=True)
class Unknown:
    """A line that was not understood, its secrets replaced by stars."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: not understood: {self.text}"


class Key:
    """A pre-shared key that shows itself only when asked to (:meth:`reveal`)."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Key(*****)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Value:
    """A value and the line that set it last."""

    value: Any
    line: int


@dataclass(slots=True)
class Section:
    """One interface, policy, neighbour ...: its name, its first line, its values by the words of ``grammar``."""

    kind: Kind
    name: str
    line: int
    values: dict[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class AsaConfig:
    """A text, understood: sections by kind and name in the text's order. ``remarks`` are on values that cannot be."""

    sections: Mapping[Kind, Mapping[str, Section]]
    unknown: tuple[Unknown, ...] = ()
    remarks: tuple[Remark, ...] = ()
    taken_back: Mapping[int, str] = field(default_factory=dict)
    """Commands that a later ``no`` took back, by the line of the ``no``."""

    def who_took_back(self, remedy: str) -> int | None:
        """The line of the ``no`` that took back what a remedy writes ("Add router bgp ASN ..."); words in capitals stand for any."""
        _, _, command = remedy.partition(next((verb for verb in ("Add ", "Write ", " write ") if verb in remedy), "\0"))
        wanted = command.split()[:3]
        for line, text in reversed(list(self.taken_back.items())):
            given = text.split()
            if wanted and all(
                word.isupper() or there == HIDDEN or word.lower().startswith(there.lower())
                for word, there in zip(wanted, given, strict=False)
            ):
                return line
        return None

    def of(self, kind: Kind) -> Mapping[str, Section]:
        return self.sections.get(kind, {})
