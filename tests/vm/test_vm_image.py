"""The image's key, the modules' order, QEMU's command line: pure, without a machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.vm import image, initrd, machine, suites

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
    for name in image.KEYED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", image.KEYED)
def test_a_change_of_what_goes_into_an_image_is_another_image(project: Path, name: str) -> None:
    before = image.key(project, BOOKWORM, ["python3"])
    assert image.key(project, BOOKWORM, ["python3"]) == before
    with (project / name).open("a") as file:
        file.write("\n")
    assert image.key(project, BOOKWORM, ["python3"]) != before


def test_suite_and_packages_are_in_the_key(project: Path) -> None:
    keys = {
        image.key(project, suite, packages)
        for suite in suites.SUITES.values()
        for packages in (["python3"], ["python3", "cpio"])
    }
    assert len(keys) == 4


def test_a_finished_image_is_not_built_again(project: Path) -> None:
    cache = project / "cache"
    folder = cache / image.key(project, BOOKWORM, [])
    folder.mkdir(parents=True)
    assert image.ready(cache, project, BOOKWORM, []) is None
    (folder / "built").touch()
    assert image.build(cache, project, BOOKWORM, []).root == folder / "root.img"


def test_every_package_of_a_lab_is_in_the_image_and_a_mirror_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VBRLAB_VM_MIRROR", "http://mirror.example/debian")
    words = image.command(BOOKWORM, ["python3", "iproute2"], Path("/bake"))
    (include,) = (word for word in words if word.startswith("--include="))
    assert {"python3", "iproute2", "kmod"} <= set(include.removeprefix("--include=").split(","))
    assert words[-3:] == ["bookworm", "-", "http://mirror.example/debian"]


def test_the_root_is_never_written_to_and_there_is_no_network() -> None:
    disks = (Path("root.img"), Path("job.tar"), Path("results"))
    words = machine.Machine(Path("vmlinuz"), Path("initrd"), disks, Path("log")).command(machine.TCG)
    drives = [word for word in words if word.startswith("if=virtio")]
    assert ["snapshot=on" in drive for drive in drives] == [True, False, False]
    assert "-nodefaults" in words
    assert not [word for word in words if "net" in word]
