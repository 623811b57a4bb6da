"""From what the running ends say to the lines of the device's text that are to blame. Pure.

A table of questions in the order in which a connection comes up: each looks at quotations (:class:`Facts`), asks by which line of
the text the value in it came, and names that line. The cloud's configuration is nowhere looked at: what it wants is known
only from what it said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from harness.asa.running import BgpNeighbor, Running
from harness.proving.facts import Disagreement, Facts
from harness.proving.graft import by_the_tunnel


@dataclass(frozen=True, slots=True)
class Culprit:
    """A line to blame: ``line`` None where one is missing. ``said`` is whose reason that is, in its own words."""

    line: int | None
    cause: str
    said: str
    remedy: str
    command: str = ""

    def __str__(self) -> str:
        where = "missing" if self.line is None else f"line {self.line}"
        said = f" [{self.said}]" if self.said else ""
        return f"{where}: {self.cause}{said}. {self.remedy}."


Question = Callable[[Running, Facts], Iterator[Culprit]]


def blame(device: Running, facts: Facts) -> tuple[Culprit, ...]:
    """The culprits, the first cause first; when everything works, the lines that the device refuses.

    One stage's failure hides the next, as on a real device."""
    of_the_text = tuple(Culprit(each.line, each.rule, "the device's own text", each.remedy) for each in device.faults)
    if facts.works:
        refused = {each.line for each in device.refused}
        return tuple(each for each in of_the_text if each.line in refused)
    for stage in _STAGES:
        found: dict[tuple[int | None, str], Culprit] = {}
        for question in stage:
            for culprit in question(device, facts):
                found.setdefault((culprit.line, "" if culprit.line else culprit.cause), culprit)
            if found:
                break
        if found:
            first = [
                each
                for each in of_the_text
                if each.line is None or each.line not in {one.line for one in found.values()}
            ]
            told = {each.remedy for each in first}
            return (*first, *(each for each in found.values() if each.line is not None or each.remedy not in told))
    return of_the_text


# ------------------------------------------------------------------------------------------------------------------ the tunnel


def _shut(device: Running, facts: Facts) -> Iterator[Culprit]:
    if facts.up:
        return
    port = device.ports.get(device.outside or "")
    if port is not None and not port.up:
        said = facts.device.said("unreachable|No route|is down") or "nothing leaves by this interface"
        yield Culprit(port.lines["up"], f"interface {port.name} is shut down", f"device: {said}", "Write no shutdown")


def _source(device: Running, facts: Facts) -> Iterator[Culprit]:
    """The device's charon was called at an address, or from one, that its tunnel does not have."""
    if facts.up:
        return
    source = device.source
    local = None if source is None or source.address is None else str(source.address.ip)
    for own, peer, line in facts.device.unknown_pairs():
        said = f"device's charon: {line}"
        if local is not None and own != local and "tunnel.source" in device.lines:
            cause = f"the tunnel starts from {local}, the cloud calls {own}"
            yield Culprit(device.lines["tunnel.source"], cause, said, "Name the interface that has this address")
        elif peer != device.value("destination") and "tunnel.destination" in device.lines:
            cause = f"the tunnel leads to {device.value('destination')}, the cloud calls from {peer}"
            yield Culprit(device.lines["tunnel.destination"], cause, said, f"Write tunnel destination {peer}")


def _not_listening(device: Running, facts: Facts) -> Iterator[Culprit]:
    """Somebody else's interface has IKEv2: the text said so already; here is what the cloud makes of it."""
    if facts.up or device.listens or device.value("source") is None:
        return
    said = f"cloud's charon: {facts.cloud.said('giving up after') or 'no answer'}"
    line = next(iter(device.enabled.values()), None)
    source = device.value("source")
    if source in device.ports and len(device.enabled) == 1 and _leads_out(device, next(iter(device.enabled))):
        cause = f"the tunnel starts from {source}, IKEv2 is enabled on {next(iter(device.enabled))}"
        yield Culprit(
            device.lines["tunnel.source"], cause, said, f"Write tunnel source interface {next(iter(device.enabled))}"
        )
        return
    cause = f"IKEv2 is not enabled on {source}, where the tunnel starts"
    yield Culprit(line, cause, said, f"Write crypto ikev2 enable {source}")


