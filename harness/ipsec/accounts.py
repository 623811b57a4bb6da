"""The security associations of one tunnel as charon lists them, and their traffic counted over all rekeys. Pure.

charon counts for each CHILD_SA and starts at nought with every rekey; the old SA lingers a little and may still take packets.
What came in is exact. What went out is a floor after rekeys: the end that began a rekey drops the old outbound SA unasked, and
with it what it sent since the last listing. The tunnel interface's own counters, and the peer's inbound ones, know it all.
:class:`Accounts` is shown every listing (vici ``list-sa`` messages) and keeps the sums; it also says whether any CHILD_SA
carries traffic, which is what the tunnel's line protocol follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.ipsec import algorithms

CARRYING = frozenset({"INSTALLED", "UPDATING", "REKEYING", "REKEYED"})
"""States of a CHILD_SA in which packets pass. An IKE_SA may be ESTABLISHED without one, so its state says nothing."""

CHANGING = frozenset({"CREATED", "CONNECTING", "INSTALLING", "REKEYING", "REKEYED", "RETRYING", "DELETING"})
"""States of an IKE_SA or a CHILD_SA that is being made, replaced or ended: an exchange with the peer is under way."""

_REMEMBERED = 64  # CHILD_SAs that were listed last and are not any more, each with its own figures


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes and packets through ESP, as charon counts them: inner packets, without the ESP overhead."""

    bytes_in: int = 0
    packets_in: int = 0
    bytes_out: int = 0
    packets_out: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.bytes_in + other.bytes_in,
            self.packets_in + other.packets_in,
            self.bytes_out + other.bytes_out,
            self.packets_out + other.packets_out,
        )

    def at_least(self, other: Traffic) -> Traffic:
        """The larger of each: a listing of an SA on its way out may show less than an earlier one."""
        return Traffic(
            max(self.bytes_in, other.bytes_in),
            max(self.packets_in, other.packets_in),
            max(self.bytes_out, other.bytes_out),
            max(self.packets_out, other.packets_out),
        )


@dataclass(frozen=True, slots=True)
class ChildSa:
    """One CHILD_SA. ``spi_in`` is what the peer puts on packets to us. Ages and what is left of the times in seconds."""

    id: int
    name: str
    state: str
    spi_in: str
    spi_out: str
    encryption: str
    integrity: str
    pfs: str | None
    encapsulated: bool
    age: int | None
    rekey_in: int | None
    life_left: int | None
    local_ts: tuple[str, ...]
    remote_ts: tuple[str, ...]
    traffic: Traffic

    @property
    def carrying(self) -> bool:
        return self.state in CARRYING


@dataclass(frozen=True, slots=True)
class IkeSa:
    """One IKE_SA with its CHILD_SAs. Algorithms in the document's words."""

    id: int
    name: str
    state: str
    initiator: bool
    local: str
    remote: str
    local_id: str
    remote_id: str
    spi_initiator: str
    spi_responder: str
    encryption: str | None
    integrity: str | None
    prf: str | None
    dh_group: str | None
    age: int | None
    rekey_in: int | None
    children: tuple[ChildSa, ...]

    @property
    def carrying(self) -> bool:
        return any(child.carrying for child in self.children)

    @property
    def changing(self) -> bool:
        """Is this SA, or a child of it, being made, replaced or ended?"""
        return self.state in CHANGING or any(child.state in CHANGING for child in self.children)


def _integer(values: Mapping[str, Any], key: str) -> int | None:
    return int(values[key]) if key in values else None


