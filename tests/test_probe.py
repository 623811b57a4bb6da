"""The probe: the table is whole, what is missing is explained, and trying leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from pathlib import Path

import pytest

from harness import probe as probing
from harness import trials
from harness.ipsec.strongswan import DataPlane
from harness.probe import FEATURES, Feature, Finding, Findings, lines, markdown, probe


def findings(*missing: str) -> Findings:
    return Findings(
        Finding(feature, feature.name not in missing, "not today" if feature.name in missing else "")
        for feature in FEATURES
    )


def test_every_feature_has_its_trial_and_every_trial_its_feature() -> None:
    assert {feature.name for feature in FEATURES} == {*trials.TRIALS, "libipsec"}
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_row_is_filled(feature: Feature) -> None:
    assert all((feature.title, feature.purpose, feature.how, feature.without, feature.remedy))
    assert "|" not in "".join((feature.title, feature.purpose, feature.how, feature.without, feature.remedy))


def test_trying_leaves_nothing_and_touches_nothing() -> None:
    def state() -> tuple[object, ...]:
        return (
            sorted(path.name for path in Path("/proc/self/fd").iterdir()),
            Path("/proc/self/net/dev").read_text().count("\n"),
            Path("/proc/self/mountinfo").read_text(),
            sorted(Path("/tmp").glob("tmp*")),
            Path("/proc/self/ns/net").readlink(),
            Path("/proc/sys/net/ipv4/fib_multipath_hash_policy").read_text(),
        )

    before = state()
    probe.cache_clear()
    found = probe()
    assert state() == before
    assert len(found) == len(FEATURES)
    assert found["python"].ok
    for finding in found.values():
        assert finding.ok != bool(finding.reason)


def test_a_trial_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_TIME_OUT", 0.2)
    monkeypatch.setattr(trials, "enter_scratch", lambda: None)
    reading, _writing = os.pipe()
    monkeypatch.setitem(trials.TRIALS, "namespaces", lambda: {"read": os.read(reading, 1)})
    probe.cache_clear()
    found = probe()
    assert found["python"].ok
    assert (found["namespaces"].ok, found["namespaces"].reason) == (False, "no answer within 0.2 s")
    probe.cache_clear()


def test_a_machine_without_namespaces_says_so_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(trials, "enter_scratch", refuse)
    probe.cache_clear()
    found = probe()
    assert {finding.reason for finding in found.values()} == {"Operation not permitted (EPERM)"}
    probe.cache_clear()


def test_a_project_below_tmp_is_still_found_when_the_scratch_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for step in ("unshare", "_map_to_root", "_furnish"):
        monkeypatch.setattr(trials, step, lambda *_: None)
    monkeypatch.delitem(sys.modules, "mininet", raising=False)
    trials.enter_scratch()
    with monkeypatch.context() as hidden:
        hidden.setattr(sys, "path", [])
        assert trials.mininet() == {}


def test_the_kernel_plane_is_taken_where_it_is_whole() -> None:
    assert findings().dataplane().plane is DataPlane.XFRM
    assert findings("tun").dataplane().plane is DataPlane.XFRM
    assert findings("esp").dataplane().plane is DataPlane.LIBIPSEC
    assert findings("xfrm-interface").dataplane().plane is DataPlane.LIBIPSEC


def test_no_plane_names_what_each_lacks() -> None:
    choice = findings("esp", "tun").dataplane()
    assert choice.plane is None
    assert choice.reason == "xfrm lacks ESP in the kernel (not today); libipsec lacks TUN devices (not today)"


def test_a_plane_asked_for_is_that_one_or_none() -> None:
    assert findings().dataplane(DataPlane.LIBIPSEC).plane is DataPlane.LIBIPSEC
    refused = findings("esp").dataplane(DataPlane.XFRM)
    assert (refused.plane, refused.reason) == (None, "xfrm lacks ESP in the kernel (not today)")


def test_what_is_shown() -> None:
    shown = lines(findings("netem"))
    index = next(i for i, line in enumerate(shown) if line.startswith("  --"))
    assert "netem queues" in shown[index] and shown[index].endswith("not today")
    assert "without it: delay, jitter and loss are refused" in shown[index + 1]
    assert "remedy: a kernel with CONFIG_NET_SCH_NETEM" in shown[index + 2]
    assert sum(line.startswith("  ok") for line in shown) == len(FEATURES) - 1
    assert shown[-1].startswith("  IPsec data plane: xfrm")
    assert len(lines(findings("netem"), missing_only=True)) == 4


def test_json_and_markdown_hold_every_row() -> None:
    told = json.loads(findings("netem").to_json())
    assert [row["name"] for row in told if not row["ok"]] == ["netem"]
    rows = markdown().splitlines()
    assert len(rows) == len(FEATURES) + 2
    assert all(row.count("|") == 6 for row in rows)


def test_an_esp_state_is_laid_out_as_the_kernel_reads_it() -> None:
    """uapi/linux/xfrm.h on a 64-bit machine: xfrm_usersa_info has 224 octets, its family at 212, attributes behind it."""
    body = trials.esp_state().body
    family, mode, replay_window = struct.unpack_from("=HBB", body, 212)
    assert (family, mode, replay_window) == (socket.AF_INET, 1, 32)
    assert body[56:60] == socket.inet_aton("192.0.2.2")
    assert (body[72:76], body[76]) == (b"\0\0\x10\0", socket.IPPROTO_ESP)
    assert body[80:84] == socket.inet_aton("192.0.2.1")
    assert body[228:238] == b"hmac(sha1)"
