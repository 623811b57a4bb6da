"""What the documents ``vpn_gateway:`` and ``ipsec:`` have in common: customer gateways, algorithms, VPCs, the data centre.

Which values are legal is for ``harness.cloud.rules`` and ``harness.cloud.vpn_rules``; ranges stand here too, but only for editors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, Literal, Protocol

from pydantic import Field

from harness.cloud.document_shape import Form
from harness.cloud.document_tree import Path
from harness.cloud.findings import Finding
from harness.cloud.resources import (
    DataCentre,
    Ecs,
    GatewayDevice,
    InboundRule,
    Region,
    SecurityGroup,
    Timers,
    Vpc,
    VSwitch,
)
from harness.cloud.security_groups import admitting, groups_of
from harness.plan import Esp, Ike

#: The ASN of a data centre whose customer gateway has none.
DATA_CENTRE_ASN = 65001

Encryption = Literal["aes", "aes192", "aes256", "3des"]
Integrity = Literal["md5", "sha1", "sha256", "sha384", "sha512"]
Group = Literal["group1", "group2", "group5", "group14"]

ASN: dict[str, Any] = {"minimum": 1, "maximum": 4294967295}
REGIONS: dict[str, Any] = {"enum": [str(region) for region in Region]}
KEY_DESCRIPTION = "pre-shared key, 1 to 100 characters; default: 16 random ones"


class IkeForm(Form):
    """IKE of a tunnel."""

    encryption: Encryption = Field("aes", description="encryption algorithm")
    integrity: Integrity = Field("sha1", description="authentication algorithm")
    prf: Integrity | None = Field(None, description="default: as integrity")
    dh_group: Group = Field("group14", description="Diffie-Hellman group")
    lifetime: int = Field(86400, description="seconds")

    def value(self) -> Ike:
        return Ike(self.encryption, self.integrity, self.prf or self.integrity, self.dh_group, self.lifetime)


class IpsecForm(Form):
    """ESP of a tunnel."""

    encryption: Encryption = Field("aes", description="encryption algorithm")
    integrity: Integrity = Field("sha1", description="authentication algorithm")
    pfs: Group | None = Field("group14", description="group of a rekey; null: no perfect forward secrecy")
    lifetime: int = Field(86400, description="seconds")

    def value(self) -> Esp:
        return Esp(self.encryption, self.integrity, self.pfs, self.lifetime)


class CustomerGatewayForm(Form):
    """A customer gateway: the device's public address and ASN as the cloud knows them."""

    name: str = Field(description="its name")
    address: str = Field(description="public address of the device")
    asn: int | None = Field(None, description="ASN of the data centre; BGP needs it", json_schema_extra=ASN)


class VSwitchForm(Form):
    """A vSwitch of a VPC, with one ECS instance."""

    name: str = Field(description="its name")
    cidr: str = Field(description="its block")
    zone: str = Field("H", description="its zone")
    instance: str | None = Field(None, description="address of the instance; default: the block's first host")
    security_groups: list[str] | None = Field(
        None, description="security groups of the instance; default: all of the VPC", max_length=16
    )


class InboundRuleForm(Form):
    """An inbound rule of a security group."""

    source: str = Field(description="block that it lets in, or keeps out")
    protocol: Literal["all", "tcp", "udp", "icmp", "gre"] = Field("all", description="protocol")
    ports: str = Field("-1/-1", description="port range of tcp or udp, such as 22/22; -1/-1: all")
    policy: Literal["accept", "drop"] = Field("accept", description="what becomes of it")
    priority: int = Field(1, description="1 (first) to 100 (last)", json_schema_extra={"minimum": 1, "maximum": 100})


class SecurityGroupForm(Form):
    """A basic security group: it lets in what a rule accepts and its own members, and nothing else."""

    name: str = Field(description="its name")
    inbound: list[InboundRuleForm] = Field([], description="its inbound rules", max_length=200)
    interconnected: bool = Field(True, description="do its members reach one another?")

    def value(self) -> SecurityGroup:
        rules = tuple(InboundRule(**rule.model_dump()) for rule in self.inbound)
        return SecurityGroup(self.name, rules, self.interconnected)


SECURITY_GROUPS = (
    "security groups of its instances; default: one that lets in the data centre's blocks; []: nothing is filtered"
)


class TunnelTimersForm(Form):
    """Timers that no document gives."""

    hold_time: int = Field(90, description="hold time in seconds that speakers propose; 0 or 3 to 65535")
    connect_retry_time: int = Field(120, description="ConnectRetryTime in seconds")
    dpd_delay: float = Field(30.0, description="seconds of silence after which a peer is asked whether it lives")
    retransmit_timeout: float = Field(4.0, description="seconds between retransmissions of IKE")
    retransmit_tries: int = Field(5, description="retransmissions after which a peer is called dead")

    def value(self) -> Timers:
        return Timers(**self.model_dump())


