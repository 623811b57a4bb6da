"""The MinRouteAdvertisementIntervalTimer (RFC 4271 9.2.1.1), seen on the wire: no document has it, and a VBR does without.

Two data centres hear of the same changes. The VBR's neighbour to the first has an interval of 0.8 s, that to the second has none.
The packets are from a capture on the VBR's ends of the two circuits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from harness.bgp.messages import MessageType
from harness.daemons.features import Feature
from harness.instruments import Capture, capture
from harness.node import NodeHandle
from harness.sequence import chart
from harness.sequence.streams import Exchange, Step
from harness.session import Labs
from harness.speakers import neighbor_config
from reports.model import Grid
from topologies import vbr

INTERVAL = 0.8
LEAST = 0.75 * INTERVAL
"""RFC 4271 10: with the jitter, which keeps many speakers from telling their news in step."""
FIRST, SECOND, THIRD, FOURTH = (f"172.16.{number}.0/24" for number in (1, 2, 3, 4))


def updates(recording: Capture, data_centre: int, since: int) -> list[Step]:
    """The UPDATEs to a data centre, their times in seconds since ``since`` (nanoseconds since 1970).

    Without End-of-RIB, which is no news: it may come later than the routes that the lab waits for at the start.
    """

    def told(sequence: Exchange) -> Iterator[Step]:
        (far,) = (end for end in (0, 1) if sequence.ends[end].startswith(f"{vbr.peer_ip(data_centre)}:"))
        for step in sequence.steps:
            at = step.time + (sequence.began - since) / 1e9
            title = step.title.removeprefix("UPDATE ")
            if step.type == MessageType.UPDATE and step.sender != far and at > 0 and not title.startswith("End-of-RIB"):
                yield Step(at, step.sender, step.kind, title)

    # Both ends may connect at once: the connection that is given up carries no UPDATE.
    (told_on_one,) = filter(
        None,
        (
            list(told(each))
            for each in chart.of_file(recording.path)
            if any(end.startswith(f"{vbr.peer_ip(data_centre)}:") for end in each.ends)
        ),
    )
    return told_on_one


def words(step: Step) -> set[str]:
    """A title as what is announced (+) and withdrawn (-)."""
    return {f"{part[0]}{prefix}" for part in step.title.split("; ") for prefix in part[1:].split(", ")}


def has(node: NodeHandle, prefix: str) -> bool:
    return any(str(route.prefix) == prefix for route in node.kernel_routes())


@pytest.mark.spec("BGP-6")
async def test_news_within_the_interval_leaves_as_one_update_after_it(labs: Labs) -> None:
    """What changed twice is told as it is in the end, or not at all; a withdrawal waits as an announcement does."""
    estate = vbr.estate(peers=2, asns=(65011, 65012), networks=("172.16.0.0/24",))
    taps = {"vbr": ["circuit1", "circuit2"]}
    async with (
        labs.running(vbr.plan_of(estate)) as lab,
        capture(lab, taps, matches=((6, 179),), name="interval", blocks=8) as recording,
    ):
        for number in (1, 2):
            await lab[f"dc{number}"].learned("172.16.0.0/24", within=10)
        lab.needs(Feature.ADVERTISEMENT_INTERVAL, "vbr")
        speaker = lab["vbr"].speaker
        assert lab["vbr"].plan.speaker is not None
        (neighbor,) = (n for n in lab["vbr"].plan.speaker.neighbors if n.address == vbr.peer_ip(1))
        await speaker.call("neighbor.change", **neighbor_config(neighbor), advertisement_interval=INTERVAL)
        since = time.time_ns()

        await speaker.call("network.add", prefix=FIRST)
        await lab["dc1"].learned(FIRST, within=5)
        for method, prefix in (
            ("add", SECOND),
            ("add", THIRD),
            ("add", FOURTH),
            ("delete", FOURTH),
            ("delete", FIRST),
        ):
            await speaker.call(f"network.{method}", prefix=prefix)
        await lab["dc1"].learned(THIRD, within=5)
        await speaker.call("network.delete", prefix=SECOND)
        await lab.until(lambda: not any(has(lab[name], SECOND) for name in ("dc1", "dc2")), within=5, what="withdrawn")
        await recording.sync()

        slow, quick = (updates(recording, number, since) for number in (1, 2))
        # 9.2.1.1 knows no hurry for withdrawals; what came and went meanwhile is not worth a word. The order within a message is free.
        assert [words(step) for step in slow] == [
            {f"+{FIRST}"},
            {f"-{FIRST}"},
            {f"+{SECOND}", f"+{THIRD}"},
            {f"-{SECOND}"},
        ]
        at = [step.time for step in slow]
        assert at[1] == at[2], "in one segment"
        assert at[1] - at[0] >= LEAST
        assert at[3] - at[2] >= LEAST
        assert [words(step) for step in quick] == [
            {f"+{FIRST}"},
            *({f"+{prefix}"} for prefix in (SECOND, THIRD, FOURTH)),
            {f"-{FOURTH}"},
            {f"-{FIRST}"},
            {f"-{SECOND}"},
        ]
        assert quick[5].time < at[1]

        rows = sorted((step.time, line, step.title) for line, told in ((1, slow), (2, quick)) for step in told)
        columns = ("s", f"UPDATE over circuit 1, interval {INTERVAL:g} s", "UPDATE over circuit 2, no interval")
        cells = tuple((f"{at:.3f}", *((title, "") if line == 1 else ("", title))) for at, line, title in rows)
        lab.record(Grid("The same changes with and without MinRouteAdvertisementInterval", columns, cells))
        lab.attach(recording.path, "Packets of the advertisement interval", "pcapng")
