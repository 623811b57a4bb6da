"""The image's key, the modules' order, QEMU's command line: pure, without a machine."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.vm import cli, image, initrd, machine, suites

TOP = Path(__file__).resolve().parents[2]
BOOKWORM = suites.SUITES["bookworm"]

MODULES_DEP = """\
kernel/lib/crc16.ko:
kernel/fs/jbd2/jbd2.ko: kernel/lib/crc16.ko
kernel/fs/mbcache.ko.xz:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko kernel/fs/mbcache.ko.xz
kernel/drivers/virtio/virtio-pci.ko:
"""


def test_each_module_is_loaded_after_what_it_needs_and_once() -> None:
    known = initrd.dependencies(MODULES_DEP)
    assert initrd.load_order(("virtio_pci", "built_in", "ext4", "jbd2"), known) == [
        "kernel/drivers/virtio/virtio-pci.ko",
        "kernel/lib/crc16.ko",
        "kernel/fs/jbd2/jbd2.ko",
        "kernel/fs/mbcache.ko.xz",
        "kernel/fs/ext4/ext4.ko",
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in (*image.KEYED, "pyproject.toml", "run", "harness/vm/suites.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, tmp_path / name)
    return tmp_path


def options_by_run(project: Path) -> argparse.Namespace:
    """What `./run vm` hands over of its own tables and functions."""
    (project / "python").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (project / "python").chmod(0o755)
    asked = ". ./run; python=$PWD/python; find_missing() { missing=(); }; run_vm"
    told = subprocess.run(["bash", "-c", asked], cwd=project, capture_output=True, text=True, check=True).stdout
    return cli.parser().parse_args(told.splitlines()[2:])


def key_by_run(project: Path) -> str:
    options = options_by_run(project)
    return image.Parts(project, BOOKWORM, options.packages.split(), options.recipe).key()


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (
            "requirements.lock",
            "\naiohttp==",
            "\naiohttp ==",
        ),
        ("harness/vm/guest/bake", "set -eu", "set -e"),
        ("pyproject.toml", '  "vici>=6.0.3",', '  "vici>=6.0.4",'),
        ("pyproject.toml", "[tool.setuptools.package-data]", "[tool.setuptools.other]"),
        ("run", '  "nftables|', '  "nftables-of-another-name|'),
        ("run", "editable_mode=compat", "editable_mode=strict"),
        ("run", "--no-input", "--no-input --no-cache"),
    ],
)
def test_a_change_of_what_goes_into_an_image_is_another_image(project: Path, name: str, old: str, new: str) -> None:
    before = key_by_run(project)
    assert key_by_run(project) == before
    changed(project / name, old, new)
    assert key_by_run(project) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run", "usage: ./run COMMAND", "usage of this: ./run COMMAND"),
        ("run", 'gobgp_needs=("gobgpd|gobgpd|', 'gobgp_needs=("gobgpd-2|gobgpd|'),
        ("pyproject.toml", "line-length = 120", "line-length = 100"),
        ("pyproject.toml", "timeout = 120", "timeout = 60"),
        ("harness/vm/suites.py", "RESULT_SIZE = 2048", "RESULT_SIZE = 1024"),
    ],
)
def test_a_change_of_anything_else_is_the_same_image(project: Path, name: str, old: str, new: str) -> None:
    before = key_by_run(project)
    changed(project / name, old, new)
    assert key_by_run(project) == before


def test_suite_and_packages_are_in_the_key(project: Path) -> None:
    keys = {
        image.Parts(project, suite, packages).key()
        for suite in suites.SUITES.values()
        for packages in (["python3"], ["python3", "cpio"])
    }
    assert len(keys) == 4


def test_a_finished_image_is_not_built_again(project: Path) -> None:
    cache, parts = project / "cache", image.Parts(project, BOOKWORM)
    folder = cache / parts.key()
    folder.mkdir(parents=True)
    assert image.ready(cache, parts) is None
    (folder / "built").touch()
    assert image.build(cache, parts).root == folder / "root.img"


MMDEBSTRAP = """\
#!/bin/sh
# Stands for a build that hangs: a mount and a file in its folder for temporary ones, as mmdebstrap has them, and a process of its own.
mkdir "$TMPDIR/root" && mount -t tmpfs left "$TMPDIR/root" && touch "$TMPDIR/file"
sleep 1000 &
readlink /proc/self/ns/mnt >"$VM_OUT/../mounts" && echo built >"$VM_OUT/../hangs" && wait
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts as root")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_ended_leaves_no_mount_and_no_process(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    cache, bin_ = tmp_path / "cache", tmp_path / "bin"
    cache.mkdir()
    bin_.mkdir()
    (bin_ / "mmdebstrap").write_text(MMDEBSTRAP)
    (bin_ / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    os.mkfifo(cache / "hangs")
    mounts = Path("/proc/self/mounts").read_text()
    words = [sys.executable, "-m", "harness.vm.cli", "--build", "--cache", str(cache)]
    # The pipe's other end is held by everything that the build starts: it ends when the last of them has.
    builder = subprocess.Popen(
        words, cwd=project, env={**os.environ, "PYTHONPATH": str(TOP)}, stderr=subprocess.PIPE, text=True
    )
    assert (cache / "hangs").read_text() == "built\n"
    builder.send_signal(number)
    killed = number is signal.SIGKILL
    assert builder.wait() == (-number if killed else 128 + number)
    assert builder.stderr is not None
    builder.stderr.read()
    assert Path("/proc/self/mounts").read_text() == mounts
    assert (cache / "mounts").read_text() != f"{Path('/proc/self/ns/mnt').readlink()}\n"
    assert bool(list(cache.glob("bookworm-part.*"))) == killed, "only one that is killed has no time to tidy up"
    (bin_ / "mmdebstrap").write_text("#!/bin/sh\nexit 0\n")
    image.build(cache, image.Parts(project, BOOKWORM))
    assert not list(cache.glob("bookworm-part.*"))


def test_every_package_of_a_lab_is_in_the_image_and_a_mirror_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VBRLAB_VM_MIRROR", "http://mirror.example/debian")
    words = image.command(BOOKWORM, ["python3", "iproute2"], Path("/bake"))
    (include,) = (word for word in words if word.startswith("--include="))
    assert {"python3", "iproute2", "kmod"} <= set(include.removeprefix("--include=").split(","))
    assert words[-3:] == ["bookworm", "-", "http://mirror.example/debian"]


def kernel_line(accelerator: machine.Accelerator, append: str = "") -> list[str]:
    words = machine.Machine(Path("vmlinuz"), Path("initrd"), (), Path("log")).command(accelerator, append)
    return words[words.index("-append") + 1].split()


def test_addresses_stay_where_code_is_translated_and_nowhere_else() -> None:
    assert {"norandmaps", "clocksource=tsc", "mitigations=off"} <= set(kernel_line(machine.TCG))
    assert kernel_line(machine.KVM) == ["console=ttyS0", "quiet", "panic=-1", "mitigations=off"]
    assert kernel_line(machine.KVM, "vbrlab.probe") == [*kernel_line(machine.KVM), "vbrlab.probe"]


def test_the_root_is_never_written_to_and_there_is_no_network() -> None:
    disks = (Path("root.img"), Path("job.tar"), Path("results"))
    words = machine.Machine(Path("vmlinuz"), Path("initrd"), disks, Path("log")).command(machine.TCG)
    drives = [word for word in words if word.startswith("if=virtio")]
    assert ["snapshot=on" in drive for drive in drives] == [True, False, False]
    assert "-nodefaults" in words
    assert not [word for word in words if "net" in word]


def test_the_programs_of_every_lab_are_in_the_image(project: Path) -> None:
    told = subprocess.run(
        ["bash", "-c", '. ./run; printf "%s\n" "${lab_needs[@]%%|*}"'],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"nftables", "charon-systemd", "iproute2"} <= set(told) <= set(options_by_run(project).packages.split())
