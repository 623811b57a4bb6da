"""Tables 1 to 5 of "VPN Gateway: create multiple IPsec connections over the internet for load balancing", entry for entry.

Typed from the document's section "Route entries". Next hops and route types are its words in English: リージョン間接続 is the
inter-region connection, 自動学習 auto-learned, ローカル local, システム system, カスタム custom.
"""

from __future__ import annotations

from harness.tables import RouteTable

TABLE_1 = RouteTable(
    "Table 1: default route table of the transit router in China (Hangzhou)",
    ("Destination CIDR block", "Next hop", "Route type"),
    (
        ("10.0.0.0/24", "Inter-region connection", "Auto-learned"),
        ("10.0.1.0/24", "Inter-region connection", "Auto-learned"),
        ("192.168.0.0/24", "VPN connection 1 (IPsec connection 1)", "Auto-learned"),
        ("192.168.0.0/24", "VPN connection 2 (IPsec connection 2)", "Auto-learned"),
        ("192.168.0.0/24", "VPN connection 3 (IPsec connection 3)", "Auto-learned"),
        ("192.168.1.0/24", "VPN connection 1 (IPsec connection 1)", "Auto-learned"),
        ("192.168.1.0/24", "VPN connection 2 (IPsec connection 2)", "Auto-learned"),
        ("192.168.1.0/24", "VPN connection 3 (IPsec connection 3)", "Auto-learned"),
        ("192.168.2.0/24", "VPN connection 1 (IPsec connection 1)", "Auto-learned"),
        ("192.168.2.0/24", "VPN connection 2 (IPsec connection 2)", "Auto-learned"),
        ("192.168.2.0/24", "VPN connection 3 (IPsec connection 3)", "Auto-learned"),
    ),
)

TABLE_2 = RouteTable(
    "Table 2: default route table of the transit router in China (Shanghai)",
    ("Destination CIDR block", "Next hop", "Route type"),
    (
        ("10.0.0.0/24", "VPC connection", "Auto-learned"),
        ("10.0.1.0/24", "VPC connection", "Auto-learned"),
        ("192.168.0.0/24", "Inter-region connection", "Auto-learned"),
        ("192.168.0.0/24", "Inter-region connection", "Auto-learned"),
        ("192.168.0.0/24", "Inter-region connection", "Auto-learned"),
        ("192.168.1.0/24", "Inter-region connection", "Auto-learned"),
        ("192.168.1.0/24", "Inter-region connection", "Auto-learned"),
        ("192.168.1.0/24", "Inter-region connection", "Auto-learned"),
        ("192.168.2.0/24", "Inter-region connection", "Auto-learned"),
        ("192.168.2.0/24", "Inter-region connection", "Auto-learned"),
        ("192.168.2.0/24", "Inter-region connection", "Auto-learned"),
    ),
)

TABLE_3 = RouteTable(
    "Table 3: system route table of the VPC",
    ("Destination CIDR block", "Next hop", "Route type"),
    (
        ("10.0.0.0/24", "Local", "System"),
        ("10.0.1.0/24", "Local", "System"),
        ("10.0.0.0/8", "VPC connection", "Custom"),
        ("172.16.0.0/12", "VPC connection", "Custom"),
        ("192.168.0.0/16", "VPC connection", "Custom"),
    ),
)

#: Table 4 prints the same five entries for each of the three connections.
TABLE_4 = {
    number: RouteTable(
        f"Table 4: BGP route table of IPsec connection {number}",
        ("Destination CIDR block", "Source"),
        (
            ("10.0.0.0/24", "Learned from the Alibaba Cloud side"),
            ("10.0.1.0/24", "Learned from the Alibaba Cloud side"),
            ("192.168.0.0/24", "Learned from the data centre side"),
            ("192.168.1.0/24", "Learned from the data centre side"),
            ("192.168.2.0/24", "Learned from the data centre side"),
        ),
    )
    for number in (1, 2, 3)
}

#: Table 5, one part for each device.
TABLE_5 = {
    1: RouteTable(
        "Table 5: cloud routes learned by on-premises gateway device 1",
        ("Destination CIDR block", "Next hop"),
        (("10.0.0.0/24", "IPsec connection 1"), ("10.0.1.0/24", "IPsec connection 1")),
    ),
    2: RouteTable(
        "Table 5: cloud routes learned by on-premises gateway device 2",
        ("Destination CIDR block", "Next hop"),
        (("10.0.0.0/24", "IPsec connection 2"), ("10.0.1.0/24", "IPsec connection 2")),
    ),
    3: RouteTable(
        "Table 5: cloud routes learned by on-premises gateway device 3",
        ("Destination CIDR block", "Next hop"),
        (("10.0.0.0/24", "IPsec connection 3"), ("10.0.1.0/24", "IPsec connection 3")),
    ),
}

#: Every table by the node that shows it.
TABLES = {
    "tr-hangzhou": TABLE_1,
    "tr-shanghai": TABLE_2,
    "vpc": TABLE_3,
    **{f"vpn{number}": table for number, table in TABLE_4.items()},
    **{f"gw{number}": table for number, table in TABLE_5.items()},
}

#: Step 6: ECS pings a client; here one in each block.
PINGS = (("ecs", "192.168.0.10"), ("ecs", "192.168.1.10"), ("ecs", "192.168.2.10"))
