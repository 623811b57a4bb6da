"""What a configuration asks of a daemon, and who may stand in where. No daemon runs here."""

from __future__ import annotations

from typing import Any

import pytest

from harness import speakers
from harness.bgp.config import Neighbor, SpeakerConfig, parse_config
from harness.daemons import features
from harness.daemons.features import Feature, asked_for
from harness.daemons.kinds import KINDS, Kind
from topologies import ipsec_ecmp, vbr


def config(*, neighbor: dict[str, Any] | None = None, **fields: Any) -> SpeakerConfig:
    one = {"name": "gw1", "address": "10.0.0.2", "remote_asn": 65002, **(neighbor or {})}
    return parse_config({"asn": 65001, "router_id": "1.1.1.1", "neighbors": [one], **fields})


def asked(**fields: Any) -> set[Feature | None]:
    return {need.feature for need in asked_for(config(**fields))}


def test_plain_session_asks_for_nothing() -> None:
    assert asked() == set()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"neighbor": {"key": "s3cret"}}, {Feature.MD5}),
        ({"neighbor": {"add_path": "both"}}, {Feature.ADD_PATH_SEND, Feature.ADD_PATH_RECEIVE}),
        ({"neighbor": {"add_path": "send"}}, {Feature.ADD_PATH_SEND}),
        ({"neighbor": {"bfd": {"hop_count": 1}}}, {Feature.BFD}),
        (
            {"neighbor": {"bfd": {"hop_count": 3, "auth": {"key": "k"}}}},
            {Feature.BFD_MULTIHOP, Feature.BFD_AUTHENTICATION, Feature.BFD_APART},
        ),
        (
            {"neighbor": {"bfd": {"hop_count": 3}, "ebgp_multihop": 3}},
            {Feature.BFD_MULTIHOP, Feature.MULTIHOP},
        ),
        (
            {"neighbor": {"bfd": {"hop_count": 1}, "ebgp_multihop": 3}},
            {Feature.BFD, Feature.MULTIHOP, Feature.BFD_APART},
        ),
        ({"neighbor": {"key": 'Zug um "Zug"'}}, {Feature.MD5, Feature.MD5_BLANKS, Feature.MD5_QUOTES}),
        (
            {"neighbor": {"remote_asn": 65001, "add_path": "receive"}, "multipath_ibgp": 4},
            {Feature.ADD_PATH_RECEIVE, Feature.MULTIPATH_ALIKE},
        ),
        ({"neighbor": {"families": ["ipv4", "ipv6"]}}, {Feature.IPV6}),
        ({"neighbor": {"address": "fd00::2"}}, {Feature.IPV6}),
        ({"networks": ["10.1.0.0/16"]}, set()),
        ({"networks": ["2001:db8::/32"]}, {Feature.IPV6}),
        ({"multipath": 4}, set()),
        ({"groups": {"kind": "plain"}, "profile": "rfc4271"}, set()),
        ({"neighbor": {"import": [{"action": "permit", "as_path": "^$"}]}}, {Feature.POLICY, Feature.POLICY_AS_PATH}),
        ({"neighbor": {"export": [{"action": "deny", "local": True}]}}, {Feature.POLICY, Feature.POLICY_SOURCE}),
    ],
)
def test_each_field_asks_for_its_feature(fields: dict[str, Any], expected: set[Feature]) -> None:
    assert asked(**fields) == expected


def test_every_feature_that_a_daemon_lacks_has_a_reason() -> None:
    for kind in KINDS.values():
        assert not (set(kind.lacks) & kind.features)
        for feature in set(Feature) - kind.features:
            assert kind.why_not(feature)


def test_a_field_that_nobody_renders_is_refused_by_its_name() -> None:
    """New fields of the model are not passed over in silence."""
    known = features.PLAIN | features.OURS_ALONE | set(features.NEIGHBOR_FIELDS) | {"description"}
    unknown = sorted(set(Neighbor.model_fields) - known)
    frr = KINDS["frr"]
    for field in unknown:
        why = frr.refuses([features.Need(None, f"neighbor gw1, {field}")])
        assert why is not None
        assert field in why


def test_refusal_names_daemon_field_feature_and_reason() -> None:
    why = KINDS["frr"].refuses(asked_for(config(neighbor={"bfd": {"hop_count": 1, "auth": {"key": "k"}}})))
    assert why == "FRR: neighbor gw1, bfd needs BFD authentication: its bfdd has none"


def test_words_of_the_option() -> None:
    assert speakers.wishes(["frr", "dc*=bird, vbr=ours"]) == (
        speakers.Wish("*", "frr", False),
        speakers.Wish("dc*", "bird", True),
        speakers.Wish("vbr", "ours", True),
    )


@pytest.mark.parametrize("word", ["quagga", "dc1=quagga", "=frr", ""])
def test_words_that_mean_nothing_are_refused(word: str) -> None:
    with pytest.raises(speakers.UnknownSpeaker, match=r"--speaker"):
        speakers.wishes([word])


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every daemon counts as installed: whether this machine has them is nothing to these tests."""
    monkeypatch.setattr(Kind, "absent", lambda _: None)


def placed(plan: Any, *words: str) -> dict[str, str]:
    return {node: kind.name for node, kind in speakers.chosen(plan, speakers.wishes(words)).items()}


@pytest.mark.usefixtures("installed")
def test_a_daemon_comes_wherever_it_suffices() -> None:
    plan = vbr.plan(peers=2)
    assert placed(plan, "bird").keys() == {node.name for node in plan.nodes if node.speaker is not None}
    assert placed(plan, "frr").keys() >= {"dc1", "dc2"}
    assert "vbr" not in placed(plan, "frr")  # its policies look at where a route was learned
    assert placed(plan, "frr", "dc2=bird", "dc1=ours") | {"dc2": "bird"} == {
        **placed(plan, "frr", "dc1=ours"),
        "dc2": "bird",
    }
    assert placed(plan, "dc1=frr") == {"dc1": "frr"}


@pytest.mark.usefixtures("installed")
def test_a_node_that_cannot_have_it_refuses() -> None:
    with pytest.raises(speakers.NotSuited, match=r"vbr: FRR: neighbor .* needs policies by where a route was learned"):
        placed(vbr.plan(peers=2), "vbr=frr")
    with pytest.raises(speakers.UnknownSpeaker, match=r"no such node with a speaker; there are .*dc1"):
        placed(vbr.plan(peers=2), "idc1=frr")


@pytest.mark.usefixtures("installed")
def test_the_ecmp_lab_has_no_place_where_sessions_end_with_a_route() -> None:
    refused = placed(ipsec_ecmp.plan(), "frr")
    assert {"gw1", "vpn1"}.isdisjoint(refused)
    assert "dc-router" in refused


def test_absent_daemon_names_the_line_that_installs_it() -> None:
    kind = Kind("x", "X", "x-package", ("no-such-program-here",), "m:C", frozenset())
    assert kind.absent() == (
        "X is not installed (no-such-program-here): apt-get install --no-install-recommends x-package"
    )
