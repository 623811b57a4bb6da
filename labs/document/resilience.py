"""Tables of scenario `resilience` while everything is up: the circuit comes first at both ends, the tunnel stands by.

"VPN Gateway: configure BGP dynamic routing" prints none; which way comes first is this project's choice (VPN-10).
"""

from __future__ import annotations

from harness.tables import RouteTable

SYSTEM_TABLE = RouteTable(
    "System route table of the VPC",
    ("Destination CIDR block", "Next hop", "Route type"),
    (
        ("10.0.0.0/24", "Local", "System"),
        ("10.0.1.0/24", "Local", "System"),
        ("192.168.0.0/24", "vbr", "Auto-learned"),
        ("192.168.1.0/24", "vbr", "Auto-learned"),
    ),
)

#: While the circuit is cut.
SYSTEM_TABLE_BY_VPN = RouteTable(
    "System route table of the VPC, circuit cut",
    SYSTEM_TABLE.columns,
    tuple((prefix, "vpngw" if next_hop == "vbr" else next_hop, kind) for prefix, next_hop, kind in SYSTEM_TABLE.rows),
)

VBR_TABLE = RouteTable(
    "Route table of the VBR",
    ("Destination CIDR block", "Next hop", "Source"),
    (
        ("10.0.0.0/16", "vpc", "Connection to the VPC"),
        ("192.168.0.0/24", "10.1.1.2", "Learned from the data centre side"),
        ("192.168.1.0/24", "10.1.1.2", "Learned from the data centre side"),
    ),
)

GATEWAY_TABLE = RouteTable(
    "BGP route table of the VPN gateway",
    ("Destination CIDR block", "Source"),
    (
        ("10.0.0.0/24", "Learned from the VPC"),
        ("10.0.1.0/24", "Learned from the VPC"),
        ("192.168.0.0/24", "Learned from the data centre side"),
        ("192.168.1.0/24", "Learned from the data centre side"),
    ),
)

TABLES = {"vpc": SYSTEM_TABLE, "vbr": VBR_TABLE, "vpngw": GATEWAY_TABLE}

PINGS = (("ecs", "192.168.0.10"), ("ecs", "192.168.1.10"), ("dc-client0", "10.0.0.1"), ("gw1-client0", "10.0.0.1"))
