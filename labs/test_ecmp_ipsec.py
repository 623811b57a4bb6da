"""The three tunnels: what charon really negotiated, what crosses the internet, what fits through, and a wrong key.

Source: "Create multiple IPsec connections over the internet for load balancing", steps 2 and 3.
"""

from __future__ import annotations

import pytest

from harness.capture.clear_text import inspect
from harness.instruments import capture, load
from harness.lab import Lab
from harness.plan import Role
from harness.traffic.bulk import transfer
from harness.traffic.path_mtu import Outcome, path_mtu, ping
from labs.conftest import Broken
from labs.document import ipsec_ecmp as document
from reports.model import Values
from topologies import ipsec_ecmp

CONNECTIONS = (1, 2, 3)
LIFETIME = 86400
#: charon spreads the moment of a rekey over the last tenth of the lifetime, so that many tunnels do not rekey at once.
SPREAD = 0.101


@pytest.mark.spec("ECMP-6", "CARD-3")
@pytest.mark.parametrize("number", CONNECTIONS)
async def test_negotiated_algorithms_are_the_documented_ones(ecmp: Lab, number: int) -> None:
    """IKEv2 aes/sha1/sha1/group14 and ESP aes/sha1 for 86400 s, identities the IP addresses: read from both running charons."""
    for node, local, remote in (
        (f"gw{number}", ipsec_ecmp.PUBLIC[number - 1], ipsec_ecmp.GATEWAY_ADDRESSES[number - 1]),
        (f"vpn{number}", ipsec_ecmp.GATEWAY_ADDRESSES[number - 1], ipsec_ecmp.PUBLIC[number - 1]),
    ):
        shown = await ecmp[node].ipsec.call("show.sas")
        (ike,) = shown["ike"]
        (child,) = ike["children"]
        assert (ike["encryption"], ike["integrity"], ike["prf"], ike["dh_group"]) == ("aes", "sha1", "sha1", "group14")
        assert (child["encryption"], child["integrity"], child["state"]) == ("aes", "sha1", "INSTALLED")
        assert (ike["local"], ike["local_id"], ike["remote"], ike["remote_id"]) == (local, local, remote, remote)
        assert (child["local_ts"], child["remote_ts"]) == (["0.0.0.0/0"], ["0.0.0.0/0"])
        assert (shown["ike_lifetime"], shown["esp_lifetime"]) == (LIFETIME, LIFETIME)
        assert LIFETIME * (1 - SPREAD) <= child["rekey_in"] <= LIFETIME
        if node == f"gw{number}":
            rows = [(f"{name} (IKE)", ike[key], want) for name, key, want in _IKE] + [
                (f"{name} (ESP)", child[key], want) for name, key, want in _ESP
            ]
            ecmp.record(Values(f"Negotiated on device {number}", tuple(rows)))


_IKE = (
    ("encryption", "encryption", "aes"),
    ("integrity", "integrity", "sha1"),
    ("PRF", "prf", "sha1"),
    ("group", "dh_group", "group14"),
)
_ESP = (("encryption", "encryption", "aes"), ("integrity", "integrity", "sha1"))


@pytest.mark.spec("ECMP-6")
async def test_child_sa_is_rekeyed_with_group14(fresh_ecmp: Broken) -> None:
    """PFS: the first CHILD_SA has no group of its own; after a rekey its group is group14 and its SPIs are new."""
    async with fresh_ecmp() as lab:
        before = (await lab["vpn1"].ipsec.call("show.sas"))["ike"][0]["children"][0]
        began = lab.stream.events[-1].time
        await lab["vpn1"].ipsec.call("rekey", what="child")
        await lab.event(within=5.0, since=began, node="vpn1", source="ipsec", kind="child", change="rekeyed")
        children = (await lab["vpn1"].ipsec.call("show.sas"))["ike"][0]["children"]
        after = next(child for child in children if child["state"] == "INSTALLED")
        assert after["pfs"] == "group14"
        assert {after["spi_in"], after["spi_out"]}.isdisjoint({before["spi_in"], before["spi_out"]})
        assert await lab["ecs"].reaches("192.168.0.10")


@pytest.mark.spec("ECMP-9", "ECMP-8")
@pytest.mark.parametrize("number", CONNECTIONS)
async def test_tunnel_addresses(ecmp: Lab, number: int) -> None:
    """169.254.10.0/30 to 169.254.12.0/30: .1 on the cloud's side, .2 on the device's, each pings the other."""
    block = ipsec_ecmp.TUNNELS[number - 1]
    for node, own, other in ((f"vpn{number}", f"{block}.1", f"{block}.2"), (f"gw{number}", f"{block}.2", f"{block}.1")):
        names = ecmp[node].interface_names()
        addresses = {str(a.interface) for a in ecmp[node].rtnl.addresses() if names[a.ifindex] == "ipsec0"}
        assert f"{own}/30" in addresses
        assert await ecmp[node].reaches(other)


