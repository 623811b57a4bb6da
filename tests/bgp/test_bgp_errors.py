"""The table of NOTIFICATION codes covers every code the speaker can send, and says what each means."""

from __future__ import annotations

from enum import IntEnum

import pytest

from harness.bgp.errors import (
    MEANING,
    Cease,
    ErrorCode,
    FsmError,
    HeaderError,
    OpenError,
    ProtocolError,
    RefreshError,
    UpdateError,
    describe,
    meaning,
)

FAMILIES: dict[ErrorCode, type[IntEnum]] = {
    ErrorCode.MESSAGE_HEADER_ERROR: HeaderError,
    ErrorCode.OPEN_MESSAGE_ERROR: OpenError,
    ErrorCode.UPDATE_MESSAGE_ERROR: UpdateError,
    ErrorCode.FINITE_STATE_MACHINE_ERROR: FsmError,
    ErrorCode.CEASE: Cease,
    ErrorCode.ROUTE_REFRESH_MESSAGE_ERROR: RefreshError,
}


@pytest.mark.spec("BGP-8")
def test_every_code_has_a_row() -> None:
    assert {(int(code), 0) for code in ErrorCode} <= set(MEANING)
    for code, subcodes in FAMILIES.items():
        assert {(int(code), int(subcode)) for subcode in subcodes} <= set(MEANING), code
    assert all(name and sentence for name, sentence, _ in MEANING.values())


@pytest.mark.spec("BGP-8")
def test_every_subcode_of_rfc_4271_and_4486_is_there() -> None:
    """Typed from RFC 4271 4.5 and RFC 4486 3; 2/5 and 3/7 are deprecated there, and shown when a peer sends them."""
    assert {subcode for code, subcode in MEANING if code == 1} == {0, 1, 2, 3}
    assert {subcode for code, subcode in MEANING if code == 2} >= {1, 2, 3, 4, 5, 6}
    assert {subcode for code, subcode in MEANING if code == 3} == {0, *range(1, 12)}
    assert {subcode for code, subcode in MEANING if code == 6} >= set(range(1, 9))


def test_texts() -> None:
    assert describe(6, 2) == "Cease / Administrative Shutdown"
    assert describe(4, 0) == "Hold Timer Expired"
    assert describe(6, 99) == "Cease / subcode 99"
    assert describe(42, 1) == "Error code 42 / subcode 1"
    assert meaning(6, 99) == MEANING[6, 0][1]
    assert "not defined" in meaning(42, 0)
    assert (
        str(ProtocolError(2, 6, b"", "one second")) == "OPEN Message Error / Unacceptable Hold Time (2/6): one second"
    )
