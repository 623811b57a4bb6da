"""The kernel's IPsec tables read back: layouts of uapi/linux/xfrm.h against a state that this kernel, or the layout itself, made."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

from harness.net import xfrm
from harness.net.netlink import attribute, u32

SOURCE, DESTINATION = "192.0.2.1", "192.0.2.2"


def usersa(
    *attributes: bytes, spi: int = 0xC0FFEE01, protocol: int = 50, octets: int = 840, packets: int = 10
) -> bytes:
    """struct xfrm_usersa_info, member by member as the header lists them."""
    address = {name: socket.inet_aton(each) + bytes(12) for name, each in (("s", SOURCE), ("d", DESTINATION))}
    selector = bytes(32) + bytes(8) + struct.pack("=HBBBxxxiI", socket.AF_INET, 0, 0, 0, 0, 0)
    identity = address["d"] + struct.pack("!I", spi) + struct.pack("=Bxxx", protocol)
    limits = struct.pack("=8Q", *(7,) * 8)
    current = struct.pack("=4Q", octets, packets, 5, 6)
    statistics = struct.pack("=3I", 1, 2, 3)
    rest = struct.pack("=IIHBBBxxxxxxx", 8, 9, socket.AF_INET, 1, 32, 0)
    assert (len(selector), len(identity)) == (56, 24)
    body = selector + identity + address["s"] + limits + current + statistics + rest
    assert len(body) == 224
    return body + b"".join(attributes)


def algorithm(name: str, bits: int) -> bytes:
    return struct.pack("=64sI", name.encode(), bits) + bytes(bits // 8)


def test_a_state_of_the_documented_algorithms() -> None:
    found = xfrm.state_of(
        usersa(
            attribute(20, struct.pack("=64sII", b"hmac(sha1)", 160, 96) + bytes(20)),
            attribute(1, algorithm("hmac(sha1)", 160)),
            attribute(2, algorithm("cbc(aes)", 128)),
            attribute(4, bytes(24)),
            u32(31, 1),
        )
    )
    assert found == xfrm.State(
        ip_address(SOURCE),
        ip_address(DESTINATION),
        "c0ffee01",
        1,
        ("cbc(aes)", 128),
        ("hmac(sha1)", 160),
        True,
        840,
        10,
    )


def test_a_place_held_and_another_protocol_are_no_states() -> None:
    assert xfrm.state_of(usersa(spi=0)) is None
    assert xfrm.state_of(usersa(protocol=51)) is None


def userpolicy(direction: int, *attributes: bytes) -> bytes:
    """struct xfrm_userpolicy_info: selector, lifetimes, priority, index, direction, action, flags, share."""
    return bytes(56 + 64 + 32) + struct.pack("=IIBBBB4x", 399999, 17, direction, 0, 0, 0) + b"".join(attributes)


def test_policies_by_direction_and_those_of_sockets_left_out() -> None:
    assert xfrm.policy_of(userpolicy(1, u32(31, 1))) == xfrm.Policy("out", 1, 399999)
    assert xfrm.policy_of(userpolicy(2)) == xfrm.Policy("fwd", None, 399999)
    assert xfrm.policy_of(userpolicy(3)) is None
