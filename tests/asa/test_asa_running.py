"""A text as a device would take it: defaults, commands taken back, names that are nobody's."""

from __future__ import annotations

import pytest

from harness.asa.read import read
from harness.asa.running import Running, running
from labs.document import asa as document
from topologies import ipsec_ecmp

TEXT = document.CONFIGURATIONS[1]


def device(text: str) -> Running:
    return running(read(text), "203.0.113.191")


def test_several_values_are_all_offered_in_the_texts_order() -> None:
    text = TEXT.replace(" encryption aes\n", " encryption aes-256 aes\n").replace(" group 14\n", " group 21 14\n")
    assert [(each.ike.encryption, each.ike.dh_group) for each in device(text).ike] == [
        ("aes256", "group21"), ("aes256", "group14"), ("aes", "group21"), ("aes", "group14"),
    ]  # fmt: skip


def test_what_a_policy_does_not_say_has_its_default() -> None:
    text = TEXT.replace(" integrity sha\n", "").replace(" prf sha\n", "").replace(" group 14\n", "")
    (offer,) = device(text).ike
    assert offer.ike == device(TEXT).ike[0].ike
    assert set(offer.lines) == {"encryption"}
    assert device(text).faults == ()


@pytest.mark.parametrize(
    ("added", "check"),
    [
        ("crypto ipsec profile ALIYUN-PROFILE\n no set pfs\n", lambda d: d.esp[0].esp.pfs is None),
        ("no crypto ikev2 enable outside1\n", lambda d: not d.listens),
        ("no route private 192.168.1.0 255.255.255.0 192.168.50.215\n", lambda d: len(d.ways) == 3),
        ("router bgp 65530\n address-family ipv4\n  no neighbor 169.254.10.1\n", lambda d: d.neighbors == ()),
        ("router bgp 65530\n address-family ipv4\n  no neighbor 169.254.10.1 activate\n", lambda d: not d.neighbors[0].active),
        ("router bgp 65530\n address-family ipv4\n  no network 192.168.2.0 mask 255.255.255.0\n", lambda d: len(d.networks) == 2),
        ("interface Tunnel1\n no tunnel mode ipsec ipv4\n", lambda d: d.value("mode") is None),
        ("no crypto ikev2 policy 10\n", lambda d: d.ike == ()),
        ("no interface Tunnel1\n", lambda d: d.tunnel is None),
        ("no router bgp 65530\n", lambda d: d.asn is None),
    ],
)  # fmt: skip
def test_no_takes_a_command_back(added: str, check: object) -> None:
    config = read(TEXT + added)
    assert config.unknown == ()
    assert callable(check)
    assert check(device(TEXT + added))


def test_no_of_something_that_is_not_there_is_listed() -> None:
    assert [str(each) for each in read(TEXT + "no crypto ikev2 policy 77\nno hostname\n").unknown] == [
        "line 50: not understood: no crypto ikev2 policy 77",
        "line 51: not understood: no hostname",
    ]


def test_an_interface_of_another_name_than_all_commands_is_to_blame() -> None:
    first = device(TEXT.replace("nameif outside1", "nameif wan")).faults[0]
    assert (first.line, "called wan" in first.rule) == (2, True)
    assert device(TEXT.replace("interface outside1", "interface wan")).faults[0].line == 32


def test_tables_of_ports_survive_other_numbers() -> None:
    text = TEXT.replace("GigabitEthernet0/0", "TenGigE0/7".replace("GigE", "GigabitEthernet")).replace(
        "Tunnel1", "Tunnel42"
    )
    found = device(text)
    assert (found.outside, found.inside, found.value("destination")) == (
        "outside1",
        "private",
        ipsec_ecmp.GATEWAY_ADDRESSES[0],
    )
