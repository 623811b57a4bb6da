"""Mininet's public API over netlink, and a plan built by it, against the running kernel."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM
from typing import Any

import pytest

from harness.impairment import Impairment
from harness.net import sandbox
from harness.net.mininet import LabError, LabLink, LabNet, LabNode, LabSwitch, PlanTopo, Topo
from harness.net.netlink import NetlinkError
from harness.net.stock import Link as StockLink
from harness.net.stock import Node
from harness.net.sysctls import hash_seed, node_sysctls
from harness.plan import End, Link, Plan, Role, Route
from harness.plan import Node as PlanNode
from tests.net.sandboxed import ROOT, environment, inside, refusal


class Star(Topo):  # type: ignore[misc]
    """A router and its hosts, each on a link of its own."""

    def build(self, n: int = 3) -> None:
        router = self.addHost("c0", ip="10.0.0.1/24", forwarding=True)
        for i in range(n):
            host = self.addHost(f"h{i}", ip=f"10.0.{i}.2/24", defaultRoute=f"via 10.0.{i}.1")
            self.addLink(router, host, params1={"ip": f"10.0.{i}.1/24"})


def ping(node: Any, target: str) -> bool:
    return bool(node.pexec(f"ping -c1 -W1 {target}")[2] == 0)


@inside
def test_cmd_popen_pexec_send_and_interrupt() -> None:
    net = LabNet(Star(2))
    h0, h1 = net.get("h0", "h1")
    assert repr(h0) == "<LabNode h0: h0-eth0:10.0.0.2 pid=None> ", "asking for the representation must not start a bash"
    assert ping(h0, h1.IP())
    assert h0.__dict__.get("_shell_shell") is None, "popen must not start a bash"
    assert h0.cmd("echo", "a", 1) == "a 1\r\n"
    assert h0.cmd(["echo", "list"]) == "list\r\n"
    assert "10.0.0.2/24" in h0.cmd("ip -4 address show dev h0-eth0")
    assert h0.cmd("cd /tmp; X=5") == ""
    assert h0.cmd("echo $X; pwd").split() == ["5", "/tmp"]
    h0.cmd("sleep 1000 &")
    assert h0.cmd(f"kill -0 {h0.lastPid} && echo there") == "there\r\n", "its name it may not have yet"
    h0.sendCmd("ping 10.0.1.2", printPid=True)
    seen = ""
    while "64 bytes" not in seen:
        seen += h0.monitor()
    assert Path(f"/proc/{h0.lastPid}/comm").read_text() == "ping\n"
    h0.sendInt()
    assert "packets transmitted" in h0.waitOutput()
    assert h0.popen("cat /proc/self/comm").communicate()[0] == b"cat\n"
    assert h0.popen(["sh", "-c", "exit 3"]).wait() == 3
    assert h0.popen("echo", "x").communicate()[0] == b"x\n"
    out, err, code = h0.pexec("ls", "/none")
    assert (out, code) == ("", 2)
    assert "No such file" in err
    assert h0.popen("echo a; echo b", shell=True).communicate()[0] == b"a\nb\n"
    pid = h0.pid
    net.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert h0.shell is None
    assert h0.cmd("echo") is None, "a stopped node runs nothing"


@inside
def test_a_shell_gets_what_mininets_has() -> None:
    """Octet 3 interrupts; background jobs end with the node."""
    net = LabNet(Star(1))
    h0 = net["h0"]
    # bash itself loses an interrupt that comes while it forks: the program has to speak first.
    h0.sendCmd("sh -c 'echo started; exec sleep 1000'")
    assert "started" in h0.monitor()
    h0.sendInt()
    h0.waitOutput()
    h0.cmd("sleep 1000 &")
    job = Path(f"/proc/{h0.lastPid}")
    assert job.exists()
    net.stop()
    end = time.monotonic() + 5
    while job.exists() and time.monotonic() < end:
        os.sched_yield()
    assert not job.exists() or "State:\tZ" in (job / "status").read_text()


@inside
def test_links_come_and_go() -> None:
    net = LabNet(Star(2))
    h0, h1 = net.get("h0", "h1")
    late = net.addLink("h0", "h1", params1={"ip": "172.16.0.1/24"}, params2={"ip": "172.16.0.2/24"})
    assert isinstance(late, LabLink)
    assert ping(h0, "172.16.0.2")
    assert late.status() == "(OK OK)"
    assert h0.connectionsTo(h1) == [(late.intf1, late.intf2)]
    net.delLink(late)
    assert (h0.intfNames(), net.linksBetween(h0, h1)) == (["h0-eth0"], [])
    assert [link.name for link in h1.rtnl.links()] == ["lo", "h1-eth0"]
    third = net.addHost("h9", ip="172.16.1.9/24")
    net.addLink(third, h1, params2={"ip": "172.16.1.1/24"})
    third.configDefault()
    assert ping(third, "172.16.1.1")
    net.delHost(third)
    assert "h9" not in net
    net.stop()


@inside
def test_a_link_down_and_up_keeps_its_static_routes() -> None:
    """The kernel drops the routes of a link that goes down; a router's configuration does not forget them."""
    net = LabNet(Star(2))
    c0, h0, h1 = net.get("c0", "h0", "h1")
    before = sorted(str(route) for route in h1.rtnl.routes())
    net.configLinkStatus("c0", "h1", "down")
    assert not h1.intf().isUp()
    assert not c0.intf("c0-eth1").isUp()
    assert h1.rtnl.routes() == []
    assert not ping(h0, "10.0.1.2")
    net.configLinkStatus("c0", "h1", "up")
    start = time.monotonic()
    assert ping(h0, "10.0.1.2")
    assert time.monotonic() - start < 0.5, "the carrier was not settled: ARP had to ask twice"
    assert sorted(str(route) for route in h1.rtnl.routes()) == before
    net.stop()


