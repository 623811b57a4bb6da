"""What charon is told for a tunnel of the plan: vectors, and the refusals that name object, rule and remedy."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vici.protocol import FiniteStream, Message

from harness import patience
from harness.ipsec import algorithms
from harness.ipsec.strongswan import (
    DataPlane,
    TunnelError,
    acquire_lifetime,
    check,
    connection,
    daemon_configuration,
    shared_key,
)
from harness.plan import Esp, Ike
from tests.ipsec.ends import CLOUD, DEVICE, KEY, tunnel

LEGAL_KEY_CHARACTERS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" + "~`!@#$%^&*()_-+={}[]\\|;:',.<>/?"
)


@pytest.mark.spec("ECMP-6")
def test_the_documented_connection() -> None:
    assert connection(tunnel(CLOUD, dpd_delay=30, retransmit_timeout=4.0)) == {
        "IPsec-VPN-1": {
            "version": "2",
            "local_addrs": [CLOUD],
            "remote_addrs": [DEVICE],
            "proposals": ["aes128-sha1-prfsha1-modp2048"],
            "rekey_time": "85536s",
            "rand_time": "7776s",
            "over_time": "9504s",
            "encap": "yes",
            "mobike": "no",
            "keyingtries": "1",
            "dpd_delay": "30s",
            "local": {"auth": "psk", "id": CLOUD},
            "remote": {"auth": "psk", "id": DEVICE},
            "children": {
                "IPsec-VPN-1": {
                    "esp_proposals": ["aes128-sha1-modp2048"],
                    "local_ts": ["0.0.0.0/0"],
                    "remote_ts": ["0.0.0.0/0"],
                    "mode": "tunnel",
                    "replay_window": "1024",
                    "rekey_time": "85536s",
                    "rand_time": "7776s",
                    "life_time": "95040s",
                    "if_id_in": "1",
                    "if_id_out": "1",
                    "start_action": "none",
                    "close_action": "none",
                    "dpd_action": "clear",
                }
            },
        }
    }


@pytest.mark.parametrize(
    ("ike", "esp", "proposals"),
    [
        (Ike(), Esp(pfs=None), ("aes128-sha1-prfsha1-modp2048", "aes128-sha1")),
        (
            Ike(encryption="aes256", integrity="sha256", prf="sha512", dh_group="group5"),
            Esp(encryption="aes192", integrity="md5", pfs="group2"),
            ("aes256-sha256-prfsha512-modp1536", "aes192-md5-modp1024"),
        ),
        (
            Ike(encryption="3des", integrity="md5", prf="md5", dh_group="group1"),
            Esp(encryption="3des", integrity="sha384", pfs="group1"),
            ("3des-md5-prfmd5-modp768", "3des-sha384-modp768"),
        ),
    ],
)
def test_words_of_the_document_become_proposals(ike: Ike, esp: Esp, proposals: tuple[str, str]) -> None:
    assert (algorithms.ike_proposal(ike), algorithms.esp_proposal(esp)) == proposals


@pytest.mark.parametrize(
    ("ike", "text"),
    [
        (Ike(encryption="rot13"), "IKE encryption 'rot13' is none of aes, aes192, aes256, 3des"),
        (Ike(integrity="crc"), "IKE integrity 'crc'"),
        (Ike(prf="crc"), "IKE PRF 'crc'"),
        (Ike(dh_group="group99"), "IKE DH group 'group99' is none of group1, group2, group5, group14"),
    ],
)
def test_a_word_no_document_uses_is_refused_by_name(ike: Ike, text: str) -> None:
    with pytest.raises(algorithms.UnknownAlgorithm, match=re.escape(text)):
        connection(tunnel(ike=ike))


def test_an_algorithm_read_back_is_the_document_s_word() -> None:
    assert algorithms.documented(algorithms.ENCRYPTION, "AES_CBC", 128) == "aes"
    assert algorithms.documented(algorithms.ENCRYPTION, "AES_CBC", 256) == "aes256"
    assert algorithms.documented(algorithms.ENCRYPTION, "CHACHA20_POLY1305", 256) == "CHACHA20_POLY1305_256"
    assert algorithms.documented(algorithms.DH_GROUP, "MODP_2048") == "group14"
    assert algorithms.documented(algorithms.DH_GROUP, "CURVE_25519") == "CURVE_25519"


@pytest.mark.parametrize(
    ("plane", "kernel"),
    [
        (DataPlane.LIBIPSEC, "kernel-libipsec kernel-netlink vici"),
        (DataPlane.XFRM, "socket-default kernel-netlink vici"),
    ],
)
def test_daemon_configuration(plane: DataPlane, kernel: str) -> None:
    text = daemon_configuration(
        tunnel(retransmit_timeout=0.5, retransmit_tries=3), plane, Path("/run/vbrlab/1/gw1/ipsec/vici")
    )
    settings = dict(re.findall(r"^\s*([\w]+) = (.*)$", text, re.MULTILINE))
    assert settings["socket"] == "unix:///run/vbrlab/1/gw1/ipsec/vici"
    assert settings["load"].startswith("random nonce aesni aes sha1 sha2 hmac kdf openssl gmp")
    assert settings["load"].endswith(kernel)
    assert settings["fwmark"] == "0x7ffffff0"
    assert 2 <= int(settings["xfrm_acq_expires"]) < 165
    assert (settings["retransmit_timeout"], settings["retransmit_tries"], settings["retransmit_base"]) == (
        "0.5",
        "3",
        "1.0",
    )
    assert text.count("{") == text.count("}")
    assert "include" not in text


@pytest.mark.parametrize(
    ("factor", "planned", "waits"),
    [("1", 0.4, "0.4"), ("5", 0.4, "2"), ("20", 0.4, "4"), ("20", 4.0, "4"), ("20", 9.0, "9")],
)
def test_a_slow_machine_has_more_time_to_answer_up_to_the_usual(
    monkeypatch: pytest.MonkeyPatch, factor: str, planned: float, waits: str
) -> None:
    monkeypatch.setenv(patience.VARIABLE, factor)
    asked = tunnel(retransmit_timeout=planned, retransmit_tries=2)
    text = daemon_configuration(asked, DataPlane.XFRM, Path("/run/vici"))
    assert f"  retransmit_timeout = {waits}\n" in text
    assert acquire_lifetime(asked) >= 3 * float(waits)


def test_no_secret_in_the_configuration_or_the_connection() -> None:
    made = tunnel()
    shown = daemon_configuration(made, DataPlane.LIBIPSEC, Path("/run/vici")) + repr(connection(made))
    assert KEY not in shown


def test_a_socket_path_that_the_file_cannot_hold_is_refused() -> None:
    with pytest.raises(TunnelError, match="use an absolute path of letters"):
        daemon_configuration(tunnel(), DataPlane.LIBIPSEC, Path("/run/a b/vici"))


@pytest.mark.parametrize(
    ("changes", "plane", "text"),
    [
        ({"interface": "Tunnel1"}, DataPlane.LIBIPSEC, "interface 'Tunnel1' cannot be had .* call it so"),
        ({"mtu": 1401}, DataPlane.LIBIPSEC, "MTU 1401 is over the 1400"),
        ({"dpd_delay": 0.5}, DataPlane.XFRM, "DPD delay 0.5 s; charon counts in whole seconds"),
    ],
)
def test_what_a_data_plane_cannot_carry_is_refused(changes: dict[str, Any], plane: DataPlane, text: str) -> None:
    with pytest.raises(TunnelError, match=f"tunnel IPsec-VPN-1: {text}"):
        check(tunnel(**changes), plane)


def test_the_kernel_plane_takes_any_interface_name_and_mtu() -> None:
    check(tunnel(interface="Tunnel1", mtu=1438), DataPlane.XFRM)


@pytest.mark.spec("ECMP-5")
@given(st.text(alphabet=LEGAL_KEY_CHARACTERS, min_size=1, max_size=100))
def test_every_legal_key_reaches_charon_as_it_is(key: str) -> None:
    _through_vici(key)


@pytest.mark.spec("ECMP-5")
@pytest.mark.parametrize("key", ["0xdeadbeef", "0sAAAA", "'", "\\", "\\\\n", "?", "#{}=,", "%any", "{0x", "a" * 100])
def test_keys_that_configuration_files_would_misread(key: str) -> None:
    _through_vici(key)


def _through_vici(key: str) -> None:
    message = shared_key(dataclasses.replace(tunnel(), key=key))
    received = Message.deserialize(FiniteStream(Message.serialize(message)))
    assert received["data"] == key.encode("ascii")
    assert received["type"] == b"IKE"
    assert received["owners"] == [DEVICE.encode(), CLOUD.encode()]
