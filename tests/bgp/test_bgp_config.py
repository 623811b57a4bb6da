"""The configuration: what a plan renders is taken, what is wrong is named, keys are never seen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from harness import plan
from harness.bgp.config import ConfigError, load_config, masked, parse_config, schema

KEY = "fddsFF123****"
MINIMAL: dict[str, Any] = {"asn": 65530, "router_id": "192.0.2.1"}


def with_neighbor(**fields: Any) -> dict[str, Any]:
    return MINIMAL | {"neighbors": [{"name": "conn-1", "address": "169.254.10.1", "remote_asn": 65531} | fields]}


def test_every_field_of_a_plans_speaker_is_taken() -> None:
    neighbor = plan.Neighbor(
        "conn-1",
        "169.254.10.1",
        65531,
        ebgp_multihop=255,
        add_path="both",
        key=KEY,
        import_=(plan.Rule("permit", prefixes=("192.168.0.0/16 le 24",), add_communities=("45104:1",)),),
        export=(plan.Rule("deny", communities=("45104:1",)),),
    )
    speaker = plan.Speaker(65530, "192.0.2.1", (neighbor,), ("192.168.0.0/24",), multipath=8)
    config = parse_config(json.loads(json.dumps(dataclasses.asdict(speaker))))
    assert config.neighbors[0].secret() == KEY.encode()
    assert config.neighbors[0].import_[0].add_communities == ("45104:1",)
    assert config.networks[0].prefix == "192.168.0.0/24"
    assert config.multipath == 8


@pytest.mark.spec("VBR-9")
def test_a_key_is_in_no_text_of_the_configuration(tmp_path: Path) -> None:
    config = parse_config(with_neighbor(key=KEY))
    assert KEY not in repr(config)
    assert KEY not in str(config.neighbors)
    assert KEY not in json.dumps(masked(config))
    with pytest.raises(ConfigError) as caught:
        parse_config(with_neighbor(key=KEY * 10))
    assert KEY not in str(caught.value)
    assert "130 octets" in str(caught.value)
    (tmp_path / "key").write_text(KEY * 10)
    with pytest.raises(ConfigError) as caught:
        parse_config(with_neighbor(key_file=str(tmp_path / "key"))).neighbors[0].secret()
    assert KEY not in str(caught.value)


@pytest.mark.spec("VBR-9")
def test_a_key_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    assert parse_config(with_neighbor(key_file=str(tmp_path / "key"))).neighbors[0].secret() == KEY.encode()
    with pytest.raises(ConfigError, match="neighbor conn-1: key_file"):
        parse_config(with_neighbor(key_file=str(tmp_path / "none"))).neighbors[0].secret()
    with pytest.raises(ConfigError, match="keep one"):
        parse_config(with_neighbor(key=KEY, key_file="x"))


WRONG = [
    ({"asn": 0}, "asn: "),
    ({"asn": 23456}, "AS_TRANS"),
    ({"router_id": "0.0.0.0"}, "router_id 0.0.0.0 is not allowed"),
    ({"router_id": "fd00::1"}, "no IPv4 address"),
    (
        {"networks": ["10.0.0.1/24"]},
        r"network 10.0.0.1/24, prefix: 10.0.0.1/24 has host bits set; the block is 10.0.0.0/24",
    ),
    ({"hold_time": 2}, "hold time 2 s is not allowed"),
    ({"nonsense": 1}, "nonsense: there is no such field; `vbrlab-bgpd --schema` lists all"),
    (with_neighbor(remote_asn=23456), "neighbor conn-1, remote_asn: ASN 23456"),
    (with_neighbor(address="fe80::1"), "address fe80::1 is link-local: name the interface as well, fe80::1%eth1"),
    (with_neighbor(address="fd00::1%eth1"), "address fd00::1%eth1 is not link-local; leave %eth1 out"),
    (with_neighbor(address="fe80::1%eth1", bfd={}), "bfd watches no link-local address"),
    (with_neighbor(ttl_security=1, ebgp_multihop=2), "both ttl_security and ebgp_multihop are given"),
    (with_neighbor(address="10.0.0"), "neighbor conn-1, address: '10.0.0' is no IP address"),
    (with_neighbor(local_address="fd00::1"), "different IP versions"),
    (with_neighbor(remote_asn=65530, ebgp_multihop=2), "ebgp_multihop is for eBGP"),
    (
        with_neighbor(**{"import": [{"action": "permit", "as_path": "("}]}),
        "import 1, as_path: .* is no regular expression",
    ),
    (with_neighbor(export=[{"action": "permit", "communities": ["1"]}]), "community"),
    (with_neighbor(export=[{"prefixes": ["10.0.0.0/8"]}]), "export 1, action: is required and not given; add it"),
    ({"neighbors": with_neighbor()["neighbors"] * 2}, "have the same name conn-1; change one"),
]


@pytest.mark.parametrize(("fields", "complaint"), WRONG, ids=[row[1] for row in WRONG])
def test_wrong_configurations_are_refused_by_name(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_config(MINIMAL | fields)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json: cannot be read: No such file"):
        load_config(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{\n,")
    with pytest.raises(ConfigError, match=r"bad.json, line 2: no JSON"):
        load_config(tmp_path / "bad.json")
    (tmp_path / "wrong.json").write_text('{"asn": 0}')
    with pytest.raises(ConfigError, match=r"wrong.json: asn"):
        load_config(tmp_path / "wrong.json")


def test_every_field_is_documented() -> None:
    bare = [
        f"{name}.{field}"
        for name, model in {"": schema(), **schema()["$defs"]}.items()
        for field, value in model["properties"].items()
        if "description" not in value
    ]
    assert bare == []
