"""Write `generated/` from the contract: messages, services and their type stubs.

`python protos/generate.py` writes in place; with `--check` it writes elsewhere and fails on any difference.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from compilation import GENERATED, generate


def differences(fresh: Path) -> list[str]:
    """The generated files that are not as the contract would write them now."""
    names = {str(p.relative_to(root)) for root in (fresh, GENERATED) for p in root.rglob("*") if p.is_file()}
    names = {name for name in names if "__pycache__" not in name}

    def content(root: Path, name: str) -> bytes | None:
        return (root / name).read_bytes() if (root / name).exists() else None

    return sorted(name for name in names if content(fresh, name) != content(GENERATED, name))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when generated/ is not up to date")
    options = parser.parse_args()
    if options.check:
        with tempfile.TemporaryDirectory() as scratch:
            generate(Path(scratch))
            stale = differences(Path(scratch))
        if stale:
            sys.exit("generated/ is not what the contract writes; run `make generate`: " + ", ".join(stale))
    else:
        GENERATED.mkdir(exist_ok=True)
        generate(GENERATED)


if __name__ == "__main__":
    main()
