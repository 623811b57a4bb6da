"""Which routes a VPN gateway takes, keeps and hands on: to the VPC's tables, to the data centre, and to no other connection.

Source: "VPN Gateway: configure BGP dynamic routing", "How BGP dynamic routes are advertised" and "Limits on BGP dynamic routing".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import pytest

from harness.cloud.vpn import SharedAddressRoutes
from harness.cloud.vpn_status import BGP_DISABLED, UNAVAILABLE, TunnelStatus, tunnel_status
from harness.daemons.features import Feature
from harness.lab import Lab
from harness.session import Labs
from harness.tables import RouteTable
from labs.document import vpn_gateway as document
from reports.model import Values
from topologies import vpn_gateway

ECS, ECS_OF_VSWITCH_2 = "10.0.0.1", "10.0.1.1"
#: Clients answer from 192.168.N.10; the block's upper half is theirs too.
CLIENT = "192.168.0.10"


@pytest.fixture(scope="module")
async def vpn(labs: Labs) -> AsyncIterator[Lab]:
    """`vpn-gateway` with default timers, converged. A test that changes it puts it back."""
    async with labs.running(vpn_gateway.plan(), title="vpn-gateway") as lab:
        await lab.established(within=15)
        await has(lab, document.TABLES)
        yield lab


async def has(lab: Lab, tables: dict[str, RouteTable], since: float | None = None) -> None:
    """Every node's table is, or becomes, the expected one."""
    for node, expected in tables.items():
        assert await lab[node].route_table(like=expected, within=10.0, since=since) == expected


def sessions_lost(lab: Lab, since: float) -> list[tuple[str, str]]:
    """Which sessions left Established, by the speakers' own events."""
    return [(e.node, e.data["peer"]) for e in lab.transitions(since=since) if e.data["old"] == "Established"]


async def known(lab: Lab, node: str) -> set[str]:
    """The prefixes that a speaker uses."""
    return {path.prefix for path in await lab[node].usable_paths()}


async def _forgot(lab: Lab, node: str, prefixes: Sequence[str]) -> bool:
    return not set(prefixes) & await known(lab, node)


async def _uses(lab: Lab, node: str, prefixes: Sequence[str]) -> bool:
    return set(prefixes) <= await known(lab, node)


async def status(
    lab: Lab, node: str, customer: str, mode: SharedAddressRoutes = SharedAddressRoutes.DROPPED
) -> TunnelStatus:
    """A tunnel as the console would show it."""
    speaker = lab[node].speaker
    rows: list[dict[str, Any]] = await speaker.call("show.neighbors")
    row = next((row for row in rows if row["name"] == customer), None)
    offered = [] if row is None else await speaker.call("show.routes", table="in", peer=customer)
    return tunnel_status(lab.plan[node].label, row, offered, mode)


@pytest.mark.spec("VPN-1", "VPN-2", "VPN-7", "VPN-25")
@pytest.mark.parametrize("node", document.TABLES)
async def test_every_table_has_its_routes_and_no_other(vpn: Lab, node: str) -> None:
    """The data centre's routes in the gateway and the system table, the VPC's system routes at the data centre; nothing comes back."""
    await has(vpn, {node: document.TABLES[node]})


@pytest.mark.spec("VPN-1", "VPN-2", "VPN-25")
async def test_custom_table_gets_no_route_until_a_user_adds_one(vpn: Lab) -> None:
    """vSwitch 2 uses a custom table: no way to the data centre, a way once an entry is added, which the data centre never hears of."""
    assert vpn["vpc"].custom_table(vpn_gateway.CUSTOM_TABLE) == document.CUSTOM_TABLE
    for client in (0, 1):
        assert await vpn["ecs"].reaches(f"192.168.{client}.10")
        assert await vpn[f"dc-client{client}"].reaches(ECS)
    assert not await vpn["ecs2"].ping(CLIENT, within=0.3)

    added = await vpn.apply(vpn_gateway.plan(custom_routes=("192.168.0.0/16",)))
    assert ("192.168.0.0/16", "vpngw", "Custom") in vpn["vpc"].custom_table(vpn_gateway.CUSTOM_TABLE).rows
    assert await vpn["ecs2"].reaches(CLIENT)
    assert await vpn["dc-client1"].reaches(ECS_OF_VSWITCH_2)
    await has(vpn, document.TABLES)
    await vpn.apply(vpn_gateway.plan())
    assert vpn["vpc"].custom_table(vpn_gateway.CUSTOM_TABLE) == document.CUSTOM_TABLE
    assert sessions_lost(vpn, added) == []


