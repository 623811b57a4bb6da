"""Reads ASA text: every line is understood, a comment, or listed; every value keeps its line.

An ASA takes commands, not indentation: a command that the open mode does not have is tried in the modes around it. Indentation
only tells where an unknown section ends. A terminal's record (prompts, ``show running-config``) and the trailing ``# ...`` of
document 001 are understood too. ``#`` begins a comment only where the command is complete, since a key may begin with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.asa import grammar
from harness.asa.config import HIDDEN, AsaConfig, Key, Kind, Remark, Section, Unknown, Value, Weight
from harness.asa.grammar import BadValue, Command, Mode

MASKED = Key(HIDDEN)
"""What ``show running-config`` prints in the place of any key."""

_PROMPT = re.compile(r"^[A-Za-z][\w.-]*(?:/[\w/-]+)?(?:\([a-z0-9-]+\)#|[>#])(?:\s+|$)")
_PAGER = re.compile(r"<--- More --->[\s\b]*(?:\r|$)?")
_COMMENT = re.compile(r"[!#:]|Password:\s|Cryptochecksum:")
_SECRET = re.compile(r"key|pass|secret|psk|shared|auth|communit|md5|cred|token", re.IGNORECASE)

#: First words of commands that are no part of any section here: in a text without indentation they end the open one.
_OUTSIDE = frozenset(
    """aaa access-group access-list arp asdm class-map crypto dhcpd dns domain-name ftp group-policy hostname http icmp
    logging mtu names nat object object-group pager policy-map prefix-list route-map router same-security-traffic
    service-policy snmp-server ssh sysopt telnet threat-detection timeout tunnel-group username webvpn xlate""".split()  # noqa: SIM905
)


def lines_of(text: str) -> list[str]:
    """The lines as an editor counts them. What a terminal's pager wrote and wiped out again within a line is gone."""
    ends = r"\r\n|\n" if "\n" in text else r"\r"
    lines = [_PAGER.sub("", line).rpartition("\r")[2] for line in re.split(ends, text)]
    return lines[:-1] if lines[-1] == "" else lines


def read(text: str) -> AsaConfig:
    """The configuration that a text makes. Never raises for its content: see ``unknown`` and ``remarks`` of the result."""
    reader = _Reader()
    for number, line in enumerate(lines_of(text), 1):
        reader.line(number, line)
    return reader.result()


