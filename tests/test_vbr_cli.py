"""``vbrlab up FILE`` and ``vbrlab vbr``, as a user has them: one terminal with the prompt, another one with the console."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.net import sandbox
from tests.test_up import VBRLAB, Terminal, vbrlab

DOCUMENT = """\
vbr:
  name: NAME
  ecr: {asn: 64600}
  groups:
    - {name: idc, peer_asn: 65010, key: "s3cret-4711"}
  peers:
    - {group: idc, ip: 10.1.1.2, bfd: {hop_count: 1}}
  networks: [172.16.0.0/16]
  circuits:
    - {name: circuit-1}
    - {name: circuit-2}
"""


class TestWithoutALab:
    """What needs no running lab."""

    def test_a_sound_document(self, tmp_path: Path) -> None:
        file = tmp_path / "circuit.yaml"
        file.write_text(DOCUMENT.replace("NAME", "vbr"))
        done = CliRunner().invoke(app, ["validate", str(file)])
        assert (done.exit_code, done.output) == (0, f"{file}: 0 errors, 0 warnings\n")

    def test_errors_and_warnings_stand_apart(self, tmp_path: Path) -> None:
        file = tmp_path / "circuit.yaml"
        text = DOCUMENT.replace("  ecr: {asn: 64600}\n", "").replace("{hop_count: 1}", "true").replace("65010", "0")
        file.write_text(text.replace("NAME", "vbr"))
        done = CliRunner().invoke(app, ["validate", str(file)])
        errors, warnings, _ = done.output.split("\n\n")
        assert done.exit_code == 1
        assert errors.startswith(f"{file}:4:29: error: BGP group idc of VBR vbr: peer ASN 0")
        assert "(VBR-13)" in warnings
        assert done.output.endswith(f"{file}: 1 error, 2 warnings\n")
        done = CliRunner().invoke(app, ["validate", str(file), "--json"])
        said = json.loads(done.output)
        assert (done.exit_code, said["valid"], len(said["errors"]), len(said["warnings"])) == (1, False, 1, 2)
        assert (said["errors"][0]["line"], said["errors"][0]["column"], said["errors"][0]["spec"]) == (4, 29, "VBR-4")

    def test_standard_input(self) -> None:
        done = CliRunner().invoke(app, ["validate", "-"], input="vbr: {}\n")
        assert (done.exit_code, done.output) == (0, "-: 0 errors, 0 warnings\n")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["validate", "no-such-file.yaml"], "neither a file nor a scenario"),
            (["validate", "/"], "cannot be read: Is a directory"),
            (["up", "no-such-file.yaml"], "neither a file nor a scenario"),
            (["up", "-"], "must be a file"),
            (["schema", "vrb"], "no kind of document 'vrb'; there are vbr"),
            (["vbr", "--help-me"], ""),
            (["vbr", "group", "modify", "idc"], "nothing to modify"),
            (["vbr", "group", "modify", "idc", "--no-key", "--key-file", "x"], "contradict each other"),
            (["vbr", "group", "create", "idc", "--peer-asn", "1", "--key-file", "/no/such"], "No such file"),
        ],
    )
    def test_wrong_usage(self, arguments: list[str], words: str) -> None:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2, done.output
        assert words in done.output

    def test_no_utf8(self, tmp_path: Path) -> None:
        file = tmp_path / "latin.yaml"
        file.write_bytes(b"vbr:\n  name: \xe4\n")
        done = CliRunner().invoke(app, ["validate", str(file)])
        assert (done.exit_code, "line 2: no UTF-8" in done.output) == (2, True)

    def test_a_document_with_errors_is_not_brought_up(self, tmp_path: Path) -> None:
        file = tmp_path / "circuit.yaml"
        file.write_text(DOCUMENT.replace("NAME", "a/b"))
        done = CliRunner().invoke(app, ["up", str(file)])
        assert done.exit_code == 1
        assert f"{file}:2:9: error: VBR a/b: 'a/b' cannot be the name of a node" in done.output

    def test_the_schema_is_json(self) -> None:
        done = CliRunner().invoke(app, ["schema", "vbr"])
        assert list(json.loads(done.output)["properties"]) == ["vbr"]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    if why := sandbox.refusal():
        pytest.skip(f"no sandbox can be made here: {why}")
    file = tmp_path_factory.mktemp("up") / "circuit.yaml"
    file.write_text(DOCUMENT.replace("NAME", "vbr-cli"))
    terminal = Terminal([*VBRLAB, "up", str(file)])
    terminal.expect("vbr-cli> ")
    yield terminal
    terminal.say("\x04")
    assert terminal.status() == 0


def ask(up: Terminal, *words: str, status: int = 0) -> str:
    done = vbrlab("vbr", *words, "--lab", f"vbr-cli-{up.pid}")
    assert done.returncode == status, done.stdout + done.stderr
    assert "4711" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.root
@pytest.mark.timeout(90)
class TestInALab:
    """One lab for all; each test leaves it as it was."""

    @pytest.mark.spec("VBR-14", "VBR-29", "VBR-9")
    def test_pages(self, up: Terminal) -> None:
        (row,) = json.loads(ask(up, "status", "--json"))
        assert (row["peer"], row["status"], row["circuit"], row["local_asn"]) == (
            "10.1.1.2",
            "Established",
            "circuit-1",
            64600,
        )
        assert "MP-BGP supported" in ask(up, "details")
        assert json.loads(ask(up, "group", "list", "--json"))[0]["key"] is True
        assert ask(up, "network", "list") == "network\n172.16.0.0/16\n"

    @pytest.mark.spec("VBR-12", "VBR-24", "VBR-25")
    def test_a_peer_comes_and_goes(self, up: Terminal) -> None:
        assert ask(up, "peer", "create", "10.1.2.2", "--group", "idc") == "BGP peer 10.1.2.2 of VBR vbr-cli: created\n"
        assert [row["peer"] for row in json.loads(ask(up, "peer", "list", "--json"))] == ["10.1.1.2", "10.1.2.2"]
        warned = ask(up, "peer", "modify", "10.1.2.2", "--bfd")
        assert "warning: BGP peer 10.1.2.2 of VBR vbr-cli: BFD hop count 255" in warned
        refused = ask(up, "peer", "modify", "10.1.2.2", "--bfd-hop-count", "256", status=1)
        assert "(VBR-12)" in refused
        ask(up, "peer", "modify", "10.1.2.2", "--no-bfd")
        ask(up, "peer", "delete", "10.1.2.2")
        assert [row["peer"] for row in json.loads(ask(up, "status", "--json"))] == ["10.1.1.2"]

    @pytest.mark.spec("VBR-3", "VBR-24", "VBR-27", "VBR-42")
    def test_a_refusal_changes_nothing(self, up: Terminal) -> None:
        before = ask(up, "group", "list", "--json"), ask(up, "network", "list", "--json")
        for words, spec in (
            (("group", "delete", "idc"), "VBR-24"),
            (("group", "modify", "idc", "--local-asn", "64700"), "VBR-27"),
            (("group", "create", "idc", "--peer-asn", "65010"), "VBR-25"),
            (("group", "create", "six", "--peer-asn", "65010", "--protocol", "IPv6"), "VBR-8"),
            (("group", "create", "seven", "--peer-asn", "65010", "--protocol", "IPv7"), "VBR-8"),
            (("peer", "create", "10.1.9.2", "--group", "idc"), "VBR-1"),
            (("peer", "delete", "10.1.9.2"), "VBR-24"),
            (("network", "add", "10.0.0.0/8"), "VBR-42"),
            (("network", "delete", "10.0.0.0/8"), "VBR-24"),
            (("ecr", "associate", "ecr"), "VBR-6"),
        ):
            said = json.loads(ask(up, *words, "--json", status=1))
            assert [finding["spec"] for finding in said["refused"]][:1] == [spec], said
            assert all(finding["object"] and finding["remedy"] for finding in said["refused"])
        assert before == (ask(up, "group", "list", "--json"), ask(up, "network", "list", "--json"))

    @pytest.mark.spec("VBR-9", "VBR-24")
    def test_a_key_comes_from_standard_input(self, up: Terminal) -> None:
        command = [*VBRLAB, "vbr", "group", "create", "keyed", "--peer-asn", "65011", "--key-file", "-"]
        done = subprocess.run(
            [*command, "--lab", f"vbr-cli-{up.pid}"],
            input="other-4711\n",
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parent.parent,
        )
        assert (done.returncode, done.stdout) == (0, "BGP group keyed of VBR vbr-cli: created\n")
        groups = {group["name"]: group for group in json.loads(ask(up, "group", "list", "--json"))}
        assert groups["keyed"]["key"] is True
        ask(up, "group", "modify", "keyed", "--no-key")
        groups = {group["name"]: group for group in json.loads(ask(up, "group", "list", "--json"))}
        assert groups["keyed"]["key"] is False
        ask(up, "group", "delete", "keyed")

    @pytest.mark.spec("VBR-22", "VBR-23")
    def test_a_cut_line_is_an_event_and_an_alert(self, up: Terminal) -> None:
        """A follower in a third terminal hears of it as it happens, and that it is over."""
        if shutil.which("ip") is None:
            pytest.skip("ip is not installed: apt install --no-install-recommends iproute2")
        before = vbrlab("vbr", "events", "--lab", f"vbr-cli-{up.pid}")
        assert (before.stdout, before.stderr) == ("", "no events so far\n")
        follower = Terminal([*VBRLAB, "vbr", "events", "--follow", "--lab", f"vbr-cli-{up.pid}"])
        up.say("vbr-cli ip link set circuit1 down\n")
        assert "Warning" in follower.expect("BgpPeerStatus:Down")
        up.say("vbr-cli ip link set circuit1 up\n")
        follower.expect("cleared")
        follower.expect("the peer is Established")
        follower.say("\x03")
        assert follower.status() == 0
        event, over = (json.loads(line) for line in ask(up, "events", "--json").splitlines())
        assert (event["level"], event["content"]["peer"], over["cleared"]) == ("Warning", "10.1.1.2", True)
        assert "every BgpPeerStatus:Down" in ask(up, "alerts")

    def test_a_lab_that_does_not_run_is_named(self) -> None:
        done = vbrlab("vbr", "status", "--lab", "no-such-lab")
        assert (done.returncode, "no lab 'no-such-lab' is running" in done.stderr) == (1, True)
