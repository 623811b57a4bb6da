"""The shape of a document: forms as pydantic models, and their complaints as findings with line, column and remedy.

A form says which keys there are, their types, defaults and descriptions; editors get it as JSON Schema. What a value must be beyond
its type is a rule of the model that the document describes (``harness.cloud.vbr_rules`` for a VBR), so that a file and a running
lab are judged by the same code.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from harness.cloud.document_tree import Path, Tree
from harness.cloud.findings import Finding

#: Keys whose values are never repeated in a finding.
SECRET = frozenset({"key", "pre_shared_key"})

_SHOWN = 40


class Form(BaseModel):
    """What one mapping of a document may hold. Types are strict: "65010" is text and 65010 a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    def given(self, field: str) -> bool:
        """Is the field written in the document, if only as null?"""
        return field in self.model_fields_set


#: What a value of the wrong type should have been, and how to write it, by pydantic's name of the error.
_TYPES: dict[str, tuple[str, str]] = {
    "int_type": ("a whole number", "Write digits without quotes, a four-byte ASN too: 4200000001"),
    "float_type": ("a number", "Write digits without quotes"),
    "string_type": ("text", 'Put it into quotes: "..."'),
    "bool_type": ("true or false", "Write true or false without quotes; yes, no, on and off are text"),
    "list_type": ("a list", "Begin each item with - on a line of its own, or write [a, b]"),
    "tuple_type": ("a list", "Begin each item with - on a line of its own, or write [a, b]"),
    "model_type": ("a mapping", "Write {key: value}, or its keys below it with more indentation"),
    "model_attributes_type": ("a mapping", "Write {key: value}, or its keys below it with more indentation"),
    "dict_type": ("a mapping", "Write {key: value}, or its keys below it with more indentation"),
}


def shape_findings(
    error: ValidationError, tree: Tree, top: Path, words: Mapping[str, str], form: type[Form]
) -> list[Finding]:
    """Each complaint of pydantic about the value at ``top``, as a finding. ``words`` name the objects by the key they stand under."""
    found: list[Finding] = []
    for detail in error.errors(include_url=False, include_input=False):
        path = (*top, *_written(tree, top, detail["loc"]))
        finding = _finding(detail, path, tree, words, form)
        if finding not in found:
            found.append(finding)
    return found


def _written(tree: Tree, top: Path, steps: Path) -> Path:
    """The steps that lead through the file: pydantic adds names of its own, such as which of two types it tried."""
    path: list[str | int] = []
    for step in steps:
        here = tree.at((*top, *path))
        if isinstance(here, dict | list) or not path:
            path.append(step)
    return tuple(path)


def _finding(detail: ErrorDetails, path: Path, tree: Tree, words: Mapping[str, str], form: type[Form]) -> Finding:
    kind = detail["type"]
    owner, last = object_at(tree, path[:-1], words), path[-1]
    if kind == "extra_forbidden":
        known = _keys(form, path[1:-1])
        rule, remedy = f"{last!r} is no key of it", f"There are {', '.join(known)}"
        if close := difflib.get_close_matches(str(last), known, 1):
            rule, remedy = f"{rule}; did you mean {close[0]!r}?", f"Write {close[0]}, or leave it out"
        return Finding(owner, rule, "YAML-4", remedy, place=tree.place(path, key=True))
    if kind == "missing":
        return Finding(
            owner, f"{last!r} is required", "YAML-5", f"Add {last}: and its value", place=tree.place(path[:-1])
        )
    value = tree.at(path)
    if isinstance(last, int):
        owner = object_at(tree, path[:-2], words)
    name = f"item {last + 1} of {path[-2]!r}" if isinstance(last, int) else f"{last!r}"
    shown = "" if SECRET & set(path) else _short(value)
    if kind in _TYPES:
        wanted, remedy = _TYPES[kind]
        rule = f"{name} is {' '.join(filter(None, (_what(value), shown)))}, not {wanted}"
        if value is None:
            rule, remedy = f"{name} is empty, not {wanted}", "Give a value, or leave the key out"
    elif kind in ("literal_error", "enum"):
        expected = detail.get("ctx", {}).get("expected", "")
        rule, remedy = f"{name} is {shown or _what(value)}, not one of {expected}", _closest(value, str(expected))
    else:
        rule, remedy = f"{name}: {detail['msg'].removeprefix('Value error, ')}", "Correct it"
    return Finding(owner, rule, "YAML-6", remedy, place=tree.place(path))


def object_at(tree: Tree, path: Path, words: Mapping[str, str]) -> str:
    """The object that a path lies in, in the words of the rules: "BGP group idc of VBR vbr-hangzhou"."""
    return " of ".join(_objects(tree, path, words)) or "document"


def _objects(tree: Tree, path: Path, words: Mapping[str, str]) -> Iterator[str]:
    """From the innermost outwards: items of a list that has a word, and mappings that have one."""
    for length in range(len(path), 0, -1):
        step, value = path[length - 1], tree.at(path[:length])
        key = path[length - 2] if isinstance(step, int) and length > 1 else step
        if str(key) in words and (isinstance(step, int) or isinstance(value, dict)):
            yield f"{words[str(key)]} {_title(value, step)}".rstrip()


def _title(value: Any, step: str | int) -> str:
    if isinstance(value, dict):
        for key in ("name", "ip", "address"):
            if isinstance(value.get(key), str) and value[key]:
                return _short(value[key]).strip("'")
    elif isinstance(value, str):
        return _short(value).strip("'")
    return str(step + 1) if isinstance(step, int) else ""


def _keys(form: type[Form], path: Path) -> list[str]:
    """The keys of the form at ``path`` below the document's own."""
    here: Any = form
    for step in path:
        if isinstance(step, int):
            continue
        field = here.model_fields.get(step)
        inner = _form_in(field.annotation) if field is not None else None
        if inner is None:
            return []
        here = inner
    return list(here.model_fields)


def _form_in(annotation: Any) -> type[Form] | None:
    if isinstance(annotation, type) and issubclass(annotation, Form):
        return annotation
    for argument in typing.get_args(annotation):
        if (found := _form_in(argument)) is not None:
            return found
    return None


def _what(value: Any) -> str:
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "a truth value"),
        (int, "a number"),
        (float, "a number with a fraction"),
        (str, "the text"),
        (list, "a list"),
        (dict, "a mapping"),
    )
    return next((words for kind, words in kinds if isinstance(value, kind)), "empty")


def _short(value: Any) -> str:
    if isinstance(value, list | dict) or value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _closest(value: Any, expected: str) -> str:
    choices = [choice.strip(" '") for choice in expected.replace(" or ", ",").split(",")]
    if close := difflib.get_close_matches(str(value), choices, 1, cutoff=0.5):
        return f"Write {close[0]}"
    return "Write one of them"
