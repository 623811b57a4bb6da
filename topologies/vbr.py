"""`vbr`: a virtual border router with 1 to 8 data centres, each over an Express Connect circuit of its own (CARD-2, VBR-1 to VBR-42).

Source: "Express Connect: configure and manage BGP". The document names no address: these are this project's. Every data centre has
a client block 192.168.N.0/24, its own ASN, and the circuit 10.1.N.0/30.

    mn --custom topologies/vbr.py --topo vbr,8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from harness.cloud import vbr_rules  # not its validate: mn would take that for its own
from harness.cloud.build_vbr import compile_vbr_estate
from harness.cloud.findings import Finding
from harness.cloud.resources import Ecs, Region, Timers, TransitRouter, Vpc, VSwitch
from harness.cloud.vbr import (
    PEERS_OF_A_VBR,
    ROUTE_QUOTA,
    Account,
    BgpGroup,
    BgpPeer,
    Circuit,
    DataCentreSide,
    Ecr,
    EcrAssociation,
    Line,
    Vbr,
    VbrEstate,
)
from harness.net import mn_command
from harness.net.plan_topo import PlanTopo
from harness.plan import Plan

NAME = "vbr"
TITLE = "A virtual border router and its data centres, each over its own Express Connect circuit"

VPC_BLOCK = "172.16.0.0/16"
#: Two-byte and four-byte ASNs in turn.
ASNS = (65011, 4200000012, 65013, 4200000014, 65015, 4200000016, 65017, 4200000018, 65019)


def peer_ip(number: int) -> str:
    """The data centre's address on circuit ``number``, from 1 on."""
    return f"10.1.{number}.2"


def group_name(asn: int) -> str:
    """The BGP group of the data centres with one ASN."""
    return f"idc-{asn}"


#: Timers for labs that end sessions: no document gives how long a peer stays Idle, and the speaker's second is what they would wait for.
QUICK = Timers(idle_hold_time=0.1)


def estate(
    *,
    peers: int = PEERS_OF_A_VBR,
    circuits: int | None = None,
    asns: Sequence[int] = ASNS,
    key: str | None = None,
    data_centre_keys: Sequence[str | None] | None = None,
    networks: Sequence[str] = (VPC_BLOCK,),
    ecr_asn: int | None = None,
    cen: bool = False,
    lines: int = 1,
    line: Line = Line.DIRECT_FIBRE,
    bfd_hop_count: int | None = None,
    data_centre_bfd: int | None = None,
    route_quota: int = ROUTE_QUOTA,
    route_quota_action: Literal["drop", "teardown"] = "drop",
    data_centre_router: bool = True,
    profile: Literal["document", "rfc4271"] = "document",
    account: Account = Account(),
    timers: Timers = Timers(),
) -> VbrEstate:
    """A VBR with ``peers`` BGP peers on ``circuits`` circuits (default: as many), one group for each ASN among the data centres.

    Each data centre has ``lines`` circuits in a row. ``data_centre_keys`` are the data centres' own keys (default: the group's). With
    ``cen`` a transit router joins VPC and VBR. ``bfd_hop_count`` turns BFD on for the VBR's peers, ``data_centre_bfd`` at the data
    centres.
    """
    circuit_count = peers if circuits is None else circuits
    count = -(-circuit_count // lines)
    numbers, centre_of = range(1, count + 1), [(n - 1) // lines + 1 for n in range(circuit_count + 1)]
    keys = [key] * count if data_centre_keys is None else list(data_centre_keys)
    local = 45104 if ecr_asn is None else ecr_asn
    groups = {
        asn: BgpGroup(group_name(asn), asn, key=key, route_quota=route_quota, route_quota_action=route_quota_action)
        for asn in asns[:count]
    }
    return VbrEstate(
        NAME,
        TITLE,
        vpcs=(
            Vpc(
                "vpc",
                Region.HANGZHOU,
                VPC_BLOCK,
                (VSwitch("vSwitch 1", "172.16.0.0/24", "H"),),
                (Ecs("ecs", "vSwitch 1", "172.16.0.10"),),
            ),
        ),
        vbrs=(
            Vbr(
                "vbr",
                Region.HANGZHOU,
                "vpc",
                groups=tuple(groups.values()),
                peers=tuple(
                    BgpPeer(group_name(asns[centre_of[n] - 1]), peer_ip(n), bfd_hop_count is not None, bfd_hop_count)
                    for n in range(1, peers + 1)
                ),
                networks=() if cen else tuple(networks),
                transit_router="tr" if cen else None,
            ),
        ),
        circuits=tuple(
            Circuit(f"circuit-{n}", "vbr", f"dc{centre_of[n]}", f"10.1.{n}.1/30", f"{peer_ip(n)}/30", line=line)
            for n in range(1, circuit_count + 1)
        ),
        data_centres=tuple(
            DataCentreSide(
                f"dc{n}",
                asns[n - 1],
                (f"192.168.{n}.0/24",),
                neighbor_asn=local,
                key=keys[n - 1],
                bfd_hop_count=data_centre_bfd,
                router=data_centre_router,
            )
            for n in numbers
        ),
        ecrs=() if ecr_asn is None else (Ecr("ecr", ecr_asn),),
        ecr_associations=() if ecr_asn is None else (EcrAssociation("ecr", "vbr"),),
        transit_routers=(TransitRouter("tr", Region.HANGZHOU, "198.19.255.0/24"),) if cen else (),
        account=account,
        timers=timers,
        profile=profile,
    )


def plan(**changes: Any) -> Plan:
    """The lab of :func:`estate` with the same keyword arguments. Raises Refused."""
    return plan_of(estate(**changes))


def plan_of(changed: VbrEstate) -> Plan:
    """The lab of an estate that began as :func:`estate`, for ``lab.apply``. Raises Refused."""
    return replace(compile_vbr_estate(changed), spec=("VBR-1", "VBR-3"))


def findings(**changes: Any) -> list[Finding]:
    """What the document's rules say of :func:`estate`."""
    return vbr_rules.validate(estate(**changes))


topos = {NAME: lambda peers=PEERS_OF_A_VBR: PlanTopo(plan(peers=peers))}
globals().update(mn_command.names(NAME))