@inside
def test_addresses_macs_names() -> None:
    net = LabNet(Star(1), autoSetMacs=False)
    h0 = net["h0"]
    intf = h0.intf()
    assert (h0.IP(), h0.MAC(), intf.updateAddr()) == (
        "10.0.0.2",
        "02:76:62:00:00:02",
        ("10.0.0.2", "02:76:62:00:00:02"),
    )
    h0.setIP("10.0.0.7/24")
    h0.setIP("10.0.0.8", prefixLen=24)
    h0.setMAC("02:00:00:00:00:99")
    assert (h0.IP(), h0.MAC(), intf.updateIP(), intf.updateMAC()) == (
        "10.0.0.8",
        "02:00:00:00:00:99",
        "10.0.0.8",
        "02:00:00:00:00:99",
    )
    assert [str(found.interface) for found in h0.rtnl.addresses() if found.interface.version == 4][1:] == [
        "10.0.0.8/24"
    ]
    intf.rename("wan")
    assert h0.intf("wan") is intf
    assert h0.rtnl.link("wan").up
    h0.setARP("10.0.0.77", "02:00:00:00:00:77")
    assert [found.mac for found in h0.rtnl.neighbours() if str(found.address) == "10.0.0.77"] == ["02:00:00:00:00:77"]
    h0.setHostRoute("192.0.2.1", "wan")
    h0.setDefaultRoute("dev wan via 10.0.0.1")
    assert {str(route.prefix) for route in h0.rtnl.routes(protocol=4)} == {"0.0.0.0/0", "192.0.2.1/32"}
    with pytest.raises(LabError, match="'metric' is not understood"):
        h0.setDefaultRoute("via 10.0.0.1 metric 5")
    net.stop()


@inside
def test_switches_learn_without_a_controller() -> None:
    topo = Topo()
    topo.addSwitch("s1")
    topo.addSwitch("s2")
    for i in range(3):
        topo.addLink(topo.addHost(f"h{i}"), f"s{1 + i % 2}")
    topo.addLink("s1", "s2")
    net = LabNet(topo)
    net.start()
    assert net.pingAll() == 0
    assert all(isinstance(switch, LabSwitch) for switch in net.switches)
    net["s1"].stop(deleteIntfs=False)
    assert net.ping([net["h0"], net["h2"]], timeout=1) == 100
    net["s1"].start()
    assert net.ping([net["h0"], net["h2"]], timeout=1) == 0
    net.stop()


