"""Where the kernel encrypts: what it holds is what charon negotiated, no more, and nothing once the tunnel is ended.

Source: "Create multiple IPsec connections over the internet for load balancing", step 2. Read from the kernel's own tables, as `ip xfrm`
does.
"""

from __future__ import annotations

import contextlib
import time

import pytest

from harness.ipsec.algorithms import KERNEL_ENCRYPTION, KERNEL_INTEGRITY
from harness.ipsec.strongswan import IF_ID, DataPlane
from harness.lab import Lab
from harness.net import xfrm
from labs.conftest import Broken
from labs.test_ipsec_life import having, tunnels

pytestmark = pytest.mark.needs("esp", "xfrm-interface")

ENDS = ("gw1", "vpn1", "gw2", "vpn2", "gw3", "vpn3")


def of_the_kernel_plane(lab: Lab) -> None:
    if lab.plane is not DataPlane.XFRM:
        pytest.skip(f"the data plane of this run is {lab.plane}")


@pytest.mark.spec("ECMP-6", "CARD-3")
@pytest.mark.parametrize("node", ENDS)
async def test_the_kernel_holds_what_charon_negotiated(ecmp: Lab, node: str) -> None:
    """One ESP state for each direction, with charon's SPIs, the documented algorithms and the id of the tunnel's interface."""
    of_the_kernel_plane(ecmp)
    (ike,) = (await ecmp[node].ipsec.call("show.sas"))["ike"]
    (child,) = ike["children"]
    states = xfrm.states(ecmp[node].namespace)
    assert {(str(s.source), str(s.destination), s.spi) for s in states} == {
        (ike["local"], ike["remote"], child["spi_out"]),
        (ike["remote"], ike["local"], child["spi_in"]),
    }
    for state in states:
        assert state.encryption is not None
        assert state.integrity is not None
        assert (KERNEL_ENCRYPTION[state.encryption], KERNEL_INTEGRITY[state.integrity]) == ("aes", "sha1")
        assert (state.if_id, state.encapsulated) == (IF_ID, True)
    policies = xfrm.policies(ecmp[node].namespace)
    assert {(policy.direction, policy.if_id) for policy in policies} == {(way, IF_ID) for way in ("in", "out", "fwd")}


@pytest.mark.spec("ECMP-6")
async def test_the_kernel_counts_what_charon_tells(ecmp: Lab) -> None:
    """A ping through the three tunnels: the packets of the kernel's states are those of the agents' accounts."""
    of_the_kernel_plane(ecmp)
    assert await ecmp["ecs"].ping("192.168.0.10", count=3)
    for node in ENDS:

        async def alike(node: str = node) -> bool:
            before = xfrm.states(ecmp[node].namespace)
            told = (await ecmp[node].ipsec.call("counters"))["esp"]
            after = xfrm.states(ecmp[node].namespace)
            return before == after and sum(s.packets for s in after) == told["packets_in"] + told["packets_out"] > 0

        await ecmp.until(alike, within=5.0, what=f"{node}: the kernel and charon count alike")


@pytest.mark.spec("ECMP-6")
async def test_a_tunnel_that_is_ended_leaves_nothing_in_the_kernel(fresh_ecmp: Broken) -> None:
    """After DELETE neither end has a state or a policy; brought up again, each has the new ones only."""
    async with fresh_ecmp(connections=1) as lab:
        of_the_kernel_plane(lab)
        ends = [lab["gw1"], lab["vpn1"]]
        first = {state.spi for end in ends for state in xfrm.states(end.namespace)}

        def held() -> bool:
            return any(xfrm.states(end.namespace) + xfrm.policies(end.namespace) for end in ends)

        assert held()
        with contextlib.ExitStack() as watches:
            for end in ends:
                watches.enter_context(xfrm.watching(end.namespace, lab.stream.wake))
            await lab["vpn1"].ipsec.call("terminate")
            await lab.until(lambda: not any(lab.lines().values()), within=5.0, what="both lines down")
            await lab.until(lambda: not held(), within=2.0, what="no state and no policy in either kernel")
        await lab["vpn1"].ipsec.call("initiate")
        await lab.tunnels_up(within=10.0)
        for end in ends:
            (ike,) = (await end.ipsec.call("show.sas"))["ike"]
            spis = {ike["children"][0]["spi_in"], ike["children"][0]["spi_out"]}
            assert {state.spi for state in xfrm.states(end.namespace)} == spis
            assert spis.isdisjoint(first)


@pytest.mark.spec("ECMP-7")
async def test_traffic_meets_charons_own_trap(fresh_ecmp: Broken) -> None:
    """Not effective immediately: a policy without a state, until BGP's SYN meets it. It outlives a loss, but not the user's own ending."""
    changed = tunnels(vpn1=having(initiate="traffic"))
    async with fresh_ecmp(connections=1, changed=changed, title="charon's own trap") as lab:
        of_the_kernel_plane(lab)
        device, cloud = lab["gw1"], lab["vpn1"]

        async def trapped(since: float = 0.0) -> str:
            """The packet that the trap took, which is BGP's; charon's log has it, and as many negotiations as the agent tells of."""
            entered = await lab.event(within=5.0, since=since, node="vpn1", source="ipsec", kind="traffic")
            told = [line["line"] for line in await cloud.ipsec.call("log", lines=2000)]
            acquired = [line for line in told if "creating acquire job for policy 169.254.10.1/32" in line]
            assert len(acquired) == (await cloud.ipsec.call("show.status"))["attempts"] > 0
            packet: str = entered.data["packet"]
            assert packet.startswith("TCP 169.254.10.1:")
            return packet

        def ways() -> set[tuple[str, int | None]]:
            return {(policy.direction, policy.if_id) for policy in xfrm.policies(cloud.namespace)}

        assert (await trapped()).endswith(" > 169.254.10.2:179"), "BGP's own connection attempt is traffic"
        with xfrm.watching(cloud.namespace, lab.stream.wake):
            lost = time.monotonic()
            await device.ipsec.call("terminate")
            down = await lab.event(within=5.0, since=lost, node="vpn1", source="ipsec", kind="line", state="down")
            assert ("out", IF_ID) in ways(), "the trap stays"
            await lab.event(within=10.0, since=down.time, node="vpn1", source="ipsec", kind="line", state="up")
            await trapped(down.time)

            await cloud.ipsec.call("terminate")
            await lab.until(lambda: not any(lab.lines().values()), within=5.0, what="both lines down")
            await lab.until(lambda: not ways(), within=2.0, what="the user's own ending takes the trap along")
            await cloud.ipsec.call("initiate")
            await lab.tunnels_up(within=10.0)
            assert ("out", IF_ID) in ways()
