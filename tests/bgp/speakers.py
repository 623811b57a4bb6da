"""The two neighbours that the peer tests are about: AS 65001 at 10.0.0.1 and AS 65002 at 10.0.0.2."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from harness.bgp.messages import KEEPALIVE_WIRE, encode
from harness.bgp.peer_config import PeerConfig
from harness.bgp.signals import Start
from tests.bgp.memory_link import Host, RawHost, World, join

LOW = PeerConfig("high", 65001, 65002, IPv4Address("10.0.0.1"), seed=1)
HIGH = PeerConfig("low", 65002, 65001, IPv4Address("10.0.0.2"), seed=2)


def config(base: PeerConfig, **changes: Any) -> PeerConfig:
    values = {name: getattr(base, name) for name in PeerConfig.__slots__}
    return PeerConfig(**(values | changes))


def pair(world: World, **changes: Any) -> tuple[Host, Host]:
    """Two hosts on one link; ``changes`` go to both configurations."""
    low = Host(world, config(LOW, **changes), "10.0.0.1")
    high = Host(world, config(HIGH, **changes), "10.0.0.2")
    join(low, high)
    return low, high


def start(*hosts: Host) -> None:
    for host in hosts:
        host.feed(Start())


def both_up(low: Host, high: Host) -> bool:
    return low.peer.session is not None and high.peer.session is not None


def raw(upto: str = "OpenSent", **changes: Any) -> RawHost:
    """A peer of AS 65001 whose far end, AS 65002, the test plays; brought up to a state by good messages."""
    host = RawHost(config(LOW, **changes))
    host.connect()
    if upto != "OpenSent":
        host.say(encode(config(HIGH, **changes).open()))
    if upto == "Established":
        host.say(KEEPALIVE_WIRE)
    assert host.peer.state.value == upto
    return host
