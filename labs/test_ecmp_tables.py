"""The document's five route tables, entry for entry, and its checkpoints before they are complete.

Source: "Create multiple IPsec connections over the internet for load balancing", steps 3 to 6 and "Route entries".
"""

from __future__ import annotations

import pytest

from harness.daemons.features import Feature
from harness.lab import Lab
from harness.net.rtnl import nexthop_del
from harness.tables import NOT_IN_KERNEL
from labs.conftest import Broken
from labs.document import ipsec_ecmp as document
from topologies import ipsec_ecmp

CONNECTIONS = (1, 2, 3)


async def test_each_node_is_there_once(ecmp: Lab) -> None:
    """Mininet's network has the nodes of the plan, and built none of them twice."""
    assert sorted(ecmp.net) == sorted(node.name for node in ecmp.plan.nodes)


@pytest.mark.spec("ECMP-17", "ECMP-41")
async def test_hangzhou_transit_router_table(ecmp: Lab) -> None:
    """Table 1: two VPC blocks by the inter-region connection, each client block by all three VPN connections."""
    table = await ecmp["tr-hangzhou"].route_table(like=document.TABLE_1, within=5.0)
    assert table == document.TABLE_1


@pytest.mark.spec("ECMP-18", "ECMP-41")
async def test_shanghai_transit_router_table(ecmp: Lab) -> None:
    """Table 2: two VPC blocks by the VPC connection, each client block three times by the inter-region connection."""
    table = await ecmp["tr-shanghai"].route_table(like=document.TABLE_2, within=5.0)
    assert table == document.TABLE_2


@pytest.mark.spec("ECMP-19", "ECMP-16", "ECMP-41")
async def test_vpc_system_table(ecmp: Lab) -> None:
    """Table 3: the two vSwitches local, the three private blocks by the VPC connection, nothing else."""
    table = await ecmp["vpc"].route_table(like=document.TABLE_3, within=5.0)
    assert table == document.TABLE_3


@pytest.mark.spec("ECMP-20", "ECMP-41")
@pytest.mark.parametrize("number", CONNECTIONS)
async def test_bgp_table_of_connection(ecmp: Lab, number: int) -> None:
    """Table 4: each IPsec connection has two cloud routes and three of the data centre."""
    table = await ecmp[f"vpn{number}"].route_table(like=document.TABLE_4[number], within=5.0)
    assert table == document.TABLE_4[number]


@pytest.mark.spec("ECMP-21", "ECMP-41")
@pytest.mark.parametrize("number", CONNECTIONS)
async def test_cloud_routes_of_device(ecmp: Lab, number: int) -> None:
    """Table 5: each gateway device learned exactly the two cloud routes, by its own IPsec connection."""
    table = await ecmp[f"gw{number}"].route_table(like=document.TABLE_5[number], within=5.0)
    assert table == document.TABLE_5[number]


@pytest.mark.spec("ECMP-15", "ECMP-41")
@pytest.mark.parametrize("number", CONNECTIONS)
async def test_no_connection_is_told_of_anothers_clients(ecmp: Lab, number: int) -> None:
    """The transit router tells each connection its cloud routes and no client route of the others, which it has by now."""
    router = ecmp["tr-hangzhou"]
    assert await router.route_table(like=document.TABLE_1, within=5.0) == document.TABLE_1
    rows = await router.speaker.call("show.routes", table="out", peer=f"IPsec-VPN Connection {number}")
    assert {row["prefix"] for row in rows} == {"10.0.0.0/24", "10.0.1.0/24"}


@pytest.mark.spec("ECMP-13")
async def test_data_centre_sends_by_all_three_devices(ecmp: Lab) -> None:
    """The data-centre router has both VPC blocks by all three gateway devices at once."""
    hops = {(hop.prefix, hop.gateway) for hop in ecmp["dc-router"].kernel_hops()}
    assert hops == {(block, device) for block in ("10.0.0.0/24", "10.0.1.0/24") for device in ipsec_ecmp.PRIVATE}


@pytest.mark.spec("ECMP-22", "ECMP-1", "ECMP-2")
@pytest.mark.parametrize("client", [0, 1, 2])
async def test_ecs_and_clients_ping_each_other(ecmp: Lab, client: int) -> None:
    """Step 6: ECS pings a client of each block, and a client pings ECS and the host in vSwitch 2."""
    assert await ecmp["ecs"].reaches(f"192.168.{client}.10")
    assert await ecmp[f"dc-client{client}"].reaches("10.0.0.1")
    assert await ecmp[f"dc-client{client}"].reaches("10.0.1.1")


@pytest.mark.spec("ECMP-33", "ECMP-12")
@pytest.mark.parametrize("number", CONNECTIONS)
async def test_device_interfaces_and_routes(ecmp: Lab, number: int) -> None:
    """outside1 is a /32 whose route to the cloud goes by an off-link next hop; private is a /24; clients are routed inside."""
    device = ecmp[f"gw{number}"]
    names = device.interface_names()
    addresses = {(names[a.ifindex], str(a.interface)) for a in device.rtnl.addresses() if a.interface.version == 4}
    assert ("outside1", f"198.51.100.{number}/32") in addresses
    assert ("private", f"{ipsec_ecmp.PRIVATE[number - 1]}/24") in addresses
    hops = {(hop.prefix, hop.gateway, hop.interface) for hop in device.kernel_hops(None)}
    assert (f"{ipsec_ecmp.GATEWAY_ADDRESSES[number - 1]}/32", ipsec_ecmp.PROVIDER[number - 1], "outside1") in hops
    assert {(block, ipsec_ecmp.TOWARDS_CLIENTS[number - 1], "private") for block in ipsec_ecmp.CLIENT_BLOCKS} <= hops


