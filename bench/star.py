"""A star of N nodes, built three ways: by our Mininet API, by the same netlink messages alone, by stock Mininet.

The star: a router in the middle, N hosts around it, each on a link of its own with a /30, a default route, everything up. "Raw" is
the floor: the messages that such a star needs and nothing else, from the same encoders, with no Mininet objects and no sysctls.
Stock Mininet is Debian's (``apt install --no-install-recommends mininet``), in a process of its own under /usr/bin/python3.

Also the calls that users make in loops: ``cmd``, ``popen``, ``pexec``, ours against stock's.

Every measurement is one child process in a sandbox of its own; rounds are interleaved, and medians are compared. As a program
inside a sandbox, ``python star.py build ours 256`` prints one measurement as JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STOCK_PYTHON = "/usr/bin/python3"
_HERE = Path(__file__).resolve()
_SUPERVISOR = _HERE.parents[1] / "harness" / "net" / "supervisor.py"


@dataclass(frozen=True, slots=True)
class Build:
    """Seconds to build a star, and to stop it as far as its API promises (the kernel may still be at work)."""

    build: float
    stop: float


@dataclass(frozen=True, slots=True)
class Calls:
    """Milliseconds a call, medians: a shell built-in by ``cmd``, a program by ``cmd``, ``popen`` and wait, ``pexec``."""

    cmd_builtin: float
    cmd_program: float
    popen: float
    pexec: float


def addresses(n: int) -> list[tuple[str, str]]:
    """(router's, host's) address of each of ``n`` links: one /30 a link in 10/8."""
    found = []
    for i in range(n):
        base = (10 << 24) + 4 * i
        found.append((_dotted(base + 1), _dotted(base + 2)))
    return found


def _dotted(value: int) -> str:
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def star_topo(topo_class: type, n: int) -> Any:
    """The star as a Mininet topology, from whichever Mininet ``topo_class`` is."""
    topo = topo_class()
    router = topo.addHost("c0", ip=f"{addresses(1)[0][0]}/30")
    for i, (near, far) in enumerate(addresses(n)):
        host = topo.addHost(f"h{i}", ip=f"{far}/30", defaultRoute=f"via {near}")
        topo.addLink(router, host, params1={"ip": f"{near}/30"})
    return topo


def build_ours(n: int) -> Build:
    from harness.net.mininet import LabNet, Topo

    start = time.perf_counter()
    net = LabNet(star_topo(Topo, n))
    built = time.perf_counter()
    net.stop()
    return Build(built - start, time.perf_counter() - built)


def build_raw(n: int) -> Build:
    from harness.net import rtnl
    from harness.net.namespace import Namespace
    from harness.net.rtnl import Rtnl

    start = time.perf_counter()
    nodes = [Namespace.create() for _ in range(n + 1)]
    sockets = [Rtnl(node) for node in nodes]
    router, hosts = sockets[0], sockets[1:]
    pairs = addresses(n)
    router.transact(
        rtnl.veth(f"c0-eth{i}", f"h{i}-eth0", node.fd, ifindex=i + 2, peer_ifindex=2)
        for i, node in enumerate(nodes[1:])
    )
    router.transact([rtnl.link_set(1, up=True)])
    router.transact(
        request
        for i, (near, _) in enumerate(pairs)
        for request in (rtnl.link_set(i + 2, up=True), rtnl.address(i + 2, f"{near}/30"))
    )
    for host, (near, far) in zip(hosts, pairs, strict=True):
        host.transact(
            [
                rtnl.link_set(1, up=True),
                rtnl.link_set(2, up=True),
                rtnl.address(2, f"{far}/30"),
                rtnl.route("0.0.0.0/0", gateway=near, oif=2),
            ]
        )
    router.transact(rtnl.link_get(i + 2) for i in range(n))
    for host in hosts:
        host.transact([rtnl.link_get(2)])
    built = time.perf_counter()
    for host in sockets:
        host.close()
    for node in nodes:
        node.close()
    return Build(built - start, time.perf_counter() - built)


def build_stock(n: int) -> Build:
    from mininet.net import Mininet
    from mininet.topo import Topo

    Mininet.inited = True  # its limits and sysctls are the host's
    start = time.perf_counter()
    net = Mininet(topo=star_topo(Topo, n), controller=None)
    built = time.perf_counter()
    net.stop()
    return Build(built - start, time.perf_counter() - built)


def _calls(net: Any, rounds: int) -> Calls:
    host = net["h0"]
    host.cmd("true")

    def median(call: Callable[[], object]) -> float:
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return statistics.median(times) * 1e3

    return Calls(
        cmd_builtin=median(lambda: host.cmd("echo hello")),
        cmd_program=median(lambda: host.cmd("/bin/true")),
        popen=median(lambda: host.popen(["/bin/true"]).communicate()),
        pexec=median(lambda: host.pexec("/bin/true")),
    )


def calls_ours(rounds: int) -> Calls:
    from harness.net.mininet import LabNet, Topo

    return _calls(LabNet(star_topo(Topo, 2)), rounds)


def calls_stock(rounds: int) -> Calls:
    from mininet.net import Mininet
    from mininet.topo import Topo

    Mininet.inited = True
    return _calls(Mininet(topo=star_topo(Topo, 2), controller=None), rounds)


WORK: dict[tuple[str, str], Callable[[int], Build | Calls]] = {
    ("build", "ours"): build_ours,
    ("build", "raw"): build_raw,
    ("build", "stock"): build_stock,
    ("calls", "ours"): calls_ours,
    ("calls", "stock"): calls_stock,
}


def stock_available() -> bool:
    """Is Debian's Mininet installed, with its mnexec?"""
    probe = subprocess.run([STOCK_PYTHON, "-c", "import mininet.net"], capture_output=True, cwd="/")
    return probe.returncode == 0 and Path("/usr/bin/mnexec").exists()


