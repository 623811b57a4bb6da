"""The links of a document's lab, impaired: ``links:`` beside the other keys of any kind, by the two nodes that a link joins.

Nodes are those of ``vbrlab graph FILE``; what can be written is ``harness.impairment``'s. It is judged on the plan, because only that
knows which links there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from harness.cloud.document_shape import Form
from harness.cloud.document_tree import Path
from harness.cloud.findings import Finding
from harness.impairment import WORDS, ImpairmentError
from harness.plan import Plan

RULE = "YAML-7"


class LinkForm(Form):
    """What the links between two nodes do to packets, each direction alike or, with ``one_way``, what the first node sends."""

    between: list[str] = Field(description="the two nodes, as vbrlab graph names them", min_length=2, max_length=2)
    one_way: bool = Field(False, description="only what the first of the two sends")
    delay: str | float | int | None = Field(None, description='such as "40ms"; a number is milliseconds')
    jitter: str | float | int | None = Field(None, description='such as "5ms", at most the delay')
    loss: str | float | int | None = Field(None, description='such as "1%"; a number is percent')
    rate: str | float | int | None = Field(None, description='such as "10mbit"; a number is Mbit/s; "none": no limit')


class LinkedForm(Form):
    """A form with links: what any kind of document inherits."""

    links: list[LinkForm] = Field([], description="delay, jitter, loss and rate of the lab's links", max_length=256)


def links_of(form: Form, path: Path = ()) -> Iterator[tuple[Path, LinkForm]]:
    """All links that are written in a form or in one inside it, with their paths."""
    for number, link in enumerate(form.links if isinstance(form, LinkedForm) else ()):
        yield (*path, "links", number), link
    for name in type(form).model_fields:
        if isinstance(inner := getattr(form, name), LinkedForm):
            yield from links_of(inner, (*path, name))


def impaired(plan: Plan, form: Form) -> tuple[Plan, list[tuple[Path, Finding]]]:
    """The plan with the form's links, and what is wrong with them: each finding with the path that it is about.

    What a link has by itself, such as the bandwidth of an inter-region connection, stays unless it is written.
    """
    found: list[tuple[Path, Finding]] = []
    names = [node.name for node in plan.nodes]
    for path, link in links_of(form):
        a, b = link.between
        owner = f"link {a} {'->' if link.one_way else '-'} {b}"
        strangers = [number for number, name in enumerate(link.between) if name not in names]
        for number in strangers:
            rule, remedy = f"{link.between[number]!r} is no node of this lab", f"There are {', '.join(names)}"
            found.append(((*path, "between", number), Finding(owner, rule, RULE, remedy)))
        if strangers:
            continue
        there = dict.fromkeys(plan.peer_of(a, end.interface).node for end, _ in plan.interfaces(a))
        if b not in there:
            remedy = f"Name another: {a} has links to {', '.join(there) or 'none'}"
            found.append(((*path, "between"), Finding(owner, "no link joins the two", RULE, remedy)))
            continue
        try:
            plan = plan.impaired(a, b, one_way=link.one_way, **{word: getattr(link, word) for word in WORDS})
        except ImpairmentError as error:
            remedy = error.remedy[:1].upper() + error.remedy[1:]
            found.append(((*path, error.word), Finding(owner, error.rule, RULE, remedy)))
    return plan, found
