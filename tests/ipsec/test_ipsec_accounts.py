"""Listings of SAs as charon sends them: read, and their traffic summed over rekeys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.ipsec.accounts import Accounts, Traffic, child_sa, ike_sas
from tests.ipsec.sas import child, listing


def test_a_listing_is_read_in_the_document_s_words() -> None:
    (sa,) = ike_sas(listing(child(packets=3) | {"dh-group": "MODP_2048"}))
    assert (sa.encryption, sa.integrity, sa.prf, sa.dh_group) == ("aes", "sha1", "sha1", "group14")
    assert (sa.initiator, sa.age, sa.rekey_in, sa.carrying) == (True, 4, 85680, True)
    (found,) = sa.children
    assert (found.encryption, found.integrity, found.pfs, found.encapsulated) == ("aes", "sha1", "group14", True)
    assert found.traffic == Traffic(252, 3, 252, 3)
    assert found.remote_ts == ("0.0.0.0/0",)


def test_an_sa_still_negotiating_has_no_algorithms() -> None:
    (sa,) = ike_sas([{"c1": {"uniqueid": "1", "state": "CONNECTING", "local-host": "a", "remote-host": "b"}}])
    assert (sa.encryption, sa.dh_group, sa.children, sa.carrying) == (None, None, (), False)


def test_only_some_states_carry() -> None:
    carrying = {
        state: child_sa(child(state=state)).carrying
        for state in ("CREATED", "INSTALLING", "INSTALLED", "UPDATING", "REKEYING", "REKEYED", "DELETING", "DELETED")
    }
    assert [state for state, carries in carrying.items() if carries] == ["INSTALLED", "UPDATING", "REKEYING", "REKEYED"]


def test_an_established_ike_sa_without_child_carries_nothing() -> None:
    accounts = Accounts()
    accounts.listed(ike_sas(listing()))
    assert accounts.sas[0].state == "ESTABLISHED"
    assert accounts.carrying() == []


def test_traffic_goes_on_over_a_rekey() -> None:
    accounts = Accounts()
    accounts.listed(ike_sas(listing(child(1, packets=10))))
    accounts.noted(child_sa(child(1, packets=12)))
    accounts.listed(ike_sas(listing(child(1, "DELETED", packets=11), child(2, packets=1))))
    assert accounts.total().packets_in == 13
    assert [sa.id for sa in accounts.carrying()] == [2]
    accounts.listed(ike_sas(listing(child(2, packets=5))))
    assert accounts.total() == Traffic(17 * 84, 17, 17 * 84, 17)


def test_an_sa_that_takes_packets_before_it_is_complete_is_counted_once() -> None:
    accounts = Accounts()
    young = child(2, "REKEYING", packets=1)
    del young["spi-out"]
    accounts.listed(ike_sas(listing(child(1, packets=10), young)))
    accounts.listed(ike_sas(listing(child(1, packets=10), child(2, packets=4))))
    assert accounts.total().packets_in == 14


def test_traffic_goes_on_over_a_restart_that_numbers_from_one_again() -> None:
    accounts = Accounts()
    accounts.listed(ike_sas(listing(child(1, packets=10))))
    accounts.ended()
    assert (accounts.sas, accounts.total().packets_in) == ((), 10)
    accounts.listed(ike_sas(listing(child(1, packets=3) | {"spi-in": "ffffffff"})))
    assert accounts.total().packets_in == 13


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30))
def test_the_sum_never_falls_and_ends_right(steps: list[tuple[int, bool]]) -> None:
    """Each step lets packets through the current SA and may rekey it; the sum is what went through, whatever was listed when."""
    accounts = Accounts()
    number, current, through = 1, 0, 0
    for packets, rekey in steps:
        current += packets
        through += packets
        before = accounts.total().packets_out
        accounts.listed(ike_sas(listing(child(number, packets=current))))
        assert accounts.total().packets_out >= before
        if rekey:
            number, current = number + 1, 0
    assert accounts.total().packets_out == through


def test_an_sa_that_is_missing_from_one_listing_is_not_counted_twice() -> None:
    """While an IKE_SA is rekeyed its children are in neither IKE_SA's list for a moment."""
    accounts = Accounts()
    sa = ike_sas(listing(child(packets=5)))
    accounts.listed(sa)
    before = accounts.total()
    accounts.listed(())
    assert accounts.total() == before
    accounts.listed(sa)
    assert accounts.total() == before
