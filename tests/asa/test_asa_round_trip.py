"""A device through text and back is the same device, whatever its key, algorithms, numbers and networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from harness.asa.device import read_device
from harness.asa.read import MASKED, read
from harness.asa.render import NotRendered, render
from harness.plan import Esp, Ike
from topologies import ipsec_ecmp

(CENTRE,) = ipsec_ecmp.estate().data_centres
DEVICE = CENTRE.devices[0]
LEGAL = "".join(map(chr, range(33, 127))).replace('"', "")
"""ECMP-5: the printable characters without space and double quote."""

KEYS = st.text(LEGAL, min_size=1, max_size=100)
CIPHERS = st.sampled_from(("aes", "aes192", "aes256", "3des"))
HASHES = st.sampled_from(("md5", "sha1", "sha256", "sha384", "sha512"))
GROUPS = st.sampled_from(("group1", "group2", "group5", "group14"))
LIFETIMES = st.integers(120, 2147483647)


@pytest.mark.spec("ECMP-5", "ECMP-32")
@settings(max_examples=300, deadline=None)
@given(KEYS)
@example("#")
@example("#abc")
@example("!")
@example("!x")
@example("0")
@example("8")
@example("0x41")
@example("0sQUI=")
@example("?")
@example("\\\\'")
@example("|;#!`")
@example(":")
@example("key>")
def test_every_legal_key(key: str) -> None:
    text = render([replace(DEVICE, key=key)], CENTRE.lan)
    config = read(text)
    assert not config.unknown
    found = read_device(config, "gw1")
    assert found.device.key == key
    assert found.device == replace(DEVICE, key=key)


@pytest.mark.spec("ECMP-5")
@settings(max_examples=100, deadline=None)
@given(KEYS)
@example("esp.lifetime")
def test_what_is_shown_does_not_depend_on_the_key(key: str) -> None:
    def shown(of: str) -> str:
        config = read(render([replace(DEVICE, key=of)], CENTRE.lan))
        return repr(
            (config.sections, config.unknown, read_device(config, "gw1").lines, read_device(config, "gw1").keys)
        )

    assume(key != MASKED.reveal())
    assert shown(key) == shown("another")


@pytest.mark.spec("ECMP-32")
@settings(max_examples=100, deadline=None)
@given(
    st.builds(Ike, CIPHERS, HASHES, HASHES, GROUPS, LIFETIMES),
    st.builds(Esp, CIPHERS, HASHES, st.none() | GROUPS, LIFETIMES),
    st.integers(1, 4294967295),
    st.integers(1, 4294967295),
    st.integers(1, 255),
    st.lists(st.integers(0, 255).map(lambda n: f"172.20.{n}.0/24"), min_size=1, max_size=6, unique=True),
)
def test_every_device(ike: Ike, esp: Esp, asn: int, cloud: int, hops: int, networks: list[str]) -> None:
    device = replace(
        DEVICE, ike=ike, esp=esp, asn=asn, neighbor_asn=cloud, ebgp_multihop=hops, networks=tuple(networks)
    )
    config = read(render([device], CENTRE.lan))
    assert not config.unknown
    assert read_device(config, device.name).device == device


def test_a_word_that_no_asa_has_is_refused() -> None:
    with pytest.raises(NotRendered, match="sm4"):
        render([replace(DEVICE, ike=Ike(encryption="sm4"))], CENTRE.lan)