class DeviceForm(Form):
    """A gateway device of the data centre where it is to differ from what the cloud's side expects of it."""

    connection: str = Field(description="the IPsec connection at whose other end it is")
    tunnel: Literal["primary", "secondary"] = Field("primary", description="which of two tunnels")
    name: str | None = Field(
        None, description="its name and its node's; default: gw1, gw2, ... in the order of the tunnels"
    )
    asn: int | None = Field(None, description="its ASN; default: the customer gateway's", json_schema_extra=ASN)
    neighbor_asn: int | None = Field(None, description="the cloud's ASN as it was told", json_schema_extra=ASN)
    pre_shared_key: str | None = Field(None, repr=False, description="its key; default: the tunnel's")
    gateway_address: str | None = Field(None, description="the cloud's address as it was told")
    networks: list[str] | None = Field(
        None, description="what it advertises; default: all client blocks", max_length=512
    )
    blocks: list[str] = Field([], description="client blocks behind the device itself", max_length=4)
    ike: IkeForm | None = Field(None, description="default: as the tunnel")
    ipsec: IpsecForm | None = Field(None, description="default: as the tunnel")


class DataCentreForm(Form):
    """The data centre: client blocks, a LAN, and a gateway device at the other end of each tunnel."""

    name: str = Field("dc", description="its name")
    asn: int | None = Field(None, description="ASN of its router; default: the devices'", json_schema_extra=ASN)
    blocks: list[str] = Field(["192.168.0.0/24"], description="blocks of its clients", min_length=1, max_length=16)
    lan: str = Field("192.168.50.0/24", description="the block between its router and its devices, a /24 or larger")
    mesh: bool = Field(False, description="do its devices speak BGP with one another too?")
    devices: list[DeviceForm] = Field([], description="devices that differ from the defaults", max_length=64)