@inside
def test_any_node_class_of_a_users_works() -> None:
    """The LinuxRouter of Mininet's own examples: derived from Node, configured by a shell command."""

    class LinuxRouter(Node):  # type: ignore[misc]
        def config(self, **params: Any) -> None:
            super().config(**params)
            self.cmd("sysctl -w net.ipv4.ip_forward=1")

    topo = Topo()
    topo.addHost("r0", cls=LinuxRouter, ip="10.0.1.1/24")
    for i in (1, 2):
        host = topo.addHost(f"h{i}", ip=f"10.0.{i}.2/24", defaultRoute=f"via 10.0.{i}.1")
        topo.addLink(host, "r0", intfName2=f"r0-eth{i}", params2={"ip": f"10.0.{i}.1/24"})
    net = LabNet(topo)
    assert isinstance(net["r0"], LabNode)
    assert isinstance(net["r0"], LinuxRouter)
    assert ping(net["h1"], "10.0.2.2")
    net.stop()


@inside
def test_errors_name_the_node_and_the_rule() -> None:
    def build(**node: Any) -> None:
        topo = Topo()
        topo.addHost("gw1", **node)
        topo.addHost("h1")
        topo.addLink("gw1", "h1")
        LabNet(topo)

    with pytest.raises(
        NetlinkError, match=r"node gw1: add route 10.9.0.0/16 via 192.0.2.1 dev 2: Network is unreachable"
    ):
        build(routes=(Route("10.9.0.0/16", gateway="192.0.2.1", device="gw1-eth0"),))
    with pytest.raises(LabError, match="node gw1: no interface 'tun0'; it has lo, gw1-eth0"):
        build(routes=(Route("10.9.0.0/16", device="tun0"),))
    with pytest.raises(LabError, match="no interface has that gateway in its network"):
        build(routes=(Route("10.9.0.0/16", gateway="192.0.2.1"),))
    with pytest.raises(OSError, match=r"node gw1: sysctl net\.ipv4\.nothing=1: No such file or directory"):
        build(sysctls={"net.ipv4.nothing": "1"})
    build()


PLAN = Plan(
    "wan",
    "A gateway with a /32 and an off-link next hop",
    nodes=(
        PlanNode(
            "gw",
            Role.DEVICE,
            addresses=("172.31.0.1/32",),
            routes=(Route("0.0.0.0/0", gateway="192.0.2.172", device="wan", onlink=True, source="172.31.0.1"),),
            forwarding=True,
            sysctls={"net.ipv4.ip_default_ttl": "99"},
        ),
        PlanNode(
            "internet",
            Role.INTERNET,
            addresses=("192.0.2.172/32",),
            routes=(
                Route("198.51.100.1/32", device="gw"),
                Route("172.31.0.1/32", device="gw"),
                Route("203.0.113.0/24", device="lo", local=True),
            ),
            forwarding=True,
        ),
        PlanNode("lan", Role.SWITCH),
        PlanNode("h1", Role.CLIENT, routes=(Route("0.0.0.0/0", gateway="10.0.0.1"), Route("::/0", gateway="fd00::1"))),
        PlanNode("h2", Role.CLIENT),
    ),
    links=(
        Link(
            End("gw", "wan", ("198.51.100.1/32",), impairment=Impairment(rate_mbit=50)),
            End("internet", "gw", impairment=Impairment(rate_mbit=20)),
        ),
        Link(End("gw", "lan", ("10.0.0.1/24", "fd00::1/64")), End("lan", "p1")),
        Link(End("h1", "eth0", ("10.0.0.2/24", "fd00::2/64"), mtu=1400), End("lan", "p2")),
        Link(End("h2", "eth0", ("10.0.0.3/24",)), End("lan", "p3")),
        Link(End("h1", "direct", ("10.1.0.1/30",)), End("h2", "direct", ("10.1.0.2/30",))),
        Link(End("h1", "second", ("10.1.0.5/30",)), End("h2", "second", ("10.1.0.6/30",))),
    ),
)