def namespaces_in_the_kernel() -> int | None:
    """How many network namespaces exist, those being destroyed too; None where only root may know and this is not root."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("net_namespace ")), None)


def settle(before: int | None, within: float = 10.0) -> None:
    """Waits until the kernel has destroyed what a measurement left (700 ms for 1,000 nodes), or the next would pay for it.

    The kernel says nothing when it is done: this looks every 20 ms, at most ``within`` seconds.
    """
    end = time.monotonic() + within
    while before is not None and (namespaces_in_the_kernel() or 0) > before + 4 and time.monotonic() < end:
        time.sleep(0.02)


def measure(what: str, way: str, size: int) -> Build | Calls:
    """One measurement in a child process in a sandbox. Raises RuntimeError with the child's own words."""
    before = namespaces_in_the_kernel()
    python = STOCK_PYTHON if way == "stock" else sys.executable
    child = [python, str(_HERE), what, way, str(size)]
    environment = {**os.environ, "PYTHONPATH": "" if way == "stock" else str(_HERE.parents[1])}
    command = [sys.executable, "-I", "-S", str(_SUPERVISOR), "bench", *child]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{what} {way} {size}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    settle(before)
    values = json.loads(done.stdout.splitlines()[-1])
    return Build(**values) if what == "build" else Calls(**values)


def compare_builds(n: int, rounds: int, ways: Sequence[str] = ("ours", "raw", "stock")) -> dict[str, list[Build]]:
    """``rounds`` measurements of each way, interleaved: what disturbs one round disturbs all ways of it. Of stock, which takes thirty times
    as long, a third as many."""
    found: dict[str, list[Build]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways:
            if way == "stock" and number % 3:
                continue
            measured = measure("build", way, n)
            assert isinstance(measured, Build)
            found[way].append(measured)
    return found


def median_build(measured: Sequence[Build]) -> float:
    return statistics.median(one.build for one in measured)


def median_life(measured: Sequence[Build]) -> float:
    """Build and stop together: what a user waits for in all."""
    return statistics.median(one.build + one.stop for one in measured)


def compare_calls(rounds: int, repeats: int = 3) -> dict[str, Calls]:
    """Ours and stock's, the median of ``repeats`` interleaved runs of ``rounds`` calls each."""
    found: dict[str, list[Calls]] = {"ours": [], "stock": []}
    for _ in range(repeats):
        for way, runs in found.items():
            measured = measure("calls", way, rounds)
            assert isinstance(measured, Calls)
            runs.append(measured)
    return {
        way: Calls(**{key: statistics.median(asdict(run)[key] for run in runs) for key in asdict(runs[0])})
        for way, runs in found.items()
    }


if __name__ == "__main__":
    print(json.dumps(asdict(WORK[sys.argv[1], sys.argv[2]](int(sys.argv[3])))))  # noqa: T201
