"""FIXTURE: an invented run of plausible shape, for the tests of ``reports`` and for looking at the page. No number here was measured.

``python -m tests.reports.example_run FOLDER`` writes it there with its page. Three connections, the document's five tables (one of them
failing), 20 seeds, a loss and recovery under traffic, sixty tests; deterministic.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from reports import page
from reports.model import Attachment, Result, Run, RunFolder
from tests.reports.example_items import (
    CLIENTS,
    CLOUD,
    COLUMNS,
    CONNECTION,
    HANGZHOU,
    VPC,
    broken_shanghai,
    failover,
    grid,
    sequence,
    spread,
    stages,
    table,
    timeline,
    topology,
    values,
)

LAB = "labs/test_ipsec_ecmp.py"

REQUIREMENTS = {
    "CARD-3": "Three IPsec tunnels over strongSwan (driven as a subprocess) forming ECMP to a transit router.",
    "CARD-5": "Labs assert state transitions, route tables and the load distribution across the tunnels.",
    **{f"VBR-{i}": f"Requirement {i} of the virtual border router, not touched by this run." for i in range(1, 43)},
    "ECMP-1": "VPC (Shanghai) 10.0.0.0/16: vSwitch 1 10.0.0.0/24 (zone F, ECS 10.0.0.1), vSwitch 2 10.0.1.0/24 (zone G).",
    "ECMP-6": "IKEv2, encryption aes (128), integrity sha1, PRF sha1, DH group14, lifetime 86400 s. ESP aes (128), sha1, PFS group14.",
    "ECMP-9": "Tunnels 169.254.10.0/30, 169.254.11.0/30, 169.254.12.0/30; cloud side .1, device side .2.",
    "ECMP-10": "† The wrong key on one side: no tunnel, `AUTHENTICATION_FAILED` visible, the other two carry on.",
    "ECMP-17": "Table 1, Hangzhou transit router: 10.0.0.0/24 and 10.0.1.0/24 to the inter-region connection, and each of "
    "192.168.0/1/2.0/24 to VPN connections 1, 2 and 3; all auto-learned: 11 entries exactly.",
    "ECMP-18": "Table 2, Shanghai transit router: 10.0.0.0/24, 10.0.1.0/24 to the VPC connection; each of 192.168.0/1/2.0/24 three "
    "times to the inter-region connection; all auto-learned: 11 entries exactly.",
    "ECMP-19": "Table 3, VPC system table: 5 exactly.",
    "ECMP-20": "Table 4, BGP table of each IPsec connection: two cloud routes, three from the data centre: 5 exactly.",
    "ECMP-21": "Table 5, each gateway device learns exactly the two cloud routes, next hop its own IPsec connection.",
    "ECMP-22": "ECS pings a client; † in each block, and back.",
    "ECMP-23": "Many clients sending to ECS continuously load all three connections; bytes, packets and flows in both directions are "
    "measured, charted, and tested against an even split statistically.",
    "ECMP-24": "† One tunnel lost: its routes leave all tables, its flows move to the other two, the others' flows stay.",
    "ECMP-25": "A transit router has a CIDR block; it can be added later.",
    "ECMP-29": "Connections attached to CEN form ECMP by themselves: one, two, three are each checked.",
    "ECMP-36": "VPC attachment: a vSwitch in a zone the router supports, with an idle address.",
    "ECMP-41": "Nothing else stands in tables 1-5.",
}

FAILURE = """\
tr-shanghai: the route table is not the document's table 2 (ECMP-18)

  document                                          running node
  192.168.1.0/24  Inter-region connection    x3     192.168.1.0/24  Inter-region connection   x2   <-- 1 missing
                                                    192.168.50.0/24 Inter-region connection   x1   <-- not in the document

labs/test_ipsec_ecmp.py:118: in test_shanghai_transit_router_table
    assert table == document.TABLE_2
