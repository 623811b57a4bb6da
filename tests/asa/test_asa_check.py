"""The configuration check: each value that does not fit is named with its line, both values and the command that would fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.asa.check import check
from harness.asa.config import Weight
from harness.asa.read import read
from labs.document import asa as document
from topologies import ipsec_ecmp

ESTATE = ipsec_ecmp.estate()
TEXT = document.CONFIGURATIONS[2]
CONNECTION, GATEWAY = ESTATE.ipsec_connections[1], ESTATE.customer_gateways[1]
(CENTRE,) = ESTATE.data_centres

MISFITS = [
    ("\n encryption aes\n", "\n encryption aes-256\n", 11, ("device aes256, cloud aes", "NO_PROPOSAL_CHOSEN", "write encryption aes.")),
    (" integrity sha\n", " integrity sha256\n", 12, ("device sha256, cloud sha1", "write integrity sha.")),
    (" group 14\n", " group 5\n", 13, ("device group5, cloud group14", "write group 14.")),
    (" prf sha\n", " prf sha512\n", 14, ("PRF: device sha512, cloud sha1", "write prf sha.")),
    ("esp encryption aes\n", "esp encryption 3des\n", 17, ("ESP encryption: device 3des", "its child fails")),
    ("esp integrity sha-1", "esp integrity sha-512", 18, ("cloud sha1", "write protocol esp integrity sha-1.")),
    (" set pfs group14\n", " set pfs group2\n", 22, ("device group2, cloud group14", "first rekey", "write set pfs group14.")),
    ("203.0.113.213", "203.0.113.214", 33, ("device 203.0.113.214, cloud 203.0.113.213",)),
    ("198.51.100.2", "198.51.100.9", 4, ("device 198.51.100.9, cloud 198.51.100.2",)),
    ("169.254.11.2 ", "169.254.11.1 ", 31, ("device 169.254.11.1/30, cloud expects 169.254.11.2/30",)),
    ("169.254.11.1 ", "169.254.11.3 ", 43, ("device 169.254.11.3, cloud 169.254.11.1",)),
    ("remote-as 65531", "remote-as 65532", 43, ("device 65532, cloud 65531", "Bad Peer AS")),
    ("router bgp 65530", "router bgp 65529", 41, ("device 65529, cloud 65530",)),
    (" set ikev2 local-identity address", " set ikev2 local-identity hostname", 21, ("AUTHENTICATION_FAILED",)),
    (" ikev2 remote-authentication pre-shared-key fdds", " ikev2 remote-authentication pre-shared-key xdds", 27, ("remote",)),
    (" ikev2 local-authentication pre-shared-key fdds", " ikev2 local-authentication pre-shared-key xdds", 28, ("local",)),
]  # fmt: skip


@pytest.mark.spec("ECMP-31")
@pytest.mark.parametrize(("old", "new", "line", "parts"), MISFITS, ids=lambda each: str(each)[:24])
def test_a_misfit_is_named_with_its_line(old: str, new: str, line: int, parts: tuple[str, ...]) -> None:
    assert old in TEXT
    remarks = check(read(TEXT.replace(old, new)), CONNECTION, GATEWAY, CENTRE.blocks)
    (remark,) = [each for each in remarks if each.weight is Weight.ERROR]
    assert remark.line == line
    for part in parts:
        assert part in str(remark)
    assert "dds" not in str(remark)


@pytest.mark.spec("ECMP-31")
@pytest.mark.parametrize(("line", "command"), [(15, "\n lifetime"), (23, "\n set security-association lifetime")])
def test_a_lifetime_is_a_note_with_both_values(line: int, command: str) -> None:
    text = TEXT.replace(f"{command} seconds 86400", f"{command} seconds 3600")
    remarks = check(read(text), CONNECTION, GATEWAY, CENTRE.blocks)
    assert [(each.line, each.weight) for each in remarks] == [(line, Weight.NOTE)]
    assert "device 3600, cloud 86400" in str(remarks[0])


@pytest.mark.spec("ECMP-31")
def test_pfs_on_one_side_only_is_found_before_the_rekey() -> None:
    (remark,) = check(read(TEXT.replace(" set pfs group14\n", "")), CONNECTION, GATEWAY)
    assert remark.line is None
    assert "device none, cloud group14" in str(remark)
    without = replace(CONNECTION, esp=replace(CONNECTION.esp, pfs=None))
    (remark,) = check(read(TEXT), without, GATEWAY)
    assert (remark.line, "write no set pfs" in str(remark)) == (22, True)


def test_a_block_that_is_not_announced_is_named() -> None:
    text = TEXT.replace("  network 192.168.1.0 mask 255.255.255.0\n", "")
    (remark,) = check(read(text), CONNECTION, GATEWAY, CENTRE.blocks)
    assert remark.line is None
    assert "192.168.1.0/24" in str(remark)


def test_several_misfits_come_in_the_texts_order() -> None:
    text = TEXT.replace("group 14", "group 5").replace("router bgp 65530", "router bgp 1").replace("prf sha", "prf md5")
    assert [remark.line for remark in check(read(text), CONNECTION, GATEWAY)] == [13, 14, 41]
