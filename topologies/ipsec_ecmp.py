"""`ipsec-ecmp`: three IPsec connections over the internet forming ECMP to a transit router (ECMP-1 to ECMP-42).

Source: "VPN Gateway: create multiple IPsec connections over the internet for load balancing". Values are the document's; masked
addresses stand in the documentation ranges of RFC 5737 with their last octet kept, masked keys keep their stars.

    mn --custom topologies/ipsec_ecmp.py --topo ipsec-ecmp
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.cloud import rules  # not its validate: mn would take that for its own
from harness.cloud.build import compile_estate
from harness.cloud.findings import Finding
from harness.cloud.resources import (
    CustomerGateway,
    DataCentre,
    Ecs,
    Estate,
    GatewayDevice,
    InterRegionConnection,
    IpsecConnection,
    Region,
    Timers,
    TransitRouter,
    Vpc,
    VpcConnection,
    VSwitch,
)
from harness.cloud.security_groups import admitting
from harness.net import mn_command
from harness.net.plan_topo import PlanTopo
from harness.plan import Esp, Ike, Plan

NAME = "ipsec-ecmp"
TITLE = "Three IPsec connections over the internet, ECMP to a transit router"

CLIENT_BLOCKS = ("192.168.0.0/24", "192.168.1.0/24", "192.168.2.0/24")
KEYS = ("fddsFF123****", "fddsFF456****", "fddsFF789****")
PUBLIC = ("198.51.100.1", "198.51.100.2", "198.51.100.3")
PROVIDER = ("192.0.2.172", "192.0.2.173", "192.0.2.174")
GATEWAY_ADDRESSES = ("203.0.113.191", "203.0.113.213", "203.0.113.161")
PRIVATE = ("192.168.50.216", "192.168.50.218", "192.168.50.213")
TOWARDS_CLIENTS = ("192.168.50.215", "192.168.50.217", "192.168.50.214")
TUNNELS = ("169.254.10", "169.254.11", "169.254.12")

#: The document's prerequisite: it lets the data centre's traffic in (ECMP-42).
SECURITY_GROUP = admitting("ecs-security-group", CLIENT_BLOCKS)

#: Timers for labs that measure fail-over in seconds; no document gives any (docs/architecture.md).
FAST = Timers(
    hold_time=6, connect_retry_time=5, idle_hold_time=0.1, dpd_delay=1.0, retransmit_timeout=0.4, retransmit_tries=2
)


def estate(
    *,
    connections: int = 3,
    vpc_connection: bool = True,
    inter_region: bool = True,
    timers: Timers = Timers(),
    device_keys: tuple[str, ...] = KEYS,
    devices: Mapping[str, GatewayDevice] = {},
) -> Estate:
    """The document's resources, or less of them: the first ``connections``, and the state before steps 4 and 5 (ECMP-34, 35).

    ``devices`` stand in the place of the gateway devices of their names: a device's own configuration, say (``harness.asa``).
    """
    which = range(connections)
    return Estate(
        NAME,
        TITLE,
        vpcs=(
            Vpc(
                "vpc",
                Region.SHANGHAI,
                "10.0.0.0/16",
                (VSwitch("vSwitch 1", "10.0.0.0/24", "F"), VSwitch("vSwitch 2", "10.0.1.0/24", "G")),
                tuple(
                    Ecs(name, vswitch, address, security_groups=(SECURITY_GROUP.name,))
                    for name, vswitch, address in (("ecs", "vSwitch 1", "10.0.0.1"), ("ecs2", "vSwitch 2", "10.0.1.1"))
                ),
                security_groups=(SECURITY_GROUP,),
            ),
        ),
        transit_routers=(
            TransitRouter("tr-hangzhou", Region.HANGZHOU, "198.18.1.0/24"),
            TransitRouter("tr-shanghai", Region.SHANGHAI, "198.18.2.0/24"),
        ),
        customer_gateways=tuple(CustomerGateway(f"Customer-Gateway{n + 1}", PUBLIC[n], 65530) for n in which),
        ipsec_connections=tuple(
            IpsecConnection(
                name=f"IPsec-VPN Connection {n + 1}",
                node=f"vpn{n + 1}",
                transit_router="tr-hangzhou",
                customer_gateway=f"Customer-Gateway{n + 1}",
                zone="H",
                tunnel_cidr=f"{TUNNELS[n]}.0/30",
                local_bgp_address=f"{TUNNELS[n]}.1",
                gateway_address=GATEWAY_ADDRESSES[n],
                key=KEYS[n],
                local_asn=65531,
                bgp=True,
                ike=Ike(dh_group="group14"),
                esp=Esp(pfs="group14"),
            )
            for n in which
        ),
        data_centres=(
            DataCentre(
                "dc",
                CLIENT_BLOCKS,
                "192.168.50.0/24",
                tuple(
                    devices.get(f"gw{n + 1}")
                    or GatewayDevice(
                        name=f"gw{n + 1}",
                        public_address=PUBLIC[n],
                        provider_next_hop=PROVIDER[n],
                        private_address=PRIVATE[n],
                        clients_next_hop=TOWARDS_CLIENTS[n],
                        gateway_address=GATEWAY_ADDRESSES[n],
                        tunnel_address=f"{TUNNELS[n]}.2/30",
                        neighbor=f"{TUNNELS[n]}.1",
                        key=device_keys[n],
                        asn=65530,
                        neighbor_asn=65531,
                        networks=CLIENT_BLOCKS,
                    )
                    for n in which
                ),
            ),
        ),
        vpc_connections=(VpcConnection("VPC-connection", "vpc", "tr-shanghai", ("vSwitch 1", "vSwitch 2")),)
        if vpc_connection
        else (),
        inter_region_connections=(InterRegionConnection("Inter-region-connection", ("tr-hangzhou", "tr-shanghai")),)
        if inter_region
        else (),
        timers=timers,
    )


def plan(**changes: object) -> Plan:
    """The lab of :func:`estate` with the same keyword arguments."""
    return replace(compile_estate(estate(**changes)), spec=("ECMP-1", "ECMP-2"))  # type: ignore[arg-type]


def findings(**changes: object) -> list[Finding]:
    """What the document's rules say of :func:`estate`."""
    return rules.validate(estate(**changes))  # type: ignore[arg-type]


topos = {NAME: lambda: PlanTopo(plan())}
globals().update(mn_command.names(NAME))
