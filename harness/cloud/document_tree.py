"""A YAML text as a tree whose every key and value knows its line and column; what breaks YAML's form is a finding, never an exception.

What is taken is the core schema of YAML 1.2 (10.3) without its indirections: no anchors, aliases, merge keys or tags, so that a value
stands where it is read and a small file is a small tree. Not here: which keys there are and what they mean
(``harness.cloud.document_shape``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from harness.cloud.findings import Finding, Place

Path = tuple[str | int, ...]

#: What a file's form can be wrong in. These IDs stand beside those of docs/requirements.md, which are about the contents.
FORM_RULES = {
    "YAML-1": "the text is YAML 1.2, one document of at most 256 KiB and 32 levels",
    "YAML-2": "a key stands once in its mapping and is text",
    "YAML-3": "no anchors, aliases, merge keys or tags",
    "YAML-4": "exactly one kind of document, and only keys that it has",
    "YAML-5": "every key that is required",
    "YAML-6": "values of the right type",
    "YAML-7": "impaired links are links of the lab, and their values in the bounds",
}

LONGEST = 256 * 1024
DEEPEST = 32
_LONGEST_NUMBER = 40

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Tree:
    """Plain values, and where each of them and each key is written. A path is the keys and list positions from the top."""

    value: Any
    places: Mapping[Path, Place]
    keys: Mapping[Path, Place]

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Of the value at ``path`` (of its key, if asked), or of the nearest thing around it that is written."""
        for length in range(len(path), -1, -1):
            where = self.keys if key and length == len(path) else self.places
            if (found := where.get(path[:length])) is not None:
                return found
        return Place(1, 1)

    def at(self, path: Path) -> Any:
        """The value at ``path``, None where nothing is written."""
        value = self.value
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value


class _Malformed(Exception):
    def __init__(self, finding: Finding) -> None:
        self.finding = finding


@dataclass(slots=True)
class _Open:
    """A mapping or a sequence that is being read."""

    value: dict[str, Any] | list[Any]
    path: Path
    key: str | None = None
    skip: bool = False


