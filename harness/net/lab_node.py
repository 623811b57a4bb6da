"""Mininet's Node over a namespace of our own: same calls, no process until one is asked for.

A node is a network namespace held by a descriptor and a route socket inside it. ``cmd`` and its kin start a bash when first
used; ``popen`` forks straight into the namespace; addresses and routes go by netlink. Source of the API: mininet.node.Node.
"""

# ruff: noqa: N802, N803, N815, ARG002 (Mininet's names and signatures)

from __future__ import annotations

import ipaddress
import itertools
import os
import re
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.net import rtnl, sandbox
from harness.net.lab_link import LabError
from harness.net.namespace import Namespace
from harness.net.requests import TABLE_LOCAL, TABLE_MAIN
from harness.net.rtnl import Request, RouteKind, Rtnl
from harness.net.shell import Bash, FromShell
from harness.net.stock import Node
from harness.net.sysctls import SWITCH_SYSCTLS, hash_seed, node_sysctls
from harness.net.wiring import Wiring
from harness.plan import Route, RoutingTable

if TYPE_CHECKING:
    from harness.net.lab_link import LabIntf

LOOPBACK = 1


class LabNode(Node):  # type: ignore[misc]
    """A host or router. Parameters beyond Mininet's: ``addresses`` (on lo), ``routes`` (:class:`harness.plan.Route`),
    ``tables`` (:class:`harness.plan.RoutingTable`), ``forwarding``, ``sysctls`` (over the table of ``sysctls``), ``seed`` (the run's)."""

    isSetup = True
    wiring = Wiring()
    _shared_indexes = itertools.count(1000)

    shell, pid, stdin, stdout = FromShell(), FromShell(), FromShell(), FromShell()
    master, slave, pollOut = FromShell(), FromShell(), FromShell()

    namespace: Namespace
    rtnl: Rtnl

    def __init__(self, name: str, inNamespace: bool = True, **params: Any) -> None:
        self._bash: Bash | None = None
        self._shell_allowed = False
        self.static_routes: list[tuple[int, Request]] = []
        self.tables: set[RoutingTable] = set()
        super().__init__(name, inNamespace=inNamespace, **params)
        self._shell_allowed = True

    def startShell(self, mnopts: str | None = None) -> None:
        """Makes the namespace. (Mininet's constructor calls it; a shell comes later.)"""
        if self.inNamespace:
            self.namespace = Namespace.create(self.name, self.settings())
            self._indexes = itertools.count(LOOPBACK + 1)
        else:
            if not sandbox.inside():
                raise LabError(
                    f"node {self.name}: inNamespace=False means the host's own network here; run in the sandbox"
                )
            self.namespace = Namespace.current(self.name)
            self._indexes = LabNode._shared_indexes
        self.rtnl = Rtnl(self.namespace)
        self.wiring.set(self, rtnl.link_set(LOOPBACK, up=True))

    def settings(self) -> dict[str, str]:
        """The sysctls of this node, in the order to set them."""
        seed = hash_seed(self.params.get("seed", 1), self.name)
        table = node_sysctls(forwarding=self.params.get("forwarding", False), seed=seed)
        return {**table, **self.params.get("sysctls", {})}

    def new_ifindex(self) -> int:
        return next(self._indexes)

    def ifindex(self, name: str) -> int:
        """The index of an interface of this node. Raises LabError naming those it has."""
        if name == "lo":
            return LOOPBACK
        if name not in self.nameToIntf:
            has = ", ".join(["lo", *self.nameToIntf])
            raise LabError(f"node {self.name}: no interface {name!r}; it has {has}")
        return int(self.nameToIntf[name].ifindex)

    def defaultIntf(self) -> Any:
        """The first interface; None, without Mininet's warning, for a node that has no cable yet."""
        return super().defaultIntf() if self.intfs else None

    # The shell

    def shell_wanted(self) -> bool:
        return self._shell_allowed and self._bash is None

    def start_bash(self) -> None:
        """Starts the bash that ``cmd`` talks to, and waits for its first prompt."""
        self.wiring.flush()
        prefix = ("unshare", "--mount") if self.privateDirs else ()
        bash = self._bash = Bash(self.namespace.popen, f"mininet:{self.name}", prefix)
        self.shell, self.pid, self.pollOut = bash.process, bash.process.pid, bash.poll
        self.stdin = self.stdout = bash.stdin
        self.master, self.slave = bash.master, bash.slave
        self.outToNode[bash.master] = self.inToNode[bash.master] = self
        self.execed, self.waiting = False, True
        self.waitOutput()
        self.cmd("set +m")
        if self.privateDirs:
            super().mountPrivateDirs()

    def mountPrivateDirs(self) -> None:
        """Private directories are mounted in the bash's own mount namespace, when it starts."""
        if self.privateDirs and self.shell_wanted():
            self.start_bash()

    def sendCmd(self, *args: Any, **kwargs: Any) -> None:
        """As Mininet's; ``printPid`` needs no mnexec."""
        self.wiring.flush()
        if kwargs.pop("printPid", False):
            words = args[0] if len(args) == 1 and isinstance(args[0], list) else args
            line = " ".join(str(word) for word in words)
            args = (r"""sh -c 'printf "\001%d\n" $$; exec "$@"' - """ + line,) if re.search(r"\w", line) else args
        super().sendCmd(*args, **kwargs)

    def popen(self, *args: Any, **kwargs: Any) -> subprocess.Popen[Any]:
        """A process in the node, by ``Popen``'s arguments: a list, words, or a string (split; given to a shell with ``shell``)."""
        words: list[str]
        if len(args) == 1 and isinstance(args[0], str):
            words = [args[0]] if kwargs.get("shell") else args[0].split()
        elif len(args) == 1:
            words = list(args[0])
        else:
            words = list(args)
        if kwargs.pop("shell", False):
            words = [os.environ.get("SHELL", "/bin/sh"), "-c", " ".join(words)]
        prefix = kwargs.pop("mncmd", None)
        if prefix is None:
            prefix = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--wdns=."] if self.privateDirs else []
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True, **kwargs}
        return self._popen([*prefix, *words], **options)

    def _popen(self, cmd: list[str], **params: Any) -> subprocess.Popen[Any]:
        self.wiring.flush()
        return self.namespace.popen(cmd, **params)

    # Network settings

    def config(
        self,
        mac: str | None = None,
        ip: str | None = None,
        defaultRoute: str | None = None,
        lo: str = "up",
        **params: Any,
    ) -> dict[str, Any]:
        """Mininet's, over netlink; and the addresses on lo and the routes of the plan."""
        results: dict[str, Any] = {}
        self.setParam(results, "setMAC", mac=mac)
        self.setParam(results, "setIP", ip=ip)
        self.setParam(results, "setDefaultRoute", defaultRoute=defaultRoute)
        if lo != "up":
            self.wiring.set(self, rtnl.link_set(LOOPBACK, up=False))
        for address in params.get("addresses", ()):
            self.wiring.set(self, rtnl.address(LOOPBACK, address))
        for table in params.get("tables", ()):
            self.add_table(table)
        for route in params.get("routes", ()):
            self.add_route(route)
        return results

    def add_table(self, table: RoutingTable) -> None:
        """The rules that lead to a table of the plan, once; its routes come by :meth:`add_route`."""
        if table in self.tables:
            return
        self.tables.add(table)
        ways = [{"interface": name} for name in table.interfaces] + [{"source": source} for source in table.sources]
        self.wiring.set(self, *[rtnl.rule(table.number + place, table.number, **way) for place, way in enumerate(ways)])

    def add_route(self, route: Route) -> None:
        """Sets a static route. It comes back by itself when its interface has been down, as on any router."""
        wanted = self._kernel_route(route)
        request = rtnl.route(route.prefix, metric=route.metric, source=route.source, replace=True, **wanted)
        self.static_routes.append((wanted.get("oif", LOOPBACK), request))
        self.wiring.set(self, request)

    def delete_route(self, route: Route) -> None:
        """Takes back a route of :meth:`add_route`."""
        wanted = self._kernel_route(route)
        wanted.pop("onlink", None)
        added = rtnl.route(
            route.prefix, metric=route.metric, source=route.source, replace=True, **self._kernel_route(route)
        )
        self.static_routes = [(oif, request) for oif, request in self.static_routes if request.body != added.body]
        self.wiring.set(self, rtnl.route_del(route.prefix, metric=route.metric, **wanted))

    def _kernel_route(self, route: Route) -> dict[str, Any]:
        if route.local:
            return {"oif": LOOPBACK, "kind": RouteKind.LOCAL, "table": TABLE_LOCAL}
        table = TABLE_MAIN if route.table is None else route.table
        if route.unreachable:
            return {"kind": RouteKind.UNREACHABLE, "table": table}
        device = self.ifindex(route.device) if route.device else self._towards(route)
        return {"oif": device, "gateway": route.gateway, "onlink": route.onlink, "table": table}

    def _towards(self, route: Route) -> int:
        """The interface whose network holds the route's gateway."""
        gateway = ipaddress.ip_address(route.gateway or "")
        for interface in self.intfList():
            if any(gateway in network for network in interface.networks()):
                return int(interface.ifindex)
        raise LabError(
            f"node {self.name}: route {route.prefix} by {gateway}: no interface has that gateway in its network; "
            "give the route a device (and onlink)"
        )

    def restore_routes(self, ifindex: int) -> None:
        """Puts back the static routes over an interface; the kernel dropped them when it went down."""
        self.wiring.set(self, *[request for oif, request in self.static_routes if oif == ifindex])

    def setARP(self, ip: str, mac: str) -> None:
        """A permanent neighbour on the interface whose network holds ``ip`` (else the first)."""
        value = ipaddress.ip_address(ip)
        candidates = [i for i in self.intfList() if any(value in network for network in i.networks())]
        interface: LabIntf = candidates[0] if candidates else self.defaultIntf()
        self.wiring.set(self, rtnl.neighbour(interface.ifindex, ip, mac))

    def setHostRoute(self, ip: str, intf: Any) -> None:
        self.add_route(Route(f"{ip}/{ipaddress.ip_address(ip).max_prefixlen}", device=str(intf)))

    def setDefaultRoute(self, intf: Any = None) -> None:
        """``intf`` is an interface, or words as of ``ip route``: "via 10.0.0.1", "dev h1-eth0"."""
        words = str(intf).split()
        if len(words) == 1:
            words = ["dev", words[0]]
        given = dict(itertools.zip_longest(words[::2], words[1::2]))
        if unknown := set(given) - {"via", "dev"}:
            raise LabError(
                f"node {self.name}: default route {intf!r}: {unknown.pop()!r} is not understood; say via, dev or both"
            )
        family = "::/0" if ":" in given.get("via", "") else "0.0.0.0/0"
        self.add_route(Route(family, gateway=given.get("via"), device=given.get("dev")))

    # The end

    def terminate(self) -> None:
        """Ends the bash and lets go of the namespace; the kernel takes the links with it."""
        self._shell_allowed = False
        if self._bash is not None:
            self.outToNode.pop(self._bash.master, None)
            self.inToNode.pop(self._bash.master, None)
            self._bash.close()
            self._bash = None
            self.shell = None
        self.rtnl.close()
        self.namespace.close()

    def deleteIntfs(self, checkName: bool = True) -> None:
        """Deletes the interfaces, and so the links they are ends of."""
        for interface in list(self.intfList()):
            interface.delete()

    def __repr__(self) -> str:
        interfaces = ",".join(f"{i.name}:{i.IP()}" for i in self.intfList())
        return f"<{type(self).__name__} {self.name}: {interfaces} pid={self.__dict__.get('_shell_pid')}> "


