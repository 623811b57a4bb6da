"""The three configurations of document 001, in both directions, command by command."""

from __future__ import annotations

import pytest

from harness.asa import render
from harness.asa.check import check
from harness.asa.device import read_device
from harness.asa.read import read
from labs.document import asa as document
from topologies import ipsec_ecmp

ESTATE = ipsec_ecmp.estate()
(CENTRE,) = ESTATE.data_centres
DEVICES = dict(enumerate(CENTRE.devices, 1))


@pytest.mark.spec("ECMP-11", "ECMP-32")
@pytest.mark.parametrize("number", DEVICES)
def test_the_generated_commands_are_the_documents(number: int) -> None:
    assert list(render.commands(DEVICES[number])) == document.ADDED[number].splitlines()
    assert list(render.interfaces(DEVICES[number], CENTRE.lan)) == document.SHOWN[number].splitlines()


@pytest.mark.spec("ECMP-32")
def test_the_document_adds_41_commands_of_which_28_are_the_same_everywhere() -> None:
    first, second, third = (text.splitlines() for text in document.ADDED.values())
    assert len(first) == len(second) == len(third) == 41
    assert sum(a == b == c for a, b, c in zip(first, second, third, strict=True)) == 28


@pytest.mark.spec("ECMP-12", "ECMP-32", "ECMP-33")
@pytest.mark.parametrize("number", DEVICES)
def test_the_documents_text_reads_as_the_documents_device(number: int) -> None:
    config = read(document.CONFIGURATIONS[number])
    assert not config.unknown
    assert not config.remarks
    found = read_device(config, f"gw{number}")
    assert found.device == DEVICES[number]
    assert found.lan == CENTRE.lan
    assert not found.remarks
    connection, gateway = ESTATE.ipsec_connections[number - 1], ESTATE.customer_gateways[number - 1]
    assert check(config, connection, gateway, CENTRE.blocks) == []


AS_PRINTED = """\
ciscoasa> enable
Password: ********             # the password of enable mode
ciscoasa# configure terminal   # configuration mode
ciscoasa(config)#
# the interfaces of gateway device 1
ciscoasa(config)# show running-config interface
!
interface GigabitEthernet0/0                # to the internet
 nameif outside1                            # its name
 security-level 0
 ip address 198.51.100.1 255.255.255.255      # the public address
!
interface GigabitEthernet0/1
 nameif private
 security-level 100                         # of the inner interface
 ip address 192.168.50.216 255.255.255.0
!
# add to gateway device 1
"""


@pytest.mark.spec("ECMP-32")
def test_prompts_and_trailing_comments_are_no_commands() -> None:
    added = "".join(f"{line}      # set {line.split()[0]}\n!\n" for line in document.ADDED[1].splitlines())
    config = read(AS_PRINTED + added)
    assert not config.unknown
    assert not config.remarks
    assert read_device(config, "gw1").device == DEVICES[1]