E   AssertionError: 2 rows differ; waited 2.000 s since the event 'Established' of tr-hangzhou; last change of the table 1.412 s ago
"""


def write(path: Path, tests: int = 60) -> RunFolder:
    """The fixture's files below ``path``, without the page."""
    folder = RunFolder(path)
    results: list[Result] = []

    def test(
        name: str,
        title: str,
        *items: Any,
        spec: tuple[str, ...] = (),
        outcome: str = "passed",
        seconds: float = 0.12,
        message: str = "",
        file: str = LAB,
    ) -> None:
        nodeid = f"{file}::{name}"
        results.append(Result(nodeid, title, outcome, seconds, spec, message))
        for item in items:
            folder.add(item, nodeid)

    folder.add(topology())
    (folder.files / "ipsec-ecmp").mkdir(parents=True, exist_ok=True)
    for name in ("gw2-charon.log", "internet.pcap", "failure-bundle.tar.gz"):
        (folder.files / "ipsec-ecmp" / name).write_bytes(b"fixture " * 900)
    test(
        "test_bring_up", "From nothing to all five tables and pings", stages(), spec=("ECMP-1", "CARD-3"), seconds=1.62
    )
    test(
        "test_sessions_climb",
        "Each BGP session goes the documented way from Idle to Established",
        timeline(),
        grid(),
        sequence(),
        spec=("CARD-5",),
    )
    test("test_negotiated", "The SAs run the documented algorithms and lifetimes", values(), spec=("ECMP-6",))
    test(
        "test_hangzhou_transit_router_table",
        "Table 1: two VPC blocks by the inter-region connection, each client block by all three VPN connections",
        table("Table 1: default route table of the Hangzhou transit router", "tr-hangzhou", HANGZHOU),
        spec=("ECMP-17", "ECMP-41"),
    )
    test(
        "test_shanghai_transit_router_table",
        "Table 2: two VPC blocks by the VPC connection, each client block three times by the inter-region connection",
        broken_shanghai(),
        Attachment(
            "Bundle of the failure",
            "files/ipsec-ecmp/failure-bundle.tar.gz",
            "tables, next hops, SAs, FSM events, logs",
        ),
        spec=("ECMP-18",),
        outcome="failed",
        seconds=2.03,
        message=FAILURE,
    )
    test(
        "test_vpc_table",
        "Table 3: the VPC's own blocks and the three private ranges",
        table("Table 3: system route table of the VPC", "vpc", VPC),
        spec=("ECMP-19",),
    )
    test(
        "test_connection_tables",
        "Table 4: each connection's BGP table",
        *(
            table(
                f"Table 4: BGP route table of IPsec connection {i}",
                f"vpn{i}",
                CONNECTION,
                ("Destination CIDR block", "Source"),
            )
            for i in (1, 2, 3)
        ),
        spec=("ECMP-20",),
    )
    test(
        "test_device_tables",
        "Table 5: what the gateway devices learned",
        *(
            table(
                f"Table 5: cloud routes of gateway device {i}",
                f"gw{i}",
                tuple((c, f"IPsec connection {i}") for c in CLOUD),
                COLUMNS[:2],
            )
            for i in (1, 2, 3)
        ),
        spec=("ECMP-21",),
    )
    test(
        "test_ping",
        "ECS pings a client in each block, and back",
        Attachment("Capture on the internet node", "files/ipsec-ecmp/internet.pcap", "UDP 4500 only"),
        spec=("ECMP-22",),
    )
    test(
        "test_load", "Many clients load all three connections evenly", spread(), spec=("ECMP-23", "CARD-5"), seconds=9.4
    )
    test(
        "test_load_policy_0",
        "Hash policy 0 does not spread flows of one pair of hosts",
        spread(0, 5, 3),
        spec=("ECMP-23",),
        seconds=4.1,
    )
    test(
        "test_loss",
        "One tunnel lost: its flows move, the others' stay",
        failover(),
        timeline(True),
        Attachment("charon on gateway 2", "files/ipsec-ecmp/gw2-charon.log"),
        spec=("ECMP-24",),
        seconds=20.4,
    )
    test(
        "test_loss_plain_group",
        "The same with a plain next-hop group moves flows that need not move",
        failover(False),
        spec=("ECMP-24",),
        seconds=20.2,
    )
    test(
        "test_bfd",
        "Loss noticed by BFD",
        spec=("ECMP-24",),
        outcome="skipped",
        message="BFD comes with a later version of the speaker",
        seconds=0,
    )
    for count in (1, 2, 3):
        rows = tuple((c, f"VPN connection {i}", "Auto-learned") for c in CLIENTS for i in range(1, count + 1))
        test(
            f"test_connections[{count}]",
            f"{count} of three connections form ECMP",
            table(f"Hangzhou with {count}", "tr-hangzhou", rows),
            spec=("ECMP-29",),
            seconds=1.4,
        )
    number = 0
    while len(results) < tests:
        number += 1
        shown = (
            [table(f"Loc-RIB of the transit router with the wrong key on side {number}", "tr-hangzhou", HANGZHOU)]
            if number % 3 == 0
            else []
        )
        if number in (10, 20):
            shown += [failover(), timeline(True), spread(seed=number)]  # type: ignore[list-item]
        test(
            f"test_more[{number}]",
            f"The wrong key on side {number}: no tunnel, the other two carry on",
            *shown,
            spec=("ECMP-10",),
            file="labs/test_ipsec_keys.py",
        )
    host = {
        "host": "lab-vm",
        "kernel": "6.1.0-40-amd64",
        "data plane": "libipsec (the kernel has no xfrm)",
        "hash policy": "1, seeded",
        "python": "3.11.2",
        "strongSwan": "5.9.8",
        "seed": "20261121",
    }
    features = (
        {
            "name": "net.netns",
            "ok": True,
            "purpose": "a namespace for each node",
            "without": "nothing runs",
            "remedy": "",
        },
        {
            "name": "/dev/net/tun",
            "ok": True,
            "purpose": "tunnel interfaces of libipsec",
            "without": "no tunnels",
            "remedy": "",
        },
        {
            "name": "xfrm",
            "ok": False,
            "purpose": "ESP in the kernel",
            "without": "strongSwan's libipsec carries ESP in user space, about 10 times slower",
            "remedy": "a kernel with CONFIG_XFRM_USER and CONFIG_INET_ESP",
        },
        {
            "name": "resilient next-hop groups",
            "ok": True,
            "purpose": "surviving flows stay on their path",
            "without": "flows move",
            "remedy": "",
        },
    )
    folder.write_run(
        Run(path.name, "2026-11-21T21:14:09+00:00", 58.23, "pytest labs/", host, features, tuple(results), REQUIREMENTS)
    )
    return folder


if __name__ == "__main__":
    print(page.write(write(Path(sys.argv[1]))))  # noqa: T201
