"""The advanced settings of each attachment, really switched: what is off is missing from the tables, and nothing else is.

Source: "Create multiple IPsec connections over the internet for load balancing", steps 2, 4 and 5. One IPsec connection is enough here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.cloud.build import compile_estate
from harness.cloud.findings import Refused
from harness.cloud.resources import Estate, VpcRoute
from harness.cloud.rules import VPC_CUSTOM_ROUTES, validate
from harness.cloud.vpn_status import BGP_DISABLED
from harness.lab import Lab
from harness.session import Labs
from harness.tables import RouteTable
from labs.document import ipsec_ecmp as document
from labs.test_vpn_gateway import status
from topologies import ipsec_ecmp

CLIENT, ECS = "192.168.0.10", "10.0.0.1"
VPC_BLOCKS = ("10.0.0.0/24", "10.0.1.0/24")


def tables() -> dict[str, RouteTable]:
    """The document's tables with the first connection alone."""
    shanghai = RouteTable(
        "Table 2 with one connection", document.TABLE_2.columns, tuple(dict.fromkeys(document.TABLE_2.rows))
    )
    return {
        "tr-hangzhou": document.TABLE_1.without(word="VPN connection 2").without(word="VPN connection 3"),
        "tr-shanghai": shanghai,
        "vpc": document.TABLE_3,
        "vpn1": document.TABLE_4[1],
        "gw1": document.TABLE_5[1],
    }


def without(table: RouteTable, *prefixes: str) -> RouteTable:
    return table.without(prefixes=prefixes)


def connection(estate: Estate, **changes: Any) -> Estate:
    return replace(estate, ipsec_connections=(replace(estate.ipsec_connections[0], **changes),))


def inter_region(estate: Estate, **changes: Any) -> Estate:
    return replace(estate, inter_region_connections=(replace(estate.inter_region_connections[0], **changes),))


def attachment(estate: Estate, **changes: Any) -> Estate:
    return replace(estate, vpc_connections=(replace(estate.vpc_connections[0], **changes),))


def vpc(estate: Estate, *routes: VpcRoute) -> Estate:
    return replace(estate, vpcs=(replace(estate.vpcs[0], routes=routes),))


#: Each switch: the estate with it off, and the tables that are then without some entries.
SWITCHES: dict[str, tuple[Estate, dict[str, RouteTable]]] = {}


def _switches() -> None:
    whole, all_tables = ipsec_ecmp.estate(connections=1), tables()
    clients = ipsec_ecmp.CLIENT_BLOCKS
    less = {node: without(table, *clients) for node, table in all_tables.items() if node.startswith("tr-")}
    no_cloud = {node: without(all_tables[node], *VPC_BLOCKS) for node in ("tr-hangzhou", "vpn1", "gw1")}
    SWITCHES["IPsec connection: propagate"] = connection(whole, propagate=False), less
    SWITCHES["IPsec connection: advertise"] = (
        connection(whole, advertise=False),
        {node: without(all_tables[node], *VPC_BLOCKS) for node in ("vpn1", "gw1")},
    )
    SWITCHES["inter-region connection: advertise"] = (
        inter_region(whole, advertise=False),
        no_cloud | {"tr-shanghai": less["tr-shanghai"]},
    )
    SWITCHES["inter-region connection: propagate"] = (
        inter_region(whole, propagate=False),
        no_cloud | {"tr-shanghai": less["tr-shanghai"]},
    )
    SWITCHES["VPC connection: propagate system routes"] = (
        attachment(whole, propagate_system_routes=False),
        no_cloud | {"tr-shanghai": without(all_tables["tr-shanghai"], *VPC_BLOCKS)},
    )
    SWITCHES["VPC connection: set routes in all tables"] = (
        attachment(whole, set_vpc_routes=False),
        {"vpc": without(all_tables["vpc"], *VPC_CUSTOM_ROUTES)},
    )


_switches()


