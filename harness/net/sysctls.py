"""What every node sets of the kernel: the table of sysctls a lab relies on, so that a node inherits nothing from the host.

IPv4's per-interface settings of a new namespace are copied from the host's (Documentation/networking/ip-sysctl:
``devconf_inherit_init_net``), which is why even usual defaults are written. Interfaces made later, tunnels too, start from
``conf.default``. Only the scopes that the kernel reads are written: some settings combine ``all`` and the interface's by OR or
MAX, some are the interface's alone. A trailing "?" marks what older kernels lack (see :meth:`Namespace.sysctl`).
"""

from __future__ import annotations

import hashlib

# Order counts: switching forwarding resets redirects to the defaults of a host or a router (ip-sysctl, ip_forward).
_IPV4 = (
    ("rp_filter", "0", ("all", "default", "lo")),  # asymmetric paths are the point of ECMP
    ("accept_redirects", "0", ("all", "default")),
    ("send_redirects", "0", ("all", "default")),
    ("arp_ignore", "0", ("all", "default")),  # a /32 on the device answers for off-link neighbours
    ("arp_filter", "0", ("all", "default")),
    ("arp_announce", "2", ("all",)),  # ask with the sender address of the wire's own interface
    ("ignore_routes_with_linkdown", "1", ("default",)),  # no carrier: the line protocol is down, so are its routes
)
_IPV6 = (
    ("accept_dad", "0", ("all", "default")),  # an address is usable at once
    ("accept_ra", "0", ("default",)),  # nor are routers solicited
    ("accept_redirects", "0", ("all", "default")),
    ("keep_addr_on_down", "1", ("all",)),  # as IPv4 does
    ("ignore_routes_with_linkdown", "1", ("default",)),
)
_WHOLE_NODE = (
    ("net.ipv4.fib_multipath_hash_policy", "1"),  # layer 4: flows, not hosts, are spread
    ("net.ipv6.fib_multipath_hash_policy?", "1"),
    ("net.ipv4.nexthop_compat_mode?", "1"),  # routes by nexthop id show their hops
    ("net.ipv4.icmp_ratelimit", "0"),  # every unreachable and every "fragmentation needed" is sent
    ("net.ipv6.icmp.ratelimit?", "0"),
)
_FIXED: dict[str, str] = {
    **{f"net.ipv4.conf.{scope}.{key}": value for key, value, scopes in _IPV4 for scope in scopes},
    **{f"net.ipv6.conf.{scope}.{key}?": value for key, value, scopes in _IPV6 for scope in scopes},
    **dict(_WHOLE_NODE),
}


def hash_seed(run_seed: int, node: str) -> int:
    """The multipath hash seed of a node: its own, since equal seeds in a row of routers polarise, and the same in every run."""
    digest = hashlib.blake2s(f"{run_seed}/{node}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") or 1  # 0 means: the kernel's random one


def node_sysctls(*, forwarding: bool, seed: int) -> dict[str, str]:
    """All settings of one node, in the order to write them; ``seed`` is :func:`hash_seed`'s."""
    on = str(int(forwarding))
    return {
        "net.ipv4.ip_forward": on,
        "net.ipv6.conf.all.forwarding?": on,
        **_FIXED,
        "net.ipv4.fib_multipath_hash_seed?": str(seed),
    }


SWITCH_SYSCTLS = {
    "net.ipv6.conf.all.disable_ipv6?": "1",  # a switch speaks no IP: no link-local addresses, no multicast reports
    "net.ipv6.conf.default.disable_ipv6?": "1",
}
"""A layer 2 node: nothing of IP."""
