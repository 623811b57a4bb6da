"""Random documents of a virtual border router: sound ones, and ones that are wrong in a place or two.

Not a lab. ``document(random)`` makes a document that means something, with every field that the schema has turning up sooner or later;
``spoilt(document, random)`` breaks it where the schema or a rule would notice, or not. Both are functions of the random numbers
alone, so that a seed names a document, and Hypothesis can drive and shrink them.
"""

from __future__ import annotations

import copy
import io
from random import Random
from typing import Any

from ruamel.yaml import YAML

from harness.cloud.vbr import VbrEstate, circuit_of, group_of, local_asn

Document = dict[str, Any]

ASNS = (1, 64511, 64512, 65010, 65011, 65535, 65536, 4200000001, 4294967295)
ECR_ASNS = (45104, 64512, 64600, 65534, 4200000000, 4294967294)
KEYS = ("k", "s3cret", "Zug um Zug", "ключ", "k" * 80, "a:b{c}#&*!|>'\"%@`")
#: What takes a value's place when a document is spoilt.
WRONG: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 23456, 65025, 65535, 2**32, 2**70, 1.5, "", " ", "x", "IPv4", "10.1.1.2", "10.1.1.1/30", "224.0.0.1",
    "0.0.0.0/0", "::", "fe80::1", "fd00:1::2", "10.0.0.0/8", "198.18.0.0/16", "172.16.0.0/16", "a\nb", "\x85", "../x", "vpc", "dc1", "ecs",
    [], ["a"], {}, {"a": 1}, {"hop_count": 0}, [[]],
)  # fmt: skip


def document(random: Random, *, most_peers: int = 3, links: bool = False) -> Document:
    """A document whose parts fit each other; with ``links`` the link to the VPC may be impaired, which not every kernel can."""
    ipv6 = random.random() < 0.3
    cen = random.random() < 0.15
    vbr: Document = {"name": random.choice(("vbr", "vbr-hangzhou", "V.b_r-1", "vbr-hangzhou-production-line-001"))}
    _maybe(random, vbr, "ipv6", ipv6, always=ipv6)
    _maybe(random, vbr, "mp_bgp", True)
    _maybe(random, vbr, "region", random.choice(("China (Hangzhou)", "China (Shanghai)")))
    _maybe(random, vbr, "profile", random.choice(("document", "rfc4271")))
    _maybe(
        random,
        vbr,
        "vpc",
        {"name": "vpc-of-the-production-line-1", "cidr": "172.16.0.0/16", "ipv6_cidr": "fd00:9::/64"},
    )
    if random.random() < 0.4:
        vbr["ecr"] = {"asn": random.choice(ECR_ASNS)}
        _maybe(random, vbr["ecr"], "name", "ecr-1")
        _maybe(random, vbr["ecr"], "associated", True)
    if cen:
        vbr["cen"] = {"transit_router": "tr-1"} if random.random() < 0.5 else {"asn": 45104}
    else:
        vbr["networks"] = random.choice((["172.16.0.0/16"], ["172.16.0.0/24", "172.16.128.0/17"], []))
        if ipv6 and random.random() < 0.5:
            vbr["networks"].append("fd00:9::/64" if "vpc" in vbr else "fd00:172:16::/56")
    if random.random() < 0.3:
        vbr["account"] = {"may_set_local_asn": True, "route_quota_limit": 500}
    _maybe(
        random,
        vbr,
        "timers",
        {
            "hold_time": random.choice((0, 3, 90)),
            "connect_retry_time": 5,
            "bfd_interval_ms": 300,
            "bfd_multiplier": 3,
            "route_quota_restart": 1,
        },
    )
    vbr["groups"] = [_group(random, vbr, number) for number in range(random.randint(1, 2))]
    if ipv6:
        vbr["groups"].append({**_group(random, vbr, 8), "protocol": "IPv6"})
    four = [group["name"] for group in vbr["groups"] if group.get("protocol") != "IPv6"]
    vbr["peers"] = [
        _peer(random, random.choice(four), f"10.1.{n}.2") for n in range(1, random.randint(1, most_peers) + 1)
    ]
    if ipv6:
        vbr["peers"].append(_peer(random, vbr["groups"][-1]["name"], "fd00:1::2"))
    if random.random() < 0.2:
        vbr["alerts"] = _alerts(random)
    if random.random() < 0.3:
        _write_circuits(random, vbr)
    if random.random() < 0.3:
        vbr["data_centres"] = [_data_centre(random, vbr)]
    if links and not cen and random.random() < 0.3:
        vbr["links"] = [_link(random, vbr)]
    return {"vbr": vbr}


def spoilt(whole: Document, random: Random) -> Document:
    """The document with one to three places changed: a value, a key, an item more or less."""
    changed = copy.deepcopy(whole)
    for _ in range(random.randint(1, 3)):
        container = random.choice(list(_containers(changed)))
        if isinstance(container, list):
            _spoil_list(container, random)
        else:
            _spoil_mapping(container, random)
    return changed


