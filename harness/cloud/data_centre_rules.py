"""What must hold of the data centre, the timers and the lifetimes of any estate with tunnels before a plan can be made of it.

The ranges are this project's (†) but for the hold time (RFC 4271 4.2); a lifetime's is the console's. Rules yield findings and never raise.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Protocol

from harness.cloud.findings import Finding
from harness.cloud.resources import DataCentre, Timers
from harness.plan import Esp, Ike


class Sited(Protocol):
    """What estates with tunnels have."""

    @property
    def data_centres(self) -> tuple[DataCentre, ...]: ...

    @property
    def timers(self) -> Timers: ...


#: A client of the lab has the block's tenth address, its router the first; the upper half stands for more clients.
LEAST_CLIENT_BLOCK = 16
LIFETIMES = (1, 86400)

#: (field of ``harness.cloud.resources.Timers``, least, most)
_TIMERS: tuple[tuple[str, float, float], ...] = (
    ("hold_time", 0, 65535),
    ("connect_retry_time", 1, 65535),
    ("dpd_delay", 0.1, 86400),
    ("retransmit_timeout", 0.1, 3600),
    ("retransmit_tries", 0, 100),
)


def timers_are_in_their_ranges(estate: Sited) -> Iterator[Finding]:
    for field, least, most in _TIMERS:
        value = getattr(estate.timers, field)
        if not least <= value <= most or (field == "hold_time" and value in (1, 2)):
            allowed = f"0 or 3 to {most}" if field == "hold_time" else f"{least} to {most}"
            spec = "BGP-15" if field == "hold_time" else "ECMP-6"
            yield Finding("timers", f"{field} {value} is not {allowed}", spec, f"Choose {allowed}", field=field)


def client_blocks_have_room(estate: Sited) -> Iterator[Finding]:
    for centre in estate.data_centres:
        named = [(f"data centre {centre.name}", block) for block in centre.blocks]
        named += [(device.name, block) for device in centre.devices for block in device.blocks]
        for owner, text in named:
            block = _block(text)
            if block is not None and block.num_addresses < LEAST_CLIENT_BLOCK:
                yield Finding(owner, f"{block} is too small for clients", "ECMP-2", "Give a /28 or a larger block")


def data_centre_asns_are_legal(estate: Sited) -> Iterator[Finding]:
    for centre in estate.data_centres:
        if centre.asn is not None and not 1 <= centre.asn <= 4294967295:
            rule = f"ASN {centre.asn} of its router is not in 1 to 4294967295"
            yield Finding(f"data centre {centre.name}", rule, "ECMP-2", "Choose one in the range", field="asn")


def lans_have_room(estate: Sited) -> Iterator[Finding]:
    for centre in estate.data_centres:
        lan = _block(centre.lan)
        inner = [address for d in centre.devices for address in (d.private_address, d.clients_next_hop)]
        if lan is not None and (len(set(inner)) < len(inner) or lan.num_addresses < 256):
            rule = f"LAN {centre.lan} has no room for {len(centre.devices)} devices"
            remedy = "Choose a /24 or larger, or fewer tunnels"
            yield Finding(f"data centre {centre.name}", rule, "ECMP-2", remedy, field="lan")


def lifetimes_are_legal(owner: str, ike: Ike, esp: Esp) -> Iterator[Finding]:
    """Of one end of a tunnel."""
    least, most = LIFETIMES
    for words, field, value in (("IKE", "ike", ike.lifetime), ("IPsec", "esp", esp.lifetime)):
        if not least <= value <= most:
            rule = f"{words} lifetime {value} is not {least} to {most} seconds"
            yield Finding(owner, rule, "ECMP-6", f"Choose {least} to {most}", field=field)


def _block(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text)
    except ValueError:  # for the rule of blocks to say
        return None


FIRST = (timers_are_in_their_ranges, client_blocks_have_room, data_centre_asns_are_legal, lans_have_room)