@pytest.mark.spec("VPN-1", "VPN-22", "VPN-2")
async def test_switch_of_automatic_advertisement(vpn: Lab) -> None:
    """Off: the system table loses the learned routes, the gateway keeps them; a custom entry is a way. On again. No session moves."""
    off = await vpn.apply(vpn_gateway.plan(automatic_advertisement=False))
    await has(vpn, document.TABLES | {"vpc": document.SYSTEM_TABLE_OFF}, since=off)
    assert not await vpn["ecs"].ping(CLIENT, within=0.3)

    await vpn.apply(vpn_gateway.plan(automatic_advertisement=False, system_routes=("192.168.0.0/16",)))
    assert await vpn["ecs"].reaches(CLIENT)
    # An entry that a user made is no system route: the data centre does not get its own supernet.
    await has(vpn, {f"gw{number}": table for number, table in document.DEVICE_TABLES.items()})

    on = await vpn.apply(vpn_gateway.plan())
    await has(vpn, document.TABLES, since=on)
    assert await vpn["ecs"].reaches(CLIENT)
    assert sessions_lost(vpn, off) == []


@pytest.mark.spec("VPN-4", "VPN-5", "VPN-20")
async def test_default_route_and_shared_addresses_are_refused(vpn: Lab) -> None:
    """0.0.0.0/0, 100.64.0.0/10, parts of it and blocks around it are not taken; the session stays, the status names each."""
    vpn.needs(Feature.REFUSED_SEEN, "vpn1a", "vpngw")
    offered = ("0.0.0.0/0", "100.64.0.0/10", "100.64.0.0/24", "100.127.255.255/32", "100.0.0.0/8", "64.0.0.0/2")
    taken = ("100.128.0.0/9", "100.0.0.0/10")
    began = vpn.stream.add("gw1", "lab", "advertises").time
    for prefix in (*offered, *taken):
        await vpn["gw1"].speaker.call("network.add", prefix=prefix)

    async def all_offered() -> bool:
        now = await status(vpn, "vpn1a", "Customer-Gateway1")
        return {route.prefix for route in now.refused} == set(offered) and now.learned == 2 + len(taken)

    await vpn.until(all_offered, within=10.0, since=began)
    now = await status(vpn, "vpn1a", "Customer-Gateway1")
    assert {route.prefix: route.spec for route in now.refused} == {
        prefix: "VPN-4" if prefix == "0.0.0.0/0" else "VPN-5" for prefix in offered
    }
    assert now.bgp == "Established"
    documented = await status(vpn, "vpn1a", "Customer-Gateway1", SharedAddressRoutes.DOCUMENTED)
    assert documented.bgp == UNAVAILABLE
    counted = await vpn.event(within=5.0, since=began, node="vpn1a", kind="rejected")
    assert sum(counted.data["reasons"].values()) > 0
    rows = tuple((route.prefix, route.reason, "") for route in now.refused)
    vpn.record(Values(f"Not taken by {now.tunnel}: {now.bgp}", rows))

    await vpn["vpc"].learned(taken[0], within=10.0, since=began)
    await vpn.until(lambda: _uses(vpn, "vpngw", taken), within=10.0, since=began, what="the gateway takes the others")
    assert not {*offered} & await known(vpn, "vpngw")
    for prefix in (*offered, *taken):
        await vpn["gw1"].speaker.call("network.delete", prefix=prefix)
    await has(vpn, document.TABLES)
    assert sessions_lost(vpn, began) == []


