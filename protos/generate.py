"""Write `generated/` from the contract: messages, services and their type stubs.

`python protos/generate.py` writes in place. With `--check` it changes nothing and fails if a file is out of date.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from compilation import GENERATED, generate


def list_differences(fresh: Path) -> list[str]:
    """Return the files that differ between `fresh`, which was just generated, and `generated/`."""
    names = {str(p.relative_to(root)) for root in (fresh, GENERATED) for p in root.rglob("*") if p.is_file()}
    names = {name for name in names if "__pycache__" not in name}

    def read_content(root: Path, name: str) -> bytes | None:
        return (root / name).read_bytes() if (root / name).exists() else None

    return sorted(name for name in names if read_content(fresh, name) != read_content(GENERATED, name))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if generated/ is out of date")
    options = parser.parse_args()
    if options.check:
        with tempfile.TemporaryDirectory() as scratch:
            generate(Path(scratch))
            stale = list_differences(Path(scratch))
        if stale:
            sys.exit("generated/ is out of date; run `make generate`: " + ", ".join(stale))
    else:
        GENERATED.mkdir(exist_ok=True)
        generate(GENERATED)


if __name__ == "__main__":
    main()