@dataclass(slots=True)
class _Reading:
    """Events in, tree out."""

    places: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    top: Any = None
    documents: int = 0

    def take(self, event: Event) -> None:
        place = _place(event.start_mark)
        if isinstance(event, DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise _Malformed(
                    _form("YAML-1", "a second document begins here", "Put each document into a file", place)
                )
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self.stack.pop()
        elif isinstance(event, AliasEvent | ScalarEvent | MappingStartEvent | SequenceStartEvent):
            self._node(event, place)

    def _node(self, event: Any, place: Place) -> None:
        container = self.stack[-1] if self.stack else None
        if isinstance(event, AliasEvent):
            self._say("YAML-3", f"*{event.anchor} is an alias", "Write the value out", place)
        elif event.anchor is not None:
            self._say("YAML-3", f"&{event.anchor} is an anchor", "Write the value out where it is wanted", place)
        if getattr(event, "tag", None) is not None:
            self._say(
                "YAML-3",
                f"{event.tag} is a tag",
                'Leave it out; text that looks like a number goes into "quotes"',
                place,
            )
        if container is not None and isinstance(container.value, dict) and container.key is None:
            self._key(container, event, place)
            return
        value: Any = None
        if isinstance(event, ScalarEvent):
            value = self._scalar(event, place)
            if event.value == "" and container is not None and container.key is not None:
                # Nothing is written; YAML would say where the next thing begins.
                place = self.keys.get((*container.path, container.key), place)
        elif isinstance(event, MappingStartEvent):
            value = {}
        elif isinstance(event, SequenceStartEvent):
            value = []
        path = self._attach(container, value, place)
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._push(_Open(value, path), place)

    def _push(self, opened: _Open, place: Place) -> None:
        if len(self.stack) >= DEEPEST:
            raise _Malformed(_form("YAML-1", f"more than {DEEPEST} levels", "Nest less deeply", place))
        self.stack.append(opened)

    def _key(self, container: _Open, event: Any, place: Place) -> None:
        assert isinstance(container.value, dict)
        if not isinstance(event, ScalarEvent):
            self._say("YAML-2", "a key is a list, a mapping or an alias", "Give plain text as key", place)
            container.key, container.skip = "", True
            if not isinstance(event, AliasEvent):
                # What is inside the key goes nowhere; the value that follows is skipped with it.
                self._push(_Open([] if isinstance(event, SequenceStartEvent) else {}, ("",)), place)
            return
        key = event.value
        container.key, container.skip = key, key in container.value
        path = (*container.path, key)
        if key == "<<" and event.implicit[0]:
            self._say("YAML-3", "<< is a merge key", "Write the keys out", place)
            container.skip = True
        elif key in container.value:
            first = self.keys[path]
            self._say("YAML-2", f"{key!r} stands here twice, first in line {first.line}", "Leave one out", place)
        else:
            self.keys[path] = place

    def _attach(self, container: _Open | None, value: Any, place: Place) -> Path:
        path: Path = ()
        if container is None:
            self.top = value
        elif isinstance(container.value, list):
            path = (*container.path, len(container.value))
            container.value.append(value)
        else:
            assert container.key is not None
            path = (*container.path, container.key)
            if not container.skip:
                container.value[container.key] = value
            skipped, container.key, container.skip = container.skip, None, False
            if skipped:
                return ("", *path)
        self.places[path] = place
        return path

    def _scalar(self, event: ScalarEvent, place: Place) -> Any:
        text = str(event.value)
        if not event.implicit[0]:
            return text
        if _NULL.fullmatch(text):
            return None
        if found := _BOOL.fullmatch(text):
            return found[1] is not None
        if _INT.fullmatch(text) or _FLOAT.fullmatch(text):
            if len(text) > _LONGEST_NUMBER:
                self._say("YAML-6", f"a number of {len(text)} characters", "Give a shorter one", place)
                return 0
            if _INT.fullmatch(text):
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            return float(text)
        return text

    def _say(self, rule: str, what: str, remedy: str, place: Place) -> None:
        self.findings.append(_form(rule, what, remedy, place))


def parse(text: str) -> tuple[Tree | None, list[Finding]]:
    """The tree of a text, or None where it is no YAML; and every finding about its form."""
    if len(text) > LONGEST:
        return None, [_form("YAML-1", f"the text has {len(text)} characters", f"Give at most {LONGEST}", Place(1, 1))]
    reading = _Reading()
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            reading.take(event)
    except _Malformed as error:
        return None, [*reading.findings, error.finding]
    except ReaderError as error:
        return None, [*reading.findings, _unreadable(text, error)]
    except YAMLError as error:
        return None, [*reading.findings, _no_yaml(error)]
    if reading.documents == 0 or reading.top is None:
        return None, [
            *reading.findings,
            _form("YAML-4", "the document is empty", "Begin it with a key such as vbr:", Place(1, 1)),
        ]
    return Tree(reading.top, reading.places, reading.keys), reading.findings


def _unreadable(text: str, error: ReaderError) -> Finding:
    at = error.position if isinstance(error.position, int) else 0
    place = Place(text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1)
    return _form(
        "YAML-1", "a character that YAML does not allow", "Remove it, or write it as an escape in quotes", place
    )


def _no_yaml(error: YAMLError) -> Finding:
    mark = None
    what = "this is no YAML"
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part.strip() for part in (error.context, error.problem) if part) or what
    remedy = "Check indentation (spaces, no tabs), colons and quotes here and in the line before"
    return _form("YAML-1", what, remedy, Place(1, 1) if mark is None else _place(mark))


def _form(spec: str, rule: str, remedy: str, place: Place) -> Finding:
    return replace(Finding("document", rule, spec, remedy), place=place)


def _place(mark: StringMark) -> Place:
    return Place(mark.line + 1, mark.column + 1)
