"""Configurations gone wrong: one line of a document's text exchanged, dropped or added, with the line that is to blame.

:func:`mutations` makes some hundred from any of the three texts, by operators over its lines, so that they are not a list of known
cases. ``culprits`` are the lines of which one must be named first; empty: the device works all the same; None among them: a line
is missing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """``text`` is the whole configuration; ``what`` says what was done to it."""

    what: str
    text: str
    culprits: frozenset[int | None]

    @property
    def works(self) -> bool:
        return not self.culprits


def _other_address(address: str, dice: random.Random) -> str:
    head, _, last = address.rpartition(".")
    return f"{head}.{dice.choice([n for n in range(60, 99) if n != int(last)])}"


_ALGORITHMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"^ encryption aes$", ("aes-192", "aes-256", "3des", "aes-gcm-256")),
    (r"^ integrity sha$", ("md5", "sha256", "sha384", "sha512")),
    (r"^ prf sha$", ("md5", "sha256", "sha384", "sha512")),
    (r"^ group 14$", ("2", "5", "19", "20", "21")),
    (r"^ protocol esp encryption aes$", ("aes-192", "aes-256", "3des", "aes-gcm")),
    (r"^ protocol esp integrity sha-1$", ("md5", "sha-256", "sha-512")),
    (r"^ set pfs group14$", ("group2", "group5", "group19", "group21")),
)

_ADDRESSES = (
    r"^ ip address (198\.51\.100\.\d+) 255",
    r"^ tunnel destination (\S+)$",
    r"^route outside1 (\S+) 255\.255\.255\.255",
    r"^route outside1 \S+ \S+ (\S+)$",
    r"^route private \S+ \S+ (\S+)$",
    r"^ ip address (192\.168\.50\.\d+) 255",
)

_HARMLESS: tuple[tuple[str, str], ...] = (
    (r"^ lifetime seconds 86400$", " lifetime seconds 28800"),
    (r"lifetime seconds 86400$", "lifetime seconds 3600"),
    (r"lifetime kilobytes unlimited$", "lifetime kilobytes 4608000"),
    (r"ebgp-multihop 255$", "ebgp-multihop 2"),
    (r"^ security-level 0$", " security-level 10"),
    (r"^crypto ikev2 policy 10$", "crypto ikev2 policy 1"),
    (r"^ encryption aes$", " encryption aes-256 aes"),
    (r"^ group 14$", " group 21 20 19 14 5"),
    (r"^ integrity sha$", " integ sha"),
    (r"^ tunnel protection ipsec profile", " tunn prot ips prof"),
    (r"^ address-family ipv4 unicast$", " address-family ipv4"),
    (r"^  network 192\.168\.0\.0 mask", "  netw 192.168.0.0 mask"),
    (r"^ no shutdown$", " no shut"),
    (r"^ nameif ALIYUN1$", " nameif VTI7"),
    (r"^interface Tunnel1$", "interface tunnel 7"),
)

_DANGLING: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (r"^ set ikev2 ipsec-proposal (\S+)$", "OTHER", ("^crypto ipsec ikev2 ipsec-proposal",)),
    (r"^crypto ipsec ikev2 ipsec-proposal (\S+)$", "OTHER", ("^ set ikev2 ipsec-proposal",)),
    (r"^ tunnel protection ipsec profile (\S+)$", "OTHER", ("^crypto ipsec profile",)),
    (r"^crypto ipsec profile (\S+)$", "OTHER", ("^ tunnel protection",)),
    (r"^crypto ikev2 enable (\S+)$", "outside9", ()),
    (r"^ tunnel source interface (\S+)$", "outside9", ()),
    (r"^ nameif (outside1)$", "outside9", ()),
    (r"^route (outside1) ", "outside9", ()),
    (r"^crypto ikev2 enable (\S+)$", "private", ()),
    (r"^ tunnel source interface (\S+)$", "private", ()),
)


def mutations(text: str, seed: int = 1) -> Iterator[Mutation]:
    """All that the operators make of a text; the seed draws addresses and characters."""
    dice = random.Random(seed)
    lines = text.splitlines()

    def changed(number: int, new: str | None, what: str, culprits: frozenset[int | None]) -> Mutation:
        kept = [*lines[: number - 1], *([] if new is None else new.split("\n")), *lines[number:]]
        return Mutation(f"line {number}: {what}", "\n".join(kept) + "\n", culprits)

    for number, line in enumerate(lines, 1):
        here: frozenset[int | None] = frozenset({number})
        for pattern, others in _ALGORITHMS:
            if re.search(pattern, line):
                for other in others:
                    yield changed(number, f"{line.rpartition(' ')[0]} {other}", f"{line.strip()} -> {other}", here)
        if found := re.search(r"^ ip address (198\.51\.100|192\.168\.50)\.(\d+)", line):
            taken = {"198.51.100": ("1", "2", "3"), "192.168.50": ("213", "216", "218")}[found[1]]
            other = next(host for host in taken if host != found[2])
            yield changed(number, line.replace(f".{found[2]} 255", f".{other} 255"), "another device's address", here)
        for pattern in _ADDRESSES:
            if found := re.search(pattern, line):
                for _ in range(3):
                    other = _other_address(found[1], dice)
                    new = line[: found.start(1)] + other + line[found.end(1) :]
                    yield changed(number, new, f"{found[1]} -> {other}", here)
        for pattern, replacement in _HARMLESS:
            if re.search(pattern, line):
                yield changed(number, re.sub(pattern, replacement, line), f"-> {replacement.strip()}", frozenset())
        for pattern, other, elsewhere in _DANGLING:
            if found := re.search(pattern, line):
                new = line[: found.start(1)] + other + line[found.end(1) :]
                also = {at for at, each in enumerate(lines, 1) for rule in elsewhere if re.search(rule, each)}
                yield changed(number, new, f"{found[1]} -> {other}", here | also)
        if "pre-shared-key" in line:
            head, _, key = line.rpartition(" ")
            at = dice.randrange(len(key))
            for other in (
                key[:-1],
                key + "x",
                key[:at] + ("Q" if key[at] != "Q" else "R") + key[at + 1 :],
                key.upper(),
                "cisco123",
            ):
                yield changed(number, f"{head} {other}", "another key", here)
        if found := re.search(r"remote-as (\d+)$", line):
            for asn in ("65530", "65532", "1", "4200000000"):
                yield changed(number, line.replace(found[1], asn), f"remote-as {asn}", here)
        if re.match(r"router bgp", line):
            for asn in ("23456", "65529", "65531", "64512", "4200000000"):
                yield changed(number, f"router bgp {asn}", f"AS {asn}", here)
        if "local-identity address" in line:
            for other in ("hostname", "key-id gw"):
                yield changed(number, line.replace("address", other), f"identity {other}", here)
        if re.match(r" ip address 169\.254", line):
            for host in ("5", "3"):
                yield changed(number, re.sub(r"\.2 255", f".{host} 255", line), f"inner address .{host}", here)
            yield changed(number, line.replace("169.254.1", "169.254.2"), "inner address elsewhere", here)
        if line == " group 14":
            yield changed(number, " group 99", "a group that there is not", here)
        if re.match(r" tunnel mode", line):
            yield changed(number, " tunnel mode gre ip", "GRE", here)
        if re.match(r"tunnel-group \S+ type", line):
            yield changed(number, None, "no type", frozenset({None}))
        if line.strip() == "no shutdown":
            yield changed(number, " shutdown", "shutdown", here)
        if re.match(r" nameif (outside1|private)", line):
            yield changed(number, f"{line}\n shutdown", "shutdown added", frozenset({number + 1}))
        if re.match(r"  network", line):
            wide = (
                line.replace("255.255.255.0", "255.255.0.0")
                .replace(".1.0 mask", ".0.0 mask")
                .replace(".2.0 mask", ".0.0 mask")
            )
            yield changed(number, wide, "a wider mask", here)
            yield changed(number, re.sub(r"192\.168\.\d", "172.16.9", line), "another network", here)
            yield changed(number, None, "no network", frozenset({None}))
        if re.match(r"route private", line):
            yield changed(number, re.sub(r"192\.168\.\d\.0", "172.16.9.0", line, count=1), "to another prefix", here)
        if re.search(r"neighbor \S+ activate$", line):
            neighbor = line.rpartition(" ")[0]
            after: frozenset[int | None] = frozenset({number + 1})
            yield changed(number, f"{line}\n{neighbor} shutdown", "neighbour shut down", after)
            yield changed(number, f"{line}\n{neighbor} password secret1", "a TCP MD5 key", after)
            other = f"  neighbor 192.168.50.99 remote-as 65530\n  neighbor 192.168.50.99 activate\n{line}"
            yield changed(number, other, "one neighbour more", frozenset())
            yield changed(number, None, "not activated", frozenset({None}))
            yield changed(number, f"  no {line.strip()}", "no activate", frozenset({None, number}))
        for pattern in (
            "^crypto ikev2 enable", "^ set pfs", "^ tunnel (source|destination|mode|protection)", "remote-as", "^route outside1",
            "^ ikev2 (remote|local)", "^ set ikev2 ipsec-proposal", "^ protocol esp", "^ ip address 169",
        ):  # fmt: skip
            if re.search(pattern, line):
                yield changed(number, None, "dropped", frozenset({None}))
    yield from _of_neighbors(lines, dice)
    yield from _of_groups(lines, dice)


def _of_neighbors(lines: list[str], dice: random.Random) -> Iterator[Mutation]:
    """Another neighbour in all of its commands."""
    first = next(at for at, line in enumerate(lines, 1) if "remote-as" in line)
    address = lines[first - 1].split()[1]
    for other in (_other_address(address, dice), address.replace("169.254.1", "169.254.3")):
        text = "\n".join(line.replace(f"neighbor {address} ", f"neighbor {other} ") for line in lines) + "\n"
        yield Mutation(f"line {first}: neighbour {other}", text, frozenset({first}))


def _of_groups(lines: list[str], dice: random.Random) -> Iterator[Mutation]:
    """A tunnel-group of another name in both of its commands."""
    first = next(at for at, line in enumerate(lines, 1) if line.startswith("tunnel-group"))
    address = lines[first - 1].split()[1]
    other = _other_address(address, dice)
    text = "\n".join(line.replace(f"tunnel-group {address} ", f"tunnel-group {other} ") for line in lines) + "\n"
    yield Mutation(f"line {first}: tunnel-group {other}", text, frozenset({first, first + 1}))
