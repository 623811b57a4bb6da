"""Packet filters against the running kernel: its verdict on real packets is that of the rules, and it says what it refused."""

from __future__ import annotations

import random
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import pytest

from harness.cloud.security_groups import first_match
from harness.net import rtnl
from harness.net.namespace import Namespace
from harness.net.packet_filter import FilterError, Refused, load, refused
from harness.net.rtnl import Rtnl
from harness.plan import FilterRule, PacketFilter

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") is None,
        reason="nft is not installed; apt install nftables",
    ),
]

SENDERS = ("10.9.0.1", "10.9.0.2", "10.9.1.1")
INSTANCE = "10.9.2.1"
PORTS = (7001, 7002, 7003)
PROTOCOLS: tuple[Literal["all", "udp", "tcp", "icmp", "gre"], ...] = ("all", "udp", "tcp", "icmp", "gre")


@contextmanager
def walled() -> Iterator[tuple[Namespace, Namespace]]:
    """A sender with several addresses and an instance, joined by a cable."""
    with Namespace.create("sender") as a, Namespace.create("instance") as b, Rtnl(a) as left, Rtnl(b) as right:
        left.transact([rtnl.veth("eth0", "eth0", b.fd, ifindex=5, peer_ifindex=7)])
        for side, index, addresses in ((left, 5, SENDERS), (right, 7, (INSTANCE,))):
            side.transact([rtnl.link_set(1, up=True), rtnl.link_set(index, up=True)])
            side.transact([rtnl.address(index, f"{address}/16") for address in addresses])
        right.transact([rtnl.link_get(7)])
        yield a, b


@contextmanager
def servers(instance: Namespace) -> Iterator[dict[int, socket.socket]]:
    with ExitStack() as stack:
        made = {}
        for port in PORTS:
            made[port] = stack.enter_context(instance.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made[port].bind((INSTANCE, port))
            made[port].settimeout(5)
        yield made


def send(sender: Namespace, source: str, port: int) -> None:
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind((source, 0))
        end.sendto(f"{source} {port}".encode(), (INSTANCE, port))


def account(instance: Namespace, expected: list[Refused]) -> list[Refused]:
    """What was refused, read until it is as much as expected or five seconds are over."""
    deadline = time.monotonic() + 5
    while True:
        rows = refused(instance)
        if len(rows) >= len(expected) or time.monotonic() > deadline:
            return rows


def drawn(generator: random.Random) -> PacketFilter:
    def rule() -> FilterRule:
        protocol = generator.choice(PROTOCOLS)
        ports: tuple[int, ...] = ()
        if protocol in ("udp", "tcp") and generator.random() < 0.6:
            ports = tuple(sorted(generator.choices(PORTS, k=2)))
        source = generator.choice(("10.9.0.0/16", "10.9.0.0/24", "10.9.0.2/32", "10.9.1.0/24", "0.0.0.0/0", "fd00::/8"))
        return FilterRule(generator.choice(("accept", "drop")), source, protocol, ports)

    return PacketFilter("drawn", tuple(rule() for _ in range(generator.randrange(5))))


@pytest.mark.spec("ECMP-42")
def test_the_kernel_decides_as_the_rules_say() -> None:
    """Sixty drawn filters, every source and port: what is accepted arrives, and exactly the rest is in the kernel's account."""
    generator = random.Random(42)
    with walled() as (sender, instance), servers(instance) as listening:
        for wall in [None, *(drawn(generator) for _ in range(60)), None]:
            load(instance, wall)
            kept_out = []
            for source in SENDERS:
                for port in PORTS:
                    rule = None if wall is None else first_match(wall, source, "udp", port)
                    send(sender, source, port)
                    if wall is None or (rule is not None and rule.action == "accept"):
                        assert listening[port].recv(64).decode() == f"{source} {port}", wall
                    else:
                        kept_out.append(Refused(source, "udp", port, 1))
            if wall is not None:
                assert sorted(account(instance, kept_out), key=str) == sorted(kept_out, key=str), wall


@pytest.mark.spec("ECMP-42")
def test_answers_come_in_and_a_rule_that_goes_ends_what_it_let_in() -> None:
    """What the instance begins is answered under any filter; what was let in ends with its rule."""
    with walled() as (sender, instance):
        load(instance, PacketFilter("closed"))
        with (
            sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside,
            instance.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside,
        ):
            outside.bind((SENDERS[0], 7000))
            inside.bind((INSTANCE, 7000))
            outside.settimeout(5)
            inside.settimeout(5)
            inside.sendto(b"question", (SENDERS[0], 7000))
            _, whence = outside.recvfrom(64)
            outside.sendto(b"answer", whence)
            assert inside.recv(64) == b"answer"

        load(instance, PacketFilter("open", (FilterRule("accept", "10.9.0.0/24"),)))
        with (
            sender.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
            instance.socket(socket.AF_INET, socket.SOCK_STREAM) as server,
        ):
            server.bind((INSTANCE, 7001))
            server.listen()
            client.bind((SENDERS[0], 0))
            client.connect((INSTANCE, 7001))
            taken, _ = server.accept()
            with taken:
                client.send(b"one")
                assert taken.recv(8) == b"one"
                load(instance, PacketFilter("closed"))
                client.send(b"two")
                taken.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    taken.recv(8)
                assert {(row.source, row.protocol, row.port) for row in refused(instance)} == {
                    (SENDERS[0], "tcp", 7001)
                }


@pytest.mark.spec("ECMP-42")
def test_a_filter_is_replaced_as_a_whole_or_not_at_all() -> None:
    """A ruleset that the kernel refuses changes nothing, and the node is named."""
    with walled() as (sender, instance):
        load(instance, PacketFilter("closed"))
        wrong = PacketFilter("wrong", (FilterRule("accept", "10.9.0.0/24", "tcp", (9, 1)),))
        with pytest.raises(FilterError, match="instance: nft refuses"):
            load(instance, wrong)
        send(sender, SENDERS[0], PORTS[0])
        kept_out = [Refused(SENDERS[0], "udp", PORTS[0], 1)]
        assert account(instance, kept_out) == kept_out
