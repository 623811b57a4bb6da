"""Stars of N nodes with a speaker in each: ten routes from every leaf, until every kernel has every route of the others.

The leaves have one session each, to the speaker in the middle, which passes everything on: N sessions, 10 N routes, of which
10 N² are told. The clock runs from the first fork of a speaker; namespaces and links are built before. Memory and CPU time
are those of all speakers; what the kernel holds for namespaces and routes is not in it.

    python growth.py N WITHIN [ROUTES]     inside a sandbox; prints JSON; ROUTES from each leaf, ten where it is not given

A thousand namespaces need more neighbours than the kernel's one table of them takes (``neigh.default.gc_thresh3``, 1,024): each end
of a link gets the other's as a permanent entry, which does not count against it. File descriptors: one a session in the middle,
one a namespace and one a netlink socket here; the soft limit is raised to the hard one.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path

from harness.net import rtnl
from harness.net.namespace import Namespace
from harness.net.rtnl import Rtnl
from harness.net.zygote import Child, Spawn, Zygote

ROUTES = 10
_MIDDLE_ASN, _FIRST_ASN = 64512, 4_200_000_000
_TICK = os.sysconf("SC_CLK_TCK")
_PRELOAD = ["harness.bgp.daemon"]


@dataclass(frozen=True, slots=True)
class Size:
    """Seconds, megabytes. ``complete``: leaves whose kernels had every route when the time was over."""

    nodes: int
    seconds: float
    cpu: float
    memory: float
    complete: int


def near(number: int) -> IPv4Address:
    """The middle's end of a leaf's link, a /31."""
    return IPv4Address("10.0.0.0") + 2 * number


def prefixes(number: int, routes: int) -> list[str]:
    """What a leaf originates."""
    return [f"{IPv4Address('100.64.0.0') + 16 * (routes * number + k)}/28" for k in range(routes)]


def _mac(middle: bool, number: int) -> str:
    return f"02:{1 if middle else 2:02x}:00:00:{number >> 8:02x}:{number & 255:02x}"


def build(leaves: int) -> list[Namespace]:
    """The middle, then the leaves, wired, addressed, up, each neighbour known."""
    nodes = [Namespace.create(f"n{number}") for number in range(leaves + 1)]
    with Rtnl(nodes[0]) as middle:
        middle.transact([rtnl.link_set(1, up=True)])
        for number, leaf in enumerate(nodes[1:]):
            index = number + 2
            mine, theirs = _mac(True, number), _mac(False, number)
            middle.transact(
                [rtnl.veth(f"to{number}", "up", leaf.fd, ifindex=index, peer_ifindex=2, mac=mine, peer_mac=theirs)]
            )
            with Rtnl(leaf) as end:
                end.transact([rtnl.link_set(1, up=True), rtnl.link_set(2, up=True)])
                end.transact([rtnl.address(2, f"{near(number) + 1}/31")])
                end.transact([rtnl.neighbour(2, near(number), mine)])
            middle.transact([rtnl.link_set(index, up=True), rtnl.address(index, f"{near(number)}/31")])
            middle.transact([rtnl.neighbour(index, near(number) + 1, theirs)])
    return nodes


def _configurations(leaves: int, each: int) -> list[dict[str, object]]:
    middle = {
        "asn": _MIDDLE_ASN,
        "router_id": "10.255.255.255",
        "neighbors": [
            {
                "name": f"leaf{number}",
                "address": str(near(number) + 1),
                "remote_asn": _FIRST_ASN + number,
                "passive": True,
            }
            for number in range(leaves)
        ],
    }
    found: list[dict[str, object]] = [middle]
    for number in range(leaves):
        found.append(
            {
                "asn": _FIRST_ASN + number,
                "router_id": str(near(number) + 1),
                "networks": [{"prefix": prefix} for prefix in prefixes(number, each)],
                "neighbors": [{"name": "middle", "address": str(near(number)), "remote_asn": _MIDDLE_ASN}],
            }
        )
    return found


def routes(node: Namespace) -> int:
    """How many routes a node's kernel has (fib_triestat: no dump)."""
    with node.entered():
        text = Path("/proc/thread-self/net/fib_triestat").read_text()
    main = text.partition("Main:")[2].partition("Local:")[0] if "Main:" in text else text
    return sum(int(line.split()[1]) for line in main.splitlines() if line.strip().startswith("Prefixes:"))


def _memory(children: Sequence[Child]) -> float:
    """Megabytes of all speakers, shared pages counted once (Pss)."""
    total = 0
    for child in children:
        lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def _cpu(children: Sequence[Child]) -> float:
    ticks = 0
    for child in children:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def grow(nodes: int, within: float, each: int = ROUTES) -> Size:
    """One star of ``nodes`` in all, with ``each`` routes from each leaf. Ends when every kernel has all, or after ``within`` seconds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    leaves = nodes - 1
    star = build(leaves)
    base = [routes(node) for node in star]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, Zygote.start(_PRELOAD) as zygote:
        folder, wanted = Path(name), []
        for number, (node, configuration) in enumerate(zip(star, _configurations(leaves, each), strict=True)):
            file = folder / f"{number}.json"
            file.write_text(json.dumps(configuration))
            arguments = ["--config", str(file)]
            wanted.append(
                Spawn("harness.bgp.daemon:main", arguments, node.fd, f"bgp:{number}", folder / f"{number}.log")
            )
        began = time.monotonic()
        children = zygote.spawn_all(wanted)
        # A leaf has what the others announce, the middle everything.
        due = [base[0] + each * leaves, *(count + each * (leaves - 1) for count in base[1:])]
        open_ = list(range(nodes))
        # Asked again and again, one node at a time, for the kernel tells no one its count; a node that is complete is asked no more.
        while open_ and time.monotonic() - began < within:
            first = open_[0]
            if routes(star[first]) < due[first]:
                time.sleep(0.02)
                continue
            open_ = [number for number in open_ if routes(star[number]) < due[number]]
        seconds = time.monotonic() - began
        found = Size(nodes, seconds, _cpu(children), _memory(children), nodes - len(open_))
        for child in children:
            child.kill(9)
        for child in children:
            child.wait(20.0)
    return found


if __name__ == "__main__":
    print(json.dumps(asdict(grow(int(sys.argv[1]), float(sys.argv[2]), *map(int, sys.argv[3:])))))  # noqa: T201
