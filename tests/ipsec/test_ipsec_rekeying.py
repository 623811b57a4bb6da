"""Rekeys asked for without a pause, with a charon of a few lines: what waits for what, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.ipsec.accounts import IkeSa, ike_sas
from harness.ipsec.rekeying import Rekeying
from harness.ipsec.vici_session import Answer, ViciError
from tests.ipsec.sas import child, listing

DONE: Answer = {"success": "yes"}


class Charon:
    """Lists the SAs it was given, one listing after the other, and answers requests likewise; the last of each stays."""

    def __init__(self, listings: Sequence[Sequence[IkeSa]], answers: Sequence[Answer | ViciError]) -> None:
        self._listings, self._answers = list(listings), list(answers)
        self.asked: list[str] = []

    async def listing(self) -> Sequence[IkeSa]:
        return self._listings.pop(0) if len(self._listings) > 1 else self._listings[0]

    async def request(self, what: str) -> Answer:
        self.asked.append(what)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, ViciError):
            raise answer
        return answer


def overlooked() -> ViciError:
    return ViciError("rekey: no matching SAs to rekey found")


SETTLED = ike_sas(listing(child()))
REPLACED = ike_sas(listing(child(), state="REKEYING"))


async def test_a_rekey_waits_for_the_one_under_way() -> None:
    charon = Charon([REPLACED, REPLACED, SETTLED], [DONE])
    assert await Rekeying("vpn1", charon.listing, lambda: True).ask(charon.request, "child") == DONE
    assert charon.asked == ["child"]


async def test_charon_that_overlooks_an_sa_is_asked_again() -> None:
    """It does while an IKE_SA hands its children to the next: its list is walked just then."""
    charon = Charon([SETTLED], [overlooked(), overlooked(), DONE])
    assert await Rekeying("vpn1", charon.listing, lambda: True).ask(charon.request, "ike") == DONE
    assert charon.asked == ["ike"] * 3


async def test_without_a_tunnel_the_refusal_is_charon_s() -> None:
    charon = Charon([[]], [overlooked()])
    with pytest.raises(ViciError, match="no matching SAs"):
        await Rekeying("vpn1", charon.listing, lambda: False).ask(charon.request, "child")
    assert charon.asked == ["child"]


async def test_another_word_is_refused_before_anything_is_asked() -> None:
    charon = Charon([SETTLED], [DONE])
    with pytest.raises(ValueError, match='give "child" or "ike"'):
        await Rekeying("vpn1", charon.listing, lambda: True).ask(charon.request, "everything")
    assert charon.asked == []


async def test_one_that_never_ends_is_named_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.ipsec.rekeying._WITHIN", 0.05)
    charon = Charon([REPLACED], [DONE])
    with pytest.raises(ValueError, match="tunnel vpn1: a rekey is under way"):
        await Rekeying("vpn1", charon.listing, lambda: True).ask(charon.request, "child")
    assert charon.asked == []


async def test_one_that_charon_never_finds_ends_in_its_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.ipsec.rekeying._WITHIN", 0.05)
    charon = Charon([SETTLED], [overlooked()])
    with pytest.raises(ViciError, match="no matching SAs"):
        await Rekeying("vpn1", charon.listing, lambda: True).ask(charon.request, "child")
