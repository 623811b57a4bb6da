"""The flows of a load test, as pure data: thousands of conversations between clients' addresses and one server.

A flow is a 5-tuple seen from the client; both its ends send, so a set of 3,000 is 3,000 flows in each direction, and each direction is
hashed by other routers and takes its own tunnel (ECMP-23). A set is made from a :class:`FlowSpec` alone: the same spec makes the
same flows in every process, so a few words describe thousands of flows on a control socket. IPv4.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import random
import socket
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import Any


class Direction(StrEnum):
    """Named by where the packets go: to the VPC (sent by the client) or to the data centre (sent by the server)."""

    TO_VPC = "to-vpc"
    TO_DC = "to-dc"


class Protocol(IntEnum):
    """IANA protocol numbers."""

    TCP = 6
    UDP = 17


class FlowSpecError(ValueError):
    """The flows asked for cannot be made: the text names what is short and what to change."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One conversation. ``id`` is its place in the set; ``client_port`` and ``server_port`` are UDP's or TCP's."""

    id: int
    protocol: Protocol
    client: str
    client_port: int
    server: str
    server_port: int

    def tuple_of(self, direction: Direction) -> tuple[Protocol, str, int, str, int]:
        """(protocol, source, source port, destination, destination port) of the packets that go in ``direction``."""
        if direction is Direction.TO_VPC:
            return self.protocol, self.client, self.client_port, self.server, self.server_port
        return self.protocol, self.server, self.server_port, self.client, self.client_port

    def key(self, direction: Direction) -> bytes:
        """12 octets as they stand in a packet from the IPv4 source address to the destination port (no IP options)."""
        _protocol, source, source_port, destination, destination_port = self.tuple_of(direction)
        ports = struct.pack("!HH", source_port, destination_port)
        return socket.inet_aton(source) + socket.inet_aton(destination) + ports


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """What a :class:`FlowSet` is made from.

    ``blocks`` are the clients' prefixes; of each, the host numbers ``hosts`` (first, last) send. With the default one local
    route, ``192.168.N.128/25``, makes all of them addresses of the client's node. Ports are a base and a count.
    """

    blocks: tuple[str, ...]
    server: str
    udp: int = 2700
    tcp: int = 300
    seed: int = 1
    hosts: tuple[int, int] = (128, 227)
    client_ports: tuple[int, int] = (20_000, 64)
    server_ports: tuple[int, int] = (7_000, 16)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> FlowSpec:
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return FlowSpec(**fields)


class FlowSet:
    """All flows of a spec, in an order shuffled by its seed, so that neighbours in time are not neighbours in address."""

    def __init__(self, spec: FlowSpec) -> None:
        self.spec = spec
        self.flows: tuple[Flow, ...] = tuple(_draw(spec))

    def __len__(self) -> int:
        return len(self.flows)

    def __iter__(self) -> Iterator[Flow]:
        return iter(self.flows)

    def __getitem__(self, number: int) -> Flow:
        return self.flows[number]

    def within(self, blocks: Iterable[str]) -> tuple[Flow, ...]:
        """The flows whose client lives in one of ``blocks``."""
        networks = [ipaddress.IPv4Network(block) for block in blocks]
        inside = {
            client: any(ipaddress.IPv4Address(client) in network for network in networks)
            for client in {flow.client for flow in self.flows}
        }
        return tuple(flow for flow in self.flows if inside[flow.client])

    @cached_property
    def keys(self) -> Mapping[int, Mapping[bytes, int]]:
        """protocol -> {packet key -> 2 x flow id, plus 1 for packets to the data centre}: how a meter finds a packet's flow."""
        found: dict[int, dict[bytes, int]] = {Protocol.TCP: {}, Protocol.UDP: {}}
        for flow in self.flows:
            found[flow.protocol][flow.key(Direction.TO_VPC)] = flow.id << 1
            found[flow.protocol][flow.key(Direction.TO_DC)] = flow.id << 1 | 1
        return found

    @cached_property
    def digest(self) -> int:
        """A checksum of all 5-tuples: two processes that agree on it mean the same flows."""
        lines = (repr((f.protocol.value, f.client, f.client_port, f.server, f.server_port)) for f in self.flows)
        return zlib.crc32("\n".join(lines).encode())


def _draw(spec: FlowSpec) -> Iterator[Flow]:
    first, last = spec.hosts
    clients = [
        str(ipaddress.IPv4Network(block)[host])
        for block in spec.blocks
        for host in range(first, min(last, ipaddress.IPv4Network(block).num_addresses - 2) + 1)
    ]
    (client_base, client_ports), (server_base, server_ports) = spec.client_ports, spec.server_ports
    room = len(clients) * client_ports
    for protocol, wanted, most in (
        # A TCP client end is bound by address and port, so each is used once.
        (Protocol.TCP, spec.tcp, room),
        (Protocol.UDP, spec.udp, room * server_ports),
    ):
        if wanted > most:
            raise FlowSpecError(
                f"{wanted} {protocol.name} flows were asked for, but {len(clients)} client addresses and the ports given make {most}; "
                f"give more hosts or ports"
            )
    chance = random.Random(spec.seed)
    ends: list[tuple[Protocol, int]] = [
        (Protocol.TCP, end * server_ports + chance.randrange(server_ports))
        for end in chance.sample(range(room), spec.tcp)
    ]
    ends += [(Protocol.UDP, end) for end in chance.sample(range(room * server_ports), spec.udp)]
    chance.shuffle(ends)
    for number, (protocol, end) in enumerate(ends):
        client, ports = divmod(end, client_ports * server_ports)
        client_port, server_port = divmod(ports, server_ports)
        yield Flow(number, protocol, clients[client], client_base + client_port, spec.server, server_base + server_port)
