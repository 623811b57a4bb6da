"""The data centre in a plan: its router, its LAN, its gateway devices, and the internet between them and the cloud's gateways.

The same in every scenario with IPsec connections; ``harness.cloud.build`` and ``harness.cloud.build_vpn`` add their cloud to it. How the
devices and the rest of the data centre speak with each other is this project's choice (docs/architecture.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Interface, IPv4Network

from harness.cloud.resources import DataCentre, GatewayDevice, Timers
from harness.cloud.sites import attach_clients, bgp_identifier
from harness.plan import End, Link, Neighbor, Node, Role, Route, RoutingTable, Rule, Speaker, Tunnel

#: Where the provider's routers answer towards the cloud's gateways (RFC 5737).
PROVIDER_CLOUD_SIDE = "192.0.2.254"

#: ASN of a data centre that has no device to say another: that of the documents' devices (ECMP-5).
DEVICE_ASN = 65530

_MULTIPATH = 8
_NO_NETWORKS = (Rule("deny", local=True),)

#: How a device calls its neighbour at the other end of the tunnel.
Session = Callable[[GatewayDevice], str]


def attach_data_centre(
    centre: DataCentre, timers: Timers, session: Session, nodes: list[Node], links: list[Link]
) -> None:
    """The router with the clients behind it, the LAN, and the devices on it."""
    prefix = IPv4Network(centre.lan).prefixlen
    router, lan = f"{centre.name}-router", f"{centre.name}-lan"
    attach_clients(centre.name, router, centre.blocks, nodes, links)
    inner = tuple(f"{device.clients_next_hop}/{prefix}" for device in centre.devices)
    neighbors = tuple(
        Neighbor(
            f"{centre.name} {device.name}",
            device.private_address,
            device.asn,
            local_address=device.clients_next_hop,
            export=(Rule("deny"),),
        )
        for device in centre.devices
    )
    # With no device yet it has nobody to speak to.
    speaker = (
        None
        if not centre.devices
        else Speaker(
            router_asn(centre),
            bgp_identifier(inner),
            neighbors,
            multipath=_MULTIPATH,
            multipath_ibgp=_MULTIPATH,
            hold_time=timers.hold_time,
            connect_retry_time=timers.connect_retry_time,
            idle_hold_time=timers.idle_hold_time,
        )
    )
    nodes.append(Node(router, Role.ROUTER, "Data-centre router", "Data centre", forwarding=True, speaker=speaker))
    nodes.append(Node(lan, Role.SWITCH, f"LAN {centre.lan}", "Data centre"))
    links.append(Link(End(router, "lan", inner), End(lan, "router")))
    for device in centre.devices:
        nodes.append(_device(centre, device, timers, session))
        private = End(device.name, "private", (f"{device.private_address}/{prefix}",))
        links.append(Link(private, End(lan, device.name)))
        attach_clients(device.name, device.name, device.blocks, nodes, links)


def router_asn(centre: DataCentre) -> int:
    """The ASN that the data centre's router speaks as: its own, else its devices', and with none there yet the document's."""
    if centre.asn is not None:
        return centre.asn
    return centre.devices[0].asn if centre.devices else DEVICE_ASN


