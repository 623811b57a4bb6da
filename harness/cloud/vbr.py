"""Resources of a virtual border router (VBR), as the console names them, with its defaults and limits.

Source: "Express Connect: configure and manage BGP" (VBR-1 to VBR-13, 21, 24 to 32 and 42 of docs/requirements.md). Each class is
what one form of the console asks for. What follows from several of them (which ASN a group shows, which circuit leads to a peer)
is a function here; what the document forbids is in ``harness.cloud.vbr_rules``, what may change in ``harness.cloud.vbr_changes``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Literal

from harness.cloud.alerts import Alerting
from harness.cloud.resources import Region, Timers, TransitRouter, Vpc

#: VBR-4: the cloud's ASN.
DEFAULT_ASN = 45104
#: VBR-5: what a local ASN may be besides the default.
LOCAL_ASN_RANGES = ((64512, 65024), (65026, 65534), (4200000000, 4294967294))
#: VBR-3.
PEERS_OF_A_VBR = 8
#: VBR-10, VBR-32: the route quota of a peer by default, and the most that can be asked for unless the account's limit is raised.
ROUTE_QUOTA = 110
#: VBR-12.
BFD_HOP_COUNTS = (1, 255)
DEFAULT_BFD_HOP_COUNT = 255


class Protocol(StrEnum):
    """Protocol type of a BGP group."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @property
    def version(self) -> int:
        return 4 if self is Protocol.IPV4 else 6


class Line(StrEnum):
    """What an Express Connect circuit runs over. The first two need a BFD hop count of 1 (VBR-13)."""

    DIRECT_FIBRE = "a directly connected fibre"
    MULTI_CLOUD = "a multi-cloud line without a bridging device"
    BRIDGED = "a line over a bridging device"


@dataclass(frozen=True, slots=True)
class Account:
    """What the account manager has granted: the local ASN is hidden by default (VBR-26), the quota's limit can be raised (VBR-32)."""

    may_set_local_asn: bool = False
    route_quota_limit: int = ROUTE_QUOTA


@dataclass(frozen=True, slots=True)
class BgpGroup:
    """Step 1: a BGP group; its peers inherit all of it (VBR-8). ``local_asn`` None: the default (:func:`local_asn`).

    ``route_quota_action``† is not in the form: what becomes of a peer that exceeds the quota (VBR-10). With "drop" the routes over it
    are not taken, with "teardown" the session ends with Cease/1 and stays down for ``Timers.route_quota_restart``.
    """

    name: str
    peer_asn: int
    protocol: Protocol = Protocol.IPV4
    key: str | None = field(default=None, repr=False)
    route_quota: int = ROUTE_QUOTA
    description: str = ""
    local_asn: int | None = None
    route_quota_action: Literal["drop", "teardown"] = "drop"


@dataclass(frozen=True, slots=True)
class BgpPeer:
    """Step 2: a BGP peer (VBR-12). ``bfd_hop_count`` None: 255 where BFD is on."""

    group: str
    ip: str
    bfd: bool = False
    bfd_hop_count: int | None = None


@dataclass(frozen=True, slots=True)
class Circuit:
    """An Express Connect circuit attached to a VBR, with the addresses of its two ends ("10.1.1.1/30"); IPv6 beside them if wanted."""

    name: str
    vbr: str
    data_centre: str
    cloud_address: str
    customer_address: str
    cloud_address_ipv6: str | None = None
    customer_address_ipv6: str | None = None
    line: Line = Line.DIRECT_FIBRE

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The cloud's and the customer's address, IPv4 first."""
        yield self.cloud_address, self.customer_address
        if self.cloud_address_ipv6 is not None and self.customer_address_ipv6 is not None:
            yield self.cloud_address_ipv6, self.customer_address_ipv6


@dataclass(frozen=True, slots=True)
class Vbr:
    """A virtual border router with its BGP groups, BGP peers and advertised networks (step 3, VBR-21).

    It reaches its VPC directly, or by a transit router of CEN where ``transit_router`` names one.
    """

    name: str
    region: Region
    vpc: str
    groups: tuple[BgpGroup, ...] = ()
    peers: tuple[BgpPeer, ...] = ()
    networks: tuple[str, ...] = ()
    ipv6: bool = False
    mp_bgp: bool = True
    transit_router: str | None = None


@dataclass(frozen=True, slots=True)
class Ecr:
    """An Express Connect Router; its ASN can be chosen."""

    name: str
    asn: int = DEFAULT_ASN


@dataclass(frozen=True, slots=True)
class EcrAssociation:
    """A VBR associated with an ECR: from then on it has the ECR's ASN (VBR-6, VBR-28)."""

    ecr: str
    vbr: str


