"""From an understood ASA text to a gateway device of the lab: which sections serve the tunnel, and the line of each value.

What the text lacks is named, all of it at once. A device that would not fit the cloud's side is still a device: ``check`` says
what does not fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from harness.asa import words
from harness.asa.config import AsaConfig, Key, Kind, Remark, Section, Value, Weight
from harness.cloud.ends import TunnelEnd
from harness.cloud.resources import GatewayDevice
from harness.plan import Esp, Ike

_ASA_CHILD_LIFETIME = 28800
_ASA_IKE_LIFETIME = 86400


class NotADevice(ValueError):
    """The text makes no device that could have a tunnel. ``remarks`` has every reason, each with its line where it has one."""

    def __init__(self, remarks: tuple[Remark, ...]) -> None:
        self.remarks = remarks
        super().__init__("\n".join(map(str, remarks)))


@dataclass(frozen=True, slots=True)
class AsaDevice:
    """A device as read. ``lines``: by field of :class:`GatewayDevice` (``ike.dh_group``, ``networks 10.0.0.0/8``) its line."""

    device: GatewayDevice
    lan: str
    lines: Mapping[str, int]
    keys: Mapping[str, Key] = field(repr=False)
    remarks: tuple[Remark, ...] = ()


def read_device(config: AsaConfig, name: str, towards: TunnelEnd | None = None) -> AsaDevice:
    """The device that has the tunnel to the cloud.

    Where a text has several tunnels, or offers several algorithms, ``towards`` decides: the tunnel to its address, and its
    algorithms where they are among those offered. Without it the only tunnel and the first of each are taken.
    Raises NotADevice.
    """
    return _Finder(config, name, towards).device()


class _Finder:
    def __init__(self, config: AsaConfig, name: str, towards: TunnelEnd | None) -> None:
        self._config, self._name, self._towards = config, name, towards
        self._remarks = list(config.remarks)
        self._lines: dict[str, int] = {}

    def device(self) -> AsaDevice:
        tunnel = self._tunnel()
        source = self._value(tunnel, "source", "tunnel source interface NAMEIF")
        cloud = self._value(tunnel, "destination", "tunnel destination ADDRESS", "gateway_address")
        inner = self._value(tunnel, "address", "ip address ADDRESS 255.255.255.252", "tunnel_address")
        self._value(tunnel, "mode", "tunnel mode ipsec ipv4")
        self._up(tunnel)
        outside = self._interface(source, tunnel, "source")
        public = self._value(outside, "address", "ip address ADDRESS 255.255.255.255", "public_address")
        self._up(outside)
        if source is not None and source not in self._config.of(Kind.IKEV2_ENABLE):
            self._missing(f"IKEv2 is not enabled on {source}", f"Add crypto ikev2 enable {source}")
        ike, esp = self._ike(), self._esp(tunnel)
        keys = self._keys(cloud)
        provider = self._way_out(source, cloud)
        asn, neighbor, neighbor_asn, hops = self._bgp(inner)
        networks = tuple(self._config.of(Kind.NETWORK))
        for block, section in self._config.of(Kind.NETWORK).items():
            self._lines[f"networks {block}"] = section.line
        if not networks:
            self._missing("no network is announced", "Add network ADDRESS mask MASK under address-family ipv4")
        inside, clients = self._way_in(source, networks)
        private = self._value(inside, "address", "ip address ADDRESS MASK", "private_address")
        self._up(inside)
        if any(remark.weight is Weight.ERROR for remark in self._remarks):
            raise NotADevice(tuple(self._remarks))
        device = GatewayDevice(
            name=self._name,
            public_address=str(public.ip),
            provider_next_hop=provider,
            private_address=str(private.ip),
            clients_next_hop=clients,
            gateway_address=cloud,
            tunnel_address=str(inner),
            neighbor=neighbor,
            key=self._one_key(keys).reveal(),
            asn=asn,
            neighbor_asn=neighbor_asn,
            networks=networks,
            ike=ike,
            esp=esp,
            ebgp_multihop=hops,
        )
        return AsaDevice(device, str(private.network), self._lines, keys, tuple(self._remarks))

    # --------------------------------------------------------------------------------------------------------------- sections

    def _tunnel(self) -> Section | None:
        tunnels = [
            section
            for section in self._config.of(Kind.INTERFACE).values()
            if section.name.startswith("Tunnel") or "destination" in section.values
        ]
        if self._towards is not None:
            gateway = self._towards.gateway_address
            fitting = [each for each in tunnels if each.values.get("destination", Value(None, 0)).value == gateway]
            tunnels = fitting or tunnels
        if not tunnels:
            self._missing(
                "no tunnel interface", "Add interface Tunnel1 with its address, source, destination and profile"
            )
        elif len(tunnels) > 1:
            names = ", ".join(f"{section.name} (line {section.line})" for section in tunnels)
            self._say(tunnels[1].line, f"several tunnels: {names}", "Say which IPsec connection is meant")
        return tunnels[0] if tunnels else None

    def _interface(self, nameif: str | None, tunnel: Section | None, what: str) -> Section | None:
        if nameif is None or tunnel is None:
            return None
        found = self._named(nameif)
        if found is None:
            rule = f"no interface has the nameif {nameif}"
            self._say(tunnel.values[what].line, rule, f"Give nameif {nameif} to the interface to the internet")
        return found

    def _named(self, nameif: str) -> Section | None:
        for section in self._config.of(Kind.INTERFACE).values():
            if section.values.get("nameif", Value("", 0)).value == nameif:
                return section
        return None

    def _up(self, section: Section | None) -> None:
        if section is not None and not section.values.get("up", Value(True, 0)).value:
            self._say(section.values["up"].line, f"interface {section.name} is shut down", "Write no shutdown")

    # ------------------------------------------------------------------------------------------------------------------ IPsec

    def _ike(self) -> Ike:
        policies = sorted(self._config.of(Kind.IKEV2_POLICY).values(), key=lambda each: int(each.name))
        if not policies:
            self._missing(
                "no IKEv2 policy", "Add crypto ikev2 policy 10 with encryption, integrity, group, prf and lifetime"
            )
        wanted = self._towards.ike if self._towards else None
        first: tuple[Ike, dict[str, int]] | None = None
        for policy in policies:
            for ike, lines in self._offers(policy):
                first = first or (ike, lines)
                if wanted is not None and _algorithms(ike) == _algorithms(wanted):
                    self._lines.update(lines)
                    return ike
        if first is None:
            return Ike()
        self._lines.update(first[1])
        return first[0]

    def _offers(self, policy: Section) -> Iterator[tuple[Ike, dict[str, int]]]:
        """Every combination that a policy offers, in its order."""
        columns = []
        lines = {}
        for stored, where, table in (
            ("encryption", "ike.encryption", words.ENCRYPTION),
            ("integrity", "ike.integrity", words.INTEGRITY),
            ("prf", "ike.prf", words.INTEGRITY),
            ("group", "ike.dh_group", words.GROUP),
        ):
            columns.append(self._algorithm(policy, stored, table))
            if stored in policy.values:
                lines[where] = policy.values[stored].line
        lifetime = policy.values.get("lifetime", Value(_ASA_IKE_LIFETIME, 0))
        if lifetime.line:
            lines["ike.lifetime"] = lifetime.line
        for encryption, integrity, prf, group in itertools.product(*columns):
            yield Ike(encryption, integrity, prf, group, lifetime.value), lines

    def _esp(self, tunnel: Section | None) -> Esp:
        name = self._value(tunnel, "profile", "tunnel protection ipsec profile NAME")
        if name is None or tunnel is None:
            return Esp()
        profile = self._config.of(Kind.IPSEC_PROFILE).get(name)
        if profile is None:
            line = tunnel.values["profile"].line
            self._say(line, f"there is no crypto ipsec profile {name}", "Add it, or name one that is there")
            return Esp()
        proposals = self._value(profile, "proposal", "set ikev2 ipsec-proposal NAME") or ()
        offers = []
        pfs = self._algorithm(profile, "pfs", words.PFS)[0] if "pfs" in profile.values else None
        seconds = profile.values.get("seconds", Value(_ASA_CHILD_LIFETIME, 0))
        for each in proposals:
            proposal = self._config.of(Kind.IPSEC_PROPOSAL).get(each)
            if proposal is None:
                line = profile.values["proposal"].line
                self._say(line, f"there is no ipsec-proposal {each}", "Add it, or name one that is there")
                continue
            lines = {f"esp.{stored}": value.line for stored, value in proposal.values.items()}
            ciphers = self._algorithm(proposal, "encryption", words.ENCRYPTION)
            integrities = self._algorithm(proposal, "integrity", words.ESP_INTEGRITY)
            offers += [
                (Esp(*chosen, pfs=pfs, lifetime=seconds.value), lines)
                for chosen in itertools.product(ciphers, integrities)
            ]
        wanted = self._towards.esp if self._towards else None
        fitting = [
            offer
            for offer in offers
            if wanted and (offer[0].encryption, offer[0].integrity) == (wanted.encryption, wanted.integrity)
        ]
        esp, lines = (fitting or offers or [(Esp(), {})])[0]
        self._lines.update(lines)
        for stored, where in (("pfs", "esp.pfs"), ("seconds", "esp.lifetime")):
            if stored in profile.values:
                self._lines[where] = profile.values[stored].line
        self._traffic_lifetime(profile)
        self._identity(profile)
        return esp

    def _traffic_lifetime(self, profile: Section) -> None:
        limit = profile.values.get("kilobytes")
        if limit is None or limit.value is not None:
            rule = "the SA is rekeyed by traffic too, the cloud has no traffic-based lifetime"
            remedy = "Write set security-association lifetime kilobytes unlimited"
            self._remarks.append(Remark(limit.line if limit else None, rule, remedy, Weight.NOTE))

    def _identity(self, profile: Section) -> None:
        identity = profile.values.get("local-identity")
        if identity is not None and identity.value != "address":
            rule = "the device names itself by its host name, the cloud by address (AUTHENTICATION_FAILED)"
            self._say(identity.line, rule, "Write set ikev2 local-identity address")

    def _algorithm(self, section: Section, stored: str, table: Mapping[str, str | None]) -> list[str]:
        """The documents' words for what is offered; a word that the console lacks is an error if it is the only one."""
        value = section.values.get(stored)
        if value is None:
            self._missing(f"{section} has no {stored} that can be read", f"Add its {stored}")
            return ["?"]
        known = [word for each in value.value if (word := table[each]) is not None]
        if not known:
            rule = f"{stored} {' '.join(value.value)} is nothing that the console offers"
            remedy = f"Use one of {', '.join(word for word, meaning in table.items() if meaning)}"
            self._say(value.line, rule, remedy)
            return ["?"]
        return known

    def _keys(self, cloud: str | None) -> dict[str, Key]:
        if cloud is None:
            return {}
        group = self._config.of(Kind.TUNNEL_GROUP).get(cloud)
        if group is None:
            others = list(self._config.of(Kind.TUNNEL_GROUP).values())
            line = others[0].line if len(others) == 1 else None
            rule = f"no tunnel-group {cloud} for the tunnel's destination"
            self._say(line, rule, f"Name the tunnel-group {cloud}")
            return {}
        self._value(group, "type", f"tunnel-group {cloud} type ipsec-l2l")
        found = {}
        for side in ("remote", "local"):
            command = f"ikev2 {side}-authentication pre-shared-key KEY"
            value = self._value(group, f"{side}-key", command, f"{side}-key")
            if value is not None:
                found[side] = value
        return found

    def _one_key(self, keys: Mapping[str, Key]) -> Key:
        """A tunnel of the lab has one key. Where the two differ, the one that the cloud does not have decides: it fails with it."""
        local, remote = keys["local"], keys["remote"]
        chosen = remote if self._towards is not None and local.reveal() == self._towards.key else local
        self._lines["key"] = self._lines["remote-key" if chosen is remote else "local-key"]
        return chosen

    # ---------------------------------------------------------------------------------------------------------- routes and BGP

    def _way_out(self, source: str | None, cloud: str | None) -> str:
        if source is None or cloud is None:
            return ""
        found = [
            (IPv4Network(route.value["prefix"]).prefixlen, route)
            for route in self._routes()
            if route.value["nameif"] == source and IPv4Address(cloud) in IPv4Network(route.value["prefix"])
        ]
        if not found:
            command = f"route {source} {cloud} 255.255.255.255 PROVIDER"
            self._missing(f"no route by {source} to the cloud's gateway {cloud}", f"Add {command}")
            return ""
        _, best = max(found, key=lambda each: each[0])
        self._lines["provider_next_hop"] = best.line
        return str(best.value["gateway"])

    def _way_in(self, source: str | None, networks: tuple[str, ...]) -> tuple[Section | None, str]:
        """The interface to the clients and the next hop there. An ASA announces a network only if it has its route."""
        hops: list[Value] = []
        for block in networks:
            routes = [
                each for each in self._routes() if each.value["nameif"] != source and each.value["prefix"] == block
            ]
            if not routes:
                network = IPv4Network(block)
                command = f"route NAMEIF {network.network_address} {network.netmask} NEXT-HOP"
                line = self._lines[f"networks {block}"]
                self._say(line, f"network {block} has no route, so it is not announced", f"Add {command}")
            hops += routes
        if not hops:
            return None, ""
        first = hops[0]
        for other in hops[1:]:
            if other.value["gateway"] != first.value["gateway"]:
                rule = f"next hop {other.value['gateway']} differs from {first.value['gateway']} of line {first.line}"
                self._say(other.line, rule, "Send all client blocks to one next hop")
        self._lines["clients_next_hop"] = first.line
        section = self._named(first.value["nameif"])
        if section is None:
            nameif = first.value["nameif"]
            self._say(
                first.line, f"no interface has the nameif {nameif}", f"Give nameif {nameif} to the inner interface"
            )
        elif (own := section.values.get("address")) is not None:
            lan: IPv4Interface = own.value
            if IPv4Address(first.value["gateway"]) not in lan.network:
                rule = f"next hop {first.value['gateway']} is not in {lan.network} of {section.name} (line {own.line})"
                self._say(first.line, rule, "Name a next hop of that network")
        return section, str(first.value["gateway"])

    def _routes(self) -> list[Value]:
        return [section.values["route"] for section in self._config.of(Kind.ROUTE).values()]

    def _bgp(self, inner: IPv4Interface | None) -> tuple[int, str, int, int]:
        processes = list(self._config.of(Kind.BGP).values())
        if not processes:
            self._missing("no router bgp", "Add router bgp ASN with address-family ipv4 unicast")
            return 0, "", 0, 1
        self._lines["asn"] = processes[0].line
        for second in processes[1:]:
            rule = f"router bgp {second.name} beside router bgp {processes[0].name} of line {processes[0].line}"
            self._say(second.line, rule, "Keep one: an ASA has one AS number")
        neighbors = list(self._config.of(Kind.NEIGHBOR).values())
        within = [each for each in neighbors if inner is not None and IPv4Address(each.name) in inner.network]
        if not neighbors:
            self._missing("no BGP neighbour", "Add neighbor ADDRESS remote-as ASN")
            return int(processes[0].name), "", 0, 1
        chosen = (within or neighbors)[0]
        self._lines["neighbor"] = chosen.line
        remote = self._value(chosen, "remote-as", f"neighbor {chosen.name} remote-as ASN", "neighbor_asn")
        activated = chosen.values.get("activate", Value(False, 0))
        if not activated.value:
            rule, remedy = f"neighbor {chosen.name} is not activated", f"Add neighbor {chosen.name} activate"
            self._say(activated.line or None, rule, remedy)
        hops = chosen.values.get("ebgp-multihop", Value(1, 0))
        if hops.line:
            self._lines["ebgp_multihop"] = hops.line
        return int(processes[0].name), chosen.name, remote or 0, hops.value

    # ------------------------------------------------------------------------------------------------------------------ values

    def _value(self, section: Section | None, stored: str, command: str, where: str = "") -> Any:
        if section is None:
            return None
        value = section.values.get(stored)
        if value is None:
            self._missing(f"{section} (line {section.line}) has no {command.split(' NAME')[0]!r}", f"Add {command}")
            return None
        if where:
            self._lines[where] = value.line
        return value.value

    def _missing(self, rule: str, remedy: str) -> None:
        self._say(None, rule, remedy)

    def _say(self, line: int | None, rule: str, remedy: str) -> None:
        if line is None:
            line = self._config.who_took_back(remedy)
        remark = Remark(line, rule, remedy)
        if remark not in self._remarks:
            self._remarks.append(remark)


def _algorithms(ike: Ike) -> tuple[str, ...]:
    return ike.encryption, ike.integrity, ike.prf, ike.dh_group