def _leads_out(device: Running, nameif: str) -> bool:
    return nameif == device.outside


def _ike(device: Running, facts: Facts) -> Iterator[Culprit]:
    if facts.up:
        return
    found = facts.device.disagreement("IKE")
    if found is None or not device.ike:
        return
    number, kinds = found.nearest()
    offer = device.ike[min(number, len(device.ike) - 1)]
    yield from _differing(
        found, number, kinds, offer.lines, offer.section, {"group": "dh_group"}, "crypto ikev2 policy"
    )


def _esp(device: Running, facts: Facts) -> Iterator[Culprit]:
    if facts.up:
        return
    found = facts.device.disagreement("ESP")
    if found is None or not device.esp:
        return
    number, kinds = found.nearest()
    offer = device.esp[min(number, len(device.esp) - 1)]
    # The first CHILD_SA has no group of its own (RFC 7296 1.2).
    yield from _differing(
        found,
        number,
        tuple(kind for kind in kinds if kind != "group"),
        offer.lines,
        offer.section,
        {},
        "ipsec-proposal",
    )


def _differing(
    found: Disagreement,
    number: int,
    kinds: tuple[str, ...],
    lines: Mapping[str, int],
    section: int,
    words: Mapping[str, str],
    where: str,
) -> Iterator[Culprit]:
    own, offered = found.configured[number], found.received[0]
    for kind in kinds:
        line = lines.get(words.get(kind, kind))
        cause = (
            f"{kind} is {own.get(kind, 'none')} here and {offered.get(kind, 'none')} at the cloud: NO_PROPOSAL_CHOSEN"
        )
        remedy = f"Give {kind} the cloud's value" + ("" if line is not None else f" in the {where} of line {section}")
        yield Culprit(line, cause, f"device's charon: {found.text}", remedy)


def _authentication(device: Running, facts: Facts) -> Iterator[Culprit]:
    if facts.up:
        return
    if said := facts.device.said("no shared key found for"):
        groups = device.lines.get("tunnel-group")
        if device.group is None:
            line, cause = (
                device.lines.get("other-tunnel-group"),
                f"no tunnel-group has a key for {device.value('destination')}",
            )
        else:
            line, cause = groups, f"tunnel-group {device.group.name} lacks a key"
        name = device.value("destination")
        yield Culprit(line, cause, f"device's charon: {said}", f"Give tunnel-group {name} both keys")
        return
    if (said := facts.device.said("MAC mismatched")) and "remote-key" in device.lines:
        cause = "the cloud's proof does not fit this key: AUTHENTICATION_FAILED"
        yield Culprit(
            device.lines["remote-key"], cause, f"device's charon: {said}", "Set the connection's pre-shared key"
        )
        same = device.keys["remote"].value == device.keys["local"].value
        if same:
            cause = "it is the same key as that one, and is used for this side's proof"
            yield Culprit(
                device.lines["local-key"], cause, "the device's own text", "Set the connection's pre-shared key"
            )
        return
    said = facts.cloud.said(r"constraint check failed|no matching peer config|no alternative config")
    if device.identity != "address" and "local-identity" in device.lines:
        # Where the cloud calls it is the device that finds nothing: it was asked for by its address.
        asked = facts.device.said("no matching peer config")
        if quoted := (said and f"cloud's charon: {said}") or (asked and f"device's charon: {asked}"):
            cause = f"the device names itself by {device.identity.partition(' ')[0]}, the cloud expects its address"
            yield Culprit(device.lines["local-identity"], cause, quoted, "Write set ikev2 local-identity address")
            return
    if said:
        yield from _public_address(device, said)
        return
    if (said := facts.cloud.said("MAC mismatched")) and "local-key" in device.lines:
        cause = "the cloud does not accept the proof made with this key: AUTHENTICATION_FAILED"
        yield Culprit(
            device.lines["local-key"], cause, f"cloud's charon: {said}", "Set the connection's pre-shared key"
        )