async def show(lab: Lab, expected: dict[str, RouteTable], since: float | None = None) -> None:
    for node, table in expected.items():
        assert await lab[node].route_table(like=table, within=10.0, since=since) == table


@pytest.mark.spec("ECMP-14", "ECMP-15", "ECMP-16", "ECMP-37", "ECMP-38", "ECMP-39")
async def test_each_switch_off_and_on(labs: Labs) -> None:
    """Six switches in turn: exactly their entries go, and come back.

    Then the route check: an entry of the user's own is kept and named, and the data centre needs a route by hand.
    """
    whole = ipsec_ecmp.estate(connections=1)
    async with labs.running(compile_estate(whole), title="Switches of the attachments") as lab:
        await lab.established(within=15)
        await show(lab, tables())
        for name, (changed, missing) in SWITCHES.items():
            off = lab.stream.add("lab", "lab", "switch off", {"switch": name}).time
            await lab.apply(compile_estate(changed))
            await show(lab, tables() | missing, since=off)
            on = await lab.apply(compile_estate(whole))
            await show(lab, tables(), since=on)
        await lab["dc-router"].learned(VPC_BLOCKS[0], within=10.0)
        assert await lab["ecs"].reaches(CLIENT)

        own = vpc(whole, VpcRoute("192.168.0.0/16", "ecs2"))
        (found,) = validate(own)
        assert (found.spec, "192.168.0.0/24" in found.rule, "by hand" in found.remedy) == ("ECMP-16", True, True)
        await lab.apply(compile_estate(own))
        assert ("192.168.0.0/16", "VPC connection", "Custom") not in (await lab["vpc"].route_table()).rows
        assert not await lab["ecs"].ping(CLIENT, within=0.3)
        by_hand = vpc(own, *own.vpcs[0].routes, VpcRoute("192.168.0.0/24", "VPC-connection"))
        await lab.apply(compile_estate(by_hand))
        assert await lab["ecs"].reaches(CLIENT)
        assert "192.168.0.0/24" not in validate(by_hand)[0].rule.partition("already")[2]


@pytest.mark.spec("ECMP-15", "ECMP-37")
async def test_association_off(labs: Labs) -> None:
    """The tables are complete, and what comes in by the connection finds no route table: it is answered as unreachable."""
    estate = connection(ipsec_ecmp.estate(connections=1), associate=False)
    async with labs.running(compile_estate(estate), title="IPsec connection not associated") as lab:
        await lab.established(within=15)
        await show(lab, tables())
        await lab["dc-router"].learned(VPC_BLOCKS[0], within=10.0)
        refused = await lab["dc-client0"].ping(ECS, within=0.5)
        assert not refused
        assert "+1 errors" in refused.output


@pytest.mark.spec("VPN-17", "ECMP-4", "ECMP-15")
async def test_connection_with_the_default_local_asn(labs: Labs) -> None:
    """A local ASN of 45104, the transit router's own: every table is the document's all the same, and the device sees it once."""
    estate = connection(ipsec_ecmp.estate(connections=1), local_asn=45104)
    (centre,) = estate.data_centres
    device = replace(centre.devices[0], neighbor_asn=45104)
    estate = replace(estate, data_centres=(replace(centre, devices=(device,)),))
    async with labs.running(compile_estate(estate), title="IPsec connection with AS 45104") as lab:
        await lab.established(within=15)
        await show(lab, tables())
        rows = await lab["gw1"].speaker.call("show.routes", table="loc", prefix=VPC_BLOCKS[0])
        path = rows[0]["paths"][0]["as_path"].split()
        assert path[0] == "45104"
        assert path.count("45104") == 1
        await lab["dc-router"].learned(VPC_BLOCKS[0], within=10.0)
        assert await lab["ecs"].reaches(CLIENT)


