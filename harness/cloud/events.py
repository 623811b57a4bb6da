"""Events of a VBR's BGP peers, as pure values with the document's names, and how they follow from what a speaker tells.

Source: "Express Connect: configure and manage BGP", "View monitoring events of BGP peers" (VBR-22), for product, types and names. The
document shows no event: the fields of the JSON form are those that the vendor's page on callbacks lists†. Who watches a running
speaker, and who delivers alerts, is not here: ``harness.cloud_monitor``, ``harness.alerts``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

#: VBR-38: the product of the document's alert rules.
PRODUCT = "Express Connect - physical connection"
_VERSION = "1.0"


class Level(StrEnum):
    """Event levels. The document's example selects Warning; both events have it†."""

    CRITICAL = "Critical"
    WARNING = "Warning"
    INFO = "Info"


class EventType(StrEnum):
    """What a rule's event type can be."""

    DOWN = "Down"
    RECEIVE_ROUTES = "Receive Routes"


class EventName(StrEnum):
    PEER_DOWN = "BgpPeerStatus:Down"
    ROUTES_EXCEEDED = "BgpPeerReceiveRoutes:Exceed"


#: The name that is selected with a type (VBR-38).
NAME_OF: Mapping[EventType, EventName] = {
    EventType.DOWN: EventName.PEER_DOWN,
    EventType.RECEIVE_ROUTES: EventName.ROUTES_EXCEEDED,
}
TYPE_OF: Mapping[EventName, EventType] = {name: kind for kind, name in NAME_OF.items()}
LEVEL_OF: Mapping[EventName, Level] = dict.fromkeys(EventName, Level.WARNING)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one peer. ``time`` is seconds since 1970 (UTC); ``content`` holds strings and numbers, never a key."""

    time: float
    name: EventName
    vbr: str
    peer: str
    region: str = ""
    content: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def type(self) -> EventType:
        return TYPE_OF[self.name]

    @property
    def level(self) -> Level:
        return LEVEL_OF[self.name]

    @property
    def resource(self) -> str:
        """The peer, as rules and application groups name it: "vbr/vbr-1/bgp-peer/10.1.1.2"."""
        return resource_of(self.vbr, self.peer)

    def fields(self) -> dict[str, Any]:
        """The JSON form, as an object."""
        identity = f"{self.time!r} {self.name} {self.resource}"
        return {
            "ver": _VERSION,
            "traceId": hashlib.sha256(identity.encode()).hexdigest()[:32].upper(),
            "product": PRODUCT,
            "type": str(self.type),
            "level": str(self.level),
            "name": str(self.name),
            "eventTime": iso(self.time),
            "regionId": self.region,
            "resourceId": self.resource,
            "instanceName": self.vbr,
            "content": {"vbr": self.vbr, "peer": self.peer, **self.content},
        }

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self.fields(), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Event:
        """The event that :meth:`to_json` wrote, to the millisecond. Raises ValueError that says what is wrong."""
        try:
            fields = json.loads(text)
            content = dict(fields["content"])
            when = datetime.fromisoformat(fields["eventTime"]).timestamp()
            vbr, peer = content.pop("vbr"), content.pop("peer")
            return Event(when, EventName(fields["name"]), vbr, peer, fields["regionId"], content)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no event of a BGP peer: {error}") from None


@dataclass(frozen=True, slots=True)
class Cleared:
    """What an event told is over: the peer is Established again, its routes are under the quota, or it is deleted."""

    time: float
    name: EventName
    vbr: str
    peer: str
    reason: str

    @property
    def resource(self) -> str:
        return resource_of(self.vbr, self.peer)


Happening = Event | Cleared


def resource_of(vbr: str, peer: str) -> str:
    return f"vbr/{vbr}/bgp-peer/{peer}"


def iso(time: float) -> str:
    """UTC with milliseconds: "2026-01-31T12:00:00.123+00:00"."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What an event says of its peer beside what happened."""

    group: str
    asn: int


class PeerWatch:
    """What the events of one VBR's speaker mean for its BGP peers.

    ``facts`` maps the peers that count, by their IP address; sessions inside the cloud are not among them. It is looked at at each
    event, so that peers may come and go. Times are handed through as they come.
    """

    def __init__(self, vbr: str, facts: Mapping[str, PeerFacts], region: str = "") -> None:
        self.vbr, self.facts, self.region = vbr, facts, region
        self._established: set[str] = set()
        self._raised: set[tuple[EventName, str]] = set()

    def told(self, kind: str, data: Mapping[str, Any], time: float) -> Iterator[Happening]:
        """What follows from one event of the speaker: its type and its fields (docs/bgp.md, "Events")."""
        peer = str(data.get("peer") or data.get("neighbor") or "")
        if kind == "neighbor" and data.get("action") == "delete":
            yield from self.forgotten(peer, time)
        elif peer not in self.facts:
            return
        elif kind == "fsm" and not data.get("spare"):
            yield from self._moved(peer, data, time)
        elif kind == "maximum-prefixes":
            yield from self._counted(peer, data, time)

    def speaker_ended(self, time: float) -> Iterator[Happening]:
        """A dead speaker has no session: every peer that was Established is disconnected (VBR-36)."""
        for peer in sorted(self._established):
            yield self._event(EventName.PEER_DOWN, peer, time, {"reason": "the speaker of the VBR ended"})
        self._established.clear()

    def forgotten(self, peer: str, time: float) -> Iterator[Happening]:
        """The peer is deleted: nothing of it is wrong any more."""
        self._established.discard(peer)
        for name, owner in sorted(self._raised):
            if owner == peer:
                yield self._clear(name, peer, time, "the peer was deleted")

    def _moved(self, peer: str, data: Mapping[str, Any], time: float) -> Iterator[Happening]:
        if data["new"] == "Established":
            self._established.add(peer)
            for name in EventName:
                # A new session counts its routes from nothing.
                if (name, peer) in self._raised:
                    yield self._clear(name, peer, time, "the peer is Established")
        elif data["old"] == "Established" and peer in self._established:
            self._established.discard(peer)
            reason = str(data.get("reason") or data.get("event") or "not said")
            yield self._event(EventName.PEER_DOWN, peer, time, {"reason": reason, "status": str(data["new"])})

    def _counted(self, peer: str, data: Mapping[str, Any], time: float) -> Iterator[Happening]:
        name = EventName.ROUTES_EXCEEDED
        routes, quota, action = int(data["count"]), int(data["limit"]), str(data["action"])
        if data["over"]:
            yield self._event(name, peer, time, {"routes": routes, "quota": quota, "action": action})
        elif (name, peer) in self._raised:
            yield self._clear(name, peer, time, f"{routes} routes, the quota is {quota}")

    def _event(self, name: EventName, peer: str, time: float, content: Mapping[str, str | int]) -> Event:
        self._raised.add((name, peer))
        facts = self.facts.get(peer)
        known: dict[str, str | int] = {} if facts is None else {"bgpGroup": facts.group, "peerAsn": facts.asn}
        return Event(time, name, self.vbr, peer, self.region, {**known, **content})

    def _clear(self, name: EventName, peer: str, time: float, reason: str) -> Cleared:
        self._raised.discard((name, peer))
        return Cleared(time, name, self.vbr, peer, reason)
