"""The fuzz targets on their corpus and on a repeatable share of its mutations: only the protocol's own errors come out."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.fuzz.corpus import INPUTS
from tests.fuzz.targets import TARGETS, Broken, codec

MUTATIONS = int(os.environ.get("VBRLAB_FUZZ", "1"))
"""How many mutations of each input of the corpus."""


def mutated(data: bytes, rnd: random.Random) -> bytes:
    """Octets changed, taken out, doubled or put in: one to four times."""
    octets = bytearray(data)
    for _ in range(rnd.randrange(1, 5)):
        at = rnd.randrange(len(octets)) if octets else 0
        match rnd.randrange(5):
            case 0:
                octets[at : at + 1] = bytes((rnd.choice((0, 1, 0x7F, 0x80, 0xFF, rnd.randrange(256))),))
            case 1:
                del octets[at : at + rnd.randrange(1, 9)]
            case 2:
                octets[at:at] = octets[at : at + rnd.randrange(1, 40)]
            case 3:
                octets[at:at] = rnd.randbytes(rnd.randrange(1, 9))
            case _:
                octets[at : at + 1] = bytes(((octets[at] if octets else 0) ^ 1 << rnd.randrange(8),))
    return bytes(octets)


def inputs(target: str) -> Iterator[bytes]:
    rnd = random.Random(7)
    for data in INPUTS[target]():
        yield data
        for _ in range(MUTATIONS):
            yield mutated(data, rnd)


@pytest.mark.spec("BGP-6", "BGP-8")
@pytest.mark.parametrize("target", TARGETS)
def test_octets_lead_to_the_protocols_own_errors_only(target: str) -> None:
    for data in inputs(target):
        try:
            TARGETS[target](data)
        except Exception as error:
            raise AssertionError(f"{target} target, {data.hex()}: {type(error).__name__}: {error}") from error


def test_the_codec_target_sees_a_reader_that_lets_something_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.targets.decode_capabilities", lambda data: [data][1])
    with pytest.raises(IndexError):
        codec(bytes((0, 3, 1)))


def test_the_codec_target_sees_what_is_written_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.targets.encode_capability", lambda _: b"\x02\x00")
    with pytest.raises(Broken, match="became"):
        codec(bytes((0, 3, 65, 4, 0, 0, 0, 1)))
