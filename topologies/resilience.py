"""`resilience`: a data centre that reaches a VPC by an Express Connect circuit and by a VPN gateway (VPN-10).

Source: "VPN Gateway: configure BGP dynamic routing", which says of it that both must know the same data-centre ASN. Names and
addresses are those of `vpn-gateway` with one tunnel, the circuit is 10.1.1.0/30. The data centre's router has the circuit and the
clients of 192.168.0.0/24; its gateway device has the tunnel and the clients of 192.168.1.0/24.

    mn --custom topologies/resilience.py --topo resilience
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.cloud import resilience  # not its validate: mn would take that for its own
from harness.cloud.build_resilience import compile_resilience
from harness.cloud.findings import Finding
from harness.cloud.resilience import ResilienceEstate
from harness.cloud.resources import Region, Timers, TransitRouter
from harness.cloud.vbr import BgpGroup, BgpPeer, Circuit, DataCentreSide, Vbr, VbrEstate
from harness.net import mn_command
from harness.net.plan_topo import PlanTopo
from harness.plan import Plan
from topologies import vpn_gateway

NAME = "resilience"
TITLE = "A data centre by an Express Connect circuit and by a VPN gateway"

#: Behind the data centre's router, and behind its gateway device.
BLOCK, DEVICE_BLOCK = vpn_gateway.CLIENT_BLOCKS
PEER_IP = "10.1.1.2"

FAST = vpn_gateway.FAST


def estate(
    *,
    circuit_asn: int = vpn_gateway.DATA_CENTRE_ASN,
    vpn_asn: int = vpn_gateway.DATA_CENTRE_ASN,
    cen: bool = False,
    timers: Timers = Timers(),
) -> ResilienceEstate:
    """``circuit_asn`` is the ASN of the data centre's router, ``vpn_asn`` its gateway device's: the document wants one.

    With ``cen`` a transit router joins VPC and VBR.
    """
    vpn = vpn_gateway.estate(tunnels=1, data_centre_asns=(vpn_asn,), timers=timers)
    (centre,) = vpn.data_centres
    (device,) = centre.devices
    centre = replace(centre, blocks=(BLOCK,), devices=(replace(device, blocks=(DEVICE_BLOCK,)),), asn=circuit_asn)
    vpn = replace(vpn, data_centres=(centre,))
    return ResilienceEstate(
        NAME,
        TITLE,
        vpn,
        VbrEstate(
            NAME,
            TITLE,
            vpcs=vpn.vpcs,
            vbrs=(
                Vbr(
                    "vbr",
                    Region.HANGZHOU,
                    "vpc",
                    groups=(BgpGroup("idc", circuit_asn),),
                    peers=(BgpPeer("idc", PEER_IP),),
                    networks=() if cen else vpn_gateway.VSWITCHES,
                    transit_router="tr" if cen else None,
                ),
            ),
            circuits=(Circuit("circuit-1", "vbr", "dc", "10.1.1.1/30", f"{PEER_IP}/30"),),
            data_centres=(DataCentreSide("dc", circuit_asn, (BLOCK,)),),
            transit_routers=(TransitRouter("tr", Region.HANGZHOU, "198.18.255.0/24"),) if cen else (),
            timers=timers,
        ),
    )


def plan(**changes: Any) -> Plan:
    """The lab of :func:`estate` with the same keyword arguments. Raises Refused."""
    return replace(compile_resilience(estate(**changes)), spec=("VPN-10",))


def findings(**changes: Any) -> list[Finding]:
    """What the documents' rules say of :func:`estate`."""
    return resilience.validate(estate(**changes))


topos = {NAME: lambda: PlanTopo(plan())}
globals().update(mn_command.names(NAME))
