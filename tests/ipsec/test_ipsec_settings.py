"""The hand-over of a tunnel and its key to the agent's process."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from harness.ipsec.settings import Retry, Settings, SettingsError
from harness.ipsec.strongswan import DataPlane, TunnelError
from harness.plan import Esp, Ike
from tests.ipsec.ends import KEY, tunnel


def settings(directory: Path, **changes: object) -> Settings:
    values: dict[str, object] = {
        "node": "gw1",
        "tunnel": tunnel(ike=Ike(lifetime=60), esp=Esp(pfs=None)),
        "plane": DataPlane.LIBIPSEC,
        "directory": directory,
        "socket": directory / "ipsec.sock",
        "retry": Retry(first=0.5),
    }
    return Settings(**values | changes)  # type: ignore[arg-type]


def test_what_is_handed_over_is_what_arrives_and_nothing_stays(tmp_path: Path) -> None:
    given = settings(tmp_path)
    path = tmp_path / "hand-over"
    assert given.hand_over(path) == ["--config", str(path), "--consume"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Settings.read(path) == given
    assert Settings.read(path, consume=True) == given
    assert not path.exists()


def test_a_file_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hand-over"
    settings(tmp_path).hand_over(path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match=r"others may read it .* chmod 600"):
        Settings.read(path)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda content: content.pop("plane"), "KeyError: 'plane'"),
        (lambda content: content.update(extra=1), "extra"),
        (lambda content: content["tunnel"].update(extra=1), "extra"),
    ],
)
def test_a_damaged_file_is_refused_without_its_key(tmp_path: Path, damage: object, text: str) -> None:
    path = tmp_path / "hand-over"
    settings(tmp_path).hand_over(path)
    content = json.loads(path.read_text())
    assert callable(damage)
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SettingsError, match=text) as caught:
        Settings.read(path)
    assert KEY not in str(caught.value)


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    assert KEY not in repr(settings(tmp_path))


def test_settings_refuse_what_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(TunnelError, match="MTU"):
        settings(tmp_path, tunnel=tunnel(mtu=9000))
    with pytest.raises(SettingsError, match="beyond that it logs keys"):
        settings(tmp_path, log_level=4)


def test_retries_are_bounded() -> None:
    retry = Retry(first=0.1, factor=2.0, longest=1.0)
    delays, delay = [], None
    for _ in range(6):
        delay = retry.after(delay)
        delays.append(delay)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
