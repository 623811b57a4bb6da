"""From the document ``vbr:`` to resources: the circuits, data centres and addresses that its user did not write.

The rules stand in docs/vbr.md, "What need not be written". A peer that names no circuit has one of its own, in the smallest block from
/30 (IPv6: /126) upwards in which its address is a host's, the VBR at the block's first other host address; an IPv6 peer shares the
circuit of the first IPv4 peer with the same ASN that has room. A circuit that names no data centre leads to one of its own, which is
configured as the VBR expects it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from harness.cloud.build_vbr import compile_vbr_estate
from harness.cloud.document import Built, Kind
from harness.cloud.document_alerts import alerting_of, objects_of
from harness.cloud.document_tree import Path
from harness.cloud.document_vbr_forms import (
    FIELDS,
    LINES,
    WORDS,
    CircuitForm,
    DataCentreForm,
    GroupForm,
    PeerForm,
    VbrForm,
)
from harness.cloud.findings import Finding
from harness.cloud.resources import Ecs, Region, Timers, TransitRouter, Vpc, VSwitch
from harness.cloud.vbr import (
    DEFAULT_ASN,
    DEFAULT_BFD_HOP_COUNT,
    Account,
    BgpGroup,
    BgpPeer,
    Circuit,
    DataCentreSession,
    DataCentreSide,
    Ecr,
    EcrAssociation,
    Protocol,
    Vbr,
    VbrEstate,
)
from harness.cloud.vbr_rules import validate

VPC_BLOCK = "172.16.0.0/16"
VPC_IPV6_BLOCK = "fd00:172:16::/56"
#: The ASN of a data centre of which no group says anything.
DATA_CENTRE_ASN = 65001


@dataclass(slots=True)
class _Line:
    """A circuit in the making: what is written of it or follows from its peers, and the path of what asked for it."""

    number: int
    form: CircuitForm
    path: Path
    peers: list[PeerForm] = field(default_factory=list)

    @property
    def centre(self) -> str:
        """Its data centre: the one it names, else the one a peer of it names, else one of its own."""
        named = [peer.data_centre for peer in self.peers if peer.data_centre is not None]
        return self.form.data_centre or (named[0] if named else f"dc{self.number}")


def build(form: VbrForm) -> Built[VbrEstate]:
    """The resources of a form. Never raises, whatever its texts say: they are for the rules to judge."""
    lines, findings = _lines(form)
    circuits = tuple(_circuit(form, line) for line in lines)
    centres, unreached = _data_centres(form, lines, circuits)
    region = _region(form)
    ecrs = () if form.ecr is None else (Ecr(form.ecr.name, form.ecr.asn),)
    estate = VbrEstate(
        form.name,
        f"{form.name}: a virtual border router and its data centres",
        vpcs=(_vpc(form, region),),
        vbrs=(_vbr(form, region),),
        circuits=circuits,
        data_centres=centres,
        ecrs=ecrs,
        ecr_associations=(EcrAssociation(form.ecr.name, form.name),) if form.ecr and form.ecr.associated else (),
        transit_routers=()
        if form.cen is None
        else (TransitRouter(form.cen.transit_router, region, "198.19.255.0/24", form.cen.asn),),
        account=Account(form.account.may_set_local_asn, form.account.route_quota_limit),
        timers=Timers(**form.timers.model_dump()),
        profile=form.profile,
        alerting=None if form.alerts is None else alerting_of(form.alerts),
    )
    objects = dict(_objects(form, lines))
    return Built(estate, objects, (*_regions(form), *findings, *unreached))


def _region(form: VbrForm) -> Region:
    return Region(form.region) if form.region in list(Region) else Region.HANGZHOU


def _regions(form: VbrForm) -> Iterator[Finding]:
    if form.region not in list(Region):
        remedy = f"Choose one of {', '.join(Region)}"
        yield Finding(f"VBR {form.name}", f"region {form.region!r} is not known", "VBR-1", remedy, field="region")


def _vbr(form: VbrForm, region: Region) -> Vbr:
    groups = (
        BgpGroup(
            group.name,
            group.peer_asn,
            Protocol(group.protocol),
            group.key,
            group.route_quota,
            group.description,
            group.local_asn,
            group.route_quota_action,
        )
        for group in form.groups
    )
    peers = (
        BgpPeer(peer.group, plain(peer.ip), peer.bfd is not None, peer.bfd.hop_count if peer.bfd else None)
        for peer in form.peers
    )
    router = None if form.cen is None else form.cen.transit_router
    return Vbr(
        form.name,
        region,
        form.vpc.name,
        tuple(groups),
        tuple(peers),
        tuple(form.networks),
        form.ipv6,
        form.mp_bgp,
        router,
    )


def _vpc(form: VbrForm, region: Region) -> Vpc:
    """The VPC with one vSwitch and one instance: the first /24 (IPv6: /64) of its block, and the tenth (IPv6: ::10) address of that."""
    cidr = form.vpc.cidr or _covering([each for each in form.networks if ":" not in each])
    cidr6 = form.vpc.ipv6_cidr if form.vpc.given("ipv6_cidr") else VPC_IPV6_BLOCK if form.ipv6 else None
    try:
        block, block6 = IPv4Network(cidr), IPv6Network(cidr6 or VPC_IPV6_BLOCK)
    except ValueError:
        return Vpc(form.vpc.name, region, cidr, (), ipv6_cidr=cidr6)
    vswitch = next(block.subnets(new_prefix=max(24, block.prefixlen)))
    vswitch6 = next(block6.subnets(new_prefix=max(64, block6.prefixlen)))
    if vswitch.num_addresses < 8 or vswitch6.num_addresses < 32:
        return Vpc(form.vpc.name, region, cidr, (), ipv6_cidr=cidr6)
    address, address6 = str(vswitch[10 if vswitch.num_addresses > 16 else 1]), str(vswitch6[16])
    if cidr6 is None:
        vswitches, instances = (VSwitch("vSwitch 1", str(vswitch), "H"),), (Ecs("ecs", "vSwitch 1", address),)
    else:
        vswitches = (VSwitch("vSwitch 1", str(vswitch), "H", str(vswitch6)),)
        instances = (Ecs("ecs", "vSwitch 1", address, address6),)
    return Vpc(form.vpc.name, region, cidr, vswitches, instances, cidr6)


def _covering(networks: Sequence[str]) -> str:
    """The default block of the VPC: 172.16.0.0/16 if that holds all networks, else the smallest block of /8 or longer that does."""
    try:
        blocks = [IPv4Network(text) for text in networks]
    except ValueError:
        return VPC_BLOCK
    if all(block.subnet_of(IPv4Network(VPC_BLOCK)) for block in blocks):
        return VPC_BLOCK
    covering = blocks[0]
    while not all(block.subnet_of(covering) for block in blocks):
        covering = covering.supernet()
    return str(covering) if covering.prefixlen >= 8 else VPC_BLOCK


def _lines(form: VbrForm) -> tuple[list[_Line], list[Finding]]:
    """The circuits: those that are written, then one for each peer that needs one."""
    lines = [_Line(number + 1, circuit, ("circuits", number)) for number, circuit in enumerate(form.circuits)]
    named = {peer.circuit for peer in form.peers if _version(peer.ip) == 4}
    for written in lines:
        if written.form.name not in named:
            written.form = _with_defaults(written)
    findings: list[Finding] = []
    asns = {group.name: group.peer_asn for group in form.groups}
    for number, peer in enumerate(form.peers):
        if (version := _version(peer.ip)) is None:
            continue
        line: _Line | None
        if peer.circuit is not None:
            line = next((each for each in lines if each.form.name == peer.circuit), None)
            if line is None:
                there = ", ".join(each.form.name for each in lines) or "none"
                rule = f"circuit {peer.circuit!r} does not exist; there are {there}"
                remedy = "Add it to circuits, or leave the peer's circuit out"
                owner = f"BGP peer {plain(peer.ip)} of VBR {form.name}"
                findings.append(Finding(owner, rule, "VBR-1", remedy, field="circuit"))
                continue
        else:
            line = _line_with(lines, peer.ip) or (_line_with_room(lines, peer, asns) if version == 6 else None)
        if line is None:
            names = {each.form.name for each in lines}
            place = len(lines) + 1
            name = next(name for n in range(place, 1000) if (name := f"circuit-{n}") not in names)
            line = _Line(place, CircuitForm(name=name), ("peers", number))
            lines.append(line)
        line.peers.append(peer)
        line.form = _with_addresses(line.form, peer, version)
    return lines, findings


def _line_with(lines: list[_Line], ip: str) -> _Line | None:
    """The circuit whose customer end is written with this address."""
    wanted = plain(ip)
    for line in lines:
        for customer in (line.form.customer, line.form.customer_ipv6):
            if customer is not None and plain(customer.partition("/")[0]) == wanted:
                return line
    return None


def _line_with_room(lines: list[_Line], peer: PeerForm, asns: dict[str, int]) -> _Line | None:
    """The first circuit without IPv6 whose IPv4 peer has the ASN of this peer, and its data centre if it names one."""
    for line in lines:
        same = any(asns.get(other.group) == asns.get(peer.group) for other in line.peers)
        if same and line.form.customer_ipv6 is None and peer.data_centre in (None, line.centre):
            return line
    return None


def _with_addresses(form: CircuitForm, peer: PeerForm, version: int) -> CircuitForm:
    """The circuit with what its peer's address says of the two ends, where nothing is written."""
    near, far = ("cloud", "customer") if version == 4 else ("cloud_ipv6", "customer_ipv6")
    cloud, customer = getattr(form, near), getattr(form, far)
    if customer is None and cloud is None:
        cloud, customer = ends(peer.ip)
    elif customer is None:
        customer = f"{peer.ip}/{cloud.partition('/')[2]}"
    return form.model_copy(update={near: cloud, far: customer})


