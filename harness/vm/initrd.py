"""The initial RAM disk: a static busybox, the modules on the way to the disks, and `guest/init`. Made at every start, in a blink."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

BUSYBOX = Path("/usr/bin/busybox")


def dependencies(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """`modules.dep` by module name: the module's file, and the files that it needs."""
    found = {}
    for line in text.splitlines():
        path, _, needs = line.partition(":")
        found[module_name(path)] = (path, tuple(needs.split()))
    return found


def module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


def load_order(wanted: Iterable[str], known: Mapping[str, tuple[str, tuple[str, ...]]]) -> list[str]:
    """The files to load, each after what it needs. A name that is no module is built in."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in known:
            return
        path, needs = known[name]
        for need in needs:
            visit(module_name(need))
        if path not in order:
            order.append(path)

    for name in wanted:
        visit(name)
    return order


def build(modules: Path, wanted: Iterable[str], init: Path, out: Path) -> None:
    """Writes the RAM disk, a cpio archive (busybox loads no compressed module: they are unpacked here)."""
    order = load_order(wanted, dependencies((modules / "modules.dep").read_text()))
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        for folder in ("bin", "modules"):
            (tree / folder).mkdir()
        shutil.copy2(BUSYBOX, tree / "bin/busybox")
        shutil.copy(init, tree / "init")
        (tree / "init").chmod(0o755)
        names = []
        for path in order:
            content = (modules / path).read_bytes()
            names.append(f"{module_name(path)}.ko")
            (tree / "modules" / names[-1]).write_bytes(lzma.decompress(content) if path.endswith(".xz") else content)
        (tree / "modules/order").write_text(" ".join(names) + "\n")
        listed = "\n".join(sorted(str(path.relative_to(tree)) for path in tree.rglob("*")))
        with out.open("wb") as archive:
            subprocess.run(
                ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"],
                cwd=tree,
                input=listed.encode(),
                stdout=archive,
                check=True,
            )