def _public_address(device: Running, said: str) -> Iterator[Culprit]:
    port = device.ports.get(device.outside or "")
    if port is not None and "address" in port.lines:
        cause = f"the cloud does not know the address {port.address and port.address.ip}"
        yield Culprit(
            port.lines["address"], cause, f"cloud's charon: {said}", "Give the interface its customer gateway's address"
        )


def _stranger(device: Running, facts: Facts) -> Iterator[Culprit]:
    """The cloud was called from an address that it has no connection for."""
    if facts.up:
        return
    source = device.source
    for _, peer, line in facts.cloud.unknown_pairs():
        if source is None or source.address is None or peer != str(source.address.ip):
            continue
        if source.nameif != device.outside and "tunnel.source" in device.lines:
            cause = f"the tunnel starts from {source.nameif} ({peer}), which the cloud does not know"
            yield Culprit(
                device.lines["tunnel.source"],
                cause,
                f"cloud's charon: {line}",
                f"Write tunnel source interface {device.outside}",
            )
        else:
            yield from _public_address(device, line)


def _way_out(device: Running, facts: Facts) -> Iterator[Culprit]:
    """Nobody hears anybody: how does the device's kernel get to the cloud?"""
    if facts.up:
        return
    destination = device.value("destination")
    if destination is None:
        return
    quote = facts.device.said("error writing to socket|giving up after") or "no answer"
    said = f"device's charon: {quote}"
    ways = [way for way in device.ways if destination and IPv4Address(destination) in IPv4Network(way.prefix)]
    best = max(ways, key=lambda way: IPv4Network(way.prefix).prefixlen, default=None)
    if best is None:
        outward = [way for way in device.ways if way.nameif == device.outside]
        line = outward[0].line if len(outward) == 1 else None
        cause = f"no route leads to the tunnel's destination {destination}"
        yield Culprit(line, cause, said, f"Write route {device.outside} {destination} 255.255.255.255 PROVIDER")
    elif best.gateway in facts.unresolved or facts.way is None or best.nameif != device.outside:
        cause = f"the next hop {best.gateway} by {best.nameif} answers no ARP request"
        yield Culprit(
            best.line, cause, f"{said}; device's kernel: no neighbour {best.gateway}", "Name the provider's next hop"
        )


def _nobody_there(device: Running, facts: Facts) -> Iterator[Culprit]:
    """The device's packets leave and nobody answers, or the cloud's never come."""
    if facts.up:
        return
    gave_up = facts.device.said("giving up after")
    if (
        gave_up
        and not facts.device.heard_from()
        and "tunnel.destination" in device.lines
        and not facts.cloud.heard_from()
    ):
        cause = f"nobody answers at {device.value('destination')}"
        yield Culprit(
            device.lines["tunnel.destination"],
            cause,
            f"device's charon: {gave_up}",
            "Write the connection's gateway address",
        )
        return
    port = device.ports.get(device.outside or "")
    said = facts.cloud.said("giving up after")
    if said and port is not None and "address" in port.lines and not facts.device.heard_from() and not device.faults:
        cause = f"the cloud's packets do not arrive at {port.address and port.address.ip}"
        yield Culprit(
            port.lines["address"], cause, f"cloud's charon: {said}", "Give the interface its customer gateway's address"
        )


# ------------------------------------------------------------------------------------------------------------------- rekeying


def _pfs(device: Running, facts: Facts) -> Iterator[Culprit]:
    found = facts.device.disagreement("ESP")
    if facts.rekey is None or not device.esp or not (found or re.search("NO_PROPOSAL|INVALID_KE", facts.rekey)):
        return
    offer = device.esp[0]
    own = "none" if offer.esp.pfs is None else offer.esp.pfs
    wanted = ""
    if found is not None:
        number, _ = found.nearest()
        offer = device.esp[min(number, len(device.esp) - 1)]
        wanted = f" and {found.received[0].get('group', 'none')} at the cloud"
    cause = f"PFS is {own} here{wanted}: the tunnel comes up and fails at its first rekey"
    said = f"device's charon: {found.text}" if found is not None else f"cloud's charon: {facts.rekey}"
    yield Culprit(
        offer.lines.get("pfs"), cause, said, "Write set pfs with the cloud's group, or take it off on both sides"
    )


