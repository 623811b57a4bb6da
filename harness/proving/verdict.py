"""What a user gets to see of a device that was run: does it work, how far did it come, which line is to blame, what was not understood.

No field has a key: the commands quoted have stars in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.asa.config import AsaConfig, Key, Kind, Unknown
from harness.asa.read import lines_of, read
from harness.asa.running import Running, running
from harness.cloud.ends import Sided
from harness.device_check import Unreadable, belonging_to, text_of
from harness.peer_config import Peer
from harness.plan import Plan
from harness.proving.blame import Culprit, blame
from harness.proving.facts import Facts
from harness.proving.prove import Subject, clients_of

_HIDDEN = "*****"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file with a device's text, the connection it belongs to, and what it makes."""

    file: Path
    peer: Peer
    config: AsaConfig
    device: Running
    text: str

    @property
    def node(self) -> str:
        return self.peer.device.name

    def subject(self, plan: Plan) -> Subject:
        blocks = self.peer.centre.blocks
        return Subject(self.node, self.peer.connection.node, self.device, blocks, clients_of(plan, blocks))


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a connection has to do; ``passed`` None where an earlier one kept it from being tried."""

    name: str
    passed: bool | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one device. ``unblamed`` is what the ends said where no line could be found for it."""

    file: str
    node: str
    connection: str
    works: bool
    steps: tuple[Step, ...]
    culprits: tuple[Culprit, ...]
    unknown: tuple[Unknown, ...]
    unblamed: tuple[str, ...] = ()

    def to_text(self) -> str:
        lines = []
        for culprit in self.culprits:
            where = self.file if culprit.line is None else f"{self.file}:{culprit.line}"
            lines.append(f"{where}: {'missing: ' if culprit.line is None else ''}{culprit.cause}")
            if culprit.command:
                lines.append(f"    {culprit.command}")
            if culprit.said:
                lines.append(f"    said by {culprit.said}")
            lines.append(f"    {culprit.remedy}.")
        lines += [f"{self.file}: no line found for: {each}" for each in self.unblamed]
        lines += [f"{self.file}:{each.line}: not understood: {each.text}" for each in self.unknown]
        went = ", ".join(f"{step.name} {_WORDS[step.passed]}" for step in self.steps)
        verdict = "works" if self.works else "does not work"
        lines.append(f"{self.file} as {self.node} {verdict} with {self.connection}: {went}")
        return "\n".join(lines)

    def to_fields(self) -> dict[str, Any]:
        return asdict(self)


_WORDS: Mapping[bool | None, str] = {True: "ok", False: "failed", None: "not reached"}


def candidates(estate: Sided, files: Iterable[Path], connection: str | None = None) -> tuple[Candidate, ...]:
    """The files with the connections their tunnels lead to, or the named one. Raises Unreadable, NoPeer."""
    found: dict[str, Candidate] = {}
    for file in files:
        for candidate in candidates_of(estate, text_of(file), file, connection):
            if candidate.node in found:
                raise Unreadable(
                    f"{file} and {found[candidate.node].file} both stand for {candidate.node}; give one of them"
                )
            found[candidate.node] = candidate
    return tuple(found.values())


def candidates_of(estate: Sided, text: str, file: Path, connection: str | None = None) -> tuple[Candidate, ...]:
    """One text with its connection; twice, where it has both tunnels of one. Raises NoPeer."""
    config = read(text)
    # What was not understood is listed once for the text.
    return tuple(
        Candidate(
            file,
            peer,
            config if n == 0 else replace(config, unknown=()),
            running(config, peer.connection.gateway_address),
            text,
        )
        for n, peer in enumerate(belonging_to(estate, config, connection))
    )


def verdict(candidate: Candidate, facts: Facts) -> Verdict:
    """Facts of a run as the verdict on its text."""
    secrets = _secrets(candidate.config)
    blamed = [
        each if each.line else replace(each, line=candidate.config.who_took_back(each.remedy))
        for each in blame(candidate.device, facts)
    ]
    culprits = tuple(_quoted(each, candidate.text, secrets) for each in blamed)
    unblamed: tuple[str, ...] = ()
    if not facts.works and not culprits:
        reasons = [end.reason["text"] for end in (facts.cloud, facts.device) if end.reason]
        unblamed = tuple(map(str, reasons)) or ("the ends gave no reason",)
    return Verdict(
        str(candidate.file), candidate.node, candidate.peer.connection.name, facts.works and not culprits, _steps(facts), culprits,
        candidate.config.unknown, unblamed,
    )  # fmt: skip


def _steps(facts: Facts) -> tuple[Step, ...]:
    session = facts.session if facts.up else None
    beyond = None if not session else True
    return (
        Step("tunnel", facts.up),
        Step("rekey", facts.rekey is None if facts.up else None),
        Step("BGP session", session),
        Step("client routes", beyond and not facts.missing),
        Step("clients", beyond and not facts.unreached),
        Step("data-centre router", beyond and facts.inner),
    )


def _secrets(config: AsaConfig) -> frozenset[str]:
    groups = [section for kind in (Kind.TUNNEL_GROUP, Kind.NEIGHBOR) for section in config.of(kind).values()]
    return frozenset(
        value.value.reveal() for group in groups for value in group.values.values() if isinstance(value.value, Key)
    )


def _quoted(culprit: Culprit, text: str, secrets: frozenset[str]) -> Culprit:
    if culprit.line is None:
        return culprit
    shown: list[str] = []
    for word in lines_of(text)[culprit.line - 1].split():
        if word in secrets or (shown and _before_a_secret(shown[-1])):
            shown.append(_HIDDEN)
            break
        shown.append(word)
    return replace(culprit, command=" ".join(shown))


def _before_a_secret(word: str) -> bool:
    """Is what follows a key, legal or not? Keywords may be abbreviated."""
    return any(len(word) > 2 and each.startswith(word.lower()) for each in ("pre-shared-key", "password", "secret"))


def to_json(verdicts: Iterable[Verdict], tables: Mapping[str, Any] | None = None) -> str:
    """All verdicts of a run as one line of JSON."""
    fields: dict[str, Any] = {"works": True, "devices": [each.to_fields() for each in verdicts]}
    fields["works"] = all(device["works"] for device in fields["devices"])
    if tables is not None:
        fields["tables"] = dict(tables)
    return json.dumps(fields)


async def judged(lab: Any, chosen: tuple[Candidate, ...]) -> list[Verdict]:
    """Proves the candidates in a lab that was started for them, and judges."""
    from harness.proving.prove import prove

    facts = await prove(lab, tuple(each.subject(lab.plan) for each in chosen))
    return [verdict(each, facts[each.node]) for each in chosen]