@pytest.mark.spec("ECMP-28", "ECMP-40")
async def test_static_routes_without_bgp(labs: Labs) -> None:
    """BGP left off, as is the default: no session with the device, "BGP disabled"; static routes propagate and carry traffic."""
    estate = connection(ipsec_ecmp.estate(connections=1), bgp=False, routes=ipsec_ecmp.CLIENT_BLOCKS)
    (centre,) = estate.data_centres
    device = replace(centre.devices[0], static_routes=VPC_BLOCKS)
    estate = replace(estate, data_centres=(replace(centre, devices=(device,)),))
    async with labs.running(compile_estate(estate), title="Static routes, BGP off") as lab:
        await lab.tunnels_up(within=15)
        assert (await status(lab, "vpn1", "Customer-Gateway1")).bgp == BGP_DISABLED
        await show(lab, {node: table for node, table in tables().items() if node.startswith(("tr-", "vpc"))})
        await lab["dc-router"].learned(VPC_BLOCKS[0], within=10.0)
        assert await lab["ecs"].reaches(CLIENT)
        assert await lab["dc-client2"].reaches(ECS)
        assert not list(lab.stream.of(node="vpn1", kind="peer.up", peer="Customer-Gateway1"))


@pytest.mark.spec("ECMP-25")
async def test_a_transit_router_gets_its_block_later(labs: Labs) -> None:
    """Without a CIDR block it joins VPC and region, and takes no IPsec connection. The block added, which restarts nothing, it does."""
    with_block = ipsec_ecmp.estate(connections=1)
    hangzhou, shanghai = with_block.transit_routers
    without_block = replace(with_block, transit_routers=(replace(hangzhou, cidr=None), shanghai))
    with pytest.raises(Refused) as refused:
        compile_estate(without_block)
    (found,) = refused.value.findings
    assert (found.object, found.spec) == ("IPsec-VPN Connection 1", "ECMP-25")
    assert "tr-hangzhou has no CIDR block" in found.rule
    assert "Add a CIDR block" in found.remedy

    before = replace(without_block, ipsec_connections=(), customer_gateways=(), data_centres=())
    only_cloud = {node: without(tables()[node], *ipsec_ecmp.CLIENT_BLOCKS) for node in ("tr-hangzhou", "tr-shanghai")}
    async with labs.running(compile_estate(before), title="A transit router without a CIDR block") as lab:
        await lab.established(within=15)
        await show(lab, only_cloud)
        added = await lab.apply(compile_estate(replace(before, transit_routers=with_block.transit_routers)))
        await show(lab, only_cloud, since=added)
        assert not list(lab.stream.of(kind="exit"))
        assert not list(lab.stream.of(source="bgp", kind="peer.down"))

    async with labs.running(compile_estate(with_block), title="The connection attached once there is a block") as lab:
        await lab.established(within=15)
        await show(lab, tables())
        await lab["dc-router"].learned(VPC_BLOCKS[0], within=10.0)
        assert await lab["ecs"].ping(CLIENT)


@pytest.mark.spec("ECMP-36")
async def test_one_zone_lost(labs: Labs) -> None:
    """The vSwitch of one zone is cut off: the instance in the other zone is reached as before, and no table changes.

    The VPC connection itself is one cable here, in whichever zone: what a lab can show is that it does not lead through a vSwitch.
    """
    estate = ipsec_ecmp.estate(connections=1)
    zones = {vswitch.name: vswitch.zone for vswitch in estate.vpcs[0].vswitches}
    assert len({zones[name] for name in estate.vpc_connections[0].vswitches}) == 2
    async with labs.running(compile_estate(estate), title="One zone of two lost") as lab:
        await lab.established(within=15)
        await show(lab, tables())
        await lab["dc-client0"].reaches(ECS)
        cut = lab.set_link("vpc", "ecs", up=False)
        assert not await lab["dc-client0"].ping(ECS, within=0.3)
        assert await lab["dc-client0"].ping("10.0.1.1")
        assert await lab["ecs2"].ping(CLIENT)
        await show(lab, {node: table for node, table in tables().items() if node != "vpc"}, since=cut)
        assert not list(lab.stream.of(source="bgp", kind="peer.down", since=cut))
