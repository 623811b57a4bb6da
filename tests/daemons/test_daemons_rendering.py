"""What each daemon is told for a configuration, and what is read out of its answers. No daemon runs here."""

from __future__ import annotations

from typing import Any

import pytest

from harness.bgp.config import SpeakerConfig, parse_config
from harness.daemons import bird, bird_config, exabgp, frr_config, gobgp


def config(*, neighbor: dict[str, Any] | None = None, **fields: Any) -> SpeakerConfig:
    one = {"name": "gw 1", "address": "10.0.0.2", "remote_asn": 65002, "local_address": "10.0.0.1", **(neighbor or {})}
    return parse_config({"asn": 65001, "router_id": "1.1.1.1", "neighbors": [one], **fields})


RULES = [
    {"action": "deny", "prefixes": ["10.0.0.0/8 ge 16 le 24", "2001:db8::/32"]},
    {"action": "permit", "communities": ["65001:1", "1:2:3"], "med": 7, "local_pref": 200, "prepend": 2},
    {"action": "permit", "remove_communities": ["*"], "add_communities": ["65001:9"]},
]


def test_frr_gets_route_maps_of_the_families_own_prefixes() -> None:
    lines = frr_config.whole(config(neighbor={"import": RULES, "families": ["ipv4", "ipv6"]}))
    assert "ip prefix-list gw_1-in-ipv4-1 permit 10.0.0.0/8 ge 16 le 24" in lines
    assert "ipv6 prefix-list gw_1-in-ipv6-1 permit 2001:db8::/32" in lines
    assert "set as-path prepend 65001 65001" in lines
    assert "set comm-list every-community delete" in lines
    assert "route-map gw_1-in-ipv4 permit 65535" in lines


def test_frr_dials_only_when_all_is_configured() -> None:
    """remote-as starts the session: it stands shut until the families are there."""
    lines = frr_config.whole(config())
    assert lines.index("neighbor 10.0.0.2 shutdown") == lines.index("neighbor 10.0.0.2 remote-as 65002") + 1
    assert lines.index("no neighbor 10.0.0.2 shutdown") > lines.index("neighbor 10.0.0.2 activate")
    assert "no neighbor 10.0.0.2 shutdown" not in frr_config.whole(config(neighbor={"shutdown": True}))


def test_frr_change_names_what_changes_and_nothing_else() -> None:
    old = config(networks=["10.1.0.0/16"])
    new = config(networks=["10.2.0.0/16"])
    assert frr_config.changes(old, new) == [
        "router bgp 65001",
        "address-family ipv4 unicast",
        "no network 10.1.0.0/16",
        "exit-address-family",
        "address-family ipv4 unicast",
        "network 10.2.0.0/16",
        "exit-address-family",
    ]
    keyed = config(neighbor={"key": "k1"})
    assert frr_config.changes(old, old) == ["router bgp 65001"]
    assert "no neighbor 10.0.0.2" in frr_config.changes(old, keyed)


def test_bird_gets_filters_and_quoted_names() -> None:
    text = bird_config.whole(config(neighbor={"import": RULES, "key": "s3cret", "bfd": {"hop_count": 1}}))
    assert "net ~ [ 10.0.0.0/8{16,24} ]" in text
    assert "(65001,1) ~ bgp_community || (1,2,3) ~ bgp_large_community" in text
    assert "bgp_path.prepend(65001); bgp_path.prepend(65001); accept;" in text
    assert "protocol bgp 'to-gw_1' {" in text
    assert 'password "s3cret";' in text
    assert "bfd { interval 300 ms; multiplier 3; };" in text
    # Next hops are looked up among the links: BIRD knows of no connected route by itself, and would announce those of its main table.
    assert "protocol direct { ipv4 { table links4; }; ipv6 { table links6; }; }" in text
    assert "igp table links4;" in text


@pytest.mark.parametrize(("action", "word"), [("warn", "warn"), ("drop", "block"), ("teardown", "restart")])
def test_limits_in_birds_words(action: str, word: str) -> None:
    text = bird_config.whole(config(neighbor={"maximum_prefixes": {"limit": 110, "action": action}}))
    assert f"import limit 110 action {word};" in text


def test_bird_answer_is_read() -> None:
    text = """Table master4:
10.9.0.0/24          unicast [gw_1 02:06:26.038] * (100) [AS65001i]
\tvia 10.0.0.1 on e0
\tType: BGP univ
\tBGP.origin: EGP
\tBGP.as_path: 65001 65010
\tBGP.next_hop: 10.0.0.1
\tBGP.med: 7
\tBGP.aggregator: 9.9.9.9 AS65010
\tBGP.community: (65001,1) (65001,2)
\tBGP.large_community: (1, 2, 3)
                     unicast [other 02:06:27.000] (100) [AS65001i]
\tvia 10.0.0.3 on e0
192.168.2.0/24       unreachable [networks_ipv4 02:06:26.001] * (200)
"""
    found = dict(bird._routes(text))
    assert list(found) == ["10.9.0.0/24", "192.168.2.0/24"]
    best, other = found["10.9.0.0/24"]
    assert (best["best"], other["best"], other["vias"]) == (True, False, ["10.0.0.3"])
    assert best["attributes"]["BGP.as_path"] == "65001 65010"
    assert bird._aggregator(best["attributes"]["BGP.aggregator"]) == "65010 9.9.9.9"


def test_gobgp_values() -> None:
    values = gobgp.whole(config(neighbor={"add_path": "send", "key": "s3cret", "ebgp_multihop": 3}))
    (one,) = values["neighbors"]
    assert one["config"]["auth-password"] == "s3cret"
    assert one["ebgp-multihop"]["config"] == {"enabled": True, "multihop-ttl": 3}
    assert one["afi-safis"][0]["add-paths"]["config"] == {"receive": False, "send-max": 8}


def test_exabgp_leaves_out_who_is_shut_down_and_ipv6_networks_of_an_ipv4_session() -> None:
    text = exabgp.whole(config(networks=["10.1.0.0/16", "2001:db8::/32"]), "/e", "/c")
    assert "static { route 10.1.0.0/16 next-hop self; }" in text
    assert "neighbor" not in exabgp.whole(config(neighbor={"shutdown": True}), "/e", "/c").replace(
        "neighbor-changes", ""
    )


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (exabgp.as_path, [65001, [1, 2]], "65001 {1,2}"),
        (gobgp.as_path, [{"segment_type": 2, "asns": [65001]}, {"segment_type": 1, "asns": [1, 2]}], "65001 {1,2}"),
    ],
)
def test_as_paths_as_our_speaker_writes_them(read: Any, value: Any, expected: str) -> None:
    assert read(value) == expected


def test_exabgp_path_identifiers_are_numbers() -> None:
    assert exabgp.path_id_of({"path-information": "0.0.1.2"}) == 258
    assert exabgp.path_id_of({}) == 0
