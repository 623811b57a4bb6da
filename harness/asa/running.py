"""What a device does with an ASA text: its ports, ways, proposals, keys and neighbours as the text has them, right or wrong.

Nothing is held against the cloud here and nothing is put right: a command that names what is not there is listed as a fault, as the
device would refuse it or leave it without effect, and the rest stands. Each value keeps its line, by which the reasons of a
running device lead back to the text. Not here: the lab that runs it (``harness.proving``).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from harness.asa import words
from harness.asa.config import AsaConfig, Key, Kind, Remark, Section, Value
from harness.plan import Esp, Ike

#: What an IKEv2 policy has without a command (Cisco ASA command reference, "crypto ikev2 policy").
POLICY_DEFAULTS: Mapping[str, tuple[str, ...]] = {"integrity": ("sha",), "prf": ("sha",), "group": ("14",)}
_IKE_LIFETIME, _CHILD_LIFETIME = 86400, 28800
RESERVED_ASNS: Mapping[int, str] = {
    23456: "it stands for 4-octet ASNs (RFC 6793)",
    65535: "RFC 7300",
    4294967295: "RFC 7300",
}
"""AS numbers that no speaker may call its own."""


@dataclass(frozen=True, slots=True)
class Port:
    """A named interface. ``lines`` has those of "nameif", "address" and "up", as far as there are."""

    nameif: str
    name: str
    line: int
    address: IPv4Interface | None
    up: bool
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Way:
    """A static route, by the nameif it leaves from."""

    prefix: str
    gateway: str
    nameif: str
    metric: int
    line: int


@dataclass(frozen=True, slots=True)
class IkeOffer:
    """One combination of an IKEv2 policy; ``lines`` by the words of :class:`harness.plan.Ike`."""

    ike: Ike
    lines: Mapping[str, int]
    section: int


@dataclass(frozen=True, slots=True)
class EspOffer:
    """One combination of an IPsec profile; ``lines`` by the words of :class:`harness.plan.Esp`."""

    esp: Esp
    lines: Mapping[str, int]
    section: int


@dataclass(frozen=True, slots=True)
class BgpNeighbor:
    """A neighbour; ``lines`` has those of "address", "remote-as" and "activate", as far as there are."""

    address: str
    remote_asn: int | None
    active: bool
    hops: int
    lines: Mapping[str, int]
    key: Key | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Running:
    """The device. ``outside`` and ``inside`` are the ports of its two cables; ``faults`` what it refuses or has no effect with."""

    ports: Mapping[str, Port]
    outside: str | None
    inside: str | None
    tunnel: Section | None
    enabled: Mapping[str, int]
    ike: tuple[IkeOffer, ...]
    esp: tuple[EspOffer, ...]
    group: Section | None
    keys: Mapping[str, Value] = field(repr=False)
    ways: tuple[Way, ...] = ()
    asn: Value | None = None
    neighbors: tuple[BgpNeighbor, ...] = ()
    networks: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[Remark, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    identity: str = "address"
    refused: tuple[Remark, ...] = ()

    def value(self, stored: str) -> Any:
        """A value of the tunnel interface; None where the text has none."""
        return None if self.tunnel is None or stored not in self.tunnel.values else self.tunnel.values[stored].value

    @property
    def source(self) -> Port | None:
        """The port that the tunnel starts from."""
        return self.ports.get(self.value("source"))

    @property
    def listens(self) -> bool:
        """Is IKEv2 enabled where the tunnel starts?"""
        return self.value("source") in self.enabled


def running(config: AsaConfig, destination: str | None = None) -> Running:
    """What the text makes. Of several tunnels the one to ``destination``, or else the first, is meant. Never raises for its content."""
    return _Reader(config, destination).result()


class _Reader:
    def __init__(self, config: AsaConfig, destination: str | None) -> None:
        self._config = config
        self._faults = [remark for remark in config.remarks if remark.weight.value == "error"]
        self._lines: dict[str, int] = {}
        self._destination = destination
        self._identity = "address"

    def result(self) -> Running:
        ports = self._ports()
        tunnel = self._tunnel()
        ways = self._ways(ports)
        enabled = {name: section.line for name, section in self._config.of(Kind.IKEV2_ENABLE).items()}
        outside = self._outside(ports, tunnel, ways, enabled)
        inside = self._inside(ports, outside, ways)
        esp = tuple(self._esp(tunnel))
        ike = tuple(self._ike())
        group, keys = self._keys(tunnel)
        self._tunnel_faults(tunnel, ports, enabled)
        asn, neighbors = self._bgp()
        networks = self._networks(ways)
        return Running(
            ports, outside, inside, tunnel, enabled, ike, esp, group, keys, ways, asn, neighbors, networks,
            tuple(sorted(dict.fromkeys(self._faults), key=lambda each: (each.line is None, each.line or 0))), self._lines,
            self._identity, tuple(remark for remark in self._config.remarks if remark.weight.value == "error"),
        )  # fmt: skip

    def _say(self, line: int | None, rule: str, remedy: str) -> None:
        if line is None:
            line = self._config.who_took_back(remedy)
        self._faults.append(Remark(line, rule, remedy))

    def _alike(self, command: str) -> int | None:
        """The line that was not understood and begins like a command that is missing, as "tunnel mode gre ip" does."""
        wanted = [word for word in command.split() if word.islower()][:2]
        for unknown in self._config.unknown:
            given = unknown.text.lower().split()[: len(wanted)]
            if len(given) == len(wanted) and all(a[:3] == b[:3] for a, b in zip(given, wanted, strict=True)):
                return unknown.line
        return None

    # ------------------------------------------------------------------------------------------------------------------ ports

    def _interfaces(self) -> Iterator[Section]:
        yield from self._config.of(Kind.INTERFACE).values()

    @staticmethod
    def _is_tunnel(section: Section) -> bool:
        return section.name.startswith("Tunnel") or "destination" in section.values

    def _ports(self) -> dict[str, Port]:
        found = {}
        for section in self._interfaces():
            if self._is_tunnel(section) or "nameif" not in section.values:
                continue
            values = section.values
            lines: dict[str, int] = {key: values[key].line for key in ("nameif", "address", "up") if key in values}
            address = values["address"].value if "address" in values else None
            up = bool(values.get("up", Value(True, 0)).value)
            nameif = str(values["nameif"].value)
            found[nameif] = Port(nameif, section.name, section.line, address, up, lines)
        return found

    def _tunnel(self) -> Section | None:
        tunnels = [section for section in self._interfaces() if self._is_tunnel(section)]
        if not tunnels:
            self._say(
                None, "no tunnel interface", "Add interface Tunnel1 with its address, source, destination and profile"
            )
            return None
        for section in tunnels:
            if self._destination in (section.values.get("destination", Value(None, 0)).value,):
                return section
        return tunnels[0]

    def _tunnel_faults(self, tunnel: Section | None, ports: Mapping[str, Port], enabled: Mapping[str, int]) -> None:
        if tunnel is None:
            return
        for stored, command in (
            ("address", "ip address ADDRESS 255.255.255.252"),
            ("source", "tunnel source interface NAMEIF"),
            ("destination", "tunnel destination ADDRESS"),
            ("mode", "tunnel mode ipsec ipv4"),
            ("profile", "tunnel protection ipsec profile NAME"),
            ("nameif", "nameif NAME"),
        ):
            if stored not in tunnel.values:
                rule = f"{tunnel} (line {tunnel.line}) has no {command.rpartition(' ')[0]!r}"
                self._say(self._alike(command), rule, f"Write {command}")
            else:
                self._lines[f"tunnel.{stored}"] = tunnel.values[stored].line
        if not tunnel.values.get("up", Value(True, 0)).value:
            self._say(tunnel.values["up"].line, f"interface {tunnel.name} is shut down", "Write no shutdown")
        source = tunnel.values.get("source")
        if source is not None and source.value not in ports:
            self._dangling(source.line, str(source.value), ports)
        elif source is not None and ports[source.value].address is None:
            port = ports[source.value]
            self._say(port.line, f"interface {port.name} has no address", "Add ip address ADDRESS MASK")
        for nameif, line in enabled.items():
            if nameif not in ports:
                self._dangling(line, nameif, ports)

    def _dangling(self, line: int, nameif: str, ports: Mapping[str, Port]) -> None:
        """Commands name an interface that no nameif makes: the one line that stands alone against the others is to blame."""
        named = self._references()
        unused = [port for port in ports.values() if port.nameif not in named]
        if named[nameif] > 1 and len(unused) == 1:
            wrong = unused[0]
            rule = f"interface {wrong.name} is called {wrong.nameif}, {named[nameif]} commands say {nameif} (line {line} ...)"
            self._say(wrong.lines["nameif"], rule, f"Write nameif {nameif}")
        else:
            there = ", ".join(ports) or "none"
            self._say(line, f"no interface has the nameif {nameif}", f"Name one that is there: {there}")

    def _references(self) -> Counter[str]:
        named: Counter[str] = Counter(list(self._config.of(Kind.IKEV2_ENABLE)))
        named.update(str(section.values["route"].value["nameif"]) for section in self._config.of(Kind.ROUTE).values())
        named.update(str(each.values["source"].value) for each in self._interfaces() if "source" in each.values)
        return named

    def _outside(
        self, ports: Mapping[str, Port], tunnel: Section | None, ways: tuple[Way, ...], enabled: Mapping[str, int]
    ) -> str | None:
        """The port of the cable to the internet: what the most commands take for it."""
        votes: Counter[str] = Counter(name for name in enabled if name in ports)
        if tunnel is not None and "source" in tunnel.values and tunnel.values["source"].value in ports:
            votes[str(tunnel.values["source"].value)] += 1
        clouds = [
            section.values["destination"].value for section in self._interfaces() if "destination" in section.values
        ]
        clouds += [name for name in self._config.of(Kind.TUNNEL_GROUP) if name.count(".") == 3]
        for way in ways:
            if way.nameif in ports and any(_holds(way.prefix, each) for each in clouds):
                votes[way.nameif] += 1
        for port in ports.values():
            if port.address is not None and not port.address.ip.is_private:
                votes[port.nameif] += 1
        return max(votes, key=lambda name: votes[name]) if votes else next(iter(ports), None)

    @staticmethod
    def _inside(ports: Mapping[str, Port], outside: str | None, ways: tuple[Way, ...]) -> str | None:
        others = [port for port in ports.values() if port.nameif != outside and port.address is not None]
        used = Counter(way.nameif for way in ways)
        return max(others, key=lambda port: used[port.nameif]).nameif if others else None

    # ------------------------------------------------------------------------------------------------------------------ IPsec

    def _ike(self) -> Iterator[IkeOffer]:
        policies = sorted(self._config.of(Kind.IKEV2_POLICY).values(), key=lambda each: int(each.name))
        if not policies:
            self._say(
                None,
                "no IKEv2 policy",
                "Add crypto ikev2 policy 10 with encryption, integrity, group, prf and lifetime",
            )
        for policy in policies:
            columns: list[list[str]] = []
            lines: dict[str, int] = {}
            for stored, where, table in (
                ("encryption", "encryption", words.ENCRYPTION),
                ("integrity", "integrity", words.INTEGRITY),
                ("prf", "prf", words.INTEGRITY),
                ("group", "dh_group", words.GROUP),
            ):
                value = policy.values.get(stored)
                if value is None and stored not in POLICY_DEFAULTS:
                    self._say(
                        self._alike(stored), f"{policy} (line {policy.line}) has no {stored}", f"Write {stored} WORD"
                    )
                    columns.append([])
                    continue
                columns.append(self._known(value or Value(POLICY_DEFAULTS[stored], 0), table, stored))
                if value is not None:
                    lines[where] = value.line
            lifetime = policy.values.get("lifetime", Value(_IKE_LIFETIME, 0))
            for encryption, integrity, prf, group in itertools.product(*columns):
                yield IkeOffer(Ike(encryption, integrity, prf, group, lifetime.value), lines, policy.line)

    def _known(self, value: Value, table: Mapping[str, str | None], what: str) -> list[str]:
        found = [
            word for each in value.value if (word := table[each] or words.BEYOND_THE_CONSOLE.get(each)) is not None
        ]
        if not found:
            offered = ", ".join(word for word, meaning in table.items() if meaning)
            self._say(
                value.line or None,
                f"{what} {' '.join(value.value)} is nothing that the console offers",
                f"Use one of {offered}",
            )
        return found

    def _esp(self, tunnel: Section | None) -> Iterator[EspOffer]:
        if tunnel is None or "profile" not in tunnel.values:
            return
        name = tunnel.values["profile"]
        profile = self._config.of(Kind.IPSEC_PROFILE).get(name.value)
        if profile is None:
            profiles = list(self._config.of(Kind.IPSEC_PROFILE).values())
            there = ", ".join(f"{each.name} (line {each.line})" for each in profiles) or "none"
            self._say(
                name.line, f"there is no crypto ipsec profile {name.value}; there is {there}", "Give both the same name"
            )
            return
        self._lines["profile"] = profile.line
        if "local-identity" in profile.values:
            self._lines["local-identity"] = profile.values["local-identity"].line
            self._identity = str(profile.values["local-identity"].value)
        given = profile.values.get("proposal")
        if given is None:
            self._say(
                None,
                f"{profile} (line {profile.line}) has no 'set ikev2 ipsec-proposal'",
                "Add set ikev2 ipsec-proposal NAME",
            )
            return
        pfs: list[str | None] = [None]
        if "pfs" in profile.values:
            pfs = [*self._known(profile.values["pfs"], words.PFS, "set pfs")] or [None]
        seconds = profile.values.get("seconds", Value(_CHILD_LIFETIME, 0))
        for each in given.value:
            proposal = self._config.of(Kind.IPSEC_PROPOSAL).get(each)
            if proposal is None:
                there = ", ".join(
                    f"{known} (line {made.line})" for known, made in self._config.of(Kind.IPSEC_PROPOSAL).items()
                )
                self._say(
                    given.line,
                    f"there is no ipsec-proposal {each}; there is {there or 'none'}",
                    "Give both the same name",
                )
                continue
            yield from self._combinations(proposal, profile, pfs, int(seconds.value))

    def _combinations(
        self, proposal: Section, profile: Section, pfs: list[str | None], seconds: int
    ) -> Iterator[EspOffer]:
        lines = {stored: value.line for stored, value in proposal.values.items()}
        if "pfs" in profile.values:
            lines["pfs"] = profile.values["pfs"].line
        columns = []
        for stored, table in (("encryption", words.ENCRYPTION), ("integrity", words.ESP_INTEGRITY)):
            value = proposal.values.get(stored)
            if value is None:
                command = f"protocol esp {stored}"
                rule = f"{proposal} (line {proposal.line}) has no {command!r}"
                self._say(self._alike(command), rule, f"Write {command} WORD")
                return
            columns.append(self._known(value, table, f"protocol esp {stored}"))
        for (encryption, integrity), group in itertools.product(itertools.product(*columns), pfs):
            yield EspOffer(Esp(encryption, integrity, group, seconds), lines, proposal.line)

    def _keys(self, tunnel: Section | None) -> tuple[Section | None, dict[str, Value]]:
        destination = (
            None if tunnel is None or "destination" not in tunnel.values else tunnel.values["destination"].value
        )
        groups = self._config.of(Kind.TUNNEL_GROUP)
        group = groups.get(str(destination))
        if group is None:
            if len(groups) == 1:
                self._lines["other-tunnel-group"] = next(iter(groups.values())).line
            if destination is not None and not groups:
                self._say(
                    None,
                    f"no tunnel-group {destination}",
                    f"Add tunnel-group {destination} type ipsec-l2l and its keys",
                )
            return None, {}
        self._lines["tunnel-group"] = group.line
        if "type" not in group.values:
            others = [each for each in groups.values() if each is not group and "type" in each.values]
            line = others[0].values["type"].line if len(others) == 1 else None
            self._say(line, f"tunnel-group {group.name} has no type", f"Write tunnel-group {group.name} type ipsec-l2l")
            return group, {}
        keys = {side: group.values[f"{side}-key"] for side in ("remote", "local") if f"{side}-key" in group.values}
        for side in ("remote", "local"):
            if side in keys:
                self._lines[f"{side}-key"] = keys[side].line
                continue
            others = [each for each in groups.values() if each is not group and f"{side}-key" in each.values]
            command = f"ikev2 {side}-authentication pre-shared-key KEY"
            if len(others) == 1:
                rule = f"the keys are those of tunnel-group {others[0].name}, the tunnel leads to {destination}"
                line = next((v.line for v in others[0].values.values() if isinstance(v.value, Key)), others[0].line)
                self._say(max(others[0].line, line - 1), rule, f"Write tunnel-group {destination}")
            else:
                rule = f"tunnel-group {group.name} (line {group.line}) has no {side} key"
                self._say(self._alike(command), rule, f"Write {command}")
        return group, keys

    # ---------------------------------------------------------------------------------------------------------- routes and BGP

    def _ways(self, ports: Mapping[str, Port]) -> tuple[Way, ...]:
        found = []
        tunnels = {
            str(each.values["nameif"].value)
            for each in self._interfaces()
            if self._is_tunnel(each) and "nameif" in each.values
        }
        for section in self._config.of(Kind.ROUTE).values():
            made = section.values["route"]
            metric = int(section.name.split()[4]) if len(section.name.split()) > 4 else 1
            nameif = str(made.value["nameif"])
            if nameif not in ports and nameif not in tunnels:
                self._dangling(made.line, nameif, ports)
                continue
            if nameif in ports and ports[nameif].address is None:
                port = ports[nameif]
                self._say(port.line, f"interface {port.name} has no address", "Add ip address ADDRESS MASK")
            found.append(Way(made.value["prefix"], made.value["gateway"], nameif, metric, made.line))
        return tuple(found)

    def _bgp(self) -> tuple[Value | None, tuple[BgpNeighbor, ...]]:
        processes = list(self._config.of(Kind.BGP).values())
        if not processes:
            self._say(None, "no router bgp", "Add router bgp ASN with address-family ipv4 unicast")
            return None, ()
        first = processes[0]
        for second in processes[1:]:
            rule = f"router bgp {second.name} beside router bgp {first.name} of line {first.line}"
            self._say(second.line, rule, "Keep one: an ASA has one AS number")
        if int(first.name) in RESERVED_ASNS:
            rule = f"AS {first.name} is reserved: {RESERVED_ASNS[int(first.name)]}"
            self._say(first.line, rule, "Write router bgp with the customer gateway's ASN")
            return None, ()
        found = []
        for section in self._config.of(Kind.NEIGHBOR).values():
            values = section.values
            lines: dict[str, int] = {
                key: values[key].line
                for key in ("remote-as", "activate", "ebgp-multihop", "password", "shutdown")
                if key in values
            }
            lines["address"] = values["remote-as"].line if "remote-as" in values else section.line
            remote = values.get("remote-as", Value(None, 0)).value
            active = bool(values.get("activate", Value(False, 0)).value) and "shutdown" not in values
            if remote is None:
                self._say(
                    None,
                    f"neighbor {section.name} (line {section.line}) has no remote-as",
                    f"Write neighbor {section.name} remote-as ASN",
                )
            elif "shutdown" in values:
                rule = f"neighbor {section.name} is shut down"
                self._say(lines["shutdown"], rule, f"Write no neighbor {section.name} shutdown")
            elif not active:
                rule = f"neighbor {section.name} is not activated"
                self._say(lines.get("activate"), rule, f"Write neighbor {section.name} activate")
            hops, key = (
                int(values.get("ebgp-multihop", Value(1, 0)).value),
                values.get("password", Value(None, 0)).value,
            )
            found.append(BgpNeighbor(section.name, remote, active, hops, lines, key))
        if not found:
            self._say(None, "no BGP neighbour", "Add neighbor ADDRESS remote-as ASN and neighbor ADDRESS activate")
        return Value(int(first.name), first.line), tuple(found)

    def _networks(self, ways: tuple[Way, ...]) -> dict[str, int]:
        """Those that are announced: an ASA announces a network that it has a route to, exactly."""
        routed = {way.prefix for way in ways}
        found = {}
        for block, section in self._config.of(Kind.NETWORK).items():
            self._lines[f"network {block}"] = section.line
            if block in routed:
                found[block] = section.line
        return found


def _holds(prefix: str, address: str) -> bool:
    try:
        return IPv4Address(address) in IPv4Network(prefix)
    except ValueError:
        return False