def _device(centre: DataCentre, device: GatewayDevice, timers: Timers, session: Session) -> Node:
    own = device.asn == device.neighbor_asn
    cloud = Neighbor(
        session(device),
        device.neighbor,
        device.neighbor_asn,
        local_address=str(IPv4Interface(device.tunnel_address).ip),
        ebgp_multihop=None if own else device.ebgp_multihop,
        next_hop_self=own,
        fall_over=True,
    )
    # No document joins the devices to the data-centre router by BGP; without it the data centre could not notice a lost tunnel.
    inside = (*device.blocks, *device.static_routes)
    behind = (Rule("permit", prefixes=inside),) if inside else ()
    inner = Neighbor(
        f"{centre.name} router",
        device.clients_next_hop,
        router_asn(centre),
        local_address=device.private_address,
        next_hop_self=True,
        export=(*behind, *_NO_NETWORKS),
    )
    others = [each for each in centre.devices if each is not device] if centre.mesh else []
    shares = any(each is not device and each.public_address == device.public_address for each in centre.devices)
    mesh = tuple(
        Neighbor(
            each.name,
            each.private_address,
            each.asn,
            local_address=device.private_address,
            next_hop_self=True,
            export=_NO_NETWORKS,
        )
        for each in others
    )
    speaker = Speaker(
        device.asn,
        bgp_identifier((device.private_address,) if shares else (device.public_address, device.private_address)),
        (cloud, inner, *mesh),
        tuple(dict.fromkeys((*device.networks, *device.static_routes))),
        hold_time=timers.hold_time,
        connect_retry_time=timers.connect_retry_time,
        idle_hold_time=timers.idle_hold_time,
    )
    tunnel = Tunnel(
        f"{device.name} to {device.gateway_address}",
        device.public_address,
        device.gateway_address,
        device.public_address,
        device.gateway_address,
        device.key,
        "ipsec0",
        device.tunnel_address,
        "none",
        device.ike,
        device.esp,
        routes=device.static_routes,
        dpd_delay=timers.dpd_delay,
        retransmit_timeout=timers.retransmit_timeout,
        retransmit_tries=timers.retransmit_tries,
    )
    routes = (
        Route(f"{device.gateway_address}/32", device.provider_next_hop, "outside1", onlink=True),
        *(Route(block, device.clients_next_hop) for block in centre.blocks),
    )
    label = f"On-premises gateway device {centre.devices.index(device) + 1}"
    return Node(
        device.name, Role.DEVICE, label, "Data centre", routes=routes, forwarding=True, speaker=speaker, tunnel=tunnel
    )


def cloud_tunnel(
    name: str, local: str, remote: str, key: str, address: str, effective_immediately: bool, timers: Timers
) -> Tunnel:
    """The cloud's end of a tunnel with the default algorithms. Identities are the IP addresses (ECMP-6)."""
    return Tunnel(
        name,
        local,
        remote,
        local,
        remote,
        key,
        "ipsec0",
        address,
        "start" if effective_immediately else "traffic",
        dpd_delay=timers.dpd_delay,
        retransmit_timeout=timers.retransmit_timeout,
        retransmit_tries=timers.retransmit_tries,
    )


def attach_internet(
    centres: Iterable[DataCentre], ends: Iterable[tuple[str, str]], nodes: list[Node], links: list[Link]
) -> None:
    """The internet: a cable to each device, and one to each of the cloud's ``ends``, (node, public address)."""
    devices = [device for centre in centres for device in centre.devices]
    ends = tuple(ends)
    shared = {address for address, count in Counter(device.public_address for device in devices).items() if count > 1}
    routes = [Route(f"{device.public_address}/32", device=f"to-{device.name}") for device in devices[::-1]]
    routes += [Route(f"{address}/32", device=f"to-{node}") for node, address in ends]
    tables = []
    for number, device in enumerate((each for each in devices if each.public_address in shared), 1000):
        # One device with several tunnels is several nodes with one address: what is for it goes by where it comes from.
        tables.append(RoutingTable(f"to {device.name}", number, sources=(f"{device.gateway_address}/32",)))
        routes.append(Route(f"{device.public_address}/32", device=f"to-{device.name}", table=number))
    nodes.append(
        Node(
            "internet",
            Role.INTERNET,
            "Internet",
            "Internet",
            routes=tuple(routes),
            forwarding=True,
            tables=tuple(tables),
        )
    )
    for device in devices:
        near = End("internet", f"to-{device.name}", (f"{device.provider_next_hop}/32",))
        outside = End(device.name, "outside1", (f"{device.public_address}/32",), shared=device.public_address in shared)
        links.append(Link(outside, near))
    for node, address in ends:
        near = End("internet", f"to-{node}", (f"{PROVIDER_CLOUD_SIDE}/32",))
        links.append(Link(near, End(node, "internet", (f"{address}/32",))))
