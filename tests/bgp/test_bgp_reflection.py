"""Route reflection (RFC 4456): who passes what on, which attributes say so, and how loops end."""

from __future__ import annotations

from typing import Any

import pytest

from harness.bgp.config import ConfigError, parse_config
from harness.bgp.speaker import Speaker
from tests.bgp.memory_world import World
from tests.bgp.test_bgp_speaker import NET, address, build, rows

CLIENT = {"route_reflector_client": True}


def cluster(**options: Any) -> tuple[World, dict[str, Speaker]]:
    """x (AS 9) to a; r reflects between a, b (clients) and n, m (not). All but x are AS 1; r can reach every next hop."""
    return build(
        {"x": 9, "a": 1, "b": 1, "n": 1, "m": 1, "r": 1},
        ["xa", "ra", "rb", "rn", "rm", "ab", "an", "am"],
        ar={"next_hop_self": True},
        ab={"shutdown": True},
        an={"shutdown": True},
        am={"shutdown": True},
        **{"ra": CLIENT, "rb": CLIENT} | options,
    )


def learned(speaker: Speaker, peer: str) -> dict[str, Any]:
    return {prefix: paths[0] for prefix, paths in rows(speaker, table="in", peer=peer).items()}


def test_a_clients_route_goes_to_everybody_with_originator_and_cluster() -> None:
    _, s = cluster(x={"networks": [NET]})
    for name in "bnm":
        path = learned(s[name], "r")[NET]
        assert path["originator_id"] == "1.1.1.97", "a's identifier, not r's"
        assert path["cluster_list"] == ["1.1.1.114"]
        assert path["next_hop"] == address("a", "r"), "RFC 4456 10: the next hop stays"
        assert (path["local_pref"], path["as_path"]) == (100, "9")
    assert NET not in learned(s["a"], "r")


def test_a_non_clients_route_goes_to_clients_only() -> None:
    _, s = cluster(n={"networks": [NET]})
    assert NET in learned(s["a"], "r") and NET in learned(s["b"], "r")
    assert NET not in learned(s["m"], "r")
    assert "originator_id" not in rows(s["x"])[NET][0]


def test_without_clients_nothing_is_reflected() -> None:
    _, s = cluster(a={"networks": [NET]}, ra={}, rb={})
    assert all(NET not in learned(s[name], "r") for name in "bnm")


def test_two_reflectors_of_a_chain_add_their_clusters_and_a_loop_ends() -> None:
    """a - r - q - b, each the other's client, with the ring closed by a cable from b to r of the same cluster."""
    both = dict.fromkeys(("ra", "rq", "qr", "qb", "bq", "br", "rb"), CLIENT)
    _, s = build(
        {"a": 1, "r": 1, "q": 1, "b": 1},
        ["ar", "rq", "qb", "br"],
        a={"networks": [NET]},
        q={"resolve_via_default": True},
        **both,
    )
    path = learned(s["q"], "r")[NET]
    assert path["cluster_list"] == ["1.1.1.114"]
    back = [p for paths in rows(s["r"], table="in").values() for p in paths if p.get("rejected")]
    assert all(p["rejected"] == "CLUSTER_LIST holds the own cluster id 1.1.1.114 (RFC 4456 8)" for p in back)


def test_two_speakers_of_one_cluster_refuse_each_others_reflections() -> None:
    _, s = build(
        {"a": 1, "r": 1, "q": 1},
        ["ar", "rq", "aq"],
        a={"networks": [NET]},
        aq={"shutdown": True},
        r={"cluster_id": "7.7.7.7"},
        q={"cluster_id": "7.7.7.7"},
        ra=CLIENT,
    )
    assert learned(s["q"], "r")[NET]["rejected"] == "CLUSTER_LIST holds the own cluster id 7.7.7.7 (RFC 4456 8)"


def test_the_originator_refuses_what_it_originated() -> None:
    """a announces to r and q; q is r's client and reflects back to a, which sees its own identifier."""
    _, s = build(
        {"a": 1, "r": 1, "q": 1},
        ["ar", "rq", "qa"],
        a={"networks": [NET]},
        aq={"export": [{"action": "deny"}]},
        ra=CLIENT,
        qa=CLIENT,
    )
    path = learned(s["a"], "q")[NET]
    assert path["rejected"] == "ORIGINATOR_ID is this speaker's BGP Identifier (RFC 4456 8)"


def test_reflection_attributes_do_not_leave_the_as() -> None:
    _, s = build({"a": 1, "r": 1, "x": 9}, ["ar", "rx"], a={"networks": [NET]}, ra=CLIENT)
    path = learned(s["x"], "r")[NET]
    assert "cluster_list" not in path and "originator_id" not in path


def test_a_client_is_an_ibgp_neighbour() -> None:
    with pytest.raises(ConfigError, match="route_reflector_client is for iBGP, but AS 2 is another one"):
        parse_config({"asn": 1, "neighbors": [{"name": "n", "address": "10.0.0.1", "remote_asn": 2} | CLIENT]})
    with pytest.raises(ConfigError, match=r"cluster_id 'x' is no IPv4 address in dotted form \(RFC 4456 7\)"):
        parse_config({"asn": 1, "cluster_id": "x"})