class LabSwitch(LabNode):
    """A learning bridge in a namespace: Mininet sees a switch that needs no controller. No spanning tree, no delay."""

    portBase = 1
    BRIDGE = "br0"

    def __init__(
        self, name: str, dpid: str | None = None, opts: str = "", listenPort: int | None = None, **params: Any
    ) -> None:
        params["inNamespace"] = True
        self.dpid, self.opts, self.listenPort = dpid, opts, listenPort
        super().__init__(name, **params)

    def settings(self) -> dict[str, str]:
        return {**SWITCH_SYSCTLS, **self.params.get("sysctls", {})}

    def startShell(self, mnopts: str | None = None) -> None:
        super().startShell(mnopts)
        self._bridge = self.new_ifindex()
        self.wiring.link(self, rtnl.bridge(self.BRIDGE, ifindex=self._bridge))
        self.wiring.set(self, rtnl.link_set(self._bridge, up=True))

    def addIntf(self, intf: Any, port: int | None = None, moveIntfFn: Any = None) -> None:
        super().addIntf(intf, port, moveIntfFn or (lambda *_: None))
        self.wiring.set(self, rtnl.link_set(intf.ifindex, master=self._bridge))

    def start(self, controllers: Sequence[Any] = ()) -> None:
        self.wiring.set(self, rtnl.link_set(self._bridge, up=True))

    def stop(self, deleteIntfs: bool = True) -> None:
        """Stops forwarding. (Its interfaces go with the namespace, at ``terminate``.)"""
        if not self.namespace.closed:
            self.wiring.set(self, rtnl.link_set(self._bridge, up=False))

    def connected(self) -> bool:
        return True
