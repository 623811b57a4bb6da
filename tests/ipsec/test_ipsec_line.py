"""The tunnel interface's netlink messages; the kernel's own opinion of them is the tunnel tests' business."""

from __future__ import annotations

from harness.ipsec.line import GUARD_METRIC, guard, switch, xfrm_interface
from harness.ipsec.strongswan import DataPlane
from harness.net import records
from harness.net.netlink import attributes, unpack_u32
from harness.net.requests import IFINFO, Ifla, Rtm


def test_an_xfrm_interface_has_name_mtu_and_if_id() -> None:
    request = xfrm_interface("ipsec0", 7, 1400)
    found = attributes(request.body, IFINFO.size)
    info = attributes(found[Ifla.LINKINFO])
    assert request.type == Rtm.NEWLINK
    assert (found[Ifla.IFNAME], unpack_u32(found[Ifla.MTU])) == (b"ipsec0\0", 1400)
    assert info[1] == b"xfrm\0"
    assert unpack_u32(attributes(info[2])[2]) == 7


def test_the_guard_is_the_last_choice_for_the_tunnel_s_prefix() -> None:
    route = records.route(guard("169.254.10.1/30").body)
    unreachable = 7
    assert (str(route.prefix), route.kind, route.metric) == ("169.254.10.0/30", unreachable, GUARD_METRIC)


def test_a_tun_device_loses_its_carrier_and_an_xfrm_interface_is_set_down() -> None:
    carrier = switch(DataPlane.LIBIPSEC, 3, False)
    assert attributes(carrier.body, IFINFO.size)[Ifla.CARRIER][0] == 0
    assert IFINFO.unpack_from(carrier.body)[4] == 0  # ifi_change: the administrative state is left alone
    down, up = switch(DataPlane.XFRM, 3, False), switch(DataPlane.XFRM, 3, True)
    assert Ifla.CARRIER not in attributes(down.body, IFINFO.size)
    assert [IFINFO.unpack_from(request.body)[3:5] for request in (down, up)] == [(0, 1), (1, 1)]
