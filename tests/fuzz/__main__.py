"""``python -m tests.fuzz codec|speaker [FOLDER] [-runs=N ...]``: a target under atheris; libFuzzer's own arguments follow.

FOLDER keeps the corpus; it is filled with what ``corpus`` makes where it is empty. An input that breaks something is left as
``crash-...`` in the current folder; ``python -m tests.fuzz codec crash-...`` runs it again.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["harness.bgp"]):
    from tests.fuzz import corpus, targets


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.stderr.write(f"{__doc__}\ntargets: {', '.join(targets.TARGETS)}\n")
        raise SystemExit(2)
    name = sys.argv.pop(1)
    for argument in sys.argv[1:]:
        folder = Path(argument)
        if not argument.startswith("-") and folder.is_dir() and not any(folder.iterdir()):
            for data in corpus.INPUTS[name]():
                (folder / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)
    atheris.Setup(sys.argv, targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