@dataclass(frozen=True, slots=True)
class DataCentreSession:
    """What a data centre was told of one session, by the VBR's address on its circuit. ``bfd_hop_count`` None: no BFD (VBR-34)."""

    cloud: str
    neighbor_asn: int = DEFAULT_ASN
    key: str | None = field(default=None, repr=False)
    bfd_hop_count: int | None = None


@dataclass(frozen=True, slots=True)
class DataCentreSide:
    """A data centre as its own router is configured: its ASN, its client blocks, and what it was told of the VBR.

    Key and ASNs are its own, so that a data centre can be wrong where a user's would be. ``neighbor_asn``, ``key`` and
    ``bfd_hop_count`` (None: no BFD) hold for every session that ``sessions`` does not name. ``router`` False: nothing speaks BGP
    there, so that a lab may send what it likes.
    """

    name: str
    asn: int
    blocks: tuple[str, ...]
    neighbor_asn: int = DEFAULT_ASN
    key: str | None = field(default=None, repr=False)
    bfd_hop_count: int | None = None
    sessions: tuple[DataCentreSession, ...] = ()
    router: bool = True

    def session(self, cloud: str) -> DataCentreSession:
        """What it was told of the session with the VBR's address ``cloud``."""
        for session in self.sessions:
            if session.cloud == cloud:
                return session
        return DataCentreSession(cloud, self.neighbor_asn, self.key, self.bfd_hop_count)


@dataclass(frozen=True, slots=True)
class VbrEstate:
    """Everything a scenario of virtual border routers consists of, cloud and data centres.

    ``profile``: whose word counts where the document and RFC 4271 differ on a session's states (VBR-16, VBR-17). ``alerting`` None: no
    alert rules of the user's own.
    """

    name: str
    title: str
    vpcs: tuple[Vpc, ...]
    vbrs: tuple[Vbr, ...]
    circuits: tuple[Circuit, ...]
    data_centres: tuple[DataCentreSide, ...]
    ecrs: tuple[Ecr, ...] = ()
    ecr_associations: tuple[EcrAssociation, ...] = ()
    transit_routers: tuple[TransitRouter, ...] = ()
    account: Account = Account()
    timers: Timers = Timers()
    profile: Literal["document", "rfc4271"] = "document"
    alerting: Alerting | None = None


def ecr_of(estate: VbrEstate, vbr: Vbr) -> Ecr | None:
    """The ECR that a VBR is associated with."""
    names = {association.ecr for association in estate.ecr_associations if association.vbr == vbr.name}
    return next((ecr for ecr in estate.ecrs if ecr.name in names), None)


def default_local_asn(estate: VbrEstate, vbr: Vbr) -> int:
    """The ASN that a new group of the VBR has unless told otherwise: the ECR's, else 45104 (VBR-4, VBR-28)."""
    ecr = ecr_of(estate, vbr)
    return DEFAULT_ASN if ecr is None else ecr.asn


def local_asn(estate: VbrEstate, vbr: Vbr, group: BgpGroup) -> int:
    """The ASN that the peers of a group see."""
    return default_local_asn(estate, vbr) if group.local_asn is None else group.local_asn


def group_of(vbr: Vbr, peer: BgpPeer) -> BgpGroup | None:
    return next((group for group in vbr.groups if group.name == peer.group), None)


def bfd_hop_count(peer: BgpPeer) -> int | None:
    """The hop count in force: 255 where BFD is on and none was given (VBR-12), None where BFD is off."""
    if not peer.bfd:
        return None
    return DEFAULT_BFD_HOP_COUNT if peer.bfd_hop_count is None else peer.bfd_hop_count


@functools.lru_cache(maxsize=1024)
def _host(interface: str) -> IPv4Address | IPv6Address:
    """The address of an interface; the rules ask for each of a circuit's again and again."""
    return ip_interface(interface).ip


def circuit_of(estate: VbrEstate, vbr: str, ip: str) -> Circuit | None:
    """The circuit attached to the VBR whose customer end has this address."""
    wanted = ip_address(ip)
    for circuit in estate.circuits:
        if circuit.vbr == vbr and any(_host(customer) == wanted for _, customer in circuit.pairs()):
            return circuit
    return None


def basic_information(estate: VbrEstate, vbr: Vbr) -> dict[str, str]:
    """What the details page of a VBR shows under "Basic information"; MP-BGP stands beside the port's advanced features (VBR-29)."""
    return {
        "Name": vbr.name,
        "Region": str(vbr.region),
        "IPv6": "enabled" if vbr.ipv6 else "disabled",
        "Advanced features of the port": f"MP-BGP {'supported' if vbr.mp_bgp else 'not supported'}",
        "Express Connect Router": ecr.name if (ecr := ecr_of(estate, vbr)) is not None else "none",
    }