# ------------------------------------------------------------------------------------------------------------------------ BGP


def _bgp(device: Running, facts: Facts) -> Iterator[Culprit]:
    if not facts.up or facts.session:
        return
    active = [each for each in by_the_tunnel(device) if each.active and each.remote_asn is not None]
    first = active[0] if active else None
    cloud, own = facts.cloud_bgp, facts.device_bgp
    if device.asn is not None and (error := _bad_as(own.received_error, cloud.sent_error)):
        cause = f"the cloud expects another AS number than {device.asn.value}"
        yield Culprit(
            device.asn.line, cause, f"cloud's speaker: {error}", "Write router bgp with the customer gateway's ASN"
        )
    if first is not None and (error := _bad_as(own.sent_error, cloud.received_error)):
        cause = f"the neighbour's AS number is not {first.remote_asn}"
        yield Culprit(
            first.lines["remote-as"], cause, f"device's speaker: {error}", "Write remote-as with the connection's ASN"
        )


def _bad_as(*errors: str | None) -> str | None:
    return next((error for error in errors if error and "NOTIFICATION 2/2" in error), None)


def _password(device: Running, facts: Facts) -> Iterator[Culprit]:
    """A signed segment that the other end does not expect is dropped in silence: only the kernels' counters tell (RFC 2385)."""
    for each in by_the_tunnel(device)[:1]:
        if facts.up and not facts.session and each.key is not None:
            said = facts.device_bgp.waiting or facts.cloud_bgp.waiting or "no answer to the TCP connection attempt"
            cause = f"the session with {each.address} is signed with a key, the cloud's is not answered"
            yield Culprit(
                each.lines["password"], cause, f"speaker: {said}", f"Write no neighbor {each.address} password"
            )


def _callers(device: Running, facts: Facts) -> Iterator[Culprit]:
    """Who was called by somebody that it does not know?"""
    if not facts.up or facts.session:
        return
    inner = device.value("address")
    for address in facts.cloud_bgp.refused:
        if inner is not None and address == str(inner.ip):
            said = f"cloud's speaker: no neighbour of the address {address} is configured"
            cause = f"the device calls from {address}, which the cloud does not expect"
            yield Culprit(
                device.lines["tunnel.address"], cause, said, "Write ip address with the tunnel block's other host"
            )
    for address in facts.device_bgp.refused:
        yield from _unknown_neighbor(device, address)


def _unknown_neighbor(device: Running, address: str) -> Iterator[Culprit]:
    said = f"device's speaker: no neighbour of the address {address} is configured and started"
    passive = next((each for each in device.neighbors if each.address == address), None)
    if passive is not None:
        if passive.remote_asn is None or passive.active or "shutdown" in passive.lines:
            if passive.remote_asn is None:
                yield Culprit(
                    None, f"neighbor {address} has no remote-as", said, f"Write neighbor {address} remote-as ASN"
                )
            return
        yield Culprit(
            passive.lines.get("activate"),
            f"neighbor {address} is not activated",
            said,
            f"Write neighbor {address} activate",
        )
        return
    line = _neighbor_line(by_the_tunnel(device))
    yield Culprit(
        line,
        f"the cloud calls from {address}, which is no neighbour here",
        said,
        f"Write neighbor {address} remote-as ASN",
    )


def _neighbor_line(neighbors: Sequence[BgpNeighbor]) -> int | None:
    return neighbors[0].lines["address"] if neighbors else None


def _no_call(device: Running, facts: Facts) -> Iterator[Culprit]:
    """Nobody heard a call: the address that the cloud calls is not the tunnel's."""
    if not facts.up or facts.session or device.asn is None or "tunnel.address" not in device.lines:
        return
    inner = device.value("address")
    tail = facts.cloud_bgp.waiting or f"session {facts.cloud_bgp.state}"
    cause = f"the cloud's calls do not arrive at {inner}"
    yield Culprit(
        device.lines["tunnel.address"],
        cause,
        f"cloud's speaker: {tail}",
        "Write ip address with the tunnel block's other host",
    )


