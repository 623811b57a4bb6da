"""What this machine's kernel and programs can do for the labs: a table, tried once, shown by ``vbrlab doctor`` and every report.

Nothing is concluded from a version: each feature is used once as a lab would use it (``harness.trials``), in a forked child with
private namespaces, so that nothing of it is left and nothing of the host is touched. Whatever is missing is named with what
happens without it and what to do; only the labs that cannot run without it skip.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import select
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import patience, trials
from harness.ipsec.strongswan import DataPlane

_TIME_OUT = 10.0


@dataclass(frozen=True, slots=True)
class Feature:
    """One row: what it is ``purpose`` for, ``how`` it is tried, what happens ``without`` it, the ``remedy``.

    ``required``: no lab runs without it.
    """

    name: str
    title: str
    purpose: str
    how: str
    without: str
    remedy: str
    required: bool = False


def _kernel(option: str) -> str:
    return f"a kernel with {option} (Debian's has it)"


_STRONGSWAN = (
    "apt install --no-install-recommends charon-systemd strongswan-swanctl libcharon-extra-plugins "
    "libstrongswan-standard-plugins"
)
_PINNED = "an even split is still tested, but a repeated run spreads its flows differently"

FEATURES = (
    Feature("python", "Python 3.11", "the harness", "its version", "nothing runs", "Debian 12 or later", required=True),
    Feature(
        "namespaces",
        "network namespaces",
        "every node of a lab is one",
        "makes one and brings its loopback up",
        "nothing runs",
        _kernel("CONFIG_NET_NS") + ", root or user namespaces; in a container --privileged",
        required=True,
    ),
    Feature(
        "user-namespaces",
        "user namespaces for ordinary users",
        "running without root",
        "makes one as an unprivileged user",
        "labs run as root only",
        "sysctl -w kernel.unprivileged_userns_clone=1 and user.max_user_namespaces over 0",
    ),
    Feature(
        "veth",
        "veth pairs",
        "every cable of a lab",
        "makes a pair and brings it up",
        "nothing runs",
        _kernel("CONFIG_VETH"),
        required=True,
    ),
    Feature("bridge", "bridges", "switches", "makes one", "labs with a switch skip", _kernel("CONFIG_BRIDGE")),
    Feature(
        "nexthop-groups",
        "next-hop groups",
        "ECMP routes that change in one step",
        "makes a group of two next hops",
        "ECMP routes are written hop by hop (RTA_MULTIPATH); a change moves flows of surviving paths",
        "Linux 5.3 or later",
    ),
    Feature(
        "resilient-groups",
        "resilient next-hop groups",
        "flows of surviving tunnels stay on them when one is lost",
        "makes a resilient group of two next hops",
        "plain groups: a lost tunnel moves flows of the others too, and the labs that count them skip",
        "Linux 5.13 or later",
    ),
    Feature(
        "hash-policy",
        "multipath hash policy",
        "spreading flows by ports, not only by addresses",
        "sets net.ipv4.fib_multipath_hash_policy to 1",
        "three client blocks seldom use all three tunnels; the labs of evenness skip",
        _kernel("CONFIG_IP_ROUTE_MULTIPATH"),
    ),
    Feature(
        "hash-seed",
        "multipath hash seed",
        "a run that repeats flow by flow",
        "sets net.ipv4.fib_multipath_hash_seed",
        _PINNED,
        "Linux 6.11 or later",
    ),
    Feature(
        "tcp-md5",
        "TCP MD5 signatures",
        "BGP keys (RFC 2385)",
        "sets a key on a socket",
        "labs with a BGP key skip",
        _kernel("CONFIG_TCP_MD5SIG"),
    ),
    Feature(
        "tun",
        "TUN devices",
        "the userspace data plane of IPsec",
        "makes one and switches its carrier off",
        "IPsec needs the kernel data plane",
        "modprobe tun; chmod 0666 /dev/net/tun; in a container --device /dev/net/tun",
    ),
    Feature(
        "esp",
        "ESP in the kernel",
        "the kernel data plane of IPsec",
        "adds an ESP state with AES-CBC and HMAC-SHA1",
        "charon encrypts in user space (libipsec): up to some 300 Mbit/s in all",
        _kernel("CONFIG_INET_ESP"),
    ),
    Feature(
        "xfrm-interface",
        "xfrm interfaces",
        "the tunnel interfaces of the kernel data plane",
        "makes one",
        "charon encrypts in user space (libipsec) behind a TUN device",
        _kernel("CONFIG_XFRM_INTERFACE"),
    ),
    Feature(
        "tbf",
        "token bucket queues (tbf)",
        "rates of links, in Mbit/s; an inter-region connection always has one",
        "puts one on a link",
        "rates are refused, and with them labs with an inter-region connection",
        _kernel("CONFIG_NET_SCH_TBF"),
    ),
    Feature(
        "netem",
        "netem queues",
        "delay, jitter and loss of links",
        "puts one on a link",
        "delay, jitter and loss are refused before anything starts, and the labs that need them skip; a rate works without",
        _kernel("CONFIG_NET_SCH_NETEM"),
    ),
    Feature(
        "packet-filter",
        "nf_tables with connection tracking",
        "security groups of ECS instances",
        "loads a ruleset that tells answers from beginnings",
        "security groups let everything in; the labs that show them skip",
        _kernel("CONFIG_NF_TABLES and CONFIG_NFT_CT") + "; apt install nftables",
    ),
    Feature(
        "vrf",
        "VRF links",
        "several route tables in one node",
        "makes one",
        "nothing: no lab needs it",
        _kernel("CONFIG_NET_VRF"),
    ),
    Feature(
        "dummy",
        "dummy links",
        "addresses that no cable carries",
        "makes one",
        "such addresses lie on the loopback",
        _kernel("CONFIG_DUMMY"),
    ),
    Feature(
        "mininet",
        "Mininet",
        "the Python API of topologies, its CLI and the mn command",
        "finds its Python package",
        "nothing runs",
        "./run installs it into .venv",
        required=True,
    ),
    Feature(
        "ping", "ping", "reachability checks", "pings the loopback", "nothing runs", "apt install iputils-ping", True
    ),
    Feature(
        "tcpdump",
        "tcpdump",
        "reading captures by hand",
        "starts it",
        "nothing: the labs capture by themselves",
        "apt install tcpdump",
    ),
    Feature(
        "charon",
        "strongSwan's charon",
        "IKEv2",
        "starts one and asks its version over vici",
        "labs with IPsec skip",
        _STRONGSWAN,
    ),
    Feature(
        "libipsec",
        "strongSwan's kernel-libipsec",
        "the userspace data plane of IPsec",
        "looks for the TUN device of the charon that was started",
        "IPsec needs the kernel data plane",
        f"{_STRONGSWAN}; access to /dev/net/tun",
    ),
    Feature(
        "timely",
        "speed for timers of 50 ms",
        "BFD at its fastest, and bars in milliseconds",
        "takes the CPU time of a little Python and four processes",
        "deadlines are longer by the factor measured, and the labs with such timers skip",
        "a machine that is not emulated",
    ),
)
"""In the order in which they are tried and shown."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of trying one feature. ``reason`` says why not; ``detail`` is for the eye (versions, plugins)."""

    feature: Feature
    ok: bool
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self.feature), "ok": self.ok, "reason": self.reason, "detail": dict(self.detail)}


