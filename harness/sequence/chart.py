"""Sequence charts: which steps of a connection are shown, and their form as text. The form as SVG is ``reports.sequence``'s.

"Configure and manage BGP" draws how a session starts (TCP handshake, OPEN, OPEN, KEEPALIVE, KEEPALIVE, UPDATE) and how it ends
(NOTIFICATION, TCP close). What lies between, which may be days, is folded into one line that counts it (BGP-2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.bgp.messages import MessageType
from harness.capture import pcap
from harness.sequence.segments import BGP_PORT, segments
from harness.sequence.streams import Exchange, Step, sequences

AFTER_START = 6
"""Steps shown after both KEEPALIVEs of the start."""
FEW = 4
"""Fewer steps than these are not worth folding."""
WIDTH = 64


@dataclass(frozen=True, slots=True)
class Fold(Step):
    """Steps that are not shown: ``counts`` by their titles' first word."""

    counts: dict[str, int] = field(default_factory=dict)


def of_file(path: Path, port: int = BGP_PORT) -> list[Exchange]:
    """The BGP connections of a capture, pcap or pcapng. Raises OSError, NotACapture."""
    with path.open("rb") as file:
        return sequences(segments(pcap.packets(file), port))


def folded(sequence: Exchange) -> Exchange:
    """Start and end as they are, the middle as one step."""
    steps = sequence.steps
    begin, end = _start_of_middle(steps), _end_of_middle(steps)
    middle = steps[begin:end]
    if len(middle) < FEW:
        return sequence
    counts = Counter(step.title.split()[0] for step in middle)
    span = middle[-1].time - middle[0].time
    told = f"{', '.join(f'{count} {name}' for name, count in counts.most_common())} in {span:.3f} s"
    fold = Fold(middle[0].time, 0, "fold", told, counts=dict(counts))
    return replace(sequence, steps=(*steps[:begin], fold, *steps[end:]))


def _start_of_middle(steps: tuple[Step, ...]) -> int:
    alive: set[int] = set()
    for number, step in enumerate(steps):
        if step.type == MessageType.KEEPALIVE:
            alive.add(step.sender)
        if len(alive) == 2:
            return min(number + 1 + AFTER_START, len(steps))
    return min(2 * AFTER_START, len(steps))


def _end_of_middle(steps: tuple[Step, ...]) -> int:
    for number, step in enumerate(steps):
        if step.type == MessageType.NOTIFICATION or (step.kind == "tcp" and step.title in ("FIN", "RST")):
            return number
    return len(steps)


def lines(sequence: Exchange, *, decoded: bool = False) -> Iterator[str]:
    """The chart as text. ``decoded``: below each message all its fields."""
    left, right = sequence.ends
    margin = " " * 11
    yield f"{margin}{left}{right.rjust(WIDTH - len(left))}"
    for step in sequence.steps:
        if step.kind == "fold":
            yield f"{margin}:{f' {step.title} '.center(WIDTH - 2)}:"
            continue
        title = step.title if len(step.title) <= WIDTH - 10 else f"{step.title[: WIDTH - 11]}…"
        if step.kind == "note":
            arrow = f" ({title}) ".center(WIDTH - 2)
        elif step.sender == 0:
            arrow = f"-- {title} ".ljust(WIDTH - 3, "-") + ">"
        else:
            arrow = "<" + f" {title} --".rjust(WIDTH - 3, "-")
        yield f"{step.time:10.6f} |{arrow.ljust(WIDTH - 2)}|"
        if decoded:
            for detail in step.details:
                yield f"{margin}|{f'     {detail}'.ljust(WIDTH - 2)}|"


def words(sequence: Exchange) -> list[str]:
    """The steps as the document names them: ``> SYN``, ``< OPEN``, ``> KEEPALIVE``."""
    return [
        f"{'<' if step.sender else '>'} {step.title.split()[0] if step.kind == 'bgp' else step.title}"
        for step in sequence.steps
        if step.kind != "fold"
    ]
