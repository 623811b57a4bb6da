"""A gateway device's ASA text against an estate, with nothing started: the report of ``vbrlab device --check``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.asa.check import check
from harness.asa.config import AsaConfig, Kind, Remark, Unknown, Weight
from harness.asa.read import read
from harness.cloud.ends import Sided, ends_of
from harness.peer_config import Peer, belonging, find


class Unreadable(ValueError):
    """A file or an argument that cannot be used: the text says which and why."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a text says to the cloud's side of its connection. No field holds a key."""

    connection: str
    remarks: tuple[Remark, ...]
    unknown: tuple[Unknown, ...]

    @property
    def fits(self) -> bool:
        return not any(remark.weight is Weight.ERROR for remark in self.remarks)

    def to_text(self, file: Path) -> str:
        lines = [f"{file}:{remark}" if remark.line else f"{file}: {remark}" for remark in self.remarks]
        lines = [line.replace(":line ", ":", 1) for line in lines]
        lines += [f"{file}:{each.line}: not understood: {each.text}" for each in self.unknown]
        errors = sum(remark.weight is Weight.ERROR for remark in self.remarks)
        verdict = "fits" if self.fits else "does not fit"
        notes = len(self.remarks) - errors
        counts = ((errors, "error"), (notes, "note"), (len(self.unknown), "line"))
        counted = ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for number, word in counts)
        lines.append(f"{file} {verdict} {self.connection}: {counted} not understood")
        return "\n".join(lines)

    def to_json(self) -> str:
        return json.dumps({"fits": self.fits, **asdict(self)})


def text_of(file: Path) -> str:
    """The text of a file. Raises Unreadable."""
    try:
        # Line ends as they are: they count the lines. A byte order mark is no part of the text.
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"{file} is no text in UTF-8 (octet {error.start}); save it as one") from None


def reports(estate: Sided, text: str, connection: str | None = None) -> list[Report]:
    """Holds a text against its connection: the named one, or the one that its tunnel leads to; one for each tunnel, the first with what was
    not understood. Raises NoPeer."""
    config = read(text)
    return [
        Report(
            peer.connection.name,
            tuple(check(config, peer.connection, peer.gateway, peer.centre.blocks)),
            config.unknown if number == 0 else (),
        )
        for number, peer in enumerate(belonging_to(estate, config, connection))
    ]


def meant(estate: Sided, given: Iterable[str]) -> list[tuple[Path, str]]:
    """Files and their connections' nodes from ``NODE=FILE`` words. Raises Unreadable."""
    known = {device.name: device for centre in estate.data_centres for device in centre.devices}
    connections = {end.gateway_address: end.node for end in ends_of(estate)}
    found: dict[str, tuple[Path, str]] = {}
    for word in given:
        node, _, file = word.partition("=")
        if node not in known or not file or node in found:
            raise Unreadable(f"--device {word}: write NODE=FILE, once for each of {', '.join(known)}")
        found[node] = (Path(file), connections[known[node].gateway_address])
    return list(found.values())


def belonging_to(estate: Sided, config: AsaConfig, connection: str | None = None) -> tuple[Peer, ...]:
    """The connection of a name, or else the one that the text's tunnels lead to. Raises NoPeer."""
    if connection:
        return find(estate, connection)
    values = [section.values for section in config.of(Kind.INTERFACE).values()]
    destinations = tuple(each["destination"].value for each in values if "destination" in each)
    addresses = tuple(str(each["address"].value.ip) for each in values if "address" in each)
    return belonging(estate, destinations, addresses)
