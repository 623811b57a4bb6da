"""Why a line is down, as an agent puts it together from charon's log and events. No charon runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.ipsec.agent import Agent
from harness.ipsec.settings import Settings
from harness.ipsec.strongswan import DataPlane
from tests.ipsec.ends import CLOUD, tunnel
from tests.ipsec.sas import child


class Line:
    """The tunnel's interface, without one."""

    ifindex, up = 7, False

    def set(self, up: bool) -> bool:
        changed, self.up = self.up is not up, up
        return changed


@pytest.fixture
async def agent(tmp_path: Path) -> Agent:
    made = Agent(Settings("vpn1", tunnel(CLOUD), DataPlane.LIBIPSEC, tmp_path, tmp_path / "ipsec.sock"))
    made._line.close()
    made._line = Line()  # type: ignore[assignment]
    return made


def updown(agent: Agent, *, up: bool) -> None:
    event: dict[str, Any] = {"c1": {"uniqueid": "1", "child-sas": {"c1-1": child()}}}
    agent._vici_event("child-updown", {"up": "yes"} | event if up else event)


async def test_a_delete_that_comes_before_the_attempt_is_answered_is_the_reason(agent: Agent) -> None:
    """charon says that the CHILD_SA is up a moment before it answers "initiate"; the peer may end it in between."""
    agent._negotiator.attempting = True
    updown(agent, up=True)
    agent._log_line(1.0, "07[IKE] <c1|1> received DELETE for IKE_SA c1[1]")
    updown(agent, up=False)
    (down,) = [event for event in agent.events.since() if event["type"] == "line" and event["state"] == "down"]
    assert down["reason"]["code"] == "DELETED_BY_PEER"


async def test_what_ends_others_while_a_tunnel_is_negotiated_is_no_reason(agent: Agent) -> None:
    agent._negotiator.attempting = True
    agent._log_line(1.0, "07[IKE] <c1|1> sending DELETE for IKE_SA c1[1]")
    updown(agent, up=True)
    updown(agent, up=False)
    (down,) = [event for event in agent.events.since() if event["type"] == "line" and event["state"] == "down"]
    assert "reason" not in down
