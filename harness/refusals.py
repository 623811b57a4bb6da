"""What the security groups of a running lab's instances have refused (ECMP-42): why a ping is not answered though every table is complete.

The kernel's own counters say what was refused; rule and remedy come from the groups as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.node import addresses_of

if TYPE_CHECKING:
    from harness.lab import Lab


async def refused_by_groups(lab: Lab, node: str, address: str) -> list[str]:
    """What the instance with ``address`` has refused of what came from ``node``."""
    owners = dict(addresses_of(lab.plan))
    if (owner := owners.get(address)) is None:
        return []
    sources = [own for own, whose in owners.items() if whose == node]
    return [line for source in sources for line in await lab[owner].refusals(source)]


async def refused_by_any_group(lab: Lab) -> list[str]:
    """What any instance has refused of anybody."""
    return [line for handle in lab for line in await handle.refusals()]
