"""``vbrlab peer-config`` and ``vbrlab device --check`` for VPN gateways: one device with both tunnels of a connection, or one for each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness import device_check, peer_config
from harness.asa.check import check
from harness.asa.device import read_device
from harness.asa.read import read
from harness.cli import app
from harness.cloud.ends import Sided, ends_of, with_tunnels
from harness.cloud.vpn import VpnEstate
from harness.plan import Esp, Ike
from topologies import resilience, vpn_gateway

OFFICE = """\
vpn_gateway:
  name: office
  customer_gateways: [{name: office-router, address: 198.51.100.7, asn: 65010}]
  connections:
    - name: office-vpn
      bgp: true
      tunnels:
        - {customer_gateway: office-router, tunnel_cidr: 169.254.20.0/30, local_bgp_address: 169.254.20.1,
           pre_shared_key: first}
        - {customer_gateway: office-router, tunnel_cidr: 169.254.21.0/30, local_bgp_address: 169.254.21.1,
           pre_shared_key: "0x?second"}
  data_centre: {blocks: [172.16.1.0/24]}
"""


@pytest.fixture
def office(tmp_path: Path) -> str:
    file = tmp_path / "office.yaml"
    file.write_text(OFFICE)
    return str(file)


def vbrlab(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def both_tunnels(estate: VpnEstate) -> str:
    return peer_config.render(peer_config.find(estate, "IPsec-VPN Connection 1"), peer_config.Form.ASA)


def fitting(estate: Sided, text: str) -> list[bool]:
    return [report.fits and not report.unknown and not report.remarks for report in device_check.reports(estate, text)]


@pytest.mark.spec("ECMP-11", "VPN-24")
@pytest.mark.parametrize("name", ["vpn1a", "vpn1b", "IPsec-VPN Connection 1, secondary tunnel"])
def test_a_tunnel_of_the_scenario(name: str) -> None:
    """Read back, it is the device of that tunnel, whole."""
    estate = vpn_gateway.estate()
    (peer,) = peer_config.find(estate, name)
    text = peer_config.render([peer], peer_config.Form.ASA)
    assert vbrlab("peer-config", name, "--scenario", "vpn-gateway").stdout == text
    assert read_device(read(text), peer.device.name, peer.connection).device == peer.device == peer.expected()
    assert fitting(estate, text) == [True]


@pytest.mark.spec("ECMP-11", "VPN-24")
def test_one_device_with_both_tunnels(office: str) -> None:
    """What both share stands once; the text is held against each tunnel, and each value's line is its own."""
    done = vbrlab("peer-config", "office-vpn", "--scenario", office)
    text = done.stdout
    assert done.stderr == ""
    assert text.count("crypto ikev2 policy") == text.count("crypto ipsec profile ") == text.count("router bgp") == 1
    assert text.count("interface Tunnel") == text.count(" remote-as 45104") == 2
    file = Path(office).with_name("both.txt")
    file.write_text(text)
    fits = vbrlab("device", "--from-asa", str(file), "--check", "--scenario", office)
    assert fits.exit_code == 0, fits.output
    assert "fits office-vpn, primary tunnel: 0 errors, 0 notes" in fits.output
    assert "fits office-vpn, secondary tunnel: 0 errors, 0 notes" in fits.output
    file.write_text(text.replace("169.254.21.1 remote-as 45104", "169.254.21.1 remote-as 45105") + "hostname fw\n")
    wrong = vbrlab("device", "--from-asa", str(file), "--check", "--scenario", office)
    line = text.splitlines().index("  neighbor 169.254.21.1 remote-as 45104") + 1
    assert wrong.exit_code == 1
    assert f"{file}:{line}: the neighbour's AS number: device 45105, cloud 45104" in wrong.output
    assert "fits office-vpn, primary tunnel: 0 errors" in wrong.output
    assert wrong.output.count("not understood: hostname fw") == 1
    assert "0x?second" not in wrong.output


@pytest.mark.spec("VPN-24", "ECMP-31")
def test_tunnels_with_algorithms_of_their_own() -> None:
    """Each tunnel gets the policy and the profile that it needs; equal ones stand once."""
    estate = vpn_gateway.estate(one_device=True)
    (connection,) = estate.ipsec_connections
    first, second = connection.tunnels
    other = replace(second, ike=Ike("aes256", "sha256", "sha256", "group14"), esp=Esp("aes256", "sha256", None))
    estate = replace(estate, ipsec_connections=(replace(connection, tunnels=(first, other)),))
    text = both_tunnels(estate)
    assert text.count("crypto ikev2 policy") == text.count("crypto ipsec profile ") == 2
    config = read(text)
    for peer in peer_config.find(estate, connection.name):
        remarks = check(config, peer.connection, peer.gateway, peer.centre.blocks)
        # A device with two policies offers both; what is left are values of the policy that is not this tunnel's.
        assert not [each for each in remarks if each.weight.value == "error"], remarks
        found = read_device(config, peer.device.name, peer.connection).device
        assert (found.ike, found.esp) == (peer.connection.ike, peer.connection.esp)


@pytest.mark.spec("ECMP-11")
@pytest.mark.parametrize("form", ["strongswan", "frr", "json"])
def test_the_other_forms_have_both_tunnels(office: str, form: str) -> None:
    text = vbrlab("peer-config", "office-vpn", "--scenario", office, "--format", form).stdout
    assert all(value in text for value in ("169.254.20.1", "169.254.21.1")) or form == "strongswan"
    assert ("first" in text) == (form != "frr")
    if form == "json":
        assert [each["connection"] for each in json.loads(text)] == [
            "office-vpn, primary tunnel",
            "office-vpn, secondary tunnel",
        ]
    if form == "strongswan":
        assert text.count("remote_addrs") == 2


