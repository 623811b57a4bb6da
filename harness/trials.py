"""What each kernel feature and program of ``harness.probe`` is tried with, inside a scratch of private namespaces.

Every function does the thing itself, as the lab would, and raises when the machine refuses: :class:`Missing` with a reason, or an
OSError whose text is one. What it returns (a version, a list of plugins) is for the eye. They run one after the other in one
forked child, in the order of the table, and leave nothing: with the child go its namespaces and all that is in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import importlib
import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import patience
from harness.net import packet_filter, queues, rtnl
from harness.net.namespace import Namespace, unshare
from harness.net.netlink import Flag, NetlinkError, Request, acknowledgement, attribute, frames, nested, text, u32
from harness.net.requests import IFINFO, Ifla, Rtm
from harness.plan import FilterRule, PacketFilter

Detail = dict[str, Any]

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
_NOBODY = 65534
_PR_SET_DUMPABLE = 4
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_TCP_MD5SIG = 14
_NETLINK_XFRM, _XFRM_MSG_NEWSA, _XFRMA_ALG_AUTH, _XFRMA_ALG_CRYPT = 6, 0x10, 1, 2
_LOOPBACK = 1
_OLDEST_PYTHON = (3, 11)

_libc = ctypes.CDLL(None, use_errno=True)


class Missing(Exception):
    """The machine does not have it; the text says how that showed."""


def enter_scratch() -> None:
    """Takes the calling process into private user (when not root), mount and network namespaces. Raises OSError."""
    # The scratch hides /tmp, and the project itself may lie below it: what a trial imports late is imported now.
    for module in ("harness.ipsec.charon", "harness.ipsec.strongswan", "harness.ipsec.vici_session"):
        importlib.import_module(module)
    with contextlib.suppress(ImportError):
        importlib.import_module("mininet")
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        with contextlib.suppress(OSError):
            unshare(CLONE_NEWNS | CLONE_NEWNET)
            _furnish()
            return
    unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)
    _map_to_root(uid, gid)
    _furnish()


def _map_to_root(uid: int, gid: int) -> None:
    for name, content in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(content)


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {target.decode()}: {os.strerror(number)}")


def _furnish() -> None:
    """Nothing on disk: temporary files go to a tmpfs of the private mount namespace."""
    _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE)
    _mount(b"tmpfs", b"/tmp", b"tmpfs", 0)
    tempfile.tempdir = "/tmp"
    with rtnl.Rtnl() as netlink:
        netlink.transact([rtnl.link_set(_LOOPBACK, up=True)])


def timely() -> Detail:
    """The run's one factor, which was measured before this child began."""
    if not patience.timely():
        raise Missing(f"this machine is {patience.factor():g} times slower than the labs' timers were set for")
    return {}


def namespaces() -> Detail:
    """The scratch stands already: a second namespace, and a socket in it."""
    unshare(CLONE_NEWNET)
    with rtnl.Rtnl() as netlink:
        netlink.transact([rtnl.link_set(_LOOPBACK, up=True)])
    return {}


