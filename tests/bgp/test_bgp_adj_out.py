"""Adj-RIB-Out: what goes on the wire for a change, and nothing more."""

from __future__ import annotations

import ipaddress

import pytest

from tests.bgp.routes import path, source
from tests.bgp.told import KEYS, V4, A, B, C, Told, selection


@pytest.mark.spec("BGP-6", "BGP-17")
def test_prefixes_with_the_same_attributes_share_a_message() -> None:
    told = Told()
    (update,) = told.after({key: selection(path(A)) for key in KEYS})
    assert update.announced[V4] == KEYS
    assert update.next_hop[V4] == ipaddress.ip_address("10.1.0.1").packed
    (update,) = told.after(dict.fromkeys(KEYS[:3]))
    assert update.withdrawn[V4] == KEYS[:3]
    assert len(told.out) == 1


def test_what_did_not_change_is_not_sent() -> None:
    told = Told()
    told.after({KEYS[0]: selection(path(A, 1, 2))})
    # Another best path of the same attributes, and a second path that is not the best: the neighbour sees no difference.
    assert told.after({KEYS[0]: selection(path(B, 1, 2))}) == []
    assert told.after({KEYS[0]: selection(path(B, 1, 2), path(C, 1, 2, 3))}) == []
    assert told.after({KEYS[0]: selection(path(C, 1, 2, 3))})[0].announced[V4] == [KEYS[0]]


@pytest.mark.spec("ECMP-18")
def test_add_path_sends_only_the_path_that_changed() -> None:
    told = Told(add_path=True)
    first, second, third = path(A, 1), path(B, 1), path(C, 1)
    (update,) = told.after({KEYS[0]: selection(first, second, third)})
    ids = [slice_[:4] for slice_ in update.announced[V4]]
    assert len(set(ids)) == 3
    (update,) = told.after({KEYS[0]: selection(first, path(B, 1, med=None, origin=1), third)})
    assert update.announced[V4] == [ids[1] + KEYS[0]]
    (update,) = told.after({KEYS[0]: selection(first, third)})
    assert (dict(update.announced), update.withdrawn[V4]) == ({}, [ids[1] + KEYS[0]])
    (update,) = told.after({KEYS[0]: selection(first, second, third)})
    assert update.announced[V4] == [ids[1] + KEYS[0]]


@pytest.mark.spec("BGP-10")
def test_a_refresh_repeats_everything_and_a_soft_clear_only_what_differs() -> None:
    told = Told()
    told.after({key: selection(path(A)) for key in KEYS})
    told.groups.renew(told.out)
    assert told.updates() == []
    told.walks.append(told.out.repeat())
    (update,) = told.updates()
    assert sorted(update.announced[V4]) == KEYS
    told.walks.append(told.out.repeat())
    assert len(told.updates()) == 1


def test_the_first_table_ends_with_its_marker() -> None:
    told = Told()
    told.table.update((key, selection(path(A))) for key in KEYS)
    told.out.begin()
    assert [update.end_of_rib for update in told.updates(3)] == [None, None, V4]
    late = told.neighbor("late")
    late.out.begin()
    told.run(3)
    assert [update.end_of_rib for update in late.updates()] == [None, None, V4]
    assert told.updates() == []
    assert not told.out.waiting


def test_a_path_never_goes_back_to_its_source() -> None:
    told = Told()
    assert told.after({KEYS[0]: selection(path(source("n"), 1))}) == []
    # It was the best, and what was told before is taken back.
    told.after({KEYS[1]: selection(path(A, 1, 2))})
    (update,) = told.after({KEYS[1]: selection(path(source("n"), 1), path(A, 1, 2))})
    assert update.withdrawn[V4] == [KEYS[1]]