def ends(ip: str) -> tuple[str, str]:
    """The cloud's and the customer's end of a circuit of which only the data centre's address is known, with their block."""
    customer = ip_address(ip)
    longest = customer.max_prefixlen - 2
    for length in range(longest, longest - 23, -1):
        block = ip_network((customer, length), strict=False)
        if customer != block[0] and (block.version == 6 or customer != block[-1]):
            break
    cloud = next(host for host in (block[1], block[2]) if host != customer)
    return f"{cloud}/{length}", f"{customer}/{length}"


def _with_defaults(line: _Line) -> CircuitForm:
    """The circuit with both its IPv4 ends."""
    cloud, customer = _pair(line.form.cloud, line.form.customer)
    if cloud is None or customer is None:
        cloud, customer = f"10.1.{line.number}.1/30", f"10.1.{line.number}.2/30"
    return line.form.model_copy(update={"cloud": cloud, "customer": customer})


def _circuit(form: VbrForm, line: _Line) -> Circuit:
    written = _with_defaults(line)
    cloud, customer = str(written.cloud), str(written.customer)
    cloud6, customer6 = _pair(written.cloud_ipv6, written.customer_ipv6)
    return Circuit(written.name, form.name, line.centre, cloud, customer, cloud6, customer6, LINES[written.line])