class CloudEnd(Protocol):
    """The cloud's end of a tunnel, which is what it expects of the device: an IPsec connection, or a tunnel of one."""

    @property
    def customer_gateway(self) -> str | None: ...
    @property
    def gateway_address(self) -> str: ...
    @property
    def tunnel_cidr(self) -> str | None: ...
    @property
    def local_bgp_address(self) -> str | None: ...
    @property
    def local_asn(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def ike(self) -> Ike: ...
    @property
    def esp(self) -> Esp: ...


def regional(text: str) -> Region:
    """The region of a name; Hangzhou where it is none, which a finding of the document says."""
    return Region(text) if text in list(Region) else Region.HANGZHOU


def vpc_of(
    name: str,
    region: Region,
    cidr: str,
    vswitches: Sequence[VSwitchForm],
    first: int,
    groups: Sequence[SecurityGroup],
) -> Vpc:
    """The VPC with an instance in every vSwitch that has room: ecs, ecs2, ... from ``first`` on. Without vSwitches two are made."""
    forms = list(vswitches) or [
        VSwitchForm(name=f"vSwitch {n}", cidr=block, zone=zone)
        for n, (block, zone) in enumerate(zip(_first_blocks(cidr), ("H", "I"), strict=False), 1)
    ]
    instances = []
    for number, form in enumerate(forms, first):
        address = form.instance or _first_host(form.cidr)
        if address is not None:
            inside = groups_of(form.security_groups, groups)
            instance = Ecs("ecs" if number == 1 else f"ecs{number}", form.name, address, security_groups=inside)
            instances.append(instance)
    switches = tuple(VSwitch(form.name, form.cidr, form.zone) for form in forms)
    return Vpc(name, region, cidr, switches, tuple(instances), security_groups=tuple(groups))


def security_groups(forms: Sequence[SecurityGroupForm] | None, centre: DataCentreForm) -> tuple[SecurityGroup, ...]:
    """The groups of a VPC: those written, or the one that document 001 asks for."""
    if forms is not None:
        return tuple(form.value() for form in forms)
    blocks = [*centre.blocks, *(block for device in centre.devices for block in device.blocks)]
    return (admitting("security-group", filter(network_of, blocks)),)


def places_of_instances(
    vpc: Vpc, vswitches: Sequence[VSwitchForm], groups: Sequence[SecurityGroupForm] | None, here: Path
) -> Iterator[tuple[str, Path]]:
    """Where instances and security groups are written, by the names that findings give them; ``here`` is the VPC's own place."""
    switches = {form.name: number for number, form in enumerate(vswitches)}
    for instance in vpc.instances:
        number = switches.get(instance.vswitch)
        yield f"ECS {instance.name}", here if number is None else (*here, "vswitches", number)
    for number, group in enumerate(groups or ()):
        owner, there = f"security group {group.name}", (*here, "security_groups", number)
        yield owner, there
        yield from (
            (f"{owner}, inbound rule {n}", (*there, "inbound", n - 1)) for n in range(1, len(group.inbound) + 1)
        )


def data_centre(
    form: DataCentreForm, customers: Sequence[CustomerGatewayForm], ends: Iterable[tuple[str, int, CloudEnd]]
) -> DataCentre:
    """The data centre with a device for each end: (its connection, 0 for the primary or only tunnel, else 1, the end)."""
    gateways = {customer.name: customer for customer in customers}
    known = [end for end in ends if (end[2].customer_gateway or "") in gateways]
    lan = network_of(form.lan) or IPv4Network("192.168.50.0/24")
    # One device with several tunnels has one provider, and one next hop there.
    first = {end.customer_gateway: number for number, (_, _, end) in reversed(list(enumerate(known, 1)))}
    devices = [
        replace(
            _device(form, lan, number, connection, part, end, gateways[end.customer_gateway or ""]),
            provider_next_hop=f"192.0.2.{1 + (169 + first[end.customer_gateway]) % 252}",
        )
        for number, (connection, part, end) in enumerate(known, 1)
    ]
    return DataCentre(form.name, tuple(form.blocks), form.lan, tuple(devices), form.asn, form.mesh)


def devices_belong(form: DataCentreForm, parts: Mapping[str, int], spec: str) -> Iterator[Finding]:
    """Devices that are written for a connection or a tunnel that is not there; ``parts`` are the tunnels of each connection."""
    for number, device in enumerate(form.devices, 1):
        if device.connection not in parts:
            rule = f"IPsec connection {device.connection!r} does not exist"
            remedy = f"Choose {' or '.join(sorted(parts))}" if parts else "Write the connection first"
            yield Finding(f"device {number}", rule, spec, remedy, field="connection")
        elif device.tunnel == "secondary" and parts[device.connection] < 2:
            rule = f"{device.connection} has no secondary tunnel"
            yield Finding(f"device {number}", rule, spec, "Leave tunnel out", field="tunnel")


def _device(
    form: DataCentreForm,
    lan: IPv4Network,
    number: int,
    connection: str,
    part: int,
    end: CloudEnd,
    customer: CustomerGatewayForm,
) -> GatewayDevice:
    """The device at the other end, as the cloud expects it but for what the form says of it."""
    told = {(device.connection, device.tunnel): device for device in form.devices}
    differs = told.get((connection, ("primary", "secondary")[min(part, 1)]), DeviceForm(connection=""))
    expected_asn = DATA_CENTRE_ASN if customer.asn is None else customer.asn
    near, far = _ends(end)
    return GatewayDevice(
        name=differs.name or f"gw{number}",
        public_address=customer.address,
        provider_next_hop="",
        private_address=_host(lan, 10 + number),
        clients_next_hop=_host(lan, 130 + number),
        gateway_address=differs.gateway_address or end.gateway_address,
        tunnel_address=far,
        neighbor=near,
        key=end.key if differs.pre_shared_key is None else differs.pre_shared_key,
        asn=expected_asn if differs.asn is None else differs.asn,
        neighbor_asn=end.local_asn if differs.neighbor_asn is None else differs.neighbor_asn,
        networks=tuple((*form.blocks, *differs.blocks) if differs.networks is None else differs.networks),
        ike=end.ike if differs.ike is None else differs.ike.value(),
        esp=end.esp if differs.ipsec is None else differs.ipsec.value(),
        blocks=tuple(differs.blocks),
    )


def network_of(text: str) -> IPv4Network | None:
    """The block of a text; None where it is none, which is for the rules to say."""
    try:
        return IPv4Network(text)
    except ValueError:
        return None


def _ends(tunnel: CloudEnd) -> tuple[str, str]:
    """The cloud's address in the tunnel, and the device's with its prefix; made ones where what is written makes none."""
    try:
        block = IPv4Network(tunnel.tunnel_cidr or "")
        own = IPv4Address(tunnel.local_bgp_address or "")
        far = next(host for host in block.hosts() if host != own)
    except (ValueError, StopIteration):
        return "169.254.254.1", "169.254.254.2/30"
    return str(own), str(IPv4Interface((far, block.prefixlen)))


def _host(lan: IPv4Network, number: int) -> str:
    return str(lan[number % max(1, lan.num_addresses)])


def _first_blocks(cidr: str) -> list[str]:
    block = network_of(cidr)
    if block is None:
        return []
    return [str(part) for part, _ in zip(block.subnets(new_prefix=max(24, block.prefixlen)), range(2), strict=False)]


def _first_host(cidr: str) -> str | None:
    block = network_of(cidr)
    return None if block is None or block.num_addresses < 8 else str(block[1])