@inside
def test_a_plan_is_built_as_it_says() -> None:
    net = LabNet(PlanTopo(PLAN), seed=7)
    gw, internet, h1 = net.get("gw", "internet", "h1")
    assert ping(gw, "203.0.113.99"), "the internet answers for a whole prefix, over an off-link next hop, both ends /32"
    assert ping(h1, "10.0.0.3")
    assert ping(h1, "fd00::1")
    assert ping(h1, "10.1.0.2")
    assert ping(h1, "10.1.0.6")
    assert h1.rtnl.link("eth0").mtu == 1400
    assert sorted(link.name for link in h1.rtnl.links()) == ["direct", "eth0", "lo", "second"]
    (default,) = [route for route in gw.rtnl.routes() if str(route.prefix) == "0.0.0.0/0"]
    assert (str(default.source), default.gateways[0].onlink) == ("172.31.0.1", True)
    assert "rate 50Mbit" in gw.pexec("tc qdisc show dev wan")[0]
    assert "rate 20Mbit" in internet.pexec("tc qdisc show dev gw")[0], "each direction has its own"
    assert gw.namespace.read_sysctl("net.ipv4.ip_default_ttl") == "99"
    assert [switch.name for switch in net.switches] == ["lan"]
    net.stop()


@inside
def test_a_node_inherits_no_setting() -> None:
    """Every setting of the table holds in a node, though the sandbox around it says otherwise."""
    around = LabNode("around", inNamespace=False)
    around.namespace.sysctl(
        {
            "net.ipv4.ip_forward": "1",
            "net.ipv4.conf.all.rp_filter": "1",
            "net.ipv4.conf.default.rp_filter": "1",
            "net.ipv4.conf.default.send_redirects": "1",
            "net.ipv4.conf.default.arp_ignore": "8",
        }
    )
    net = LabNet(PlanTopo(PLAN), seed=7)
    for name, forwarding in (("gw", True), ("h1", False)):
        namespace = net[name].namespace
        for key, value in node_sysctls(forwarding=forwarding, seed=hash_seed(7, name)).items():
            if key.endswith("?") and not Path("/proc/sys", *key[:-1].split(".")).exists():
                continue
            assert namespace.read_sysctl(key.removesuffix("?")) == value, f"{name}: {key}"
    assert net["gw"].namespace.read_sysctl("net.ipv4.conf.wan.rp_filter") == "0"
    assert net["gw"].namespace.read_sysctl("net.ipv4.conf.wan.ignore_routes_with_linkdown") == "1"
    net.stop()


def test_the_table_of_sysctls_says_what_labs_rely_on() -> None:
    """Typed by hand, not read from the table."""
    table = node_sysctls(forwarding=True, seed=5)
    relied_on = {
        "net.ipv4.ip_forward": "1",
        "net.ipv6.conf.all.forwarding?": "1",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.rp_filter": "0",
        "net.ipv4.conf.lo.rp_filter": "0",
        "net.ipv4.conf.all.accept_redirects": "0",
        "net.ipv4.conf.default.accept_redirects": "0",
        "net.ipv4.conf.all.send_redirects": "0",
        "net.ipv4.conf.default.send_redirects": "0",
        "net.ipv4.fib_multipath_hash_policy": "1",
        "net.ipv6.fib_multipath_hash_policy?": "1",
        "net.ipv4.fib_multipath_hash_seed?": "5",
        "net.ipv4.nexthop_compat_mode?": "1",
        "net.ipv4.icmp_ratelimit": "0",
        "net.ipv6.icmp.ratelimit?": "0",
        "net.ipv6.conf.all.accept_dad?": "0",
        "net.ipv6.conf.default.accept_dad?": "0",
    }
    assert relied_on.items() <= table.items()
    assert next(iter(table)) == "net.ipv4.ip_forward", "switching forwarding resets the redirects: it comes first"


def test_hash_seeds_differ_by_node_and_repeat_by_run() -> None:
    seeds = {name: hash_seed(7, name) for name in ("gw1", "gw2", "tr-hangzhou")}
    assert len(set(seeds.values())) == 3
    assert seeds == {name: hash_seed(7, name) for name in seeds}
    assert hash_seed(8, "gw1") != seeds["gw1"]
    assert all(0 < seed < 2**32 for seed in seeds.values())


@inside
def test_equal_builds_are_equal_to_the_octet() -> None:
    """Indexes, names and MAC addresses are chosen, not left to chance."""

    def facts() -> list[Any]:
        net = LabNet(PlanTopo(PLAN))
        found = [(name, link) for name in net for link in net[name].rtnl.links() if link.name != "br0"]
        net.stop()
        return found

    assert facts() == facts()