# --------------------------------------------------------------------------------------------------------------- routes, clients


def _networks(device: Running, facts: Facts) -> Iterator[Culprit]:
    line: int | None
    if not facts.session:
        return
    named = {block: line for block, line in _named_networks(device).items() if block not in facts.learned}
    for block in facts.missing:
        said = f"cloud's BGP table: no route to {block}"
        network = IPv4Network(block)
        if block in named and block not in device.networks:
            line = named[block]
            cause = f"network {block} has no route of exactly that prefix, so it is not announced"
            route = next(
                (way for way in device.ways if IPv4Network(way.prefix).overlaps(network) and way.prefix != "0.0.0.0/0"),
                None,
            )
            if route is not None:
                line, cause = route.line, f"{cause}; this route is to {route.prefix}"
            elif (stray := _stray_way(device)) is not None:
                line, cause = stray, f"{cause}; this route leads elsewhere"
            yield Culprit(
                line, cause, said, f"Write route {device.inside} {network.network_address} {network.netmask} NEXT-HOP"
            )
            continue
        near = [each for each in named if IPv4Network(each).overlaps(network)] or [
            each for each in named if each not in facts.missing
        ]
        line = named.get(near[0]) if near else None
        cause = f"the clients of {block} are not announced" + (f", {near[0]} is" if near else "")
        yield Culprit(line, cause, said, f"Write network {network.network_address} mask {network.netmask}")


def _named_networks(device: Running) -> dict[str, int]:
    return {key.partition(" ")[2]: line for key, line in device.lines.items() if key.startswith("network ")}


def _stray_way(device: Running) -> int | None:
    """The only inner route that no network statement goes with."""
    named = _named_networks(device)
    stray = [way.line for way in device.ways if way.nameif == device.inside and way.prefix not in named]
    return stray[0] if len(stray) == 1 else None


def _inside(device: Running, facts: Facts) -> Iterator[Culprit]:
    """All clients, or the data-centre router itself, do not answer: the inner interface."""
    port = device.ports.get(device.inside or "")
    if port is None:
        return
    if not port.up:
        said = f"device: no client of {', '.join(facts.unreached)} answers"
        yield Culprit(port.lines["up"], f"interface {port.name} is shut down", said, "Write no shutdown")
    elif not facts.inner and "address" in port.lines and facts.unresolved.isdisjoint(facts.unreached.values()):
        said = "data-centre router: its session with the device is not Established"
        cause = f"the data centre does not know {port.address}"
        yield Culprit(
            port.lines["address"], cause, said, "Give the interface the address that the data centre sends to"
        )


def _clients(device: Running, facts: Facts) -> Iterator[Culprit]:
    for block, gateway in facts.unreached.items():
        way = next((each for each in device.ways if each.prefix == block), None)
        covering = [each for each in device.ways if IPv4Network(each.prefix).supernet_of(IPv4Network(block))]
        way = way or max(covering, key=lambda each: IPv4Network(each.prefix).prefixlen, default=None)
        tail = f"the next hop {gateway} answers no ARP request" if gateway in facts.unresolved else "no answer"
        said = f"device's kernel: {tail}"
        line = None if way is None else way.line
        cause = f"no client of {block} answers" + ("" if way is None else f" by {way.gateway} on {way.nameif}")
        yield Culprit(line, cause, said, f"Write a route to {block} with the next hop towards the clients")


_STAGES: tuple[tuple[Question, ...], ...] = (
    (_shut, _not_listening, _source, _ike, _esp, _authentication, _stranger, _way_out, _nobody_there),
    (_pfs,),
    (_bgp, _password, _callers, _no_call),
    (_networks, _inside, _clients),
)
"""The questions of each stage, in order; the first with an answer ends its stage, a stage with answers ends the inquiry."""