def user_namespaces() -> Detail:
    """As an ordinary user would: in a child that has given up root. Raises Missing with the step that failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                with contextlib.suppress(OSError):  # a user namespace that maps root alone has no other user
                    os.setgroups([])
                    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
                    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
                    _libc.prctl(_PR_SET_DUMPABLE, 1)
            uid, gid = os.geteuid(), os.getegid()
            unshare(CLONE_NEWUSER | CLONE_NEWNET)
            _map_to_root(uid, gid)
        except OSError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        refusal = pipe.read().decode()
    os.waitpid(child, 0)
    if refusal:
        raise Missing(refusal)
    return {}


def veth() -> Detail:
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with rtnl.Rtnl() as netlink:
            netlink.transact([rtnl.veth("trial0", "trial1", here)])
            up = [rtnl.link_set(netlink.link(name).ifindex, up=True) for name in ("trial0", "trial1")]
            netlink.transact(up)
    finally:
        os.close(here)
    return {}


def _link(kind: str, *data: bytes) -> Request:
    info = (text(1, kind), nested(2, *data)) if data else (text(1, kind),)
    body = IFINFO.pack(0, 0, 0, 0, 0) + text(Ifla.IFNAME, f"t-{kind}") + nested(Ifla.LINKINFO, *info)
    return Request(f"add {kind} link", Rtm.NEWLINK, Flag.ACK | Flag.CREATE | Flag.EXCLUSIVE, body)


def _asks(*requests: Request) -> Callable[[], Detail]:
    def trial() -> Detail:
        with rtnl.Rtnl() as netlink:
            netlink.transact(requests)
        return {}

    return trial


bridge = _asks(_link("bridge"))
dummy = _asks(_link("dummy"))
vrf = _asks(_link("vrf", u32(1, 10)))
xfrm_interface = _asks(_link("xfrm", u32(2, 1)))
tbf, netem = (_asks(queues.TRIALS[kind][0]) for kind in ("tbf", "netem"))


def _nexthops(resilient: rtnl.Resilient | None) -> Detail:
    with rtnl.Rtnl() as netlink:
        ifindex = netlink.link("trial0").ifindex
        first = 20 if resilient else 10
        netlink.transact(
            [
                rtnl.nexthop(first, oif=ifindex),
                rtnl.nexthop(first + 1, oif=ifindex),
                rtnl.nexthop_group(first + 2, [(first, 1), (first + 1, 1)], resilient=resilient),
            ]
        )
    return {}


def nexthop_groups() -> Detail:
    return _nexthops(None)


def resilient_groups() -> Detail:
    return _nexthops(rtnl.Resilient(buckets=96, idle_timer_s=0, unbalanced_timer_s=0))


def hash_policy() -> Detail:
    Path("/proc/sys/net/ipv4/fib_multipath_hash_policy").write_text("1")
    return {}


def hash_seed() -> Detail:
    Path("/proc/sys/net/ipv4/fib_multipath_hash_seed").write_text("1")
    return {}


def tcp_md5() -> Detail:
    address = struct.pack("=HH4s120x", socket.AF_INET, 0, socket.inet_aton("192.0.2.1"))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, address + struct.pack("=BBHI80s", 0, 0, 3, 0, b"key"))
    return {}


def tun() -> Detail:
    """A TUN device, and its carrier switched off: that is how a tunnel's line goes down."""
    with open("/dev/net/tun", "r+b", buffering=0) as device:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("=16sH22x", b"trialtun", _IFF_TUN | _IFF_NO_PI))
        with rtnl.Rtnl() as netlink:
            ifindex = netlink.link("trialtun").ifindex
            netlink.transact([rtnl.link_set(ifindex, up=True), rtnl.link_set(ifindex, carrier=False)])
            if netlink.link("trialtun").carrier:
                raise Missing("a TUN device keeps its carrier when told to drop it")
    return {}


