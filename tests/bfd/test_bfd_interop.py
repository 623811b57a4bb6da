"""BFD with implementations that no one here wrote: up, authenticated, down by a cut. Skipped by name where they are not installed."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.net import rtnl
from tests.bfd.nodes import FAST, IPV4, IPV6, bfd, switched
from tests.bgp.rig import Rig, opened

pytestmark = pytest.mark.root


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened(tmp_path) as made:
        yield made


@contextmanager
def running(rig: Rig, node: str, *commands: list[str]) -> Iterator[None]:
    """Programs in a node, ended with the block."""
    log = (rig.folder / f"{node}-programs.log").open("wb")
    started = [rig.nodes[node].popen(command, stdout=log, stderr=subprocess.STDOUT) for command in commands]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()
        log.close()


def bird(rig: Rig, address: str, hop_count: int, *, key: str = "") -> list[list[str]]:
    """BIRD in node b: BGP to ``address`` with BFD every 50 ms."""
    program = shutil.which("bird") or "/usr/sbin/bird"
    if not Path(program).exists():
        pytest.skip("bird is not installed; apt-get install --no-install-recommends bird2")
    timers = "interval 50 ms; multiplier 3; idle tx interval 200 ms;"
    if key:
        timers += f' authentication meticulous keyed sha1; password "{key}" {{ id 1; }};'
    own = dict([IPV4, IPV6])[address]
    family = "ipv6" if ":" in address else "ipv4"
    way = "direct" if hop_count == 1 else "multihop"
    config = rig.folder / "bird.conf"
    config.write_text(
        f"""router id 2.2.2.2;
        protocol device {{}}
        protocol bfd {{ interface "*" {{ {timers} }}; multihop {{ {timers} }}; }}
        protocol bgp a {{ local {own} as 65002; neighbor {address} as 65001; {way}; bfd on; {family} {{ import all; export none; }}; }}
        """
    )
    return [[program, "-f", "-c", str(config), "-s", str(rig.folder / "bird.ctl")]]


@pytest.mark.spec("VBR-13", "VBR-34")
@pytest.mark.parametrize("addresses", [IPV4, IPV6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("hop_count", [1, 255])
async def test_up_and_down_with_bird(rig: Rig, hop_count: int, addresses: tuple[str, str]) -> None:
    """3 x 50 ms with BIRD: Up, and Cease/10 in under 200 ms after a cut."""
    cable = switched(rig, addresses)
    neighbor = {"name": "b", "address": addresses[1], "remote_asn": 65002, "bfd": {**FAST, "hop_count": hop_count}}
    multihop = {} if hop_count == 1 else {"ebgp_multihop": 255}
    with running(rig, "b", *bird(rig, addresses[0], hop_count)):
        a = await rig.speaker("a", asn=65001, router_id="1.1.1.1", neighbors=[{**neighbor, **multihop}])
        await a.event("peer.up", within=10)
        await a.event("bfd", new="Up", within=10)
        # Both poll sequences through: the fast timers are in force.
        until = time.monotonic() + 5
        while (state := await bfd(a))["detection_time_ms"] != 150:
            assert time.monotonic() < until, state
        last, cut_at = a.last, time.monotonic()
        rig.node("sw").transact([rtnl.link_set(cable, up=False)])
        ended = await a.event("notification", since=last, direction="sent", code=6, subcode=10)
        assert ended["time"] - cut_at < 1.0, "the hold timer would have taken 90 s"


async def test_keyed_sha1_with_bird(rig: Rig) -> None:
    switched(rig)
    options = {**FAST, "hop_count": 1, "auth": {"type": "meticulous-keyed-sha1", "key": "shared"}}
    neighbor = {"name": "b", "address": "10.0.0.2", "remote_asn": 65002, "bfd": options}
    with running(rig, "b", *bird(rig, "10.0.0.1", 1, key="shared")):
        a = await rig.speaker("a", asn=65001, router_id="1.1.1.1", neighbors=[neighbor])
        await a.event("bfd", new="Up", within=10)
        assert (await bfd(a))["authentication"] == "meticulous-keyed-sha1"
