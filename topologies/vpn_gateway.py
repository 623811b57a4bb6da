"""`vpn-gateway`: a VPC with a VPN gateway, an IPsec connection of two tunnels, and a data centre with a device for each (VPN-1 to VPN-25).

Source: "VPN Gateway: configure BGP dynamic routing". The document names no address but the excluded tunnel blocks: these are this
project's. Tunnel N, from 1 on, has the block 169.254.(9+N).0/30, the cloud's .1 and the device's .2.

    mn --custom topologies/vpn_gateway.py --topo vpn-gateway
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.cloud import vpn_rules  # not its validate: mn would take that for its own
from harness.cloud.build_vpn import compile_vpn_estate
from harness.cloud.findings import Finding
from harness.cloud.resources import (
    CustomerGateway,
    DataCentre,
    Ecs,
    GatewayDevice,
    Region,
    Timers,
    Vpc,
    VSwitch,
)
from harness.cloud.vpn import (
    BGP_ROUTES_OF_A_GATEWAY,
    CustomRoute,
    CustomRouteTable,
    VpnConnection,
    VpnEstate,
    VpnGateway,
    VpnTunnel,
)
from harness.net import mn_command
from harness.net.plan_topo import PlanTopo
from harness.plan import Esp, Ike, Plan

NAME = "vpn-gateway"
TITLE = "A VPN gateway, dual-tunnel IPsec connections with BGP, and a data centre"

CLIENT_BLOCKS = ("192.168.0.0/24", "192.168.1.0/24")
VSWITCHES = ("10.0.0.0/24", "10.0.1.0/24")
DATA_CENTRE_ASN = 65530
CUSTOM_TABLE = "custom-table"

#: Timers for labs that measure fail-over in seconds; no document gives any (docs/architecture.md).
FAST = Timers(
    hold_time=6, connect_retry_time=5, idle_hold_time=0.1, dpd_delay=1.0, retransmit_timeout=0.4, retransmit_tries=2
)


def key(number: int) -> str:
    """The pre-shared key of tunnel ``number``."""
    return f"vpn-key-{number}****"


def tunnel_node(connection: int, part: int) -> str:
    """The cloud's end of a tunnel: connection from 1 on, part 0 the primary and 1 the secondary."""
    return f"vpn{connection}{'ab'[part]}"


def gateway_name(number: int) -> str:
    return "vpngw" if number == 1 else f"vpngw{number}"


