"""A user's own scenario as a YAML document: read, checked, and turned into resources, with every finding at its line and column.

A document has exactly one top key, which says what it describes; :class:`Kind` is what is known of one such key, and
``harness.cloud.document_kinds`` lists them. Nothing here knows a VBR from a VPN gateway.

    document = read(text, KINDS)
    document.findings      # every one, errors first, each with its place
    document.plan()        # raises Refused where there is an error

Shape errors (YAML-1 to YAML-6 of ``document_tree``) hide the kind's own rules: those need resources to judge. Their errors hide what is
wrong with ``links`` (YAML-7): that needs a plan.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from harness.cloud.document_links import impaired, links_of
from harness.cloud.document_shape import Form, shape_findings
from harness.cloud.document_tree import Path, Tree, parse
from harness.cloud.findings import Finding, Place, Severity, refuse_errors
from harness.plan import Plan

F = TypeVar("F", bound=Form)
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Built(Generic[E]):
    """What a form describes: the resources, and where each object is written.

    ``objects`` maps an object's name as the kind's rules have it ("BGP peer 10.1.1.2 of VBR vbr") to its path below the top key.
    ``findings`` are those that no rule can have, such as a name that leads nowhere in the file.
    """

    estate: E
    objects: Mapping[str, Path]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind(Generic[F, E]):
    """One kind of document: its top key, its form, and how the form becomes resources, findings and a plan.

    ``words`` name the objects by the key they stand under (``{"groups": "BGP group"}``), for findings about the shape.
    ``fields`` tells where a rule's field is written, if not under its own name: ``{"bfd_hop_count": ("bfd", "hop_count")}``.
    ``plan`` is called with resources that have no error. Names of built objects need not all be in ``objects``: what is not there is
    placed at the top key.
    """

    name: str
    title: str
    form: type[F]
    build: Callable[[F], Built[E]]
    rules: Callable[[E], list[Finding]]
    plan: Callable[[E], Plan]
    words: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Path] = field(default_factory=dict)

    def schema(self) -> dict[str, Any]:
        """JSON Schema of a document of this kind, with every field's description."""
        return schema([self])


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read. ``kind`` and ``estate`` are None where its shape is wrong; ``findings`` then say why."""

    kind: Kind[Any, Any] | None
    estate: Any
    findings: tuple[Finding, ...]
    form: Form | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.severity is Severity.WARNING)

    def plan(self) -> Plan:
        """The lab. Raises :class:`harness.cloud.findings.Refused` with every error."""
        refuse_errors(list(self.findings))
        assert self.kind is not None
        plan: Plan = self.kind.plan(self.estate)
        return plan if self.form is None else impaired(plan, self.form)[0]


def read(text: str, kinds: Mapping[str, Kind[Any, Any]]) -> Document:
    """Reads a document of one of ``kinds``. Never raises for what the text says."""
    tree, found = parse(text)
    if tree is None:
        return Document(None, None, tuple(found))
    name, wrong = _top(tree, kinds)
    found += wrong
    if name is None:
        return Document(None, None, tuple(_in_order(found)))
    kind = kinds[name]
    try:
        form = kind.form.model_validate(tree.value[name])
    except ValidationError as error:
        # A value that was not taken over is empty: that has been said at its own place.
        said = {finding.place for finding in found}
        shape = shape_findings(error, tree, (name,), kind.words, kind.form)
        found += [finding for finding in shape if finding.place not in said]
        return Document(kind, None, tuple(_in_order(found)))
    if found:
        return Document(kind, None, tuple(_in_order(found)))
    built = kind.build(form)
    judged = [
        replace(finding, place=_written(finding, built, kind, tree))
        for finding in (*built.findings, *kind.rules(built.estate))
    ]
    if next(links_of(form), None) is not None and not any(each.severity is Severity.ERROR for each in judged):
        found_on_links = impaired(kind.plan(built.estate), form)[1]
        judged += [replace(finding, place=tree.place((name, *path))) for path, finding in found_on_links]
    return Document(kind, built.estate, tuple(_in_order(judged)), form)


def schema(kinds: Iterable[Kind[Any, Any]]) -> dict[str, Any]:
    """JSON Schema (2020-12) of a document of any of these kinds."""
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for kind in kinds:
        one = kind.form.model_json_schema(ref_template=f"#/$defs/{kind.name}.{{model}}")
        definitions |= {f"{kind.name}.{name}": value for name, value in one.pop("$defs", {}).items()}
        properties[kind.name] = {**one, "description": kind.title}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vbrlab document",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "$defs": definitions,
    }


def _top(tree: Tree, kinds: Mapping[str, Kind[Any, Any]]) -> tuple[str | None, list[Finding]]:
    """The document's kind, and what is wrong at its top."""
    there = ", ".join(kinds)
    if not isinstance(tree.value, dict):
        rule = "the document is no mapping"
        return None, [Finding("document", rule, "YAML-4", f"Begin it with one of: {there}", place=tree.place(()))]
    found = []
    for key in tree.value:
        if key not in kinds:
            close = difflib.get_close_matches(key, kinds, 1)
            rule = f"{key!r} is no kind of document" + (f"; did you mean {close[0]!r}?" if close else "")
            found.append(Finding("document", rule, "YAML-4", f"There are {there}", place=tree.place((key,), key=True)))
    known = [key for key in tree.value if key in kinds]
    if len(known) > 1:
        rule = f"it describes {' and '.join(known)}"
        place = tree.place((known[1],), key=True)
        found.append(Finding("document", rule, "YAML-4", "Put each into a file of its own", place=place))
        return None, found
    if not known and not found:
        found.append(
            Finding("document", "it is empty", "YAML-4", f"Begin it with one of: {there}", place=tree.place(()))
        )
    return (known[0] if known else None), found


def _written(finding: Finding, built: Built[Any], kind: Kind[Any, Any], tree: Tree) -> Place:
    """Where a rule's finding is written: its field, else its object, else the document's own key."""
    path = (kind.name, *built.objects.get(finding.object, ()))
    below = kind.fields.get(finding.field, (finding.field,)) if finding.field else ()
    return tree.place((*path, *below))


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, each kind from the top of the file down."""
    return sorted(findings, key=lambda each: (each.severity is not Severity.ERROR, each.place or Place(1, 1)))
