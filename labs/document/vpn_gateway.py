"""What "VPN Gateway: configure BGP dynamic routing" says of routes, as tables: "How BGP dynamic routes are advertised".

The document prints no table and names no block. Blocks are those of scenario `vpn-gateway`; which table has which route is the document's.
"""

from __future__ import annotations

from harness.tables import RouteTable

_ENTRIES = ("Destination CIDR block", "Next hop", "Route type")
_SOURCES = ("Destination CIDR block", "Source")

#: "the VPN gateway automatically advertises the learned routes to the system route table of the associated VPC".
SYSTEM_TABLE = RouteTable(
    "System route table, automatic advertisement on",
    _ENTRIES,
    (
        ("10.0.0.0/24", "Local", "System"),
        ("10.0.1.0/24", "Local", "System"),
        ("192.168.0.0/24", "vpngw", "Auto-learned"),
        ("192.168.1.0/24", "vpngw", "Auto-learned"),
    ),
)

SYSTEM_TABLE_OFF = RouteTable(
    "System route table, automatic advertisement off",
    _ENTRIES,
    (("10.0.0.0/24", "Local", "System"), ("10.0.1.0/24", "Local", "System")),
)

#: "No route is advertised to the custom route tables."
CUSTOM_TABLE = RouteTable(
    "Custom route table",
    _ENTRIES,
    (("10.0.0.0/24", "Local", "System"), ("10.0.1.0/24", "Local", "System")),
)

GATEWAY_TABLE = RouteTable(
    "BGP route table of the VPN gateway",
    _SOURCES,
    (
        ("10.0.0.0/24", "Learned from the VPC"),
        ("10.0.1.0/24", "Learned from the VPC"),
        ("192.168.0.0/24", "Learned from the data centre side"),
        ("192.168.1.0/24", "Learned from the data centre side"),
    ),
)

#: "automatically learns system routes in the system route table of the VPC ... and automatically advertises these to the data centre".
DEVICE_TABLES = {
    number: RouteTable(
        f"Cloud routes learned by device {number}",
        ("Destination CIDR block", "Next hop"),
        (
            ("10.0.0.0/24", f"IPsec-VPN Connection 1, {part} tunnel"),
            ("10.0.1.0/24", f"IPsec-VPN Connection 1, {part} tunnel"),
        ),
    )
    for number, part in ((1, "primary"), (2, "secondary"))
}

TUNNEL_TABLES = {
    node: RouteTable(
        f"BGP route table of the {part} tunnel",
        _SOURCES,
        (
            ("10.0.0.0/24", "Learned from the Alibaba Cloud side"),
            ("10.0.1.0/24", "Learned from the Alibaba Cloud side"),
            ("192.168.0.0/24", "Learned from the data centre side"),
            ("192.168.1.0/24", "Learned from the data centre side"),
        ),
    )
    for node, part in (("vpn1a", "primary"), ("vpn1b", "secondary"))
}

#: Every table by the node that shows it.
TABLES = {
    "vpngw": GATEWAY_TABLE,
    "vpc": SYSTEM_TABLE,
    **TUNNEL_TABLES,
    **{f"gw{number}": table for number, table in DEVICE_TABLES.items()},
}

PINGS = (("ecs", "192.168.0.10"), ("ecs", "192.168.1.10"), ("dc-client0", "10.0.0.1"))
