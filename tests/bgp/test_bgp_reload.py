"""Configuration reload: what differs is shown and done, what need not restart does not, what is wrong changes nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.bgp.config import ConfigError, SpeakerConfig, parse_config
from harness.bgp.reload import EFFECTS, Reloader, difference, running, text
from harness.bgp.speaker import Speaker
from tests.bgp.memory_world import World
from tests.bgp.rig import Rig, opened
from tests.bgp.test_bgp_speaker import NET, build, rows

BASE: dict[str, Any] = {
    "asn": 1,
    "networks": ["10.0.0.0/24", "10.1.0.0/16"],
    "neighbors": [
        {"name": "a", "address": "10.0.0.1", "remote_asn": 2, "key": "old secret"},
        {"name": "b", "address": "10.0.0.2", "remote_asn": 3},
    ],
}


def told(**changes: Any) -> list[str]:
    return [text(change) for change in difference(parse_config(BASE), parse_config(BASE | changes))]


def test_what_differs_in_words() -> None:
    assert told() == []
    assert told(hold_time=30, multipath=4) == [
        "~ speaker: hold_time 90 -> 30 (at the next session)",
        "~ speaker: multipath 1 -> 4 (at once)",
    ]
    assert told(networks=["10.0.0.0/24", "10.2.0.0/16"]) == ["- network 10.1.0.0/16", "+ network 10.2.0.0/16"]
    assert told(networks=[{"prefix": "10.0.0.0/24", "require_route": True}, "10.1.0.0/16"]) == [
        "~ network 10.0.0.0/24: require_route False -> True (at once)"
    ]
    a, b = BASE["neighbors"]
    assert told(neighbors=[a, {"name": "c", "address": "10.0.0.3", "remote_asn": 3}]) == [
        "- neighbor b",
        "+ neighbor c",
    ]
    assert told(neighbors=[a, b | {"remote_asn": 4, "next_hop_self": True}]) == [
        "~ neighbor b: remote_asn 3 -> 4 (session reset with Cease/6)",
        "~ neighbor b: next_hop_self False -> True (for routes from now on; for those already there by a soft clear)",
    ]
    assert told(asn=7) == ["~ speaker: asn 1 -> 7 (needs a new start of the speaker)"]


def test_a_key_is_never_shown() -> None:
    a, b = BASE["neighbors"]
    assert told(neighbors=[a | {"key": "new secret"}, b]) == ["~ neighbor a: key (at once)"]
    changes = difference(parse_config(BASE), parse_config(BASE | {"neighbors": [b]}))
    assert "secret" not in json.dumps(changes)


def test_the_table_names_fields_that_exist() -> None:
    assert EFFECTS.keys() <= SpeakerConfig.model_fields.keys()


# --------------------------------------------------------------------------------------------------------- a running speaker


async def _no_monitors(_config: SpeakerConfig) -> None:
    pass


def speaker(**options: Any) -> tuple[World, dict[str, Speaker], Reloader]:
    """b between a and c, and what reloads it."""
    world, s = build({"a": 1, "b": 2, "c": 3}, ["ab", "bc"], a={"networks": [NET]}, **options)
    return world, s, Reloader(s["b"], _no_monitors, None)


def config_of(s: Speaker, **changes: Any) -> dict[str, Any]:
    return s.config.model_dump(mode="json", by_alias=True) | changes


def apply(reloader: Reloader, config: dict[str, Any], **more: Any) -> list[str]:
    answer = asyncio.run(reloader.reload(config=config, **more))
    return [text(change) for change in answer["changes"]]


def test_only_what_differs_is_touched() -> None:
    world, s, reloader = speaker()
    ups = [e["peer"] for e in s["b"].log.since() if e["type"] == "peer.up"]
    config = config_of(s["b"], networks=["10.9.0.0/24"], multipath=2)
    config["neighbors"] = [config["neighbors"][0] | {"next_hop_self": True}, config["neighbors"][1]]
    assert len(apply(reloader, config)) == 3
    world.run(5)
    assert set(rows(s["c"])) == {NET, "10.9.0.0/24"}
    assert [e["peer"] for e in s["b"].log.since() if e["type"] == "peer.up"] == ups
    assert not [e for e in s["b"].log.since() if e["type"] == "peer.down"]
    assert apply(reloader, config) == []


def test_a_neighbour_goes_one_comes_one_moves() -> None:
    world, s, reloader = speaker()
    config = config_of(s["b"])
    (a, c) = config["neighbors"]
    apply(reloader, config | {"neighbors": [c]})
    world.run(5)
    assert list(s["b"].adjacencies) == ["c"]
    assert rows(s["c"]) == {}
    apply(reloader, config)
    world.run(60)
    assert set(rows(s["c"])) == {NET}
    # Two that exchange their addresses: neither may stand in the other's way.
    swapped = [a | {"address": c["address"], "remote_asn": 3}, c | {"address": a["address"], "remote_asn": 1}]
    apply(reloader, config | {"neighbors": swapped})
    world.run(60)
    assert {name: x.peer.state.value for name, x in s["b"].adjacencies.items()} == {
        "a": "Established",
        "c": "Established",
    }


def test_preferences_decide_anew() -> None:
    world, s = build(
        {"a": 1, "b": 1, "h": 2}, ["ah", "bh"], a={"networks": [NET]}, b={"networks": [NET]}, h={"multipath": 1}
    )
    reloader = Reloader(s["h"], _no_monitors, None)
    assert sum(path["multipath"] for path in rows(s["h"])[NET]) == 0
    apply(reloader, config_of(s["h"], multipath=8))
    world.run(1)
    assert sum(path["multipath"] for path in rows(s["h"])[NET]) == 2


def test_a_speakers_default_reaches_the_next_session() -> None:
    world, s, reloader = speaker()
    apply(reloader, config_of(s["b"], hold_time=9))
    session = s["b"].adjacency("a").peer.session
    assert session is not None
    assert session.hold_time == 90
    s["b"].reset_neighbor("a")
    world.run(60)
    session = s["b"].adjacency("a").peer.session
    assert session is not None
    assert session.hold_time == 9


def test_what_came_over_the_socket_is_part_of_what_runs() -> None:
    _, s, reloader = speaker()
    before = config_of(s["b"])
    s["b"].shut_neighbor("a")
    s["b"].delete_neighbor("c")
    assert len(running(s["b"]).neighbors) == 1
    assert apply(reloader, before) == ["~ neighbor a: shutdown True -> False (at once)", "+ neighbor c"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"asn": 9}, "asn 2 -> 9: needs a new start of the speaker; nothing was changed"),
        ({"port": 1179, "networks": []}, "nothing was changed"),
        ({"hold_time": 1}, "hold time 1 s is not allowed"),
        ({"nonsense": 1}, "there is no such field"),
    ],
)
def test_what_is_wrong_changes_nothing(change: dict[str, Any], complaint: str) -> None:
    _, s, reloader = speaker()
    before = running(s["b"])
    with pytest.raises(ConfigError, match=complaint):
        apply(reloader, config_of(s["b"], **change))
    assert running(s["b"]) == before


def test_a_dry_run_only_tells() -> None:
    _, s, reloader = speaker()
    before = running(s["b"])
    assert apply(reloader, config_of(s["b"], networks=["10.9.0.0/24"]), dry_run=True) == ["+ network 10.9.0.0/24"]
    assert running(s["b"]) == before


def test_who_looks_on_comes_first() -> None:
    """A place that cannot be had refuses the reload, and those who looked on before are back."""
    _, s, _ = speaker()
    asked: list[SpeakerConfig] = []

    async def monitors(config: SpeakerConfig) -> None:
        asked.append(config)
        if config.metrics is not None:
            raise OSError(98, "Address already in use")

    with pytest.raises(ConfigError, match="Address already in use; nothing was changed"):
        apply(Reloader(s["b"], monitors, None), config_of(s["b"], metrics={}, networks=["10.9.0.0/24"]))
    assert [config.metrics is None for config in asked] == [False, True]
    assert not s["b"].networks


# ---------------------------------------------------------------------------------------------------------------- a process


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened(tmp_path) as made:
        yield made


@pytest.mark.root
async def test_sighup_reads_the_file_again(rig: Rig, tmp_path: Path) -> None:
    """A key changes at both ends, a network comes: by signal at one, by command at the other. The session stays."""
    rig.link("a", "10.0.0.1/24", "b", "10.0.0.2/24")

    def config(name: str, **more: Any) -> dict[str, Any]:
        own, other = ("1", "2") if name == "a" else ("2", "1")
        neighbor = {"name": "x", "address": f"10.0.0.{other}", "remote_asn": 65000 + int(other), **more.pop("x", {})}
        return {"asn": 65000 + int(own), "router_id": f"{own}.{own}.{own}.{own}", "neighbors": [neighbor]} | more

    a = await rig.speaker("a", **config("a", x={"key": "one"}))
    b = await rig.speaker("b", **config("b", x={"key": "one"}))
    for each in (a, b):
        await each.event("peer.up")
    new = config("b", x={"key": "two"})
    answer = await b.call("config.reload", config=new)
    assert [text(change) for change in answer["changes"]] == ["~ neighbor x: key (at once)"]
    (tmp_path / "a.json").write_text(json.dumps(config("a", x={"key": "two"}, networks=["10.1.0.0/16"])))
    a.child.kill(signal.SIGHUP)
    done = await a.event("reload")
    assert [text(change) for change in done["changes"]] == ["~ neighbor x: key (at once)", "+ network 10.1.0.0/16"]
    await b.until(lambda: any(e["type"] == "fib" and e["installed"] for e in b.seen))
    assert not [e for each in (a, b) for e in each.seen if e["type"] == "peer.down"]

    (tmp_path / "a.json").write_text("{")
    a.child.kill(signal.SIGHUP)
    failed = await a.event("reload.failed")
    assert "a.json, line 1: no JSON" in failed["reason"]
    assert a.child.alive()
