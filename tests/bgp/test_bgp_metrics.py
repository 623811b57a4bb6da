"""The figures for Prometheus: what they say, in a form that its own parser reads, and where they can be had."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.bgp.config import ConfigError, parse_config
from harness.bgp.metrics import MetricsServer, page
from harness.bgp.monitoring_options import MetricsOptions
from harness.bgp.shows import Shows
from tests.bgp.test_bgp_speaker import NET, build


def shows() -> Shows:
    world, s = build({"a": 1, "b": 2, "c": 3}, ["ab", "bc"], a={"networks": [NET]}, b={"networks": ["10.0.0.0/24"]})
    s["b"].shut_neighbor("c")
    world.run(1)
    return Shows(s["b"], lambda: world.time)


def figures(text: str) -> dict[tuple[str, str], float]:
    """(name, neighbour or family) -> value, of samples that have one such label."""
    return {
        (sample.name, sample.labels.get("neighbor") or sample.labels.get("family", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not {"state", "type"} & sample.labels.keys()
    }


def test_the_figures() -> None:
    found = figures(page(shows()).decode())
    assert found["vbrlab_bgp_neighbor_up", "a"] == 1
    assert found["vbrlab_bgp_neighbor_up", "c"] == 0
    assert found["vbrlab_bgp_neighbor_routes_received", "a"] == 1
    assert found["vbrlab_bgp_neighbor_routes_advertised", "a"] == 1
    assert found["vbrlab_bgp_neighbor_established_total", "c"] == 1
    assert found["vbrlab_bgp_prefixes", "ipv4 unicast"] == 2
    assert ("vbrlab_bgp_neighbor_uptime_seconds", "c") not in found
    text = page(shows()).decode()
    assert 'vbrlab_bgp_neighbor_state{address="10.97.98.1",asn="1",neighbor="a",state="Established"} 1.0' in text
    assert 'direction="sent",neighbor="a",type="KEEPALIVE"' in text


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[bytes, bytes]:
    writer.write(request)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


async def test_on_a_unix_socket_beside_the_control_socket(tmp_path: Path) -> None:
    server = MetricsServer(MetricsOptions(), shows(), tmp_path / "bgp.sock")
    await server.start()
    path = tmp_path / "bgp.metrics"
    assert server.where == f"unix:{path}"
    head, body = await ask(*await asyncio.open_unix_connection(path), b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert b"vbrlab_bgp_speaker_info" in body
    head, body = await ask(*await asyncio.open_unix_connection(path), b"HEAD /metrics HTTP/1.0\r\n\r\n")
    assert (head.startswith(b"HTTP/1.0 200"), body) == (True, b"")
    head, _ = await ask(*await asyncio.open_unix_connection(path), b"GET /secrets HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 404")
    head, _ = await ask(*await asyncio.open_unix_connection(path), b"POST /metrics HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 405")
    # Nonsense is hung up on.
    assert await ask(*await asyncio.open_unix_connection(path), b"\0" * 20000) == (b"", b"")
    await server.close()
    assert not path.exists()


async def test_on_a_loopback_address() -> None:
    options = MetricsOptions(address="127.0.0.1", port=19179)
    server = MetricsServer(options, shows(), None)
    await server.start()
    assert server.where == "http://127.0.0.1:19179/metrics"
    head, _ = await ask(*await asyncio.open_connection("127.0.0.1", 19179), b"GET / HTTP/1.0\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200")
    await server.close()


async def test_without_a_place_to_stand() -> None:
    with pytest.raises(ConfigError, match="name a socket or an address"):
        await MetricsServer(MetricsOptions(), shows(), None).start()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"metrics": {"address": "0.0.0.0"}}, "0.0.0.0 is no loopback address"),
        ({"metrics": {"address": "10.0.0.1"}}, "metrics are not served to others"),
        ({"metrics": {"address": "::1", "socket": "/x"}}, "keep one"),
        ({"bmp": [{"address": "collector"}]}, "'collector' is no IP address"),
        ({"bmp": [{"address": "10.0.0.1"}, {"address": "10.0.0.1"}]}, "station 10.0.0.1:11019 is there twice"),
        ({"mrt": {}}, "neither updates nor table names a file"),
    ],
)
def test_options_that_cannot_be(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_config({"asn": 1} | fields)


def test_nothing_is_on_by_default() -> None:
    config = parse_config({"asn": 1})
    assert (config.bmp, config.mrt, config.metrics) == ((), None, None)
