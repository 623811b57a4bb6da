"""The machine's root and kernel: built by mmdebstrap once for each state of what goes in, and kept in a folder that git ignores.

An image is a folder: ``root.img`` (ext4), ``vmlinuz``, ``modules/`` of that kernel, ``release`` and ``built`` (seconds). Its name
is its key. Not here: what is in it, which is `guest/bake`'s and `./run`'s own set-up's to decide.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.vm import suites
from harness.vm.job import pack_project
from harness.vm.suites import Suite

KEYED = ("run", "requirements.lock", "pyproject.toml", "harness/vm/guest/bake", "harness/vm/suites.py")
"""The files that decide what is in an image. The rest of the project comes with each job."""

_MIRROR = "VBRLAB_VM_MIRROR"


class NotBuilt(Exception):
    """The image could not be made; the text says at which step and what to do."""


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root.img"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def modules(self) -> Path:
        return self.folder / "modules"

    @property
    def release(self) -> str:
        return (self.folder / "release").read_text().strip()


def key(top: Path, suite: Suite, packages: Sequence[str]) -> str:
    """The name of the image of this project in this state: suite and content decide, not times or places."""
    digest = hashlib.sha256()
    for name in KEYED:
        digest.update(f"{name}\0".encode() + (top / name).read_bytes() + b"\0")
    digest.update("\0".join(sorted(packages)).encode())
    return f"{suite.name}-{digest.hexdigest()[:16]}"


def command(suite: Suite, packages: Sequence[str], bake: Path) -> list[str]:
    """The command that builds: mmdebstrap as root, else in a user namespace; a mirror of the user's own by VBRLAB_VM_MIRROR."""
    mirror = os.environ.get(_MIRROR)
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=auto",
        "--format=null",
        "--variant=minbase",
        "--include=" + ",".join(dict.fromkeys((*packages, *suites.EXTRA_PACKAGES))),
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale", "info")),
        f"--customize-hook={bake}",
        suite.name,
        "-",
        *([mirror] if mirror else []),
    ]


def ready(cache: Path, top: Path, suite: Suite, packages: Sequence[str]) -> Image | None:
    folder = cache / key(top, suite, packages)
    return Image(folder) if (folder / "built").exists() else None


def build(cache: Path, top: Path, suite: Suite, packages: Sequence[str]) -> Image:
    """The image, made if it is not there; earlier ones of the suite go. Raises NotBuilt."""
    if (found := ready(cache, top, suite, packages)) is not None:
        return found
    folder = cache / key(top, suite, packages)
    began = time.monotonic()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{suite.name}-part.", dir=cache) as name:
        part = Path(name)
        part.chmod(0o755)
        with (part / "source.tar").open("wb") as source:
            pack_project(top, source)
        environment = {
            **os.environ,
            "VM_TOP": str(top),
            "VM_SOURCE": str(part / "source.tar"),
            "VM_OUT": str(part),
            "VM_KERNEL": suites.KERNEL_PACKAGE,
            "VM_SIZE": str(suites.ROOT_SIZE),
        }
        status = subprocess.run(
            command(suite, packages, top / "harness/vm/guest/bake"),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=False,
        ).returncode
        if status != 0:
            raise NotBuilt(
                f"no image of {suite.release}: mmdebstrap ended with {status}; what it said is above. It needs root, or user "
                "namespaces with entries for you in /etc/subuid and /etc/subgid (package uidmap); and a way to the Debian "
                f"mirror and the Python packages. Another mirror: {_MIRROR}=URL."
            )
        (part / "source.tar").unlink()
        (part / "built").write_text(f"{time.monotonic() - began:.1f}\n")
        for old in cache.glob(f"{suite.name}-*"):
            if old != part:
                shutil.rmtree(old, ignore_errors=True)
        part.rename(folder)
        part.mkdir()  # for the end of the block to remove
    return Image(folder)
