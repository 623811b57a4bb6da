"""Where packets begin and end, the same in every scenario: the clients of a data centre, the vSwitches and instances of a VPC.

Functions add nodes and links to the lists of a compiler (``harness.cloud.build``, ``harness.cloud.build_vbr``); they know nothing of
what lies between the two ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_interface, ip_network

from harness.cloud.resources import Vpc
from harness.cloud.security_groups import filter_of
from harness.plan import End, Link, Node, Role, Route


def bgp_identifier(addresses: Iterable[str]) -> str:
    """The highest IPv4 address of the interfaces (003: the highest loopback address, else the highest address; BGP-4)."""
    interfaces = [ip_interface(address) for address in addresses]
    return str(max(interface.ip for interface in interfaces if isinstance(interface.ip, IPv4Address)))


def attach_clients(
    centre: str, router: str, blocks: Iterable[str], nodes: list[Node], links: list[Link]
) -> tuple[str, ...]:
    """A node with the clients of each block behind ``router``, which has the block's first address. Returns those addresses."""
    gateways = []
    for number, block in enumerate(map(ip_network, blocks)):
        gateway, client = block[1], block[10]
        name = f"{centre}-client{number}"
        # The upper half of the block is answered by the same node, so that one namespace stands for many clients.
        upper = list(block.subnets(prefixlen_diff=1))[1]
        default = "0.0.0.0/0" if block.version == 4 else "::/0"
        nodes.append(
            Node(
                name,
                Role.CLIENT,
                f"Clients in {block}",
                "Data centre",
                routes=(Route(default, gateway=str(gateway)), Route(str(upper), device="lo", local=True)),
            )
        )
        gateways.append(f"{gateway}/{block.prefixlen}")
        ends = (
            End(router, f"block{number}", (gateways[-1],)),
            End(name, "eth0", (f"{client}/{block.prefixlen}",)),
        )
        links.append(Link(*ends))
    return tuple(gateways)


def attach_instances(vpc: Vpc, nodes: list[Node], links: list[Link]) -> None:
    """The ECS instances of each vSwitch of a VPC, whose node has the vSwitch's gateway address."""
    for number, vswitch in enumerate(vpc.vswitches, 1):
        block = IPv4Network(vswitch.cidr)
        gateways = [f"{block[-3]}/{block.prefixlen}"]
        uplinks = [Route("0.0.0.0/0", gateway=str(block[-3]))]
        if vswitch.ipv6_cidr is not None:
            block6 = IPv6Network(vswitch.ipv6_cidr)
            gateways.append(f"{block6[1]}/{block6.prefixlen}")
            uplinks.append(Route("::/0", gateway=str(block6[1])))
        instances = [instance for instance in vpc.instances if instance.vswitch == vswitch.name]
        for instance in instances:
            label = f"ECS {instance.address} in {vswitch.name}"
            own = [f"{instance.address}/{block.prefixlen}"]
            if instance.ipv6_address is not None and vswitch.ipv6_cidr is not None:
                own.append(f"{instance.ipv6_address}/{block6.prefixlen}")
            nodes.append(
                Node(
                    instance.name,
                    Role.ECS,
                    label,
                    str(vpc.region),
                    routes=tuple(uplinks[: len(own)]),
                    filter=filter_of(vpc, instance),
                )
            )
            near, far = End(vpc.name, f"vswitch{number}", tuple(gateways)), End(instance.name, "eth0", tuple(own))
            links.append(Link(near, far, name=vswitch.name))
