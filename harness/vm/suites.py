"""What a virtual machine is made of: the Debian suites, the kernel's modules at boot, the disks. Tables only."""

from __future__ import annotations

from dataclasses import dataclass

PROJECT = "/vbrlab"
"""Where the project lives in the machine. Its ``.venv`` is baked in, the rest comes with each job."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A Debian release: what it brings that the labs rely on."""

    name: str
    release: str
    kernel: str
    python: str
    strongswan: str

    def text(self) -> str:
        return f"{self.release}: kernel {self.kernel}, Python {self.python}, strongSwan {self.strongswan}"


SUITES = {
    suite.name: suite
    for suite in (
        Suite("bookworm", "Debian 12", "6.1", "3.11", "5.9"),
        Suite("trixie", "Debian 13", "6.12", "3.13", "6.0"),
    )
}

KERNEL_PACKAGE = "linux-image-cloud-amd64"
"""Depends on the package of the present kernel, which is unpacked and not installed: no initramfs-tools, no boot loader."""

EXTRA_PACKAGES = ("kmod", "tcpdump", "procps")
"""Beside what `run`'s tables name: modules on demand, and two programs for whoever looks around by ``--shell``."""

BOOT_MODULES = ("virtio_pci", "virtio_blk", "virtio_rng", "crc32c_generic", "ext4")
"""What the kernel needs to reach its disks, with all that these depend on. What is built in is left out."""

LAB_MODULES = ("tun", "veth", "dummy", "vrf", "xfrm_interface", "esp4", "esp6", "sch_netem", "sch_tbf")
"""Loaded at the start: inside a user namespace nothing is loaded on demand, and the labs are to find the kernel as it can be."""

# Sizes in MiB; the files are sparse.
ROOT_SIZE = 4096
RESULT_SIZE = 2048
