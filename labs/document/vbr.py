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

#: The statuses of a BGP peer as a table of states: (state, what happens, next state) -> where it stands. The texts under アイドル to
#: 確立済み name no more than these; rows with † are the RFC's (VBR-18, VBR-20, VBR-35, BGP-1).
STATE_TABLE = {
    ("Idle", "start", "Connect"): "VBR-15",
    ("Connect", "ConnectRetryTimer expires", "Connect"): "VBR-16",
    ("Connect", "TCP connection succeeds", "OpenSent"): "VBR-16",
    ("Active", "ConnectRetryTimer expires", "Connect"): "VBR-17",
    ("Active", "TCP connection succeeds", "OpenSent"): "VBR-17",
    ("OpenSent", "error in the OPEN", "Idle"): "VBR-18",
    ("OpenSent", "the OPEN is correct", "OpenConfirm"): "VBR-18",
    ("OpenSent", "TCP connection fails", "Active"): "VBR-18 †",
    ("OpenConfirm", "KEEPALIVE received", "Established"): "VBR-19",
    ("OpenConfirm", "TCP connection fails", "Idle"): "VBR-19",
    ("OpenConfirm", "hold timer expires", "Idle"): "VBR-35 †",
    ("Established", "UPDATE received", "Established"): "VBR-20",
    ("Established", "TCP connection fails", "Idle"): "RFC 4271 8.2.2 †",
}
#: Where the document and RFC 4271 differ, and what only one lab brings about.
STATE_TABLES = {
    "document": {
        ("Connect", "TCP connection fails", "Active"): "VBR-16",
        ("Active", "TCP connection fails", "Active"): "VBR-17",
        ("Established", "hold timer expires", "Idle"): "VBR-20 †",
        ("Established", "NOTIFICATION received", "Idle"): "RFC 4271 8.2.2 †",
        ("OpenSent", "collision: the other connection stays", "Idle"): "BGP-1 †",
    },
    "rfc4271": {
        ("Connect", "TCP connection fails", "Idle"): "VBR-16, RFC 4271",
        ("Active", "TCP connection fails", "Idle"): "VBR-17, RFC 4271",
    },
}
#: RFC 4271's events (8.1) in those words; events that are not here leave the state as it is.
EVENT_WORDS = {
    "MANUAL_START": "start",
    "IDLE_HOLD_TIMER_EXPIRES": "start",
    "CONNECT_RETRY_TIMER_EXPIRES": "ConnectRetryTimer expires",
    "TCP_CR_ACKED": "TCP connection succeeds",
    "TCP_CONNECTION_CONFIRMED": "TCP connection succeeds",
    "TCP_CONNECTION_FAILS": "TCP connection fails",
    "BGP_OPEN": "the OPEN is correct",
    "BGP_OPEN_MSG_ERR": "error in the OPEN",
    "BGP_HEADER_ERR": "error in the OPEN",
    "KEEPALIVE_MSG": "KEEPALIVE received",
    "HOLD_TIMER_EXPIRES": "hold timer expires",
    "NOTIF_MSG": "NOTIFICATION received",
    "OPEN_COLLISION_DUMP": "collision: the other connection stays",
}
#: What shows a row on the wire: signs of the packets that cause it, and of those that follow from it.
SIGNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "start": ((), ("SYN",)),
    "ConnectRetryTimer expires": ((), ("SYN",)),
    "TCP connection succeeds": (("SYN ACK", "SYN"), ("OPEN",)),
    "TCP connection fails": (("RST", "FIN"), ()),
    "the OPEN is correct": (("OPEN",), ("KEEPALIVE",)),
    "error in the OPEN": (("OPEN", "type", "octets"), ("NOTIFICATION",)),
    "KEEPALIVE received": (("KEEPALIVE",), ()),
    "UPDATE received": (("UPDATE",), ()),
    "hold timer expires": ((), ("NOTIFICATION",)),
    "NOTIFICATION received": (("NOTIFICATION",), ()),
    "collision: the other connection stays": (("OPEN",), ("NOTIFICATION",)),
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
