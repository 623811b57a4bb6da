"""The Monitor tab from readings: a table, Prometheus' text, rates for the chart."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import monitor
from harness.control import ControlServer, EventLog
from harness.monitor import Reading, chart_of, prometheus, readings, text
from reports.charts import chart

FIRST = Reading(
    100.0, "vpn1", "IPsec-VPN Connection 1", "up", "ipsec_sa_established", None, "Established", 1000, 10, 500, 5, 1
)
FAILED = Reading(100.0, "vpn2", "2", "failed", "ike_sa_not_established", "AUTHENTICATION_FAILED", None, 0, 0, 0, 0, 0)


def test_the_table_has_a_row_for_each_end() -> None:
    shown = text([FIRST, FAILED]).splitlines()
    assert shown[0].split() == ["NODE", "CONNECTION", "SA", "BGP", "IN", "OUT", "REKEYS"]
    assert "10 packets, 1000 bytes" in shown[1]
    assert "ike_sa_not_established (AUTHENTICATION_FAILED)  -" in shown[2]


def test_the_metrics_are_prometheus() -> None:
    families = {family.name: family for family in text_string_to_metric_families(prometheus([FIRST, FAILED]).decode())}
    values = {
        (
            sample.name,
            *(sample.labels[key] for key in ("node", "direction", "state") if key in sample.labels),
        ): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert values["vbrlab_ipsec_bytes_total", "vpn1", "in"] == 1000
    assert values["vbrlab_ipsec_packets_total", "vpn1", "out"] == 5
    assert values["vbrlab_ipsec_rekeys_total", "vpn1"] == 1
    assert values["vbrlab_ipsec_up", "vpn2"] == 0
    assert values["vbrlab_ipsec_state", "vpn2", "ike_sa_not_established"] == 1
    assert values["vbrlab_ipsec_bgp_up", "vpn1"] == 1
    assert ("vbrlab_ipsec_bgp_up", "vpn2") not in values


def test_the_chart_has_rates_and_what_starts_anew_is_no_negative_traffic() -> None:
    later = replace(FIRST, time=102.0, bytes_in=3000, bytes_out=1500)
    restarted = replace(FIRST, time=103.0, bytes_in=0, bytes_out=0, rekeys=0)
    item = chart_of("title", [[FIRST], [later], [restarted]], [(101.0, "rekey")])
    assert item.series == {"vpn1 in": ((0.0, 8.0), (2.0, 0.0)), "vpn1 out": ((0.0, 4.0), (2.0, 0.0))}
    assert item.marks == ({"t": 1.0, "label": "rekey"},)
    assert item.states == (("vpn1", "ipsec_sa_established", "Established", "0"),)
    drawn = chart(item, "monitor-1")
    assert "BGP Established" in drawn.wide
    assert "kbit/s" in drawn.wide


async def test_readings_come_from_the_daemons_sockets(tmp_path: Path) -> None:
    crossed = {"bytes_in": 7, "packets_in": 1, "bytes_out": 9, "packets_out": 2}

    def status() -> dict[str, Any]:
        return {
            "node": "gw1", "tunnel": "t", "state": "up", "console": "ipsec_sa_established", "reason": None,
            "address": "169.254.10.2/30",
        }  # fmt: skip

    folder = tmp_path / "gw1"
    folder.mkdir()
    (tmp_path / "gw2").mkdir()
    (tmp_path / "gw2" / "ipsec.sock").touch()  # a daemon that is gone
    agent = ControlServer(
        folder / "ipsec.sock",
        {"show.status": status, "counters": lambda: {"time": 5.0, "interface": crossed, "rekeys": 3}},
        EventLog(),
    )
    speaker = ControlServer(
        folder / "bgp.sock",
        {
            "show.neighbors": lambda: [
                {"address": "192.168.50.215", "state": "Idle"},
                {"address": "169.254.10.1", "state": "Active"},
            ]
        },
        EventLog(),
    )
    await agent.start()
    await speaker.start()
    try:
        (found,) = await readings(tmp_path)
        assert (found.node, found.bgp, found.bytes_in, found.packets_out, found.rekeys) == ("gw1", "Active", 7, 2, 3)
    finally:
        await agent.close()
        await speaker.close()


def test_without_a_connection_the_answer_is_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert monitor.main(["--folder", str(tmp_path), "--json"]) == 1
    assert capsys.readouterr().out == "[]\n"
    assert monitor.main(["--folder", str(tmp_path), "--count", "9"]) == 1
    assert capsys.readouterr() == ("", "vbrlab: no IPsec connection in this lab\n")
    assert asyncio.run(readings(tmp_path)) == []


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """As ``vbrlab monitor NAME --json | head -1``."""
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "harness.monitor", "--folder", str(tmp_path), "--json", "--count", "2"]
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