def estate(
    *,
    gateways: int = 1,
    connections: int = 1,
    tunnels: int = 2,
    automatic_advertisement: bool = True,
    route_quota: int = BGP_ROUTES_OF_A_GATEWAY,
    local_asns: Sequence[int] = (45104,),
    data_centre_asns: Sequence[int] = (DATA_CENTRE_ASN,),
    networks: Mapping[str, Sequence[str]] = {},
    custom_routes: Sequence[str] = (),
    system_routes: Sequence[str] = (),
    mesh: bool = False,
    one_device: bool = False,
    bgp: bool = True,
    timers: Timers = Timers(),
) -> VpnEstate:
    """``gateways`` of one VPC, each with ``connections`` of ``tunnels`` tunnels, each tunnel with a device gwN of its own.

    ``local_asns`` are the gateways' in turn, ``data_centre_asns`` the devices'. ``networks`` has what a device advertises, by its name
    (default: both client blocks). vSwitch 2 uses a custom route table with ``custom_routes``; ``system_routes`` are custom entries of the
    system table. With ``one_device`` all tunnels lead to one device: one customer gateway, one public address.
    """
    each = connections * tunnels
    numbers = range(1, gateways * each + 1)
    return VpnEstate(
        NAME,
        TITLE,
        vpcs=(
            Vpc(
                "vpc",
                Region.HANGZHOU,
                "10.0.0.0/16",
                (VSwitch("vSwitch 1", VSWITCHES[0], "H"), VSwitch("vSwitch 2", VSWITCHES[1], "I")),
                (Ecs("ecs", "vSwitch 1", "10.0.0.1"), Ecs("ecs2", "vSwitch 2", "10.0.1.1")),
            ),
        ),
        vpn_gateways=tuple(
            VpnGateway(gateway_name(n), "vpc", automatic_advertisement, route_quota) for n in range(1, gateways + 1)
        ),
        customer_gateways=tuple(
            CustomerGateway(f"Customer-Gateway{n}", f"198.51.100.{n}", _of(data_centre_asns, n))
            for n in ([1] if one_device else numbers)
        ),
        ipsec_connections=tuple(
            VpnConnection(
                f"IPsec-VPN Connection {c}",
                gateway_name((c - 1) // connections + 1),
                tuple(
                    _tunnel(c, part, tunnels, local_asns[(c - 1) // connections % len(local_asns)], one_device)
                    for part in range(tunnels)
                ),
                bgp=bgp,
            )
            for c in range(1, gateways * connections + 1)
        ),
        data_centres=(
            DataCentre(
                "dc",
                CLIENT_BLOCKS,
                "192.168.50.0/24",
                tuple(
                    _device(
                        n,
                        _of(data_centre_asns, n),
                        local_asns[(n - 1) // each % len(local_asns)],
                        tuple(networks.get(f"gw{n}", CLIENT_BLOCKS)),
                        one_device,
                    )
                    for n in numbers
                ),
                mesh=mesh,
            ),
        ),
        route_tables=(
            CustomRouteTable(
                CUSTOM_TABLE, "vpc", ("vSwitch 2",), tuple(CustomRoute(prefix, "vpngw") for prefix in custom_routes)
            ),
        ),
        system_routes=tuple(CustomRoute(prefix, "vpngw") for prefix in system_routes),
        timers=timers,
    )


def _of(asns: Sequence[int], number: int) -> int:
    return asns[(number - 1) % len(asns)]


def _tunnel(connection: int, part: int, tunnels: int, local_asn: int, one_device: bool) -> VpnTunnel:
    number = (connection - 1) * tunnels + part + 1
    return VpnTunnel(
        tunnel_node(connection, part),
        f"203.0.113.{10 + number}",
        key(number),
        f"Customer-Gateway{1 if one_device else number}",
        f"169.254.{9 + number}.0/30",
        f"169.254.{9 + number}.1",
        local_asn,
        Ike(dh_group="group14"),
        Esp(pfs="group14"),
    )


def _device(number: int, asn: int, neighbor_asn: int, networks: tuple[str, ...], one_device: bool) -> GatewayDevice:
    return GatewayDevice(
        name=f"gw{number}",
        public_address=f"198.51.100.{1 if one_device else number}",
        provider_next_hop=f"192.0.2.{171 if one_device else 170 + number}",
        private_address=f"192.168.50.{10 + number}",
        clients_next_hop=f"192.168.50.{110 + number}",
        gateway_address=f"203.0.113.{10 + number}",
        tunnel_address=f"169.254.{9 + number}.2/30",
        neighbor=f"169.254.{9 + number}.1",
        key=key(number),
        asn=asn,
        neighbor_asn=neighbor_asn,
        networks=networks,
    )


def plan(**changes: Any) -> Plan:
    """The lab of :func:`estate` with the same keyword arguments. Raises Refused."""
    return plan_of(estate(**changes))


def plan_of(changed: VpnEstate) -> Plan:
    """The lab of an estate that began as :func:`estate`, for ``lab.apply``. Raises Refused."""
    return replace(compile_vpn_estate(changed), spec=("VPN-1", "VPN-13"))


def findings(**changes: Any) -> list[Finding]:
    """What the document's rules say of :func:`estate`."""
    return vpn_rules.validate(estate(**changes))


topos = {NAME: lambda: PlanTopo(plan())}
globals().update(mn_command.names(NAME))
