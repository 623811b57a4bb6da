"""The documented lab on each IPsec data plane that this machine has, and what the planes carry and cost, side by side.

No document speaks of a data plane: which one encrypts must change nothing of what the documents say.
"""

from __future__ import annotations

import pytest

from harness.ipsec.strongswan import DataPlane
from harness.plane_trial import Cost, cost, planes
from harness.session import Labs
from labs.document import ipsec_ecmp as document
from labs.test_ecmp_failover import tables_are
from reports.model import Grid
from topologies import ipsec_ecmp

COLUMNS = ("Data plane", "Payload", "CPU for a Gbit", "of it charon", "Remark")


def row(spent: Cost) -> tuple[str, ...]:
    share = spent.charon_seconds / spent.cpu_seconds if spent.cpu_seconds else 0.0
    return (
        spent.plane.value,
        f"{spent.mbit_per_second:.0f} Mbit/s",
        f"{spent.cpu_per_gbit:.2f} s",
        f"{share:.0%}",
        f"{spent.octets / 1e6:.1f} MB of TCP over three tunnels",
    )


def side_by_side(found: dict[DataPlane, Cost | str]) -> Grid:
    """A row for each plane: what it carried and cost, or why it did not run."""
    rows = (row(each) if isinstance(each, Cost) else (plane.value, "", "", "", each) for plane, each in found.items())
    note = "Processor time is that of all processes of the lab. One run: a busy machine shows in it."
    return Grid("IPsec data planes side by side", COLUMNS, tuple(rows), note)


@pytest.mark.busy
@pytest.mark.spec("ECMP-6", "ECMP-17")
@pytest.mark.timeout(600)
async def test_every_plane_gives_the_same_tables_and_carries_bulk(labs: Labs, pytestconfig: pytest.Config) -> None:
    """All tables on each plane, then up to 24 MB whole through three tunnels at once; throughput and CPU go into the report."""
    found: dict[DataPlane, Cost | str] = {}
    forced = pytestconfig.getoption("--dataplane")
    for plane, why in planes():
        if why or forced not in (None, plane.value):
            found[plane] = why or f"{forced} alone was asked for"
            continue
        async with labs.running(ipsec_ecmp.plan(), plane=plane) as lab:
            await lab.tunnels_up(within=20)
            await lab.established(within=20)
            await tables_are(lab, document.TABLES, since=lab.begun, within=20)
            await lab["dc-router"].learned("10.0.1.0/24", within=10)
            found[plane] = await cost(lab)
    labs.record.add(side_by_side(found))
    ran = [each for each in found.values() if isinstance(each, Cost)]
    if not ran:
        pytest.skip("; ".join(map(str, found.values())))
    assert all(each.mbit_per_second > 0 for each in ran)
