"""Adj-RIB-Out: what goes on the wire for a change, and nothing more."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from harness.bgp.adj_out import AdjRibOut
from harness.bgp.decision import Preferences, Selection, select
from harness.bgp.export import Exporter, PathIds, Target
from harness.bgp.paths import Path
from harness.bgp.policy import Policy
from harness.bgp.prefixes import Family
from harness.bgp.session import Session
from harness.bgp.update import Update, decode_update
from tests.bgp.routes import path, prefix, source

V4 = Family.IPV4_UNICAST
KEYS = [prefix(f"10.0.{n}.0/24") for n in range(4)]
A, B, C = (source(name, router_id=n, address=f"10.9.0.{n}") for n, name in enumerate("abc", 1))


def selection(*paths: Path) -> Selection:
    return select(paths, Preferences(), lambda _: 0)


class Told:
    """One neighbour in AS 64501 and the UPDATEs it got."""

    def __init__(self, *, add_path: bool = False) -> None:
        families = frozenset({V4}) if add_path else frozenset[Family]()
        session = Session(local_asn=64500, peer_asn=64501, asn4=True, add_path_send=families)
        target = Target("n", True, 64500, ipaddress.ip_address("10.1.0.1").packed, False, add_path, 100)
        self.out = AdjRibOut(session, V4, Exporter(target, Policy((), V4, 64500), PathIds()))
        self._receiver = replace(session, add_path_send=frozenset(), add_path_receive=families)
        self.table: dict[bytes, Selection] = {}

    def updates(self, limit: int = 100) -> list[Update]:
        found = [decode_update(message[19:], self._receiver) for message in self.out.messages(self.table, limit)]
        assert not [error for update in found for error in update.errors]
        return found

    def after(self, changes: dict[bytes, Selection | None]) -> list[Update]:
        for key, item in changes.items():
            if item is None:
                del self.table[key]
            else:
                self.table[key] = item
        self.out.mark(changes)
        return self.updates()


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
    list(told.out.reconsider(told.table))
    assert told.updates() == []
    list(told.out.repeat(told.table))
    (update,) = told.updates()
    assert sorted(update.announced[V4]) == KEYS
    list(told.out.repeat(told.table))
    assert len(told.updates()) == 1


def test_the_first_table_ends_with_its_marker() -> None:
    told = Told()
    told.table = {key: selection(path(A)) for key in KEYS}
    list(told.out.begin(told.table))
    assert [update.end_of_rib for update in told.updates(3)] == [None]
    assert told.out.waiting
    assert [update.end_of_rib for update in told.updates(3)] == [None, V4]
    assert not told.out.waiting


def test_a_path_never_goes_back_to_its_source() -> None:
    told = Told()
    assert told.after({KEYS[0]: selection(path(source("n"), 1))}) == []
    # It was the best, and what was told before is taken back.
    told.after({KEYS[1]: selection(path(A, 1, 2))})
    (update,) = told.after({KEYS[1]: selection(path(source("n"), 1), path(A, 1, 2))})
    assert update.withdrawn[V4] == [KEYS[1]]
