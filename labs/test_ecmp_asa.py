"""The data centre built from the documents' own three ASA configurations: tables 1 to 5 and the pings are the document's.

Source: "Create multiple IPsec connections over the internet for load balancing", step 3 and "Route entries".
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from harness.asa.device import AsaDevice, read_device
from harness.asa.read import read
from harness.lab import Lab
from harness.session import Labs
from labs.conftest import Broken
from labs.document import asa
from labs.document import ipsec_ecmp as document
from topologies import ipsec_ecmp


def device(number: int, old: str = "", new: str = "") -> AsaDevice:
    """Gateway device ``number`` as its text has it, with one piece of the text exchanged."""
    text = asa.CONFIGURATIONS[number]
    assert old in text
    return read_device(read(text.replace(old, new) if old else text), f"gw{number}")


@pytest.fixture(scope="module")
async def from_texts(labs: Labs) -> AsyncIterator[Lab]:
    """`ipsec-ecmp` with all three devices read from the document's texts."""
    devices = {f"gw{number}": device(number).device for number in asa.CONFIGURATIONS}
    async with labs.running(ipsec_ecmp.plan(devices=devices), title="ipsec-ecmp from ASA texts") as lab:
        await lab.established(within=10)
        yield lab


@pytest.mark.spec("ECMP-12", "ECMP-32", "ECMP-17", "ECMP-18", "ECMP-19", "ECMP-20", "ECMP-21")
@pytest.mark.parametrize("node", document.TABLES)
async def test_tables_are_the_documents(from_texts: Lab, node: str) -> None:
    """Tables 1 to 5, entry for entry, with devices that are nothing but the document's commands."""
    expected = document.TABLES[node]
    assert await from_texts[node].route_table(like=expected, within=5.0) == expected


@pytest.mark.spec("ECMP-32")
@pytest.mark.parametrize(("node", "client"), document.PINGS)
async def test_clients_answer(from_texts: Lab, node: str, client: str) -> None:
    """Step 6: the ECS reaches a client in each block."""
    await from_texts["dc-router"].learned("10.0.1.0/24", within=5)
    assert await from_texts[node].reaches(client)


@pytest.mark.spec("ECMP-31", "ECMP-10")
async def test_a_wrong_key_in_a_text_is_run_and_fails_alone(fresh_ecmp: Broken) -> None:
    """Device 2 with another key in its text: AUTHENTICATION_FAILED on its connection, the other two carry on."""
    wrong = device(2, "fddsFF456", "fddsFF455")
    async with fresh_ecmp(devices={"gw2": wrong.device}, established=False, title="ASA text with a wrong key") as lab:
        await lab.event(within=5.0, node="vpn2", source="ipsec", kind="failure", code="AUTHENTICATION_FAILED")
        expected = document.TABLE_1.without(word="VPN connection 2")
        assert await lab["tr-hangzhou"].route_table(like=expected, within=5.0) == expected
    assert wrong.lines["key"] == 28