def to_yaml(whole: Document) -> str:
    """The document as a file has it."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_unicode = True
    yaml.representer.ignore_aliases = lambda _: True
    yaml.dump(whole, text)
    return text.getvalue()


def fits(estate: VbrEstate) -> bool:
    """Has every peer a data centre that says what its group says, so that its session must come up?"""
    centres = {centre.name: centre for centre in estate.data_centres}
    vbr = estate.vbrs[0]
    for peer in vbr.peers:
        group, circuit = group_of(vbr, peer), circuit_of(estate, vbr.name, peer.ip)
        assert group is not None and circuit is not None
        centre = centres[circuit.data_centre]
        near = next(cloud for cloud, far in circuit.pairs() if far.partition("/")[0] == peer.ip)
        session = centre.session(near.partition("/")[0])
        shown = local_asn(estate, vbr, group)
        if (centre.asn, session.neighbor_asn, session.key) != (group.peer_asn, shown, group.key):
            return False
    return True


def _group(random: Random, vbr: Document, number: int) -> Document:
    group: Document = {"name": f"idc-{number}", "peer_asn": random.choice(ASNS)}
    _maybe(random, group, "protocol", "IPv4")
    _maybe(random, group, "key", random.choice((*KEYS, None)))
    limit = 500 if "account" in vbr else 110
    _maybe(random, group, "route_quota", random.choice((1, 50, 110, limit)))
    _maybe(random, group, "route_quota_action", random.choice(("drop", "teardown")))
    _maybe(random, group, "description", "first line: #1")
    if "account" in vbr and "ecr" not in vbr:
        _maybe(random, group, "local_asn", random.choice(ECR_ASNS))
    return group


def _link(random: Random, vbr: Document) -> Document:
    link: Document = {"between": [vbr["name"], vbr.get("vpc", {}).get("name", "vpc")]}
    _maybe(random, link, "one_way", True)
    _maybe(random, link, "delay", random.choice(("40ms", 40, "1.5s", 40.5)))
    if "delay" in link:
        _maybe(random, link, "jitter", random.choice(("5ms", 5, "none")))
    _maybe(random, link, "loss", random.choice(("1%", 1, 0.5, 100)))
    _maybe(random, link, "rate", random.choice(("10mbit", 10, "1gbit", "none")))
    return link


def _peer(random: Random, group: str, ip: str) -> Document:
    peer: Document = {"group": group, "ip": ip}
    _maybe(random, peer, "bfd", random.choice((True, False, {"hop_count": 1}, {"hop_count": 255}, {})))
    return peer


def _alerts(random: Random) -> Document:
    """One rule that refers to all there is."""
    rule: Document = {"name": "down", "event_type": "Down"}
    for key, value in {
        "event_name": "BgpPeerStatus:Down",
        "product": "Express Connect - physical connection",
        "level": "Warning",
        "keywords": ["10.1.1.2", "Cease"],
        "keyword_condition": random.choice(("any", "none")),
        "sql": "level = 'Warning'",
        "application_group": "idc-lines",
        "contact_group": "operators",
        "notification": random.choice(("Critical", "Warning", "Info")),
        "smq": "queue-1",
        "function": "function-1",
        "log_store": "store-1",
        "callback": "http://172.16.0.10:8080/alerts",
        "mute_period": random.choice((0.5, 60)),
    }.items():
        _maybe(random, rule, key, value)
    contact = {"name": "alice", "phone": "+1", "email": "a@example.net", "webhook": "http://172.16.0.10:8080/hook"}
    return {
        "rules": [rule],
        "contact_groups": [{"name": "operators", "contacts": [contact]}],
        "application_groups": [{"name": "idc-lines", "resources": ["vbr/vbr"]}],
        "queues": ["queue-1"],
        "functions": ["function-1"],
        "log_stores": ["store-1"],
    }


def _write_circuits(random: Random, vbr: Document) -> None:
    """The first peer's circuit, and one that no peer has."""
    vbr["circuits"] = [{"name": "north", "cloud": "10.1.1.1/30", "customer": "10.1.1.2/30", "data_centre": "idc-a"}]
    _maybe(random, vbr["circuits"][0], "line", random.choice(("direct", "multi-cloud", "bridged")))
    _maybe(random, vbr["peers"][0], "circuit", "north")
    if vbr.get("ipv6"):
        vbr["circuits"][0] |= {"cloud_ipv6": "fd00:1::1/64", "customer_ipv6": "fd00:1::2/64"}
    if random.random() < 0.5:
        vbr["circuits"].append({"name": "spare", "customer": "10.77.0.2/30"})


def _data_centre(random: Random, vbr: Document) -> Document:
    """What is written of the first data centre; its key and ASNs, if they are, rarely fit."""
    centre: Document = {"name": vbr["circuits"][0]["data_centre"] if "circuits" in vbr else "dc1"}
    if "circuits" not in vbr and random.random() < 0.3:
        vbr["peers"][0]["data_centre"] = centre["name"] = "idc-b"
    _maybe(random, centre, "blocks", random.choice((["192.168.200.0/24"], ["192.168.200.0/24", "fd00:2::/64"], [])))
    _maybe(random, centre, "bfd", random.choice((True, False, {"hop_count": 1})))
    for field, value in (("asn", 65099), ("neighbor_asn", 45104), ("key", "other")):
        if random.random() < 0.1:
            centre[field] = value
    return centre


def _maybe(random: Random, into: Document, key: str, value: Any, *, always: bool = False) -> None:
    if always or random.random() < 0.4:
        into[key] = value


def _containers(value: Any) -> Any:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _containers(inner)


def _spoil_list(container: list[Any], random: Random) -> None:
    act = random.randrange(3) if container else 0
    if act == 0:
        container.append(copy.deepcopy(random.choice(WRONG)))
    elif act == 1:
        container.append(copy.deepcopy(random.choice(container)))
    else:
        container.pop(random.randrange(len(container)))


def _spoil_mapping(container: Document, random: Random) -> None:
    act = random.randrange(4) if container else 0
    if act == 0:
        container[random.choice(("extra", "Name", "grups", "<<", "", "0"))] = random.choice(WRONG)
        return
    key = random.choice(list(container))
    if act == 1:
        del container[key]
        return
    # Mostly of the same type: what the schema takes is what the rules must judge.
    alike = [value for value in WRONG if type(value) is type(container[key])] if random.random() < 0.8 else []
    container[key] = copy.deepcopy(random.choice(alike or WRONG))
