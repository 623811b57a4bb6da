"""Devices of a VPN gateway's tunnels, run as their own texts have them: one device with both tunnels, and the line to blame in each.

Source: "VPN Gateway: configure BGP dynamic routing", dual-tunnel mode; the commands are those of document 001.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import peer_config
from harness.cloud.build_vpn import compile_vpn_estate
from harness.proving.prove import staged
from harness.proving.verdict import Verdict, candidates_of, judged
from harness.session import Labs
from topologies import vpn_gateway

ESTATE = vpn_gateway.estate(one_device=True)
TEXT = peer_config.render(peer_config.find(ESTATE, "IPsec-VPN Connection 1"), peer_config.Form.ASA)


async def judge(labs: Labs, text: str, title: str) -> list[Verdict]:
    chosen = candidates_of(ESTATE, text, Path("device.txt"))
    plan = compile_vpn_estate(ESTATE)
    plan = staged(plan, tuple(each.subject(plan) for each in chosen))
    async with labs.running(plan, title=title) as lab:
        return await judged(lab, chosen)


def line(command: str, nth: int = 1) -> int:
    """Where a command stands in the text, for the nth time."""
    return [number for number, each in enumerate(TEXT.splitlines(), 1) if each.strip() == command][nth - 1]


@pytest.mark.spec("ECMP-11", "VPN-13", "VPN-24")
async def test_one_device_with_both_tunnels_works(labs: Labs) -> None:
    """The text that peer-config writes for both tunnels: each comes up, is rekeyed, has its session, and reaches the clients."""
    verdicts = await judge(labs, TEXT, "A device with both tunnels")
    assert [(each.node, each.works, each.unknown) for each in verdicts] == [("gw1", True, ()), ("gw2", True, ())], (
        verdicts
    )
    assert all(step.passed for each in verdicts for step in each.steps)


@pytest.mark.spec("ECMP-10", "ECMP-31", "VPN-24")
async def test_each_tunnel_has_its_own_line_to_blame(labs: Labs) -> None:
    """Another key in the primary, another ASN of the cloud in the secondary."""
    key, asn = vpn_gateway.key(1), "neighbor 169.254.11.1 remote-as 45104"
    wrong = TEXT.replace(f"pre-shared-key {key}", "pre-shared-key another").replace(asn, asn + "1")
    primary, secondary = await judge(labs, wrong, "A device with an error in each tunnel")
    assert not primary.works
    assert primary.culprits[0].line == line(f"ikev2 remote-authentication pre-shared-key {key}")
    assert not secondary.works
    assert [each.line for each in secondary.culprits] == [line(asn)]
    assert secondary.steps[0].passed
