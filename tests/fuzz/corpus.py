"""Octets to begin with: what the codec itself writes of every kind, and foreign messages where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from harness.bgp import as_path
from harness.bgp.attribute_codec import encode_attributes
from harness.bgp.attributes import Aggregator, Attributes, LargeCommunity, UnknownAttribute
from harness.bgp.capabilities import (
    AddPath,
    AddPathFamily,
    EnhancedRouteRefresh,
    ExtendedMessage,
    FourOctetAs,
    GracefulRestart,
    Multiprotocol,
    RestartFamily,
    RouteRefreshCapability,
    UnknownCapability,
    encode_capability,
)
from harness.bgp.errors import Cease
from harness.bgp.messages import Keepalive, Message, Notification, Open, RouteRefresh, encode
from harness.bgp.prefixes import Family, with_path_id
from harness.bgp.session import Session
from harness.bgp.update import Update
from tests.fuzz.targets import CONTEXTS, context

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bgp-messages.json"
"""Foreign messages, beside the project and not part of it."""

STREAM, MESSAGE, ATTRIBUTES, CAPABILITIES = range(4)

_CAPABILITIES = (
    Multiprotocol(1, 1),
    Multiprotocol(2, 1),
    RouteRefreshCapability(),
    ExtendedMessage(),
    GracefulRestart(True, True, 120, (RestartFamily(1, 1, True),)),
    FourOctetAs(4200000001),
    AddPath((AddPathFamily(1, 1, True, True),)),
    EnhancedRouteRefresh(),
    UnknownCapability(99, b"\x01\x02"),
)
_RICH = Attributes(
    origin=2,
    as_path=(*as_path.sequence((65002, 4200000001)), as_path.Segment(1, (65005, 65006))),
    next_hop=bytes((10, 0, 0, 2)),
    med=5,
    local_pref=200,
    atomic_aggregate=True,
    aggregator=Aggregator(4200000001, IPv4Address("10.0.0.9")),
    communities=(65002 << 16 | 1, 0xFFFFFF01),
    originator_id=IPv4Address("10.0.0.8"),
    cluster_list=(1, 2),
    extended=(bytes((0, 2, 0xFD, 0xEA, 0, 0, 0, 1)),),
    large=(LargeCommunity(4200000001, 2, 3),),
    unknown=(UnknownAttribute(0xC0, 99, b"abc"),),
)


def _messages(session: Session) -> Iterator[Message]:
    yield Keepalive()
    yield Open.of(4200000001, 90, IPv4Address("10.0.0.2"), _CAPABILITIES)
    yield Notification.cease(Cease.ADMINISTRATIVE_SHUTDOWN, "good night")
    yield Notification(3, 5, b"\x40\x01\x01\x07")
    yield RouteRefresh(1, 1)
    yield RouteRefresh(2, 1, 1)

    def path_id(piece: bytes, family: Family) -> bytes:
        return with_path_id(7, piece) if family in session.add_path_receive else piece

    v4, v6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
    four = [path_id(bytes((24, 198, 51, 100)), v4), path_id(bytes((0,)), v4)]
    six = [path_id(bytes((32, 0x20, 1, 0x0D, 0xB8)), v6)]
    yield Update({v4: four}, {}, _RICH, {v4: _RICH.next_hop})
    yield Update(
        {v6: six}, {v6: six, v4: four}, _RICH.evolve(next_hop=b""), {v6: bytes.fromhex("20010db8" + "00" * 11 + "01")}
    )
    yield Update({}, {v4: four})
    yield Update(end_of_rib=v4)
    yield Update(end_of_rib=v6)


def codec_inputs() -> Iterator[bytes]:
    """Inputs of ``targets.codec``: our own messages in every context, and the foreign ones in some."""
    for number in range(CONTEXTS):
        session = context(number)
        wires = [encode(message, session) for message in _messages(session)]
        yield bytes((number, STREAM)) + b"".join(wires)
        for wire in wires:
            yield bytes((number, STREAM)) + wire
            yield bytes((number, MESSAGE)) + wire[18:]
        yield bytes((number, ATTRIBUTES)) + encode_attributes(_RICH, session)
    yield bytes((0, CAPABILITIES)) + b"".join(encode_capability(item) for item in _CAPABILITIES)
    for wire in foreign():
        for number in (1, 5, 29, 63):
            yield bytes((number, STREAM)) + wire


def foreign() -> Iterator[bytes]:
    """The messages of another implementation; none where the file is not there."""
    if VECTORS.exists():
        for vector in json.loads(VECTORS.read_text()):
            wire = bytes.fromhex(vector["raw"].replace(":", ""))
            if wire.startswith(b"\xff" * 16):
                yield wire


def speaker_inputs() -> Iterator[bytes]:
    """Plays: a session that comes up, with routes, a collision, a loss, an order, and foreign UPDATEs."""
    connect, accept, _, lose, octets, body, update, route, opened, alive, wait, order, flood = range(13)
    up = bytes((connect, 0, opened, 0, 0x4F, alive, 0))
    wires = [wire for wire in foreign() if wire[18] == 2 and len(wire) < 900]
    for number in range(64):
        start = bytes((number,)) + (bytes((accept, opened, 0, 0x4F, alive, 0)) if number & 4 else up)
        yield start + bytes((route, 0, 1, 1, route, 0, 2, 2, route, 0x80, 1, 1, wait, 3, lose, 0, wait, 3))
        yield start + bytes((accept, opened, 1, 0x4E, alive, 1, order, 2, wait, 2))
        yield start + bytes((order, 6, flood, 0x80, route, 0, 3, 3, flood, 0, body, 1, 0, 5, 0, 1, 0))
        for wire in wires[number::64]:
            size = -(-len(wire[18:]) // 4)
            yield start + bytes((update, size, 0)) + wire[19:].ljust(4 * size - 1, b"\0")
            size = -(-(len(wire) + 1) // 4)
            yield start + bytes((octets, size, 0)) + wire.ljust(4 * size - 1, b"\0")


INPUTS = {"codec": codec_inputs, "speaker": speaker_inputs}