@dataclass(frozen=True, slots=True)
class Choice:
    """The IPsec data plane to use, or None with the reason why there is none."""

    plane: DataPlane | None
    reason: str


class Findings(Mapping[str, Finding]):
    """All findings by feature name, in the table's order."""

    def __init__(self, found: Iterable[Finding]) -> None:
        self._found = {finding.feature.name: finding for finding in found}

    def __getitem__(self, name: str) -> Finding:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def missing(self, *names: str) -> list[Finding]:
        """Those of ``names`` (of all, when none is given) that are not there."""
        return [self[name] for name in (names or tuple(self)) if not self[name].ok]

    def to_json(self) -> str:
        return json.dumps([finding.as_json() for finding in self.values()], indent=1)

    def dataplane(self, wanted: DataPlane | None = None) -> Choice:
        """The kernel's ESP where it is whole, else charon's own; or ``wanted`` and no other."""
        for plane, needed in _PLANES.items():
            if wanted in (None, plane) and not self.missing(*needed):
                return Choice(plane, "asked for" if wanted else _WHY[plane])
        planes = (wanted,) if wanted else tuple(_PLANES)
        lacking = [
            f"{plane.value} lacks {finding.feature.title} ({finding.reason})"
            for plane in planes
            for finding in self.missing(*_PLANES[plane])
        ]
        return Choice(None, "; ".join(lacking))