def _pair(cloud: str | None, customer: str | None) -> tuple[str | None, str | None]:
    """Both ends of a circuit, the one that is not written made from the other; a text that is no address is left for the rules."""
    known = cloud if cloud is not None else customer
    if known is None or (cloud is not None and customer is not None):
        return cloud, customer
    try:
        end = ip_interface(known)
        other = next(host for host in (end.network[1], end.network[2]) if host != end.ip)
    except (ValueError, IndexError):
        return known, known
    made = f"{other}/{end.network.prefixlen}"
    return (known, made) if cloud is not None else (made, known)


def _data_centres(
    form: VbrForm, lines: list[_Line], circuits: tuple[Circuit, ...]
) -> tuple[tuple[DataCentreSide, ...], list[Finding]]:
    """The data centres that circuits lead to, in the circuits' order; a written one that none leads to is a finding."""
    names = list(dict.fromkeys(circuit.data_centre for circuit in circuits))
    written = {centre.name: centre for centre in form.data_centres}
    centres = tuple(
        _data_centre(form, name, number, lines, circuits, written.get(name)) for number, name in enumerate(names, 1)
    )
    findings = []
    for centre in form.data_centres:
        if centre.name not in names:
            rule = f"no circuit leads to it; circuits lead to {', '.join(names) or 'none'}"
            remedy = f"Write data_centre: {centre.name} at its peer or circuit, or use the name it has"
            findings.append(Finding(f"data centre {centre.name}", rule, "VBR-1", remedy, field="name"))
    if len(written) < len(form.data_centres):
        twice = [centre.name for centre in form.data_centres]
        name = next(name for name in twice if twice.count(name) > 1)
        rule = f"it is written {twice.count(name)} times"
        findings.append(Finding(f"data centre {name}", rule, "VBR-25", "Write it once", field="name"))
    return centres, findings


