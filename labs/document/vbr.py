"""What "Express Connect: configure and manage BGP" prints, typed by hand: forms, limits, the peer's statuses and how they follow.

The document names no address and prints no route table. :data:`TABLES` is what step 3 says in words, for the blocks of the lab: the
VBR learns the routes to the data centres' blocks by itself, each data centre gets the VPC's block.
"""

from __future__ import annotations

from harness.tables import RouteTable

#: Limits: 制限事項 and the parameters of steps 1 and 2.
MOST_PEERS = 8
CLOUD_ASN = 45104
ROUTE_QUOTA = 110
LOCAL_ASNS = ((64512, 65024), (65026, 65534), (4200000000, 4294967294))
BFD_HOP_COUNT = (1, 255)
BFD_HOP_COUNT_DEFAULT = 255
BFD_HOP_COUNT_OF_A_DIRECT_LINE = 1

#: Step 1, "Create BGP group": the parameters in their order.
GROUP_FORM = ("protocol", "name", "peer_asn", "key", "route_quota", "description", "local_asn")
#: "Modify BGP group": the same without the local ASN; the first is called "Support IPv6" there.
GROUP_EDIT_FORM = ("protocol", "name", "peer_asn", "key", "route_quota", "description")
#: Step 2, "Create BGP peer", and "Modify BGP peer".
PEER_FORM = ("group", "ip", "bfd", "bfd_hop_count")

#: The status column: アイドル, 接続, アクティブ, OpenSent, OpenConfirm, 確立済み, 未確立.
STATUSES = ("Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established", "Unestablished")

#: Which status may follow which, as the descriptions of the statuses say; staying is meant where the text says so.
FOLLOWS = {
    "Idle": {"Connect"},
    "Connect": {"Connect", "Active", "OpenSent"},
    "Active": {"Active", "Connect", "OpenSent"},
    "OpenSent": {"OpenConfirm", "Idle"},
    "OpenConfirm": {"Established", "Idle"},
    "Established": {"Established"},
}

#: "View monitoring events of BGP peers": product, event types with the name that is selected for each, levels.
EVENT_PRODUCT = "Express Connect - physical connection"
EVENTS = {"Down": "BgpPeerStatus:Down", "Receive Routes": "BgpPeerReceiveRoutes:Exceed"}
EVENT_LEVELS = ("Critical", "Warning", "Info")

#: The VBR of the lab with eight data centres.
VBR_TABLE = RouteTable(
    "Routes of the VBR: the VPC's block, and the block of each of the eight data centres",
    ("Destination CIDR block", "Next hop", "Source"),
    (
        ("172.16.0.0/16", "vpc", "Connection to the VPC"),
        ("192.168.1.0/24", "10.1.1.2", "Learned from the data centre side"),
        ("192.168.2.0/24", "10.1.2.2", "Learned from the data centre side"),
        ("192.168.3.0/24", "10.1.3.2", "Learned from the data centre side"),
        ("192.168.4.0/24", "10.1.4.2", "Learned from the data centre side"),
        ("192.168.5.0/24", "10.1.5.2", "Learned from the data centre side"),
        ("192.168.6.0/24", "10.1.6.2", "Learned from the data centre side"),
        ("192.168.7.0/24", "10.1.7.2", "Learned from the data centre side"),
        ("192.168.8.0/24", "10.1.8.2", "Learned from the data centre side"),
    ),
)

#: The VPC behind it.
VPC_TABLE = RouteTable(
    "Routes of the VPC: its own vSwitch, and the eight data centres by the VBR",
    ("Destination CIDR block", "Next hop", "Route type"),
    (
        ("172.16.0.0/24", "Local", "System"),
        ("192.168.1.0/24", "vbr", "Auto-learned"),
        ("192.168.2.0/24", "vbr", "Auto-learned"),
        ("192.168.3.0/24", "vbr", "Auto-learned"),
        ("192.168.4.0/24", "vbr", "Auto-learned"),
        ("192.168.5.0/24", "vbr", "Auto-learned"),
        ("192.168.6.0/24", "vbr", "Auto-learned"),
        ("192.168.7.0/24", "vbr", "Auto-learned"),
        ("192.168.8.0/24", "vbr", "Auto-learned"),
    ),
)

#: Every table by the node that shows it.
TABLES = {"vbr": VBR_TABLE, "vpc": VPC_TABLE}

#: From each data centre to the VPC's instance.
PINGS = (
    ("dc1-client0", "172.16.0.10"),
    ("dc2-client0", "172.16.0.10"),
    ("dc3-client0", "172.16.0.10"),
    ("dc4-client0", "172.16.0.10"),
    ("dc5-client0", "172.16.0.10"),
    ("dc6-client0", "172.16.0.10"),
    ("dc7-client0", "172.16.0.10"),
    ("dc8-client0", "172.16.0.10"),
)
