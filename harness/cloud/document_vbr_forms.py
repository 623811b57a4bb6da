"""The document ``vbr:``: what its user may write, field by field, with types, defaults and descriptions.

Source: "Express Connect: configure and manage BGP", the forms of steps 1 to 3. Which values are legal is ``harness.cloud.vbr_rules``;
ranges stand here too, but only for editors, in the JSON Schema. What the defaults come to is ``harness.cloud.document_vbr``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from harness.cloud.document_alerts import AlertsForm
from harness.cloud.document_links import LinkedForm
from harness.cloud.document_shape import Form
from harness.cloud.resources import Region
from harness.cloud.vbr import DEFAULT_ASN, DEFAULT_BFD_HOP_COUNT, PEERS_OF_A_VBR, ROUTE_QUOTA, Line

LINES = {"direct": Line.DIRECT_FIBRE, "multi-cloud": Line.MULTI_CLOUD, "bridged": Line.BRIDGED}

_ASN: dict[str, Any] = {"minimum": 1, "maximum": 4294967295}
_HOPS: dict[str, Any] = {"minimum": 1, "maximum": 255}


class BfdForm(Form):
    """BFD of a peer."""

    hop_count: int | None = Field(
        None,
        description=f"most devices on the way (default {DEFAULT_BFD_HOP_COUNT}); 1 on a directly connected line",
        json_schema_extra=_HOPS,
    )


def _switch(value: Any) -> Any:
    """true is BFD with its defaults, false is none."""
    if value is True:
        return {}
    return None if value is False else value


#: ``bfd: true`` or ``bfd: {hop_count: 1}``.
Bfd = Annotated[
    BfdForm | None,
    BeforeValidator(_switch),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "null"}, BfdForm.model_json_schema()]}),
]


class GroupForm(Form):
    """A BGP group (step 1). Its peers inherit all of it."""

    name: str = Field(description="name of the group")
    protocol: Literal["IPv4", "IPv6"] = Field("IPv4", description="IPv6 needs a VBR with ipv6: true")
    peer_asn: int = Field(description="ASN of the data centre, of two or four bytes", json_schema_extra=_ASN)
    key: str | None = Field(
        None, repr=False, description="BGP key (TCP MD5), 1 to 80 printable characters; default: none"
    )
    route_quota: int = Field(
        ROUTE_QUOTA,
        description="most routes taken from a peer; over 110 only where the account's limit is raised",
        json_schema_extra={"minimum": 1},
    )
    route_quota_action: Literal["drop", "teardown"] = Field(
        "drop",
        description="over the quota: do not take the routes over it, or end the session (Cease/1) and start it again later",
    )
    description: str = Field("", description="free text")
    local_asn: int | None = Field(
        None, description="ASN of the cloud's side; needs a privileged account", json_schema_extra=_ASN
    )


class PeerForm(Form):
    """A BGP peer (step 2)."""

    group: str = Field(description="name of its BGP group")
    ip: str = Field(description="the data centre's address")
    bfd: Bfd = Field(None, description="BFD beside the session: true, false or its hop count")
    circuit: str | None = Field(None, description="name of its circuit, among circuits; default: one of its own")
    data_centre: str | None = Field(None, description="name of its data centre; default: one of its own, dc1, dc2, ...")


class EcrForm(Form):
    """The Express Connect Router that the VBR is associated with."""

    name: str = Field("ecr", description="its name")
    asn: int = Field(DEFAULT_ASN, description="its ASN, which the VBR takes", json_schema_extra=_ASN)
    associated: bool = Field(True, description="false: it exists, and the VBR is not associated with it yet")


class CenForm(Form):
    """A CEN transit router between the VBR and the VPC."""

    transit_router: str = Field("tr", description="its name")
    asn: int = Field(DEFAULT_ASN, description="its ASN", json_schema_extra=_ASN)


class VpcForm(Form):
    """The VPC behind the VBR."""

    name: str = Field("vpc", description="its name")
    cidr: str | None = Field(
        None, description="its block; default 172.16.0.0/16, or the smallest that holds all networks"
    )
    ipv6_cidr: str | None = Field(
        None, description="its IPv6 block; default fd00:172:16::/56 where the VBR has IPv6; null: none"
    )


class CircuitForm(Form):
    """An Express Connect circuit. Written only where the defaults do not fit, or for a peer that comes later."""

    name: str = Field(description="its name")
    data_centre: str | None = Field(None, description="where it leads to; default: a data centre of its own")
    cloud: str | None = Field(None, description="the VBR's address with its block, such as 10.1.1.1/30")
    customer: str | None = Field(None, description="the data centre's address with its block, such as 10.1.1.2/30")
    cloud_ipv6: str | None = Field(None, description="the VBR's IPv6 address with its block")
    customer_ipv6: str | None = Field(None, description="the data centre's IPv6 address with its block")
    line: Literal["direct", "multi-cloud", "bridged"] = Field(
        "direct", description="what it runs over; the first two need a BFD hop count of 1"
    )


class DataCentreForm(Form):
    """A data centre as its own router is configured. Written only where it is to differ from what the VBR expects."""

    name: str = Field(description="its name: dc1, dc2, ... are those of the circuits in their order")
    asn: int | None = Field(None, description="its ASN; default: that of its peers' group", json_schema_extra=_ASN)
    blocks: list[str] | None = Field(
        None, description="its client blocks; default 192.168.N.0/24 for the N-th data centre", max_length=16
    )
    neighbor_asn: int | None = Field(None, description="the cloud's ASN as it was told; default: what the VBR shows")
    key: str | None = Field(None, repr=False, description="its BGP key; default: the group's; null: none")
    bfd: Bfd = Field(None, description="BFD at its end, as for a peer; default: what its peers have")


class AccountForm(Form):
    """What the account manager has granted."""

    may_set_local_asn: bool = Field(False, description="may groups set local_asn?")
    route_quota_limit: int = Field(
        ROUTE_QUOTA, description="most that a route quota may be", json_schema_extra={"minimum": 1}
    )


class TimersForm(Form):
    """Timers that the document does not give, for every speaker of the lab."""

    hold_time: int = Field(90, description="proposed hold time in seconds; 0 or 3 to 65535")
    connect_retry_time: int = Field(120, description="ConnectRetryTime in seconds, 1 to 65535")
    bfd_interval_ms: int = Field(300, description="milliseconds between BFD packets, both ways, 10 to 60000")
    bfd_multiplier: int = Field(3, description="BFD packets missed before the peer is called gone, 1 to 255")
    route_quota_restart: int = Field(
        60, description="seconds that a session stays down which a route quota tore down, 1 to 65535"
    )


class VbrForm(LinkedForm):
    """A virtual border router, its data centres, and the VPC behind it."""

    name: str = Field("vbr", description="name of the VBR, and of its node")
    region: str = Field(
        "China (Hangzhou)",
        description="region of VBR and VPC",
        json_schema_extra={"enum": [str(region) for region in Region]},
    )
    ipv6: bool = Field(False, description="is IPv6 enabled on the VBR?")
    mp_bgp: bool = Field(True, description="does its port support MP-BGP? Without, no ECR")
    ecr: EcrForm | None = Field(None, description="an Express Connect Router; default: none")
    cen: CenForm | None = Field(None, description="a CEN transit router joins VPC and VBR; default: none")
    vpc: VpcForm = Field(VpcForm(), description="the VPC behind it")
    groups: list[GroupForm] = Field([], description="BGP groups", max_length=64)
    peers: list[PeerForm] = Field([], description=f"BGP peers, at most {PEERS_OF_A_VBR}", max_length=64)
    networks: list[str] = Field(
        [], description="blocks of the VPC to advertise (step 3); none where CEN joins VPC and VBR", max_length=256
    )
    circuits: list[CircuitForm] = Field([], description="circuits that the defaults do not give", max_length=16)
    data_centres: list[DataCentreForm] = Field(
        [], description="data centres that differ from the defaults", max_length=16
    )
    alerts: AlertsForm | None = Field(None, description="alert rules; default: every event goes to the log")
    account: AccountForm = Field(AccountForm(), description="what the account may do")
    timers: TimersForm = Field(TimersForm(), description="timers that the document does not give")
    profile: Literal["document", "rfc4271"] = Field(
        "document", description="state machine of all speakers: a failed TCP connection leads to Active, or to Idle"
    )


#: How findings name an object, by the key that it stands under.
WORDS = {
    "vbr": "VBR",
    "groups": "BGP group",
    "peers": "BGP peer",
    "networks": "BGP network",
    "circuits": "circuit",
    "data_centres": "data centre",
    "ecr": "ECR",
    "vpc": "VPC",
    "rules": "alert rule",
    "contact_groups": "alert contact group",
    "application_groups": "application group",
}

#: Where a rule's field is written, if not under its own name.
FIELDS = {"bfd_hop_count": ("bfd", "hop_count")}