_PLANES = {
    DataPlane.XFRM: ("charon", "esp", "xfrm-interface"),
    DataPlane.LIBIPSEC: ("charon", "tun", "libipsec"),
}
_WHY = {
    DataPlane.XFRM: "the kernel has ESP and xfrm interfaces",
    DataPlane.LIBIPSEC: "the kernel lacks ESP or xfrm interfaces; charon encrypts in user space",
}


@functools.cache
def probe() -> Findings:
    """Tries everything, once for each process that asks. Some 100 ms; never raises for a feature that is missing."""
    return Findings(_probed())


def _probed() -> Iterator[Finding]:
    patience.factor()  # before the child asks, so that both have the same
    answers = _in_child()
    for feature in FEATURES:
        ok, reason, detail = answers.get(feature.name, (False, answers["scratch"][1], {}))
        yield Finding(feature, ok, reason, detail)


def _in_child() -> dict[str, tuple[bool, str, dict[str, Any]]]:
    """The trials' answers from a forked child; under "scratch" why any are missing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.setsid()
            _try_all(writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    data = b""
    late = False
    try:
        while not late:
            late = not select.select([reading], [], [], patience.stretched(_TIME_OUT))[0]
            if late:
                os.killpg(child, signal.SIGKILL)
            elif part := os.read(reading, 1 << 16):
                data += part
            else:
                break
    finally:
        os.close(reading)
        os.waitpid(child, 0)
    answers: dict[str, tuple[bool, str, dict[str, Any]]] = {
        "scratch": (False, f"no answer within {_TIME_OUT:g} s" if late else "the trial ended early", {})
    }
    for line in data.splitlines():
        name, ok, reason, detail = json.loads(line)
        answers[name] = (ok, reason, detail)
    return answers


def _try_all(writing: int) -> None:
    quiet = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(quiet, standard)
    try:
        trials.enter_scratch()
    except OSError as error:
        os.write(writing, json.dumps(["scratch", False, trials.reason_of(error), {}]).encode() + b"\n")
        return
    for answer in trials.every(iter([feature.name for feature in FEATURES])):
        os.write(writing, json.dumps(answer).encode() + b"\n")


def lines(findings: Findings, *, missing_only: bool = False) -> list[str]:
    """The findings as text: a line for each, and below a missing one what that means and what to do."""
    width = max(len(finding.feature.title) for finding in findings.values())
    shown = []
    for finding in findings.values():
        feature = finding.feature
        if finding.ok:
            if not missing_only:
                version = f" ({finding.detail['version']})" if "version" in finding.detail else ""
                shown.append(f"  ok  {feature.title:<{width}}  {feature.purpose}{version}")
            continue
        shown += [
            f"  --  {feature.title:<{width}}  {feature.purpose}: {finding.reason}",
            f"      {'':<{width}}  without it: {feature.without}",
            f"      {'':<{width}}  remedy: {feature.remedy}",
        ]
    choice = findings.dataplane()
    plane = choice.plane.value if choice.plane else "none"
    return [*shown, f"  IPsec data plane: {plane} ({choice.reason})"]


def markdown(features: Iterable[Feature] = FEATURES) -> str:
    """The table as a page's section: needs no machine to be tried on."""
    head = "| feature | what for | how it is tried | what happens without | remedy |\n|---|---|---|---|---|\n"
    rows = (
        f"| {feature.title}{' (required)' if feature.required else ''} | {feature.purpose} | {feature.how} "
        f"| {feature.without} | {feature.remedy} |"
        for feature in features
    )
    return head + "\n".join(rows) + "\n"
