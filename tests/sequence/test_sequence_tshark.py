"""Two hundred UPDATEs with every attribute, read by this project's codec and by tshark from one capture."""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest

from harness.bgp.as_path import Segment
from harness.bgp.attributes import Aggregator, Attributes, LargeCommunity
from harness.bgp.capabilities import FourOctetAs, Multiprotocol, RouteRefreshCapability
from harness.bgp.messages import KEEPALIVE_WIRE, Open, decode, encode
from harness.bgp.prefixes import Family, text
from harness.bgp.session import Session
from harness.bgp.update import Update, encode_update
from tests.sequence.wire import Wire

V4 = Family.IPV4_UNICAST
SESSION = Session(local_asn=65001, peer_asn=65001, asn4=True)
FIELDS = {
    "origin": "bgp.update.path_attribute.origin",
    "next hop": "bgp.update.path_attribute.next_hop",
    "MED": "bgp.update.path_attribute.multi_exit_disc",
    "LOCAL_PREF": "bgp.update.path_attribute.local_pref",
    "aggregator": "bgp.update.path_attribute.aggregator_as",
    "its identifier": "bgp.update.path_attribute.aggregator_origin",
    "originator": "bgp.update.path_attribute.originator_id",
    "clusters": "bgp.path_attribute.cluster_id",
    "AS path": "bgp.update.path_attribute.as_path_segment.as4",
    "large": "bgp.large_communities.ga",
    "announced": "bgp.nlri_prefix",
    "withdrawn": "bgp.withdrawn_prefix",
}


def prefix(random: Random) -> bytes:
    # tshark leaves off at a multicast prefix, and takes several short ones for path identifiers.
    bits = random.randint(17, 32)
    octets = (bytes((random.randint(1, 223),)) + random.randbytes(3))[: (bits + 7) // 8]
    spare = -bits % 8
    return bytes((bits,)) + octets[:-1] + bytes((octets[-1] >> spare << spare,))


def update(random: Random) -> Update:
    def some(value: object, otherwise: object = None) -> object:
        return value if random.random() < 0.5 else otherwise

    asns = tuple(random.randint(1, (1 << 32) - 1) for _ in range(random.randint(1, 6)))
    path = (Segment(2, asns), *((Segment(1, (64512, 4200000000)),) if random.random() < 0.3 else ()))
    hop = bytes((10, 0, 0, random.randint(1, 254)))
    attributes = Attributes(
        origin=random.randint(0, 2),
        as_path=path,
        next_hop=hop,
        med=some(random.getrandbits(32)),  # type: ignore[arg-type]
        local_pref=some(random.getrandbits(32)),  # type: ignore[arg-type]
        aggregator=some(Aggregator(random.randint(1, (1 << 32) - 1), IPv4Address(random.getrandbits(32)))),  # type: ignore[arg-type]
        communities=some(tuple(random.getrandbits(32) for _ in range(3)), ()),  # type: ignore[arg-type]
        originator_id=some(IPv4Address(random.getrandbits(32))),  # type: ignore[arg-type]
        cluster_list=some(tuple(random.getrandbits(32) for _ in range(2)), ()),  # type: ignore[arg-type]
        large=some((LargeCommunity(*(random.getrandbits(32) for _ in range(3))),), ()),  # type: ignore[arg-type]
    )
    announced = [prefix(random) for _ in range(random.randint(1, 5))]
    withdrawn = [prefix(random) for _ in range(random.randint(0, 1))]
    return Update({V4: announced}, {V4: withdrawn} if withdrawn else {}, attributes, {V4: hop})


@pytest.mark.spec("BGP-6", "BGP-11")
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed; apt-get install tshark")
def test_tshark_reads_the_same_attributes(tmp_path: Path) -> None:
    """Every value of every attribute and every prefix, in the capture's order."""
    random = Random(4271)
    wire = Wire()
    wire.open()
    for who in (0, 1):
        capabilities = (Multiprotocol(1, 1), RouteRefreshCapability(), FourOctetAs(65001))
        wire.say(who, encode(Open.of(65001, 90, IPv4Address(f"10.0.0.{who + 1}"), capabilities)) + KEEPALIVE_WIRE)
    ours: list[Update] = []
    for _ in range(200):
        octets = encode_update(update(random), SESSION)
        wire.say(0, octets)
        read = decode(octets[18], octets[19:], SESSION)
        assert isinstance(read, Update) and not read.errors
        ours.append(read)
    file = str(wire.write(tmp_path / "f.pcapng"))
    columns = [word for name in FIELDS.values() for word in ("-e", name)]
    done = subprocess.run(
        ["tshark", "-o", "bgp.asn_len:4", "-r", file, "-Y", "bgp.type==2", "-T", "fields", "-E", "aggregator=;", *columns],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(ours)
    for number, (row, mine) in enumerate(zip(rows, ours, strict=True)):
        theirs = {name: [v for v in value.split(";") if v] for name, value in zip(FIELDS, row, strict=True)}
        assert theirs == expected(mine), number


def expected(mine: Update) -> dict[str, list[str]]:
    """What tshark prints of an UPDATE."""
    a = mine.attributes
    assert a is not None

    def one(value: object) -> list[str]:
        return [] if value is None else [str(value)]

    return {
        "origin": one(int(a.origin)),
        "next hop": one(IPv4Address(a.next_hop)),
        "MED": one(a.med),
        "LOCAL_PREF": one(a.local_pref),
        "aggregator": one(a.aggregator and a.aggregator.asn),
        "its identifier": one(a.aggregator and a.aggregator.identifier),
        "originator": one(a.originator_id),
        "clusters": [str(IPv4Address(item)) for item in a.cluster_list],
        "AS path": [str(asn) for segment in a.as_path for asn in segment.asns],
        "large": [str(item.administrator) for item in a.large],
        "announced": [text(piece, V4).partition("/")[0] for piece in mine.announced[V4]],
        "withdrawn": [text(piece, V4).partition("/")[0] for piece in mine.withdrawn.get(V4, ())],
    }
