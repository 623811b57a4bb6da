"""Packet filters of nodes (:class:`harness.plan.PacketFilter`) in the kernel: nf_tables, written by ``nft`` in one transaction.

A ruleset is replaced as a whole, so that no packet meets half of one. Connections are judged packet by packet in the direction in
which they were begun: a rule that is taken away ends what it let in. Answers to the node's own connections come in by connection
tracking. What is refused is counted by source, protocol and port in the set ``refused``, which is evidence, not a log.

Why nf_tables: the filter has to know answers from beginnings (a security group is stateful), which routing rules and classifiers of
traffic control cannot tell.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from harness.net.namespace import Namespace
from harness.plan import FilterRule, PacketFilter

TABLE = "security_group"

#: IANA's numbers. nft takes and prints names by /etc/protocols, which a bare Debian has not.
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "ipv6-icmp": 58}
_NAMES = {number: name for name, number in PROTOCOLS.items()}

_HEAD = f"""\
table inet {TABLE}
delete table inet {TABLE}
"""
_BODY = """\
table inet %s {
  set refused {
    typeof ip saddr . meta l4proto . th dport
    size 4096
    flags dynamic
    counter
  }
  chain refuse {
    meta l4proto { 6, 17 } update @refused { ip saddr . meta l4proto . th dport } drop
    meta nfproto ipv4 update @refused { ip saddr . meta l4proto . 0 } drop
    drop
  }
  chain inbound {
    type filter hook input priority filter; policy drop;
    iif lo accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    ct state related accept
    ct state established ct direction reply accept
%s
    counter goto refuse
  }
}
"""


class FilterError(RuntimeError):
    """A filter could not be set or read: the text says of which node, and why."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Packets of one kind that a filter let not in. ``port`` 0: the protocol has none."""

    source: str
    protocol: str
    port: int
    packets: int


def ruleset(wall: PacketFilter | None) -> str:
    """What ``nft -f`` gets; None takes a filter away."""
    if wall is None:
        return _HEAD
    return _HEAD + _BODY % (TABLE, "\n".join(f"    {line}" for line in map(_line, wall.rules)))


def load(namespace: Namespace, wall: PacketFilter | None) -> None:
    """Replaces the filter of a namespace. Raises FilterError."""
    _nft(namespace, ["-f", "-"], ruleset(wall))


def refused(namespace: Namespace) -> list[Refused]:
    """What the filter of a namespace has refused since it was set, the most packets first. Raises FilterError."""
    answer = json.loads(_nft(namespace, ["-j", "--numeric-protocol", "list", "set", "inet", TABLE, "refused"]))
    rows = [Refused(*row) for each in answer["nftables"] if "set" in each for row in _elements(each["set"])]
    return sorted(rows, key=lambda row: -row.packets)


def _line(rule: FilterRule) -> str:
    network = ip_network(rule.source)
    family = "ip" if network.version == 4 else "ip6"
    words = [f"{family} saddr {network}"]
    if rule.ports:
        words.append(f"{rule.protocol} dport {rule.ports[0]}-{rule.ports[1]}")
    elif rule.protocol != "all":
        words.append(
            f"meta l4proto {PROTOCOLS['ipv6-icmp' if (rule.protocol, family) == ('icmp', 'ip6') else rule.protocol]}"
        )
    return " ".join((*words, "counter", "accept" if rule.action == "accept" else "goto refuse"))


def _elements(found: dict[str, object]) -> Iterator[tuple[str, str, int, int]]:
    elements = found.get("elem", [])
    assert isinstance(elements, list)
    for element in elements:
        source, protocol, port = element["elem"]["val"]["concat"]
        yield str(source), _NAMES.get(protocol, str(protocol)), int(port), int(element["elem"]["counter"]["packets"])


def _nft(namespace: Namespace, arguments: list[str], text: str | None = None) -> str:
    path = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise FilterError(f"{namespace.name}: nft is not installed; apt install nftables")
    process = namespace.popen(
        [path, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    answer, said = process.communicate(text)
    if process.returncode:
        raise FilterError(f"{namespace.name}: nft refuses: {(said or answer).strip().splitlines()[0]}")
    return str(answer)
