"""Update groups: neighbours that are told alike share a table and the octets; none of them can tell that there are others."""

from __future__ import annotations

import ipaddress
import random
from unittest import mock

import pytest

from harness.bgp.decision import Selection
from harness.bgp.neighbor_config import Rule
from harness.bgp.prefixes import split_path_id
from harness.bgp.update import pack_announcements
from tests.bgp.routes import path, prefix, source
from tests.bgp.told import KEYS, V4, A, B, C, Neighbor, Told, selection

MANY = [prefix(f"10.{n >> 8}.{n & 255}.0/24") for n in range(600)]
DENY_B = (Rule(action="deny", neighbors=("b",)),)


def told_to(*names: str, add_path: bool = False) -> tuple[Told, dict[str, Neighbor]]:
    told = Told(add_path=add_path)
    for number, name in enumerate(names, 2):
        told.neighbor(name, f"10.1.{number}.1")
    told.run()
    return told, told.neighbors


@pytest.mark.spec("BGP-6")
def test_equal_neighbors_are_encoded_once_each_with_its_own_next_hop() -> None:
    told, neighbors = told_to("x", "y", "z")
    with mock.patch("harness.bgp.parcels.pack_announcements", wraps=pack_announcements) as pack:
        told.change({key: selection(path(A, 1, 2)) for key in KEYS})
        told.run()
    assert pack.call_count == 1
    assert len({id(neighbor.out.group) for neighbor in neighbors.values()}) == 1
    hops = {name: ipaddress.ip_address(n.updates()[0].next_hop[V4]) for name, n in neighbors.items()}
    assert {name: str(hop) for name, hop in hops.items()} == {
        "n": "10.1.0.1",
        "x": "10.1.2.1",
        "y": "10.1.3.1",
        "z": "10.1.4.1",
    }


@pytest.mark.parametrize("add_path", [False, True])
def test_a_path_goes_to_all_but_its_source(add_path: bool) -> None:
    told, neighbors = told_to("x", "y", add_path=add_path)
    mine, yours = path(source("x"), 1, 2), path(source("y"), 1, 2)
    told.change({KEYS[0]: selection(mine)})
    told.run()
    assert {name: len(n.updates()) for name, n in neighbors.items()} == {"n": 1, "x": 0, "y": 1}
    # The same attributes from another of them: the third sees no difference, the two change places.
    told.change({KEYS[0]: selection(yours)})
    told.run()
    got = {name: n.updates() for name, n in neighbors.items()}
    assert [bool(u.announced) for u in got["x"]] == [True]
    assert [bool(u.withdrawn) for u in got["y"]] == [True]
    assert len(got["n"]) == (2 if add_path else 0)  # the path id is another one
    assert [len(n.out) for n in neighbors.values()] == [1, 1, 0]


def test_a_neighbor_that_does_not_read_holds_up_nobody_and_costs_an_entry_a_prefix() -> None:
    told, neighbors = told_to("x", "slow")
    slow = neighbors["slow"]
    slow.reads = False
    for turn in range(5):
        told.change({key: selection(path(A, 1, 2, 3 + turn)) for key in MANY})
        told.run()
        assert sum(len(u.announced[V4]) for u in neighbors["x"].updates()) == len(MANY)
    told.change(dict.fromkeys(MANY[:100]))
    told.run()
    assert slow.wire == []
    assert len(slow.out._missed) == len(MANY)
    assert len(slow.out) == 0
    slow.reads = True
    told.run()
    assert sorted(p for u in slow.updates() for p in u.announced.get(V4, ())) == sorted(MANY[100:])
    assert slow.out.in_step


def test_one_that_comes_later_is_told_everything_and_those_before_nothing() -> None:
    told, neighbors = told_to()
    told.change({key: selection(path(source("n"), 1)) for key in KEYS[:2]})
    told.change({key: selection(path(A, 1)) for key in KEYS[2:]})
    told.run()
    assert [p for u in neighbors["n"].updates() for p in u.announced[V4]] == KEYS[2:]
    # Alone, it cost no entry for what came from it.
    assert len(neighbors["n"].out.group.sent) == 2
    late = told.neighbor("late", "10.1.9.1")
    told.run()
    assert sorted(p for u in late.updates() for p in u.announced[V4]) == KEYS
    assert neighbors["n"].updates() == []
    assert (len(neighbors["n"].out), len(late.out)) == (2, 4)


