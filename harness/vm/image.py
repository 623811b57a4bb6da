"""The machine's root and kernel: built by mmdebstrap once for each state of what goes in, and kept in a folder that git ignores.

An image is a folder: ``root.img`` (ext4), ``vmlinuz``, ``modules/`` of that kernel, ``release`` and ``built`` (seconds). Its name
is its key. Not here: what is in it, which is `guest/bake`'s and `./run`'s own set-up's to decide.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.vm import suites
from harness.vm.child import die_with_parent
from harness.vm.job import pack_project
from harness.vm.suites import Suite

KEYED = ("requirements.lock", "harness/vm/guest/bake")
"""The files that decide as a whole what is in an image. The rest of the project comes with each job."""

KEYED_TABLES = (("build-system",), ("project",), ("tool", "setuptools"))
"""Of pyproject.toml: what the installation of the project reads. The others are for tools that come with no image."""

_MIRROR = "VBRLAB_VM_MIRROR"

_ALONE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
"""What runs a command so that its processes and mounts end with it, whatever ends it."""


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


@dataclass(frozen=True, slots=True)
class Parts:
    """What an image is made of: the project in ``top``, Debian packages of a suite, and ``recipe``, a word for how ./run makes .venv."""

    top: Path
    suite: Suite
    packages: Sequence[str] = ()
    recipe: str = ""

    def key(self) -> str:
        """The name of the image: suite and content decide, not times, places or mirrors."""
        digest = hashlib.sha256()
        for name in KEYED:
            digest.update(f"{name}\0".encode() + (self.top / name).read_bytes() + b"\0")
        settings = tomllib.loads((self.top / "pyproject.toml").read_text())
        for path in KEYED_TABLES:
            table = functools.reduce(lambda inside, name: inside.get(name, {}), path, settings)
            digest.update(json.dumps(table, sort_keys=True).encode() + b"\0")
        debian = (*sorted(self.packages), *suites.EXTRA_PACKAGES, suites.KERNEL_PACKAGE, str(suites.ROOT_SIZE))
        digest.update("\0".join((*debian, self.recipe)).encode())
        return f"{self.suite.name}-{digest.hexdigest()[:16]}"


def command(suite: Suite, packages: Sequence[str], bake: Path, *, alone: bool = False) -> list[str]:
    """The command that builds: mmdebstrap as root, else in a user namespace; a mirror of the user's own by VBRLAB_VM_MIRROR.

    ``alone``, for root: in mount and PID namespaces that end with it. In a user namespace mmdebstrap has its own.
    """
    mirror = os.environ.get(_MIRROR)
    return [
        *(_ALONE if alone else ()),
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


def ready(cache: Path, parts: Parts) -> Image | None:
    folder = cache / parts.key()
    return Image(folder) if (folder / "built").exists() else None


def build(cache: Path, parts: Parts) -> Image:
    """The image, made if it is not there; earlier ones of the suite go, and what a build that was killed has left. Raises NotBuilt."""
    if (found := ready(cache, parts)) is not None:
        return found
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:  # one build at a time; it ends with the process
        fcntl.flock(lock, fcntl.LOCK_EX)
        return ready(cache, parts) or _build(cache, parts)


def _build(cache: Path, parts: Parts) -> Image:
    top, suite = parts.top, parts.suite
    folder = cache / parts.key()
    began = time.monotonic()
    for left in (*cache.glob("*-part.*"), *cache.glob(folder.name)):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{suite.name}-part.", dir=cache) as name:
        part = Path(name)
        part.chmod(0o755)
        scratch = part / "tmp"
        scratch.mkdir()
        scratch.chmod(0o1777)
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
        root = os.geteuid() == 0
        if root:  # others may not be let in to where the cache is
            environment["TMPDIR"] = str(scratch)
        status = subprocess.run(
            command(suite, parts.packages, top / "harness/vm/guest/bake", alone=root),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            preexec_fn=die_with_parent(),
            check=False,
        ).returncode
        if status != 0:
            raise NotBuilt(
                f"no image of {suite.release}: mmdebstrap ended with {status}; what it said is above. It needs root, or user "
                "namespaces with entries for you in /etc/subuid and /etc/subgid (package uidmap); and a way to the Debian "
                f"mirror and the Python packages. Another mirror: {_MIRROR}=URL."
            )
        (part / "source.tar").unlink()
        shutil.rmtree(scratch)
        (part / "built").write_text(f"{time.monotonic() - began:.1f}\n")
        for old in cache.glob(f"{suite.name}-*"):
            if old != part:
                shutil.rmtree(old, ignore_errors=True)
        part.rename(folder)
        part.mkdir()  # for the end of the block to remove
    return Image(folder)