class _Reader:
    def __init__(self) -> None:
        self._sections: dict[Kind, dict[str, Section]] = {}
        self._unknown: list[Unknown] = []
        self._remarks: list[Remark] = []
        self._mode = Mode.GLOBAL
        self._open: dict[Mode, Section] = {}
        self._indent = 0
        self._indented = False
        self._strange: int | None = None
        self._names: dict[str, str] = {}
        self._taken_back: dict[int, str] = {}

    def line(self, number: int, text: str) -> None:
        body = text.expandtabs().rstrip()
        stripped = _PROMPT.sub("", body.lstrip(), count=1)
        if not stripped or _COMMENT.match(stripped):
            return
        given = stripped.split()
        indent = len(body) - len(body.lstrip())
        if self._session(given) or self._calls(given):
            return
        bad: BadValue | None = None
        for mode in self._modes():
            try:
                if self._leaves(mode, given):
                    return
                command, parameters = self._best(mode, given)
                if command is not None:
                    self._take(mode, command, parameters, number, indent)
                    return
            except BadValue as error:
                bad = bad or error
        if bad is not None:
            self._remarks.append(Remark(number, bad.rule, bad.remedy))
            return
        if given[0].lower() == "no" and self._takes_back(number, given[1:]):
            return
        self._not_understood(number, given, indent)

    def result(self) -> AsaConfig:
        groups = [
            section for kind in (Kind.TUNNEL_GROUP, Kind.NEIGHBOR) for section in self._sections.get(kind, {}).values()
        ]
        keys = [
            (name, value) for group in groups for name, value in group.values.items() if isinstance(value.value, Key)
        ]
        for name, value in keys:
            if value.value == MASKED:
                rule = f"the {name} is five stars, as show running-config prints any key"
                remedy = "If it is not the key, take the text from more system:running-config"
                self._remarks.append(Remark(value.line, rule, remedy, Weight.NOTE))
        secrets = {value.value.reveal() for _, value in keys}
        unknown = (Unknown(each.line, _without(each.text, secrets)) for each in self._unknown)
        remarks = tuple(sorted(self._remarks, key=lambda each: each.line or 0))
        return AsaConfig(self._sections, tuple(unknown), remarks, self._taken_back)

    # ------------------------------------------------------------------------------------------------------------------ modes

    def _modes(self) -> Iterator[Mode]:
        """The open mode and those around it; within an unknown section only the outermost."""
        mode = Mode.GLOBAL if self._strange is not None else self._mode
        yield mode
        while mode is not Mode.GLOBAL:
            mode = grammar.PARENT[mode]
            yield mode

    def _session(self, given: list[str]) -> bool:
        if any(grammar.match(pattern, given) for pattern in grammar.SESSION):
            self._mode, self._strange = Mode.GLOBAL, None
            return True
        return False

    def _calls(self, given: list[str]) -> bool:
        """``name 203.0.113.191 CLOUD``: commands may then say CLOUD for that address."""
        if (found := grammar.match("name <address> <name>", given[:3])) is None or given[3:4] not in (
            [],
            ["description"],
        ):
            return False
        try:
            self._names[found[1][1]] = grammar.address(found[1][0])
        except BadValue:
            return False
        return True

    def _leaves(self, mode: Mode, given: list[str]) -> bool:
        for word in grammar.LEAVES[mode]:
            if grammar.match(word, given):
                self._mode = grammar.PARENT.get(mode, Mode.GLOBAL)
                self._strange = None
                return True
        return False

    # --------------------------------------------------------------------------------------------------------------- commands

    def _best(self, mode: Mode, given: list[str]) -> tuple[Command | None, list[str]]:
        """The command that fits best. Raises BadValue where two fit equally well."""
        fits = [
            (found, command) for command in grammar.COMMANDS[mode] if (found := grammar.match(command.pattern, given))
        ]
        if not fits:
            return None, []
        best = min(fit for (fit, _), _ in fits)
        chosen = [(parameters, command) for (fit, parameters), command in fits if fit == best]
        if len(chosen) > 1:
            forms = " or ".join(repr(command.pattern) for _, command in chosen)
            raise BadValue(f"ambiguous: it could be {forms}", "Write the words out")
        parameters, command = chosen[0]
        roles = [element for element in command.pattern.split() if element.startswith("<")]
        if len(roles) == len(parameters):
            parameters = [
                self._names.get(word, word) if role in grammar.ADDRESSES else word
                for role, word in zip(roles, parameters, strict=True)
            ]
        return command, parameters

    def _take(self, mode: Mode, command: Command, parameters: list[str], number: int, indent: int) -> None:
        kind = command.section
        if kind is None:
            section, rest = self._open[mode], parameters
            if mode is self._mode and indent > self._indent:
                self._indented = True
            value = command.value(*rest) if command.stores else None
        else:
            named = parameters if kind in grammar.WHOLE else parameters[:1]
            rest = parameters if kind in grammar.WHOLE else parameters[1:]
            name = grammar.NAMES[kind](*named)
            value = command.value(*rest) if command.stores else None
            section = self._sections.setdefault(kind, {}).setdefault(name, Section(kind, name, number))
        if command.stores:
            section.values[command.stores] = Value(value, number)
        self._strange = None
        self._mode = mode
        if command.opens:
            self._mode = command.opens
            self._open[command.opens] = section
            self._indent, self._indented = indent, False

    def _takes_back(self, number: int, given: list[str]) -> bool:
        """``no`` and a command that is understood: what it set is not set any more, a section that it made is gone."""
        for mode in self._modes():
            for command in grammar.COMMANDS[mode]:
                if given and (parameters := grammar.undone(command.pattern, given)) is not None:
                    before = self._set()
                    known = self._forget(mode, command, parameters)
                    if self._set() < before:
                        self._taken_back[number] = self._shown(given)
                    return known
        return False

    def _set(self) -> int:
        """How many sections and values there are."""
        sections = [section for kind in self._sections.values() for section in kind.values()]
        return len(sections) + sum(len(section.values) for section in sections)

    def _forget(self, mode: Mode, command: Command, parameters: list[str]) -> bool:
        kind = command.section
        if kind is None:
            if (section := self._open.get(mode)) is None:
                return False
            section.values.pop(command.stores, None)
            return True
        named = parameters if kind in grammar.WHOLE else parameters[:1]
        try:
            name = grammar.NAMES[kind](*named) if named else ""
        except (BadValue, TypeError):
            name = " ".join(named)
        sections = self._sections.get(kind, {})
        found = [each for each in sections if each == name or (kind in grammar.WHOLE and each.startswith(f"{name} "))]
        for each in found:
            if command.stores and kind not in grammar.WHOLE and command.stores not in ("remote-as", "type"):
                sections[each].values.pop(command.stores, None)
            else:
                del sections[each]
        return bool(found)

    def _not_understood(self, number: int, given: list[str], indent: int) -> None:
        if self._strange is not None and indent > self._indent:
            self._list(number, given, f" (within line {self._strange})")
            return
        ends = indent <= self._indent and (self._indented or given[0].lower() in _OUTSIDE)
        self._list(number, given, "")
        if self._mode is Mode.GLOBAL or ends:
            self._mode, self._strange, self._indent = Mode.GLOBAL, number, indent

    def _list(self, number: int, given: list[str], where: str) -> None:
        self._unknown.append(Unknown(number, self._shown(given) + where))

    def _shown(self, given: list[str]) -> str:
        """The words without what could be a secret: all after a word that speaks of one; in a tunnel group, all but keywords."""
        shown: list[str] = []
        keywords = {
            word
            for command in grammar.COMMANDS[Mode.TUNNEL_GROUP]
            for word in command.pattern.split()
            if "<" not in word
        }
        for at, word in enumerate(given):
            if self._mode is Mode.TUNNEL_GROUP and word not in keywords:
                return " ".join([*shown, HIDDEN])
            shown.append(word)
            if _SECRET.search(word) and at + 1 < len(given):
                return " ".join([*shown, HIDDEN])
        return " ".join(shown)


def _without(text: str, secrets: set[str]) -> str:
    return " ".join(HIDDEN if word in secrets else word for word in text.split())