@pytest.mark.spec("BGP-7")
def test_a_policy_change_of_one_moves_nothing_and_leaves_the_others_alone() -> None:
    told, neighbors = told_to("x", "y")
    told.change({key: selection(path(B, 1)) for key in KEYS[:2]})
    told.run()
    for neighbor in neighbors.values():
        neighbor.updates()
    x = neighbors["x"]
    x.configure(DENY_B)
    told.run()
    assert x.updates() == []
    # A prefix that changes is held against the new rules, one that does not stays.
    told.change({KEYS[0]: selection(path(B, 1, 2))})
    told.run()
    assert [list(u.withdrawn[V4]) for u in x.updates()] == [[KEYS[0]]]
    assert [list(u.announced[V4]) for u in neighbors["y"].updates()] == [[KEYS[0]]]
    told.groups.renew(x.out)
    told.run()
    assert [list(u.withdrawn[V4]) for u in x.updates()] == [[KEYS[1]]]
    assert x.out.sent == {}


@pytest.mark.spec("BGP-7")
def test_those_who_change_alike_stay_together() -> None:
    told, neighbors = told_to("x", "y")
    told.change({key: selection(path(B, 1)) for key in KEYS})
    told.run()
    for neighbor in neighbors.values():
        neighbor.configure(DENY_B)
    told.run()
    assert len(told.groups.all()) == 1
    for neighbor in neighbors.values():
        told.groups.renew(neighbor.out)
        told.run()
        assert sum(len(u.withdrawn.get(V4, ())) for u in neighbor.updates()) == len(KEYS)
    assert len(told.groups.all()) == 1


def test_the_last_one_takes_the_group_with_it() -> None:
    told, neighbors = told_to("x")
    told.change({key: selection(path(A, 1)) for key in KEYS})
    told.run()
    group = neighbors["x"].out.group
    for neighbor in neighbors.values():
        told.groups.leave(neighbor.out)
        told.walks.append(neighbor.out.drain())
    told.neighbors.clear()
    told.run()
    assert told.groups.all() == []
    assert group.sent == {}


@pytest.mark.parametrize("add_path", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_each_knows_what_its_own_export_gives(seed: int, add_path: bool) -> None:
    """Changes, slow readers, comers, leavers, policies, soft clears and refreshes by chance, cut short anywhere."""
    chance = random.Random(seed)
    told = Told(add_path=add_path)
    fresh = iter(range(2, 200))
    heard: dict[str, dict[bytes, tuple[object, ...]]] = {"n": {}}
    sources = [A, B, C, source("n"), source("m3"), source("m4")]

    def anything() -> Selection | None:
        paths = [path(s, *chance.choices([1, 2, 3], k=2)) for s in chance.sample(sources, chance.randrange(4))]
        return selection(*paths) if paths else None

    def rules() -> tuple[Rule, ...]:
        return chance.choice([(), DENY_B, (Rule(action="permit", neighbors=("a",), med=7),)])

    def hear() -> None:
        for name, neighbor in told.neighbors.items():
            for update in neighbor.updates():
                for gone in update.withdrawn.get(V4, ()):
                    assert heard[name].pop(gone, None) is not None, f"{name} never had {gone!r}"
                for nlri in update.announced.get(V4, ()):
                    assert update.attributes is not None
                    heard[name][nlri] = (update.attributes, update.next_hop[V4])

    for _ in range(120):
        name = chance.choice(list(told.neighbors) or [""])
        neighbor = told.neighbors.get(name)
        match chance.randrange(9):
            case 0 | 1 | 2:
                told.change({key: anything() for key in chance.sample(MANY[:12], 4)})
            case 3 if neighbor:
                neighbor.reads = not neighbor.reads
            case 4:
                number = next(fresh)
                told.neighbor(f"m{number}", f"10.1.{number}.1", rules())
                heard[f"m{number}"] = {}
            case 5 if neighbor and len(told.neighbors) > 2:
                told.groups.leave(neighbor.out)
                told.walks.append(neighbor.out.drain())
                del told.neighbors[name], heard[name]
            case 6 if neighbor:
                neighbor.configure(rules())
            case 7 if neighbor:
                told.groups.renew(neighbor.out)
            case 8 if neighbor:
                told.groups.renew(neighbor.out)
                told.walks.append(neighbor.out.repeat())
        for _ in range(chance.randrange(12)):
            told.step(chance)
        hear()
    for neighbor in told.neighbors.values():
        neighbor.reads = True
        told.groups.renew(neighbor.out)
    told.run(3)
    hear()
    for name, neighbor in told.neighbors.items():
        expected = {}
        for key, chosen in told.table.items():
            for row in neighbor.out.exporter.advert(key, chosen):
                expected[row[0].to_bytes(4, "big") + key if add_path else key] = row[1:3]
        assert {n: (a.evolve(next_hop=b""), hop) for n, (a, hop) in heard[name].items()} == expected  # type: ignore[attr-defined]
        assert sorted(neighbor.out.slices()) == sorted(expected)
        assert len(neighbor.out) == len({split_path_id(n)[1] if add_path else n for n in expected})
        assert not neighbor.out.waiting
