"""``vbrlab peer-config`` and ``vbrlab device``: what they print and write, and how they refuse."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from harness import device_check, peer_config
from harness.cli import app
from harness.ipsec import swanctl
from labs.document import asa as document
from tests.asa.test_asa_round_trip import LEGAL
from tests.test_project import TOP
from topologies import ipsec_ecmp

ESTATE = ipsec_ecmp.estate()


def vbrlab(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def commands(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("!")]


@pytest.mark.spec("ECMP-11", "ECMP-32")
@pytest.mark.parametrize("number", document.ADDED)
@pytest.mark.parametrize("name", ["vpn{}", "IPsec-VPN Connection {}"])
def test_asa_has_the_documents_commands(name: str, number: int) -> None:
    done = vbrlab("peer-config", name.format(number))
    assert done.exit_code == 0
    assert commands(done.stdout) == document.CONFIGURATIONS[number].splitlines()


@pytest.mark.spec("ECMP-5", "ECMP-11")
def test_it_is_the_clouds_side_that_is_written_not_the_devices() -> None:
    wrong = ipsec_ecmp.estate(device_keys=("one", "two", "three"))
    text = peer_config.render(peer_config.find(wrong, "vpn2"), peer_config.Form.ASA)
    assert commands(text) == document.CONFIGURATIONS[2].splitlines()


@pytest.mark.spec("ECMP-11", "VBR-9")
def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "gw1.txt"
    file.touch(mode=0o644)
    done = vbrlab("peer-config", "vpn1", "-o", str(file))
    assert done.exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert ESTATE.ipsec_connections[0].key in file.read_text()
    assert ESTATE.ipsec_connections[0].key not in done.output


@pytest.mark.spec("ECMP-11")
def test_strongswan_has_the_documents_values() -> None:
    text = vbrlab("peer-config", "vpn3", "--format", "strongswan").stdout
    for line in (
        "local_addrs = 198.51.100.3",
        "remote_addrs = 203.0.113.161",
        "proposals = aes128-sha1-prfsha1-modp2048",
        "esp_proposals = aes128-sha1-modp2048",
        "rekey_time = 86400s",
        'secret = "fddsFF789****"',
    ):
        assert line in [each.strip() for each in text.splitlines()]
    assert text.count("{") == text.count("}")


@pytest.mark.spec("ECMP-11")
def test_frr_and_json() -> None:
    frr = vbrlab("peer-config", "vpn1", "--format", "frr").stdout
    assert "router bgp 65530\n" in frr
    assert " neighbor 169.254.10.1 remote-as 65531\n" in frr
    assert frr.count("  network 192.168.") == 3
    shown = json.loads(vbrlab("peer-config", "vpn1", "--format", "json").stdout)
    assert shown["connection"] == "IPsec-VPN Connection 1"
    assert shown["ike"]["dh_group"] == "group14"


@pytest.mark.spec("ECMP-5")
@settings(max_examples=200, deadline=None)
@given(st.text(LEGAL, min_size=1, max_size=100))
@example("0x41")
@example("0sQUI=")
@example("0Sx")
@example("a\\")
@example("#{}$")
def test_every_legal_key_in_swanctls_grammar(key: str) -> None:
    written = swanctl.secret(key)
    assert re.fullmatch(r'"(?:[^"\\\n]|\\.)*"', written)
    value = re.sub(r"\\(.)", r"\1", written[1:-1])
    assert not value.startswith(("0x", "0X"))
    assert (b64decode(value[2:]).decode() if value[:2].lower() == "0s" else value) == key


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("peer-config", "vpn9"), "there are vpn1 (IPsec-VPN Connection 1)"),
        (("peer-config", "vpn1", "--format", "junos"), "there are asa, strongswan"),
        (("peer-config", "vpn1", "--scenario", "none"), "neither a file nor a scenario"),
        (
            ("peer-config", "vpn1", "--scenario", "vpn-gateway"),
            "no IPsec connection 'vpn1'; there are vpn1a (IPsec-VPN Connection 1, primary tunnel)",
        ),
        (("device", "--from-asa", "x", "--check", "--scenario", "vbr"), "it has no IPsec connection; ipsec-ecmp and"),
        (("device", "--from-asa", "/nowhere/x", "--check"), "cannot be read"),
        (("device", "--from-asa", "/nowhere/x"), "cannot be read"),
    ],
)
def test_wrong_usage_says_what_is_right(words: tuple[str, ...], part: str) -> None:
    done = vbrlab(*words)
    assert done.exit_code == 2
    assert part in done.output


@pytest.mark.spec("ECMP-31")
def test_check_says_fit_or_the_line(tmp_path: Path) -> None:
    file = tmp_path / "gw2.txt"
    file.write_text(document.CONFIGURATIONS[2])
    done = vbrlab("device", "--from-asa", str(file), "--check")
    assert (done.exit_code, "fits IPsec-VPN Connection 2: 0 errors" in done.output) == (0, True)
    file.write_text(document.CONFIGURATIONS[2].replace("group 14", "group 5") + "frobnicate\n")
    done = vbrlab("device", "--from-asa", str(file), "--check")
    assert done.exit_code == 1
    assert f"{file}:13: IKE DH group: device group5, cloud group14" in done.output
    assert f"{file}:50: not understood: frobnicate" in done.output
    assert "does not fit IPsec-VPN Connection 2: 1 error, 0 notes, 1 line not understood" in done.output
    shown = json.loads(vbrlab("device", "--from-asa", str(file), "--check", "--json").stdout)
    assert (shown["fits"], shown["remarks"][0]["line"]) == (False, 13)
    assert ESTATE.ipsec_connections[1].key not in json.dumps(shown)


@pytest.mark.spec("ECMP-31")
def test_a_wrong_destination_still_finds_the_connection() -> None:
    text = document.CONFIGURATIONS[3].replace("203.0.113.161", "203.0.113.99")
    assert device_check.reports(ESTATE, text)[0].connection == "IPsec-VPN Connection 3"
    assert device_check.reports(ESTATE, text, "vpn1")[0].connection == "IPsec-VPN Connection 1"
    with pytest.raises(peer_config.NoPeer, match="name one with --connection"):
        device_check.reports(ESTATE, text.replace("198.51.100.3", "198.51.100.77"))


def test_devices_for_a_lab(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    (device,) = ESTATE.data_centres[0].devices[:1]
    assert device_check.meant(ESTATE, [f"gw1={file}"]) == [(file, "vpn1")]
    changed = replace(device, key="other")
    assert ipsec_ecmp.estate(devices={"gw1": changed}).data_centres[0].devices[0] == changed
    for wrong in ([f"gw9={file}"], ["gw1"], ["gw1="], [f"gw1={file}", f"gw1={file}"]):
        with pytest.raises(device_check.Unreadable, match="each of gw1, gw2, gw3"):
            device_check.meant(ESTATE, wrong)


# ------------------------------------------------------------------------------------------------------------ the user's page

PAGE = (TOP / "docs" / "peer-config.md").read_text()
SHOWN = re.findall(r"^```console\n\$ vbrlab (.*)\n((?:.+\n)+)```$", PAGE, flags=re.MULTILINE)


def test_the_page_shows_what_the_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [words.split()[0] for words, _ in SHOWN] == ["peer-config", "device", "device"]
    for words, printed in SHOWN:
        if "changed.txt" in words:
            text = Path("gw1.txt").read_text().replace(" group 14", " group 5").replace("as 65531", "as 65533")
            text = text.replace("\n lifetime seconds 86400", "\n lifetime seconds 28800")
            Path("changed.txt").write_text(text + "hostname fw1\nsnmp-server community public\n")
        assert vbrlab(*words.split()).output == printed
