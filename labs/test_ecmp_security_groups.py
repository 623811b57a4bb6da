"""The security group of the ECS instances: it decides what comes in, no route table does, and whoever is refused is told why.

Source: "Create multiple IPsec connections over the internet for load balancing", prerequisites.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from harness.cloud.build import compile_estate
from harness.cloud.resources import Estate, InboundRule, SecurityGroup
from harness.cloud.rules import validate
from harness.lab import Lab
from harness.refusals import refused_by_any_group, refused_by_groups
from harness.session import Labs
from labs.document import ipsec_ecmp as document
from topologies import ipsec_ecmp

CLIENT, ECS, ECS2 = "192.168.0.10", "10.0.0.1", "10.0.1.1"
PORT = 8080


def groups(*made: SecurityGroup) -> Estate:
    """The document's estate with all of these groups on both instances."""
    estate = ipsec_ecmp.estate()
    (vpc,) = estate.vpcs
    names = tuple(group.name for group in made)
    instances = tuple(replace(instance, security_groups=names) for instance in vpc.instances)
    return replace(estate, vpcs=(replace(vpc, security_groups=made, instances=instances),))


async def show_tables(lab: Lab) -> None:
    tables = await asyncio.gather(*(lab[node].route_table(like=t, within=10.0) for node, t in document.TABLES.items()))
    assert dict(zip(document.TABLES, tables, strict=True)) == document.TABLES


def listening(lab: Lab) -> socket.socket:
    server = lab["ecs"].namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind((ECS, PORT))
    server.listen()
    server.setblocking(False)
    return server


async def connected(lab: Lab, node: str, *, within: float) -> socket.socket | None:
    """A connection to the instance's server, or None where no answer comes."""
    end = lab[node].namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    end.setblocking(False)
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(end, (ECS, PORT)), within)
    except TimeoutError:
        end.close()
        return None
    return end


@pytest.mark.spec("ECMP-42", "ECMP-17", "ECMP-18", "ECMP-19", "ECMP-20", "ECMP-21")
@pytest.mark.needs("packet-filter")
async def test_a_group_that_lets_nothing_in(labs: Labs) -> None:
    """All nine tables as in the document, no ping from the data centre; the refusal is named. The rule added, pings pass; gone, none."""
    closed, opened = groups(SecurityGroup("closed")), groups(replace(ipsec_ecmp.SECURITY_GROUP, name="closed"))
    (warning,) = validate(closed)
    assert (warning.spec, warning.object) == ("ECMP-42", "security group closed")
    assert not validate(opened)
    async with labs.running(compile_estate(closed), title="A security group without rules") as lab:
        await lab.established(within=15)
        await show_tables(lab)
        for client in lab.plan.nodes:
            if client.name.startswith("dc-client"):
                assert not await lab[client.name].ping(ECS, within=0.3)
        (told,) = await lab["ecs"].refusals(CLIENT)
        assert (
            f"security group closed refuses icmp from {CLIENT} (1 packet): no inbound rule lets it in (ECMP-42)" in told
        )
        assert "the route tables do not depend on it" in told
        assert await refused_by_groups(lab, "dc-client0", ECS) == [told]
        assert len(await refused_by_any_group(lab)) == 3

        # Stateful: what the instance begins is answered. Members reach one another.
        assert await lab["ecs"].ping(CLIENT)
        assert await lab["ecs"].ping(ECS2)
        assert await lab["ecs2"].refusals() == []

        await lab.apply(compile_estate(opened))
        assert await lab["dc-client0"].ping(ECS)
        assert await lab["dc-client2"].ping(ECS2)
        assert await lab["ecs"].refusals() == []
        await show_tables(lab)

        await lab.apply(compile_estate(closed))
        assert not await lab["dc-client0"].ping(ECS, within=0.3)
        assert len(await lab["ecs"].refusals(CLIENT)) == 1
        assert not list(lab.stream.of(source="bgp", kind="peer.down"))
        assert not list(lab.stream.of(kind="exit"))


@pytest.mark.spec("ECMP-42")
@pytest.mark.needs("packet-filter")
async def test_rules_by_protocol_port_source_and_priority(labs: Labs) -> None:
    """One port from one client block: the other blocks and protocols stay out; a drop comes before an accept of its priority."""
    web = InboundRule("192.168.0.0/24", "tcp", f"{PORT}/{PORT}", priority=2)
    one = SecurityGroup("web", (web,))
    async with labs.running(compile_estate(groups(one)), title="A security group by port") as lab:
        await lab.established(within=15)
        await asyncio.gather(
            lab["dc-router"].learned("10.0.0.0/24", within=10.0), lab["vpc"].route_table(document.TABLE_3, within=10.0)
        )
        with listening(lab):
            end = await connected(lab, "dc-client0", within=5.0)
            assert end is not None
            assert await connected(lab, "dc-client1", within=0.3) is None
            assert not await lab["dc-client0"].ping(ECS, within=0.3)
            refused = {line.partition(" refuses ")[2].partition(" (")[0] for line in await lab["ecs"].refusals()}
            assert refused == {f"tcp to port {PORT} from 192.168.1.10", f"icmp from {CLIENT}"}

            # Two groups are one list: the drop of the second has the priority of the rule, and comes first.
            second = SecurityGroup("quarantine", (InboundRule("192.168.0.8/29", policy="drop", priority=2),))
            await lab.apply(compile_estate(groups(one, second)))
            assert await connected(lab, "dc-client0", within=0.3) is None
            (told,) = await lab["ecs"].refusals(CLIENT)
            assert "inbound rule 1 of quarantine drops it" in told

            # With a later priority it says nothing; what was accepted before goes on then.
            later = replace(second, inbound=(replace(second.inbound[0], priority=3),))
            await lab.apply(compile_estate(groups(one, later)))
            again = await connected(lab, "dc-client0", within=5.0)
            assert again is not None
            again.close()
            end.close()