def _data_centre(
    form: VbrForm,
    name: str,
    number: int,
    lines: list[_Line],
    circuits: tuple[Circuit, ...],
    written: DataCentreForm | None,
) -> DataCentreSide:
    groups = {group.name: group for group in form.groups}
    shown = form.ecr.asn if form.ecr is not None and form.ecr.associated else DEFAULT_ASN
    own = [(line, circuit) for line, circuit in zip(lines, circuits, strict=True) if circuit.data_centre == name]
    first = next((groups[peer.group] for line, _ in own for peer in line.peers if peer.group in groups), None)
    expected = first or next(iter(form.groups), None)
    told = written or DataCentreForm(name=name)
    asn = told.asn if told.asn is not None else expected.peer_asn if expected is not None else DATA_CENTRE_ASN
    blocks = [f"192.168.{number}.0/24"] if told.blocks is None else told.blocks
    sessions = []
    for line, circuit in own:
        for cloud, customer in circuit.pairs():
            peer = next((peer for peer in line.peers if plain(peer.ip) == _host(customer)), None)
            group = groups.get(peer.group) if peer is not None else _spare(form, customer)
            sessions.append(_session(told, _host(cloud), peer, group, shown))
    return DataCentreSide(name, asn, tuple(blocks), shown, sessions=tuple(sessions))


def _session(
    told: DataCentreForm, cloud: str, peer: PeerForm | None, group: GroupForm | None, shown: int
) -> DataCentreSession:
    asn = told.neighbor_asn
    if asn is None:
        asn = group.local_asn if group is not None and group.local_asn is not None else shown
    key = told.key if told.given("key") else group.key if group is not None else None
    bfd = told.bfd if told.given("bfd") or peer is None else peer.bfd
    hops = None
    if bfd is not None:
        hops = DEFAULT_BFD_HOP_COUNT if bfd.hop_count is None else bfd.hop_count
    return DataCentreSession(cloud, asn, key, hops)


def _spare(form: VbrForm, customer: str) -> GroupForm | None:
    """What a data centre without a peer is told: what the first group of its family says, since its peer may yet come."""
    version = _version(_host(customer))
    return next((group for group in form.groups if Protocol(group.protocol).version == version), None)


def _objects(form: VbrForm, lines: list[_Line]) -> Iterator[tuple[str, Path]]:
    """Where each object is written, by the name that findings give it; what a default made is where its cause is written."""
    of = f"of VBR {form.name}"
    yield f"VBR {form.name}", ()
    for line in lines:
        yield f"circuit {line.form.name}", line.path
        yield f"data centre {line.centre}", line.path
    for number, group in enumerate(form.groups):
        yield f"BGP group {group.name} {of}", ("groups", number)
    for number, peer in enumerate(form.peers):
        yield f"BGP peer {plain(peer.ip)} {of}", ("peers", number)
    for number, network in enumerate(form.networks):
        yield f"BGP network {network} {of}", ("networks", number)
    for number, centre in enumerate(form.data_centres):
        yield f"data centre {centre.name}", ("data_centres", number)
    yield "timers", ("timers",)
    if form.alerts is not None:
        yield from objects_of(form.alerts, ("alerts",))
    yield f"VPC {form.vpc.name}", ("vpc",)
    if form.ecr is not None:
        yield f"ECR {form.ecr.name}", ("ecr",)
        yield f"association of {form.name} with {form.ecr.name}", ("ecr",)
    if form.cen is not None:
        yield f"transit router {form.cen.transit_router}", ("cen",)


def plain(ip: str) -> str:
    """An address in its usual form, "fd00::2" for "fd00:0::2"; what is none, as it stands."""
    try:
        return str(ip_address(ip))
    except ValueError:
        return ip


def _host(interface: str) -> str:
    return plain(interface.partition("/")[0])


def _version(ip: str) -> int | None:
    try:
        return ip_address(ip).version
    except ValueError:
        return None


KIND: Kind[VbrForm, VbrEstate] = Kind(
    "vbr",
    "a virtual border router with its data centres",
    VbrForm,
    build,
    validate,
    compile_vbr_estate,
    WORDS,
    FIELDS,
)