def _algorithm(kind: int, name: str, bits: int) -> bytes:
    return attribute(kind, struct.pack("=64sI", name.encode(), bits) + bytes(bits // 8))


def esp_state() -> Request:
    """XFRM_MSG_NEWSA of uapi/linux/xfrm.h: an ESP state in tunnel mode with the documents' algorithms."""
    source, destination = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")
    selector = bytes(40) + struct.pack("=H14x", socket.AF_INET)
    identity = struct.pack("=16s4sB3x", destination, struct.pack("!I", 0x1000), socket.IPPROTO_ESP)
    no_limits = struct.pack("=4Q", *([2**64 - 1] * 4)) + bytes(32)
    tunnel_mode = 1
    body = (
        selector
        + identity
        + struct.pack("=16s", source)
        + no_limits
        + bytes(32 + 12)
        + struct.pack("=IIHBBB7x", 0, 1, socket.AF_INET, tunnel_mode, 32, 0)
        + _algorithm(_XFRMA_ALG_AUTH, "hmac(sha1)", 160)
        + _algorithm(_XFRMA_ALG_CRYPT, "cbc(aes)", 128)
    )
    return Request("add an ESP state", _XFRM_MSG_NEWSA, Flag.ACK | Flag.CREATE | Flag.EXCLUSIVE, body)


def esp() -> Detail:
    request = esp_state()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM) as netlink:
        netlink.bind((0, 0))
        netlink.send(request.message(1))
        for frame in frames(netlink.recv(8192)):
            number, remark = acknowledgement(frame)
            if number:
                raise NetlinkError(request.what, number, remark)
    return {}


def charon() -> Detail:
    """Starts one with the userspace data plane and asks it over vici what it is."""
    return asyncio.run(_charon())


async def _charon() -> Detail:
    from harness.ipsec.charon import Charon, CharonError
    from harness.ipsec.strongswan import PROBE_TUNNEL, TUN_NAME, DataPlane, daemon_configuration
    from harness.ipsec.vici_session import ViciSession

    with tempfile.TemporaryDirectory() as directory:
        process = Charon(Path(directory), lambda _at, _line: None, lambda _status: None)
        try:
            await process.start(daemon_configuration(PROBE_TUNNEL, DataPlane.LIBIPSEC, process.vici_socket), within=3.0)
            session = await ViciSession.connect(process.vici_socket)
            version, stats = await session.request("version"), await session.request("stats")
            session.close()
            with rtnl.Rtnl() as netlink:
                device = any(link.name == TUN_NAME for link in netlink.links())
        except CharonError as error:
            raise Missing(str(error)) from error
        finally:
            await process.stop(grace=0.0)
            process.close()
    return {"version": version["version"], "plugins": stats["plugins"], "tun_device": device}


def libipsec(charon_detail: Detail) -> Detail:
    """From what :func:`charon` saw: did it make its TUN device?"""
    if not charon_detail:
        raise Missing("charon does not run here")
    if "kernel-libipsec" not in charon_detail["plugins"]:
        raise Missing("charon has no plugin kernel-libipsec")
    if not charon_detail["tun_device"]:
        raise Missing("charon could not make its TUN device")
    return {}


def ping() -> Detail:
    return _runs("ping", "-c1", "-W1", "127.0.0.1")


def tcpdump() -> Detail:
    return _runs("tcpdump", "--version")


def _runs(name: str, *arguments: str) -> Detail:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise Missing("not installed")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=3, check=False)
    if done.returncode:
        raise Missing((done.stderr or done.stdout).strip().splitlines()[-1] if done.stderr or done.stdout else "fails")
    return {"path": path}


def filters() -> Detail:
    try:
        packet_filter.load(Namespace.current("scratch"), PacketFilter("", (FilterRule("accept", "192.0.2.0/24"),)))
    except packet_filter.FilterError as error:
        raise Missing(str(error).removeprefix("scratch: ")) from None
    return {}


def mininet() -> Detail:
    if importlib.util.find_spec("mininet") is None:
        raise Missing("not installed")
    return {}


def python() -> Detail:
    if sys.version_info[:2] < _OLDEST_PYTHON:
        raise Missing(f"this is {sys.version.split()[0]}")
    return {"version": sys.version.split()[0]}


def reason_of(error: BaseException) -> str:
    """An error as a reason: the kernel's words, without Python's decoration."""
    if isinstance(error, NetlinkError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        known = errno.errorcode.get(error.errno, str(error.errno))
        return f"{where}{os.strerror(error.errno)} ({known})"
    return str(error) or type(error).__name__


def every(names: Iterator[str]) -> Iterator[tuple[str, bool, str, Detail]]:
    """Tries the named ones in turn: (name, there, reason when not, detail)."""
    details: dict[str, Detail] = {}
    for name in names:
        try:
            details[name] = TRIALS[name]() if name != "libipsec" else libipsec(details.get("charon", {}))
        except (Missing, OSError, KeyError, subprocess.SubprocessError) as error:
            yield name, False, reason_of(error), {}
        else:
            yield name, True, "", details[name]


TRIALS: dict[str, Callable[[], Detail]] = {
    "python": python,
    "timely": timely,
    "namespaces": namespaces,
    "user-namespaces": user_namespaces,
    "veth": veth,
    "bridge": bridge,
    "nexthop-groups": nexthop_groups,
    "resilient-groups": resilient_groups,
    "hash-policy": hash_policy,
    "hash-seed": hash_seed,
    "tcp-md5": tcp_md5,
    "tun": tun,
    "esp": esp,
    "xfrm-interface": xfrm_interface,
    "tbf": tbf,
    "netem": netem,
    "packet-filter": filters,
    "vrf": vrf,
    "dummy": dummy,
    "mininet": mininet,
    "ping": ping,
    "tcpdump": tcpdump,
    "charon": charon,
}
"""By the names of ``probe.FEATURES``; ``libipsec`` follows from ``charon``."""