@pytest.mark.spec("ECMP-11", "VPN-10")
def test_the_tunnels_of_a_circuits_data_centre() -> None:
    estate = with_tunnels(resilience.estate())
    assert estate is not None
    assert [end.node for end in ends_of(estate)] == ["vpn1a"]
    done = vbrlab("peer-config", "vpn1a", "--scenario", "resilience")
    assert done.exit_code == 0
    assert fitting(estate, done.stdout) == [True]


@pytest.mark.spec("ECMP-5", "ECMP-11")
def test_a_key_that_a_document_leaves_out_is_said_to_be_new_each_time(office: str) -> None:
    Path(office).write_text(OFFICE.replace(',\n           pre_shared_key: "0x?second"', ""))
    done = vbrlab("peer-config", "vpn1b", "--scenario", office)
    assert done.exit_code == 0
    assert f"office-vpn, secondary tunnel: {office} has no key, and this one was made for this call" in done.stderr
    assert "has no key" not in vbrlab("peer-config", "vpn1a", "--scenario", office).stderr
    file = Path(office).with_name("gw.txt")
    file.write_text(done.stdout)
    refused = vbrlab("device", "--from-asa", str(file), "--check", "--scenario", office)
    assert refused.exit_code == 2
    assert "has no key for office-vpn, secondary tunnel: no device can know it" in refused.stderr


@pytest.mark.spec("ECMP-11", "ECMP-28")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("vpn9", "--scenario", "vpn-gateway"),
            "no IPsec connection 'vpn9'; there are vpn1a (IPsec-VPN Connection 1, primary",
        ),
        (("IPsec-VPN Connection 1", "--scenario", "vpn-gateway"), "so to two devices: name vpn1a"),
        (("vpn1", "--scenario", "vbr"), "--scenario vbr: it has no IPsec connection"),
        (("vpn1", "--scenario", "nowhere.yaml"), "'nowhere.yaml' is neither a file nor a scenario"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], said: str) -> None:
    done = vbrlab("peer-config", *words)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.spec("ECMP-28", "ECMP-11")
def test_without_bgp_there_is_no_text_for_it(office: str) -> None:
    Path(office).write_text(OFFICE.replace("bgp: true", "bgp: false"))
    done = vbrlab("peer-config", "office-vpn", "--scenario", office)
    assert done.exit_code == 2
    assert "office-vpn, primary tunnel: BGP is disabled" in done.stderr
    assert vbrlab("peer-config", "office-vpn", "--scenario", office, "--format", "strongswan").exit_code == 0


BRANCH = """\
ipsec:
  name: branch
  vpc: {region: China (Hangzhou)}
  customer_gateways: [{name: left, address: 198.51.100.7, asn: 65010}]
  connections:
    - {name: one, customer_gateway: left, bgp: true, tunnel_cidr: 169.254.20.0/30, local_bgp_address: 169.254.20.1, attached: false}
"""


@pytest.mark.spec("ECMP-4", "ECMP-25")
def test_a_gateway_address_is_assigned_on_attachment(tmp_path: Path) -> None:
    """Created and not attached, also to a router without a CIDR block: no error, no address, and whoever asks is told."""
    file = tmp_path / "branch.yaml"
    file.write_text(BRANCH.replace("name: branch", "name: branch\n  transit_router_cidr: null"))
    assert vbrlab("validate", str(file)).exit_code == 0
    asked = vbrlab("peer-config", "one", "--scenario", str(file))
    assert asked.exit_code == 2
    assert (
        "one is attached to no transit router yet, and its gateway IP address is assigned when it is (ECMP-4)"
        in asked.stderr
    )
    file.write_text(BRANCH.replace("attached: false", "attached: false, gateway_address: 203.0.113.50"))
    told = vbrlab("validate", str(file))
    assert told.exit_code == 1
    column = file.read_text().splitlines()[5].index("203.0.113.50") + 1
    assert f":6:{column}: error: one: gateway IP address 203.0.113.50, but it is assigned when" in told.output
    file.write_text(BRANCH.replace("attached: false", "attached: true"))
    assert "tunnel-group 203.0.113.11 " in vbrlab("peer-config", "one", "--scenario", str(file)).stdout


@pytest.mark.spec("ECMP-3", "VPN-16")
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("asn: 65010", "asn: 65011", "ASN 65011 in the place of 65010"),
        (", asn: 65010", "", "ASN none in the place of 65010"),
        ("198.51.100.7", "198.51.100.8", "IP address 198.51.100.8 in the place of 198.51.100.7"),
    ],
)
@pytest.mark.parametrize("text", [OFFICE, BRANCH], ids=["vpn_gateway", "ipsec"])
def test_a_customer_gateway_is_not_edited(tmp_path: Path, text: str, old: str, new: str, said: str) -> None:
    """By another name it is another customer gateway, which may be created."""
    was, shall = tmp_path / "was.yaml", tmp_path / "shall.yaml"
    was.write_text(text)
    shall.write_text(text.replace(old, new))
    done = vbrlab("validate", str(shall), "--was", str(was))
    assert done.exit_code == 1
    assert f"{said}: a customer gateway cannot be edited (ECMP-3). Delete it and create another" in done.output
    assert vbrlab("validate", str(was), "--was", str(was)).exit_code == 0
    shall.write_text(text.replace(old, new).replace("left", "other").replace("office-router", "other"))
    assert "cannot be edited" not in vbrlab("validate", str(shall), "--was", str(was)).output