@pytest.mark.spec("VPN-3")
async def test_the_gateway_takes_fifty_routes(vpn: Lab) -> None:
    """The 51st is not taken, with an event; the fifty stay; when one goes the next one comes in. Both tunnels count as one table."""
    vpn.needs(Feature.REFUSED_SEEN, "vpngw")
    began = vpn.stream.add("gw1", "lab", "advertises").time
    more = [f"172.20.{n}.0/24" for n in range(49)]
    for device in ("gw1", "gw2"):
        for prefix in more[:48]:
            await vpn[device].speaker.call("network.add", prefix=prefix)
    full = {*vpn_gateway.CLIENT_BLOCKS, *more[:48]}

    async def learned() -> set[str]:
        return await known(vpn, "vpngw") - set(vpn_gateway.VSWITCHES)

    async def is_full() -> bool:
        return await learned() == full

    await vpn.until(is_full, within=15.0, since=began)
    assert not list(vpn.stream.of(node="vpngw", kind="maximum-prefixes", since=began))

    await vpn["gw1"].speaker.call("network.add", prefix=more[48])
    event = await vpn.event(within=5.0, since=began, node="vpngw", kind="maximum-prefixes", over=True)
    assert (event.data["count"], event.data["limit"], event.data["action"]) == (51, 50, "drop")
    assert await learned() == full

    for device in ("gw1", "gw2"):
        await vpn[device].speaker.call("network.delete", prefix=more[0])
    await vpn.until(lambda: _contains(learned, more[48]), within=10.0)
    assert await learned() == full - {more[0]} | {more[48]}
    for device in ("gw1", "gw2"):
        for prefix in more[1:] if device == "gw1" else more[1:48]:
            await vpn[device].speaker.call("network.delete", prefix=prefix)
    await has(vpn, document.TABLES)
    assert sessions_lost(vpn, began) == []


async def _contains(learned: Any, prefix: str) -> bool:
    return prefix in await learned()


@pytest.mark.spec("VPN-7", "VPN-14", "VPN-17", "VPN-25")
async def test_two_connections_of_one_gateway(labs: Labs) -> None:
    """Each connection's routes reach the VPC, and no other connection; once both learn one destination, neither's takes effect."""
    blocks = {"gw1": "192.168.0.0/24", "gw2": "192.168.0.0/24", "gw3": "192.168.1.0/24", "gw4": "192.168.1.0/24"}
    apart = {device: (block,) for device, block in blocks.items()}
    async with labs.running(vpn_gateway.plan(connections=2, networks=apart), title="Two connections") as lab:
        await lab.established(within=15)
        await has(lab, {"vpngw": document.GATEWAY_TABLE, "vpc": document.SYSTEM_TABLE})
        for device in blocks:
            assert await _learned_from_cloud(lab, device) == set(vpn_gateway.VSWITCHES)
        assert await lab["ecs"].reaches("192.168.0.10")
        assert await lab["ecs"].reaches("192.168.1.10")

        both = {**apart, "gw3": ("192.168.1.0/24", "192.168.0.0/25"), "gw4": ("192.168.1.0/24", "192.168.0.0/25")}
        plan = vpn_gateway.plan(connections=2, networks=both)
        (warning,) = vpn_gateway.findings(connections=2, networks=both)
        assert (warning.spec, "192.168.0.0/24, 192.168.0.0/25" in warning.rule) == ("VPN-14", True)
        applied = await lab.apply(plan)
        left = document.SYSTEM_TABLE.without(prefixes=["192.168.0.0/24"])
        await has(lab, {"vpc": left}, since=applied)
        assert await lab["ecs"].reaches("192.168.1.10")
        assert not await lab["ecs"].ping("192.168.0.10", within=0.3)
        assert sessions_lost(lab, applied) == []


async def _learned_from_cloud(lab: Lab, device: str) -> set[str]:
    return (await lab[device].route_table()).prefixes()


