"""Interface counters, and how far they, the security associations' counters and the meter may differ.

All three count inner IP packets and their octets: a TUN or xfrm interface carries nothing else, libipsec and the kernel's xfrm add up the
length of the packet inside ESP. What lies between them is only what was dropped on the way, so over one and the same time:

    out:  meter  =  interface + the interface's own transmit drops;   interface  >=  SA, by what no SA took
    in:   SA     >=  interface, by what the interface refused;        interface  =   meter

and octets agree exactly wherever packets do. The SA's counters start again at each rekey: add up those of old SAs first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.net.namespace import entered

# Of the network namespace of the thread that reads it, whatever /sys is mounted.
_DEVICES = Path("/proc/thread-self/net/dev")


class NoSuchInterface(LookupError):
    """The interface is not in the namespace."""


class CountersDisagree(AssertionError):
    """Two counters of the same packets differ by more than what is accounted for."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Packets and octets that came in and went out, and packets dropped or refused in either direction."""

    in_packets: int = 0
    in_bytes: int = 0
    out_packets: int = 0
    out_bytes: int = 0
    in_dropped: int = 0
    out_dropped: int = 0

    def __sub__(self, before: Counters) -> Counters:
        """What was counted since ``before``."""
        return Counters(*(getattr(self, name) - getattr(before, name) for name in self.__slots__))

    @staticmethod
    def of_meter(total: Mapping[str, Any]) -> Counters:
        """From one tunnel's entry of the meter's ``totals()``."""
        return Counters(total["in_packets"], total["in_bytes"], total["out_packets"], total["out_bytes"])

    @staticmethod
    def of_interface(values: Mapping[str, int]) -> Counters:
        """From an interface's counters by name: packets_in, bytes_in, dropped_in and the same outward."""
        return Counters(
            values["packets_in"],
            values["bytes_in"],
            values["packets_out"],
            values["bytes_out"],
            values["dropped_in"],
            values["dropped_out"],
        )

    @staticmethod
    def of_sa(values: Mapping[str, int]) -> Counters:
        """From the sums over a tunnel's security associations: packets_in, bytes_in, packets_out, bytes_out."""
        return Counters(values["packets_in"], values["bytes_in"], values["packets_out"], values["bytes_out"])


def read(interface: str, netns_fd: int | None = None) -> Counters:
    """The counters of ``interface`` in the namespace of ``netns_fd`` (None: the thread's own). Raises NoSuchInterface."""
    with entered(netns_fd):
        text = _DEVICES.read_text()
    return parse(text, interface)


def parse(text: str, interface: str) -> Counters:
    """One line of ``/proc/net/dev`` (proc(5))."""
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if colon and name.strip() == interface:
            values = [int(value) for value in rest.split()]
            in_bytes, in_packets, in_errors, in_dropped = values[:4]
            out_bytes, out_packets, out_errors, out_dropped = values[8:12]
            return Counters(
                in_packets, in_bytes, out_packets, out_bytes, in_errors + in_dropped, out_errors + out_dropped
            )
    raise NoSuchInterface(f"no interface {interface!r} in this namespace; a TUN is gone when its daemon is")


@dataclass(frozen=True, slots=True)
class Difference:
    """Two counts of one direction: ``upstream`` saw the packets first, at most ``allowed`` of them may be missing ``downstream``."""

    what: str
    upstream: tuple[int, int]
    downstream: tuple[int, int]
    allowed: int

    @property
    def packets(self) -> int:
        return self.upstream[0] - self.downstream[0]

    @property
    def agrees(self) -> bool:
        """Nothing appeared from nowhere, no more is missing than allowed, and the octets agree where the packets do."""
        octets = self.upstream[1] - self.downstream[1]
        return 0 <= self.packets <= self.allowed and (octets == 0 if self.packets == 0 else octets > 0)

    def __str__(self) -> str:
        (up, up_octets), (down, down_octets) = self.upstream, self.downstream
        return (
            f"{self.what}: {up} packets, {up_octets} octets against {down}, {down_octets}; "
            f"{self.packets} fewer, {self.allowed} accounted for"
        )


def differences(
    interface: Counters, *, sa: Counters | None = None, meter: Counters | None = None, unprotected: int = 0
) -> list[Difference]:
    """The comparisons this module's text describes, over one and the same time.

    ``unprotected`` is how many packets the interface may have sent that no SA took: of another family than the selectors, or
    while no SA was there.
    """
    found = []
    inward, outward = (interface.in_packets, interface.in_bytes), (interface.out_packets, interface.out_bytes)
    if sa is not None:
        found += [
            Difference("interface to SA, out", outward, (sa.out_packets, sa.out_bytes), unprotected),
            Difference("SA to interface, in", (sa.in_packets, sa.in_bytes), inward, interface.in_dropped),
        ]
    if meter is not None:
        found += [
            Difference("meter to interface, out", (meter.out_packets, meter.out_bytes), outward, interface.out_dropped),
            Difference("interface to meter, in", inward, (meter.in_packets, meter.in_bytes), 0),
        ]
    return found


def assert_agreement(
    tunnel: str, interface: Counters, *, sa: Counters | None = None, meter: Counters | None = None, unprotected: int = 0
) -> None:
    """Raises CountersDisagree with every comparison that fails. Read all counters while nothing is under way."""
    wrong = [d for d in differences(interface, sa=sa, meter=meter, unprotected=unprotected) if not d.agrees]
    if wrong:
        raise CountersDisagree(f"tunnel {tunnel}: " + "; ".join(map(str, wrong)))