def child_sa(values: Mapping[str, Any]) -> ChildSa:
    """From one entry of ``child-sas``. The first CHILD_SA of an IKE_SA has no group of its own: ``pfs`` is None until a rekey."""
    bits = _integer(values, "encr-keysize")
    group = values.get("dh-group")
    return ChildSa(
        id=int(values["uniqueid"]),
        name=values["name"],
        state=values["state"],
        spi_in=values.get("spi-in", ""),
        spi_out=values.get("spi-out", ""),
        encryption=algorithms.documented(algorithms.ENCRYPTION, values.get("encr-alg", ""), bits),
        integrity=algorithms.documented(algorithms.INTEGRITY, values.get("integ-alg", "")),
        pfs=None if group is None else algorithms.documented(algorithms.DH_GROUP, group),
        encapsulated=values.get("encap") == "yes",
        age=_integer(values, "install-time"),
        rekey_in=_integer(values, "rekey-time"),
        life_left=_integer(values, "life-time"),
        local_ts=tuple(values.get("local-ts", ())),
        remote_ts=tuple(values.get("remote-ts", ())),
        traffic=Traffic(*(_integer(values, k) or 0 for k in ("bytes-in", "packets-in", "bytes-out", "packets-out"))),
    )


def ike_sas(listing: Iterable[Mapping[str, Any]]) -> tuple[IkeSa, ...]:
    """From the ``list-sa`` messages of one ``list-sas``: each holds one IKE_SA under its connection's name."""
    found = []
    for message in listing:
        for name, values in message.items():
            if isinstance(values, Mapping):
                found.append(_ike_sa(name, values))
    return tuple(found)


def _ike_sa(name: str, values: Mapping[str, Any]) -> IkeSa:
    def word(table: Mapping[str, Any], key: str, bits: int | None = None) -> str | None:
        return algorithms.documented(table, values[key], bits) if key in values else None

    return IkeSa(
        id=int(values["uniqueid"]),
        name=name,
        state=values["state"],
        initiator=values.get("initiator") == "yes",
        local=values.get("local-host", ""),
        remote=values.get("remote-host", ""),
        local_id=values.get("local-id", ""),
        remote_id=values.get("remote-id", ""),
        spi_initiator=values.get("initiator-spi", ""),
        spi_responder=values.get("responder-spi", ""),
        encryption=word(algorithms.ENCRYPTION, "encr-alg", _integer(values, "encr-keysize")),
        integrity=word(algorithms.INTEGRITY, "integ-alg"),
        prf=word(algorithms.PRF, "prf-alg"),
        dh_group=word(algorithms.DH_GROUP, "dh-group"),
        age=_integer(values, "established"),
        rekey_in=_integer(values, "rekey-time"),
        children=tuple(child_sa(child) for child in values.get("child-sas", {}).values()),
    )


@dataclass(slots=True)
class Accounts:
    """The latest listing and the traffic of all CHILD_SAs there have been since the agent started."""

    sas: tuple[IkeSa, ...] = ()
    _ended: Traffic = field(default_factory=Traffic)
    _known: dict[tuple[int, str], Traffic] = field(default_factory=dict)

    def listed(self, sas: tuple[IkeSa, ...]) -> None:
        """Takes a complete listing: SAs that are no longer in it have ended."""
        self.sas = sas
        seen = set()
        for child in self.children():
            seen.add(self._note(child))
        # A CHILD_SA that moves to a new IKE_SA is for a moment in neither's list: what is not listed is not forgotten at once.
        for key in [key for key in self._known if key not in seen][:-_REMEMBERED]:
            self._ended += self._known.pop(key)

    def noted(self, child: ChildSa) -> None:
        """Takes the last figures of one CHILD_SA from an event, which may come when it is in no listing any more."""
        self._note(child)

    def _note(self, child: ChildSa) -> tuple[int, str]:
        # charon numbers from 1 again after a restart; with the inbound SPI a number is never met twice. The outbound one comes
        # later: an SA may take packets before this end knows by what SPI to answer.
        key = (child.id, child.spi_in)
        self._known[key] = child.traffic.at_least(self._known.get(key, Traffic()))
        return key

    def ended(self) -> None:
        """charon is gone, and every SA with it."""
        self.listed(())

    def children(self) -> list[ChildSa]:
        return [child for sa in self.sas for child in sa.children]

    def carrying(self) -> list[ChildSa]:
        return [child for child in self.children() if child.carrying]

    def total(self) -> Traffic:
        return sum(self._known.values(), self._ended)