@pytest.mark.busy
@pytest.mark.spec("ECMP-6", "ECMP-7")
async def test_nothing_crosses_the_internet_in_clear(fresh_ecmp: Broken) -> None:
    """Everything the internet node sees is IKE and ESP between the public addresses, with tunnels up, one down, and up again."""
    async with fresh_ecmp(timers=ipsec_ecmp.FAST) as lab:
        ports = [end.interface for end, _ in lab.plan.interfaces("internet")]
        async with (
            capture(lab, {"internet": ports}, name="internet") as recording,
            load(lab, udp=600, tcp=30) as traffic,
        ):
            started = await traffic.generator.start(rate=5, duration=30)
            await traffic.generator.advance(started, rounds=2)
            lost = lab.stream.add("vpn2", "lab", "terminate").time
            await lab["vpn2"].ipsec.call("terminate")
            await lab.event(within=5.0, since=lost, node="gw2", source="ipsec", kind="line", state="down")
            await traffic.generator.advance(started, rounds=5)
            await lab["vpn2"].ipsec.call("initiate")
            await lab.event(within=5.0, since=lost, node="gw2", source="ipsec", kind="line", state="up")
            await traffic.generator.advance(started, rounds=3)
            await traffic.generator.stop()
            await traffic.generator.finish(started)
            counts = await recording.sync()
        assert all(tap["dropped"] == 0 for tap in counts.values())
        inner = [*ipsec_ecmp.CLIENT_BLOCKS, "192.168.50.0/24", "10.0.0.0/16", "169.254.0.0/16", "198.18.0.0/15"]
        verdict = inspect(
            recording.packets(),
            outer=[*ipsec_ecmp.PUBLIC, *ipsec_ecmp.PROVIDER, *ipsec_ecmp.GATEWAY_ADDRESSES, "192.0.2.254"],
            inner=inner,
        )
        lab.attach(recording.path, "What crossed the internet", str(verdict).splitlines()[0])
        assert verdict.violations == (), str(verdict)
        assert verdict.protected > 5000


@pytest.mark.spec("ECMP-22")
async def test_path_mtu_and_bulk_tcp(ecmp: Lab) -> None:
    """DF pings up to the tunnel's 1400 octets pass, larger ones are told the MTU, and bulk TCP goes through at full size."""
    client, server = ecmp["dc-client0"].namespace.fd, ecmp["ecs"].namespace.fd
    fits = await ping(client, "10.0.0.1", size=1400, source="192.168.0.10")
    assert fits.outcome is Outcome.REPLY
    too_big = await ping(client, "10.0.0.1", size=1401, source="192.168.0.10")
    assert (too_big.outcome, too_big.mtu) == (Outcome.TOO_BIG, 1400)
    assert await path_mtu(client, "10.0.0.1", source="192.168.0.10") == 1400
    for source, target, address in ((client, server, "10.0.0.1"), (server, client, "192.168.0.10")):
        result = await transfer(source, target, address, octets=4 << 20)
        assert result.mss <= 1360, "segments of this size would need fragments in the tunnel"
        assert result.mbit_per_second > 1


@pytest.mark.spec("ECMP-10", "ECMP-31")
async def test_wrong_key_on_one_device(fresh_ecmp: Broken) -> None:
    """Device 2 has another key: its tunnel never comes up and says AUTHENTICATION_FAILED; the other two carry everything."""
    keys = (ipsec_ecmp.KEYS[0], "not-the-key", ipsec_ecmp.KEYS[2])
    async with fresh_ecmp(established=False, device_keys=keys) as lab:
        await lab.event(within=5.0, node="vpn2", source="ipsec", kind="failure", code="AUTHENTICATION_FAILED")
        expected = document.TABLE_1.without(word="VPN connection 2")
        assert await lab["tr-hangzhou"].route_table(like=expected, within=5.0) == expected
        assert lab.lines() == {node.name: node.name not in ("gw2", "vpn2") for node in lab if node.plan.tunnel}
        status = await lab["vpn2"].ipsec.call("show.status")
        assert status["reason"]["code"] == "AUTHENTICATION_FAILED"
        await lab["dc-router"].learned("10.0.0.0/24", within=5.0)
        await lab["tr-shanghai"].learned("192.168.1.0/24", within=5.0)
        assert await lab["ecs"].reaches("192.168.1.10")
        assert "not-the-key" not in lab.everything_written()


@pytest.mark.spec("ECMP-6")
async def test_no_key_is_written_anywhere(ecmp: Lab) -> None:
    """The documented keys stand in no log, event, answer or process list of a running lab."""
    written = ecmp.everything_written()
    for device in ecmp.having(Role.DEVICE):
        for question in ("show.status", "show.sas"):
            written += str(await device.ipsec.call(question))
    for key in ipsec_ecmp.KEYS:
        assert key not in written
