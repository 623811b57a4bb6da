"""The daemons that can stand in a node's place, as data: what is installed for them, what they can do, what they tell.

``lacks`` has the reason for every feature that is not in ``features``; a lab that needs one skips with it. A feature that our driver
does not render is named as that: not every gap is the daemon's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from harness.daemons.features import Feature, Need

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin:/usr/lib/frr"

#: Events that our speaker tells and a stand-in does not, but for those of its ``tells``. See ``harness.daemons.driver``.
OURS_ALONE = frozenset(
    {
        *("rib", "fib", "fib.failed", "fib.lost", "rejected", "update.error", "eor", "refresh", "peer.log"),
        *("dial.waiting", "connection.refused", "maximum-prefixes", "bfd", "bfd.refused", "bfd.resumed", "bfd.failed"),
    }
)
#: Methods of the control socket that every stand-in serves.
METHODS = frozenset(
    {
        "events.last",
        "show.summary",
        "show.neighbors",
        "show.routes",
        "show.nexthops",
        "show.config",
        "network.add",
        "network.delete",
        "neighbor.add",
        "neighbor.change",
        "neighbor.delete",
        "neighbor.shutdown",
        "neighbor.start",
        "neighbor.reset",
        "policy.set",
        "clear.soft",
        "version",
        "ask",
        "log",
    }
)


@dataclass(frozen=True)
class Kind:
    """A daemon.

    ``driver`` is "module:class"; ``protocol`` the RTPROT_* of its kernel routes (rtnetlink(7)), 0 if it writes none; ``leaves`` those
    of the routes and next hops that it leaves in the kernel when it is killed; ``tells`` the events of :data:`OURS_ALONE` that its driver
    makes as well.
    """

    name: str
    title: str
    package: str
    programs: tuple[str, ...]
    driver: str
    features: frozenset[Feature]
    lacks: Mapping[Feature, str] = field(default_factory=dict)
    protocol: int = 0
    leaves: tuple[int, ...] = ()
    tells: frozenset[str] = frozenset()
    methods: frozenset[str] = METHODS

    @cached_property
    def paths(self) -> tuple[str | None, ...]:
        """Where its programs are, in the order of ``programs``; None: not installed."""
        return tuple(shutil.which(program, path=_PATH) for program in self.programs)

    def absent(self) -> str | None:
        """None when it is installed, else what is not and the line that installs it."""
        missing = [p for p, path in zip(self.programs, self.paths, strict=True) if path is None]
        if not missing:
            return None
        return f"{self.title} is not installed ({', '.join(missing)}): apt-get install --no-install-recommends {self.package}"

    def refuses(self, needs: Iterable[Need]) -> str | None:
        """None when it can do all of ``needs``, else the first that it cannot and why."""
        for need in needs:
            if need.feature is None:
                return f"{self.title}: {need.field} is a field that no daemon is rendered with"
            if need.feature not in self.features:
                return f"{self.title}: {need.field} needs {need.feature}: {self.why_not(need.feature)}"
        return None

    def why_not(self, feature: Feature) -> str:
        return self.lacks.get(feature, "our driver does not render it")


_ALL = frozenset(Feature)

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "frr",
            "FRR",
            "frr",
            ("zebra", "bgpd", "bfdd"),
            "harness.daemons.frr:Frr",
            _ALL
            - {
                Feature.POLICY_AS_PATH,
                Feature.POLICY_SOURCE,
                Feature.FALL_OVER,
                Feature.FIB_TABLE,
                Feature.BFD_AUTHENTICATION,
                Feature.DROPS_PREFIXES,
                Feature.REQUIRE_ROUTE,
                Feature.ASN_2_BYTES,
                Feature.PORT,
                *(Feature.MD5_BLANKS, Feature.MD5_CHANGE, Feature.BFD_APART, Feature.MULTIPATH_ALIKE),
                *(Feature.RESILIENT_GROUPS, Feature.ADOPTION, Feature.REFUSED_SEEN, Feature.STATES),
            },
            {
                Feature.REFUSED_SEEN: "it shows what it received and what it uses, and no reason",
                Feature.STATES: "it walks through the states in its own way",
                Feature.MD5_BLANKS: "its command ends at a blank",
                Feature.MD5_CHANGE: "it ends the session when the key changes",
                Feature.BFD_APART: "its BFD is over hops where its BGP session is, and only there",
                Feature.MULTIPATH_ALIKE: "it uses one path of a next hop",
                Feature.RESILIENT_GROUPS: "its groups are plain, and move flows that could stay",
                Feature.ADOPTION: "its next zebra begins with an empty kernel",
                Feature.POLICY_AS_PATH: "its expressions are not Python's",
                Feature.POLICY_SOURCE: "its route maps do not match where a route was learned",
                Feature.FALL_OVER: "it notices the loss of the interface, not of a route",
                Feature.BFD_AUTHENTICATION: "its bfdd has none",
                Feature.ASN_2_BYTES: "it offers 4-byte ASNs with all other capabilities or none",
                Feature.DROPS_PREFIXES: "it warns or ends the session",
                Feature.REQUIRE_ROUTE: "its import check is for all networks or none",
            },
            protocol=186,
            leaves=(186, 11),
            tells=frozenset({"bfd"}),
        ),
        Kind(
            "bird",
            "BIRD",
            "bird2",
            ("bird",),
            "harness.daemons.bird:Bird",
            _ALL
            - {
                Feature.POLICY_AS_PATH,
                Feature.FALL_OVER,
                Feature.FIB_TABLE,
                Feature.CONNECT_RETRY,
                Feature.REQUIRE_ROUTE,
                *(Feature.MD5_QUOTES, Feature.MD5_CHANGE, Feature.BFD_APART),
                *(Feature.RESILIENT_GROUPS, Feature.ADOPTION, Feature.REFUSED_SEEN, Feature.STATES),
                *(Feature.NEXTHOP_OBJECTS, Feature.MULTIPATH_ALIKE, Feature.BFD_CEASE, Feature.ADVERTISEMENT_INTERVAL),
            },
            {
                Feature.REFUSED_SEEN: "it forgets what it refuses",
                Feature.STATES: "it walks through the states in its own way",
                Feature.NEXTHOP_OBJECTS: "it writes each route with its own next hops",
                Feature.MULTIPATH_ALIKE: "it merges the paths of one next hop into one",
                Feature.ADVERTISEMENT_INTERVAL: "it has none",
                Feature.BFD_CEASE: "it closes the connection without a word of BFD",
                Feature.MD5_QUOTES: "its strings have no quotation mark",
                Feature.MD5_CHANGE: "it begins the session anew when the key changes",
                Feature.BFD_APART: "its BFD is over hops where its BGP session is, and only there",
                Feature.RESILIENT_GROUPS: "it writes multipath routes, which move flows that could stay",
                Feature.ADOPTION: "it begins with an empty kernel",
                Feature.POLICY_AS_PATH: "it has masks, not expressions",
                Feature.FALL_OVER: "it notices the loss of the interface, not of a route",
            },
            protocol=12,
            leaves=(12,),
            tells=frozenset({"bfd"}),
        ),
        Kind(
            "gobgp",
            "GoBGP",
            "gobgpd",
            ("gobgpd", "gobgp"),
            "harness.daemons.gobgp:GoBgp",
            frozenset(
                {
                    *(Feature.IPV6, Feature.MD5, Feature.MULTIHOP, Feature.LOCAL_ASN, Feature.PASSIVE, Feature.PORT),
                    *(Feature.ROUTE_REFRESH, Feature.ADD_PATH_SEND, Feature.ADD_PATH_RECEIVE, Feature.ALLOW_AS_IN),
                    *(
                        Feature.GRACEFUL_RESTART,
                        Feature.MAXIMUM_PREFIXES,
                        Feature.SHUTDOWN_SENT,
                        Feature.SHUTDOWN_READ,
                        Feature.CHANGE,
                    ),
                }
            ),
            {
                Feature.STATES: "it walks through the states in its own way",
                Feature.KERNEL: "it writes kernel routes only through FRR's zebra",
                Feature.BFD: "it has none",
                Feature.BFD_MULTIHOP: "it has none",
                Feature.BFD_AUTHENTICATION: "it has no BFD",
                Feature.MULTIPATH: "it writes no kernel routes",
                Feature.MULTIPATH_IBGP: "it writes no kernel routes",
                Feature.FALL_OVER: "it looks at no kernel routes",
                Feature.REQUIRE_ROUTE: "it looks at no kernel routes",
                Feature.NEXT_HOP_SELF: "it needs a policy for that",
            },
        ),
        Kind(
            "exabgp",
            "ExaBGP",
            "exabgp",
            ("exabgp",),
            "harness.daemons.exabgp:ExaBgp",
            frozenset(
                {
                    *(
                        Feature.IPV6,
                        Feature.MD5,
                        Feature.MULTIHOP,
                        Feature.LOCAL_ASN,
                        Feature.PASSIVE,
                        Feature.ROUTE_REFRESH,
                    ),
                    *(Feature.ADD_PATH_SEND, Feature.ADD_PATH_RECEIVE, Feature.CHANGE, Feature.NEXT_HOP_SELF),
                    *(
                        Feature.GRACEFUL_RESTART,
                        Feature.ALLOW_AS_IN,
                        Feature.ANY_FIRST_AS,
                        Feature.SHUTDOWN_READ,
                        Feature.ASN_2_BYTES,
                    ),
                }
            ),
            {
                Feature.STATES: "it walks through the states in its own way",
                Feature.KERNEL: "it has no table of routes",
                Feature.BFD: "it has none",
                Feature.BFD_MULTIHOP: "it has none",
                Feature.BFD_AUTHENTICATION: "it has no BFD",
                Feature.MULTIPATH: "it chooses no routes",
                Feature.MULTIPATH_IBGP: "it chooses no routes",
                Feature.POLICY: "it has none: it hands everything to a program of its user's",
                Feature.FALL_OVER: "it looks at no kernel routes",
                Feature.REQUIRE_ROUTE: "it looks at no kernel routes",
                Feature.MAXIMUM_PREFIXES: "it counts none",
                Feature.SHUTDOWN_SENT: "its API ends a session with a subcode and no text",
            },
        ),
    )
}
