"""What else is legal ASA, and what is not: abbreviations, other orders and numbers, unknown and missing lines, values that cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.asa.check import check
from harness.asa.config import Kind, Weight
from harness.asa.device import NotADevice, read_device
from harness.asa.read import read
from labs.document import asa as document
from topologies import ipsec_ecmp

TEXT = document.CONFIGURATIONS[1]
LINES = TEXT.splitlines()
ESTATE = ipsec_ecmp.estate()
DEVICE = ESTATE.data_centres[0].devices[0]
KEY = DEVICE.key

ABBREVIATED = f"""\
int g0/0
nameif outside1
ip addr 198.51.100.1 255.255.255.255
no shut
int gig 0/1
nameif private
secur 100
ip addr 192.168.50.216 255.255.255.0
cry ikev2 en outside1
crypto ikev2 pol 20
encr aes
integ sha
gr 14
prf sha
life sec 86400
crypto ipsec ikev2 ipsec-prop P
prot esp encr aes
prot esp integ sha-1
crypto ipsec prof Q
set ikev2 ipsec-prop P
set pfs group14
set sec life sec 86400
set sec life kilo unlim
tunnel-group 203.0.113.191 type ipsec-l2l
tunnel-group 203.0.113.191 ipsec-attr
ikev2 remote pre-shared {KEY}
ikev2 local pre-shared 0 {KEY}
int tun7
nameif T
ip addr 169.254.10.2 255.255.255.252
tunnel sou int outside1
tunnel dest 203.0.113.191
tunnel mode ipsec ipv4
tunnel prot ipsec prof Q
route outside1 0.0.0.0 0.0.0.0 192.0.2.172 1
route private 192.168.0.0 255.255.255.0 192.168.50.215
route private 192.168.1.0 255.255.255.0 192.168.50.215
route private 192.168.2.0 255.255.255.0 192.168.50.215
router bgp 65530
addr ipv4
neigh 169.254.10.1 remote 65531
neigh 169.254.10.1 ebgp 255
neigh 169.254.10.1 act
netw 192.168.0.0 mask 255.255.255.0
netw 192.168.1.0 mask 255.255.255.0
netw 192.168.2.0 mask 255.255.255.0
"""


@pytest.mark.spec("ECMP-32")
def test_abbreviated_renumbered_and_without_indentation_is_the_same_device() -> None:
    config = read(ABBREVIATED)
    assert not config.unknown
    assert not config.remarks
    assert read_device(config, "gw1").device == DEVICE


def blocks() -> list[str]:
    """The text cut into top-level commands with what belongs to them."""
    found: list[str] = []
    for line in LINES:
        if line.startswith(" "):
            found[-1] += line + "\n"
        else:
            found.append(line + "\n")
    return found


@pytest.mark.spec("ECMP-32")
@settings(max_examples=40, deadline=None)
@given(st.permutations(blocks()))
def test_any_order_of_the_blocks_is_the_same_device(order: list[str]) -> None:
    found = read_device(read("".join(order)), "gw1").device
    assert set(found.networks) == set(DEVICE.networks)
    assert found == DEVICE


# ------------------------------------------------------------------------------------------------------------ unknown lines


@pytest.mark.spec("ECMP-32")
def test_unknown_lines_are_listed_and_change_nothing() -> None:
    strange = "hostname fw1\ncrypto ikev1 policy 10\n authentication pre-share\n encryption 3des\n group 2\n"
    config = read(TEXT + strange + "object network inside\n subnet 10.9.0.0 255.255.0.0\n")
    first = len(LINES) + 1
    assert [each.line for each in config.unknown] == list(range(first, first + 7))
    assert read_device(config, "gw1").device == DEVICE


def test_an_unknown_line_within_a_section_leaves_the_section_open() -> None:
    config = read(TEXT.replace(" integrity sha\n", " integrity sha\n frobnicate 3\n"))
    assert [(each.line, each.text) for each in config.unknown] == [(13, "frobnicate 3")]
    assert read_device(config, "gw1").device == DEVICE


def test_a_foreign_section_in_flat_text_ends_the_one_before() -> None:
    flat = ABBREVIATED.replace(
        "gr 14\n", "gr 14\ncrypto ikev1 policy 5\ngroup 2\nencryption des\ncrypto ikev2 policy 20\n"
    )
    config = read(flat)
    assert [each.text.split(" (")[0] for each in config.unknown] == [
        "crypto ikev1 policy 5",
        "group 2",
        "encryption des",
    ]
    assert read_device(config, "gw1").device == DEVICE


@pytest.mark.spec("VBR-9")
@pytest.mark.parametrize(
    "line",
    [
        " ikev2 remote-authentication pre-shared-kee {}",
        " ikev2 remote-authentication {}",
        " ikev2 remote-authentication pre-shared-key 8 {}",
        " ikev2 remote-authentication pre-shared-key one {}",
        " {}",
        "username admin password {}",
        "crypto ikev1 preshared {}",
        "snmp-server community {}",
    ],
)
def test_no_remark_shows_a_secret(line: str) -> None:
    secret = "Zq!9#x?\\w"
    text = TEXT.replace(f" ikev2 remote-authentication pre-shared-key {KEY}", line.format(secret))
    config = read(text)
    said = repr(config.sections) + "\n".join(map(str, [*config.unknown, *config.remarks]))
    try:
        said += repr(read_device(config, "gw1"))
    except NotADevice as error:
        said += str(error)
    assert secret not in said
    assert KEY not in said
    assert config.unknown or config.remarks


def test_a_key_is_hidden_wherever_else_it_stands() -> None:
    config = read(TEXT + f"frobnicate {KEY} twice\n")
    assert [each.text for each in config.unknown] == ["frobnicate ***** twice"]


# -------------------------------------------------------------------------------------------------------------- missing lines

OPTIONAL = {
    " security-level 0",
    " security-level 100",
    " lifetime seconds 86400",
    " set ikev2 local-identity address",
    " no shutdown",
    " exit-address-family",
    " nameif ALIYUN1",
}
"""Without these a device is the same: they say what an ASA does anyway."""


@pytest.mark.spec("ECMP-32")
@pytest.mark.parametrize("number", range(len(LINES)), ids=lambda number: LINES[number].strip()[:40].replace(KEY, "KEY"))
def test_a_missing_line_is_named(number: int) -> None:
    config = read("\n".join(LINES[:number] + LINES[number + 1 :]))
    remarks = check(config, ESTATE.ipsec_connections[0], ESTATE.customer_gateways[0], DEVICE.networks)
    assert (not remarks) == (LINES[number] in OPTIONAL)
    if not remarks:
        assert read_device(config, "gw1").device == DEVICE


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(NotADevice) as caught:
        read_device(read("hostname fw\n"), "gw1")
    said = str(caught.value)
    for part in ("tunnel interface", "IKEv2 policy", "router bgp", "no network is announced"):
        assert part in said


# ------------------------------------------------------------------------------------------------------------------ bad values


@pytest.mark.spec("ECMP-32")
@pytest.mark.parametrize(
    ("old", "new", "line", "part"),
    [
        (" group 14", " group 99", 13, "'99' is none of"),
        (" group 14", " group 19", 13, "nothing that the console offers"),
        (" encryption aes\n", " encryption rot13\n", 11, "'rot13' is none of"),
        (" protocol esp integrity sha-1", " protocol esp integrity sha", 18, "'sha' is none of"),
        (" lifetime seconds 86400", " lifetime seconds ten", 15, "from 120 to 2147483647"),
        (" ip address 169.254.10.2 255.255.255.252", " ip address 169.254.10.2 255.0.255.0", 31, "no network mask"),
        (" tunnel destination 203.0.113.191", " tunnel destination 203.0.113", 33, "no IPv4 address"),
        ("router bgp 65530", "router bgp 0", 41, "AS number"),
        (" tunnel source interface outside1", " tunnel source interface outside2", 32, "nameif outside2"),
        (" nameif private\n", " nameif privat\n", 38, "nameif private"),
        ("ipsec profile ALIYUN-PROFILE\n no", "ipsec profile OTHER\n no", 35, "no crypto ipsec profile OTHER"),
        (" no shutdown", " shutdown", 36, "shut down"),
        ("  network 192.168.1.0", "  network 192.168.7.0", 47, "has no route"),
        ("192.168.2.0 255.255.255.0 192.168.50.215", "192.168.2.0 255.255.255.0 192.168.50.9", 40, "differs from"),
        ("tunnel-group 203.0.113.191", "tunnel-group 203.0.113.192", 25, "no tunnel-group 203.0.113.191"),
        (f"remote-authentication pre-shared-key {KEY}", 'remote-authentication pre-shared-key a"b', 27, "1 to 100"),
    ],
)
def test_a_bad_value_names_its_line(old: str, new: str, line: int, part: str) -> None:
    assert old in TEXT
    with pytest.raises(NotADevice) as caught:
        read_device(read(TEXT.replace(old, new)), "gw1")
    assert [remark for remark in caught.value.remarks if remark.line == line and part in str(remark)], str(caught.value)


def test_an_ambiguous_word_is_not_guessed() -> None:
    config = read(TEXT.replace(" encryption aes\n", " encryption a\n"))
    assert config.remarks[0].line == 11


def test_the_last_of_two_commands_counts_with_its_line() -> None:
    config = read(TEXT + "crypto ikev2 policy 10\n group 5\n")
    value = config.of(Kind.IKEV2_POLICY)["10"].values["group"]
    assert (value.value, value.line) == (("5",), len(LINES) + 2)


def test_five_stars_are_told_apart_from_a_key() -> None:
    remarks = read(TEXT.replace(KEY, "*****")).remarks
    assert [(remark.line, remark.weight) for remark in remarks] == [(27, Weight.NOTE), (28, Weight.NOTE)]


def test_of_several_offers_the_one_that_fits_is_taken() -> None:
    text = TEXT.replace(" group 14", " group 5 14").replace(" encryption aes\n", " encryption aes-256 aes\n")
    config = read(text)
    assert read_device(config, "gw1", ESTATE.ipsec_connections[0]).device == DEVICE
    assert read_device(config, "gw1").device.ike.dh_group == "group5"


def test_of_several_tunnels_the_one_to_the_connection_is_taken() -> None:
    other = """\
interface Tunnel0
 nameif OTHER
 ip address 169.254.99.2 255.255.255.252
 tunnel source interface outside1
 tunnel destination 203.0.113.99
 tunnel mode ipsec ipv4
 tunnel protection ipsec profile ALIYUN-PROFILE
"""
    config = read(other + TEXT)
    assert read_device(config, "gw1", ESTATE.ipsec_connections[0]).device == DEVICE
    with pytest.raises(NotADevice, match=r"several tunnels: Tunnel0 \(line 1\), Tunnel1"):
        read_device(config, "gw1")
