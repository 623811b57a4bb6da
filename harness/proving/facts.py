"""What a running connection says of itself: both charons, both speakers, the device's own kernel. Pure data and its reading.

:class:`Facts` holds quotations only; what they mean for a text is ``blame``'s business. Gathered by ``prove``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_PREFIX = re.compile(r"^\d+\[[A-Z]+\] (?:<[^>]*> )?")
_PROPOSALS = re.compile(r"(received|configured) proposals: (.+)$")
_NO_CONFIG = re.compile(r"no IKE config found for ([\d.]+)\.\.\.([\d.]+)")
_RECEIVED = re.compile(r"received packet: from ([\d.]+)\[\d+\] to ([\d.]+)\[\d+\]")

KINDS: tuple[tuple[str, str], ...] = (
    ("PRF_", "prf"),
    ("HMAC_", "integrity"),
    ("AES_CMAC", "integrity"),
    ("AES_XCBC", "integrity"),
    ("MODP_", "group"),
    ("ECP_", "group"),
    ("CURVE_", "group"),
    ("NO_EXT", ""),
    ("EXT_", ""),
)
"""What a word of a proposal is, by its beginning; all else is a cipher."""

Proposal = Mapping[str, str]


def proposal(words: str) -> Proposal:
    """``AES_CBC_128/HMAC_SHA1_96/MODP_2048`` by kind: encryption, integrity, prf, group."""
    found: dict[str, str] = {}
    for word in words.split("/"):
        kind = next((kind for start, kind in KINDS if word.startswith(start)), "encryption")
        if kind:
            found[kind] = word
    return found


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What charon was offered and what it has, of one negotiation that found no match. ``protocol`` is "IKE" or "ESP"."""

    protocol: str
    received: tuple[Proposal, ...]
    configured: tuple[Proposal, ...]
    text: str

    def nearest(self) -> tuple[int, tuple[str, ...]]:
        """Of the configured the one with the fewest differences from any received: its number, and the kinds that differ."""
        best: tuple[int, tuple[str, ...]] = (0, ())
        least = 99
        for number, own in enumerate(self.configured):
            for offered in self.received:
                differing = tuple(
                    kind for kind in ("encryption", "integrity", "prf", "group") if own.get(kind) != offered.get(kind)
                )
                if "GCM" in own.get("encryption", "") and "encryption" in differing:
                    differing = tuple(kind for kind in differing if kind != "integrity")
                if len(differing) < least:
                    least, best = len(differing), (number, differing)
        return best


@dataclass(frozen=True, slots=True)
class End:
    """One end of the tunnel: its state and reason (``show.status``) and charon's log, without prefixes."""

    state: str = "stopped"
    reason: Mapping[str, Any] | None = None
    log: tuple[str, ...] = ()

    def said(self, pattern: str) -> str | None:
        """The last line of the log with ``pattern``."""
        return next((line for line in reversed(self.log) if re.search(pattern, line)), None)

    def heard_from(self) -> frozenset[str]:
        """The addresses that packets came from."""
        return frozenset(found[1] for line in self.log if (found := _RECEIVED.search(line)))

    def unknown_pairs(self) -> tuple[tuple[str, str, str], ...]:
        """For each peer that no connection is configured for: this side's address, the peer's, charon's line."""
        return tuple((found[1], found[2], line) for line in self.log if (found := _NO_CONFIG.search(line)))

    def disagreement(self, protocol: str, since: int = 0) -> Disagreement | None:
        """The last lists of ``received`` and ``configured`` proposals of a protocol that had no match."""
        lists: dict[str, str] = {}
        found = None
        for line in self.log[since:]:
            if (match := _PROPOSALS.search(line)) and match[2].startswith(protocol + ":"):
                lists[match[1]] = match[2]
                if len(lists) == 2:
                    text = f"received proposals: {lists['received']}, configured proposals: {lists['configured']}"
                    found = Disagreement(protocol, _parsed(lists["received"]), _parsed(lists["configured"]), text)
                    lists = {}
        return found


def _parsed(text: str) -> tuple[Proposal, ...]:
    return tuple(proposal(each.strip().partition(":")[2]) for each in text.split(","))


def plain(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The lines of an agent's ``log`` answer without thread and group."""
    return tuple(_PREFIX.sub("", str(entry["line"])) for entry in entries)


@dataclass(frozen=True, slots=True)
class Session:
    """One end of the BGP session as its speaker shows it. Errors are texts; ``refused`` are addresses of strangers that called."""

    state: str = "absent"
    sent_error: str | None = None
    received_error: str | None = None
    refused: tuple[str, ...] = ()
    waiting: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All of one connection under proof. ``rekey`` is the text of a trial rekey's failure. ``unresolved`` are next hops that answer no
    ARP request; ``way`` is (gateway, interface) of the device's kernel towards the cloud, None where it has none;
    ``missing`` the client blocks that the cloud has no route to by this connection, ``unreached`` those whose client does not answer
    the device, with the gateway that its kernel takes; ``inner`` says whether the data-centre router has its session."""

    up: bool = False
    device: End = End()
    cloud: End = End()
    rekey: str | None = None
    session: bool = False
    device_bgp: Session = Session()
    cloud_bgp: Session = Session()
    way: tuple[str, str] | None = None
    unresolved: frozenset[str] = frozenset()
    learned: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unreached: Mapping[str, str] = field(default_factory=dict)
    inner: bool = True

    @property
    def works(self) -> bool:
        """Everything that the documents promise of a connection was seen."""
        return bool(self.up and self.rekey is None and self.session and self.learned) and not (
            self.missing or self.unreached or not self.inner
        )