@pytest.mark.spec("ECMP-34")
async def test_checkpoint_after_step_3(fresh_ecmp: Broken) -> None:
    """Tunnels up and the three data-centre routes in every connection's BGP table, before any VPC is attached."""
    async with fresh_ecmp(vpc_connection=False, inter_region=False) as lab:
        for number in CONNECTIONS:
            expected = document.TABLE_4[number].without(word="Alibaba Cloud")
            assert await lab[f"vpn{number}"].route_table(like=expected, within=5.0) == expected


@pytest.mark.spec("ECMP-35")
async def test_checkpoint_before_step_5_and_completion_by_it(fresh_ecmp: Broken) -> None:
    """Without the inter-region connection tables 1 and 2 lack each other's routes and no ping passes; creating it is enough."""
    async with fresh_ecmp(inter_region=False) as lab:
        hangzhou, shanghai = (
            document.TABLE_1.without(word="Inter-region"),
            document.TABLE_2.without(word="Inter-region"),
        )
        assert await lab["tr-hangzhou"].route_table(like=hangzhou, within=5.0) == hangzhou
        assert await lab["tr-shanghai"].route_table(like=shanghai, within=5.0) == shanghai
        assert not await lab["ecs"].ping("192.168.0.10", within=0.3)

        created = await lab.apply(ipsec_ecmp.plan())
        for node, expected in (("tr-hangzhou", document.TABLE_1), ("tr-shanghai", document.TABLE_2)):
            assert await lab[node].route_table(like=expected, within=5.0, since=created) == expected
        for number in CONNECTIONS:
            for node, expected in (
                (f"vpn{number}", document.TABLE_4[number]),
                (f"gw{number}", document.TABLE_5[number]),
            ):
                assert await lab[node].route_table(like=expected, within=5.0, since=created) == expected
        await lab["dc-router"].learned("10.0.0.0/24", within=5.0, since=created)
        assert await lab["ecs"].reaches("192.168.0.10")


@pytest.mark.spec("ECMP-29")
@pytest.mark.parametrize("connections", [1, 2])
async def test_fewer_connections_form_ecmp_of_their_own(fresh_ecmp: Broken, connections: int) -> None:
    """One connection is one path, two are two: the transit router spreads over what is attached."""
    expected = document.TABLE_1
    for number in range(connections + 1, 4):
        expected = expected.without(word=f"VPN connection {number}")
    async with fresh_ecmp(connections=connections) as lab:
        assert await lab["tr-hangzhou"].route_table(like=expected, within=5.0) == expected
        await lab["dc-router"].learned("10.0.0.0/24", within=5.0)
        await lab["tr-shanghai"].learned("192.168.2.0/24", within=5.0)
        assert await lab["ecs"].reaches("192.168.2.10")


async def wrong_tables(lab: Lab) -> set[str]:
    """Which of the document's tables the running nodes do not show, once they have had time to."""
    tables = {
        "1": ("tr-hangzhou", document.TABLE_1),
        "2": ("tr-shanghai", document.TABLE_2),
        "3": ("vpc", document.TABLE_3),
    }
    tables |= {f"4.{n}": (f"vpn{n}", document.TABLE_4[n]) for n in CONNECTIONS}
    tables |= {f"5.{n}": (f"gw{n}", document.TABLE_5[n]) for n in CONNECTIONS}
    return {name for name, (node, expected) in tables.items() if await lab[node].route_table() != expected}


@pytest.mark.spec("ECMP-17", "ECMP-18", "ECMP-20")
async def test_a_network_not_advertised_turns_the_right_tables_red(fresh_ecmp: Broken) -> None:
    """Device 2 stops advertising 192.168.1.0/24: tables 1, 2 and the second part of table 4 are wrong, and no other."""
    async with fresh_ecmp() as lab:
        await lab["tr-shanghai"].route_table(like=document.TABLE_2, within=5.0)
        await lab["gw2"].speaker.call("network.delete", prefix="192.168.1.0/24")

        async def the_right_ones_are_red() -> bool:
            return await wrong_tables(lab) == {"1", "2", "4.2"}

        await lab.until(the_right_ones_are_red, within=5.0)


@pytest.mark.spec("ECMP-17")
async def test_a_next_hop_deleted_behind_the_speaker_turns_its_table_red(fresh_ecmp: Broken) -> None:
    """Somebody deletes a next hop of the transit router in Hangzhou: table 1 says so at once, and only table 1."""
    async with fresh_ecmp() as lab:
        lab.needs(Feature.NEXTHOP_OBJECTS, "tr-hangzhou")
        router = lab["tr-hangzhou"]
        assert await router.route_table(like=document.TABLE_1, within=5.0) == document.TABLE_1
        victim = next(hop for hop in router.rtnl.nexthops() if str(hop.gateway) == "198.18.1.6")
        router.rtnl.transact([nexthop_del(victim.id)])
        table = await router.route_table()
        lost = [row for row in table.rows if NOT_IN_KERNEL in row[-1]]
        assert [row[:2] for row in lost] == [
            (block, "VPN connection 2 (IPsec connection 2)") for block in ipsec_ecmp.CLIENT_BLOCKS
        ]
        assert await wrong_tables(lab) == {"1"}