@inside
def test_the_first_packet_after_a_build_is_not_lost() -> None:
    """A fast build exposes that a veth opened before its peer drops packets until linkwatch has run; ARP then waits a second."""
    for _ in range(3):
        net = LabNet(Star(40))
        near, far = net["h0"].namespace, net["h39"].namespace
        with near.socket(AF_INET, SOCK_DGRAM) as sender, far.socket(AF_INET, SOCK_DGRAM) as receiver:
            receiver.bind(("10.0.39.2", 5000))
            sender.sendto(b"x", ("10.0.39.2", 5000))
            assert select.select([receiver], [], [], 0.5)[0]
        net.stop()


@inside
def test_a_lab_of_seventeen_nodes_is_built_at_once() -> None:
    start = time.process_time()
    net = LabNet(Star(16))
    assert time.process_time() - start < 0.5
    net.stop()


@inside
def test_the_hosts_limits_and_logs_are_left_alone() -> None:
    """Mininet's fixLimits writes fs.file-max, net.core.* and kernel.pty.max; its clean-up kills by name."""
    import mininet.net

    called: list[str] = []
    for name in ("fixLimits", "ensureRoot"):
        setattr(mininet.net, name, lambda name=name: called.append(name))
    LabNet(Star(1)).stop()
    assert called == []


def test_a_foreign_link_class_is_refused() -> None:
    class Wireless(StockLink):  # type: ignore[misc]
        pass

    with pytest.raises(LabError, match="link class Wireless: links here are LabLinks"):
        LabNet(link=Wireless)


def test_mininet_is_imported_without_distutils() -> None:
    code = "import sys, harness.net.mininet; print('distutils' in sys.modules, 'setuptools' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False False\n", done.stderr


TOPOLOGY = """
from harness.net import mn_command
from harness.plan import Plan

PLAN = Plan.from_json({plan!r})


def wan():
    from harness.net.mininet import PlanTopo

    return PlanTopo(PLAN)


topos = {{"wan": wan}}
globals().update(mn_command.names())
"""


@pytest.mark.root
class TestMnCommand:
    """``mn --custom FILE --topo NAME``: Mininet's own command."""

    @staticmethod
    def mn(tmp_path: Path, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        if not sandbox.inside() and (reason := refusal()) is not None:
            pytest.skip(reason)
        program = Path(sys.executable).with_name("mn")
        if not program.exists():
            pytest.skip("mn is not installed beside this Python")
        custom = tmp_path / "wan.py"
        custom.write_text(textwrap.dedent(TOPOLOGY).format(plan=PLAN.to_json()))
        return subprocess.run(
            [str(program), "--custom", str(custom), *words],
            env=environment(),
            input=said,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_the_cli_in_the_sandbox(self, tmp_path: Path) -> None:
        done = self.mn(
            tmp_path,
            "--topo",
            "wan",
            said="nodes\nh1 ping -c1 -W1 h2\ngw ip -j -4 address show dev wan\nlink gw lan down\nh1 ping -c1 -W1 gw\nexit\n",
        )
        assert "available nodes are: \ngw h1 h2 internet lan" in done.stderr
        assert "1 packets transmitted, 1 received" in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("[{")]
        assert "100% packet loss" in done.stderr
        assert json.loads(line)[0]["addr_info"][0]["local"] == "198.51.100.1"
        assert done.returncode == 0

    def test_its_own_topologies_too(self, tmp_path: Path) -> None:
        done = self.mn(tmp_path, "--topo", "single,3", "--test", "pingall")
        assert "0% dropped (6/6 received)" in done.stderr

    def test_mns_clean_up_is_not_run(self, tmp_path: Path) -> None:
        """On an exception ``mn`` kills by name and removes /tmp/*.log: not ours."""
        log = Path("/tmp") / f"vbrlab-test-{os.getpid()}.log"
        log.write_text("kept")
        try:
            done = self.mn(tmp_path, "--topo", "no-such")
            assert "Invalid topo name no-such" in done.stderr
            assert log.read_text() == "kept"
        finally:
            log.unlink()

    def test_the_file_is_plain_python_elsewhere(self, tmp_path: Path) -> None:
        self.mn(tmp_path, "--version")
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import runpy; print(sorted(k for k in runpy.run_path({str(tmp_path / 'wan.py')!r}) if k[0] != '_'))",
            ],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.stdout == "['PLAN', 'Plan', 'mn_command', 'topos', 'wan']\n", done.stderr