@pytest.mark.spec("VPN-8", "VPN-9")
@pytest.mark.parametrize("asns", [(45104, 45104), (45104, 65531)], ids=["same ASN", "different ASNs"])
async def test_two_gateways_of_one_vpc(labs: Labs, asns: tuple[int, int]) -> None:
    """Both lead to one device. Neither tells the other anything inside the cloud.

    By way of the data centre the VPC's own routes come round: with one ASN the second gateway sees the loop and refuses them, with
    two it takes them, and follows them once the VPC has withdrawn its own.
    """
    estate = {"gateways": 2, "tunnels": 1, "local_asns": asns, "mesh": True, "one_device": True}
    assert ["VPN-9" in finding.spec for finding in vpn_gateway.findings(**estate)] == [True] * (asns[0] != asns[1])
    async with labs.running(vpn_gateway.plan(**estate), title=f"Two gateways, AS {asns[0]} and AS {asns[1]}") as lab:
        await lab.established(within=15)
        for block in vpn_gateway.CLIENT_BLOCKS:
            await lab["vpc"].learned(block, within=10.0)
        for gateway in ("vpngw", "vpngw2"):
            # The VPC knows the data centre's blocks by now, and hands on to a gateway none of what it has from the other.
            rows = await lab["vpc"].speaker.call("show.routes", table="out", peer=gateway)
            assert {row["prefix"] for row in rows} == set(vpn_gateway.VSWITCHES)
        gone_round = ("vpn2a", "Customer-Gateway1")
        lab.needs(Feature.REFUSED_SEEN, gone_round[0])
        looped = {}

        async def seen() -> bool:
            # The second device heard of the VPC from the first one too, and tells its own gateway.
            rows = await lab["gw2"].speaker.call("show.routes", table="in", peer="gw1")
            return {row["prefix"] for row in rows} >= set(vpn_gateway.VSWITCHES)

        await lab.until(seen, within=10.0)
        # Device 2 prefers what came over its own tunnel; without it, it passes on what device 1 has.
        cut = lab.stream.add("vpngw2", "lab", "network withdrawn").time
        await lab["vpc"].speaker.call("policy.set", name="vpngw2", direction="export", rules=[{"action": "deny"}])
        await lab["vpc"].speaker.call("clear.soft", name="vpngw2", direction="out")

        async def came_round() -> bool:
            rows = await lab["vpn2a"].speaker.call("show.routes", table="in", peer=gone_round[1])
            looped.update({row["prefix"]: row["paths"][0].get("rejected") for row in rows})
            return set(vpn_gateway.VSWITCHES) <= looped.keys()

        await lab.until(came_round, within=10.0, since=cut)
        reasons = {looped[prefix] for prefix in vpn_gateway.VSWITCHES}
        if asns[0] == asns[1]:
            assert all(reason is not None and "AS path loop" in reason for reason in reasons)
            await lab.until(partial(_forgot, lab, "vpngw2", vpn_gateway.VSWITCHES), within=10.0, since=cut)
        else:
            assert reasons == {None}
            expected = RouteTable(
                "The VPC's own blocks, learned from the data centre",
                document.GATEWAY_TABLE.columns,
                tuple((prefix, "Learned from the data centre side") for prefix in document.GATEWAY_TABLE.prefixes()),
            )
            await has(lab, {"vpngw2": expected}, since=cut)
        lab.record(Values("What comes round", tuple((p, str(r or "taken"), "") for p, r in sorted(looped.items()))))


@pytest.mark.spec("ECMP-28")
async def test_bgp_left_off(labs: Labs) -> None:
    """BGP is off by default: no session, no route, and the tunnel says so, though it is up."""
    async with labs.running(vpn_gateway.plan(bgp=False, tunnels=1), title="BGP disabled") as lab:
        await lab.tunnels_up(within=10)
        shown = await status(lab, "vpn1a", "Customer-Gateway1")
        assert (shown.bgp, shown.learned) == (BGP_DISABLED, 0)
        assert str(shown).startswith("IPsec-VPN Connection 1: BGP disabled")
        await lab.until(lambda: _uses(lab, "vpngw", vpn_gateway.VSWITCHES), within=10.0)
        assert await known(lab, "vpngw") == set(vpn_gateway.VSWITCHES)
        await has(lab, {"vpc": document.SYSTEM_TABLE_OFF})
