"""Texts as a device, its terminal and its users' editors leave them: the same device, the same line numbers, nothing dropped in silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.asa.device import read_device
from harness.asa.read import lines_of, read
from harness.asa.running import running
from harness.cloud.resources import GatewayDevice
from harness.device_check import reports, text_of
from labs.document import asa as document
from topologies import ipsec_ecmp

TEXT = document.CONFIGURATIONS[1]
CONNECTION = ipsec_ecmp.estate().ipsec_connections[0]
BEFORE = """\
: Saved

:
: Serial Number: 9AXXXXXXXXX
: Hardware:   ASAv, 2048 MB RAM, CPU Xeon E5 series 2000 MHz
: Written by enable_15 at 08:11:04.999 UTC Fri Nov 20 2026
!
ASA Version 9.19(1)
!
hostname fw1
enable password ***** pbkdf2
names
no mac-address auto

"""
AFTER = """\
banner motd crypto ikev2 policy 99
banner login Only for staff!
ssh stricthostkeycheck
Cryptochecksum:0123456789abcdef0123456789abcdef
: end
"""


def device(text: str) -> GatewayDevice:
    return read_device(read(text), "gw1", CONNECTION).device


def listed(text: str) -> list[tuple[int, str]]:
    return [(each.line, each.text) for each in read(text).unknown]


#: The text as it may come, and what of it is listed beside the document's commands.
PRINTED: dict[str, str] = {
    "CRLF": TEXT.replace("\n", "\r\n"),
    "no newline at the end": TEXT.rstrip("\n"),
    "tabs and trailing blanks": re.sub(r"(?m)^ +(.*)$", "\t\\1 \t ", TEXT),
    "no indentation": re.sub(r"(?m)^ +", "", TEXT),
    "exit after each section": re.sub(r"(?m)^( no shutdown| lifetime seconds \d+)$", "\\1\nexit", TEXT),
    "quit after each section": re.sub(r"(?m)^( no shutdown| lifetime seconds \d+)$", "\\1\nquit", TEXT),
    "separators everywhere": TEXT.replace("\n", "\n!\n"),
    "capitals": re.sub(
        r"(?m)^( ?(?:crypto|tunnel|no|ip|route|router|neighbor|set|protocol)\b)", lambda m: m[1].upper(), TEXT
    ),
    "other numbers": TEXT.replace("policy 10", "policy 65534").replace("Tunnel1", "Tunnel10413"),
    "other names": TEXT.replace("ALIYUN-PROPOSAL", "p").replace("ALIYUN-PROFILE", "q").replace("outside1", "wan-a"),
    "a value taken back first": TEXT.replace("policy 10\n", "policy 10\n encryption aes-256\n no encryption aes-256\n"),
    "a second policy first": "crypto ikev2 policy 1\n encryption 3des\n integrity md5\n group 5\n prf md5\n" + TEXT,
    "several offers": TEXT.replace(" encryption aes\n", " encryption aes-256 aes\n").replace("group 14", "group 21 14"),
    "tracked route": TEXT.replace("192.0.2.172", "192.0.2.172 1 track 5"),
    "names for addresses": "names\nname 203.0.113.191 CLOUD\nname 192.168.0.0 BLOCK0 description clients\n"
    + TEXT.replace("route outside1 203.0.113.191", "route outside1 CLOUD").replace(
        "private 192.168.0.0", "private BLOCK0"
    ),
    "a pager's marks": re.sub(r"(?m)^(tunnel-group|router)", "<--- More --->\r              \r\\1", TEXT),
}


@pytest.mark.spec("ECMP-32")
@pytest.mark.parametrize("text", PRINTED.values(), ids=PRINTED)
def test_it_is_the_same_device(text: str) -> None:
    assert device(text) == device(TEXT)
    assert listed(text) == []


@pytest.mark.spec("ECMP-32")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_stands_around_it_is_listed_line_by_line(end: str) -> None:
    """A banner that has a command in it makes nothing."""
    text = (BEFORE + TEXT + AFTER).replace("\n", end)
    after = (BEFORE + TEXT).count("\n")
    assert device(text) == device(TEXT)
    assert [line for line, _ in listed(text)] == [8, 10, 11, 13, *range(after + 1, after + 4)]
    assert (after + 1, "banner motd crypto ikev2 policy 99") in listed(text)


@pytest.mark.spec("ECMP-32")
def test_a_terminals_record(tmp_path: Path) -> None:
    """Prompts, a pager, and a byte order mark of the editor it was saved with."""
    typed = [f"fw1(config)# {line.strip()}" for line in TEXT.splitlines()]
    file = tmp_path / "record.txt"
    file.write_bytes(
        ("\ufefffw1> enable\r\nPassword: *****\r\nfw1# configure terminal\r\n" + "\r\n".join(typed)).encode()
    )
    assert device(text_of(file)) == device(TEXT)
    assert listed(text_of(file)) == []


@pytest.mark.spec("ECMP-32")
@pytest.mark.parametrize(
    "mark", ["<--- More --->\r              \r", "<--- More --->\b\b\b\b      \b\b\b", "\f", "\x0b", "\u2028"]
)
def test_lines_are_counted_as_an_editor_counts_them(mark: str) -> None:
    """A carriage return, a form feed or another separator within a line begins no new one."""
    at = TEXT.splitlines().index("router bgp 65530") + 1
    text = TEXT.replace("router bgp 65530", f"{mark}router bgp 65530")
    config = read(text)
    assert len(lines_of(text)) == len(TEXT.splitlines())
    assert read_device(config, "gw1").lines["asn"] == at
    assert config.unknown == ()


@pytest.mark.spec("ECMP-32")
def test_a_name_is_an_address_only_where_one_is_asked_for() -> None:
    """``name`` with an address that is none is listed; a nameif of the same word is left alone."""
    assert listed("name 300.1.1.1 X\n" + TEXT) == [(1, "name 300.1.1.1 X")]
    assert device("name 192.0.2.99 outside1\n" + TEXT) == device(TEXT)


@pytest.mark.spec("ECMP-32", "ECMP-31")
@pytest.mark.parametrize(
    "taken",
    [
        "no crypto ikev2 policy 10",
        "no interface Tunnel1",
        "no router bgp 65530",
        "no tunnel-group 203.0.113.191",
        "interface Tunnel1\n no ip address",
        "interface Tunnel1\n no nameif",
        "interface Tunnel1\n no tunnel destination",
        "interface Tunnel1\n shutdown",
        "tunnel-group 203.0.113.191 ipsec-attributes\n no ikev2 remote-authentication pre-shared-key fddsFF123****",
        "router bgp 65530\n address-family ipv4 unicast\n  no neighbor 169.254.10.1 remote-as 65531",
    ],
)
def test_what_a_later_no_took_back_has_the_line_of_the_no(taken: str) -> None:
    text = f"{TEXT}{taken}\n"
    faults = running(read(text), CONNECTION.gateway_address).faults
    assert [each.line for each in faults] == [len(text.splitlines())], faults


@pytest.mark.spec("ECMP-32", "ECMP-31")
@pytest.mark.parametrize(
    "taken",
    [
        "crypto ipsec profile ALIYUN-PROFILE\n no set pfs",
        "route outside1 203.0.113.191 255.255.255.255 192.0.2.9 5\nno route outside1 203.0.113.191 255.255.255.255 192.0.2.172\n"
        "no route outside1 203.0.113.191 255.255.255.255 192.0.2.9 5",
        "router bgp 65530\n address-family ipv4 unicast\n  no network 192.168.1.0 mask 255.255.255.0",
    ],
)
def test_a_check_has_the_line_of_the_no(taken: str) -> None:
    text = f"{TEXT}{taken}\n"
    (report,) = reports(ipsec_ecmp.estate(), text, "vpn1")
    assert [each.line for each in report.remarks] == [len(text.splitlines())], report.remarks


@pytest.mark.spec("ECMP-32")
def test_an_interface_without_a_name_takes_nothing_back() -> None:
    """As ``show running-config`` prints an unused port: it is to blame for nothing."""
    unused = "interface Management0/0\n shutdown\n no nameif\n no security-level\n no ip address\n"
    assert device(unused + TEXT) == device(TEXT)
    assert read(unused + TEXT).taken_back == {}
    assert listed(unused + TEXT) == []
